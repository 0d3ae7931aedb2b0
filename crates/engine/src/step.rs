//! What happens in one step?

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{DiskStatus, EngineStatus, StepEvent, TokenOut, Work, WorkEnd, WorkEvent, WorkKey, WorkUsage};
use model::{Batch, Forward, Span};

use crate::config::{EngineConfig, StartError};
use crate::events;
use crate::kv::{ChainHash, DiskTier, prompt_hashes};
use crate::sampler::{self, mix};
use crate::scheduler::{DraftReach, Plan, PlannedSpan, Scheduler};
use crate::sequence::Sequence;
use crate::speculate::{Drafter, Speculate};

/// Returns the time since some fixed moment. Passed in, so that tests can let it pass as they like.
pub type Clock = Box<dyn Fn() -> Duration + Send>;

/// The engine without its thread: whoever owns it drives it step by step.
pub struct EngineCore {
    scheduler: Scheduler,
    forward: Box<dyn Forward>,
    drafter: Option<Drafter>,
    clock: Clock,
    entropy: u64,
    prefix_cache: bool,
    block_tokens: usize,
    vocabulary: usize,
    context_tokens: usize,
    arrivals: u64,
    /// What happened since it was last asked.
    events: Vec<StepEvent>,
    dequeued: usize,
    status: EngineStatus,
    /// Reused from step to step.
    batch: Batch,
    logits: Vec<f32>,
}

/// A token, or why there is none.
type Drawn = Result<TokenOut, String>;

/// How a sequence leaves a step.
enum Verdict {
    GoesOn,
    Ends(WorkEnd),
}

impl EngineCore {
    /// Checks the settings and reserves the key-value memory.
    pub fn new(forward: Box<dyn Forward>, config: EngineConfig, clock: Clock) -> Result<Self, StartError> {
        Self::with_draft(forward, None, config, clock)
    }

    /// The same, with a smaller model of the same vocabulary that drafts. Keys and values of both fit in the one budget.
    pub fn with_draft(
        mut forward: Box<dyn Forward>,
        mut draft: Option<Box<dyn Forward>>,
        config: EngineConfig,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let shape = forward.shape().clone();
        let mut both = shape.clone();
        match &draft {
            Some(draft) => {
                let small = draft.shape();
                for (what, draft, target) in [
                    ("a vocabulary of", small.vocabulary, shape.vocabulary),
                    ("blocks of", small.block_tokens, shape.block_tokens),
                ] {
                    if draft != target {
                        return Err(StartError::DraftDiffers { what, draft, target });
                    }
                }
                both.block_bytes += small.block_bytes;
            }
            None if config.speculate == Speculate::Draft => return Err(StartError::DraftMissing),
            None => {}
        }
        let blocks = config.blocks_for(&both)?;
        forward.reserve(blocks)?;
        if let Some(draft) = &mut draft {
            draft.reserve(blocks)?;
        }
        let context_tokens = shape.context_tokens.min(blocks * shape.block_tokens);
        if context_tokens < shape.context_tokens {
            events::ContextCut { model_tokens: shape.context_tokens, context_tokens }.emit();
        }
        let status = EngineStatus {
            blocks_total: blocks as u64,
            block_tokens: shape.block_tokens as u64,
            kv_bytes: (blocks * both.block_bytes) as u64,
            ..EngineStatus::default()
        };
        Ok(Self {
            scheduler: Scheduler::new(&config, &shape, blocks),
            forward,
            drafter: draft.map(Drafter::new),
            clock,
            entropy: config.entropy,
            prefix_cache: config.prefix_cache,
            block_tokens: shape.block_tokens,
            vocabulary: shape.vocabulary,
            context_tokens,
            arrivals: 0,
            events: Vec::new(),
            dequeued: 0,
            status,
            batch: Batch::default(),
            logits: Vec::new(),
        })
    }

    /// Returns the longest sequence, prompt and answer together, that fits.
    pub fn context_tokens(&self) -> usize {
        self.context_tokens
    }
    pub(crate) fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Lets a work wait for its turn.
    pub fn submit(&mut self, work: Work) {
        let hashes = match self.prefix_cache {
            true => prompt_hashes(&work.tenant, &work.prompt, self.block_tokens),
            false => Vec::new(),
        };
        self.submit_hashed(work, hashes);
    }

    pub(crate) fn submit_hashed(&mut self, work: Work, hashes: Vec<ChainHash>) {
        self.arrivals += 1;
        if let Some(reason) = self.impossible(&work) {
            self.dequeued += 1;
            self.end(&work.key, WorkEnd::Failed(reason), WorkUsage::default());
            return;
        }
        // Choices of one request share its seed, and still differ.
        let seed = work.sampling.seed.unwrap_or_else(|| mix(self.entropy, self.arrivals));
        let seed = mix(seed, u64::from(work.key.choice));
        self.scheduler.queue.push(Sequence::new(work, hashes, seed));
    }

    /// Ends every work of that key, at once.
    pub fn cancel(&mut self, key: &WorkKey) {
        for sequence in self.scheduler.queue.remove(key) {
            self.dequeued += usize::from(!sequence.has_started());
            self.end(sequence.key(), WorkEnd::Cancelled, sequence.usage());
        }
        for index in (0..self.scheduler.running.len()).rev() {
            if self.scheduler.running[index].key() == key {
                self.conclude(index, WorkEnd::Cancelled);
            }
        }
    }

    pub fn cancel_all(&mut self) {
        for sequence in self.scheduler.queue.remove_all() {
            self.dequeued += usize::from(!sequence.has_started());
            self.end(sequence.key(), WorkEnd::Cancelled, sequence.usage());
        }
        for index in (0..self.scheduler.running.len()).rev() {
            self.conclude(index, WorkEnd::Cancelled);
        }
    }

    /// Whether there is nothing to compute and nothing to tell.
    pub fn is_idle(&self) -> bool {
        self.scheduler.running.is_empty() && self.scheduler.queue.is_empty() && self.events.is_empty()
    }

    /// Plans, computes, draws, advances.
    pub fn step(&mut self) {
        // Before the clock starts: what comes back from disk is no part of what a row costs.
        self.exchange_with_disk((self.clock)());
        let start = (self.clock)();
        self.scheduler.draft = self.draft_reach();
        let mut plan = self.scheduler.plan(start);
        self.announce();
        if plan.spans.is_empty() {
            let waiting = self.scheduler.queue.len();
            let disk = self.waits_for_disk();
            assert!(
                waiting == 0 || disk,
                "{waiting} sequences wait, and nothing runs that they could wait for"
            );
            return;
        }
        let drafting = self.draft(&mut plan);
        let (verdicts, sound) = self.compute(&mut plan);
        let took = (self.clock)().saturating_sub(start);
        self.share_time(&plan, took);
        self.settle(&plan, verdicts);
        if sound {
            // What the draft took is not the target's, and is learnt by itself.
            self.scheduler.cost.observe(&plan.size, took.saturating_sub(drafting));
        }
        self.status.steps += 1;
        self.status.step_seconds = took.as_secs_f64();
        self.status.step_predicted_seconds = plan.predicted.as_secs_f64();
        self.status.batch_rows = plan.rows() as u64;
        let Self { scheduler: Scheduler { disk, blocks, .. }, forward, clock, .. } = self;
        if let Some(disk) = disk {
            disk.save_some(took, blocks, &**forward, clock);
        }
    }

    /// Returns what happened since this was last asked, in order.
    pub fn take_events(&mut self) -> Vec<StepEvent> {
        std::mem::take(&mut self.events)
    }

    /// Returns how many works have left the queue for the first time since this was last asked.
    pub(crate) fn take_dequeued(&mut self) -> usize {
        std::mem::take(&mut self.dequeued)
    }

    pub fn status(&self) -> EngineStatus {
        let Scheduler { queue, running, blocks, disk, counters, .. } = &self.scheduler;
        EngineStatus {
            waiting: queue.len() as u64,
            running: running.len() as u64,
            blocks_in_use: blocks.in_use() as u64,
            blocks_cached: blocks.cached() as u64,
            prefix_queries: counters.prefix_queries,
            prefix_hits: counters.prefix_hits,
            preemptions: counters.preemptions,
            disk: disk.as_ref().map_or(DiskStatus::default(), |disk| DiskStatus {
                hit_tokens: counters.disk_hits,
                ..disk.status(blocks)
            }),
            speculated_tokens: counters.speculated,
            accepted_tokens: counters.accepted,
            ..self.status.clone()
        }
    }

    /// Asserts that no block is lost or held twice.
    pub fn check_integrity(&mut self) {
        let holders = self.scheduler.running.iter().map(Sequence::blocks);
        if let Err(error) = self.scheduler.blocks.check_integrity(holders) {
            panic!("{error}");
        }
        if let Some(Err(error)) = self.scheduler.disk.as_ref().map(DiskTier::check_integrity) {
            panic!("the disk tier: {error}");
        }
        self.status.integrity_checks += 1;
    }

    // === the tier below memory ===

    /// Whether there is nothing to compute because everybody waits for blocks from disk.
    pub fn waits_for_disk(&self) -> bool {
        self.scheduler.running.is_empty() && self.scheduler.disk.as_ref().is_some_and(DiskTier::is_reading)
    }

    /// Waits until the disk has answered something, but no longer than that.
    pub fn wait_for_disk(&mut self, limit: Duration) {
        if let Some(disk) = &mut self.scheduler.disk {
            disk.wait(limit);
        }
    }

    /// Brings cold blocks to disk while there is nothing better to do, and returns whether more is to be done for it later.
    pub fn tidy(&mut self) -> bool {
        let now = (self.clock)();
        self.exchange_with_disk(now);
        let Scheduler { disk: Some(disk), blocks, .. } = &mut self.scheduler else { return false };
        disk.save_all(blocks, &*self.forward, now);
        disk.is_busy()
    }

    /// Brings to disk what a next start shall find, as far as that can be done within the limit.
    pub fn close_disk(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        if self.scheduler.disk.as_ref().is_some_and(DiskTier::is_kept) {
            while self.tidy() && Instant::now() < end {
                self.wait_for_disk(end.saturating_duration_since(Instant::now()));
            }
        }
        if let Some(disk) = &mut self.scheduler.disk {
            disk.close(end.saturating_duration_since(Instant::now()));
        }
    }

    fn exchange_with_disk(&mut self, now: Duration) {
        if let Scheduler { disk: Some(disk), blocks, .. } = &mut self.scheduler {
            disk.exchange(blocks, &mut *self.forward, now);
        }
    }

    // === before ===

    fn impossible(&self, work: &Work) -> Option<String> {
        let (prompt, context) = (work.prompt.len(), self.context_tokens);
        let first_token = usize::from(work.max_output_tokens > 0);
        if prompt + first_token > context {
            return Some(format!(
                "the prompt has {prompt} tokens, and the context of {context} leaves no room for an answer"
            ));
        }
        let stranger = work.prompt.iter().find(|&&token| token as usize >= self.vocabulary)?;
        Some(format!("the prompt has token {stranger}, outside the vocabulary of {}", self.vocabulary))
    }

    fn announce(&mut self) {
        for sequence in &mut self.scheduler.running {
            if let Some(cached_tokens) = sequence.announce() {
                self.dequeued += 1;
                let key = sequence.key().clone();
                self.events.push(StepEvent { key, event: WorkEvent::Started { cached_tokens } });
            }
        }
    }

    // === the forward pass ===

    fn draft_reach(&self) -> DraftReach {
        let reach = |drafter: &Drafter| DraftReach {
            context_tokens: drafter.context_tokens(),
            token_seconds: drafter.token_seconds(),
        };
        self.drafter.as_ref().map(reach).unwrap_or_default()
    }

    /// Lets the draft model fill the proposals that are its own, and returns how long that took.
    fn draft(&mut self, plan: &mut Plan) -> Duration {
        let Self { drafter: Some(drafter), scheduler, clock, .. } = self else {
            return Duration::ZERO;
        };
        let start = clock();
        drafter.guess(&mut scheduler.running, &mut plan.spans, clock);
        plan.recount(&scheduler.running);
        clock().saturating_sub(start)
    }

    /// Computes all spans at once; if that fails, one by one and without guesses, so that only the guilty fail. Returns
    /// whether all went well.
    fn compute(&mut self, plan: &mut Plan) -> (Vec<Verdict>, bool) {
        match self.run(&plan.spans) {
            Ok(()) => (self.advance(&plan.spans), true),
            Err(reason) if plan.spans.len() == 1 && plan.spans[0].guessed == 0 => {
                (vec![Verdict::Ends(WorkEnd::Failed(reason))], false)
            }
            Err(reason) => {
                events::BatchFailed { sequences: plan.spans.len(), reason: &reason }.emit();
                // A wrong guess may be what failed, and it is nobody's fault.
                plan.spans.iter_mut().for_each(|span| span.guessed = 0);
                let verdicts = plan.spans.iter().map(|span| self.compute_alone(*span)).collect();
                (verdicts, false)
            }
        }
    }

    fn compute_alone(&mut self, span: PlannedSpan) -> Verdict {
        // Computing a row again writes the same keys and values into the same places.
        match self.run(&[span]) {
            Ok(()) => self.advance(&[span]).remove(0),
            Err(reason) => Verdict::Ends(WorkEnd::Failed(reason)),
        }
    }

    fn run(&mut self, spans: &[PlannedSpan]) -> Result<(), String> {
        self.lay_out(spans);
        run_guarded(&mut *self.forward, &self.batch, &mut self.logits)
    }

    fn lay_out(&mut self, spans: &[PlannedSpan]) {
        let batch = &mut self.batch;
        batch.tokens.clear();
        batch.spans.clear();
        batch.logit_rows.clear();
        for span in spans {
            let sequence = &self.scheduler.running[span.index];
            let (first_row, from) = (batch.tokens.len(), sequence.computed());
            batch.tokens.extend_from_slice(&sequence.tokens()[from..from + span.rows]);
            batch.tokens.extend_from_slice(&sequence.guesses.proposal[..span.guessed]);
            let rows = scored_rows(sequence, span).map(|row| (first_row + row) as u32);
            batch.logit_rows.extend(rows);
            let blocks = (from + span.rows + span.guessed).div_ceil(self.block_tokens);
            batch.spans.push(Span {
                first_row: first_row as u32,
                rows: (span.rows + span.guessed) as u32,
                first_position: from as u32,
                blocks: sequence.blocks()[..blocks].to_vec(),
            });
        }
    }

    // === after ===

    /// Draws and advances each sequence of the batch that was just computed, each behind its own wall.
    fn advance(&mut self, spans: &[PlannedSpan]) -> Vec<Verdict> {
        let mut logits = std::mem::take(&mut self.logits);
        let drawn = self.draw_firsts(spans, &mut logits);
        let mut scores = &mut logits[..];
        let mut verdicts = Vec::with_capacity(spans.len());
        for (&span, drawn) in spans.iter().zip(drawn) {
            let rows = scored_rows(&self.scheduler.running[span.index], &span).count();
            let (own, rest) = scores.split_at_mut(rows * self.vocabulary);
            scores = rest;
            let verdict = catch_unwind(AssertUnwindSafe(|| self.advance_one(span, own, drawn)));
            verdicts.push(verdict.unwrap_or_else(|panic| {
                let reason = format!("the engine panicked over this sequence: {}", panic_text(&*panic));
                Verdict::Ends(WorkEnd::Failed(reason))
            }));
        }
        self.logits = logits;
        verdicts
    }

    /// Draws what each sequence says next, with all threads that compute: a vocabulary has a hundred thousand scores. What a
    /// sequence draws depends on nobody else.
    fn draw_firsts(&self, spans: &[PlannedSpan], logits: &mut [f32]) -> Vec<Option<Drawn>> {
        let mut rest = logits;
        let mut draws_of = |span: &PlannedSpan| {
            let sequence = &self.scheduler.running[span.index];
            let rows = scored_rows(sequence, span).count();
            let (own, behind) = std::mem::take(&mut rest).split_at_mut(rows * self.vocabulary);
            rest = behind;
            draws(sequence, span.rows).then(|| {
                let scores = &mut own[(rows - 1 - span.guessed) * self.vocabulary..][..self.vocabulary];
                Mutex::new((scores, sequence.draw(0, sequence.work().logprobs), None))
            })
        };
        let jobs: Vec<_> = spans.iter().map(&mut draws_of).collect();
        let wanted: Vec<_> = jobs.iter().flatten().collect();
        self.forward.share(wanted.len(), &|number| {
            let (scores, draw, drawn) = &mut *wanted[number].lock().unwrap_or_else(PoisonError::into_inner);
            let result = catch_unwind(AssertUnwindSafe(|| sampler::draw(scores, draw)));
            *drawn = Some(match result {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(panic) => Err(format!("the engine panicked over this sequence: {}", panic_text(&*panic))),
            });
        });
        let drawn =
            |job: Mutex<(_, _, Option<Drawn>)>| job.into_inner().unwrap_or_else(PoisonError::into_inner).2;
        jobs.into_iter().map(|job| job.and_then(drawn)).collect()
    }

    fn advance_one(&mut self, span: PlannedSpan, scores: &mut [f32], drawn: Option<Drawn>) -> Verdict {
        let mut rows = scores.chunks_exact_mut(self.vocabulary);
        let wanted = scored_rows(&self.scheduler.running[span.index], &span).count();
        for row in rows.by_ref().take(wanted - usize::from(drawn.is_some()) - span.guessed) {
            if let Err(error) = self.scheduler.running[span.index].note_prompt_logprob(row) {
                return Verdict::Ends(WorkEnd::Failed(error.to_string()));
            }
        }
        self.scheduler.advance(span.index, span.rows);
        let sequence = &mut self.scheduler.running[span.index];
        if let Some(logprobs) = sequence.take_prompt_logprobs() {
            let key = sequence.key().clone();
            self.events.push(StepEvent { key, event: WorkEvent::PromptLogprobs(logprobs) });
        }
        match drawn {
            Some(drawn) if span.guessed == 0 => self.say(span.index, drawn),
            Some(drawn) => self.say_on(span, drawn, rows.skip(1)),
            None if sequence.pending() == 0 => Verdict::Ends(WorkEnd::Length),
            None => Verdict::GoesOn,
        }
    }

    /// Draws row after row while each token is the one that was guessed: then the row behind it is computed already.
    fn say_on<'a>(
        &mut self,
        span: PlannedSpan,
        first: Drawn,
        rest: impl Iterator<Item = &'a mut [f32]>,
    ) -> Verdict {
        let proposal = std::mem::take(&mut self.scheduler.running[span.index].guesses.proposal);
        let mut verdict = self.say(span.index, first);
        let mut right = 0;
        for (&guess, row) in proposal[..span.guessed].iter().zip(rest) {
            let sequence = &self.scheduler.running[span.index];
            if !matches!(verdict, Verdict::GoesOn) || sequence.tokens().last() != Some(&guess) {
                break;
            }
            right += 1;
            let drawn = sampler::draw(row, &sequence.draw(0, sequence.work().logprobs));
            self.scheduler.advance(span.index, 1);
            verdict = self.say(span.index, drawn.map_err(|error| error.to_string()));
        }
        self.scheduler.judge(span, right);
        verdict
    }

    /// Makes what was drawn the sequence's next token.
    fn say(&mut self, index: usize, drawn: Drawn) -> Verdict {
        let sequence = &mut self.scheduler.running[index];
        let out = match drawn {
            Ok(out) => out,
            Err(reason) => return Verdict::Ends(WorkEnd::Failed(reason)),
        };
        self.status.output_tokens += 1;
        if sequence.work().stop_tokens.contains(&out.token) {
            sequence.count_stop_token();
            return Verdict::Ends(WorkEnd::Stop);
        }
        sequence.push(out.token);
        let is_full = sequence.tokens().len() >= self.context_tokens;
        let is_long = sequence.output_tokens() >= sequence.work().max_output_tokens;
        let key = sequence.key().clone();
        self.tell_produced(key, out);
        let Scheduler { queue, running, .. } = &mut self.scheduler;
        queue.charge_output(&running[index]);
        if is_full || is_long { Verdict::Ends(WorkEnd::Length) } else { Verdict::GoesOn }
    }

    /// Tokens of one step are one event.
    fn tell_produced(&mut self, key: WorkKey, out: TokenOut) {
        match self.events.last_mut() {
            Some(StepEvent { key: last, event: WorkEvent::Produced(tokens) }) if *last == key => {
                tokens.push(out)
            }
            _ => self.events.push(StepEvent { key, event: WorkEvent::Produced(vec![out]) }),
        }
    }

    /// Divides a step's time among its sequences by their rows, to the last nanosecond: a row of a prompt and a row of an
    /// answer are one pass over the same weights.
    fn share_time(&mut self, plan: &Plan, took: Duration) {
        let took = took.as_nanos();
        let rows: usize = plan.spans.iter().map(|span| span.rows + span.guessed).sum();
        let (mut rows_before, mut given) = (0, 0);
        for span in &plan.spans {
            rows_before += span.rows + span.guessed;
            let until = took * rows_before as u128 / rows as u128;
            let share = Duration::from_nanos((until - given) as u64);
            self.scheduler.running[span.index].take_time(share);
            given = until;
        }
    }

    fn settle(&mut self, plan: &Plan, verdicts: Vec<Verdict>) {
        let mut ended: Vec<(usize, WorkEnd)> = plan
            .spans
            .iter()
            .zip(verdicts)
            .filter_map(|(span, verdict)| match verdict {
                Verdict::GoesOn => None,
                Verdict::Ends(end) => Some((span.index, end)),
            })
            .collect();
        // From the back, so that the places before stay what they were.
        ended.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, end) in ended {
            if matches!(end, WorkEnd::Failed(_)) {
                // What made it fail may be in its blocks: nobody else shall find them.
                let Scheduler { running, blocks, disk, .. } = &mut self.scheduler;
                running[index].blocks().iter().for_each(|&block| blocks.forget(block));
                if let Some(disk) = disk {
                    disk.forget(running[index].hashes());
                }
            }
            self.conclude(index, end);
        }
    }

    /// Ends a running sequence.
    fn conclude(&mut self, index: usize, end: WorkEnd) {
        let sequence = self.scheduler.retire(index);
        self.end(sequence.key(), end, sequence.usage());
    }

    fn end(&mut self, key: &WorkKey, end: WorkEnd, usage: WorkUsage) {
        if let WorkEnd::Failed(reason) = &end {
            self.status.failures += 1;
            events::Failed { key, reason }.emit();
        }
        self.status.prompt_tokens += u64::from(usage.prompt_tokens);
        self.events.push(StepEvent { key: key.clone(), event: WorkEvent::Ended { end, usage } });
    }
}

/// Whether the last of these rows is one to draw from: it is the last known token's, and more is wanted.
fn draws(sequence: &Sequence, rows: usize) -> bool {
    rows == sequence.pending() && sequence.wants_output()
}

/// Returns the rows, of the next `rows`, whose scores are needed: the prompt's as far as they are asked for, then the one
/// to draw from, then those behind guesses.
fn scored_rows(sequence: &Sequence, span: &PlannedSpan) -> impl Iterator<Item = usize> + use<> {
    let (from, rows) = (sequence.computed(), span.rows);
    let last = draws(sequence, rows).then(|| rows - 1);
    sequence
        .prompt_logprob_positions(rows)
        .map(move |position| position - from)
        // The prompt's last row tells about no prompt token, so that it is never both.
        .chain(last)
        .chain(rows..rows + span.guessed)
}

/// Computes a batch behind a wall: whatever the model does, the caller hears why there are no scores.
pub(crate) fn run_guarded(
    forward: &mut dyn Forward,
    batch: &Batch,
    logits: &mut Vec<f32>,
) -> Result<(), String> {
    let wanted = batch.logit_rows.len() * forward.shape().vocabulary;
    match catch_unwind(AssertUnwindSafe(|| forward.run(batch, logits))) {
        Ok(Ok(())) if logits.len() == wanted => Ok(()),
        Ok(Ok(())) => Err(format!("the model gave {} scores instead of {wanted}", logits.len())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("the forward pass panicked: {}", panic_text(&*panic))),
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".to_owned())
}

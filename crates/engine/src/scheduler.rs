//! What is computed in the next step?
//!
//! Decides purely: state and time in, plan out. In order: running sequences get the blocks they grow into (others may lose
//! theirs), waiting ones are admitted, decode rows go in, and prompt chunks fill what is left of the step's time.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use domain::Priority;
use model::{BlockId, Shape};

use crate::config::EngineConfig;
use crate::cost::{CostModel, StepSize};
use crate::events;
use crate::kv::{Blocks, ChainHash, DiskTier, DiskWait, Prefix};
use crate::queue::{Candidate, Queue};
use crate::sequence::Sequence;
use crate::speculate::{GUESSES_MAX, Gain, Pace, Source, Speculate};

/// How long a sequence may wait for another that computes the prefix both have. Waiting is nearly always the faster way; the
/// bound is for a leader that itself gets no turn.
const PREFIX_WAIT_MAX: Duration = Duration::from_secs(10);
/// The share of the target that is planned for; the rest is for predictions that fall short.
const TARGET_SHARE: f64 = 0.9;
/// Where streams alone exceed the target it cannot be kept, and holding prompts back would only make everyone behind them
/// wait for nothing. Prompts then take this much of the time that the streams take, so a step is at most half as long again.
const PROMPT_SHARE_BEYOND: f64 = 0.5;
/// Memory for the scores of prompt rows whose log-probabilities are asked for: 110 rows of 151,936 scores.
const PROMPT_LOGIT_BYTES_MAX: usize = 64 << 20;

/// What one step computes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) spans: Vec<PlannedSpan>,
    pub(crate) size: StepSize,
    pub(crate) predicted: Duration,
}

/// The next `rows` pending tokens of a running sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedSpan {
    /// Its place in `running`, which does not change until the step is over.
    pub(crate) index: usize,
    pub(crate) rows: usize,
    /// Rows of guesses behind them, which may be taken back.
    pub(crate) guessed: usize,
}

/// Everything the scheduler decides over.
pub(crate) struct Scheduler {
    limits: Limits,
    pub(crate) queue: Queue,
    /// In the order of admission.
    pub(crate) running: Vec<Sequence>,
    pub(crate) blocks: Blocks,
    pub(crate) disk: Option<DiskTier>,
    pub(crate) cost: CostModel,
    pub(crate) counters: Counters,
    pub(crate) gain: Gain,
    /// What the draft model can do, if there is one.
    pub(crate) draft: DraftReach,
    admissions: u64,
}

#[derive(Clone, Debug)]
struct Limits {
    max_running: usize,
    max_step_rows: usize,
    step_seconds: f64,
    chunk_min: usize,
    chunk_max: usize,
    prefix_cache: bool,
    block_tokens: usize,
    prompt_logit_rows: usize,
    speculate: Speculate,
    context_tokens: usize,
}

/// How far, and how fast, the draft model guesses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DraftReach {
    pub(crate) context_tokens: usize,
    pub(crate) token_seconds: Option<f64>,
}

impl Limits {
    /// Chunks are multiples of this: small enough that a long context's chunk still fits beside streams, half an AMX tile.
    fn grain(&self) -> usize {
        self.chunk_min.min(8)
    }
}

/// Only grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) preemptions: u64,
    pub(crate) prefix_queries: u64,
    pub(crate) prefix_hits: u64,
    /// Those of the hits that came back from disk.
    pub(crate) disk_hits: u64,
    pub(crate) speculated: u64,
    pub(crate) accepted: u64,
}

impl Scheduler {
    pub(crate) fn new(config: &EngineConfig, shape: &Shape, blocks: usize) -> Self {
        let limits = Limits {
            max_running: config.max_running,
            // Decode rows are always in, and a prompt must still advance beside them.
            max_step_rows: config.max_step_rows.max(config.max_running + config.chunk_tokens_min),
            step_seconds: TARGET_SHARE * config.step_target.as_secs_f64(),
            chunk_min: config.chunk_tokens_min,
            chunk_max: config.chunk_tokens_max,
            prefix_cache: config.prefix_cache,
            block_tokens: shape.block_tokens,
            prompt_logit_rows: (PROMPT_LOGIT_BYTES_MAX / (4 * shape.vocabulary.max(1))).max(1),
            speculate: config.speculate,
            context_tokens: shape.context_tokens.min(blocks * shape.block_tokens),
        };
        Self {
            limits,
            queue: Queue::default(),
            running: Vec::new(),
            blocks: Blocks::new(blocks),
            // Without names nothing could be found there.
            disk: config
                .disk
                .clone()
                .filter(|_| config.prefix_cache)
                .map(|disk| DiskTier::new(disk, shape, blocks)),
            cost: CostModel::default(),
            counters: Counters::default(),
            gain: Gain::default(),
            draft: DraftReach::default(),
            admissions: 0,
        }
    }

    pub(crate) fn plan(&mut self, now: Duration) -> Plan {
        // Whoever just lost its blocks would only take them back from the one they went to.
        if !self.grow() {
            self.admit(now);
        }
        self.fill()
    }

    /// Gives the blocks of a sequence that ended back to the pool.
    pub(crate) fn retire(&mut self, index: usize) -> Sequence {
        let mut sequence = self.running.remove(index);
        self.blocks.release(sequence.stop().into_iter());
        self.queue.note_end(&sequence);
        sequence
    }

    /// Takes note that the next rows of a sequence are computed.
    pub(crate) fn advance(&mut self, index: usize, rows: usize) {
        let Limits { block_tokens, prefix_cache, .. } = self.limits;
        self.running[index].advance(rows, &mut self.blocks, block_tokens, prefix_cache);
    }

    // === room ===

    /// Gives every running sequence the blocks that its tokens need, and returns whether another had to give way.
    fn grow(&mut self) -> bool {
        let mut preempted = false;
        let block_tokens = self.limits.block_tokens;
        let lacks = |sequence: &Sequence| sequence.blocks().len() < sequence.blocks_wanted(block_tokens);
        while let Some(index) = self.running.iter().position(lacks) {
            if let Some(block) = self.blocks.allocate() {
                self.running[index].grow(block);
                continue;
            }
            assert!(self.running.len() > 1, "a sequence alone has outgrown the cache it was admitted to");
            let victim = self.newest_of_lowest_class(None).expect("somebody runs");
            self.preempt(victim);
            preempted = true;
        }
        preempted
    }

    /// Takes the blocks of a running sequence and lets it wait again; they stay in the cache until they are reused.
    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        events::Preempted {
            key: sequence.key(),
            priority: sequence.priority(),
            computed_tokens: sequence.computed(),
            blocks_total: self.blocks.total(),
        }
        .emit();
        self.counters.preemptions += 1;
        self.blocks.release(sequence.stop().into_iter());
        self.queue.push_preempted(sequence);
    }

    fn newest_of_lowest_class(&self, below: Option<Priority>) -> Option<usize> {
        let candidates = self.running.iter().enumerate();
        candidates
            .filter(|(_, sequence)| below.is_none_or(|class| sequence.priority() < class))
            .min_by_key(|(_, sequence)| (sequence.priority(), Reverse(sequence.admitted)))
            .map(|(index, _)| index)
    }

    // === admission ===

    fn admit(&mut self, now: Duration) {
        if self.queue.is_empty() {
            return;
        }
        let block_tokens = self.limits.block_tokens;
        let mut computing = self.names_being_computed();
        // Whoever displaces others starts at once: they would only come back while it waits for the disk.
        let mut displaces = false;
        while let Some(candidate) = self.next_ready(&computing, now, displaces) {
            if !self.has_room(&candidate) {
                // Work of a lower class gives way, if that helps.
                let class = self.queue.get(&candidate).priority();
                match self.newest_of_lowest_class(Some(class)) {
                    Some(victim) if self.has_room_without_lower_classes(&candidate) => self.preempt(victim),
                    _ => break,
                }
                displaces = true;
                continue;
            }
            displaces = false;
            let sequence = self.start(candidate);
            note_names(&mut computing, sequence, block_tokens);
        }
    }

    /// Names of the blocks that running prompts are about to fill, each with the highest class that does.
    fn names_being_computed(&self) -> HashMap<ChainHash, Priority> {
        let mut names = HashMap::new();
        for sequence in &self.running {
            note_names(&mut names, sequence, self.limits.block_tokens);
        }
        names
    }

    fn next_ready(
        &mut self,
        computing: &HashMap<ChainHash, Priority>,
        now: Duration,
        at_once: bool,
    ) -> Option<Candidate> {
        let Self { queue, blocks, limits, disk, cost, .. } = self;
        queue.next(|sequence| {
            if !limits.prefix_cache {
                return Some(0);
            }
            let findable = sequence.findable(limits.block_tokens);
            let found = findable.iter().take_while(|name| blocks.find(name).is_some()).count();
            // What it needs next is being computed right now, by one that does not yield to it: better wait than do it twice.
            let leader = findable.get(found).and_then(|name| computing.get(name));
            if leader.is_some_and(|class| *class >= sequence.priority()) {
                let since = *sequence.prefix_wait_since.get_or_insert(now);
                if now.saturating_sub(since) < PREFIX_WAIT_MAX {
                    return None;
                }
            }
            if let Some(disk) = disk.as_mut().filter(|_| !at_once) {
                let findable = sequence.findable(limits.block_tokens);
                let held = findable[..found].iter().filter_map(|name| blocks.find(name));
                let held = held.filter(|&block| !blocks.is_free(block)).count();
                let needed = sequence.blocks_wanted(limits.block_tokens) - held;
                let prefix = Prefix {
                    names: findable,
                    found,
                    room: blocks.available().checked_sub(needed),
                    cost,
                    block_tokens: limits.block_tokens,
                    now,
                };
                let wait = disk.wait_for(sequence.disk_wait, &prefix, blocks);
                sequence.disk_wait = wait;
                if matches!(wait, DiskWait::Until(_)) {
                    return None;
                }
            }
            Some(found)
        })
    }

    fn has_room(&self, candidate: &Candidate) -> bool {
        let found_held = |found: &BlockId| !self.blocks.is_free(*found);
        self.running.len() < self.limits.max_running
            && self.blocks.available() >= self.blocks_needed(candidate, self.running.len(), found_held)
    }

    fn has_room_without_lower_classes(&self, candidate: &Candidate) -> bool {
        let class = self.queue.get(candidate).priority();
        let staying = self.running.iter().filter(|sequence| sequence.priority() >= class);
        let neighbours = staying.clone().count();
        let held: HashSet<BlockId> = staying.flat_map(|sequence| sequence.blocks()).copied().collect();
        let available = self.blocks.total() - held.len();
        neighbours < self.limits.max_running
            && available >= self.blocks_needed(candidate, neighbours, |found| held.contains(found))
    }

    /// Returns how many free blocks must be there to admit beside so many others: what is to be computed, what is found but
    /// held by nobody, and one block for each neighbour to grow into, so that admission does not cause preemption at once.
    fn blocks_needed(
        &self,
        candidate: &Candidate,
        neighbours: usize,
        is_held: impl Fn(&BlockId) -> bool,
    ) -> usize {
        let sequence = self.queue.get(candidate);
        let found_held = self.find_prefix(sequence).into_iter().filter(is_held).count();
        sequence.blocks_wanted(self.limits.block_tokens) - found_held + neighbours
    }

    fn find_prefix(&self, sequence: &Sequence) -> Vec<BlockId> {
        if !self.limits.prefix_cache {
            return Vec::new();
        }
        sequence.find_prefix(&self.blocks, self.limits.block_tokens)
    }

    fn start(&mut self, candidate: Candidate) -> &Sequence {
        let block_tokens = self.limits.block_tokens;
        let mut blocks = self.find_prefix(self.queue.get(&candidate));
        let found = blocks.len();
        // Found blocks first: allocating must not reuse them.
        blocks.iter().for_each(|&block| self.blocks.hold(block));
        let wanted = self.queue.get(&candidate).blocks_wanted(block_tokens);
        let fresh =
            (found..wanted).map(|_| self.blocks.allocate().expect("admission has counted the blocks"));
        blocks.extend(fresh);

        let waiting = self.queue.get(&candidate);
        let is_new = !waiting.has_started();
        // Who was preempted has paid for its prompt already.
        let tokens = if is_new { waiting.prompt_tokens() - found * block_tokens } else { 0 };
        if is_new && self.limits.prefix_cache {
            self.counters.prefix_queries += waiting.prompt_tokens() as u64;
            self.counters.prefix_hits += (found * block_tokens) as u64;
        }
        let came_back = blocks[..found].iter().filter(|&&block| self.blocks.is_first_use(block)).count();
        self.counters.disk_hits += (came_back * block_tokens) as u64;
        let mut sequence = self.queue.take(candidate, tokens);
        self.admissions += 1;
        sequence.admitted = self.admissions;
        sequence.start(blocks, found, block_tokens);
        self.running.push(sequence);
        self.running.last().expect("one was pushed")
    }

    // === the step ===

    fn fill(&mut self) -> Plan {
        let mut plan = Plan::default();
        for (index, sequence) in self.running.iter().enumerate() {
            if sequence.pending() == 1 {
                plan.add(index, sequence.computed(), 1);
            }
        }
        self.speculate(&mut plan);
        let (seconds, least_rows) = self.time_for_prompts(&plan.size);
        let room = StepRoom {
            seconds,
            rows: self.limits.max_step_rows - plan.size.decode_rows - plan.size.guessed_rows,
            logit_rows: self.limits.prompt_logit_rows,
        };
        self.fill_chunks(room, least_rows, &mut plan);
        plan.predicted = self.cost.predict(&plan.size);
        plan
    }

    /// Adds guesses to the decode rows that are worth them. They take no block from anybody, no row that a prompt needs to
    /// advance, and no time beyond the target.
    fn speculate(&mut self, plan: &mut Plan) {
        if self.limits.speculate == Speculate::Off || plan.spans.is_empty() {
            return;
        }
        let Limits { block_tokens, context_tokens, max_step_rows, chunk_min, .. } = self.limits;
        let mut rows = self.limits.prompt_logit_rows;
        rows = rows.min(max_step_rows.saturating_sub(plan.size.decode_rows + chunk_min));
        let seconds = self.cost.predict(&plan.size).as_secs_f64();
        let left = self.limits.step_seconds - seconds;
        let mut pace = Pace { tokens: plan.spans.len() as f64, seconds, left };
        for at in 0..plan.spans.len() {
            let index = plan.spans[at].index;
            let sequence = &mut self.running[index];
            let computed = sequence.computed();
            sequence.guesses.begin(computed);
            let known = sequence.tokens().len();
            let mut most = sequence.guesses_most(context_tokens).min(rows).min(GUESSES_MAX);
            // A block for guesses only where nobody else will need it soon.
            if known + most > sequence.blocks().len() * block_tokens && most > 0 {
                let spare = self.blocks.available() > 2 * plan.spans.len() && self.queue.is_empty();
                if let Some(block) = spare.then(|| self.blocks.allocate()).flatten() {
                    sequence.grow(block);
                }
                most = most.min(sequence.blocks().len() * block_tokens - known);
            }
            if most == 0 {
                continue;
            }
            let mut row_seconds = self.cost.guess_seconds(sequence.computed());
            if !sequence.look_back(most) {
                let drafts = self.limits.speculate == Speculate::Draft;
                if !drafts || known + most > self.draft.context_tokens {
                    continue;
                }
                sequence.guesses.source = Source::Draft;
                row_seconds = row_seconds.zip(self.draft.token_seconds).map(|(row, draft)| row + draft);
            }
            let source = sequence.guesses.source;
            let rate = &mut sequence.guesses.rates[source as usize];
            let count = self.gain.choose(rate, source, most, row_seconds, &mut pace);
            sequence.guesses.proposal.truncate(count);
            plan.spans[at].guessed = count;
            plan.size.add_guesses(sequence.computed(), count);
            rows -= count;
        }
    }

    /// Takes note of how many guesses of a span were right, of those that it really had.
    pub(crate) fn judge(&mut self, span: PlannedSpan, right: usize) {
        let Self { running, gain, counters, .. } = self;
        let sequence = &mut running[span.index];
        // What the draft computed of wrong guesses is to be computed again.
        let computed = sequence.computed();
        let guesses = &mut sequence.guesses;
        guesses.begin(computed);
        if span.guessed > 0 {
            let rate = &mut guesses.rates[guesses.source as usize];
            gain.note(rate, guesses.source, span.guessed, right);
            counters.speculated += span.guessed as u64;
            counters.accepted += right as u64;
        }
    }

    /// Returns the seconds that prompts may take beside these decode rows, and the rows by which one prompt advances however
    /// little that is: one grain while the target can be kept, else the fewest rows worth a step.
    fn time_for_prompts(&self, streams: &StepSize) -> (f64, usize) {
        if !self.running.iter().any(Sequence::is_streaming) {
            return (f64::INFINITY, self.limits.chunk_min);
        }
        let taken = self.cost.predict(streams).as_secs_f64();
        let left = self.limits.step_seconds - taken;
        match left > 0.0 {
            true if self.cost.knows_prefill() => (left, self.limits.grain()),
            true => (left, self.limits.chunk_min),
            false => (PROMPT_SHARE_BEYOND * taken, self.limits.chunk_min),
        }
    }

    fn fill_chunks(&self, mut room: StepRoom, least_rows: usize, plan: &mut Plan) {
        for class in [Priority::High, Priority::Standard, Priority::Batch] {
            let behind = |sequence: &Sequence| sequence.pending() > 1 && sequence.priority() == class;
            let behind: Vec<usize> =
                (0..self.running.len()).filter(|&index| behind(&self.running[index])).collect();
            if let Some((&oldest, others)) = behind.split_first() {
                room = self.fill_class(oldest, others.to_vec(), room, least_rows, plan);
            }
        }
    }

    /// The oldest prompt may use at least half of the room, so that it never starves; then come those with least left to
    /// compute, for they are done soonest; what they leave is the oldest's too.
    fn fill_class(
        &self,
        oldest: usize,
        mut others: Vec<usize>,
        mut room: StepRoom,
        least_rows: usize,
        plan: &mut Plan,
    ) -> StepRoom {
        others.sort_by_key(|&index| (self.running[index].pending(), self.running[index].admitted));
        let half = if others.is_empty() { room } else { room.half() };
        let mut reserved = self.chunk(oldest, half);
        if plan.size.prefill_rows == 0 {
            // However little time there is, one prompt advances.
            let least = least_rows.min(self.running[oldest].pending()).min(room.rows);
            reserved = reserved.max(least);
        }
        let mut rest = self.take(oldest, reserved, room);
        for index in others {
            let rows = self.chunk(index, rest);
            rest = self.take(index, rows, rest);
            room = self.take(index, rows, room);
            plan.add(index, self.running[index].computed(), rows);
        }
        let rows = self.chunk(oldest, room).max(reserved);
        plan.add(oldest, self.running[oldest].computed(), rows);
        self.take(oldest, rows, room)
    }

    /// Returns how many rows of a sequence fit in the room: all that are left, or whole grains.
    fn chunk(&self, index: usize, room: StepRoom) -> usize {
        let sequence = &self.running[index];
        let mut rows = sequence.pending().min(room.rows).min(self.limits.chunk_max);
        if sequence.wants_prompt_logprobs() {
            rows = rows.min(room.logit_rows);
        }
        if room.seconds.is_finite() {
            rows = rows.min(self.cost.prefill_rows_within(room.seconds, sequence.computed()));
        }
        if rows == sequence.pending() { rows } else { rows - rows % self.limits.grain() }
    }

    fn take(&self, index: usize, rows: usize, room: StepRoom) -> StepRoom {
        let sequence = &self.running[index];
        let logit_rows = if sequence.wants_prompt_logprobs() { rows } else { 0 };
        StepRoom {
            seconds: room.seconds - self.cost.chunk_seconds(sequence.computed(), rows),
            rows: room.rows - rows,
            logit_rows: room.logit_rows.saturating_sub(logit_rows),
        }
    }
}

impl Plan {
    fn add(&mut self, index: usize, computed: usize, rows: usize) {
        if rows > 0 {
            self.spans.push(PlannedSpan { index, rows, guessed: 0 });
            self.size.add(computed, rows);
        }
    }

    /// Sizes the step anew, after guesses were cut.
    pub(crate) fn recount(&mut self, running: &[Sequence]) {
        self.size = StepSize::default();
        for span in &self.spans {
            let computed = running[span.index].computed();
            self.size.add(computed, span.rows);
            self.size.add_guesses(computed, span.guessed);
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.size.prefill_rows + self.size.decode_rows + self.size.guessed_rows
    }
}

/// What is left of a step.
#[derive(Clone, Copy, Debug)]
struct StepRoom {
    seconds: f64,
    rows: usize,
    logit_rows: usize,
}

impl StepRoom {
    fn half(self) -> Self {
        Self { seconds: self.seconds / 2.0, rows: self.rows / 2, logit_rows: self.logit_rows.div_ceil(2) }
    }
}

fn note_names(names: &mut HashMap<ChainHash, Priority>, sequence: &Sequence, block_tokens: usize) {
    let (from, to) = (sequence.computed() / block_tokens, sequence.prompt_tokens() / block_tokens);
    for name in sequence.hashes().iter().take(to).skip(from) {
        let class = names.entry(*name).or_insert(sequence.priority());
        *class = (*class).max(sequence.priority());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domain::{RequestId, Sampling, Tenant, Tokens, Work, WorkKey};

    use super::*;

    fn scheduler(config: EngineConfig) -> Scheduler {
        let shape = Shape { vocabulary: 151_936, context_tokens: 10_000, block_tokens: 32, block_bytes: 1 };
        Scheduler::new(&config, &shape, 2000)
    }

    fn queue(scheduler: &mut Scheduler, name: &str, tokens: u32, priority: Priority) {
        let work = Work {
            key: WorkKey { request: RequestId::from(name), choice: 0 },
            tenant: Tenant::from(name),
            priority,
            prompt: Tokens::new((0..tokens).collect::<Vec<_>>()).unwrap(),
            max_output_tokens: 10,
            sampling: Sampling::greedy(),
            stop_tokens: Arc::new([]),
            logprobs: None,
            prompt_logprobs: name.starts_with("scored"),
        };
        scheduler.queue.push(Sequence::new(work, Vec::new(), 0));
    }

    /// Plans once, computes nothing, and returns the rows of each by name.
    fn planned(scheduler: &mut Scheduler) -> Vec<(String, usize)> {
        let plan = scheduler.plan(Duration::ZERO);
        let name = |span: &PlannedSpan| scheduler.running[span.index].key().request.to_string();
        let mut rows: Vec<_> = plan.spans.iter().map(|span| (name(span), span.rows)).collect();
        rows.sort();
        rows
    }

    fn rows<const N: usize>(expected: [(&str, usize); N]) -> Vec<(String, usize)> {
        expected.map(|(name, rows)| (name.to_owned(), rows)).to_vec()
    }

    #[test]
    fn the_oldest_prompt_has_half_and_the_shortest_go_before_the_longer() {
        let mut scheduler = scheduler(EngineConfig::default());
        queue(&mut scheduler, "1 oldest", 4000, Priority::Standard);
        queue(&mut scheduler, "2 long", 3000, Priority::Standard);
        queue(&mut scheduler, "3 short", 100, Priority::Standard);
        // 512 rows: 256 for the oldest, 100 for the shortest, whole grains of 8 of the rest for the next, what it cannot
        // use (4) for nobody, for the oldest computes whole grains too.
        let expected = rows([("1 oldest", 256), ("2 long", 152), ("3 short", 100)]);
        assert_eq!(planned(&mut scheduler), expected);
    }

    #[test]
    fn what_the_others_do_not_need_is_the_oldests() {
        let mut scheduler = scheduler(EngineConfig::default());
        queue(&mut scheduler, "1 oldest", 4000, Priority::Standard);
        queue(&mut scheduler, "2 short", 64, Priority::Standard);
        assert_eq!(planned(&mut scheduler), rows([("1 oldest", 448), ("2 short", 64)]));
    }

    #[test]
    fn a_higher_class_is_computed_first() {
        let mut scheduler = scheduler(EngineConfig { chunk_tokens_max: 10_000, ..EngineConfig::default() });
        queue(&mut scheduler, "1 batch", 4000, Priority::Batch);
        scheduler.plan(Duration::ZERO);
        queue(&mut scheduler, "2 high", 512, Priority::High);
        assert_eq!(planned(&mut scheduler), rows([("2 high", 512)]));
    }

    #[test]
    fn the_scores_of_a_prompt_stay_within_their_memory() {
        let mut scheduler = scheduler(EngineConfig::default());
        queue(&mut scheduler, "scored 1", 400, Priority::Standard);
        // 64 MiB are 110 rows of scores; in whole grains, 104.
        assert_eq!(planned(&mut scheduler), rows([("scored 1", 104)]));
        queue(&mut scheduler, "scored 2", 400, Priority::Standard);
        assert_eq!(planned(&mut scheduler), rows([("scored 1", 48), ("scored 2", 56)]));
    }

    #[test]
    fn as_many_run_as_there_is_room_for() {
        let mut scheduler = scheduler(EngineConfig { max_running: 3, ..EngineConfig::default() });
        for number in 0..5 {
            queue(&mut scheduler, &format!("{number}"), 10, Priority::Standard);
        }
        assert_eq!(planned(&mut scheduler).len(), 3);
        assert_eq!((scheduler.running.len(), scheduler.queue.len()), (3, 2));
    }
}

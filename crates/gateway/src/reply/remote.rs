//! How does an upstream's answer become the client's?
//!
//! ```text
//! UpstreamAnswer ─▶ pieces ─┬─ events ─▶ count, pace, what was used ─▶ the client's Writer ─┐
//!                           └─ the upstream's own bytes, for a client of the same dialect ──┴─▶ Listener
//! ```
//! What the upstream says was used is what is booked. While it has not said so, tokens are guessed from bytes, so that limits
//! hold a running answer; where it never does, the guess is booked and labelled as one. The bytes that end an answer well wait
//! until it is booked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dialect::Head;
use domain::{AnswerEvent, Delta, Finish, Usage, UsageReport, UsageSource};
use fleet::{Pace, Verdict};
use http::header::HeaderValue;

use super::end::{Deadline, End, refusal_of};
use super::listener::{Closing, Listener, Stir};
use super::purse::Purse;
use crate::admit::OpenHold;
use crate::app::App;
use crate::ears::Ears;
use crate::events;
use crate::metrics::{Finished, ModelMetrics};
use crate::needs::BYTES_PER_TOKEN;
use crate::passage::COST;
use crate::supply::Attempt;
use crate::upstream::{Failure, HttpProvider, OnCancel, Piece, UpstreamAnswer};
use crate::visit::Visit;

/// What goes into a remote reply.
pub struct Begun {
    pub answer: UpstreamAnswer,
    pub provider: Arc<HttpProvider>,
    pub attempt: Attempt,
    pub hold: OpenHold,
    pub listener: Listener,
    /// The client is given the upstream's own bytes.
    pub passes: bool,
    /// A chunk that says nothing but the usage is for us alone.
    pub hides_usage: bool,
    pub choices: u32,
    /// The most that the answer can have, as far as that is known.
    pub output_tokens_max: Option<u64>,
    /// How many bytes of prompt there were, to learn what a token is here.
    pub prompt_bytes: u64,
    /// Whoever else hears the answer.
    pub ears: Ears,
    pub head: Head,
}

pub struct RemoteReply {
    app: Arc<App>,
    visit: Arc<Visit>,
    answer: UpstreamAnswer,
    provider: Arc<HttpProvider>,
    attempt: Attempt,
    purse: Purse,
    listener: Listener,
    passes: bool,
    hides_usage: bool,
    choices: u32,
    prompt_bytes: u64,
    /// How many choices have ended, and the end of the one that ended last: told only when the answer is booked.
    finished: BTreeSet<u32>,
    last_finish: Option<(u32, Finish)>,
    /// The upstream's bytes from its answer's end on.
    held_back: Vec<u8>,
    report: Option<UsageReport>,
    /// Bytes of text, reasoning and calls so far, from which tokens are guessed.
    said_bytes: u64,
    /// And pieces of it: each has at least one token.
    said_pieces: u64,
    delivered: u64,
    pace: Option<Pace>,
    metrics: ModelMetrics,
    last_said: Option<Instant>,
    deadline: Deadline,
    ears: Ears,
    head: Head,
}

/// A stream's pace is judged over a minute, and looked at this often.
const PACE_WINDOW: Duration = Duration::from_secs(60);
const PACE_LOOK: Duration = Duration::from_secs(5);

impl RemoteReply {
    pub fn new(app: Arc<App>, visit: Arc<Visit>, begun: Begun) -> Self {
        let Begun { answer, provider, attempt, hold, listener, passes, hides_usage, choices, .. } = begun;
        let deadline = Deadline::of(&app, &visit, &hold.standings);
        let metrics = app.metrics.model(hold.hold().model.as_str());
        let ceiling = begun.output_tokens_max.unwrap_or(u64::MAX / 2);
        Self {
            purse: Purse::new(hold, ceiling, u64::from(choices)),
            deadline,
            finished: BTreeSet::new(),
            last_finish: None,
            held_back: Vec::new(),
            report: None,
            said_bytes: 0,
            said_pieces: 0,
            delivered: 0,
            pace: None,
            metrics,
            last_said: None,
            prompt_bytes: begun.prompt_bytes,
            ears: begun.ears,
            head: begun.head,
            app,
            visit,
            answer,
            provider,
            attempt,
            listener,
            passes,
            hides_usage,
            choices,
        }
    }

    pub async fn run(mut self: Box<Self>) {
        let relayed = self.relay().await;
        let end = self.deadline.judge(relayed);
        self.drain(&end).await;
        let (usage, source) = self.usage();
        self.measure(&end, &usage);
        if end == End::BudgetExhausted && !self.passes {
            self.end_by_budget();
        }
        end.amend(&self.app, &self.visit.id);
        let Self { app, visit, attempt, purse, mut listener, mut answer, passes, ears, head, .. } = *self;
        attempt.end(end.outcome(usage.output));
        let hold = purse.close().await;
        let (model, way) = (hold.hold().model.clone(), hold.hold().circumstances.clone());
        let cost = app.prices.cost(&model, &way, &usage);
        let booked = match usage.total() {
            0 if end != End::Complete => hold.release(end.release_reason()).await,
            _ => hold.settle(usage, end.usage_end(), source).await,
        };
        let refusal = booked.err().or_else(|| match &end {
            // The bytes that are passed on have no words of ours for this end.
            End::BudgetExhausted if passes => Some(crate::refusal::Refusal::BudgetEnded),
            end => refusal_of(end, &app, &model),
        });
        match refusal {
            Some(refusal) => listener.break_off(refusal),
            None => {
                let report = UsageReport { usage, ..self.report.unwrap_or_default() };
                if end == End::Complete {
                    ears.complete(&head, &report).await;
                }
                let cost = cost.and_then(|cost| HeaderValue::from_str(&cost.to_string()).ok());
                cost.into_iter().for_each(|cost| listener.add_header(COST, cost));
                let closing = match passes {
                    true => Closing::Passed(answer.take_whole().unwrap_or(self.held_back)),
                    false => Closing::Written { last_finish: self.last_finish, report },
                };
                listener.close(closing).await;
            }
        }
        drop(answer);
        drop(visit);
    }

    /// Passes on what the upstream says until its good end, or until something ends it.
    async fn relay(&mut self) -> Result<(), End> {
        if !self.passes {
            self.listener.open();
        }
        while let Some(piece) = self.next_piece().await? {
            self.take(piece).await?;
            // What has arrived meanwhile leaves in the same packet.
            while let Some(piece) = self.answer.next_ready() {
                self.take(piece).await?;
            }
            self.flush().await?;
        }
        // An upstream may end well before a choice has begun that it was asked for.
        match self.all_finished() {
            true => Ok(()),
            false => Err(self.broke(&Failure::Unfinished)),
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Piece>, End> {
        let cut = self.app.cut.clone();
        loop {
            tokio::select! {
                biased;
                stir = self.listener.stir() => match stir {
                    Stir::Gone => return Err(End::ClientLeft),
                    Stir::PingTime => self.listener.ping(),
                },
                () = cut.cancelled() => return Err(End::Cut),
                () = tokio::time::sleep_until(self.deadline.at) => return Err(End::TooLong),
                grown = self.purse.grown() => grown?,
                piece = self.answer.next() => return piece.map_err(|failure| self.broke(&failure)),
                () = tokio::time::sleep(PACE_LOOK), if self.pace.is_some() => self.check_pace()?,
            }
        }
    }

    async fn take(&mut self, Piece { raw, events, is_over }: Piece) -> Result<(), End> {
        let says_only_usage =
            !events.is_empty() && events.iter().all(|event| matches!(event, AnswerEvent::Used(_)));
        for event in events {
            if !matches!(event, AnswerEvent::Used(_)) {
                self.ears.say(&event);
            }
            match event {
                AnswerEvent::Began { .. } => {}
                AnswerEvent::Used(report) => self.report = Some(report),
                AnswerEvent::Finished { choice, finish } => self.finish(choice, finish),
                AnswerEvent::Delta { choice, delta } => self.delta(choice, delta).await?,
            }
        }
        if self.passes && !(self.hides_usage && says_only_usage) {
            self.held_back.extend_from_slice(&raw);
            // With several choices, one may go on after all that had begun were over.
            if !is_over {
                self.listener.pass(&std::mem::take(&mut self.held_back));
            }
        }
        match self.listener.is_loaded() {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn delta(&mut self, choice: u32, delta: Delta) -> Result<(), End> {
        let bytes = bytes_of(&delta);
        if choice >= self.choices {
            return Err(End::UpstreamBroke(format!(
                "it answers choice {choice}, and {} were asked for",
                self.choices
            )));
        }
        if bytes > 0 {
            self.clock();
            self.said_bytes += bytes;
            self.said_pieces += 1;
            let tokens = self.guessed_output().saturating_sub(self.delivered);
            self.room_for(tokens).await?;
            self.purse.deliver(tokens);
            self.delivered += tokens;
            self.attempt.progressed(self.delivered);
            self.note_pace(tokens);
        }
        if !self.passes {
            self.listener.say(choice, vec![delta]);
        }
        self.purse.ask_for_more(0);
        Ok(())
    }

    /// Returns when so many tokens may be delivered, because they are held.
    async fn room_for(&mut self, tokens: u64) -> Result<(), End> {
        while self.purse.room() < tokens && self.purse.ask_for_more(tokens) {
            let cut = self.app.cut.clone();
            tokio::select! {
                biased;
                grown = self.purse.grown() => grown?,
                () = cut.cancelled() => return Err(End::Cut),
                () = tokio::time::sleep_until(self.deadline.at) => return Err(End::TooLong),
            }
        }
        if self.purse.room() < tokens { Err(End::BudgetExhausted) } else { Ok(()) }
    }

    /// Notes how a choice ended, and tells it unless it is the last: that is told when the answer is booked.
    fn finish(&mut self, choice: u32, finish: Finish) {
        self.finished.insert(choice);
        self.metrics.finished(match finish.reason {
            domain::FinishReason::Length => Finished::Length,
            _ => Finished::Stop,
        });
        match self.all_finished() {
            true => self.last_finish = Some((choice, finish)),
            false if !self.passes => self.listener.finish(choice, finish),
            false => {}
        }
    }

    fn all_finished(&self) -> bool {
        self.unfinished().next().is_none()
    }

    fn unfinished(&self) -> impl Iterator<Item = u32> {
        (0..self.choices).filter(|choice| !self.finished.contains(choice))
    }

    /// Says of every choice that still runs why it goes no further; the last word waits for the booking.
    fn end_by_budget(&mut self) {
        let rest: Vec<u32> = self.unfinished().collect();
        for choice in rest {
            let last = (choice, Finish::of(domain::FinishReason::BudgetExhausted));
            if let Some((choice, finish)) = self.last_finish.replace(last) {
                self.listener.finish(choice, finish);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let cut = self.app.cut.clone();
        tokio::select! {
            flushed = self.listener.flush() => flushed.map_err(End::from),
            () = cut.cancelled() => Err(End::Cut),
            () = tokio::time::sleep_until(self.deadline.at) => Err(End::TooLong),
        }
    }

    fn broke(&self, failure: &Failure) -> End {
        let provider = self.provider.name.as_str();
        events::UpstreamBroke { request: self.visit.id.as_str(), provider, failure }.emit();
        End::UpstreamBroke(failure.to_string())
    }

    fn clock(&mut self) {
        let now = Instant::now();
        match self.last_said.replace(now) {
            None => {
                self.metrics.ttft.observe(self.visit.first_token().as_secs_f64());
                self.attempt.first_token();
            }
            Some(last) => self.metrics.inter_token.observe((now - last).as_secs_f64()),
        }
    }

    fn note_pace(&mut self, tokens: u64) {
        let floor = f64::from(self.provider.timeouts.tokens_per_ten_seconds_min) / 10.0;
        if floor > 0.0 {
            let now = self.app.clock.now();
            self.pace.get_or_insert_with(|| Pace::new(floor, PACE_WINDOW, now)).tokens(tokens, now);
        }
    }

    /// Breaks off a stream that has become a zombie.
    fn check_pace(&mut self) -> Result<(), End> {
        let now = self.app.clock.now();
        match self.pace.as_mut().map(|pace| pace.verdict(now)) {
            Some(Verdict::Crawls { tokens_per_second }) => {
                let slow = format!("it crawls at {tokens_per_second:.2} tokens a second");
                Err(self.broke(&Failure::Malformed(slow)))
            }
            Some(Verdict::Stands { since }) => Err(self.broke(&Failure::Stalled { waited: since })),
            _ => Ok(()),
        }
    }

    /// Reads on after the client has left, where the provider's last word on usage is worth it.
    async fn drain(&mut self, end: &End) {
        let OnCancel::Drain(patience) = self.provider.on_cancel else { return };
        if !matches!(end, End::ClientLeft | End::SlowReader) {
            return;
        }
        let reading = async {
            while let Ok(Some(piece)) = self.answer.next().await {
                for event in piece.events {
                    match event {
                        AnswerEvent::Used(report) => self.report = Some(report),
                        AnswerEvent::Finished { choice, .. } => {
                            self.finished.insert(choice);
                        }
                        AnswerEvent::Delta { delta, .. } => self.said_bytes += bytes_of(&delta),
                        AnswerEvent::Began { .. } => {}
                    }
                }
            }
        };
        let _ = tokio::time::timeout(patience, reading).await;
    }

    /// Returns what was used: in the upstream's own words if the answer got to its end, else as it can be guessed.
    fn usage(&self) -> (Usage, UsageSource) {
        let guessed = Usage { output: self.guessed_output(), ..self.purse.hold.estimate };
        match self.report.as_ref().map(|report| report.usage) {
            Some(usage) if !self.finished.is_empty() => (usage, UsageSource::Provider),
            // A count from the middle of an answer has its prompt right, and its output too low.
            Some(usage) => {
                (Usage { output: usage.output.max(guessed.output), ..usage }, UsageSource::Estimated)
            }
            None => (guessed, UsageSource::Estimated),
        }
    }

    fn guessed_output(&self) -> u64 {
        ((self.said_bytes as f64 / BYTES_PER_TOKEN).ceil() as u64).max(self.said_pieces)
    }

    fn measure(&self, end: &End, usage: &Usage) {
        self.visit.used(*usage);
        self.visit.ended(end.word());
        self.metrics.e2e.observe(self.visit.arrived.elapsed().as_secs_f64());
        self.metrics.prompt_tokens.observe(usage.input() as f64);
        self.metrics.output_tokens.observe(usage.output as f64);
        self.unfinished().for_each(|_| self.metrics.finished(end.finished()));
        if *end == End::SlowReader {
            self.app.metrics.slow_readers_cut.inc();
        }
        if *end == End::Complete {
            let hold = self.purse.hold.hold();
            let each = usage.output / u64::from(self.choices.max(1));
            self.app.estimates.learn(&hold.account, &hold.model, each);
            if self.report.is_some() {
                self.app.estimates.learn_input(&hold.model, self.prompt_bytes, usage.input());
            }
        }
    }
}

fn bytes_of(delta: &Delta) -> u64 {
    let bytes = match delta {
        Delta::Text(text) | Delta::Refusal(text) | Delta::Reasoning(text) => text.len(),
        Delta::ToolCall { name, .. } => name.len(),
        Delta::Arguments { json, .. } => json.len(),
        Delta::ReasoningProof { .. } | Delta::SealedReasoning(_) | Delta::Scores(_) => 0,
    };
    bytes as u64
}

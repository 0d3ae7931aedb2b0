//! How does the work of an engine of our own become the client's answer?
//!
//! ```text
//! WorkEvent ─▶ Choice (text, stops) ─▶ deltas ─▶ Listener        the end: stop work ─▶ count ─▶ settle, durably ─▶ tell
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use dialect::Head;
use domain::{
    AnswerEvent, Delta, Finish, FinishReason, StepEvent, TokenOut, Usage, UsageReport, UsageSource, WorkEnd,
    WorkEvent, WorkKey,
};

use super::choice::Choice;
use super::end::{Deadline, End, refusal_of};
use super::listener::{Closing, Listener, Stir};
use super::purse::Purse;
use super::tally::{self, Tally};
use crate::admit::OpenHold;
use crate::app::App;
use crate::ears::Ears;
use crate::events;
use crate::guard::Order;
use crate::metrics::{Finished, ModelMetrics};
use crate::supply::Attempt;
use crate::upstream::WorkStream;
use crate::visit::Visit;

/// How long cancelled work may take to say what it used. The engine answers within a step; steps are bounded by its own
/// budget, tenths of a second. After this the door's own count is booked.
const LAST_COUNT_WAIT: Duration = Duration::from_secs(5);

/// What goes into a local reply.
pub struct Begun {
    pub order: Order,
    pub works: WorkStream,
    pub listener: Listener,
    pub hold: OpenHold,
    pub attempt: Attempt,
    /// Whoever else hears the answer.
    pub ears: Ears,
    pub head: Head,
}

/// One answer on its way.
pub struct Reply {
    app: Arc<App>,
    visit: Arc<Visit>,
    order: Order,
    works: WorkStream,
    listener: Listener,
    purse: Purse,
    choices: Vec<Choice>,
    tallies: Vec<Tally>,
    finishes: Vec<Option<FinishReason>>,
    /// The end of the choice that ended last: told only when the answer is booked.
    last_finish: Option<(u32, Finish)>,
    metrics: ModelMetrics,
    started: Instant,
    last_token: Vec<Option<Instant>>,
    deadline: Deadline,
    attempt: Attempt,
    /// Whoever else hears the answer.
    ears: Ears,
    head: Head,
}

impl Reply {
    pub fn new(app: Arc<App>, visit: Arc<Visit>, begun: Begun) -> Self {
        let Begun { order, works, listener, hold, attempt, ears, head } = begun;
        let count = order.choices_total();
        let deadline = Deadline::of(&app, &visit, &hold.standings);
        Self {
            purse: Purse::new(hold, order.output_tokens_max(), count as u64),
            choices: (0..count).map(|index| Choice::new(&order, index)).collect(),
            tallies: (0..count).map(|index| Tally::new(order.prompt_of(index).tokens.len())).collect(),
            finishes: vec![None; count],
            last_finish: None,
            metrics: app.metrics.model(order.model.name.as_str()),
            started: Instant::now(),
            last_token: vec![None; count],
            deadline,
            app,
            visit,
            order,
            works,
            listener,
            attempt,
            ears,
            head,
        }
    }

    pub async fn run(mut self: Box<Self>) {
        let relayed = self.relay().await;
        let end = self.deadline.judge(relayed);
        if end == End::BudgetExhausted {
            self.end_by_budget();
        }
        let usage = self.take_stock(&end).await;
        self.measure(&end, &usage);
        end.amend(&self.app, &self.visit.id);
        if end == End::Complete {
            let choices = self.choices.len().max(1) as u64;
            self.app.estimates.learn(
                &self.order.caller.account,
                &self.order.model.name,
                usage.output / choices,
            );
        }
        let Self { app, visit, order, listener, purse, last_finish, works, attempt, ears, head, .. } = *self;
        drop(works);
        attempt.end(end.outcome(usage.output));
        let hold = purse.close().await;
        let booked = match usage.total() {
            0 => hold.release(end.release_reason()).await,
            _ => hold.settle(usage, end.usage_end(), UsageSource::Measured).await,
        };
        let refusal = match booked {
            Ok(()) => refusal_of(&end, &app, &order.model.name),
            Err(not_booked) => Some(not_booked),
        };
        match refusal {
            Some(refusal) => listener.break_off(refusal),
            None => {
                let report = UsageReport { usage, service_tier: None };
                if end == End::Complete {
                    ears.complete(&head, &report).await;
                }
                listener.close(Closing::Written { last_finish, report }).await;
            }
        }
        drop(visit);
    }

    /// Passes on what the works produce until every choice has ended, or something ends them all.
    async fn relay(&mut self) -> Result<(), End> {
        self.listener.open();
        for index in 0..self.choices.len() {
            let opening = self.choices[index].opening();
            self.say(index, opening).await?;
        }
        while self.finishes.iter().any(Option::is_none) {
            let event = self.next_event().await?;
            self.take(event).await?;
            self.purse.ask_for_more(0);
            // What has arrived meanwhile leaves in the same packet.
            while let Some(event) = self.works.next_ready() {
                self.take(event).await?;
            }
            self.flush().await?;
        }
        Ok(())
    }

    async fn next_event(&mut self) -> Result<StepEvent, End> {
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
                event = self.works.next() => return event.ok_or(End::EngineLost),
            }
        }
    }

    async fn take(&mut self, StepEvent { key, event }: StepEvent) -> Result<(), End> {
        let index = key.choice as usize;
        match event {
            WorkEvent::Started { cached_tokens } => {
                self.tallies[index].started(cached_tokens);
                self.metrics.queue.observe(self.started.elapsed().as_secs_f64());
            }
            WorkEvent::PromptLogprobs(scores) => {
                let scores = self.choices[index].prompt_scores(scores);
                self.say(index, scores).await?;
            }
            WorkEvent::Produced(tokens) => self.produced(index, key, tokens).await?,
            WorkEvent::Ended { end, usage } => {
                self.tallies[index].measured(usage);
                self.work_ended(index, end).await?;
            }
        }
        Ok(())
    }

    async fn produced(&mut self, index: usize, key: WorkKey, tokens: Vec<TokenOut>) -> Result<(), End> {
        if self.finishes[index].is_some() {
            return Ok(()); // On its way when a stop string had already ended the choice.
        }
        self.clock(index, tokens.len());
        let room = self.room_for(tokens.len() as u64).await?;
        let taken = self.choices[index].take(&tokens[..room]);
        self.purse.deliver(taken.tokens);
        self.tallies[index].took(taken.tokens, taken.reasoning_tokens);
        self.say(index, taken.deltas).await?;
        if taken.is_stopped {
            self.works.cancel(&key);
            self.tallies[index].ended_here();
            self.finish(index, FinishReason::Stop);
        }
        match room < tokens.len() && self.finishes.iter().any(Option::is_none) {
            true => Err(End::BudgetExhausted),
            false => Ok(()),
        }
    }

    /// Returns how many of so many tokens may be delivered: all of them as soon as they are held, or fewer, and then no more
    /// will ever be.
    async fn room_for(&mut self, tokens: u64) -> Result<usize, End> {
        while self.purse.room() < tokens && self.purse.ask_for_more(tokens) {
            let cut = self.app.cut.clone();
            tokio::select! {
                biased;
                grown = self.purse.grown() => grown?,
                stir = self.listener.stir() => match stir {
                    Stir::Gone => return Err(End::ClientLeft),
                    Stir::PingTime => self.listener.ping(),
                },
                () = cut.cancelled() => return Err(End::Cut),
                () = tokio::time::sleep_until(self.deadline.at) => return Err(End::TooLong),
            }
        }
        Ok(self.purse.room().min(tokens) as usize)
    }

    /// Ends every choice that still runs, with what was delivered of it.
    fn end_by_budget(&mut self) {
        for index in 0..self.choices.len() {
            if self.finishes[index].is_none() {
                let rest = self.choices[index].rest();
                self.listener.say(index as u32, rest);
                self.tallies[index].ended_here();
                self.finish(index, FinishReason::BudgetExhausted);
            }
        }
    }

    async fn work_ended(&mut self, index: usize, end: WorkEnd) -> Result<(), End> {
        if self.finishes[index].is_some() {
            return Ok(());
        }
        let reason = match end {
            WorkEnd::Stop => FinishReason::Stop,
            WorkEnd::Length => FinishReason::Length,
            // Not by us: whoever stops the engine cancels what runs there.
            WorkEnd::Cancelled => return Err(End::Cut),
            WorkEnd::Failed(why) => return Err(End::Failed(why)),
        };
        let rest = self.choices[index].rest();
        self.say(index, rest).await?;
        self.finish(index, reason);
        Ok(())
    }

    /// Notes how a choice ended, and tells it unless it is the last: that is told when the answer is booked.
    fn finish(&mut self, index: usize, reason: FinishReason) {
        let reason = self.choices[index].finish_reason(reason);
        self.finishes[index] = Some(reason);
        self.metrics.finished(if reason == FinishReason::Length { Finished::Length } else { Finished::Stop });
        self.ears.say(&AnswerEvent::Finished { choice: index as u32, finish: Finish::of(reason) });
        match self.finishes.iter().all(Option::is_some) {
            true => self.last_finish = Some((index as u32, Finish::of(reason))),
            false => self.listener.finish(index as u32, Finish::of(reason)),
        }
    }

    async fn say(&mut self, index: usize, deltas: Vec<Delta>) -> Result<(), End> {
        if self.ears.are_open() {
            let event = |delta: &Delta| AnswerEvent::Delta { choice: index as u32, delta: delta.clone() };
            deltas.iter().for_each(|delta| self.ears.say(&event(delta)));
        }
        self.listener.say(index as u32, deltas);
        match self.listener.is_loaded() {
            true => self.flush().await,
            false => Ok(()),
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

    fn clock(&mut self, index: usize, tokens: usize) {
        let now = Instant::now();
        if self.last_token.iter().all(Option::is_none) {
            self.metrics.ttft.observe(self.visit.first_token().as_secs_f64());
            self.attempt.first_token();
        }
        if let Some(last) = self.last_token[index].replace(now) {
            let each = (now - last).as_secs_f64() / tokens.max(1) as f64;
            (0..tokens).for_each(|_| self.metrics.inter_token.observe(each));
        }
    }

    /// Stops what still runs and returns what was used, as exactly as the engine says it in time.
    async fn take_stock(&mut self, end: &End) -> Usage {
        // A choice that ended here (by a stop string, by a budget) has machine time that only the engine's last count tells.
        if *end != End::Complete || !self.tallies.iter().all(Tally::is_measured) {
            self.works.cancel_all();
            let counted = async {
                while let Some(StepEvent { key, event }) = self.works.next().await {
                    match event {
                        WorkEvent::Started { cached_tokens } => {
                            self.tallies[key.choice as usize].started(cached_tokens);
                        }
                        WorkEvent::Produced(tokens) if self.finishes[key.choice as usize].is_none() => {
                            self.tallies[key.choice as usize].took(tokens.len() as u64, 0);
                        }
                        WorkEvent::Ended { usage, .. } => self.tallies[key.choice as usize].measured(usage),
                        WorkEvent::Produced(_) | WorkEvent::PromptLogprobs(_) => {}
                    }
                }
            };
            let _ = tokio::time::timeout(LAST_COUNT_WAIT, counted).await;
        }
        tally::total(&self.tallies, self.order.ask.choices as usize)
    }

    fn measure(&self, end: &End, usage: &Usage) {
        self.visit.used(*usage);
        self.visit.ended(end.word());
        self.metrics.e2e.observe(self.visit.arrived.elapsed().as_secs_f64());
        self.metrics.prompt_tokens.observe(usage.input() as f64);
        self.metrics.output_tokens.observe(usage.output as f64);
        self.finishes
            .iter()
            .filter(|finish| finish.is_none())
            .for_each(|_| self.metrics.finished(end.finished()));
        match end {
            End::SlowReader => {
                self.app.metrics.slow_readers_cut.inc();
            }
            End::Failed(why) => {
                let (request, model) = (self.visit.id.as_str(), self.order.model.name.as_str());
                events::WorkFailed { request, model, why }.emit();
            }
            _ => {}
        }
    }
}

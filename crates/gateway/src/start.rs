//! How is one unit asked, and perhaps a second one beside it?

use std::sync::Arc;
use std::time::Instant;

use dialect::Target;
use domain::{ModelName, Usage, UsageEnd, UsageSource};
use fleet::{Hedge, Outcome};
use ledger::ReleaseReason;
use tokio_util::sync::CancellationToken;

use crate::admit::{self, Claim, NoHold, OpenHold};
use crate::app::ServedModel;
use crate::guard::{self, Draft, Order};
use crate::passage::{Passage, booked_as, upstream_failed};
use crate::place::Plan;
use crate::refusal::Refusal;
use crate::supply::{Attempt, SupplyUnit, UnitKind};
use crate::upstream::{HttpProvider, UpstreamAnswer, WorkStream};
use crate::{events, needs, task};

/// Why one unit did not answer.
pub enum Setback {
    /// Nobody else can help either.
    Refused(Refusal),
    /// A limit has no room.
    Short(Box<ledger::Shortage>),
    /// This unit cannot, another may.
    Elsewhere(Refusal),
    /// This unit was not asked after all: since it was chosen it went to rest or filled up.
    PassedBy(Refusal),
    /// The client has left.
    Left,
}

impl From<Refusal> for Setback {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoHold> for Setback {
    fn from(no_hold: NoHold) -> Self {
        match no_hold {
            NoHold::Short(shortage) => Self::Short(shortage),
            NoHold::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

/// An answer that has begun, and whom it is told to.
pub enum Started {
    Local(Box<(Order, WorkStream, OpenHold, Attempt)>),
    Remote(Box<Remote>),
}

pub struct Remote {
    pub answer: UpstreamAnswer,
    pub provider: Arc<HttpProvider>,
    pub hold: OpenHold,
    pub attempt: Attempt,
    pub passes: bool,
    pub model: ModelName,
    pub output_tokens_max: Option<u64>,
}

/// What came of asking, and whom.
pub struct Asked {
    pub unit: Arc<SupplyUnit>,
    pub began: Instant,
    pub outcome: Result<Started, Setback>,
    /// Who was asked beside it, and what became of that.
    pub beside: Option<(Arc<SupplyUnit>, Instant, &'static str)>,
}

impl Started {
    /// Gives up an answer that has begun, because another was faster. What it cost so far is guessed.
    async fn abandon(self) {
        match self {
            Self::Local(started) => {
                let (_, works, hold, attempt) = *started;
                drop(works);
                attempt.end(Outcome::Cancelled { output_tokens: 0 });
                let _ = hold.release(ReleaseReason::Failed).await;
            }
            Self::Remote(remote) => {
                let Remote { answer, hold, attempt, .. } = *remote;
                drop(answer);
                attempt.end(Outcome::Cancelled { output_tokens: 1 });
                let usage = Usage { output: 1, ..hold.estimate };
                let _ = hold.settle(usage, UsageEnd::CancelledAborted, UsageSource::Estimated).await;
            }
        }
    }
}

impl Passage {
    /// Asks the plan's first choice, and the second beside it when the first is late and the route wants that.
    pub async fn ask_first(&self, plan: &Plan, unit: Arc<SupplyUnit>, quit: &CancellationToken) -> Asked {
        let number = self.attempts + 1;
        let (began, sent) = (Instant::now(), self.app.clock.now());
        let first_quit = quit.child_token();
        let first = self.attempt(number, plan, &unit, cold(plan, &unit), &first_quit);
        tokio::pin!(first);
        let second = tokio::select! {
            outcome = &mut first => return Asked { unit: unit.clone(), began, outcome, beside: None },
            second = self.second_choice(plan, &unit, sent) => second,
        };
        let (second_quit, second_began) = (quit.child_token(), Instant::now());
        let mut asked_second =
            Box::pin(self.attempt(number + 1, plan, &second, cold(plan, &second), &second_quit));
        let (first_won, outcome) = tokio::select! {
            outcome = &mut first => (true, outcome),
            outcome = &mut asked_second => (false, outcome),
        };
        match (first_won, outcome) {
            (true, Ok(started)) => {
                second_quit.cancel();
                give_up(asked_second.await).await;
                let beside = Some((second.clone(), second_began, "slower"));
                Asked { unit: unit.clone(), began, outcome: Ok(started), beside }
            }
            (false, Ok(started)) => {
                first_quit.cancel();
                give_up(first.await).await;
                let beside = Some((unit.clone(), began, "slower"));
                Asked { unit: second.clone(), began: second_began, outcome: Ok(started), beside }
            }
            // The other one may still answer.
            (true, Err(_)) => {
                let outcome = asked_second.await;
                let beside = Some((unit.clone(), began, "failed"));
                Asked { unit: second.clone(), began: second_began, outcome, beside }
            }
            (false, Err(_)) => {
                let outcome = first.await;
                let beside = Some((second.clone(), second_began, "failed"));
                Asked { unit: unit.clone(), began, outcome, beside }
            }
        }
    }

    /// Returns the unit that shall be asked beside the first, when it is time to; never, where none shall.
    async fn second_choice(
        &self,
        plan: &Plan,
        first: &SupplyUnit,
        sent: std::time::Duration,
    ) -> Arc<SupplyUnit> {
        let Some(after) = plan.rules.hedge_after else { return std::future::pending().await };
        loop {
            let now = self.app.clock.now();
            let wait = {
                let mut retries = first.live.retries.lock();
                match fleet::hedge(&plan.decision, sent, after, &mut retries, now) {
                    Hedge::Wait { until } => Some(until.saturating_sub(now)),
                    Hedge::Send(choice) => return plan.units[choice.candidate].clone(),
                    Hedge::No => None,
                }
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return std::future::pending().await,
            }
        }
    }

    async fn attempt(
        &self,
        number: usize,
        plan: &Plan,
        unit: &Arc<SupplyUnit>,
        cold: u64,
        quit: &CancellationToken,
    ) -> Result<Started, Setback> {
        unit.live.retries.lock().earn();
        match &unit.kind {
            UnitKind::Local(model) => Box::pin(self.start_here(number, plan, unit, model, cold, quit)).await,
            UnitKind::Remote { model, provider } => {
                self.start_there(number, plan, unit, model, provider.clone(), cold, quit).await
            }
        }
    }

    async fn start_here(
        &self,
        number: usize,
        plan: &Plan,
        unit: &SupplyUnit,
        model: &Arc<ServedModel>,
        cold: u64,
        quit: &CancellationToken,
    ) -> Result<Started, Setback> {
        let app = &self.app;
        needs::check_engine_can(&self.ask).map_err(Refusal::from)?;
        let draft = Draft {
            model: model.clone(),
            way: unit.way(plan.need.service_tier),
            caller: self.caller.clone(),
            priority: self.priority,
            ask: self.ask.clone(),
            task: self.task.clone(),
            ignored: self.ignored.clone(),
        };
        let mut order = guard::check(app, draft).await?;
        let expected = admit::expected_output(app, &self.caller, &model.name);
        let claim = self.claim(number, &model.name, order.way.clone(), order.estimate(expected));
        let hold = admit::hold(app, &claim).await?;
        let hold = self.take_turn(number, hold).await?;
        if quit.is_cancelled() {
            let _ = hold.release(ReleaseReason::ClientLeft).await;
            return Err(Setback::Left);
        }
        let input = order.prompts.iter().map(|prompt| prompt.tokens.len() as u64).sum::<u64>();
        let attempt = match Attempt::begin(unit, app.clock, input, cold.min(input)) {
            Ok(attempt) => attempt,
            Err(reason) => {
                let _ = hold.release(ReleaseReason::Refused).await;
                return Err(Setback::PassedBy(self.nobody_can(unit, &reason.to_string())));
            }
        };
        match model.upstream.start(order.works(&self.visit.id)) {
            Ok(works) => {
                order.notes = self.notes.clone();
                Ok(Started::Local(Box::new((order, works, hold, attempt))))
            }
            Err(error) => {
                let _ = hold.release(ReleaseReason::Refused).await;
                let refusal = Refusal::of_engine(error, &model.name, app.limits.retry_after);
                Err(Setback::Elsewhere(refusal))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the other way")]
    async fn start_there(
        &self,
        number: usize,
        plan: &Plan,
        unit: &SupplyUnit,
        model: &str,
        provider: Arc<HttpProvider>,
        cold: u64,
        quit: &CancellationToken,
    ) -> Result<Started, Setback> {
        let app = &self.app;
        let dialect = provider.dialect(self.form.dialect()).clone();
        let passable = self.original.as_ref().filter(|_| dialect.name() == self.form.dialect());
        let target = Target { model, stream: self.ask.stream };
        let wire = match passable {
            Some(original) => dialect.passed(original, &target),
            None => dialect.request(&self.ask, &target),
        };
        let wire = wire.map_err(|untellable| {
            let message = format!("{untellable} ({})", unit.facts.id);
            let bad = dialect::BadRequest::new(message).at(untellable.what).code("unsupported_parameter");
            Setback::Elsewhere(bad.into())
        })?;
        let expected = u64::from(admit::expected_output(app, &self.caller, &unit.facts.model));
        let most = self.ask.max_output_tokens.map(u64::from).or(unit.facts.max_output_tokens);
        let each = most.map_or(expected, |most| most.min(expected));
        let warm = plan.need.input_tokens.saturating_sub(cold);
        let estimate = Usage {
            input_uncached: plan.need.input_tokens - warm,
            cache_read: warm,
            output: each * u64::from(self.ask.choices),
            ..Usage::default()
        };
        let claim = self.claim(number, &unit.facts.model, unit.way(plan.need.service_tier), estimate);
        let hold = admit::hold(app, &claim).await?;
        let hold = self.take_turn(number, hold).await?;
        let attempt = match Attempt::begin(unit, app.clock, plan.need.input_tokens, cold) {
            Ok(attempt) => attempt,
            Err(reason) => {
                let _ = hold.release(ReleaseReason::Refused).await;
                return Err(Setback::PassedBy(self.nobody_can(unit, &reason.to_string())));
            }
        };
        let passes = passable.is_some();
        let extra: &[_] = if passes { &self.passed_headers } else { &[] };
        let beginning = UpstreamAnswer::begin(&provider, &*dialect, wire, target, extra, passes);
        let begun = tokio::select! {
            begun = beginning => begun,
            () = quit.cancelled() => {
                // Before its first words an answer that is broken off costs nothing that anybody tells.
                let _ = hold.release(ReleaseReason::ClientLeft).await;
                return Err(Setback::Left);
            }
            () = app.cut.cancelled() => {
                let _ = hold.release(ReleaseReason::Failed).await;
                return Err(Setback::Refused(Refusal::Draining { retry_after: app.limits.retry_after }));
            }
        };
        match begun {
            Ok(answer) => {
                let output_tokens_max = most.map(|most| most * u64::from(self.ask.choices));
                let model = unit.facts.model.clone();
                let remote = Remote { answer, provider, hold, attempt, passes, model, output_tokens_max };
                Ok(Started::Remote(Box::new(remote)))
            }
            Err(failure) => {
                let (request, unit_name) = (self.visit.id.as_str(), unit.facts.id.as_str());
                events::UpstreamFailed { request, unit: unit_name, attempt: number, failure: &failure }
                    .emit();
                attempt.end(failure.outcome());
                let _ = hold.release(ReleaseReason::Failed).await;
                let is_worth_another = failure.is_worth_another();
                let refusal = upstream_failed(unit, &failure);
                Err(if is_worth_another { Setback::Elsewhere(refusal) } else { Setback::Refused(refusal) })
            }
        }
    }

    fn claim(&self, number: usize, model: &ModelName, way: ledger::Circumstances, estimate: Usage) -> Claim {
        Claim {
            request: booked_as(&self.visit.id, number),
            caller: self.caller.clone(),
            task: self.task.as_ref().map(|turn| turn.path.clone()),
            end_user: self.ask.user.clone(),
            model: model.clone(),
            way,
            estimate,
        }
    }

    /// Takes a task's last turn with its hold in the book, so that it is not lost to a limit or a full queue.
    async fn take_turn(&self, number: usize, hold: OpenHold) -> Result<OpenHold, Setback> {
        if let Some(turn) = self.task.as_ref().filter(|turn| turn.is_hand_back && number == 1)
            && let Err(refusal) = task::hand_back(&self.app, turn).await
        {
            let _ = hold.release(ReleaseReason::Refused).await;
            return Err(Setback::Refused(refusal));
        }
        Ok(hold)
    }

    fn nobody_can(&self, unit: &SupplyUnit, why: &str) -> Refusal {
        Refusal::NobodyCan {
            model: unit.facts.model.clone(),
            why: format!("{}: {why}", unit.facts.id),
            retry_after: self.app.limits.retry_after,
            is_rate: false,
        }
    }
}

async fn give_up(outcome: Result<Started, Setback>) {
    if let Ok(started) = outcome {
        started.abandon().await;
    }
}

/// Returns how many of the prompt's tokens the unit has not seen lately.
fn cold(plan: &Plan, unit: &SupplyUnit) -> u64 {
    let choice = plan.decision.choices.iter().find(|choice| choice.unit == unit.facts.id);
    plan.need.input_tokens.saturating_sub(choice.map_or(0, |choice| choice.warm_tokens))
}

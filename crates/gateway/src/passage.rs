//! How does a request that was understood get its answer: choose → hold → start → reply, and again elsewhere while nothing was said?
//!
//! ```text
//! plan ─▶ first choice ─▶ hold ─▶ start ─┬─ first words ─▶ the client hears them: from here on there is no way back
//!   ▲                                    └─ no answer ─▶ release, tell the breaker, next choice (within the retry budget)
//!   └── the cheaper model that a limit without room leads to
//! ```

use std::sync::Arc;

use axum::body::Bytes;
use axum::response::Response;
use dialect::{Form, Head, Heard, Labels, Target};
use domain::{Ask, Input, ModelName, Priority, RequestId, Usage};
use fleet::DataClass;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use ledger::{Action, ReleaseReason};
use tokio::sync::oneshot;

use crate::admit::{self, Claim, NoHold, OpenHold, Place};
use crate::app::{App, ServedModel};
use crate::guard::{self, Draft, Order};
use crate::place::{self, Plan};
use crate::refusal::Refusal;
use crate::reply::end::End;
use crate::reply::listener::{Headers, Listener, Told, Wish};
use crate::reply::local::Reply;
use crate::reply::remote::{Begun, RemoteReply};
use crate::supply::{Attempt, SupplyUnit, UnitKind};
use crate::task::{self, Turn};
use crate::upstream::{Failure, HttpProvider, UpstreamAnswer};
use crate::visit::Visit;
use crate::who::Caller;
use crate::{events, needs, standing};

/// A request as its endpoint has understood it.
pub struct Spoken {
    pub heard: Heard,
    /// The client's own bytes, for an upstream that speaks its dialect.
    pub original: Bytes,
    /// Headers of the client's that an upstream of its dialect shall see.
    pub passed_headers: Headers,
}

/// Names the unit that answered.
const UNIT: HeaderName = HeaderName::from_static("x-baseload-unit");
const PROVIDER: HeaderName = HeaderName::from_static("x-baseload-provider");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-baseload-attempts");
/// Names the limit for which another model answers than was asked for; the answer's `model` says which.
const DOWNGRADED: HeaderName = HeaderName::from_static("x-baseload-downgraded-by");
/// Says that this answer is not in the ledger yet, and that no limit was asked.
const UNBOOKED: HeaderName = HeaderName::from_static("x-baseload-unbooked");

/// Returns the answer's beginning (streamed) or all of it. The answer is owned by a task of its own.
pub async fn answer(
    app: Arc<App>,
    visit: Arc<Visit>,
    caller: Caller,
    headers: &HeaderMap,
    priority: Priority,
    spoken: Spoken,
) -> Result<Response, Refusal> {
    let place = admit::place(&app)?;
    let class = data_class(headers)?;
    let Spoken { heard, original, passed_headers } = spoken;
    let Heard { mut ask, labels, ignored, form } = heard;
    let task = enter(&app, &caller, headers, &labels, &ask).await?;
    let mut passable = Some(original);
    if let Some(turn) = &task {
        if turn.is_hand_back {
            turn.prepare(&mut ask.input);
            passable = None;
        }
        // A cheaper model that is not served, or not for this caller, helps nobody.
        if let Some(cheaper) = &turn.downgrade_to {
            let asked = std::mem::replace(&mut ask.model, cheaper.clone());
            if place::plan(&app, &caller, &ask, class.clone()).is_err() {
                ask.model = asked;
            }
        }
    }
    let plan = place::plan(&app, &caller, &ask, class.clone())?;
    if let Some((unit, _)) = plan.first() {
        visit.model(&unit.facts.model);
    }
    let (told, heard) = oneshot::channel();
    let created = guard::unix_seconds();
    let passage = Passage {
        app: app.clone(),
        visit,
        caller,
        class,
        priority,
        ask,
        form,
        task,
        ignored,
        original: passable,
        passed_headers,
        created,
        notes: Vec::new(),
        attempts: 0,
    };
    app.generations.spawn(passage.fulfil(plan, place, told));
    // The task ends without a word only by a panic, which the runtime has logged.
    heard.await.unwrap_or(Err(Refusal::Internal))
}

async fn enter(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    labels: &Labels,
    ask: &Ask,
) -> Result<Option<Turn>, Refusal> {
    let messages = match &ask.input {
        Input::Chat(chat) => chat.messages.as_slice(),
        Input::Completion(_) => &[],
    };
    task::enter(app, caller, headers, labels, messages).await
}

fn data_class(headers: &HeaderMap) -> Result<Option<DataClass>, Refusal> {
    let Some(value) = headers.get(place::DATA_CLASS) else { return Ok(None) };
    let wrong = || {
        let message =
            format!("the header {} must be the name of a class of data, in plain letters", place::DATA_CLASS);
        dialect::BadRequest::new(message).at(place::DATA_CLASS).code("invalid_value")
    };
    let name = value.to_str().ok().filter(|name| !name.is_empty() && name.len() <= 64).ok_or_else(wrong)?;
    Ok(Some(DataClass::new(name)))
}

/// One request on its way to an answer.
struct Passage {
    app: Arc<App>,
    visit: Arc<Visit>,
    caller: Caller,
    class: Option<DataClass>,
    priority: Priority,
    ask: Ask,
    form: Arc<dyn Form>,
    task: Option<Turn>,
    ignored: Vec<String>,
    original: Option<Bytes>,
    passed_headers: Headers,
    created: u64,
    notes: Headers,
    attempts: usize,
}

/// Why one unit did not answer.
enum Setback {
    /// Nobody else can help either.
    Refused(Refusal),
    /// A limit has no room.
    Short(Box<ledger::Shortage>),
    /// This unit cannot, another may.
    Elsewhere(Refusal),
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
enum Started {
    Local(Box<(Order, crate::upstream::WorkStream, OpenHold, Attempt)>),
    Remote(Box<Remote>),
}

struct Remote {
    answer: UpstreamAnswer,
    provider: Arc<HttpProvider>,
    hold: OpenHold,
    attempt: Attempt,
    passes: bool,
    model: ModelName,
    output_tokens_max: Option<u64>,
}

impl Passage {
    async fn fulfil(mut self, mut plan: Plan, _place: Place, mut told: Told) {
        let mut is_downgraded = false;
        loop {
            let Some((unit, choice)) = plan.first() else { return };
            let cold = plan.need.input_tokens.saturating_sub(choice.warm_tokens);
            self.attempts += 1;
            let setback = match self.attempt(&plan, &unit, cold, &mut told).await {
                Ok(started) => {
                    self.remember(&plan, &unit);
                    return self.reply(started, &unit, told).await;
                }
                Err(setback) => setback,
            };
            let refusal = match setback {
                Setback::Left => {
                    self.visit.ended(End::ClientLeft.word());
                    return;
                }
                Setback::Refused(refusal) => refusal,
                Setback::Short(shortage) => {
                    let cheaper = match &shortage.limit.action {
                        Action::Downgrade(model) if !is_downgraded => Some(model.clone()),
                        _ => None,
                    };
                    match cheaper.and_then(|model| self.downgraded(&unit, model)) {
                        Some(cheaper) => {
                            let note = HeaderValue::from_str(&shortage.limit.name).ok();
                            self.notes.extend(note.map(|note| (DOWNGRADED, note)));
                            (plan, is_downgraded) = (cheaper, true);
                            continue;
                        }
                        None => NoHold::Short(shortage).refusal(),
                    }
                }
                Setback::Elsewhere(refusal) => {
                    plan.need.tried.push(unit.facts.id.clone());
                    plan.choose(&self.app, &self.caller);
                    let may_go_on = plan.first().is_some()
                        && self.attempts < plan.rules.attempts
                        && unit.live.retries.lock().spend(self.app.clock.now());
                    if may_go_on {
                        continue;
                    }
                    refusal
                }
            };
            // Nobody listens when the client has left; there is nothing to tell it then.
            let _ = told.send(Err(refusal));
            return;
        }
    }

    /// Returns the plan for a cheaper model, if that is another one and may be used.
    fn downgraded(&mut self, unit: &SupplyUnit, model: ModelName) -> Option<Plan> {
        if unit.answers_to(&model) {
            return None;
        }
        let asked = std::mem::replace(&mut self.ask.model, model);
        match place::plan(&self.app, &self.caller, &self.ask, self.class.clone()) {
            Ok(plan) => {
                plan.first().iter().for_each(|(unit, _)| self.visit.model(&unit.facts.model));
                Some(plan)
            }
            Err(_) => {
                self.ask.model = asked;
                None
            }
        }
    }

    async fn attempt(
        &self,
        plan: &Plan,
        unit: &Arc<SupplyUnit>,
        cold: u64,
        told: &mut Told,
    ) -> Result<Started, Setback> {
        unit.live.retries.lock().earn();
        match &unit.kind {
            UnitKind::Local(model) => self.start_here(plan, unit, model, cold, told).await,
            UnitKind::Remote { model, provider } => {
                self.start_there(plan, unit, model, provider.clone(), cold, told).await
            }
        }
    }

    async fn start_here(
        &self,
        plan: &Plan,
        unit: &SupplyUnit,
        model: &Arc<ServedModel>,
        cold: u64,
        told: &mut Told,
    ) -> Result<Started, Setback> {
        let app = &self.app;
        needs::check_engine_can(&self.ask).map_err(Refusal::from)?;
        let draft = Draft {
            form: self.form.clone(),
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
        let claim = self.claim(&model.name, order.way.clone(), order.estimate(expected));
        let hold = admit::hold(app, &claim).await?;
        let hold = self.take_turn(hold).await?;
        if told.is_closed() {
            let _ = hold.release(ReleaseReason::ClientLeft).await;
            return Err(Setback::Left);
        }
        let input = order.prompts.iter().map(|prompt| prompt.tokens.len() as u64).sum::<u64>();
        let attempt = match Attempt::begin(unit, app.clock, input, cold.min(input)) {
            Ok(attempt) => attempt,
            Err(reason) => {
                let _ = hold.release(ReleaseReason::Refused).await;
                return Err(Setback::Elsewhere(self.nobody_can(unit, &reason.to_string())));
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

    async fn start_there(
        &self,
        plan: &Plan,
        unit: &SupplyUnit,
        model: &str,
        provider: Arc<HttpProvider>,
        cold: u64,
        told: &mut Told,
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
        let claim = self.claim(&unit.facts.model, unit.way(plan.need.service_tier), estimate);
        let hold = admit::hold(app, &claim).await?;
        let hold = self.take_turn(hold).await?;
        let attempt = match Attempt::begin(unit, app.clock, plan.need.input_tokens, cold) {
            Ok(attempt) => attempt,
            Err(reason) => {
                let _ = hold.release(ReleaseReason::Refused).await;
                return Err(Setback::Elsewhere(self.nobody_can(unit, &reason.to_string())));
            }
        };
        let passes = passable.is_some();
        let extra: &[_] = if passes { &self.passed_headers } else { &[] };
        let beginning = UpstreamAnswer::begin(&provider, &*dialect, wire, target, extra, passes);
        let begun = tokio::select! {
            begun = beginning => begun,
            () = told.closed() => {
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
                events::UpstreamFailed {
                    request,
                    unit: unit_name,
                    attempt: self.attempts,
                    failure: &failure,
                }
                .emit();
                attempt.end(failure.outcome());
                let _ = hold.release(ReleaseReason::Failed).await;
                let is_worth_another = failure.is_worth_another();
                let refusal = upstream_failed(unit, &failure);
                Err(if is_worth_another { Setback::Elsewhere(refusal) } else { Setback::Refused(refusal) })
            }
        }
    }

    async fn reply(mut self, started: Started, unit: &SupplyUnit, told: Told) {
        let named = |name: &str| HeaderValue::from_str(name).ok();
        let provider = unit.way(domain::ServiceTier::Standard).provider;
        let about = [
            (UNIT, named(unit.facts.id.as_str())),
            (PROVIDER, named(provider.as_str())),
            (ATTEMPTS, Some(HeaderValue::from(self.attempts))),
        ];
        self.notes.extend(about.into_iter().filter_map(|(name, value)| Some((name, value?))));
        match started {
            Started::Local(started) => {
                let (mut order, works, hold, attempt) = *started;
                self.notes.extend(notes_of(&hold));
                order.notes = std::mem::take(&mut self.notes);
                let wish = self.wish(order.headers(), order.model.name.clone(), order.choices_total() as u32);
                let listener = Listener::new(&self.app, wish, told);
                Reply::new(self.app, self.visit, order, works, listener, hold, attempt).run().await;
            }
            Started::Remote(started) => {
                let Remote { answer, provider, hold, attempt, passes, model, output_tokens_max } = *started;
                self.notes.extend(notes_of(&hold));
                let choices = self.ask.choices;
                let headers =
                    guard::headers(&self.ignored, self.task.as_ref(), std::mem::take(&mut self.notes));
                let listener = Listener::new(&self.app, self.wish(headers, model, choices), told);
                let begun = Begun {
                    answer,
                    provider,
                    attempt,
                    hold,
                    listener,
                    passes,
                    hides_usage: !self.ask.stream_usage
                        && self.form.dialect() == dialect::openai::chat::DIALECT,
                    choices,
                    output_tokens_max,
                    prompt_bytes: needs::size(&self.ask).0,
                };
                RemoteReply::new(self.app, self.visit, begun).run().await;
            }
        }
    }

    fn wish(&self, headers: Headers, model: ModelName, choices: u32) -> Wish {
        let number = self.visit.id.as_str();
        let number = number.strip_prefix("req-").unwrap_or(number);
        let head =
            Head { id: self.form.answer_id(number), created: self.created, model, system_fingerprint: None };
        Wish { form: self.form.clone(), head, choices, stream: self.ask.stream, headers }
    }

    fn claim(&self, model: &ModelName, way: ledger::Circumstances, estimate: Usage) -> Claim {
        Claim {
            request: self.booked_as(),
            caller: self.caller.clone(),
            task: self.task.as_ref().map(|turn| turn.path.clone()),
            end_user: self.ask.user.clone(),
            model: model.clone(),
            way,
            estimate,
        }
    }

    /// Each attempt is booked by itself, because each may cost something.
    fn booked_as(&self) -> RequestId {
        match self.attempts {
            1 => self.visit.id.clone(),
            attempt => RequestId::new(format!("{}.{attempt}", self.visit.id)),
        }
    }

    /// Takes a task's last turn with its hold in the book, so that it is not lost to a limit or a full queue.
    async fn take_turn(&self, hold: OpenHold) -> Result<OpenHold, Setback> {
        if let Some(turn) = self.task.as_ref().filter(|turn| turn.is_hand_back && self.attempts == 1)
            && let Err(refusal) = task::hand_back(&self.app, turn).await
        {
            let _ = hold.release(ReleaseReason::Refused).await;
            return Err(Setback::Refused(refusal));
        }
        Ok(hold)
    }

    /// What the unit has seen will be warm there for a while.
    fn remember(&self, plan: &Plan, unit: &SupplyUnit) {
        let (lifetime, now) = (fleet::WarmIndex::LIFETIME, self.app.clock.now());
        self.app.warm.lock().saw(&unit.facts.id, &plan.prefix, lifetime, now);
    }

    fn nobody_can(&self, unit: &SupplyUnit, why: &str) -> Refusal {
        Refusal::NobodyCan {
            model: unit.facts.model.clone(),
            why: format!("{}: {why}", unit.facts.id),
            retry_after: self.app.limits.retry_after,
        }
    }
}

fn notes_of(hold: &OpenHold) -> Headers {
    let mut notes = standing::headers(&hold.standings, admit::now());
    notes.extend(hold.is_spooled.then_some((UNBOOKED, HeaderValue::from_static("spooled"))));
    notes
}

fn upstream_failed(unit: &SupplyUnit, failure: &Failure) -> Refusal {
    let fault = failure.fault();
    let kind = match failure {
        Failure::Silent { .. } | Failure::Stalled { .. } => Some(dialect::FaultKind::Timeout),
        _ => fault.map(|fault| fault.kind),
    };
    // Our credentials are nobody's business but ours, and what an upstream says of them might show some.
    let why = match kind {
        Some(dialect::FaultKind::Credentials) => "it does not take this server's credentials".to_owned(),
        _ => failure.to_string(),
    };
    let retry_after = fault.and_then(|fault| fault.retry_after);
    Refusal::UpstreamFailed { unit: unit.facts.id.to_string(), why, fault: kind, retry_after }
}

//! How does a request that was understood get its answer: choose → hold → start → reply, and again elsewhere while nothing was said?
//!
//! ```text
//! plan ─▶ first choice ─▶ hold ─▶ start ─┬─ first words ─▶ the client hears them: from here on there is no way back
//!   ▲                                    └─ no answer ─▶ release, tell the breaker, next choice (within the retry budget)
//!   └── the cheaper model that a limit without room leads to
//! ```

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::response::Response;
use dialect::openai::responses::Continuation;
use dialect::{Form, Head, Heard, Labels};
use domain::{Ask, Input, ModelName, Priority, RequestId};
use fleet::DataClass;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use ledger::Action;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::admit::{self, NoHold, OpenHold, Place};
use crate::app::App;
use crate::ears::Ears;
use crate::guard;
use crate::keeper::Keeper;
use crate::place::{self, Plan};
use crate::refusal::Refusal;
use crate::repeat;
use crate::reply::end::End;
use crate::reply::listener::{Headers, Listener, Told, Wish};
use crate::reply::local::{self, Reply};
use crate::reply::remote::{Begun, RemoteReply};
use crate::start::{Asked, Remote, Setback, Started};
use crate::supply::SupplyUnit;
use crate::task::{self, Turn};
use crate::upstream::Failure;
use crate::visit::Visit;
use crate::who::Caller;
use crate::{decisions, keeper, needs, standing, why};

/// A request as its endpoint has understood it.
pub struct Spoken {
    pub heard: Heard,
    /// The client's own bytes, for an upstream that speaks its dialect.
    pub original: Bytes,
    /// Headers of the client's that an upstream of its dialect shall see.
    pub passed_headers: Headers,
    /// What it says about the turns before it and after it, where turns are kept here.
    pub continuation: Option<Continuation>,
}

/// Names the unit that answered.
pub const UNIT: HeaderName = HeaderName::from_static("x-baseload-unit");
pub const PROVIDER: HeaderName = HeaderName::from_static("x-baseload-provider");
pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-baseload-attempts");
/// What an answer costs, on a whole answer: a stream's headers have left before it is known.
pub const COST: HeaderName = HeaderName::from_static("x-baseload-cost-usd");
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
    let Spoken { heard, original, passed_headers, continuation } = spoken;
    let Heard { mut ask, labels, ignored, form } = heard;
    let task = enter(&app, &caller, headers, &labels, &ask).await?;
    let mut passable = Some(original);
    let keeper = continuation.as_ref().and_then(|turn| Keeper::new(&app, turn, &ask, &form, &caller.account));
    if let Some(turn) = &continuation {
        if let Some(previous) = &turn.previous_response_id {
            let earlier = keeper::earlier(&app, &caller.account, previous, admit::now().millis()).await?;
            turn.go_on_from(&mut ask, earlier);
            passable = None;
        }
        // What is kept here has a name of ours, which the upstream's own bytes would not say.
        passable = passable.filter(|_| keeper.is_none());
    }
    if let Some(turn) = &task {
        if turn.is_hand_back {
            turn.prepare(&mut ask.input);
            passable = None;
        }
        // A cheaper model that is not served, or not for this caller, helps nobody.
        if let Some(cheaper) = &turn.downgrade_to {
            let asked = std::mem::replace(&mut ask.model, cheaper.clone());
            let plan = place::plan(&app, &caller, &ask, class.clone());
            if plan.is_err() || plan.is_ok_and(|plan| plan.first().is_none()) {
                ask.model = asked;
            }
        }
    }
    let plan = place::plan(&app, &caller, &ask, class.clone())?;
    if let Some(refusal) = plan.refusal(&app, &caller, &ask) {
        app.decisions.record(why::record(&visit.id, &caller, &ask.model, &plan, Vec::new(), None));
        return Err(refusal);
    }
    plan.first().iter().for_each(|(unit, _)| visit.model(&unit.facts.model));
    let repeat_as =
        passable.as_ref().and_then(|original| repeat::key(headers, &caller, &ask, &ignored, original, &plan));
    let (told, heard) = oneshot::channel();
    let created = guard::unix_seconds();
    // What is moved from stage to stage is moved as one word.
    let passage = Box::new(Passage {
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
        passed_by: 0,
        ears: Ears { tee: None, keeper },
        tried: Vec::new(),
    });
    let repeats = app.repeats.clone().zip(repeat_as).zip(plan.rules.cache);
    app.generations.spawn(async move {
        match repeats {
            Some(((repeats, key), rule)) => {
                Box::pin(passage.repeat(repeats, key, rule, plan, place, told)).await;
            }
            None => passage.fulfil(plan, place, told).await,
        }
    });
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

pub fn data_class(headers: &HeaderMap) -> Result<Option<DataClass>, Refusal> {
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
pub struct Passage {
    pub app: Arc<App>,
    pub visit: Arc<Visit>,
    pub caller: Caller,
    pub class: Option<DataClass>,
    pub priority: Priority,
    pub ask: Ask,
    pub form: Arc<dyn Form>,
    pub task: Option<Turn>,
    pub ignored: Vec<String>,
    pub original: Option<Bytes>,
    pub passed_headers: Headers,
    pub created: u64,
    pub notes: Headers,
    pub attempts: usize,
    /// Attempts that ended before their unit was asked: the route's limit does not count them.
    pub passed_by: usize,
    /// Whoever else hears the answer.
    pub ears: Ears,
    /// What became of each attempt, for whoever asks why.
    pub tried: Vec<decisions::Attempt>,
}

impl Passage {
    pub async fn fulfil(mut self: Box<Self>, mut plan: Plan, _place: Place, mut told: Told) {
        let mut is_downgraded = false;
        loop {
            let Some((first, _)) = plan.first() else { return };
            // A stream lives long: what only its beginning needs is not kept with it.
            let Asked { unit, began, outcome, beside } = Box::pin(self.ask(&plan, first, &mut told)).await;
            self.attempts += 1 + usize::from(beside.is_some());
            self.tried.extend(beside.map(|(unit, began, outcome)| {
                self.app.metrics.units.attempted(unit.facts.id.as_str(), outcome);
                why::attempt(unit.facts.id.as_str(), outcome, None, began.elapsed())
            }));
            let setback = match outcome {
                Ok(started) => {
                    self.remember(&plan, &unit);
                    self.tell_why(&plan, &unit, "answered", None, began);
                    let tier = plan.need.service_tier;
                    self.ears.tee.iter_mut().for_each(|tee| tee.made_by(&unit, tier));
                    return Box::pin(self.reply(started, &unit, told)).await;
                }
                Err(setback) => setback,
            };
            let was_asked = !matches!(setback, Setback::PassedBy(_));
            let refusal = match setback {
                Setback::Left => {
                    self.tell_why(&plan, &unit, "cancelled", None, began);
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
                Setback::Elsewhere(refusal) | Setback::PassedBy(refusal) => {
                    let word = if was_asked { "failed" } else { "passed_by" };
                    let reason = Some(refusal.to_string());
                    self.app.metrics.units.attempted(unit.facts.id.as_str(), word);
                    self.tried.push(why::attempt(unit.facts.id.as_str(), word, reason, began.elapsed()));
                    self.passed_by += usize::from(!was_asked);
                    let asked = self.attempts - self.passed_by;
                    if asked < plan.rules.attempts && plan.fall_back(&self.app, &self.caller, &unit) {
                        continue;
                    }
                    refusal
                }
            };
            self.tell_why(&plan, &unit, "refused", Some(refusal.to_string()), began);
            if let Some(tee) = self.ears.tee.take() {
                tee.fail(refusal.clone());
            }
            // Nobody listens when the client has left; there is nothing to tell it then.
            let _ = told.send(Err(refusal));
            return;
        }
    }

    /// Asks until somebody answers or the client leaves.
    async fn ask(&self, plan: &Plan, first: Arc<SupplyUnit>, told: &mut Told) -> Asked {
        let quit = CancellationToken::new();
        let asked = self.ask_first(plan, first, &quit);
        tokio::pin!(asked);
        tokio::select! {
            asked = &mut asked => asked,
            () = told.closed() => {
                quit.cancel();
                asked.await
            }
        }
    }

    /// Returns the plan for a cheaper model, if that is another one and may be used.
    fn downgraded(&mut self, unit: &SupplyUnit, model: ModelName) -> Option<Plan> {
        if unit.answers_to(&model) {
            return None;
        }
        let asked = std::mem::replace(&mut self.ask.model, model);
        match place::plan(&self.app, &self.caller, &self.ask, self.class.clone()) {
            Ok(plan) if plan.first().is_some() => {
                plan.first().iter().for_each(|(unit, _)| self.visit.model(&unit.facts.model));
                Some(plan)
            }
            _ => {
                self.ask.model = asked;
                None
            }
        }
    }

    async fn reply(mut self: Box<Self>, started: Started, unit: &SupplyUnit, told: Told) {
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
                let head = wish.head.clone();
                let listener = Listener::new(&self.app, wish, told);
                let Self { app, visit, ears, .. } = *self;
                let begun = local::Begun { order, works, listener, hold, attempt, ears, head };
                Box::new(Reply::new(app, visit, begun)).run().await;
            }
            Started::Remote(started) => {
                let Remote { answer, provider, hold, attempt, passes, model, output_tokens_max } = *started;
                self.notes.extend(notes_of(&hold));
                let choices = self.ask.choices;
                let headers =
                    guard::headers(&self.ignored, self.task.as_ref(), std::mem::take(&mut self.notes));
                let wish = self.wish(headers, model, choices);
                let head = wish.head.clone();
                let listener = Listener::new(&self.app, wish, told);
                let hides_usage = !self.ask.stream_usage && hides_usage(self.form.dialect());
                let prompt_bytes = needs::size(&self.ask).0;
                let Self { app, visit, ears, .. } = *self;
                let begun = Begun {
                    answer,
                    provider,
                    attempt,
                    hold,
                    listener,
                    passes,
                    hides_usage,
                    choices,
                    output_tokens_max,
                    prompt_bytes,
                    ears,
                    head,
                };
                Box::new(RemoteReply::new(app, visit, begun)).run().await;
            }
        }
    }

    pub fn wish(&self, headers: Headers, model: ModelName, choices: u32) -> Wish {
        Wish { form: self.form.clone(), head: self.head(&model), choices, stream: self.ask.stream, headers }
    }

    pub fn head(&self, model: &ModelName) -> Head {
        let number = self.visit.id.as_str();
        let id = self.form.answer_id(number.strip_prefix("req-").unwrap_or(number));
        Head { id, created: self.created, model: model.clone(), system_fingerprint: None }
    }

    /// Keeps the decision with what was tried, the last attempt among it.
    fn tell_why(
        &mut self,
        plan: &Plan,
        unit: &SupplyUnit,
        outcome: &'static str,
        reason: Option<String>,
        began: Instant,
    ) {
        let name = unit.facts.id.as_str();
        self.app.metrics.units.attempted(name, outcome);
        let is_told = self.tried.len() >= self.attempts;
        let last = (!is_told).then(|| why::attempt(name, outcome, reason, began.elapsed()));
        self.tried.extend(last);
        let tried = self.tried.clone();
        let chosen = (outcome == "answered").then_some(name);
        let record = why::record(&self.visit.id, &self.caller, &self.ask.model, plan, tried, chosen);
        self.app.decisions.record(record);
    }

    /// What the unit has seen will be warm there for a while.
    fn remember(&self, plan: &Plan, unit: &SupplyUnit) {
        let (lifetime, now) = (fleet::WarmIndex::LIFETIME, self.app.clock.now());
        self.app.warm.lock().saw(&unit.facts.id, &plan.prefix, lifetime, now);
    }
}

/// Returns the name that an attempt is booked under: each by itself, because each may cost something.
pub fn booked_as(request: &RequestId, attempt: usize) -> RequestId {
    match attempt {
        1 => request.clone(),
        attempt => RequestId::new(format!("{request}.{attempt}")),
    }
}

/// Whether the dialect leaves it to the client to ask for a stream's usage.
fn hides_usage(dialect: &str) -> bool {
    use dialect::openai::{chat, completion};
    dialect == chat::DIALECT || dialect == completion::DIALECT
}

fn notes_of(hold: &OpenHold) -> Headers {
    let mut notes = standing::headers(&hold.standings, admit::now());
    notes.extend(hold.is_spooled.then_some((UNBOOKED, HeaderValue::from_static("spooled"))));
    notes
}

pub fn upstream_failed(unit: &SupplyUnit, failure: &Failure) -> Refusal {
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

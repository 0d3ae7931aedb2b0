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
use content::{AskKey, CachedAnswer, Follower, MadeBy, Step};
use dialect::openai::responses::Continuation;
use dialect::{Form, Head, Heard, Labels, Target};
use domain::{AnswerEvent, Ask, Input, ModelName, Priority, RequestId, Usage, UsageReport};
use fleet::DataClass;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use ledger::{Action, ReleaseReason, SaveOutcome, SavedBy, Saving};
use tokio::sync::oneshot;

use crate::admit::{self, Claim, NoHold, OpenHold, Place};
use crate::app::{App, ServedModel};
use crate::ears::Ears;
use crate::guard::{self, Draft, Order};
use crate::keeper::Keeper;
use crate::place::{self, Plan};
use crate::refusal::Refusal;
use crate::repeat::{self, Found, Repeats};
use crate::reply::end::End;
use crate::reply::listener::{Closing, Headers, Listener, Stir, Told, Wish};
use crate::reply::local::{self, Reply};
use crate::reply::remote::{Begun, RemoteReply};
use crate::supply::{Attempt, CacheRule, SupplyUnit, UnitKind};
use crate::task::{self, Turn};
use crate::upstream::{Failure, HttpProvider, UpstreamAnswer};
use crate::visit::Visit;
use crate::who::Caller;
use crate::{decisions, events, keeper, needs, standing, why};

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
/// `hit`, `joined` or `miss`, where a route keeps answers.
const CACHE: HeaderName = HeaderName::from_static("x-baseload-cache");
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
        ears: Ears { tee: None, keeper },
        tried: Vec::new(),
    };
    let repeats = app.repeats.clone().zip(repeat_as).zip(plan.rules.cache);
    app.generations.spawn(async move {
        match repeats {
            Some(((repeats, key), rule)) => passage.repeat(repeats, key, rule, plan, place, told).await,
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
    /// Whoever else hears the answer.
    ears: Ears,
    /// What became of each attempt, for whoever asks why.
    tried: Vec<decisions::Attempt>,
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
    /// Gives an answer that was made for another, or makes one that others may have.
    async fn repeat(
        mut self,
        repeats: Arc<Repeats>,
        key: AskKey,
        rule: CacheRule,
        plan: Plan,
        place: Place,
        told: Told,
    ) {
        match repeats.look(rule, key, &plan).await {
            Found::Nothing(tee) => {
                self.ears.tee = Some(tee);
                self.notes.push((CACHE, HeaderValue::from_static("miss")));
                self.fulfil(plan, place, told).await;
            }
            Found::Kept(kept) => self.give_again(kept, told).await,
            Found::Joined(follower) => self.follow(follower, repeats, key, rule, plan, place, told).await,
        }
    }

    async fn give_again(mut self, kept: Arc<CachedAnswer>, told: Told) {
        if let Err(refusal) = self.save(&kept.made_by, kept.usage, SavedBy::Cache).await {
            let _ = told.send(Err(refusal));
            return;
        }
        let mut listener = self.listener_of_another("hit", &kept.made_by, told);
        let last = kept.answer.choices.iter().rposition(|choice| choice.finish.is_some());
        let mut last_finish = None;
        listener.open();
        for event in kept.answer.events() {
            match event {
                AnswerEvent::Delta { choice, delta } => listener.say(choice, vec![delta]),
                AnswerEvent::Finished { choice, finish } if Some(choice as usize) == last => {
                    last_finish = Some((choice, finish));
                }
                AnswerEvent::Finished { choice, finish } => listener.finish(choice, finish),
                AnswerEvent::Began { .. } | AnswerEvent::Used(_) => {}
            }
        }
        self.visit.ended("repeated");
        let report = of_usage(kept.usage);
        if let Some(mut keeper) = self.ears.keeper.take() {
            kept.answer.events().iter().for_each(|event| keeper.say(event));
            keeper.complete(&self.head(&kept.made_by.model), &report).await;
        }
        listener.close(Closing::Written { last_finish, report }).await;
    }

    /// Tells an answer that is being made for another.
    #[expect(clippy::too_many_arguments, reason = "it may have to make the answer itself after all")]
    async fn follow(
        mut self,
        mut follower: Follower<Refusal>,
        repeats: Arc<Repeats>,
        key: AskKey,
        rule: CacheRule,
        plan: Plan,
        place: Place,
        mut told: Told,
    ) {
        let mut step = tokio::select! {
            step = follower.next() => step,
            () = told.closed() => return,
        };
        if let Step::Lead(leader) = step {
            self.ears.tee = Some(repeats.tee(rule, key, leader));
            return self.fulfil(plan, place, told).await;
        }
        let Some(made_by) = follower.made_by().filter(|made_by| repeat::admits(&plan, made_by)) else {
            // Somebody answers it where this request may not go: it is answered by itself.
            return self.fulfil(plan, place, told).await;
        };
        let mut listener = self.listener_of_another("joined", &made_by, told);
        listener.open();
        let mut finishes = Vec::new();
        loop {
            match step {
                Step::Event(event) => {
                    self.ears.say(&event);
                    match &*event {
                        AnswerEvent::Delta { choice, delta } => listener.say(*choice, vec![delta.clone()]),
                        AnswerEvent::Finished { choice, finish } => finishes.push((*choice, finish.clone())),
                        AnswerEvent::Began { .. } | AnswerEvent::Used(_) => {}
                    }
                }
                Step::Finished(usage) => {
                    if let Err(refusal) = self.save(&made_by, usage, SavedBy::Twin).await {
                        return listener.break_off(refusal);
                    }
                    let last_finish = finishes.pop();
                    finishes.into_iter().for_each(|(choice, finish)| listener.finish(choice, finish));
                    self.visit.ended("joined");
                    let report = of_usage(usage);
                    let head = self.head(&made_by.model);
                    std::mem::take(&mut self.ears).complete(&head, &report).await;
                    return listener.close(Closing::Written { last_finish, report }).await;
                }
                Step::Failed(refusal) => return listener.break_off(refusal),
                Step::Left | Step::Lead(_) => {
                    let why = "the request that it was joined to was given up".to_owned();
                    return listener.break_off(Refusal::UpstreamBroke { why });
                }
            }
            if listener.flush().await.is_err() {
                return;
            }
            step = tokio::select! {
                step = follower.next() => step,
                stir = listener.stir() => match stir {
                    Stir::Gone => return,
                    Stir::PingTime => {
                        listener.ping();
                        follower.next().await
                    }
                },
            };
        }
    }

    /// Books what was saved; the limits on requests count it all the same.
    async fn save(&self, made_by: &MadeBy, usage: Usage, way: SavedBy) -> Result<(), Refusal> {
        let saving = Saving {
            request: self.visit.id.clone(),
            account: self.caller.account.clone(),
            key: self.caller.key.as_ref().map(|key| key.id.clone()),
            task: self.task.as_ref().map(|turn| turn.path.clone()),
            end_user: self.ask.user.clone(),
            model: made_by.model.clone(),
            circumstances: ledger::Circumstances {
                provider: made_by.provider.clone(),
                service_tier: made_by.service_tier,
                region: made_by.region.clone(),
            },
            usage,
            at: admit::now(),
            way,
        };
        match self.app.journal.save(saving).await {
            Ok(SaveOutcome::Booked(..)) => Ok(()),
            Ok(SaveOutcome::Refused(shortage)) => Err(NoHold::Short(Box::new(shortage)).refusal()),
            Err(error) => {
                let request = self.visit.id.as_str();
                events::LedgerFailed { request, doing: "save", error: &error, is_last_try: true }.emit();
                Err(Refusal::LedgerUnavailable { retry_after: self.app.limits.retry_after })
            }
        }
    }

    fn listener_of_another(&mut self, how: &'static str, made_by: &MadeBy, told: Told) -> Listener {
        let named = |name: &str| HeaderValue::from_str(name).ok();
        self.notes.push((CACHE, HeaderValue::from_static(how)));
        self.notes.extend(named(&made_by.unit).map(|unit| (UNIT, unit)));
        self.notes.extend(named(made_by.provider.as_str()).map(|provider| (PROVIDER, provider)));
        let headers = guard::headers(&self.ignored, self.task.as_ref(), std::mem::take(&mut self.notes));
        let wish = self.wish(headers, made_by.model.clone(), self.ask.choices);
        Listener::new(&self.app, wish, told)
    }

    async fn fulfil(mut self, mut plan: Plan, _place: Place, mut told: Told) {
        let mut is_downgraded = false;
        loop {
            let Some((unit, choice)) = plan.first() else { return };
            let cold = plan.need.input_tokens.saturating_sub(choice.warm_tokens);
            self.attempts += 1;
            let began = Instant::now();
            let setback = match self.attempt(&plan, &unit, cold, &mut told).await {
                Ok(started) => {
                    self.remember(&plan, &unit);
                    self.tell_why(&plan, &unit, "answering", None, began);
                    let tier = plan.need.service_tier;
                    self.ears.tee.iter_mut().for_each(|tee| tee.made_by(&unit, tier));
                    return self.reply(started, &unit, told).await;
                }
                Err(setback) => setback,
            };
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
                Setback::Elsewhere(refusal) => {
                    let reason = Some(refusal.to_string());
                    self.tried.push(why::attempt(unit.facts.id.as_str(), "failed", reason, began.elapsed()));
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
            self.tell_why(&plan, &unit, "refused", Some(refusal.to_string()), began);
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
                let head = wish.head.clone();
                let listener = Listener::new(&self.app, wish, told);
                let (app, ears) = (self.app, self.ears);
                Reply::new(
                    app,
                    self.visit,
                    local::Begun { order, works, listener, hold, attempt, ears, head },
                )
                .run()
                .await;
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
                    ears: self.ears,
                    head,
                };
                RemoteReply::new(self.app, self.visit, begun).run().await;
            }
        }
    }

    fn wish(&self, headers: Headers, model: ModelName, choices: u32) -> Wish {
        Wish { form: self.form.clone(), head: self.head(&model), choices, stream: self.ask.stream, headers }
    }

    fn head(&self, model: &ModelName) -> Head {
        let number = self.visit.id.as_str();
        let id = self.form.answer_id(number.strip_prefix("req-").unwrap_or(number));
        Head { id, created: self.created, model: model.clone(), system_fingerprint: None }
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

    fn booked_as(&self) -> RequestId {
        booked_as(&self.visit.id, self.attempts)
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

    /// Keeps the decision with what was tried, the last attempt among it.
    fn tell_why(
        &mut self,
        plan: &Plan,
        unit: &SupplyUnit,
        outcome: &str,
        reason: Option<String>,
        began: Instant,
    ) {
        let name = unit.facts.id.as_str();
        let is_told = self.tried.len() >= self.attempts;
        let last = (!is_told).then(|| why::attempt(name, outcome, reason, began.elapsed()));
        self.tried.extend(last);
        let tried = self.tried.clone();
        let chosen = (outcome == "answering").then_some(name);
        let record = why::record(&self.visit.id, &self.caller, &self.ask.model, plan, tried, chosen);
        self.app.decisions.record(record);
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
            is_rate: false,
        }
    }
}

/// Returns the name that an attempt is booked under: each by itself, because each may cost something.
pub fn booked_as(request: &RequestId, attempt: usize) -> RequestId {
    match attempt {
        1 => request.clone(),
        attempt => RequestId::new(format!("{request}.{attempt}")),
    }
}

fn of_usage(usage: Usage) -> UsageReport {
    UsageReport { usage, service_tier: None }
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

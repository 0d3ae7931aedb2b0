//! How is an answer given again that was made for another?

use std::sync::Arc;

use content::{AskKey, CachedAnswer, Follower, MadeBy, Step};
use domain::{AnswerEvent, Usage, UsageReport};
use http::header::{HeaderName, HeaderValue};
use ledger::{Circumstances, ReleaseReason, SaveOutcome, SavedBy, Saving};

use crate::admit::{self, Claim, NoHold, Place};
use crate::passage::{PROVIDER, Passage, UNIT};
use crate::place::Plan;
use crate::refusal::Refusal;
use crate::repeat::{self, Found, Repeats};
use crate::reply::listener::{Closing, Listener, Stir, Told};
use crate::supply::CacheRule;
use crate::{events, guard};

/// `hit`, `joined` or `miss`, where a route keeps answers.
const CACHE: HeaderName = HeaderName::from_static("x-baseload-cache");

impl Passage {
    /// Gives an answer that was made for another, or makes one that others may have.
    pub async fn repeat(
        mut self: Box<Self>,
        repeats: Arc<Repeats>,
        key: AskKey,
        rule: CacheRule,
        plan: Plan,
        place: Place,
        told: Told,
    ) {
        match repeats.look(rule, key, &plan).await {
            Found::Nothing(tee) => {
                self.app.metrics.units.answered_from("made");
                self.ears.tee = Some(tee);
                self.notes.push((CACHE, HeaderValue::from_static("miss")));
                self.fulfil(plan, place, told).await;
            }
            Found::Kept(kept) => self.give_again(kept, told).await,
            Found::Joined(follower) => self.follow(follower, repeats, key, rule, plan, place, told).await,
        }
    }

    async fn give_again(mut self: Box<Self>, kept: Arc<CachedAnswer>, told: Told) {
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
        self.app.metrics.units.answered_from("kept");
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
        mut self: Box<Self>,
        mut follower: Follower<Refusal>,
        repeats: Arc<Repeats>,
        key: AskKey,
        rule: CacheRule,
        plan: Plan,
        place: Place,
        mut told: Told,
    ) {
        let step = tokio::select! {
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
        // Of nothing, but in the book: limits on requests are asked before anything is given.
        let claim = Claim {
            request: self.visit.id.clone(),
            caller: self.caller.clone(),
            task: self.task.as_ref().map(|turn| turn.path.clone()),
            end_user: self.ask.user.clone(),
            model: made_by.model.clone(),
            way: way_of(&made_by),
            estimate: Usage::default(),
        };
        let hold = match admit::hold(&self.app, &claim).await {
            Ok(hold) => hold,
            Err(no_hold) => {
                let _ = told.send(Err(no_hold.refusal()));
                return;
            }
        };
        match self.tell_along(follower, step, &made_by, told).await {
            // Saving it has ended the hold.
            true => drop(hold),
            false => drop(hold.release(ReleaseReason::Failed).await),
        }
    }

    /// Tells an answer as it is made for another; returns whether it was told whole and is booked as saved.
    async fn tell_along(
        mut self: Box<Self>,
        mut follower: Follower<Refusal>,
        mut step: Step<Refusal>,
        made_by: &MadeBy,
        told: Told,
    ) -> bool {
        let mut listener = self.listener_of_another("joined", made_by, told);
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
                    if let Err(refusal) = self.save(made_by, usage, SavedBy::Twin).await {
                        listener.break_off(refusal);
                        return false;
                    }
                    let last_finish = finishes.pop();
                    finishes.into_iter().for_each(|(choice, finish)| listener.finish(choice, finish));
                    self.app.metrics.units.answered_from("joined");
                    self.visit.ended("joined");
                    let report = of_usage(usage);
                    let head = self.head(&made_by.model);
                    std::mem::take(&mut self.ears).complete(&head, &report).await;
                    listener.close(Closing::Written { last_finish, report }).await;
                    return true;
                }
                Step::Failed(refusal) => {
                    listener.break_off(refusal);
                    return false;
                }
                Step::Left | Step::Lead(_) => {
                    let why = "the request that it was joined to was given up".to_owned();
                    listener.break_off(Refusal::UpstreamBroke { why });
                    return false;
                }
            }
            if listener.flush().await.is_err() {
                return false;
            }
            step = tokio::select! {
                step = follower.next() => step,
                stir = listener.stir() => match stir {
                    Stir::Gone => return false,
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
            circumstances: way_of(made_by),
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
}

fn way_of(made_by: &MadeBy) -> Circumstances {
    let MadeBy { provider, service_tier, region, .. } = made_by;
    Circumstances { provider: provider.clone(), service_tier: *service_tier, region: region.clone() }
}

fn of_usage(usage: Usage) -> UsageReport {
    UsageReport { usage, service_tier: None }
}

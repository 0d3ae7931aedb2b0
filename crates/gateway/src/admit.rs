//! Is there room for one more request, and is it in the book before it starts?

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use domain::{ModelName, RequestId, Usage, UsageEnd, UsageSource};
use ledger::{
    Amount, Circumstances, EndOutcome, Grow, GrowOutcome, Hold, HoldOutcome, Journal, LedgerError, Release,
    ReleaseReason, Settlement, Shortage, Standing, TaskPath, Timestamp,
};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::events;
use crate::metrics::LevelGuard;
use crate::refusal::Refusal;
use crate::spool::{Spool, SpooledEnd};
use crate::who::Caller;

/// A place among the requests under way, held until this is dropped.
pub struct Place(#[expect(dead_code, reason = "its drop is its purpose")] OwnedSemaphorePermit);

/// Returns a place, or refuses at once: waiting here would only hide a queue.
pub fn place(app: &App) -> Result<Place, Refusal> {
    let retry_after = app.limits.retry_after;
    if app.drain.is_cancelled() {
        return Err(Refusal::Draining { retry_after });
    }
    let full = |_| Refusal::RequestsFull { limit: app.limits.requests, retry_after };
    app.places.clone().try_acquire_owned().map(Place).map_err(full)
}

/// A hold that is open in the book. It must be settled or released; dropping it does neither, and only the expiry of
/// holds would find it.
#[must_use]
pub struct OpenHold {
    app: Arc<App>,
    /// As it was asked for, or written to the spool.
    hold: Hold,
    /// The ledger did not take it: it is in the spool.
    pub is_spooled: bool,
    /// What was held when it was opened, and how its limits then stood.
    pub estimate: Usage,
    pub standings: Vec<Standing>,
    _open: LevelGuard,
}

/// The requests whose holds somebody here still means to end: at most [`crate::Limits::requests`], and those whose ending
/// is being tried again.
#[derive(Default)]
pub struct LivingHolds(Mutex<HashSet<RequestId>>);

impl LivingHolds {
    pub fn contains(&self, request: &RequestId) -> bool {
        self.0.lock().contains(request)
    }
}

impl Drop for OpenHold {
    fn drop(&mut self) {
        self.app.holds.0.lock().remove(&self.hold.request);
        self.app.spool.iter().for_each(|spool| spool.abandon(&self.hold.request, now()));
    }
}

/// What a request may use, and on whose account.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The request's name, or that of one attempt at it: each attempt that may cost something is booked by itself.
    pub request: RequestId,
    pub caller: Caller,
    pub task: Option<TaskPath>,
    pub end_user: Option<String>,
    pub model: ModelName,
    pub way: Circumstances,
    pub estimate: Usage,
}

/// Books what the claim may use, durably; fails closed, because what is not booked is not started.
pub async fn hold(app: &Arc<App>, claim: &Claim) -> Result<OpenHold, NoHold> {
    let estimate = claim.estimate;
    match hold_of(app, claim, estimate).await {
        // What is left may be enough for the beginning of an answer: its hold grows as far as it can.
        Err(NoHold::Short(shortage))
            if shortage.remaining > Amount(0) && estimate.output > SHRUNK_TOKENS_MIN =>
        {
            let shrunk = Usage { output: (estimate.output / 4).max(SHRUNK_TOKENS_MIN), ..estimate };
            hold_of(app, claim, shrunk).await
        }
        outcome => outcome,
    }
}

/// Returns how many tokens of answer to hold at first.
pub fn expected_output(app: &App, caller: &Caller, model: &ModelName) -> u32 {
    app.estimates.output_tokens(&caller.account, model).unwrap_or(app.limits.hold_output_tokens)
}

/// A hold for fewer tokens of answer than this is not worth its prompt.
const SHRUNK_TOKENS_MIN: u64 = 16;

/// Why there is no hold.
pub enum NoHold {
    /// A limit has no room.
    Short(Box<Shortage>),
    Refused(Refusal),
}

impl NoHold {
    /// Returns what the client hears.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Short(shortage) => Refusal::LimitReached { shortage, now: now() },
            Self::Refused(refusal) => refusal,
        }
    }
}

async fn hold_of(app: &Arc<App>, claim: &Claim, estimate: Usage) -> Result<OpenHold, NoHold> {
    let Claim { request, caller, task, end_user, model, way, .. } = claim;
    let hold = Hold {
        task: task.clone(),
        key: caller.key.as_ref().map(|key| key.id.clone()),
        end_user: end_user.clone(),
        circumstances: way.clone(),
        ..Hold::new(request.clone(), caller.account.clone(), model.clone(), estimate, now())
    };
    let mut open = OpenHold {
        app: app.clone(),
        hold: hold.clone(),
        is_spooled: false,
        estimate,
        standings: Vec::new(),
        _open: app.metrics.holds_open.enter(),
    };
    app.holds.0.lock().insert(request.clone());
    let began = Instant::now();
    if !app.breaker.may_ask(began) {
        return open.spool().await.map_err(|_| unavailable(app));
    }
    let outcome = app.journal.hold(hold).await;
    app.metrics.ledger_took("hold", began.elapsed());
    match &outcome {
        Err(error) if error.is_retryable() => app.breaker.failed(Instant::now()),
        _ => app.breaker.answered(),
    }
    match outcome {
        Ok(HoldOutcome::Opened(held, standings)) => {
            open.hold.task.iter().for_each(|task| app.tasks.remembered.held(task, &standings));
            (open.estimate, open.standings) = (held.hold.estimate, standings);
            Ok(open)
        }
        Ok(HoldOutcome::Refused(shortage)) => Err(NoHold::Short(Box::new(shortage))),
        Ok(HoldOutcome::AlreadyOpen(_) | HoldOutcome::AlreadyEnded(..)) => {
            Err(NoHold::Refused(Refusal::Internal))
        }
        Err(LedgerError::Unpriced { model, limit }) => {
            Err(NoHold::Refused(Refusal::Unpriced { model, limit }))
        }
        Err(error) => {
            events::LedgerFailed {
                request: request.as_str(),
                doing: "hold",
                error: &error,
                is_last_try: false,
            }
            .emit();
            if error.is_retryable() {
                match open.spool().await {
                    Ok(open) => return Ok(open),
                    // A call that timed out may have been booked all the same.
                    Err(open) => open.retry(Ending::Release(ReleaseReason::Failed)),
                }
            }
            Err(unavailable(app))
        }
    }
}

fn unavailable(app: &App) -> NoHold {
    NoHold::Refused(Refusal::LedgerUnavailable { retry_after: app.limits.retry_after })
}

/// What came of the wish to hold more.
pub enum Growth {
    /// This much is held in all.
    Held(Usage),
    /// A limit has no room for more.
    Short,
    /// Somebody else has ended the hold, or the ledger does not answer: nothing more may be delivered than is held.
    Lost,
}

/// Returns what holds more for an answer under way.
pub fn grow(open: &OpenHold, estimate: Usage) -> impl Future<Output = Growth> + Send + use<> {
    let hold = Hold { estimate, ..open.hold.clone() };
    let (app, is_spooled) = (open.app.clone(), open.is_spooled);
    async move {
        let spool = app.spool.clone().filter(|_| is_spooled || app.breaker.is_resting(Instant::now()));
        match spool {
            Some(spool) => grow_in_spool(&spool, hold).await,
            None => grow_in_ledger(&app, hold).await,
        }
    }
}

/// What is delivered is covered by a durable line, as it would be by a hold.
async fn grow_in_spool(spool: &Arc<Spool>, hold: Hold) -> Growth {
    let (request, estimate) = (hold.request.clone(), hold.estimate);
    match spool.hold(hold).await {
        Ok(()) => Growth::Held(estimate),
        Err(error) => {
            events::SpoolFailed { request: request.as_str(), error: &error }.emit();
            Growth::Lost
        }
    }
}

async fn grow_in_ledger(app: &App, hold: Hold) -> Growth {
    let (request, estimate) = (hold.request.clone(), hold.estimate);
    let began = Instant::now();
    let outcome = app.journal.grow(Grow { request: request.clone(), estimate, at: now() }).await;
    app.metrics.ledger_took("grow", began.elapsed());
    match outcome {
        Ok(GrowOutcome::Grown(held, _)) => Growth::Held(held.hold.estimate),
        Ok(GrowOutcome::Refused(_)) => Growth::Short,
        Ok(GrowOutcome::Ended(..)) => Growth::Lost,
        Err(error) => {
            let request = request.as_str();
            events::LedgerFailed { request, doing: "grow", error: &error, is_last_try: true }.emit();
            match &app.spool {
                Some(spool) if error.is_retryable() => grow_in_spool(spool, hold).await,
                _ => Growth::Lost,
            }
        }
    }
}

impl OpenHold {
    /// Returns what the request is held and will be booked as.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Books what was used; durable on `Ok`. On an error the call is tried again behind the caller's back.
    pub async fn settle(self, usage: Usage, end: UsageEnd, source: UsageSource) -> Result<(), Refusal> {
        self.end(Ending::Settle(usage, end, source)).await
    }

    /// Gives the hold back, because nothing was used.
    pub async fn release(self, reason: ReleaseReason) -> Result<(), Refusal> {
        self.end(Ending::Release(reason)).await
    }

    /// Writes the hold to the spool; gives it back where there is none, or it takes no more.
    async fn spool(mut self) -> Result<OpenHold, Box<OpenHold>> {
        let Some(spool) = self.app.spool.clone() else { return Err(Box::new(self)) };
        match spool.hold(self.hold.clone()).await {
            Ok(()) => {
                self.is_spooled = true;
                self.app.metrics.spooled.inc();
                Ok(self)
            }
            Err(error) => {
                events::SpoolFailed { request: self.hold.request.as_str(), error: &error }.emit();
                Err(Box::new(self))
            }
        }
    }

    /// Writes the end to the spool; the ledger hears it when it is well again.
    async fn end_in_spool(&self, spool: &Arc<Spool>, ending: &Ending) -> Result<(), Refusal> {
        spool.end(self.hold.clone(), ending.spooled()).await.map_err(|error| {
            events::SpoolFailed { request: self.hold.request.as_str(), error: &error }.emit();
            Refusal::NotBooked { retry_after: self.app.limits.retry_after }
        })
    }

    async fn end(self, ending: Ending) -> Result<(), Refusal> {
        let began = Instant::now();
        let spool = self.app.spool.clone();
        if let Some(spool) = &spool
            && (spool.contains(&self.hold.request) || self.app.breaker.is_resting(began))
        {
            return self.end_in_spool(spool, &ending).await;
        }
        let ended = ending.book(&self.app.journal, &self.hold.request).await;
        self.app.metrics.ledger_took(ending.verb(), began.elapsed());
        let error = match ended {
            Ok(outcome) => {
                self.hold.task.iter().for_each(|task| self.app.tasks.remembered.settled(task, &outcome));
                return Ok(());
            }
            Err(error) => error,
        };
        if let Some(spool) = spool.filter(|_| error.is_retryable()) {
            self.app.breaker.failed(Instant::now());
            self.report(&ending, &error, false);
            return self.end_in_spool(&spool, &ending).await;
        }
        let refusal = Refusal::NotBooked { retry_after: self.app.limits.retry_after };
        let is_last_try = !error.is_retryable();
        self.report(&ending, &error, is_last_try);
        if !is_last_try {
            self.retry(ending);
        }
        Err(refusal)
    }

    /// Tries again until the ledger takes it or [`crate::Limits::settle_retry`] is over. Every call is idempotent.
    fn retry(self, ending: Ending) {
        let app = self.app.clone();
        app.generations.spawn(async move {
            let give_up = Instant::now() + self.app.limits.settle_retry;
            loop {
                tokio::time::sleep(RETRY_PAUSE).await;
                match ending.book(&self.app.journal, &self.hold.request).await {
                    Ok(_) => return,
                    // A hold that timed out was never booked: there is nothing to give back.
                    Err(LedgerError::NoHold { .. }) => return,
                    Err(error) if error.is_retryable() && Instant::now() < give_up => {}
                    Err(error) => return self.report(&ending, &error, true),
                }
            }
        });
    }

    fn report(&self, ending: &Ending, error: &LedgerError, is_last_try: bool) {
        let request = self.hold.request.as_str();
        events::LedgerFailed { request, doing: ending.verb(), error, is_last_try }.emit();
    }
}

const RETRY_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
enum Ending {
    Settle(Usage, UsageEnd, UsageSource),
    Release(ReleaseReason),
}

impl Ending {
    async fn book(&self, journal: &Journal, request: &RequestId) -> Result<EndOutcome, LedgerError> {
        let (request, at) = (request.clone(), now());
        match *self {
            Self::Settle(usage, end, source) => {
                journal.settle(Settlement { request, usage, end, source, at }).await
            }
            Self::Release(reason) => journal.release(Release { request, reason, at }).await,
        }
    }
    fn spooled(&self) -> SpooledEnd {
        let at = now();
        match *self {
            Self::Settle(usage, end, source) => SpooledEnd::Settled { usage, end, source, at },
            Self::Release(reason) => SpooledEnd::Released { reason, at },
        }
    }
    fn verb(&self) -> &'static str {
        match self {
            Self::Settle(..) => "settle",
            Self::Release(_) => "release",
        }
    }
}

/// Books what is in the spool whenever the ledger takes it, until `stop`; and then once more.
pub async fn replay_spooled(app: Arc<App>, stop: impl Future<Output = ()> + Send) {
    let Some(spool) = app.spool.clone() else { return };
    tokio::pin!(stop);
    let mut is_last = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE), if !is_last => {}
            () = &mut stop, if !is_last => is_last = true,
        }
        if spool.has_ended() && (is_last || app.breaker.may_ask(Instant::now())) {
            match spool.replay(&app.journal).await {
                Err(error) if error.is_retryable() => app.breaker.failed(Instant::now()),
                _ => app.breaker.answered(),
            }
        }
        app.metrics.spool_waiting.set(i64::try_from(spool.waiting()).unwrap_or(i64::MAX));
        if is_last {
            return;
        }
    }
}

pub fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

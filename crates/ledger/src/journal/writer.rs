//! How many callers share one commit: the single task that writes.
//!
//! A commit costs a sync of the disk, whatever is in it. So the writer takes all calls that wait, decides each by the book
//! inside one transaction, commits once, and only then answers them all. A call that comes meanwhile is in the next batch.
//! What the book must know is fetched before the first decision, and what it decided is written after the last.
//! When the store fails, nothing of the batch is booked, each caller is told, and the next batch begins with a new connection.

use std::borrow::Cow;
use std::time::Duration;

use domain::{Account, RequestId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::JournalOptions;
use super::database::Place;
use super::escrow::{Refused, Reserved};
use super::lock::ServerLock;
use super::statements::ClosedMonth;
use super::store::{self, Fence, Store, StoreError};
use crate::book::{self, Decision};
use crate::budget::NewLimit;
use crate::events::{CallFailed, StoreFailed, StoreRecovered};
use crate::{AccountChange, AccountRecord, Alert, Limit, NewAccount, Rotation};
use crate::{
    EndOutcome, Grow, GrowOutcome, Held, Hold, HoldOutcome, KeyId, KeyRecord, LedgerError, LossReason,
    Position, PriceChange, PriceVersion, Release, Saving, Settlement, Standing, Timestamp,
};
use crate::{NewTask, TaskChange, TaskRecord};

/// All that the writer can be asked.
#[derive(Clone, Debug)]
pub enum Input {
    Hold(Hold),
    /// A hold that no limit refuses, because the work is done.
    HoldServed(Hold),
    Grow(Grow),
    Save(Saving),
    Settle(Settlement),
    Release(Release),
    Expire {
        requests: Vec<RequestId>,
        reason: LossReason,
        at: Timestamp,
    },
    /// This process lives; what dead ones left open is closed.
    Beat {
        at: Timestamp,
        silence_max: Duration,
    },
    DropOld {
        before: Timestamp,
    },
    /// Look after limits: give back what is idle and others lack, notice thresholds.
    Tend {
        at: Timestamp,
    },
    SetLimit(NewLimit),
    EndLimit {
        name: String,
        at: Timestamp,
    },
    DeclareLimits {
        limits: Vec<NewLimit>,
        at: Timestamp,
    },
    TakeAlerts {
        at: Timestamp,
        count_max: i64,
    },
    AlertDelivered {
        alert: Box<Alert>,
        at: Timestamp,
    },
    SetPrices(Vec<PriceChange>),
    CloseMonth(ClosedMonth),
    CreateAccount(NewAccount),
    ChangeAccount {
        account: Account,
        change: AccountChange,
    },
    CloseAccount {
        account: Account,
        closed_at: Option<Timestamp>,
    },
    AddKey {
        record: KeyRecord,
        hash: [u8; 32],
    },
    RotateKey {
        rotation: Rotation,
        hash: [u8; 32],
    },
    RevokeKey {
        id: KeyId,
        at: Timestamp,
    },
    OpenTask(NewTask),
    ChangeTask(TaskChange),
    Close,
}

#[derive(Clone, Debug)]
pub enum Output {
    Hold(HoldOutcome),
    Grow(GrowOutcome),
    End(EndOutcome),
    Saved(EndOutcome, Vec<Standing>),
    /// A hold, or its growth, has no room; perhaps only for the moment.
    Refused(Refused),
    Expired(Vec<Held>),
    /// How many alerts.
    Raised(u64),
    Limit(Limit),
    Limits(Vec<Limit>),
    Alerts(Vec<Alert>),
    Dropped(u64),
    Prices(Vec<PriceVersion>),
    Done,
    Account(AccountRecord),
    Key(KeyRecord),
    Tasks(Vec<TaskRecord>),
    Closed,
}

#[derive(Debug)]
pub struct Call {
    pub input: Input,
    pub reply: oneshot::Sender<Result<Output, LedgerError>>,
}

pub struct Writer {
    pub place: Place,
    /// How this server is called among those that share the ledger; none for a tool, which does not book.
    pub name: Option<String>,
    pub options: JournalOptions,
    /// `None` after a failure, until the next batch connects again.
    pub store: Option<Store>,
    /// This server's number, from its first booking on, and the handles' view of it.
    pub process: watch::Sender<Option<i64>>,
    pub lock: Option<ServerLock>,
    pub failing: bool,
}

impl Writer {
    /// Runs until every handle is gone or one of them closes the journal; the lock goes last.
    pub async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut batch = Vec::with_capacity(self.options.batch_max);
        let mut closers = Vec::new();
        while closers.is_empty() && calls.recv_many(&mut batch, self.options.batch_max).await > 0 {
            for call in batch.extract_if(.., |call| matches!(call.input, Input::Close)) {
                calls.close();
                closers.push(call.reply);
            }
            // Whoever has given up on a hold was told that it may not be booked; then it need not be.
            batch.retain(|call| !(call.reply.is_closed() && matches!(call.input, Input::Hold(_))));
            let crowd = batch.len();
            self.write(&mut batch).await;
            if crowd >= CROWD_MIN && matches!(self.place, Place::File(_)) {
                std::thread::sleep(GATHERING);
            }
        }
        // After a close, what was queued before it is still booked.
        while calls.recv_many(&mut batch, self.options.batch_max).await > 0 {
            self.write(&mut batch).await;
        }
        if let Some(mut store) = self.store.take() {
            // Where this fails, the others find out by its silence.
            let _ = store.retire().await;
            store.close().await;
        }
        drop(self.lock.take());
        for closer in closers {
            let _ = closer.send(Ok(Output::Closed));
        }
    }

    /// Commits the batch as one, or, where one call spoils it for the others, each call by itself.
    async fn write(&mut self, batch: &mut Vec<Call>) {
        if batch.is_empty() {
            return;
        }
        let inputs: Vec<&Input> = batch.iter().map(|call| &call.input).collect();
        let mut results = self.transact(&inputs).await;
        if matches!(&results, Err(error) if error.blames_statement()) {
            let mut apart = Vec::with_capacity(inputs.len());
            for input in inputs {
                let result = self.transact_alone(input).await;
                apart.push(result.unwrap_or_else(|error| Err(error.tell(input.doing(), &self.place))));
            }
            results = Ok(apart);
        }
        self.report(&results);
        match results {
            Ok(results) => {
                for (call, result) in batch.drain(..).zip(results) {
                    let _ = call.reply.send(result);
                }
            }
            Err(error) => {
                for call in batch.drain(..) {
                    let told = error.tell(call.input.doing(), &self.place);
                    let _ = call.reply.send(Err(told));
                }
            }
        }
    }

    /// Another server may have written the same at the same moment; then what it wrote is found at the next try.
    async fn transact_alone(&mut self, input: &Input) -> Result<Result<Output, LedgerError>, StoreError> {
        let mut tries = 1;
        loop {
            match self.transact(&[input]).await {
                Ok(mut alone) => return Ok(alone.remove(0)),
                Err(error) if error.blames_statement() && tries < TRIES_ALONE => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Decides and writes all inputs in one transaction. An inner error is the book's answer to one input, which wrote
    /// nothing; an outer one is the store's, and then nothing of all is written.
    async fn transact(&mut self, inputs: &[&Input]) -> Result<Vec<Result<Output, LedgerError>>, StoreError> {
        let mut store = match self.store.take() {
            Some(store) => store,
            None => {
                let JournalOptions { size_bytes_max, survives, .. } = self.options;
                Store::connect(&self.place, self.options.busy(), size_bytes_max, survives).await?
            }
        };
        store.set_process(*self.process.borrow());
        store.allow_unpriced(self.options.is_unpriced_allowed);
        let name = self.name.as_deref().filter(|_| inputs.iter().any(|input| input.books()));
        let transaction = transact(&mut store, inputs, name);
        // A server that does not answer is given up, and with it the connection; a file's disk is waited for.
        let result = if matches!(self.place, Place::File(_)) {
            transaction.await
        } else {
            timeout(self.options.call_wait_max, transaction).await.unwrap_or_else(|_| Err(self.silent()))
        };
        let process = store.process();
        self.process.send_if_modified(|known| std::mem::replace(known, process) != process);
        match result {
            Ok(results) => {
                self.store = Some(store);
                Ok(results)
            }
            Err(error) => {
                // A connection that has failed is not trusted further, unless it could still roll back.
                if error.blames_statement() && store.rollback().await.is_ok() {
                    self.store = Some(store);
                }
                Err(error)
            }
        }
    }

    fn silent(&self) -> StoreError {
        let why = format!("the server did not answer within {} ms", self.options.call_wait_max.as_millis());
        LedgerError::Unavailable { doing: "writing", why }.into()
    }

    fn report(&mut self, results: &Result<Vec<Result<Output, LedgerError>>, StoreError>) {
        match results {
            Ok(results) => {
                if std::mem::take(&mut self.failing) {
                    StoreRecovered { place: &self.place }.emit();
                }
                for error in results.iter().filter_map(|result| result.as_ref().err()) {
                    CallFailed { error }.emit();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    StoreFailed { place: &self.place, error: &error.tell("writing", &self.place) }.emit();
                }
            }
        }
    }
}

/// Whoever was answered together soon asks again: where so many were, the next commit waits so long for more to share it. A commit
/// writes the same few pages for one call as for twenty; one caller alone never waits.
const CROWD_MIN: usize = 4;
const GATHERING: Duration = Duration::from_micros(400);

/// One conflict is resolved by the next try; another server that conflicts again at once is rare, and a third time a defect.
const TRIES_ALONE: u32 = 3;

impl JournalOptions {
    /// A lock that somebody else has on the file is waited for this long; half of what the caller waits, so that the
    /// caller learns the reason and not only that time is up.
    pub fn busy(&self) -> Duration {
        self.call_wait_max / 2
    }
}

impl Input {
    /// Whether it writes to the book itself, which only the server does.
    pub fn books(&self) -> bool {
        match self {
            Input::Hold(_)
            | Input::HoldServed(_)
            | Input::Grow(_)
            | Input::Save(_)
            | Input::Settle(_)
            | Input::Release(_)
            | Input::Expire { .. }
            | Input::Beat { .. }
            | Input::Tend { .. }
            | Input::TakeAlerts { .. }
            | Input::AlertDelivered { .. }
            | Input::DropOld { .. } => true,
            Input::SetPrices(_)
            | Input::SetLimit(_)
            | Input::EndLimit { .. }
            | Input::DeclareLimits { .. }
            | Input::CloseMonth(_)
            | Input::CreateAccount(_)
            | Input::ChangeAccount { .. }
            | Input::CloseAccount { .. }
            | Input::AddKey { .. }
            | Input::RotateKey { .. }
            | Input::RevokeKey { .. }
            | Input::OpenTask(_)
            | Input::ChangeTask(_)
            | Input::Close => false,
        }
    }

    /// The hold that it opens, where nothing is known of its request.
    pub fn opens(&self) -> Option<Cow<'_, Hold>> {
        match self {
            Input::Hold(hold) | Input::HoldServed(hold) => Some(Cow::Borrowed(hold)),
            Input::Save(saving) => Some(Cow::Owned(saving.hold())),
            _ => None,
        }
    }

    /// When it happens, for those that book.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Input::Hold(hold) | Input::HoldServed(hold) => Some(hold.at),
            Input::Grow(grow) => Some(grow.at),
            Input::Save(saving) => Some(saving.at),
            Input::Settle(settlement) => Some(settlement.at),
            Input::Release(release) => Some(release.at),
            Input::Expire { at, .. } | Input::Beat { at, .. } | Input::Tend { at } => Some(*at),
            _ => None,
        }
    }

    pub fn doing(&self) -> &'static str {
        match self {
            Input::Hold(_) => "holding",
            Input::HoldServed(_) => "booking what was served",
            Input::Grow(_) => "growing a hold",
            Input::Save(_) => "booking what was saved",
            Input::Settle(_) => "settling",
            Input::Release(_) => "releasing",
            Input::Expire { .. } => "expiring holds",
            Input::Beat { .. } => "saying that this process lives",
            Input::Tend { .. } => "looking after limits",
            Input::SetLimit(_) => "setting a limit",
            Input::EndLimit { .. } => "ending a limit",
            Input::DeclareLimits { .. } => "declaring limits",
            Input::TakeAlerts { .. } => "taking alerts",
            Input::AlertDelivered { .. } => "noting a delivered alert",
            Input::DropOld { .. } => "dropping old requests",
            Input::SetPrices(_) => "setting prices",
            Input::CloseMonth(_) => "closing a month",
            Input::CreateAccount(_) => "creating an account",
            Input::ChangeAccount { .. } => "describing an account",
            Input::CloseAccount { .. } => "closing an account",
            Input::AddKey { .. } => "creating a key",
            Input::RotateKey { .. } => "rotating a key",
            Input::RevokeKey { .. } => "revoking a key",
            Input::OpenTask(_) => "opening a task",
            Input::ChangeTask(_) => "changing a task",
            Input::Close => "closing",
        }
    }
}

/// One transaction for all. `name` is this server's, when it books.
async fn transact(
    store: &mut Store,
    inputs: &[&Input],
    name: Option<&str>,
) -> Result<Vec<Result<Output, LedgerError>>, StoreError> {
    begin(store, inputs, name).await?;
    store.prefetch(inputs).await?;
    store.prefetch_limits(inputs).await?;
    let mut results = Vec::with_capacity(inputs.len());
    for input in inputs {
        results.push(match apply(store, input).await {
            Ok(output) => Ok(output),
            Err(StoreError::Told(error)) => Err(error),
            Err(error) => return Err(error),
        });
    }
    store.commit().await?;
    Ok(results)
}

/// A server that books has a number; one that was taken for dead gets a new one.
async fn begin(store: &mut Store, inputs: &[&Input], name: Option<&str>) -> Result<(), StoreError> {
    let at = inputs.iter().find_map(|input| input.at()).unwrap_or_default();
    if let (Some(name), None) = (name, store.process()) {
        store.register(name, at).await?;
    }
    if let (Fence::Ended, Some(name)) = (store.begin().await?, name) {
        store.rollback().await?;
        store.register(name, at).await?;
        store.begin().await?;
    }
    Ok(())
}

/// Lets the book decide by what was fetched, and notes what is to be written. An error that is told comes before any of that.
async fn apply(store: &mut Store, input: &Input) -> Result<Output, StoreError> {
    match input {
        Input::Hold(hold) => open(store, hold, false),
        Input::HoldServed(hold) => open(store, hold, true),
        Input::Grow(grow) => {
            let position = store.position(&grow.request);
            let Decision { outcome, entries, .. } = book::grow(&position, grow.clone())?;
            let (Position::Open(was), GrowOutcome::Grown(held, _)) = (&position, &outcome) else {
                return Ok(Output::Grow(outcome));
            };
            Ok(match store.reserve_growth(was, held, grow.at)? {
                Ok(standings) => {
                    store.add_growth(held, &entries);
                    Output::Grow(GrowOutcome::Grown(held.clone(), standings))
                }
                Err(refused) => Output::Refused(refused),
            })
        }
        Input::Save(saving) => save(store, saving),
        Input::Settle(settlement) => {
            let decide = |position: &Position| book::settle(position, settlement.clone());
            Ok(Output::End(finish(store, &settlement.request, decide)?))
        }
        Input::Release(release) => {
            let decide = |position: &Position| book::release(position, release.clone());
            Ok(Output::End(finish(store, &release.request, decide)?))
        }
        Input::Expire { requests, reason, at } => Ok(Output::Expired(lose(store, requests, *reason, *at)?)),
        Input::Beat { at, silence_max } => {
            let orphans = store.beat(*at, *silence_max).await?;
            store.look_up(orphans.iter().collect()).await?;
            Ok(Output::Expired(lose(store, &orphans, LossReason::ProcessLost, *at)?))
        }
        Input::Tend { at } => Ok(Output::Raised(store.tend(*at).await?)),
        Input::SetLimit(new) => Ok(Output::Limit(store.set_limit(new, false).await?)),
        Input::EndLimit { name, at } => Ok(Output::Limit(store.end_limit(name, *at).await?)),
        Input::DeclareLimits { limits, at } => Ok(Output::Limits(store.declare_limits(limits, *at).await?)),
        Input::TakeAlerts { at, count_max } => Ok(Output::Alerts(store.take_alerts(*at, *count_max).await?)),
        Input::AlertDelivered { alert, at } => {
            store.alert_delivered(alert, *at).await?;
            Ok(Output::Alerts(Vec::new()))
        }
        Input::DropOld { before } => Ok(Output::Dropped(store.drop_old(*before).await?)),
        Input::SetPrices(changes) => {
            let mut versions = Vec::new();
            for change in changes {
                versions.extend(set_price(store, change).await?);
            }
            Ok(Output::Prices(versions))
        }
        Input::CloseMonth(closed) => {
            store.close_month(closed).await?;
            Ok(Output::Done)
        }
        Input::CreateAccount(new) => Ok(Output::Account(store.create_account(new).await?)),
        Input::ChangeAccount { account, change } => {
            Ok(Output::Account(store.change_account(account, change).await?))
        }
        Input::CloseAccount { account, closed_at } => {
            Ok(Output::Account(store.close_account(account, *closed_at).await?))
        }
        Input::AddKey { record, hash } => Ok(Output::Key(store.add_key(record, hash).await?)),
        Input::RotateKey { rotation, hash } => Ok(Output::Key(store.rotate_key(rotation, hash).await?)),
        Input::RevokeKey { id, at } => Ok(Output::Key(store.revoke_key(id, *at).await?)),
        Input::OpenTask(new) => Ok(Output::Tasks(store.open_task(new).await?)),
        Input::ChangeTask(change) => Ok(Output::Tasks(store.change_task(change).await?)),
        Input::Close => unreachable!("closing is the loop's own business"),
    }
}

fn open(store: &mut Store, hold: &Hold, is_served: bool) -> Result<Output, StoreError> {
    let position = store.position(&hold.request);
    let price = store.price_at(&hold.circumstances.priced_as(&hold.model), hold.at);
    let Decision { outcome, entries, .. } = book::hold(&position, hold.clone(), price)?;
    let Some(held) = store::opened(&outcome) else { return Ok(Output::Hold(outcome)) };
    Ok(match store.reserve(held, is_served)? {
        Ok(Reserved { charges, standings }) => {
            store.add_hold(held, &entries, charges);
            Output::Hold(HoldOutcome::Opened(held.clone(), standings))
        }
        Err(refused) => Output::Refused(refused),
    })
}

/// A request without a hold gets one of nothing, which counts in its limits, and ends at once.
fn save(store: &mut Store, saving: &Saving) -> Result<Output, StoreError> {
    let position = store.position(&saving.request);
    if position != Position::Absent {
        let end = finish(store, &saving.request, |position| book::save(position, saving))?;
        return Ok(Output::Saved(end, Vec::new()));
    }
    let hold = saving.hold();
    let price = store.price_at(&hold.circumstances.priced_as(&hold.model), hold.at);
    // Both are decided before anything is noted: what cannot end must not begin.
    let begun = book::hold(&position, hold, price)?;
    let Decision { outcome, entries, .. } = book::save(&begun.position, saving)?;
    Ok(match store.reserve(&outcome.held, false)? {
        Ok(Reserved { charges, standings }) => {
            store.add_hold(&outcome.held, &begun.entries, charges);
            store.add_ending(&outcome.held, &outcome.ending, &entries);
            Output::Saved(outcome, standings)
        }
        Err(refused) => Output::Refused(refused),
    })
}

fn finish(
    store: &mut Store,
    request: &RequestId,
    decide: impl FnOnce(&Position) -> Result<Decision<EndOutcome>, LedgerError>,
) -> Result<EndOutcome, LedgerError> {
    let Decision { outcome, entries, .. } = decide(&store.position(request))?;
    if !outcome.repeated {
        store.add_ending(&outcome.held, &outcome.ending, &entries);
    }
    Ok(outcome)
}

/// Returns those that were still open.
fn lose(
    store: &mut Store,
    requests: &[RequestId],
    reason: LossReason,
    at: Timestamp,
) -> Result<Vec<Held>, LedgerError> {
    let mut lost = Vec::new();
    for request in requests {
        match finish(store, request, |position| book::lose(position, request, reason, at)) {
            Ok(outcome) if !outcome.repeated => lost.push(outcome.held),
            // It ended by itself meanwhile, or never was: nothing is open, which is all that was wanted.
            Ok(_) | Err(LedgerError::NoHold { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
}

/// A version is recorded only when it says something new, so that a restart with the same configuration adds nothing.
async fn set_price(store: &mut Store, change: &PriceChange) -> Result<Option<PriceVersion>, StoreError> {
    store.learn_prices(&change.model).await?;
    let in_force = store.price_at(&change.model, change.valid_from).map(|version| version.sheet);
    if in_force.unwrap_or_default() == change.sheet {
        return Ok(None);
    }
    let id = store.add_price(change).await?;
    let PriceChange { model, sheet, valid_from } = change.clone();
    Ok(Some(PriceVersion { id: crate::PriceId(id), model, sheet, valid_from }))
}

//! How many callers share one commit: the single task that writes.
//!
//! A commit costs a sync of the disk, whatever is in it. So the writer takes all calls that wait, decides each by the book
//! inside one transaction, commits once, and only then answers them all. A call that comes meanwhile is in the next batch.
//! When the store fails, nothing of the batch is booked, each caller is told, and the next batch begins with a new connection.

use std::path::PathBuf;
use std::time::Duration;

use domain::{Account, RequestId};
use tokio::sync::{mpsc, oneshot};

use super::JournalOptions;
use super::lock::ServerLock;
use super::rows::Known;
use super::store::{Store, StoreError};
use crate::book::{self, Decision};
use crate::events::{CallFailed, StoreFailed, StoreRecovered};
use crate::{AccountChange, AccountRecord, NewAccount, Rotation};
use crate::{
    EndOutcome, Grow, GrowOutcome, Held, Hold, HoldOutcome, KeyId, KeyRecord, LedgerError, LossReason, Position, PriceChange,
    PriceVersion, Release, Settlement, Timestamp,
};

/// All that the writer can be asked.
#[derive(Clone, Debug)]
pub enum Input {
    Hold(Hold),
    Grow(Grow),
    Settle(Settlement),
    Release(Release),
    Expire { requests: Vec<RequestId>, reason: LossReason, at: Timestamp },
    SetPrices(Vec<PriceChange>),
    CreateAccount(NewAccount),
    ChangeAccount { account: Account, change: AccountChange },
    CloseAccount { account: Account, closed_at: Option<Timestamp> },
    AddKey { record: KeyRecord, hash: [u8; 32] },
    RotateKey { rotation: Rotation, hash: [u8; 32] },
    RevokeKey { id: KeyId, at: Timestamp },
    Close,
}

#[derive(Clone, Debug)]
pub enum Output {
    Hold(HoldOutcome),
    Grow(GrowOutcome),
    End(EndOutcome),
    Expired(Vec<Held>),
    Prices(Vec<PriceVersion>),
    Account(AccountRecord),
    Key(KeyRecord),
    Closed,
}

#[derive(Debug)]
pub struct Call {
    pub input: Input,
    pub reply: oneshot::Sender<Result<Output, LedgerError>>,
}

pub struct Writer {
    pub path: PathBuf,
    pub options: JournalOptions,
    /// `None` after a failure, until the next batch connects again.
    pub store: Option<Store>,
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
            self.write(&mut batch).await;
        }
        // After a close, what was queued before it is still booked.
        while calls.recv_many(&mut batch, self.options.batch_max).await > 0 {
            self.write(&mut batch).await;
        }
        if let Some(store) = self.store.take() {
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
        if matches!(&results, Err(error) if error.blames_statement()) && inputs.len() > 1 {
            let mut apart = Vec::with_capacity(inputs.len());
            for input in inputs {
                apart.push(match self.transact(&[input]).await {
                    Ok(mut alone) => alone.remove(0),
                    Err(error) => Err(error.tell(input.doing(), &self.path)),
                });
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
                    let told = error.tell(call.input.doing(), &self.path);
                    let _ = call.reply.send(Err(told));
                }
            }
        }
    }

    /// Decides and writes all inputs in one transaction. An inner error is the book's answer to one input, which wrote
    /// nothing; an outer one is the store's, and then nothing of all is written.
    async fn transact(&mut self, inputs: &[&Input]) -> Result<Vec<Result<Output, LedgerError>>, StoreError> {
        let mut store = match self.store.take() {
            Some(store) => store,
            None => Store::connect(&self.path, self.options.busy(), self.options.size_bytes_max).await?,
        };
        match transact(&mut store, inputs).await {
            Ok(results) => {
                self.store = Some(store);
                Ok(results)
            }
            Err(error) => {
                // A connection that has failed is not trusted further, unless it could still roll back.
                if store.rollback().await.is_ok() && error.blames_statement() {
                    self.store = Some(store);
                }
                Err(error)
            }
        }
    }

    fn report(&mut self, results: &Result<Vec<Result<Output, LedgerError>>, StoreError>) {
        match results {
            Ok(results) => {
                if std::mem::take(&mut self.failing) {
                    StoreRecovered { path: &self.path }.emit();
                }
                for error in results.iter().filter_map(|result| result.as_ref().err()) {
                    CallFailed { error }.emit();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    StoreFailed { path: &self.path, error: &error.tell("writing", &self.path) }.emit();
                }
            }
        }
    }
}

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
            | Input::Grow(_)
            | Input::Settle(_)
            | Input::Release(_)
            | Input::Expire { .. } => true,
            Input::SetPrices(_)
            | Input::CreateAccount(_)
            | Input::ChangeAccount { .. }
            | Input::CloseAccount { .. }
            | Input::AddKey { .. }
            | Input::RotateKey { .. }
            | Input::RevokeKey { .. }
            | Input::Close => false,
        }
    }

    pub fn doing(&self) -> &'static str {
        match self {
            Input::Hold(_) => "holding",
            Input::Grow(_) => "growing a hold",
            Input::Settle(_) => "settling",
            Input::Release(_) => "releasing",
            Input::Expire { .. } => "expiring holds",
            Input::SetPrices(_) => "setting prices",
            Input::CreateAccount(_) => "creating an account",
            Input::ChangeAccount { .. } => "describing an account",
            Input::CloseAccount { .. } => "closing an account",
            Input::AddKey { .. } => "creating a key",
            Input::RotateKey { .. } => "rotating a key",
            Input::RevokeKey { .. } => "revoking a key",
            Input::Close => "closing",
        }
    }
}

async fn transact(
    store: &mut Store,
    inputs: &[&Input],
) -> Result<Vec<Result<Output, LedgerError>>, StoreError> {
    store.begin().await?;
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

/// Fetches what the book must know, lets it decide, writes what it decided. An error that is told comes before any write.
async fn apply(store: &mut Store, input: &Input) -> Result<Output, StoreError> {
    match input {
        Input::Hold(hold) => {
            let position = position(store.known(&hold.request).await?);
            let price = store.price_at(&hold.model, hold.at).await?;
            let Decision { outcome, entries, .. } = book::hold(&position, hold.clone(), price)?;
            if let HoldOutcome::Opened(held, _) = &outcome {
                store.add_hold(held, &entries).await?;
            }
            Ok(Output::Hold(outcome))
        }
        Input::Grow(grow) => {
            let known = store.known(&grow.request).await?;
            let absent = Position::Absent;
            let position = known.as_ref().map_or(&absent, |known| &known.position);
            let Decision { outcome, entries, .. } = book::grow(position, grow.clone())?;
            if let (Some(known), GrowOutcome::Grown(held, _)) = (&known, &outcome) {
                store.add_growth(known, held, &entries).await?;
            }
            Ok(Output::Grow(outcome))
        }
        Input::Settle(settlement) => {
            let decide = |position: &Position| book::settle(position, settlement.clone());
            Ok(Output::End(finish(store, &settlement.request, decide).await?))
        }
        Input::Release(release) => {
            let decide = |position: &Position| book::release(position, release.clone());
            Ok(Output::End(finish(store, &release.request, decide).await?))
        }
        Input::Expire { requests, reason, at } => {
            let mut expired = Vec::new();
            for request in requests {
                let decide = |position: &Position| book::lose(position, request, *reason, *at);
                match finish(store, request, decide).await {
                    Ok(outcome) if !outcome.repeated => expired.push(outcome.held),
                    // It ended by itself meanwhile, or never was: nothing is open, which is all that was wanted.
                    Ok(_) | Err(StoreError::Told(LedgerError::NoHold { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(Output::Expired(expired))
        }
        Input::SetPrices(changes) => {
            let mut versions = Vec::new();
            for change in changes {
                versions.extend(set_price(store, change).await?);
            }
            Ok(Output::Prices(versions))
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
        Input::Close => unreachable!("closing is the loop's own business"),
    }
}

async fn finish(
    store: &mut Store,
    request: &RequestId,
    decide: impl FnOnce(&Position) -> Result<Decision<EndOutcome>, LedgerError>,
) -> Result<EndOutcome, StoreError> {
    let known = store.known(request).await?;
    let absent = Position::Absent;
    let decision = decide(known.as_ref().map_or(&absent, |known| &known.position))?;
    if let (Some(known), false) = (&known, decision.outcome.repeated) {
        store.add_ending(known, request, &decision.outcome.ending, &decision.entries).await?;
    }
    Ok(decision.outcome)
}

/// A version is recorded only when it says something new, so that a restart with the same configuration adds nothing.
async fn set_price(store: &mut Store, change: &PriceChange) -> Result<Option<PriceVersion>, StoreError> {
    let in_force = store.price_at(&change.model, change.valid_from).await?.map(|version| version.sheet);
    if in_force.unwrap_or_default() == change.sheet {
        return Ok(None);
    }
    let id = store.add_price(change).await?;
    let PriceChange { model, sheet, valid_from } = change.clone();
    Ok(Some(PriceVersion { id: crate::PriceId(id), model, sheet, valid_from }))
}

fn position(known: Option<Known>) -> Position {
    known.map_or(Position::Absent, |known| known.position)
}

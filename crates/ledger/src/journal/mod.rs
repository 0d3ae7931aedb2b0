//! How the book reaches the disk: a handle that many tasks share, with one writer to an SQLite file or a Postgres server.

mod accounts;
mod codes;
mod database;
mod escrow;
mod integrity;
mod keys;
mod limits;
mod lock;
mod names;
mod process;
mod read;
mod retention;
mod rollup;
mod rows;
mod schema;
mod statements;
mod store;
mod tasks;
mod usage;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::{Account, RequestId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use self::database::{Place, Readers};
use self::statements::ClosedMonth;
use self::store::{Store, StoreError};
use self::writer::{Call, Input, Output, Writer};
use crate::budget::NewLimit;
use crate::key;
use crate::statement::{ChargeRow, Month, MonthStatement};
use crate::{AccountChange, AccountQuery, AccountRecord, FoundKey, KeyQuery, NewAccount, Rotation};
use crate::{Alert, Limit, Standing};
use crate::{
    EndOutcome, Grow, GrowOutcome, Held, Hold, HoldOutcome, Key, KeyId, KeyRecord, LedgerError, LossReason,
    NewKey, PriceChange, PriceVersion, Release, RequestRow, SaveOutcome, Saving, Settlement, Timestamp,
    UsageQuery, UsageRow,
};
use crate::{NewTask, TaskChange, TaskPath, TaskQuery, TaskRecord, TaskRow};

pub use self::read::RequestPlace;

/// The ledger on disk. Cheap to clone. Every call that books returns only when its entries are durable.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Calls that may wait for the writer; further callers wait for a place, within `call_wait_max`.
    pub queue_max: usize,
    /// Calls that one transaction commits together. More would lengthen everyone's wait without saving much of a sync.
    pub batch_max: usize,
    /// A call that is not durable after this long fails as [`LedgerError::Unavailable`].
    pub call_wait_max: Duration,
    /// An SQLite file may not grow past this; `None` leaves it to the disk.
    pub size_bytes_max: Option<u64>,
    /// How this server is called among those that share the ledger.
    pub process_name: String,
    /// A server that says nothing for so long is taken for dead, and its holds are closed by the others.
    pub silence_max: Duration,
    /// Whether a model without a price may be used under a limit on money, which then does not count it.
    pub is_unpriced_allowed: bool,
    pub survives: Survives,
}

/// What a committed entry survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survives {
    /// A power cut: a commit returns when the disk has it.
    #[default]
    PowerLoss,
    /// The death of this process, by whatever signal; the last moment before a power cut may be lost. Each commit is faster by a
    /// turn of the disk.
    ProcessLoss,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            queue_max: 4_096,
            batch_max: 256,
            call_wait_max: Duration::from_secs(5),
            size_bytes_max: None,
            process_name: format!("process {}", std::process::id()),
            silence_max: Duration::from_secs(15),
            is_unpriced_allowed: false,
            survives: Survives::default(),
        }
    }
}

/// The result of checking the whole book against itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Integrity {
    pub requests: u64,
    pub entries: u64,
    pub open_holds: u64,
    /// What is wrong, in words; empty when the book balances. At most the first 20 findings are told.
    pub faults: Vec<String>,
}

impl Integrity {
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Journal {
    /// Returns the journal in this file for the one server that writes it; creates the folder and file, migrates an older
    /// schema, and refuses a file that another server has open.
    pub async fn open(path: &Path) -> Result<Journal, LedgerError> {
        Self::open_with(path, JournalOptions::default()).await
    }

    pub async fn open_with(path: &Path, options: JournalOptions) -> Result<Journal, LedgerError> {
        Self::start(Place::File(path.to_owned()), options, true).await
    }

    /// Returns the journal at `sqlite:PATH` or `postgres://…`, as [`Journal::open`] does. A Postgres ledger may be open in
    /// many servers at once.
    pub async fn open_url(url: &str, options: JournalOptions) -> Result<Journal, LedgerError> {
        Self::start(url.parse()?, options, true).await
    }

    /// Returns the journal in this file for a tool that runs beside the server: it reads, sets prices, and makes and revokes
    /// keys. It takes no lock, so it cannot book: the holds may be alive in the server.
    pub async fn attach(path: &Path) -> Result<Journal, LedgerError> {
        Self::start(Place::File(path.to_owned()), JournalOptions::default(), false).await
    }

    /// Attaches to `sqlite:PATH` or `postgres://…`.
    pub async fn attach_url(url: &str) -> Result<Journal, LedgerError> {
        Self::start(url.parse()?, JournalOptions::default(), false).await
    }

    /// Reserves the estimate, in every limit that it falls under. Repeating a hold is answered with the first.
    pub async fn hold(&self, hold: Hold) -> Result<HoldOutcome, LedgerError> {
        match self.call_patiently(Input::Hold(hold)).await? {
            Output::Hold(outcome) => Ok(outcome),
            Output::Refused(refused) => Ok(HoldOutcome::Refused(refused.shortage)),
            other => unexpected(other),
        }
    }

    /// Books a hold of work that was served while the book could not be asked. No limit refuses it: it is counted in each,
    /// and what goes beyond one is owed, so that the next request there is refused. Repeating it is answered with the first.
    pub async fn hold_served(&self, hold: Hold) -> Result<HoldOutcome, LedgerError> {
        match self.call(Input::HoldServed(hold)).await? {
            Output::Hold(outcome) => Ok(outcome),
            other => unexpected(other),
        }
    }

    /// Books an answer that was given again, with what it saved. Without a hold it is counted in every limit as a request that
    /// uses nothing, and may be refused; an open hold, as of a twin that waited, ends. Repeating it is answered with the end.
    pub async fn save(&self, saving: Saving) -> Result<SaveOutcome, LedgerError> {
        match self.call_patiently(Input::Save(saving)).await? {
            Output::Saved(outcome, standings) => Ok(SaveOutcome::Booked(outcome, standings)),
            Output::Refused(refused) => Ok(SaveOutcome::Refused(refused.shortage)),
            other => unexpected(other),
        }
    }

    /// Raises an open hold to a new total, before more is delivered than it covers.
    pub async fn grow(&self, grow: Grow) -> Result<GrowOutcome, LedgerError> {
        match self.call_patiently(Input::Grow(grow)).await? {
            Output::Grow(outcome) => Ok(outcome),
            Output::Refused(refused) => Ok(GrowOutcome::Refused(refused.shortage)),
            other => unexpected(other),
        }
    }

    /// Books what was used and gives the rest of the hold back. After an end, answers with that end.
    pub async fn settle(&self, settlement: Settlement) -> Result<EndOutcome, LedgerError> {
        match self.call(Input::Settle(settlement)).await? {
            Output::End(outcome) => Ok(outcome),
            other => unexpected(other),
        }
    }

    /// Gives the whole hold back. After an end, answers with that end.
    pub async fn release(&self, release: Release) -> Result<EndOutcome, LedgerError> {
        match self.call(Input::Release(release)).await? {
            Output::End(outcome) => Ok(outcome),
            other => unexpected(other),
        }
    }

    /// Returns every hold that has not ended, oldest first.
    pub async fn open_holds(&self) -> Result<Vec<Held>, LedgerError> {
        self.told("reading open holds", read::open_holds(&self.shared.readers, None).await)
    }

    /// Closes these holds as lost, with all that they held booked as an estimate; returns those that were still open.
    pub async fn expire_holds(
        &self,
        requests: Vec<RequestId>,
        reason: LossReason,
        at: Timestamp,
    ) -> Result<Vec<Held>, LedgerError> {
        match self.call(Input::Expire { requests, reason, at }).await? {
            Output::Expired(holds) => Ok(holds),
            other => unexpected(other),
        }
    }

    /// Says that this process lives. Ends those that have been silent for too long, and closes what ended ones have left
    /// open, some at a time; returns what it closed. To be called every few seconds, and at a start until nothing comes.
    pub async fn beat(&self, at: Timestamp) -> Result<Vec<Held>, LedgerError> {
        match self.call(Input::Beat { at, silence_max: self.shared.silence_max }).await? {
            Output::Expired(holds) => Ok(holds),
            other => unexpected(other),
        }
    }

    /// Returns the holds that this process opened and that have not ended, oldest first.
    pub async fn own_open_holds(&self) -> Result<Vec<Held>, LedgerError> {
        let Some(process) = *self.shared.process.borrow() else { return Ok(Vec::new()) };
        self.told("reading open holds", read::open_holds(&self.shared.readers, Some(process)).await)
    }

    /// Drops ended requests whose holds began before this instant's hour, some at a time; returns how many. Their sums stay,
    /// and so do statements. To be called until it returns 0.
    pub async fn drop_old_requests(&self, before: Timestamp) -> Result<u64, LedgerError> {
        match self.call(Input::DropOld { before }).await? {
            Output::Dropped(count) => Ok(count),
            other => unexpected(other),
        }
    }

    /// Sets a limit, for every server at once; one of the same name that is in force is changed and keeps what is spent.
    pub async fn set_limit(&self, limit: NewLimit) -> Result<Limit, LedgerError> {
        match self.call(Input::SetLimit(limit)).await? {
            Output::Limit(limit) => Ok(limit),
            other => unexpected(other),
        }
    }

    /// Ends the limit of this name, for every server at once.
    pub async fn end_limit(&self, name: &str, at: Timestamp) -> Result<Limit, LedgerError> {
        match self.call(Input::EndLimit { name: name.to_owned(), at }).await? {
            Output::Limit(limit) => Ok(limit),
            other => unexpected(other),
        }
    }

    /// Makes these the limits that are declared in configuration: sets them, and ends those declared before that are not
    /// among them. Limits that were set otherwise stay.
    pub async fn declare_limits(
        &self,
        limits: Vec<NewLimit>,
        at: Timestamp,
    ) -> Result<Vec<Limit>, LedgerError> {
        match self.call(Input::DeclareLimits { limits, at }).await? {
            Output::Limits(limits) => Ok(limits),
            other => unexpected(other),
        }
    }

    /// Returns the limits in force, of this account and all below it, or of all.
    pub async fn limits(&self, within: Option<&Account>) -> Result<Vec<Limit>, LedgerError> {
        self.told("listing limits", limits::list(&self.shared.readers, within).await)
    }

    /// Returns how those limits stand at this moment: the sums of all servers. At most 1,000.
    pub async fn standings(
        &self,
        within: Option<&Account>,
        at: Timestamp,
    ) -> Result<Vec<Standing>, LedgerError> {
        self.told("reading how limits stand", limits::standings(&self.shared.readers, within, at).await)
    }

    /// Looks after limits; to be called every [`TEND_PERIOD`]. Returns how many alerts it raised.
    pub async fn tend(&self, at: Timestamp) -> Result<u64, LedgerError> {
        match self.call(Input::Tend { at }).await? {
            Output::Raised(alerts) => Ok(alerts),
            other => unexpected(other),
        }
    }

    /// Returns alerts to be delivered now. One that is not [delivered](Journal::alert_delivered) comes again, to whichever
    /// server asks then: after 5 s, 10 s, 20 s, … and then every hour, for about a day and a half.
    pub async fn take_alerts(&self, at: Timestamp, count_max: i64) -> Result<Vec<Alert>, LedgerError> {
        match self.call(Input::TakeAlerts { at, count_max }).await? {
            Output::Alerts(alerts) => Ok(alerts),
            other => unexpected(other),
        }
    }

    pub async fn alert_delivered(&self, alert: Alert, at: Timestamp) -> Result<(), LedgerError> {
        match self.call(Input::AlertDelivered { alert: Box::new(alert), at }).await? {
            Output::Alerts(_) => Ok(()),
            other => unexpected(other),
        }
    }

    /// Records the prices that differ from those already in force at their time; returns the versions it recorded.
    /// Later holds use them; a hold that is open keeps the version it began with.
    pub async fn set_prices(&self, changes: Vec<PriceChange>) -> Result<Vec<PriceVersion>, LedgerError> {
        // All or none: what cannot be written is refused before anything is.
        changes.iter().try_for_each(PriceChange::check)?;
        match self.call(Input::SetPrices(changes)).await? {
            Output::Prices(versions) => Ok(versions),
            other => unexpected(other),
        }
    }

    /// Returns every price version that was recorded, oldest first.
    pub async fn prices(&self) -> Result<Vec<PriceVersion>, LedgerError> {
        self.told("reading prices", rows::all_prices(&self.shared.readers).await)
    }

    /// Makes a key; its secret is in the answer and nowhere else.
    pub async fn create_key(&self, new: NewKey) -> Result<Key, LedgerError> {
        let secret = key::secret(&new.random);
        let hash = key::hash(secret.reveal());
        new.check()?;
        let NewKey { name, account, role, scopes, expires_at, created_by, random: _, at: created_at } = new;
        let (id, revoked_at, rotated_from) = (key::id(&hash), None, None);
        let record = KeyRecord {
            id,
            name,
            account,
            role,
            scopes,
            expires_at,
            created_at,
            created_by,
            revoked_at,
            rotated_from,
        };
        match self.call(Input::AddKey { record, hash }).await? {
            Output::Key(record) => Ok(Key { record, secret }),
            other => unexpected(other),
        }
    }

    /// Revokes a key at once, for every process on this file; revoking twice keeps the first time.
    pub async fn revoke_key(&self, id: KeyId, at: Timestamp) -> Result<KeyRecord, LedgerError> {
        match self.call(Input::RevokeKey { id, at }).await? {
            Output::Key(record) => Ok(record),
            other => unexpected(other),
        }
    }

    /// Makes a key that takes the old one's place; the old one opens for the overlap, and not beyond its own end.
    pub async fn rotate_key(&self, rotation: Rotation, random: &[u8; 32]) -> Result<Key, LedgerError> {
        let secret = key::secret(random);
        let hash = key::hash(secret.reveal());
        match self.call(Input::RotateKey { rotation, hash }).await? {
            Output::Key(record) => Ok(Key { record, secret }),
            other => unexpected(other),
        }
    }

    /// Makes an account, or describes one that requests were only booked to.
    pub async fn create_account(&self, new: NewAccount) -> Result<AccountRecord, LedgerError> {
        new.check()?;
        self.account_call(Input::CreateAccount(new)).await
    }

    pub async fn change_account(
        &self,
        account: Account,
        change: AccountChange,
    ) -> Result<AccountRecord, LedgerError> {
        change.check()?;
        self.account_call(Input::ChangeAccount { account, change }).await
    }

    /// Serves an account, and all below it, no more; or again, with no time. What was booked stays.
    pub async fn close_account(
        &self,
        account: Account,
        closed_at: Option<Timestamp>,
    ) -> Result<AccountRecord, LedgerError> {
        self.account_call(Input::CloseAccount { account, closed_at }).await
    }

    async fn account_call(&self, input: Input) -> Result<AccountRecord, LedgerError> {
        match self.call(input).await? {
            Output::Account(record) => Ok(record),
            other => unexpected(other),
        }
    }

    pub async fn account(&self, account: &Account) -> Result<Option<AccountRecord>, LedgerError> {
        self.told("finding an account", accounts::by_name(&self.shared.readers, account).await)
    }

    /// Returns accounts in the order of their paths.
    pub async fn accounts(&self, query: &AccountQuery) -> Result<Vec<AccountRecord>, LedgerError> {
        self.told("listing accounts", accounts::list(&self.shared.readers, query).await)
    }

    /// Returns keys in the order of their making, whatever became of them.
    pub async fn keys(&self, query: &KeyQuery) -> Result<Vec<KeyRecord>, LedgerError> {
        self.told("listing keys", keys::list(&self.shared.readers, query).await)
    }

    pub async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, LedgerError> {
        self.told("finding a key", keys::one(&self.shared.readers, id).await)
    }

    /// Returns the key with this secret, whatever became of it, and whether its account is served.
    pub async fn find_key(&self, secret: &str) -> Result<Option<FoundKey>, LedgerError> {
        self.timely("finding a key", keys::find(&self.shared.readers, &key::hash(secret))).await
    }

    /// Whether any key is active: without one, only callers on the loopback address may be served.
    pub async fn any_key_exists(&self) -> Result<bool, LedgerError> {
        self.timely("looking for keys", keys::any_active(&self.shared.readers)).await
    }

    /// Opens what is not there yet of a task and all that it is inside of; returns them, the run first. A task belongs to the
    /// account that opened its run: who is neither that nor below it is refused.
    pub async fn open_task(&self, new: NewTask) -> Result<Vec<TaskRecord>, LedgerError> {
        match self.call(Input::OpenTask(new)).await? {
            Output::Tasks(chain) => Ok(chain),
            other => unexpected(other),
        }
    }

    /// Lets a task hand back, stops it, or lets it go on; returns the tasks that this changed, which are none where it came
    /// too late.
    pub async fn change_task(&self, change: TaskChange) -> Result<Vec<TaskRecord>, LedgerError> {
        match self.call(Input::ChangeTask(change)).await? {
            Output::Tasks(changed) => Ok(changed),
            other => unexpected(other),
        }
    }

    /// Returns those tasks of a path that are there, the run first.
    pub async fn task_chain(&self, path: &TaskPath) -> Result<Vec<TaskRecord>, LedgerError> {
        self.timely("reading a task", tasks::chain(&self.shared.readers, path)).await
    }

    /// Returns a task and all inside of it, each with what its own requests came to.
    pub async fn task_tree(&self, top: &TaskPath) -> Result<Vec<TaskRow>, LedgerError> {
        self.told("reading tasks", tasks::tree(&self.shared.readers, top).await)
    }

    /// Returns the latest runs, each with what its whole tree came to.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<Vec<TaskRow>, LedgerError> {
        self.told("listing tasks", tasks::list(&self.shared.readers, query).await)
    }

    /// Returns the sums of each group that has requests, in the order of the groups' names.
    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
        self.told("reading usage", usage::usage(&self.shared.readers, query).await)
    }

    /// Returns the sums of a range of time by day and by everything that a price depends on. What is still open is not in it.
    pub async fn charges(&self, since: Timestamp, until: Timestamp) -> Result<Vec<ChargeRow>, LedgerError> {
        self.told("reading charges", usage::charges(&self.shared.readers, since, until).await)
    }

    /// Keeps a month's statement as it is; a month is closed once.
    pub async fn close_month(
        &self,
        statement: MonthStatement,
        at: Timestamp,
        by: Option<String>,
    ) -> Result<(), LedgerError> {
        match self.call(Input::CloseMonth(ClosedMonth { statement, at, by })).await? {
            Output::Done => Ok(()),
            other => unexpected(other),
        }
    }

    /// Returns the month as it was closed, if it was.
    pub async fn closed_month(&self, month: Month) -> Result<Option<MonthStatement>, LedgerError> {
        self.told("reading a statement", statements::closed(&self.shared.readers, month).await)
    }

    /// Returns the months that are closed, oldest first.
    pub async fn closed_months(&self) -> Result<Vec<Month>, LedgerError> {
        self.told("listing statements", statements::closed_months(&self.shared.readers).await)
    }

    /// Returns some of the ended requests whose holds began in this range of time, in the order of their rows, and where to
    /// go on: for views that must look at each one.
    pub async fn requests_between(
        &self,
        since: Timestamp,
        until: Timestamp,
        after: RequestPlace,
    ) -> Result<(Vec<RequestRow>, Option<RequestPlace>), LedgerError> {
        self.told("reading requests", read::between(&self.shared.readers, since, until, after).await)
    }

    /// Returns the latest requests, newest first.
    pub async fn recent_requests(&self, limit: usize) -> Result<Vec<RequestRow>, LedgerError> {
        self.told("reading requests", read::recent(&self.shared.readers, limit).await)
    }

    /// Returns the latest requests before this place, or the very latest, and where the next page begins; some thousand at a time,
    /// so that a book of millions can be read through.
    pub async fn requests_before(
        &self,
        place: Option<RequestPlace>,
    ) -> Result<(Vec<RequestRow>, Option<RequestPlace>), LedgerError> {
        let place = place.unwrap_or_default();
        self.told("reading requests", read::before(&self.shared.readers, place).await)
    }

    /// Returns those of these requests that the journal knows, in the order asked.
    pub async fn requests(&self, ids: &[RequestId]) -> Result<Vec<RequestRow>, LedgerError> {
        self.told("reading requests", read::by_id(&self.shared.readers, ids).await)
    }

    /// Checks the whole book against itself: entries, holds, endings, money.
    pub async fn check_integrity(&self) -> Result<Integrity, LedgerError> {
        self.told("checking", integrity::check(&self.shared.readers).await)
    }

    /// Books what is queued, then closes the file and gives up the lock. Later calls fail as unavailable.
    pub async fn close(&self) {
        // However long the queue is, it is booked first; so this call alone has no time limit.
        let (reply, closed) = oneshot::channel();
        if self.shared.calls.send(Call { input: Input::Close, reply }).await.is_ok() {
            let _ = closed.await;
        }
        self.shared.readers.close().await;
    }

    async fn start(place: Place, options: JournalOptions, is_server: bool) -> Result<Journal, LedgerError> {
        let lock = match &place {
            Place::File(path) => {
                prepare(path)?;
                if is_server { Some(lock::take(path)?) } else { None }
            }
            Place::Server(_) => None,
        };
        let readers = Readers::open(&place, options.call_wait_max);
        let (calls, queue) = mpsc::channel(options.queue_max);
        let (registered, process) = watch::channel(None);
        let silence_max = options.silence_max;
        let call_wait_max = options.call_wait_max;
        let name = is_server.then(|| options.process_name.clone());
        let mut writer = Writer {
            place: place.clone(),
            name,
            options,
            store: None,
            process: registered,
            lock,
            failing: false,
        };
        let (opened, is_open) = oneshot::channel();
        let write = async move {
            match open_store(&writer.place, &writer.options).await {
                Ok(store) => {
                    writer.store = Some(store);
                    let _ = opened.send(Ok(()));
                    writer.run(queue).await;
                }
                Err(error) => {
                    let error = open_error(&writer.place, error);
                    // Whoever hears of it may open the next one at once: the lock is given up first.
                    drop(writer);
                    let _ = opened.send(Err(error));
                }
            }
        };
        match &place {
            // What SQLite does is work: it has a thread of its own, and nobody's requests wait behind it.
            Place::File(path) => {
                let runtime = Handle::current();
                let thread = std::thread::Builder::new().name("ledger".into());
                let thread = thread.spawn(move || runtime.block_on(write));
                thread.map_err(|error| LedgerError::Open {
                    ledger: path.display().to_string(),
                    why: format!("cannot start its thread: {error}"),
                    advice: "raise this user's limit of threads",
                })?;
            }
            Place::Server(_) => drop(tokio::spawn(write)),
        }
        is_open.await.unwrap_or_else(|_| {
            Err(LedgerError::Unavailable { doing: "opening", why: "the ledger's writer has stopped".into() })
        })?;
        let shared = Shared { place, call_wait_max, silence_max, is_server, calls, process, readers };
        Ok(Journal { shared: Arc::new(shared) })
    }

    /// Asks again, a few times, where there would be room if other servers gave back what they do not use: they do so when
    /// they next tend their limits, within [`TEND_PERIOD`]. So nobody is refused for good before the others had time to.
    async fn call_patiently(&self, input: Input) -> Result<Output, LedgerError> {
        for _ in 0..SHORT_TRIES_MAX {
            match self.call(input.clone()).await? {
                Output::Refused(refused) if refused.is_worth_waiting => tokio::time::sleep(SHORT_PAUSE).await,
                answer => return Ok(answer),
            }
        }
        self.call(input).await
    }

    /// Asks the writer and waits until its answer is durable, or the time is up.
    async fn call(&self, input: Input) -> Result<Output, LedgerError> {
        let doing = input.doing();
        if input.books() && !self.shared.is_server {
            return Err(LedgerError::Attached { doing });
        }
        let stopped = || LedgerError::Unavailable { doing, why: "the ledger's writer has stopped".into() };
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.shared.calls.send(Call { input, reply }).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        let late = |_| self.late(doing);
        timeout(self.shared.call_wait_max, exchange).await.map_err(late)?
    }

    /// A read that a request waits for has a time limit, as a write has.
    async fn timely<T>(
        &self,
        doing: &'static str,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, LedgerError> {
        let result = timeout(self.shared.call_wait_max, read).await.map_err(|_| self.late(doing))?;
        self.told(doing, result)
    }

    fn told<T>(&self, doing: &'static str, result: Result<T, StoreError>) -> Result<T, LedgerError> {
        result.map_err(|error| error.tell(doing, &self.shared.place))
    }

    fn late(&self, doing: &'static str) -> LedgerError {
        let why = format!("the store did not answer within {} ms", self.shared.call_wait_max.as_millis());
        LedgerError::Unavailable { doing, why }
    }
}

/// How often a server that shares limits must [`tend`](Journal::tend) them.
pub const TEND_PERIOD: Duration = Duration::from_millis(250);
/// A hold that lacks what others do not use is tried again this often, for 700 ms in all: more than two periods of tending.
const SHORT_TRIES_MAX: u32 = 7;
const SHORT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Shared {
    place: Place,
    call_wait_max: Duration,
    silence_max: Duration,
    is_server: bool,
    calls: mpsc::Sender<Call>,
    /// This server's number, once it has one.
    process: watch::Receiver<Option<i64>>,
    readers: Readers,
}

/// Makes the folder that the ledger lies in.
fn prepare(path: &Path) -> Result<(), LedgerError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| LedgerError::Open {
        ledger: path.display().to_string(),
        why: format!("cannot make the folder {}: {error}", folder.display()),
        advice: "choose a data folder that this user may write",
    })
}

async fn open_store(place: &Place, options: &JournalOptions) -> Result<Store, StoreError> {
    let mut store = Store::connect(place, options.busy(), options.size_bytes_max, options.survives).await?;
    schema::migrate(store.connection(), place).await?;
    Ok(store)
}

fn open_error(place: &Place, error: StoreError) -> LedgerError {
    match error {
        StoreError::Told(error) => error,
        StoreError::File(error) => LedgerError::Open {
            ledger: place.to_string(),
            why: error.to_string(),
            advice: "check that it is a ledger and that this user may write it and its folder",
        },
        StoreError::Server(error) => LedgerError::Open {
            ledger: place.to_string(),
            why: error.to_string(),
            advice: "check that the server runs, and that this user may use this database",
        },
    }
}

fn unexpected<T>(output: Output) -> T {
    unreachable!("the writer answers what was asked, not {output:?}")
}

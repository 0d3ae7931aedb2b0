//! How do several servers share limits without asking each other for every request?
//!
//! ```text
//!   spending_limit ─▶ limit_window (granted to all together ≤ amount; locked while somebody takes or gives back)
//!                        └─▶ escrow (one row for each process, which it alone writes while it lives)
//! ```
//!
//! What a batch needs of its shares and pools is fetched at its beginning, `budget` decides, and what it decided is written in
//! the same transaction as the holds and ends that it is about. Pools are locked in the order of their keys, always before
//! any share is written, so that processes never wait for each other in a circle.
//!
//! A process may remember its own shares, because nobody else writes them while it lives, and a transaction of a process
//! that others took for dead does not begin (see `process`). Limits are read again whenever the book's count of changes has
//! moved: every batch decides by the limits that were in force when it began.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::database::{Bulk, Columns, Kind, Row, Speaker, StoreError, Value, sql};
use super::limits;
use super::rows::Known;
use super::store::Store;
use super::writer::Input;
use crate::budget::{
    Action, Allowance, Amount, Charge, Lack, Limits, Measure, Need, Pool, Share, Surroundings, Window,
    WindowKey, need,
};
use crate::{Ending, Held, LedgerError, Limit, LimitId, Position, Shortage, Standing, Timestamp};

/// What a process remembers of limits and of its part in them. All of it is in the store, so it is forgotten whenever it may
/// no longer be true.
#[derive(Default)]
pub struct Escrow {
    limits: Limits,
    /// The book's count of changes when the limits were read.
    limits_change: Option<i64>,
    allowance: Allowance,
    /// Own shares, as they stand in the store.
    stored: HashMap<WindowKey, Share>,
    others: HashMap<WindowKey, Surroundings>,
    /// When each window had its first hold, for limits on wall-clock.
    opened: HashMap<WindowKey, Timestamp>,
    /// How many servers live, as of lately.
    processes: i64,
    batch: EscrowBatch,
    care: Care,
}

/// What the batch at hand has locked and decided.
#[derive(Default)]
struct EscrowBatch {
    pools: HashMap<WindowKey, Pool>,
    /// Windows in which somebody lacks what others have and do not use.
    short: BTreeMap<WindowKey, Timestamp>,
    /// Reserved and spent by holds of other processes that were ended here.
    foreign: BTreeMap<(WindowKey, i64), (i64, i64)>,
}

/// What must be looked after between requests.
#[derive(Default)]
struct Care {
    /// Windows whose spending has changed since their thresholds were last compared.
    changed: BTreeSet<WindowKey>,
    /// The thresholds that are known to be told.
    told: HashMap<WindowKey, u8>,
    /// The last shortage in each window that idle grants were given back for.
    heard: HashMap<WindowKey, Timestamp>,
    /// The amount of some limit is smaller than it was.
    is_lowered: bool,
    folded_at: Option<Timestamp>,
}

/// Windows remembered, some 200 bytes each; past this the memory starts afresh.
const WINDOWS_MAX: usize = 50_000;
/// Ended processes' shares that are folded into nobody's at once.
const FOLDED_MAX: i64 = 500;
/// How often ended processes' shares are looked for, in milliseconds.
const FOLD_PERIOD_MS: i64 = 2_000;
/// The share in which the spending of all ended processes is added up.
const NOBODY: i64 = 0;

/// Why a request gets no hold.
#[derive(Clone, Debug)]
pub struct Refused {
    pub shortage: Shortage,
    /// Others have what it lacks and do not use it.
    pub is_worth_waiting: bool,
}

/// What a hold counts in, and how those limits then stand.
#[derive(Clone, Debug, Default)]
pub struct Reserved {
    pub charges: Arc<[Charge]>,
    pub standings: Vec<Standing>,
}

impl Store {
    /// Fetches what these calls need of limits, shares and pools. Comes after the book's own prefetch.
    pub async fn prefetch_limits(&mut self, inputs: &[&Input]) -> Result<(), StoreError> {
        let now = inputs.iter().find_map(|input| input.at()).unwrap_or_default();
        self.learn_limits(now).await?;
        if self.escrow().care.is_lowered {
            // Before anything is decided: what was granted of the larger amount is not spent any more.
            self.return_idle(now).await?;
            self.flush_limits().await?;
        }
        let mut wanted: BTreeMap<WindowKey, i64> = BTreeMap::new();
        for input in inputs {
            for (key, amount) in self.wants(input) {
                let sum = wanted.entry(key).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.learn_shares(wanted.keys().cloned().collect(), now).await?;
        let escrow = self.escrow();
        let is_short = |(key, amount): &(WindowKey, i64)| *amount > escrow.allowance.share(key).idle().max(0);
        let short: Vec<WindowKey> = wanted
            .into_iter()
            .filter(|(_, amount)| *amount > 0)
            .filter(is_short)
            .map(|(key, _)| key)
            .collect();
        self.lock_pools(&short, now).await
    }

    /// Returns the windows that a call touches, with what it wants of those that can refuse it.
    fn wants(&self, input: &Input) -> Vec<(WindowKey, i64)> {
        match input {
            Input::Hold(_) | Input::Save(_)
                if input.opens().is_some_and(|hold| self.known(&hold.request).is_none()) =>
            {
                let hold = input.opens().expect("it was asked just now").into_owned();
                let price = self.price_at(&hold.circumstances.priced_as(&hold.model), hold.at);
                let held = Held { hold: hold.clone(), price };
                let wanted = |(limit, subject): (Arc<Limit>, Arc<str>)| {
                    let amount = need(limit.measure, &hold.estimate, held.amount()).unwrap_or(0);
                    (key(&limit, subject, hold.at), if limit.binds(&hold.model) { amount } else { 0 })
                };
                self.escrow_ref().applying(&held).into_iter().map(wanted).collect()
            }
            Input::HoldServed(hold) if self.known(&hold.request).is_none() => {
                let price = self.price_at(&hold.circumstances.priced_as(&hold.model), hold.at);
                let held = Held { hold: hold.clone(), price };
                let applying = self.escrow_ref().applying(&held);
                applying.into_iter().map(|(limit, subject)| (key(&limit, subject, hold.at), 0)).collect()
            }
            Input::Grow(grow) => {
                let Some(known) = self.known(&grow.request) else { return Vec::new() };
                let Position::Open(held) = &known.position else { return Vec::new() };
                let grown = held.grown(&grow.estimate);
                known
                    .charges
                    .iter()
                    .map(|charge| (charge.key.clone(), charge.reserved(&grown) - charge.reserved(held)))
                    .collect()
            }
            Input::Save(saving) => self.touched(self.known(&saving.request)),
            Input::Settle(settlement) => self.touched(self.known(&settlement.request)),
            Input::Release(release) => self.touched(self.known(&release.request)),
            Input::Expire { requests, .. } => {
                requests.iter().flat_map(|request| self.touched(self.known(request))).collect()
            }
            _ => Vec::new(),
        }
    }

    fn touched(&self, known: Option<&Known>) -> Vec<(WindowKey, i64)> {
        let own = known.filter(|known| Some(known.process) == self.process());
        own.into_iter().flat_map(|known| known.charges.iter()).map(|charge| (charge.key.clone(), 0)).collect()
    }

    /// Reserves a hold in all its limits, or says which has no room. What is served already is counted, and refused by none.
    pub fn reserve(
        &mut self,
        held: &Held,
        is_served: bool,
    ) -> Result<Result<Reserved, Refused>, LedgerError> {
        let hold = &held.hold;
        let is_unpriced_allowed = self.is_unpriced_allowed();
        let escrow = self.escrow();
        let applying = escrow.applying(held);
        let mut needs = Vec::with_capacity(applying.len());
        let mut charges = Vec::with_capacity(applying.len());
        for (limit, subject) in &applying {
            let key = key(limit, subject.clone(), hold.at);
            let is_binding = limit.binds(&hold.model) && !is_served;
            if let Some(shortage) = escrow.compared(limit, &key, held).filter(|_| is_binding) {
                return Ok(Err(Refused { shortage, is_worth_waiting: false }));
            }
            let amount = match need(limit.measure, &hold.estimate, held.amount()) {
                Ok(amount) => amount,
                Err(_) if is_binding && !is_unpriced_allowed => {
                    let (model, limit) = (hold.model.clone(), limit.name.clone());
                    return Err(LedgerError::Unpriced { model, limit });
                }
                Err(_) => 0,
            };
            if !matches!(limit.measure, Measure::WallClock | Measure::Depth) {
                charges.push(Charge { key: key.clone(), measure: limit.measure });
                needs.push(Need { key, amount, is_binding });
            }
        }
        if let Err(lack) = escrow.reserve(&needs, hold.at) {
            return Ok(Err(escrow.refused(lack, hold.at)));
        }
        let standings = applying
            .iter()
            .map(|(limit, subject)| escrow.standing(limit, &key(limit, subject.clone(), hold.at), hold.at))
            .collect();
        Ok(Ok(Reserved { charges: charges.into(), standings }))
    }

    /// Reserves what a hold grows by, in the windows that it was opened in.
    pub fn reserve_growth(
        &mut self,
        was: &Held,
        grown: &Held,
        at: Timestamp,
    ) -> Result<Result<Vec<Standing>, Refused>, LedgerError> {
        let charges = self.known(&was.hold.request).map(|known| known.charges.clone()).unwrap_or_default();
        let is_unpriced_allowed = self.is_unpriced_allowed();
        let escrow = self.escrow();
        // A hold of nothing, as of a twin that waits, was let through without a price. What it grows to needs one.
        for charge in charges.iter().filter(|_| !is_unpriced_allowed) {
            let Some(limit) = escrow.limits.get(charge.key.limit) else { continue };
            let is_known = need(charge.measure, &grown.hold.estimate, grown.amount()).is_ok();
            if limit.binds(&was.hold.model) && !is_known {
                let (model, limit) = (was.hold.model.clone(), limit.name.clone());
                return Err(LedgerError::Unpriced { model, limit });
            }
        }
        let needs: Vec<Need> = charges
            .iter()
            .map(|charge| Need {
                key: charge.key.clone(),
                amount: charge.reserved(grown) - charge.reserved(was),
                // A limit that has ended meanwhile refuses nothing any more.
                is_binding: escrow
                    .limits
                    .get(charge.key.limit)
                    .is_some_and(|limit| limit.binds(&was.hold.model)),
            })
            .collect();
        if let Err(lack) = escrow.reserve(&needs, at) {
            return Ok(Err(escrow.refused(lack, at)));
        }
        let limits = charges
            .iter()
            .filter_map(|charge| Some((escrow.limits.get(charge.key.limit)?.clone(), &charge.key)));
        Ok(Ok(limits.map(|(limit, key)| escrow.standing(&limit, key, at)).collect()))
    }

    /// Counts the end of a hold in the windows that it was opened in, as whoever's hold it was.
    pub fn settle_charges(&mut self, held: &Held, ending: &Ending) {
        let me = self.process();
        let Some(known) = self.known(&held.hold.request) else { return };
        let (process, charges) = (known.process, known.charges.clone());
        let escrow = self.escrow();
        for charge in charges.iter() {
            let (reserved, spent) = (charge.reserved(held), charge.spent(ending));
            if Some(process) == me {
                escrow.allowance.settle(&charge.key, reserved, spent);
                if escrow.limits.get(charge.key.limit).is_some_and(|limit| !limit.thresholds.is_empty()) {
                    escrow.care.changed.insert(charge.key.clone());
                }
            } else {
                let (all_reserved, all_spent) =
                    escrow.batch.foreign.entry((charge.key.clone(), process)).or_default();
                *all_reserved = all_reserved.saturating_add(reserved);
                *all_spent = all_spent.saturating_add(spent);
            }
        }
    }

    /// Writes what was decided. Comes before the commit.
    pub async fn flush_limits(&mut self) -> Result<(), StoreError> {
        let me = self.process();
        let escrow = self.escrow();
        let mut shares = Vec::new();
        for (key, share) in escrow.allowance.shares() {
            // One that was given back whole is written too: a grant left behind in the store would be had once more.
            if escrow.stored.get(key).copied().unwrap_or_default() != *share {
                shares.push((key.clone(), *share));
            }
        }
        shares.sort_by(|(a, _), (b, _)| a.cmp(b));
        let after = escrow.allowance.unlock_pools();
        let batch = std::mem::take(&mut escrow.batch);
        let mut pools: Vec<Vec<Value>> = Vec::new();
        for (key, pool) in batch.pools {
            let granted = after.get(&key).map_or(pool.granted, |pool| pool.granted);
            let short_at = batch.short.get(&key);
            if granted != pool.granted || short_at.is_some() {
                pools.push(row(&key, [granted.into(), short_at.map(|at| at.millis()).into()]));
            }
        }
        let own: Vec<Vec<Value>> = match me {
            Some(me) => shares.iter().map(|(key, share)| share_row(key, me, share)).collect(),
            // A tool books nothing.
            None => Vec::new(),
        };
        let foreign = batch.foreign.into_iter().map(|((key, process), (reserved, spent))| {
            row(&key, [process.into(), 0.into(), spent.into(), reserved.saturating_neg().into()])
        });
        let foreign: Vec<Vec<Value>> = foreign.collect();
        escrow.stored.extend(shares);
        let mut speaker = Speaker::Connection(self.connection());
        SET_POOLS.run(&mut speaker, pools).await?;
        SET_SHARES.run(&mut speaker, own).await?;
        ADD_TO_SHARES.run(&mut speaker, foreign).await?;
        Ok(())
    }

    /// Reads the limits again, if anything has changed since they were read.
    async fn learn_limits(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let change = self.change();
        if self.escrow().limits_change == Some(change) {
            return Ok(());
        }
        let limits = limits::in_force(self.connection()).await?;
        let escrow = self.escrow();
        let before = std::mem::take(&mut escrow.limits);
        for limit in limits {
            // What was granted of the larger amount must be given back.
            escrow.care.is_lowered |= before.get(limit.id).is_some_and(|old| limit.amount < old.amount);
            escrow.limits.put(limit, now);
        }
        escrow.limits_change = Some(change);
        Ok(())
    }

    /// Reads own and others' shares of windows that are not remembered.
    async fn learn_shares(&mut self, keys: Vec<WindowKey>, now: Timestamp) -> Result<(), StoreError> {
        let escrow = self.escrow();
        if escrow.stored.len() > WINDOWS_MAX {
            escrow.forget_windows();
        }
        let unseen: Vec<WindowKey> =
            keys.into_iter().filter(|key| !escrow.allowance.has_share(key)).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        let wall_clocks: Vec<WindowKey> =
            unseen.iter().filter(|key| escrow.measure(key) == Some(Measure::WallClock)).cloned().collect();
        self.read_shares(&unseen).await?;
        self.ensure_windows(&wall_clocks, now).await?;
        let rows = wall_clocks.iter().map(|key| row(key, [])).collect();
        let rows = OPENED.run(&mut Speaker::Connection(self.connection()), rows).await?;
        for row in &rows {
            let (key, mut columns) = window(row)?;
            let opened_at = Timestamp::from_millis(columns.integer()?);
            self.escrow().opened.insert(key, opened_at);
        }
        Ok(())
    }

    /// Reads these windows' shares afresh, with all that counts with them.
    async fn read_shares(&mut self, keys: &[WindowKey]) -> Result<(), StoreError> {
        let me = self.process();
        let shares = self.fetch_shares(keys).await?;
        let escrow = self.escrow();
        for key in keys {
            escrow.others.insert(key.clone(), Surroundings::default());
            if !escrow.allowance.has_share(key) {
                escrow.allowance.set_share(key.clone(), Share::default());
            }
        }
        for ((key, process), share) in shares {
            if Some(process) == me && keys.contains(&key) {
                escrow.allowance.set_share(key.clone(), share);
                escrow.stored.insert(key, share);
                continue;
            }
            // Of a rolling window, what lies in its earlier parts surrounds it too, own or not.
            let surrounded: Vec<&WindowKey> =
                keys.iter().filter(|asked| escrow.counts_with(asked, &key)).collect();
            for asked in surrounded {
                let others = escrow.others.entry(asked.clone()).or_default();
                others.spent = others.spent.saturating_add(share.spent);
                others.held = others.held.saturating_add(share.held);
            }
        }
        Ok(())
    }

    /// Reads everybody's shares of these windows and of those that count with them.
    async fn fetch_shares(
        &mut self,
        keys: &[WindowKey],
    ) -> Result<BTreeMap<(WindowKey, i64), Share>, StoreError> {
        let ranges = self.escrow().ranges(keys);
        let rows = SHARES.run(&mut Speaker::Connection(self.connection()), ranges).await?;
        let mut shares = BTreeMap::new();
        for row in &rows {
            let (key, mut columns) = window(row)?;
            let process = columns.integer()?;
            let share =
                Share { granted: columns.integer()?, spent: columns.integer()?, held: columns.integer()? };
            // Windows that lie in two ranges come twice.
            shares.insert((key, process), share);
        }
        Ok(shares)
    }

    /// Locks these windows' pools, which must come in the order of their keys, until the transaction ends.
    async fn lock_pools(&mut self, keys: &[WindowKey], now: Timestamp) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.ensure_windows(keys, now).await?;
        let ranges = self.escrow().ranges(keys);
        let is_shared = self.connection().is_shared();
        let lock = if is_shared { &LOCK_POOLS } else { &READ_POOLS };
        let rows = lock.run(&mut Speaker::Connection(self.connection()), ranges).await?;
        let mut granted: BTreeMap<WindowKey, i64> = BTreeMap::new();
        for row in &rows {
            let (key, mut columns) = window(row)?;
            granted.insert(key, columns.integer()?);
        }
        let me = self.process();
        let mut idle: BTreeMap<WindowKey, i64> = BTreeMap::new();
        for ((key, process), share) in self.fetch_shares(keys).await? {
            if Some(process) != me {
                *idle.entry(key).or_default() += share.idle().max(0);
            }
        }
        let escrow = self.escrow();
        for key in keys {
            let Some(limit) = escrow.limits.get(key.limit) else { continue };
            let counted = |other: &WindowKey| other != key && escrow.counts_with(key, other);
            let sum = |of: &mut dyn Iterator<Item = i64>| of.fold(0i64, i64::saturating_add);
            let pool = Pool {
                cap: limit.amount.0,
                granted: granted.get(key).copied().unwrap_or(0),
                elsewhere: sum(&mut granted
                    .iter()
                    .filter(|(other, _)| counted(other))
                    .map(|(_, granted)| *granted)),
                idle_elsewhere: sum(&mut idle
                    .iter()
                    .filter(|(other, _)| *other == key || counted(other))
                    .map(|(_, idle)| *idle)),
            };
            escrow.batch.pools.insert(key.clone(), pool);
            escrow.allowance.lock_pool(key.clone(), pool);
        }
        Ok(())
    }

    async fn ensure_windows(&mut self, keys: &[WindowKey], now: Timestamp) -> Result<(), StoreError> {
        let rows = keys.iter().map(|key| row(key, [now.millis().into()])).collect();
        ENSURE_WINDOWS.run(&mut Speaker::Connection(self.connection()), rows).await?;
        Ok(())
    }

    /// Looks after limits between requests: gives back what others lack, pays what is owed, folds what ended processes have
    /// left, and notes thresholds that were crossed. Returns how many alerts it raised.
    pub async fn tend(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        self.learn_limits(now).await?;
        let is_time_to_fold = self
            .escrow()
            .care
            .folded_at
            .is_none_or(|at| (now.millis() - at.millis()).abs() >= FOLD_PERIOD_MS);
        if is_time_to_fold {
            self.fold_ended().await?;
            let living = sql("SELECT count(*) FROM process WHERE ended_at IS NULL");
            self.escrow().processes = living.integer(self.connection()).await?;
            self.escrow().care.folded_at = Some(now);
        }
        self.return_idle(now).await?;
        self.raise_alerts(now).await
    }

    /// Gives back what is idle where somebody lacks it, or where its time is over, and pays what is owed.
    async fn return_idle(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let is_lowered = std::mem::take(&mut self.escrow().care.is_lowered);
        let idle: Vec<WindowKey> = {
            let shares = self.escrow_ref().allowance.shares();
            shares.filter(|(_, share)| share.idle() != 0).map(|(key, _)| key.clone()).collect()
        };
        let rows = idle.iter().map(|key| row(key, [])).collect();
        let rows = SHORT.run(&mut Speaker::Connection(self.connection()), rows).await?;
        let escrow = self.escrow();
        let mut due: BTreeSet<WindowKey> = BTreeSet::new();
        for row in &rows {
            let (key, mut columns) = window(row)?;
            let Some(short_at) = columns.maybe_integer()?.map(Timestamp::from_millis) else { continue };
            if escrow.care.heard.insert(key.clone(), short_at) != Some(short_at) {
                due.insert(key);
            }
        }
        for key in idle {
            let Some(limit) = escrow.limits.get(key.limit) else { continue };
            let is_owed = escrow.allowance.share(&key).idle() < 0 && limit.action != Action::Warn;
            let has_rolled =
                matches!(limit.window, Window::Rolling(_)) && limit.window.span(now).start != key.start;
            if is_owed || has_rolled || is_lowered {
                due.insert(key);
            }
        }
        let due: Vec<WindowKey> = due.into_iter().collect();
        self.lock_pools(&due, now).await?;
        self.escrow().return_idle(&due);
        self.escrow().forget_past(now);
        Ok(())
    }

    /// Adds what ended processes have spent to nobody's share, and gives back the rest of their grants.
    async fn fold_ended(&mut self) -> Result<(), StoreError> {
        let find = sql("SELECT e.spending_limit, e.subject, e.window_start, e.process, e.granted, e.spent \
             FROM process p JOIN escrow e ON e.process = p.id WHERE p.ended_at IS NOT NULL AND e.held = 0 LIMIT $1");
        let rows = find.bind(FOLDED_MAX).all(self.connection()).await?;
        let mut keys: BTreeSet<WindowKey> = BTreeSet::new();
        for row in &rows {
            keys.insert(window(row)?.0);
        }
        if keys.is_empty() {
            return Ok(());
        }
        // Their pools first: who folds the same shares meanwhile is waited for, and then there is nothing left to fold.
        let ranges =
            keys.iter().map(|key| row(key, [key.start.millis().into(), key.start.millis().into()])).collect();
        let lock = if self.connection().is_shared() { &LOCK_POOLS } else { &READ_POOLS };
        lock.run(&mut Speaker::Connection(self.connection()), ranges).await?;
        let rows: Vec<Vec<Value>> = keys.iter().map(|key| row(key, [])).collect();
        let taken = TAKE_ENDED.run(&mut Speaker::Connection(self.connection()), rows).await?;
        let mut spent: BTreeMap<WindowKey, i64> = BTreeMap::new();
        let mut idle: BTreeMap<WindowKey, i64> = BTreeMap::new();
        for row in &taken {
            let (key, mut columns) = window(row)?;
            let share = Share { granted: columns.integer()?, spent: columns.integer()?, held: 0 };
            *idle.entry(key.clone()).or_default() += share.idle();
            *spent.entry(key).or_default() += share.spent;
        }
        let mut speaker = Speaker::Connection(self.connection());
        let folded = spent
            .iter()
            .map(|(key, spent)| row(key, [NOBODY.into(), (*spent).into(), (*spent).into(), 0.into()]));
        ADD_TO_SHARES.run(&mut speaker, folded.collect()).await?;
        let returned = idle.iter().map(|(key, idle)| row(key, [(*idle).into()]));
        RETURN_GRANTS.run(&mut speaker, returned.collect()).await?;
        let escrow = self.escrow();
        for key in spent.into_keys() {
            escrow.others.remove(&key);
            escrow.care.changed.insert(key);
        }
        Ok(())
    }

    /// Notes each threshold that the spending of all processes has reached, once.
    async fn raise_alerts(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let changed: Vec<WindowKey> = std::mem::take(&mut self.escrow().care.changed).into_iter().collect();
        let watched: Vec<WindowKey> = changed
            .into_iter()
            .filter(|key| {
                self.escrow_ref().limits.get(key.limit).is_some_and(|limit| !limit.thresholds.is_empty())
            })
            .collect();
        if watched.is_empty() {
            return Ok(0);
        }
        self.flush_limits().await?;
        self.read_shares(&watched).await?;
        let escrow = self.escrow();
        let mut alerts = Vec::new();
        for key in &watched {
            let limit = escrow.limits.get(key.limit).expect("only limits in force are watched").clone();
            let spent = escrow.allowance.share(key).spent.saturating_add(escrow.others[key].spent);
            let told = escrow.care.told.entry(key.clone()).or_insert(0);
            for threshold in crate::budget::crossed(&limit, spent)
                .filter(|threshold| *threshold > *told)
                .collect::<Vec<u8>>()
            {
                *told = threshold;
                alerts.push(row(key, [i64::from(threshold).into(), now.millis().into(), spent.into()]));
            }
        }
        let raised = ADD_ALERTS.run(&mut Speaker::Connection(self.connection()), alerts).await?;
        Ok(raised.len() as u64)
    }
}

impl Escrow {
    fn applying(&self, held: &Held) -> Vec<(Arc<Limit>, Arc<str>)> {
        let hold = &held.hold;
        let mut found = self.limits.applying(&hold.account, hold.task.as_ref(), hold.end_user.as_deref());
        found.retain(|(limit, _)| limit.is_in_force(hold.at));
        found
    }

    fn measure(&self, key: &WindowKey) -> Option<Measure> {
        self.limits.get(key.limit).map(|limit| limit.measure)
    }

    fn reserve(&mut self, needs: &[Need], at: Timestamp) -> Result<(), Lack> {
        let reserved = self.allowance.reserve(needs, self.processes.max(1));
        if let Err(lack) = &reserved
            && lack.is_worth_waiting
        {
            self.batch.short.insert(lack.key.clone(), at);
        }
        reserved
    }

    fn refused(&self, lack: Lack, at: Timestamp) -> Refused {
        let limit = self.limits.get(lack.key.limit).expect("a limit that refuses is in force").clone();
        let resets_at = limit.window.span(at).end;
        let shortage = Shortage {
            limit,
            subject: lack.key.subject.to_string(),
            needed: Amount(lack.needed),
            remaining: Amount(lack.remaining),
            resets_at,
        };
        Refused { shortage, is_worth_waiting: lack.is_worth_waiting }
    }

    /// Returns the shortage of a limit that is compared and not counted, if there is one.
    fn compared(&self, limit: &Arc<Limit>, key: &WindowKey, held: &Held) -> Option<Shortage> {
        let used = self.compared_use(limit, key, held.hold.at, held)?;
        let is_over = match limit.measure {
            Measure::WallClock => used >= limit.amount.0,
            _ => used > limit.amount.0,
        };
        is_over.then(|| Shortage {
            limit: limit.clone(),
            subject: key.subject.to_string(),
            needed: Amount(used),
            remaining: Amount((limit.amount.0 - used).max(0)),
            resets_at: None,
        })
    }

    fn compared_use(&self, limit: &Limit, key: &WindowKey, at: Timestamp, held: &Held) -> Option<i64> {
        match limit.measure {
            Measure::WallClock => Some(self.wall_clock(key, at)),
            Measure::Depth => held.hold.task.as_ref().map(|task| limit.scope.depth(task)),
            _ => None,
        }
    }

    fn wall_clock(&self, key: &WindowKey, at: Timestamp) -> i64 {
        self.opened.get(key).map_or(0, |opened| at.millis().saturating_sub(opened.millis()).max(0))
    }

    fn standing(&self, limit: &Arc<Limit>, key: &WindowKey, at: Timestamp) -> Standing {
        let share = self.allowance.share(key);
        let others = self.others.get(key).copied().unwrap_or_default();
        let spent = match limit.measure {
            Measure::WallClock => self.wall_clock(key, at),
            _ => share.spent.saturating_add(others.spent),
        };
        let held = share.held.saturating_add(others.held);
        let remaining = limit.amount.0.saturating_sub(spent).saturating_sub(held).max(0);
        Standing {
            limit: limit.clone(),
            subject: key.subject.to_string(),
            window_start: key.start,
            resets_at: limit.window.span(key.start).end,
            spent: Amount(spent),
            held: Amount(held),
            remaining: Amount(remaining),
        }
    }

    /// Whether what is counted in `other` also counts against the amount that `key` counts against.
    fn counts_with(&self, key: &WindowKey, other: &WindowKey) -> bool {
        if key.limit != other.limit || key.subject != other.subject {
            return false;
        }
        let Some(limit) = self.limits.get(key.limit) else { return key == other };
        let (earlier, later) = if other.start <= key.start { (other, key) } else { (key, other) };
        limit.window.counted_since(later.start) <= earlier.start
    }

    /// Returns each window as a row with the first and the last start of those that count with it.
    fn ranges(&self, keys: &[WindowKey]) -> Vec<Vec<Value>> {
        let range = |key: &WindowKey| {
            let since =
                self.limits.get(key.limit).map_or(key.start, |limit| limit.window.counted_since(key.start));
            let reach = key.start.millis().saturating_sub(since.millis());
            row(key, [since.millis().into(), key.start.millis().saturating_add(reach).into()])
        };
        keys.iter().map(range).collect()
    }

    fn return_idle(&mut self, keys: &[WindowKey]) {
        for key in keys {
            let (mut share, Some(mut pool)) = (self.allowance.share(key), self.allowance.pool(key)) else {
                continue;
            };
            if share.idle() < 0 {
                let owed = -share.idle();
                pool.cover(owed);
                share.granted += owed;
            } else {
                pool.give_back(share.give_back());
            }
            self.allowance.set_share(key.clone(), share);
            self.allowance.lock_pool(key.clone(), pool);
        }
    }

    /// Forgets windows that are over and in which nothing is held: they stay in the store.
    fn forget_past(&mut self, now: Timestamp) {
        /// Longer than clocks of processes differ.
        const GRACE_MS: i64 = 60_000;
        let is_over = |key: &WindowKey| match self.limits.get(key.limit) {
            Some(limit) => {
                limit.window.forgotten_at(key.start).is_some_and(|end| end.millis() + GRACE_MS < now.millis())
            }
            None => true,
        };
        let over: Vec<WindowKey> = self
            .allowance
            .shares()
            .filter(|(key, share)| {
                share.held == 0
                    && self.stored.get(key).copied().unwrap_or_default() == **share
                    && is_over(key)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.allowance.forget_share(&key);
            self.stored.remove(&key);
            self.others.remove(&key);
            self.opened.remove(&key);
            self.care.told.remove(&key);
            self.care.heard.remove(&key);
        }
    }

    fn forget_windows(&mut self) {
        self.allowance = Allowance::default();
        self.stored.clear();
        self.others.clear();
        self.opened.clear();
        self.care.told.clear();
        self.care.heard.clear();
    }
}

fn key(limit: &Limit, subject: Arc<str>, at: Timestamp) -> WindowKey {
    WindowKey { limit: limit.id, subject, start: limit.window.span(at).start }
}

/// A window's columns, and what follows them.
fn row<const N: usize>(key: &WindowKey, more: [Value; N]) -> Vec<Value> {
    let mut row = vec![key.limit.0.into(), (&*key.subject).into(), key.start.millis().into()];
    row.extend(more);
    row
}

fn share_row(key: &WindowKey, process: i64, share: &Share) -> Vec<Value> {
    row(key, [process.into(), share.granted.into(), share.spent.into(), share.held.into()])
}

/// Reads a window's columns; the rest is the caller's.
fn window(row: &Row) -> Result<(WindowKey, Columns<'_>), StoreError> {
    let mut columns = row.columns();
    let key = WindowKey {
        limit: LimitId(columns.integer()?),
        subject: columns.text()?.into(),
        start: Timestamp::from_millis(columns.integer()?),
    };
    Ok((key, columns))
}

const WINDOW: [(&str, Kind); 3] =
    [("spending_limit", Kind::Integer), ("subject", Kind::Text), ("window_start", Kind::Integer)];

static ENSURE_WINDOWS: Bulk = Bulk {
    columns: &[WINDOW[0], WINDOW[1], WINDOW[2], ("at", Kind::Integer)],
    sql: "INSERT INTO limit_window (spending_limit, subject, window_start, opened_at, granted_total) \
          SELECT v.spending_limit, v.subject, v.window_start, v.at, 0 FROM v WHERE true ORDER BY 1, 2, 3 \
          ON CONFLICT DO NOTHING",
};

const RANGE: &[(&str, Kind)] =
    &[WINDOW[0], WINDOW[1], WINDOW[2], ("first_start", Kind::Integer), ("last_start", Kind::Integer)];

macro_rules! pools_sql {
    ($lock:literal) => {
        concat!(
            "SELECT w.spending_limit, w.subject, w.window_start, w.granted_total FROM v JOIN limit_window w \
             ON w.spending_limit = v.spending_limit AND w.subject = v.subject \
             AND w.window_start BETWEEN v.first_start AND v.last_start ORDER BY 1, 2, 3",
            $lock
        )
    };
}
static LOCK_POOLS: Bulk = Bulk { columns: RANGE, sql: pools_sql!(" FOR UPDATE OF w") };
/// Where one writes at a time, all is locked already.
static READ_POOLS: Bulk = Bulk { columns: RANGE, sql: pools_sql!("") };

static SHARES: Bulk = Bulk {
    columns: RANGE,
    sql: "SELECT DISTINCT e.spending_limit, e.subject, e.window_start, e.process, e.granted, e.spent, e.held \
          FROM v JOIN escrow e ON e.spending_limit = v.spending_limit AND e.subject = v.subject \
          AND e.window_start BETWEEN v.first_start AND v.last_start",
};

static OPENED: Bulk = Bulk {
    columns: &WINDOW,
    sql: "SELECT w.spending_limit, w.subject, w.window_start, w.opened_at FROM v JOIN limit_window w \
          ON w.spending_limit = v.spending_limit AND w.subject = v.subject AND w.window_start = v.window_start",
};

static SHORT: Bulk = Bulk {
    columns: &WINDOW,
    sql: "SELECT w.spending_limit, w.subject, w.window_start, w.short_at FROM v JOIN limit_window w \
          ON w.spending_limit = v.spending_limit AND w.subject = v.subject AND w.window_start = v.window_start \
          WHERE w.short_at IS NOT NULL",
};

static SET_POOLS: Bulk = Bulk {
    columns: &[WINDOW[0], WINDOW[1], WINDOW[2], ("granted", Kind::Integer), ("short_at", Kind::Integer)],
    sql: "UPDATE limit_window SET granted_total = v.granted, short_at = coalesce(v.short_at, limit_window.short_at) \
          FROM v WHERE limit_window.spending_limit = v.spending_limit AND limit_window.subject = v.subject \
          AND limit_window.window_start = v.window_start",
};

const SHARE: &[(&str, Kind)] = &[
    WINDOW[0],
    WINDOW[1],
    WINDOW[2],
    ("process", Kind::Integer),
    ("granted", Kind::Integer),
    ("spent", Kind::Integer),
    ("held", Kind::Integer),
];

static SET_SHARES: Bulk = Bulk {
    columns: SHARE,
    sql: "INSERT INTO escrow (spending_limit, subject, window_start, process, granted, spent, held) \
          SELECT * FROM v WHERE true ON CONFLICT (spending_limit, subject, window_start, process) \
          DO UPDATE SET granted = excluded.granted, spent = excluded.spent, held = excluded.held",
};

static ADD_TO_SHARES: Bulk = Bulk {
    columns: SHARE,
    sql: "INSERT INTO escrow (spending_limit, subject, window_start, process, granted, spent, held) \
          SELECT * FROM v WHERE true ON CONFLICT (spending_limit, subject, window_start, process) \
          DO UPDATE SET granted = escrow.granted + excluded.granted, spent = escrow.spent + excluded.spent, \
          held = escrow.held + excluded.held",
};

static TAKE_ENDED: Bulk = Bulk {
    columns: &WINDOW,
    sql: "DELETE FROM escrow WHERE held = 0 AND process IN (SELECT id FROM process WHERE ended_at IS NOT NULL) \
          AND (spending_limit, subject, window_start) IN (SELECT spending_limit, subject, window_start FROM v) \
          RETURNING spending_limit, subject, window_start, granted, spent",
};

static RETURN_GRANTS: Bulk = Bulk {
    columns: &[WINDOW[0], WINDOW[1], WINDOW[2], ("idle", Kind::Integer)],
    sql: "UPDATE limit_window SET granted_total = limit_window.granted_total - v.idle FROM v \
          WHERE limit_window.spending_limit = v.spending_limit AND limit_window.subject = v.subject \
          AND limit_window.window_start = v.window_start",
};

static ADD_ALERTS: Bulk = Bulk {
    columns: &[
        WINDOW[0],
        WINDOW[1],
        WINDOW[2],
        ("threshold", Kind::Integer),
        ("at", Kind::Integer),
        ("spent", Kind::Integer),
    ],
    sql: "INSERT INTO alert (spending_limit, subject, window_start, threshold, at, spent, next_try_at) \
          SELECT v.spending_limit, v.subject, v.window_start, v.threshold, v.at, v.spent, v.at FROM v WHERE true \
          ON CONFLICT DO NOTHING RETURNING threshold",
};

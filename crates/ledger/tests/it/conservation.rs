//! Conservation: whatever order calls come in, and wherever the process dies, held = settled + released + open.
//!
//! A seeded run of random calls goes to the journal and to the plainest book there is, a map in memory that the pure
//! functions fill. Both must give the same answers all the way and the same sums at each stop. The seed of a failing run is
//! printed; `LEDGER_SEED=n` repeats it, and then it becomes a named test here.

use std::collections::BTreeMap;
use std::fmt::Debug;

use domain::{Money, RequestId, Usage, UsageEnd, UsageSource};
use ledger::{
    Dimension, EndOutcome, Entry, Grow, GrowOutcome, Hold, HoldOutcome, Journal, LedgerError, LossReason,
    Position, PriceChange, PriceVersion, Quantities, Rates, Release, ReleaseReason, SaveOutcome, SavedBy,
    Saving, Schedule, Settlement, Sheet, Side, UsageQuery, UsageRow, UsageSums, book,
};

use super::support::*;

const STEPS: usize = 120;
/// Few ids, so that repeats and late calls are common.
const REQUESTS: u64 = 24;

#[tokio::test]
async fn books_balance_under_any_interleaving_of_calls_repeats_and_crashes() {
    let seeds = match std::env::var("LEDGER_SEED") {
        Ok(seed) => vec![seed.parse().expect("LEDGER_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    };
    for seed in seeds {
        if let Err(panic) = tokio::spawn(run(seed)).await {
            panic!("LEDGER_SEED={seed} breaks the book: {panic}");
        }
    }
}

async fn run(seed: u64) {
    let Some(home) = Home::new() else { return };
    let mut journal = home.open().await;
    let mut chance = Chance(seed);
    let mut plain = Plain::default();
    for step in 0..STEPS {
        // Time stands still, jumps and runs backwards: nothing may depend on it but the price.
        let now = at(chance.below(10_000) as i64);
        let request = request(chance.below(REQUESTS).into());
        match chance.below(25) {
            0..7 => {
                let hold = a_hold(&mut chance, request, now);
                let expect = plain.hold(hold.clone());
                same(step, journal.hold(hold).await, expect);
            }
            7..12 => {
                let settlement = a_settlement(&mut chance, request, now);
                let expect =
                    plain.end(&settlement.request, |position| book::settle(position, settlement.clone()));
                same(step, journal.settle(settlement.clone()).await, expect);
            }
            12..14 => {
                let release = Release { request, reason: ReleaseReason::Failed, at: now };
                let expect = plain.end(&release.request, |position| book::release(position, release.clone()));
                same(step, journal.release(release.clone()).await, expect);
            }
            14 => {
                let grow = Grow { request, estimate: a_usage(&mut chance), at: now };
                let expect = plain.grow(grow.clone());
                same(step, journal.grow(grow).await, expect);
            }
            15 => {
                let change = a_price(&mut chance, now);
                let versions = journal.set_prices(vec![change.clone()]).await.unwrap();
                plain.set_price(change, versions);
            }
            16 => {
                let reason = LossReason::Forgotten;
                let expired = journal.expire_holds(vec![request.clone()], reason, now).await.unwrap();
                let expect = plain.end(&request, |position| book::lose(position, &request, reason, now));
                let expect: Vec<_> =
                    expect.ok().filter(|end| !end.repeated).map(|end| end.held).into_iter().collect();
                assert_eq!(expired, expect, "step {step}");
            }
            17..20 => together(&mut chance, &journal, &mut plain, now).await,
            20 => journal = home.crash(journal).await,
            21..24 => {
                let saving = a_saving(&mut chance, request, now);
                let expect = plain.save(saving.clone());
                same(step, journal.save(saving).await, expect);
            }
            _ => {
                // A crash, and then what a server does at its start.
                journal = home.crash(journal).await;
                let open: Vec<_> =
                    journal.open_holds().await.unwrap().into_iter().map(|held| held.hold.request).collect();
                let expired = journal.expire_holds(open.clone(), LossReason::ProcessLost, now).await.unwrap();
                assert_eq!(expired.len(), open.len());
                for request in open {
                    let lose =
                        |position: &Position| book::lose(position, &request, LossReason::ProcessLost, now);
                    plain.end(&request, lose).unwrap();
                }
                assert_eq!(
                    plain.open(),
                    0,
                    "step {step}: the plain book knows of a hold that the journal lost"
                );
            }
        }
        if step % 20 == 19 {
            balance(&journal, &plain).await;
        }
    }
    let journal = home.crash(journal).await;
    balance(&journal, &plain).await;
}

/// Calls on one request at once: whatever order the writer takes them in, one hold is opened and one end is booked.
async fn together(chance: &mut Chance, journal: &Journal, plain: &mut Plain, now: ledger::Timestamp) {
    let request = request(chance.below(REQUESTS).into());
    let hold = a_hold(chance, request.clone(), now);
    let settlement = a_settlement(chance, request.clone(), now);
    let release = Release { request: request.clone(), reason: ReleaseReason::ClientLeft, at: now };
    // All three are queued in this order before the writer runs, for this runtime has one thread.
    let (held, settled, released) = tokio::join!(
        journal.hold(hold.clone()),
        journal.settle(settlement.clone()),
        journal.release(release.clone())
    );
    same(0, held, plain.hold(hold));
    same(0, settled, plain.end(&request, |position| book::settle(position, settlement)));
    same(0, released, plain.end(&request, |position| book::release(position, release)));
}

async fn balance(journal: &Journal, plain: &Plain) {
    assert_sound(journal).await;
    let ids: Vec<_> = plain.positions.keys().cloned().collect();
    let rows = journal.requests(&ids).await.unwrap();
    for ((id, position), row) in plain.positions.iter().zip(&rows) {
        let on_disk = match row.ending.clone() {
            None => Position::Open(row.held.clone()),
            Some(ending) => Position::Ended(row.held.clone(), ending),
        };
        assert_eq!(*position, on_disk, "{id}");
    }
    assert_eq!(rows.len(), plain.positions.len());

    let sides = plain.sides();
    assert_eq!(sides.values().fold([0; 7], |sum, side| std::array::from_fn(|i| sum[i] + side[i])), [0; 7]);
    let by_account = UsageQuery { by: vec![Dimension::Account], ..UsageQuery::default() };
    let usage = journal.usage(&by_account).await.unwrap();
    assert_eq!(usage.iter().map(|row| row.sums.requests as usize).sum::<usize>(), plain.positions.len());
    assert_eq!(usage.iter().map(|row| row.sums.open_requests as usize).sum::<usize>(), plain.open());
    let earned = usage.iter().map(vector).fold([0; 7], |sum, row| std::array::from_fn(|i| sum[i] + row[i]));
    assert_eq!(earned, sides.get(&Side::Earned).copied().unwrap_or_default());
    // What was saved is told, and is on no side.
    let saved =
        usage.iter().map(|row| signed(&Quantities::of(&row.sums.saved.usage, Some(row.sums.saved.cost))));
    assert_eq!(saved.fold([0; 7], |sum, row| std::array::from_fn(|i| sum[i] + row[i])), plain.saved());
}

fn vector(row: &UsageRow) -> [i128; 7] {
    let UsageSums { priced, unpriced, estimated, .. } = row.sums;
    let used = priced.and(&unpriced).and(&estimated);
    signed(&Quantities::of(&used.usage, Some(used.cost)))
}

fn signed(quantities: &Quantities) -> [i128; 7] {
    let mut vector = [0; 7];
    for (sum, tokens) in vector.iter_mut().zip(quantities.tokens) {
        *sum = tokens.into();
    }
    vector[6] = quantities.money.pico();
    vector
}

fn same<T: PartialEq + Debug>(step: usize, got: Result<T, LedgerError>, expect: Result<T, LedgerError>) {
    assert_eq!(got, expect, "step {step}");
}

/// The plainest book: positions and entries in memory.
#[derive(Default)]
struct Plain {
    positions: BTreeMap<RequestId, Position>,
    entries: Vec<Entry>,
    prices: Vec<PriceVersion>,
}

impl Plain {
    fn hold(&mut self, hold: Hold) -> Result<HoldOutcome, LedgerError> {
        let request = hold.request.clone();
        let mut in_force: Vec<_> =
            self.prices.iter().filter(|v| v.model == hold.model && v.valid_from <= hold.at).collect();
        in_force.sort_by_key(|version| (version.valid_from, version.id));
        let price = in_force.last().map(|version| (*version).clone());
        let decision = book::hold(self.position(&request), hold, price)?;
        self.entries.extend(decision.entries);
        self.positions.insert(request, decision.position);
        Ok(decision.outcome)
    }
    fn save(&mut self, saving: Saving) -> Result<SaveOutcome, LedgerError> {
        let request = saving.request.clone();
        let mut trial = Plain { prices: self.prices.clone(), ..Plain::default() };
        trial.positions.insert(request.clone(), self.position(&request).clone());
        if *trial.position(&request) == Position::Absent {
            trial.hold(saving.hold())?;
        }
        let outcome = trial.end(&request, |position| book::save(position, &saving))?;
        self.entries.extend(trial.entries);
        self.positions.extend(trial.positions);
        Ok(SaveOutcome::Booked(outcome, Vec::new()))
    }
    /// What all savings come to, unpriced ones too.
    fn saved(&self) -> [i128; 7] {
        let saved = self.positions.values().filter_map(|position| match position {
            Position::Ended(_, ending) => ending.saved(),
            Position::Absent | Position::Open(_) => None,
        });
        let vectors = saved.map(|(usage, worth)| signed(&Quantities::of(&usage, worth)));
        vectors.fold([0; 7], |sum, one| std::array::from_fn(|i| sum[i] + one[i]))
    }
    fn grow(&mut self, grow: Grow) -> Result<GrowOutcome, LedgerError> {
        let request = grow.request.clone();
        let decision = book::grow(self.position(&request), grow)?;
        self.entries.extend(decision.entries);
        self.positions.insert(request, decision.position);
        Ok(decision.outcome)
    }
    fn end(
        &mut self,
        request: &RequestId,
        decide: impl FnOnce(&Position) -> Result<book::Decision<EndOutcome>, LedgerError>,
    ) -> Result<EndOutcome, LedgerError> {
        let decision = decide(self.position(request))?;
        self.entries.extend(decision.entries);
        self.positions.insert(request.clone(), decision.position);
        Ok(decision.outcome)
    }
    fn set_price(&mut self, change: PriceChange, versions: Vec<PriceVersion>) {
        assert!(versions.len() <= 1);
        for version in versions {
            assert_eq!((&version.model, &version.sheet), (&change.model, &change.sheet));
            self.prices.push(version);
        }
    }
    fn position(&self, request: &RequestId) -> &Position {
        self.positions.get(request).unwrap_or(&Position::Absent)
    }
    fn open(&self) -> usize {
        self.positions.values().filter(|position| matches!(position, Position::Open(_))).count()
    }
    /// What each side has in the end: all entries, added up.
    fn sides(&self) -> BTreeMap<Side, [i128; 7]> {
        let mut sides: BTreeMap<Side, [i128; 7]> = BTreeMap::new();
        for entry in &self.entries {
            let moved = signed(&entry.quantities);
            let from = sides.entry(entry.from).or_default();
            *from = std::array::from_fn(|i| from[i] - moved[i]);
            let to = sides.entry(entry.to).or_default();
            *to = std::array::from_fn(|i| to[i] + moved[i]);
        }
        sides
    }
}

/// A small generator (SplitMix64): the same seed gives the same run on every machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

fn a_usage(chance: &mut Chance) -> Usage {
    // Now and then a count that no entry holds.
    let huge = if chance.below(40) == 0 { u64::MAX / 2 } else { 0 };
    Usage {
        input_uncached: chance.below(200),
        cache_read: chance.below(200),
        cache_write_5m: chance.below(2) * chance.below(50),
        output: chance.below(200) + huge,
        ..Usage::default()
    }
}

fn a_hold(chance: &mut Chance, request: RequestId, now: ledger::Timestamp) -> Hold {
    let estimate = a_usage(chance);
    // Mostly one account, so that a repeat by another one is the exception.
    let account = chance.pick(&["local", "local", "local", "held"]).into();
    Hold::new(request, account, chance.pick(&["tiny", "tiny", "large"]).into(), estimate, now)
}

fn a_saving(chance: &mut Chance, request: RequestId, now: ledger::Timestamp) -> Saving {
    let usage = a_usage(chance);
    let Hold { request, account, key, task, end_user, model, circumstances, at, .. } =
        a_hold(chance, request, now);
    let way = [SavedBy::Cache, SavedBy::Twin][chance.below(2) as usize];
    Saving { request, account, key, task, end_user, model, circumstances, usage, at, way }
}

fn a_settlement(chance: &mut Chance, request: RequestId, now: ledger::Timestamp) -> Settlement {
    let usage = a_usage(chance);
    let end = [UsageEnd::Complete, UsageEnd::Truncated, UsageEnd::CancelledAborted][chance.below(3) as usize];
    Settlement { request, usage, end, source: UsageSource::Measured, at: now }
}

fn a_price(chance: &mut Chance, now: ledger::Timestamp) -> PriceChange {
    let mut price = || Some(domain::Price::from_pico_per_token(chance.below(5) * 100_000));
    let mut rates = Rates {
        input_uncached: price(),
        cache_read: price(),
        cache_write_5m: price(),
        cache_write_1h: None,
        output: price(),
    };
    if chance.below(3) == 0 {
        rates.cache_write_5m = None;
    }
    if chance.below(6) == 0 {
        rates = Rates::default();
    }
    let sheet = Sheet { standard: Schedule { rates, long: Vec::new() }, ..Sheet::unpriced() };
    PriceChange { model: chance.pick(&["tiny", "large"]).into(), sheet, valid_from: now }
}

#[test]
fn money_of_the_plain_book_is_in_picodollars() {
    let quantities = Quantities::of(&used(1, 2, 3), Some(Money::from_pico(7)));
    assert_eq!(signed(&quantities), [1, 2, 0, 0, 3, 0, 7]);
}

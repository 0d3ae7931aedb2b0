//! What do many replicas make of one shared book, when each of them may die between any two steps?
//!
//! The deciding is the ledger's own: [`ledger::book`] and [`ledger::budget`]. Simulated is all around it: a store whose
//! transactions are whole or not there, replicas that remember their shares, lose acknowledgements, sleep, wake up and find
//! that they were taken for dead, and clocks that jump. After every step [`Books::check`] adds everything up.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Price, RequestId, Usage, UsageEnd, UsageSource};
use ledger::budget::{Allowance, Charge, Need, Pool, Share, WindowKey};
use ledger::{
    EndOutcome, Entry, Grow, GrowOutcome, Hold, HoldOutcome, LedgerError, LimitId, LossReason, Measure,
    Position, PriceId, PriceVersion, Quantities, Release, ReleaseReason, Settlement, Sheet, Side, Timestamp,
    Window, book,
};

use crate::random::Random;

/// A process that was not seen for so long is dead to the others.
const DEAD_AFTER_MS: i64 = 15_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process(u64);

/// One rule that all replicas share.
#[derive(Clone, Debug)]
pub struct Rule {
    pub measure: Measure,
    pub amount: i64,
    pub window: Window,
}

/// What became of a transaction and of the replica that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Told,
    /// It is written, and the caller never hears of it; it will ask again.
    Unheard,
    /// The process died before the store had it.
    DiedBefore,
    /// The process died with its answer unsent.
    DiedAfter,
}

#[derive(Clone, Debug)]
struct Record {
    position: Position,
    entries: Vec<Entry>,
    process: Process,
    charges: Vec<Charge>,
}

/// What is on disk.
#[derive(Clone, Debug, Default)]
struct Store {
    requests: BTreeMap<RequestId, Record>,
    granted: BTreeMap<WindowKey, i64>,
    shares: BTreeMap<(WindowKey, Process), Share>,
    /// When each living process was last seen; those that have ended are not here.
    seen: BTreeMap<Process, i64>,
    /// Those that have ended, and whose holds and shares are still to be closed.
    unburied: BTreeSet<Process>,
    processes: u64,
}

/// One server: its memory is a copy of its own rows, and may be out of date only when others took it for dead.
#[derive(Debug)]
struct Replica {
    process: Process,
    allowance: Allowance,
    /// How far its clock is off.
    skew_ms: i64,
    is_asleep: bool,
}

/// A stream: a client somewhere counts what it has received.
#[derive(Debug)]
struct Stream {
    request: RequestId,
    replica: usize,
    process: Process,
    /// What the replica believes is held, and hence what it may deliver.
    held: u64,
    delivered: u64,
}

pub struct Books {
    rules: Vec<(LimitId, Rule)>,
    store: Store,
    replicas: Vec<Replica>,
    streams: Vec<Stream>,
    /// Delivered tokens of every request that ever was, as its client counted them.
    received: BTreeMap<RequestId, u64>,
    now_ms: i64,
    requests: u64,
    random: Random,
    /// Nothing fails any more.
    is_calm: bool,
    pub seen: Seen,
}

/// That a scenario has really happened: a simulation in which nobody is refused shows nothing about refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub opened: u64,
    pub refused: u64,
    pub grown: u64,
    pub cut: u64,
    pub crashes: u64,
    pub repeats: u64,
    pub lost: u64,
    pub fenced: u64,
    pub beyond: u64,
}

impl Books {
    pub fn new(seed: u64, replicas: usize, rules: Vec<Rule>) -> Self {
        let mut books = Self {
            rules: rules.into_iter().enumerate().map(|(id, rule)| (LimitId(id as i64), rule)).collect(),
            store: Store::default(),
            replicas: Vec::new(),
            streams: Vec::new(),
            received: BTreeMap::new(),
            now_ms: 1_000_000,
            requests: 0,
            random: Random::new(seed),
            is_calm: false,
            seen: Seen::default(),
        };
        for _ in 0..replicas {
            let process = books.store.register(books.now_ms);
            books.replicas.push(Replica {
                process,
                allowance: Allowance::default(),
                skew_ms: 0,
                is_asleep: false,
            });
        }
        books
    }

    /// Lets chance decide what happens next.
    pub fn step(&mut self) {
        let replica = self.random.between(0, self.replicas.len() - 1);
        match self.random.between(0, 29) {
            0..=7 => self.open(replica),
            8..=13 => self.deliver(),
            14..=17 => self.end(),
            18 => self.repeat_an_end(replica),
            19..=20 => self.tick(replica),
            21 => self.crash(replica),
            22 => self.replicas[replica].is_asleep = true,
            23 => self.replicas[replica].is_asleep = false,
            24 => self.replicas[replica].skew_ms = self.random.between(0, 180_000) as i64 - 90_000,
            25 => self.now_ms += self.random.between(0, 20_000) as i64,
            _ => self.now_ms += self.random.between(0, 2_000) as i64,
        }
    }

    /// Ends everything, lets the dead be buried, and takes back all that is idle.
    pub fn finish(&mut self) {
        for replica in 0..self.replicas.len() {
            self.replicas[replica].is_asleep = false;
        }
        while !self.streams.is_empty() {
            self.end();
        }
        self.is_calm = true;
        // One of the dead is buried at each tick, so there are as many ticks as there ever were processes.
        for _ in 0..=self.store.processes {
            self.now_ms += DEAD_AFTER_MS / 2;
            for replica in 0..self.replicas.len() {
                self.tick(replica);
            }
        }
        assert_eq!(
            (self.store.seen.len(), self.store.unburied.len()),
            (self.replicas.len(), 0),
            "only the living are left"
        );
        assert!(self.store.requests.values().all(|record| !matches!(record.position, Position::Open(_))));
        for (key, granted) in &self.store.granted {
            // A replica that used more than it held pays when it next asks for a grant.
            let owed = self.store.sum(key, |share| (-share.idle()).max(0));
            let spent = self.store.sum(key, |share| share.spent);
            assert_eq!(granted + owed, spent, "what is granted in the end is what was spent");
        }
    }

    fn open(&mut self, replica: usize) {
        if self.replicas[replica].is_asleep {
            return;
        }
        self.requests += 1;
        let request = RequestId::from_random(u128::from(self.requests));
        let account = if self.random.once_in(2) { "acme/research" } else { "acme/sales" };
        let output = self.random.between(0, 30) as u64;
        let estimate =
            Usage { input_uncached: self.random.between(1, 40) as u64, output, ..Usage::default() };
        let hold = Hold::new(request.clone(), account.into(), "tiny".into(), estimate, self.time_at(replica));
        // A caller that hears nothing asks again, once or twice.
        for _ in 0..3 {
            let (fate, outcome) = self.transact(replica, |this| this.hold(hold.clone()));
            match (fate, outcome) {
                (Fate::Told, Answer::Booked(HoldOutcome::Opened(..) | HoldOutcome::AlreadyOpen(_))) => {
                    self.seen.opened += 1;
                    let process = self.replicas[replica].process;
                    self.streams.push(Stream {
                        request: request.clone(),
                        replica,
                        process,
                        held: output,
                        delivered: 0,
                    });
                    return;
                }
                (Fate::Told, Answer::Refused) => {
                    self.seen.refused += 1;
                    return;
                }
                (Fate::Told, Answer::Booked(_)) => return,
                (Fate::Unheard, _) => self.seen.repeats += 1,
                (Fate::DiedBefore | Fate::DiedAfter, _) => return,
            }
        }
        // It gives up, and gives back what may have been held.
        let process = self.replicas[replica].process;
        self.streams.push(Stream { request, replica, process, held: 0, delivered: 0 });
        self.release(self.streams.len() - 1);
    }

    /// A stream goes on: inside what is held freely, beyond it only after the hold has grown.
    fn deliver(&mut self) {
        let Some(index) = self.awake_stream() else { return };
        let wanted = self.random.between(1, 20) as u64;
        let stream = &mut self.streams[index];
        let (request, replica) = (stream.request.clone(), stream.replica);
        if stream.delivered + wanted > stream.held {
            let total = stream.held + 20;
            let at = self.time_at(replica);
            let grow =
                Grow { request: request.clone(), estimate: Usage { output: total, ..Usage::default() }, at };
            let (fate, outcome) = self.transact(replica, |this| this.grow(grow));
            match (fate, outcome) {
                (Fate::Told, Answer::Booked(GrowOutcome::Grown(..))) => {
                    self.seen.grown += 1;
                    self.streams[index].held = total;
                }
                (Fate::Told, Answer::Refused) => {
                    self.seen.cut += 1;
                    return self.settle(index, UsageEnd::Truncated, 0);
                }
                (Fate::Told, Answer::Booked(_)) => {
                    self.streams.remove(index);
                    return;
                }
                // Nobody knows whether it has grown, so nothing more is delivered on its strength.
                (Fate::Unheard, _) | (Fate::DiedBefore | Fate::DiedAfter, _) => return,
            }
        }
        let stream = &mut self.streams[index];
        stream.delivered = (stream.delivered + wanted).min(stream.held);
        let delivered = stream.delivered;
        self.received.insert(request, delivered);
    }

    fn end(&mut self) {
        let Some(index) = self.awake_stream() else { return };
        if self.streams[index].delivered == 0 && self.random.once_in(3) {
            return self.release(index);
        }
        // An engine computes a little more than is delivered; a provider may report more than was held.
        let more = if self.random.once_in(12) { 50 } else { self.random.between(0, 1) as u64 };
        self.settle(index, UsageEnd::Complete, more);
    }

    fn settle(&mut self, index: usize, end: UsageEnd, more: u64) {
        let Stream { ref request, replica, delivered, .. } = self.streams[index];
        let usage = Usage {
            input_uncached: self.random.between(0, 40) as u64,
            output: delivered + more,
            ..Usage::default()
        };
        let (request, at, source) = (request.clone(), self.time_at(replica), UsageSource::Measured);
        let settlement = Settlement { request: request.clone(), usage, end, source, at };
        self.finish_stream(index, &request, replica, |position| book::settle(position, settlement.clone()));
    }

    fn release(&mut self, index: usize) {
        let Stream { ref request, replica, .. } = self.streams[index];
        let release = Release {
            request: request.clone(),
            reason: ReleaseReason::ClientLeft,
            at: self.time_at(replica),
        };
        let request = request.clone();
        if !self.store.requests.contains_key(&request) {
            self.streams.remove(index);
            return;
        }
        self.finish_stream(index, &request, replica, |position| book::release(position, release.clone()));
    }

    /// Asks until it is told, as the gateway does; if the process dies meanwhile, its stream is gone with it.
    fn finish_stream(
        &mut self,
        index: usize,
        request: &RequestId,
        replica: usize,
        decide: impl Fn(&Position) -> Result<book::Decision<EndOutcome>, LedgerError>,
    ) {
        self.streams.remove(index);
        loop {
            let (fate, outcome) = self.transact(replica, |this| this.end(request, &decide));
            match fate {
                Fate::Told => {
                    self.seen.beyond += u64::from(!outcome.excess().is_zero());
                    return;
                }
                Fate::Unheard => self.seen.repeats += 1,
                Fate::DiedBefore | Fate::DiedAfter => return,
            }
        }
    }

    /// Somebody sends the end of a request that has ended long ago, with other numbers.
    fn repeat_an_end(&mut self, replica: usize) {
        let ended = self.store.requests.iter().find_map(|(request, record)| {
            matches!(record.position, Position::Ended(..)).then(|| (request.clone(), record.clone()))
        });
        let Some((request, before)) = ended.filter(|_| !self.replicas[replica].is_asleep) else { return };
        let usage = Usage { output: 1_000, ..Usage::default() };
        let (end, source, at) = (UsageEnd::Complete, UsageSource::Provider, self.time_at(replica));
        let settlement = Settlement { request: request.clone(), usage, end, source, at };
        let (_, outcome) = self.transact(replica, |this| {
            this.end(&request, &|position: &Position| book::settle(position, settlement.clone()))
        });
        assert!(outcome.repeated);
        assert_eq!(self.store.requests[&request].entries, before.entries, "an end is booked once");
    }

    /// What a server does every moment: says that it lives, gives back what is idle, and buries the dead.
    fn tick(&mut self, replica: usize) {
        if self.replicas[replica].is_asleep {
            return;
        }
        let now_ms = self.now_ms;
        self.transact(replica, |this| {
            this.store.seen.insert(this.process, now_ms);
            let shares: Vec<_> = this.allowance.shares().map(|(key, share)| (key.clone(), *share)).collect();
            for (key, mut share) in shares {
                *this.store.granted.entry(key.clone()).or_default() -= share.give_back();
                this.allowance.set_share(key, share);
            }
        });
        // First it is fenced: whatever it remembers of its shares is worth nothing from now on. Only then are its holds lost,
        // and only when none is open are its shares taken back. Each is a transaction of its own: whoever buries may die in
        // between, and another one goes on.
        let silent = |(process, seen): (&Process, &i64)| (now_ms - seen > DEAD_AFTER_MS).then_some(*process);
        if let Some(dead) = self.store.seen.iter().find_map(silent) {
            self.transact(replica, |this| {
                if this.store.seen.get(&dead).is_some_and(|seen| now_ms - seen > DEAD_AFTER_MS) {
                    this.store.seen.remove(&dead);
                    this.store.unburied.insert(dead);
                }
            });
        }
        let Some(dead) = self.store.unburied.first().copied() else { return };
        let at = self.time_at(replica);
        for request in self.store.open_of(dead) {
            let lose = |position: &Position| book::lose(position, &request, LossReason::ProcessLost, at);
            let (_, outcome) = self.transact(replica, |this| this.end(&request, &lose));
            self.seen.lost += u64::from(!outcome.repeated);
        }
        self.transact(replica, |this| {
            if this.store.open_of(dead).is_empty() {
                this.store.bury(dead);
            }
        });
    }

    fn crash(&mut self, replica: usize) {
        self.seen.crashes += 1;
        let dead = self.replicas[replica].process;
        self.streams.retain(|stream| stream.process != dead);
        self.restart(replica);
    }

    fn restart(&mut self, replica: usize) {
        let process = self.store.register(self.now_ms);
        let skew_ms = self.replicas[replica].skew_ms;
        self.replicas[replica] =
            Replica { process, allowance: Allowance::default(), skew_ms, is_asleep: false };
    }

    /// Runs `act` in a transaction of this replica and lets chance decide whether it is written and whether anybody hears.
    fn transact<T>(&mut self, replica: usize, act: impl FnOnce(&mut Transaction<'_>) -> T) -> (Fate, T) {
        let process = self.replicas[replica].process;
        if !self.store.seen.contains_key(&process) {
            // It slept so long that it was buried. It begins again under a new name; its streams will find out one by one.
            self.seen.fenced += 1;
            self.restart(replica);
        }
        let process = self.replicas[replica].process;
        let mut store = self.store.clone();
        let mut allowance = self.replicas[replica].allowance.clone();
        let mut transaction =
            Transaction { store: &mut store, allowance: &mut allowance, process, rules: &self.rules };
        let outcome = act(&mut transaction);
        for (key, share) in allowance.shares() {
            store.shares.insert((key.clone(), process), *share);
        }
        let fate = match self.random.between(0, 39) {
            _ if self.is_calm => Fate::Told,
            0 => Fate::DiedBefore,
            1 => Fate::DiedAfter,
            2..=5 => Fate::Unheard,
            _ => Fate::Told,
        };
        if fate != Fate::DiedBefore {
            self.store = store;
            self.replicas[replica].allowance = allowance;
        }
        if matches!(fate, Fate::DiedBefore | Fate::DiedAfter) {
            self.crash(replica);
        }
        (fate, outcome)
    }

    fn awake_stream(&mut self) -> Option<usize> {
        let awake: Vec<usize> = (0..self.streams.len())
            .filter(|index| !self.replicas[self.streams[*index].replica].is_asleep)
            .collect();
        (!awake.is_empty()).then(|| *self.random.pick(&awake))
    }

    fn time_at(&self, replica: usize) -> Timestamp {
        Timestamp::from_millis(self.now_ms + self.replicas[replica].skew_ms)
    }

    /// Adds everything up. Panics where the book does not balance or a rule is broken.
    pub fn check(&self) {
        self.check_entries();
        self.check_deliveries();
        self.check_rules();
    }

    fn check_entries(&self) {
        let mut sides: BTreeMap<Side, [i128; 7]> = BTreeMap::new();
        let mut add = |side, quantities: &Quantities, sign: i128| {
            let sum = sides.entry(side).or_insert([0; 7]);
            for (sum, tokens) in sum.iter_mut().zip(quantities.tokens) {
                *sum += sign * i128::from(tokens);
            }
            sum[6] += sign * quantities.money.pico();
        };
        let (mut reserved, mut used) = (Quantities::default(), Quantities::default());
        for (request, record) in &self.store.requests {
            for entry in &record.entries {
                add(entry.from, &entry.quantities, -1);
                add(entry.to, &entry.quantities, 1);
            }
            match &record.position {
                Position::Absent => panic!("{request} is in the book and was never opened"),
                Position::Open(held) => reserved = reserved.with(&held.quantities()),
                Position::Ended(_, ending) => {
                    let usage = ending.usage().expect("no end of today leaves its usage unknown");
                    used = used.with(&Quantities::of(&usage, ending.cost));
                }
            }
        }
        let sum = sides.values().fold([0; 7], |sum, side| std::array::from_fn(|i| sum[i] + side[i]));
        assert_eq!(sum, [0; 7], "all entries sum to zero");
        for (side, expected) in [(Side::Held, reserved), (Side::Earned, used)] {
            let mut vector = [0; 7];
            for (value, tokens) in vector.iter_mut().zip(expected.tokens) {
                *value = i128::from(tokens);
            }
            vector[6] = expected.money.pico();
            assert_eq!(
                sides.get(&side).copied().unwrap_or_default(),
                vector,
                "{side:?} is what the requests say"
            );
        }
    }

    /// What a client has received is booked, or still covered by an open hold.
    fn check_deliveries(&self) {
        for (request, received) in &self.received {
            let covered = match &self.store.requests[request].position {
                Position::Absent => 0,
                Position::Open(held) => held.hold.estimate.output,
                Position::Ended(_, ending) => ending.usage().map_or(0, |usage| usage.output),
            };
            assert!(
                *received <= covered,
                "{request}: {received} tokens were delivered and {covered} are booked"
            );
        }
    }

    fn check_rules(&self) {
        for (key, granted) in &self.store.granted {
            let cap = self.rules[key.limit.0 as usize].1.amount;
            assert_eq!(
                *granted,
                self.store.sum(key, |share| share.granted),
                "the pool knows every grant of {key:?}"
            );
            let (reserved, spent, beyond) = self.counted(key);
            assert_eq!(
                self.store.sum(key, |share| share.held),
                reserved,
                "what is held belongs to open holds"
            );
            assert_eq!(
                self.store.sum(key, |share| share.spent),
                spent,
                "what is spent belongs to ended requests"
            );
            assert!(
                reserved + spent <= cap + beyond,
                "{} of {cap} are gone, {beyond} of them beyond holds",
                reserved + spent
            );
            assert!(*granted <= cap + beyond, "{granted} of {cap} are granted");
        }
    }

    /// Returns what the requests themselves say of a window: reserved, spent, and spent beyond their holds.
    fn counted(&self, key: &WindowKey) -> (i64, i64, i64) {
        let (mut reserved, mut spent, mut beyond) = (0, 0, 0);
        for record in self.store.requests.values() {
            for charge in record.charges.iter().filter(|charge| charge.key == *key) {
                match &record.position {
                    Position::Absent => {}
                    Position::Open(held) => reserved += charge.reserved(held),
                    Position::Ended(held, ending) => {
                        spent += charge.spent(ending);
                        beyond += (charge.spent(ending) - charge.reserved(held)).max(0);
                    }
                }
            }
        }
        (reserved, spent, beyond)
    }
}

/// What a rule or the book said.
enum Answer<Outcome> {
    Refused,
    Booked(Outcome),
}

/// A draft of the store and of one replica's memory: what the ledger's writer does between BEGIN and COMMIT.
struct Transaction<'a> {
    store: &'a mut Store,
    allowance: &'a mut Allowance,
    process: Process,
    rules: &'a [(LimitId, Rule)],
}

impl Transaction<'_> {
    fn hold(&mut self, hold: Hold) -> Answer<HoldOutcome> {
        let known = self.store.requests.get(&hold.request);
        let position = known.map_or(Position::Absent, |record| record.position.clone());
        let request = hold.request.clone();
        let at = hold.at;
        let decision = book::hold(&position, hold, Some(price())).expect("the same hold, and small numbers");
        let HoldOutcome::Opened(held, _) = &decision.outcome else { return Answer::Booked(decision.outcome) };
        let charges: Vec<Charge> = self.rules.iter().map(|(limit, rule)| charge(*limit, rule, at)).collect();
        let needs: Vec<Need> = charges.iter().map(|charge| need_of(charge, charge.reserved(held))).collect();
        if !self.reserve(&needs) {
            return Answer::Refused;
        }
        let record =
            Record { position: decision.position, entries: decision.entries, process: self.process, charges };
        self.store.requests.insert(request, record);
        Answer::Booked(decision.outcome)
    }

    fn grow(&mut self, grow: Grow) -> Answer<GrowOutcome> {
        let record = self.store.requests[&grow.request].clone();
        let request = grow.request.clone();
        let decision = book::grow(&record.position, grow).expect("it was held, and numbers are small");
        let (Position::Open(held), GrowOutcome::Grown(grown, _)) = (&record.position, &decision.outcome)
        else {
            return Answer::Booked(decision.outcome);
        };
        if record.process != self.process {
            // Its hold is still open, under the name that this process had before it was buried.
            return Answer::Refused;
        }
        let more = |charge: &Charge| need_of(charge, charge.reserved(grown) - charge.reserved(held));
        let needs: Vec<Need> = record.charges.iter().map(more).collect();
        if !self.reserve(&needs) {
            return Answer::Refused;
        }
        let kept = self.store.requests.get_mut(&request).expect("it was just read");
        kept.position = decision.position;
        kept.entries.extend(decision.entries);
        Answer::Booked(decision.outcome)
    }

    fn end(
        &mut self,
        request: &RequestId,
        decide: &impl Fn(&Position) -> Result<book::Decision<EndOutcome>, LedgerError>,
    ) -> EndOutcome {
        let record = self.store.requests.get_mut(request).expect("only what was held is ended");
        let decision = decide(&record.position).expect("it was held, and numbers are small");
        if decision.outcome.repeated {
            return decision.outcome;
        }
        record.position = decision.position;
        record.entries.extend(decision.entries);
        let (process, charges) = (record.process, record.charges.clone());
        let EndOutcome { held, ending, .. } = &decision.outcome;
        for charge in &charges {
            let (reserved, spent) = (charge.reserved(held), charge.spent(ending));
            if process == self.process {
                self.allowance.settle(&charge.key, reserved, spent);
            } else {
                // Somebody else's row: only of a process that nobody has seen for long.
                self.store.shares.entry((charge.key.clone(), process)).or_default().settle(reserved, spent);
            }
        }
        decision.outcome
    }

    /// Inside its own shares first; only when these are short are the pools locked.
    fn reserve(&mut self, needs: &[Need]) -> bool {
        let processes = self.store.seen.len() as i64;
        if self.allowance.reserve(needs, processes).is_ok() {
            return true;
        }
        for need in needs {
            let key = need.key.clone();
            let cap = self.rules[key.limit.0 as usize].1.amount;
            let granted = self.store.granted.get(&key).copied().unwrap_or(0);
            let pool = Pool { cap, granted, elsewhere: 0, idle_elsewhere: 0 };
            self.allowance.lock_pool(key, pool);
        }
        let reserved = self.allowance.reserve(needs, processes).is_ok();
        for (key, pool) in self.allowance.unlock_pools() {
            self.store.granted.insert(key, pool.granted);
        }
        reserved
    }
}

impl Store {
    fn register(&mut self, now_ms: i64) -> Process {
        self.processes += 1;
        self.seen.insert(Process(self.processes), now_ms);
        Process(self.processes)
    }

    fn open_of(&self, process: Process) -> Vec<RequestId> {
        let open =
            |record: &Record| record.process == process && matches!(record.position, Position::Open(_));
        self.requests.iter().filter(|(_, record)| open(record)).map(|(request, _)| request.clone()).collect()
    }

    /// Takes back what a dead process had not spent; what it owed is covered, for it is spent.
    fn bury(&mut self, dead: Process) {
        self.unburied.remove(&dead);
        for ((key, _), share) in self.shares.iter_mut().filter(|((_, process), _)| *process == dead) {
            let idle = share.granted - share.spent;
            share.granted -= idle;
            *self.granted.entry(key.clone()).or_default() -= idle;
        }
    }

    fn sum(&self, key: &WindowKey, of: impl Fn(&Share) -> i64) -> i64 {
        self.shares.iter().filter(|((known, _), _)| known == key).map(|(_, share)| of(share)).sum()
    }
}

fn charge(limit: LimitId, rule: &Rule, at: Timestamp) -> Charge {
    let start = rule.window.span(at).start;
    Charge { key: WindowKey { limit, subject: "".into(), start }, measure: rule.measure }
}

fn need_of(charge: &Charge, amount: i64) -> Need {
    Need { key: charge.key.clone(), amount, is_binding: true }
}

/// 10 picodollars for a token in, 40 for one out.
fn price() -> PriceVersion {
    let pico = Price::from_pico_per_token;
    let sheet = Sheet::per_token(pico(10), pico(1), pico(40));
    PriceVersion { id: PriceId(1), model: "tiny".into(), sheet, valid_from: Timestamp::MIN }
}

//! Whatever order processes act in, and whatever their clocks do: is more than the amount ever promised?

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Allowance, Need, Pool, Share, Window, WindowKey};
use crate::Timestamp;
use crate::budget::LimitId;

const PROCESSES: usize = 3;
const CAP: i64 = 1_000;

#[derive(Clone, Debug)]
enum Step {
    Hold {
        process: usize,
        amount: i64,
    },
    Grow {
        hold: usize,
        more: i64,
    },
    /// Uses this many hundredths of what is held.
    Settle {
        hold: usize,
        percent: i64,
    },
    Release {
        hold: usize,
    },
    /// The process is gone; somebody loses its holds and takes back what it had not spent.
    Crash {
        process: usize,
    },
    GiveBack {
        process: usize,
    },
    /// Clocks go forward, or are set back.
    Clock {
        process: usize,
        seconds: i64,
    },
}

#[derive(Debug)]
struct OpenHold {
    process: usize,
    key: WindowKey,
    amount: i64,
}

/// The store, and the processes that share it.
struct World {
    window: Window,
    /// Granted in each window, as the store has it.
    granted: BTreeMap<WindowKey, i64>,
    processes: [Allowance; PROCESSES],
    clocks: [i64; PROCESSES],
    holds: Vec<OpenHold>,
    /// What processes that are gone have spent in each window.
    bygone: BTreeMap<WindowKey, i64>,
    refused_with_room: usize,
}

impl World {
    fn new(window: &str) -> Self {
        Self {
            window: window.parse().unwrap(),
            granted: BTreeMap::new(),
            processes: Default::default(),
            clocks: [1_000_000; PROCESSES],
            holds: Vec::new(),
            bygone: BTreeMap::new(),
            refused_with_room: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Hold { process, amount } => {
                let now = Timestamp::from_millis(self.clocks[process] * 1_000);
                let start = self.window.span(now).start;
                let key = WindowKey { limit: LimitId(1), subject: "".into(), start };
                if self.reserve(process, &key, amount) {
                    self.holds.push(OpenHold { process, key, amount });
                }
            }
            Step::Grow { hold, more } => {
                let Some(index) = self.pick(hold) else { return };
                let (process, key) = (self.holds[index].process, self.holds[index].key.clone());
                if self.reserve(process, &key, more) {
                    self.holds[index].amount += more;
                }
            }
            Step::Settle { hold, percent } => {
                let Some(index) = self.pick(hold) else { return };
                let hold = self.holds.swap_remove(index);
                self.processes[hold.process].settle(&hold.key, hold.amount, hold.amount * percent / 100);
            }
            Step::Release { hold } => {
                let Some(index) = self.pick(hold) else { return };
                let hold = self.holds.swap_remove(index);
                self.processes[hold.process].settle(&hold.key, hold.amount, 0);
            }
            Step::Crash { process } => self.crash(process),
            Step::GiveBack { process } => self.give_back(process),
            Step::Clock { process, seconds } => {
                self.clocks[process] = (self.clocks[process] + seconds).max(0)
            }
        }
    }

    fn reserve(&mut self, process: usize, key: &WindowKey, amount: i64) -> bool {
        let pool = self.pool(process, key);
        let allowance = &mut self.processes[process];
        let idle = allowance.share(key).idle();
        allowance.lock_pool(key.clone(), pool);
        let needs = [Need { key: key.clone(), amount, is_binding: true }];
        let reserved = allowance.reserve(&needs, PROCESSES as i64);
        for (key, pool) in allowance.unlock_pools() {
            self.granted.insert(key, pool.granted);
        }
        if let Err(lack) = &reserved {
            let room = lack.needed <= idle + pool.rest() + pool.idle_elsewhere;
            assert_eq!(room, lack.is_worth_waiting);
            self.refused_with_room += usize::from(room);
        }
        reserved.is_ok()
    }

    fn pool(&self, process: usize, key: &WindowKey) -> Pool {
        let counts_with = |other: &WindowKey| {
            other != key
                && (self.window.counted_since(key.start) <= other.start && other.start <= key.start
                    || self.window.counted_since(other.start) <= key.start && key.start <= other.start)
        };
        let elsewhere =
            self.granted.iter().filter(|(other, _)| counts_with(other)).map(|(_, granted)| granted).sum();
        let others = self.processes.iter().enumerate().filter(|(other, _)| *other != process);
        let idle_elsewhere = others.map(|(_, allowance)| allowance.share(key).idle().max(0)).sum();
        Pool { cap: CAP, granted: self.granted.get(key).copied().unwrap_or(0), elsewhere, idle_elsewhere }
    }

    fn give_back(&mut self, process: usize) {
        let shares: Vec<(WindowKey, Share)> =
            self.processes[process].shares().map(|(key, share)| (key.clone(), *share)).collect();
        for (key, mut share) in shares {
            *self.granted.get_mut(&key).unwrap() -= share.give_back();
            self.processes[process].set_share(key, share);
        }
    }

    fn crash(&mut self, process: usize) {
        for hold in self.holds.extract_if(.., |hold| hold.process == process) {
            self.processes[process].settle(&hold.key, hold.amount, hold.amount);
        }
        self.give_back(process);
        for (key, share) in std::mem::take(&mut self.processes[process]).shares() {
            *self.bygone.entry(key.clone()).or_default() += share.spent;
        }
    }

    fn pick(&self, hold: usize) -> Option<usize> {
        (!self.holds.is_empty()).then(|| hold % self.holds.len())
    }

    fn check(&self) {
        for (key, granted) in &self.granted {
            let shares = self.processes.iter().map(|allowance| allowance.share(key));
            let of_living: i64 = shares.map(|share| share.granted).sum();
            let bygone = self.bygone.get(key).copied().unwrap_or(0);
            assert_eq!(*granted, of_living + bygone, "the pool knows every grant");
            assert!(*granted <= CAP, "grants never sum above the amount");
        }
        for (process, allowance) in self.processes.iter().enumerate() {
            for (key, share) in allowance.shares() {
                assert!(share.idle() >= 0 && share.spent >= 0, "nobody goes beyond its grant: {share:?}");
                let open = self.holds.iter().filter(|hold| hold.process == process && hold.key == *key);
                assert_eq!(
                    share.held,
                    open.map(|hold| hold.amount).sum::<i64>(),
                    "what is held belongs to a hold"
                );
            }
        }
        // Whichever window one looks at, with all that counts with it: spent and held are inside the amount.
        for anchor in self.granted.keys() {
            let since = self.window.counted_since(anchor.start);
            let counted: i64 = self
                .granted
                .keys()
                .filter(|key| since <= key.start && key.start <= anchor.start)
                .map(|key| {
                    let shares = self.processes.iter().map(|allowance| allowance.share(key));
                    shares.map(|share| share.spent + share.held).sum::<i64>()
                        + self.bygone.get(key).copied().unwrap_or(0)
                })
                .sum();
            assert!(counted <= CAP, "{counted} of {CAP} around {:?}", anchor.start);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let process = 0..PROCESSES;
    prop_oneof![
        8 => (process.clone(), 1..200i64).prop_map(|(process, amount)| Step::Hold { process, amount }),
        4 => (0..64usize, 0..100i64).prop_map(|(hold, more)| Step::Grow { hold, more }),
        6 => (0..64usize, 0..=100i64).prop_map(|(hold, percent)| Step::Settle { hold, percent }),
        2 => (0..64usize).prop_map(|hold| Step::Release { hold }),
        1 => process.clone().prop_map(|process| Step::Crash { process }),
        2 => process.clone().prop_map(|process| Step::GiveBack { process }),
        2 => (process, -400..600i64).prop_map(|(process, seconds)| Step::Clock { process, seconds }),
    ]
}

fn run(window: &str, steps: Vec<Step>) {
    let mut world = World::new(window);
    for step in steps {
        world.step(step);
        world.check();
    }
    // Everything ends: what is left granted is what was spent, to the unit.
    while !world.holds.is_empty() {
        world.step(Step::Settle { hold: 0, percent: 50 });
    }
    for process in 0..PROCESSES {
        world.step(Step::GiveBack { process });
    }
    world.check();
    for (key, granted) in &world.granted {
        let spent: i64 = world.processes.iter().map(|allowance| allowance.share(key).spent).sum();
        assert_eq!(*granted, spent + world.bygone.get(key).copied().unwrap_or(0));
    }
}

proptest! {
    #[test]
    fn processes_never_promise_more_than_the_amount_together(steps in prop::collection::vec(step(), 1..120)) {
        run("total", steps);
    }

    #[test]
    fn clocks_that_jump_at_a_window_roll_open_nothing_twice(steps in prop::collection::vec(step(), 1..120)) {
        run("minute", steps);
    }

    #[test]
    fn a_rolling_window_holds_within_every_stretch_of_its_length(steps in prop::collection::vec(step(), 1..120)) {
        run("rolling 10m", steps);
    }
}

#[test]
fn a_process_that_is_refused_gets_what_others_give_back() {
    let mut world = World::new("total");
    world.step(Step::Hold { process: 0, amount: 1 });
    world.step(Step::Hold { process: 1, amount: 1 });
    world.step(Step::Hold { process: 2, amount: 900 });
    assert_eq!((world.holds.len(), world.refused_with_room), (2, 1));
    world.step(Step::GiveBack { process: 0 });
    world.step(Step::GiveBack { process: 1 });
    world.step(Step::Hold { process: 2, amount: 900 });
    assert_eq!((world.holds.len(), world.refused_with_room), (3, 1));
    world.check();
}

#[test]
fn a_hold_is_counted_in_the_window_that_it_was_opened_in_whenever_it_ends() {
    let mut world = World::new("minute");
    world.step(Step::Hold { process: 0, amount: 600 });
    let opened = world.holds[0].key.clone();
    world.step(Step::Clock { process: 0, seconds: 120 });
    world.step(Step::Grow { hold: 0, more: 100 });
    world.step(Step::Hold { process: 0, amount: 1_000 });
    assert_eq!(world.holds.len(), 2, "a new minute has its own amount");
    world.step(Step::Settle { hold: 0, percent: 100 });
    assert_eq!(world.processes[0].share(&opened).spent, 700);
    world.step(Step::Clock { process: 0, seconds: -120 });
    world.step(Step::Hold { process: 0, amount: 301 });
    assert_eq!(world.holds.len(), 1, "a clock that goes back finds the window as spent as it was");
}

//! Many tasks at once, in any order: does the book balance, does each request begin once and end once, do limits hold?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use domain::RequestId;
use ledger::{Grow, HoldOutcome, Journal, LedgerError, Release, ReleaseReason};

use super::support::*;

const TASKS: u64 = 24;
const STEPS: u64 = 60;
/// Few, so that tasks meet at the same request.
const REQUESTS: u64 = 150;

/// What all tasks together were told of each request.
#[derive(Default)]
struct Told {
    opened: BTreeMap<RequestId, usize>,
    ended: BTreeMap<RequestId, usize>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_that_hold_grow_end_and_repeat_at_random_make_one_sound_book() {
    let Some(home) = Home::new() else { return };
    let seed = std::env::var("LEDGER_SEED").map_or(1, |seed| seed.parse().expect("LEDGER_SEED is a number"));
    let journal = home.open().await;
    let told = Arc::new(Mutex::new(Told::default()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(act_at_random(journal.clone(), Chance(seed * 1_000 + task), told.clone())))
        .collect();
    for task in tasks {
        task.await.unwrap_or_else(|panic| panic!("LEDGER_SEED={seed}: {panic}"));
    }
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(told.opened.values().all(|times| *times == 1), "LEDGER_SEED={seed}: a request was begun twice");
    assert!(told.ended.values().all(|times| *times == 1), "LEDGER_SEED={seed}: a request was ended twice");
    let open = told.opened.keys().filter(|request| !told.ended.contains_key(request)).count();
    let integrity = journal.check_integrity().await.unwrap();
    assert!(integrity.is_sound(), "LEDGER_SEED={seed}: {:#?}", integrity.faults);
    assert_eq!((integrity.requests, integrity.open_holds), (told.opened.len() as u64, open as u64));
}

async fn act_at_random(journal: Journal, mut chance: Chance, told: Arc<Mutex<Told>>) {
    for _ in 0..STEPS {
        let request = request(chance.below(REQUESTS).into());
        match chance.below(10) {
            0..4 => {
                if let HoldOutcome::Opened(..) = journal.hold(hold(request.clone())).await.unwrap() {
                    *told.lock().unwrap().opened.entry(request).or_default() += 1;
                }
            }
            4..6 => {
                let estimate = used(100, 0, 50 + chance.below(500));
                let grown = journal.grow(Grow { request, estimate, at: at(1_500) }).await;
                assert!(matches!(grown, Ok(_) | Err(LedgerError::NoHold { .. })), "{grown:?}");
            }
            6..9 => {
                let usage = used(chance.below(120), chance.below(20), chance.below(700));
                count_end(&told, &request, journal.settle(settlement(request.clone(), usage)).await);
            }
            _ => {
                let release =
                    Release { request: request.clone(), reason: ReleaseReason::ClientLeft, at: at(2_000) };
                count_end(&told, &request, journal.release(release).await);
            }
        }
    }
}

fn count_end(told: &Mutex<Told>, request: &RequestId, end: Result<ledger::EndOutcome, LedgerError>) {
    match end {
        Ok(end) => {
            *told.lock().unwrap().ended.entry(request.clone()).or_default() += usize::from(!end.repeated)
        }
        Err(LedgerError::NoHold { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A small generator (SplitMix64): the same seed gives the same choices on every machine; their order in time is the machine's.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }
}

//! Whatever replicas, stores and clocks do: the book balances, rules hold, and what was delivered is booked.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use ledger::Measure;
use simulator::book::{Books, Rule, Seen};

const STEPS: usize = 250;

/// `BOOK_SEEDS=5000` for a long night; `BOOK_SEED=17` repeats one, and then it becomes a named test below.
fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("BOOK_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("BOOK_SEEDS").unwrap_or(200)).collect(),
    }
}

fn rules() -> Vec<Rule> {
    vec![
        // 10 picodollars a token in, 40 out: room for some thirty requests.
        Rule { measure: Measure::Money, amount: 40_000, window: "total".parse().unwrap() },
        Rule { measure: Measure::Tokens, amount: 500, window: "minute".parse().unwrap() },
        Rule { measure: Measure::Concurrency, amount: 6, window: "total".parse().unwrap() },
    ]
}

fn run(seed: u64, replicas: usize, rules: Vec<Rule>) -> Seen {
    let mut books = Books::new(seed, replicas, rules);
    let run = AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            books.step();
            books.check();
        }
        books.finish();
        books.check();
    });
    if let Err(panic) = catch_unwind(run) {
        eprintln!("BOOK_SEED={seed} breaks the book");
        resume_unwind(panic);
    }
    books.seen
}

#[test]
fn replicas_that_die_sleep_and_repeat_themselves_share_rules_that_hold() {
    let mut sum = Seen::default();
    for seed in seeds() {
        let seen = run(seed, 3, rules());
        sum.opened += seen.opened;
        sum.refused += seen.refused;
        sum.grown += seen.grown;
        sum.cut += seen.cut;
        sum.crashes += seen.crashes;
        sum.repeats += seen.repeats;
        sum.lost += seen.lost;
        sum.fenced += seen.fenced;
        sum.beyond += seen.beyond;
    }
    eprintln!("{sum:?}");
    // Nothing was shown where nothing happened.
    let Seen { opened, refused, grown, cut, crashes, repeats, lost, fenced, beyond } = sum;
    assert!(
        [opened, refused, grown, cut, crashes, repeats, lost, fenced, beyond].iter().all(|count| *count > 0),
        "{sum:?}"
    );
}

#[test]
fn one_replica_alone_is_the_same_book() {
    for seed in seeds() {
        run(seed, 1, rules());
    }
}

#[test]
fn many_replicas_fight_for_a_little_money() {
    for seed in seeds() {
        run(seed, 8, vec![Rule { measure: Measure::Money, amount: 6_000, window: "total".parse().unwrap() }]);
    }
}

use std::time::Duration;

use domain::{Account, Delta, Finish, FinishReason};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Map;
use tokio::task::yield_now;

use super::*;
use crate::key::tests::ask;

type Failure = &'static str;

fn key(text: &str) -> AskKey {
    crate::ask_key(&ask(text), &Account::from("acme"), &Map::new())
}

fn said(text: impl Into<String>) -> AnswerEvent {
    AnswerEvent::Delta { choice: 0, delta: Delta::Text(text.into()) }
}

fn usage(output: u64) -> Usage {
    Usage { output, ..Usage::default() }
}

fn lead(twins: &Twins<Failure>) -> Leader<Failure> {
    match twins.join(key("q")) {
        Joined::Lead(leader) => leader,
        Joined::Follow(_) => panic!("somebody leads already"),
    }
}

fn follow(twins: &Twins<Failure>) -> Follower<Failure> {
    match twins.join(key("q")) {
        Joined::Follow(follower) => follower,
        Joined::Lead(_) => panic!("nobody leads"),
    }
}

/// Everything until something else than an event.
async fn drain(follower: &mut Follower<Failure>) -> (String, Step<Failure>) {
    let mut text = String::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(10), follower.next())
            .await
            .expect("nobody waits for ever")
        {
            Step::Event(event) => match &*event {
                AnswerEvent::Delta { delta: Delta::Text(more), .. } => text.push_str(more),
                other => text.push_str(&format!("{other:?}")),
            },
            step => return (text, step),
        }
    }
}

#[tokio::test]
async fn who_joins_in_mid_stream_is_given_everything_from_the_start() {
    let twins = Twins::new(TwinOptions::default());
    let leader = lead(&twins);
    leader.say(&said("Hel"));
    let mut early = follow(&twins);
    assert!(matches!(early.next().await, Step::Event(event) if *event == said("Hel")));
    leader.say(&said("lo"));
    let mut late = follow(&twins);
    leader.finish(usage(2));
    let (text, end) = drain(&mut early).await;
    assert!(text == "lo" && matches!(end, Step::Finished(took) if took == usage(2)));
    let (text, end) = drain(&mut late).await;
    assert!(text == "Hello" && matches!(end, Step::Finished(_)));
    assert!(matches!(twins.join(key("q")), Joined::Lead(_)), "what is over is asked anew");
    assert!(matches!(twins.join(key("other")), Joined::Lead(_)));
}

#[tokio::test]
async fn a_failure_is_everyones() {
    let twins = Twins::new(TwinOptions::default());
    let leader = lead(&twins);
    let mut follower = follow(&twins);
    leader.say(&said("Hel"));
    leader.fail("out of tokens");
    assert!(matches!(follower.next().await, Step::Failed("out of tokens")));
}

#[tokio::test]
async fn when_the_leader_leaves_one_who_was_given_nothing_leads_and_who_was_given_something_is_told() {
    let twins = Twins::new(TwinOptions::default());
    let leader = lead(&twins);
    let (mut first, mut second, mut given) = (follow(&twins), follow(&twins), follow(&twins));
    leader.say(&said("Hel"));
    assert!(matches!(given.next().await, Step::Event(_)));
    leader.say(&said("lo"));
    drop(leader);
    assert!(matches!(given.next().await, Step::Left), "a half answer is never a whole one");
    let Step::Lead(next) = first.next().await else { panic!("nobody else leads") };
    next.say(&said("anew"));
    assert!(matches!(second.next().await, Step::Event(event) if *event == said("anew")));
    next.finish(usage(1));
    let (text, end) = drain(&mut second).await;
    assert!(text.is_empty() && matches!(end, Step::Finished(_)), "{text} {end:?}");
}

#[tokio::test]
async fn a_long_answer_takes_no_more_followers_and_keeps_only_what_the_slowest_lacks() {
    let one = log::event_bytes(&said("x".repeat(100)));
    let twins = Twins::new(TwinOptions { answer_bytes_max: 4 * one, ..TwinOptions::default() });
    let leader = lead(&twins);
    let mut quick = follow(&twins);
    for number in 0..20 {
        leader.say(&said("x".repeat(100)));
        assert!(twins.bytes() <= 4 * one, "{number}");
        assert!(matches!(quick.next().await, Step::Event(_)), "{number}");
    }
    let Joined::Lead(second) = twins.join(key("q")) else { panic!("too late to follow") };
    leader.finish(usage(20));
    assert!(matches!(quick.next().await, Step::Finished(_)));
    drop((quick, second));
    assert_eq!(twins.bytes(), 0);
}

#[tokio::test]
async fn who_is_too_slow_for_what_may_be_kept_leads_alone_or_ends_badly() {
    let one = log::event_bytes(&said("x"));
    let twins = Twins::new(TwinOptions { answer_bytes_max: 4 * one, ..TwinOptions::default() });
    let leader = lead(&twins);
    let (mut idle, mut slow) = (follow(&twins), follow(&twins));
    leader.say(&said("x"));
    assert!(matches!(slow.next().await, Step::Event(_)));
    for _ in 0..8 {
        leader.say(&said("x"));
    }
    assert_eq!(twins.bytes(), 0);
    assert!(matches!(slow.next().await, Step::Left));
    assert!(matches!(idle.next().await, Step::Lead(_)));
    leader.finish(usage(9));
}

#[tokio::test]
async fn all_logs_together_stay_within_their_bound() {
    let one = log::event_bytes(&said("x"));
    let twins = Twins::<Failure>::new(TwinOptions { bytes_max: 10 * one, ..TwinOptions::default() });
    let leaders: Vec<_> = (0..8)
        .map(|number| match twins.join(key(&number.to_string())) {
            Joined::Lead(leader) => leader,
            Joined::Follow(_) => panic!("each asks its own"),
        })
        .collect();
    for _ in 0..5 {
        for leader in &leaders {
            leader.say(&said("x"));
            assert!(twins.bytes() <= 10 * one);
        }
    }
    drop(leaders);
    assert_eq!(twins.bytes(), 0);
}

#[tokio::test]
async fn a_crowd_is_led_apart() {
    let twins = Twins::new(TwinOptions { followers_max: 2, ..TwinOptions::default() });
    let _leader = lead(&twins);
    let _crowd = (follow(&twins), follow(&twins));
    assert!(matches!(twins.join(key("q")), Joined::Lead(_)));
}

#[test]
fn every_kind_of_event_is_counted_with_what_it_points_to() {
    let text = || "x".repeat(1_000);
    let deltas = [
        Delta::Text(text()),
        Delta::Refusal(text()),
        Delta::Reasoning(text()),
        Delta::ReasoningProof { proof: Some(text()), id: None },
        Delta::SealedReasoning(text()),
        Delta::ToolCall { index: 0, id: String::new(), name: text(), proof: None },
        Delta::Arguments { index: 0, json: text() },
    ];
    let mut events: Vec<_> =
        deltas.into_iter().map(|delta| AnswerEvent::Delta { choice: 0, delta }).collect();
    events.push(AnswerEvent::Began { id: Some(text()), model: None });
    let finish = Finish { reason: FinishReason::Stop, stop: Some(text()) };
    events.push(AnswerEvent::Finished { choice: 0, finish });
    for event in events {
        assert!(log::event_bytes(&event) >= 1_000 + size_of::<AnswerEvent>(), "{event:?}");
    }
}

/// What one asker was given in the end.
#[derive(Debug)]
enum Given {
    Whole(String),
    Failed,
    /// Told that something is missing.
    Half,
    /// Its client went away.
    Gone,
}

/// Seeded askers of one question join, lead, follow, fail, leave and dawdle in every order. Nobody waits for ever, and
/// whoever is told that the answer is whole has one leader's whole answer.
#[test]
fn in_any_order_of_things_nobody_hangs_and_a_clean_end_is_a_whole_answer() {
    let seeds = match std::env::var("TWINS_SEED") {
        Ok(seed) => seed.parse().map(|seed: u64| seed..seed + 1).expect("TWINS_SEED is a number"),
        Err(_) => 0..400,
    };
    for seed in seeds {
        let mut builder = match seed % 4 {
            0 => tokio::runtime::Builder::new_multi_thread(),
            _ => tokio::runtime::Builder::new_current_thread(),
        };
        let runtime = builder.worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(scenario(seed));
    }
}

async fn scenario(seed: u64) {
    let mut chance = SmallRng::seed_from_u64(seed);
    let one = log::event_bytes(&said("000"));
    let options = TwinOptions {
        bytes_max: if chance.random_ratio(1, 4) { 12 * one } else { 1 << 20 },
        answer_bytes_max: if chance.random_ratio(1, 4) { 6 * one } else { 1 << 20 },
        followers_max: if chance.random_ratio(1, 4) { 2 } else { 100 },
    };
    let twins = Twins::new(options.clone());
    let askers: Vec<_> = (0..chance.random_range(2..12))
        .map(|number| tokio::spawn(asker(twins.clone(), number, SmallRng::seed_from_u64(chance.random()))))
        .collect();
    let mut whole = 0;
    for asker in askers {
        let given = tokio::time::timeout(Duration::from_secs(20), asker).await;
        let given = given.unwrap_or_else(|_| panic!("TWINS_SEED={seed}: somebody waits for ever")).unwrap();
        if let Given::Whole(text) = given {
            whole += 1;
            let leader = text.split('.').next().unwrap().to_owned();
            let expect: String = (0..EVENTS).map(|event| format!("{leader}.{event};")).collect();
            assert_eq!(text, expect, "TWINS_SEED={seed}");
        }
        assert!(twins.bytes() <= options.bytes_max, "TWINS_SEED={seed}");
    }
    assert_eq!(twins.bytes(), 0, "TWINS_SEED={seed}: {whole} were whole");
    assert!(twins.shared.flights.lock().is_empty(), "TWINS_SEED={seed}");
}

const EVENTS: usize = 8;

async fn asker(twins: Twins<Failure>, number: usize, mut chance: SmallRng) -> Given {
    dawdle(&mut chance).await;
    let mut follower = match twins.join(key("q")) {
        Joined::Lead(leader) => return answer(leader, number, chance).await,
        Joined::Follow(follower) => follower,
    };
    let mut text = String::new();
    loop {
        dawdle(&mut chance).await;
        if chance.random_ratio(1, 60) {
            return Given::Gone;
        }
        // Now and then the wait is given up and begun again.
        let step = if chance.random_ratio(1, 3) {
            tokio::select! { biased; step = follower.next() => step, () = yield_now() => continue }
        } else {
            follower.next().await
        };
        match step {
            Step::Event(event) => match &*event {
                AnswerEvent::Delta { delta: Delta::Text(more), .. } => text.push_str(more),
                other => panic!("nobody said {other:?}"),
            },
            Step::Finished(took) => {
                assert_eq!(took, usage(EVENTS as u64));
                return Given::Whole(text);
            }
            Step::Failed(_) => return Given::Failed,
            Step::Left => {
                assert!(!text.is_empty(), "who was given nothing may still lead");
                return Given::Half;
            }
            Step::Lead(leader) => {
                assert!(text.is_empty(), "who was given something must not begin again");
                drop(follower);
                return answer(leader, number, chance).await;
            }
        }
    }
}

async fn answer(leader: Leader<Failure>, number: usize, mut chance: SmallRng) -> Given {
    let mut text = String::new();
    for event in 0..EVENTS {
        dawdle(&mut chance).await;
        match chance.random_range(0..40) {
            0 => {
                leader.fail("failed");
                return Given::Failed;
            }
            1 => return Given::Gone,
            _ => {
                let more = format!("{number}.{event};");
                leader.say(&said(&more));
                text.push_str(&more);
            }
        }
    }
    leader.finish(usage(EVENTS as u64));
    Given::Whole(text)
}

async fn dawdle(chance: &mut SmallRng) {
    for _ in 0..chance.random_range(0..4) {
        yield_now().await;
    }
}

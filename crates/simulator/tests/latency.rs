//! Streams keep their pace, tenants their share and classes their order.

use std::time::Duration;

use domain::{Priority, Tenant, TokenId, Work, WorkEnd};
use engine::EngineConfig;
use simulator::random::Random;
use simulator::toy::{Cost, ToySettings};
use simulator::world::{World, config, key, work};

fn tokens(seed: u64, count: usize) -> Vec<TokenId> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.between(1, 60) as TokenId).collect()
}

fn stream(number: usize, output_tokens: u32) -> Work {
    let prompt = tokens(number as u64, 50);
    Work { max_output_tokens: output_tokens, ..work(&format!("stream{number}"), prompt) }
}

#[test]
fn a_long_prompt_never_holds_eight_streams_back_beyond_the_target() {
    for target_ms in [30, 50, 100] {
        let step_target = Duration::from_millis(target_ms);
        let mut world = World::new(ToySettings::default(), EngineConfig { step_target, ..config(2000) });
        (0..8).for_each(|number| world.submit(stream(number, 400)));
        for _ in 0..20 {
            world.step();
        }
        let arrival = world.now();
        world.submit(Work { max_output_tokens: 1, ..work("long", tokens(99, 4000)) });
        world.run();
        for number in 0..8 {
            let gap = world.answer(&key(&format!("stream{number}"))).longest_gap_after(arrival);
            assert!(gap <= step_target, "{gap:?} between two tokens at a target of {step_target:?}");
        }
        // And still it gets on: all that the target leaves beside the streams is its own.
        let waited = world.answer(&key("long")).times[0] - arrival;
        let streams_ms = 8.0 + 8.0 * (0.4 + 100.0 * 60e-6);
        let prompt_ms = 4000.0 * 0.25 + 4000.0 * 2000.0 * 60e-6;
        let least_ms = prompt_ms * target_ms as f64 / (target_ms as f64 - streams_ms);
        let most = Duration::from_secs_f64(1.5 * least_ms / 1000.0);
        assert!(waited <= most, "the first token took {waited:?} of {most:?} at {step_target:?}");
    }
}

#[test]
fn the_target_holds_even_before_anything_was_measured() {
    let step_target = Duration::from_millis(50);
    let mut world = World::new(ToySettings::default(), EngineConfig { step_target, ..config(2000) });
    // Prompts of one token: no chunk was ever measured when the long one comes.
    for number in 0..8 {
        world.submit(Work { prompt: work("", vec![number + 1]).prompt, ..stream(number as usize, 300) });
    }
    world.step();
    world.submit(work("long", tokens(99, 4000)));
    world.run();
    for number in 0..8 {
        let gap = world.answer(&key(&format!("stream{number}"))).longest_gap_after(Duration::ZERO);
        assert!(gap <= step_target, "{gap:?} between two tokens");
    }
}

#[test]
fn where_streams_alone_exceed_the_target_prompts_take_half_as_long_again() {
    let step_target = Duration::from_millis(100);
    let slow = Cost { decode_row_ns: 4_000_000, ..Cost::SMALL_MODEL };
    let toy = ToySettings { cost: slow, ..ToySettings::default() };
    let mut world = World::new(toy, EngineConfig { step_target, ..config(2000) });
    (0..32).for_each(|number| world.submit(stream(number, 400)));
    (0..40).for_each(|_| world.step());
    let arrival = world.now();
    (0..20).for_each(|_| world.step());
    let alone = (world.now() - arrival) / 20;
    world.submit(Work { max_output_tokens: 1, ..work("long", tokens(99, 3200)) });
    while world.heard_of(&key("long")).is_none_or(|answer| answer.tokens.is_empty()) {
        world.step();
    }
    // A twentieth for what the prediction falls short of, and for contexts that grow meanwhile.
    let gap = world.answer(&key("stream0")).longest_gap_after(arrival);
    assert!(gap <= alone.mul_f64(1.5 * 1.05), "{gap:?} between two tokens; {alone:?} without the prompt");
    // Two parts of time for the streams beside each part for the prompt; a tenth for the whole grains that are left over.
    let prompt = Duration::from_secs_f64(3200.0 * 0.25e-3 + 3200.0 * 1600.0 * 60e-9);
    let waited = world.answer(&key("long")).times[0] - arrival - alone * 20;
    assert!(waited < prompt.mul_f64(3.0 * 1.1), "{waited:?} for a prompt of {prompt:?}");
    assert!(!world.has_ended(&key("stream0")));
}

#[test]
fn a_prompt_alone_is_computed_in_large_chunks() {
    let mut world = World::new(ToySettings::default(), config(2000));
    world.submit(Work { max_output_tokens: 1, ..work("long", tokens(99, 4000)) });
    world.run();
    assert_eq!(world.status().steps, 4000u64.div_ceil(512));
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let mut world = World::new(ToySettings::default(), config(2000));
    world.submit(Work { max_output_tokens: 1, ..work("long", tokens(1, 4000)) });
    world.step();
    world.submit(Work { max_output_tokens: 1, ..work("short", tokens(2, 100)) });
    world.step();
    assert!(world.has_ended(&key("short")), "half of the step was for it");
    assert!(!world.has_ended(&key("long")));
}

#[test]
fn a_flood_of_one_tenant_leaves_another_its_share() {
    let max_running = 4;
    let mut world =
        World::new(ToySettings::default(), EngineConfig { max_running, prefix_cache: false, ..config(200) });
    let by = |tenant: &str, number: usize, output: u32| Work {
        tenant: Tenant::from(tenant),
        max_output_tokens: output,
        ..work(&format!("{tenant}{number}"), tokens(number as u64, 200))
    };
    (0..200).for_each(|number| world.submit(by("flood", number, 20)));
    (0..4).for_each(|_| world.step());
    // The other has fewer and larger requests.
    (0..50).for_each(|number| world.submit(by("other", number, 80)));
    let served = |world: &World, tenant: &str, count: usize| -> i64 {
        let answers = (0..count).filter_map(|number| world.heard_of(&key(&format!("{tenant}{number}"))));
        // As the queue counts: the prompt when it starts, and a produced token like two of the prompt.
        answers.map(|answer| 200 + 2 * answer.tokens.len() as i64).sum()
    };
    let at_start = served(&world, "flood", 200);
    // What one tenant can be ahead by: its turn and one that the other has not used, and all that may run at once, which is
    // admitted before its tokens are counted.
    let bound = 2 * 512 + (max_running * (200 + 2 * 80)) as i64;
    while !world.has_ended(&key("other49")) {
        world.step();
        let (flood, other) = (served(&world, "flood", 200) - at_start, served(&world, "other", 50));
        assert!((flood - other).abs() <= bound, "{flood} against {other} tokens");
    }
    assert!(!world.has_ended(&key("flood199")), "both were busy all the time");
}

#[test]
fn urgent_work_takes_the_place_of_what_can_wait() {
    let limits = EngineConfig { max_running: 2, ..config(40) };
    let mut world = World::new(ToySettings::default(), limits);
    for number in 0..2 {
        world.submit(Work { priority: Priority::Batch, ..stream(number, 300) });
    }
    (0..10).for_each(|_| world.step());
    world.submit(Work { priority: Priority::High, ..work("urgent", tokens(9, 20)) });
    world.step();
    assert_eq!(world.answer(&key("urgent")).tokens.len(), 1, "it runs at once");
    assert_eq!(world.status().preemptions, 1);
    world.run();
    for number in 0..2 {
        let answer = world.answer(&key(&format!("stream{number}")));
        assert_eq!((answer.ended(), answer.tokens.len()), (&WorkEnd::Length, 300));
    }
}

#[test]
fn equals_are_never_preempted_to_admit_another() {
    let limits = EngineConfig { max_running: 2, ..config(40) };
    let mut world = World::new(ToySettings::default(), limits);
    (0..6).for_each(|number| world.submit(stream(number, 40)));
    world.run();
    assert_eq!(world.status().preemptions, 0);
}

//! What is computed once is found again, by those who may.

use std::sync::Arc;

use domain::{Tenant, TokenId, Work, WorkKey};
use engine::{EngineConfig, Speculate};
use simulator::random::Random;
use simulator::toy::ToySettings;
use simulator::watch::Answer;
use simulator::world::{World, config, key, work};

fn tokens(seed: u64, count: usize) -> Vec<TokenId> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.between(1, 60) as TokenId).collect()
}

fn world() -> World {
    // Rows of guesses would be counted, too.
    World::new(ToySettings::default(), EngineConfig { speculate: Speculate::Off, ..config(500) })
}

fn ask(world: &mut World, name: &str, prompt: &[TokenId]) -> Answer {
    world.submit(work(name, prompt.to_vec()));
    world.run();
    world.answer(&key(name)).clone()
}

#[test]
fn a_second_request_computes_only_what_is_new() {
    let mut world = world();
    let first = ask(&mut world, "first", &tokens(1, 1500));
    let before = world.rows_computed();
    let second = ask(&mut world, "second", &[tokens(1, 1500), tokens(2, 20)].concat());
    assert_eq!((first.usage().cached_tokens, second.usage().cached_tokens), (0, 1472));
    // 1,520 - 1,472 of the prompt, and seven of eight tokens of the answer.
    assert_eq!(world.rows_computed() - before, 48 + 7);
    let status = world.status();
    assert_eq!((status.prefix_queries, status.prefix_hits), (3020, 1472));
}

#[test]
fn a_prompt_that_is_cached_entirely_still_computes_its_last_token() {
    for length in [31, 32, 33, 64] {
        let mut world = world();
        let first = ask(&mut world, "first", &tokens(3, length));
        let second = ask(&mut world, "second", &tokens(3, length));
        assert_eq!(second.usage().cached_tokens as usize, (length - 1) / 32 * 32, "{length} tokens");
        assert_eq!(second.tokens, first.tokens, "{length} tokens");
    }
}

#[test]
fn an_answer_is_found_when_the_conversation_goes_on() {
    let mut world = world();
    world.submit(Work { max_output_tokens: 60, ..work("first", tokens(4, 40)) });
    world.run();
    let answer = world.answer(&key("first")).tokens.clone();
    let second = ask(&mut world, "second", &[tokens(4, 40), answer, tokens(5, 10)].concat());
    assert_eq!(
        second.usage().cached_tokens,
        96,
        "100 tokens are known, the last of which was never computed"
    );
}

#[test]
fn another_tenants_identical_prompt_finds_nothing() {
    let mut world = world();
    ask(&mut world, "mine", &tokens(6, 320));
    let theirs = Work { tenant: Tenant::from("other"), ..work("theirs", tokens(6, 320)) };
    world.submit(theirs);
    world.run();
    assert_eq!(world.answer(&key("theirs")).usage().cached_tokens, 0);
    assert_eq!(world.answer(&key("theirs")).tokens, world.answer(&key("mine")).tokens);
    assert_eq!(ask(&mut world, "mine again", &tokens(6, 320)).usage().cached_tokens, 288);
}

#[test]
fn nor_while_it_is_being_computed() {
    let mut world = world();
    world.submit(work("mine", tokens(7, 320)));
    world.submit(Work { tenant: Tenant::from("other"), ..work("theirs", tokens(7, 320)) });
    world.run();
    let cached = |name| world.answer(&key(name)).usage().cached_tokens;
    assert_eq!((cached("mine"), cached("theirs")), (0, 0));
    assert!(world.rows_computed() >= 640);
}

#[test]
fn four_choices_compute_their_prompt_once() {
    let mut world = world();
    for choice in 0..4 {
        let key = WorkKey { choice, ..key("request") };
        world.submit(Work { key, max_output_tokens: 1, ..work("", tokens(8, 1000)) });
    }
    world.run();
    // 992 tokens are in full blocks; each choice computes the last eight.
    assert_eq!(world.rows_computed(), 992 + 4 * 8);
}

#[test]
fn prompts_that_begin_alike_wait_for_the_first_of_them() {
    let mut world = world();
    for number in 0..6 {
        let prompt = [tokens(9, 1280), tokens(10 + number, 64)].concat();
        world.submit(Work { max_output_tokens: 1, ..work(&format!("w{number}"), prompt) });
    }
    world.run();
    assert_eq!(world.rows_computed(), 1280 + 6 * 64);
}

#[test]
fn nothing_waits_for_a_prefix_of_lower_class() {
    let mut world = world();
    let prompt = tokens(11, 4000);
    world.submit(Work { priority: domain::Priority::Batch, ..work("batch", prompt.clone()) });
    world.step();
    world.submit(Work { priority: domain::Priority::High, ..work("high", prompt) });
    world.step();
    assert!(world.heard_of(&key("high")).is_some(), "it started at once");
    world.run();
    assert_eq!(world.answer(&key("high")).tokens, world.answer(&key("batch")).tokens);
}

#[test]
fn what_was_used_last_is_reused_last() {
    // Ten blocks: two prompts of four blocks each stay, a third pushes out the one not used for longest.
    let mut world = World::new(ToySettings::default(), config(10));
    let ask_short = |world: &mut World, name: &str, seed: u64| {
        world.submit(Work { max_output_tokens: 0, ..work(name, tokens(seed, 129)) });
        world.run();
        world.answer(&key(name)).usage().cached_tokens
    };
    assert_eq!(ask_short(&mut world, "a", 1), 0);
    assert_eq!(ask_short(&mut world, "b", 2), 0);
    assert_eq!(ask_short(&mut world, "a again", 1), 128);
    assert_eq!(ask_short(&mut world, "c", 3), 0);
    assert_eq!(ask_short(&mut world, "a once more", 1), 128);
    let b = ask_short(&mut world, "b again", 2);
    assert!(b < 128, "{b} tokens of b are left, and the tail went first");
}

#[test]
fn without_a_prefix_cache_nothing_is_kept() {
    let mut world = World::new(ToySettings::default(), EngineConfig { prefix_cache: false, ..config(500) });
    ask(&mut world, "first", &tokens(1, 320));
    assert_eq!(ask(&mut world, "second", &tokens(1, 320)).usage().cached_tokens, 0);
    assert_eq!((world.status().blocks_cached, world.status().prefix_queries), (0, 0));
}

#[test]
fn choices_with_one_seed_differ_and_come_again() {
    let draw = || {
        let mut world = world();
        for choice in 0..3 {
            let sampling = domain::Sampling { seed: Some(5), ..domain::Sampling::default() };
            let key = WorkKey { choice, ..key("request") };
            world.submit(Work { key, sampling, stop_tokens: Arc::new([]), ..work("", tokens(12, 40)) });
        }
        world.run();
        (0..3)
            .map(|choice| world.answer(&WorkKey { choice, ..key("request") }).tokens.clone())
            .collect::<Vec<_>>()
    };
    let answers = draw();
    assert!(answers[0] != answers[1] && answers[1] != answers[2]);
    assert_eq!(draw(), answers);
}

//! The same request gets the same answer, however it was scheduled.

use domain::{Priority, Sampling, Tenant, TokenId, Work};
use engine::EngineConfig;
use simulator::random::Random;
use simulator::toy::ToySettings;
use simulator::watch::Answer;
use simulator::world::{World, config, work};

/// Forty requests, some greedy and some drawn, many with the same beginning.
fn crowd() -> Vec<Work> {
    let mut random = Random::new(2);
    let mut tokens =
        |count: usize| -> Vec<TokenId> { (0..count).map(|_| random.between(1, 60) as TokenId).collect() };
    let beginning = tokens(200);
    (0..40usize)
        .map(|number| {
            let mut prompt = if number % 3 == 0 { Vec::new() } else { beginning[..number * 5].to_vec() };
            prompt.extend(tokens(1 + number * 7 % 90));
            let seeded = Sampling { seed: Some(number as u64), top_p: 0.95, ..Sampling::default() };
            Work {
                sampling: if number % 2 == 0 { Sampling::greedy() } else { seeded },
                max_output_tokens: 60 + 3 * number as u32,
                stop_tokens: [0].into(),
                logprobs: (number % 5 == 0).then_some(2),
                tenant: Tenant::from(["a", "b"][number % 2]),
                priority: [Priority::Batch, Priority::Standard, Priority::High][number / 2 % 3],
                ..work(&format!("w{number}"), prompt)
            }
        })
        .collect()
}

struct Outcome {
    answers: Vec<Answer>,
    preemptions: u64,
    prefix_hits: u64,
}

fn answers_under(config: EngineConfig, order: &[usize]) -> Outcome {
    let works = crowd();
    let mut world = World::new(ToySettings::default(), config);
    for &index in order {
        world.submit(works[index].clone());
        world.step();
    }
    world.run();
    let status = world.status();
    Outcome {
        answers: works.iter().map(|work| world.answer(&work.key).said()).collect(),
        preemptions: status.preemptions,
        prefix_hits: status.prefix_hits,
    }
}

fn in_order() -> Vec<usize> {
    (0..40).collect()
}

fn plain() -> Vec<Answer> {
    answers_under(config(400), &in_order()).answers
}

#[test]
fn with_and_without_a_prefix_cache() {
    let with = answers_under(config(400), &in_order());
    let without = answers_under(EngineConfig { prefix_cache: false, ..config(400) }, &in_order());
    assert!(with.prefix_hits > 1000 && without.prefix_hits == 0);
    assert_eq!(with.answers, without.answers);
}

#[test]
fn in_chunks_of_any_size() {
    for chunk in [1, 7, 32, 64, 512] {
        let chunks = EngineConfig { chunk_tokens_min: chunk, chunk_tokens_max: chunk, ..config(400) };
        assert_eq!(answers_under(chunks, &in_order()).answers, plain(), "chunks of {chunk}");
    }
}

#[test]
fn alone_or_in_a_batch() {
    for max_running in [1, 3, 32] {
        let batch = EngineConfig { max_running, ..config(400) };
        assert_eq!(answers_under(batch, &in_order()).answers, plain(), "{max_running} at once");
    }
}

#[test]
fn in_whatever_order_it_arrives() {
    for seed in 0..5 {
        let mut order = in_order();
        Random::new(seed).shuffle(&mut order);
        assert_eq!(answers_under(config(400), &order).answers, plain(), "order of seed {seed}");
    }
}

#[test]
fn preempted_and_resumed() {
    for prefix_cache in [true, false] {
        // Room for hardly more than the longest of them.
        let tight = answers_under(EngineConfig { prefix_cache, ..config(14) }, &in_order());
        assert!(tight.preemptions >= 10, "only {} preemptions", tight.preemptions);
        assert_eq!(tight.answers, plain());
    }
}

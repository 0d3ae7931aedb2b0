//! Whatever arrives, leaves and competes: each answer is the one it would get alone.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use domain::{Priority, Sampling, Tenant, TokenId, Work, WorkEnd, WorkKey};
use engine::EngineConfig;
use simulator::random::Random;
use simulator::toy::{ToySettings, greedy_answer};
use simulator::world::{World, answer_alone, config, key, work};

const SEEDS: u64 = 300;
const STOP: TokenId = 0;

#[test]
fn a_crowd_in_a_small_cache_gets_the_answers_each_would_get_alone() {
    let mut preemptions = 0;
    let mut hits = 0;
    for seed in 0..SEEDS {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(world) => {
                preemptions += world.status().preemptions;
                hits += world.status().prefix_hits;
            }
            Err(panic) => {
                eprintln!("failing seed: {seed}");
                resume_unwind(panic);
            }
        }
    }
    // A crowd that never pushes and never shares would show nothing.
    assert!(preemptions > SEEDS && hits > 10 * SEEDS, "{preemptions} preemptions, {hits} hits");
}

fn run(seed: u64) -> World {
    let mut random = Random::new(seed);
    let toy = ToySettings { block_tokens: 4, context_tokens: 64, ..ToySettings::default() };
    let mut world = World::new(toy.clone(), random_config(&mut random));
    let works = random_works(&mut random);
    let mut cancelled = BTreeMap::new();
    for work in &works {
        for _ in 0..random.between(0, 3) {
            world.step();
        }
        world.submit(work.clone());
        if random.once_in(6) {
            let victim = random.pick(&works).key.clone();
            world.cancel(&victim);
            world.step();
            cancelled.insert(victim, ());
        }
    }
    world.run();
    for work in &works {
        check(&world, &toy, work, cancelled.contains_key(&work.key));
    }
    world
}

fn check(world: &World, toy: &ToySettings, work: &Work, may_be_cancelled: bool) {
    let answer = world.answer(&work.key);
    let alone = answer_alone(toy, work);
    let (end, usage) = (answer.ended(), answer.usage());
    if *end == WorkEnd::Cancelled && may_be_cancelled {
        assert!(alone.tokens.starts_with(&answer.tokens), "{:?} was on its way", work.key);
        assert_eq!(usage.output_tokens as usize, answer.tokens.len());
        return;
    }
    assert_eq!(answer.tokens, alone.tokens, "{:?}", work.key);
    assert_eq!(end, alone.ended(), "{:?}", work.key);
    assert_eq!(answer.logprobs, alone.logprobs, "{:?}", work.key);
    assert_eq!(answer.prompt_logprobs, alone.prompt_logprobs, "{:?}", work.key);
    let (prompt, outputs) = (usage.prompt_tokens as usize, usage.output_tokens);
    assert_eq!((prompt, outputs), (work.prompt.len(), alone.usage().output_tokens), "{:?}", work.key);
    assert_eq!(Some(usage.cached_tokens), answer.cached_tokens);
    if work.sampling == Sampling::greedy() {
        let room = (toy.context_tokens - work.prompt.len()).min(work.max_output_tokens as usize);
        let expected = greedy_answer(&work.prompt, room, &work.stop_tokens, toy.vocabulary);
        assert_eq!(answer.tokens, expected, "{:?} against the oracle", work.key);
    }
}

fn random_config(random: &mut Random) -> EngineConfig {
    let chunk_tokens_min = *random.pick(&[1, 2, 4, 8]);
    EngineConfig {
        max_running: random.between(1, 8),
        max_step_rows: random.between(4, 64),
        step_target: Duration::from_millis(*random.pick(&[1, 10, 20, 1000])),
        chunk_tokens_min,
        chunk_tokens_max: chunk_tokens_min * random.between(1, 8),
        prefix_cache: !random.once_in(4),
        // From the fewest that hold one longest sequence to enough for three.
        ..config(random.between(16, 48))
    }
}

fn random_works(random: &mut Random) -> Vec<Work> {
    let count = random.between(5, 24);
    let beginnings: Vec<Vec<TokenId>> = (0..3).map(|_| random_tokens(random, 24)).collect();
    (0..count)
        .map(|number| {
            let shared = random.between(0, 24);
            let mut prompt = random.pick(&beginnings)[..shared].to_vec();
            let more = random.between(1, 24);
            prompt.extend(random_tokens(random, more));
            random_work(random, number, prompt)
        })
        .collect()
}

fn random_tokens(random: &mut Random, count: usize) -> Vec<TokenId> {
    (0..count).map(|_| random.between(1, 60) as TokenId).collect()
}

fn random_work(random: &mut Random, number: usize, prompt: Vec<TokenId>) -> Work {
    let sampling = match random.between(0, 3) {
        0 => Sampling {
            seed: Some(random.bits()),
            top_p: 0.9,
            top_k: random.between(0, 20) as u32,
            frequency_penalty: 0.3,
            ..Sampling::default()
        },
        1 => Sampling { seed: Some(random.bits()), repetition_penalty: 1.3, ..Sampling::default() },
        _ => Sampling::greedy(),
    };
    Work {
        key: WorkKey { choice: random.between(0, 3) as u32, ..key(&format!("w{number}")) },
        tenant: Tenant::from(*random.pick(&["a", "b", "c"])),
        priority: *random.pick(&[Priority::Batch, Priority::Standard, Priority::High]),
        max_output_tokens: random.between(0, 40) as u32,
        sampling,
        stop_tokens: if random.once_in(2) { [STOP].into() } else { [].into() },
        logprobs: random.once_in(4).then_some(3),
        prompt_logprobs: random.once_in(6),
        ..work("", prompt)
    }
}

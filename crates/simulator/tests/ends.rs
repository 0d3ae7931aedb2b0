//! Every work ends exactly once, for the reason it should, with exact counts; what goes wrong goes wrong alone.

use domain::{Sampling, TokenId, Work, WorkEnd, WorkUsage};
use engine::EngineConfig;
use simulator::random::Random;
use simulator::toy::{Fault, FaultKind, ToySettings, greedy_answer, scores_after};
use simulator::world::{World, answer_alone, config, key, work};

fn tokens(seed: u64, count: usize) -> Vec<TokenId> {
    let mut random = Random::new(seed);
    // 60 is kept for faults.
    (0..count).map(|_| random.between(1, 59) as TokenId).collect()
}

fn world() -> World {
    World::new(ToySettings::default(), config(500))
}

fn usage(prompt_tokens: u32, cached_tokens: u32, output_tokens: u32) -> WorkUsage {
    WorkUsage { prompt_tokens, cached_tokens, output_tokens, ..WorkUsage::default() }
}

#[test]
fn a_stop_token_ends_the_answer_and_is_counted_but_not_produced() {
    let prompt = tokens(1, 10);
    let free = greedy_answer(&prompt, 12, &[], 61);
    let stop = free[5];
    let before = free.iter().position(|&token| token == stop).unwrap();
    let mut world = world();
    world.submit(Work { stop_tokens: [stop].into(), max_output_tokens: 12, ..work("w", prompt) });
    world.run();
    let answer = world.answer(&key("w"));
    assert_eq!((answer.ended(), &answer.tokens[..]), (&WorkEnd::Stop, &free[..before]));
    assert_eq!(answer.counts(), usage(10, 0, before as u32 + 1));
}

/// Prompts of several lengths that begin alike, room for few at a time, one cancelled, one that fails: whatever happens, the
/// time of each step belongs to those who were in it.
#[test]
fn machine_time_is_divided_among_the_sequences_without_a_rest() {
    let faults = vec![Fault { token: 60, kind: FaultKind::NotANumber, times: 0 }];
    let cost = simulator::toy::Cost { step_ns: 8_000_003, ..simulator::toy::Cost::SMALL_MODEL };
    let mut world = World::new(ToySettings { faults, cost, ..ToySettings::default() }, config(12));
    let names = ["a", "b", "c", "d", "spoilt", "cancelled"];
    for (index, name) in names.into_iter().enumerate() {
        let spoil: &[TokenId] = if name == "spoilt" { &[60] } else { &[] };
        let prompt = [&tokens(7, 70 + 31 * index), spoil].concat();
        world.submit(Work { max_output_tokens: 40, ..work(name, prompt) });
    }
    (0..5).for_each(|_| world.step());
    world.cancel(&key("cancelled"));
    world.run();
    let shares: Vec<u64> = names.iter().map(|name| world.answer(&key(name)).usage().compute_us).collect();
    let passed = world.now().as_micros() as u64;
    // Each share is told in whole microseconds, so each may hide almost one.
    assert!((passed - names.len() as u64..=passed).contains(&shares.iter().sum()), "{shares:?} of {passed}");
    assert!(shares[..4].iter().all(|share| *share > 0), "{shares:?}");
}

#[test]
fn an_answer_ends_at_its_limit_or_with_the_context() {
    let toy = ToySettings { context_tokens: 64, ..ToySettings::default() };
    for (prompt, limit, produced) in [(10, 8, 8), (60, 8, 4), (63, 8, 1), (10, 1, 1)] {
        let mut world = World::new(toy.clone(), config(10));
        world.submit(Work { max_output_tokens: limit, ..work("w", tokens(2, prompt)) });
        world.run();
        let answer = world.answer(&key("w"));
        assert_eq!((answer.ended(), answer.tokens.len()), (&WorkEnd::Length, produced), "{prompt} + {limit}");
        assert_eq!(answer.counts(), usage(prompt as u32, 0, produced as u32));
    }
}

#[test]
fn a_small_cache_is_the_context() {
    // Three blocks of 32, though the model could go on.
    let mut world = World::new(ToySettings::default(), config(3));
    world.submit(Work { max_output_tokens: 500, ..work("long", tokens(3, 10)) });
    world.submit(work("never fits", tokens(4, 96)));
    world.run();
    assert_eq!(world.answer(&key("long")).tokens.len(), 86);
    let WorkEnd::Failed(reason) = world.answer(&key("never fits")).ended() else { panic!("it fits nowhere") };
    assert_eq!(reason, "the prompt has 96 tokens, and the context of 96 leaves no room for an answer");
}

#[test]
fn no_output_is_wanted_and_none_is_made() {
    let mut world = world();
    world.submit(Work { max_output_tokens: 0, ..work("w", tokens(5, 100)) });
    world.run();
    let answer = world.answer(&key("w"));
    assert_eq!((answer.ended(), answer.counts()), (&WorkEnd::Length, usage(100, 0, 0)));
    assert_eq!(world.rows_computed(), 100);
}

#[test]
fn a_prompts_log_probabilities_are_the_models_own_however_it_is_computed() {
    let prompt = tokens(6, 150);
    let expected: Vec<f32> = (1..prompt.len())
        .map(|place| {
            let scores = scores_after(&prompt[..place], 61);
            let total: f64 = scores.iter().map(|&score| f64::from(score).exp()).sum();
            (f64::from(scores[prompt[place] as usize]) - total.ln()) as f32
        })
        .collect();
    for (chunk, output) in [(512, 0), (32, 3), (7, 0), (1, 2)] {
        let chunks = EngineConfig { chunk_tokens_min: chunk, chunk_tokens_max: chunk, ..config(500) };
        let mut world = World::new(ToySettings::default(), chunks);
        // Its blocks are cached, and still every row is computed: a cached row has no scores.
        world.submit(work("before", prompt.clone()));
        world.run();
        world.submit(Work {
            max_output_tokens: output,
            logprobs: Some(2),
            prompt_logprobs: true,
            ..work("w", prompt.clone())
        });
        world.run();
        let logprobs = world.answer(&key("w")).prompt_logprobs.clone().expect("they were asked for");
        assert_eq!((logprobs.len(), &logprobs[0]), (150, &None));
        for (got, expected) in logprobs[1..].iter().zip(&expected) {
            let got = got.as_ref().expect("only the first has none");
            // Both are rounded from doubles once.
            assert!((got.logprob - expected).abs() < 1e-5, "{} instead of {expected}", got.logprob);
            assert!(got.top.len() == 2 && got.top[0].1 >= got.top[1].1);
        }
        assert_eq!(world.answer(&key("w")).tokens.len(), output as usize);
    }
}

#[test]
fn cancelling_ends_within_the_step_and_counts_what_was_done() {
    let mut world = World::new(ToySettings::default(), EngineConfig { max_running: 1, ..config(500) });
    world.submit(Work { max_output_tokens: 100, ..work("running", tokens(7, 40)) });
    world.submit(work("waiting", tokens(8, 40)));
    (0..5).for_each(|_| world.step());
    world.cancel(&key("running"));
    world.cancel(&key("waiting"));
    world.cancel(&key("unknown"));
    world.step();
    assert!(world.is_idle());
    let answer = world.answer(&key("running"));
    assert_eq!((answer.ended(), answer.counts()), (&WorkEnd::Cancelled, usage(40, 0, 5)));
    let answer = world.answer(&key("waiting"));
    assert_eq!((answer.ended(), answer.counts()), (&WorkEnd::Cancelled, usage(0, 0, 0)));
    world.cancel(&key("running"));
    world.run();
}

#[test]
fn a_prompt_cancelled_half_way_counts_the_half() {
    let mut world = world();
    world.submit(work("w", tokens(9, 2000)));
    world.step();
    world.cancel(&key("w"));
    world.run();
    assert_eq!(world.answer(&key("w")).counts(), usage(512, 0, 0));
}

/// Runs one guilty request among seven innocent ones, and returns why it failed.
fn among_innocents(fault: Fault, guilty: Work) -> String {
    let toy = ToySettings { faults: vec![fault], ..ToySettings::default() };
    let mut world = World::new(toy.clone(), config(500));
    // Innocents that never say the guilty token themselves.
    let sampling = Sampling { logit_bias: vec![(60, -100.0)], ..Sampling::greedy() };
    let innocent = |number: u64| Work {
        sampling: sampling.clone(),
        ..work(&format!("innocent{number}"), tokens(20 + number, 70))
    };
    let innocents: Vec<Work> = (0..7).map(innocent).collect();
    innocents[..4].iter().for_each(|work| world.submit(work.clone()));
    world.step();
    world.submit(guilty.clone());
    innocents[4..].iter().for_each(|work| world.submit(work.clone()));
    world.run();
    for innocent in &innocents {
        let alone = answer_alone(&toy, innocent);
        let answer = world.answer(&innocent.key);
        assert_eq!((answer.ended(), &answer.tokens), (alone.ended(), &alone.tokens), "{:?}", innocent.key);
    }
    assert_eq!(world.status().failures, 1);
    match world.answer(&guilty.key).ended() {
        WorkEnd::Failed(reason) => reason.clone(),
        end => panic!("the guilty ended with {end:?}"),
    }
}

fn with_token(token: TokenId) -> Vec<TokenId> {
    [tokens(10, 30), vec![token], tokens(11, 30)].concat()
}

#[test]
fn only_the_guilty_fail() {
    let always = |kind| Fault { token: 60, kind, times: u32::MAX };
    let guilty = || work("guilty", with_token(60));
    let reason = among_innocents(always(FaultKind::Error), guilty());
    assert_eq!(reason, "the device failed: told to fail over token 60");
    let reason = among_innocents(always(FaultKind::Panic), guilty());
    assert_eq!(reason, "the forward pass panicked: the toy was told to panic over token 60");
    let reason = among_innocents(always(FaultKind::NotANumber), guilty());
    assert_eq!(reason, "the model gave a score that is not a number for this sequence");
    let unknown = work("guilty", with_token(61));
    let reason = among_innocents(always(FaultKind::Error), unknown);
    assert_eq!(reason, "the prompt has token 61, outside the vocabulary of 61");
    let sampling = Sampling { logit_bias: vec![(99, 1.0)], ..Sampling::greedy() };
    let reason = among_innocents(always(FaultKind::Error), Work { sampling, ..work("guilty", tokens(1, 9)) });
    assert_eq!(reason, "logit_bias names token 99, which is outside the vocabulary of 61");
}

#[test]
fn a_passing_fault_fails_nobody_of_a_batch() {
    for kind in [FaultKind::Error, FaultKind::Panic] {
        let toy = ToySettings { faults: vec![Fault { token: 60, kind, times: 1 }], ..ToySettings::default() };
        let mut world = World::new(toy.clone(), config(500));
        let works = [work("one", with_token(60)), work("two", tokens(2, 50))];
        works.iter().for_each(|work| world.submit(work.clone()));
        world.run();
        for work in &works {
            assert_eq!(world.answer(&work.key).tokens, answer_alone(&toy, work).tokens);
        }
    }
}

#[test]
fn what_a_failed_sequence_left_is_not_found_by_others() {
    let faults = vec![Fault { token: 60, kind: FaultKind::NotANumber, times: 0 }];
    let mut world = World::new(ToySettings { faults, ..ToySettings::default() }, config(500));
    let prompt = [tokens(12, 600), vec![60]].concat();
    for name in ["first", "second"] {
        world.submit(work(name, prompt.clone()));
        world.run();
        assert_eq!(world.answer(&key(name)).usage().cached_tokens, 0);
    }
    assert_eq!((world.status().blocks_cached, world.status().failures), (0, 2));
}

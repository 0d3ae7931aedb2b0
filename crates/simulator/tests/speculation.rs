//! Guessing changes when a token comes, never which.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use domain::{EngineStatus, Priority, Sampling, Tenant, TokenId, Work, WorkEnd};
use engine::{EngineConfig, EngineCore, Speculate, StartError};
use simulator::random::Random;
use simulator::toy::{Cost, Fault, FaultKind, Pace, Toy, ToySettings, VirtualClock};
use simulator::watch::Answer;
use simulator::world::{World, config, key, work};

/// Thirty requests of every kind of sampling; some end at a stop token, some at their limit, some ask for log-probabilities.
fn crowd() -> Vec<Work> {
    let mut random = Random::new(5);
    let mut tokens =
        |count: usize| -> Vec<TokenId> { (0..count).map(|_| random.between(1, 60) as TokenId).collect() };
    let beginning = tokens(100);
    (0..30usize)
        .map(|number| {
            let mut prompt = beginning[..number % 4 * 32].to_vec();
            prompt.extend(tokens(7 + number * 5 % 60));
            let seeded = Sampling { seed: Some(number as u64), temperature: 0.5, ..Sampling::default() };
            let sampling = match number % 4 {
                0 | 1 => Sampling::greedy(),
                2 => Sampling { top_p: 0.9, top_k: 20, frequency_penalty: 0.2, ..seeded },
                _ => Sampling {
                    min_p: 0.05,
                    repetition_penalty: 1.1,
                    presence_penalty: 0.1,
                    logit_bias: vec![(3, 1.0)],
                    ..seeded
                },
            };
            Work {
                sampling,
                max_output_tokens: 50 + 5 * number as u32,
                stop_tokens: [0].into(),
                logprobs: (number % 3 == 0).then_some(2),
                prompt_logprobs: number % 7 == 0,
                tenant: Tenant::from(["a", "b"][number % 2]),
                priority: [Priority::Batch, Priority::Standard, Priority::High][number / 2 % 3],
                ..work(&format!("w{number}"), prompt)
            }
        })
        .collect()
}

fn echoing() -> ToySettings {
    ToySettings { echo: Some(7), rows_computed: Arc::new(AtomicU64::new(0)), ..ToySettings::default() }
}

/// Repeats alike, and errs elsewhere.
fn smaller() -> ToySettings {
    let cost = Cost { step_ns: 500_000, prefill_row_ns: 20_000, decode_row_ns: 30_000, key_ns: 5 };
    ToySettings { salt: 99, cost, ..echoing() }
}

fn answers_under(config: EngineConfig, order: &[usize]) -> (Vec<Answer>, EngineStatus) {
    let works = crowd();
    let draft = (config.speculate == Speculate::Draft).then(smaller);
    let mut world = World::with_draft(echoing(), draft, config);
    for &index in order {
        world.submit(works[index].clone());
        world.step();
    }
    world.run();
    (works.iter().map(|work| world.answer(&work.key).said()).collect(), world.status())
}

fn in_order() -> Vec<usize> {
    (0..30).collect()
}

fn off() -> Vec<Answer> {
    answers_under(EngineConfig { speculate: Speculate::Off, ..config(400) }, &in_order()).0
}

const GUESSING: [Speculate; 2] = [Speculate::Ngram, Speculate::Draft];

#[test]
fn the_same_is_said_with_and_without_guesses() {
    let off = off();
    for speculate in GUESSING {
        for max_running in [1, 3, 64] {
            let (answers, status) =
                answers_under(EngineConfig { speculate, max_running, ..config(400) }, &in_order());
            assert_eq!(answers, off, "{speculate:?}, {max_running} at once");
            assert!(status.accepted_tokens > 200, "hardly any guess was right: {status:?}");
            assert!(status.speculated_tokens > status.accepted_tokens, "every guess was right: {status:?}");
        }
    }
}

#[test]
fn in_chunks_of_any_size_and_in_whatever_order() {
    let off = off();
    for speculate in GUESSING {
        for chunk in [1, 7, 32, 512] {
            let chunks = EngineConfig {
                speculate,
                chunk_tokens_min: chunk,
                chunk_tokens_max: chunk,
                prefix_cache: chunk != 7,
                ..config(400)
            };
            let mut order = in_order();
            Random::new(chunk as u64).shuffle(&mut order);
            assert_eq!(answers_under(chunks, &order).0, off, "{speculate:?}, chunks of {chunk}");
        }
    }
}

#[test]
fn preempted_and_resumed() {
    let off = off();
    for speculate in GUESSING {
        for prefix_cache in [true, false] {
            let tight = EngineConfig { speculate, prefix_cache, ..config(14) };
            let (answers, status) = answers_under(tight, &in_order());
            assert!(status.preemptions >= 10, "only {} preemptions", status.preemptions);
            assert_eq!(answers, off, "{speculate:?}");
        }
    }
}

#[test]
fn what_was_taken_back_is_never_found_by_the_next() {
    // The same prompt and the start of its answer, again: the second finds blocks of the first, all of them right.
    for speculate in GUESSING {
        let mut world = World::with_draft(
            echoing(),
            (speculate == Speculate::Draft).then(smaller),
            EngineConfig { speculate, ..config(100) },
        );
        let first = Work { max_output_tokens: 200, ..work("first", (1..50).collect()) };
        world.submit(first.clone());
        world.run();
        let mut prompt = first.prompt.to_vec();
        prompt.extend(&world.answer(&first.key).tokens[..150]);
        world.submit(Work { max_output_tokens: 50, ..work("second", prompt) });
        world.run();
        assert!(world.answer(&key("second")).cached_tokens.unwrap() >= 160);
        assert_eq!(world.answer(&key("second")).tokens, world.answer(&first.key).tokens[150..]);
    }
}

#[test]
fn a_guess_that_fails_the_batch_is_nobodys_fault() {
    // Token 9 fails whoever computes it; it is in one prompt, and others only ever guess it or not.
    for speculate in GUESSING {
        let fault = Fault { token: 9, kind: FaultKind::Error, times: u32::MAX };
        let toy = ToySettings { faults: vec![fault], ..echoing() };
        let draft = (speculate == Speculate::Draft).then(smaller);
        let mut world = World::with_draft(toy, draft, EngineConfig { speculate, ..config(100) });
        let without_nine = |seed: u64| (0..60u64).map(|i| 10 + ((i * 5 + seed) % 20) as TokenId).collect();
        let ban = Sampling { logit_bias: vec![(9, -100.0)], ..Sampling::greedy() };
        for seed in 0..4 {
            let one = work(&format!("w{seed}"), without_nine(seed));
            world.submit(Work { max_output_tokens: 80, sampling: ban.clone(), ..one });
        }
        world.submit(work("guilty", vec![9, 10, 11]));
        world.run();
        assert!(matches!(world.answer(&key("guilty")).ended(), WorkEnd::Failed(_)));
        for seed in 0..4 {
            let answer = world.answer(&key(&format!("w{seed}")));
            assert_eq!((answer.ended(), answer.tokens.len()), (&WorkEnd::Length, 80));
        }
    }
}

#[test]
fn a_draft_model_that_fails_is_left_out() {
    let broken = ToySettings {
        faults: (0..61).map(|token| Fault { token, kind: FaultKind::Panic, times: 1 }).collect(),
        ..smaller()
    };
    let config = EngineConfig { speculate: Speculate::Draft, ..config(400) };
    let mut world = World::with_draft(echoing(), Some(broken), config);
    let works = crowd();
    works.iter().for_each(|work| world.submit(work.clone()));
    world.run();
    assert!(works.iter().all(|work| !matches!(world.answer(&work.key).ended(), WorkEnd::Failed(_))));
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let toy = |vocabulary| Box::new(Toy::new(ToySettings { vocabulary, ..ToySettings::default() }));
    let start = |draft: Option<Box<dyn model::Forward>>| {
        let config = EngineConfig { speculate: Speculate::Draft, ..config(10) };
        EngineCore::with_draft(toy(61), draft, config, Box::new(|| std::time::Duration::ZERO)).err()
    };
    let differs = StartError::DraftDiffers { what: "a vocabulary of", draft: 60, target: 61 };
    assert_eq!(start(Some(toy(60))), Some(differs));
    assert_eq!(start(None), Some(StartError::DraftMissing));
}

/// Seconds of virtual time for the same work.
fn seconds(toy: ToySettings, speculate: Speculate, works: &[Work]) -> f64 {
    let draft = (speculate == Speculate::Draft).then(|| ToySettings {
        echo: toy.echo,
        pace: Pace::Virtual(VirtualClock::default()),
        ..smaller()
    });
    let mut world = World::with_draft(toy, draft, EngineConfig { speculate, ..config(800) });
    works.iter().for_each(|work| world.submit(work.clone()));
    world.run();
    world.now().as_secs_f64()
}

#[test]
fn repetitions_are_faster_and_nothing_is_slower_by_more_than_it_may() {
    let prompt = |number: u32| (0..40).map(|i| 1 + (i * 7 + number * 13) % 59).collect::<Vec<TokenId>>();
    for crowd in [1, 8, 48] {
        let works: Vec<Work> = (0..crowd)
            .map(|number| Work { max_output_tokens: 400, ..work(&format!("{number}"), prompt(number)) })
            .collect();
        let repeating = || ToySettings { echo: Some(7), ..ToySettings::default() };
        let random = ToySettings::default;
        let gain =
            seconds(repeating(), Speculate::Off, &works) / seconds(repeating(), Speculate::Ngram, &works);
        assert!(crowd > 1 || gain > 1.5, "a repetition alone is {gain} times as fast");
        assert!(gain > 0.97, "{crowd} repetitions are {gain} times as fast");
        let loss = seconds(random(), Speculate::Off, &works) / seconds(random(), Speculate::Ngram, &works);
        assert!(loss > 0.97, "{crowd} that never repeat are {loss} times as fast");
    }
}

/// Drawn answers are the same token by token, so their distribution is; that the guesses themselves do not lean on it is
/// shown over seeds: of 61 tokens, how often each is the last of an answer whose history decides by penalties.
#[test]
fn the_distribution_is_the_same_over_many_seeds() {
    let mut counts = [[0f64; 61]; 2];
    for (side, speculate) in [Speculate::Off, Speculate::Ngram].into_iter().enumerate() {
        let mut world = World::new(echoing(), EngineConfig { speculate, ..config(400) });
        for number in 0..3000u64 {
            // Other seeds on either side: equal draws must not hide a difference.
            let sampling = Sampling {
                seed: Some(2 * number + side as u64),
                presence_penalty: 0.5,
                frequency_penalty: 0.3,
                ..Sampling::default()
            };
            let prompt = [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7].to_vec();
            let name = format!("s{number}");
            world.submit(Work { max_output_tokens: 6, sampling, ..work(&name, prompt) });
            if number % 50 == 49 {
                world.run();
            }
        }
        world.run();
        for number in 0..3000 {
            let answer = world.answer(&key(&format!("s{number}")));
            counts[side][*answer.tokens.last().unwrap() as usize] += 1.0;
        }
        assert!(side == 0 || world.status().accepted_tokens > 300, "{:?}", world.status());
    }
    // Two samples of equal size: Σ (a-b)²/(a+b) is χ² with bins-1 degrees of freedom under equality. Bins of fewer than
    // 10 are joined. A χ² of k degrees exceeds k + 4·√(2k) + 8 with a probability below 10⁻⁴ (Laurent and Massart: x = 9.2,
    // k + 2√(kx) + 2x, is larger still and used here).
    let (mut statistic, mut bins, mut rest) = (0.0, 0.0f64, [0.0f64; 2]);
    let mut bin = |a: f64, b: f64| {
        statistic += (a - b) * (a - b) / (a + b);
        bins += 1.0;
    };
    for (&a, &b) in counts[0].iter().zip(&counts[1]) {
        if a + b >= 10.0 {
            bin(a, b);
        } else {
            rest = [rest[0] + a, rest[1] + b];
        }
    }
    if rest[0] + rest[1] > 0.0 {
        bin(rest[0], rest[1]);
    }
    let (freedom, x) = (bins - 1.0, 9.2f64);
    let threshold = freedom + 2.0 * (freedom * x).sqrt() + 2.0 * x;
    assert!(statistic < threshold, "χ² of {statistic} over {freedom} degrees, at most {threshold}");
}

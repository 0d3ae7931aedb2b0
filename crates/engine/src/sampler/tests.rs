//! The sampler's rules, each against its plain definition.

use std::collections::HashMap;

use super::*;

fn draw_at(scores: &[f32], sampling: &Sampling, seed: u64, output_index: u32) -> TokenOut {
    let draw = Draw { sampling, history: &History::default(), seed, output_index, logprobs: None };
    Sampler::default().draw(&mut scores.to_vec(), &draw).unwrap()
}

/// How often each token comes in 4,000 draws.
fn frequencies(scores: &[f32], sampling: &Sampling) -> HashMap<TokenId, f64> {
    let mut counts = HashMap::new();
    for index in 0..4000 {
        *counts.entry(draw_at(scores, sampling, 7, index).token).or_insert(0.0) += 1.0 / 4000.0;
    }
    counts
}

fn possible(scores: &[f32], sampling: Sampling) -> Vec<TokenId> {
    let mut tokens: Vec<TokenId> = frequencies(scores, &sampling).into_keys().collect();
    tokens.sort_unstable();
    tokens
}

/// Probabilities 0.5, 0.25, 0.125, 0.125.
fn halves() -> [f32; 4] {
    [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln(), 0.125f32.ln()]
}

#[test]
fn drawing_follows_the_distribution() {
    let counts = frequencies(&halves(), &Sampling::default());
    for (token, probability) in [(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.125)] {
        // A standard deviation of √(p(1-p)/4000) is at most 0.0079; four of them.
        assert!((counts[&token] - probability).abs() < 0.032, "{counts:?}");
    }
}

#[test]
fn temperature_sharpens_and_flattens() {
    let at = |temperature| frequencies(&halves(), &Sampling { temperature, ..Sampling::default() });
    // p² normalised: 0.25 / 0.34375; √p normalised: 0.7071 / 1.9142.
    assert!((at(0.5)[&0] - 0.727).abs() < 0.032);
    assert!((at(2.0)[&0] - 0.369).abs() < 0.032);
    assert_eq!(possible(&halves(), Sampling { temperature: 1e-30, ..Sampling::default() }), [0]);
}

#[test]
fn filters_leave_what_they_say() {
    let with = |change: fn(&mut Sampling)| {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        possible(&halves(), sampling)
    };
    assert_eq!(with(|s| s.top_k = 1), [0]);
    assert_eq!(with(|s| s.top_k = 3), [0, 1, 2], "of equals the lowest stays");
    assert_eq!(with(|s| s.top_k = 100), [0, 1, 2, 3]);
    assert_eq!(with(|s| s.top_p = 0.49), [0]);
    assert_eq!(with(|s| s.top_p = 0.7), [0, 1]);
    assert_eq!(with(|s| s.top_p = 0.0), [0], "one token always stays");
    assert_eq!(with(|s| s.min_p = 0.3), [0, 1]);
    assert_eq!(with(|s| s.min_p = 1.0), [0]);
    // Top-p is a share of what top-k left: of 0.5 and 0.25, the first is two thirds.
    assert_eq!(with(|s| (s.top_k, s.top_p) = (2, 0.6)), [0]);
    assert_eq!(with(|s| (s.top_k, s.top_p) = (2, 0.7)), [0, 1]);
    assert_eq!(with(|s| (s.top_p, s.min_p) = (0.99, 0.3)), [0, 1]);
}

#[test]
fn greedy_takes_the_likeliest_and_of_equals_the_lowest() {
    assert_eq!(draw_at(&[1.0, 3.0, 3.0, 2.0], &Sampling::greedy(), 0, 0).token, 1);
}

#[test]
fn a_seed_and_a_place_decide_alone() {
    let scores: Vec<f32> = (0..500).map(|token| (token % 17) as f32 * 0.1).collect();
    let sampling = Sampling { top_p: 0.9, ..Sampling::default() };
    let mut sampler = Sampler::default();
    let answer = |sampler: &mut Sampler, seed: u64| -> Vec<TokenId> {
        let draw = |output_index| {
            let history = History::default();
            let draw = Draw { sampling: &sampling, history: &history, seed, output_index, logprobs: None };
            sampler.draw(&mut scores.clone(), &draw).unwrap().token
        };
        (0..20).map(draw).collect()
    };
    let first = answer(&mut sampler, 1);
    assert_ne!(answer(&mut sampler, 2), first);
    assert_eq!(answer(&mut sampler, 1), first, "whatever was drawn between");
}

#[test]
fn penalties_and_biases_change_scores_as_defined() {
    let choose = |scores: &[f32], sampling: &Sampling, prompt: &[TokenId], produced: &[TokenId]| {
        let mut history = History::of(sampling, prompt);
        produced.iter().for_each(|&token| history.note(token));
        let draw = Draw { sampling, history: &history, seed: 0, output_index: 0, logprobs: None };
        Sampler::default().draw(&mut scores.to_vec(), &draw).unwrap().token
    };
    let greedy = Sampling::greedy;
    let repetition = Sampling { repetition_penalty: 2.0, ..greedy() };
    assert_eq!(choose(&[4.0, 3.0], &repetition, &[0], &[]), 1, "the prompt counts, 4 / 2 < 3");
    assert_eq!(choose(&[-1.0, -1.5], &repetition, &[], &[0]), 1, "negative scores are multiplied");
    let presence = Sampling { presence_penalty: 0.4, ..greedy() };
    assert_eq!(choose(&[2.0, 1.5], &presence, &[0], &[]), 0, "the prompt does not count");
    assert_eq!(choose(&[2.0, 1.5], &presence, &[], &[0, 0]), 0, "once, however often");
    let frequency = Sampling { frequency_penalty: 0.4, ..greedy() };
    assert_eq!(choose(&[2.0, 1.5], &frequency, &[], &[0]), 0);
    assert_eq!(choose(&[2.0, 1.5], &frequency, &[], &[0, 0]), 1, "once per occurrence");
    let bias = Sampling { logit_bias: vec![(1, 0.6), (0, -0.1)], ..greedy() };
    assert_eq!(choose(&[2.0, 1.5], &bias, &[], &[]), 1);
}

#[test]
fn logprobs_are_of_the_models_own_distribution() {
    let sampling = Sampling {
        repetition_penalty: 3.0,
        logit_bias: vec![(3, 50.0), (3, 50.0)],
        temperature: 0.3,
        top_k: 2,
        ..Sampling::default()
    };
    let history = History::of(&sampling, &[3, 0]);
    let draw = Draw { sampling: &sampling, history: &history, seed: 0, output_index: 0, logprobs: Some(2) };
    let out = Sampler::default().draw(&mut halves(), &draw).unwrap();
    let logprob = out.logprob.unwrap();
    assert_eq!(out.token, 3);
    assert!((logprob.logprob - 0.125f32.ln()).abs() < 1e-6);
    assert_eq!(logprob.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [0, 1]);
    assert!((logprob.top[0].1 - 0.5f32.ln()).abs() < 1e-6);
}

#[test]
fn a_known_tokens_logprob_needs_no_draw() {
    let known = logprob_of(&halves(), 2, 1).unwrap();
    assert!((known.logprob - 0.125f32.ln()).abs() < 1e-6);
    assert_eq!(known.top.len(), 1);
}

#[test]
fn unsound_scores_and_biases_are_errors() {
    let draw = |scores: &[f32], sampling: Sampling| {
        let history = History::default();
        let draw = Draw { sampling: &sampling, history: &history, seed: 0, output_index: 0, logprobs: None };
        Sampler::default().draw(&mut scores.to_vec(), &draw).map(|out| out.token)
    };
    assert_eq!(draw(&[1.0, f32::NAN], Sampling::default()), Err(SamplingError::NotFinite));
    assert_eq!(draw(&[1.0, f32::INFINITY], Sampling::greedy()), Err(SamplingError::NotFinite));
    let biased = Sampling { logit_bias: vec![(9, 1.0)], ..Sampling::default() };
    assert_eq!(draw(&[1.0, 2.0], biased), Err(SamplingError::Bias { token: 9, vocabulary: 2 }));
    let banned = Sampling { logit_bias: vec![(0, f32::NEG_INFINITY)], ..Sampling::default() };
    assert_eq!(draw(&[1.0, -9.0], banned), Ok(1));
}

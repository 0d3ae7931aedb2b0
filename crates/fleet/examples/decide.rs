//! How long does one decision take? `cargo run --release -p fleet --example decide`

use std::hint::black_box;
use std::time::{Duration, Instant};

use domain::{Money, Usage};
use fleet::{Candidate, Need, Outcome, Slo, Unit, UnitState, choose};

fn main() {
    const ROUNDS: u64 = 200_000;
    for count in [1, 6, 32] {
        let mut members: Vec<_> = (0..count)
            .map(|number| {
                (Unit::new("model".into(), format!("provider-{number}").as_str().into()), UnitState::new())
            })
            .collect();
        let second = |number| Duration::from_secs(number);
        for (unit, state) in &mut members {
            unit.jurisdictions = vec!["eu".into()];
            for round in 0..100 {
                let mut ticket = state.began(unit, 1000, 1000, second(round)).expect("it is well");
                state.first_token(&mut ticket, second(round) + Duration::from_millis(300 + round));
                state.ended(ticket, Outcome::Answered { output_tokens: 50 }, second(round + 1));
            }
        }
        let limit = |millis| Some(Duration::from_millis(millis));
        let slo = Some(Slo { ttft: limit(800), per_token: limit(40), probability: 0.95 });
        let need = Need { input_tokens: 1000, output_tokens: 100, slo, ..Need::default() };
        let cost =
            |place: usize, usage: &Usage| Some(Money::from_pico((place as i128 + 1) * usage.total() as i128));
        let begun = Instant::now();
        for round in 0..ROUNDS {
            let candidates: Vec<_> = members
                .iter()
                .map(|(unit, state)| Candidate { unit, state, warm_tokens: 0, in_key_scope: true })
                .collect();
            black_box(choose(&need, &candidates, cost, second(100), round));
        }
        let decision = begun.elapsed() / ROUNDS as u32;
        let begun = Instant::now();
        let (unit, state) = &mut members[0];
        for round in 0..ROUNDS {
            let now = Duration::from_millis(100_000 + round);
            let mut ticket = state.began(unit, 1000, 1000, now).expect("it is well");
            state.first_token(&mut ticket, now + Duration::from_millis(300));
            state.ended(ticket, Outcome::Answered { output_tokens: 50 }, now + Duration::from_millis(900));
        }
        let learning = begun.elapsed() / ROUNDS as u32;
        println!("{count} candidates: {decision:?} a decision, {learning:?} to learn from one request");
    }
}

//! Which requests arrive, and when?

use std::path::Path;

use crate::random::Random;

/// One request: what it will really use is known here and to nobody who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub arrives_us: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub kind: Kind,
    /// Whether a residency rule binds it.
    pub eu_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Chat,
    Code,
}

pub const HOUR_US: u64 = 3_600_000_000;

/// Puts `copies` of the requests over each other, each shifted by a further part of the hour, as so many groups of users
/// would come; and binds a share of them, drawn by the seed, to the `eu`. The traces do not say where anybody lives.
pub fn crowd(requests: &[Request], copies: u64, eu_percent: usize, seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed);
    let mut crowd: Vec<_> = (0..copies)
        .flat_map(|copy| requests.iter().map(move |request| (copy, *request)))
        .map(|(copy, request)| {
            let arrives_us = (request.arrives_us + copy * HOUR_US / copies) % HOUR_US;
            Request { arrives_us, eu_only: random.between(1, 100) <= eu_percent, ..request }
        })
        .collect();
    crowd.sort_by_key(|request| request.arrives_us);
    crowd
}

/// Reads a trace of `TIMESTAMP,ContextTokens,GeneratedTokens`, as the Azure Public Dataset writes it. Each trace begins at zero.
pub fn read(path: &Path, kind: Kind) -> Result<Vec<Request>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let wrong = |line: usize| format!("{} line {line}: expected a time, two counts", path.display());
    let mut requests = Vec::new();
    for (number, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        requests.push(read_line(line.trim(), kind).ok_or_else(|| wrong(number + 1))?);
    }
    let first_us = requests.iter().map(|request| request.arrives_us).min().unwrap_or(0);
    for request in &mut requests {
        request.arrives_us -= first_us;
    }
    Ok(requests)
}

fn read_line(line: &str, kind: Kind) -> Option<Request> {
    let mut fields = line.split(',');
    let (_, clock) = fields.next()?.split_once(' ')?;
    let mut parts = clock.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    let input_tokens = fields.next()?.parse().ok()?;
    let output_tokens = fields.next()?.parse::<u64>().ok()?.max(1);
    let arrives_us = (hours * 60 + minutes) * 60_000_000 + (seconds * 1e6) as u64;
    Some(Request { arrives_us, input_tokens, output_tokens, kind, eu_only: false })
}

/// Returns an hour that is like the recorded one and nobody's: arrivals in bursts, long-tailed lengths, two thirds chat with
/// long answers and one third code with long prompts and short answers.
pub fn synthetic(count: usize, seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed);
    let mut requests: Vec<_> = (0..count)
        .map(|_| {
            let kind = if random.once_in(3) { Kind::Code } else { Kind::Chat };
            // Half of all requests come in the 20 bursts of a minute, the rest anywhere.
            let arrives_us = match random.once_in(2) {
                true => random.between(0, 19) as u64 * 180_000_000 + random.bits() % 60_000_000,
                false => random.bits() % HOUR_US,
            };
            let (input, output) = match kind {
                Kind::Chat => ((900.0, 1.0), (150.0, 0.8)),
                Kind::Code => ((1500.0, 0.9), (15.0, 1.0)),
            };
            let mut tokens = |(median, spread): (f64, f64), max: f64| {
                (median * (spread * random.normal()).exp()).clamp(1.0, max) as u64
            };
            let (input_tokens, output_tokens) = (tokens(input, 14_000.0), tokens(output, 1000.0));
            Request { arrives_us, input_tokens, output_tokens, kind, eu_only: false }
        })
        .collect();
    requests.sort_by_key(|request| request.arrives_us);
    requests
}

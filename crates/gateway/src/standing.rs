//! How does a client read in the headers how its limits stand?

use http::header::{HeaderName, HeaderValue};
use ledger::{Measure, Standing, Timestamp};

/// Returns OpenAI's `x-ratelimit-*` of the limits on requests and tokens that leave the least, and the same for money.
pub fn headers(standings: &[Standing], now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    let kinds: [(&[Measure], &str); 2] =
        [(&[Measure::Requests, Measure::Calls], "requests"), (&[Measure::Tokens], "tokens")];
    for (measures, word) in kinds {
        if let Some(standing) = tightest(standings, measures) {
            let names = ["limit", "remaining", "reset"].map(|part| format!("x-ratelimit-{part}-{word}"));
            let counts = [standing.limit.amount.0.to_string(), standing.remaining.0.to_string()];
            add(&mut headers, &names[0], counts[0].clone());
            add(&mut headers, &names[1], counts[1].clone());
            if let Some(at) = standing.resets_at {
                add(&mut headers, &names[2], wait(now, at));
            }
        }
    }
    if let Some(standing) = tightest(standings, &[Measure::Money]) {
        add(&mut headers, "x-baseload-budget-name", standing.limit.name.clone());
        add(&mut headers, "x-baseload-budget-limit", standing.limit.amount.money().to_string());
        add(&mut headers, "x-baseload-budget-remaining", standing.remaining.money().to_string());
        if let Some(at) = standing.resets_at {
            add(&mut headers, "x-baseload-budget-reset", at.to_string());
        }
    }
    let spent: Vec<&str> = standings
        .iter()
        .filter(|standing| standing.remaining.0 == 0 && !matches!(standing.limit.measure, Measure::Depth))
        .map(|standing| standing.limit.name.as_str())
        .collect();
    if !spent.is_empty() {
        add(&mut headers, "x-baseload-budget-warning", format!("nothing is left of {}", spent.join(", ")));
    }
    headers
}

/// Returns the time until then as OpenAI writes it: `1h2m3s`, `59.5s`, `20ms`.
pub fn wait(now: Timestamp, at: Timestamp) -> String {
    let millis = at.millis().saturating_sub(now.millis()).max(0);
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60);
    match (hours, minutes) {
        (0, 0) if millis < 1_000 => format!("{millis}ms"),
        (0, 0) if millis % 1_000 == 0 => format!("{seconds}s"),
        (0, 0) => format!("{}s", format!("{seconds}.{:03}", millis % 1_000).trim_end_matches('0')),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn tightest<'a>(standings: &'a [Standing], measures: &[Measure]) -> Option<&'a Standing> {
    let of_kind = standings.iter().filter(|standing| measures.contains(&standing.limit.measure));
    of_kind.min_by_key(|standing| standing.remaining)
}

/// A limit's name may hold what no header can; then it is left out.
fn add(headers: &mut Vec<(HeaderName, HeaderValue)>, name: &str, value: String) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("our own names are names");
    headers.extend(HeaderValue::from_str(&value).ok().map(|value| (name, value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_written_as_clients_of_openai_read_them() {
        let wait = |millis| super::wait(Timestamp::from_millis(0), Timestamp::from_millis(millis));
        assert_eq!(wait(20), "20ms");
        assert_eq!(wait(1_000), "1s");
        assert_eq!(wait(59_500), "59.5s");
        assert_eq!(wait(360_000), "6m0s");
        assert_eq!(wait(3_723_000), "1h2m3s");
        assert_eq!(wait(-5), "0ms");
    }
}

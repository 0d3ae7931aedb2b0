//! When may a refused request come again?

use std::time::Duration;

use crate::{ErrorAnswer, retry_after};

/// Longer waits are not worth holding a request for, and nonsense is not believed.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns how long to wait: what `retry-after` says, or else until the last of those limits that have nothing left is full
/// again.
pub(super) fn wait(answer: &ErrorAnswer<'_>) -> Option<Duration> {
    let until_reset = || {
        let resets = answer.headers.iter().filter_map(|(name, value)| {
            let limit = name.strip_suffix("-reset")?;
            let is_limit = limit.starts_with("anthropic-ratelimit-") && is_empty(limit, answer);
            let moment = is_limit.then(|| rfc3339(value.trim()))??;
            Some(Duration::from_secs(moment.saturating_sub(answer.now)))
        });
        resets.max().map(|wait| wait.min(WAIT_MAX))
    };
    retry_after::told(answer.headers, answer.now).or_else(until_reset)
}

fn is_empty(limit: &str, answer: &ErrorAnswer<'_>) -> bool {
    let remaining = format!("{limit}-remaining");
    answer.headers.iter().any(|(name, value)| *name == remaining && value.trim() == "0")
}

/// Reads `2026-11-21T16:00:00Z`, with a fraction or an offset where there is one, as seconds since 1970.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let numbers = |text: &str, separator| text.split(separator).map(|part| part.parse().ok()).collect();
    let date: Option<Vec<u64>> = numbers(date, '-');
    let [year @ 1970..10_000, month @ 1..=12, day @ 1..=31] = date?[..] else { return None };
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let time: Option<Vec<u64>> = numbers(rest[..zone].split('.').next()?, ':');
    let [hours @ 0..24, minutes @ 0..60, seconds @ 0..=60] = time?[..] else { return None };
    let seconds =
        retry_after::days_since_1970(year, month, day) * 86_400 + hours * 3600 + minutes * 60 + seconds;
    let (sign, offset) = rest[zone..].split_at(1);
    if offset.is_empty() {
        return Some(seconds);
    }
    let offset: Option<Vec<u64>> = numbers(offset, ':');
    let [hours @ 0..24, minutes @ 0..60] = offset?[..] else { return None };
    let offset = hours * 3600 + minutes * 60;
    if sign == "-" { Some(seconds + offset) } else { seconds.checked_sub(offset) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 16:00:00 UTC.
    const NOW: u64 = 1_795_276_800;

    fn seconds(headers: &[(&str, &str)]) -> Option<f64> {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = ErrorAnswer { status: 429, headers: &headers, body: b"", now: NOW };
        super::wait(&answer).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn the_last_empty_limit_decides_where_nothing_else_is_said() {
        let requests = ("anthropic-ratelimit-requests-reset", "2026-11-21T16:00:10Z");
        let tokens = ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T17:00:40.5+01:00");
        let no_requests = ("anthropic-ratelimit-requests-remaining", "0");
        let no_tokens = ("anthropic-ratelimit-input-tokens-remaining", "0");
        assert_eq!(seconds(&[requests, tokens, no_requests, no_tokens]), Some(40.0));
        assert_eq!(seconds(&[requests, tokens, no_requests]), Some(10.0));
        assert_eq!(seconds(&[requests, tokens]), None);
        for nonsense in
            ["", "soon", "2026-13-01T00:00:00Z", "2026-11-21T16:00:00", "2026-11-21T16:00:00+99:99"]
        {
            assert_eq!(
                seconds(&[("anthropic-ratelimit-requests-reset", nonsense), no_requests]),
                None,
                "{nonsense}"
            );
        }
        assert_eq!(seconds(&[requests, tokens, no_tokens, ("retry-after", "3")]), Some(3.0));
    }
}

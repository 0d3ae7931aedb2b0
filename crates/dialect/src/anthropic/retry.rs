//! When may a refused request come again?

use std::time::Duration;

use crate::ErrorAnswer;

/// Longer waits are not worth holding a request for, and nonsense is not believed.
const WAIT_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Returns how long to wait: `retry-after` in milliseconds, seconds or as a date, or else until the last of those limits that
/// have nothing left is full again.
pub(super) fn retry_after(answer: &ErrorAnswer<'_>) -> Option<Duration> {
    let header = |name: &str| {
        answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim())
    };
    let milliseconds = header("retry-after-ms").and_then(|value| value.parse::<f64>().ok());
    let seconds = || {
        let value = header("retry-after")?;
        let of_date = || Some(until(http_date(value)?, answer.now));
        value.parse::<f64>().ok().or_else(of_date)
    };
    let wait = milliseconds.map(|wait| wait / 1000.0).or_else(seconds);
    wait.or_else(|| until_reset(answer)).and_then(bounded)
}

fn until_reset(answer: &ErrorAnswer<'_>) -> Option<f64> {
    let is_empty = |limit: &str| {
        let remaining = format!("{limit}-remaining");
        answer.headers.iter().any(|(name, value)| *name == remaining && value.trim() == "0")
    };
    let waits = answer.headers.iter().filter_map(|(name, value)| {
        let limit = name.strip_suffix("-reset").filter(|limit| limit.starts_with("anthropic-ratelimit-"))?;
        is_empty(limit).then_some(())?;
        Some(until(rfc3339(value.trim())?, answer.now))
    });
    waits.fold(None, |longest, wait| Some(longest.map_or(wait, |known: f64| known.max(wait))))
}

fn until(moment: u64, now: u64) -> f64 {
    moment.saturating_sub(now) as f64
}

fn bounded(seconds: f64) -> Option<Duration> {
    let is_sane = seconds.is_finite() && seconds >= 0.0;
    is_sane.then(|| Duration::from_secs_f64(seconds.min(WAIT_SECONDS_MAX as f64)))
}

/// Reads `2026-11-21T16:00:00Z`, with a fraction or an offset where there is one, as seconds since 1970.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let days = days(date.next()??, date.next()??, date.next()??)?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let time = time(rest[..zone].split('.').next()?)?;
    let offset = match &rest[zone..] {
        "Z" | "z" => 0,
        offset => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = offset[1..].split_once(':')?;
            let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
            sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60)
        }
    };
    u64::try_from(days * 86_400 + time - offset).ok()
}

/// Reads `Sat, 21 Nov 2026 16:00:00 GMT` as seconds since 1970.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|known| *known == month)? as i64 + 1;
    let days = days(words.next()?.parse().ok()?, month, day)?;
    u64::try_from(days * 86_400 + time(words.next()?)?).ok()
}

fn time(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let is_time = (0..24).contains(&hours) && (0..60).contains(&minutes) && (0..=60).contains(&seconds);
    is_time.then_some(hours * 3600 + minutes * 60 + seconds)
}

/// Returns the days from 1970 to a date of the Gregorian calendar: years begin in March, so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 16:00:00 UTC.
    const NOW: u64 = 1_795_276_800;

    fn wait(headers: &[(&str, &str)]) -> Option<f64> {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = ErrorAnswer { status: 429, headers: &headers, body: b"", now: NOW };
        retry_after(&answer).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn a_wait_is_read_in_every_form_it_comes_in() {
        assert_eq!(wait(&[("retry-after", "7")]), Some(7.0));
        assert_eq!(wait(&[("retry-after", " 0.5 ")]), Some(0.5));
        assert_eq!(wait(&[("retry-after", "9"), ("retry-after-ms", "1500")]), Some(1.5));
        assert_eq!(wait(&[("retry-after", "Sat, 21 Nov 2026 16:01:30 GMT")]), Some(90.0));
        assert_eq!(wait(&[("retry-after", "Sat, 21 Nov 2026 15:00:00 GMT")]), Some(0.0));
        assert_eq!(wait(&[("retry-after", "99999999")]), Some(86_400.0));
        for nonsense in ["", "soon", "-3", "NaN", "Sat, 99 Foo 2026 16:01:30 GMT"] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense:?}");
        }
    }

    #[test]
    fn without_it_the_last_empty_limit_decides() {
        let requests = ("anthropic-ratelimit-requests-reset", "2026-11-21T16:00:10Z");
        let tokens = ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T17:00:40.5+01:00");
        let no_requests = ("anthropic-ratelimit-requests-remaining", "0");
        let no_tokens = ("anthropic-ratelimit-input-tokens-remaining", "0");
        assert_eq!(wait(&[requests, tokens, no_requests, no_tokens]), Some(40.0));
        assert_eq!(wait(&[requests, tokens, no_requests]), Some(10.0));
        assert_eq!(wait(&[requests, tokens]), None);
        assert_eq!(wait(&[requests, tokens, no_tokens, ("retry-after", "3")]), Some(3.0));
    }
}

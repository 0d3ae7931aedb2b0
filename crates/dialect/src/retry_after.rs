//! When does an upstream want to be asked again?
//!
//! | header | value |
//! |---|---|
//! | `retry-after-ms` | milliseconds (OpenAI, Azure) |
//! | `retry-after` | seconds, also with a fraction, or a date |
//! | `x-ratelimit-reset-requests`, `-tokens` | a span such as `6m0s`, `20ms`, `7.66s` (OpenAI, Groq), or seconds |

use std::time::Duration;

/// Whoever says more than a day does not mean it as a time to wait.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// Returns what `retry-after` says, in any of its forms. `now` is in seconds since 1970.
pub(crate) fn told(headers: &[(String, String)], now: u64) -> Option<Duration> {
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim());
    let milliseconds = header("retry-after-ms").and_then(|value| decimal(value, 1e-3));
    let after = || header("retry-after").and_then(|value| decimal(value, 1.0).or_else(|| until(value, now)));
    milliseconds.or_else(after).map(|wait| wait.min(WAIT_MAX))
}

/// Returns what [`told`] returns, or else when the limits that are used up are filled again.
pub(crate) fn with_limits(headers: &[(String, String)], now: u64) -> Option<Duration> {
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim());
    let reset = |sort: &str| {
        let left = header(&format!("x-ratelimit-remaining-{sort}"));
        let is_empty = left.is_none_or(|left| left.parse::<f64>().is_ok_and(|left| left <= 0.0));
        let reset = span(header(&format!("x-ratelimit-reset-{sort}"))?)?;
        Some((is_empty, reset))
    };
    let limits = || {
        let resets: Vec<(bool, Duration)> = ["requests", "tokens"].into_iter().filter_map(reset).collect();
        // Where none is said to be empty, the request was larger than what is left: the shorter wait may do.
        let of_empty = resets.iter().filter(|(is_empty, _)| *is_empty).map(|(_, reset)| *reset).max();
        of_empty.or_else(|| resets.iter().map(|(_, reset)| *reset).min())
    };
    told(headers, now).or_else(limits).map(|wait| wait.min(WAIT_MAX))
}

/// Returns a number of units of `seconds` each.
fn decimal(value: &str, seconds: f64) -> Option<Duration> {
    let number: f64 = value.parse().ok()?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// Returns a span: numbers with units, the largest first, or bare seconds.
fn span(value: &str) -> Option<Duration> {
    if let Some(seconds) = decimal(value, 1.0) {
        return Some(seconds);
    }
    let mut rest = value;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|sign: char| !sign.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum = sum.checked_add(decimal(number, seconds)?)?;
        rest = after;
    }
    (!value.is_empty()).then_some(sum)
}

/// Returns how long it is until a date, in any of the three forms that HTTP has had; none at all if it has passed.
fn until(date: &str, now: u64) -> Option<Duration> {
    let words: Vec<&str> = date.split([' ', ',', '-']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match words[..] {
        // `Sun, 06 Nov 1994 08:49:37 GMT`, and `Sunday, 06-Nov-94 08:49:37 GMT`.
        [_, day, month, year, time, "GMT" | "UTC"] => (day, month, year, time),
        // `Sun Nov  6 08:49:37 1994`.
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let day: u64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    let year = match year.parse::<u64>().ok()? {
        short @ 0..70 => 2000 + short,
        short @ 70..100 => 1900 + short,
        year @ 1970..10_000 => year,
        _ => return None,
    };
    let clock: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = clock[..] else { return None };
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let then = days_since_1970(year, month, day) * 86_400 + hours * 3_600 + minutes * 60 + seconds;
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Counts days in the Gregorian calendar, whose years are taken to begin in March: the leap day is then the last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    const DAYS_BEFORE_1970: u64 = 719_468;
    365 * year + leap_days + day_of_year - DAYS_BEFORE_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777;

    fn wait(headers: &[(&str, &str)]) -> Option<u128> {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        with_limits(&headers, NOW).map(|wait| wait.as_millis())
    }

    #[test]
    fn every_form_of_retry_after_is_understood() {
        for (value, expected) in [
            ("2", Some(2_000)),
            ("0", Some(0)),
            ("0.25", Some(250)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60_000)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60_000)),
            ("Sun Nov  6 08:50:37 1994", Some(60_000)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(86_400_000)),
            ("99999999999", Some(86_400_000)),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:61:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(wait(&[("retry-after", value)]), expected, "{value}");
        }
        assert_eq!(wait(&[("retry-after", "9"), ("retry-after-ms", "1500")]), Some(1_500));
    }

    #[test]
    fn dates_are_counted_across_leap_years() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 3, 1) - days_since_1970(2000, 2, 28), 2);
        assert_eq!(days_since_1970(2100, 3, 1) - days_since_1970(2100, 2, 28), 1);
        assert_eq!(days_since_1970(2026, 11, 21), 20_778);
    }

    #[test]
    fn a_limit_that_is_used_up_says_when_it_is_filled_again() {
        for (value, expected) in [
            ("1s", Some(1_000)),
            ("6m0s", Some(360_000)),
            ("20ms", Some(20)),
            ("1h2m3.5s", Some(3_723_500)),
            ("2m59.56s", Some(179_560)),
            ("1d", Some(86_400_000)),
            ("12", Some(12_000)),
            ("1x", None),
            ("s", None),
        ] {
            assert_eq!(wait(&[("x-ratelimit-reset-tokens", value)]), expected, "{value}");
        }
        let both = [
            ("x-ratelimit-remaining-requests", "99"),
            ("x-ratelimit-reset-requests", "8m"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "2s"),
        ];
        assert_eq!(wait(&both), Some(2_000), "only the limit that is empty is waited for");
    }
}

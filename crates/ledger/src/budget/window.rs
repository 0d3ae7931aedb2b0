//! Which stretch of time does an amount belong to?
//!
//! ```text
//! calendar   ├──────── day ────────┼──────── day ────────┤       each instant lies in exactly one window
//!
//! rolling    ├─┼─┼─┼─┼─┼─┼─┼─┼─┼─┼─┼·┤                            tenths of the length D; at an instant in the tenth `·`
//!             └────── counted ──────┘                            the tenth itself and the ten before it are counted
//! ```
//!
//! A rolling window of length D is kept in tenths: what is counted reaches back at least D and less than 1.1 D. So it may
//! refuse up to a tenth too long, and never allows more than its amount within any stretch of D.
//!
//! Calendar windows follow the clock on the wall of their time zone: a day may have 23 or 25 hours, and a week begins on
//! Monday. Where a zone's offset changes inside an hour or a minute, that hour is two windows, cut at the change.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Zoned};

use crate::Timestamp;

/// When counting begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    Calendar(Unit, Zone),
    /// See the file's heading for what this means exactly.
    Rolling(Duration),
    /// Never.
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// A time zone by its IANA name. The rules are compiled in, so that every machine means the same by it.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// One window: from `start` until before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub start: Timestamp,
    /// `None`: it never ends.
    pub end: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error(
        "{0:?} is no window; choose minute, hour, day, week, month, total, or rolling and a length, such as `rolling 5h`"
    )]
    Unknown(String),
    #[error("{0:?} is no time zone; write its IANA name, such as Europe/Berlin or UTC")]
    UnknownZone(String),
    #[error("a rolling window lasts 10 seconds to 366 days; got {0:?}")]
    Length(String),
    #[error("a window of kind {0:?} has no time zone; leave the zone away")]
    NeedlessZone(String),
}

/// Into how many parts a rolling window is cut.
const ROLLING_PARTS: i64 = 10;
const ROLLING_MIN: Duration = Duration::from_secs(10);
const ROLLING_MAX: Duration = Duration::from_secs(366 * 86_400);

impl Window {
    /// Returns the window that this instant lies in; for a rolling window, its tenth.
    pub fn span(&self, at: Timestamp) -> Span {
        match self {
            Self::Total => Span { start: Timestamp::from_millis(0), end: None },
            Self::Rolling(length) => {
                let part = part_ms(*length);
                let start = at.millis().div_euclid(part).saturating_mul(part);
                Span {
                    start: Timestamp::from_millis(start),
                    end: Some(Timestamp::from_millis(start.saturating_add(part))),
                }
            }
            Self::Calendar(unit, zone) => unit.span(within_calendar(at), &zone.0),
        }
    }

    /// Returns the start of the oldest window whose amounts still count against one that begins at `start`.
    pub fn counted_since(&self, start: Timestamp) -> Timestamp {
        match self {
            Self::Rolling(length) => {
                Timestamp::from_millis(start.millis().saturating_sub(ROLLING_PARTS * part_ms(*length)))
            }
            Self::Calendar(..) | Self::Total => start,
        }
    }

    /// Returns when what was counted in the window that begins at `start` stops counting.
    pub fn forgotten_at(&self, start: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Rolling(length) => {
                let kept = (ROLLING_PARTS + 1) * part_ms(*length);
                Some(Timestamp::from_millis(start.millis().saturating_add(kept)))
            }
            Self::Calendar(..) | Self::Total => self.span(start).end,
        }
    }

    /// Reads `day`, `rolling 5h` or `total`; a calendar window without a zone follows UTC.
    pub fn parse(kind: &str, zone: Option<&str>) -> Result<Self, WindowError> {
        let needless = |window| match zone {
            None => Ok(window),
            Some(_) => Err(WindowError::NeedlessZone(kind.to_owned())),
        };
        let unit = match kind.trim() {
            "minute" => Unit::Minute,
            "hour" => Unit::Hour,
            "day" => Unit::Day,
            "week" => Unit::Week,
            "month" => Unit::Month,
            "total" => return needless(Self::Total),
            other => {
                let length =
                    other.strip_prefix("rolling ").ok_or_else(|| WindowError::Unknown(kind.to_owned()))?;
                return needless(Self::Rolling(rolling_length(length.trim())?));
            }
        };
        Ok(Self::Calendar(unit, zone.unwrap_or("UTC").parse()?))
    }
}

/// `month in Europe/Berlin`, `rolling 5h`, `total`: what [`Window::from_str`] reads.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calendar(unit, zone) => write!(f, "{unit} in {zone}"),
            Self::Rolling(length) => {
                let seconds = length.as_secs();
                let (count, unit) = match seconds {
                    _ if seconds % 86_400 == 0 => (seconds / 86_400, "d"),
                    _ if seconds % 3_600 == 0 => (seconds / 3_600, "h"),
                    _ if seconds % 60 == 0 => (seconds / 60, "m"),
                    _ => (seconds, "s"),
                };
                write!(f, "rolling {count}{unit}")
            }
            Self::Total => f.write_str("total"),
        }
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        match text.split_once(" in ") {
            Some((kind, zone)) => Self::parse(kind, Some(zone)),
            None => Self::parse(text, None),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        })
    }
}

impl FromStr for Zone {
    type Err = WindowError;

    fn from_str(name: &str) -> Result<Self, WindowError> {
        TimeZone::get(name).map(Self).map_err(|_| WindowError::UnknownZone(name.to_owned()))
    }
}
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}
impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Unit {
    fn span(self, at: jiff::Timestamp, zone: &TimeZone) -> Span {
        match self {
            Self::Minute => clock_span(at, zone, 60),
            Self::Hour => clock_span(at, zone, 3_600),
            Self::Day | Self::Week | Self::Month => {
                let (first, next) =
                    self.days(&at.to_zoned(zone.clone())).expect("the calendar reaches that far");
                Span { start: ours(first.timestamp()), end: Some(ours(next.timestamp())) }
            }
        }
    }

    /// Returns the first instant of the unit's first day and of the first day after it.
    fn days(self, at: &Zoned) -> Result<(Zoned, Zoned), jiff::Error> {
        let (first, next) = match self {
            Self::Week => {
                let since_monday = i64::from(at.weekday().to_monday_zero_offset());
                let monday = at.date().checked_sub(SignedDuration::from_hours(24 * since_monday))?;
                (monday, monday.checked_add(SignedDuration::from_hours(24 * 7))?)
            }
            Self::Month => {
                let first = at.date().first_of_month();
                (first, first.last_of_month().tomorrow()?)
            }
            Self::Day | Self::Hour | Self::Minute => (at.date(), at.date().tomorrow()?),
        };
        let zone = at.time_zone();
        Ok((first.to_zoned(zone.clone())?.start_of_day()?, next.to_zoned(zone.clone())?.start_of_day()?))
    }
}

/// The hour or minute on the wall, cut where the zone's offset changes.
fn clock_span(at: jiff::Timestamp, zone: &TimeZone, length_seconds: i64) -> Span {
    let offset = zone.to_offset(at);
    let on_wall = at.as_second() + i64::from(offset.seconds()) - i64::from(at.subsec_nanosecond() < 0);
    let start = on_wall.div_euclid(length_seconds) * length_seconds - i64::from(offset.seconds());
    let (mut start, mut end) = (second(start), second(start + length_seconds));
    let changes = |instant: jiff::Timestamp, to: Offset| zone.to_offset(instant) != to;
    if changes(start, offset) {
        // The offset has changed between then and now: the window begins at the last change.
        start = zone
            .preceding(at + SignedDuration::from_nanos(1))
            .map(|change| change.timestamp())
            .find(|change| *change <= at)
            .unwrap_or(start);
    }
    if changes(end - SignedDuration::from_nanos(1), offset) {
        end = zone.following(at).next().map_or(end, |change| change.timestamp());
    }
    Span { start: ours(start), end: Some(ours(end)) }
}

fn second(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).expect("the calendar reaches that far")
}

fn ours(instant: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(instant.as_millisecond())
}

/// A clock that is thousands of years wrong is counted in the calendar's first or last year.
fn within_calendar(at: Timestamp) -> jiff::Timestamp {
    const YEAR_MS: i64 = 366 * 86_400_000;
    let (first, last) = (jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
    let millis = at.millis().clamp(first + 2 * YEAR_MS, last - 2 * YEAR_MS);
    jiff::Timestamp::from_millisecond(millis).expect("clamped into the calendar")
}

fn part_ms(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX) / ROLLING_PARTS
}

fn rolling_length(text: &str) -> Result<Duration, WindowError> {
    let wrong = || WindowError::Length(text.to_owned());
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds_each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].trim().parse().map_err(|_| wrong())?;
    let length = Duration::from_secs(count.checked_mul(seconds_each).ok_or_else(wrong)?);
    if (ROLLING_MIN..=ROLLING_MAX).contains(&length) { Ok(length) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        ours(text.parse().unwrap())
    }

    fn check(window: &str, instant: &str, start: &str, end: &str) {
        let span = window.parse::<Window>().unwrap().span(at(instant));
        assert_eq!((span.start, span.end), (at(start), Some(at(end))), "{window} at {instant}");
    }

    #[test]
    fn calendar_windows_follow_the_wall_of_their_zone() {
        check("day", "2026-11-21T13:00:00Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z");
        check("day in Asia/Kolkata", "2026-11-21T13:00:00Z", "2026-11-20T18:30:00Z", "2026-11-21T18:30:00Z");
        check(
            "hour in Asia/Kathmandu",
            "2026-11-21T13:00:00Z",
            "2026-11-21T12:15:00Z",
            "2026-11-21T13:15:00Z",
        );
        check("minute", "2026-11-21T13:00:59.999Z", "2026-11-21T13:00:00Z", "2026-11-21T13:01:00Z");
        check(
            "week in Europe/Berlin",
            "2026-11-22T22:59:59Z",
            "2026-11-15T23:00:00Z",
            "2026-11-22T23:00:00Z",
        );
    }

    #[test]
    fn a_day_has_23_or_25_hours_when_the_clocks_change() {
        check("day in Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check("day in Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    }

    #[test]
    fn the_hour_that_comes_twice_is_two_windows() {
        check(
            "hour in Europe/Berlin",
            "2026-10-25T00:30:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
        );
        check(
            "hour in Europe/Berlin",
            "2026-10-25T01:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z",
        );
        // Lord Howe's clocks change by half an hour: 02:00 becomes 01:30.
        check(
            "hour in Australia/Lord_Howe",
            "2026-04-04T14:59:00Z",
            "2026-04-04T14:00:00Z",
            "2026-04-04T15:00:00Z",
        );
        check(
            "hour in Australia/Lord_Howe",
            "2026-04-04T15:10:00Z",
            "2026-04-04T15:00:00Z",
            "2026-04-04T15:30:00Z",
        );
    }

    #[test]
    fn months_have_their_own_lengths() {
        check("month", "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z");
        check("month", "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        check(
            "month in America/New_York",
            "2026-03-15T00:00:00Z",
            "2026-03-01T05:00:00Z",
            "2026-04-01T04:00:00Z",
        );
    }

    #[test]
    fn a_rolling_window_counts_its_tenth_and_the_ten_before_it() {
        let window: Window = "rolling 100s".parse().unwrap();
        let second = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let span = window.span(second(1_234));
        assert_eq!((span.start, span.end), (second(1_230), Some(second(1_240))));
        assert_eq!(window.counted_since(span.start), second(1_130));
        assert_eq!(
            window.forgotten_at(second(1_130)),
            Some(second(1_240)),
            "it counts until that window ends"
        );
    }

    #[test]
    fn windows_are_written_as_they_are_read_and_mistakes_are_named() {
        for text in
            ["month in Europe/Berlin", "minute in UTC", "rolling 5h", "rolling 7d", "rolling 90s", "total"]
        {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!("day".parse::<Window>().unwrap().to_string(), "day in UTC");
        let refusal = |text: &str| text.parse::<Window>().unwrap_err().to_string();
        assert!(refusal("daily").contains("minute, hour, day"));
        assert!(refusal("day in Berlin").contains("IANA name"));
        assert!(refusal("rolling 5s").contains("10 seconds"));
        assert!(refusal("total in UTC").contains("leave the zone away"));
    }

    proptest! {
        /// Windows tile time: each instant lies in one, and the next begins where it ends.
        #[test]
        fn every_instant_lies_in_exactly_one_window(
            millis in -2_000_000_000_000i64..4_000_000_000_000,
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia",
                "Africa/Casablanca", "America/Sao_Paulo",
            ]),
            unit in prop::sample::select(vec![Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month]),
        ) {
            let window = Window::Calendar(unit, zone.parse().unwrap());
            let instant = Timestamp::from_millis(millis);
            let Span { start, end: Some(end) } = window.span(instant) else { panic!("it ends") };
            prop_assert!(start <= instant && instant < end);
            prop_assert_eq!(window.span(start).start, start);
            prop_assert_eq!(window.span(Timestamp::from_millis(end.millis() - 1)).start, start);
            prop_assert_eq!(window.span(end).start, end);
        }
    }

    #[test]
    fn no_clock_is_too_wrong_to_be_counted() {
        for window in ["minute", "month in Europe/Berlin", "rolling 1h", "total"] {
            let window: Window = window.parse().unwrap();
            for instant in [Timestamp::MIN, Timestamp::MAX] {
                window.span(instant);
            }
        }
    }
}

//! Times as people write them: RFC 3339, a date, or so long ago.

use edgelogger_common::duration::HumanDuration;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time; write \"-15m\" (so long ago), \"2026-11-21T10:02:00Z\", \"2026-11-21 10:02\" (UTC) or \"now\""
)]
pub struct WhenError(String);

/// Reads a time, in nanoseconds since 1970. `now_ns`: what "ago" is counted from; a leading minus may be left out.
/// What lies before 1677 or after 2262 becomes the first or last time that there is: no record lies beyond.
///
/// # Errors
/// When it is no time.
pub fn parse_when(text: &str, now_ns: i64) -> Result<i64, WhenError> {
    let text = text.trim();
    let error = || WhenError(text.chars().take(60).collect());
    if text == "now" {
        return Ok(now_ns);
    }
    if let Some(time) = absolute(&with_nanoseconds(text)) {
        let ns = time.as_nanosecond();
        return Ok(i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX }));
    }
    let ago: HumanDuration = text
        .strip_prefix('-')
        .unwrap_or(text)
        .parse()
        .map_err(|_| error())?;
    let ago_ns = i64::try_from(ago.as_nanos()).map_err(|_| error())?;
    Ok(now_ns.saturating_sub(ago_ns))
}

fn absolute(text: &str) -> Option<Timestamp> {
    let civil = || {
        let civil = text
            .parse::<DateTime>()
            .or_else(|_| text.parse::<Date>().map(DateTime::from));
        Some(civil.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    // In a URL a plus sign is a space, and people forget to write %2B.
    let parsed = text
        .parse()
        .or_else(|_| text.replace(' ', "+").parse::<Timestamp>());
    parsed.ok().or_else(civil)
}

/// RFC 3339 allows any number of digits behind the second; what is finer than a nanosecond is cut off.
fn with_nanoseconds(text: &str) -> String {
    let Some((whole, rest)) = text.split_once('.') else {
        return text.to_owned();
    };
    let end = rest
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    format!("{whole}.{}{behind}", &digits[..digits.len().min(9)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: i64) {
        assert_eq!(parse_when(text, 1_000_000_000_000), Ok(expected), "{text}");
    }

    #[test]
    fn times_are_read_in_all_their_forms() {
        check("now", 1_000_000_000_000);
        check("-15m", 100_000_000_000);
        check("15m", 100_000_000_000);
        check("1970-01-01T00:00:05Z", 5_000_000_000);
        check("1970-01-01T01:00:05+01:00", 5_000_000_000);
        check("1970-01-01T01:00:05 01:00", 5_000_000_000);
        check("1970-01-02", 86_400_000_000_000);
        check("1970-01-01 00:01", 60_000_000_000);
        check("1970-01-01t00:00:05.00000000099z", 5_000_000_000);
        check("0001-01-01T00:00:00Z", i64::MIN);
        check("9999-12-30", i64::MAX);
    }

    #[test]
    fn what_is_no_time_is_refused_with_examples() {
        let error = parse_when("yesterday", 0).unwrap_err().to_string();
        assert!(error.contains("-15m"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_when(&text, 0);
        }
    }
}

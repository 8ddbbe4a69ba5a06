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
///
/// # Errors
/// When it is no time.
pub fn parse_when(text: &str, now_ns: i64) -> Result<i64, WhenError> {
    let text = text.trim();
    let error = || WhenError(text.chars().take(60).collect());
    if text == "now" {
        return Ok(now_ns);
    }
    // In a URL a plus sign is a space, and people forget to write %2B.
    let absolute = text.replace(' ', "+");
    if let Ok(time) = text
        .parse::<Timestamp>()
        .or_else(|_| absolute.parse::<Timestamp>())
    {
        return i64::try_from(time.as_nanosecond()).map_err(|_| error());
    }
    let civil = text
        .parse::<DateTime>()
        .or_else(|_| text.parse::<Date>().map(DateTime::from));
    if let Ok(civil) = civil {
        let time = civil.to_zoned(TimeZone::UTC).map_err(|_| error())?;
        return i64::try_from(time.timestamp().as_nanosecond()).map_err(|_| error());
    }
    let ago: HumanDuration = text
        .strip_prefix('-')
        .unwrap_or(text)
        .parse()
        .map_err(|_| error())?;
    let ago_ns = i64::try_from(ago.as_nanos()).map_err(|_| error())?;
    Ok(now_ns.saturating_sub(ago_ns))
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

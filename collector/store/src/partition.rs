//! Which day a row belongs to on disk.
//!
//! A row's own time decides while it is believable: not more than [`PAST_MAX_NS`] before it was received nor more
//! than [`FUTURE_MAX_NS`] behind. Otherwise the time of receipt decides, so that clocks in 1970 and 2099 make no
//! files of their own that retention would drop at once or never.

/// 30 days: a machine that was off the net for longer sends old rows into today's partition.
pub const PAST_MAX_NS: i64 = 30 * DAY_NS;
/// 1 day: more than any time zone that a clock may have wrong.
pub const FUTURE_MAX_NS: i64 = DAY_NS;
/// A day, in ns.
pub const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// Days since 1970-01-01 UTC.
pub fn partition_day(event_ns: Option<i64>, received_ns: i64) -> i64 {
    let believable = received_ns.saturating_sub(PAST_MAX_NS)..=received_ns.saturating_add(FUTURE_MAX_NS);
    event_ns
        .filter(|event| believable.contains(event))
        .unwrap_or(received_ns)
        .div_euclid(DAY_NS)
}

/// A day as it stands in file names: `20261121`.
pub fn day_name(day: i64) -> String {
    let date = i32::try_from(day).ok().and_then(|days| {
        jiff::civil::date(1970, 1, 1)
            .checked_add(jiff::Span::new().try_days(days).ok()?)
            .ok()
    });
    match date {
        Some(date) => format!("{:04}{:02}{:02}", date.year(), date.month(), date.day()),
        None => format!("day{day}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 20_000 * DAY_NS + DAY_NS / 2;

    fn check(event_ns: Option<i64>, expected: i64) {
        assert_eq!(partition_day(event_ns, NOON), expected, "{event_ns:?}");
    }

    #[test]
    fn a_believable_time_decides_and_junk_does_not() {
        check(None, 20_000);
        check(Some(NOON - DAY_NS), 19_999);
        check(Some(NOON - PAST_MAX_NS), 19_970);
        check(Some(NOON - PAST_MAX_NS - 1), 20_000);
        check(Some(NOON + FUTURE_MAX_NS), 20_001);
        check(Some(NOON + FUTURE_MAX_NS + 1), 20_000);
        check(Some(0), 20_000);
        check(Some(i64::MAX), 20_000);
        check(Some(i64::MIN), 20_000);
    }

    #[test]
    fn days_have_names_whatever_they_are() {
        assert_eq!(day_name(0), "19700101");
        assert_eq!(day_name(20_778), "20261121");
        assert_eq!(day_name(-1), "19691231");
        assert_eq!(partition_day(None, i64::MIN), -106_752);
        assert!(day_name(i64::MAX).starts_with("day"));
    }
}

//! Dates with the name of a month: syslog's `Oct 11 22:14:15`, Cisco's `Oct 11 2024 22:14:15`, the `Wed Oct 11
//! 14:32:52.123 2000` of `ctime` and Apache's error log.

use super::calendar::{Civil, month_number};
use super::{Context, Stamp, digits};

/// A date and time at the start of `text`.
pub(super) fn parse(text: &[u8], context: Context) -> Option<Stamp> {
    let weekday_len = weekday(text);
    let text = &text[weekday_len..];
    let &[m1, m2, m3, b' ', d1, d2, b' '] = text.first_chunk::<7>()? else {
        return None;
    };
    let month = month_number([m1, m2, m3])?;
    let day = digits::two([if d1 == b' ' { b'0' } else { d1 }, d2])?;
    let (year_before, year_len) = year(&text[7..]).map_or((None, 0), |year| (Some(year), 5));
    let clock_start = 7 + year_len;
    let (hour, minute, second) = digits::clock(&text[clock_start..])?;
    let mut end = clock_start + 8;
    let (nanosecond, fraction_len) = digits::fraction(&text[end..]);
    end += fraction_len;
    let year_after = text[end..].strip_prefix(b" ").and_then(year_at_end);
    if weekday_len > 0 && year_after.is_some() {
        end += 5;
    }
    let civil = Civil {
        year: year_before
            .or(year_after.filter(|_| weekday_len > 0))
            .unwrap_or(0),
        month,
        day,
        hour,
        minute,
        second,
        nanosecond,
    };
    let ns = match civil.year {
        0 => civil.to_ns_without_year(context)?,
        _ => civil.to_ns(context.default_offset_seconds)?,
    };
    Some(Stamp::new(ns, weekday_len + end))
}

/// The bytes that `Wed ` takes, or 0.
fn weekday(text: &[u8]) -> usize {
    match text {
        [a, b, c, b' ', ..] => match &[*a, *b, *c] {
            b"Mon" | b"Tue" | b"Wed" | b"Thu" | b"Fri" | b"Sat" | b"Sun" => 4,
            _ => 0,
        },
        _ => 0,
    }
}

/// `2024 `.
fn year(text: &[u8]) -> Option<i32> {
    let &[a, b, c, d, b' '] = text.first_chunk::<5>()? else {
        return None;
    };
    i32::try_from(digits::four([a, b, c, d])?).ok()
}

/// `2024` and then something that is no digit, or nothing.
fn year_at_end(text: &[u8]) -> Option<i32> {
    let &year = text.first_chunk::<4>()?;
    if text.get(4).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    i32::try_from(digits::four(year)?).ok()
}

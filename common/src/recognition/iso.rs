//! Dates in digits: RFC 3339, ISO 8601 and the slashes of nginx and Go.
//!
//! `2024-01-02T03:04:05.678Z`, `2024-01-02 03:04:05,678 +0100`, `2024/01/02 03:04:05`, `20240102T030405Z`. Two
//! spaces between date and time are apt's habit.

use super::calendar::Civil;
use super::{Context, Stamp, digits};

/// A date and time at the start of `text`.
pub(super) fn parse(text: &[u8], context: Context) -> Option<Stamp> {
    let (year, month, day, date_len) = date(text)?;
    let gap = match text.get(date_len)? {
        b'T' | b't' | b'_' => 1,
        b' ' => digits::spaces(&text[date_len..], 2),
        _ => return None,
    };
    let clock_start = date_len + gap;
    let ((hour, minute, second), clock_len) = clock(&text[clock_start..], date_len)?;
    let mut end = clock_start + clock_len;
    let (nanosecond, fraction_len) = digits::fraction(&text[end..]);
    end += fraction_len;
    let (offset, zone_len) = digits::zone(&text[end..]).unwrap_or((context.default_offset_seconds, 0));
    let civil = Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        nanosecond,
    };
    Some(Stamp::new(civil.to_ns(offset)?, end + zone_len))
}

/// Year, month, day, and the bytes they take.
fn date(text: &[u8]) -> Option<(i32, u32, u32, usize)> {
    let &[y1, y2, y3, y4, a, b, c, d] = text.first_chunk::<8>()?;
    let year = i32::try_from(digits::four([y1, y2, y3, y4])?).ok()?;
    if a == b'-' || a == b'/' {
        let (d1, d2) = (*text.get(8)?, *text.get(9)?);
        let day = digits::two([d1, d2])?;
        return (d == a).then_some((year, digits::two([b, c])?, day, 10));
    }
    let basic_time_follows = text.get(8) == Some(&b'T');
    basic_time_follows.then_some((year, digits::two([a, b])?, digits::two([c, d])?, 8))
}

/// The time of day, and the bytes it takes; without colons where the date was without dashes.
fn clock(text: &[u8], date_len: usize) -> Option<((u32, u32, u32), usize)> {
    if date_len == 10 {
        return digits::clock(text).map(|clock| (clock, 8));
    }
    let &[h1, h2, m1, m2, s1, s2] = text.first_chunk::<6>()?;
    let clock = (
        digits::two([h1, h2])?,
        digits::two([m1, m2])?,
        digits::two([s1, s2])?,
    );
    Some((clock, 6))
}

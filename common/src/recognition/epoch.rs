//! Numbers of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
//!
//! Each unit has a range, and the ranges do not touch: from [`SECONDS_MIN`] (1973) to the end of what 64 bits of
//! nanoseconds hold (2262). What lies between is `None`, and so is anything small: an uptime, a duration, a line number.

use super::calendar::NANOSECONDS;
use super::{Stamp, digits};

/// The smallest number of seconds that is taken for a time: 1973-03-03.
pub const SECONDS_MIN: u64 = 100_000_000;

/// Digits of the largest number, nanoseconds.
const INTEGER_DIGITS_MAX: usize = 19;

/// A number that starts a line must be followed by one of these.
const FOLLOWERS: &[u8] = b" \t:]),;|\"";

/// An epoch number that is all of `text`.
pub(super) fn parse_number(text: &[u8]) -> Option<i64> {
    let (ns, end) = number(text)?;
    (end == text.len()).then_some(ns)
}

/// An epoch number at the start of a line. Stricter than in a field that is called a time: it must have exactly the
/// digits that such numbers have today (10, 13, 16, 19), since a line may start with any number.
pub(super) fn parse_at_start(text: &[u8]) -> Option<Stamp> {
    let (ns, end) = number(text)?;
    let integer_digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let looks_current = matches!(integer_digits, 10 | 13 | 16 | 19);
    let ends = text.get(end).is_none_or(|byte| FOLLOWERS.contains(byte));
    (looks_current && ends).then(|| Stamp::new(ns, end))
}

/// ns and the bytes the number takes.
fn number(text: &[u8]) -> Option<(i64, usize)> {
    let mut value: u64 = 0;
    let mut len = 0;
    for &byte in text.iter().take(INTEGER_DIGITS_MAX + 1) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        len += 1;
    }
    let unit_ns = unit(value)?;
    let (fraction_ns, fraction_len) = match text.get(len) {
        // A comma separates; only a point belongs to a number.
        Some(b'.') => digits::fraction(&text[len..]),
        _ => (0, 0),
    };
    // The fraction is of the unit, not of a second.
    let fraction = i64::from(fraction_ns) * unit_ns / NANOSECONDS;
    let ns = i64::try_from(value)
        .ok()?
        .checked_mul(unit_ns)?
        .checked_add(fraction)?;
    Some((ns, len + fraction_len))
}

/// ns in one of the unit that a number of this size must have.
fn unit(value: u64) -> Option<i64> {
    // 2262, where nanoseconds end.
    const SECONDS_END: u64 = 9_223_372_036;
    let mut thousands = 1;
    for unit_ns in [NANOSECONDS, 1_000_000, 1_000, 1] {
        if (SECONDS_MIN * thousands..SECONDS_END * thousands).contains(&value) {
            return Some(unit_ns);
        }
        thousands *= 1000;
    }
    None
}

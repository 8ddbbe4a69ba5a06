//! The header of glog and klog: `I0102 03:04:05.678901    1234 server.go:56] …`, a letter for the severity, month and
//! day, no year.

use super::calendar::Civil;
use super::{Context, Stamp, digits, level};

/// A header at the start of `text`.
pub(super) fn parse(text: &[u8], context: Context) -> Option<Stamp> {
    let &[letter, m1, m2, d1, d2, b' '] = text.first_chunk::<6>()? else {
        return None;
    };
    let severity = match letter {
        b'D' => level::DEBUG,
        b'I' => level::INFO,
        b'W' => level::WARN,
        b'E' => level::ERROR,
        b'F' => level::FATAL,
        _ => return None,
    };
    let (month, day) = (digits::two([m1, m2])?, digits::two([d1, d2])?);
    let (hour, minute, second) = digits::clock(&text[6..])?;
    let (nanosecond, fraction_len) = digits::fraction(&text[14..]);
    let civil = Civil {
        year: 0,
        month,
        day,
        hour,
        minute,
        second,
        nanosecond,
    };
    Some(Stamp {
        ns: civil.to_ns_without_year(context)?,
        end: 14 + fraction_len,
        severity: Some(severity),
    })
}

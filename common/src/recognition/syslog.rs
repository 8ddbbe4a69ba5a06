//! Lines that start with a syslog priority: RFC 5424 (`<34>1 2003-10-11T22:14:15.003Z …`), RFC 3164 (`<34>Oct 11
//! 22:14:15 …`) and what relays make of them (`<34>2003-10-11T22:14:15.003Z …`).

use super::{Context, PREFIX_BYTES_MAX, Recognized, level, stamp_at_start};

/// The highest priority: facility 23, severity 7.
const PRIORITY_MAX: u32 = 191;

/// `None` where the line does not start with a priority.
pub(super) fn recognize(line: &[u8], context: Context) -> Option<Recognized> {
    let line = &line[..line.len().min(PREFIX_BYTES_MAX)];
    let (priority, rest) = priority(line)?;
    let header = rest.strip_prefix(b"1 ").unwrap_or(rest);
    Some(Recognized {
        event_time: stamp_at_start(header, context).map(|stamp| stamp.ns),
        severity: level::of_syslog(priority % 8),
    })
}

/// `<n>` and what follows it.
fn priority(line: &[u8]) -> Option<(u32, &[u8])> {
    let digits = line.get(1..)?;
    let len = digits
        .iter()
        .take(4)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !(1..=3).contains(&len) || digits.get(len) != Some(&b'>') {
        return None;
    }
    let number = digits[..len]
        .iter()
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    (number <= PRIORITY_MAX).then(|| (number, &digits[len + 1..]))
}

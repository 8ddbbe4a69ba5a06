//! Access logs in the common and combined format of Apache and nginx:
//! `10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 2326 …`, perhaps with a host before.

use super::calendar::{Civil, month_number};
use super::{Context, PREFIX_BYTES_MAX, Recognized, Stamp, digits, level};

/// How much of a request is stepped over to find the status: what nginx takes as the longest request line.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Opening brackets that are tried before the line is taken for something else.
const BRACKETS_MAX: usize = 4;

/// `None` where the line has no time of this kind within its prefix.
pub(super) fn recognize(line: &[u8], context: Context) -> Option<Recognized> {
    let prefix = &line[..line.len().min(PREFIX_BYTES_MAX)];
    let (bracket, stamp) = memchr::memchr_iter(b'[', prefix)
        .take(BRACKETS_MAX)
        .find_map(|bracket| parse_time(&prefix[bracket + 1..], context).map(|stamp| (bracket, stamp)))?;
    let rest = &line[bracket + 1 + stamp.end..];
    let severity = match rest.strip_prefix(b"] \"") {
        Some(request) => status(request).map(of_status),
        None => level::find(&rest[..rest.len().min(PREFIX_BYTES_MAX)], true),
    };
    Some(Recognized {
        event_time: Some(stamp.ns),
        severity,
    })
}

/// `10/Oct/2000:13:55:36 -0700` at the start of `text`.
pub(super) fn parse_time(text: &[u8], context: Context) -> Option<Stamp> {
    let &[d1, d2, b'/', m1, m2, m3, b'/', y1, y2, y3, y4, b':'] = text.first_chunk::<12>()? else {
        return None;
    };
    let (hour, minute, second) = digits::clock(&text[12..])?;
    let mut end = 20;
    let (nanosecond, fraction_len) = digits::fraction(&text[end..]);
    end += fraction_len;
    let (offset, zone_len) = digits::zone(&text[end..]).unwrap_or((context.default_offset_seconds, 0));
    let civil = Civil {
        year: i32::try_from(digits::four([y1, y2, y3, y4])?).ok()?,
        month: month_number([m1, m2, m3])?,
        day: digits::two([d1, d2])?,
        hour,
        minute,
        second,
        nanosecond,
    };
    Some(Stamp::new(civil.to_ns(offset)?, end + zone_len))
}

/// The status after a request, whose opening quote is gone. Quotes within it are escaped with a backslash.
fn status(request: &[u8]) -> Option<u32> {
    let request = &request[..request.len().min(REQUEST_BYTES_MAX)];
    let close =
        memchr::memchr_iter(b'"', request).find(|&quote| quote == 0 || request[quote - 1] != b'\\')?;
    let &[b' ', hundreds @ b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] =
        request[close + 1..].first_chunk::<4>()?
    else {
        return None;
    };
    Some(u32::from(hundreds - b'0'))
}

fn of_status(hundreds: u32) -> u8 {
    match hundreds {
        5 => level::ERROR,
        4 => level::WARN,
        _ => level::INFO,
    }
}

//! Lines of `key=value` pairs: `ts=2024-01-02T03:04:05Z level=info msg="listening on :80"`.

use super::{Context, Recognized, level, stamp_of_value};

/// How much of a line is read. Loggers put time and level first; behind this they are not seen.
pub const LOGFMT_BYTES_MAX: usize = 1024;

/// A key is no longer than this; what is longer is text.
const KEY_BYTES_MAX: usize = 64;

/// `None` where the line does not start with a pair, or says neither time nor severity.
pub(super) fn recognize(line: &[u8], context: Context) -> Option<Recognized> {
    let mut rest = &line[..line.len().min(LOGFMT_BYTES_MAX)];
    let mut recognized = Recognized::default();
    while let Some((key, value, after)) = pair(rest) {
        match key {
            b"time" | b"ts" | b"timestamp" | b"t" if recognized.event_time.is_none() => {
                recognized.event_time = stamp_of_value(value, context);
            }
            b"level" | b"lvl" | b"severity" if recognized.severity.is_none() => {
                recognized.severity = level::of_value(value);
            }
            _ => {}
        }
        if recognized.event_time.is_some() && recognized.severity.is_some() {
            break;
        }
        rest = after;
    }
    (recognized != Recognized::default()).then_some(recognized)
}

/// Key, value and what follows them.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let start = text.iter().position(|&byte| byte != b' ')?;
    let text = &text[start..];
    let key_len = text
        .iter()
        .take(KEY_BYTES_MAX)
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@')))?;
    if key_len == 0 || text[key_len] != b'=' {
        return None;
    }
    let (key, value) = (&text[..key_len], &text[key_len + 1..]);
    if let [b'"', quoted @ ..] = value {
        let end = closing_quote(quoted)?;
        return Some((key, &quoted[..end], &quoted[end + 1..]));
    }
    let end = memchr::memchr(b' ', value).unwrap_or(value.len());
    Some((key, &value[..end], &value[end..]))
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

//! The time and the severity that a log line states about itself.
//!
//! This runs in the collector, over rows of the commit log, so it costs the edge nothing and can be repeated: the answer
//! depends on nothing but the line, the time it was observed and the options. It keeps no memory of earlier lines, because
//! a remembered format could give one line two answers, depending on what was read before it.
//!
//! | looks like | module | time | severity |
//! | --- | --- | --- | --- |
//! | `{"ts":…,"level":…}` | [`json`] | time, ts, timestamp, @timestamp, t | level, severity, lvl, log.level |
//! | `<34>1 2003-10-11T…`, `<34>Oct 11 …` | [`syslog`] | its header | its priority |
//! | `10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET …" 200` | [`web`] | in brackets | the status |
//! | `ts=… level=…` | [`logfmt`] | ts, time, timestamp, t | level, lvl, severity |
//! | `2024-01-02T03:04:05Z …`, `2024/01/02 03:04:05 …` | [`iso`] | at or near the start | a level word |
//! | `Oct 11 22:14:15 …`, `[Wed Oct 11 14:32:52 2000] …` | [`month_name`] | at the start | a level word |
//! | `I0102 03:04:05.678901 …` | [`glog`] | at the start | the letter |
//! | `1700000000.123 …` | [`epoch`] | at the start | a level word |
//!
//! # Rules
//! - What can't be read surely is `None`: a day that does not exist, a number that could be a duration, a word in the
//!   middle of a sentence.
//! - A time without a zone is taken in [`RecognizerOptions::default_offset_seconds`]. So is a time with the abbreviation
//!   of a zone other than UTC, GMT and Z (`CET`): they are ambiguous.
//! - A time without a year is the latest one that is not more than [`FUTURE_SECONDS_MAX`] after the line was observed.
//! - Second 60 (a leap second) is read as 59: the time scale of rows has no place for it.
//! - Fractions are exact to the nanosecond; further digits are dropped.
//!
//! # Limits
//! Work is bounded for each line whatever its length, and nothing is allocated: [`PREFIX_BYTES_MAX`] for text,
//! [`json::JSON_BYTES_MAX`], [`logfmt::LOGFMT_BYTES_MAX`] and [`web::REQUEST_BYTES_MAX`] for their formats. What lies
//! behind a limit is not seen.

mod calendar;
mod digits;
pub mod epoch;
pub mod glog;
pub mod iso;
pub mod json;
pub mod level;
pub mod logfmt;
pub mod month_name;
pub mod syslog;
pub mod web;

#[cfg(test)]
mod tests;

/// How far into a line of text a time or a level word is looked for: headers of loggers are shorter, and what comes
/// later is message.
pub const PREFIX_BYTES_MAX: usize = 256;

/// How far into a line a time may *begin* when the line does not start with it (`INFO 2024-…`, `Start-Date: 2024-…`).
pub const NEAR_START_BYTES_MAX: usize = 64;

/// White space that is skipped at the start of a line.
const INDENT_BYTES_MAX: usize = 16;

/// How far a time without a year may lie after the moment it was observed: a zone that was not written (up to 14 h) and
/// a clock that is fast.
pub const FUTURE_SECONDS_MAX: i64 = 24 * 3600;

/// What a line does not say itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecognizerOptions {
    /// Offset from UTC, in seconds, east positive, of times that come without a zone.
    pub default_offset_seconds: i32,
}

/// What a line says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recognized {
    /// ns UTC since 1970.
    pub event_time: Option<i64>,
    /// OpenTelemetry severity number, 1-24.
    pub severity: Option<u8>,
}

/// Reads time and severity from lines. Free to copy and to share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recognizer {
    options: RecognizerOptions,
}

/// What a parser of times needs to know besides the bytes.
#[derive(Debug, Clone, Copy)]
struct Context {
    observed_ns: i64,
    default_offset_seconds: i32,
}

/// A time found in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// ns UTC.
    ns: i64,
    /// Index of the first byte after it.
    end: usize,
    /// Where the format itself carries a severity (glog).
    severity: Option<u8>,
}

impl Stamp {
    fn new(ns: i64, end: usize) -> Self {
        Self {
            ns,
            end,
            severity: None,
        }
    }
}

impl Recognizer {
    /// A recognizer with these options.
    #[must_use]
    pub fn new(options: RecognizerOptions) -> Self {
        Self { options }
    }

    /// Reads `body`, a line as it was collected, observed at `observed_ns` (ns UTC, used for times without a year).
    #[must_use]
    pub fn recognize(&self, body: &[u8], observed_ns: i64) -> Recognized {
        let context = Context {
            observed_ns,
            default_offset_seconds: self.options.default_offset_seconds,
        };
        let indent = body
            .iter()
            .take(INDENT_BYTES_MAX)
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        let line = &body[indent..];
        match line.first() {
            None => Recognized::default(),
            Some(b'{') => json::recognize(line, context),
            Some(b'<') => syslog::recognize(line, context).unwrap_or_else(|| text(line, context)),
            Some(_) => text(line, context),
        }
    }
}

/// A line that is neither JSON nor has a syslog priority.
fn text(line: &[u8], context: Context) -> Recognized {
    let prefix = &line[..line.len().min(PREFIX_BYTES_MAX)];
    if let Some(stamp) = stamp_at_start(prefix, context) {
        return Recognized {
            event_time: Some(stamp.ns),
            severity: stamp.severity.or_else(|| level::find(&prefix[stamp.end..], true)),
        };
    }
    if let Some(recognized) = web::recognize(line, context) {
        return recognized;
    }
    if let Some(recognized) = logfmt::recognize(line, context) {
        return recognized;
    }
    Recognized {
        event_time: stamp_near_start(prefix, context),
        severity: level::find(prefix, false),
    }
}

/// A time that is the first thing in `text`, perhaps in a bracket.
fn stamp_at_start(text: &[u8], context: Context) -> Option<Stamp> {
    let (text, skipped) = match text {
        [b'[' | b'(' | b'"', rest @ ..] => (rest, 1),
        _ => (text, 0),
    };
    let stamp = match text.first()? {
        b'0'..=b'9' => iso::parse(text, context)
            .or_else(|| epoch::parse_at_start(text))
            .or_else(|| web::parse_time(text, context)),
        b'A'..=b'Z' => month_name::parse(text, context).or_else(|| glog::parse(text, context)),
        _ => None,
    }?;
    Some(Stamp {
        end: stamp.end + skipped,
        ..stamp
    })
}

/// A time with a date in digits that begins after something else, within [`NEAR_START_BYTES_MAX`].
fn stamp_near_start(prefix: &[u8], context: Context) -> Option<i64> {
    let last_start = prefix.len().min(NEAR_START_BYTES_MAX);
    let mut before = b' ';
    for (index, &byte) in prefix[..last_start].iter().enumerate() {
        if byte.is_ascii_digit()
            && !before.is_ascii_alphanumeric()
            && let Some(stamp) = iso::parse(&prefix[index..], context)
        {
            return Some(stamp.ns);
        }
        before = byte;
    }
    None
}

/// A time that is the whole value of a field: any format that can start a line, or an epoch number.
fn stamp_of_value(value: &[u8], context: Context) -> Option<i64> {
    let value = &value[..value.len().min(PREFIX_BYTES_MAX)];
    if let Some(stamp) = iso::parse(value, context) {
        return Some(stamp.ns);
    }
    epoch::parse_number(value).or_else(|| stamp_at_start(value, context).map(|stamp| stamp.ns))
}

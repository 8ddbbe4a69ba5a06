//! A JSON object in a line: the fields of its top level, in one pass that builds nothing.
//!
//! This is no validator: it steps over what it does not look for, and stops at the first thing that can't be JSON with
//! what it has by then. A key with an escape in it is none of the keys sought.

use super::{Context, Recognized, level, stamp_of_value};

/// How much of a line is read. Loggers put time and level first; behind this they are not seen.
pub const JSON_BYTES_MAX: usize = 4096;

/// Fields of the top level that are read.
pub const JSON_FIELDS_MAX: usize = 128;

/// What a key asks for.
enum Sought {
    Time,
    Severity,
    Nothing,
}

pub(super) fn recognize(line: &[u8], context: Context) -> Recognized {
    let mut recognized = Recognized::default();
    let mut scan = Scan {
        text: &line[..line.len().min(JSON_BYTES_MAX)],
        at: 1,
    };
    for _ in 0..JSON_FIELDS_MAX {
        let Some((key, value)) = scan.field() else {
            break;
        };
        match sought(key) {
            Sought::Time if recognized.event_time.is_none() => {
                recognized.event_time = stamp_of_value(value, context);
            }
            Sought::Severity if recognized.severity.is_none() => recognized.severity = level::of_value(value),
            _ => continue,
        }
        if recognized.event_time.is_some() && recognized.severity.is_some() {
            break;
        }
    }
    recognized
}

fn sought(key: &[u8]) -> Sought {
    match key {
        b"time" | b"ts" | b"timestamp" | b"@timestamp" | b"t" => Sought::Time,
        b"level" | b"severity" | b"lvl" | b"log.level" => Sought::Severity,
        _ => Sought::Nothing,
    }
}

/// A place in the text of an object.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    /// The next field: its key, and its value without quotes (an object or array gives no bytes).
    fn field(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        self.skip_space();
        if self.peek()? == b',' {
            self.at += 1;
            self.skip_space();
        }
        let key = self.string()?;
        self.skip_space();
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        self.skip_space();
        let value = match self.peek()? {
            b'"' => self.string()?,
            b'{' | b'[' => self.nested()?,
            _ => self.scalar(),
        };
        Some((key, value))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// A string at this place, without its quotes, escapes as they stand.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.text.get(at..)?)?;
            if self.text[at] == b'"' {
                self.at = at + 1;
                return Some(&self.text[start..at]);
            }
            at += 2;
        }
    }

    /// Steps over an object or array.
    fn nested(&mut self) -> Option<&'a [u8]> {
        let mut depth = 0_usize;
        loop {
            self.at += self.text[self.at..]
                .iter()
                .position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'))?;
            match self.text[self.at] {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                _ => depth -= 1,
            }
            self.at += 1;
            if depth == 0 {
                return Some(&[]);
            }
        }
    }

    /// A number or a word.
    fn scalar(&mut self) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let len = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t'))
            .unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }
}

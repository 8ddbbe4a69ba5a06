//! The most frequent shapes of log records: what varies from record to record becomes a placeholder.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use futures_util::StreamExt;

use super::engine::RunError;
use super::filter::conditions;
use super::logs::Search;
use super::session::Template;
use super::{LogQuery, Pattern, Patterns, Question};
use crate::schema::column;
use crate::snapshot::Snapshot;

/// Bytes of a body that are looked at; what is behind says little more of its shape.
const BODY_BYTES_MAX: usize = 512;
/// Shapes counted at once. When there are more, the rarest half is given up: their counts are then too low, and the
/// answer says so. With [`BODY_BYTES_MAX`] this bounds the memory to 8 MiB.
const SHAPES_MAX: usize = 8192;
/// Fewest digits of a hexadecimal number without `0x`: `added` and `face` are words.
const HEX_DIGITS_MIN: usize = 8;
/// Longest unit behind a number: `42ms` is a number with its unit, `4b8x21` an id.
const UNIT_LETTERS_MAX: usize = 3;

/// Asks for the shapes of the records that a search is about.
#[derive(Debug, Clone)]
pub struct FindPatterns(pub LogQuery);

impl Question for FindPatterns {
    type Answer = Patterns;

    fn time_max(&self) -> Duration {
        self.0.time_max
    }

    async fn run(self, template: &Template, snapshot: &Snapshot) -> Result<Patterns, RunError> {
        count(template, snapshot, &self.0).await
    }
}

/// Counts shapes.
async fn count(template: &Template, snapshot: &Snapshot, query: &LogQuery) -> Result<Patterns, RunError> {
    let search = Search {
        template,
        snapshot,
        columns: None,
    };
    let frame = search
        .frame(conditions(query)?)
        .and_then(|frame| frame.select_columns(&[column::BODY]))
        .map_err(RunError::Running)?;
    let mut stream = frame.execute_stream().await.map_err(RunError::Running)?;
    let mut counter = Counter::default();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(RunError::Running)?;
        if let Some(bodies) = batch.column(0).as_string_view_opt() {
            (0..bodies.len()).for_each(|row| counter.count(bodies.value(row)));
        }
        tokio::task::yield_now().await;
    }
    Ok(counter.finish(query.limit))
}

#[derive(Default)]
struct Counter {
    shapes: HashMap<String, (u64, String)>,
    records: u64,
    given_up: u64,
    shape: String,
}

impl Counter {
    fn count(&mut self, body: &str) {
        self.records += 1;
        let body = cut(body, BODY_BYTES_MAX);
        self.shape.clear();
        shape(body, &mut self.shape);
        if let Some((count, _)) = self.shapes.get_mut(&self.shape) {
            *count += 1;
            return;
        }
        if self.shapes.len() >= SHAPES_MAX {
            self.give_up_rarest();
        }
        self.shapes.insert(self.shape.clone(), (1, body.to_owned()));
    }

    fn give_up_rarest(&mut self) {
        let mut counts: Vec<u64> = self.shapes.values().map(|(count, _)| *count).collect();
        counts.sort_unstable();
        let most = counts[counts.len() / 2];
        let mut left = self.shapes.len() / 2;
        // Those that are as frequent as the middle one go too, until half is gone.
        self.shapes.retain(|_, (count, _)| {
            let goes = *count <= most && left > 0;
            if goes {
                left -= 1;
                self.given_up += *count;
            }
            !goes
        });
    }

    fn finish(self, limit: usize) -> Patterns {
        let pattern = |(shape, (count, example))| Pattern {
            shape,
            count,
            example,
        };
        let mut patterns: Vec<Pattern> = self.shapes.into_iter().map(pattern).collect();
        patterns.sort_unstable_by(|left, right| {
            right
                .count
                .cmp(&left.count)
                .then_with(|| left.shape.cmp(&right.shape))
        });
        let shapes = patterns.len() as u64;
        patterns.truncate(limit);
        Patterns {
            patterns,
            records: self.records,
            shapes,
            given_up: self.given_up,
        }
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// The shape of a line: quoted strings, numbers, hexadecimal numbers and ids as placeholders.
pub fn shape(text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            quote @ (b'"' | b'\'') if starts_string(bytes, at) => match string_end(bytes, at, quote) {
                Some(end) => {
                    out.push_str("<str>");
                    end
                }
                None => plain(text, at, out),
            },
            byte if byte.is_ascii_alphanumeric() => word(text, at, out),
            _ => plain(text, at, out),
        };
        at = end;
    }
}

/// Copies one character.
fn plain(text: &str, at: usize, out: &mut String) -> usize {
    let char = text[at..].chars().next().unwrap_or(' ');
    out.push(char);
    at + char.len_utf8()
}

/// An apostrophe inside a word is none.
fn starts_string(bytes: &[u8], at: usize) -> bool {
    bytes[at] == b'"' || at == 0 || !bytes[at - 1].is_ascii_alphanumeric()
}

fn string_end(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            byte if byte == quote => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

fn run_of(bytes: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    at + bytes[at..].iter().take_while(|byte| wanted(**byte)).count()
}

/// A word or number that begins here; gives where it ends.
fn word(text: &str, at: usize, out: &mut String) -> usize {
    let bytes = text.as_bytes();
    if let Some(end) = uuid_end(bytes, at) {
        out.push_str("<id>");
        return end;
    }
    let end = run_of(bytes, at, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let word = &bytes[at..end];
    let has_digit = word.iter().any(u8::is_ascii_digit);
    let has_letter = word.iter().any(u8::is_ascii_alphabetic);
    let is_hex = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_hexdigit);
    if (word.starts_with(b"0x") || word.starts_with(b"0X")) && is_hex(&word[2..])
        || has_digit && has_letter && word.len() >= HEX_DIGITS_MIN && is_hex(word)
    {
        out.push_str("<hex>");
        return end;
    }
    if bytes[at].is_ascii_digit() {
        return number(text, at, out);
    }
    out.push_str(if has_digit { "<id>" } else { &text[at..end] });
    end
}

/// A number, a time, an address: digits, and what stands between digits.
fn number(text: &str, at: usize, out: &mut String) -> usize {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = at;
    while is_digit(end) || (end > at && is_digit(end + 1) && b".:-/,T".contains(&bytes[end])) {
        end += 1;
    }
    let rest = run_of(bytes, end, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let unit = &text[end..rest];
    if unit == "Z" {
        out.push_str("<num>");
    } else if unit.len() <= UNIT_LETTERS_MAX && unit.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        out.push_str("<num>");
        out.push_str(unit);
    } else {
        out.push_str("<id>");
    }
    rest
}

/// 8-4-4-4-12 hexadecimal digits.
fn uuid_end(bytes: &[u8], at: usize) -> Option<usize> {
    const PARTS: [usize; 5] = [8, 4, 4, 4, 12];
    let mut end = at;
    for (index, digits) in PARTS.into_iter().enumerate() {
        if index > 0 {
            (bytes.get(end) == Some(&b'-')).then_some(())?;
            end += 1;
        }
        let part = bytes.get(end..end + digits)?;
        part.iter().all(u8::is_ascii_hexdigit).then_some(())?;
        end += digits;
    }
    let goes_on = bytes.get(end).is_some_and(u8::is_ascii_alphanumeric);
    (!goes_on).then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut out = String::new();
        shape(text, &mut out);
        assert_eq!(out, expected, "{text}");
    }

    #[test]
    fn what_varies_becomes_a_placeholder() {
        check(
            "connected to 10.0.0.1:8080 in 42ms",
            "connected to <num> in <num>ms",
        );
        check("2026-11-21T10:02:03.5Z done", "<num> done");
        check(
            "user \"ada \\\"x\\\"\" said 'no' and didn't go",
            "user <str> said <str> and didn't go",
        );
        check(
            "key=0xDEADbeef at deadbeef01 added face",
            "key=<hex> at <hex> added face",
        );
        check("id 123e4567-e89b-12d3-a456-426614174000 ok", "id <id> ok");
        check("worker7 req_81 utf8 4b8x21", "<id> <id> <id> <id>");
        check("grüße 5 \u{1f600} \"open", "grüße <num> \u{1f600} \"open");
        check("", "");
        check("-3.5% of 1,000", "-<num>% of <num>");
    }

    #[test]
    fn frequent_shapes_survive_any_number_of_rare_ones() {
        let mut counter = Counter::default();
        for round in 0..SHAPES_MAX * 3 {
            counter.count("the usual line 1");
            // Letters alone, so that each is a shape of its own.
            let name: String = round
                .to_string()
                .bytes()
                .map(|digit| char::from(digit - b'0' + b'a'))
                .collect();
            counter.count(&name);
        }
        assert!(counter.shapes.len() <= SHAPES_MAX);
        let found = counter.finish(1);
        assert_eq!(found.patterns[0].shape, "the usual line <num>");
        assert_eq!(found.patterns[0].count, SHAPES_MAX as u64 * 3);
        assert!(found.given_up > 0 && found.records == SHAPES_MAX as u64 * 6);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}", raw in "[0-9a-fx'\"\\\\ .:-]{0,80}") {
            let mut out = String::new();
            shape(&text, &mut out);
            shape(&raw, &mut out);
        }
    }
}

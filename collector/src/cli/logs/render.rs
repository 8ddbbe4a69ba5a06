//! How a record looks.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde_json::Value;

use crate::cli::table;
use crate::text::{harmless, harmless_json, harmless_lines};

const TIME: Style = Style::new().dimmed();
const MACHINE: Style = AnsiColor::Cyan.on_default();
const SOURCE: Style = AnsiColor::Blue.on_default();
const GAP: Style = AnsiColor::Cyan.on_default();
const MATCH: Style = AnsiColor::Red.on_default().bold();

/// Columns of CSV.
const CSV_FIELDS: [&str; 7] = [
    "time",
    "machine_id",
    "source",
    "severity",
    "body",
    "stream_id",
    "position",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Time, machine, source, body; control characters escaped
    Text,
    /// One JSON object a line, with everything
    Json,
    /// The body alone, as it was (on a terminal with control characters escaped)
    Raw,
    /// Comma-separated values, with a header
    Csv,
}

/// Writes records, one after another.
pub(super) struct Renderer {
    pub output: Output,
    pub color: bool,
    /// The text that was searched for, and whether its case counts.
    pub needle: Option<(String, bool)>,
    /// Do records come with those around them?
    has_groups: bool,
    is_first: bool,
    /// Is it seen as it is written?
    is_terminal: bool,
}

impl Renderer {
    pub(super) const fn new(
        output: Output,
        color: bool,
        needle: Option<(String, bool)>,
        has_groups: bool,
    ) -> Self {
        Self {
            output,
            color,
            needle,
            has_groups,
            is_first: true,
            is_terminal: false,
        }
    }

    /// Nothing that is written may steer a terminal.
    pub(super) const fn on_terminal(mut self, is_terminal: bool) -> Self {
        self.is_terminal = is_terminal;
        self
    }

    /// One record. What does not match stands around one that does, and is not coloured.
    pub(super) fn record(&mut self, out: &mut impl Write, row: &Value, is_match: bool) -> io::Result<()> {
        let is_first = std::mem::take(&mut self.is_first);
        match self.output {
            Output::Json => writeln!(out, "{}", harmless_json(&row.to_string())),
            Output::Raw if self.is_terminal => {
                writeln!(
                    out,
                    "{}",
                    harmless_lines(&String::from_utf8_lossy(&raw_body(row)))
                )
            }
            Output::Raw => {
                out.write_all(&raw_body(row))?;
                out.write_all(b"\n")
            }
            Output::Text => writeln!(out, "{}", self.line(row, is_match)),
            Output::Csv => {
                let names = || CSV_FIELDS.iter().chain(self.has_groups.then_some(&"match"));
                let fields = names().map(|name| row[*name].clone()).collect();
                let names: Vec<String> = names().map(|name| (*name).to_owned()).collect();
                let text = table::csv(&names, &[fields]);
                let without_header = text.split_once('\n').map_or("", |(_, rest)| rest);
                let text = if is_first { &text } else { without_header };
                if self.is_terminal {
                    return writeln!(out, "{}", harmless_lines(text));
                }
                out.write_all(text.as_bytes())
            }
        }
    }

    /// Something was left out between two records.
    pub(super) fn gap(&self, out: &mut impl Write) -> io::Result<()> {
        match self.output {
            Output::Text if self.color => writeln!(out, "{GAP}--{GAP:#}"),
            Output::Text | Output::Raw => writeln!(out, "--"),
            Output::Json | Output::Csv => Ok(()),
        }
    }

    fn line(&self, row: &Value, is_match: bool) -> String {
        let field = |name: &str| harmless(row[name].as_str().unwrap_or("-")).into_owned();
        let (time, machine, source, body) =
            (field("time"), field("machine_id"), field("source"), field("body"));
        let mark = if is_match { ':' } else { '-' };
        if !self.color {
            return format!("{time} {machine} {source}{mark} {body}");
        }
        let severity = if is_match {
            severity_style(row["severity"].as_u64())
        } else {
            TIME
        };
        let painted = |style: Style, text: &str| format!("{style}{text}{style:#}");
        format!(
            "{} {} {}{mark} {}",
            painted(TIME, &time),
            painted(MACHINE, &machine),
            painted(SOURCE, &source),
            if is_match {
                self.body(&body, severity)
            } else {
                painted(severity, &body)
            }
        )
    }

    /// In the colour of its severity, what was searched for on top.
    fn body(&self, body: &str, style: Style) -> String {
        let mut text = style.to_string();
        let mut rest = body;
        while let Some((start, end)) = self.find(rest) {
            let _ = write!(
                text,
                "{}{style:#}{MATCH}{}{MATCH:#}{style}",
                &rest[..start],
                &rest[start..end]
            );
            rest = &rest[end..];
        }
        text.push_str(rest);
        let _ = write!(text, "{style:#}");
        text
    }

    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let (needle, case_counts) = self.needle.as_ref().filter(|(needle, _)| !needle.is_empty())?;
        if *case_counts {
            return text.find(needle).map(|start| (start, start + needle.len()));
        }
        // Lower case may have another length; only where it has not, places are the same.
        let (lower, needle) = (text.to_lowercase(), needle.to_lowercase());
        let start = lower.find(&needle).filter(|_| lower.len() == text.len())?;
        let end = start + needle.len();
        (text.is_char_boundary(start) && text.is_char_boundary(end)).then_some((start, end))
    }
}

/// By the ranges of OpenTelemetry.
fn severity_style(severity: Option<u64>) -> Style {
    match severity {
        Some(1..=8) => Style::new().dimmed(),
        Some(13..=16) => AnsiColor::Yellow.on_default(),
        Some(17..=20) => AnsiColor::Red.on_default(),
        Some(21..) => AnsiColor::Red.on_default().bold(),
        _ => Style::new(),
    }
}

/// The exact bytes, where the body is not text; the API sends those in hexadecimal.
fn raw_body(row: &Value) -> Vec<u8> {
    let exact = row["body_bytes"].as_str().and_then(|hex| {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<Vec<u8>>>()
    });
    exact.unwrap_or_else(|| row["body"].as_str().unwrap_or_default().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(output: Output, color: bool, needle: Option<(&str, bool)>, rows: &[Value]) -> String {
        let needle = needle.map(|(text, case_counts)| (text.to_owned(), case_counts));
        let mut renderer = Renderer::new(output, color, needle, false);
        let mut out = Vec::new();
        for row in rows {
            renderer.record(&mut out, row, true).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_cannot_steer_the_terminal() {
        let row = json!({"time": "2026", "machine_id": "m", "source": "s", "body": "a\u{1b}[2Jb\nc"});
        assert_eq!(
            shown(Output::Text, false, None, std::slice::from_ref(&row)),
            "2026 m s: a\\x1b[2Jb\\x0ac\n"
        );
        assert!(!shown(Output::Text, true, None, &[row]).contains("\u{1b}[2J"));
    }

    #[test]
    fn no_form_steers_a_terminal() {
        let row = json!({"time": "2026", "body": "a\u{1b}]0;title\u{7}\u{9b}2J\u{202e}b\nc"});
        for output in [Output::Text, Output::Json, Output::Raw, Output::Csv] {
            let mut renderer = Renderer::new(output, false, None, false).on_terminal(true);
            let mut out = Vec::new();
            renderer.record(&mut out, &row, true).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(
                !text.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']),
                "{output:?}: {text:?}"
            );
        }
        assert!(
            shown(Output::Raw, false, None, &[row]).contains('\u{1b}'),
            "a pipe gets it as it was"
        );
    }

    #[test]
    fn severity_and_what_was_searched_for_are_seen() {
        let row =
            json!({"time": "t", "machine_id": "m", "source": "s", "body": "An ERROR here", "severity": 17});
        let line = shown(
            Output::Text,
            true,
            Some(("error", false)),
            std::slice::from_ref(&row),
        );
        assert!(line.contains(&format!("{MATCH}ERROR{MATCH:#}")), "{line:?}");
        assert!(!shown(Output::Text, true, Some(("error", true)), &[row]).contains(&MATCH.to_string()));
    }

    #[test]
    fn what_stands_around_a_match_is_told_from_it() {
        let row = |is_match: bool| json!({"time": "t", "machine_id": "m", "source": "s", "body": "an error", "match": is_match});
        let show = |output: Output, color: bool| {
            let mut renderer = Renderer::new(output, color, Some(("error".to_owned(), true)), true);
            let mut out = Vec::new();
            renderer.record(&mut out, &row(false), false).unwrap();
            renderer.record(&mut out, &row(true), true).unwrap();
            renderer.gap(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            show(Output::Text, false),
            "t m s- an error\nt m s: an error\n--\n"
        );
        assert_eq!(show(Output::Raw, false), "an error\nan error\n--\n");
        let csv = show(Output::Csv, false);
        assert!(
            csv.starts_with("time,machine_id,source,severity,body,stream_id,position,match\n"),
            "{csv}"
        );
        assert!(csv.ends_with(",false\nt,m,s,,an error,,,true\n"), "{csv}");
        let colored = show(Output::Text, true);
        let lines: Vec<&str> = colored.lines().collect();
        assert!(
            !lines[0].contains("\x1b[31merror") && lines[1].contains("error"),
            "{colored}"
        );
        assert_ne!(lines[0], lines[1]);
    }

    #[test]
    fn csv_has_one_header() {
        let row = json!({"time": "t", "machine_id": "m", "source": "s", "body": "a,b", "severity": 9, "stream_id": "0", "position": 5});
        let text = shown(Output::Csv, false, None, &[row.clone(), row]);
        assert_eq!(
            text,
            "time,machine_id,source,severity,body,stream_id,position\nt,m,s,9,\"a,b\",0,5\nt,m,s,9,\"a,b\",0,5\n"
        );
    }

    #[test]
    fn a_raw_body_is_the_bytes_as_they_were() {
        assert_eq!(
            raw_body(&json!({"body": "a\u{fffd}", "body_bytes": "61ff"})),
            b"a\xff"
        );
        assert_eq!(raw_body(&json!({"body": "a\u{1b}"})), b"a\x1b");
    }
}

//! `ledger`: what has become of every position of every stream, as a table.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{ApiClient, ClientArguments};
use super::{CliError, close, runtime, table};
use crate::ledger::State;
use crate::text::harmless;

const EXAMPLES: &str = "\
Examples:
  What is missing from machine-17, where and why?
    edgelogger-collector ledger --machine machine-17 --ranges
  Is anything lost anywhere?
    edgelogger-collector ledger --state lost
  What was still to come from machines that fell silent?
    edgelogger-collector ledger --state unknown
  How much came from machine-17 in the last month, by day?
    edgelogger-collector ledger --machine machine-17 --summaries --since 30d
  machine-17 burnt down: do not wait for what it had (first look, then do it):
    edgelogger-collector ledger close --machine machine-17 --reason \"burnt down\" --dry-run
  For scripts:
    edgelogger-collector ledger --json | jq '.streams[] | select(.positions.lost > 0)'";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, before_help = EXAMPLES, after_help = "\
States of a position:
  stored   a row of the store
  expired  was a row of the store; it was to be kept no longer, or somebody deleted it
  durable  in the commit log, the store is behind
  pending  not here yet; its agent is connected and has it
  unknown  not here; its agent is silent since it told of it
  dropped  never a row, by policy
  dead_lettered  can't be a row; kept aside in the collector's folder
  lost     never a row, and it is said why")]
pub(super) struct LedgerArguments {
    #[command(subcommand)]
    action: Option<LedgerAction>,
    /// Only this machine (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "NAME")]
    machine: Option<String>,
    /// Only this source: a path, "journald" (* and ? as above)
    #[arg(short, long)]
    source: Option<String>,
    /// Only this stream
    #[arg(long, value_name = "ID")]
    stream: Option<String>,
    /// Only streams with positions in this state
    #[arg(long)]
    state: Option<State>,
    /// Only streams of which something came in since then: 10m (ago), RFC 3339
    #[arg(short = 'S', long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// At most so many streams
    #[arg(
        short = 'n',
        long,
        visible_alias = "limit",
        value_name = "NUMBER",
        default_value_t = 1_000
    )]
    lines: usize,
    /// Also every range that is not stored
    #[arg(long)]
    ranges: bool,
    /// Also what is closed, whole and old, by day, machine and source
    #[arg(long)]
    summaries: bool,
    /// Everything, as JSON
    #[arg(long)]
    json: bool,
    /// Also the CRC32C of what each range of the source held, with --summaries also of older streams: for
    /// `edgelogger-agent audit --ledger`
    #[arg(long, requires = "json")]
    checks: bool,
    #[command(flatten)]
    client: ClientArguments,
}

#[derive(Debug, Subcommand)]
enum LedgerAction {
    /// Close the streams of a dead machine: what has not arrived is lost, for the reason given
    Close(close::CloseArguments),
}

pub(super) fn run(arguments: &LedgerArguments) -> Result<ExitCode, CliError> {
    if let Some(LedgerAction::Close(arguments)) = &arguments.action {
        return close::run(arguments);
    }
    let client = ApiClient::new(&arguments.client)?;
    let answer = runtime()?.block_on(client.get("/api/v1/ledger", &arguments.query()))?;
    let text = if arguments.json {
        format!("{answer}\n")
    } else {
        screen(&answer, arguments.ranges)
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl LedgerArguments {
    fn query(&self) -> Vec<(&'static str, String)> {
        let state = self.state.and_then(|state| state.to_possible_value());
        let state = state.map(|value| value.get_name().to_owned());
        let parameters = [
            ("machine", self.machine.clone()),
            ("source", self.source.clone()),
            ("stream", self.stream.clone()),
            ("state", state),
            ("since", self.since.clone()),
            ("checks", self.checks.then(|| "true".to_owned())),
            ("summaries", self.summaries.then(|| "true".to_owned())),
            ("limit", Some(self.lines.to_string())),
        ];
        let given = parameters.into_iter();
        given.filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn screen(answer: &Value, with_ranges: bool) -> String {
    let streams = answer["streams"].as_array().map_or(&[][..], Vec::as_slice);
    let mut out = summaries(answer);
    if streams.is_empty() {
        out.push_str("no streams\n");
    } else {
        table_of(&mut out, streams);
    }
    if with_ranges {
        streams.iter().for_each(|stream| ranges(&mut out, stream));
    }
    log_gaps(&mut out, &answer["log_gaps"]);
    aside(&mut out, &answer["aside"]);
    if !streams.is_empty() {
        let (shown, count) = (streams.len() as u64, number(&answer["count"]));
        let _ = writeln!(
            out,
            "\n{count} streams{}: {}",
            if shown < count {
                format!(", {shown} shown")
            } else {
                String::new()
            },
            counts(&answer["positions"]),
        );
    }
    match number(&answer["folded_streams"]) {
        0 => {}
        folded => {
            let _ = writeln!(
                out,
                "{folded} older streams are closed and whole: see --summaries"
            );
        }
    }
    out
}

fn table_of(out: &mut String, streams: &[Value]) {
    let columns = [
        "machine",
        "source",
        "gen",
        "stored upto",
        "size",
        "behind",
        "lag",
        "notes",
    ];
    let rows: Vec<Vec<Value>> = streams.iter().map(row).collect();
    out.push_str(&table::draw(&columns.map(str::to_owned), &rows));
}

/// What is closed, whole and old.
fn summaries(answer: &Value) -> String {
    let mut out = String::new();
    for problem in answer["unreadable"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "{}", harmless(problem.as_str().unwrap_or("?")));
    }
    let summaries = answer["summaries"].as_array().map_or(&[][..], Vec::as_slice);
    if summaries.is_empty() {
        return out;
    }
    let columns = [
        "day", "machine", "source", "streams", "stored", "unit", "rows", "notes",
    ];
    let row = |summary: &Value| -> Vec<Value> {
        let gap = |gap: &Value| {
            let word = |field: &str| gap[field].as_str().unwrap_or("?").to_owned();
            format!("{} {} {}", word("state"), gap["positions"], word("reason"))
        };
        let gaps = summary["gaps"].as_array().into_iter().flatten().map(gap);
        let expired = number(&summary["expired"]);
        let expired = (expired > 0).then(|| format!("expired {expired}"));
        let notes = gaps.chain(expired).collect::<Vec<_>>().join("; ");
        let fields = columns[..7].iter().map(|field| summary[*field].clone());
        fields.chain([json!(notes)]).collect()
    };
    let rows: Vec<Vec<Value>> = summaries.iter().map(row).collect();
    out.push_str(&table::draw(&columns.map(str::to_owned), &rows));
    out.push('\n');
    out
}

fn row(stream: &Value) -> Vec<Value> {
    let positions = &stream["positions"];
    let behind = ["durable", "pending", "unknown"]
        .iter()
        .map(|state| number(&positions[*state]))
        .sum::<u64>();
    let lag = match number(&stream["lag_s"]) {
        0 => Value::Null,
        seconds => json!(format!("{seconds} s")),
    };
    vec![
        stream["machine"].clone(),
        stream["source"].clone(),
        stream["generation"].clone(),
        stream["stored_upto"].clone(),
        stream["size"].clone(),
        json!(behind),
        lag,
        json!(notes(stream)),
    ]
}

/// What is not simply stored, in words.
fn notes(stream: &Value) -> String {
    let positions = &stream["positions"];
    let mut notes = Vec::new();
    for state in ["lost", "dead_lettered", "dropped", "expired"] {
        if number(&positions[state]) > 0 {
            let state_words = state.replace('_', "-");
            notes.push(format!("{state_words} {}", by_reason(stream, state)));
        }
    }
    if number(&positions["unknown"]) > 0 {
        let since = stream["unknown_since"].as_str().unwrap_or("?");
        notes.push(format!("unknown {} since {since}", positions["unknown"]));
    }
    for state in ["pending", "durable"] {
        if number(&positions[state]) > 0 {
            notes.push(format!("{state} {}", positions[state]));
        }
    }
    if let Some(reason) = stream["end"]["reason"].as_str() {
        let at_least = if stream["end"]["exact"] == false {
            ", or behind that"
        } else {
            ""
        };
        notes.push(format!("ended ({reason}){at_least}"));
    } else if stream["connected"] == false && number(&positions["unknown"]) == 0 {
        let since = stream["last_received"].as_str().unwrap_or("?");
        notes.push(format!("agent silent, last data {since}"));
    }
    if stream["unit"] == "records" {
        notes.push("counts records".to_owned());
    }
    notes.join("; ")
}

/// `10 truncated, 5 rotated`.
fn by_reason(stream: &Value, state: &str) -> String {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for gap in stream["gaps"].as_array().into_iter().flatten() {
        if gap["state"] != state {
            continue;
        }
        let reason = reason_words(gap);
        let positions = number(&gap["end"]).saturating_sub(number(&gap["start"]));
        match sums.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += positions,
            None => sums.push((reason, positions)),
        }
    }
    let words = sums.iter().map(|(reason, sum)| format!("{sum} {reason}"));
    words.collect::<Vec<_>>().join(", ")
}

/// The reason of a gap; what was declared here, with the words of whoever declared it.
fn reason_words(gap: &Value) -> String {
    let reason = gap["reason"].as_str().unwrap_or("?");
    let words = match reason {
        "operator" => "closed by operator",
        "log_damaged" => "damaged in the collector's log",
        "other_log" => "acknowledged by another log",
        _ => return harmless(reason).into_owned(),
    };
    let note = harmless(gap["note"].as_str().unwrap_or("no reason given")).into_owned();
    let declared = gap["declared"].as_str().unwrap_or("?");
    format!("{words} ({note}, {declared})")
}

/// What of the log never came to the store.
fn log_gaps(out: &mut String, gaps: &Value) {
    for gap in gaps.as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "\ncommit log: {}, noted {}",
            harmless(gap["what"].as_str().unwrap_or("?")),
            gap["noted"].as_str().unwrap_or("?"),
        );
    }
}

/// Files of the store that can't be used.
fn aside(out: &mut String, files: &Value) {
    for file in files.as_array().into_iter().flatten() {
        let text = |name: &str| harmless(file[name].as_str().unwrap_or("?"));
        let _ = writeln!(
            out,
            "\nput aside: {} with {} rows ({}), noted {}",
            text("file"),
            file["rows"],
            text("reason"),
            text("noted"),
        );
    }
}

fn ranges(out: &mut String, stream: &Value) {
    let gaps = stream["gaps"].as_array().map_or(&[][..], Vec::as_slice);
    if gaps.is_empty() {
        return;
    }
    let text = |value: &Value| harmless(value.as_str().unwrap_or("-")).into_owned();
    let _ = writeln!(
        out,
        "\n{} {} generation {} ({})",
        text(&stream["machine"]),
        text(&stream["source"]),
        stream["generation"],
        text(&stream["stream_id"]),
    );
    for gap in gaps {
        let (start, end) = (number(&gap["start"]), number(&gap["end"]));
        let _ = write!(
            out,
            "  {:<8} [{start}, {end})  {} {}",
            text(&gap["state"]),
            end.saturating_sub(start),
            text(&stream["unit"]),
        );
        if gap["reason"].is_string() {
            let _ = write!(out, "  {}", reason_words(gap));
        }
        if let Some(records) = gap["records"].as_u64() {
            let _ = write!(out, ", {records} records");
        }
        out.push('\n');
    }
    if let Some(untold) = stream["gaps_untold"].as_u64() {
        let _ = writeln!(out, "  and {untold} {} in further ranges", text(&stream["unit"]));
    }
}

fn counts(positions: &Value) -> String {
    let states = [
        "stored",
        "expired",
        "durable",
        "pending",
        "unknown",
        "dropped",
        "dead_lettered",
        "lost",
    ];
    let words = states
        .iter()
        .filter(|state| **state == "stored" || number(&positions[**state]) > 0)
        .map(|state| format!("{} {}", positions[*state], state.replace('_', "-")));
    words.collect::<Vec<_>>().join(", ")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_reason() {
        let answer = json!({
            "count": 2,
            "positions": {"stored": 85, "durable": 0, "pending": 5, "unknown": 0, "dropped": 0, "lost": 10},
            "log_gaps": [{"start": 4, "end": 5, "state": "lost", "noted": "T", "what": "entries 4 to 4 never came"}],
            "aside": [{"file": "logs-1.parquet", "rows": 7, "reason": "it is gone", "noted": "T"}],
            "streams": [
                {
                    "machine": "m\u{1b}1", "source": "/a.log", "generation": 2, "stored_upto": 95, "size": 100,
                    "unit": "bytes", "stream_id": "ab", "lag_s": 3,
                    "positions": {"stored": 85, "durable": 0, "pending": 5, "unknown": 0, "dropped": 0, "lost": 20},
                    "gaps": [
                        {"start": 20, "end": 30, "state": "lost", "reason": "truncated"},
                        {"start": 40, "end": 50, "state": "lost", "reason": "operator", "note": "burnt\ndown", "declared": "T"},
                        {"start": 95, "end": 100, "state": "pending"},
                    ],
                },
            ],
        });
        let text = screen(&answer, true);
        assert!(
            text.contains("lost 10 truncated, 10 closed by operator (burnt"),
            "{text}"
        );
        assert!(
            text.contains("put aside: logs-1.parquet with 7 rows (it is gone), noted T"),
            "{text}"
        );
        assert!(
            text.contains("commit log: entries 4 to 4 never came, noted T"),
            "{text}"
        );
        assert!(text.contains("lost     [20, 30)  10 bytes  truncated"), "{text}");
        assert!(
            text.contains("2 streams, 1 shown: 85 stored, 5 pending, 10 lost"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn what_is_old_is_shown_by_day() {
        let answer = json!({
            "count": 0, "streams": [], "folded_streams": 3,
            "summaries": [{
                "day": "2026-11-14", "machine": "m1", "source": "/a\u{1b}", "streams": 3, "unit": "bytes",
                "stored": 90, "rows": 9, "gaps": [{"state": "lost", "reason": "truncated", "positions": 10}],
            }],
        });
        let text = screen(&answer, false);
        assert!(
            text.contains("2026-11-14") && text.contains("lost 10 truncated"),
            "{text}"
        );
        assert!(text.contains("3 older streams"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

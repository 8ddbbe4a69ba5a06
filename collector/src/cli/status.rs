//! `status`: health on one screen. Exits with 1 when the verdict is not ok.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use edgelogger_common::size::ByteSize;
use serde_json::Value;

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime};
use crate::text::harmless;

/// Agents listed; `--json` has all.
const AGENTS_SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  edgelogger-collector status
  edgelogger-collector status --json | jq .problems")]
pub(super) struct StatusArguments {
    /// Everything, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArguments,
}

pub(super) fn run(arguments: &StatusArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let health = runtime()?.block_on(client.get_any("/health"))?;
    let text = if arguments.json {
        format!("{health}\n")
    } else {
        screen(&health)
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(if health["verdict"] == "ok" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(value: &Value) -> String {
    harmless(value.as_str().unwrap_or("-")).into_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// About so many, in the largest unit that leaves a digit before the point.
pub(super) fn bytes(value: &Value) -> String {
    let bytes = number(value);
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if !bytes.is_multiple_of(*unit) => {
            format!("{:.1} {name}", bytes as f64 / *unit as f64)
        }
        _ => ByteSize::bytes(bytes).to_string(),
    }
}

fn screen(health: &Value) -> String {
    let mut out = String::new();
    let (ingest, log) = (&health["ingest"], &health["log"]);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let _ = writeln!(
        out,
        "{}   collector {}, up {} s",
        text(&health["verdict"]),
        text(&health["version"]),
        health["uptime_s"]
    );
    for problem in list(&health["problems"]) {
        let _ = writeln!(
            out,
            "\n  {} {}, since {}",
            text(&problem["code"]),
            text(&problem["subject"]),
            text(&problem["since"])
        );
        let _ = writeln!(
            out,
            "  {}\n  {}",
            text(&problem["what"]),
            text(&problem["what_to_do"])
        );
    }
    let waiting = list(&health["configuration"]["needs_restart"]);
    if !waiting.is_empty() {
        let keys: Vec<String> = waiting.iter().map(text).collect();
        let _ = writeln!(out, "\nneeds a restart to come into force: {}", keys.join(", "));
    }
    let _ = writeln!(
        out,
        "\ningest  {} agents, {} batches, {} records, {}; rejected {}, sent again {}, refused {}; memory {} of {}",
        ingest["sessions"],
        ingest["batches"],
        ingest["records"],
        bytes(&ingest["payload_bytes"]),
        ingest["rejected"],
        ingest["retried"],
        ingest["refused"],
        bytes(&ingest["memory_reserved_bytes"]),
        bytes(&ingest["memory_budget_bytes"]),
    );
    let _ = writeln!(
        out,
        "log     {} of {}, entries {} to {}, {} commits",
        bytes(&log["bytes"]),
        bytes(&log["bytes_max"]),
        log["first_sequence"],
        log["durable_end"],
        log["commits"],
    );
    for sink in list(&health["sinks"]) {
        sink_lines(&mut out, &sink);
    }
    agent_lines(&mut out, &list(&health["sessions"]));
    out
}

fn sink_lines(out: &mut String, sink: &Value) {
    let _ = writeln!(
        out,
        "sink    {}: {} behind; read {} = applied {} + duplicate {} + dead-lettered {}, residual {}",
        text(&sink["name"]),
        sink["lag_entries"],
        sink["read"],
        sink["applied"],
        sink["duplicate"],
        sink["dead_lettered"],
        sink["residual"],
    );
    let details = &sink["details"];
    if details.is_object() {
        let _ = writeln!(
            out,
            "        {} log records, {} samples, {} streams; {} files with {}; {} rows in memory",
            details["log_rows"],
            details["metric_rows"],
            details["streams"],
            details["files"],
            bytes(&details["file_bytes"]),
            details["recent_rows"],
        );
        if let Some(days) = details["full_in_days"].as_u64() {
            let _ = writeln!(
                out,
                "        grows by {} a day; room for {days} days",
                bytes(&details["growth_bytes_per_day"]),
            );
        }
    }
}

fn agent_lines(out: &mut String, agents: &[Value]) {
    for agent in agents.iter().take(AGENTS_SHOWN) {
        let _ = writeln!(
            out,
            "agent   {} ({}, {}): {} streams; heard {} ms ago; at its last report {} positions pending, {} not read",
            text(&agent["agent"]),
            text(&agent["version"]),
            text(&agent["peer"]),
            agent["streams"],
            agent["silent_ms"],
            agent["pending"],
            agent["unread"],
        );
    }
    if agents.len() > AGENTS_SHOWN {
        let _ = writeln!(out, "        and {} more", agents.len() - AGENTS_SHOWN);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn problems_stand_first_with_what_to_do() {
        let health = json!({
            "verdict": "degraded", "version": "0.1.0", "uptime_s": 5,
            "problems": [{"code": "E0401", "subject": "log", "what": "full\u{1b}", "since": "T", "what_to_do": "Free space."}],
        });
        let screen = screen(&health);
        assert!(
            screen.starts_with(
                "degraded   collector 0.1.0, up 5 s\n\n  E0401 log, since T\n  full\\x1b\n  Free space.\n"
            ),
            "{screen}"
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(&json!(1536)), "1.5 KiB");
        assert_eq!(bytes(&json!(268_435_456)), "256 MiB");
        assert_eq!(bytes(&json!(5)), "5 B");
    }
}

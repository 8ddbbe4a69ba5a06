//! `ledger close`: an operator says that a machine is gone, and what of its streams has not arrived is lost.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime, table};
use crate::text::harmless;

/// Streams that are listed; more are counted.
const LISTED_MAX: usize = 1_000;

#[derive(Debug, Args)]
#[command(
    before_help = "\
Examples:
  What would be lost?
    edgelogger-collector ledger close --machine machine-17 --reason \"disk broken\" --dry-run
  Close everything of it:
    edgelogger-collector ledger close --machine machine-17 --reason \"disk broken, ticket 4711\"
  Only one application's files:
    edgelogger-collector ledger close --machine machine-17 --source '/var/log/shop/*' --reason removed",
    after_help = "\
What is closed stays so through restarts, and doing it again changes nothing. If the machine comes back after all, what
it sends is stored, and only what is still missing stays lost."
)]
pub(super) struct CloseArguments {
    /// Whose streams, by its whole name
    #[arg(short, long, value_name = "NAME")]
    machine: String,
    /// Only this stream
    #[arg(long, value_name = "ID", conflicts_with = "source")]
    stream: Option<String>,
    /// Only of this source: a path, "journald" (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "GLOB")]
    source: Option<String>,
    /// Why, for whoever reads the ledger
    #[arg(short, long, value_name = "TEXT")]
    reason: String,
    /// Only say what would be closed
    #[arg(long)]
    dry_run: bool,
    /// Also though the machine is connected
    #[arg(long)]
    force: bool,
    /// The answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArguments,
}

pub(super) fn run(arguments: &CloseArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let answer = runtime()?.block_on(client.post("/api/v1/ledger/close", &arguments.body()))?;
    let text = if arguments.json {
        format!("{answer}\n")
    } else {
        screen(&answer)
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl CloseArguments {
    fn body(&self) -> Value {
        let mut body = json!({
            "machine": self.machine,
            "reason": self.reason,
            "dry_run": self.dry_run,
            "force": self.force,
        });
        for (name, value) in [("stream", &self.stream), ("source", &self.source)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }
}

fn screen(answer: &Value) -> String {
    let streams = answer["streams"].as_array().map_or(&[][..], Vec::as_slice);
    let machine = harmless(answer["machine"].as_str().unwrap_or("?")).into_owned();
    if streams.is_empty() {
        return format!(
            "nothing to close: every stream of {machine} has its end, and nothing of them is to come\n"
        );
    }
    let columns = ["source", "stream", "ends at", "unit", "lost"].map(str::to_owned);
    let row = |stream: &Value| -> Vec<Value> {
        ["source", "stream_id", "size", "unit", "lost"]
            .iter()
            .map(|field| stream[*field].clone())
            .collect()
    };
    let rows: Vec<Vec<Value>> = streams.iter().take(LISTED_MAX).map(row).collect();
    let mut out = table::draw(&columns, &rows);
    let done = if answer["dry_run"] == true {
        "would be closed; nothing was done"
    } else {
        "closed"
    };
    let _ = writeln!(
        out,
        "\n{} streams of {machine} {done}; {} positions lost",
        streams.len(),
        answer["lost"]
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_is_closed_and_whether_it_is_done() {
        let stream =
            json!({"source": "/a\u{1b}", "stream_id": "ab", "size": 100, "unit": "bytes", "lost": 14});
        let answer = |dry_run| json!({"machine": "m1", "streams": [stream], "lost": 14, "dry_run": dry_run});
        let text = screen(&answer(true));
        assert!(
            text.contains("1 streams of m1 would be closed; nothing was done; 14 positions lost"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(screen(&answer(false)).contains("m1 closed; 14"));
        let nothing = json!({"machine": "m1", "streams": [], "lost": 0});
        assert!(screen(&nothing).starts_with("nothing to close"));
    }
}

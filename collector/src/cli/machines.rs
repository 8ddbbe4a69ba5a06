//! `machines` and `streams`: who there is, and what is known of what they sent.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime, table};

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  edgelogger-collector machines
  edgelogger-collector machines --machine 'web-*'
  Which are silent?
    edgelogger-collector machines --json | jq -r '.machines[] | select(.connected | not) | .machine'")]
pub(super) struct MachinesArguments {
    /// Only these (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "NAME")]
    machine: Option<String>,
    /// Print JSON, with everything that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  edgelogger-collector streams
  edgelogger-collector streams --machine machine-17
  Everything about gaps:
    edgelogger-collector ledger --machine machine-17 --ranges")]
pub(super) struct StreamsArguments {
    /// Only of these machines (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "NAME")]
    machine: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArguments,
}

const COLUMNS: [&str; 8] = [
    "machine",
    "connected",
    "last seen",
    "agent",
    "streams",
    "rows",
    "lag s",
    "clock ms",
];

pub(super) fn machines(arguments: &MachinesArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let query: Vec<_> = arguments
        .machine
        .iter()
        .map(|name| ("machine", name.clone()))
        .collect();
    let answer = runtime()?.block_on(client.get("/api/v1/machines", &query))?;
    if arguments.json {
        writeln!(io::stdout(), "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let machines = answer["machines"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let rows: Vec<Vec<Value>> = machines.iter().map(row).collect();
    let text = table::draw(&COLUMNS.map(ToOwned::to_owned), &rows);
    io::stdout().write_all(text.as_bytes())?;
    let count = answer["count"].as_u64().unwrap_or_default();
    if count > rows.len() as u64 {
        writeln!(
            io::stderr(),
            "{} of {count} machines; --machine chooses",
            rows.len()
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(machine: &Value) -> Vec<Value> {
    vec![
        machine["machine"].clone(),
        json!(if machine["connected"] == true { "yes" } else { "no" }),
        machine["last_seen"].clone(),
        machine["agent_version"].clone(),
        machine["open_streams"].clone(),
        machine["rows"].clone(),
        machine["lag_s"].clone(),
        machine["clock_ahead_ms"].clone(),
    ]
}

const STREAMS_QUERY: &str = "SELECT * FROM streams";

pub(super) fn streams(arguments: &StreamsArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let body = match &arguments.machine {
        None => json!({ "query": STREAMS_QUERY }),
        Some(name) => {
            // As LIKE understands it.
            let pattern = name.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            let pattern = pattern.replace('*', "%").replace('?', "_");
            json!({ "query": format!("{STREAMS_QUERY} WHERE machine_id LIKE $1"), "params": [pattern] })
        }
    };
    let answer = runtime()?.block_on(client.post("/api/v1/sql", &body))?;
    super::sql::show_answer(&answer, arguments.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_one_row() {
        let shown = row(&json!({"machine": "m", "connected": true, "rows": 5}));
        assert_eq!(shown.len(), COLUMNS.len());
        assert_eq!(shown[1], "yes");
    }
}

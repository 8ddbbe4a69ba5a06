//! `sql`: one read-only statement.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime, table};

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  edgelogger-collector sql \"SELECT source, count(*) FROM logs GROUP BY source ORDER BY 2 DESC\"
  edgelogger-collector sql --csv \"SELECT time, body FROM logs WHERE machine_id = 'machine-17' LIMIT 1000\" > out.csv")]
pub(super) struct SqlArguments {
    /// The statement; \"-\" reads it from stdin
    query: String,
    /// The answer as JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// The answer as CSV
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    client: ClientArguments,
}

pub(super) fn run(arguments: &SqlArguments) -> Result<ExitCode, CliError> {
    let query = if arguments.query == "-" {
        io::read_to_string(io::stdin())
            .map_err(|error| CliError::Plain(format!("cannot read stdin: {error}")))?
    } else {
        arguments.query.clone()
    };
    let client = ApiClient::new(&arguments.client)?;
    let answer = runtime()?.block_on(client.post("/api/v1/sql", &json!({ "query": query })))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (columns, rows) =
        parts(&answer).ok_or_else(|| CliError::Plain("the answer has no rows".to_owned()))?;
    let text = if arguments.csv {
        table::csv(&columns, &rows)
    } else {
        table::draw(&columns, &rows)
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    if answer["truncated"] == true {
        let _ = writeln!(
            io::stderr(),
            "there is more: only the first {} rows are shown",
            rows.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn parts(answer: &Value) -> Option<(Vec<String>, Vec<Vec<Value>>)> {
    let name = |column: &Value| column["name"].as_str().map(str::to_owned);
    let columns = answer["columns"]
        .as_array()?
        .iter()
        .map(name)
        .collect::<Option<_>>()?;
    let rows = answer["rows"]
        .as_array()?
        .iter()
        .map(|row| row.as_array().cloned())
        .collect::<Option<_>>()?;
    Some((columns, rows))
}

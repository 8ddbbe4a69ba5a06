//! `sql`: one read-only statement, or a prompt.
//!
//! | file | idea |
//! | --- | --- |
//! | `prompt.rs` | statements typed one after another |

mod prompt;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime, table};
use crate::text::{harmless, harmless_json, harmless_lines};

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  edgelogger-collector sql \"SELECT source, count(*) FROM logs GROUP BY source ORDER BY 2 DESC\"
  edgelogger-collector sql --csv \"SELECT time, body FROM logs WHERE machine_id = 'machine-17' LIMIT 1000\" > out.csv
  edgelogger-collector sql < report.sql
  A prompt, with history and completion:
    edgelogger-collector sql")]
pub(super) struct SqlArguments {
    /// The statement; \"-\" reads it from stdin. Without one, on a terminal: a prompt
    query: Option<String>,
    /// The answer as JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// The answer as CSV
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    client: ClientArguments,
}

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    /// Each row as a list of its columns.
    Expanded,
    Json,
    Csv,
}

impl SqlArguments {
    const fn form(&self, is_expanded: bool) -> Form {
        match (self.json, self.csv, is_expanded) {
            (true, ..) => Form::Json,
            (_, true, _) => Form::Csv,
            (.., true) => Form::Expanded,
            _ => Form::Table,
        }
    }
}

pub(super) fn run(arguments: &SqlArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let query = match arguments.query.as_deref() {
        None if io::stdin().is_terminal() => {
            prompt::run(&client, arguments)?;
            return Ok(ExitCode::SUCCESS);
        }
        None | Some("-") => io::read_to_string(io::stdin())
            .map_err(|error| CliError::Plain(format!("cannot read stdin: {error}")))?,
        Some(query) => query.to_owned(),
    };
    let answer = runtime()?.block_on(answer(&client, query.trim().trim_end_matches(';')))?;
    show(&answer, arguments.form(false))?;
    Ok(ExitCode::SUCCESS)
}

/// For commands that are statements.
pub(super) fn show_answer(answer: &Value, json: bool) -> Result<ExitCode, CliError> {
    show(answer, if json { Form::Json } else { Form::Table })?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(client: &ApiClient, query: &str) -> Result<Value, CliError> {
    client.post("/api/v1/sql", &json!({ "query": query })).await
}

fn show(answer: &Value, form: Form) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    if form == Form::Json {
        writeln!(out, "{}", harmless_json(&answer.to_string()))?;
        return Ok(());
    }
    let (columns, rows) =
        parts(answer).ok_or_else(|| CliError::Plain("the answer has no rows".to_owned()))?;
    let text = match form {
        Form::Csv if io::stdout().is_terminal() => harmless_lines(&table::csv(&columns, &rows)) + "\n",
        Form::Csv => table::csv(&columns, &rows),
        Form::Expanded => expanded(&columns, &rows),
        Form::Table | Form::Json => table::draw(&columns, &rows),
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
    Ok(())
}

fn expanded(columns: &[String], rows: &[Vec<Value>]) -> String {
    let width = columns.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (number, row) in (1..).zip(rows) {
        text.push_str(&format!("-- row {number}\n"));
        for (name, value) in columns.iter().zip(row) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!("{:width$}  {}\n", harmless(name), harmless(&value)));
        }
    }
    text
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

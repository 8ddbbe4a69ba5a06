//! `logs`: records, oldest first, page by page; `--follow` goes on asking.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime};
use crate::text::harmless;

/// Records asked for at once.
const PAGE_ROWS: usize = 1_000;
/// Records shown where no number is given and nothing says from when on.
const LINES_DEFAULT: usize = 100;
/// Pause between questions with `--follow`.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  The last hundred records of all machines:
    edgelogger-collector logs
  What a machine said about timeouts in the last ten minutes:
    edgelogger-collector logs --machine machine-17 --since 10m timeout
  Errors of nginx as they come, as JSON:
    edgelogger-collector logs --source '/var/log/nginx/*' --severity error --follow -o json")]
pub(super) struct LogsArguments {
    /// Only records with this text
    text: Option<String>,
    /// Not minding upper and lower case
    #[arg(short, long)]
    ignore_case: bool,
    /// Only this machine (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "NAME")]
    machine: Option<String>,
    /// Only this source: a path, "journald" (* and ? as above)
    #[arg(short, long)]
    source: Option<String>,
    /// This severity and above: trace, debug, info, warn, error, fatal, or 1 to 24
    #[arg(short = 'p', long)]
    severity: Option<String>,
    /// From then on: 10m (ago), 2026-11-21, "2026-11-21 10:02" (UTC), RFC 3339
    #[arg(short = 'S', long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Until then
    #[arg(short = 'U', long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// The newest so many records [default: 100, or all when --since is given]
    #[arg(short = 'n', long, visible_alias = "limit", value_name = "NUMBER")]
    lines: Option<usize>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// How a record looks
    #[arg(short, long, default_value = "text")]
    output: Output,
    #[command(flatten)]
    client: ClientArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Time, machine, source, body; control characters escaped
    Text,
    /// One JSON object a line, with everything
    Json,
    /// The body alone, as it was
    Raw,
}

pub(super) fn run(arguments: &LogsArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    runtime()?.block_on(async {
        match arguments
            .lines
            .or_else(|| arguments.since.is_none().then_some(LINES_DEFAULT))
        {
            Some(count) => newest(&client, arguments, count).await?,
            None => all(&client, arguments).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

impl LogsArguments {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        let mut add = |name, value: &Option<String>| {
            if let Some(value) = value {
                query.push((name, value.clone()));
            }
        };
        add("q", &self.text);
        add("machine", &self.machine);
        add("source", &self.source);
        add("severity", &self.severity);
        add("from", &self.since);
        add("to", &self.until);
        if self.ignore_case {
            query.push(("i", "true".to_owned()));
        }
        query
    }

    fn print(&self, rows: &[Value]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for row in rows {
            match self.output {
                // serde_json escapes control characters itself.
                Output::Json => writeln!(out, "{row}")?,
                Output::Raw => {
                    out.write_all(&raw_body(row))?;
                    out.write_all(b"\n")?;
                }
                Output::Text => writeln!(out, "{}", text_line(row))?,
            }
        }
        out.flush()
    }
}

fn text_line(row: &Value) -> String {
    let field = |name: &str| harmless(row[name].as_str().unwrap_or("-")).into_owned();
    format!(
        "{} {} {}: {}",
        field("time"),
        field("machine_id"),
        field("source"),
        field("body")
    )
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

struct Page {
    rows: Vec<Value>,
    next_cursor: Option<String>,
}

async fn page(client: &ApiClient, query: &[(&str, String)]) -> Result<Page, CliError> {
    let mut answer = client.get("/api/v1/logs", query).await?;
    let next_cursor = answer["next_cursor"].as_str().map(str::to_owned);
    match answer["rows"].take() {
        Value::Array(rows) => Ok(Page { rows, next_cursor }),
        _ => Err(CliError::Plain("the answer has no rows".to_owned())),
    }
}

/// The newest `count` records, oldest of them first.
async fn newest(client: &ApiClient, arguments: &LogsArguments, count: usize) -> Result<(), CliError> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    while rows.len() < count {
        let mut query = arguments.query();
        query.push(("order", "desc".to_owned()));
        query.push(("limit", PAGE_ROWS.min(count - rows.len()).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page = page(client, &query).await?;
        rows.extend(page.rows);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    rows.reverse();
    arguments.print(&rows)?;
    if arguments.follow {
        let last = rows
            .last()
            .and_then(|row| row["time"].as_str())
            .unwrap_or("now")
            .to_owned();
        return follow(client, arguments, last, rows).await;
    }
    Ok(())
}

/// Everything that matches, oldest first.
async fn all(client: &ApiClient, arguments: &LogsArguments) -> Result<(), CliError> {
    let (mut cursor, mut last): (Option<String>, Vec<Value>) = (None, Vec::new());
    loop {
        let mut query = arguments.query();
        query.push(("order", "asc".to_owned()));
        query.push(("limit", PAGE_ROWS.to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page = page(client, &query).await?;
        arguments.print(&page.rows)?;
        if !page.rows.is_empty() {
            last = page.rows;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if arguments.follow {
        let from = last
            .last()
            .and_then(|row| row["time"].as_str())
            .unwrap_or("now")
            .to_owned();
        return follow(client, arguments, from, last).await;
    }
    Ok(())
}

/// Asks again from the last time on; what was shown at that very time is left out.
async fn follow(
    client: &ApiClient,
    arguments: &LogsArguments,
    mut from: String,
    shown: Vec<Value>,
) -> Result<(), CliError> {
    let address = |row: &Value| (row["stream_id"].to_string(), row["position"].to_string());
    let mut shown: std::collections::HashSet<_> = shown.iter().map(address).collect();
    loop {
        tokio::time::sleep(FOLLOW_PAUSE).await;
        let mut query: Vec<_> = arguments
            .query()
            .into_iter()
            .filter(|(name, _)| *name != "from")
            .collect();
        query.push(("order", "asc".to_owned()));
        query.push(("limit", PAGE_ROWS.to_string()));
        query.push(("from", from.clone()));
        let page = page(client, &query).await?;
        let fresh: Vec<Value> = page
            .rows
            .iter()
            .filter(|row| !shown.contains(&address(row)))
            .cloned()
            .collect();
        arguments.print(&fresh)?;
        if let Some(time) = page.rows.last().and_then(|row| row["time"].as_str()) {
            time.clone_into(&mut from);
        }
        if !page.rows.is_empty() {
            shown = page.rows.iter().map(address).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_cannot_steer_the_terminal() {
        let row = json!({"time": "2026", "machine_id": "m", "source": "s", "body": "a\u{1b}[2Jb\nc"});
        assert_eq!(text_line(&row), "2026 m s: a\\x1b[2Jb\\x0ac");
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

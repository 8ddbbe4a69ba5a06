//! `logs`: records, oldest first, page by page; `--follow` goes on asking.
//!
//! | file | idea |
//! | --- | --- |
//! | `render.rs` | how a record looks |

mod render;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{ApiClient, ClientArguments};
use super::pager::{Color, Out};
use super::{CliError, runtime};
use render::{Output, Renderer};

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
    edgelogger-collector logs --source '/var/log/nginx/*' --severity error --follow -o json
  By a regular expression, into a spreadsheet:
    edgelogger-collector logs --since 1d -e 'took [0-9]{4,} ms' -o csv > slow.csv")]
pub(super) struct LogsArguments {
    /// Only records with this text
    text: Option<String>,
    /// The text is a regular expression
    #[arg(short = 'e', long, requires = "text")]
    regex: bool,
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
    /// Colours: by severity, and what was searched for
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Not through a pager
    #[arg(long)]
    no_pager: bool,
    #[command(flatten)]
    client: ClientArguments,
}

pub(super) fn run(arguments: &LogsArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let mut printer = Printer::new(arguments);
    runtime()?.block_on(async {
        match arguments
            .lines
            .or_else(|| arguments.since.is_none().then_some(LINES_DEFAULT))
        {
            Some(count) => newest(&client, arguments, &mut printer, count).await?,
            None => all(&client, arguments, &mut printer).await?,
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
        add(if self.regex { "re" } else { "q" }, &self.text);
        add("machine", &self.machine);
        add("source", &self.source);
        add(
            "severity",
            &self.severity.as_ref().map(|word| word.to_ascii_lowercase()),
        );
        add("from", &self.since);
        add("to", &self.until);
        if self.ignore_case {
            query.push(("i", "true".to_owned()));
        }
        query
    }
}

/// Records, to the pager or to stdout.
struct Printer {
    renderer: Renderer,
    out: Out,
}

impl Printer {
    fn new(arguments: &LogsArguments) -> Self {
        let needle = arguments.text.clone().filter(|_| !arguments.regex);
        Self {
            renderer: Renderer::new(
                arguments.output,
                arguments.color.is_on(),
                needle.map(|text| (text, !arguments.ignore_case)),
            ),
            out: Out::open(!arguments.no_pager && !arguments.follow && arguments.output == Output::Text),
        }
    }

    fn print(&mut self, rows: &[Value]) -> Result<(), CliError> {
        for row in rows {
            self.renderer.record(&mut self.out, row, true)?;
        }
        Ok(self.out.flush()?)
    }
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
async fn newest(
    client: &ApiClient,
    arguments: &LogsArguments,
    printer: &mut Printer,
    count: usize,
) -> Result<(), CliError> {
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
    printer.print(&rows)?;
    if arguments.follow {
        let last = rows
            .last()
            .and_then(|row| row["time"].as_str())
            .unwrap_or("now")
            .to_owned();
        return follow(client, arguments, printer, last, rows).await;
    }
    Ok(())
}

/// Everything that matches, oldest first.
async fn all(client: &ApiClient, arguments: &LogsArguments, printer: &mut Printer) -> Result<(), CliError> {
    let (mut cursor, mut last): (Option<String>, Vec<Value>) = (None, Vec::new());
    loop {
        let mut query = arguments.query();
        query.push(("order", "asc".to_owned()));
        query.push(("limit", PAGE_ROWS.to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page = page(client, &query).await?;
        printer.print(&page.rows)?;
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
        return follow(client, arguments, printer, from, last).await;
    }
    Ok(())
}

/// Asks again from the last time on; what was shown at that very time is left out.
async fn follow(
    client: &ApiClient,
    arguments: &LogsArguments,
    printer: &mut Printer,
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
        printer.print(&fresh)?;
        if let Some(time) = page.rows.last().and_then(|row| row["time"].as_str()) {
            time.clone_into(&mut from);
        }
        if !page.rows.is_empty() {
            shown = page.rows.iter().map(address).collect();
        }
    }
}

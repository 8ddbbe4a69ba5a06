//! `delete`: rows of a machine, a source and a time go for good. `deletions`: what was deleted, by whom and why.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime, table};
use crate::text::harmless;

/// Sources that are listed; more are counted.
const LISTED_MAX: usize = 100;
/// How often it is asked whether a deletion is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(
    before_help = "\
Examples:
  What would go? Nothing is done:
    edgelogger-collector delete --machine machine-17 --reason \"sold\" --dry-run
  Everything of a machine; shows what goes and asks:
    edgelogger-collector delete --machine machine-17 --reason \"sold, ticket 4711\"
  What one application logged by mistake, on all machines, on one day, in a script:
    edgelogger-collector delete --source '/var/log/shop/*' --from 2026-11-20 --to 2026-11-21 \\
        --reason \"passwords in the log\" --yes
  What was deleted, by whom and why?
    edgelogger-collector deletions",
    after_help = "\
What was acknowledged before the request goes; what comes later is stored. What is deleted does not come back when it is
sent again, and the ledger says that it is expired (deleted). The commit log holds its bytes until it drops them."
)]
pub(super) struct DeleteArguments {
    /// Rows of this machine (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "NAME", required_unless_present = "source")]
    machine: Option<String>,
    /// Rows of this source: a path, "journald" (* and ? as above)
    #[arg(short, long, value_name = "GLOB")]
    source: Option<String>,
    /// Rows of this time on: 7d (ago), RFC 3339, a date
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Rows before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Why: kept for ever
    #[arg(short, long, value_name = "TEXT")]
    reason: String,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
    /// The answers as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  edgelogger-collector deletions
  Which are not done yet?
    edgelogger-collector deletions --running
  For scripts:
    edgelogger-collector deletions --json | jq '.deletions[] | select(.who == \"ada\")'")]
pub(super) struct DeletionsArguments {
    /// Only those that are not done
    #[arg(long)]
    running: bool,
    /// At most so many, the newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArguments,
}

pub(super) fn run(arguments: &DeleteArguments) -> Result<ExitCode, CliError> {
    let is_asked = !arguments.dry_run && !arguments.yes;
    if is_asked && !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let why = "there is no terminal to ask on: look with --dry-run, then say --yes";
        return Err(CliError::Plain(why.to_owned()));
    }
    let client = ApiClient::new(&arguments.client)?;
    let runtime = runtime()?;
    let ask = |body: &Value| runtime.block_on(client.post("/api/v1/delete", body));
    let mut body = arguments.body();
    if arguments.dry_run || is_asked {
        body["dry_run"] = json!(true);
        let answer = ask(&body)?;
        let plan = &answer["plan"];
        if arguments.dry_run {
            return show(
                &answer,
                arguments.json,
                &format!("{}nothing was done\n", plan_screen(plan)),
            );
        }
        io::stderr().write_all(plan_screen(plan).as_bytes())?;
        if !agrees()? {
            writeln!(io::stderr(), "nothing was done")?;
            return Ok(ExitCode::FAILURE);
        }
        // What was shown is what goes: "7d ago" is later now.
        body["dry_run"] = json!(false);
        for name in ["from", "to"] {
            body[name] = plan[name].clone();
        }
    }
    let mut answer = ask(&body)?;
    if !arguments.no_wait {
        answer["deletion"] = runtime.block_on(wait(&client, &answer["deletion"]))?;
    }
    show(&answer, arguments.json, &done_screen(&answer["deletion"]))
}

pub(super) fn list(arguments: &DeletionsArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let mut query = vec![("limit", arguments.limit.to_string())];
    if arguments.running {
        query.push(("state", "running".to_owned()));
    }
    let answer = runtime()?.block_on(client.get("/api/v1/deletions", &query))?;
    show(&answer, arguments.json, &list_screen(&answer))
}

fn show(answer: &Value, as_json: bool, screen: &str) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{answer}")?;
    } else {
        out.write_all(screen.as_bytes())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal; only "yes" is yes.
fn agrees() -> Result<bool, CliError> {
    let mut err = io::stderr();
    write!(err, "\nThis can't be undone. Delete it? [yes/no] ")?;
    err.flush()?;
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| CliError::Plain(format!("cannot read the terminal: {error}")))?;
    Ok(line.trim().eq_ignore_ascii_case("yes"))
}

/// Until it is done, or the collector is gone: it goes on with it when it is back.
async fn wait(client: &ApiClient, deletion: &Value) -> Result<Value, CliError> {
    let id = deletion["id"].to_string();
    loop {
        let answer = client
            .get("/api/v1/deletions", &[("id", id.clone())])
            .await
            .inspect_err(|_| {
                let _ = writeln!(
                    io::stderr(),
                    "deletion {id} was accepted and goes on by itself; `edgelogger-collector deletions` shows how far it is"
                );
            })?;
        let now = &answer["deletions"][0];
        if now["state"] != "running" {
            return Ok(now.clone());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

impl DeleteArguments {
    fn body(&self) -> Value {
        let mut body = json!({ "reason": self.reason, "dry_run": false });
        for (name, value) in [
            ("machine", &self.machine),
            ("source", &self.source),
            ("from", &self.from),
            ("to", &self.to),
        ] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }
}

fn plan_screen(plan: &Value) -> String {
    let sources = plan["sources"].as_array().map_or(&[][..], Vec::as_slice);
    let mut out = String::new();
    if !sources.is_empty() {
        let columns = ["machine", "source", "rows"];
        let row = |source: &Value| columns.map(|name| source[name].clone()).to_vec();
        let rows: Vec<Vec<Value>> = sources.iter().take(LISTED_MAX).map(row).collect();
        out = table::draw(&columns.map(str::to_owned), &rows);
        let more = sources.len().saturating_sub(LISTED_MAX) as u64
            + plan["sources_untold"].as_u64().unwrap_or_default();
        if more > 0 {
            let _ = writeln!(out, "and {more} further sources");
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "{} rows would go, from {} files, which become about {} bytes smaller",
        plan["rows"], plan["files"], plan["bytes"]
    );
    unreadable(&mut out, plan);
    out
}

fn done_screen(deletion: &Value) -> String {
    let id = &deletion["id"];
    if deletion["state"] == "running" {
        return format!("deletion {id} is accepted; `edgelogger-collector deletions` shows how far it is\n");
    }
    let mut out = format!(
        "deletion {id} is done: {} rows are gone, from {} files, which became {} bytes smaller\n",
        deletion["rows"], deletion["files"], deletion["bytes"]
    );
    unreadable(&mut out, deletion);
    out
}

fn unreadable(out: &mut String, answer: &Value) {
    for name in answer["unreadable"].as_array().into_iter().flatten() {
        let name = harmless(name.as_str().unwrap_or("?")).into_owned();
        let _ = writeln!(
            out,
            "{name} can't be read and may hold further rows: they go when it is restored, or remove it"
        );
    }
}

fn list_screen(answer: &Value) -> String {
    let deletions = answer["deletions"].as_array().map_or(&[][..], Vec::as_slice);
    if deletions.is_empty() {
        return "nothing was ever deleted\n".to_owned();
    }
    let columns = [
        "id", "state", "accepted", "who", "machine", "source", "from", "to", "rows", "bytes", "reason",
    ];
    let row = |deletion: &Value| columns.map(|name| deletion[name].clone()).to_vec();
    let rows: Vec<Vec<Value>> = deletions.iter().map(row).collect();
    let mut out = table::draw(&columns.map(str::to_owned), &rows);
    let count = answer["count"].as_u64().unwrap_or_default();
    if count > rows.len() as u64 {
        let _ = writeln!(out, "{} of {count} deletions; -n chooses", rows.len());
    }
    for deletion in deletions {
        unreadable(&mut out, deletion);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_would_go_and_what_is_gone() {
        let plan = json!({
            "rows": 7, "files": 2, "bytes": 100, "sources_untold": 3, "unreadable": ["logs-1\u{1b}"],
            "sources": [{"machine": "m1", "source": "/a\u{1b}", "rows": 7}],
        });
        let text = plan_screen(&plan);
        assert!(text.contains("7 rows would go, from 2 files"), "{text}");
        assert!(
            text.contains("3 further sources") && text.contains("can't be read"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        let deletion = json!({"id": 3, "state": "done", "rows": 7, "files": 2, "bytes": 90});
        assert!(done_screen(&deletion).starts_with("deletion 3 is done: 7 rows are gone"));
        let text = list_screen(&json!({"deletions": [deletion], "count": 9}));
        assert!(text.contains("1 of 9 deletions"), "{text}");
        assert_eq!(
            list_screen(&json!({"deletions": []})),
            "nothing was ever deleted\n"
        );
    }
}

//! What a person types. Everything but `run`, `check`, `token` and `log` talks HTTP to a running collector.
//!
//! | file | command |
//! | --- | --- |
//! | `run.rs` | `run`, `check` |
//! | `config.rs` | `config show`, `config schema` |
//! | `shell.rs` | completions, man pages |
//! | `token.rs` | `token create` |
//! | `logs/` | `logs` |
//! | `pager.rs` | long answers on a terminal |
//! | `sql/`, `table.rs` | `sql` |
//! | `metrics.rs` | `metrics` |
//! | `machines.rs` | `machines`, `streams` |
//! | `ledger.rs`, `close.rs` | `ledger`, `ledger close` |
//! | `delete.rs` | `delete`, `deletions` |
//! | `status.rs` | `status` |
//! | `store.rs` | `store ls`, `store verify`, `store export`: the files themselves |
//! | `log.rs` | `log ls`, `log verify`, `log repair`: the files themselves |
//! | `client.rs` | the HTTP side of those that ask a collector |

mod client;
mod close;
mod config;
mod delete;
mod ledger;
mod log;
mod logs;
mod machines;
mod metrics;
mod pager;
mod run;
mod shell;
mod sql;
mod status;
mod store;
mod table;
mod token;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use edgelogger_common::config::{ConfigError, Source, process_environment};
use edgelogger_common::error_code::{self, ErrorCode};

use crate::config::{Config, FileConfig, Overrides};

const EXAMPLES: &str = "\
Examples:
  Run with everything embedded; prints the command that starts an agent:
    edgelogger-collector run
  Make a token for another machine:
    edgelogger-collector token create --agent machine-17 > machine-17.token
  What did a machine say in the last ten minutes about timeouts?
    edgelogger-collector logs --machine machine-17 --since 10m timeout
  Count by source:
    edgelogger-collector sql \"SELECT source, count(*) FROM logs GROUP BY source ORDER BY 2 DESC\"
  What is missing, where and why?
    edgelogger-collector ledger --machine machine-17
  Is everything well?
    edgelogger-collector status";

/// Takes logs and metrics from agents, makes them durable, and answers questions.
#[derive(Debug, Parser)]
#[command(name = "edgelogger-collector", version, before_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the collector
    Run(RunArguments),
    /// Check a configuration and say what it would do
    Check(RunArguments),
    /// Show the configuration that is in force, or what may be written in one
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Tokens of agents and people
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show log records, oldest first, in the manner of journalctl
    Logs(logs::LogsArguments),
    /// Show which metrics there are, and how one went
    Metrics(metrics::MetricsArguments),
    /// Show the machines that send
    Machines(machines::MachinesArguments),
    /// Show the streams of machines, and how far they are stored
    Streams(machines::StreamsArguments),
    /// Run read-only SQL: one statement, or a prompt
    Sql(sql::SqlArguments),
    /// Show what has become of every position of every stream: stored, to come, dropped or lost, and why
    Ledger(ledger::LedgerArguments),
    /// Delete rows of a machine, a source and a time, for good
    Delete(delete::DeleteArguments),
    /// Show what was deleted, by whom and why
    Deletions(delete::DeletionsArguments),
    /// Look at the commit log on disk
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Look at the store's files on disk
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Say how the collector is
    Status(status::StatusArguments),
    /// Explain an error code
    Explain {
        /// Such as E0401
        code: String,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    Man {
        /// Where to
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// What runs, from a file and from the command line.
#[derive(Debug, Clone, Args)]
struct RunArguments {
    /// Configuration file; without one everything has its default
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_COLLECTOR_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of everything that the collector keeps [default: /var/lib/edgelogger-collector as root, else below
    /// $XDG_DATA_HOME]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where agents connect [default: 0.0.0.0:7443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    ingest_listen: Option<SocketAddr>,
    /// Where queries are answered [default: 127.0.0.1:7480]; away from the loopback interface only with a token
    #[arg(long, value_name = "ADDRESS:PORT")]
    api_listen: Option<SocketAddr>,
    /// A further name or address of this machine for its certificate; may be given several times
    #[arg(long, value_name = "NAME")]
    advertise: Vec<String>,
    /// Also print every record on stdout
    #[arg(long)]
    console: bool,
}

impl RunArguments {
    fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            ingest_listen: self.ingest_listen,
            api_listen: self.api_listen,
            advertise: self.advertise.clone(),
            console: self.console,
        }
    }

    /// What runs, and what was said, as it can be compared.
    fn load_and_show(&self) -> Result<(Config, serde_json::Value), ConfigError> {
        let overrides = self.overrides();
        let (source, file) = match &self.config {
            Some(path) => FileConfig::read(path)?,
            None => (Source::new("the defaults", ""), FileConfig::default()),
        };
        let config = file.check(&source, &overrides)?;
        let mut shown: FileConfig = source.parse(&process_environment)?;
        shown.apply(&overrides);
        Ok((config, serde_json::to_value(&shown).unwrap_or_default()))
    }

    fn load(&self) -> Result<Config, ConfigError> {
        let overrides = self.overrides();
        match &self.config {
            Some(path) => Config::load(path, &overrides),
            None => Config::without_file(&overrides),
        }
    }
}

/// What went wrong, for a person.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// Drawn with its place.
    #[error("{}", .0.render(color()))]
    Config(#[from] ConfigError),
    /// With its code and advice.
    #[error("error {code}: {message}\n  help: {}", code.help)]
    Coded { code: ErrorCode, message: String },
    /// The message says it all.
    #[error("error: {0}")]
    Plain(String),
    /// Nobody reads our output any more.
    #[error("")]
    OutputClosed,
}

impl CliError {
    fn coded(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Coded {
            code,
            message: message.into(),
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Plain(format!("cannot write the answer: {error}")),
        }
    }
}

fn color() -> bool {
    use std::io::IsTerminal;
    io::stderr().is_terminal() && !edgelogger_common::telemetry::no_color()
}

/// What can be typed, for its reference.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => run::check(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Metrics(arguments) => metrics::run(&arguments),
        Command::Machines(arguments) => machines::machines(&arguments),
        Command::Streams(arguments) => machines::streams(&arguments),
        Command::Sql(arguments) => sql::run(&arguments),
        Command::Ledger(arguments) => ledger::run(&arguments),
        Command::Delete(arguments) => delete::run(&arguments),
        Command::Deletions(arguments) => delete::list(&arguments),
        Command::Log(command) => log::run(&command),
        Command::Store(command) => store::run(&command),
        Command::Status(arguments) => status::run(&arguments),
        Command::Explain { code } => explain(&code),
        Command::Completions { shell } => Ok(shell::completions(shell)),
        Command::Man { directory } => shell::man(&directory),
    };
    match done {
        Ok(code) => code,
        Err(CliError::OutputClosed) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn explain(code: &str) -> Result<ExitCode, CliError> {
    let Some(known) = error_code::explain(code) else {
        return Err(CliError::Plain(format!(
            "{code} is not an error code of EdgeLogger; they look like E0401"
        )));
    };
    writeln!(io::stdout(), "{}: {}\n{}", known.code, known.title, known.help)?;
    Ok(ExitCode::SUCCESS)
}

/// A runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Plain(format!("cannot start: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_begins_with_examples() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        assert!(command.render_long_help().to_string().starts_with("Examples:"));
    }

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        for line in [
            "run",
            "run --data-dir /d --ingest-listen 127.0.0.1:0 --api-listen 127.0.0.1:0 --advertise a --advertise b",
            "check --config collector.toml",
            "token create --agent machine-17",
            "token create --agent ada --audience people --ttl 30d --data-dir /d",
            "logs --machine machine-17 --since 10m timeout",
            "logs -C 3 -B 1 -A 0 --since 1h timeout",
            "logs -f -n 20 -o json --severity warn --source /var/log/*",
            "sql SELECT",
            "sql --csv SELECT",
            "sql",
            "metrics cpu --machine m --label cpu=0 --since 1h --plot",
            "machines --machine m*",
            "streams --json",
            "status --json",
            "config show --data-dir /d --json",
            "config schema",
            "completions bash",
            "man /m",
            "explain e0401",
            "delete --machine m* --source /a --from -7d --to now --reason sold --yes --no-wait",
            "delete -s /a --reason sold --dry-run --json",
            "deletions --running -n 5",
            "log ls",
            "store ls --json",
            "store verify --data-dir /d",
            "store export --format parquet --table logs --from -7d --to 2026-11-21T00:00:00Z --machine m -o /x",
            "log verify --data-dir /d --json",
            "log repair --dry-run",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("edgelogger-collector").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        }
    }
}

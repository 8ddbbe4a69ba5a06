//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{EXIT_CODES, Failure};
use crate::config::{AgentConfig, CONFIG_PATH_DEFAULT, Invalid, Overrides};

const RUN_EXAMPLES: &str = "Examples:
  edgelogger-agent run --collector wss://collector.example:7443 --ca ca.pem --token-file token --journald --host-metrics
  edgelogger-agent run --collector wss://10.0.0.1:7443 --ca ca.pem --token-file token --file '/var/log/**/*.log'
  edgelogger-agent run --config /etc/edgelogger/agent.toml

Collects and ships until it gets SIGTERM or SIGINT. Flags win over the configuration file.";

const CHECK_EXAMPLES: &str = "Examples:
  edgelogger-agent check --config agent.toml
  edgelogger-agent check --config agent.toml --connect
  edgelogger-agent check --file '/var/log/*.log'

Shows what would be collected, which files would be skipped and why, and (--connect) whether the collector answers and
accepts the token. Changes nothing, and can be used beside a running agent.";

const STATUS_EXAMPLES: &str = "Examples:
  edgelogger-agent status
  edgelogger-agent status --state-dir /var/lib/edgelogger-agent
  edgelogger-agent status --json | jq '.problems[] | {code, what, fix}'

Asks the agent that runs from a state directory: the verdict, each problem with what to do about it, the connection, what waits
where, and how far the collector is behind each source.";

const FILES_EXAMPLES: &str = "Examples:
  edgelogger-agent files
  edgelogger-agent files --json | jq '.files[] | select(.acked < .size)'

Every file that the running agent follows: its stream, what was read of it and what the collector has; and every path
that it leaves alone, with the reason.";

const AUDIT_EXAMPLES: &str = "Examples:
  edgelogger-agent audit /var/log/app.log /var/log/app.log.1
  edgelogger-agent audit --url https://collector.example:7480 --token-file people.token /var/log/app.log
  On a machine that can't reach the API:
    edgelogger-collector ledger --json --checks --summaries --machine machine-17 -n 10000 > ledger.json
    edgelogger-agent audit --ledger ledger.json /var/log/*.log

Compares each file, range by range, with what the collector says it has of it, by the checksums that were made when it
was first read. Rotated copies are found by their content, also in .gz and .zst files. Of streams that ended long ago the
collector keeps one checksum: they are found by the size of the file, or name their --source. Exits with 1 when something
differs, or is missing without a reason, or a compressed file is damaged; with 2 when a file can't be read.";

const SPOOL_EXAMPLES: &str = "Examples:
  edgelogger-agent spool ls
  edgelogger-agent spool verify --state-dir /var/lib/edgelogger-agent
  edgelogger-agent spool repair --dry-run
  edgelogger-agent spool export > kept.ndjson

Measurements that the collector has not acknowledged wait in the spool, on disk. `ls`, `verify` and `export` change nothing and
can be used beside a running agent.";

const SPOOL_LS_EXAMPLES: &str = "Examples:
  edgelogger-agent spool ls
  edgelogger-agent spool ls --json | jq '.streams[] | {name, records}'

The files of the spool, and what of which stream is in them. What is listed may be acknowledged already: space comes back in
whole files.";

const SPOOL_VERIFY_EXAMPLES: &str = "Examples:
  edgelogger-agent spool verify
  edgelogger-agent spool verify --json | jq .damaged

Reads everything: the checksum of each frame, the SHA-256 of each batch, and each block. Exits with 1 when something is
damaged or is to be repaired.";

const SPOOL_REPAIR_EXAMPLES: &str = "Examples:
  edgelogger-agent spool repair --dry-run
  edgelogger-agent spool repair

Does what the agent does itself when it starts: cuts a torn end off, keeps damaged bytes in spool/quarantine. Refused while
an agent runs. What was lost gets a receipt at the next start.";

const SPOOL_EXPORT_EXAMPLES: &str = "Examples:
  edgelogger-agent spool export > kept.ndjson
  edgelogger-agent spool export | jq -r 'select(.kind == \"metric\") | [.observed_time, .name, .value] | @tsv'
  edgelogger-agent spool export --raw > lines

Writes every record of the spool as one JSON object a line; --raw writes the text of log records only. For a machine that will
never reach its collector again.";

const REWIND_EXAMPLES: &str = "Examples:
  edgelogger-agent rewind --all --dry-run
  edgelogger-agent rewind --all --to stored --url http://collector.example:7480
  edgelogger-agent rewind --path '/var/log/app/*.log' --to start
  edgelogger-agent rewind --accept-gap

For when the collector lost what it had acknowledged: its disk was replaced, its log restored. Files that are still what
they were are read again, in the same streams, once the agent is started; a collector that has some of it recognises
that. That the log was replaced (E0225) is settled once every file is rewound or gone. Stop the agent first.";

const CONFIG_EXAMPLES: &str = "Examples:
  edgelogger-agent config show
  edgelogger-agent config show --config agent.toml --json | jq '.[] | select(.origin != \"default\")'
  edgelogger-agent config schema > agent.schema.json

`show` prints a configuration file itself, each line with where it came from: the file and its line, a flag, or the default.
Secrets are hidden.";

const COMPLETIONS_EXAMPLES: &str = "Examples:
  edgelogger-agent completions bash > /usr/share/bash-completion/completions/edgelogger-agent
  edgelogger-agent completions fish > ~/.config/fish/completions/edgelogger-agent.fish";

const MAN_EXAMPLES: &str = "Examples:
  edgelogger-agent man /usr/local/share/man/man1";

const EXPLAIN_EXAMPLES: &str = "Examples:
  edgelogger-agent explain E0225

What a code means that `status`, `check` or the agent's log shows, and what to do about it. The codes of the collector are
among them.";

/// Collects what this machine has to say and ships it to an EdgeLogger collector.
#[derive(Debug, Parser)]
#[command(name = "edgelogger-agent", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Collect and ship until told to stop
    #[command(before_help = RUN_EXAMPLES, before_long_help = RUN_EXAMPLES, after_help = EXIT_CODES)]
    Run(RunArguments),
    /// Show what would be collected
    #[command(before_help = CHECK_EXAMPLES, before_long_help = CHECK_EXAMPLES, after_help = EXIT_CODES)]
    Check(CheckArguments),
    /// Ask a running agent how it is
    #[command(before_help = STATUS_EXAMPLES, before_long_help = STATUS_EXAMPLES, after_help = EXIT_CODES)]
    Status(StatusArguments),
    /// Show the files that a running agent follows, and those that it leaves alone
    #[command(before_help = FILES_EXAMPLES, before_long_help = FILES_EXAMPLES, after_help = EXIT_CODES)]
    Files(StatusArguments),
    /// Compare files with what the collector says it has of them
    #[command(before_help = AUDIT_EXAMPLES, before_long_help = AUDIT_EXAMPLES, after_help = EXIT_CODES)]
    Audit(AuditArguments),
    /// Look at what waits on disk: what can't be read again and the collector has not acknowledged
    #[command(subcommand, before_help = SPOOL_EXAMPLES, before_long_help = SPOOL_EXAMPLES, after_help = EXIT_CODES)]
    Spool(SpoolCommand),
    /// Have files sent again that a collector has lost
    #[command(before_help = REWIND_EXAMPLES, before_long_help = REWIND_EXAMPLES, after_help = EXIT_CODES)]
    Rewind(RewindArguments),
    /// Explain an error code: what happened, and what to do about it
    #[command(before_help = EXPLAIN_EXAMPLES, before_long_help = EXPLAIN_EXAMPLES, after_help = EXIT_CODES)]
    Explain(ExplainArguments),
    /// Show the configuration that is in force, or what may be written in one
    #[command(subcommand, before_help = CONFIG_EXAMPLES, before_long_help = CONFIG_EXAMPLES, after_help = EXIT_CODES)]
    Config(ConfigCommand),
    /// Print completions for a shell
    #[command(before_help = COMPLETIONS_EXAMPLES, before_long_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    #[command(before_help = MAN_EXAMPLES, before_long_help = MAN_EXAMPLES)]
    Man {
        /// Where to
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting that is in force, and where it came from
    #[command(before_help = CONFIG_EXAMPLES, before_long_help = CONFIG_EXAMPLES, after_help = EXIT_CODES)]
    Show {
        /// What runs.
        #[command(flatten)]
        config: ConfigArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Such as E0225
    pub(super) code: String,
}

/// Where a stream is rewound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewindTo {
    /// Its first position.
    Start,
    /// What the collector has of it.
    Stored,
    /// A byte.
    Position(u64),
}

fn rewind_to(text: &str) -> Result<RewindTo, String> {
    match text {
        "start" => Ok(RewindTo::Start),
        "stored" => Ok(RewindTo::Stored),
        digits => {
            let position = digits.parse();
            position
                .map(RewindTo::Position)
                .map_err(|_| "write start, stored, or a number of bytes".to_owned())
        }
    }
}

/// `rewind`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct RewindArguments {
    #[command(flatten)]
    pub(super) config: StateArguments,
    /// All files
    #[arg(long, group = "which")]
    pub(super) all: bool,
    /// Files by the path under which they are collected, also when they were rotated since
    #[arg(long, value_name = "GLOB", group = "which")]
    pub(super) path: Option<String>,
    /// One stream; `edgelogger-agent files` shows them
    #[arg(long, value_name = "ID", group = "which")]
    pub(super) stream: Option<String>,
    /// None of those that are left: the gap is accepted, and no longer a trouble
    #[arg(long, group = "which")]
    pub(super) accept_gap: bool,
    /// From where: start, stored (what the collector at --url has), or a position in bytes
    #[arg(long, default_value = "start", value_parser = rewind_to)]
    pub(super) to: RewindTo,
    /// The collector's API, for `--to stored`
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7480",
        env = "EDGELOGGER_COLLECTOR_URL"
    )]
    pub(super) url: String,
    /// A token for people, where the API asks for one
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_TOKEN_FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Show what would be sent again, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// `spool`.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// List the files, and what is in them
    #[command(before_help = SPOOL_LS_EXAMPLES, before_long_help = SPOOL_LS_EXAMPLES, after_help = EXIT_CODES)]
    Ls(SpoolArguments),
    /// Check everything
    #[command(before_help = SPOOL_VERIFY_EXAMPLES, before_long_help = SPOOL_VERIFY_EXAMPLES, after_help = EXIT_CODES)]
    Verify(SpoolArguments),
    /// Repair what a crash or a bad disk left
    #[command(before_help = SPOOL_REPAIR_EXAMPLES, before_long_help = SPOOL_REPAIR_EXAMPLES, after_help = EXIT_CODES)]
    Repair {
        #[command(flatten)]
        spool: SpoolArguments,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write all records out
    #[command(before_help = SPOOL_EXPORT_EXAMPLES, before_long_help = SPOOL_EXPORT_EXAMPLES, after_help = EXIT_CODES)]
    Export {
        #[command(flatten)]
        spool: StateArguments,
        /// The text of log records instead of JSON
        #[arg(long)]
        raw: bool,
    },
}

/// `spool ls`, `verify`, `repair`.
#[derive(Debug, Args)]
pub struct SpoolArguments {
    #[command(flatten)]
    pub(super) state: StateArguments,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Where the agent keeps its state.
#[derive(Debug, Args)]
pub struct StateArguments {
    /// Configuration file [default: /etc/edgelogger/agent.toml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the agent keeps its state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateArguments {
    /// The directory.
    pub(super) fn dir(&self) -> Result<PathBuf, Failure> {
        state_dir(self.state_dir.as_ref(), self.config.clone())
    }
}

fn state_dir(named: Option<&PathBuf>, config: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(dir) = named {
        return Ok(dir.clone());
    }
    let default = PathBuf::from(CONFIG_PATH_DEFAULT);
    let Some(path) = config.or_else(|| default.exists().then_some(default)) else {
        return Ok(crate::config::state_dir_default());
    };
    Ok(AgentConfig::read(&path, &edgelogger_common::config::process_environment)?.state_dir)
}

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// What to compare
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The collector's API
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7480",
        env = "EDGELOGGER_COLLECTOR_URL"
    )]
    pub(super) url: String,
    /// A token for people, where the API asks for one
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_TOKEN_FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Not the API but a file that `edgelogger-collector ledger --json --checks` wrote; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
    /// Only streams of this machine (* and ? stand for any text and any character)
    #[arg(long, value_name = "NAME", conflicts_with = "ledger")]
    pub(super) machine: Option<String>,
    /// Only streams of this source
    #[arg(long, conflicts_with = "ledger")]
    pub(super) source: Option<String>,
    /// Print one JSON object a file
    #[arg(long)]
    pub(super) json: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// Also connect to the collector
    #[arg(long)]
    pub(super) connect: bool,
}

/// `status`, `files`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Where settings come from, and what wins over them.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Configuration file [default: /etc/edgelogger/agent.toml where it exists and --collector is not given]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the collector, such as wss://collector.example:7443
    #[arg(long, value_name = "URL", env = "EDGELOGGER_COLLECTOR")]
    collector: Option<String>,
    /// Certificate of the collector's CA, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with this agent's token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Collect these log files; may be given several times
    #[arg(long = "file", value_name = "GLOB")]
    files: Vec<String>,
    /// Collect the systemd journal
    #[arg(long)]
    journald: bool,
    /// Collect the machine's metrics
    #[arg(long)]
    host_metrics: bool,
    /// Where the agent keeps its state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Label that stands in every row; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write NAME=VALUE, such as site=berlin")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl ConfigArguments {
    /// What the flags say.
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            collector: self.collector.clone(),
            ca: self.ca.clone(),
            token_file: self.token_file.clone(),
            state_dir: self.state_dir.clone(),
            files: self.files.clone(),
            journald: self.journald,
            host_metrics: self.host_metrics,
            labels: self.labels.clone(),
        }
    }

    /// The file that is meant, if any.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let default = || {
            let path = PathBuf::from(CONFIG_PATH_DEFAULT);
            (self.collector.is_none() && path.exists()).then_some(path)
        };
        self.config.clone().or_else(default)
    }

    /// File and flags together; not yet checked.
    pub(super) fn load(&self) -> Result<AgentConfig, Failure> {
        let overrides = self.overrides();
        match self.file() {
            Some(path) => {
                let mut config = AgentConfig::read(&path, &edgelogger_common::config::process_environment)?;
                config.apply(&overrides);
                Ok(config)
            }
            None => Ok(AgentConfig::from_flags(&overrides)?),
        }
    }

    /// The same while the agent runs, checked; an error with its code and in one line.
    pub(super) fn load_again(&self) -> Result<AgentConfig, (&'static str, String)> {
        let of_flags = |error: Invalid| (error.code().code, error.to_string());
        let config = match self.file() {
            Some(path) => {
                let read = AgentConfig::read(&path, &edgelogger_common::config::process_environment);
                let mut config = read.map_err(|error| (error.error_code().code, format!("{error:#}")))?;
                config.apply(&self.overrides());
                config
            }
            None => AgentConfig::from_flags(&self.overrides()).map_err(of_flags)?,
        };
        config.check().map_err(of_flags)?;
        Ok(config)
    }

    /// Where the agent keeps its state; needs neither collector nor CA.
    pub(super) fn state_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        match self.file() {
            Some(_) => Ok(self.load()?.state_dir),
            None => Ok(crate::config::state_dir_default()),
        }
    }
}

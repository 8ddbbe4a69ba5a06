//! The commands. `main` hands over the arguments and returns the exit code.
//!
//! | file | idea |
//! | --- | --- |
//! | `arguments` | what can be typed |
//! | `run` | collect until told to stop |
//! | `check` | what would be collected, and does the collector answer? |
//! | `status` | ask a running agent: `status`, `files` |
//! | `rewind` | have files sent again |
//! | `audit` | compare files with what the collector says it has |
//! | `config` | `config show`, `config schema` |
//! | `shell` | completions, man pages |
//! | `spool` | what lies in the spool: `ls`, `verify`, `repair`, `export` |
//! | `explain` | what an error code means |
//!
//! Exit codes are part of the interface; see [`EXIT_CODES`].

mod arguments;
mod audit;
mod check;
mod config;
mod explain;
mod rewind;
mod run;
mod shell;
mod spool;
mod status;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;

pub use arguments::{Arguments, Command};

/// What scripts may rely on; shown by `--help`.
pub const EXIT_CODES: &str = "Exit codes:
  0  it worked; `status`: healthy; `check`: everything can be used
  1  it failed, `check` found something that can't be used, `audit` something that is not explained, `spool` something
     damaged, or `rewind` a file that can't be read again
  2  the command line or the configuration is wrong
  3  `status`: no agent runs
  4  `status`: the agent runs, and something is wrong (degraded)";

pub(crate) const FAILED: u8 = 1;
pub(crate) const WRONG_USE: u8 = 2;
pub(crate) const NOT_RUNNING: u8 = 3;
pub(crate) const DEGRADED: u8 = 4;

/// An error with the exit code it leads to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub code: u8,
    /// As it is shown, ending without a line feed.
    pub message: String,
}

impl Failure {
    pub fn new(code: u8, error: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self {
            code,
            message: format!("error: {error}"),
        }
    }
}

impl From<edgelogger_common::config::ConfigError> for Failure {
    fn from(error: edgelogger_common::config::ConfigError) -> Self {
        let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self {
            code: WRONG_USE,
            message: error.render(color).trim_end().to_owned(),
        }
    }
}

impl From<crate::config::Invalid> for Failure {
    fn from(error: crate::config::Invalid) -> Self {
        let code = error.code();
        Self {
            code: WRONG_USE,
            message: format!("error {code}: {error}"),
        }
    }
}

impl From<crate::pipeline::AgentError> for Failure {
    fn from(error: crate::pipeline::AgentError) -> Self {
        use crate::pipeline::AgentError;
        let code = match &error {
            AgentError::Config(_) | AgentError::Files(_) | AgentError::Glob(_) | AgentError::Target(_) => {
                WRONG_USE
            }
            AgentError::Checkpoint(_) | AgentError::System { .. } => FAILED,
        };
        Self::new(code, &error)
    }
}

/// Parses the process' arguments and does what they say.
#[must_use]
#[expect(clippy::print_stderr, reason = "the last word of a command line program")]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Files(arguments) => status::files(&arguments),
        Command::Audit(arguments) => audit::audit(&arguments),
        Command::Spool(command) => spool::spool(&command),
        Command::Rewind(arguments) => rewind::rewind(&arguments),
        Command::Config(command) => config::config(&command),
        Command::Completions { shell } => Ok(shell::completions(shell)),
        Command::Man { directory } => shell::man(&directory),
        Command::Explain(arguments) => explain::explain(&arguments),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

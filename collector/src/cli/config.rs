//! `config show`, `config schema`: what is in force, and what may be written.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use edgelogger_common::config::show::{render, settings};
use serde::Serialize;

use super::{CliError, RunArguments};
use crate::config::{FileConfig, schema};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show every setting that is in force, and where it came from
    #[command(before_help = "\
Examples:
  edgelogger-collector config show --config /etc/edgelogger/collector.toml
  edgelogger-collector config show --json | jq '.[] | select(.origin != \"default\")'

What is printed is a configuration file itself. Secrets are hidden.")]
    Show {
        #[command(flatten)]
        run: RunArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file, for editors
    #[command(before_help = "\
Examples:
  edgelogger-collector config schema > collector.schema.json
  In the first line of collector.toml, for editors with a TOML language server:
    #:schema ./collector.schema.json")]
    Schema,
}

pub(super) fn run(command: &ConfigCommand) -> Result<ExitCode, CliError> {
    let text = match command {
        ConfigCommand::Show { run, json } => show(run, *json)?,
        ConfigCommand::Schema => pretty(&schema())?,
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn show(run: &RunArguments, json: bool) -> Result<String, CliError> {
    // Whatever can't run is told, and not shown.
    run.load()?;
    let overrides = run.overrides();
    let (source, mut file) = match &run.config {
        Some(path) => FileConfig::read(path).map(|(source, file)| (Some(source), file))?,
        None => (None, FileConfig::default()),
    };
    let flags = file.apply(&overrides);
    let settings = settings(&file, source.as_ref(), &flags)
        .map_err(|error| CliError::Plain(format!("cannot show the configuration: {error}")))?;
    if json {
        pretty(&settings)
    } else {
        Ok(render(&settings))
    }
}

fn pretty<T: Serialize>(value: &T) -> Result<String, CliError> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| CliError::Plain(format!("cannot write JSON: {error}")))
}

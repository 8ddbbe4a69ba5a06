//! `token create`: works on the data folder, whether or not the collector runs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use edgelogger_common::auth::{self, Audience};
use edgelogger_common::clock::SystemClock;
use edgelogger_common::duration::HumanDuration;
use edgelogger_common::tls::FloorTime;

use super::{CliError, RunArguments};
use crate::setup::DataDir;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it
    #[command(before_help = "\
Examples:
  For an agent:
    edgelogger-collector token create --agent machine-17 > machine-17.token
  For a person who asks from another machine, for a month:
    edgelogger-collector token create --agent ada --audience people --ttl 30d")]
    Create(CreateArguments),
}

#[derive(Debug, Args)]
pub(super) struct CreateArguments {
    /// Whose token: the machine's name in every record, or a person's
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "365d")]
    ttl: HumanDuration,
    /// What it is good for
    #[arg(long, default_value = "agents")]
    audience: AudienceArgument,
    /// Configuration file of the collector
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_COLLECTOR_CONFIG")]
    config: Option<PathBuf>,
    /// The collector's data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AudienceArgument {
    /// Sending data
    Agents,
    /// Asking the API
    People,
}

pub(super) fn run(command: &TokenCommand) -> Result<ExitCode, CliError> {
    let TokenCommand::Create(arguments) = command;
    let run_arguments = RunArguments {
        config: arguments.config.clone(),
        data_dir: arguments.data_dir.clone(),
        ingest_listen: None,
        api_listen: None,
        advertise: Vec::new(),
        console: false,
    };
    let config = run_arguments.load()?;
    let data = DataDir::new(&config.data_dir);
    let is_new = !data.has_keys();
    let key = data
        .create()
        .and_then(|()| data.signing_key())
        .map_err(|error| CliError::coded(error.code(), error.to_string()))?;
    let audience = match arguments.audience {
        AudienceArgument::Agents => Audience::Agents,
        AudienceArgument::People => Audience::People,
    };
    let now_ns = FloorTime::new(Arc::new(SystemClock::new())).now_ns();
    let token = auth::issue(&key, audience, &arguments.agent, arguments.ttl.get(), now_ns)
        .map_err(|error| CliError::coded(error.error_code(), error.to_string()))?;
    if is_new {
        let folder = config.data_dir.display();
        writeln!(
            io::stderr(),
            "no collector has run in {folder}: made a new signing key there, and the token is good for that collector only"
        )?;
    }
    writeln!(io::stdout(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}

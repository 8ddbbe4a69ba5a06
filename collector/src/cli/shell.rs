//! What shells and `man` are told of the commands.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, CliError};

/// To stdout.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut io::stdout());
    ExitCode::SUCCESS
}

/// A page for the program and each command, into a directory.
pub(super) fn man(directory: &Path) -> Result<ExitCode, CliError> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|error| CliError::Plain(format!("cannot write to {}: {error}", directory.display())))?;
    Ok(ExitCode::SUCCESS)
}

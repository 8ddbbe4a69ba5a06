//! What shells and `man` are told of the commands.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, FAILED, Failure};

/// To stdout.
pub(super) fn completions(shell: Shell) -> u8 {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut io::stdout());
    0
}

/// A page for the program and each command, into a directory.
pub(super) fn man(directory: &Path) -> Result<u8, Failure> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
        .map_err(|error| {
            Failure::new(
                FAILED,
                &format!("cannot write to {}: {error}", directory.display()),
            )
        })?;
    Ok(0)
}

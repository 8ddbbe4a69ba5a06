//! `edgelogger-agent`: see `edgelogger-agent --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgelogger_agent::cli::main()
}

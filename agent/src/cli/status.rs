//! `status`.

use super::arguments::StatusArguments;
use super::{DEGRADED, FAILED, Failure, NOT_RUNNING};
use crate::status::{Health, StatusError, fetch, render};

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn status(arguments: &StatusArguments) -> Result<u8, Failure> {
    let dir = arguments.config.state_dir()?;
    let (json, report) = fetch(&dir).map_err(|error| match error {
        StatusError::NotRunning { .. } => Failure {
            code: NOT_RUNNING,
            message: format!(
                "{error}; start one with `edgelogger-agent run`, or name its directory with --state-dir"
            ),
        },
        _ => Failure::new(FAILED, &error),
    })?;
    if arguments.json {
        println!("{json}");
    } else {
        print!("{}", render(&report));
    }
    Ok(if report.health == Health::Healthy {
        0
    } else {
        DEGRADED
    })
}

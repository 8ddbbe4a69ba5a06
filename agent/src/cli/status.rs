//! `status` and `files`.

use super::arguments::StatusArguments;
use super::{DEGRADED, FAILED, Failure, NOT_RUNNING};
use crate::status::{FilesReport, Health, StatusError, StatusReport, fetch, render, render_files};

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn status(arguments: &StatusArguments) -> Result<u8, Failure> {
    let (json, report) = ask(arguments)?;
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

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn files(arguments: &StatusArguments) -> Result<u8, Failure> {
    let (_, report) = ask(arguments)?;
    let files: FilesReport = report.files.unwrap_or_default();
    if arguments.json {
        let json = serde_json::to_string(&files).map_err(|error| Failure::new(FAILED, &error))?;
        println!("{json}");
    } else {
        print!("{}", render_files(&files));
    }
    Ok(0)
}

fn ask(arguments: &StatusArguments) -> Result<(String, StatusReport), Failure> {
    let dir = arguments.config.state_dir()?;
    fetch(&dir).map_err(|error| match error {
        StatusError::NotRunning { .. } => Failure {
            code: NOT_RUNNING,
            message: format!(
                "{error}; start one with `edgelogger-agent run`, or name its directory with --state-dir"
            ),
        },
        _ => Failure::new(FAILED, &error),
    })
}

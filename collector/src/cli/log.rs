//! `log`: looks at the commit log on disk, with no collector's help.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use edgelogger_common::block::batch::validate;
use edgelogger_common::codec::Decompressor;
use edgelogger_common::disk::{Disk, OsDisk};
use edgelogger_common::segment::{
    Frame, Repairs, ScanDepth, SegmentError, SegmentInfo, SegmentLog, SegmentOptions, Survey, inspect,
    write_segments,
};
use edgelogger_proto::v1::{LogEntry, log_entry::Body};
use prost::Message;
use serde::Serialize;

use super::status::bytes;
use super::{CliError, RunArguments};
use crate::setup::DataDir;
use crate::wiring::{ENTRY_BYTES_MAX, LOGGED_BATCH_LIMITS};

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// List the files of the commit log
    #[command(before_help = "\
Examples:
  edgelogger-collector log ls
  edgelogger-collector log ls --data-dir /var/lib/edgelogger-collector --json | jq '.segments | length'

Changes nothing, and can be used beside a running collector.")]
    Ls(LogArguments),
    /// Check every frame, and every batch against the hash that its agent made
    #[command(before_help = "\
Examples:
  edgelogger-collector log verify
  edgelogger-collector log verify --json | jq .damaged

Changes nothing, and can be used beside a running collector. Exits with 1 when something is damaged or is to be repaired.")]
    Verify(LogArguments),
    /// Repair what a crash or a bad disk left
    #[command(before_help = "\
Examples:
  edgelogger-collector log repair --dry-run
  edgelogger-collector log repair

Does what the collector does itself when it starts: cuts a torn end off, keeps damaged bytes in log/quarantine. Refused while a
collector runs.")]
    Repair {
        #[command(flatten)]
        log: LogArguments,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// Configuration file of the collector
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_COLLECTOR_CONFIG")]
    config: Option<PathBuf>,
    /// The collector's data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl LogArguments {
    fn data(&self) -> Result<DataDir, CliError> {
        let run = RunArguments {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            ingest_listen: None,
            api_listen: None,
            advertise: Vec::new(),
            console: false,
        };
        Ok(DataDir::new(run.load()?.data_dir))
    }

    fn survey(&self) -> Result<Survey, CliError> {
        let (disk, dir): (Arc<dyn Disk>, _) = (Arc::new(OsDisk), self.data()?.log());
        let survey = Survey::of(&disk, &dir, &options()).map_err(|error| coded(&error))?;
        survey.ok_or_else(|| no_log(&dir))
    }

    fn answer(&self, text: &impl std::fmt::Display, answer: &impl Serialize) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, answer).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            write!(out, "{text}")?;
        }
        Ok(())
    }
}

fn options() -> SegmentOptions {
    SegmentOptions {
        frame_bytes_max: ENTRY_BYTES_MAX,
        ..SegmentOptions::default()
    }
}

fn coded(error: &SegmentError) -> CliError {
    CliError::coded(*error.code(), error.to_string())
}

fn no_log(dir: &std::path::Path) -> CliError {
    CliError::Plain(format!(
        "there is no commit log in {}; name the collector's data folder with --data-dir",
        dir.display()
    ))
}

pub(super) fn run(command: &LogCommand) -> Result<ExitCode, CliError> {
    match command {
        LogCommand::Ls(arguments) => ls(arguments),
        LogCommand::Verify(arguments) => verify(arguments),
        LogCommand::Repair { log, dry_run } => repair(log, *dry_run),
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    dir: String,
    is_in_use: bool,
    bytes: u64,
    segments: &'a [SegmentInfo],
}

fn ls(arguments: &LogArguments) -> Result<ExitCode, CliError> {
    let survey = arguments.survey()?;
    let listing = Listing {
        dir: survey.plan.dir.display().to_string(),
        is_in_use: survey.is_in_use,
        bytes: survey.segments.iter().map(|segment| segment.bytes).sum(),
        segments: &survey.segments,
    };
    let mut screen = format!(
        "{}: {} files, {}, entries {} to {} (exclusive){}\n",
        listing.dir,
        listing.segments.len(),
        bytes(&listing.bytes.into()),
        survey.plan.first_sequence,
        survey.plan.next_sequence,
        if listing.is_in_use { "; in use" } else { "" }
    );
    // A String takes everything.
    let _ = write_segments(&mut screen, listing.segments);
    if !survey.plan.is_clean() {
        let _ = writeln!(
            screen,
            "  something is to be repaired: `edgelogger-collector log verify` says what"
        );
    }
    arguments.answer(&screen, &listing)?;
    Ok(ExitCode::SUCCESS)
}

fn verify(arguments: &LogArguments) -> Result<ExitCode, CliError> {
    let survey = arguments.survey()?;
    let mut decompressor = Decompressor::new();
    let found = survey.verify(|frame| check(frame, &mut decompressor));
    let found = found.map_err(|error| coded(&error))?;
    arguments.answer(&found, &found)?;
    Ok(if found.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Is what an entry holds what its agent made?
fn check(frame: &Frame, decompressor: &mut Decompressor) -> Result<(), String> {
    let entry = LogEntry::decode(frame.payload.clone()).map_err(|error| format!("not an entry: {error}"))?;
    match &entry.body {
        Some(Body::Batch(batch)) => validate(batch, &LOGGED_BATCH_LIMITS, decompressor)
            .map(drop)
            .map_err(|error| format!("{}, batch of agent {}: {error}", error.code(), entry.agent_id)),
        Some(_) => Ok(()),
        None => Err("an entry without content".to_owned()),
    }
}

fn repair(arguments: &LogArguments, dry_run: bool) -> Result<ExitCode, CliError> {
    let data = arguments.data()?;
    let dir = data.log();
    if !dir.exists() {
        return Err(no_log(&dir));
    }
    let repairs = if dry_run {
        let plan = inspect(&OsDisk, &dir, &options(), ScanDepth::Fast);
        Repairs::planned(&plan.map_err(|error| coded(&error))?)
    } else {
        let _lock = data
            .lock()
            .map_err(|error| CliError::coded(error.code(), error.to_string()))?;
        let opened = SegmentLog::open(Arc::new(OsDisk), &dir, options());
        Repairs::done(&opened.map_err(|error| coded(&error))?.1)
    };
    arguments.answer(&repairs, &repairs)?;
    Ok(ExitCode::SUCCESS)
}

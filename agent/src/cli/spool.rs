//! `spool`: looks at what lies on disk, with no agent's help.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgelogger_common::disk::{Disk, DiskLock, OsDisk};
use edgelogger_common::segment::{
    Repairs, ScanDepth, SegmentError, SegmentInfo, SegmentLog, Survey, Verification, inspect, write_segments,
};
use serde::Serialize;

use super::arguments::{SpoolArguments, SpoolCommand, StateArguments};
use super::{FAILED, Failure};
use crate::checkpoint::LOCK_NAME;
use crate::spool::{Exporter, Holdings, SPOOL_DIR, check_entry, log_options};
use crate::status::{harmless, size, span_ns};

type Done = Result<u8, Failure>;

pub(super) fn spool(command: &SpoolCommand) -> Done {
    match command {
        SpoolCommand::Ls(arguments) => with_survey(&arguments.state, arguments.json, |survey| {
            ls(survey, arguments.json)
        }),
        SpoolCommand::Verify(arguments) => with_survey(&arguments.state, arguments.json, |survey| {
            verify(survey, arguments.json)
        }),
        SpoolCommand::Repair { spool, dry_run } => repair(spool, *dry_run),
        SpoolCommand::Export { spool, raw } => with_survey(spool, false, |survey| export(survey, *raw)),
    }
}

fn failed(error: &SegmentError) -> Failure {
    let code = error.code();
    Failure::new(FAILED, &format!("{code}: {error}\n  help: {}", code.help))
}

fn written(done: io::Result<()>) -> Result<(), Failure> {
    match done {
        // Nobody reads our output any more.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(FAILED, &format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    written(io::stdout().lock().write_all(text.as_bytes()))
}

fn say_json(answer: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(answer).map_err(|error| Failure::new(FAILED, &error))?;
    say(&format!("{json}\n"))
}

fn with_survey(state: &StateArguments, json: bool, then: impl FnOnce(&Survey) -> Done) -> Done {
    let dir = dir_of(&state.dir()?)?;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    match Survey::of(&disk, &dir, &log_options()).map_err(|error| failed(&error))? {
        Some(survey) => then(&survey),
        None => nothing(&dir, json),
    }
}

/// The spool's directory; an error where the agent's is not there, which is a typing error.
fn dir_of(state_dir: &Path) -> Result<PathBuf, Failure> {
    if state_dir.is_dir() {
        return Ok(state_dir.join(SPOOL_DIR));
    }
    let message = format!(
        "{} is no directory; name the agent's with --state-dir",
        state_dir.display()
    );
    Err(Failure::new(super::WRONG_USE, &message))
}

fn nothing(dir: &Path, json: bool) -> Done {
    if json {
        say("null\n")?;
    } else {
        eprint(&format!("nothing was ever kept in {}", dir.display()));
    }
    Ok(0)
}

#[expect(clippy::print_stderr, reason = "what a person reads beside the answer")]
fn eprint(text: &str) {
    eprintln!("{text}");
}

/// What `ls` shows.
#[derive(Serialize)]
struct Listing<'a> {
    dir: String,
    is_in_use: bool,
    segments: &'a [SegmentInfo],
    #[serde(flatten)]
    holdings: Holdings,
    frames_damaged: u64,
}

fn ls(survey: &Survey, json: bool) -> Done {
    let mut holdings = Holdings::default();
    let verification = survey
        .verify(|frame| holdings.add(frame))
        .map_err(|error| failed(&error))?;
    let listing = Listing {
        dir: survey.plan.dir.display().to_string(),
        is_in_use: survey.is_in_use,
        segments: &survey.segments,
        holdings,
        frames_damaged: verification.frames_damaged + verification.entries_wrong,
    };
    if json {
        say_json(&listing)?;
    } else {
        say(&listing.screen())?;
    }
    Ok(if listing.frames_damaged == 0 { 0 } else { FAILED })
}

impl Listing<'_> {
    fn screen(&self) -> String {
        let mut out = format!(
            "{}: {} batches, {} records, {}{}\n",
            self.dir,
            self.holdings.batches,
            self.holdings.records,
            size(self.segments.iter().map(|segment| segment.bytes).sum()),
            if self.is_in_use { "; in use" } else { "" }
        );
        // A String takes everything.
        let _ = write_segments(&mut out, self.segments);
        let mut lines = vec![out.trim_end().to_owned()];
        for stream in &self.holdings.streams {
            let ranges: Vec<String> = stream
                .ranges
                .iter()
                .map(|range| format!("[{}, {})", range.start, range.end))
                .collect();
            let end = stream
                .end
                .map_or_else(String::new, |end| format!(", ends at {end}"));
            lines.push(format!(
                "  stream {} ({}): {} batches, {} records, positions {}{end}; the oldest {} old",
                stream.stream_id,
                harmless(&stream.name),
                stream.batches,
                stream.records,
                ranges.join(" "),
                span_ns(stream.oldest_age_ns),
            ));
        }
        if self.frames_damaged > 0 {
            lines.push(format!(
                "  {} frames are damaged: `edgelogger-agent spool verify` says which",
                self.frames_damaged
            ));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn verify(survey: &Survey, json: bool) -> Done {
    let found: Verification = survey.verify(check_entry).map_err(|error| failed(&error))?;
    if json {
        say_json(&found)?;
    } else {
        say(&found.to_string())?;
    }
    Ok(if found.is_good() { 0 } else { FAILED })
}

fn export(survey: &Survey, raw: bool) -> Done {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut exporter = Exporter::new(raw);
    let mut ended = Ok(());
    let found = survey.verify(|frame| {
        if ended.is_ok() {
            ended = exporter.write(frame, &mut out);
        }
        check_entry(frame)
    });
    written(ended.and_then(|()| out.flush()))?;
    let found = found.map_err(|error| failed(&error))?;
    if found.is_good() {
        return Ok(0);
    }
    eprint(&format!("not everything could be read: {found}"));
    Ok(FAILED)
}

fn repair(arguments: &SpoolArguments, is_dry_run: bool) -> Done {
    let state_dir = arguments.state.dir()?;
    let dir = dir_of(&state_dir)?;
    if !dir.exists() {
        return nothing(&dir, arguments.json);
    }
    let repairs = if is_dry_run {
        let plan = inspect(&OsDisk, &dir, &log_options(), ScanDepth::Fast);
        Repairs::planned(&plan.map_err(|error| failed(&error))?)
    } else {
        let _lock = lock(&state_dir)?;
        let opened = SegmentLog::open(Arc::new(OsDisk), &dir, log_options());
        let (_, report) = opened.map_err(|error| failed(&error))?;
        Repairs::done(&report)
    };
    if arguments.json {
        say_json(&repairs)?;
    } else {
        say(&repairs.to_string())?;
    }
    Ok(0)
}

/// The agent's own: while it runs, the spool is its business.
fn lock(state_dir: &Path) -> Result<DiskLock, Failure> {
    OsDisk.lock(&state_dir.join(LOCK_NAME)).map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::WouldBlock => format!(
                "an agent runs from {}, and repairs its spool itself when it starts: stop it first, or look with --dry-run",
                state_dir.display()
            ),
            _ => format!("cannot lock {}: {error}", state_dir.display()),
        };
        Failure::new(FAILED, &message)
    })
}

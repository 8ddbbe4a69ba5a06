//! `rewind`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use edgelogger_common::clock::SystemClock;
use edgelogger_common::disk::OsDisk;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::SourceKind;
use globset::GlobBuilder;
use serde::Serialize;

use super::arguments::{RewindArguments, RewindTo};
use super::audit::read_token;
use super::{FAILED, Failure, WRONG_USE};
use crate::audit::Ledger;
use crate::checkpoint::{Checkpoints, Durability, FILE_NAME, StreamState};
use crate::sources::file::{RewindError, RewindPoint, rewind_point};
use crate::status::harmless;

/// What becomes of one stream.
#[derive(Debug, Serialize)]
struct Fate {
    stream: String,
    /// The path by which it was collected.
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Everything below was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    /// Where it is read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    /// Why it is left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    /// Bytes that are sent again.
    bytes: u64,
    streams: Vec<Fate>,
    /// The collector's log was another one than before, and that is settled now.
    log_settled: bool,
    /// Files for which it is not settled yet.
    log_unsettled: Vec<String>,
}

/// Files that are named; `--json` names all.
const UNSETTLED_SHOWN: usize = 10;

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) fn rewind(arguments: &RewindArguments) -> Result<u8, Failure> {
    let checkpoints = open(arguments)?;
    let wanted = Wanted::new(arguments)?;
    let mut streams: Vec<StreamState> = checkpoints
        .streams()
        .into_iter()
        .filter(|s| wanted.is(s))
        .collect();
    streams.sort_by(|one, other| key(one).cmp(&key(other)));
    let mut report = Report {
        dry_run: arguments.dry_run,
        bytes: 0,
        streams: Vec::new(),
        log_settled: false,
        log_unsettled: Vec::new(),
    };
    let mut all_found = arguments.accept_gap || !streams.is_empty();
    for state in &streams {
        let point = rewind_point(state, wanted.position(state));
        all_found &= matches!(point, Ok(_) | Err(RewindError::NothingToDo));
        if !arguments.dry_run {
            apply(&checkpoints, state, &point);
        }
        report.bytes += point.as_ref().map_or(0, |point| point.from - point.to);
        report.streams.push(fate(state, point));
    }
    let left = checkpoints.unsettled();
    if !arguments.dry_run {
        let is_meant = arguments.all || !streams.is_empty();
        if arguments.accept_gap || (is_meant && left.is_empty()) {
            report.log_settled = checkpoints.log_replaced().is_some();
            checkpoints.set_log_replaced(None);
        }
        let flushed = checkpoints.flush(Durability::Synced);
        flushed.map_err(|error| Failure::new(FAILED, &error))?;
    }
    if !report.log_settled {
        report.log_unsettled = left.into_iter().map(|state| state.descriptor.name).collect();
        report.log_unsettled.dedup();
    }
    if arguments.json {
        let json = serde_json::to_string(&report).map_err(|error| Failure::new(FAILED, &error))?;
        println!("{json}");
    } else {
        print!("{}", screen(&report, arguments.accept_gap));
    }
    Ok(if all_found { 0 } else { FAILED })
}

fn open(arguments: &RewindArguments) -> Result<Arc<Checkpoints>, Failure> {
    let dir = arguments.config.dir()?;
    if !dir.join(FILE_NAME).exists() {
        let message = format!(
            "no agent ever ran from {}; name its directory with --state-dir",
            dir.display()
        );
        return Err(Failure::new(WRONG_USE, &message));
    }
    let opened = Checkpoints::open(Arc::new(OsDisk), &dir, Arc::new(SystemClock::new()));
    opened.map_err(|error| Failure::new(FAILED, &error))
}

fn key(state: &StreamState) -> (&str, i64) {
    (&state.descriptor.name, state.descriptor.opened_time_ns)
}

/// Which streams, and where to.
struct Wanted<'a> {
    arguments: &'a RewindArguments,
    paths: Option<globset::GlobMatcher>,
    /// By stream: everything below is stored.
    stored: Option<HashMap<String, u64>>,
}

impl<'a> Wanted<'a> {
    fn new(arguments: &'a RewindArguments) -> Result<Self, Failure> {
        let glob = |glob: &String| GlobBuilder::new(glob).literal_separator(true).build();
        let paths = arguments.path.as_ref().map(glob).transpose();
        let paths = paths.map_err(|error| Failure::new(WRONG_USE, &error))?;
        let stored = match arguments.to {
            RewindTo::Stored => Some(stored(arguments)?),
            RewindTo::Start | RewindTo::Position(_) => None,
        };
        Ok(Self {
            arguments,
            paths: paths.map(|glob| glob.compile_matcher()),
            stored,
        })
    }

    fn is(&self, state: &StreamState) -> bool {
        let is_file = state.descriptor.kind == i32::from(SourceKind::File);
        let is_named = match (&self.arguments.stream, &self.paths) {
            (Some(id), _) => *id == id_of(state),
            (None, Some(glob)) => glob.is_match(&state.descriptor.name),
            (None, None) => self.arguments.all,
        };
        is_file && is_named
    }

    fn position(&self, state: &StreamState) -> u64 {
        match self.arguments.to {
            RewindTo::Start => 0,
            RewindTo::Position(position) => position,
            RewindTo::Stored => {
                let stored = self.stored.as_ref().and_then(|stored| stored.get(&id_of(state)));
                stored.copied().unwrap_or(0)
            }
        }
    }
}

fn id_of(state: &StreamState) -> String {
    StreamId::try_from(&state.descriptor.stream_id[..]).map_or_else(|_| String::new(), |id| id.to_string())
}

/// What the collector has without a gap, by stream.
fn stored(arguments: &RewindArguments) -> Result<HashMap<String, u64>, Failure> {
    let token = arguments.token_file.as_deref().map(read_token).transpose()?;
    let ledger = Ledger::ask(&arguments.url, token.as_deref(), None, None)
        .map_err(|error| Failure::new(FAILED, &error))?;
    let upto = ledger.streams.into_iter().map(|stream| {
        let missing = stream
            .gaps
            .iter()
            .filter(|gap| gap.reason.is_none())
            .map(|gap| gap.start)
            .min();
        (stream.stream_id, missing.unwrap_or(stream.size))
    });
    Ok(upto.collect())
}

/// A file that can't be read for the moment is left for another time; of all others it is decided what becomes of them.
fn apply(checkpoints: &Checkpoints, state: &StreamState, point: &Result<RewindPoint, RewindError>) {
    let Ok(id) = StreamId::try_from(&state.descriptor.stream_id[..]) else {
        return;
    };
    match point {
        Ok(point) => checkpoints.rewind(&id, point.to, point.resume.clone()),
        Err(RewindError::Unreadable { .. }) => return,
        Err(_) => {}
    }
    checkpoints.settle(&id);
}

fn fate(state: &StreamState, point: Result<RewindPoint, RewindError>) -> Fate {
    let (stream, source) = (id_of(state), state.descriptor.name.clone());
    match point {
        Ok(point) => Fate {
            stream,
            source,
            path: Some(point.path),
            from: Some(point.from),
            to: Some(point.to),
            left: None,
        },
        Err(error) => Fate {
            stream,
            source,
            path: None,
            from: None,
            to: None,
            left: Some(error.to_string()),
        },
    }
}

fn screen(report: &Report, accepts_gap: bool) -> String {
    let mut out = String::new();
    for fate in &report.streams {
        let source = harmless(&fate.source);
        let _ = match (&fate.left, fate.from, fate.to) {
            (None, Some(from), Some(to)) => writeln!(
                out,
                "{source}: from {to}, {} bytes again  (stream {})",
                from - to,
                fate.stream
            ),
            (left, ..) => writeln!(
                out,
                "{source}: left as it is: {}  (stream {})",
                harmless(left.as_deref().unwrap_or_default()),
                fate.stream
            ),
        };
    }
    if report.streams.is_empty() {
        return if report.log_settled {
            "The gap is accepted.\n".to_owned()
        } else if accepts_gap {
            "There is no gap to be accepted.\n".to_owned()
        } else {
            let none =
                "No stream is meant by that; `edgelogger-agent files` shows those of a running agent.\n";
            none.to_owned() + &unsettled(report)
        };
    }
    let again = report.streams.iter().filter(|fate| fate.left.is_none()).count();
    let _ = writeln!(
        out,
        "{again} of {} streams, {} bytes",
        report.streams.len(),
        report.bytes
    );
    if report.dry_run {
        out.push_str("Nothing was changed (--dry-run).\n");
    } else if again > 0 {
        out.push_str("They are sent when the agent is started.\n");
    }
    if report.log_settled {
        out.push_str("That the collector's log was replaced is settled.\n");
    }
    out + &unsettled(report)
}

/// Of which files the collector may still miss something.
fn unsettled(report: &Report) -> String {
    let files = &report.log_unsettled;
    if files.is_empty() {
        return String::new();
    }
    let code = edgelogger_common::error_code::LOG_REPLACED;
    let mut out = format!("{code}: the collector's log was replaced, and not rewound yet are\n");
    for file in files.iter().take(UNSETTLED_SHOWN) {
        let _ = writeln!(out, "  {}", harmless(file));
    }
    if files.len() > UNSETTLED_SHOWN {
        let _ = writeln!(
            out,
            "  and {} more (--json names them)",
            files.len() - UNSETTLED_SHOWN
        );
    }
    out.push_str("Rewind them, too (--all: every file), or accept the gap (--accept-gap).\n");
    out
}

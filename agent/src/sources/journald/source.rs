//! The loop: which stream, which child, which blocks, and when to try again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::{LogBlockBuilder, ReceiptReason};
use edgelogger_common::clock::Clock;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Lane, PositionUnit, SourceKind, StreamDescriptor, StreamEndReason};
use parking_lot::Mutex;
use rustix::fd::AsFd;
use serde::{Deserialize, Serialize};

use super::child::{From, Journalctl};
use super::config::JournaldConfig;
use super::cursor::same_entry;
use super::entry::{Filter, received_ns, row, wanted_fields};
use super::export::{Entry, ExportParser};
use crate::alarm::Alarm;
use crate::checkpoint::{Checkpoints, StreamState};
use crate::flow::{Resume, SourceBlock, SourceEvent, StreamClose};
use crate::ring::{SourceHandle, Stopped};

/// What is read from the child at once.
const READ_BYTES: usize = 32 << 10;
/// A block is handed on when it has this many bytes of messages, or entries (filtered ones too:
/// who filters every other one makes as many receipts).
const BLOCK_BYTES: usize = 64 << 10;
const BLOCK_ENTRIES: usize = 2048;
/// What a record occupies beside its message: attributes, times, cursors.
const RECORD_OVERHEAD_BYTES: usize = 256;
/// The child is not read more often than this, so that a busy journal does not make a block of each entry. What
/// comes after a silence is read at once.
const PACE: Duration = Duration::from_millis(20);
/// A block of nothing but filtered entries is not worth sending at once.
const FILTERED_HOLD: Duration = Duration::from_secs(10);
/// Entries older than this are a backlog.
const LIVE_AGE_MAX_NS: i64 = 60_000_000_000;
/// What `journalctl` complains of until there is a journal.
const NO_FILES: &str = "No journal files were found";
/// Pauses before a child is started again: doubled after each that read nothing.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the source says about itself. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct JournaldStatus(Arc<Mutex<JournaldStatusView>>);

/// The same at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JournaldStatusView {
    /// A `journalctl` runs.
    pub following: bool,
    /// The stream, once there is one, as hexadecimal digits.
    pub stream: Option<String>,
    /// Position after the last entry that was read.
    pub position: u64,
    /// Entries read by this process.
    pub entries_read: u64,
    /// Of them, dropped by a filter.
    pub entries_filtered: u64,
    /// Times that `journalctl` had to be started again.
    pub restarts: u64,
    /// What is wrong, and what is done about it.
    pub trouble: Option<String>,
}

impl JournaldStatus {
    /// What it says now.
    #[must_use]
    pub fn view(&self) -> JournaldStatusView {
        self.0.lock().clone()
    }
}

/// See the module page.
pub struct JournaldSource {
    config: JournaldConfig,
    filter: Filter,
    ring: SourceHandle,
    checkpoints: Arc<Checkpoints>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    status: JournaldStatus,
    stream: Option<Stream>,
    /// The last entry that was handed on: where a child is to begin.
    resume_at: Option<String>,
    /// The entry that must come first from a child that just began.
    expected: Option<String>,
    /// The stream that a new one continues.
    predecessor: Option<StreamId>,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    /// Of the next entry.
    position: u64,
    /// Every position below is in a block that was handed on.
    handed_on: u64,
}

/// A block in the making.
#[derive(Debug)]
struct Pending {
    builder: LogBlockBuilder,
    lane: Lane,
    bytes: usize,
    entries: usize,
    cursor: String,
    since: Duration,
}

/// Why a child is not read any further.
#[derive(Debug)]
enum Halt {
    Stopped,
    Failed(String),
}

impl std::convert::From<Stopped> for Halt {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl std::fmt::Debug for JournaldSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournaldSource")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl JournaldSource {
    /// A source that begins when it is run. `alarm` must ring when the ring is stopped.
    #[must_use]
    pub fn new(
        config: JournaldConfig,
        ring: SourceHandle,
        checkpoints: Arc<Checkpoints>,
        clock: Arc<dyn Clock>,
        alarm: Alarm,
    ) -> Self {
        Self {
            filter: Filter::new(&config),
            config,
            ring,
            checkpoints,
            clock,
            alarm,
            status: JournaldStatus::default(),
            stream: None,
            resume_at: None,
            expected: None,
            predecessor: None,
            pending: None,
        }
    }

    /// The shared view of what it does.
    #[must_use]
    pub fn status(&self) -> JournaldStatus {
        self.status.clone()
    }

    /// Runs until the ring is stopped.
    pub fn run(mut self) {
        if self.find_stream().is_err() {
            return;
        }
        let mut pause = RESTART_PAUSE;
        loop {
            let read_before = self.status.0.lock().entries_read;
            match self.follow() {
                Halt::Stopped => return,
                Halt::Failed(reason) => self.failed(&reason, pause),
            }
            if self.alarm.wait(pause) || self.ring.stopped() {
                return;
            }
            let mut status = self.status.0.lock();
            status.restarts += 1;
            pause = if status.entries_read > read_before {
                RESTART_PAUSE
            } else {
                (pause * 2).min(RESTART_PAUSE_MAX)
            };
        }
    }

    fn failed(&mut self, reason: &str, pause: Duration) {
        // What was not handed on is read again.
        self.pending = None;
        if let Some(stream) = &mut self.stream {
            stream.position = stream.handed_on;
        }
        let trouble = format!("{reason}; tried again in {} s", pause.as_secs());
        tracing::warn!(source = self.config.stream_name(), "journald: {trouble}");
        let mut status = self.status.0.lock();
        status.following = false;
        status.trouble = Some(trouble);
    }

    /// Takes up the stream of an earlier process, or decides that there will be a new one.
    fn find_stream(&mut self) -> Result<(), Stopped> {
        let name = self.config.stream_name();
        let mut known: Vec<StreamState> = self.checkpoints.streams();
        known.retain(|state| {
            state.descriptor.kind == SourceKind::Journald as i32 && state.descriptor.name == name
        });
        known.sort_by_key(|state| state.descriptor.opened_time_ns);
        let newest = known.pop();
        for older in &known {
            self.close(older, StreamEndReason::Replaced)?;
        }
        let Some(state) = newest else { return Ok(()) };
        let Ok(id) = StreamId::try_from(state.descriptor.stream_id.as_ref()) else {
            return Ok(());
        };
        if let Resume::Cursor(cursor) = &state.resume {
            self.stream = Some(Stream {
                id,
                position: state.acked_upto,
                handed_on: state.acked_upto,
            });
            self.resume_at = Some(cursor.clone());
            let mut status = self.status.0.lock();
            (status.stream, status.position) = (Some(id.to_string()), state.acked_upto);
            return Ok(());
        }
        self.predecessor = Some(id);
        self.close(&state, StreamEndReason::Replaced)
    }

    /// Ends a stream of which more may exist than is known.
    fn close(&self, state: &StreamState, reason: StreamEndReason) -> Result<(), Stopped> {
        let Ok(stream_id) = StreamId::try_from(state.descriptor.stream_id.as_ref()) else {
            return Ok(());
        };
        self.ring.push(SourceEvent::End(StreamClose {
            stream_id,
            size: state.acked_upto,
            exact: false,
            reason,
        }))
    }

    /// Starts a child and reads it to its end.
    fn follow(&mut self) -> Halt {
        self.expected.clone_from(&self.resume_at);
        let from = match &self.resume_at {
            Some(cursor) => From::Entry(cursor.clone()),
            None => From::Start(self.config.start()),
        };
        let wanted = wanted_fields(&self.config);
        let mut names: Vec<_> = wanted
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort_unstable();
        let mut child = match Journalctl::start(&self.config, &from, &names.join(",")) {
            Ok(child) => child,
            Err(error) => return Halt::Failed(cannot_start(&self.config, &error)),
        };
        {
            let mut status = self.status.0.lock();
            status.following = true;
            status.trouble = None;
        }
        match self.read(&mut child, ExportParser::new(Some(wanted))) {
            Err(halt) => halt,
            Ok(()) => Halt::Failed(ended(&mut child)),
        }
    }

    /// Reads until the child closes its output.
    fn read(&mut self, child: &mut Journalctl, mut parser: ExportParser) -> Result<(), Halt> {
        let mut buffer = vec![0; READ_BYTES];
        let mut complains = true;
        let mut last_read: Option<Duration> = None;
        loop {
            let quiet = self.wait_for_output(child, &mut complains)?;
            if quiet {
                self.flush_if_due(true)?;
                continue;
            }
            let now = self.clock.monotonic();
            let rest = last_read.map_or(Duration::ZERO, |last| (last + PACE).saturating_sub(now));
            if !rest.is_zero() && self.alarm.wait(rest) {
                return Err(Halt::Stopped);
            }
            last_read = Some(self.clock.monotonic());
            loop {
                let len = match child.read(&mut buffer) {
                    Ok(0) => {
                        self.flush()?;
                        return Ok(());
                    }
                    Ok(len) => len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Halt::Failed(format!("journalctl can't be read: {error}"))),
                };
                self.take(&mut parser, &buffer[..len])?;
                // A full buffer: there is more, and it belongs together.
                if len < buffer.len() || self.ring.stopped() {
                    break;
                }
            }
            self.flush_if_due(false)?;
        }
    }

    /// Waits for output; `true` when there was none for as long as the pending block may wait.
    fn wait_for_output(&self, child: &mut Journalctl, complains: &mut bool) -> Result<bool, Halt> {
        loop {
            let timeout = self
                .pending
                .as_ref()
                .map(|pending| (pending.since + FILTERED_HOLD).saturating_sub(self.clock.monotonic()));
            let (readable, complaint) = {
                let (stdout, stderr) = (child.stdout(), child.stderr());
                if *complains {
                    let woken = self.alarm.wait_for([stdout.as_fd(), stderr.as_fd()], timeout);
                    let [readable, complaint] = woken.ok_or(Halt::Stopped)?;
                    (readable, complaint)
                } else {
                    let [readable] = self
                        .alarm
                        .wait_for([stdout.as_fd()], timeout)
                        .ok_or(Halt::Stopped)?;
                    (readable, false)
                }
            };
            if complaint {
                *complains = child.read_complaint();
                self.status.0.lock().trouble = child.complaint();
            }
            if readable || !complaint {
                return Ok(!readable);
            }
        }
    }

    fn take(&mut self, parser: &mut ExportParser, bytes: &[u8]) -> Result<(), Halt> {
        let mut taken = Ok(());
        let fed = parser.feed(bytes, |entry| {
            if taken.is_ok() {
                taken = self.entry(entry);
            }
        });
        taken?;
        fed.map_err(|error| Halt::Failed(error.to_string()))
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Halt> {
        let Some(cursor) = entry.text("__CURSOR").map(str::to_owned) else {
            return Err(Halt::Failed(
                "journalctl gave an entry without a cursor".to_owned(),
            ));
        };
        if let Some(expected) = self.expected.take() {
            if same_entry(&expected, &cursor) {
                return Ok(());
            }
            self.replace_stream()?;
        }
        let position = self.open_stream()?;
        let now_ns = self.clock.wall_ns();
        let age_ns = now_ns.saturating_sub(received_ns(entry).unwrap_or(now_ns));
        let lane = if age_ns > LIVE_AGE_MAX_NS {
            Lane::Backfill
        } else {
            Lane::Live
        };
        if self.pending.as_ref().is_some_and(|pending| pending.lane != lane) {
            self.flush()?;
        }
        self.append(entry, cursor, position, lane, now_ns);
        if self.pending.as_ref().is_some_and(Pending::is_full) {
            self.flush()?;
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry, cursor: String, position: u64, lane: Lane, now_ns: i64) {
        let Some(stream) = &mut self.stream else { return };
        let (id, since) = (stream.id, self.clock.monotonic());
        let pending = self.pending.get_or_insert_with(|| Pending {
            builder: LogBlockBuilder::new(id, true, position),
            lane,
            bytes: 0,
            entries: 0,
            cursor: String::new(),
            since,
        });
        stream.position = position + 1;
        pending.cursor = cursor;
        pending.entries += 1;
        let mut status = self.status.0.lock();
        status.entries_read += 1;
        if status
            .trouble
            .as_deref()
            .is_some_and(|trouble| trouble.starts_with(NO_FILES))
        {
            status.trouble = None;
        }
        status.position = stream.position;
        if self.filter.keeps(entry) {
            let row = row(entry, &self.config, now_ns);
            pending.bytes += row.body.len() + RECORD_OVERHEAD_BYTES;
            pending.builder.push(row);
        } else {
            status.entries_filtered += 1;
            pending.builder.push_receipt(1, ReceiptReason::Filtered, 1, true);
        }
    }

    /// The journal does not hold the entry any more where we stopped: what came between is unknown.
    fn replace_stream(&mut self) -> Result<(), Halt> {
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        tracing::warn!(
            source = self.config.stream_name(),
            "journald: the entry where reading stopped is gone (the journal was rotated away meanwhile); entries may \
             be missing before the next one"
        );
        self.predecessor = Some(stream.id);
        self.ring.push(SourceEvent::End(StreamClose {
            stream_id: stream.id,
            size: stream.position,
            exact: false,
            reason: StreamEndReason::Truncated,
        }))?;
        Ok(())
    }

    /// The position of the next entry, in a stream that is durable.
    fn open_stream(&mut self) -> Result<u64, Halt> {
        if let Some(stream) = &self.stream {
            return Ok(stream.position);
        }
        let id = StreamId::random();
        let descriptor = StreamDescriptor {
            stream_id: id.to_proto(),
            kind: SourceKind::Journald.into(),
            unit: PositionUnit::Record.into(),
            name: self.config.stream_name(),
            replayable: true,
            predecessor: self.predecessor.map(StreamId::to_proto).unwrap_or_default(),
            opened_time_ns: self.clock.wall_ns(),
            ..StreamDescriptor::default()
        };
        self.checkpoints
            .create(std::slice::from_ref(&descriptor))
            .map_err(|error| Halt::Failed(error.to_string()))?;
        self.ring.push(SourceEvent::Open(Box::new(descriptor)))?;
        self.status.0.lock().stream = Some(id.to_string());
        self.stream = Some(Stream {
            id,
            position: 0,
            handed_on: 0,
        });
        Ok(0)
    }

    /// `quiet`: nothing came for as long as filtered entries may be held.
    #[expect(clippy::len_zero, reason = "a builder with receipts only is not empty")]
    fn flush_if_due(&mut self, quiet: bool) -> Result<(), Halt> {
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        let held = self.clock.monotonic().saturating_sub(pending.since);
        if pending.builder.len() != 0 || quiet || held >= FILTERED_HOLD {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Halt> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let block = pending
            .builder
            .finish()
            .map_err(|error| Halt::Failed(format!("a block of journal entries can't be built: {error}")))?;
        let credit = self.ring.acquire(block.encoded_len() + RECORD_OVERHEAD_BYTES)?;
        self.ring.push(SourceEvent::Block(SourceBlock {
            block,
            lane: pending.lane,
            replayable: true,
            resume: Resume::Cursor(pending.cursor.clone()),
            credit,
        }))?;
        if let Some(stream) = &mut self.stream {
            stream.handed_on = stream.position;
        }
        self.resume_at = Some(pending.cursor);
        Ok(())
    }
}

impl Pending {
    fn is_full(&self) -> bool {
        // Filtered entries next to each other are one receipt, but who filters every other one makes as many.
        self.bytes >= BLOCK_BYTES || self.entries >= BLOCK_ENTRIES
    }
}

fn cannot_start(config: &JournaldConfig, error: &io::Error) -> String {
    let program = config
        .journalctl
        .as_ref()
        .map_or_else(|| "journalctl".to_owned(), |path| path.display().to_string());
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "{program} was not found: this machine has no systemd journal, or it is not in the PATH; set \
                 `journalctl` in [source.journald], or remove that table"
            )
        }
        _ => format!("{program} can't be started: {error}"),
    }
}

fn ended(child: &mut Journalctl) -> String {
    let how = child
        .finish()
        .map_or_else(|error| error.to_string(), |status| status.to_string());
    match child.complaint() {
        Some(complaint) => format!("journalctl ended ({how}): {complaint}"),
        None => format!("journalctl ended ({how})"),
    }
}

//! What the agent must still know after a crash: its streams and how far each is acknowledged, who it is, and which
//! sessions it has had. One append-only file for all of it, `checkpoints`, in the state directory.
//!
//! | file | idea |
//! | --- | --- |
//! | `mod.rs` | [`Checkpoints`]: what the rest of the agent calls; when things are written |
//! | `state.rs` | the state in memory and how a record changes it, without a disk |
//! | `progress.rs` | the acknowledged ranges of one stream |
//! | `finished.rs` | files whose streams are over |
//! | `format.rs` | frames and records to bytes and back |
//! | `scan.rs` | the good frames of a file in any condition, and a list of the damage |
//! | `writer.rs` | append, sync, rewrite |
//! | `machine.rs` | which machine this is |
//!
//! # The file
//!
//! Little-endian throughout.
//!
//! ```text
//! header, 16 bytes
//!   0  8  magic "ELCHKPT" and a line feed
//!   8  2  version      1; a reader refuses a higher one
//!  10  2  reserved     0
//!  12  4  crc32c       of bytes 0 to 11
//! frames, one after another
//!   0  3  marker       EC 4C 52: where to look for the next good frame behind a damaged one
//!   3  1  kind         below; a reader steps over a kind that it does not know
//!   4  4  len          of the body, at most 64 KiB
//!   8  4  crc32c       of kind, len and body
//!  12  .. body
//! ```
//!
//! | kind | body |
//! | --- | --- |
//! | 1 instance | `instance_id` 16, `machine` 16 (first half of SHA-256 of `edgelogger` and /etc/machine-id; zeroes: unknown) |
//! | 2 epoch | u64: every session epoch up to this one may have been used |
//! | 3 log id | 16: of the last Welcome |
//! | 4 created | `StreamDescriptor` (protobuf); known already: replaces the descriptor and keeps the progress |
//! | 5 acked | `stream_id` 16, u64 `acked_upto`, resume, u16 count, then each range above it: u64 start, u64 end, resume |
//! | 6 ended | `stream_id` 16 |
//! | 7 finished | a file whose stream ended, kept for knowing its content again: `stream_id` 16, u64 size, then of its first bytes and of those before its end: u32 len, u32 crc32c; i64 ns UTC when it was opened, path; the newest 4,096 |
//! | 8 log replaced | `log_id` 16 of before, 16 of now: what the first acknowledged may be missing; empty: settled |
//! | 9 settled | `stream_id` 16: nothing is missing of this stream by the last *log replaced* before, or it was decided on. A stream that is *created* behind one is settled, too |
//!
//! resume: u8 0 nowhere; 1 content: u32 len, u32 crc32c; 2 cursor: u16 len, UTF-8.
//!
//! Every record says the whole of what it speaks of, so that the newest one wins and a lost one costs little: a lost
//! *acked* sends data again (the collector has it and says so), a lost *ended* ends a stream twice, a lost *created*
//! reads a source again under a new stream. *Instance* is written at both ends of a rewritten file, because a lost
//! one would look like a second installation. Damage of n bytes hides at most n / 20 *epoch* records, so that many
//! blocks of epochs are skipped.
//!
//! # When
//!
//! | | written | synced |
//! | --- | --- | --- |
//! | created, instance, epoch | at once | at once |
//! | acked, ended, finished, log id, log replaced, settled | 5 s after the first change | 30 s after it was written, and on stop |
//!
//! Nothing changed: nothing is written. What a crash costs is data that is sent again and deduplicated.
//!
//! # On failure
//!
//! After a failed write or sync the file is not touched again: the next attempt writes a new one from memory, which
//! is the authority while the agent runs. What an earlier process left is synced, content and name, before it is
//! believed. A damaged tail is cut off; damage in the middle is stepped over, reported, and gone with the rewriting
//! that follows. Nothing here needs a person to delete a file.

mod error;
mod finished;
mod format;
mod machine;
mod progress;
mod scan;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::clock::Clock;
use edgelogger_common::disk::{At, Disk, DiskLock, create_dir_all_durable};
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamDescriptor;
use parking_lot::Mutex;

pub use error::CheckpointError;
pub use finished::FinishedFile;
pub use format::LogReplaced;
pub use machine::MachineMark;
pub use scan::Damage;

use crate::flow::{Resume, SentBlock};
use format::Record;
use state::State;
use writer::Writer;

/// The file in the state directory.
pub const FILE_NAME: &str = "checkpoints";
/// Held while the agent runs.
pub const LOCK_NAME: &str = "checkpoints.lock";
/// Acks are written this long after the first that is not.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// Written acks are synced after this long.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(30);
/// Streams at once: an agent watches some thousands of files. 64 Ki of them take about 40 MiB, beyond which it would
/// no longer be a small program. At the limit [`Checkpoints::create`] refuses, and the source says so.
pub const STREAMS_MAX: usize = 64 * 1024;
/// Session epochs reserved by one fsync.
const EPOCH_BLOCK: u64 = 100;

/// How safe [`Checkpoints::flush`] makes things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Handed to the operating system: survives a kill, not a power cut.
    Written,
    /// Survives a power cut.
    Synced,
}

/// What is known of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamState {
    /// Where it came from.
    pub descriptor: StreamDescriptor,
    /// Every acknowledged range.
    pub acked: RangeSet,
    /// How the source resumes at `acked_upto`.
    pub resume: Resume,
    /// Every position of the stream below is acknowledged.
    pub acked_upto: u64,
    /// The acknowledged ranges above, ascending, and how the source resumes behind each.
    pub above: Vec<(Range<u64>, Resume)>,
}

/// How far one stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckedHead {
    /// Whose.
    pub stream_id: StreamId,
    /// Its first position.
    pub start: u64,
    /// Every position from there below this is acknowledged.
    pub upto: u64,
    /// Number of acknowledged positions, those above `upto` too.
    pub acked: u64,
}

/// What opening found, for the log and for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// There was no file: a first start, or the state directory was emptied.
    pub fresh: bool,
    /// The state directory came from another machine; this agent is a new instance with new streams.
    pub cloned: bool,
    /// Byte ranges of the file that held nothing readable.
    pub damage: Vec<Damage>,
    /// Readable records that meant nothing here: unknown kinds, or acks of a stream whose creation was lost.
    pub ignored_records: u64,
}

/// The checkpoint file and the state that it holds. One per agent; shared by sources and transport.
pub struct Checkpoints {
    clock: Arc<dyn Clock>,
    /// Memory only: never held during I/O, so that an ack does not wait for a disk.
    state: Mutex<State>,
    /// Taken before `state` where both are.
    writer: Mutex<Writer>,
    trouble: writer::Trouble,
    recovery: Recovery,
    _lock: DiskLock,
}

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints")
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// Opens the state directory, or makes it; repairs what a crash or a bad disk left.
    ///
    /// # Errors
    /// The directory can't be used, another process uses it, or a newer version wrote it.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, CheckpointError> {
        Self::open_on(disk, dir, clock, MachineMark::of_this_machine())
    }

    /// As [`Checkpoints::open`], on a machine that is handed in.
    ///
    /// # Errors
    /// As [`Checkpoints::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        clock: Arc<dyn Clock>,
        machine: Option<MachineMark>,
    ) -> Result<Arc<Self>, CheckpointError> {
        create_dir_all_durable(&*disk, dir)?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = disk
            .lock(&lock_path)
            .at("lock", &lock_path)
            .map_err(CheckpointError::locking)?;
        let (mut writer, scan) = Writer::open(disk, dir.join(FILE_NAME))?;
        let (state, recovery) = State::recover(scan, machine);
        report(&recovery, writer.path());
        if recovery.fresh || recovery.cloned {
            // Who we are must be durable before anybody is told.
            writer.rewrite(&state.live_records())?;
        } else if writer.is_poisoned() || state.machine_is_new() || !recovery.damage.is_empty() {
            repair(&mut writer, &state);
        }
        Ok(Arc::new(Self {
            clock,
            state: Mutex::new(state),
            trouble: writer.trouble(),
            writer: Mutex::new(writer),
            recovery,
            _lock: lock,
        }))
    }

    /// What opening found.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Makes streams durable, all with one fsync; call it before any block of theirs is sent. A stream that exists
    /// gets the new descriptor and keeps its progress (a file that was renamed).
    ///
    /// # Errors
    /// Nothing was created: the disk, too many streams, or a descriptor that can't be kept.
    pub fn create(&self, descriptors: &[StreamDescriptor]) -> Result<(), CheckpointError> {
        let mut writer = self.writer.lock();
        let records = self.state.lock().plan_create(descriptors)?;
        if records.is_empty() {
            return Ok(());
        }
        self.write(&mut writer, &records, Durability::Synced)?;
        let mut state = self.state.lock();
        records.into_iter().for_each(|record| state.apply(record));
        Ok(())
    }

    /// Remembers an acknowledged block; ranges of a stream may come in any order, also twice. Memory only.
    pub fn acked(&self, block: &SentBlock) {
        let now = self.clock.monotonic();
        self.state.lock().acked(block, now);
    }

    /// The collector knows the end of this stream: forgets it.
    pub fn ended(&self, stream_id: &StreamId) {
        let now = self.clock.monotonic();
        self.state.lock().ended(*stream_id, now);
    }

    /// All streams that have not ended, in no particular order.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamState> {
        self.state.lock().streams().collect()
    }

    /// How far each stream that has not ended has come, in no particular order; a few bytes of each.
    #[must_use]
    pub fn heads(&self) -> Vec<AckedHead> {
        self.state.lock().heads()
    }

    /// Number of streams that have not ended.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.state.lock().stream_count()
    }

    /// One stream.
    #[must_use]
    pub fn stream(&self, stream_id: &StreamId) -> Option<StreamState> {
        self.state.lock().stream(stream_id)
    }

    /// Which machine this is, where that can be told.
    #[must_use]
    pub fn machine_mark(&self) -> Option<MachineMark> {
        self.state.lock().machine_mark()
    }

    /// Files whose streams are over, as far back as they are remembered.
    #[must_use]
    pub fn finished(&self) -> Vec<FinishedFile> {
        self.state.lock().finished()
    }

    /// Every position of the stream below this is acknowledged.
    #[must_use]
    pub fn acked_upto(&self, stream_id: &StreamId) -> Option<u64> {
        self.state.lock().acked_upto(stream_id)
    }

    /// `log_id` of the last Welcome.
    #[must_use]
    pub fn log_id(&self) -> Option<[u8; 16]> {
        self.state.lock().log_id()
    }

    /// Remembers the `log_id` of a Welcome.
    pub fn set_log_id(&self, log_id: [u8; 16]) {
        let now = self.clock.monotonic();
        self.state.lock().set_log_id(log_id, now);
    }

    /// The collector had another log than the one that acknowledged things before, and nobody has decided yet what is
    /// to be done about it.
    #[must_use]
    pub fn log_replaced(&self) -> Option<LogReplaced> {
        self.state.lock().log_replaced()
    }

    /// Remembers that, or that it is settled.
    pub fn set_log_replaced(&self, replaced: Option<LogReplaced>) {
        let now = self.clock.monotonic();
        self.state.lock().set_log_replaced(replaced, now);
    }

    /// Files of which the log that was replaced may have acknowledged what the one of now does not have, and that nobody
    /// has decided on: by name, oldest stream first.
    #[must_use]
    pub fn unsettled(&self) -> Vec<StreamState> {
        self.state.lock().unsettled()
    }

    /// What is to be done about a stream after the log was replaced is decided.
    pub fn settle(&self, stream_id: &StreamId) {
        let now = self.clock.monotonic();
        self.state.lock().settle(*stream_id, now);
    }

    /// Everything of a stream from `upto` on is to be sent again; `resume` is of what is before that. While nobody
    /// reads it.
    pub fn rewind(&self, stream_id: &StreamId, upto: u64, resume: Resume) {
        let now = self.clock.monotonic();
        self.state.lock().rewind(stream_id, upto, resume, now);
    }

    /// Who this agent is: random, made once, bound to the machine.
    #[must_use]
    pub fn instance_id(&self) -> [u8; 16] {
        self.state.lock().instance_id()
    }

    /// An epoch greater than that of every earlier session of this instance, whatever crashed in between. Where the
    /// disk refuses, it still grows while the process lives, and the trouble is logged.
    pub fn next_epoch(&self) -> u64 {
        let mut writer = self.writer.lock();
        let (epoch, reserve) = self.state.lock().next_epoch(EPOCH_BLOCK);
        if let Some(upto) = reserve {
            match self.write(&mut writer, &[Record::Epoch(upto)], Durability::Synced) {
                Ok(()) => self.state.lock().epochs_reserved(upto),
                Err(error) => tracing::error!(
                    %error,
                    "session epoch {epoch} could not be made durable; after a power cut the collector may                      refuse this agent until its epoch has grown past it"
                ),
            }
        }
        epoch
    }

    /// Writes and syncs what is due; call it about once a second, or when [`Checkpoints::due_in`] says. Blocks for
    /// as long as the disk takes.
    ///
    /// # Errors
    /// The disk. Nothing is forgotten; it is tried again at the next interval.
    pub fn tick(&self) -> Result<(), CheckpointError> {
        let now = self.clock.monotonic();
        let write_due = self
            .state
            .lock()
            .dirty_since()
            .is_some_and(|since| now >= since + WRITE_INTERVAL);
        let mut writer = self.writer.lock();
        let sync_due = writer
            .unsynced_since()
            .is_some_and(|since| now >= since + SYNC_INTERVAL);
        match (write_due, sync_due) {
            (false, false) => Ok(()),
            (true, false) => self.write_dirty(&mut writer, Durability::Written),
            (_, true) => self.write_dirty(&mut writer, Durability::Synced),
        }
    }

    /// How long nothing needs to be done; `None`: until something changes.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let write = self
            .state
            .lock()
            .dirty_since()
            .map(|since| since + WRITE_INTERVAL);
        let sync = self
            .writer
            .lock()
            .unsynced_since()
            .map(|since| since + SYNC_INTERVAL);
        let due = write.into_iter().chain(sync).min()?;
        Some(due.saturating_sub(now))
    }

    /// Writes everything now. Nothing changed since the last time: does nothing.
    ///
    /// # Errors
    /// The disk.
    pub fn flush(&self, durability: Durability) -> Result<(), CheckpointError> {
        self.write_dirty(&mut self.writer.lock(), durability)
    }

    /// What went wrong with the file last, until it works again; for `status`.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    fn write_dirty(&self, writer: &mut Writer, durability: Durability) -> Result<(), CheckpointError> {
        let records = self.state.lock().take_dirty();
        self.write(writer, &records, durability)
    }

    fn write(
        &self,
        writer: &mut Writer,
        records: &[Record],
        durability: Durability,
    ) -> Result<(), CheckpointError> {
        let written = self.append_or_rewrite(writer, records, durability);
        if written.is_err() {
            // Also what was written before and not synced is in doubt, so that something is always left to do.
            // A retry at once would only fail again: the interval starts anew.
            self.state.lock().dirty_again(records, self.clock.monotonic());
        }
        written
    }

    /// Rewrites the file where it is poisoned or mostly garbage.
    fn append_or_rewrite(
        &self,
        writer: &mut Writer,
        records: &[Record],
        durability: Durability,
    ) -> Result<(), CheckpointError> {
        if writer.wants_rewrite(|| self.state.lock().live_bytes()) {
            let mut live = self.state.lock().live_records();
            live.extend(records.iter().cloned());
            return writer.rewrite(&live);
        }
        writer.append(records, durability)?;
        writer.note_time(self.clock.monotonic());
        Ok(())
    }
}

/// A disk that is full or read-only now must not keep the agent from sending what it has: the next write tries again.
fn repair(writer: &mut Writer, state: &State) {
    if let Err(error) = writer.rewrite(&state.live_records()) {
        tracing::error!(%error, "the damaged checkpoint file could not be rewritten yet");
    }
}

fn report(recovery: &Recovery, path: &Path) {
    let path = path.display();
    for Damage { offset, len } in &recovery.damage {
        tracing::error!(
            "{path}: {len} bytes at {offset} are damaged and were stepped over; data they spoke of may be sent \
             again. If this repeats, check the disk (dmesg)"
        );
    }
    if recovery.ignored_records > 0 {
        tracing::warn!(
            "{path}: {} records mean nothing to this version and were left out",
            recovery.ignored_records
        );
    }
    if recovery.cloned {
        tracing::warn!(
            "{path} was made on another machine: this agent starts as a new instance and its files continue as new \
             streams. If this machine is a clone of another, give it an agent name and a token of its own"
        );
    }
}

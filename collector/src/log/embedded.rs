//! The embedded log: segment files, one writer thread, group commit.
//!
//! ```text
//! queue ──all that waits──> append, append, append ──> one fdatasync ──> verdicts, sinks are told
//! ```
//!
//! While one group is being synced the next one gathers in the queue, so a lone batch waits for one sync and a
//! thousand agents share one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgelogger_common::disk::Disk;
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_common::segment::{LogView, RecoveryReport, SegmentError, SegmentLog, SegmentOptions};
use edgelogger_common::size::ByteSize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::flow::{DurableEnd, Hold, LogSender, SUBMISSIONS_MAX, SinkProgress, Submission, Verdict};
use crate::health::{Health, LogReport, PanicWatch};

/// A group is committed when it has this many bytes, though more may wait: verdicts then come in time.
const GROUP_BYTES_MAX: u64 = 16 << 20;
/// Entries of a group.
const GROUP_ENTRIES_MAX: usize = 1024;
/// How often retention runs and a failed log is tried again.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
/// Pause for agents while the log takes nothing.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Smallest segment: retention works in whole segments, so a small log needs small ones.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// How long health shows that entries were lost; the log line stays.
const LOSS_SHOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// The subject of health.
const SUBJECT: &str = "log";

/// What the log is told by the configuration.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Its directory.
    pub dir: PathBuf,
    /// All segments together.
    pub bytes_max: u64,
    /// One segment.
    pub segment_bytes_max: u64,
    /// Left free on the file system, so that sinks can go on (and thereby free the log) when everything else is full.
    pub keep_free_bytes: u64,
    /// The largest entry.
    pub entry_bytes_max: u32,
}

/// Why the log does not open.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the commit log: {0}")]
pub struct LogOpenError(#[from] SegmentError);

impl LogOpenError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        *self.0.code()
    }
}

/// A log that is recovered and readable; [`OpenedLog::start`] begins to write.
#[derive(Debug)]
pub struct OpenedLog {
    log: SegmentLog,
    disk: Arc<dyn Disk>,
    settings: LogSettings,
    report: RecoveryReport,
}

impl OpenedLog {
    /// Opens and recovers. `sequence_min`: at least 1 more than what any sink remembers.
    ///
    /// # Errors
    /// When the directory can't be used; never because of what its files hold.
    pub fn open(disk: Arc<dyn Disk>, settings: LogSettings, sequence_min: u64) -> Result<Self, LogOpenError> {
        let options = SegmentOptions {
            segment_bytes_max: settings
                .segment_bytes_max
                .min(settings.bytes_max / 8)
                .max(SEGMENT_BYTES_MIN),
            frame_bytes_max: settings.entry_bytes_max,
            sequence_min,
            ..SegmentOptions::default()
        };
        let (log, report) = SegmentLog::open(Arc::clone(&disk), &settings.dir, options)?;
        Ok(Self {
            log,
            disk,
            settings,
            report,
        })
    }

    /// For sinks.
    #[must_use]
    pub fn view(&self) -> LogView {
        self.log.view()
    }

    /// Begins to write. `sinks`: who the log waits for.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self, health: &Arc<Health>, sinks: Vec<Arc<SinkProgress>>) -> std::io::Result<EmbeddedLog> {
        let (queue, submissions) = mpsc::channel(SUBMISSIONS_MAX);
        let view = self.log.view();
        let sender = LogSender {
            queue,
            log_id: self.log.log_id(),
        };
        let durable_end = Arc::new(DurableEnd::default());
        durable_end.advance(view.durable_end());
        let status = Arc::new(LogStatus::default());
        let stop = CancellationToken::new();
        let bytes_max = self.settings.bytes_max;
        let writer = Writer {
            log: self.log,
            disk: self.disk,
            settings: self.settings,
            health: Arc::clone(health),
            sinks,
            durable_end: Arc::clone(&durable_end),
            status: Arc::clone(&status),
            trouble: None,
        };
        writer.tell_of_recovery(&self.report);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("commit-log".to_owned())
            .spawn(move || writer.run(submissions, &stopped))?;
        Ok(EmbeddedLog {
            sender,
            view,
            durable_end,
            status,
            bytes_max,
            stop,
            thread,
        })
    }
}

/// Counts of the writer.
#[derive(Debug, Default)]
pub struct LogStatus {
    commits: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// A log that is being written.
#[derive(Debug)]
pub struct EmbeddedLog {
    /// For sessions.
    pub sender: LogSender,
    /// For sinks.
    pub view: LogView,
    /// For sinks.
    pub durable_end: Arc<DurableEnd>,
    /// Counts.
    pub status: Arc<LogStatus>,
    /// The limit.
    pub bytes_max: u64,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl EmbeddedLog {
    /// Commits what waits, then ends the writer. Blocks for as long as that takes.
    pub fn stop(self) {
        self.stop.cancel();
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the writer of the commit log ended with a panic");
        }
    }
}

impl LogStatus {
    /// The log now.
    #[must_use]
    pub fn report(&self, view: &LogView, bytes_max: u64) -> LogReport {
        LogReport {
            log_id: view.log_id().iter().map(|byte| format!("{byte:02x}")).collect(),
            first_sequence: view.first_sequence(),
            durable_end: view.durable_end(),
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_max,
            commits: self.commits.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            durability: "fsync",
        }
    }
}

/// Why nothing is taken now.
#[derive(Debug, Clone)]
struct Trouble {
    code: ErrorCode,
    message: String,
    /// Room that was wanted, in bytes: it is over when there is that much.
    wanted: u64,
    /// No attempt to reopen before this.
    not_before: Instant,
}

impl Trouble {
    fn new(code: ErrorCode, message: String) -> Self {
        Self {
            code,
            message,
            wanted: 0,
            not_before: Instant::now() + RETRY_AFTER / 2,
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict::Later {
            after: RETRY_AFTER,
            code: self.code,
            message: self.message.clone(),
        }
    }
}

struct Writer {
    log: SegmentLog,
    disk: Arc<dyn Disk>,
    settings: LogSettings,
    health: Arc<Health>,
    sinks: Vec<Arc<SinkProgress>>,
    durable_end: Arc<DurableEnd>,
    status: Arc<LogStatus>,
    /// Set while entries are refused.
    trouble: Option<Trouble>,
}

impl Writer {
    fn run(mut self, mut submissions: mpsc::Receiver<Submission>, stop: &CancellationToken) {
        // A runtime of its own, only to wait for the queue, the time and the stop at once. Its one thread is this
        // one, and may block.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let what = format!("the writer of the commit log did not start: {error}");
                return self.health.raise_down(SUBJECT, error_code::LOG_IO, what);
            }
        };
        let _watch = PanicWatch::new(&self.health, SUBJECT, error_code::LOG_IO);
        let mut group = Vec::with_capacity(GROUP_ENTRIES_MAX);
        let mut housekeeping_due = Instant::now() + HOUSEKEEPING_INTERVAL;
        loop {
            let received = runtime.block_on(async {
                tokio::select! {
                    biased;
                    count = submissions.recv_many(&mut group, GROUP_ENTRIES_MAX) => Some(count),
                    () = tokio::time::sleep_until(housekeeping_due.into()) => None,
                    () = stop.cancelled(), if !submissions.is_closed() => {
                        submissions.close();
                        None
                    }
                }
            });
            if received == Some(0) {
                return;
            }
            self.commit_all(&mut group);
            if Instant::now() >= housekeeping_due {
                self.keep_house();
                housekeeping_due = Instant::now() + HOUSEKEEPING_INTERVAL;
            }
        }
    }

    /// Commits in groups of at most [`GROUP_BYTES_MAX`].
    fn commit_all(&mut self, waiting: &mut Vec<Submission>) {
        let mut group = Vec::new();
        let mut bytes = 0;
        for submission in waiting.drain(..) {
            bytes += submission.entry.bytes();
            group.push(submission);
            if bytes >= GROUP_BYTES_MAX {
                self.commit(std::mem::take(&mut group), std::mem::take(&mut bytes));
            }
        }
        if !group.is_empty() {
            self.commit(group, bytes);
        }
    }

    /// Appends, syncs, answers: all of the group or nothing of it.
    fn commit(&mut self, group: Vec<Submission>, bytes: u64) {
        let (too_large, group): (Vec<_>, Vec<_>) = group
            .into_iter()
            .partition(|submission| submission.entry.bytes() > u64::from(self.settings.entry_bytes_max));
        let never = Verdict::Never {
            code: error_code::LOG_FRAME_TOO_LARGE,
            message: format!(
                "the log takes entries of at most {} bytes",
                self.settings.entry_bytes_max
            ),
        };
        answer(too_large, &never);
        self.commit_what_fits(group, bytes);
    }

    /// Near the limit a group is cut: what fits goes in.
    fn commit_what_fits(&mut self, mut group: Vec<Submission>, bytes: u64) {
        let room = self.recover().and_then(|()| self.make_room(bytes));
        let done = match room {
            Err(trouble) if group.len() > 1 && trouble.wanted > 0 => {
                let rest = group.split_off(group.len() / 2);
                let (first_bytes, rest_bytes) = (bytes_of(&group), bytes_of(&rest));
                self.commit_what_fits(group, first_bytes);
                return self.commit_what_fits(rest, rest_bytes);
            }
            room => room.and_then(|()| self.write(&group, bytes)),
        };
        let verdict = match done {
            Ok(()) => Verdict::Durable,
            Err(trouble) => {
                let verdict = trouble.verdict();
                self.health.raise(SUBJECT, trouble.code, trouble.message.clone());
                self.await_sinks(trouble.wanted > 0);
                self.trouble = Some(trouble);
                verdict
            }
        };
        answer(group, &verdict);
    }

    fn write(&mut self, group: &[Submission], bytes: u64) -> Result<(), Trouble> {
        let written = group
            .iter()
            .try_for_each(|submission| self.log.append(&submission.entry.parts()).map(|_| ()))
            .and_then(|()| self.log.sync());
        // The trouble lasts until there is room for this much: a log that merely opens again takes nothing yet.
        let end = written.map_err(|error| Trouble {
            wanted: bytes,
            ..self.trouble_of(&error)
        })?;
        self.durable_end.advance(end);
        self.status.commits.fetch_add(1, Ordering::Relaxed);
        self.status
            .entries
            .fetch_add(group.len() as u64, Ordering::Relaxed);
        self.status.bytes.store(self.log.bytes(), Ordering::Relaxed);
        if self.trouble.take().is_some() {
            self.await_sinks(false);
            self.health.clear(SUBJECT);
            tracing::info!("the commit log takes entries again");
        }
        Ok(())
    }

    /// Sinks make durable at once what they have, where that makes room.
    fn await_sinks(&self, awaited: bool) {
        for sink in &self.sinks {
            sink.awaited.store(awaited, Ordering::Relaxed);
        }
    }

    /// After a failure: reopens and verifies, not more often than every half pause.
    fn recover(&mut self) -> Result<(), Trouble> {
        if !self.log.is_poisoned() {
            return Ok(());
        }
        if let Some(trouble) = self
            .trouble
            .as_ref()
            .filter(|trouble| Instant::now() < trouble.not_before)
        {
            return Err(trouble.clone());
        }
        let report = self.log.reopen().map_err(|error| self.trouble_of(&error))?;
        self.tell_of_recovery(&report);
        // What was appended before the failure may have become durable after all.
        self.durable_end.advance(self.log.durable_end());
        Ok(())
    }

    /// Is there room for so many bytes, below the limit and on the file system?
    fn make_room(&mut self, bytes: u64) -> Result<(), Trouble> {
        if self.log.bytes().saturating_add(bytes) > self.settings.bytes_max {
            self.free(true)?;
        }
        if self.log.bytes().saturating_add(bytes) > self.settings.bytes_max {
            let message = format!(
                "the commit log has reached its limit of {}; {}",
                ByteSize::bytes(self.settings.bytes_max),
                self.who_holds()
            );
            return Err(Trouble {
                wanted: bytes,
                ..Trouble::new(error_code::LOG_DISK_FULL, message)
            });
        }
        let wanted = self.settings.keep_free_bytes.saturating_add(bytes);
        let mut available = self.disk.available_bytes(&self.settings.dir);
        if matches!(available, Ok(available) if available < wanted) {
            self.free(true)?;
            available = self.disk.available_bytes(&self.settings.dir);
        }
        match available {
            Ok(available) if available < wanted => {
                let message = format!(
                    "the file system of {} has {} bytes left, {} are kept free; agents wait until there is room",
                    self.settings.dir.display(),
                    available,
                    ByteSize::bytes(self.settings.keep_free_bytes)
                );
                Err(Trouble {
                    wanted: bytes,
                    ..Trouble::new(error_code::LOG_DISK_FULL, message)
                })
            }
            // Where this can't be told, the write itself will.
            _ => Ok(()),
        }
    }

    fn who_holds(&self) -> String {
        let holding = self.sinks.iter().filter(|sink| sink.hold == Hold::Always);
        match holding.min_by_key(|sink| sink.durable_cursor.load(Ordering::Relaxed)) {
            Some(sink) => format!("it waits for the sink {}, which is behind", sink.name),
            None => "raise bytes_max in [log]".to_owned(),
        }
    }

    fn trouble_of(&self, error: &SegmentError) -> Trouble {
        Trouble::new(*error.code(), error.to_string())
    }

    /// Drops what no sink needs. `is_full`: sinks that may be skipped are.
    fn free(&mut self, is_full: bool) -> Result<(), Trouble> {
        let held = self.sinks.iter().filter(|sink| match sink.hold {
            Hold::Always => true,
            Hold::UntilFull => !is_full,
            Hold::Never => false,
        });
        let end = self.log.durable_end();
        // A log that is full does not wait for second copies.
        let needed_by = |sink: &Arc<SinkProgress>| match is_full {
            true => sink.durable_cursor.load(Ordering::Relaxed),
            false => sink.held_cursor.load(Ordering::Relaxed),
        };
        let needed = held.map(needed_by).min();
        // Without anyone to wait for, everything is kept that fits.
        let Some(needed) = needed.or(is_full.then_some(end)) else {
            return Ok(());
        };
        // First what is closed: where the disk is full, it takes that to begin another segment.
        let mut freed = self.drop_before(needed)?;
        if is_full && needed >= end {
            // Nothing of the active segment is needed: close it, so that it can go.
            self.log.roll().map_err(|error| self.trouble_of(&error))?;
            freed += self.drop_before(needed)?;
        }
        if freed > 0 {
            tracing::debug!(freed, needed, "dropped segments that no sink needs");
        }
        self.status.bytes.store(self.log.bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn drop_before(&mut self, sequence: u64) -> Result<u64, Trouble> {
        let dropped = self.log.drop_before(sequence);
        dropped.map_err(|error| self.trouble_of(&error))
    }

    fn keep_house(&mut self) {
        let was_in_trouble = self.trouble.is_some();
        let wanted = self.trouble.as_ref().map_or(0, |trouble| trouble.wanted);
        let done = self
            .recover()
            .and_then(|()| self.free(false))
            .and_then(|()| self.make_room(wanted));
        match done {
            Ok(()) if was_in_trouble => {
                self.trouble = None;
                self.await_sinks(false);
                self.health.clear(SUBJECT);
                tracing::info!("the commit log takes entries again");
            }
            Ok(()) => {}
            Err(trouble) => {
                self.health.raise(SUBJECT, trouble.code, trouble.message.clone());
                self.trouble = Some(trouble);
            }
        }
    }

    fn tell_of_recovery(&self, report: &RecoveryReport) {
        self.status.bytes.store(self.log.bytes(), Ordering::Relaxed);
        if report.plan.is_clean() {
            tracing::debug!("{report}");
        } else {
            tracing::warn!("the commit log was repaired: {report}");
        }
        for lost in report.plan.newly_lost() {
            let what = format!(
                "entries {} to {} of the commit log are lost: {}",
                lost.sequences.start,
                lost.sequences.end - 1,
                lost.reason
            );
            self.health
                .raise_for(LOSS_SHOWN_FOR, "log damage", error_code::LOG_DAMAGED, what);
        }
    }
}

fn bytes_of(group: &[Submission]) -> u64 {
    group.iter().map(|submission| submission.entry.bytes()).sum()
}

fn answer(group: Vec<Submission>, verdict: &Verdict) {
    for submission in group {
        // A session that is gone asks no more.
        let _ = submission.verdict.send(verdict.clone());
    }
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;

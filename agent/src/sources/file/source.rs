//! The loop: what happened, where files are, which are new, which are read, what is due, how long to wait.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::clock::Clock;

use super::adopt::Adopting;
use super::archives::Archives;
use super::backlog::UNREAD_BYTES_MAX;
use super::claim::Waiting;
use super::config::{FileSourceConfig, LINE_BYTES_MAX_LEAST, LINE_BYTES_MAX_LIMIT};
use super::displaced::Leaving;
use super::error::FileSourceError;
use super::files::{FileId, Files};
use super::follow::Skipped;
use super::glob::Globs;
use super::outbox::Outbox;
use super::reader::Reader;
use super::status::FileSourceStatus;
use super::watch::{Waker, Watcher};
use crate::checkpoint::Checkpoints;
use crate::ring::{SourceHandle, Stopped};
use crate::spool::Spool;

/// Reads of a busy file are not closer together than this, so that a program which writes line by line does not make
/// a block of each. What comes after a silence is read at once.
const PACE: Duration = Duration::from_millis(1);
/// Read buffers are given back after so long without anything to read.
const BUFFERS_KEPT: Duration = Duration::from_secs(1);
/// A file that was not read for this long is closed; it would keep its file system from being unmounted.
const IDLE_CLOSE: Duration = Duration::from_secs(60);
/// While the spool reads what an earlier process left, which says from where files are read on: milliseconds.
const SPOOL_PAUSE: Duration = Duration::from_millis(5);

/// A file source: follows what its globs include, until the ring is stopped.
pub struct FileSource {
    pub(super) config: FileSourceConfig,
    pub(super) globs: Globs,
    /// Files and directories of the agent itself, as they really are.
    pub(super) own_paths: Vec<PathBuf>,
    pub(super) ring: SourceHandle,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watcher: Watcher,
    pub(super) files: Files,
    pub(super) status: FileSourceStatus,
    pub(super) outbox: Outbox,
    /// Paths that something happened to, and the name of the log that a rename carried there.
    pub(super) changed: HashMap<PathBuf, Option<PathBuf>>,
    /// Everything must be looked at.
    pub(super) rescan: bool,
    pub(super) skipped: HashMap<PathBuf, Skipped>,
    /// Files that are not at their path any more.
    pub(super) displaced: Vec<(FileId, PathBuf)>,
    /// Logs that were rotated: what lies beside them is looked at.
    pub(super) leaving: Vec<Leaving>,
    /// What was at a path last, until a stream is made of what is there now.
    pub(super) left: HashMap<PathBuf, Leaving>,
    /// First halves of renames, by cookie: the name of the log that was moved.
    pub(super) renames: HashMap<u32, PathBuf>,
    /// Files without a stream that may have content.
    pub(super) newcomers: VecDeque<FileId>,
    /// Streams of an earlier process.
    pub(super) waiting: Waiting,
    /// Streams of an agent whose state is lost.
    pub(super) adopting: Adopting,
    /// Compressed files, and streams that may go on in one.
    pub(super) archives: Archives,
    /// When new streams are tried again after a failure.
    pub(super) intake_at: Duration,
    pub(super) reader: Reader,
    pub(super) queue: VecDeque<FileId>,
    /// Files with a backlog, in turn.
    pub(super) backlogs: VecDeque<FileId>,
    /// Turns of other files since the last of a backlog.
    pub(super) turns_since_backlog: usize,
    /// What a log may be behind before its newest lines are read first.
    pub(super) unread_bytes_max: u64,
    pub(super) timers: BTreeSet<(Duration, FileId)>,
    pub(super) started: bool,
    rescan_at: Duration,
    pub(super) sweep_at: Duration,
    pub(super) credit_pause: Option<Duration>,
    /// As `credit_pause`, of the backlog alone.
    pub(super) backlog_pause: Option<Duration>,
    /// As `credit_pause`, of what goes to the spool.
    pub(super) rescue_pause: Option<Duration>,
    /// Where an earlier process may have left something of the files, and this one may.
    pub(super) spool: Option<Spool>,
    pub(super) turn: u64,
    /// When something was read last.
    pub(super) read_at: Duration,
    /// Size of each file system on which deleted files were held, by device.
    pub(super) file_system_bytes: HashMap<u64, u64>,
}

impl FileSource {
    /// A source that begins when it is run. `own_paths` are the agent's own files and directories, which it never
    /// reads, whatever is included.
    ///
    /// # Errors
    /// A glob or setting that can't be used, or no descriptor left.
    pub fn new(
        config: FileSourceConfig,
        ring: SourceHandle,
        checkpoints: Arc<Checkpoints>,
        clock: Arc<dyn Clock>,
        own_paths: &[PathBuf],
    ) -> Result<Self, FileSourceError> {
        check(&config)?;
        Ok(Self {
            globs: Globs::new(&config.include, &config.exclude)?,
            own_paths: own_paths
                .iter()
                .map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()))
                .collect(),
            ring,
            checkpoints,
            clock,
            watcher: Watcher::new().map_err(FileSourceError::Wait)?,
            files: Files::default(),
            status: FileSourceStatus::default(),
            outbox: Outbox::default(),
            changed: HashMap::new(),
            rescan: true,
            skipped: HashMap::new(),
            displaced: Vec::new(),
            leaving: Vec::new(),
            left: HashMap::new(),
            renames: HashMap::new(),
            newcomers: VecDeque::new(),
            waiting: Waiting::default(),
            adopting: Adopting::default(),
            archives: Archives::default(),
            intake_at: Duration::ZERO,
            reader: Reader::new(config.line_bytes_max.as_usize()),
            queue: VecDeque::new(),
            backlogs: VecDeque::new(),
            turns_since_backlog: 0,
            unread_bytes_max: UNREAD_BYTES_MAX,
            timers: BTreeSet::new(),
            started: false,
            rescan_at: Duration::ZERO,
            sweep_at: Duration::ZERO,
            credit_pause: None,
            backlog_pause: None,
            rescue_pause: None,
            spool: None,
            turn: 0,
            read_at: Duration::ZERO,
            file_system_bytes: HashMap::new(),
            config,
        })
    }

    /// The shared view of what it does.
    #[must_use]
    pub fn status(&self) -> FileSourceStatus {
        self.status.clone()
    }

    /// Wakes it, so that it notices at once that the ring was stopped.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.watcher.waker()
    }

    /// Runs until the ring is stopped.
    pub fn run(mut self) {
        loop {
            let begun = self.clock.monotonic();
            let Ok(wait) = self.step() else {
                return self.rescue_at_stop();
            };
            if wait.is_zero() {
                continue;
            }
            self.watcher.wait(wait, false);
            let since = self.clock.monotonic().saturating_sub(begun);
            if since < PACE && !self.ring.stopped() {
                self.watcher.wait(PACE - since, true);
            }
        }
    }

    /// Does what is to be done now, and says how long nothing will be unless something happens.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn step(&mut self) -> Result<Duration, Stopped> {
        if self.ring.stopped() {
            return Err(Stopped);
        }
        if !self.started && self.spool.as_ref().is_some_and(Spool::is_reading) {
            return Ok(SPOOL_PAUSE);
        }
        self.take_changes();
        let now = self.clock.monotonic();
        if self.rescan || now >= self.rescan_at {
            self.rescan = false;
            self.rescan_at = now + self.config.rescan_interval.get();
            self.files.close_idle(now.saturating_sub(IDLE_CLOSE));
            self.scan();
            if !std::mem::replace(&mut self.started, true) {
                self.claim_streams();
            }
            self.retry_waiting(now);
            self.retry_archives();
            self.endanger_gone();
        }
        self.look_at_changed();
        self.settle_displaced();
        let adopting = self.adopt_streams(now);
        self.take_in(now);
        self.fire_timers(now);
        self.sweep_held(now);
        let inspecting = self.inspect();
        let rescuing = self.rescue(now);
        let busy = self.serve() || inspecting || adopting || rescuing;
        Ok(if busy { Duration::ZERO } else { self.time_to_wait() })
    }

    fn time_to_wait(&mut self) -> Duration {
        let mut until = self.rescan_at;
        until = self.timers.first().map_or(until, |(at, _)| until.min(*at));
        if self.files.gone().next().is_some() {
            until = until.min(self.sweep_at);
        }
        let now = self.clock.monotonic();
        if let Some(wait) = self.adopting.wait() {
            until = until.min(now + wait);
        } else if !self.newcomers.is_empty() {
            until = until.min(self.intake_at);
        }
        let wait = until.saturating_sub(now);
        let pauses = [self.credit_pause, self.backlog_pause, self.rescue_pause];
        match pauses.into_iter().flatten().min() {
            Some(pause) => wait.min(pause),
            None => {
                if now.saturating_sub(self.read_at) >= BUFFERS_KEPT {
                    self.reader.idle();
                }
                // The time may pass between the two looks at the clock; 0 would mean that there is work.
                wait.max(Duration::from_nanos(1))
            }
        }
    }

    /// Memory of the read buffers that no block holds.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.reader.memory_bytes()
    }

    /// As after so many other files were read that every descriptor was given to another.
    #[cfg(test)]
    pub(super) fn close_all(&mut self) {
        while self.files.close_one() {}
    }

    /// As when the kernel's queue overflowed and the overflow was not told either.
    #[cfg(test)]
    pub(super) fn forget_changes(&mut self) {
        self.watcher.drain(|_| {});
    }

    /// Is it one of the agent's own?
    pub(super) fn is_own(&self, path: &Path) -> bool {
        self.own_paths.iter().any(|own| path.starts_with(own))
    }
}

/// Can a source be made of it?
///
/// # Errors
/// A glob or setting that can't be used.
pub fn check_config(config: &FileSourceConfig) -> Result<(), FileSourceError> {
    check(config)?;
    Globs::new(&config.include, &config.exclude).map(drop)
}

/// What the types do not say.
fn check(config: &FileSourceConfig) -> Result<(), FileSourceError> {
    let setting = |setting, found: &dyn std::fmt::Display, allowed: String| {
        Err(FileSourceError::Setting {
            setting,
            found: found.to_string(),
            allowed,
        })
    };
    let limit = config.line_bytes_max;
    if limit < LINE_BYTES_MAX_LEAST || limit > LINE_BYTES_MAX_LIMIT {
        let allowed = format!("{LINE_BYTES_MAX_LEAST} to {LINE_BYTES_MAX_LIMIT}");
        return setting("line_bytes_max", &limit, allowed);
    }
    for (name, number) in [
        ("open_files_max", config.open_files_max),
        ("files_max", config.files_max),
    ] {
        if number == 0 {
            return setting(name, &number, "at least 1".to_owned());
        }
    }
    if config.rescan_interval.get() < Duration::from_millis(100) {
        return setting(
            "rescan_interval",
            &config.rescan_interval,
            "at least 100ms".to_owned(),
        );
    }
    Ok(())
}

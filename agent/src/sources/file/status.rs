//! What a file source says about itself: for `edgelogger-agent status`, metrics and heartbeats.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::stream::StreamId;
use parking_lot::Mutex;

use super::files::{FileId, Tailer, Whereabouts};
use super::skip::SkipReason;

/// What a followed file is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It holds nothing yet, or its stream is not made yet.
    Waiting,
    /// Read as it grows.
    Following,
    /// Renamed by a rotation; read to its end.
    Rotated,
    /// Deleted; held open and read to its end.
    Deleted,
}

/// One followed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// The path by which it was included: the stream's name.
    pub name: PathBuf,
    /// Where it is now.
    pub path: PathBuf,
    /// Its stream; what of it is acknowledged the checkpoints know.
    pub stream_id: Option<StreamId>,
    /// What it is doing.
    pub state: FileState,
    /// Every position below was read, but for the backlog.
    pub read: u64,
    /// Bytes below that are read later, because fresh lines go first.
    pub backlog: u64,
    /// Its length as last seen.
    pub size: u64,
    /// A descriptor is held.
    pub open: bool,
    /// What went wrong last; it is tried again.
    pub error: Option<String>,
}

/// What an agent whose state is new waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptionWait {
    /// The collector's answer, at most until then (monotonic clock).
    Answer(Duration),
    /// So many streams that it has are compared with the files.
    Comparison(usize),
}

/// Sums since the start of the process, and what holds the source up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSourceTotals {
    /// Positions handed on with records.
    pub bytes_read: u64,
    /// Records handed on.
    pub records_read: u64,
    /// Positions left out by `start` or `ignore_older`.
    pub bytes_skipped: u64,
    /// Positions that could not be read any more.
    pub bytes_lost: u64,
    /// Descriptors of files.
    pub files_open: usize,
    /// Directories that are watched, and that could not be.
    pub directories_watched: usize,
    /// Their changes are noticed at rescans only.
    pub directories_unwatched: usize,
    /// Times that changes came faster than they were taken, so that everything was looked at.
    pub overflows: u64,
    /// The ring has no credit: the collector is slow or away.
    pub waits_for_credit: bool,
    /// Why new files are not read.
    pub trouble: Option<String>,
    /// The state of the agent is new: what is awaited before new streams are made.
    pub adoption: Option<AdoptionWait>,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<FileId, FileStatus>,
    skipped: BTreeMap<PathBuf, SkipReason>,
    totals: FileSourceTotals,
}

/// The shared view of a running source. Cheap to clone; one lock a block.
#[derive(Debug, Clone, Default)]
pub struct FileSourceStatus(Arc<Mutex<Inner>>);

impl FileSourceStatus {
    /// The followed files, by name.
    #[must_use]
    pub fn files(&self) -> Vec<FileStatus> {
        let mut files: Vec<_> = self.0.lock().files.values().cloned().collect();
        files.sort_by(|one, other| (&one.name, &one.path).cmp(&(&other.name, &other.path)));
        files
    }

    /// Shows each followed file, in no order; keep it short, the source waits.
    pub fn each_file(&self, look: impl FnMut(&FileStatus)) {
        self.0.lock().files.values().for_each(look);
    }

    /// The followed files that come first by this order, at most so many.
    #[must_use]
    pub fn first_files(
        &self,
        count: usize,
        order: impl Fn(&FileStatus, &FileStatus) -> Ordering,
    ) -> Vec<FileStatus> {
        let inner = self.0.lock();
        let mut files: Vec<&FileStatus> = inner.files.values().collect();
        files.sort_unstable_by(|one, other| order(one, other));
        files.into_iter().take(count).cloned().collect()
    }

    /// Shows each path that is included and not read, in order, and why; keep it short, the source waits.
    pub fn each_skipped(&self, mut look: impl FnMut(&Path, &SkipReason)) {
        let inner = self.0.lock();
        inner.skipped.iter().for_each(|(path, reason)| look(path, reason));
    }

    /// Number of paths that are included and not read.
    #[must_use]
    pub fn skipped_count(&self) -> usize {
        self.0.lock().skipped.len()
    }

    /// The first of these paths, and why.
    #[must_use]
    pub fn skipped(&self, count: usize) -> Vec<(PathBuf, SkipReason)> {
        self.0
            .lock()
            .skipped
            .iter()
            .take(count)
            .map(|(path, reason)| (path.clone(), reason.clone()))
            .collect()
    }

    /// Sums and troubles.
    #[must_use]
    pub fn totals(&self) -> FileSourceTotals {
        self.0.lock().totals.clone()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut FileSourceTotals)) {
        change(&mut self.0.lock().totals);
    }

    /// After a turn: what changes all the time, in place.
    pub(super) fn read_on(&self, id: FileId, file: &Tailer, records: u64, bytes: u64) {
        let mut inner = self.0.lock();
        inner.totals.records_read += records;
        inner.totals.bytes_read += bytes;
        match inner.files.get_mut(&id) {
            Some(status) if status.error.is_none() && file.error.is_none() && status.stream_id.is_some() => {
                status.read = file.place.as_ref().map_or(0, |place| place.offset);
                status.size = file.size;
                status.backlog = file.backlog.bytes();
                status.open = file.file.is_some();
            }
            _ => {
                inner.files.insert(id, describe(file));
            }
        }
    }

    pub(super) fn update(&self, id: FileId, file: &Tailer) {
        self.0.lock().files.insert(id, describe(file));
    }

    pub(super) fn remove(&self, id: FileId) {
        self.0.lock().files.remove(&id);
    }

    pub(super) fn skip(&self, path: &Path, reason: SkipReason) {
        self.0.lock().skipped.insert(path.to_owned(), reason);
    }

    pub(super) fn unskip(&self, path: &Path) {
        self.0.lock().skipped.remove(path);
    }
}

fn describe(file: &Tailer) -> FileStatus {
    FileStatus {
        name: file.name.clone(),
        path: file.path.clone(),
        stream_id: file.place.as_ref().map(|place| place.stream_id),
        state: match file.whereabouts {
            Whereabouts::Gone { .. } => FileState::Deleted,
            Whereabouts::Rotated => FileState::Rotated,
            Whereabouts::Included if file.place.is_none() => FileState::Waiting,
            Whereabouts::Included => FileState::Following,
        },
        read: file.place.as_ref().map_or(0, |place| place.offset),
        backlog: file.backlog.bytes(),
        size: file.size,
        open: file.file.is_some(),
        error: file.error.clone(),
    }
}

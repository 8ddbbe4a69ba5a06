//! The embedded store: rows in memory, older ones in Parquet files, one manifest.
//!
//! | file | idea |
//! | --- | --- |
//! | `open.rs` | the manifest, what it names and what it does not |
//! | `apply.rs` | entries in |
//! | `write.rs` | a flush: rows to files, one manifest |
//! | `maintain.rs` | files in the place of others: merging |
//! | `expire.rs` | files that are kept no longer |
//! | `delete.rs` | rows that somebody wants to be gone |
//! | `leave.rs` | rows that go, and what is known of them |
//! | `aside.rs` | questions and their answers; files that turn out damaged or missing |
//! | `account.rs` | what was in them |
//! | `leaving.rs` | when files go that no manifest names any more |
//! | `status.rs` | what the store says of itself |
//!
//! | lock | guards | held for |
//! | --- | --- | --- |
//! | `maintaining` | which files are merged or dropped | one merge, one look at what is due |
//! | `flushing` | the generation being written, and the manifest | one flush; of a merge only its manifest |
//! | `writer` | cursor, streams, and the order of entries | one `apply` |
//! | `visible` | what queries see | moments |
//! | `deletions` | the journal of deletions | one write of it |
//!
//! They are taken in this order. A flush holds only its own while it writes, so entries are applied and queries answered
//! meanwhile; when memory is full too, `apply` flushes itself and so waits for the disk. A merge holds none that any of
//! them needs while it reads and writes.

mod account;
mod apply;
mod aside;
mod delete;
mod expire;
mod leave;
mod leaving;
mod maintain;
mod open;
mod status;
mod write;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgelogger_common::disk::DiskLock;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::LogEntry;
use parking_lot::Mutex;

use crate::arrivals::Arrivals;
use crate::aside::Aside;
use crate::deletion::{DeleteError, DeletePlan, DeleteRequest, DeleteScope, Deletion, Journal, Progress};
use crate::entry::EntryTools;
use crate::error::{QueryError, StoreError};
use crate::flush::Frozen;
use crate::fold::Folded;
use crate::latest::{Latest, LatestPage, MetricName};
use crate::log_gap::{LogGap, LogGapKind};
use crate::options::StoreOptions;
use crate::query::{
    ContextQuery, Engine, Fill, FindPatterns, LiveTable, LogContext, LogPage, LogQuery, Patterns, RangeQuery,
    RangeResult, SqlQuery, SqlResult, TableInfo, VolumeCell, VolumeQuery,
};
use crate::retention::Retention;
use crate::series::SeriesFilter;
use crate::snapshot::{Snapshot, Visible};
use crate::store::{Answer, Answered, Store, StoreStatus};
use crate::streams::{StreamState, Streams};

pub use expire::Expired;
use leaving::LeavingFiles;
pub use maintain::Merged;

/// Where Parquet files lie in the store's directory.
pub(crate) const FILES_DIR: &str = "files";
/// The file whose lock says that a process has the store open.
pub(crate) const LOCK_NAME: &str = "lock";

/// What one entry came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Rows that are new.
    pub rows: u64,
    /// Records that were applied before.
    pub duplicates: u64,
    /// Rows that are new and share positions with one that was applied before.
    pub overlaps: u64,
    /// Enough is in memory: the caller flushes, best on a thread of its own.
    pub flush_due: bool,
}

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Rows written to files.
    pub rows: u64,
    /// New files.
    pub files: u64,
    /// Their length, in bytes.
    pub bytes: u64,
}

/// The embedded store. One process has it open at a time.
pub struct EmbeddedStore {
    options: StoreOptions,
    /// What of the options may change while the store is open.
    keeping: Mutex<Keeping>,
    files_dir: PathBuf,
    writer: Mutex<Writer>,
    visible: Mutex<Visible>,
    flushing: Mutex<Flushing>,
    deletions: Mutex<Journal>,
    maintaining: Mutex<()>,
    published: Published,
    durable_cursor: AtomicU64,
    /// The cursor of the manifest before: the log keeps what that one does not have.
    held_cursor: AtomicU64,
    /// Why nothing is applied and nothing written: there is no manifest that can be used.
    stopped: Option<Arc<StoreError>>,
    problems: Mutex<Problems>,
    engine: Engine,
    arrivals: Arc<Arrivals>,
    latest: Arc<Latest>,
    _lock: DiskLock,
}

/// How long what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// As [`StoreOptions::retention`].
    pub retention: Retention,
    /// As [`StoreOptions::detail`].
    pub detail: Duration,
}

struct Writer {
    cursor: u64,
    streams: Streams,
    log_gaps: Arc<Vec<LogGap>>,
    tools: EntryTools,
    /// When it was last looked for streams to fold.
    folded_at: Option<Duration>,
    /// Something was applied that no frozen generation and no manifest has.
    changed_since: Option<Duration>,
    duplicates: u64,
}

/// Counts of the writer for those who only look: they must not wait for an entry that is being applied.
#[derive(Default)]
struct Published {
    cursor: AtomicU64,
    streams: AtomicU64,
    duplicates: AtomicU64,
    folded: AtomicU64,
    /// Rows applied since the process started.
    rows: AtomicU64,
}

/// Entries of the log that the store steps over.
#[derive(Debug)]
pub struct Missed<'a> {
    /// Their sequences.
    pub entries: Range<u64>,
    /// Why.
    pub kind: LogGapKind,
    /// What happened, in words.
    pub what: &'a str,
    /// The entry, where it was read and can't be applied, and the code of the reason.
    pub dead_letter: Option<(&'a LogEntry, &'a str)>,
    /// Records in them, 0 where nobody knows.
    pub records: u64,
}

struct Flushing {
    next_file: u64,
    frozen: Option<Frozen>,
    in_force: InForce,
    leaving: LeavingFiles,
}

/// What the manifest in force says beside its files: maintenance changes those alone.
struct InForce {
    cursor: u64,
    streams: Streams,
    log_gaps: Arc<Vec<LogGap>>,
    folded: Folded,
    deletions: Vec<Progress>,
}

#[derive(Default)]
struct Problems {
    opening: Vec<String>,
    flush: Option<String>,
    merge: Option<String>,
    retention: Option<String>,
    deletion: Option<String>,
    aside: Option<String>,
    last_flush_ns: Option<i64>,
}

impl EmbeddedStore {
    /// The next entry of the commit log to apply.
    pub fn cursor(&self) -> u64 {
        self.published.cursor.load(Ordering::Acquire)
    }

    /// Entries below it are in files; the log may drop them.
    pub fn durable_cursor(&self) -> u64 {
        self.durable_cursor.load(Ordering::Acquire)
    }

    /// Entries below it are also in the manifest before; the log keeps the others while it has room, so that a damaged
    /// manifest costs nothing.
    pub fn held_cursor(&self) -> u64 {
        self.held_cursor.load(Ordering::Acquire)
    }

    /// Does the store stand still, because there is no manifest that can be used?
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    fn check_running(&self) -> Result<(), StoreError> {
        match &self.stopped {
            Some(why) => Err(StoreError::Stopped(Arc::clone(why))),
            None => Ok(()),
        }
    }
    /// Entries of the log that never came here, oldest first.
    pub fn log_gaps(&self) -> Arc<Vec<LogGap>> {
        Arc::clone(&self.writer.lock().log_gaps)
    }

    /// Reads the newest samples of what is stored, so that [`Store::latest`] knows them. Once, after it was opened; until
    /// then answers say that they are not complete.
    ///
    /// # Errors
    /// A file can't be read.
    pub async fn fill_latest(&self) -> Result<(), QueryError> {
        let filled = self.answer(Fill(Arc::clone(&self.latest))).await?;
        self.latest.filled(filled.incomplete);
        Ok(())
    }

    /// Adds a table that is not stored here. One of the same name is replaced.
    pub fn add_table(&self, table: Arc<dyn LiveTable>) {
        self.engine.add(table);
    }

    /// All rows at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.visible.lock().snapshot()
    }

    /// Every stream as it is now. For the ledger.
    pub fn streams(&self) -> Vec<(StreamId, Arc<StreamState>)> {
        self.writer
            .lock()
            .streams
            .iter()
            .map(|(id, state)| (id, Arc::clone(state)))
            .collect()
    }

    /// Files that can't be used, and what was in them.
    pub fn aside(&self) -> Arc<Aside> {
        Arc::clone(&self.visible.lock().aside)
    }

    /// Rows applied since the process started: how busy it is.
    pub fn rows_applied(&self) -> u64 {
        self.published.rows.load(Ordering::Relaxed)
    }

    /// Holds the lock that an entry is applied under.
    #[cfg(test)]
    pub(crate) fn while_applying<T>(&self, look: impl FnOnce(&Self) -> T) -> T {
        let _applying = self.writer.lock();
        look(self)
    }

    /// Some of the streams as they are now, in the order in which they are asked for.
    pub fn streams_of(&self, asked: &[(Arc<str>, StreamId)]) -> Vec<Option<Arc<StreamState>>> {
        let writer = self.writer.lock();
        let state = |(machine_id, id): &(Arc<str>, StreamId)| writer.streams.get(machine_id, *id).cloned();
        asked.iter().map(state).collect()
    }
}

impl EmbeddedStore {
    /// How long what is kept from now on.
    pub fn keep(&self, keeping: Keeping) {
        *self.keeping.lock() = keeping;
    }

    /// Log records as they are applied: they can be queried before they come here. For one watcher.
    pub fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }
}

impl Store for EmbeddedStore {
    fn query(&self, query: SqlQuery) -> Answer<'_, Answered<SqlResult>> {
        Box::pin(self.answer(query))
    }

    fn range(&self, query: RangeQuery) -> Answer<'_, Answered<RangeResult>> {
        Box::pin(self.answer(query))
    }

    fn latest(
        &self,
        filter: &SeriesFilter,
        since_ns: i64,
        limit: usize,
    ) -> Result<Answered<LatestPage>, QueryError> {
        filter.check()?;
        Ok(Answered {
            answer: self.latest.page(filter, since_ns, limit),
            incomplete: self.latest.missing(),
        })
    }

    fn metric_names(
        &self,
        filter: &SeriesFilter,
        since_ns: i64,
    ) -> Result<Answered<(Vec<MetricName>, bool)>, QueryError> {
        filter.check()?;
        Ok(Answered {
            answer: self.latest.names(filter, since_ns),
            incomplete: self.latest.missing(),
        })
    }

    fn tables(&self) -> Vec<TableInfo> {
        self.engine.tables()
    }

    fn context(&self, query: ContextQuery) -> Answer<'_, Answered<Option<LogContext>>> {
        Box::pin(self.answer(query))
    }

    fn volume(&self, query: VolumeQuery) -> Answer<'_, Answered<Vec<VolumeCell>>> {
        Box::pin(self.answer(query))
    }

    fn patterns(&self, query: LogQuery) -> Answer<'_, Answered<Patterns>> {
        Box::pin(self.answer(FindPatterns(query)))
    }

    fn logs(&self, query: LogQuery) -> Answer<'_, Answered<LogPage>> {
        Box::pin(self.answer(query))
    }

    fn plan_deletion(&self, scope: DeleteScope, time_max: Duration) -> Answer<'_, DeletePlan> {
        Box::pin(self.plan_of_deletion(scope, time_max))
    }

    fn delete(&self, request: DeleteRequest) -> Result<Deletion, DeleteError> {
        self.accept_deletion(request)
    }

    fn deletions(&self) -> Result<Vec<Deletion>, QueryError> {
        Ok(self.all_deletions())
    }

    fn status(&self) -> Answer<'_, StoreStatus> {
        Box::pin(async { Ok::<_, QueryError>(self.current_status()) })
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("dir", &self.options.dir)
            .finish_non_exhaustive()
    }
}

//! What a store is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::batch::BatchLimits;
use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::disk::{Disk, OsDisk};
use edgelogger_common::recognition::RecognizerOptions;

use crate::retention::Retention;

/// zstd level of files that are written again, at least. They stay, and are written when there is nothing else to do: of
/// log lines level 6 leaves 7 % less than level 3, for three times the work.
const REWRITE_LEVEL_MIN: i32 = 6;

/// What a store is opened with.
#[derive(Clone)]
pub struct StoreOptions {
    /// Its directory; it is created, and belongs to one process at a time.
    pub dir: PathBuf,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Id of the commit log that the cursor counts in. When it changes, the cursor begins at 0 again (what is applied
    /// stays applied) and the status says so.
    pub log_id: Option<[u8; 16]>,
    /// Bound of all rows that are not in a file, in bytes. A flush is due at half of it, because rows come in while
    /// the other half is being written.
    pub memory_bytes: u64,
    /// A flush is due at this many rows in memory.
    pub flush_rows: u64,
    /// A flush is due when the oldest row in memory (or cursor not on disk) is this old.
    pub flush_age: Duration,
    /// Closed, whole streams of which nothing came in for this long are folded into summaries.
    pub detail: Duration,
    /// What is kept how long.
    pub retention: Retention,
    /// zstd level of Parquet pages, 1 to 22.
    pub compression_level: i32,
    /// Rows in a Parquet row group, at most.
    pub row_group_rows: usize,
    /// What a batch of the log may be.
    pub batch_limits: BatchLimits,
    /// How times in lines are read.
    pub recognizer: RecognizerOptions,
    /// Memory of all queries together, in bytes.
    pub query_memory_bytes: u64,
    /// Queries that run at once; others wait within their time limit.
    pub queries_max: usize,
    /// Series whose newest sample is kept in memory.
    pub latest_series_max: usize,
    /// Threads that queries run on. They are not the caller's, so a heavy query does not stop it.
    pub query_threads: usize,
}

impl StoreOptions {
    /// The defaults, for this directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            disk: Arc::new(OsDisk),
            clock: Arc::new(SystemClock::new()),
            log_id: None,
            memory_bytes: 64 << 20,
            flush_rows: 500_000,
            flush_age: Duration::from_secs(60),
            detail: Duration::from_secs(7 * 86_400),
            retention: Retention::default(),
            compression_level: 1,
            row_group_rows: 128 << 10,
            batch_limits: BatchLimits::default(),
            recognizer: RecognizerOptions::default(),
            query_memory_bytes: 256 << 20,
            queries_max: 4,
            query_threads: 2,
            latest_series_max: 100_000,
        }
    }

    /// zstd level of files that are written again.
    pub(crate) fn rewrite_level(&self) -> i32 {
        self.compression_level.max(REWRITE_LEVEL_MIN)
    }

    /// Bytes in the active half at which a flush is due.
    pub(crate) const fn flush_bytes(&self) -> u64 {
        self.memory_bytes / 2
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

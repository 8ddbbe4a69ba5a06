//! The embedded store: a transactional sink of the commit log that can be queried with SQL.
//!
//! ```text
//! log entry ─► blocks ─► what of them is new ─► Arrow rows ─► active ─► frozen ─► Parquet files
//!               streams.rs                      rows/         recent.rs          parquet_file.rs
//!                                                               │                   │
//!                                                               └── snapshot.rs ────┴─► query/
//! ```
//!
//! | module | idea |
//! | --- | --- |
//! | [`embedded`] | the store: open, apply, flush, maintain |
//! | [`rows`] | columns of a block to Arrow columns, without a string per row |
//! | [`streams`] | which positions of which stream are applied; what was declared lost |
//! | [`recent`] | rows that are not in a file yet |
//! | [`order`], [`map_keys`], [`gather`] | the order of rows in a file, and picking them out of many batches |
//! | [`parquet_file`] | writing one file |
//! | [`parquet_read`] | reading one, batch by batch, outside of queries |
//! | [`compact`] | merging small files |
//! | [`retention`], [`gone`] | which files go; what was in them |
//! | [`deletion`] | rows go because somebody says so; the journal of that |
//! | [`aside`] | files that can't be used, and what was in them |
//! | [`manifest`] | the one file that makes a flush happen: files, cursor, applied ranges |
//! | [`inspect`] | the files of a store that no process has open |
//! | [`series`], [`latest`] | which samples belong together; the newest of each series, in memory |
//! | [`snapshot`] | what one query sees |
//! | [`arrivals`] | what is applied just now, for live tails |
//! | [`query`] | SQL and log search over a snapshot |
//!
//! # Nothing twice, nothing lost
//! - Rows, applied ranges and the cursor change together: in memory under one lock, on disk with the rename of one
//!   manifest. A crash goes back to the last manifest; the log is replayed from its cursor.
//! - A Parquet file counts only when a manifest names it; others are removed when the store opens.
//! - A row moves from memory to a file in one step of the snapshot: a query sees it exactly once.
//! - An entry that can't be understood changes nothing. [`StoreError::remedy`] says what the caller does about it.
//!
//! # Limits
//! Rows in memory are bounded by [`StoreOptions::memory_bytes`], queries by [`StoreOptions::query_memory_bytes`],
//! [`StoreOptions::queries_max`] and [`SqlLimits`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod applied;
mod arrivals;
mod aside;
mod columns;
mod compact;
mod deletion;
mod embedded;
mod entry;
mod error;
mod flush;
mod fold;
mod gather;
mod gone;
mod inspect;
mod latest;
mod live_file;
mod log_gap;
mod manifest;
mod map_keys;
mod options;
mod order;
mod parquet_file;
mod parquet_read;
mod partition;
pub mod query;
mod recent;
mod retention;
mod rows;
pub mod schema;
mod series;
mod snapshot;
mod store;
mod streams;
#[cfg(test)]
mod tests;
mod write_off;

pub use arrivals::{Arrivals, Arrived};
pub use aside::{Aside, AsideFile, AsideStream};
pub use columns::Words;
pub use deletion::{
    DELETIONS_MAX, DeleteError, DeletePart, DeletePlan, DeleteRequest, DeleteScope, Deletion, PLAN_PARTS_MAX,
    RUNNING_MAX,
};
pub use embedded::{Applied, EmbeddedStore, Expired, Flushed, Keeping, Merged, Missed};
pub use error::{QueryError, Remedy, StoreError};
pub use fold::{FoldedContent, Summary};
pub use gone::Gone;
pub use inspect::{AsideListing, FileListing, RowsQuery, StoreFiles};
pub use latest::{LatestPage, LatestSample, MetricName};
pub use log_gap::{LogGap, LogGapKind};
pub use manifest::FileEntry;
pub use options::StoreOptions;
pub use query::{
    Around, ContextQuery, LogContext, LogMatcher, LogPage, LogQuery, Order, Pattern, Patterns, SqlLimits,
    SqlResult, VolumeCell, VolumeQuery,
};
pub use retention::{Retention, TableRetention};
pub use schema::Table;
pub use series::{LABEL_FILTERS_MAX, Series, SeriesFilter};
pub use store::{Answer, Answered, MissingFile, Store, StoreStatus};
pub use streams::{CHECK_SPAN, ContentCheck, GAPS_MAX, Gap, ReceiptTotal, StreamEndState, StreamState};
pub use write_off::{WHY_BYTES_MAX, WriteOff, WriteOffReason};

//! SQL and log search over a snapshot of the store.
//!
//! | file | idea |
//! | --- | --- |
//! | `engine.rs` | threads, memory and admission of queries; whatever is asked goes through it as a [`Question`] |
//! | `session.rs` | a DataFusion session that knows the store's tables and nothing else |
//! | `guard.rs` | one read-only statement, or an error |
//! | `table.rs` | a snapshot's rows as a table |
//! | `prune.rs`, `label_pages.rs` | which files a query need not open, which pages it need not read |
//! | `reader.rs` | reading Parquet files through the store's own file system |
//! | `live_table.rs`, `describe.rs` | tables of what others know; what can be asked, in words |
//! | `sql.rs` | SQL text to rows, within limits |
//! | `weight.rs` | rows made large out of nothing are refused |
//! | `yielding.rs` | queries that can be stopped |
//! | `range.rs`, `buckets.rs`, `rate.rs` | a metric over time |
//! | `fill.rs` | the newest samples, when the store opens |
//! | `logs.rs`, `cursor.rs` | pages of log records, their neighbours and numbers |
//! | `around.rs`, `runs.rs` | the neighbours of all records of a page |
//! | `filter.rs` | which records a search is about |
//! | `patterns.rs` | the most frequent shapes of records |
//!
//! # What a query cannot do
//! Change anything, read a file or a URL (there is no file system and no catalog behind the session), set an option,
//! take more memory, time, rows or bytes than its limits, or stop the caller: it runs on threads of its own.

mod around;
mod buckets;
mod cursor;
mod describe;
mod engine;
mod fill;
mod filter;
mod guard;
mod label_pages;
mod live_table;
mod logs;
mod patterns;
mod prune;
mod range;
mod rate;
mod reader;
mod runs;
mod session;
mod sql;
mod table;
mod weight;
mod windows;
mod yielding;

use std::future::Future;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

pub use describe::{ColumnInfo, TableInfo};
pub(crate) use engine::{Engine, RunError};
pub(crate) use fill::Fill;
pub use filter::LogMatcher;
pub use live_table::{DESCRIPTION, LiveRows, LiveTable};
pub(crate) use patterns::FindPatterns;
pub use range::{
    Aggregate, GroupKey, POINTS_MAX, POINTS_TOTAL_MAX, RangeQuery, RangeResult, RangeSeries, SERIES_MAX,
    SampleField, step_for,
};
pub(crate) use session::Template;
#[cfg(test)]
pub(crate) use {label_pages::access_plan, reader::footer};

use crate::snapshot::Snapshot;

/// A question to the store. Everything that an answer takes from the store is read here, over one snapshot; so each of them
/// is asked again without a file that turns out damaged, and each answer says what is missing from it.
pub(crate) trait Question: Clone + Send + Sync + 'static {
    type Answer: Send + 'static;
    /// From the call to the answer.
    fn time_max(&self) -> Duration;
    /// Answers it.
    fn run(
        self,
        template: &Template,
        snapshot: &Snapshot,
    ) -> impl Future<Output = Result<Self::Answer, RunError>> + Send;
}

/// Records on a page of log search, at most.
pub const PAGE_ROWS_MAX: usize = 10_000;
/// Records on a page together with those around them, at most.
pub const AROUND_ROWS_MAX: usize = 50_000;
/// Columns of a record among those around it: does it match itself, and the number of its run of neighbours.
pub const AROUND_COLUMNS: [&str; 2] = ["match", "group"];
/// Buckets of a volume, at most.
pub const VOLUME_BUCKETS_MAX: usize = 2_000;
/// Length of an SQL text in bytes.
pub const SQL_BYTES_MAX: usize = 64 << 10;

/// What one SQL query may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// Rows of the answer; what comes behind is cut off and the answer says so.
    pub rows_max: usize,
    /// Bytes of the answer's columns; likewise.
    pub bytes_max: usize,
    /// From the call to the answer.
    pub time_max: Duration,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            rows_max: 10_000,
            bytes_max: 64 << 20,
            time_max: Duration::from_secs(30),
        }
    }
}

/// One SQL query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SqlQuery {
    /// One read-only statement.
    pub text: String,
    /// What stands for its `$1` or `$name`.
    pub parameters: SqlParameters,
    /// What it may take.
    pub limits: SqlLimits,
}

/// Values of a statement's placeholders.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlParameters {
    /// `$1`, `$2`, …
    List(Vec<SqlValue>),
    /// `$name`
    Named(Vec<(String, SqlValue)>),
}

impl Default for SqlParameters {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// A value of a placeholder.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum SqlValue {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Text; a time is written as one.
    Text(String),
}

/// The answer to an SQL query.
#[derive(Debug, Clone)]
pub struct SqlResult {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// There was more than the limits allow.
    pub truncated: bool,
}

impl SqlResult {
    /// Number of rows.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Order of a page of log records; ties are broken by stream and position, so the order is total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// By time, newest first.
    #[default]
    NewestFirst,
    /// By time, oldest first.
    OldestFirst,
}

/// A search for log records. All conditions hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// First `time`, ns.
    pub from: Option<i64>,
    /// Before this `time`, ns.
    pub to: Option<i64>,
    /// First `received_time`, ns.
    pub received_from: Option<i64>,
    /// Machine; `*` stands for any text, `?` for one character.
    pub machine: Option<String>,
    /// Source, likewise.
    pub source: Option<String>,
    /// This severity or a higher one (OpenTelemetry numbers); records without one are left out.
    pub severity_min: Option<u8>,
    /// Text in the body.
    pub substring: Option<String>,
    /// A regular expression that matches somewhere in the body (syntax of the crate `regex`).
    pub regex: Option<String>,
    /// For `substring` and `regex`.
    pub case_insensitive: bool,
    /// Attributes with exactly these values.
    pub attributes: Vec<(String, String)>,
    /// Labels of the agent with exactly these values.
    pub labels: Vec<(String, String)>,
    /// Columns that are wanted; none: all. Those that the order is made of, and the machine, come anyway.
    pub columns: Option<Vec<&'static str>>,
    /// Records on the page; at most [`PAGE_ROWS_MAX`].
    pub limit: usize,
    /// Where the page before ended, from [`LogPage::next_cursor`].
    pub cursor: Option<String>,
    /// Direction.
    pub order: Order,
    /// Records around each that matches.
    pub around: Option<Around>,
    /// From the call to the answer.
    pub time_max: Duration,
}

/// So many records of the same stream before and behind one that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around {
    /// Before it.
    pub before: usize,
    /// Behind it.
    pub after: usize,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self {
            from: None,
            to: None,
            received_from: None,
            machine: None,
            source: None,
            severity_min: None,
            substring: None,
            regex: None,
            case_insensitive: false,
            attributes: Vec::new(),
            labels: Vec::new(),
            columns: None,
            limit: 100,
            cursor: None,
            order: Order::default(),
            around: None,
            time_max: Duration::from_secs(30),
        }
    }
}

/// A page of log records.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The records, with all columns of `logs`.
    pub rows: RecordBatch,
    /// The same among those around them, where [`LogQuery::around`] asks for them: runs of neighbours in the order of
    /// positions, in the order of their first matches; with [`AROUND_COLUMNS`], and all columns of `logs`.
    pub around: Option<RecordBatch>,
    /// Where the next page begins; none when this was the last. A record that was there when the first page was
    /// asked for comes exactly once; of those that arrive meanwhile, those behind the cursor come too.
    pub next_cursor: Option<String>,
}

/// A question for the neighbours of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextQuery {
    /// 32 hexadecimal digits.
    pub stream_id: String,
    /// Of the record itself.
    pub position: i64,
    /// Records of its stream before it; at most [`PAGE_ROWS_MAX`].
    pub before: usize,
    /// Records behind it, likewise.
    pub after: usize,
    /// As in [`LogQuery`].
    pub columns: Option<Vec<&'static str>>,
    /// From the call to the answer.
    pub time_max: Duration,
}

/// A record and its neighbours, in the order of positions.
#[derive(Debug, Clone)]
pub struct LogContext {
    /// Those before it.
    pub before: RecordBatch,
    /// Itself.
    pub record: RecordBatch,
    /// Those behind it.
    pub after: RecordBatch,
}

/// A question for the number of records by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeQuery {
    /// Which records; `from` and `to` are needed, order, limit, cursor and columns say nothing.
    pub filter: LogQuery,
    /// Width of a bucket, ns. Buckets begin at multiples of it; at most [`VOLUME_BUCKETS_MAX`] may lie in the range.
    pub bucket_ns: i64,
}

/// Records of one severity in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeCell {
    /// Where the bucket begins, ns.
    pub from: i64,
    /// As of OpenTelemetry; none where nobody knows.
    pub severity: Option<u8>,
    /// How many.
    pub count: u64,
}

/// A shape of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// A body with `<num>`, `<hex>`, `<id>` and `<str>` for what varies.
    pub shape: String,
    /// Records of this shape.
    pub count: u64,
    /// The body of one of them, cut to its first 512 bytes.
    pub example: String,
}

/// The most frequent shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns {
    /// Most frequent first, at most [`LogQuery::limit`].
    pub patterns: Vec<Pattern>,
    /// Records that were looked at.
    pub records: u64,
    /// Shapes found.
    pub shapes: u64,
    /// Records of rare shapes that were given up to bound the memory; counts may be too low by as much.
    pub given_up: u64,
}

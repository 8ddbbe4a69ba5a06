//! What every store answers, whatever it keeps its rows in. One conformance suite holds for all of them.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

use crate::deletion::{DeleteError, DeletePlan, DeleteRequest, DeleteScope, Deletion};
use crate::error::QueryError;
use crate::latest::{LatestPage, MetricName};
use crate::query::{
    ContextQuery, LogContext, LogPage, LogQuery, Patterns, RangeQuery, RangeResult, SqlLimits, SqlParameters,
    SqlQuery, SqlResult, TableInfo, VolumeCell, VolumeQuery,
};
use crate::series::SeriesFilter;

/// An answer to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueryError>> + Send + 'a>>;

/// An answer, and what is missing from it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answered<T> {
    /// All that could be read.
    pub answer: T,
    /// Files that can't be used and may hold what was asked for. Empty: the answer is whole.
    pub incomplete: Vec<MissingFile>,
}

impl<T> Answered<T> {
    /// The same, told in another way.
    pub fn map<U>(self, tell: impl FnOnce(T) -> U) -> Answered<U> {
        Answered {
            answer: tell(self.answer),
            incomplete: self.incomplete,
        }
    }
}

impl<T> Deref for Answered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.answer
    }
}

/// A file of the store that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingFile {
    /// Its name.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A store that can be queried. Dropping an answer that has not come stops the query.
pub trait Store: Send + Sync {
    /// One read-only SQL statement over its tables.
    fn query(&self, query: SqlQuery) -> Answer<'_, Answered<SqlResult>>;
    /// The same, without parameters.
    fn sql<'a>(&'a self, text: &'a str, limits: SqlLimits) -> Answer<'a, Answered<SqlResult>> {
        self.query(SqlQuery {
            text: text.to_owned(),
            parameters: SqlParameters::default(),
            limits,
        })
    }
    /// A metric over time.
    fn range(&self, query: RangeQuery) -> Answer<'_, Answered<RangeResult>>;
    /// The newest samples of the series that match and have one at or after `since_ns`. Blocks for as long as it takes to
    /// look at all series in memory.
    fn latest(
        &self,
        filter: &SeriesFilter,
        since_ns: i64,
        limit: usize,
    ) -> Result<Answered<LatestPage>, QueryError>;
    /// The metrics of these series, by name, and whether they are all. Blocks likewise.
    fn metric_names(
        &self,
        filter: &SeriesFilter,
        since_ns: i64,
    ) -> Result<Answered<(Vec<MetricName>, bool)>, QueryError>;
    /// What can be asked in SQL.
    fn tables(&self) -> Vec<TableInfo>;
    /// A page of log records.
    fn logs(&self, query: LogQuery) -> Answer<'_, Answered<LogPage>>;
    /// A log record and its neighbours in its stream; none where there is no such record.
    fn context(&self, query: ContextQuery) -> Answer<'_, Answered<Option<LogContext>>>;
    /// How many log records there were, by time and severity. Ordered; what has none is left out.
    fn volume(&self, query: VolumeQuery) -> Answer<'_, Answered<Vec<VolumeCell>>>;
    /// The most frequent shapes of log records. Reads every record that the query is about.
    fn patterns(&self, query: LogQuery) -> Answer<'_, Answered<Patterns>>;
    /// What a deletion would take now.
    fn plan_deletion(&self, scope: DeleteScope, time_max: Duration) -> Answer<'_, DeletePlan>;
    /// Accepts a deletion of what is stored now: when this returns it is durable, and is carried out, whatever happens.
    /// Blocks for as long as that takes.
    fn delete(&self, request: DeleteRequest) -> Result<Deletion, DeleteError>;
    /// All deletions there ever were, oldest first. Blocks likewise.
    fn deletions(&self) -> Result<Vec<Deletion>, QueryError>;
    /// How the store is.
    fn status(&self) -> Answer<'_, StoreStatus>;
}

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StoreStatus {
    /// Log records stored.
    pub log_rows: u64,
    /// Metric samples stored.
    pub metric_rows: u64,
    /// Files.
    pub files: u64,
    /// Their length, in bytes.
    pub file_bytes: u64,
    /// Files that were put aside: they can't be used.
    pub aside_files: u64,
    /// Rows in them.
    pub aside_rows: u64,
    /// Rows that are not in a file yet.
    pub recent_rows: u64,
    /// What they take in memory.
    pub recent_bytes: u64,
    /// First `time` of a row in a file, ns.
    pub oldest_ns: Option<i64>,
    /// Last `time` of a row in a file, ns.
    pub newest_ns: Option<i64>,
    /// The next log entry to apply.
    pub cursor: u64,
    /// The log is needed from this entry on.
    pub durable_cursor: u64,
    /// Streams.
    pub streams: u64,
    /// Queries at work, those included that were stopped and have not ended yet.
    pub queries_running: u64,
    /// Records that came again since the process started.
    pub duplicates: u64,
    /// When rows were last written to files, ns; none since the process started.
    pub last_flush_ns: Option<i64>,
    /// Bytes a day that files grow by, by what came in during the last day.
    pub growth_bytes_per_day: u64,
    /// Bytes that files may still take before retention by size begins, or the disk is full.
    pub room_bytes: Option<u64>,
    /// How many days that lasts; none while nothing comes in.
    pub full_in_days: Option<u64>,
    /// What is wrong, each with what to do about it.
    pub problems: Vec<String>,
}

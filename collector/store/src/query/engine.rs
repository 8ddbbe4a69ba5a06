//! Threads, memory and admission of queries.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::error::DataFusionError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::describe::{self, TableInfo};
use super::live_table::LiveTable;
use super::range::{self, RangeQuery, RangeResult};
use super::session::Template;
use super::{
    ContextQuery, LogContext, LogPage, LogQuery, Patterns, SqlQuery, SqlResult, VolumeCell, VolumeQuery,
    fill, logs, patterns, sql,
};
use crate::error::{QueryError, StoreError};
use crate::latest::Latest;
use crate::options::StoreOptions;
use crate::snapshot::Snapshot;

/// Address space of a query thread's stack; pages are taken as they are used. The planner is recursive, and
/// `guard::TOKENS_MAX` bounds how deep it goes.
const STACK_BYTES: usize = 128 << 20;

/// Runs queries.
pub struct Engine {
    /// Taken when the engine is dropped.
    runtime: Option<Runtime>,
    admission: Arc<Semaphore>,
    queries_max: usize,
    template: Arc<Template>,
    memory_bytes: u64,
}

impl Engine {
    pub fn start(options: &StoreOptions) -> Result<Self, StoreError> {
        let failed = |error: &dyn std::fmt::Display| StoreError::Engine(error.to_string());
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.query_threads.max(1))
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self {
            runtime: Some(runtime),
            queries_max: options.queries_max.max(1),
            admission: Arc::new(Semaphore::new(options.queries_max.max(1))),
            template: Arc::new(Template::new(options).map_err(|error| failed(&error))?),
            memory_bytes: options.query_memory_bytes,
        })
    }

    /// Runs one SQL query.
    pub async fn sql(&self, snapshot: Snapshot, query: SqlQuery) -> Result<SqlResult, QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(query.limits.time_max, async move {
            sql::run(&template, &snapshot, query)
                .await
                .map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Runs one search.
    pub async fn logs(&self, snapshot: Snapshot, query: LogQuery) -> Result<LogPage, QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(query.time_max, async move {
            logs::run(&template, &snapshot, &query)
                .await
                .map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Runs something that blocks, on a thread of its own. None when the store closes, or it panicked.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.runtime.as_ref()?.spawn_blocking(work).await.ok()
    }

    /// The same, admitted and stopped as a query is. What blocks notices by itself that nobody waits for it.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        time_max: Duration,
        work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.run(time_max, async move {
            let joined = tokio::task::spawn_blocking(work).await;
            joined.map_err(|error| {
                QueryError::Failed(format!("an error in EdgeLogger, please report it: {error}"))
            })?
        })
        .await
    }

    /// Waits for an answer on a thread that belongs to no runtime.
    pub fn wait_for<T>(&self, answer: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(answer),
            None => Err(QueryError::Failed("the store is closing".to_owned())),
        }
    }

    /// Answers one question about a metric.
    pub async fn range(&self, snapshot: Snapshot, query: RangeQuery) -> Result<RangeResult, QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(query.time_max, async move {
            range::run(&template, &snapshot, &query)
                .await
                .map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Finds a record and its neighbours; none where there is no such record.
    pub async fn context(
        &self,
        snapshot: Snapshot,
        query: ContextQuery,
    ) -> Result<Option<LogContext>, QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(query.time_max, async move {
            logs::context(&template, &snapshot, &query)
                .await
                .map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Reads the newest samples of a snapshot.
    pub async fn fill(&self, snapshot: Snapshot, latest: Arc<Latest>) -> Result<(), QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(fill::TIME_MAX, async move {
            fill::run(&template, &snapshot, &latest)
                .await
                .map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Counts records by time.
    pub async fn volume(
        &self,
        snapshot: Snapshot,
        query: VolumeQuery,
    ) -> Result<Vec<VolumeCell>, QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(query.filter.time_max, async move {
            logs::volume(&template, &snapshot, &query)
                .await
                .map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Adds a table that is not stored here.
    pub fn add(&self, table: Arc<dyn LiveTable>) {
        self.template.add(table);
    }

    /// What can be asked.
    pub fn tables(&self) -> Vec<TableInfo> {
        describe::tables(&self.template.live())
    }

    /// Queries that hold query threads now, those included that were stopped and have not noticed yet.
    pub fn running(&self) -> usize {
        self.queries_max
            .saturating_sub(self.admission.available_permits())
    }

    /// Counts shapes of records.
    pub async fn patterns(&self, snapshot: Snapshot, query: LogQuery) -> Result<Patterns, QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(query.time_max, async move {
            patterns::run(&template, &snapshot, &query)
                .await
                .map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Runs on the query threads, within the time; stops there when the caller goes away.
    async fn run<T: Send + 'static>(
        &self,
        time_max: Duration,
        query: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let late = |_| QueryError::Time {
            limit_seconds: time_max.as_secs(),
        };
        let closed = || QueryError::Failed("the store is closing".to_owned());
        let end = Instant::now() + time_max;
        let admitted = tokio::time::timeout(time_max, Arc::clone(&self.admission).acquire_owned());
        let permit = admitted.await.map_err(late)?.map_err(|_| closed())?;
        let runtime = self.runtime.as_ref().ok_or_else(closed)?;
        // The permit goes with the query, which may take a moment to notice that it was stopped.
        let mut task = StopOnDrop(runtime.spawn(async move {
            let _permit = permit;
            query.await
        }));
        let left = end.saturating_duration_since(Instant::now());
        let joined = tokio::time::timeout(left, &mut task.0).await.map_err(late)?;
        joined.map_err(|error| {
            QueryError::Failed(format!("an error in EdgeLogger, please report it: {error}"))
        })?
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A store may be dropped inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

struct StopOnDrop<T>(JoinHandle<T>);

impl<T> Drop for StopOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An error inside a query, before it is worded for people.
#[derive(Debug)]
pub enum RunError {
    Query(QueryError),
    Planning(DataFusionError),
    Running(DataFusionError),
}

impl From<QueryError> for RunError {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl RunError {
    fn into_query(self, memory_bytes: u64) -> QueryError {
        match self {
            Self::Query(error) => error,
            Self::Planning(error) => QueryError::Invalid(words(&error)),
            Self::Running(error) => match error.find_root() {
                DataFusionError::ResourcesExhausted(detail) => QueryError::Memory {
                    limit_bytes: memory_bytes,
                    detail: detail.clone(),
                },
                DataFusionError::External(_)
                | DataFusionError::ParquetError(_)
                | DataFusionError::IoError(_) => QueryError::Failed(words(&error)),
                _ => QueryError::Invalid(words(&error)),
            },
        }
    }
}

fn words(error: &DataFusionError) -> String {
    error.strip_backtrace()
}

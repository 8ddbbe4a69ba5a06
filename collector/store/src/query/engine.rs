//! Threads, memory and admission of queries.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Question;
use super::describe::{self, TableInfo};
use super::live_table::LiveTable;
use super::session::Template;
use crate::error::{QueryError, StoreError};
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

    /// Answers one question.
    pub async fn ask<Q: Question>(&self, snapshot: Snapshot, question: Q) -> Result<Q::Answer, QueryError> {
        let (template, memory_bytes) = (Arc::clone(&self.template), self.memory_bytes);
        self.run(question.time_max(), async move {
            let answer = question.run(&template, &snapshot).await;
            answer.map_err(|error| error.into_query(memory_bytes))
        })
        .await
    }

    /// Runs something that blocks, on a thread of its own. None when the store closes, or it panicked.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.runtime.as_ref()?.spawn_blocking(work).await.ok()
    }

    /// Waits for an answer on a thread that belongs to no runtime.
    pub fn wait_for<T>(&self, answer: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(answer),
            None => Err(QueryError::Failed("the store is closing".to_owned())),
        }
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
                DataFusionError::ArrowError(arrow, _) if is_of_a_file(arrow) => {
                    QueryError::Failed(words(&error))
                }
                _ => QueryError::Invalid(words(&error)),
            },
        }
    }
}

/// Is it about bytes that were read, rather than about what was asked?
const fn is_of_a_file(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::ParquetError(_) | ArrowError::IoError(..) | ArrowError::ExternalError(_)
    )
}

fn words(error: &DataFusionError) -> String {
    error.strip_backtrace()
}

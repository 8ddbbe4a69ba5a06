//! The one file that wires the stages together, starts them in the order of the flow backwards (whoever receives is
//! there before whoever sends), and stops them forwards.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edgelogger_common::auth::{self, Audience, AuthError};
use edgelogger_common::block::batch::BatchLimits;
use edgelogger_common::codec::DecodeLimits;
use edgelogger_common::disk::{DiskLock, OsDisk};
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_common::segment::LogView;
use edgelogger_common::tls::FloorTime;
use edgelogger_store::{EmbeddedStore, LogGapKind, Missed, Store, StoreError, StoreOptions};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adoption::stored_streams;
use crate::api::{ApiContext, ApiError, ApiListener, ConnectionLimits, HealthSource, Tails};
use crate::certificate::Certificate;
use crate::config::{Config, OnLogFull, Start};
use crate::flow::{Hold, SinkCounts, SinkProgress};
use crate::health::{Health, HealthReport, HealthVerdict, Problem, SinkReport, rfc3339};
use crate::in_force::InForce;
use crate::ingest::{
    Budget, Counts, Heads, IngestContext, IngestError, IngestListener, KnownStreams, Registry, Validator,
};
use crate::ledger::{HeadsFile, KeptHeads, Ledger, Settler};
use crate::log::{EmbeddedLog, LogOpenError, LogSettings, LogStatus, OpenedLog};
use crate::machines::{BookFile, Machines, MachinesTable, StreamsTable};
use crate::reload::{Noted, Reload, settings};
use crate::setup::{self, DataDir, Keys, SetupError};
use crate::sinks::{ConsoleSink, DeadLetters, Runner, RunningSink, Sink, StoreSink};

/// Time for sessions and requests to end when the collector stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest entry of the log: the largest batch that can be configured, and the streams it names.
pub(crate) const ENTRY_BYTES_MAX: u32 = 16 << 20;

/// What a sink opens. Whatever was acknowledged passed the limits of its day, which may have been lowered since; these
/// are the highest that can be configured.
pub(crate) const LOGGED_BATCH_LIMITS: BatchLimits = BatchLimits {
    decode: DecodeLimits {
        compressed_bytes_max: ENTRY_BYTES_MAX as usize,
        decompressed_bytes_max: 256 << 20,
        ratio_max: usize::MAX,
        zstd_window_log_max: 27,
    },
    blocks_max: u32::MAX,
    records_max: u32::MAX,
    record_bytes_max: u32::MAX,
    expanded_bytes_max: u64::MAX,
};

/// Why the collector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The commit log.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// The store.
    #[error("cannot open the store: {0}")]
    Store(#[from] StoreError),
    /// The ingest port.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The API's port.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}; raise the limit of processes (ulimit -u)")]
    Thread(#[from] std::io::Error),
    /// An error of ours while starting.
    #[error("starting failed inside the collector: {0}")]
    Internal(#[from] tokio::task::JoinError),
}

impl StartError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Setup(error) => error.code(),
            Self::Log(error) => error.code(),
            Self::Store(error) => error.code().copied().unwrap_or(error_code::SINK_STOPPED),
            Self::Ingest(_) | Self::Api(_) => error_code::CONFIG_INVALID,
            Self::Thread(_) | Self::Internal(_) => error_code::SINK_STOPPED,
        }
    }
}

/// The collector.
#[derive(Debug)]
pub struct Collector;

impl Collector {
    /// Starts everything in this process, inside a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// What can't be had; everything that was begun is ended again.
    pub async fn start(config: Config) -> Result<RunningCollector, StartError> {
        let stages = tokio::task::spawn_blocking(move || Stages::open(config)).await??;
        let ingest = IngestListener::bind(stages.config.ingest.listen).await?;
        let api = ApiListener::bind(stages.config.api.listen).await?;
        Ok(stages.serve(ingest, api))
    }
}

/// Everything behind the ports.
struct Stages {
    config: Config,
    data: DataDir,
    lock: DiskLock,
    keys: Keys,
    certificate: Certificate,
    time: Arc<FloorTime>,
    health: Arc<Health>,
    store: Arc<EmbeddedStore>,
    log: EmbeddedLog,
    sinks: Vec<RunningSink>,
    progress: Vec<Arc<SinkProgress>>,
    local_token: (PathBuf, String),
}

impl Stages {
    /// Opens what is on disk and starts log and sinks. Blocks.
    fn open(config: Config) -> Result<Self, StartError> {
        let data = DataDir::new(&config.data_dir);
        data.create()?;
        let lock = data.lock()?;
        data.check_version()?;
        let time = Arc::new(FloorTime::new(Arc::clone(&config.clock)));
        let certificate = Certificate::prepare(&config, Arc::clone(&time))?;
        let keys = Keys::prepare(&config)?;
        let local_token = setup::local_token(&data, &keys, time.now_ns())?;
        let health = Health::new(Arc::clone(&config.clock));
        let (opened, store) = open_log_and_store(&config, &data)?;
        let sinks = prepare_sinks(&config, &opened.view(), &store, &health)?;
        let progress: Vec<_> = sinks.iter().map(|(_, progress)| Arc::clone(progress)).collect();
        let log = opened.start(&health, progress.clone())?;
        let dead_letters = DeadLetters::new(Arc::new(OsDisk), data.dead_letters());
        let start = |(sink, progress): (Box<dyn Sink>, Arc<SinkProgress>)| {
            let paused = sink.name() == "store" && config.store.paused;
            let runner = Runner {
                sink,
                view: log.view.clone(),
                durable_end: Arc::clone(&log.durable_end),
                progress,
                health: Arc::clone(&health),
                dead_letters: Arc::clone(&dead_letters),
                paused,
            };
            runner.start()
        };
        let sinks = sinks.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            config,
            data,
            lock,
            keys,
            certificate,
            time,
            health,
            store,
            log,
            sinks,
            progress,
            local_token,
        })
    }

    fn serve(self, ingest: IngestListener, api: ApiListener) -> RunningCollector {
        let (stop_ingest, stop_api) = (CancellationToken::new(), CancellationToken::new());
        let (ingest_addr, api_addr) = (ingest.address(), api.address());
        let context = Arc::new(self.ingest_context(stop_ingest.clone()));
        let heads = HeadsFile::open(
            Arc::clone(&self.config.log_disk),
            self.data.heads(),
            KeptHeads {
                store: Arc::clone(&self.store),
                ingest: Arc::clone(&context),
            },
            Arc::clone(&self.health),
        );
        let book = BookFile::open(
            Arc::clone(&self.config.log_disk),
            self.data.machines(),
            Arc::clone(context.registry.book()),
            Arc::clone(&self.health),
        );
        let ledger = Arc::new(Ledger::new(Arc::clone(&self.store), Arc::clone(&context)));
        let machines = Arc::new(Machines::new(Arc::clone(&ledger), Arc::clone(&context)));
        self.store
            .add_table(Arc::new(MachinesTable(Arc::downgrade(&machines))));
        self.store
            .add_table(Arc::new(StreamsTable(Arc::downgrade(&ledger))));
        let tails = Arc::new(Tails::new(self.store.arrivals(), self.config.api.tails_max));
        let (certificate, configured) = watch::channel(self.config.tls.clone());
        let reload = Arc::new(Reload {
            clock: Arc::clone(&self.config.clock),
            health: Arc::clone(&self.health),
            signing_key: self.keys.signing,
            in_force: Arc::clone(&context.in_force),
            certificate,
            tails: Arc::clone(&tails),
            store: Arc::clone(&self.store),
            noted: Noted::at_start(&*self.config.clock),
        });
        let source = Arc::new(Source {
            reload: Arc::clone(&reload),
            started: self.config.clock.monotonic(),
            clock: Arc::clone(&self.config.clock),
            health: Arc::clone(&self.health),
            ingest: Arc::clone(&context),
            ingest_addr,
            log: Arc::clone(&self.log.status),
            log_bytes_max: self.log.bytes_max,
            view: self.log.view.clone(),
            sinks: self.progress.clone(),
            store: Arc::clone(&self.store),
        });
        let api_context = Arc::new(ApiContext {
            store: Arc::<EmbeddedStore>::clone(&self.store),
            health: Arc::<Source>::clone(&source),
            log: self.log.view.clone(),
            ledger,
            machines,
            needs_token: self.config.api.needs_token,
            in_force: Arc::clone(&context.in_force),
            time: Arc::clone(&self.time),
            tails,
            connection_limits: ConnectionLimits {
                connections_max: self.config.api.connections_max,
                header_timeout: self.config.api.header_timeout,
            },
        });
        let (sessions, requests) = (TaskTracker::new(), TaskTracker::new());
        let names = self.certificate.names();
        sessions.spawn(ingest.serve(context, self.certificate.in_force(), sessions.clone()));
        sessions.spawn(self.certificate.keep_current(
            Arc::clone(&self.health),
            configured,
            stop_ingest.clone(),
        ));
        let settler = Settler::new(
            Arc::clone(&self.store),
            Arc::clone(&source.ingest),
            self.log.view.clone(),
        );
        sessions.spawn(settler.run(stop_ingest.clone()));
        sessions.spawn(Arc::clone(&heads).run(stop_ingest.clone()));
        sessions.spawn(Arc::clone(&book).run(stop_ingest.clone()));
        sessions.spawn(fill_latest(Arc::clone(&self.store), stop_ingest.clone()));
        requests.spawn(api.serve(api_context, stop_api.clone()));
        RunningCollector {
            ingest_addr,
            api_addr,
            ca_path: self.data.ca(),
            names,
            local_token: self.local_token,
            time: self.time,
            source,
            heads,
            book,
            store: self.store,
            reload,
            stop: StopGuard {
                ingest: stop_ingest,
                api: stop_api,
            },
            sessions,
            requests,
            log: self.log,
            sinks: self.sinks,
            lock: self.lock,
        }
    }

    fn ingest_context(&self, stop: CancellationToken) -> IngestContext {
        let ingest = self.config.ingest.settings.clone();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let clock = Arc::clone(&self.config.clock);
        IngestContext {
            registry: Registry::new(Arc::clone(&clock), Arc::clone(&self.health), ingest.sessions_max),
            validator: Validator::new(ingest.batch_limits, threads),
            settings: ingest,
            clock,
            time: Arc::clone(&self.time),
            in_force: InForce::new(settings(&self.config, self.keys.verifying.clone())),
            budget: Budget::new(self.config.ingest.memory_bytes),
            known: KnownStreams::default(),
            stored: {
                let store = Arc::clone(&self.store);
                Box::new(move |agent, mark| stored_streams(&store, agent, mark))
            },
            heads: Heads::default(),
            log: self.log.sender.clone(),
            health: Arc::clone(&self.health),
            counts: Counts::default(),
            stop,
        }
    }
}

/// Reads the newest samples of what is stored.
async fn fill_latest(store: Arc<EmbeddedStore>, stop: CancellationToken) {
    let filled = tokio::select! {
        () = stop.cancelled() => return,
        filled = store.fill_latest() => filled,
    };
    if let Err(error) = filled {
        tracing::warn!(
            "the newest samples of what is stored can't be read, they come with the next ones: {error}"
        );
    }
}

/// The store's cursor counts in the log, and the log must not give a sequence again that the store remembers: each
/// needs to know of the other.
fn open_log_and_store(
    config: &Config,
    data: &DataDir,
) -> Result<(OpenedLog, Arc<EmbeddedStore>), StartError> {
    let settings = LogSettings {
        dir: data.log(),
        bytes_max: config.log.bytes_max,
        segment_bytes_max: config.log.segment_bytes_max,
        // A flush needs room for half of the store's memory, or a full log could never be applied and freed.
        keep_free_bytes: config.log.keep_free_bytes.max(config.store.memory_bytes / 2),
        entry_bytes_max: ENTRY_BYTES_MAX,
    };
    let mut log = OpenedLog::open(Arc::clone(&config.log_disk), settings.clone(), 1)?;
    let store = EmbeddedStore::open(StoreOptions {
        clock: Arc::clone(&config.clock),
        log_id: Some(log.view().log_id()),
        memory_bytes: config.store.memory_bytes,
        flush_rows: config.store.flush_rows,
        flush_age: config.store.flush_age,
        detail: config.ledger.detail,
        retention: config.store.retention,
        compression_level: config.store.compression_level,
        batch_limits: LOGGED_BATCH_LIMITS,
        query_memory_bytes: config.store.query_memory_bytes,
        queries_max: config.store.queries_max,
        query_threads: config.store.query_threads,
        ..StoreOptions::new(data.store())
    })?;
    if store.cursor() > log.view().durable_end() {
        tracing::warn!(
            store = store.cursor(),
            log = log.view().durable_end(),
            "the commit log ends before what the store has applied: it lost its tail; it goes on behind that"
        );
        drop(log);
        log = OpenedLog::open(Arc::clone(&config.log_disk), settings, store.cursor())?;
    }
    Ok((log, store))
}

type PreparedSink = (Box<dyn Sink>, Arc<SinkProgress>);

fn prepare_sinks(
    config: &Config,
    view: &LogView,
    store: &Arc<EmbeddedStore>,
    health: &Arc<Health>,
) -> Result<Vec<PreparedSink>, StartError> {
    let end = view.durable_end();
    if store.cursor() == 0 && config.store.start == Start::Now && !store.is_stopped() {
        store.step_over(&Missed {
            entries: 1..end,
            kind: LogGapKind::Skipped,
            what: "the store began behind them: start = \"now\" in [store]",
            dead_letter: None,
            records: 0,
        });
        store.skip(end.saturating_sub(1));
        // Before anything is acknowledged: a crash must not skip what came after this start.
        store.flush()?;
    }
    let hold = match config.store.on_log_full {
        OnLogFull::Hold => Hold::Always,
        OnLogFull::Skip => Hold::UntilFull,
    };
    let progress = SinkProgress::new("store", hold, store.cursor());
    progress.set(store.cursor(), store.durable_cursor(), store.held_cursor());
    let sink = StoreSink::new(Arc::clone(store), Arc::clone(health), Arc::clone(&progress))?;
    let mut sinks: Vec<PreparedSink> = vec![(Box::new(sink), progress)];
    if config.console.enabled {
        let cursor = if config.console.start == Start::Now {
            end
        } else {
            view.first_sequence()
        };
        let sink = ConsoleSink::new(std::io::stdout(), cursor, config.batch_limits());
        sinks.push((Box::new(sink), SinkProgress::new("console", Hold::Never, cursor)));
    }
    Ok(sinks)
}

/// Cancels what runs when the collector is dropped without [`RunningCollector::shutdown`].
#[derive(Debug)]
struct StopGuard {
    ingest: CancellationToken,
    api: CancellationToken,
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.ingest.cancel();
        self.api.cancel();
    }
}

/// A collector at work.
#[derive(Debug)]
pub struct RunningCollector {
    /// Where agents connect.
    pub ingest_addr: SocketAddr,
    /// Where the API is.
    pub api_addr: SocketAddr,
    /// What agents trust.
    pub ca_path: PathBuf,
    /// Names of the own certificate.
    pub names: Vec<String>,
    /// A token file for an agent on this machine, and that agent's name.
    pub local_token: (PathBuf, String),
    time: Arc<FloorTime>,
    source: Arc<Source>,
    heads: Arc<HeadsFile>,
    book: Arc<BookFile>,
    store: Arc<EmbeddedStore>,
    reload: Arc<Reload>,
    stop: StopGuard,
    sessions: TaskTracker,
    requests: TaskTracker,
    log: EmbeddedLog,
    sinks: Vec<RunningSink>,
    lock: DiskLock,
}

impl RunningCollector {
    /// A token signed by this collector.
    ///
    /// # Errors
    /// A name that no token can have.
    pub fn issue_token(&self, audience: Audience, subject: &str, ttl: Duration) -> Result<String, AuthError> {
        auth::issue(
            &self.reload.signing_key,
            audience,
            subject,
            ttl,
            self.time.now_ns(),
        )
    }

    /// Puts another configuration in force, as far as that is possible while it runs.
    #[must_use]
    pub fn reload(&self) -> &Reload {
        &self.reload
    }

    /// How it is.
    pub async fn health(&self) -> HealthReport {
        self.source.report().await
    }

    /// The store, for queries without HTTP.
    #[must_use]
    pub fn store(&self) -> Arc<EmbeddedStore> {
        Arc::clone(&self.store)
    }

    /// Stops in the order of the flow: agents are told to come back later, what they sent is committed, the sinks
    /// apply what is in the log and make it durable.
    pub async fn shutdown(self) {
        let Self {
            stop,
            sessions,
            requests,
            log,
            sinks,
            lock,
            source,
            heads,
            book,
            store,
            ..
        } = self;
        stop.ingest.cancel();
        sessions.close();
        if tokio::time::timeout(STOP_TIMEOUT, sessions.wait()).await.is_err() {
            tracing::warn!("{} sessions did not end in time", sessions.len());
        }
        let stages = move || {
            log.stop();
            sinks.into_iter().for_each(RunningSink::stop);
            heads.save();
            book.save();
        };
        if tokio::task::spawn_blocking(stages).await.is_err() {
            tracing::error!("stopping failed; what was acknowledged is in the log");
        }
        stop.api.cancel();
        requests.close();
        let _ = tokio::time::timeout(STOP_TIMEOUT, requests.wait()).await;
        drop((source, store));
        drop(lock);
    }
}

/// Puts together how everything is.
struct Source {
    reload: Arc<Reload>,
    started: Duration,
    clock: Arc<dyn edgelogger_common::clock::Clock>,
    health: Arc<Health>,
    ingest: Arc<IngestContext>,
    ingest_addr: SocketAddr,
    log: Arc<LogStatus>,
    log_bytes_max: u64,
    view: LogView,
    sinks: Vec<Arc<SinkProgress>>,
    store: Arc<EmbeddedStore>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl HealthSource for Source {
    fn report(&self) -> BoxFuture<'_, HealthReport> {
        self.collect().boxed()
    }
}

impl Source {
    async fn collect(&self) -> HealthReport {
        let store = self.store.status().await.unwrap_or_default();
        let mut problems = self.health.problems();
        let known: Vec<String> = problems.iter().map(|problem| problem.what.clone()).collect();
        let fresh = store.problems.iter().filter(|what| !known.contains(what));
        problems.extend(fresh.map(|what| self.store_problem(what)));
        let verdict = problems
            .iter()
            .map(|problem| problem.verdict)
            .max()
            .unwrap_or(HealthVerdict::Ok);
        let uptime = self.clock.monotonic().saturating_sub(self.started);
        let details = serde_json::to_value(&store).unwrap_or_default();
        let sinks = self.sinks.iter().map(|sink| {
            let details = if sink.name == "store" {
                details.clone()
            } else {
                serde_json::Value::Null
            };
            sink_report(sink, self.view.durable_end(), details)
        });
        HealthReport {
            verdict,
            problems,
            version: env!("CARGO_PKG_VERSION"),
            time: rfc3339(self.clock.wall_ns()),
            uptime_s: uptime.as_secs(),
            configuration: self.reload.report(),
            ingest: self.ingest.report(self.ingest_addr.to_string()),
            log: self.log.report(&self.view, self.log_bytes_max),
            sinks: sinks.collect(),
            sessions: self.ingest.registry.report(),
        }
    }

    fn store_problem(&self, what: &str) -> Problem {
        Problem {
            code: error_code::SINK_STOPPED.code,
            subject: "store".to_owned(),
            what: what.to_owned(),
            since: rfc3339(self.clock.wall_ns()),
            what_to_do: "The message says it.",
            verdict: HealthVerdict::Degraded,
        }
    }
}

fn sink_report(sink: &SinkProgress, end: u64, details: serde_json::Value) -> SinkReport {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let SinkCounts {
        read,
        applied,
        duplicate,
        dead_lettered,
    } = *sink.counts.lock();
    let accounted = applied + duplicate + dead_lettered;
    SinkReport {
        name: sink.name.to_owned(),
        holds_log: sink.hold != Hold::Never,
        cursor: count(&sink.cursor),
        durable_cursor: count(&sink.durable_cursor),
        lag_entries: end.saturating_sub(count(&sink.cursor).max(1)),
        read,
        applied,
        duplicate,
        dead_lettered,
        residual: read.cast_signed().saturating_sub(accounted.cast_signed()),
        failing: sink.failing.load(Ordering::Relaxed),
        details,
    }
}

//! Wires the stages together, runs them, and stops them in order.
//!
//! ```text
//! source threads ──> ring ──> encoder thread ──mpsc──> transport (main thread) ══> collector
//!        ^                      │ ^  spool thread          │
//!        │                      └─┴── <─── acks ───────────┤
//!        └───────────── checkpoints <────── acks ──────────┘      status socket, signals (main thread)
//!                           └─ checkpoint thread: writes and syncs what is due
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `sources` | one thread for each source, and how each is woken to stop |
//! | `encode` | the encoder's thread: batcher and encoder, when the line takes a batch |
//! | `checkpoint` | the thread that writes and syncs checkpoints |
//! | `journal` | acks: to the checkpoints and to the account |
//! | `ages`, `rates` | how long the oldest waits, how fast things go |
//! | `vitals` | what heartbeats and `status` tell |
//!
//! # While the collector is away
//!
//! The transport takes nothing, so the encoder's thread waits for room, the ring fills, and replayable sources stop
//! reading: their data lies on disk already. Measurements have a queue of their own in the ring; after 2 s they go to
//! the spool, and come back to the line when it takes something again; and so does what of a file was neither acked nor
//! read when the file went, where `spool_before_loss` is set.
//!
//! # Stopping
//!
//! 1. The ring is stopped and every source woken: sources end, and push no more.
//! 2. The encoder drains the ring, whatever the age of the data, and closes its end of the channel.
//! 3. The transport sends what is left and waits for its acks, at most `shutdown_timeout`.
//! 4. What was not acked and can't be read again is written to the spool; file sources read for it, as they end, what is
//!    left of deleted files that they hold open.
//! 5. Checkpoints are written and synced. What was not acked is sent, or read again, after the next start.

mod ages;
mod checkpoint;
mod encode;
mod journal;
mod rates;
mod sources;
#[cfg(test)]
mod tests;
mod vitals;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::disk::{Disk, OsDisk};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::adoption::Adoption;
use crate::checkpoint::{CheckpointError, Checkpoints, Durability, StreamState};
use crate::config::{AgentConfig, Invalid};
use crate::encoder::{BatchesInFlight, Encoder};
use crate::reload::ConfigurationNote;
use crate::ring::Ring;
use crate::sources::file::{FileSourceError, RESCUE_PATIENCE};
use crate::spool::{SPOOL_DIR, Spool, SpoolThread};
use crate::status::{Reporter, StatusSocket};
use crate::transport::{Identity, Parts, TargetError, Transport};

pub(crate) use sources::own_paths;
pub use vitals::{AgentVitals, ProcessCost, StreamLag, process_cost};

/// Items between encoder and transport. The transport takes one when the line has room for it, so these only wait;
/// with two, one is being compressed while another is sent. More would be sealed before what is fresher than they are.
const OUTGOING_MAX: usize = 2;
/// How long a stopped thread may take to end. One that hangs (a dead network file system) is left to the end of the
/// process.
const JOIN_PATIENCE: Duration = Duration::from_secs(2);
/// Folder of rejected blocks in the state directory.
const QUARANTINE_DIR: &str = "quarantine";

/// The agent could not start, or not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] Invalid),
    /// The state directory can't be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file source can't be made.
    #[error(transparent)]
    Files(#[from] FileSourceError),
    /// A glob of the host metrics.
    #[error("[source.host_metrics]: {0}")]
    Glob(#[from] globset::Error),
    /// The collector's address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A thread, descriptor or signal handler that the system refuses.
    #[error("cannot {what}: {source}")]
    System {
        /// What could not be done.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl AgentError {
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Everything that was read is acknowledged.
    pub drained: bool,
}

/// What the agent stands on: time and disk, which a simulation holds.
#[derive(Clone)]
pub struct Ground {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where state lies.
    pub disk: Arc<dyn Disk>,
    /// What is told of the configuration.
    pub configuration: ConfigurationNote,
}

impl Default for Ground {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(OsDisk),
            configuration: ConfigurationNote::default(),
        }
    }
}

/// Runs the agent until `shutdown` is ready, then stops it in order. On a current-thread runtime.
///
/// # Errors
/// It could not start. Once it runs, no failure ends it.
pub async fn run(
    config: AgentConfig,
    ground: Ground,
    shutdown: impl Future<Output = ()>,
) -> Result<Outcome, AgentError> {
    let agent = Agent::start(config, &ground)?;
    agent.run(shutdown).await
}

/// A running agent.
struct Agent {
    config: AgentConfig,
    ring: Ring,
    checkpoints: Arc<Checkpoints>,
    sources: sources::Sources,
    encoder: JoinHandle<()>,
    checkpoint_thread: checkpoint::CheckpointThread,
    transport: Transport,
    items: mpsc::Receiver<crate::flow::Outgoing>,
    socket: StatusSocket,
    spool: Option<(Spool, SpoolThread)>,
}

impl Agent {
    fn start(config: AgentConfig, ground: &Ground) -> Result<Self, AgentError> {
        config.check()?;
        let checkpoints = Checkpoints::open(
            Arc::clone(&ground.disk),
            &config.state_dir,
            Arc::clone(&ground.clock),
        )?;
        let ring = Ring::new(config.ring_limits());
        let batches = BatchesInFlight::new(ring.clone());
        let adoption = Adoption::needed(&checkpoints);
        let spool_and_thread = start_spool(&config, &ring, &checkpoints, &batches, ground)?;
        let spool = spool_and_thread.as_ref().map(|(spool, _)| spool.clone());
        let prepared = sources::prepare(
            &config,
            &ring,
            &checkpoints,
            ground,
            adoption.as_ref(),
            spool.as_ref(),
        )?;
        let vitals = Arc::new(vitals::AgentVitals::new(
            ring.clone(),
            Arc::clone(&checkpoints),
            prepared.statuses(),
            spool.clone(),
            Arc::clone(&ground.clock),
        ));
        let (transport, status, terms) = Transport::new(Parts {
            config: config.collector.clone(),
            identity: identity(&config),
            journal: Arc::new(journal::TalliedJournal::new(
                Arc::clone(&checkpoints),
                ring.tally(),
                spool.clone(),
                adoption,
            )),
            vitals: Arc::clone(&vitals) as Arc<dyn crate::transport::Vitals>,
            clock: Arc::clone(&ground.clock),
            disk: Arc::clone(&ground.disk),
            quarantine_dir: config.state_dir.join(QUARANTINE_DIR),
        })?;
        let reporter = Reporter::new(
            Arc::clone(&vitals),
            status,
            config.memory.ring_bytes.as_u64(),
            ground.configuration.clone(),
        );
        let socket = StatusSocket::bind(&config.state_dir, reporter);
        let checkpoint_thread = checkpoint::CheckpointThread::start(Arc::clone(&checkpoints))
            .map_err(AgentError::system("start the checkpoint thread"))?;
        let (outgoing, items) = mpsc::channel(OUTGOING_MAX);
        let encoder = encode::EncodeLoop {
            ring: ring.clone(),
            batcher: crate::batcher::Batcher::new(config.batcher_settings()),
            encoder: Encoder::new(config.batch.codec, batches.clone(), ring.tally()),
            batches,
            clock: Arc::clone(&ground.clock),
            outgoing,
            terms,
            settings: config.batcher_settings(),
            codec: config.batch.codec,
            runtime: tokio::runtime::Handle::current(),
            spool,
            policies: prepared.policies(),
            files: prepared.files(),
            since_spooled: 0,
        };
        let encoder =
            spawn("encoder", move || encoder.run()).map_err(AgentError::system("start the encoder"))?;
        let sources = prepared.start().map_err(AgentError::system("start a source"))?;
        Ok(Self {
            config,
            ring,
            checkpoints,
            sources,
            encoder,
            checkpoint_thread,
            transport,
            items,
            socket,
            spool: spool_and_thread,
        })
    }

    async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Outcome, AgentError> {
        let Self {
            config,
            ring,
            checkpoints,
            sources,
            encoder,
            checkpoint_thread,
            transport,
            items,
            socket,
            spool,
        } = self;
        let (stop, stopping) = watch::channel(None);
        let patience = config.shutdown_timeout.get();
        let serving = tokio::spawn(socket.serve());
        let mut sending = tokio::spawn(Box::pin(transport.run(items, stopping)));
        tokio::select! {
            () = shutdown => tracing::info!("stopping; waiting at most {} s for what is in flight", patience.as_secs()),
            // It ends by itself only when the encoder's thread is gone.
            _ = &mut sending => tracing::error!("the transport ended before it was told to"),
        }
        ring.stop();
        sources.wake();
        let _ = stop.send(Some(Instant::now() + patience));
        let mut drained = if sending.is_finished() {
            false
        } else {
            sending.await.unwrap_or(false)
        };
        serving.abort();
        let _ = serving.await;
        let threads = sources.into_threads().into_iter().chain([encoder]).collect();
        let patience = if config.keeps_files() {
            JOIN_PATIENCE + RESCUE_PATIENCE
        } else {
            JOIN_PATIENCE
        };
        join(threads, patience).await;
        if let Some((spool, thread)) = spool {
            drained &= spool.is_empty();
            thread.finish();
        }
        checkpoint_thread.stop();
        // The disk may take its time; nothing else runs any more.
        checkpoints.flush(Durability::Synced)?;
        Ok(Outcome { drained })
    }
}

/// The spool, where something is collected that can't be read again (or once a file is gone), or an earlier process left
/// something.
fn start_spool(
    config: &AgentConfig,
    ring: &Ring,
    checkpoints: &Arc<Checkpoints>,
    batches: &BatchesInFlight,
    ground: &Ground,
) -> Result<Option<(Spool, SpoolThread)>, AgentError> {
    let left = ground
        .disk
        .exists(&config.state_dir.join(SPOOL_DIR))
        .unwrap_or(true);
    let is_open = |state: &StreamState| !state.descriptor.replayable;
    let is_wanted = config.source.host_metrics.is_some() || config.keeps_files();
    if !is_wanted && !left && !checkpoints.streams().iter().any(is_open) {
        return Ok(None);
    }
    let parts = crate::spool::Parts {
        disk: Arc::clone(&ground.disk),
        state_dir: config.state_dir.clone(),
        config: config.spool.clone(),
        clock: Arc::clone(&ground.clock),
        checkpoints: Arc::clone(checkpoints),
        ring: ring.clone(),
        batches: batches.clone(),
        codec: config.batch.codec,
    };
    let spool = Spool::start(parts).map_err(AgentError::system("start the spool's thread"))?;
    Ok(Some(spool))
}

/// Waits for threads to end, within bounds.
async fn join(threads: Vec<JoinHandle<()>>, patience: Duration) {
    let deadline = Instant::now() + patience;
    while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for thread in threads {
        if !thread.is_finished() {
            let name = thread.thread().name().unwrap_or("a thread").to_owned();
            tracing::warn!("{name} did not end in time and is left behind");
        } else if thread.join().is_err() {
            tracing::error!("a thread ended in a panic; please report what it printed");
        }
    }
}

/// Stack of our own threads. Nothing here recurses; what is not used costs address space only.
const STACK_BYTES: usize = 512 << 10;

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(run)
}

fn identity(config: &AgentConfig) -> Identity {
    let uname = rustix::system::uname();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Identity {
        agent_version: crate::VERSION.to_owned(),
        labels: config.labels.clone(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        boot_id: boot_id.trim().to_owned(),
    }
}

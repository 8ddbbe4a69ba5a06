//! Ingest: agents connect, say who they are, and send batches; what is durable is acknowledged.
//!
//! | file | idea |
//! | --- | --- |
//! | `listener.rs` | TCP and TLS: accept, bounded handshakes, a word for those who speak no TLS |
//! | `http.rs` | `GET /v1/session`: token, WebSocket upgrade, problem documents |
//! | `connection.rs` | the shell of a session: socket, timers, queues |
//! | `hello.rs` | who is it, and do we understand each other |
//! | `registry.rs` | one session for each agent: fencing, second installations |
//! | `session.rs` | the core: frames and results in, actions out |
//! | `credit.rs` | one memory budget, cut into windows |
//! | `validate.rs` | batches are checked wholly, outside of the reactor |
//! | `known.rs` | what is durable of which stream, as a hint |
//!
//! # Invariants
//!
//! - Nothing reaches the log that was not validated wholly, and nothing is acknowledged before the log says durable.
//! - Who an agent is comes from its token.
//! - A connection costs a few KiB until it sends; payloads are bounded by the budget, and a session that does not get
//!   on stops reading its socket.
//!
//! # When something fails
//!
//! A wrong batch is refused alone. A frame that can't be understood ends its session with a Goodbye that says why. A
//! log that takes nothing makes agents wait (Nack retry). A panic in one session ends that session.

mod connection;
pub mod credit;
mod heads;
pub mod hello;
mod http;
mod known;
mod listener;
mod registry;
pub mod session;
pub mod validate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgelogger_common::block::batch::BatchLimits;
use edgelogger_common::clock::Clock;
use edgelogger_common::tls::FloorTime;
use tokio_util::sync::CancellationToken;

pub use credit::{Budget, WINDOW_BYTES_MIN};
pub use heads::{Head, Heads};
pub use hello::{LABELS_MAX, STREAMS_MAX};
pub use known::KnownStreams;
pub use listener::{IngestError, IngestListener};
pub use registry::Registry;
pub use validate::Validator;

use crate::flow::LogSender;
use crate::health::{Health, IngestReport};
use crate::in_force::InForce;

/// What ingest is told by the configuration.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// TLS and HTTP handshakes in work at once.
    pub handshakes_max: usize,
    /// Time for the TLS handshake, for the request head, and for the Hello, each.
    pub handshake_timeout: Duration,
    /// Agents at once.
    pub sessions_max: usize,
    /// The largest batch and what it may open to.
    pub batch_limits: BatchLimits,
    /// Frames of a session that are not answered, at most.
    pub in_flight_max: u32,
    /// Credit of a busy agent, in bytes.
    pub window_bytes_max: u64,
    /// How often an agent reports; after three times this in silence its connection is closed.
    pub heartbeat_interval: Duration,
    /// New connections that the collector is glad to take in a second: what reconnects are spread by.
    pub admissions_per_second: u32,
}

/// Of an agent and its machine's mark to what it may go on with.
pub type StoredStreams = dyn Fn(&str, &[u8]) -> Vec<edgelogger_proto::v1::StoredStream> + Send + Sync;

/// Everything that the connections share.
pub struct IngestContext {
    /// Configuration.
    pub settings: IngestSettings,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// The time that tokens are checked against.
    pub time: Arc<FloorTime>,
    /// Who may sign tokens, among others.
    pub in_force: Arc<InForce>,
    /// Sessions.
    pub registry: Arc<Registry>,
    /// Memory for payloads.
    pub budget: Arc<Budget>,
    /// The checker of batches.
    pub validator: Arc<Validator>,
    /// Streams that are known.
    pub known: KnownStreams,
    /// What is stored of the files of a machine whose agent lost its state, by agent and machine.
    pub stored: Box<StoredStreams>,
    /// What agents said of their streams' heads.
    pub heads: Heads,
    /// The way into the log.
    pub log: LogSender,
    /// Problems.
    pub health: Arc<Health>,
    /// Counts.
    pub counts: Counts,
    /// Cancelled when the collector stops.
    pub stop: CancellationToken,
}

impl std::fmt::Debug for IngestContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestContext")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What came in since the start of the process.
#[derive(Debug, Default)]
pub struct Counts {
    batches: AtomicU64,
    records: AtomicU64,
    payload_bytes: AtomicU64,
    rejected: AtomicU64,
    retried: AtomicU64,
    refused: AtomicU64,
}

impl IngestContext {
    /// The counts of now.
    #[must_use]
    pub fn report(&self, address: String) -> IngestReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IngestReport {
            address,
            sessions: self.registry.count() as u64,
            batches: count(&self.counts.batches),
            records: count(&self.counts.records),
            payload_bytes: count(&self.counts.payload_bytes),
            rejected: count(&self.counts.rejected),
            retried: count(&self.counts.retried),
            refused: count(&self.counts.refused),
            memory_reserved_bytes: self.budget.reserved(),
            memory_budget_bytes: self.budget.total(),
        }
    }

    /// How long reconnecting agents spread over: near 0 for a small fleet.
    fn reconnect_spread(&self) -> Duration {
        let per_second = self.settings.admissions_per_second.max(1);
        Duration::from_secs_f64(self.registry.count() as f64 / f64::from(per_second))
    }
}

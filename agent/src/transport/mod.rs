//! Brings batches to the collector: each exactly once as far as the checkpoint is concerned, in order, within bounds.
//!
//! ```text
//! Outgoing ──> Session (pure) ──> Line ──> WebSocket ══TLS 1.3══> collector
//!                 │  ^                                               │
//!   Journal <─────┘  └──────────────── frames <──────────────────────┘
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `session/` | the core: sequences, window, acks, rejects, what is sent again; no socket, no clock |
//! | `recode.rs` | batches made again: what a reject leaves, what limits ask for |
//! | `wire.rs` | frames to bytes and back |
//! | `run.rs` | the shell: one task that carries the core's actions out, connection after connection |
//! | `websocket.rs` | one connection |
//! | `reconnect.rs`, `liveness.rs`, `heads.rs` | when to connect again, when a peer is dead, what heartbeats tell; pure |
//! | `probe.rs` | a connection without a session, for `check` |
//! | `journal.rs` | what is asked of and told to the rest of the agent |
//! | `quarantine.rs` | rejected blocks, kept within bounds |
//! | `config.rs`, `error.rs`, `status.rs`, `tls_files.rs` | settings; what a person is told; token and CA |
//!
//! The rules between agent and collector: docs/protocol.md.
//!
//! # What always holds
//!
//! - A block is handed to [`Journal::acked`] once, and only after the collector said that it is durable, has it, or has
//!   the receipt that says why not.
//! - Memory: what is in flight (`in_flight_bytes` and at most one batch more), and one item that waits for room. While
//!   there is no session nothing is taken from the encoder, which then stops, and the ring, and the sources.
//! - No failure ends the transport. It ends when its input is closed and everything is acked, or at the deadline.
//!
//! # On failure
//!
//! A connection that breaks, is silent, or breaks the protocol: everything not acked is sent again in the next. Each
//! kind of trouble is logged once, then every ten minutes, and stands in [`TransportStatus`] for as long as it lasts.

mod config;
mod error;
mod heads;
mod journal;
mod liveness;
mod probe;
mod quarantine;
mod recode;
mod reconnect;
mod run;
pub mod session;
mod status;
#[cfg(test)]
mod tests;
mod tls_files;
mod websocket;
mod wire;

use edgelogger_proto::v1::{Codec, Welcome};

pub use config::{CollectorConfig, DEFAULT_PATH, DEFAULT_PORT, Target, TargetError, Token};
pub use error::ConnectError;
pub use journal::{Delivered, Journal, Vitals};
pub use probe::probe;
pub use quarantine::Quarantine;
pub use reconnect::Backoff;
pub use run::{Identity, Parts, Transport};
pub use status::{ConnectionState, TransportStatus, TransportTrouble};

/// What the encoder makes batches for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineTerms {
    /// Of the collector.
    pub limits: CollectorLimits,
    /// What the line carries, as measured: bytes of payload per second, the power of two below. `None`: not measured
    /// since it was connected.
    pub bytes_per_second: Option<u64>,
}

/// What the collector accepts; the encoder makes batches within it. What was made before is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorLimits {
    /// Compressed payload of a batch, in bytes.
    pub batch_bytes_max: u64,
    /// Payload before compression, in bytes.
    pub decompressed_bytes_max: u64,
    /// Decompressed bytes for one compressed byte.
    pub ratio_max: u64,
    /// Blocks in a batch.
    pub blocks_max: u64,
    /// A record's body, in bytes.
    pub record_bytes_max: u64,
    /// Batches sent and not acked; 0: as many as our own bound allows.
    pub batches_in_flight_max: u64,
    /// What it decodes, best first; empty: everything.
    pub codecs: Vec<Codec>,
}

impl Default for CollectorLimits {
    /// Before the first Welcome: what every collector takes.
    fn default() -> Self {
        Self {
            batch_bytes_max: 1 << 20,
            decompressed_bytes_max: 8 << 20,
            ratio_max: 1000,
            blocks_max: 16_384,
            record_bytes_max: 1 << 20,
            batches_in_flight_max: 0,
            codecs: Vec::new(),
        }
    }
}

impl CollectorLimits {
    /// What a Welcome says; where it says 0, the default.
    #[must_use]
    pub fn of(welcome: &Welcome) -> Self {
        let said = welcome.limits.unwrap_or_default();
        let default = Self::default();
        let or = |said: u64, default: u64| if said == 0 { default } else { said };
        Self {
            batch_bytes_max: or(said.batch_bytes_max, default.batch_bytes_max),
            decompressed_bytes_max: or(said.decompressed_bytes_max, default.decompressed_bytes_max),
            ratio_max: or(said.ratio_max.into(), default.ratio_max),
            blocks_max: or(said.blocks_max.into(), default.blocks_max),
            record_bytes_max: or(said.record_bytes_max.into(), default.record_bytes_max),
            batches_in_flight_max: said.batches_in_flight_max.into(),
            codecs: welcome
                .codecs()
                .filter(|codec| *codec != Codec::Unspecified)
                .collect(),
        }
    }
}

//! The agent: collects what a machine has to say and ships it, sparing the machine.
//!
//! ```text
//! sources ──> ring ──> batcher ──> encoder ──> (spool) ──> transport ═══TLS═══> collector
//!    ^                                                        │
//!    └───────────────────── checkpoint <──── acks ────────────┘
//! ```
//!
//! Modules in the order of the flow:
//!
//! | module | idea |
//! | --- | --- |
//! | [`flow`] | the types between the stages |
//! | [`sources`] | where records come from: files, journald, the machine |
//! | [`ring`] | a queue bounded in slots and bytes, with a reserve for each source |
//! | [`batcher`] | which blocks go together, and when; pure |
//! | [`encoder`] | blocks to one compressed batch |
//! | [`spool`] | on disk, what can't be read again and is not acknowledged |
//! | [`transport`] | batches to the collector, each exactly once for the checkpoint |
//! | [`checkpoint`] | what is acknowledged, on disk |
//! | [`tally`] | the account of every position: read = acked + in flight + dropped + lost + rejected |
//! | [`pipeline`] | wires them together, starts and stops them |
//! | [`status`], [`config`], [`cli`] | what is told, what can be set, what can be typed |
//! | [`audit`] | files on disk against the collector's ledger |
//! | [`adoption`] | an agent whose state is lost goes on where it was |
//! | [`alarm`] | how a source that sleeps is woken |
//! | [`problem`] | something that is wrong, and what to do about it |
//! | [`reload`] | what is told of the configuration in force |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod adoption;
pub mod alarm;
pub mod audit;
pub mod batcher;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod encoder;
pub mod flow;
pub mod pipeline;
pub mod problem;
pub mod reload;
pub mod ring;
pub mod sources;
pub mod spool;
pub mod status;
pub mod tally;
pub mod transport;

/// Version of the agent: what it tells the collector, and what every row carries.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

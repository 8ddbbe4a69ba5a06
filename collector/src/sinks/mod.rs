//! Sinks: who reads the log, each with a cursor of its own, on a thread of its own.
//!
//! | file | idea |
//! | --- | --- |
//! | `runner.rs` | reads the log from the cursor, applies, waits for more; what happens when that fails |
//! | `store.rs` | the embedded store: transactional, holds the log |
//! | `maintainer.rs` | merges the store's small files in idle time |
//! | `console.rs` | lines on stdout, never holds the log |
//! | `dead_letter.rs` | entries that can never be applied, kept for a person to look at |
//!
//! # Invariants
//!
//! - Entries are applied in the order of the log, each at least once; the sink itself tells what it has already.
//! - A sink that does not know what an entry means stops and says so; it never skips it.
//! - In records: read from log = applied + duplicate + dead-lettered.

mod console;
mod dead_letter;
mod maintainer;
mod runner;
mod store;

use edgelogger_common::error_code::ErrorCode;
use edgelogger_proto::v1::LogEntry;
use edgelogger_store::Missed;

pub use console::ConsoleSink;
pub use dead_letter::DeadLetters;
pub use runner::{Runner, RunningSink};
pub use store::StoreSink;

/// What one entry came to, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Went in.
    pub applied: u64,
    /// Were there before.
    pub duplicate: u64,
}

/// What the runner does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Try the same again after a pause.
    Retry,
    /// Wait for a person, and try rarely.
    Stop,
    /// Put this entry aside and go on.
    DeadLetter,
}

/// A sink could not do its work. Nothing of the entry was applied.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// What to do.
    pub remedy: Remedy,
    /// Stable code.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
}

/// Where entries go.
pub trait Sink: Send {
    /// Its name in health and log lines.
    fn name(&self) -> &'static str;
    /// The next entry it wants.
    fn cursor(&self) -> u64;
    /// Everything below is durable in it.
    fn durable_cursor(&self) -> u64;
    /// Everything below is durable in it twice.
    fn held_cursor(&self) -> u64 {
        self.durable_cursor()
    }
    /// Takes one entry. One below the cursor changes nothing.
    ///
    /// # Errors
    /// With what to do about it.
    fn apply(&mut self, sequence: u64, entry: &LogEntry) -> Result<Outcome, SinkError>;
    /// Goes on behind an entry of which nothing is missed.
    fn skip(&mut self, sequence: u64);
    /// Goes on behind entries that never came, or can't be applied. A sink with a ledger keeps that in mind.
    fn step_over(&mut self, missed: &Missed<'_>) {
        self.skip(missed.entries.end.saturating_sub(1));
    }
    /// Nothing more will come: makes everything durable.
    ///
    /// # Errors
    /// When that fails; the log has it still.
    fn finish(&mut self) -> Result<(), SinkError>;
}

//! The commit log: what is in it survives, and only what is in it is acknowledged.
//!
//! | file | idea |
//! | --- | --- |
//! | `embedded.rs` | one thread that owns the segment log: group commit, retention, recovery |
//!
//! # Invariants
//!
//! - `Verdict::Durable` is given after `fdatasync` returned without error, and never otherwise.
//! - Entries are appended in the order in which they were submitted.
//! - After a failed write or sync nothing is appended before the log was reopened and verified; everything that was
//!   under way is answered with "later".
//!
//! # When something fails
//!
//! Agents are told to wait, health says why and what to do, and it goes on by itself when the cause is gone.

mod embedded;

pub use embedded::{EmbeddedLog, LogOpenError, LogSettings, LogStatus, OpenedLog};

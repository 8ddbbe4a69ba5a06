//! The collector: takes batches from agents, makes them durable, acknowledges them, and answers questions.
//!
//! ```text
//! agents ═TLS═> ingest ──> commit log ──> sinks ──> store <── api
//!        <═ack═            (fsync)          └────> console
//! ```
//!
//! Modules in the order of the flow: [`flow`] (the types between the stages), [`ingest`], [`log`], [`sinks`], [`api`];
//! [`health`] is told by all of them; [`machines`] is who there is; [`kept_file`] keeps what agents said through a restart.
//! [`config`] and [`setup`] come before, [`adoption`] is what a new agent on an old machine is told; [`wiring`] puts everything together,
//! [`in_force`] and [`reload`] are what changes while it runs, [`cli`] is what a person types.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod adoption;
pub mod api;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod flow;
pub mod health;
pub mod in_force;
pub mod ingest;
pub mod kept_file;
pub mod ledger;
pub mod log;
pub mod machines;
pub mod reload;
pub mod setup;
pub mod sinks;
pub mod text;
pub mod when;
pub mod wiring;

pub use config::Config;
pub use wiring::{Collector, RunningCollector, StartError};

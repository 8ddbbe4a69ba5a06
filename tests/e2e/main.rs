//! End-to-end tests: the real programs, real files, real TLS.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod answers;
mod audit;
mod bad_input;
mod content;
mod context;
mod deletion;
mod docs;
mod faults;
mod follow;
mod outage;
mod reference;
mod reload;
mod rotation;
mod store;
mod tutorial;

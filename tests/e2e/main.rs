//! End-to-end tests: the real programs, real files, real TLS.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod answers;
mod audit;
mod bad_input;
mod content;
mod deletion;
mod docs;
mod faults;
mod outage;
mod rotation;

//! The running collector, in this process, against a client written by hand: real TLS, real WebSocket, real files.

#![allow(clippy::unwrap_used, missing_docs)]

mod api;
mod client;
mod deletions;
mod faults;
mod fleet;
mod handshakes;
mod ledger;
mod logs;
mod metrics;
mod paused;
mod queries;
mod reference;
mod reload;
mod sessions;
mod store_files;

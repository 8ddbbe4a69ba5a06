//! The types of the wire, of the commit log and of the spool, generated from `edgelogger/v1/*.proto`.
//!
//! `docs/protocol.md` tells the rules between the messages. Golden bytes of every message stand in
//! `proto/tests/golden`, for ever.

/// Wire v1, and the entries of commit log and spool.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/edgelogger.v1.rs"));
}

/// The protocol versions this build speaks.
pub const PROTOCOL_VERSION_MIN: u32 = 1;
/// The newest protocol version this build speaks.
pub const PROTOCOL_VERSION_MAX: u32 = 1;

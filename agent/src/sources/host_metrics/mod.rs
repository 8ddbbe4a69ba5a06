//! Measurements of the machine: processors, memory, file systems, network, temperatures.
//!
//! ```text
//! /proc, /sys ──reader──> snapshot ──samples (pure)──> rows ──> block ──> overflow ──> ring
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `config` | what an operator can say |
//! | `snapshot` | what was measured, as plain numbers |
//! | `cpu` | `/proc/stat`: time by mode, which sysinfo does not give |
//! | `reader` | measuring: refreshes only what is reported |
//! | `samples` | a snapshot to samples with OpenTelemetry names and UCUM units, pure |
//! | `source` | the loop, the stream, and the closing of the stream of an earlier process |
//!
//! A measurement can't be repeated, so each process has a **stream of its own**; positions count samples. On a clean
//! stop the stream is ended exactly. After a crash the next process ends it: what lies between acknowledged ranges gets
//! a receipt (`crashed`), and the end says `exact` = false, because how many samples were taken after the last
//! acknowledged one nobody knows.
//!
//! While the ring is full, blocks wait in an [`Overflow`](crate::ring::Overflow) of [`OVERFLOW_BYTES_MAX`]; what falls
//! out leaves a receipt (`queue_full`, exact).

mod config;
mod cpu;
mod reader;
mod samples;
mod snapshot;
mod source;

pub use config::{HostMetricsConfig, INTERVAL_MIN};
pub use source::{HostMetricsSource, HostMetricsStatus, HostMetricsStatusView, OVERFLOW_BYTES_MAX};

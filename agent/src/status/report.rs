//! The report. Times are ns UTC, sizes bytes; names say so.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::sources::host_metrics::HostMetricsStatusView;
use crate::sources::journald::JournaldStatusView;
use crate::spool::SpoolStatusView;
use crate::tally::Accounts;

/// Files in a report; those that are furthest behind come first, and `followed` counts all.
pub const FILES_MAX: usize = 1000;

/// Does everything work?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Yes.
    Healthy,
    /// Not everything; `problems` says what.
    Degraded,
}

/// Everything about a running agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Now, ns UTC.
    pub now_ns: i64,
    /// When it started, ns UTC.
    pub started_ns: i64,
    /// How long ago that was, by a clock that nobody sets.
    pub uptime_ns: u64,
    /// Does everything work?
    pub health: Health,
    /// What does not, and what to do about it.
    pub problems: Vec<Problem>,
    /// Settings that were changed and wait for the next start.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// Memory in use.
    pub rss_bytes: u64,
    /// Processor time since the start.
    pub cpu_time_ns: u64,
    /// Bytes in the ring and in batches that are collected.
    pub ring_bytes: u64,
    /// The most there may be.
    pub ring_bytes_max: u64,
    /// Since the start: read = acked + in flight + dropped + lost + rejected.
    pub accounts: Accounts,
    /// `read` less everything that is known of it; not 0 is a bug.
    pub residual_positions: i64,
    /// Each source, and how far the collector is behind it.
    pub sources: Vec<SourceReport>,
    /// The connection to the collector.
    pub connection: ConnectionReport,
    /// The spool, where something is collected that can't be read again.
    pub spool: Option<SpoolStatusView>,
    /// All file sources together, where there are any.
    pub files: Option<FilesReport>,
    /// journald, where it is collected.
    pub journald: Option<JournaldStatusView>,
    /// Host metrics, where they are collected.
    pub host_metrics: Option<HostMetricsStatusView>,
}

/// The connection to the collector.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Host and port.
    pub peer: String,
    /// starting, connecting, connected, waiting, stopped.
    pub state: String,
    /// Since when, ns UTC.
    pub since_ns: i64,
    /// Since when there is no session, through all attempts, ns UTC; `None` while there is one.
    #[serde(default)]
    pub down_since_ns: Option<i64>,
    /// Attempts in a row that failed for the same reason.
    #[serde(default)]
    pub attempts_failed: u64,
    /// Why it does not work, with its code.
    pub trouble: Option<String>,
    /// The last ack, ns UTC.
    pub last_ack_ns: Option<i64>,
    /// Compressed bytes sent and not acked.
    pub in_flight_bytes: u64,
    /// Batches sent and not acked.
    pub in_flight_batches: u64,
    /// Bytes of messages since the start, before TLS.
    pub bytes_sent: u64,
    /// Round trip of the last ping.
    pub round_trip_ms: Option<u64>,
    /// Blocks that the collector rejected for good.
    pub blocks_rejected: u64,
    /// Version of the collector.
    pub collector_version: String,
    /// What its acks promise.
    pub durability: String,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its globs, `journald`, `host_metrics`.
    pub name: String,
    /// What positions count: `bytes` or `records`.
    pub unit: String,
    /// following, waiting for room, adopting, not running.
    pub state: String,
    /// Files that are followed, where it is of files.
    pub files: Option<usize>,
    /// Positions that are there and that the collector has not acknowledged.
    pub not_acked: u64,
    /// How long ago the oldest of them was first seen.
    pub oldest_age_ns: Option<u64>,
    /// Records read a second, over about a minute; `None` until that was looked at twice.
    pub records_per_second: Option<f64>,
    /// The state of the agent is new, and files wait for what the collector says of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<AdoptionReport>,
}

/// What an agent whose state is new does before it makes new streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptionReport {
    /// It waits until it can ask the collector.
    Asking {
        /// Then it goes on without.
        wait_max_ns: u64,
    },
    /// It compares what the collector has with the files.
    Comparing {
        /// Streams to go.
        files_left: usize,
    },
}

/// File sources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilesReport {
    /// Files that are followed.
    pub followed: usize,
    /// Files that were skipped.
    pub skipped_count: usize,
    /// Bytes that are there and not read yet.
    pub behind_bytes: u64,
    /// Files of which the collector has not everything.
    #[serde(default)]
    pub behind_count: usize,
    /// Reading waits because the ring is full.
    pub waits_for_credit: bool,
    /// At most [`FILES_MAX`].
    pub files: Vec<FileReport>,
    /// At most [`FILES_MAX`].
    pub skipped: Vec<SkippedReport>,
}

/// One followed file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileReport {
    /// The path by which it was included.
    pub name: String,
    /// Where it is now, if elsewhere.
    pub path: Option<String>,
    /// Its stream, as hexadecimal digits.
    pub stream: Option<String>,
    /// waiting, following, rotated, deleted.
    pub state: String,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that the collector has.
    pub acked: u64,
    /// Its length.
    pub size: u64,
    /// Bytes that are there and that the collector has not acknowledged, wherever in the file.
    #[serde(default)]
    pub not_acked: u64,
    /// How long ago the oldest of them was first seen.
    #[serde(default)]
    pub oldest_age_ns: Option<u64>,
    /// What went wrong last.
    pub error: Option<String>,
}

/// One path that is included and not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedReport {
    /// Which.
    pub path: String,
    /// Why.
    pub reason: String,
}

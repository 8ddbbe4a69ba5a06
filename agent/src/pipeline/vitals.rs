//! What heartbeats and `status` tell of this process.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::clock::Clock;
use edgelogger_proto::v1::{AgentMetrics, StreamHead};
use parking_lot::Mutex;

use super::ages::Ages;
use super::sources::SourceStatuses;
use crate::checkpoint::Checkpoints;
use crate::ring::Ring;
use crate::spool::{Spool, SpoolStatusView};
use crate::tally::Accounts;
use crate::transport::Vitals;

/// Ticks of a second in `/proc`: the kernel shows 100 on every architecture that Rust serves.
const NS_PER_TICK: u64 = 10_000_000;

/// See the module page.
pub struct AgentVitals {
    ring: Ring,
    checkpoints: Arc<Checkpoints>,
    statuses: SourceStatuses,
    spool: Option<Spool>,
    clock: Arc<dyn Clock>,
    ages: Mutex<Ages>,
    /// Wall clock at the start: ns UTC.
    started_ns: i64,
    started: std::time::Instant,
}

/// What this process costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessCost {
    /// Memory in use, in bytes.
    pub rss_bytes: u64,
    /// Processor time since its start.
    pub cpu_time_ns: u64,
}

impl AgentVitals {
    pub(super) fn new(
        ring: Ring,
        checkpoints: Arc<Checkpoints>,
        statuses: SourceStatuses,
        spool: Option<Spool>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            ring,
            checkpoints,
            statuses,
            spool,
            started_ns: clock.wall_ns(),
            clock,
            ages: Mutex::default(),
            started: std::time::Instant::now(),
        }
    }

    /// Views of all sources.
    #[must_use]
    pub const fn sources(&self) -> &SourceStatuses {
        &self.statuses
    }

    /// The account of everything that was read.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        self.ring.tally().accounts()
    }

    /// Bytes and events in the ring.
    #[must_use]
    pub fn ring(&self) -> (u64, u64) {
        (self.ring.bytes_used() as u64, self.ring.len() as u64)
    }

    /// Wall clock at the start, ns UTC, and how long ago that was.
    #[must_use]
    pub fn started(&self) -> (i64, std::time::Duration) {
        (self.started_ns, self.started.elapsed())
    }

    /// What is wrong with the checkpoint file.
    #[must_use]
    pub fn checkpoint_trouble(&self) -> Option<String> {
        self.checkpoints.trouble()
    }

    /// Files of which a log that was replaced may have acknowledged what the collector does not have.
    #[must_use]
    pub fn unsettled(&self) -> Vec<String> {
        let left = self.checkpoints.unsettled().into_iter();
        let mut names: Vec<_> = left.map(|state| state.descriptor.name).collect();
        names.dedup();
        names
    }

    /// The spool, where there is one.
    #[must_use]
    pub fn spool(&self) -> Option<SpoolStatusView> {
        self.spool.as_ref().map(Spool::status)
    }

    /// Every position below is acknowledged.
    #[must_use]
    pub fn acked_upto(&self, stream: &edgelogger_common::stream::StreamId) -> Option<u64> {
        self.checkpoints.acked_upto(stream)
    }

    /// What sources know of their streams: read, and the end as last seen.
    fn progress(&self) -> HashMap<Bytes, (u64, u64)> {
        let mut progress = HashMap::new();
        // Of earlier processes; those of this one are told below.
        for (stream, end) in self.spool.iter().flat_map(Spool::ends) {
            progress.insert(stream.to_proto(), (end, end));
        }
        for file in self
            .statuses
            .files
            .iter()
            .flat_map(crate::sources::file::FileSourceStatus::files)
        {
            if let Some(stream) = file.stream_id {
                progress.insert(stream.to_proto(), (file.read, file.size.max(file.read)));
            }
        }
        let mut counted = |stream: Option<String>, read: u64| {
            let id = stream.and_then(|stream| stream.parse::<edgelogger_common::stream::StreamId>().ok());
            if let Some(id) = id {
                progress.insert(id.to_proto(), (read, read));
            }
        };
        if let Some(journald) = self
            .statuses
            .journald
            .as_ref()
            .map(super::super::sources::journald::JournaldStatus::view)
        {
            counted(journald.stream, journald.position);
        }
        if let Some(metrics) = self
            .statuses
            .host_metrics
            .as_ref()
            .map(crate::sources::host_metrics::HostMetricsStatus::view)
        {
            counted(metrics.stream, metrics.samples);
        }
        progress
    }
}

impl Vitals for AgentVitals {
    fn heads(&self) -> Vec<StreamHead> {
        let (progress, streams) = (self.progress(), self.checkpoints.streams());
        let (mut ages, now) = (self.ages.lock(), self.clock.monotonic());
        let open: HashSet<Bytes> = streams
            .iter()
            .map(|state| state.descriptor.stream_id.clone())
            .collect();
        ages.retain(|stream| open.contains(stream));
        streams
            .into_iter()
            .map(|state| {
                let id = state.descriptor.stream_id;
                let acked = state.acked_upto;
                let (read, size) = progress.get(&id).copied().unwrap_or((acked, acked));
                let age = ages.look(&id, acked, size.max(read), now);
                StreamHead {
                    stream_id: id,
                    acked,
                    read: read.max(acked),
                    size: size.max(acked),
                    oldest_unacked_age_ms: age.map_or(0, age_ms),
                }
            })
            .collect()
    }

    fn metrics(&self) -> AgentMetrics {
        let cost = process_cost();
        let records = self.accounts().records;
        AgentMetrics {
            rss_bytes: cost.rss_bytes,
            cpu_time_ns: cost.cpu_time_ns,
            records_read: records.read,
            records_acked: records.acked,
            records_dropped: records.dropped,
            records_lost: records.lost,
            records_rejected: records.rejected,
            records_in_flight: records.in_flight,
            ring_bytes: self.ring().0,
            uptime_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            streams_open: self.checkpoints.streams().len() as u64,
            ..AgentMetrics::default()
        }
    }
}

/// At least 1: 0 says that nothing waits.
fn age_ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// From `/proc/self`; zeroes where there is none.
#[must_use]
pub fn process_cost() -> ProcessCost {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    parse_cost(&read("statm"), &read("stat"), rustix::param::page_size() as u64)
}

/// Resident pages are the second number of `statm`; user and system ticks the 14th and 15th of `stat`, whose second,
/// the name in brackets, may hold anything.
fn parse_cost(statm: &str, stat: &str, page_bytes: u64) -> ProcessCost {
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let mut words = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(11);
    let ticks = number(words.next()) + number(words.next());
    ProcessCost {
        rss_bytes: number(statm.split_ascii_whitespace().nth(1)) * page_bytes,
        cpu_time_ns: ticks * NS_PER_TICK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_process_is_read_whatever_its_name() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 100 0 0 0 25 5 0 0 20 0 1 0 100";
        let expected = ProcessCost {
            rss_bytes: 4096 * 300,
            cpu_time_ns: 300_000_000,
        };
        assert_eq!(parse_cost("900 300 200 1 0 1 0", stat, 4096), expected);
        assert_eq!(parse_cost("", "", 4096), ProcessCost::default());
        assert!(process_cost().rss_bytes > 0);
    }
}

//! What heartbeats and `status` tell of this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::clock::Clock;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{AgentMetrics, StreamHead};
use parking_lot::Mutex;

use super::ages::Ages;
use super::rates::Rates;
use super::sources::SourceStatuses;
use crate::checkpoint::{AckedHead, Checkpoints};
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
    rates: Mutex<Rates>,
    /// Wall clock at the start: ns UTC.
    started_ns: i64,
    started: std::time::Instant,
}

/// What of a stream the collector has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamLag {
    /// Positions that are there and not acknowledged.
    pub not_acked: u64,
    /// How long ago the oldest of them was first seen; `None` where there is none.
    pub oldest_age: Option<Duration>,
}

/// A stream, and what its source knows of it.
struct Looked {
    head: AckedHead,
    read: u64,
    size: u64,
    age: Option<Duration>,
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
            rates: Mutex::default(),
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

    /// What of each open stream is not acknowledged.
    #[must_use]
    pub fn lags(&self) -> HashMap<StreamId, StreamLag> {
        let lag = |looked: Looked| {
            let all = looked.size.saturating_sub(looked.head.start);
            let lag = StreamLag {
                not_acked: all.saturating_sub(looked.head.acked),
                oldest_age: looked.age,
            };
            (looked.head.stream_id, lag)
        };
        self.look().into_iter().map(lag).collect()
    }

    /// Notes how far everything has come.
    pub fn note(&self) {
        self.rates.lock().note(self.clock.monotonic(), self.counters());
        self.look();
    }

    /// Records read a second: of each file source, of the journal, of the measurements, in this order as far as they
    /// are there. `None`: it was not looked at for long enough.
    #[must_use]
    pub fn rates(&self) -> Option<Vec<f64>> {
        let (now, counters) = (self.clock.monotonic(), self.counters());
        let mut rates = self.rates.lock();
        let per_second = rates.per_second(now, &counters);
        rates.note(now, counters);
        per_second
    }

    fn counters(&self) -> Vec<u64> {
        let statuses = &self.statuses;
        let files = statuses.files.iter().map(|files| files.totals().records_read);
        let journald = statuses.journald.iter().map(|status| status.view().entries_read);
        let metrics = statuses.host_metrics.iter().map(|status| status.view().samples);
        files.chain(journald).chain(metrics).collect()
    }

    /// The clock of the sources.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Every position below is acknowledged.
    #[must_use]
    pub fn acked_upto(&self, stream: &StreamId) -> Option<u64> {
        self.checkpoints.acked_upto(stream)
    }

    /// What sources know of their streams: read, and the end as last seen.
    fn progress(&self) -> HashMap<StreamId, (u64, u64)> {
        let mut progress = HashMap::new();
        // Of earlier processes; those of this one are told below.
        for (stream, end) in self.spool.iter().flat_map(Spool::ends) {
            progress.insert(stream, (end, end));
        }
        for source in &self.statuses.files {
            source.each_file(|file| {
                if let Some(stream) = file.stream_id {
                    progress.insert(stream, (file.read, file.size.max(file.read)));
                }
            });
        }
        let mut counted = |stream: Option<String>, read: u64| {
            if let Some(id) = stream.and_then(|stream| stream.parse().ok()) {
                progress.insert(id, (read, read));
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

impl AgentVitals {
    /// Every open stream now; notes how far each has come.
    fn look(&self) -> Vec<Looked> {
        let (progress, heads) = (self.progress(), self.checkpoints.heads());
        let (mut ages, now) = (self.ages.lock(), self.clock.monotonic());
        ages.retain(|stream| self.checkpoints.acked_upto(stream).is_some());
        let look = |head: AckedHead| {
            let (id, acked) = (&head.stream_id, head.upto);
            let (read, size) = progress.get(id).copied().unwrap_or((acked, acked));
            let age = ages.look(id, acked, size.max(read), now);
            let (read, size) = (read.max(acked), size.max(acked));
            Looked {
                head,
                read,
                size,
                age,
            }
        };
        heads.into_iter().map(look).collect()
    }
}

impl Vitals for AgentVitals {
    fn heads(&self) -> Vec<StreamHead> {
        self.rates.lock().note(self.clock.monotonic(), self.counters());
        let head = |looked: Looked| StreamHead {
            stream_id: looked.head.stream_id.to_proto(),
            acked: looked.head.upto,
            read: looked.read,
            size: looked.size,
            oldest_unacked_age_ms: looked.age.map_or(0, age_ms),
        };
        self.look().into_iter().map(head).collect()
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
            streams_open: self.checkpoints.stream_count() as u64,
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

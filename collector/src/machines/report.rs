//! One machine, put together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::book::Entry;
use crate::api::described::described;
use crate::health::{SessionReport, rfc3339};
use crate::ingest::IngestContext;
use crate::ledger::{Ledger, StreamReport, Totals};

described! {
/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachineReport {
    /// Its name.
    pub machine: String,
    /// Is its agent connected?
    pub connected: bool,
    /// Since when, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_since: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// When something was first heard of it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<String>,
    /// When something was last heard of it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// Version of its agent; absent where it has not connected since this collector keeps it in mind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// Its host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Labels of its agent.
    pub labels: BTreeMap<String, String>,
    /// What its clock is (or last was) ahead of the collector's, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Streams that are known of it.
    pub streams: u64,
    /// Of them, those that have not ended.
    pub open_streams: u64,
    /// Rows stored.
    pub rows: u64,
    /// Positions of streams of bytes, by state.
    pub bytes: Totals,
    /// Positions of streams of records, by state.
    pub records: Totals,
    /// While something is missing: seconds since the oldest of it was first seen, of the stream that is behind most.
    pub lag_s: u64,
}
}

/// Who knows of machines.
pub struct Machines {
    ledger: Arc<Ledger>,
    ingest: Arc<IngestContext>,
}

/// Sums of the streams of a machine.
#[derive(Debug, Clone, Default)]
struct Sums {
    first_opened: Option<String>,
    last_received: Option<String>,
    streams: u64,
    open_streams: u64,
    rows: u64,
    bytes: Totals,
    records: Totals,
    lag_s: u64,
}

impl Sums {
    fn add(&mut self, stream: &StreamReport) {
        // Times of one form order as text.
        if let Some(opened) = &stream.opened {
            let first = self.first_opened.get_or_insert_with(|| opened.clone());
            if opened < first {
                first.clone_from(opened);
            }
        }
        self.last_received = self.last_received.take().max(stream.last_received.clone());
        self.streams += 1;
        self.open_streams += u64::from(stream.end.is_none());
        self.rows += stream.rows;
        self.lag_s = self.lag_s.max(stream.lag_s);
        let totals = if stream.unit == "bytes" {
            &mut self.bytes
        } else {
            &mut self.records
        };
        totals.absorb(&stream.positions);
    }
}

impl Machines {
    /// Of this ledger and these sessions.
    #[must_use]
    pub const fn new(ledger: Arc<Ledger>, ingest: Arc<IngestContext>) -> Self {
        Self { ledger, ingest }
    }

    /// All machines whose name is wanted, by name. Blocks for as long as it takes to look at all streams.
    #[must_use]
    pub fn report(&self, wants: impl Fn(&str) -> bool) -> Vec<MachineReport> {
        let mut sums: HashMap<String, Sums> = HashMap::new();
        for stream in self.ledger.stream_reports(&wants) {
            sums.entry(stream.machine.clone()).or_default().add(&stream);
        }
        let mut entries = self.ingest.registry.book().all();
        let mut sessions = self.ingest.registry.sessions();
        entries.retain(|machine, _| wants(machine));
        for machine in sums.keys() {
            entries.entry(machine.clone()).or_default();
        }
        let machine = |(machine, entry): (String, Entry)| {
            let (sums, session) = (sums.remove(&machine), sessions.remove(&machine));
            self.machine(machine, entry, session, sums.unwrap_or_default())
        };
        entries.into_iter().map(machine).collect()
    }

    fn machine(
        &self,
        machine: String,
        entry: Entry,
        session: Option<SessionReport>,
        sums: Sums,
    ) -> MachineReport {
        let time = |ns: i64| (ns != 0).then(|| rfc3339(ns));
        let is_known = entry.first_seen_ns != 0;
        let first = [time(entry.first_seen_ns), sums.first_opened];
        let now = session.as_ref().map(|session| {
            let silent_ns = i64::try_from(session.silent_ms)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000_000);
            rfc3339(self.ingest.clock.wall_ns().saturating_sub(silent_ns))
        });
        MachineReport {
            machine,
            connected: session.is_some(),
            first_seen: first.into_iter().flatten().min(),
            last_seen: now.max(time(entry.last_seen_ns)).max(sums.last_received),
            agent_version: is_known.then_some(entry.agent_version),
            hostname: is_known.then_some(entry.hostname),
            labels: entry.labels,
            clock_ahead_ms: match &session {
                Some(session) => Some(session.clock_ahead_ms),
                None => is_known.then_some(entry.clock_ahead_ns / 1_000_000),
            },
            peer: session.as_ref().map(|session| session.peer.clone()),
            connected_since: session.map(|session| session.since),
            streams: sums.streams,
            open_streams: sums.open_streams,
            rows: sums.rows,
            bytes: sums.bytes,
            records: sums.records,
            lag_s: sums.lag_s,
        }
    }
}

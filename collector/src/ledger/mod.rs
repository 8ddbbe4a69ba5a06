//! The ledger: what has become of every position of every stream.
//!
//! ```text
//! store    applied ranges, receipts, end, write-offs ─┐
//! ingest   durable ranges (a hint)                   ─┼─> spans(): each position has exactly one state
//! agents   heads, as last told                       ─┘
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `report.rs` | the answer, and the states |
//! | `stream.rs`, `spans.rs` | what is known of one stream, position by position |
//! | `close.rs` | an operator closes the streams of a dead machine |
//! | `heads_file.rs` | what agents last said, through a restart |
//! | `folded.rs` | streams that are closed, whole and old, by day |
//! | `settle.rs` | what was acknowledged and never came to the store is found and said |
//!
//! | state | means |
//! | --- | --- |
//! | `stored` | a row of the store |
//! | `expired` | was a row of the store; retention or a deletion took it, as the reason says |
//! | `durable` | in the commit log, the store is behind |
//! | `pending` | not here; its agent is connected and has it |
//! | `unknown` | not here; its agent is silent since it last told of it |
//! | `dropped` | will never be a row, by policy (or because there is nothing to keep) |
//! | `dead_lettered` | can't be a row; its bytes are kept aside |
//! | `lost` | will never be a row, or was one in a file that can't be used (`store_damaged`), and it is said why |
//!
//! What the collector itself or an operator says of positions (`close.rs`, `settle.rs`) is a *write-off*: an entry of the
//! commit log like any other, applied by the store. It yields to data: what arrives after all is stored.

mod close;
mod folded;
mod heads_file;
mod report;
mod settle;
mod spans;
mod stream;

use std::sync::Arc;

use edgelogger_common::stream::StreamId;
use edgelogger_store::{EmbeddedStore, LogGap, LogGapKind, StreamState};

use crate::health::rfc3339;
use crate::ingest::IngestContext;
use crate::text::matches_wildcard;

pub use close::{CloseError, ClosePlan, CloseRequest};
pub use heads_file::{HeadsFile, KeptHeads};
pub use report::{
    AsideReport, CheckReport, ContentReport, EndReport, GapTotal, LedgerReport, LogGapReport, Span, State,
    StreamReport, SummaryReport, Totals,
};
pub use settle::Settler;

use stream::{Seen, checks, received_ns};

/// Ranges shown of one stream; more are summed.
pub const SPANS_MAX: usize = 1024;

/// Which streams.
#[derive(Debug, Clone, Default)]
pub struct LedgerQuery {
    /// Of these machines; `*` and `?` stand for any characters and any one.
    pub machine: Option<String>,
    /// Of these sources, likewise.
    pub source: Option<String>,
    /// Only this one.
    pub stream: Option<StreamId>,
    /// With positions in this state.
    pub state: Option<State>,
    /// Of which something was heard at or after this, ns UTC.
    pub since_ns: Option<i64>,
    /// Of this size: where they end, or as far as anybody has told.
    pub size: Option<u64>,
    /// With what their sources held.
    pub with_checks: bool,
    /// With summaries of streams that are folded.
    pub with_summaries: bool,
    /// At most so many.
    pub limit: usize,
}

/// Puts together what is known where.
pub struct Ledger {
    store: Arc<EmbeddedStore>,
    ingest: Arc<IngestContext>,
}

impl Ledger {
    /// Of this store, and of what these sessions heard.
    #[must_use]
    pub const fn new(store: Arc<EmbeddedStore>, ingest: Arc<IngestContext>) -> Self {
        Self { store, ingest }
    }

    /// The streams that are asked for. Blocks for as long as it takes to look at all streams.
    #[must_use]
    pub fn report(&self, query: &LedgerQuery) -> LedgerReport {
        let mut report = LedgerReport {
            log_gaps: self.store.log_gaps().iter().map(log_gap).collect(),
            folded_streams: self.store.folded_streams(),
            aside: self.store.aside().files.iter().map(AsideReport::from).collect(),
            ..LedgerReport::default()
        };
        if query.with_summaries {
            folded::add(&mut report, self.store.summaries(folded::since_day(query)), query);
        }
        for (stream_id, state, generation) in self.generations() {
            if !query.wants(stream_id, &state) {
                continue;
            }
            let mut stream = self.stream(stream_id, &state, generation);
            if query.with_checks {
                stream.checks = checks(&state);
            }
            if !query.takes(&stream) {
                continue;
            }
            report.count += 1;
            report.positions.absorb(&stream.positions);
            if report.streams.len() < query.limit {
                report.streams.push(stream);
            }
        }
        report
    }

    /// Every stream, by machine, source and age, and which of its source it is.
    fn generations(&self) -> impl Iterator<Item = (StreamId, Arc<StreamState>, u32)> + Send + use<> {
        let mut streams = self.store.streams();
        streams.sort_unstable_by(|(left_id, left), (right_id, right)| {
            let left = (&left.machine_id, &left.source, left.opened_ns, left_id);
            left.cmp(&(&right.machine_id, &right.source, right.opened_ns, right_id))
        });
        let mut before: Option<(Arc<StreamState>, u32)> = None;
        streams.into_iter().map(move |(stream_id, state)| {
            let same = before.take().filter(|(before, _)| {
                (&before.machine_id, &before.source) == (&state.machine_id, &state.source)
            });
            let generation = same.map_or(1, |(_, generation)| generation + 1);
            before = Some((Arc::clone(&state), generation));
            (stream_id, state, generation)
        })
    }

    /// The streams of these machines, one after the other.
    pub fn stream_reports<'a>(
        &'a self,
        wants_machine: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = StreamReport> + 'a {
        self.generations()
            .filter(move |(_, state, _)| wants_machine(&state.machine_id))
            .map(|(stream_id, state, generation)| self.stream(stream_id, &state, generation))
    }

    /// All streams, one after the other, each as it is when its turn comes.
    pub fn all_stream_reports(self: &Arc<Self>) -> impl Iterator<Item = StreamReport> + Send + use<> {
        let ledger = Arc::clone(self);
        self.generations()
            .map(move |(stream_id, state, generation)| ledger.stream(stream_id, &state, generation))
    }

    fn stream(&self, stream_id: StreamId, state: &StreamState, generation: u32) -> StreamReport {
        self.seen(stream_id, state, |seen| seen.report(stream_id, generation))
    }

    fn seen<T>(&self, stream_id: StreamId, state: &StreamState, look: impl FnOnce(&Seen<'_>) -> T) -> T {
        let agent = state.machine_id.as_str().into();
        let durable = self.ingest.known.durable_ranges(&agent, stream_id);
        let aside = self.store.aside();
        look(&Seen {
            state,
            aside: aside.of(&state.machine_id, stream_id),
            durable: &durable,
            head: self.ingest.heads.of(&agent, stream_id),
            is_connected: self.ingest.registry.is_connected(&state.machine_id),
            now_ns: self.ingest.clock.wall_ns(),
        })
    }
}

fn log_gap(gap: &LogGap) -> LogGapReport {
    LogGapReport {
        start: gap.entries.start,
        end: gap.entries.end,
        state: match gap.kind {
            LogGapKind::Damaged => State::Lost,
            LogGapKind::Skipped => State::Dropped,
            LogGapKind::DeadLettered => State::DeadLettered,
        },
        noted: rfc3339(gap.noted_ms.saturating_mul(1_000_000)),
        what: gap.what.clone(),
        records: (gap.records > 0).then_some(gap.records),
    }
}

impl LedgerQuery {
    fn wants(&self, stream_id: StreamId, state: &StreamState) -> bool {
        let fits = |pattern: &Option<String>, text: &str| {
            pattern
                .as_ref()
                .is_none_or(|pattern| matches_wildcard(pattern, text))
        };
        self.stream.is_none_or(|wanted| wanted == stream_id)
            && fits(&self.machine, &state.machine_id)
            && fits(&self.source, &state.source)
            && self
                .since_ns
                .is_none_or(|since| received_ns(state).max(state.opened_ns) >= since)
    }

    fn takes(&self, stream: &StreamReport) -> bool {
        self.state.is_none_or(|state| stream.positions.of(state) > 0)
            && self.size.is_none_or(|size| size == stream.size)
    }
}

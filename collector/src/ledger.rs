//! The ledger: what has become of every position of every stream.
//!
//! ```text
//! store    applied ranges, receipts, end ─┐
//! ingest   durable ranges (a hint)       ─┼─> spans(): each position has exactly one state
//! agents   heads, as last told           ─┘
//! ```
//!
//! | state | means |
//! | --- | --- |
//! | `stored` | a row of the store |
//! | `durable` | in the commit log, the store is behind |
//! | `pending` | not here; its agent is connected and has it |
//! | `unknown` | not here; its agent is silent since it last told of it |
//! | `dropped` | will never be a row, by policy (or because there is nothing to keep), and its agent said so |
//! | `lost` | will never be a row, and its agent said why |

use std::ops::Range;
use std::sync::Arc;

use clap::ValueEnum;
use edgelogger_common::block::ReceiptReason;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;
use edgelogger_store::{EmbeddedStore, Gap, StreamState};
use serde::Serialize;

use crate::health::rfc3339;
use crate::ingest::{Head, IngestContext};
use crate::text::matches_wildcard;

/// Ranges shown of one stream; more are summed.
pub const SPANS_MAX: usize = 1024;

/// What has become of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A row of the store.
    Stored,
    /// In the commit log.
    Durable,
    /// Its connected agent has it.
    Pending,
    /// Its silent agent had it.
    Unknown,
    /// Never a row, by policy.
    Dropped,
    /// Never a row, for a reason.
    Lost,
}

impl State {
    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }
}

/// Positions of one state, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// First position.
    pub start: u64,
    /// Behind the last position.
    pub end: u64,
    /// What has become of them.
    pub state: State,
    /// Why, where they are dropped or lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Records that they stood for; absent where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// Positions by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// See [`State`].
    pub stored: u64,
    /// See [`State`].
    pub durable: u64,
    /// See [`State`].
    pub pending: u64,
    /// See [`State`].
    pub unknown: u64,
    /// See [`State`].
    pub dropped: u64,
    /// See [`State`].
    pub lost: u64,
}

impl Totals {
    /// How many are in this state.
    #[must_use]
    pub const fn of(&self, state: State) -> u64 {
        match state {
            State::Stored => self.stored,
            State::Durable => self.durable,
            State::Pending => self.pending,
            State::Unknown => self.unknown,
            State::Dropped => self.dropped,
            State::Lost => self.lost,
        }
    }

    fn add(&mut self, state: State, positions: u64) {
        let counter = match state {
            State::Stored => &mut self.stored,
            State::Durable => &mut self.durable,
            State::Pending => &mut self.pending,
            State::Unknown => &mut self.unknown,
            State::Dropped => &mut self.dropped,
            State::Lost => &mut self.lost,
        };
        *counter = counter.saturating_add(positions);
    }

    fn absorb(&mut self, other: &Self) {
        for state in State::value_variants() {
            self.add(*state, other.of(*state));
        }
    }

    /// What is not stored yet and may still come.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.durable + self.pending + self.unknown
    }
}

/// The end of a stream as its agent declared it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndReport {
    /// No position at or above it exists.
    pub size: u64,
    /// `size` is exact; otherwise it is at least that.
    pub exact: bool,
    /// Why it ended.
    pub reason: String,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Whose.
    pub machine: String,
    /// A path, `journald`, `host`.
    pub source: String,
    /// 32 hexadecimal digits.
    pub stream_id: String,
    /// Which stream of this source, by the time it was opened; the first is 1.
    pub generation: u32,
    /// `file`, `journald`, …
    pub kind: String,
    /// What positions count: `bytes` or `records`.
    pub unit: &'static str,
    /// When its agent opened it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<String>,
    /// When something of it last came in, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_received: Option<String>,
    /// First position.
    pub start: u64,
    /// Every position below is stored, dropped or lost.
    pub stored_upto: u64,
    /// Behind the last position that anybody has told of.
    pub size: u64,
    /// Its end, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<EndReport>,
    /// Is its agent connected?
    pub connected: bool,
    /// Since when what is `unknown` is so, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_since: Option<String>,
    /// Positions by state: together they are everything from `start` to `size`.
    pub positions: Totals,
    /// Seconds since something came in, while something is missing.
    pub lag_s: u64,
    /// Rows stored.
    pub rows: u64,
    /// Every range that is not stored, ascending.
    pub gaps: Vec<Span>,
    /// Positions of further such ranges. Those that the store only summed are among `stored` in `positions`.
    #[serde(skip_serializing_if = "is_zero")]
    pub gaps_untold: u64,
    /// What the source held, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckReport>,
}

/// The source bytes of a range, as its agent read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// First position.
    pub start: u64,
    /// Behind the last position.
    pub end: u64,
    /// Of all its bytes.
    pub crc32c: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

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
    /// With what their sources held.
    pub with_checks: bool,
    /// At most so many.
    pub limit: usize,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// By machine, source and age.
    pub streams: Vec<StreamReport>,
    /// Streams that were asked for, also those beyond the limit.
    pub count: u64,
    /// Positions of all of them. Bytes and records are added as they are.
    pub positions: Totals,
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
        let mut streams = self.store.streams();
        streams.sort_unstable_by(|(left_id, left), (right_id, right)| {
            let left = (&left.machine_id, &left.source, left.opened_ns, left_id);
            left.cmp(&(&right.machine_id, &right.source, right.opened_ns, right_id))
        });
        let mut report = LedgerReport::default();
        let (mut generation, mut before) = (0, None);
        for (stream_id, state) in &streams {
            let source = (&state.machine_id, &state.source);
            generation = if before == Some(source) { generation + 1 } else { 1 };
            before = Some(source);
            if !query.wants(*stream_id, state) {
                continue;
            }
            let mut stream = self.stream(*stream_id, state, generation);
            if query.with_checks {
                stream.checks = checks(state);
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

    fn stream(&self, stream_id: StreamId, state: &StreamState, generation: u32) -> StreamReport {
        let agent = state.machine_id.as_str().into();
        let durable = self.ingest.known.durable_ranges(&agent, stream_id);
        let seen = Seen {
            state,
            durable: &durable,
            head: self.ingest.heads.of(&agent, stream_id),
            is_connected: self.ingest.registry.is_connected(&state.machine_id),
            now_ns: self.ingest.clock.wall_ns(),
        };
        seen.report(stream_id, generation)
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
    }
}

/// Everything that is known of one stream.
struct Seen<'a> {
    state: &'a StreamState,
    durable: &'a [Range<u64>],
    head: Option<Head>,
    is_connected: bool,
    now_ns: i64,
}

impl Seen<'_> {
    /// Behind the last position that anybody has told of.
    fn size(&self) -> u64 {
        let last = |ranges: &[Range<u64>]| ranges.last().map_or(0, |range| range.end);
        let head = self.head.map_or(0, |head| head.size.max(head.read));
        let end = self.state.end.map_or(0, |end| end.size);
        // An exact end stands against a head that was told before it.
        let told = match self.state.end {
            Some(end) if end.exact => end.size,
            _ => head.max(end),
        };
        told.max(last(self.state.applied()))
            .max(last(self.durable))
            .max(self.state.start)
    }

    fn report(&self, stream_id: StreamId, generation: u32) -> StreamReport {
        let (state, size) = (self.state, self.size());
        let all = spans(
            state.start..size,
            &state.gaps,
            state.applied(),
            self.durable,
            self.is_connected,
        );
        let mut positions = Totals::default();
        for span in &all {
            positions.add(span.state, span.end - span.start);
        }
        let last_heard_ns = received_ns(state).max(self.head.map_or(0, |head| head.told_ns));
        let lag_from_ns = received_ns(state).max(state.opened_ns);
        let lag_s = self.now_ns.saturating_sub(lag_from_ns).max(0) / 1_000_000_000;
        let time = |ns: i64| (ns != 0).then(|| rfc3339(ns));
        let mut gaps: Vec<Span> = all
            .into_iter()
            .filter(|span| span.state != State::Stored)
            .collect();
        let unshown = gaps.drain(SPANS_MAX.min(gaps.len())..);
        let gaps_unshown: u64 = unshown.map(|span| span.end - span.start).sum();
        StreamReport {
            machine: state.machine_id.clone(),
            source: state.source.clone(),
            stream_id: stream_id.to_string(),
            generation,
            kind: kind_word(state.kind),
            unit: if state.counts_records { "records" } else { "bytes" },
            opened: time(state.opened_ns),
            last_received: time(received_ns(state)),
            start: state.start,
            stored_upto: state.applied_upto(),
            size,
            end: state.end.map(|end| EndReport {
                size: end.size,
                exact: end.exact,
                reason: end_word(end.reason),
            }),
            connected: self.is_connected,
            unknown_since: time(last_heard_ns).filter(|_| positions.unknown > 0),
            positions,
            lag_s: if positions.behind() > 0 {
                lag_s.unsigned_abs()
            } else {
                0
            },
            rows: state.rows,
            gaps,
            gaps_untold: state.gaps_untold + gaps_unshown,
            checks: Vec::new(),
        }
    }
}

fn checks(state: &StreamState) -> Vec<CheckReport> {
    let report = |check: &edgelogger_store::ContentCheck| CheckReport {
        start: check.range.start,
        end: check.range.end,
        crc32c: check.crc32c,
    };
    state.checks.iter().map(report).collect()
}

const fn received_ns(state: &StreamState) -> i64 {
    state.last_received_ms.saturating_mul(1_000_000)
}

/// `STREAM_END_REASON_HOLD_EXPIRED` as `hold_expired`.
fn end_word(reason: i32) -> String {
    v1::StreamEndReason::try_from(reason).map_or_else(
        |_| reason.to_string(),
        |reason| {
            let name = reason.as_str_name();
            name.trim_start_matches("STREAM_END_REASON_").to_ascii_lowercase()
        },
    )
}

fn kind_word(kind: i32) -> String {
    v1::SourceKind::try_from(kind).map_or_else(
        |_| kind.to_string(),
        |kind| {
            let name = kind.as_str_name();
            name.trim_start_matches("SOURCE_KIND_").to_ascii_lowercase()
        },
    )
}

/// Gives every position of `whole` its state, in ranges as long as can be. `gaps` lie within `applied`; all are ascending
/// and disjoint.
fn spans(
    whole: Range<u64>,
    gaps: &[Gap],
    applied: &[Range<u64>],
    durable: &[Range<u64>],
    is_connected: bool,
) -> Vec<Span> {
    let gap_ranges = gaps.iter().map(|gap| &gap.range);
    let ranges = gap_ranges.chain(applied).chain(durable);
    let mut edges: Vec<u64> = ranges
        .flat_map(|range| [range.start, range.end])
        .chain([whole.start, whole.end])
        .map(|edge| edge.clamp(whole.start, whole.end.max(whole.start)))
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let holds = |ranges: &[Range<u64>], at: u64| {
        let index = ranges.partition_point(|range| range.end <= at);
        ranges.get(index).is_some_and(|range| range.start <= at)
    };
    let mut spans: Vec<(Option<usize>, Span)> = Vec::new();
    for pair in edges.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        let index = gaps.partition_point(|gap| gap.range.end <= start);
        let gap = gaps.get(index).filter(|gap| gap.range.start <= start);
        let state = match gap {
            Some(gap) if is_loss(gap.reason) => State::Lost,
            Some(_) => State::Dropped,
            None if holds(applied, start) => State::Stored,
            None if holds(durable, start) => State::Durable,
            None if is_connected => State::Pending,
            None => State::Unknown,
        };
        let key = gap.map(|_| index);
        match spans.last_mut() {
            Some((last_key, last)) if *last_key == key && last.state == state => last.end = end,
            _ => spans.push((
                key,
                Span {
                    start,
                    end,
                    state,
                    reason: gap.map(|gap| reason_word(gap.reason)),
                    records: gap.filter(|gap| gap.exact).map(|gap| gap.records),
                },
            )),
        }
    }
    spans.into_iter().map(|(_, span)| span).collect()
}

fn reason_of(number: u8) -> Option<ReceiptReason> {
    ReceiptReason::try_from(number).ok()
}

/// A reason that this version does not know is taken for the worse.
fn is_loss(number: u8) -> bool {
    reason_of(number).is_none_or(ReceiptReason::is_loss)
}

fn reason_word(number: u8) -> &'static str {
    reason_of(number).map_or("of_a_newer_version", ReceiptReason::word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Disjoint ascending ranges below 100.
    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::btree_set(0u64..100, 0..12).prop_map(|edges| {
            let edges: Vec<u64> = edges.into_iter().collect();
            edges.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
        })
    }

    proptest! {
        #[test]
        fn every_position_has_the_state_that_a_look_at_each_gives(
            applied in ranges(),
            durable in ranges(),
            gaps in ranges(),
            lost: bool,
            is_connected: bool,
            whole in (0u64..50, 50u64..120),
        ) {
            let inside = |range: &Range<u64>, ranges: &[Range<u64>]| {
                ranges.iter().any(|outer| outer.start <= range.start && range.end <= outer.end)
            };
            let gaps: Vec<Gap> = gaps
                .into_iter()
                .filter(|range| inside(range, &applied))
                .map(|range| Gap {
                    range,
                    reason: if lost { ReceiptReason::Rotated as u8 } else { ReceiptReason::Filtered as u8 },
                    records: 3,
                    exact: true,
                })
                .collect();
            let whole = whole.0..whole.1;
            let spans = spans(whole.clone(), &gaps, &applied, &durable, is_connected);
            let holds = |ranges: &[Range<u64>], at: u64| ranges.iter().any(|range| range.contains(&at));
            let mut at = whole.start;
            for span in &spans {
                prop_assert_eq!(span.start, at);
                prop_assert!(span.end > span.start);
                for position in span.start..span.end {
                    let expected = if gaps.iter().any(|gap| gap.range.contains(&position)) {
                        if lost { State::Lost } else { State::Dropped }
                    } else if holds(&applied, position) {
                        State::Stored
                    } else if holds(&durable, position) {
                        State::Durable
                    } else if is_connected {
                        State::Pending
                    } else {
                        State::Unknown
                    };
                    prop_assert_eq!(span.state, expected);
                }
                at = span.end;
            }
            prop_assert_eq!(at, whole.end);
        }
    }

    #[test]
    fn a_stream_of_which_nothing_is_known_has_no_span() {
        assert_eq!(spans(7..7, &[], &[], &[], true), []);
    }

    #[test]
    fn states_are_found_by_their_names() {
        assert_eq!(State::named("lost"), Some(State::Lost));
        assert_eq!(State::named("gone"), None);
        for state in State::value_variants() {
            let name = serde_json::to_value(state).unwrap();
            assert_eq!(State::named(name.as_str().unwrap()), Some(*state));
        }
    }
}

//! Everything that is known of one stream, put together.

use std::ops::Range;

use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;
use edgelogger_store::{Gone, StreamState};

use super::SPANS_MAX;
use super::report::{CheckReport, EndReport, Span, State, StreamReport, Totals};
use super::spans::{Told, spans};
use crate::health::rfc3339;
use crate::ingest::Head;

/// Everything that is known of one stream.
pub(super) struct Seen<'a> {
    pub state: &'a StreamState,
    /// What of it was in files of the store that can't be used.
    pub aside: Option<&'a Gone>,
    pub durable: &'a [Range<u64>],
    pub head: Option<Head>,
    pub is_connected: bool,
    pub now_ns: i64,
}

impl Seen<'_> {
    /// Behind the last position that anybody has told of.
    pub fn size(&self) -> u64 {
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
            .max(self.state.write_offs().last().map_or(0, |off| off.range.end))
            .max(self.state.start)
    }

    /// Every position with its state.
    pub fn spans(&self) -> Vec<Span> {
        let told = Told {
            gaps: &self.state.gaps,
            expired: self.state.expired(),
            deleted: self.state.deleted(),
            aside: self.aside.map_or(&[], |gone| gone.ranges.as_slice()),
            applied: self.state.applied(),
            write_offs: self.state.write_offs(),
            durable: self.durable,
            is_connected: self.is_connected,
        };
        spans(self.state.start..self.size(), &told)
    }

    /// Seconds since the oldest missing position was first seen, where its agent said when; else since something last
    /// came in. 0 where nothing is missing.
    fn lag_s(&self, positions: &Totals) -> u64 {
        if positions.behind() == 0 {
            return 0;
        }
        let waits_at_agent = positions.pending + positions.unknown > 0;
        let first_seen = self.head.map_or(0, |head| head.oldest_unacked_ns);
        let from_ns = if waits_at_agent && first_seen != 0 {
            first_seen
        } else {
            received_ns(self.state).max(self.state.opened_ns)
        };
        let ns = self.now_ns.saturating_sub(from_ns).max(0);
        ns.unsigned_abs() / 1_000_000_000
    }

    pub fn report(&self, stream_id: StreamId, generation: u32) -> StreamReport {
        let (state, size) = (self.state, self.size());
        let all = self.spans();
        let mut positions = Totals::default();
        for span in &all {
            positions.add(span.state, span.end - span.start);
        }
        let last_heard_ns = received_ns(state).max(self.head.map_or(0, |head| head.told_ns));
        let time = |ns: i64| (ns != 0).then(|| rfc3339(ns));
        let mut gaps: Vec<Span> = all
            .into_iter()
            .filter(|span| span.state != State::Stored)
            .collect();
        let unshown = gaps.drain(SPANS_MAX.min(gaps.len())..);
        let (aside_rows, aside_untold) = self.aside.map_or((0, 0), |gone| (gone.rows, gone.untold));
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
            lag_s: self.lag_s(&positions),
            rows: state.rows.saturating_sub(state.gone_rows() + aside_rows),
            gaps,
            gaps_untold: state.gaps_untold + state.gone_untold() + aside_untold + gaps_unshown,
            checks: Vec::new(),
        }
    }
}

pub(super) fn checks(state: &StreamState) -> Vec<CheckReport> {
    state.checks.iter().map(CheckReport::from).collect()
}

pub(super) const fn received_ns(state: &StreamState) -> i64 {
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

//! One state for every position of a stream.

use std::ops::Range;

use edgelogger_common::block::ReceiptReason;
use edgelogger_store::{Gap, WriteOff, WriteOffReason};

use super::report::{Span, State};
use crate::health::rfc3339;

/// What is told of a stream, each part ascending and disjoint.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told<'a> {
    /// Receipts; they lie within `applied`.
    pub gaps: &'a [Gap],
    /// Rows that retention dropped; they lie within `applied`.
    pub expired: &'a [Range<u64>],
    /// Rows that were deleted, likewise.
    pub deleted: &'a [Range<u64>],
    /// Rows that are in files of the store which can't be used; they lie within `applied`.
    pub aside: &'a [Range<u64>],
    /// Rows and receipts.
    pub applied: &'a [Range<u64>],
    /// Written off; data stands against it.
    pub write_offs: &'a [WriteOff],
    /// In the commit log.
    pub durable: &'a [Range<u64>],
    /// Is the agent there?
    pub is_connected: bool,
}

/// What makes neighbouring positions one span: the same state, for the same reason.
#[derive(PartialEq, Eq)]
enum Cause {
    Gap(usize),
    WriteOff(usize),
    Retention,
    Deletion,
    None,
}

/// Gives every position of `whole` its state, in ranges as long as can be.
pub(super) fn spans(whole: Range<u64>, told: &Told<'_>) -> Vec<Span> {
    let mut spans: Vec<(Cause, Span)> = Vec::new();
    for pair in edges(&whole, told).windows(2) {
        let (start, end) = (pair[0], pair[1]);
        let (cause, span) = told.at(start, end);
        match spans.last_mut() {
            Some((last_cause, last)) if *last_cause == cause && last.state == span.state => last.end = end,
            _ => spans.push((cause, span)),
        }
    }
    spans.into_iter().map(|(_, span)| span).collect()
}

/// Wherever a state may begin or end.
fn edges(whole: &Range<u64>, told: &Told<'_>) -> Vec<u64> {
    let gaps = told.gaps.iter().map(|gap| &gap.range);
    let offs = told.write_offs.iter().map(|off| &off.range);
    let mut edges: Vec<u64> = gaps
        .chain(offs)
        .chain(told.applied)
        .chain(told.durable)
        .chain(told.expired)
        .chain(told.deleted)
        .chain(told.aside)
        .flat_map(|range| [range.start, range.end])
        .chain([whole.start, whole.end])
        .map(|edge| edge.clamp(whole.start, whole.end.max(whole.start)))
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

impl Told<'_> {
    /// The state of `start..end`, within which none of the parts begins or ends.
    fn at(&self, start: u64, end: u64) -> (Cause, Span) {
        let holds = |ranges: &[Range<u64>]| {
            let index = ranges.partition_point(|range| range.end <= start);
            ranges.get(index).is_some_and(|range| range.start <= start)
        };
        let span = |state| Span {
            start,
            end,
            state,
            reason: None,
            note: None,
            declared: None,
            records: None,
        };
        let gap = self.gaps.partition_point(|gap| gap.range.end <= start);
        if let Some(found) = self.gaps.get(gap).filter(|gap| gap.range.start <= start) {
            return (Cause::Gap(gap), of_gap(span(State::Lost), found));
        }
        for (cause, ranges, word) in [
            (Cause::Retention, self.expired, "retention"),
            (Cause::Deletion, self.deleted, "deleted"),
        ] {
            if holds(ranges) {
                let reason = Some(word.to_owned());
                return (
                    cause,
                    Span {
                        reason,
                        ..span(State::Expired)
                    },
                );
            }
        }
        if holds(self.aside) {
            let reason = Some(STORE_DAMAGED.to_owned());
            return (
                Cause::None,
                Span {
                    reason,
                    ..span(State::Lost)
                },
            );
        }
        if holds(self.applied) {
            return (Cause::None, span(State::Stored));
        }
        let off = self.write_offs.partition_point(|off| off.range.end <= start);
        if let Some(found) = self.write_offs.get(off).filter(|off| off.range.start <= start) {
            return (Cause::WriteOff(off), of_write_off(span(State::Lost), found));
        }
        let state = match (holds(self.durable), self.is_connected) {
            (true, _) => State::Durable,
            (false, true) => State::Pending,
            (false, false) => State::Unknown,
        };
        (Cause::None, span(state))
    }
}

fn of_gap(span: Span, gap: &Gap) -> Span {
    let state = if is_loss(gap.reason) {
        State::Lost
    } else {
        State::Dropped
    };
    Span {
        state,
        reason: Some(reason_word(gap.reason).to_owned()),
        records: gap.exact.then_some(gap.records),
        ..span
    }
}

fn of_write_off(span: Span, off: &WriteOff) -> Span {
    let declared = Some(rfc3339(off.declared_ms.saturating_mul(1_000_000)));
    let reason = WriteOffReason::of(off.reason);
    let span = Span { declared, ..span };
    match reason {
        // The code of the error is all that is said of each range; the log's gap tells the rest.
        Some(WriteOffReason::DeadLettered) => Span {
            state: State::DeadLettered,
            reason: Some(off.why.clone()),
            ..span
        },
        _ => Span {
            state: if reason == Some(WriteOffReason::Skipped) {
                State::Dropped
            } else {
                State::Lost
            },
            reason: Some(reason.map_or(OF_A_NEWER_VERSION, WriteOffReason::word).to_owned()),
            note: Some(off.why.clone()),
            ..span
        },
    }
}

/// They were stored, in a file that can't be used; a backup may bring it back.
const STORE_DAMAGED: &str = "store_damaged";
const OF_A_NEWER_VERSION: &str = "of_a_newer_version";

fn reason_of(number: u8) -> Option<ReceiptReason> {
    ReceiptReason::try_from(number).ok()
}

/// A reason that this version does not know is taken for the worse.
pub(super) fn is_loss(number: u8) -> bool {
    reason_of(number).is_none_or(ReceiptReason::is_loss)
}

pub(super) fn reason_word(number: u8) -> &'static str {
    reason_of(number).map_or(OF_A_NEWER_VERSION, ReceiptReason::word)
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
            expired in ranges(),
            deleted in ranges(),
            aside in ranges(),
            written_off in ranges(),
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
            let expired: Vec<Range<u64>> = expired.into_iter().filter(|range| inside(range, &applied)).collect();
            let deleted: Vec<Range<u64>> = deleted.into_iter().filter(|range| inside(range, &applied)).collect();
            let aside: Vec<Range<u64>> = aside.into_iter().filter(|range| inside(range, &applied)).collect();
            let write_offs: Vec<WriteOff> = written_off.iter().map(|range| off(range.clone(), WriteOffReason::Operator)).collect();
            let told = Told { gaps: &gaps, expired: &expired, deleted: &deleted, aside: &aside, applied: &applied, write_offs: &write_offs, durable: &durable, is_connected };
            let spans = spans(whole.clone(), &told);
            let holds = |ranges: &[Range<u64>], at: u64| ranges.iter().any(|range| range.contains(&at));
            let mut at = whole.start;
            for span in &spans {
                prop_assert_eq!(span.start, at);
                prop_assert!(span.end > span.start);
                for position in span.start..span.end {
                    let expected = if gaps.iter().any(|gap| gap.range.contains(&position)) {
                        if lost { State::Lost } else { State::Dropped }
                    } else if holds(&expired, position) || holds(&deleted, position) {
                        State::Expired
                    } else if holds(&aside, position) {
                        State::Lost
                    } else if holds(&applied, position) {
                        State::Stored
                    } else if holds(&written_off, position) {
                        State::Lost
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
        assert_eq!(spans(7..7, &Told::default()), []);
    }

    fn off(range: Range<u64>, reason: WriteOffReason) -> WriteOff {
        WriteOff {
            range,
            reason: reason as u8,
            declared_ms: 0,
            why: "E0303".to_owned(),
        }
    }

    #[test]
    fn what_is_expired_says_whether_it_was_deleted() {
        let (applied, expired, deleted) = (0..30, 0..10, 10..20);
        let told = Told {
            applied: std::slice::from_ref(&applied),
            expired: std::slice::from_ref(&expired),
            deleted: std::slice::from_ref(&deleted),
            ..Told::default()
        };
        let found: Vec<_> = spans(0..30, &told)
            .into_iter()
            .map(|span| (span.end, span.state, span.reason))
            .collect();
        let expected = [
            (10, State::Expired, Some("retention".to_owned())),
            (20, State::Expired, Some("deleted".to_owned())),
            (30, State::Stored, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_written_off_says_why() {
        let state = |reason| {
            let write_offs = [off(0..9, reason)];
            let told = Told {
                write_offs: &write_offs,
                ..Told::default()
            };
            let span = spans(0..9, &told).remove(0);
            (span.state, span.reason.unwrap())
        };
        assert_eq!(state(WriteOffReason::Operator), (State::Lost, "operator".into()));
        assert_eq!(
            state(WriteOffReason::LogDamaged),
            (State::Lost, "log_damaged".into())
        );
        assert_eq!(state(WriteOffReason::Skipped), (State::Dropped, "skipped".into()));
        assert_eq!(
            state(WriteOffReason::DeadLettered),
            (State::DeadLettered, "E0303".into())
        );
    }
}

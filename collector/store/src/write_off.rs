//! Positions that are not here and not waited for: closed by an operator, damaged in the commit log, put aside. Never
//! the last word: what arrives after all is stored, and only what is still missing stays written off.

use std::ops::Range;

use edgelogger_proto::v1;
use serde::{Deserialize, Serialize};

use crate::applied::AppliedRanges;

/// Ranges of a stream that are named one by one; beyond, a further one is joined to its neighbour.
pub const WRITE_OFFS_MAX: usize = 1024;
/// Length of a reason in bytes.
pub const WHY_BYTES_MAX: usize = 1024;

/// Why positions are not waited for. Numbers stand in the manifest and are never used again for another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum WriteOffReason {
    /// Closed by an operator.
    Operator = 1,
    /// Acknowledged, and damaged in the commit log before they were stored.
    LogDamaged = 2,
    /// Acknowledged by another log than this one.
    OtherLog = 3,
    /// Acknowledged, and skipped by the store as it is configured.
    Skipped = 4,
    /// Acknowledged, and kept aside because they can never be applied.
    DeadLettered = 5,
}

impl WriteOffReason {
    const ALL: [Self; 5] = [
        Self::Operator,
        Self::LogDamaged,
        Self::OtherLog,
        Self::Skipped,
        Self::DeadLettered,
    ];

    /// The reason with this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// The word shown to people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::LogDamaged => "log_damaged",
            Self::OtherLog => "other_log",
            Self::Skipped => "skipped",
            Self::DeadLettered => "dead_lettered",
        }
    }

    /// As the log's entries say it.
    #[must_use]
    pub const fn to_proto(self) -> v1::WriteOffReason {
        match self {
            Self::Operator => v1::WriteOffReason::Operator,
            Self::LogDamaged => v1::WriteOffReason::LogDamaged,
            Self::OtherLog => v1::WriteOffReason::OtherLog,
            Self::Skipped => v1::WriteOffReason::Skipped,
            Self::DeadLettered => v1::WriteOffReason::DeadLettered,
        }
    }
}

/// One range that is written off. In the manifest: `[start, length, reason, declared_ms, why]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u8, i64, String)", into = "(u64, u64, u8, i64, String)")]
pub struct WriteOff {
    /// Which; what of it is applied is not written off.
    pub range: Range<u64>,
    /// Number of the reason ([`WriteOffReason`]).
    pub reason: u8,
    /// When that was said, ms UTC.
    pub declared_ms: i64,
    /// In the words of whoever said it.
    pub why: String,
}

impl From<(u64, u64, u8, i64, String)> for WriteOff {
    fn from((start, len, reason, declared_ms, why): (u64, u64, u8, i64, String)) -> Self {
        Self {
            range: start..start.saturating_add(len),
            reason,
            declared_ms,
            why,
        }
    }
}

impl From<WriteOff> for (u64, u64, u8, i64, String) {
    fn from(off: WriteOff) -> Self {
        let len = off.range.end - off.range.start;
        (off.range.start, len, off.reason, off.declared_ms, off.why)
    }
}

/// What is written off of a stream: ascending, disjoint. The first word on a position stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOffs(Vec<WriteOff>);

impl WriteOffs {
    /// All of them, ascending.
    pub fn as_slice(&self) -> &[WriteOff] {
        &self.0
    }

    /// Takes a range in, as far as nothing is said of it yet and it is not applied.
    pub fn add(&mut self, off: &WriteOff, applied: &AppliedRanges) {
        for missing in applied.missing(&off.range) {
            for range in self.unsaid(&missing) {
                self.insert(WriteOff { range, ..off.clone() });
            }
        }
    }

    /// What of a range nothing is said of.
    pub fn unsaid(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut said = AppliedRanges::default();
        self.0.iter().for_each(|off| said.insert(off.range.clone()));
        said.missing(range)
    }

    fn insert(&mut self, off: WriteOff) {
        let at = self
            .0
            .partition_point(|other| other.range.start < off.range.start);
        let is_full = self.0.len() >= WRITE_OFFS_MAX;
        let before = at.checked_sub(1).map(|before| &mut self.0[before]);
        let before = before.filter(|before| {
            let touches = before.range.end == off.range.start;
            // When it is full too much is said, of positions that are still under way: they take it back when they come.
            is_full || touches && (before.reason, &before.why) == (off.reason, &off.why)
        });
        match before {
            Some(before) => before.range.end = off.range.end,
            None if is_full => self.0[at].range.start = off.range.start,
            None => self.0.insert(at, off),
        }
    }

    /// Forgets what has arrived wholly.
    pub fn take_back(&mut self, applied: &AppliedRanges) {
        self.0.retain(|off| !applied.missing(&off.range).is_empty());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(at: u64) -> usize {
        usize::try_from(at).unwrap()
    }

    fn off(range: Range<u64>, why: &str) -> WriteOff {
        WriteOff {
            range,
            reason: WriteOffReason::Operator as u8,
            declared_ms: 7,
            why: why.to_owned(),
        }
    }

    proptest! {
        #[test]
        fn the_first_word_on_a_missing_position_stands(
            steps in proptest::collection::vec((any::<bool>(), 0u64..60, 1u64..12), 0..24),
        ) {
            let (mut offs, mut applied) = (WriteOffs::default(), AppliedRanges::default());
            let mut model: [Option<usize>; 72] = [None; 72];
            let mut stored = [false; 72];
            for (number, (arrives, start, len)) in steps.into_iter().enumerate() {
                let range = start..start + len;
                if arrives {
                    applied.insert(range.clone());
                    range.for_each(|at| stored[index(at)] = true);
                    offs.take_back(&applied);
                    continue;
                }
                offs.add(&off(range.clone(), &number.to_string()), &applied);
                for at in range {
                    let at = index(at);
                    if !stored[at] {
                        model[at].get_or_insert(number);
                    }
                }
            }
            for at in 0..72u64 {
                let index = index(at);
                if stored[index] {
                    continue;
                }
                let said = offs.as_slice().iter().find(|off| off.range.contains(&at));
                prop_assert_eq!(said.map(|off| off.why.clone()), model[index].map(|number| number.to_string()));
            }
            prop_assert!(offs.as_slice().windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        }
    }

    #[test]
    fn their_number_is_bounded() {
        let mut offs = WriteOffs::default();
        for start in 0..2 * WRITE_OFFS_MAX as u64 {
            offs.add(&off(start * 10..start * 10 + 5, "x"), &AppliedRanges::default());
        }
        assert_eq!(offs.as_slice().len(), WRITE_OFFS_MAX);
        assert_eq!(offs.as_slice().last().map(|last| last.range.end), Some(20_475));
    }

    #[test]
    fn reasons_keep_their_numbers() {
        for (number, reason) in (1u8..).zip(WriteOffReason::ALL) {
            assert_eq!(WriteOffReason::of(number), Some(reason));
            assert_eq!(reason.to_proto() as i32, i32::from(number));
        }
        assert_eq!(WriteOffReason::of(6), None);
    }
}

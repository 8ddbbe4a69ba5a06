//! Entries of the commit log that never came to the store, and why. Whose positions were in them is not always known;
//! then they are found as what an agent knows to be acknowledged and the store does not have.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Gaps that are named one by one; beyond, the two oldest become one.
pub const LOG_GAPS_MAX: usize = 1024;

/// Why entries never came to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogGapKind {
    /// They can't be read any more.
    Damaged,
    /// The log was full and did not wait, or the store began behind them, as it is configured.
    Skipped,
    /// They were read, and can never be applied.
    DeadLettered,
}

/// One gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGap {
    /// Sequences of the entries.
    pub entries: Range<u64>,
    /// Why.
    pub kind: LogGapKind,
    /// When the store met it, ms UTC.
    pub noted_ms: i64,
    /// What happened, in words.
    pub what: String,
    /// Records in them, 0 where nobody knows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub records: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Adds a gap. One that is known already is not added again: the log was replayed.
pub fn add(gaps: &mut Vec<LogGap>, gap: LogGap) {
    if gaps
        .iter()
        .any(|known| known.kind == gap.kind && known.entries == gap.entries)
    {
        return;
    }
    gaps.push(gap);
    if gaps.len() > LOG_GAPS_MAX {
        let oldest = gaps.remove(0);
        let next = &mut gaps[0];
        next.entries = next.entries.start.min(oldest.entries.start)..next.entries.end.max(oldest.entries.end);
        next.records = next.records.saturating_add(oldest.records);
        next.kind = next.kind.min(oldest.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(start: u64) -> LogGap {
        LogGap {
            entries: start..start + 1,
            kind: LogGapKind::Damaged,
            noted_ms: 0,
            what: String::new(),
            records: 0,
        }
    }

    #[test]
    fn gaps_are_bounded_and_named_once() {
        let mut gaps = Vec::new();
        for start in 0..LOG_GAPS_MAX as u64 + 10 {
            add(&mut gaps, gap(start));
            add(&mut gaps, gap(start));
        }
        assert_eq!(gaps.len(), LOG_GAPS_MAX);
        assert_eq!(gaps[0].entries, 0..11);
    }
}

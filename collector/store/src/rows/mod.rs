//! Columns of a block to Arrow columns.
//!
//! What all rows of a block share (machine, source, agent) becomes a dictionary of one value whose keys are all 0;
//! the keys, and the offsets of empty lists, are slices of one buffer of zeroes that every batch shares. Bodies are
//! not copied: a row holds a view into the block's own bytes.
//!
//! | file | idea |
//! | --- | --- |
//! | `common.rs` | columns that both tables have, and the building blocks |
//! | `body.rs` | bodies: text as it is, and the exact bytes where they are no text |
//! | `maps.rs` | attributes and labels |
//! | `logs.rs`, `metrics.rs` | one table each |

mod body;
mod common;
mod logs;
mod maps;
mod metrics;

use arrow::record_batch::RecordBatch;
use edgelogger_common::block::RowSelection;
use edgelogger_common::recognition::Recognizer;
use edgelogger_common::stream::StreamId;

pub use common::Zeros;
pub use logs::log_rows;
pub use metrics::metric_rows;

use std::collections::BTreeMap;

/// Rows in one batch, at most: with it the text of one column of a batch stays below 2 GiB, which is what the offsets
/// of a column can address.
pub const BATCH_ROWS_MAX: usize = 64 << 10;

/// Bytes of the fixed-width columns of a row: nine numbers of 8, a view of 16, six offsets of 4, two of 1.
const ROW_FIXED_BYTES: u64 = 120;
/// Bytes that a batch costs whatever is in it: about 20 arrays.
pub const BATCH_FIXED_BYTES: u64 = 4096;

/// Whose rows these are: what all rows of a block share.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub machine_id: &'a str,
    pub agent_version: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub received_ns: i64,
    pub source: &'a str,
    pub stream_id: StreamId,
}

/// What is used for one block after another.
#[derive(Debug, Default)]
pub struct RowTools {
    pub recognizer: Recognizer,
    pub zeros: Zeros,
}

/// A record that becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub record: usize,
    pub start: u64,
    pub end: u64,
    pub overlaps: bool,
}

/// Rows as they came, and what they take in memory.
#[derive(Debug, Clone)]
pub struct Rows {
    pub batch: RecordBatch,
    pub bytes: u64,
}

impl Rows {
    pub fn new(batch: RecordBatch, text_bytes: u64) -> Self {
        let bytes = BATCH_FIXED_BYTES + ROW_FIXED_BYTES * batch.num_rows() as u64 + text_bytes;
        Self { batch, bytes }
    }
}

/// Which records become rows, given the ranges of all.
pub fn kept(ranges: impl Iterator<Item = (u64, u64)>, selection: &RowSelection) -> Vec<Kept> {
    let all = ranges.enumerate().map(|(record, (start, end))| Kept {
        record,
        start,
        end,
        overlaps: false,
    });
    let RowSelection::Some { keep, overlaps } = selection else {
        return all.collect();
    };
    let (mut keep, mut overlaps) = (keep.iter().peekable(), overlaps.iter().peekable());
    let mut rows = Vec::with_capacity(keep.clone().map(|range| range.len()).sum());
    for row in all {
        while keep.next_if(|range| range.end <= row.record).is_some() {}
        if keep.peek().is_some_and(|range| range.contains(&row.record)) {
            let overlaps = overlaps.next_if(|record| **record == row.record).is_some();
            rows.push(Kept { overlaps, ..row });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_keeps_its_records_and_flags_those_that_overlap() {
        let ranges = || (0..6u64).map(|n| (n * 10, n * 10 + 10));
        assert_eq!(kept(ranges(), &RowSelection::All).len(), 6);
        let some = RowSelection::Some {
            keep: vec![1..3, 5..6],
            overlaps: vec![2, 5],
        };
        let rows: Vec<_> = kept(ranges(), &some)
            .iter()
            .map(|row| (row.record, row.start, row.overlaps))
            .collect();
        assert_eq!(rows, [(1, 10, false), (2, 20, true), (5, 50, true)]);
    }
}

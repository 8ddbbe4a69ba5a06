//! Rows that were stored and are not there any more: which positions of which streams.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use edgelogger_common::stream::StreamId;
use serde::{Deserialize, Serialize};

use crate::applied::AppliedRanges;
use crate::aside::Aside;
use crate::columns::Words;
use crate::error::StoreError;
use crate::live_file::LiveFile;
use crate::parquet_read::FileReader;
use crate::schema::{Table, column};

/// Ranges of a stream that are named one by one; what comes beyond is only summed.
pub const GONE_RANGES_MAX: usize = 1024;

/// Why rows are there no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneWhy {
    /// They were to be kept no longer.
    Retention,
    /// Somebody deleted them.
    Deletion,
}

/// What is gone of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Which positions, ascending, each within what is applied.
    pub ranges: AppliedRanges,
    /// Rows that were there.
    pub rows: u64,
    /// Positions of further ranges.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Gone {
    /// Takes in a range, unless there are too many and it is a further one.
    pub fn insert(&mut self, range: Range<u64>) {
        let is_full = self.ranges.as_slice().len() >= GONE_RANGES_MAX;
        if is_full && !self.ranges.touches(&range) {
            self.untold += range.end - range.start;
        } else {
            self.ranges.insert(range);
        }
    }

    /// Takes in all of another.
    pub fn absorb(&mut self, other: &Self) {
        self.rows += other.rows;
        self.untold += other.untold;
        for range in other.ranges.as_slice() {
            self.insert(range.clone());
        }
    }

    /// Positions.
    pub fn positions(&self) -> u64 {
        let named = self.ranges.as_slice().iter();
        self.untold + named.map(|range| range.end - range.start).sum::<u64>()
    }
}

/// What is gone, by machine and stream.
#[derive(Debug, Default)]
pub struct GoneRows {
    pub streams: HashMap<(String, StreamId), Gone>,
    /// What each stream's source is called.
    pub sources: HashMap<(String, StreamId), (Table, String)>,
    pub rows: u64,
}

const COLUMNS: [&str; 4] = [
    column::MACHINE_ID,
    column::SOURCE,
    column::STREAM_ID,
    column::POSITION,
];
const SOURCE_LEN: &str = "source_len";
/// Ranges that wait to be joined, of all streams together: 16 MiB. Rows are in the order of time, and samples in that of
/// their names before it, so the positions of a stream rarely come one behind the other.
const WAITING_MAX: usize = 1 << 20;

impl GoneRows {
    /// What was in files that are aside, as far as streams are known.
    pub fn of_aside(aside: &Aside) -> Self {
        let streams = aside.streams.iter().filter_map(|stream| {
            let id = stream.id.parse().ok()?;
            Some(((stream.machine.clone(), id), stream.gone.clone()))
        });
        Self {
            streams: streams.collect(),
            ..Self::default()
        }
    }
}

/// Finds out what goes, row by row.
#[derive(Debug, Default)]
pub struct GoneCounter {
    gone: GoneRows,
    waiting: HashMap<(String, StreamId), Vec<Range<u64>>>,
    waiting_count: usize,
}

/// The columns that are looked at of a table's rows.
pub fn columns(table: Table) -> Vec<&'static str> {
    let mut columns = COLUMNS.to_vec();
    if table == Table::Logs {
        columns.push(SOURCE_LEN);
    }
    columns
}

impl GoneCounter {
    /// Takes in all rows of a file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(&mut self, file: &LiveFile) -> Result<(), StoreError> {
        let table = file.entry.table;
        for batch in FileReader::open(&**file.disk(), file.path(), Some(&columns(table)))? {
            self.add(table, &batch?);
        }
        Ok(())
    }

    /// Takes in rows.
    pub fn add(&mut self, table: Table, batch: &RecordBatch) {
        self.add_some(table, batch, |_| true);
    }

    /// Takes in those rows that are chosen by their number.
    pub fn add_some(&mut self, table: Table, batch: &RecordBatch, is_chosen: impl Fn(usize) -> bool) {
        let words = |name| Words::of(batch, name);
        let (Some(machines), Some(sources), Some(streams)) = (
            words(column::MACHINE_ID),
            words(column::SOURCE),
            words(column::STREAM_ID),
        ) else {
            return;
        };
        let positions = batch[column::POSITION].as_primitive::<Int64Type>().values();
        let lengths = batch
            .column_by_name(SOURCE_LEN)
            .map(|column| column.as_primitive::<Int64Type>().values());
        for row in (0..batch.num_rows()).filter(|row| is_chosen(*row)) {
            // An id that is none was never written.
            let Ok(id) = streams.get(row).parse::<StreamId>() else {
                continue;
            };
            let start = positions[row].cast_unsigned();
            let len = lengths.map_or(1, |lengths| lengths[row].cast_unsigned());
            let key = (machines.get(row).to_owned(), id);
            if !self.gone.sources.contains_key(&key) {
                let source = (table, sources.get(row).to_owned());
                self.gone.sources.insert(key.clone(), source);
            }
            self.gone.rows += 1;
            self.gone.streams.entry(key.clone()).or_default().rows += 1;
            self.wait(key, start..start.saturating_add(len));
        }
    }

    fn wait(&mut self, key: (String, StreamId), range: Range<u64>) {
        let waiting = self.waiting.entry(key).or_default();
        match waiting.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => {
                waiting.push(range);
                self.waiting_count += 1;
            }
        }
        if self.waiting_count >= WAITING_MAX {
            self.join();
        }
    }

    /// Neighbours first, so that few ranges are named one by one.
    fn join(&mut self) {
        self.waiting_count = 0;
        for (key, mut waiting) in self.waiting.drain() {
            waiting.sort_unstable_by_key(|range| (range.start, range.end));
            let gone = self.gone.streams.entry(key).or_default();
            let mut joined: Option<Range<u64>> = None;
            for range in waiting {
                match &mut joined {
                    Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                    _ => {
                        if let Some(whole) = joined.replace(range) {
                            gone.insert(whole);
                        }
                    }
                }
            }
            if let Some(whole) = joined {
                gone.insert(whole);
            }
        }
    }

    /// All of it.
    pub fn finish(mut self) -> GoneRows {
        self.join();
        self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_come_in_strides_are_few_ranges() {
        let mut counter = GoneCounter::default();
        let key = || ("m1".to_owned(), StreamId::from_bytes([1; 16]));
        // Fifty metrics, one behind the other, of a source that takes them all each time.
        for metric in 0..50u64 {
            for time in 0..3000 {
                let at = time * 50 + metric;
                counter.wait(key(), at..at + 1);
            }
        }
        let gone = counter.finish();
        let of_stream = &gone.streams[&key()];
        assert_eq!(of_stream.ranges.as_slice(), std::slice::from_ref(&(0..150_000)));
        assert_eq!(of_stream.untold, 0);
    }
}

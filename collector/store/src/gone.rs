//! Rows that were stored and are not there any more: which positions of which streams.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use edgelogger_common::stream::StreamId;
use serde::{Deserialize, Serialize};

use crate::applied::AppliedRanges;
use crate::error::StoreError;
use crate::live_file::LiveFile;
use crate::parquet_read::FileReader;
use crate::schema::{Table, column};

/// Ranges of a stream that are named one by one; what comes beyond is only summed.
pub const GONE_RANGES_MAX: usize = 1024;

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

impl GoneRows {
    /// Takes in all rows of a file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(&mut self, file: &LiveFile) -> Result<(), StoreError> {
        let table = file.entry.table;
        let mut columns = COLUMNS.to_vec();
        if table == Table::Logs {
            columns.push(SOURCE_LEN);
        }
        for batch in FileReader::open(&**file.disk(), file.path(), Some(&columns))? {
            self.add(table, &batch?);
        }
        Ok(())
    }

    /// Takes in rows.
    pub fn add(&mut self, table: Table, batch: &RecordBatch) {
        let words = |name: &str| {
            let column = batch[name].as_dictionary::<Int32Type>();
            let values = column.values().as_string::<i32>();
            let word = |row| column.key(row).map_or("", |key| values.value(key));
            move |row| word(row)
        };
        let (machines, sources, streams) = (
            words(column::MACHINE_ID),
            words(column::SOURCE),
            words(column::STREAM_ID),
        );
        let positions = batch[column::POSITION].as_primitive::<Int64Type>().values();
        let lengths = batch
            .column_by_name(SOURCE_LEN)
            .map(|column| column.as_primitive::<Int64Type>().values());
        for row in 0..batch.num_rows() {
            // An id that is none was never written.
            let Ok(id) = streams(row).parse::<StreamId>() else {
                continue;
            };
            let start = positions[row].cast_unsigned();
            let len = lengths.map_or(1, |lengths| lengths[row].cast_unsigned());
            let key = (machines(row).to_owned(), id);
            if !self.sources.contains_key(&key) {
                self.sources.insert(key.clone(), (table, sources(row).to_owned()));
            }
            let gone = self.streams.entry(key).or_default();
            gone.insert(start..start.saturating_add(len));
            gone.rows += 1;
            self.rows += 1;
        }
    }
}

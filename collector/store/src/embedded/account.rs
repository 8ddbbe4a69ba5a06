//! What was in files that are aside: the positions of a stream that are applied, and whose rows are nowhere else.
//!
//! No file says which positions another one holds, so all other files that may have rows of the same machines are read, but
//! only for their positions. What was declared dropped or lost, has expired or was deleted, is told apart. A stream that is folded is
//! whole, and nobody knows any more what it held: of it only the file's own number of rows is told.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use edgelogger_common::stream::StreamId;

use super::EmbeddedStore;
use crate::applied::AppliedRanges;
use crate::aside::{Aside, AsideStream};
use crate::error::StoreError;
use crate::gone::Gone;
use crate::parquet_read::FileReader;
use crate::schema::{Table, column};
use crate::snapshot::Snapshot;
use crate::streams::{StreamState, Streams};

/// Ranges in memory before neighbours are joined.
const RANGES_MAX: usize = 1 << 20;
const COLUMNS: [&str; 3] = [column::MACHINE_ID, column::STREAM_ID, column::POSITION];
const SOURCE_LEN: &str = "source_len";

impl EmbeddedStore {
    /// Finds out what was in files that are aside, where that is not known yet. Ends early when `go_on`, asked for every
    /// batch that is read, says no. Blocks.
    ///
    /// # Errors
    /// A file can't be read for the moment, or the manifest can't be written: the status says it until it succeeds.
    pub fn account_aside(&self, go_on: &dyn Fn() -> bool) -> Result<(), StoreError> {
        self.check_running()?;
        if self.aside().is_accounted || self.aside().files.is_empty() {
            return Ok(());
        }
        let _maintaining = self.maintaining.lock();
        let done = loop {
            let files = self.aside().files.len();
            match self.account(go_on) {
                // One that it read is damaged too, and aside now.
                Err(_) if self.aside().files.len() > files => {}
                done => break done,
            }
        };
        self.problems.lock().aside = done.as_ref().err().map(ToString::to_string);
        done
    }

    fn account(&self, go_on: &dyn Fn() -> bool) -> Result<(), StoreError> {
        let (aside, snapshot, streams) = {
            let writer = self.writer.lock();
            let visible = self.visible.lock();
            (
                Arc::clone(&visible.aside),
                visible.snapshot(),
                writer.streams.clone(),
            )
        };
        let mut rows = Rows::default();
        if !self.read_others(&aside, &snapshot, &mut rows, go_on)? {
            return Ok(());
        }
        let accounted = Arc::new(Aside {
            streams: rows.missing_from(&aside, &streams),
            is_accounted: true,
            ..Aside::clone(&aside)
        });
        let mut flushing = self.flushing.lock();
        let mut visible = self.visible.lock();
        // Another file was put aside meanwhile: the next look finds both.
        if !Arc::ptr_eq(&visible.aside, &aside) {
            return Ok(());
        }
        visible.aside = accounted;
        let named = visible.named();
        drop(visible);
        // Where a flush waits for the disk, its manifest says it; so does the next one where this fails.
        if flushing.frozen.is_some() {
            return Ok(());
        }
        self.write_manifest_again(&mut flushing, named)
    }

    /// False when it was told to stop.
    fn read_others(
        &self,
        aside: &Aside,
        snapshot: &Snapshot,
        rows: &mut Rows,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool, StoreError> {
        for table in Table::ALL {
            for recent in snapshot.recent(table) {
                rows.add(aside, &recent.batch);
            }
            for file in snapshot.files(table) {
                if !aside
                    .files
                    .iter()
                    .any(|known| known.entry.shares_machines(&file.entry))
                {
                    continue;
                }
                let mut columns = COLUMNS.to_vec();
                columns.extend((table == Table::Logs).then_some(SOURCE_LEN));
                let disk = &*self.options.disk;
                let read = FileReader::open(disk, file.path(), Some(&columns)).and_then(|batches| {
                    for batch in batches {
                        rows.add(aside, &batch?);
                        if !go_on() {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                });
                let read = read.inspect_err(|error| self.on_read_error(error, std::slice::from_ref(file)));
                if !read? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// The rows that are there, by machine and stream.
#[derive(Default)]
struct Rows {
    streams: HashMap<String, HashMap<StreamId, OfStream>>,
    ranges: usize,
    /// There are too many ranges to know them all.
    is_full: bool,
}

#[derive(Default)]
struct OfStream {
    rows: u64,
    ranges: Vec<Range<u64>>,
}

impl Rows {
    /// Takes in rows of machines that files which are aside may name.
    fn add(&mut self, aside: &Aside, batch: &RecordBatch) {
        let machines = batch[column::MACHINE_ID].as_dictionary::<Int32Type>();
        let ids = batch[column::STREAM_ID].as_dictionary::<Int32Type>();
        let parse = |id: Option<&str>| id.and_then(|id| id.parse::<StreamId>().ok());
        let ids_of_keys: Vec<Option<StreamId>> = ids.values().as_string::<i32>().iter().map(parse).collect();
        let positions = batch[column::POSITION].as_primitive::<Int64Type>().values();
        let lengths = batch
            .column_by_name(SOURCE_LEN)
            .map(|column| column.as_primitive::<Int64Type>().values());
        let names = machines.values().as_string::<i32>().iter();
        let wanted: Vec<Option<&str>> = names
            .map(|name| name.filter(|name| aside.may_hold(name)))
            .collect();
        for name in wanted.iter().flatten() {
            self.streams.entry((*name).to_owned()).or_default();
        }
        for row in 0..batch.num_rows() {
            // An id that is none was never written.
            let (name, id) = (
                machines.key(row).and_then(|key| wanted[key]),
                ids.key(row).and_then(|key| ids_of_keys[key]),
            );
            let (Some(of_machine), Some(id)) = (name.and_then(|name| self.streams.get_mut(name)), id) else {
                continue;
            };
            let start = positions[row].cast_unsigned();
            let len = lengths.map_or(1, |lengths| lengths[row].cast_unsigned());
            let grown = of_machine
                .entry(id)
                .or_default()
                .add(start..start.saturating_add(len));
            self.ranges += usize::from(grown);
        }
        if self.ranges > RANGES_MAX {
            self.join();
        }
    }

    fn join(&mut self) {
        let all = self.streams.values_mut().flat_map(HashMap::values_mut);
        self.ranges = all.map(OfStream::join).sum();
        if self.ranges > RANGES_MAX / 2 {
            self.is_full = true;
            let all = self.streams.values_mut().flat_map(HashMap::values_mut);
            all.for_each(|of_stream| of_stream.ranges = Vec::new());
            self.ranges = 0;
        }
    }

    /// What of each stream is applied and not there.
    fn missing_from(mut self, aside: &Aside, streams: &Streams) -> Vec<AsideStream> {
        self.join();
        let mut missing = Vec::new();
        let nothing = OfStream::default();
        for (id, state) in streams
            .iter()
            .filter(|(_, state)| aside.may_hold(&state.machine_id))
        {
            let of_machine = self.streams.get(&state.machine_id);
            let there = of_machine
                .and_then(|of_machine| of_machine.get(&id))
                .unwrap_or(&nothing);
            let gone = there.missing_from(state, self.is_full);
            if gone.rows > 0 {
                missing.push(AsideStream {
                    machine: state.machine_id.clone(),
                    id: id.to_string(),
                    gone,
                });
            }
        }
        missing.sort_unstable_by(|left, right| (&left.machine, &left.id).cmp(&(&right.machine, &right.id)));
        missing
    }
}

impl OfStream {
    /// Says whether that is one range more.
    fn add(&mut self, range: Range<u64>) -> bool {
        self.rows += 1;
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => {
                last.end = range.end;
                false
            }
            _ => {
                self.ranges.push(range);
                true
            }
        }
    }

    /// Gives the number of ranges that are left.
    fn join(&mut self) -> usize {
        self.ranges.sort_unstable_by_key(|range| range.start);
        self.ranges.dedup_by(|next, before| {
            let touches = next.start <= before.end;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
        self.ranges.len()
    }

    fn missing_from(&self, state: &StreamState, is_unknown: bool) -> Gone {
        let mut gone = Gone {
            rows: state
                .rows
                .saturating_sub(state.gone_rows())
                .saturating_sub(self.rows),
            ..Gone::default()
        };
        if gone.rows == 0 || is_unknown {
            return gone;
        }
        let mut there = AppliedRanges::default();
        let gaps = state.gaps.iter().map(|gap| &gap.range);
        for range in self
            .ranges
            .iter()
            .chain(gaps)
            .chain(state.expired())
            .chain(state.deleted())
        {
            there.insert(range.clone());
        }
        for range in state.applied().iter().flat_map(|applied| there.missing(applied)) {
            gone.insert(range);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use edgelogger_proto::v1;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_applied_and_has_no_row_is_missing(
            rows in proptest::collection::vec((0u64..60, any::<bool>()), 0..40),
        ) {
            let mut state = StreamState::new("m", &v1::StreamDescriptor::default());
            let mut there = OfStream::default();
            let mut lost: Vec<u64> = Vec::new();
            let mut rows = rows;
            rows.sort_unstable_by_key(|(at, _)| *at);
            rows.dedup_by_key(|(at, _)| *at);
            for (at, is_lost) in rows {
                state.apply(at..at + 1);
                state.rows += 1;
                if is_lost {
                    lost.push(at);
                } else {
                    there.add(at..at + 1);
                }
            }
            there.join();
            let gone = there.missing_from(&state, false);
            let named: Vec<u64> = gone.ranges.as_slice().iter().cloned().flatten().collect();
            prop_assert_eq!(gone.rows, lost.len() as u64);
            prop_assert_eq!(named, lost);
        }
    }
}

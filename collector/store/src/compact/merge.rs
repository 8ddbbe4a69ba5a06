//! Several sorted files into one, a batch of each in memory.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, DictionaryArray, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;

use crate::error::StoreError;
use crate::gather::{Gather, Pick};
use crate::live_file::LiveFile;
use crate::manifest::{FILE_MACHINES_MAX, FileEntry};
use crate::map_keys::MapKeys;
use crate::options::StoreOptions;
use crate::parquet_file::{CHUNK_ROWS, FileWriter};
use crate::parquet_read::{FileReader, check_bytes};
use crate::schema::{Table, column};

/// Bytes of batches that wait for their rows to be written.
const HELD_BYTES_MAX: usize = 32 << 20;

/// What `order.rs` orders rows by, within a day: machine, name and labels of a sample, time, stream, position.
type Key<'a> = (&'a str, &'a str, &'a [u8], i64, &'a str, i64);

/// One file, at its current row.
struct Input {
    reader: FileReader,
    columns: KeyColumns,
    row: usize,
    /// Where its batch is among those held.
    slot: usize,
}

struct KeyColumns {
    rows: usize,
    machines: Words,
    /// Of samples; logs are not ordered by such.
    series: Option<(Words, MapKeys)>,
    times: ScalarBuffer<i64>,
    streams: Words,
    positions: ScalarBuffer<i64>,
}

struct Words(DictionaryArray<Int32Type>, StringArray);

impl Words {
    fn of(batch: &RecordBatch, name: &str) -> Self {
        let column = batch[name].as_dictionary::<Int32Type>().clone();
        let values = column.values().as_string::<i32>().clone();
        Self(column, values)
    }

    fn get(&self, row: usize) -> &str {
        self.0.key(row).map_or("", |key| self.1.value(key))
    }
}

impl KeyColumns {
    fn of(batch: &RecordBatch) -> Self {
        Self {
            rows: batch.num_rows(),
            machines: Words::of(batch, column::MACHINE_ID),
            series: batch.column_by_name(column::NAME).map(|_| {
                (
                    Words::of(batch, column::NAME),
                    MapKeys::of(&batch[column::LABELS]),
                )
            }),
            times: batch[column::TIME]
                .as_primitive::<TimestampNanosecondType>()
                .values()
                .clone(),
            streams: Words::of(batch, column::STREAM_ID),
            positions: batch[column::POSITION]
                .as_primitive::<Int64Type>()
                .values()
                .clone(),
        }
    }

    fn key(&self, row: usize) -> Key<'_> {
        let (name, labels): (&str, &[u8]) = match &self.series {
            Some((names, labels)) => (names.get(row), labels.get(row)),
            None => ("", &[]),
        };
        (
            self.machines.get(row),
            name,
            labels,
            self.times[row],
            self.streams.get(row),
            self.positions[row],
        )
    }
}

impl Input {
    fn key(&self) -> Key<'_> {
        self.columns.key(self.row)
    }
}

struct Merge<'a> {
    table: Table,
    inputs: Vec<Input>,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    picks: Vec<Pick>,
    output: FileWriter,
    rows: u64,
    go_on: &'a dyn Fn() -> bool,
}

/// Merges files of one table and day into a new one of this name, durable but for its name. None when `go_on` says that
/// it is to stop; then, and on failure, the caller removes what there is of it.
///
/// # Errors
/// A file can't be read or is damaged, or the new one can't be written.
pub fn merge(
    options: &StoreOptions,
    files: &[Arc<LiveFile>],
    path: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<FileEntry>, StoreError> {
    let Some(first) = files.first() else {
        return Ok(None);
    };
    for file in files {
        if !go_on() {
            return Ok(None);
        }
        // What is damaged must not get a new checksum.
        check_bytes(&*options.disk, file.path(), &file.entry)?;
    }
    let mut merge = Merge {
        table: first.entry.table,
        inputs: Vec::with_capacity(files.len()),
        held: Vec::new(),
        held_bytes: 0,
        picks: Vec::with_capacity(CHUNK_ROWS),
        output: FileWriter::create(options, path, first.entry.table, options.rewrite_level())?,
        rows: 0,
        go_on,
    };
    for file in files {
        merge.open(options, file)?;
    }
    if !merge.run()? {
        return Ok(None);
    }
    let expected: u64 = files.iter().map(|file| file.entry.rows).sum();
    if merge.rows != expected {
        let problem = format!("they hold {} rows, the manifest says {expected}", merge.rows);
        return Err(unreadable(first, problem));
    }
    let written = merge.output.finish()?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(Some(FileEntry {
        name,
        bytes: written.bytes,
        crc32c: Some(written.crc32c),
        ..joined(&first.entry, &files[1..])
    }))
}

fn unreadable(file: &LiveFile, problem: String) -> StoreError {
    StoreError::Unreadable {
        path: file.path().to_path_buf(),
        problem,
    }
}

/// Are the columns of a file those of its table?
pub(super) fn check_columns(reader: &FileReader, file: &LiveFile) -> Result<(), StoreError> {
    if reader.schema().fields() == file.entry.table.schema().fields() {
        return Ok(());
    }
    Err(unreadable(
        file,
        "its columns are not those of its table".to_owned(),
    ))
}

impl Merge<'_> {
    fn open(&mut self, options: &StoreOptions, file: &LiveFile) -> Result<(), StoreError> {
        let mut reader = FileReader::open(&*options.disk, file.path(), None)?;
        check_columns(&reader, file)?;
        if let Some(batch) = reader.next().transpose()? {
            let (columns, slot) = (KeyColumns::of(&batch), self.hold(batch));
            self.inputs.push(Input {
                reader,
                columns,
                row: 0,
                slot,
            });
        }
        Ok(())
    }

    fn hold(&mut self, batch: RecordBatch) -> usize {
        self.held_bytes += batch.get_array_memory_size();
        self.held.push(batch);
        self.held.len() - 1
    }

    /// False when it was told to stop.
    fn run(&mut self) -> Result<bool, StoreError> {
        while let Some(at) = self.least() {
            self.take(at)?;
            if self.picks.len() >= CHUNK_ROWS || self.held_bytes >= HELD_BYTES_MAX {
                self.write()?;
                if !(self.go_on)() {
                    return Ok(false);
                }
            }
        }
        self.write()?;
        Ok(true)
    }

    /// The input whose row comes next.
    fn least(&self) -> Option<usize> {
        (0..self.inputs.len()).min_by(|left, right| self.inputs[*left].key().cmp(&self.inputs[*right].key()))
    }

    /// Takes rows of this input while they come before those of the others, to the end of its batch or of the chunk.
    fn take(&mut self, at: usize) -> Result<(), StoreError> {
        let others = self.inputs.iter().enumerate().filter(|(index, _)| *index != at);
        let bound = others.map(|(_, input)| input.key()).min();
        let input = &self.inputs[at];
        let (mut row, slot) = (input.row, input.slot);
        let room = CHUNK_ROWS.saturating_sub(self.picks.len()).max(1);
        let end = input.columns.rows.min(row + room);
        // The first comes before the others: it was looked for.
        let first = row;
        while row < end && (row == first || bound.is_none_or(|bound| input.columns.key(row) <= bound)) {
            self.picks.push((slot, row));
            row += 1;
        }
        if row < input.columns.rows {
            self.inputs[at].row = row;
            return Ok(());
        }
        match self.inputs[at].reader.next().transpose()? {
            Some(batch) => {
                let (columns, slot) = (KeyColumns::of(&batch), self.hold(batch));
                let input = &mut self.inputs[at];
                (input.columns, input.row, input.slot) = (columns, 0, slot);
            }
            None => drop(self.inputs.remove(at)),
        }
        Ok(())
    }

    /// Writes the rows that were taken, and lets go of batches of which all were.
    fn write(&mut self) -> Result<(), StoreError> {
        if !self.picks.is_empty() {
            let gather = Gather::new(self.table.schema(), self.held.iter().collect());
            self.output.write(&gather.gather(&self.picks)?)?;
            self.rows += self.picks.len() as u64;
            self.picks.clear();
        }
        let held = std::mem::take(&mut self.held);
        for at in 0..self.inputs.len() {
            let batch = held[self.inputs[at].slot].clone();
            self.inputs[at].slot = self.hold(batch);
        }
        // Those are there anyhow.
        self.held_bytes = 0;
        Ok(())
    }
}

/// What the manifest says of all of them together.
fn joined(first: &FileEntry, others: &[Arc<LiveFile>]) -> FileEntry {
    let mut all = first.clone();
    for entry in others.iter().map(|file| &file.entry) {
        all.rows += entry.rows;
        all.time = (all.time.0.min(entry.time.0), all.time.1.max(entry.time.1));
        all.received = (
            all.received.0.min(entry.received.0),
            all.received.1.max(entry.received.1),
        );
        if entry.machine.0 < all.machine.0 {
            all.machine.0.clone_from(&entry.machine.0);
        }
        if entry.machine.1 > all.machine.1 {
            all.machine.1.clone_from(&entry.machine.1);
        }
        // One that does not name them all makes the sum not name them.
        if all.machines.is_empty() || entry.machines.is_empty() {
            all.machines.clear();
        } else {
            all.machines.extend(entry.machines.iter().cloned());
            all.machines.sort_unstable();
            all.machines.dedup();
            if all.machines.len() > FILE_MACHINES_MAX {
                all.machines.clear();
            }
        }
    }
    all
}

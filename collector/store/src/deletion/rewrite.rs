//! A file without some of its rows.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;

use super::DeleteScope;
use super::scope::owners;
use crate::error::StoreError;
use crate::gone::{self, GoneCounter, GoneRows};
use crate::live_file::LiveFile;
use crate::manifest::{FILE_MACHINES_MAX, FileEntry};
use crate::options::StoreOptions;
use crate::parquet_file::FileWriter;
use crate::parquet_read::{FileReader, check_bytes};
use crate::schema::column;

/// What of a file goes.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows, by scope.
    pub rows: Vec<u64>,
    /// Which positions.
    pub gone: GoneRows,
}

/// These columns of a file, which have to be those of its table.
pub fn open(file: &LiveFile, columns: &[&str]) -> Result<FileReader, StoreError> {
    let reader = FileReader::open(&**file.disk(), file.path(), Some(columns))?;
    let (found, expected) = (reader.schema(), file.entry.table.schema());
    let is_same = |name: &str| match (found.field_with_name(name), expected.field_with_name(name)) {
        (Ok(found), Ok(expected)) => found == expected,
        _ => false,
    };
    match columns.iter().all(|name| is_same(name)) {
        true => Ok(reader),
        false => Err(foreign(file)),
    }
}

fn foreign(file: &LiveFile) -> StoreError {
    StoreError::Unreadable {
        path: file.path().to_path_buf(),
        problem: "its columns are not those of its table".to_owned(),
    }
}

/// Looks which rows of a file go. None when `go_on` says that it is to stop.
///
/// # Errors
/// It can't be read.
pub fn scan(
    file: &LiveFile,
    scopes: &[&DeleteScope],
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Found>, StoreError> {
    let table = file.entry.table;
    let mut columns = gone::columns(table);
    columns.push(column::TIME);
    let (mut rows, mut counter) = (vec![0; scopes.len()], GoneCounter::default());
    for batch in open(file, &columns)? {
        if !go_on() {
            return Ok(None);
        }
        let batch = batch?;
        let owners = owners(scopes, &batch);
        for owner in owners.iter().flatten() {
            rows[usize::from(*owner)] += 1;
        }
        counter.add_some(table, &batch, |row| owners[row].is_some());
    }
    let gone = counter.finish();
    Ok(Some(Found { rows, gone }))
}

/// Writes what of a file stays to a new one of this path, durable but for its name. None when `go_on` says that it is to
/// stop; then, and on failure, the caller removes what there is of it.
///
/// # Errors
/// It can't be read or is damaged, or the new one can't be written.
pub fn rewrite(
    options: &StoreOptions,
    file: &LiveFile,
    scopes: &[&DeleteScope],
    path: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<FileEntry>, StoreError> {
    // What is damaged must not get a new checksum.
    check_bytes(&*options.disk, file.path(), &file.entry)?;
    let table = file.entry.table;
    let reader = FileReader::open(&*options.disk, file.path(), None)?;
    if reader.schema().fields() != table.schema().fields() {
        return Err(foreign(file));
    }
    let mut output = FileWriter::create(options, path, table, options.rewrite_level())?;
    let mut stays = Stays::default();
    for batch in reader {
        if !go_on() {
            return Ok(None);
        }
        let batch = batch?;
        let mask: BooleanArray = owners(scopes, &batch)
            .into_iter()
            .map(|owner| Some(owner.is_none()))
            .collect();
        let kept = filter_record_batch(&batch, &mask)?;
        if kept.num_rows() > 0 {
            stays.add(&kept);
            output.write(&kept)?;
        }
    }
    let written = output.finish()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(FileEntry {
        name: name.into_owned(),
        bytes: written.bytes,
        crc32c: Some(written.crc32c),
        ..stays.entry(&file.entry)
    }))
}

/// What the manifest says of rows.
#[derive(Default)]
struct Stays {
    rows: u64,
    time: Option<(i64, i64)>,
    received: Option<(i64, i64)>,
    machines: BTreeSet<String>,
}

impl Stays {
    fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        self.time = span(self.time, batch, column::TIME);
        self.received = span(self.received, batch, column::RECEIVED_TIME);
        let machines = batch[column::MACHINE_ID].as_dictionary::<Int32Type>();
        let words = machines.values().as_string::<i32>();
        let mut seen = vec![false; words.len()];
        for key in (0..batch.num_rows()).filter_map(|row| machines.key(row)) {
            if !std::mem::replace(&mut seen[key], true) && !self.machines.contains(words.value(key)) {
                self.machines.insert(words.value(key).to_owned());
            }
        }
    }

    /// Of rows that were in this file.
    fn entry(self, of: &FileEntry) -> FileEntry {
        let end = |machine: Option<&String>| machine.cloned().unwrap_or_default();
        FileEntry {
            name: String::new(),
            table: of.table,
            day: of.day,
            rows: self.rows,
            bytes: 0,
            crc32c: None,
            time: self.time.unwrap_or_default(),
            received: self.received.unwrap_or_default(),
            machine: (end(self.machines.first()), end(self.machines.last())),
            machines: if self.machines.len() <= FILE_MACHINES_MAX {
                self.machines.into_iter().collect()
            } else {
                Vec::new()
            },
            order: of.order,
        }
    }
}

fn span(known: Option<(i64, i64)>, batch: &RecordBatch, name: &str) -> Option<(i64, i64)> {
    let times = batch[name].as_primitive::<TimestampNanosecondType>().values();
    times.iter().fold(known, |span, time| {
        Some(span.map_or((*time, *time), |(first, last)| {
            (first.min(*time), last.max(*time))
        }))
    })
}

//! A frozen generation to files and one manifest.
//!
//! Two steps, so that a failure repeats only what failed: the files are written once and kept, then the manifest. A
//! manifest whose write failed in its last step may be in place all the same; the files it names are therefore never
//! removed here, and the next attempt names the same ones.

use std::path::Path;
use std::sync::Arc;

use edgelogger_common::disk::At;

use crate::deletion::Progress;
use crate::error::StoreError;
use crate::fold::{Folded, Folding, Written};
use crate::gather::Gather;
use crate::live_file::remove;
use crate::log_gap::LogGap;
use crate::manifest::{FILE_MACHINES_MAX, FileEntry, Manifest, write as write_manifest};
use crate::options::StoreOptions;
use crate::order::{Day, ORDER, days};
use crate::parquet_file::{self, WrittenFile};
use crate::partition::day_name;
use crate::recent::Generation;
use crate::schema::Table;
use crate::snapshot::Named;
use crate::streams::Streams;

/// A generation and what was applied when it was frozen.
#[derive(Debug)]
pub struct Frozen {
    pub rows: Arc<Generation>,
    pub streams: Streams,
    pub log_gaps: Arc<Vec<LogGap>>,
    pub cursor: u64,
    /// Streams that leave the manifest.
    pub folding: Vec<Folding>,
    /// Its files, once they are durable.
    pub written: Option<Vec<FileEntry>>,
    /// Files of the streams that leave, once they are durable.
    pub folded: Option<Written>,
}

/// Writes all rows of a generation to new files in `files_dir`, durably. On failure the new files are removed.
pub fn write_files(
    options: &StoreOptions,
    files_dir: &Path,
    rows: &Generation,
    next_file: &mut u64,
) -> Result<Vec<FileEntry>, StoreError> {
    let mut entries = Vec::new();
    let written = Table::ALL
        .into_iter()
        .try_for_each(|table| write_table(options, files_dir, (table, rows), next_file, &mut entries))
        .and_then(|()| Ok(options.disk.sync_dir(files_dir).at("sync directory", files_dir)?));
    if let Err(error) = written {
        for entry in &entries {
            remove(&*options.disk, &files_dir.join(&entry.name));
        }
        return Err(error);
    }
    Ok(entries)
}

/// `logs-20261121-0000000017.parquet`
pub fn file_name(table: Table, day: i64, number: u64) -> String {
    format!("{}-{}-{number:010}.parquet", table.name(), day_name(day))
}

/// The number in such a name.
pub fn file_number(name: &str) -> Option<u64> {
    let (_, number) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    number.parse().ok()
}

fn write_table(
    options: &StoreOptions,
    files_dir: &Path,
    (table, rows): (Table, &Generation),
    next_file: &mut u64,
    entries: &mut Vec<FileEntry>,
) -> Result<(), StoreError> {
    let batches: Vec<_> = rows.batches(table).map(|rows| &rows.batch).collect();
    if batches.is_empty() {
        return Ok(());
    }
    let gather = Gather::new(table.schema(), batches);
    for day in days(&gather) {
        let name = file_name(table, day.day, *next_file);
        *next_file += 1;
        let path = files_dir.join(&name);
        match parquet_file::write(options, &path, table, &gather, &day.picks) {
            Ok(written) => entries.push(entry(name, table, &day, written)),
            Err(error) => {
                remove(&*options.disk, &path);
                return Err(error);
            }
        }
    }
    Ok(())
}

pub fn entry(name: String, table: Table, day: &Day, written: WrittenFile) -> FileEntry {
    let end = |machine: Option<&String>| machine.cloned().unwrap_or_default();
    let machines = if day.machines.len() <= FILE_MACHINES_MAX {
        day.machines.clone()
    } else {
        Vec::new()
    };
    FileEntry {
        name,
        table,
        day: day.day,
        rows: day.picks.len() as u64,
        bytes: written.bytes,
        crc32c: Some(written.crc32c),
        time: day.time,
        received: day.received,
        machine: (end(day.machines.first()), end(day.machines.last())),
        machines,
        order: ORDER,
    }
}

/// What a manifest says beside its files.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    pub cursor: u64,
    pub streams: &'a Streams,
    pub log_gaps: &'a [LogGap],
    pub folded: &'a Folded,
    pub deletions: &'a [Progress],
}

/// Makes a flush, or a change of the files, happen.
pub fn write_new_manifest(
    options: &StoreOptions,
    Named { files, aside }: Named,
    told: Told<'_>,
    next_file: u64,
) -> Result<(), StoreError> {
    let manifest = Manifest {
        cursor: told.cursor,
        log_id: options.log_id.map(hex),
        next_file,
        files,
        streams: told.streams.to_records(),
        log_gaps: told.log_gaps.to_vec(),
        folded: told.folded.clone(),
        deletions: told.deletions.to_vec(),
        aside: Arc::unwrap_or_clone(aside),
    };
    write_manifest(&*options.disk, &options.dir, &manifest)
}

/// The digits of a log's id.
pub fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

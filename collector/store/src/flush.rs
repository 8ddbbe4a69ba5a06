//! A frozen generation to files and one manifest.
//!
//! Two steps, so that a failure repeats only what failed: the files are written once and kept, then the manifest. A
//! manifest whose write failed in its last step may be in place all the same; the files it names are therefore never
//! removed here, and the next attempt names the same ones.

use std::path::Path;
use std::sync::Arc;

use edgelogger_common::disk::At;

use crate::error::StoreError;
use crate::fold::{Folded, Folding, Written};
use crate::gather::Gather;
use crate::log_gap::LogGap;
use crate::manifest::{FILE_MACHINES_MAX, FileEntry, Manifest, write as write_manifest};
use crate::options::StoreOptions;
use crate::order::{Day, days};
use crate::parquet_file;
use crate::partition::day_name;
use crate::recent::Generation;
use crate::schema::Table;
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
            parquet_file::remove(&*options.disk, &files_dir.join(&entry.name));
        }
        return Err(error);
    }
    Ok(entries)
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
        let name = format!("{}-{}-{next_file:010}.parquet", table.name(), day_name(day.day));
        *next_file += 1;
        let path = files_dir.join(&name);
        match parquet_file::write(options, &path, table, &gather, &day.picks) {
            Ok(bytes) => entries.push(entry(name, table, &day, bytes)),
            Err(error) => {
                parquet_file::remove(&*options.disk, &path);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn entry(name: String, table: Table, day: &Day, bytes: u64) -> FileEntry {
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
        bytes,
        time: day.time,
        received: day.received,
        machine: (end(day.machines.first()), end(day.machines.last())),
        machines,
    }
}

/// Makes the flush happen.
pub fn write_new_manifest(
    options: &StoreOptions,
    files: Vec<FileEntry>,
    frozen: &Frozen,
    folded: &Folded,
    next_file: u64,
) -> Result<(), StoreError> {
    let manifest = Manifest {
        cursor: frozen.cursor,
        log_id: options.log_id.map(hex),
        next_file,
        files,
        streams: frozen.streams.to_records(),
        log_gaps: frozen.log_gaps.to_vec(),
        folded: folded.clone(),
    };
    write_manifest(&*options.disk, &options.dir, &manifest)
}

/// The digits of a log's id.
pub fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

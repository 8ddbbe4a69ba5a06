//! A file of an earlier order into files of the one of now.
//!
//! Before metrics were ordered by name and labels they were ordered by time, and a merge takes its files to be in its own order. Such a
//! file becomes several: as many rows as fit in memory are put in order and written at a time. Merges make few of them again.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::merge::check_columns;
use crate::error::StoreError;
use crate::flush::entry;
use crate::gather::Gather;
use crate::live_file::LiveFile;
use crate::manifest::FileEntry;
use crate::options::StoreOptions;
use crate::order::days;
use crate::parquet_file;
use crate::parquet_read::{FileReader, check_bytes};

/// Bytes of rows in memory, before a file is made of them.
const SORTED_BYTES: usize = 32 << 20;

/// A file whose rows are in an earlier order.
pub fn unsorted(files: &[Arc<LiveFile>]) -> Option<Arc<LiveFile>> {
    files.iter().find(|file| !file.entry.is_sorted()).cloned()
}

/// Writes the rows of a file, in order, to new files with these names, durable but for them. None when `go_on` says that it
/// is to stop; then, and on failure, the caller removes what there is of them.
///
/// # Errors
/// The file can't be read or is damaged, or a new one can't be written.
pub fn sort(
    options: &StoreOptions,
    file: &LiveFile,
    mut new_file: impl FnMut() -> (String, PathBuf),
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<FileEntry>>, StoreError> {
    // What is damaged must not get a new checksum.
    check_bytes(&*options.disk, file.path(), &file.entry)?;
    let mut reader = FileReader::open(&*options.disk, file.path(), None)?;
    check_columns(&reader, file)?;
    let mut sorted = Vec::new();
    loop {
        if !go_on() {
            return Ok(None);
        }
        let rows = take(&mut reader)?;
        if rows.is_empty() {
            return Ok(Some(sorted));
        }
        let table = file.entry.table;
        let gather = Gather::new(table.schema(), rows.iter().collect());
        for day in days(&gather) {
            let (name, path) = new_file();
            let written = parquet_file::write(options, &path, table, &gather, &day.picks)?;
            sorted.push(entry(name, table, &day, written));
        }
    }
}

/// The next rows, as many as may be in memory.
fn take(reader: &mut FileReader) -> Result<Vec<RecordBatch>, StoreError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < SORTED_BYTES {
        let Some(batch) = reader.next().transpose()? else {
            break;
        };
        bytes += batch.get_array_memory_size();
        rows.push(batch);
    }
    Ok(rows)
}

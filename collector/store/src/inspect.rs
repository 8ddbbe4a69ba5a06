//! Looking at the files of a store that no process has open: what there is, whether it is whole, and its rows.
//!
//! Nothing is changed. Rows that were not flushed are in the commit log, not here.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampNanosecondType;
use arrow::record_batch::RecordBatch;
use edgelogger_common::disk::{At, Disk, DiskLock};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;

use crate::columns::Words;
use crate::embedded::{FILES_DIR, LOCK_NAME};
use crate::error::StoreError;
use crate::gone::GoneCounter;
use crate::live_file::LiveFile;
use crate::manifest::{self, FileEntry, Manifest};
use crate::parquet_read::{FileReader, check_bytes};
use crate::schema::{Table, column};
use crate::streams::Streams;

/// Problems of one file that are told.
const PROBLEMS_MAX: usize = 16;

/// A store that is closed. While this lives no process can open it.
#[derive(Debug)]
pub struct StoreFiles {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    streams: Streams,
    _lock: DiskLock,
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileListing {
    /// Its name in the directory `files`.
    pub name: String,
    /// `logs` or `metrics`.
    pub table: Table,
    /// The UTC day of its rows, days since 1970-01-01.
    pub day: i64,
    /// Rows.
    pub rows: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// First `time`, ns.
    pub first_ns: i64,
    /// Last `time`, ns.
    pub last_ns: i64,
    /// Its machines; where there are very many, the first and the last.
    pub machines: Vec<String>,
}

/// A file that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AsideListing {
    /// As it was written.
    #[serde(flatten)]
    pub file: FileListing,
    /// What is wrong with it.
    pub reason: String,
    /// When that was found, ms UTC.
    pub noted_ms: i64,
}

/// Which rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsQuery {
    /// Of this table.
    pub table: Table,
    /// First `time`, ns.
    pub from: Option<i64>,
    /// Before this `time`, ns.
    pub to: Option<i64>,
    /// Of this machine alone.
    pub machine: Option<String>,
}

impl StoreFiles {
    /// Of the store in this directory.
    ///
    /// # Errors
    /// There is none, it is in use, or its manifest can't be read.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, StoreError> {
        let files_dir = dir.join(FILES_DIR);
        // Asked first: a lock file must not be made where there is no store.
        disk.list_files(&files_dir).at("list", &files_dir)?;
        let lock_path = dir.join(LOCK_NAME);
        let lock = disk.lock(&lock_path).at("lock", &lock_path)?;
        let (manifest, streams) = manifest::look(&*disk, dir)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            disk,
            manifest,
            streams,
            _lock: lock,
        })
    }

    /// Files that can't be used, in the order in which they were found.
    #[must_use]
    pub fn aside(&self) -> Vec<AsideListing> {
        let files = self.manifest.aside.files.iter().map(|aside| AsideListing {
            file: listing(&aside.entry),
            reason: aside.reason.clone(),
            noted_ms: aside.noted_ms,
        });
        files.collect()
    }

    /// All files, by table and day.
    #[must_use]
    pub fn list(&self) -> Vec<FileListing> {
        let mut files: Vec<&FileEntry> = self.manifest.files.iter().collect();
        files.sort_by_key(|entry| (entry.table.name(), entry.day, &entry.name));
        files.into_iter().map(listing).collect()
    }

    /// Entries of the commit log below this are in these files.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.manifest.cursor
    }

    /// Files in the directory that the manifest does not name: what a crash left.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn unnamed(&self) -> Result<Vec<String>, StoreError> {
        let dir = self.dir.join(FILES_DIR);
        let mut names = self.disk.list_files(&dir).at("list", &dir)?;
        let aside = self.manifest.aside.files.iter().map(|aside| &aside.entry.name);
        let files = self.manifest.files.iter().map(|entry| &entry.name);
        let named: BTreeSet<&String> = files.chain(aside).collect();
        names.retain(|name| !named.contains(name));
        Ok(names)
    }

    /// Reads every byte and every page of a file and compares it with the manifest: checksum, rows, times, machines, order,
    /// and whether every row's positions are among those that are applied. Gives what is wrong.
    #[must_use]
    pub fn verify(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.manifest.files.iter().find(|entry| entry.name == name) else {
            return vec!["the manifest does not name it".to_owned()];
        };
        let file = self.file(entry);
        if let Err(error) = check_bytes(&*self.disk, file.path(), entry) {
            return vec![error.to_string()];
        }
        let mut check = Check {
            rows: GoneCounter::default(),
            time: None,
            machines: BTreeSet::new(),
            last: (String::new(), String::new(), i64::MIN),
            unordered: 0,
        };
        let read = FileReader::open(&*self.disk, file.path(), None)
            .and_then(|mut rows| rows.try_for_each(|batch| batch.map(|batch| check.add(entry, &batch))));
        match read {
            Err(error) => vec![error.to_string()],
            Ok(()) => check.problems(entry, &self.streams),
        }
    }

    fn file(&self, entry: &FileEntry) -> LiveFile {
        LiveFile::new(entry.clone(), &self.dir.join(FILES_DIR), Arc::clone(&self.disk))
    }

    /// Rows, file by file, oldest day first; within a file by machine and time. Gives them to `take`, and their number
    /// back.
    ///
    /// # Errors
    /// A file can't be read, or what `take` says.
    pub fn rows<E: From<StoreError>>(
        &self,
        query: &RowsQuery,
        mut take: impl FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut files: Vec<&FileEntry> = self
            .manifest
            .files
            .iter()
            .filter(|entry| query.wants(entry))
            .collect();
        files.sort_by_key(|entry| (entry.day, entry.time.0));
        let mut count = 0;
        for entry in files {
            let file = self.file(entry);
            for batch in FileReader::open(&*self.disk, file.path(), None)? {
                let batch = query.filter(&batch?)?;
                if batch.num_rows() > 0 {
                    count += batch.num_rows() as u64;
                    take(&batch)?;
                }
            }
        }
        Ok(count)
    }

    /// Writes rows as one Parquet file.
    ///
    /// # Errors
    /// A file can't be read, or the output can't be written.
    pub fn write_parquet(&self, query: &RowsQuery, output: impl Write + Send) -> Result<u64, StoreError> {
        let failed = |error: parquet::errors::ParquetError| StoreError::Engine(error.to_string());
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let mut writer =
            ArrowWriter::try_new(output, query.table.schema(), Some(properties)).map_err(failed)?;
        let rows = self.rows::<StoreError>(query, |batch| {
            let batch = RecordBatch::try_new(query.table.schema(), batch.columns().to_vec())?;
            writer.write(&batch).map_err(failed)
        })?;
        writer.close().map_err(failed)?;
        Ok(rows)
    }
}

fn listing(entry: &FileEntry) -> FileListing {
    FileListing {
        name: entry.name.clone(),
        table: entry.table,
        day: entry.day,
        rows: entry.rows,
        bytes: entry.bytes,
        first_ns: entry.time.0,
        last_ns: entry.time.1,
        machines: entry.machine_names(),
    }
}

impl RowsQuery {
    fn wants(&self, entry: &FileEntry) -> bool {
        let (first, last) = entry.time;
        entry.table == self.table
            && self.from.is_none_or(|from| last >= from)
            && self.to.is_none_or(|to| first < to)
            && self
                .machine
                .as_ref()
                .is_none_or(|machine| entry.may_hold(machine))
    }

    fn filter(&self, batch: &RecordBatch) -> Result<RecordBatch, StoreError> {
        let times = batch[column::TIME]
            .as_primitive::<TimestampNanosecondType>()
            .values();
        let machines = Words::of(batch, column::MACHINE_ID);
        let wanted = |row: usize| {
            let machine = word_at(machines.as_ref(), row);
            self.from.is_none_or(|from| times[row] >= from)
                && self.to.is_none_or(|to| times[row] < to)
                && self.machine.as_ref().is_none_or(|wanted| wanted == machine)
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(wanted(row))).collect();
        Ok(filter_record_batch(batch, &mask)?)
    }
}

fn word_at<'a>(words: Option<&Words<'a>>, row: usize) -> &'a str {
    words.map_or("", |words| words.get(row))
}

/// What a file turned out to hold.
struct Check {
    rows: GoneCounter,
    time: Option<(i64, i64)>,
    machines: BTreeSet<String>,
    /// Machine, name of a metric, time.
    last: (String, String, i64),
    unordered: u64,
}

impl Check {
    fn add(&mut self, entry: &FileEntry, batch: &RecordBatch) {
        self.rows.add(entry.table, batch);
        let times = batch[column::TIME]
            .as_primitive::<TimestampNanosecondType>()
            .values();
        let machines = Words::of(batch, column::MACHINE_ID);
        // Files of metrics were ordered by time once.
        let by_name = entry.table == Table::Metrics && entry.is_sorted();
        let names = by_name.then(|| Words::of(batch, column::NAME)).flatten();
        for row in 0..batch.num_rows() {
            let (machine, name) = (word_at(machines.as_ref(), row), word_at(names.as_ref(), row));
            let time = times[row];
            self.time = Some(
                self.time
                    .map_or((time, time), |(min, max)| (min.min(time), max.max(time))),
            );
            if !self.machines.contains(machine) {
                self.machines.insert(machine.to_owned());
            }
            let last = (self.last.0.as_str(), self.last.1.as_str(), self.last.2);
            // Samples are in the order of their labels before that of their times.
            let is_ordered = match entry.table {
                Table::Logs => last <= (machine, name, time),
                Table::Metrics => (last.0, last.1) <= (machine, name),
            };
            self.unordered += u64::from(!is_ordered);
            if (last.0, last.1) != (machine, name) {
                machine.clone_into(&mut self.last.0);
                name.clone_into(&mut self.last.1);
            }
            self.last.2 = time;
        }
    }

    fn problems(self, entry: &FileEntry, streams: &Streams) -> Vec<String> {
        let mut problems = Vec::new();
        let rows = self.rows.finish();
        if rows.rows != entry.rows {
            problems.push(format!(
                "it has {} rows, the manifest says {}",
                rows.rows, entry.rows
            ));
        }
        if self.time.is_some_and(|time| time != entry.time) {
            problems.push("its times are not those that the manifest says".to_owned());
        }
        let ends = (self.machines.first(), self.machines.last());
        if ends != (Some(&entry.machine.0), Some(&entry.machine.1)) {
            problems.push("its machines are not those that the manifest says".to_owned());
        }
        if self.unordered > 0 {
            problems.push(format!("{} rows are out of order", self.unordered));
        }
        for ((machine, id), found) in &rows.streams {
            // Of a folded stream it is known only by its id that it is whole.
            let Some(state) = streams.get(machine, *id) else {
                continue;
            };
            let missing: u64 = found
                .ranges
                .as_slice()
                .iter()
                .map(|range| state.not_applied(range))
                .sum();
            if missing > 0 && problems.len() < PROBLEMS_MAX {
                problems.push(format!(
                    "it holds {missing} positions of stream {id} of {machine} that are not applied"
                ));
            }
        }
        problems
    }
}

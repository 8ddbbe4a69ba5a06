//! The embedded store: rows in memory, older ones in Parquet files, one manifest.
//!
//! | lock | guards | held for |
//! | --- | --- | --- |
//! | `writer` | cursor, streams, and the order of entries | one `apply` |
//! | `visible` | what queries see | moments |
//! | `flushing` | the generation being written | one `flush` |
//!
//! They are taken in the order flushing, writer, visible. A flush holds only its own while it writes, so entries are
//! applied and queries answered meanwhile; when memory is full too, `apply` flushes itself and so waits for the disk.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgelogger_common::disk::{At, DiskLock, create_dir_all_durable};
use edgelogger_common::recognition::Recognizer;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::LogEntry;
use parking_lot::Mutex;

use crate::arrivals::Arrivals;
use crate::entry::{self, EntryTools};
use crate::error::{QueryError, StoreError};
use crate::flush::{Frozen, hex, write_files, write_new_manifest};
use crate::fold::{self, FoldIndex, Folded, Folding, Summary, Written};
use crate::latest::{Latest, LatestPage, MetricName};
use crate::live_file::LiveFile;
use crate::log_gap::{self, LogGap, LogGapKind};
use crate::manifest::{self, Found, Manifest};
use crate::options::StoreOptions;
use crate::query::{
    ContextQuery, Engine, LiveTable, LogContext, LogPage, LogQuery, Patterns, RangeQuery, RangeResult,
    SqlQuery, SqlResult, TableInfo, VolumeCell, VolumeQuery,
};
use crate::recent::Generation;
use crate::rows::RowTools;
use crate::schema::Table;
use crate::series::SeriesFilter;
use crate::snapshot::{Snapshot, Visible};
use crate::store::{Answer, Store, StoreStatus};
use crate::streams::{StreamState, Streams};

/// Where Parquet files lie in the store's directory.
const FILES_DIR: &str = "files";
/// The file whose lock says that a process has the store open.
const LOCK_NAME: &str = "lock";

/// What one entry came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Rows that are new.
    pub rows: u64,
    /// Records that were applied before.
    pub duplicates: u64,
    /// Rows that are new and share positions with one that was applied before.
    pub overlaps: u64,
    /// Enough is in memory: the caller flushes, best on a thread of its own.
    pub flush_due: bool,
}

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Rows written to files.
    pub rows: u64,
    /// New files.
    pub files: u64,
    /// Their length, in bytes.
    pub bytes: u64,
}

/// The embedded store. One process has it open at a time.
pub struct EmbeddedStore {
    options: StoreOptions,
    files_dir: PathBuf,
    writer: Mutex<Writer>,
    visible: Mutex<Visible>,
    flushing: Mutex<Flushing>,
    published: Published,
    durable_cursor: AtomicU64,
    /// The cursor of the manifest before: the log keeps what that one does not have.
    held_cursor: AtomicU64,
    /// Why nothing is applied and nothing written: there is no manifest that can be used.
    stopped: Option<Arc<StoreError>>,
    problems: Mutex<Problems>,
    engine: Engine,
    latest: Arc<Latest>,
    arrivals: Arc<Arrivals>,
    _lock: DiskLock,
}

struct Writer {
    cursor: u64,
    streams: Streams,
    log_gaps: Arc<Vec<LogGap>>,
    tools: EntryTools,
    /// When it was last looked for streams to fold.
    folded_at: Option<Duration>,
    /// Something was applied that no frozen generation and no manifest has.
    changed_since: Option<Duration>,
    duplicates: u64,
}

/// Counts of the writer for those who only look: they must not wait for an entry that is being applied.
#[derive(Default)]
struct Published {
    cursor: AtomicU64,
    streams: AtomicU64,
    duplicates: AtomicU64,
    folded: AtomicU64,
}

/// Entries of the log that the store steps over.
#[derive(Debug)]
pub struct Missed<'a> {
    /// Their sequences.
    pub entries: Range<u64>,
    /// Why.
    pub kind: LogGapKind,
    /// What happened, in words.
    pub what: &'a str,
    /// The entry, where it was read and can't be applied, and the code of the reason.
    pub dead_letter: Option<(&'a LogEntry, &'a str)>,
    /// Records in them, 0 where nobody knows.
    pub records: u64,
}

struct Flushing {
    next_file: u64,
    /// Files that the manifest names but that are not there. They stay named: the disk may come back.
    missing: Vec<manifest::FileEntry>,
    frozen: Option<Frozen>,
    folded: Folded,
    /// Files that only the manifest before names: they go with the next one.
    superseded: Vec<String>,
}

#[derive(Default)]
struct Problems {
    opening: Vec<String>,
    flush: Option<String>,
    last_flush_ns: Option<i64>,
}

impl EmbeddedStore {
    /// Opens a store, or makes one: reads the manifest and removes files that it does not name. Where no manifest can be
    /// used the store stands still: nothing is applied, written or removed, and the status says why.
    ///
    /// # Errors
    /// The directory cannot be used, or is in use.
    pub fn open(options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let (disk, files_dir) = (&*options.disk, options.dir.join(FILES_DIR));
        create_dir_all_durable(disk, &files_dir)?;
        create_dir_all_durable(disk, &options.dir.join(fold::FOLDED_DIR))?;
        let lock_path = options.dir.join(LOCK_NAME);
        let lock = disk.lock(&lock_path).at("lock", &lock_path)?;
        let mut problems = Problems::default();
        let (found, stopped) = match manifest::read(disk, &options.dir) {
            Ok(found) => (found, None),
            Err(error @ (StoreError::Manifest { .. } | StoreError::ManifestVersion { .. })) => {
                let stopped = Arc::new(error);
                let said = StoreError::Stopped(Arc::clone(&stopped));
                problems.opening.push(said.to_string());
                (Found::default(), Some(stopped))
            }
            Err(error) => return Err(error),
        };
        if stopped.is_none() {
            put_orphans_away(&options, &files_dir, &found, &mut problems)?;
        }
        let Found {
            manifest,
            mut streams,
            previous_cursor,
            mut previous_files,
            ..
        } = found;
        previous_files.retain(|name| !manifest.folded.names().any(|named| named == name));
        let index = FoldIndex::open(
            &*options.disk,
            &options.dir.join(fold::FOLDED_DIR),
            &manifest.folded,
            &mut problems.opening,
        );
        streams.folded(Arc::new(index));
        let cursor = starting_cursor(&options, &manifest, &mut problems);
        let (live, missing) = find_files(&options, &files_dir, manifest.files, &mut problems);
        let published = Published::default();
        published.cursor.store(cursor, Ordering::Release);
        published.streams.store(streams.len() as u64, Ordering::Relaxed);
        published
            .folded
            .store(manifest.folded.streams(), Ordering::Relaxed);
        let rows = RowTools {
            recognizer: Recognizer::new(options.recognizer),
            ..RowTools::default()
        };
        let tools = EntryTools {
            rows,
            limits: options.batch_limits,
            ..EntryTools::default()
        };
        Ok(Arc::new(Self {
            files_dir,
            writer: Mutex::new(Writer {
                cursor,
                streams,
                log_gaps: Arc::new(manifest.log_gaps),
                tools,
                folded_at: None,
                changed_since: None,
                duplicates: 0,
            }),
            published,
            visible: Mutex::new(Visible {
                active: Generation::default(),
                frozen: None,
                files: Arc::new(live),
            }),
            flushing: Mutex::new(Flushing {
                next_file: manifest.next_file,
                missing,
                frozen: None,
                folded: manifest.folded,
                superseded: previous_files
                    .into_iter()
                    .filter(|name| name.ends_with(FOLD_SUFFIX))
                    .collect(),
            }),
            durable_cursor: AtomicU64::new(cursor),
            held_cursor: AtomicU64::new(previous_cursor.map_or(cursor, |previous| previous.min(cursor))),
            stopped,
            problems: Mutex::new(problems),
            engine: Engine::start(&options)?,
            latest: Arc::new(Latest::new(options.latest_series_max)),
            arrivals: Arc::default(),
            _lock: lock,
            options,
        }))
    }

    /// The next entry of the commit log to apply.
    pub fn cursor(&self) -> u64 {
        self.published.cursor.load(Ordering::Acquire)
    }

    /// Entries below it are in files; the log may drop them.
    pub fn durable_cursor(&self) -> u64 {
        self.durable_cursor.load(Ordering::Acquire)
    }

    /// Entries below it are also in the manifest before; the log keeps the others while it has room, so that a damaged
    /// manifest costs nothing.
    pub fn held_cursor(&self) -> u64 {
        self.held_cursor.load(Ordering::Acquire)
    }

    /// Does the store stand still, because there is no manifest that can be used?
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    fn check_running(&self) -> Result<(), StoreError> {
        match &self.stopped {
            Some(why) => Err(StoreError::Stopped(Arc::clone(why))),
            None => Ok(()),
        }
    }

    /// Applies one entry: its rows can be queried when this returns. An entry below the cursor changes nothing. Blocks
    /// for a flush when memory is full.
    ///
    /// # Errors
    /// [`StoreError::remedy`] says what to do; nothing has changed.
    pub fn apply(&self, sequence: u64, entry: &LogEntry) -> Result<Applied, StoreError> {
        self.check_running()?;
        self.make_room()?;
        let mut writer = self.writer.lock();
        if sequence < writer.cursor {
            return Ok(Applied {
                flush_due: self.is_flush_due(&writer),
                ..Applied::default()
            });
        }
        let Writer { streams, tools, .. } = &mut *writer;
        let outcome = entry::read(sequence, entry, streams, tools)?;
        for (table, rows) in &outcome.rows {
            if *table == Table::Metrics {
                self.latest.note(&rows.batch);
            }
        }
        let watched = self.arrivals.is_watched();
        let mut arrived = Vec::new();
        let mut visible = self.visible.lock();
        for (table, rows) in outcome.rows {
            if watched && table == Table::Logs {
                arrived.push((rows.batch.clone(), rows.bytes));
            }
            visible.active.push(table, rows);
        }
        drop(visible);
        self.arrivals.push(arrived);
        writer.streams.commit(outcome.changes);
        writer.duplicates += outcome.duplicate_count;
        self.advance(&mut writer, sequence);
        Ok(Applied {
            rows: outcome.row_count,
            duplicates: outcome.duplicate_count,
            overlaps: outcome.overlap_count,
            flush_due: self.is_flush_due(&writer),
        })
    }

    /// Log records as they are applied: they can be queried before they come here. For one watcher.
    pub fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    /// Goes on behind an entry of which nothing is missed.
    pub fn skip(&self, sequence: u64) {
        let mut writer = self.writer.lock();
        if sequence >= writer.cursor && !self.is_stopped() {
            self.advance(&mut writer, sequence);
        }
    }

    /// Goes on behind entries that are missed, and keeps in mind that they are.
    pub fn step_over(&self, missed: &Missed<'_>) {
        let mut writer = self.writer.lock();
        let last = missed.entries.end.saturating_sub(1);
        if missed.entries.is_empty() || last < writer.cursor || self.is_stopped() {
            return;
        }
        let noted_ms = self.options.clock.wall_ns().div_euclid(1_000_000);
        let gap = LogGap {
            entries: missed.entries.clone(),
            kind: missed.kind,
            noted_ms,
            what: missed.what.to_owned(),
            records: missed.records,
        };
        log_gap::add(Arc::make_mut(&mut writer.log_gaps), gap);
        let Writer { streams, tools, .. } = &mut *writer;
        if let Some((entry, code)) = missed.dead_letter {
            let changes = entry::put_aside(last, entry, code, noted_ms, streams, tools);
            streams.commit(changes);
        }
        self.advance(&mut writer, last);
    }

    /// Entries of the log that never came here, oldest first.
    pub fn log_gaps(&self) -> Arc<Vec<LogGap>> {
        Arc::clone(&self.writer.lock().log_gaps)
    }

    fn advance(&self, writer: &mut Writer, sequence: u64) {
        writer.cursor = sequence + 1;
        let published = &self.published;
        published
            .streams
            .store(writer.streams.len() as u64, Ordering::Relaxed);
        published.duplicates.store(writer.duplicates, Ordering::Relaxed);
        published.cursor.store(writer.cursor, Ordering::Release);
        writer
            .changed_since
            .get_or_insert_with(|| self.options.clock.monotonic());
    }

    /// Is it time to flush? Callers ask when nothing comes in, too: age counts, and so does what an
    /// earlier flush could not write.
    pub fn flush_due(&self) -> bool {
        if self
            .flushing
            .try_lock()
            .is_some_and(|flushing| flushing.frozen.is_some())
        {
            return true;
        }
        let writer = self.writer.lock();
        self.is_flush_due(&writer)
    }

    fn is_flush_due(&self, writer: &Writer) -> bool {
        let now = self.options.clock.monotonic();
        let is_old = writer
            .changed_since
            .is_some_and(|since| now.saturating_sub(since) >= self.options.flush_age);
        let visible = self.visible.lock();
        is_old
            || visible.active.bytes >= self.options.flush_bytes()
            || visible.active.rows >= self.options.flush_rows
    }

    fn make_room(&self) -> Result<(), StoreError> {
        let visible = self.visible.lock();
        let bytes = visible.active.bytes + visible.frozen.as_ref().map_or(0, |frozen| frozen.bytes);
        drop(visible);
        if bytes >= self.options.memory_bytes {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes rows in memory to files and makes the cursor durable. Entries are applied and queries answered meanwhile.
    /// Does nothing when nothing has changed.
    ///
    /// # Errors
    /// The disk failed: the rows stay in memory and can be queried; try again.
    pub fn flush(&self) -> Result<Flushed, StoreError> {
        self.check_running()?;
        let mut flushing = self.flushing.lock();
        let mut total = Flushed::default();
        // What an earlier attempt left, then what has come in since.
        let left_over = flushing.frozen.is_some();
        for _ in 0..1 + usize::from(left_over) {
            if flushing.frozen.is_none() {
                flushing.frozen = self.freeze();
            }
            let written = self.write_frozen(&mut flushing);
            self.problems.lock().flush = written.as_ref().err().map(ToString::to_string);
            let written = written?;
            total.rows += written.rows;
            total.files += written.files;
            total.bytes += written.bytes;
        }
        Ok(total)
    }

    /// Merges small files of a day while there is nothing else to do. Not yet: issue 4 brings it.
    pub fn merge_idle(&self) -> Result<Flushed, StoreError> {
        Ok(Flushed::default())
    }

    fn freeze(&self) -> Option<Frozen> {
        let mut writer = self.writer.lock();
        writer.changed_since.take()?;
        let mut visible = self.visible.lock();
        let rows = Arc::new(std::mem::take(&mut visible.active));
        visible.frozen = Some(Arc::clone(&rows));
        drop(visible);
        let folding = self.foldable(&mut writer);
        self.published
            .streams
            .store(writer.streams.len() as u64, Ordering::Relaxed);
        Some(Frozen {
            rows,
            folding,
            folded: None,
            streams: writer.streams.clone(),
            log_gaps: Arc::clone(&writer.log_gaps),
            cursor: writer.cursor,
            written: None,
        })
    }

    /// Streams that are to be folded, once an hour.
    fn foldable(&self, writer: &mut Writer) -> Vec<Folding> {
        let now = self.options.clock.monotonic();
        let is_due = |at: Duration| now.saturating_sub(at) >= fold::INTERVAL;
        if !writer.folded_at.is_none_or(is_due) {
            return Vec::new();
        }
        writer.folded_at = Some(now);
        let detail_ms = i64::try_from(self.options.detail.as_millis()).unwrap_or(i64::MAX);
        let now_ms = self.options.clock.wall_ns().div_euclid(1_000_000);
        let before_ms = now_ms.saturating_sub(detail_ms);
        writer.streams.take_foldable(before_ms, fold::STREAMS_MAX)
    }

    /// Writes the files of streams that leave the manifest.
    fn write_folded(
        &self,
        frozen: &mut Frozen,
        folded: &Folded,
        next_file: &mut u64,
    ) -> Result<(), StoreError> {
        if frozen.folding.is_empty() || frozen.folded.is_some() {
            return Ok(());
        }
        let dir = self.options.dir.join(fold::FOLDED_DIR);
        let now = (folded, &**frozen.streams.index());
        frozen.folded = Some(fold::write(
            &*self.options.disk,
            &dir,
            now,
            &frozen.folding,
            next_file,
        )?);
        Ok(())
    }

    /// What was folded is in the manifest: it is looked up in its files from now on, and what was superseded by the
    /// manifest before goes.
    fn fold_done(&self, written: Option<Written>, flushing: &mut Flushing) {
        let dir = self.options.dir.join(fold::FOLDED_DIR);
        for name in std::mem::take(&mut flushing.superseded) {
            if let Err(error) = self.options.disk.remove_file(&dir.join(&name)) {
                tracing::debug!(
                    name,
                    "a file of folded streams stays until the next start: {error}"
                );
            }
        }
        if let Some(written) = written {
            self.writer.lock().streams.folded(written.index);
            flushing.folded = written.folded;
            flushing.superseded = written.superseded;
        }
    }

    /// What there was of folded streams, of days at or after `since_day` (days since 1970), oldest first: each file is
    /// read when it is asked for. Those that can't be read are said by their error. Blocks.
    pub fn summaries(
        &self,
        since_day: i64,
    ) -> impl DoubleEndedIterator<Item = Result<(i64, Vec<Summary>), String>> {
        let days = self.flushing.lock().folded.days.clone();
        let dir = self.options.dir.join(fold::FOLDED_DIR);
        days.into_iter()
            .filter(move |entry| entry.day >= since_day)
            .map(move |entry| {
                let summaries = fold::read_day(&*self.options.disk, &dir.join(&entry.name))?;
                Ok((entry.day, summaries))
            })
    }

    /// Streams that are folded.
    pub fn folded_streams(&self) -> u64 {
        self.published.folded.load(Ordering::Relaxed)
    }

    fn write_frozen(&self, flushing: &mut Flushing) -> Result<Flushed, StoreError> {
        let Flushing {
            next_file,
            missing,
            frozen: slot,
            folded,
            ..
        } = flushing;
        let Some(frozen) = slot else {
            return Ok(Flushed::default());
        };
        if frozen.written.is_none() {
            frozen.written = Some(write_files(
                &self.options,
                &self.files_dir,
                &frozen.rows,
                next_file,
            )?);
        }
        self.write_folded(frozen, folded, next_file)?;
        let folded = frozen.folded.as_ref().map_or(&*folded, |written| &written.folded);
        let new = frozen.written.clone().unwrap_or_default();
        let mut files: Vec<Arc<LiveFile>> = self.visible.lock().files.to_vec();
        let named = files
            .iter()
            .map(|file| &file.entry)
            .chain(&*missing)
            .chain(&new)
            .cloned()
            .collect();
        write_new_manifest(&self.options, named, frozen, folded, *next_file)?;
        self.published.folded.store(folded.streams(), Ordering::Relaxed);
        files.extend(new.iter().map(|entry| Arc::new(self.live(entry.clone()))));
        let flushed = Flushed {
            rows: frozen.rows.rows,
            files: new.len() as u64,
            bytes: new.iter().map(|entry| entry.bytes).sum(),
        };
        let cursor = frozen.cursor;
        let written = slot.take().and_then(|frozen| frozen.folded);
        self.fold_done(written, flushing);
        let mut visible = self.visible.lock();
        visible.frozen = None;
        visible.files = Arc::new(files);
        drop(visible);
        let before = self.durable_cursor.swap(cursor, Ordering::AcqRel);
        self.held_cursor.store(before, Ordering::Release);
        self.problems.lock().last_flush_ns = Some(self.options.clock.wall_ns());
        Ok(flushed)
    }

    fn live(&self, entry: manifest::FileEntry) -> LiveFile {
        LiveFile::new(entry, &self.files_dir, Arc::clone(&self.options.disk))
    }

    /// Reads the newest samples of what is stored, so that [`Store::latest`] knows them. Once, after it was opened; until
    /// then answers say that they are not complete.
    ///
    /// # Errors
    /// A file can't be read.
    pub async fn fill_latest(&self) -> Result<(), QueryError> {
        self.engine.fill(self.snapshot(), Arc::clone(&self.latest)).await
    }

    /// Adds a table that is not stored here. One of the same name is replaced.
    pub fn add_table(&self, table: Arc<dyn LiveTable>) {
        self.engine.add(table);
    }

    /// All rows at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.visible.lock().snapshot()
    }

    /// Every stream as it is now. For the ledger.
    pub fn streams(&self) -> Vec<(StreamId, Arc<StreamState>)> {
        self.writer
            .lock()
            .streams
            .iter()
            .map(|(id, state)| (id, Arc::clone(state)))
            .collect()
    }

    /// Holds the lock that an entry is applied under.
    #[cfg(test)]
    pub(crate) fn while_applying<T>(&self, look: impl FnOnce(&Self) -> T) -> T {
        let _applying = self.writer.lock();
        look(self)
    }

    /// Some of the streams as they are now, in the order in which they are asked for.
    pub fn streams_of(&self, asked: &[(Arc<str>, StreamId)]) -> Vec<Option<Arc<StreamState>>> {
        let writer = self.writer.lock();
        let state = |(machine_id, id): &(Arc<str>, StreamId)| writer.streams.get(machine_id, *id).cloned();
        asked.iter().map(state).collect()
    }

    fn current_status(&self) -> StoreStatus {
        let published = &self.published;
        let snapshot = self.snapshot();
        let mut status = StoreStatus {
            cursor: self.cursor(),
            durable_cursor: self.durable_cursor(),
            streams: published.streams.load(Ordering::Relaxed),
            duplicates: published.duplicates.load(Ordering::Relaxed),
            queries_running: self.engine.running() as u64,
            ..StoreStatus::default()
        };
        for table in Table::ALL {
            let mut rows = 0;
            for recent in snapshot.recent(table) {
                rows += recent.batch.num_rows() as u64;
                status.recent_bytes += recent.bytes;
            }
            status.recent_rows += rows;
            for file in snapshot.files(table) {
                let entry = &file.entry;
                rows += entry.rows;
                status.files += 1;
                status.file_bytes += entry.bytes;
                status.oldest_ns = Some(
                    status
                        .oldest_ns
                        .map_or(entry.time.0, |oldest| oldest.min(entry.time.0)),
                );
                status.newest_ns = Some(
                    status
                        .newest_ns
                        .map_or(entry.time.1, |newest| newest.max(entry.time.1)),
                );
            }
            match table {
                Table::Logs => status.log_rows = rows,
                Table::Metrics => status.metric_rows = rows,
            }
        }
        let problems = self.problems.lock();
        status
            .problems
            .extend(problems.opening.iter().chain(&problems.flush).cloned());
        status.last_flush_ns = problems.last_flush_ns;
        status
    }
}

impl Store for EmbeddedStore {
    fn query(&self, query: SqlQuery) -> Answer<'_, SqlResult> {
        Box::pin(self.engine.sql(self.snapshot(), query))
    }

    fn range(&self, query: RangeQuery) -> Answer<'_, RangeResult> {
        Box::pin(self.engine.range(self.snapshot(), query))
    }

    fn latest(&self, filter: &SeriesFilter, since_ns: i64, limit: usize) -> Result<LatestPage, QueryError> {
        filter.check()?;
        Ok(self.latest.page(filter, since_ns, limit))
    }

    fn metric_names(
        &self,
        filter: &SeriesFilter,
        since_ns: i64,
    ) -> Result<(Vec<MetricName>, bool), QueryError> {
        filter.check()?;
        Ok(self.latest.names(filter, since_ns))
    }

    fn tables(&self) -> Vec<TableInfo> {
        self.engine.tables()
    }

    fn logs(&self, query: LogQuery) -> Answer<'_, LogPage> {
        Box::pin(self.engine.logs(self.snapshot(), query))
    }

    fn context(&self, query: ContextQuery) -> Answer<'_, Option<LogContext>> {
        Box::pin(self.engine.context(self.snapshot(), query))
    }

    fn volume(&self, query: VolumeQuery) -> Answer<'_, Vec<VolumeCell>> {
        Box::pin(self.engine.volume(self.snapshot(), query))
    }

    fn patterns(&self, query: LogQuery) -> Answer<'_, Patterns> {
        Box::pin(self.engine.patterns(self.snapshot(), query))
    }

    fn status(&self) -> Answer<'_, StoreStatus> {
        Box::pin(async { Ok::<_, QueryError>(self.current_status()) })
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("dir", &self.options.dir)
            .finish_non_exhaustive()
    }
}

const FOLD_SUFFIX: &str = ".fold";
/// What a file gets behind its name that the damaged manifest may have named.
const ORPHAN_SUFFIX: &str = "orphan";

/// Files that no manifest names: a crash came between them and their manifest. Their rows are in the log. Where a manifest
/// was damaged it may have named them: then they are kept under another name, should the log not have all of it any more.
fn put_orphans_away(
    options: &StoreOptions,
    files_dir: &Path,
    found: &Found,
    problems: &mut Problems,
) -> Result<(), StoreError> {
    let files = found.manifest.files.iter().map(|entry| &entry.name);
    let named: HashSet<&String> = files.chain(&found.previous_files).collect();
    let mut kept = 0;
    for name in options.disk.list_files(files_dir).at("list", files_dir)? {
        if named.contains(&name) || !is_ours(&name) {
            continue;
        }
        let path = files_dir.join(&name);
        if found.fallen_back.is_some() {
            let aside = files_dir.join(format!("{name}.{ORPHAN_SUFFIX}"));
            options.disk.rename(&path, &aside).at("rename", &path)?;
            kept += 1;
        } else {
            options.disk.remove_file(&path).at("remove", &path)?;
            tracing::info!(path = %path.display(), "removed a file of a flush that did not finish");
        }
    }
    remove_folded_orphans(options, found)?;
    if let Some(problem) = &found.fallen_back {
        problems.opening.push(format!(
            "{problem}. The manifest before it is in force, and the log is replayed from entry {}. The damaged one is kept \
             as manifest.damaged, and {kept} files that it may have named as files/*.{ORPHAN_SUFFIX}; remove them when \
             `edgelogger-collector ledger` shows no gap",
            found.manifest.cursor
        ));
    }
    // The number of a removed file may come again: its removal must not come after.
    Ok(options.disk.sync_dir(files_dir).at("sync directory", files_dir)?)
}

/// Files of folded streams that no manifest names. Where one was damaged its streams are in the manifest before it.
fn remove_folded_orphans(options: &StoreOptions, found: &Found) -> Result<(), StoreError> {
    let dir = options.dir.join(fold::FOLDED_DIR);
    let named: HashSet<&String> = found
        .manifest
        .folded
        .names()
        .chain(&found.previous_files)
        .collect();
    for name in options.disk.list_files(&dir).at("list", &dir)? {
        if !named.contains(&name) && name.ends_with(FOLD_SUFFIX) {
            let path = dir.join(&name);
            options.disk.remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(options.disk.sync_dir(&dir).at("sync directory", &dir)?)
}

fn is_ours(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "parquet")
        && Table::ALL
            .iter()
            .any(|table| name.starts_with(&format!("{}-", table.name())))
}

/// The manifest's cursor, unless it counts in another log.
fn starting_cursor(options: &StoreOptions, manifest: &Manifest, problems: &mut Problems) -> u64 {
    match (&manifest.log_id, options.log_id.map(hex)) {
        (Some(known), Some(found)) if *known != found => {
            problems.opening.push(format!(
                "the commit log is {found}, it was {known}: everything in it is looked at from its beginning, and \
                 what is stored already is not stored again"
            ));
            0
        }
        _ => manifest.cursor,
    }
}

fn find_files(
    options: &StoreOptions,
    files_dir: &Path,
    entries: Vec<manifest::FileEntry>,
    problems: &mut Problems,
) -> (Vec<Arc<LiveFile>>, Vec<manifest::FileEntry>) {
    let (mut live, mut missing) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = files_dir.join(&entry.name);
        match options.disk.file_len(&path) {
            Ok(len) if len == entry.bytes => {
                live.push(Arc::new(LiveFile::new(
                    entry,
                    files_dir,
                    Arc::clone(&options.disk),
                )));
            }
            found => {
                let what = found.map_or_else(|error| error.to_string(), |len| format!("it has {len} bytes"));
                problems.opening.push(format!(
                    "{} with {} rows cannot be used ({what}; it should have {} bytes): restore it from a backup and \
                     restart; queries answer without it",
                    path.display(),
                    entry.rows,
                    entry.bytes
                ));
                missing.push(entry);
            }
        }
    }
    (live, missing)
}

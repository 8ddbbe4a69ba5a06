//! Writing what is in memory to files, and the manifest that makes it count.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::leaving::Leaving;
use super::{EmbeddedStore, Flushed, Flushing, Writer};
use crate::error::StoreError;
use crate::flush::{Frozen, Told, write_files, write_new_manifest};
use crate::fold::{self, Folded, Folding, Summary};
use crate::live_file::LiveFile;
use crate::manifest;

impl EmbeddedStore {
    /// Writes rows in memory to files and makes the cursor durable. Entries are applied and queries answered meanwhile.
    /// Does nothing when nothing has changed.
    ///
    /// # Errors
    /// The disk failed: the rows stay in memory and can be queried; try again.
    pub fn flush(&self) -> Result<Flushed, StoreError> {
        self.check_running()?;
        self.flush_all(&mut self.flushing.lock())
    }

    /// The same, where the lock is held: of what is applied when it begins nothing is left in memory.
    pub(super) fn flush_all(&self, flushing: &mut Flushing) -> Result<Flushed, StoreError> {
        let mut total = Flushed::default();
        // What an earlier attempt left, then what has come in since.
        let left_over = flushing.frozen.is_some();
        for _ in 0..1 + usize::from(left_over) {
            if flushing.frozen.is_none() {
                flushing.frozen = self.freeze();
            }
            let written = self.write_frozen(flushing);
            self.problems.lock().flush = written.as_ref().err().map(ToString::to_string);
            let written = written?;
            total.rows += written.rows;
            total.files += written.files;
            total.bytes += written.bytes;
        }
        Ok(total)
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
        let detail_ms = i64::try_from(self.keeping.lock().detail.as_millis()).unwrap_or(i64::MAX);
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

    /// What there was of folded streams, of days at or after `since_day` (days since 1970), oldest first: each file is
    /// read when it is asked for. Those that can't be read are said by their error. Blocks.
    pub fn summaries(
        &self,
        since_day: i64,
    ) -> impl DoubleEndedIterator<Item = Result<(i64, Vec<Summary>), String>> {
        let days = self.flushing.lock().in_force.folded.days.clone();
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
            frozen: slot,
            in_force,
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
        self.write_folded(frozen, &in_force.folded, next_file)?;
        let new = frozen.written.clone().unwrap_or_default();
        let mut named = self.visible.lock().named();
        named.files.extend(new.iter().cloned());
        let folded = frozen.folded.as_ref().map(|written| &written.folded);
        let told = Told {
            cursor: frozen.cursor,
            streams: &frozen.streams,
            log_gaps: &frozen.log_gaps,
            folded: folded.unwrap_or(&in_force.folded),
            deletions: &in_force.deletions,
        };
        write_new_manifest(&self.options, named, told, *next_file)?;
        let flushed = Flushed {
            rows: frozen.rows.rows,
            files: new.len() as u64,
            bytes: new.iter().map(|entry| entry.bytes).sum(),
        };
        if let Some(frozen) = slot.take() {
            self.in_force(flushing, frozen);
        }
        let cursor = flushing.in_force.cursor;
        let mut visible = self.visible.lock();
        visible.frozen = None;
        let written = new.into_iter().map(|entry| Arc::new(self.live(entry)));
        Arc::make_mut(&mut visible.files).extend(written);
        drop(visible);
        let before = self.durable_cursor.swap(cursor, Ordering::AcqRel);
        self.held_cursor.store(before, Ordering::Release);
        self.problems.lock().last_flush_ns = Some(self.options.clock.wall_ns());
        Ok(flushed)
    }

    /// What was frozen is in the manifest. Folded streams are looked up in their files from now on.
    fn in_force(&self, flushing: &mut Flushing, frozen: Frozen) {
        let mut leaving = Vec::new();
        let in_force = &mut flushing.in_force;
        in_force.cursor = frozen.cursor;
        in_force.streams = frozen.streams;
        in_force.log_gaps = frozen.log_gaps;
        if let Some(written) = frozen.folded {
            let dir = self.options.dir.join(fold::FOLDED_DIR);
            leaving.extend(
                written
                    .superseded
                    .iter()
                    .map(|name| Leaving::Path(dir.join(name))),
            );
            in_force.streams.folded(Arc::clone(&written.index));
            self.writer.lock().streams.folded(written.index);
            in_force.folded = written.folded;
            self.published
                .folded
                .store(in_force.folded.streams(), Ordering::Relaxed);
        }
        flushing.leaving.manifest_written(&*self.options.disk, leaving);
    }

    pub(super) fn live(&self, entry: manifest::FileEntry) -> LiveFile {
        LiveFile::new(entry, &self.files_dir, Arc::clone(&self.options.disk))
    }
}

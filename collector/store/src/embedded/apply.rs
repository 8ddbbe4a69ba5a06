//! Taking entries in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use edgelogger_proto::v1::LogEntry;

use super::{Applied, EmbeddedStore, Missed, Writer};
use crate::entry;
use crate::error::StoreError;
use crate::log_gap::{self, LogGap};
use crate::schema::Table;

impl EmbeddedStore {
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
        self.published
            .rows
            .fetch_add(outcome.row_count, Ordering::Relaxed);
        self.advance(&mut writer, sequence);
        Ok(Applied {
            rows: outcome.row_count,
            duplicates: outcome.duplicate_count,
            overlaps: outcome.overlap_count,
            flush_due: self.is_flush_due(&writer),
        })
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
}

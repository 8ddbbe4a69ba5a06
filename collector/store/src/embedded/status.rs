//! What the store says of itself.

use std::sync::atomic::Ordering;

use super::EmbeddedStore;
use crate::schema::Table;
use crate::store::StoreStatus;

impl EmbeddedStore {
    pub(super) fn current_status(&self) -> StoreStatus {
        let published = &self.published;
        let snapshot = self.snapshot();
        let mut status = StoreStatus {
            cursor: self.cursor(),
            durable_cursor: self.durable_cursor(),
            streams: published.streams.load(Ordering::Relaxed),
            duplicates: published.duplicates.load(Ordering::Relaxed),
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
        status.problems.extend(
            problems
                .opening
                .iter()
                .chain(&problems.flush)
                .chain(&problems.merge)
                .chain(&problems.retention)
                .cloned(),
        );
        status.last_flush_ns = problems.last_flush_ns;
        status
    }
}

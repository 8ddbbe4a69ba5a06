//! What the store says of itself.

use std::sync::atomic::Ordering;

use super::EmbeddedStore;
use super::aside::problem;
use crate::partition::DAY_NS;
use crate::schema::Table;
use crate::snapshot::Snapshot;
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
        self.forecast(&mut status, &snapshot);
        let aside = self.aside();
        for file in &aside.files {
            status.aside_files += 1;
            status.aside_rows += file.entry.rows;
            status.problems.push(problem(file));
        }
        let problems = self.problems.lock();
        status.problems.extend(
            problems
                .opening
                .iter()
                .chain(&problems.flush)
                .chain(&problems.merge)
                .chain(&problems.retention)
                .chain(&problems.deletion)
                .chain(&problems.aside)
                .cloned(),
        );
        status.last_flush_ns = problems.last_flush_ns;
        status
    }

    /// How fast it grows, and how long there is room.
    fn forecast(&self, status: &mut StoreStatus, snapshot: &Snapshot) {
        let now = self.options.clock.wall_ns();
        let files = Table::ALL.into_iter().flat_map(|table| snapshot.files(table));
        let received = files.map(|file| (file.entry.received, file.entry.bytes));
        status.growth_bytes_per_day = growth(received, now);
        let dir = &self.files_dir;
        let Ok(available) = self.options.disk.available_bytes(dir) else {
            return;
        };
        let retention = self.keeping.lock().retention;
        let bound = retention.bytes_max(status.file_bytes, available);
        let room = bound.saturating_sub(status.file_bytes).min(available);
        status.room_bytes = Some(room);
        status.full_in_days = room.checked_div(status.growth_bytes_per_day);
    }
}

/// Bytes a day, by what came in during the last day. A file whose rows came in over a longer time counts in part.
fn growth(files: impl Iterator<Item = ((i64, i64), u64)>, now_ns: i64) -> u64 {
    let since = now_ns.saturating_sub(DAY_NS);
    let (mut bytes, mut first) = (0u128, now_ns);
    for ((from, to), len) in files.filter(|((_, to), _)| *to >= since) {
        let whole = to.saturating_sub(from).max(1);
        let part = to.saturating_sub(from.max(since)).clamp(1, whole);
        bytes += u128::from(len) * part.unsigned_abs() as u128 / whole.unsigned_abs() as u128;
        first = first.min(from.max(since));
    }
    // What came in during a minute says little of a day.
    let span = now_ns.saturating_sub(first).max(DAY_NS / 24).unsigned_abs();
    let a_day = bytes * u128::from(DAY_NS.unsigned_abs()) / u128::from(span);
    u64::try_from(a_day).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = DAY_NS / 24;
    const NOW: i64 = 100 * DAY_NS;

    fn check(files: &[((i64, i64), u64)], expected: u64) {
        assert_eq!(growth(files.iter().copied(), NOW), expected, "{files:?}");
    }

    #[test]
    fn growth_is_what_came_in_during_the_last_day() {
        check(&[], 0);
        check(&[((NOW - 40 * HOUR, NOW - 30 * HOUR), 1000)], 0);
        check(&[((NOW - 24 * HOUR, NOW), 1000)], 1000);
        check(&[((NOW - 48 * HOUR, NOW), 1000)], 500);
        check(&[((NOW - 12 * HOUR, NOW), 1000)], 2000);
        check(&[((NOW - 1, NOW), 10)], 240);
    }
}

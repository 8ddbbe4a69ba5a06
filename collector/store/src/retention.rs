//! What is kept how long, and how much of it.
//!
//! Whole files go, the oldest day first and of a day the file with the oldest rows; a file that only straddles a bound
//! stays. So rows are kept for at least as many days as are asked for and up to one more (a file has rows of one UTC
//! day), and a table of at most so many bytes goes below that by up to one file.

use std::sync::Arc;
use std::time::Duration;

use crate::live_file::LiveFile;
use crate::manifest::FileEntry;
use crate::partition::DAY_NS;
use crate::schema::Table;

/// What is kept of a table; without a bound, everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableRetention {
    /// Rows of days that were over for so long go.
    pub age_max: Option<Duration>,
    /// Bytes of all files.
    pub bytes_max: Option<u64>,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Of the log records.
    pub logs: TableRetention,
    /// Of the metric samples.
    pub metrics: TableRetention,
    /// All files together take at most so many percent of what there is for them: of what they take and of what is free
    /// beside them. 100 is no bound.
    pub disk_percent_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            logs: TableRetention::default(),
            metrics: TableRetention::default(),
            disk_percent_max: 100,
        }
    }
}

impl Retention {
    const fn of(&self, table: Table) -> &TableRetention {
        match table {
            Table::Logs => &self.logs,
            Table::Metrics => &self.metrics,
        }
    }

    /// What all files together may take, where they take so many bytes and so many more are free.
    pub fn bytes_max(&self, taken: u64, available: u64) -> u64 {
        let percent = u128::from(self.disk_percent_max.min(100));
        let bound = u128::from(taken).saturating_add(available.into()) * percent / 100;
        if percent < 100 {
            u64::try_from(bound).unwrap_or(u64::MAX)
        } else {
            u64::MAX
        }
    }

    /// Is it of a day that is kept no longer?
    pub fn is_too_old(&self, entry: &FileEntry, now_ns: i64) -> bool {
        let age_max = self.of(entry.table).age_max;
        age_max.is_some_and(|age| is_over(entry.day, age, now_ns))
    }

    /// The files that go now, oldest first. `available`: bytes that are free on their file system.
    pub fn due(&self, files: &[Arc<LiveFile>], now_ns: i64, available: u64) -> Vec<Arc<LiveFile>> {
        let mut files: Vec<&Arc<LiveFile>> = files.iter().collect();
        files.sort_by_key(|file| (file.entry.day, file.entry.time.0));
        let sum = |table| {
            let of_table = files.iter().filter(|file| file.entry.table == table);
            of_table.map(|file| file.entry.bytes).sum::<u64>()
        };
        let mut left = Table::ALL.map(sum);
        let all: u64 = left.iter().sum();
        let bound = self.bytes_max(all, available);
        let mut due = Vec::new();
        for file in files {
            let entry = &file.entry;
            let of_table = &mut left[entry.table as usize];
            let (retention, bytes) = (self.of(entry.table), *of_table);
            let is_old = self.is_too_old(entry, now_ns);
            let is_much = retention.bytes_max.is_some_and(|most| bytes > most);
            if is_old || is_much || left.iter().sum::<u64>() > bound {
                left[entry.table as usize] -= entry.bytes;
                due.push(Arc::clone(file));
            }
        }
        due
    }
}

/// Was the day over for so long?
fn is_over(day: i64, age: Duration, now_ns: i64) -> bool {
    let end_ns = day.saturating_add(1).saturating_mul(DAY_NS);
    let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    end_ns.saturating_add(age_ns) <= now_ns
}

#[cfg(test)]
mod tests {
    use edgelogger_common::disk::FaultDisk;

    use super::*;

    const NOW: i64 = 100 * DAY_NS + DAY_NS / 2;

    fn file(table: Table, day: i64, bytes: u64) -> Arc<LiveFile> {
        let entry = FileEntry {
            name: format!("{}-{day}-{bytes}", table.name()),
            table,
            day,
            rows: 1,
            bytes,
            crc32c: None,
            time: (day * DAY_NS, day * DAY_NS),
            received: (0, 0),
            machine: (String::new(), String::new()),
            machines: Vec::new(),
            order: 0,
        };
        Arc::new(LiveFile::new(entry, "/f".as_ref(), Arc::new(FaultDisk::new(1))))
    }

    fn check(retention: Retention, available: u64, expected: &[&str]) {
        let files = [
            file(Table::Logs, 100, 10),
            file(Table::Logs, 90, 11),
            file(Table::Metrics, 90, 12),
            file(Table::Logs, 80, 13),
            file(Table::Metrics, 100, 14),
        ];
        let due = retention.due(&files, NOW, available);
        let names: Vec<_> = due.iter().map(|file| file.entry.name.as_str()).collect();
        assert_eq!(names, expected, "{retention:?}");
    }

    fn days(days: u64) -> Option<Duration> {
        Some(Duration::from_secs(days * 86_400))
    }

    #[test]
    fn days_that_are_over_for_long_enough_go_whole() {
        let of = |logs, metrics| Retention {
            logs: TableRetention {
                age_max: logs,
                bytes_max: None,
            },
            metrics: TableRetention {
                age_max: metrics,
                bytes_max: None,
            },
            ..Retention::default()
        };
        check(Retention::default(), 0, &[]);
        check(of(days(9), None), 0, &["logs-80-13", "logs-90-11"]);
        check(of(days(10), None), 0, &["logs-80-13"]);
        check(of(None, days(9)), 0, &["metrics-90-12"]);
        check(of(days(0), None), 0, &["logs-80-13", "logs-90-11"]);
    }

    #[test]
    fn of_what_is_too_much_the_oldest_goes() {
        let of = |bytes_max| Retention {
            logs: TableRetention {
                age_max: None,
                bytes_max: Some(bytes_max),
            },
            ..Retention::default()
        };
        check(of(34), 0, &[]);
        check(of(33), 0, &["logs-80-13"]);
        check(of(20), 0, &["logs-80-13", "logs-90-11"]);
        check(of(0), 0, &["logs-80-13", "logs-90-11", "logs-100-10"]);
    }

    #[test]
    fn the_disk_is_never_full_of_rows_and_what_went_is_enough() {
        let of = |disk_percent_max| Retention {
            disk_percent_max,
            ..Retention::default()
        };
        check(of(80), 15, &[]);
        check(of(80), 14, &["logs-80-13"]);
        check(of(50), 0, &["logs-80-13", "logs-90-11", "metrics-90-12"]);
        check(of(100), 0, &[]);
    }
}

//! Retention: files go whole, and their positions stay applied and become *expired*.

use std::sync::Arc;

use edgelogger_common::disk::At;

use super::EmbeddedStore;
use super::aside::QUARANTINE_DIR;
use super::leave::Departure;
use crate::aside::AsideFile;
use crate::error::StoreError;
use crate::gone::{GoneCounter, GoneRows, GoneWhy};
use crate::live_file::remove;

/// Files of one manifest, all of one day: what is known of their rows is in memory until then.
const FILES_AT_ONCE: usize = 16;

/// What retention dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their length, in bytes.
    pub bytes: u64,
}

impl EmbeddedStore {
    /// Drops what is to be kept no longer, and has no room. Ends early when `go_on`, asked for every file, says no.
    ///
    /// # Errors
    /// The disk fails: what was dropped so far stays dropped, the rest is as before.
    pub fn expire(&self, go_on: &dyn Fn() -> bool) -> Result<Expired, StoreError> {
        self.check_running()?;
        let _maintaining = self.maintaining.lock();
        let mut expired = Expired::default();
        let done = self.expire_due(go_on, &mut expired);
        self.problems.lock().retention = done
            .as_ref()
            .err()
            .map(|error| format!("{error}; retention waits for that"));
        done.map(|()| expired)
    }

    fn expire_due(&self, go_on: &dyn Fn() -> bool, expired: &mut Expired) -> Result<(), StoreError> {
        let dir = &self.files_dir;
        let files = Arc::clone(&self.visible.lock().files);
        let available = self.options.disk.available_bytes(dir).at("look at", dir)?;
        let now = self.options.clock.wall_ns();
        let retention = self.keeping.lock().retention;
        let due = retention.due(&files, now, available);
        drop(files);
        let days = due.chunk_by(|left, right| left.entry.day == right.entry.day);
        for files in days.flat_map(|day| day.chunks(FILES_AT_ONCE)) {
            let mut gone = GoneCounter::default();
            for file in files {
                if !go_on() {
                    return Ok(());
                }
                gone.read(file)
                    .inspect_err(|error| self.on_read_error(error, std::slice::from_ref(file)))?;
            }
            let departure = Departure {
                old: files,
                new: None,
                gone: &gone.finish(),
                why: GoneWhy::Retention,
                steps: &[],
            };
            if !self.let_rows_go(departure)? {
                return Ok(());
            }
            for file in files {
                expired.files += 1;
                expired.rows += file.entry.rows;
                expired.bytes += file.entry.bytes;
            }
        }
        self.expire_aside(now)?;
        if expired.files > 0 {
            self.let_go()?;
        }
        Ok(())
    }

    /// Files that are aside go too, once all of them are too old: what was in each of them nobody knows. What is left of them
    /// in `quarantine` goes with them.
    fn expire_aside(&self, now_ns: i64) -> Result<(), StoreError> {
        let aside = self.aside();
        let retention = self.keeping.lock().retention;
        let is_too_old = |file: &AsideFile| retention.is_too_old(&file.entry, now_ns);
        if !aside.is_accounted || !aside.files.iter().all(is_too_old) {
            return Ok(());
        }
        let live = |file: &AsideFile| Arc::new(self.live(file.entry.clone()));
        let files: Vec<_> = aside.files.iter().map(live).collect();
        let departure = Departure {
            old: &files,
            new: None,
            gone: &GoneRows::of_aside(&aside),
            why: GoneWhy::Retention,
            steps: &[],
        };
        if self.let_rows_go(departure)? {
            let dir = self.options.dir.join(QUARANTINE_DIR);
            for file in files {
                remove(&*self.options.disk, &dir.join(&file.entry.name));
            }
        }
        Ok(())
    }
}

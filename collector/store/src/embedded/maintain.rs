//! Files in the place of others, in idle time: merging, and putting in order.

use std::sync::Arc;

use edgelogger_common::disk::At;

use super::leaving::Leaving;
use super::{EmbeddedStore, Flushing};
use crate::compact;
use crate::error::StoreError;
use crate::flush::{Told, file_name, write_new_manifest};
use crate::live_file::{LiveFile, remove};
use crate::manifest::FileEntry;
use crate::partition::DAY_NS;
use crate::snapshot::Named;

/// Left free beside what is written anew.
const MERGE_SPARE_BYTES: u64 = 64 << 20;

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Files that became one, or one that was put in order.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Length of what is there instead, in bytes.
    pub bytes: u64,
}

impl EmbeddedStore {
    /// Merges some small files of a table and day, or puts one of an earlier order in that of now. None when there is nothing to merge, when a flush has to come first, or
    /// when `go_on`, asked every few thousand rows, says no; then everything is as before. Blocks for a second or some.
    ///
    /// # Errors
    /// A file can't be read, the disk is full or fails: everything is as before, and the status says it until a merge
    /// succeeds.
    pub fn merge_idle(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Merged>, StoreError> {
        self.check_running()?;
        let _maintaining = self.maintaining.lock();
        let merged = self.merge(go_on);
        match &merged {
            Ok(_) => self.problems.lock().merge = None,
            Err(error) => self.problems.lock().merge = Some(format!("{error}; small files stay as they are")),
        }
        merged
    }

    fn merge(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Merged>, StoreError> {
        if self.deletions.lock().holds_files() {
            return Ok(None);
        }
        let files = Arc::clone(&self.visible.lock().files);
        if let Some(file) = compact::unsorted(&files) {
            return self.sort(&file, go_on);
        }
        let today = self.options.clock.wall_ns().div_euclid(DAY_NS);
        let Some(inputs) = compact::pick(&files, today) else {
            self.let_go()?;
            return Ok(None);
        };
        self.check_room(inputs.iter().map(|file| file.entry.bytes).sum())?;
        let Some(first) = inputs.first() else {
            return Ok(None);
        };
        let path = self
            .files_dir
            .join(file_name(first.entry.table, first.entry.day, self.file_number()));
        let written = compact::merge(&self.options, &inputs, &path, go_on)
            .and_then(|entry| {
                self.options
                    .disk
                    .sync_dir(&self.files_dir)
                    .at("sync directory", &self.files_dir)?;
                Ok(entry)
            })
            .inspect_err(|error| {
                remove(&*self.options.disk, &path);
                self.on_read_error(error, &inputs);
            })?;
        let Some(entry) = written else {
            remove(&*self.options.disk, &path);
            return Ok(None);
        };
        let merged = Merged {
            files: inputs.len() as u64,
            rows: entry.rows,
            bytes: entry.bytes,
        };
        let done = self.exchange(&inputs, vec![entry])?;
        Ok(done.then_some(merged))
    }

    /// Puts the rows of a file in order.
    fn sort(&self, file: &Arc<LiveFile>, go_on: &dyn Fn() -> bool) -> Result<Option<Merged>, StoreError> {
        self.check_room(file.entry.bytes)?;
        let old = std::slice::from_ref(file);
        let mut paths = Vec::new();
        let new_file = || {
            let name = file_name(file.entry.table, file.entry.day, self.file_number());
            let path = self.files_dir.join(&name);
            paths.push(path.clone());
            (name, path)
        };
        let sorted = compact::sort(&self.options, file, new_file, go_on).and_then(|sorted| {
            let dir = &self.files_dir;
            self.options.disk.sync_dir(dir).at("sync directory", dir)?;
            Ok(sorted)
        });
        let Ok(Some(new)) = sorted else {
            paths.iter().for_each(|path| remove(&*self.options.disk, path));
            return sorted
                .map(|_| None)
                .inspect_err(|error| self.on_read_error(error, old));
        };
        let sorted = Merged {
            files: 1,
            rows: file.entry.rows,
            bytes: new.iter().map(|entry| entry.bytes).sum(),
        };
        Ok(self.exchange(old, new)?.then_some(sorted))
    }

    /// What is damaged must not be in the way for ever.
    pub(super) fn on_read_error(&self, error: &StoreError, files: &[Arc<LiveFile>]) {
        match error {
            StoreError::Unreadable { .. } => self.put_aside_damaged_of(files),
            StoreError::Disk(error) if matches!(error.action, "open" | "read") => {
                self.put_aside_damaged_of(files);
            }
            _ => {}
        }
    }

    pub(super) fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let dir = &self.files_dir;
        let available = self.options.disk.available_bytes(dir).at("look at", dir)?;
        let needed = bytes.saturating_add(MERGE_SPARE_BYTES);
        if available < needed {
            return Err(StoreError::NoRoom { available, needed });
        }
        Ok(())
    }

    /// The number of a new file.
    fn file_number(&self) -> u64 {
        let mut flushing = self.flushing.lock();
        flushing.next_file += 1;
        flushing.next_file - 1
    }

    /// Puts files in the place of others: one manifest, then one step of what queries see. False where it can't be now; the
    /// new files are gone then.
    pub(super) fn exchange(&self, old: &[Arc<LiveFile>], new: Vec<FileEntry>) -> Result<bool, StoreError> {
        let mut flushing = self.flushing.lock();
        let new: Vec<_> = new.into_iter().map(|entry| Arc::new(self.live(entry))).collect();
        let mut named = self.visible.lock().named();
        let all_there = named.remove(old) == old.len();
        // What an earlier flush could not write may stand in a manifest that is in place all the same.
        // A deletion that was accepted meanwhile covers the old files, and not the number of the new one.
        let is_held = self.deletions.lock().holds_files();
        if flushing.frozen.is_some() || !all_there || is_held {
            new.iter().for_each(|file| file.leave());
            return Ok(false);
        }
        named.files.extend(new.iter().map(|file| file.entry.clone()));
        if let Err(error) = self.write_manifest(&flushing, named) {
            for file in new {
                if may_be_in_place(&error) {
                    flushing.leaving.doubt(Leaving::Live(file));
                } else {
                    file.leave();
                }
            }
            return Err(error);
        }
        let leaving = old.iter().map(|file| Leaving::Live(Arc::clone(file))).collect();
        flushing.leaving.manifest_written(&*self.options.disk, leaving);
        self.visible.lock().exchange(old, &new);
        self.held_cursor_is_durable();
        Ok(true)
    }

    /// The manifest in force with these files.
    pub(super) fn write_manifest(&self, flushing: &Flushing, named: Named) -> Result<(), StoreError> {
        let in_force = &flushing.in_force;
        let told = Told {
            cursor: in_force.cursor,
            streams: &in_force.streams,
            log_gaps: &in_force.log_gaps,
            folded: &in_force.folded,
            deletions: &in_force.deletions,
        };
        write_new_manifest(&self.options, named, told, flushing.next_file)
    }

    /// Writes the manifest once more where files wait only for that, so that their space comes back though nothing is
    /// flushed.
    pub(super) fn let_go(&self) -> Result<(), StoreError> {
        let mut flushing = self.flushing.lock();
        if !flushing.leaving.wait() {
            return Ok(());
        }
        let named = self.visible.lock().named();
        self.write_manifest_again(&mut flushing, named)
    }

    /// The manifest in force once more, with these files.
    pub(super) fn write_manifest_again(
        &self,
        flushing: &mut Flushing,
        named: Named,
    ) -> Result<(), StoreError> {
        self.write_manifest(flushing, named)?;
        flushing.leaving.manifest_written(&*self.options.disk, Vec::new());
        self.held_cursor_is_durable();
        Ok(())
    }

    /// The manifest before has the same cursor as the one in force.
    pub(super) fn held_cursor_is_durable(&self) {
        use std::sync::atomic::Ordering;
        self.held_cursor.store(self.durable_cursor(), Ordering::Release);
    }
}

/// May the manifest have been replaced, though its writing failed?
pub(super) fn may_be_in_place(error: &StoreError) -> bool {
    match error {
        StoreError::Disk(error) => matches!(error.action, "rename" | "sync directory"),
        _ => false,
    }
}

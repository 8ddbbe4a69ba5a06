//! Files in the place of others, in idle time: merging.

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

/// Left free beside what is written anew.
const MERGE_SPARE_BYTES: u64 = 64 << 20;

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Files that became one.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Length of the new one, in bytes.
    pub bytes: u64,
}

impl EmbeddedStore {
    /// Merges some small files of a table and day. None when there is nothing to merge, when a flush has to come first, or
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
        let done = self.exchange(&inputs, Some(entry))?;
        Ok(done.then_some(merged))
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

    /// Puts a file, or none, in the place of others: one manifest, then one step of what queries see. False where it can't
    /// be now; the new file is gone then.
    fn exchange(&self, old: &[Arc<LiveFile>], new: Option<FileEntry>) -> Result<bool, StoreError> {
        let mut flushing = self.flushing.lock();
        let new = new.map(|entry| Arc::new(self.live(entry)));
        let mut named = self.visible.lock().named();
        let is_old = |entry: &FileEntry| old.iter().any(|file| file.entry.name == entry.name);
        let all_there = named.iter().filter(|entry| is_old(entry)).count() == old.len();
        // What an earlier flush could not write may stand in a manifest that is in place all the same.
        // A deletion that was accepted meanwhile covers the old files, and not the number of the new one.
        let is_held = self.deletions.lock().holds_files();
        if flushing.frozen.is_some() || !all_there || is_held {
            if let Some(new) = new {
                new.leave();
            }
            return Ok(false);
        }
        named.retain(|entry| !is_old(entry));
        named.extend(new.iter().map(|file| file.entry.clone()));
        if let Err(error) = self.write_manifest(&flushing, named) {
            if let Some(new) = new {
                if may_be_in_place(&error) {
                    flushing.leaving.doubt(Leaving::Live(new));
                } else {
                    new.leave();
                }
            }
            return Err(error);
        }
        let leaving = old.iter().map(|file| Leaving::Live(Arc::clone(file))).collect();
        flushing.leaving.manifest_written(&*self.options.disk, leaving);
        self.visible.lock().exchange(old, new);
        self.held_cursor_is_durable();
        Ok(true)
    }

    /// The manifest in force with these files.
    pub(super) fn write_manifest(
        &self,
        flushing: &Flushing,
        named: Vec<FileEntry>,
    ) -> Result<(), StoreError> {
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
        self.write_manifest(&flushing, named)?;
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

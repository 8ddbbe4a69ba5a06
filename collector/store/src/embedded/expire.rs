//! Retention: files go whole, and their positions stay applied and become *expired*.

use std::sync::Arc;

use edgelogger_common::disk::At;

use super::leaving::Leaving;
use super::{EmbeddedStore, Flushing};
use crate::error::StoreError;
use crate::flush::{Told, write_new_manifest};
use crate::fold;
use crate::gone::GoneRows;
use crate::live_file::LiveFile;

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
            let mut gone = GoneRows::default();
            for file in files {
                if !go_on() {
                    return Ok(());
                }
                gone.read(file)
                    .inspect_err(|error| self.on_read_error(error, std::slice::from_ref(file)))?;
            }
            if !self.drop_files(files, &gone)? {
                return Ok(());
            }
            for file in files {
                expired.files += 1;
                expired.rows += file.entry.rows;
                expired.bytes += file.entry.bytes;
            }
        }
        if expired.files > 0 {
            self.let_go()?;
        }
        Ok(())
    }

    /// One manifest without these files, and with what was in them. False where it can't be now.
    fn drop_files(&self, old: &[Arc<LiveFile>], gone: &GoneRows) -> Result<bool, StoreError> {
        let mut flushing = self.flushing.lock();
        // Streams that are on their way into files of their own would not learn of it. An hour later they have.
        if flushing
            .frozen
            .as_ref()
            .is_some_and(|frozen| !frozen.folding.is_empty())
        {
            return Ok(false);
        }
        let mut named = self.visible.lock().named();
        named.retain(|entry| old.iter().all(|file| file.entry.name != entry.name));
        let mut streams = flushing.in_force.streams.clone();
        let folded_gone = streams.expire(gone);
        let day = old.first().map_or(0, |file| file.entry.day);
        let folded = self.expire_folded(&mut flushing, (day, &folded_gone))?;
        let told = Told {
            cursor: flushing.in_force.cursor,
            streams: &streams,
            log_gaps: &flushing.in_force.log_gaps,
            folded: folded
                .as_ref()
                .map_or(&flushing.in_force.folded, |(folded, _)| folded),
        };
        write_new_manifest(&self.options, named, told, flushing.next_file)?;
        let mut leaving: Vec<_> = old.iter().map(|file| Leaving::Live(Arc::clone(file))).collect();
        flushing.in_force.streams = streams;
        if let Some((folded, superseded)) = folded {
            let dir = self.options.dir.join(fold::FOLDED_DIR);
            leaving.extend(superseded.iter().map(|name| Leaving::Path(dir.join(name))));
            flushing.in_force.folded = folded;
        }
        if let Some(frozen) = &mut flushing.frozen {
            frozen.streams.expire(gone);
        }
        self.writer.lock().streams.expire(gone);
        flushing.leaving.manifest_written(&*self.options.disk, leaving);
        self.visible.lock().exchange(old, None);
        self.held_cursor_is_durable();
        Ok(true)
    }

    /// Files of folded streams in which these are expired, and those that they replace. What a failure leaves of them is
    /// removed when the store opens.
    fn expire_folded(
        &self,
        flushing: &mut Flushing,
        (day, gone): (i64, &[fold::FoldedGone]),
    ) -> Result<Option<(fold::Folded, Vec<String>)>, StoreError> {
        if gone.is_empty() {
            return Ok(None);
        }
        let dir = self.options.dir.join(fold::FOLDED_DIR);
        let Flushing {
            in_force, next_file, ..
        } = flushing;
        let written = fold::expire(
            &*self.options.disk,
            &dir,
            &in_force.folded,
            (day, gone),
            next_file,
        )?;
        Ok(Some(written))
    }
}

//! `copytruncate`: the log is copied, then cut to nothing; its stream goes on in the copy.
//!
//! A copy may be seen before the log is cut, because it is included itself or lies where rotated logs are looked for.
//! Until it holds something that the log does not, no stream is made of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{FileCompression, StreamDescriptor};
use rustix::fd::OwnedFd;

use super::archive::Format;
use super::backlog::Backlog;
use super::content::{open_unblocked, read_at};
use super::displaced::{Leaving, Listings};
use super::files::{FileId, Tailer, Whereabouts};
use super::identity::{
    COPY_BYTES_MIN, FINGERPRINT_BYTES_MAX, Known, compare, is_copy, is_rotated_name, original_names,
};
use super::reader::Place;
use super::skip::SkipReason;
use super::source::FileSource;
use super::stat::{FileKind, FileStat, stat, stat_open};

/// Looks for a copy while files beside the log are being renamed.
const LOOKS_MAX: usize = 8;

impl FileSource {
    /// The content of a file was replaced, but a copy lies beside it (`copytruncate`): its stream goes on in the copy,
    /// so that what was not read before the truncation is not lost. `false`: there is none.
    pub(super) fn go_on_in_copy(
        &mut self,
        id: FileId,
        known: &Known,
        place: &Place,
        backlog: &Backlog,
    ) -> bool {
        let Some(file) = self.files.get(id) else {
            return false;
        };
        let (name, birth_ns) = (file.name.clone(), file.birth_ns);
        let dir = parent(file.others.first().unwrap_or(&file.path)).to_owned();
        let Some((path, found)) = self.find_copy(&name, &dir, birth_ns, known) else {
            return false;
        };
        self.note_move(&place.stream_id, &found, None);
        self.unskip(&path);
        let copy = self.files.that_is(&found).unwrap_or_else(|| {
            let copy = Tailer::new(name.clone(), path, &found, Whereabouts::Rotated);
            self.files.insert(copy)
        });
        self.files.set_name(copy, &name);
        if let Some(file) = self.files.get_mut(copy) {
            file.place = Some(Place::new(place.stream_id, place.offset, place.check));
            file.backlog = backlog.clone();
            file.fingerprint = Some(known.fingerprint());
            (file.followed, file.copied) = (true, None);
            self.status.update(copy, file);
        }
        self.enqueue(copy);
        self.enqueue_backlog(copy);
        // Copies that were made after this one hold what was in the file since.
        let modified_ns = found.modified_ns;
        let leaving = Leaving {
            name,
            dir,
            birth_ns: found.birth_ns,
            modified_ns,
            known: None,
            stream_id: None,
        };
        self.remember_left(&leaving);
        self.leaving.push(leaving);
        true
    }

    /// A stream goes on in another file: after a restart it is found there. Gives its descriptor.
    pub(super) fn note_move(
        &self,
        stream_id: &StreamId,
        found: &FileStat,
        format: Option<Format>,
    ) -> Option<StreamDescriptor> {
        let mut descriptor = self.checkpoints.stream(stream_id)?.descriptor;
        if let Some(identity) = &mut descriptor.file {
            (identity.device, identity.inode) = (found.key.device, found.key.inode);
            // Not the copy's: what was at the path after the log, and is older than the copy, is looked for by its last
            // change then.
            identity.birth_time_ns = 0;
            identity.compression = format.map_or(FileCompression::None, Format::compression).into();
        }
        if let Err(error) = self.checkpoints.create(std::slice::from_ref(&descriptor)) {
            tracing::warn!(%error, "where a log goes on could not be noted; after a restart it is looked for again");
        }
        Some(descriptor)
    }

    /// The youngest file with a rotated name that begins with what was read. What is renamed while it is looked for
    /// (`.1` becomes `.2` before the next copy is made) is missed, so a look that finds nothing counts only if nothing
    /// moved meanwhile.
    fn find_copy(
        &self,
        name: &Path,
        dir: &Path,
        birth_ns: Option<i64>,
        known: &Known,
    ) -> Option<(PathBuf, FileStat)> {
        let original = name.file_name()?.as_bytes();
        let mut before = self.rotated_beside(original, dir);
        for _ in 0..LOOKS_MAX {
            let candidates = before.iter().filter_map(|(_, path)| {
                let found = stat(path).ok()?;
                let younger = match (found.birth_ns, birth_ns) {
                    (Some(birth), Some(original)) => birth >= original,
                    _ => true,
                };
                let free = found.kind == FileKind::Regular && self.is_free(&found);
                (younger && free && holds(path, &found, known).unwrap_or(false))
                    .then(|| (path.clone(), found))
            });
            let copy = candidates.max_by_key(|(_, found)| (found.birth_ns, found.modified_ns));
            let after = self.rotated_beside(original, dir);
            if copy.is_some() || after == before {
                return copy;
            }
            before = after;
        }
        None
    }

    /// Inode and path of what has a rotated name beside a log.
    fn rotated_beside(&self, original: &[u8], dir: &Path) -> BTreeSet<(u64, PathBuf)> {
        let is_rotated = |path: &Path| {
            path.file_name()
                .is_some_and(|name| is_rotated_name(original, name.as_bytes()))
        };
        let mut listings = Listings::default();
        let listed = listings.of(dir).iter();
        listed
            .filter(|(_, path)| is_rotated(path) && !self.globs.excludes(path))
            .cloned()
            .collect()
    }
}

impl FileSource {
    /// Is it no stream's yet, of this process or an earlier one?
    fn is_free(&self, found: &FileStat) -> bool {
        let Some(id) = self.files.that_is(found) else {
            return true;
        };
        !self.waiting.by_file.contains_key(&id)
            && self
                .files
                .get(id)
                .is_some_and(|file| file.place.is_none() && file.packed.is_none())
    }

    /// The logs beside a file that it may be a copy of, by its name.
    fn originals_of(&self, id: FileId) -> Vec<FileId> {
        let Some(file) = self.files.get(id).filter(|file| !file.followed) else {
            return Vec::new();
        };
        let Some(name) = file.path.file_name() else {
            return Vec::new();
        };
        let names = original_names(name.as_bytes()).into_iter();
        let names = names.map(|name| file.path.with_file_name(OsStr::from_bytes(&name)));
        let originals = names.flat_map(|name| self.files.of_name(&name).collect::<Vec<_>>());
        let is_log = |file: &Tailer| file.packed.is_none() && file.copied.is_none();
        originals
            .filter(|original| *original != id && self.files.get(*original).is_some_and(is_log))
            .collect()
    }

    /// A log that this file may be a copy of, and of which it is still to be decided what it is, or where.
    pub(super) fn waits_for_original(&self, id: FileId) -> Option<FileId> {
        self.originals_of(id).into_iter().find(|original| {
            let is_claimed = self.waiting.by_file.contains_key(original);
            self.files.get(*original).is_some_and(|file| {
                // What is known of its size may be older than the copy.
                let has_content = || stat(&file.path).is_ok_and(|found| found.size > 0 && file.is(&found));
                let is_open = file.place.is_none() && file.error.is_none();
                file.missed || is_open && (is_claimed || file.path == file.name && has_content())
            })
        })
    }

    /// Is a file that is no stream's yet the copy of a followed log? Then no stream is made of it: its content is read
    /// from the log, or, when that is truncated, from the copy, where the log's stream goes on.
    pub(super) fn is_taken_for_copy(
        &mut self,
        id: FileId,
        found: &FileStat,
        head: &[u8],
    ) -> io::Result<bool> {
        let Some(file) = self.files.get(id) else {
            return Ok(false);
        };
        if file.copied == Some((found.size, found.modified_ns)) {
            self.leave_copy(id, found);
            return Ok(true);
        }
        for original in self.originals_of(id) {
            if self.is_copy_of(id, original, found, head)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_copy_of(
        &mut self,
        id: FileId,
        original: FileId,
        found: &FileStat,
        head: &[u8],
    ) -> io::Result<bool> {
        let log = self
            .files
            .get(original)
            .and_then(|log| Some((log.known()?, log.borrowed().ok()?)));
        let copy = self.files.get(id).and_then(|file| file.file.as_ref());
        let (Some((known, log)), Some(copy)) = (log, copy) else {
            return Ok(false);
        };
        if begins_with(&log, copy, found.size, head)? {
            self.leave_copy(id, found);
            return Ok(true);
        }
        // The log was truncated since, and nobody saw that yet.
        let window = u64::from(known.check.len).min(known.offset);
        let before = |file: &OwnedFd| read_at(file, known.offset - window, known.check.len as usize);
        let log_head = read_at(&log, 0, FINGERPRINT_BYTES_MAX)?;
        let Err(difference) = compare(&known, &stat_open(&log)?, &log_head, &before(&log)?) else {
            return Ok(false);
        };
        // By now the copy is whole; before, it may have been in the making.
        let head = read_at(copy, 0, FINGERPRINT_BYTES_MAX)?;
        if is_copy(&known, &stat_open(copy)?, &head, &before(copy)?) {
            self.restart_stream(original, difference);
        }
        Ok(self.files.get(id).is_some_and(|file| file.place.is_some()))
    }

    /// Looked at again when it changes.
    fn leave_copy(&mut self, id: FileId, found: &FileStat) {
        self.files.close(id);
        self.status.remove(id);
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        file.copied = Some((found.size, found.modified_ns));
        file.dirty = false;
        let (path, is_included) = (file.path.clone(), file.whereabouts == Whereabouts::Included);
        let original = self
            .originals_of(id)
            .into_iter()
            .find_map(|original| self.files.get(original));
        let name = original.and_then(|original| original.path.file_name());
        let name = name.map_or_else(|| "a log".into(), |name| name.to_string_lossy().into_owned());
        if is_included {
            self.skip(&path, SkipReason::Copy(name), Some(found));
        }
    }
}

/// Is all of a copy, whose first bytes are `head`, in a log at the same positions?
fn begins_with(log: &OwnedFd, copy: &OwnedFd, size: u64, head: &[u8]) -> io::Result<bool> {
    if size < COPY_BYTES_MIN || stat_open(log)?.size < size {
        return Ok(false);
    }
    let last = size.saturating_sub(FINGERPRINT_BYTES_MAX as u64);
    let end = read_at(copy, last, FINGERPRINT_BYTES_MAX)?;
    Ok(read_at(log, 0, head.len())? == head && read_at(log, last, end.len())? == end)
}

/// Does the file begin with what was read? `false` also where another one is at the path by now.
pub(super) fn holds(path: &Path, found: &FileStat, known: &Known) -> io::Result<bool> {
    let (file, opened) = open_unblocked(path)?;
    if opened.key != found.key {
        return Ok(false);
    }
    let head = read_at(&file, 0, FINGERPRINT_BYTES_MAX)?;
    let window = u64::from(known.check.len).min(known.offset);
    let before = read_at(&file, known.offset - window, known.check.len as usize)?;
    Ok(is_copy(known, found, &head, &before))
}

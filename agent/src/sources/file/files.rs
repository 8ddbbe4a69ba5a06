//! The files that are followed, and the three ways to find one: by path, by inode, by id.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgelogger_common::stream::StreamId;
use rustix::fd::OwnedFd;

use super::archive::Format;
use super::archives::Packed;
use super::backlog::Backlog;
use super::content::open_unblocked;
use super::identity::{Known, births_differ};
use super::reader::Place;
use super::stat::{FileKey, FileStat};
use crate::flow::ContentCheck;

/// A followed file; never used again for another.
pub(super) type FileId = u64;

/// Where a followed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// At a path that a glob includes.
    Included,
    /// At a path that a rotation gave it.
    Rotated,
    /// At no path that is known: deleted, or moved out of sight. Its descriptor is all there is.
    Gone { since: Duration },
}

/// One followed file.
#[derive(Debug)]
pub(super) struct Tailer {
    /// The path by which it was included; what its stream is called.
    pub name: PathBuf,
    /// Where it is now, and opened.
    pub path: PathBuf,
    /// Other paths that lead to it: the target of a symbolic link, further links.
    pub others: Vec<PathBuf>,
    pub key: FileKey,
    pub birth_ns: Option<i64>,
    pub whereabouts: Whereabouts,
    pub file: Option<OwnedFd>,
    /// Turn of the last use, for closing what was not used for longest.
    pub used: u64,
    /// Its stream; `None` before its first byte was seen.
    pub place: Option<Place>,
    /// What of the stream is read later.
    pub backlog: Backlog,
    /// It is in the row of files with a backlog.
    pub backlog_queued: bool,
    /// CRC32C of its first bytes, as its stream's descriptor has it.
    pub fingerprint: Option<ContentCheck>,
    /// The stream that its own continues.
    pub predecessor: Option<StreamId>,
    /// It is compressed.
    pub packed: Option<Packed>,
    /// It is followed only if a stream goes on in it.
    pub on_trial: bool,
    /// It holds nothing but what a followed log holds: its length and last change when that was found.
    pub copied: Option<(u64, i64)>,
    /// It was looked for beside its path and not found, once.
    pub missed: bool,
    /// It was read before under another stream, so its content is not judged any more.
    pub followed: bool,
    /// What it holds when it is first read is skipped.
    pub skip_content: bool,
    /// As last seen by `stat`, or known from reading.
    pub size: u64,
    pub modified_ns: i64,
    /// Something happened to it since its end was last reached.
    pub dirty: bool,
    /// It is in the queue of files to read.
    pub queued: bool,
    /// When it was last read, or grew.
    pub active: Duration,
    /// When its unfinished last line is handed on, and where that line ended when this was set.
    pub timer: Option<(Duration, u64)>,
    /// The timer fired.
    pub finish_line_at: Option<u64>,
    /// What went wrong last; tried again.
    pub error: Option<String>,
    /// The spool was told that it is gone.
    pub endangered: bool,
    /// Since when it has been known up to here and is not read so far. Of a file that is gone.
    pub behind: Option<(Duration, u64)>,
    /// What is left of it goes to the spool now.
    pub draining: bool,
    /// Some of it went there.
    pub rescued: bool,
}

impl Tailer {
    pub fn new(name: PathBuf, path: PathBuf, stat: &FileStat, whereabouts: Whereabouts) -> Self {
        Self {
            name,
            path,
            others: Vec::new(),
            key: stat.key,
            birth_ns: stat.birth_ns,
            whereabouts,
            file: None,
            used: 0,
            place: None,
            backlog: Backlog::default(),
            backlog_queued: false,
            fingerprint: None,
            predecessor: None,
            packed: None,
            on_trial: false,
            copied: None,
            missed: false,
            followed: false,
            skip_content: false,
            size: stat.size,
            modified_ns: stat.modified_ns,
            dirty: false,
            queued: false,
            active: Duration::ZERO,
            timer: None,
            finish_line_at: None,
            error: None,
            endangered: false,
            behind: None,
            draining: false,
            rescued: false,
        }
    }

    /// Is it this file? Says no only where that is certain; content is compared at the next read.
    pub fn is(&self, stat: &FileStat) -> bool {
        self.key == stat.key && !births_differ(self.birth_ns, stat.birth_ns)
    }

    /// Where a compressed file is read next, whose place this is.
    pub fn reading<'a>(&'a self, place: &'a Place) -> &'a Place {
        self.backlog.front().map_or(place, |span| &span.place)
    }

    /// It turned out to be compressed: from now on `size` is that of its content, as far as that is known.
    pub fn pack(&mut self, format: Format, found: &FileStat) {
        (self.size, self.modified_ns, self.dirty) = (0, found.modified_ns, true);
        self.packed = Some(Packed {
            format,
            disk_size: found.size,
            archive: None,
        });
    }

    /// Takes over what the file system says of its length and last change. `true`: something is new.
    pub const fn take_note(&mut self, found: &FileStat) -> bool {
        let size = match &mut self.packed {
            Some(packed) => &mut packed.disk_size,
            None => &mut self.size,
        };
        let is_new = *size != found.size || self.modified_ns != found.modified_ns;
        (*size, self.modified_ns) = (found.size, found.modified_ns);
        is_new
    }

    /// What its stream remembers of its content.
    pub fn known(&self) -> Option<Known> {
        let (place, fingerprint) = (self.place.as_ref()?, self.fingerprint?);
        Some(Known {
            inode: self.key.inode,
            birth_ns: self.birth_ns,
            fingerprint_len: fingerprint.len,
            fingerprint_crc32c: fingerprint.crc32c,
            offset: place.offset,
            check: place.check,
        })
    }

    /// A descriptor of its own for one look, also where the file was closed because nothing was read for long.
    pub fn borrowed(&self) -> io::Result<OwnedFd> {
        if let Some(descriptor) = &self.file {
            return descriptor.try_clone();
        }
        let (opened, found) = open_unblocked(&self.path)?;
        if self.is_gone() || !self.is(&found) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(opened)
    }

    /// Its decoder would have to begin anew if the file were closed.
    pub fn is_unpacking(&self) -> bool {
        self.packed
            .as_ref()
            .is_some_and(|packed| packed.archive.is_some())
    }

    /// It is compressed and ends in the middle: what seems to be its last line is none.
    pub fn is_cut_off(&self) -> bool {
        let archive = self.packed.as_ref().and_then(|packed| packed.archive.as_ref());
        archive.is_some_and(|archive| archive.damage().is_some())
    }

    pub const fn is_gone(&self) -> bool {
        matches!(self.whereabouts, Whereabouts::Gone { .. })
    }

    /// Is something known to be unread?
    pub fn has_unread(&self) -> bool {
        self.dirty
            || self.queued
            || !self.backlog.is_empty()
            || self.size > self.place.as_ref().map_or(0, |place| place.offset)
    }
}

/// All followed files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Boxed: a table of them would be half empty, and twice in memory while it grows.
    by_id: HashMap<FileId, Box<Tailer>>,
    by_path: HashMap<PathBuf, FileId>,
    by_key: HashMap<FileKey, FileId>,
    /// Files that are at another path than that of their name, or at none, by that.
    renamed: HashMap<PathBuf, Vec<FileId>>,
    /// Those with a descriptor.
    open: Vec<FileId>,
    /// Files whose path was given to another one, and that path: where they are now must be found out.
    evicted: Vec<(FileId, PathBuf)>,
    next_id: FileId,
}

impl Files {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn get(&self, id: FileId) -> Option<&Tailer> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    pub fn get_mut(&mut self, id: FileId) -> Option<&mut Tailer> {
        self.by_id.get_mut(&id).map(Box::as_mut)
    }

    pub fn at_path(&self, path: &Path) -> Option<FileId> {
        self.by_path.get(path).copied()
    }

    /// The followed file that this is. An inode that was used again is none.
    pub fn that_is(&self, found: &FileStat) -> Option<FileId> {
        let id = self.with_key(found.key)?;
        self.get(id).is_some_and(|file| file.is(found)).then_some(id)
    }

    pub fn with_key(&self, key: FileKey) -> Option<FileId> {
        self.by_key.get(&key).copied()
    }

    /// Paths of all files, in no order.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.by_path.keys()
    }

    /// The file at a path, and those that were rotated away from it.
    pub fn of_name<'a>(&'a self, name: &'a Path) -> impl Iterator<Item = FileId> + 'a {
        let renamed = self.renamed.get(name).into_iter().flatten().copied();
        let renamed = renamed.filter(move |id| self.get(*id).is_some_and(|file| file.name == name));
        self.at_path(name).into_iter().chain(renamed)
    }

    /// It is what a rotation made of this log.
    pub fn set_name(&mut self, id: FileId, name: &Path) {
        self.forget_name(id);
        if let Some(file) = self.by_id.get_mut(&id) {
            name.clone_into(&mut file.name);
        }
        self.note_name(id);
    }

    fn note_name(&mut self, id: FileId) {
        let is_away = |file: &&Tailer| self.by_path.get(&file.name) != Some(&id);
        if let Some(file) = self.get(id).filter(is_away) {
            let renamed = self.renamed.entry(file.name.clone()).or_default();
            if !renamed.contains(&id) {
                renamed.push(id);
            }
        }
    }

    fn forget_name(&mut self, id: FileId) {
        let Some(file) = self.by_id.get(&id) else { return };
        if let Some(renamed) = self.renamed.get_mut(&file.name) {
            renamed.retain(|other| *other != id);
            if renamed.is_empty() {
                self.renamed.remove(&file.name);
            }
        }
    }

    /// Files with a stream.
    pub fn placed(&self) -> impl Iterator<Item = (FileId, &Tailer)> {
        self.by_id
            .iter()
            .map(|(id, file)| (*id, file.as_ref()))
            .filter(|(_, file)| file.place.is_some())
    }

    /// Compressed files with a decoder.
    pub fn archives_open(&self) -> usize {
        let open = self.open.iter().filter_map(|id| self.by_id.get(id));
        open.filter(|file| file.is_unpacking()).count()
    }

    pub fn gone(&self) -> impl Iterator<Item = (FileId, &Tailer)> {
        // A file at no path is known by its descriptor only.
        self.open
            .iter()
            .filter_map(|id| Some((*id, self.get(*id)?)))
            .filter(|(_, file)| file.is_gone())
    }

    pub fn insert(&mut self, file: Tailer) -> FileId {
        let id = self.next_id;
        self.next_id += 1;
        self.take_path(file.path.clone(), id);
        self.by_key.insert(file.key, id);
        self.by_id.insert(id, Box::new(file));
        self.note_name(id);
        id
    }

    pub fn remove(&mut self, id: FileId) -> Option<Tailer> {
        self.forget_paths(id);
        self.forget_name(id);
        self.close(id);
        let file = self.by_id.remove(&id)?;
        if self.by_key.get(&file.key) == Some(&id) {
            self.by_key.remove(&file.key);
        }
        Some(*file)
    }

    /// Another path that leads to the file.
    pub fn add_path(&mut self, id: FileId, path: PathBuf) {
        let Some(file) = self.by_id.get_mut(&id) else {
            return;
        };
        if file.path != path && !file.others.contains(&path) {
            file.others.push(path.clone());
        }
        self.take_path(path, id);
    }

    /// The path leads to this file from now on. The one that had it may not know yet that it was moved.
    fn take_path(&mut self, path: PathBuf, id: FileId) {
        if let Some(before) = self
            .by_path
            .insert(path.clone(), id)
            .filter(|before| *before != id)
        {
            self.evicted.push((before, path));
            self.note_name(before);
        }
    }

    /// Files whose path was given to another one since the last time, and that path.
    pub fn take_evicted(&mut self) -> Vec<(FileId, PathBuf)> {
        std::mem::take(&mut self.evicted)
    }

    pub fn has_evicted(&self) -> bool {
        !self.evicted.is_empty()
    }

    /// One of the file's other paths does not lead to it any more.
    pub fn remove_path(&mut self, id: FileId, path: &Path) {
        if self.by_path.get(path) == Some(&id) {
            self.by_path.remove(path);
        }
        if let Some(file) = self.by_id.get_mut(&id) {
            file.others.retain(|other| other != path);
        }
        self.note_name(id);
    }

    /// The file leaves all its paths.
    pub fn forget_paths(&mut self, id: FileId) {
        let Some(file) = self.by_id.get_mut(&id) else {
            return;
        };
        for path in std::iter::once(&file.path).chain(&file.others) {
            if self.by_path.get(path) == Some(&id) {
                self.by_path.remove(path);
            }
        }
        file.others.clear();
        self.note_name(id);
    }

    /// The file is at this path now, and at no other.
    pub fn set_path(&mut self, id: FileId, path: PathBuf) {
        self.forget_paths(id);
        if let Some(file) = self.by_id.get_mut(&id) {
            file.path.clone_from(&path);
            self.take_path(path, id);
        }
        self.forget_name(id);
        self.note_name(id);
    }

    /// Files with a descriptor.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    pub fn set_open(&mut self, id: FileId, descriptor: OwnedFd) {
        if let Some(file) = self.by_id.get_mut(&id)
            && file.file.replace(descriptor).is_none()
        {
            self.open.push(id);
        }
    }

    pub fn close(&mut self, id: FileId) {
        if let Some(file) = self.by_id.get_mut(&id)
            && file.file.take().is_some()
        {
            if let Some(packed) = &mut file.packed {
                packed.archive = None;
            }
            self.open.retain(|open| *open != id);
        }
    }

    /// Closes the descriptor that is missed least: one that has nothing to read and was not used for longest. That
    /// of a file without a path is never closed here, because it could not be opened again.
    pub fn close_one(&mut self) -> bool {
        let least = self
            .open
            .iter()
            .filter_map(|id| Some((*id, self.by_id.get(id)?)))
            .filter(|(_, file)| !file.is_gone() && !file.is_unpacking())
            .min_by_key(|(_, file)| (file.has_unread(), file.used))
            .map(|(id, _)| id);
        least.inspect(|id| self.close(*id)).is_some()
    }

    /// Closes what had nothing to read since `before`.
    pub fn close_idle(&mut self, before: Duration) {
        let idle = |id: &FileId| {
            self.by_id
                .get(id)
                .is_some_and(|file| !file.is_gone() && !file.has_unread() && file.active < before)
        };
        let idle: Vec<FileId> = self.open.iter().copied().filter(|id| idle(id)).collect();
        idle.into_iter().for_each(|id| self.close(id));
    }
}

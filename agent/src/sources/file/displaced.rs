//! Files that are not at their path any more: found again beside it, or gone; and what was at the path after them.
//!
//! When a log left its path, files beside it with a rotated name that are younger than it were logs at that path too,
//! for so short a time that nobody saw them there. They are taken in as well.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use edgelogger_common::block::ReceiptReason;
use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamEndReason;

use super::content::read_at;
use super::copy::holds;
use super::files::{FileId, Tailer, Whereabouts};
use super::identity::{Difference, FINGERPRINT_BYTES_MAX, Known, compare, is_archive_name, is_rotated_name};
use super::source::FileSource;
use super::stat::{FileKind, FileStat, stat, stat_open};

/// Paths whose last content is remembered after it left them. Beyond, one that nobody saw at its path may be missed.
const LEFT_MAX: usize = 10_000;

/// A log that left its path.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    /// The path that it left, which is the name of what is found beside it.
    pub name: PathBuf,
    /// Where to look.
    pub dir: PathBuf,
    /// Its own birth and last change, ns UTC: only what is younger was at the path after it.
    pub birth_ns: Option<i64>,
    pub modified_ns: i64,
    /// What was read of it: a copy of that is no other log.
    pub known: Option<Known>,
    /// Its stream, which the next file at the path continues.
    pub stream_id: Option<StreamId>,
}

impl FileSource {
    /// Remembers who was at a path, and that others may have been there since.
    pub(super) fn left_its_path(&mut self, id: FileId) {
        let Some(file) = self.files.get(id) else { return };
        if file.whereabouts != Whereabouts::Included {
            return;
        }
        let leaving = Leaving {
            name: file.path.clone(),
            dir: parent(file.others.first().unwrap_or(&file.path)).to_owned(),
            birth_ns: file.birth_ns,
            modified_ns: file.modified_ns,
            known: file.known(),
            stream_id: file.place.as_ref().map(|place| place.stream_id),
        };
        self.remember_left(&leaving);
        self.leaving.push(leaving);
    }

    /// Between this and the next content that is seen at the path, others may come and go there.
    pub(super) fn remember_left(&mut self, leaving: &Leaving) {
        if self.left.len() >= LEFT_MAX {
            self.left.clear();
        }
        self.left.insert(leaving.name.clone(), leaving.clone());
    }

    /// Something is seen at a path: others may have been there since its last content left it.
    pub(super) fn look_behind(&mut self, name: &Path) {
        self.leaving.extend(self.left.get(name).cloned());
    }

    /// Finds the files again that are not at their path any more, and what was at their path since.
    pub(super) fn settle_displaced(&mut self) {
        self.displaced.extend(self.files.take_evicted());
        if self.displaced.is_empty() && self.leaving.is_empty() {
            return;
        }
        let mut listings = Listings::default();
        for (id, path) in std::mem::take(&mut self.displaced) {
            let Some(file) = self.files.get(id) else { continue };
            if file.path != path {
                // One of its other paths, or it was met at a new one meanwhile.
                self.files.remove_path(id, &path);
                continue;
            }
            let beside = file
                .others
                .iter()
                .chain([&file.path])
                .map(|path| parent(path).to_owned());
            let beside: Vec<PathBuf> = distinct(beside);
            match beside.iter().find_map(|dir| find_again(file, listings.of(dir))) {
                Some((path, found)) => {
                    let included = self.globs.includes(&path);
                    self.moved(
                        id,
                        &path,
                        if included {
                            Whereabouts::Included
                        } else {
                            Whereabouts::Rotated
                        },
                    );
                    self.refresh(id, &found);
                }
                // A listing misses what is renamed while it is made. Once more, where that would be the end of it.
                None if file.file.is_none() && !file.missed => {
                    if let Some(file) = self.files.get_mut(id) {
                        file.missed = true;
                    }
                    self.displaced.push((id, path));
                }
                None => self.gone(id, &mut listings),
            }
        }
        if self.adopting_waits() {
            return;
        }
        for leaving in std::mem::take(&mut self.leaving) {
            self.adopt(&leaving, &mut listings);
        }
    }

    /// A file at no path that is known.
    fn gone(&mut self, id: FileId, listings: &mut Listings) {
        let now = self.clock.monotonic();
        self.left_its_path(id);
        self.files.forget_paths(id);
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        let whole = file
            .place
            .as_ref()
            .is_some_and(|place| !file.dirty && file.backlog.is_empty() && place.offset >= file.size);
        if let Some(descriptor) = &file.file {
            if file.is_gone() {
                return;
            }
            file.whereabouts = Whereabouts::Gone { since: now };
            file.active = now;
            if let Ok(stat) = stat_open(descriptor) {
                file.take_note(&stat);
            }
            self.status.update(id, file);
            // What its stream is of must be known before anything is compared with it.
            if let Some(Err(difference)) = self.compare_now(id) {
                self.restart_stream(id, difference);
            }
            self.enqueue(id);
            self.endanger(id);
            return;
        }
        let is_found =
            !whole && self.search_for_followed(id, StreamEndReason::Deleted, ReceiptReason::Rotated);
        // It may have been copied and truncated before it went, and nobody saw that.
        if is_found || self.copy_of_gone(id, listings) {
            self.hand_over(id);
            return self.drop_file(id);
        }
        let Some(file) = self.files.get(id) else { return };
        if file.place.is_none() {
            // Rotated and compressed before anybody read a byte: what it is now lies beside the log, and is younger.
            self.leaving.push(Leaving {
                name: file.name.clone(),
                dir: parent(file.others.first().unwrap_or(&file.path)).to_owned(),
                birth_ns: file.birth_ns,
                modified_ns: file.modified_ns,
                known: None,
                stream_id: None,
            });
        }
        if let Some(place) = &file.place
            && !whole
        {
            tracing::warn!(
                file = %file.name.display(), read = place.offset, size = file.size,
                "a file was deleted before it was read to its end, and was not open"
            );
        }
        self.endanger(id);
        self.end_stream(id, StreamEndReason::Deleted, whole, ReceiptReason::Rotated);
        self.drop_file(id);
    }

    /// Does an open file still begin with what was read of it? `None` where that can't be said.
    fn compare_now(&self, id: FileId) -> Option<Result<(), Difference>> {
        let file = self.files.get(id).filter(|file| file.packed.is_none())?;
        let (known, descriptor) = (file.known()?, file.file.as_ref()?);
        let window = u64::from(known.check.len).min(known.offset);
        let before = read_at(descriptor, known.offset - window, known.check.len as usize).ok()?;
        let head = read_at(descriptor, 0, FINGERPRINT_BYTES_MAX).ok()?;
        Some(compare(&known, &stat_open(descriptor).ok()?, &head, &before))
    }

    /// The stream of a file that is gone goes on in a copy, if there is one that nobody reads yet.
    fn copy_of_gone(&mut self, id: FileId, listings: &mut Listings) -> bool {
        let Some(file) = self.files.get(id).filter(|file| file.packed.is_none()) else {
            return false;
        };
        let (Some(known), Some(place), Some(original)) = (file.known(), &file.place, file.name.file_name())
        else {
            return false;
        };
        let (place, backlog) = (place.clone(), file.backlog.clone());
        let dir = parent(file.others.first().unwrap_or(&file.path)).to_owned();
        let is_rotated = |path: &Path| {
            let name = path.file_name();
            name.is_some_and(|name| is_rotated_name(original.as_bytes(), name.as_bytes()))
        };
        // A look that is sure lists the directory again; many files may go at once.
        listings.of(&dir).iter().any(|(_, path)| is_rotated(path))
            && self.go_on_in_copy(id, &known, &place, &backlog)
    }

    /// What lies beside a log may be a copy of a file whose stream is not known yet: one that is not opened, one that is
    /// searched for, one that is read on its descriptor alone and has no stream so far.
    pub(super) fn adopting_waits(&self) -> bool {
        self.waiting.is_undecided() || self.archives.is_searching() || self.is_gone_unread()
    }

    /// Is there a file that is read on its descriptor alone and has no stream so far?
    pub(super) fn is_gone_unread(&self) -> bool {
        let has_no_stream = |file: &Tailer| file.place.is_none() && file.size > 0;
        self.files.gone().any(|(_, file)| has_no_stream(file))
    }

    /// Takes in the rotated files beside a path that were logs at it after `leaving` was.
    pub(super) fn adopt(&mut self, leaving: &Leaving, listings: &mut Listings) {
        let Some(original) = leaving.name.file_name() else {
            return;
        };
        let named: Vec<PathBuf> = listings
            .of(&leaving.dir)
            .iter()
            .map(|(_, path)| path)
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| is_descendant(original.as_bytes(), name.as_bytes()))
                    && self.files.at_path(path).is_none()
                    && !self.globs.excludes(path)
            })
            .cloned()
            .collect();
        for path in named {
            let Ok(found) = stat(&path) else { continue };
            // File systems count in ticks of some milliseconds; what was made in the same one may be younger.
            let births = if path
                .file_name()
                .is_some_and(|name| is_archive_name(original.as_bytes(), name.as_bytes()))
            {
                // It has the time of the log, but was born when that was compressed.
                (None, None)
            } else {
                (found.birth_ns, leaving.birth_ns)
            };
            let younger = match births {
                (Some(birth), Some(left)) => birth >= left,
                _ => found.modified_ns >= leaving.modified_ns,
            };
            let new = younger && found.kind == FileKind::Regular && self.files.that_is(&found).is_none();
            let copied = |known: &Known| holds(&path, &found, known).unwrap_or(false);
            if new && !leaving.known.as_ref().is_some_and(copied) {
                self.appeared(&path, &leaving.name, &found);
            }
        }
    }
}

/// Was it a log at this path?
fn is_descendant(original: &[u8], name: &[u8]) -> bool {
    is_rotated_name(original, name) || is_archive_name(original, name)
}

/// The file under another name in the same directory.
fn find_again(file: &Tailer, listing: &[(u64, PathBuf)]) -> Option<(PathBuf, FileStat)> {
    let same_inode = listing.iter().filter(|(inode, _)| *inode == file.key.inode);
    same_inode
        .filter_map(|(_, path)| Some((path.clone(), stat(path).ok()?)))
        .find(|(_, found)| file.is(found))
}

/// Directory listings of one round: inode and path of each entry.
#[derive(Default)]
pub(super) struct Listings(HashMap<PathBuf, Vec<(u64, PathBuf)>>);

impl Listings {
    /// Empty where the directory can't be listed.
    pub fn of(&mut self, dir: &Path) -> &[(u64, PathBuf)] {
        use std::os::unix::fs::DirEntryExt;
        self.0.entry(dir.to_owned()).or_insert_with(|| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| (entry.ino(), entry.path())).collect()
        })
    }
}

/// Paths without repetition, in order.
pub(super) fn distinct(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    paths.filter(|path| seen.insert(path.clone())).collect()
}

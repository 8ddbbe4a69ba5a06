//! Where files are: from events and scans to files that appear, move, and vanish.
//!
//! Events only say where to look. What is done follows from what is there then, compared with what is known, so that
//! an event too many, too late or lost does no harm: the next rescan comes to the same result.
//!
//! ```text
//! path ─ stat ─┬─ the file that was there ───────────────> read it, if size or time changed
//!              ├─ another file, or none ─> displaced ─┬──> found again by inode beside its old path: rotated
//!              │                                      └──> not found: gone; drained on its descriptor
//!              └─ a file not known yet ──┬─ its inode is known: a rename, or one more link
//!                                        └─ else: new
//! ```

use std::io;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::parent;

use super::discover::{Visitor, walk};
use super::error::Unreadable;
use super::files::{FileId, Tailer, Whereabouts};
use super::identity::births_differ;
use super::skip::SkipReason;
use super::source::FileSource;
use super::stat::{FileKey, FileKind, FileStat, is_symlink, stat};
use super::watch::Watcher;

/// First halves of renames that are remembered. The second comes with the next events at the latest, or never, when
/// the file was moved to where nobody looks.
const RENAMES_MAX: usize = 1024;

/// A path that is included and left alone, and the file it was then.
#[derive(Debug, Clone)]
pub(super) struct Skipped {
    pub reason: SkipReason,
    pub file: Option<(FileKey, Option<i64>, u64)>,
}

impl FileSource {
    /// Takes what happened since the last time: files that were written to are read, other paths are looked at.
    pub(super) fn take_changes(&mut self) {
        let mut written: Vec<FileId> = Vec::new();
        let mut path = PathBuf::new();
        let Self {
            watcher,
            files,
            skipped,
            globs,
            changed,
            renames,
            rescan,
            ..
        } = self;
        if renames.len() >= RENAMES_MAX {
            renames.clear();
        }
        let complete = watcher.drain(|change| {
            let Some(name) = change.name else { return };
            if change.is_directory() {
                *rescan |= !change.is_attribute();
                return;
            }
            for dir in change.dirs {
                path.as_mut_os_string().clear();
                path.push(dir);
                path.push(name);
                if change.is_write() {
                    if let Some(id) = files.at_path(&path) {
                        written.push(id);
                        continue;
                    }
                    if skipped
                        .get(&path)
                        .is_some_and(|skipped| !skipped.reason.is_passing())
                    {
                        continue;
                    }
                }
                let included = globs.includes(&path);
                if change.is_moved_from() {
                    // A file that came and was renamed at once is known by its name here alone.
                    let log = changed
                        .get_mut(&path)
                        .and_then(Option::take)
                        .or_else(|| included.then(|| path.clone()));
                    renames.extend(log.map(|log| (change.cookie, log)));
                }
                let log = if change.is_moved_to() {
                    renames.remove(&change.cookie)
                } else {
                    None
                };
                if included || log.is_some() || files.at_path(&path).is_some() || changed.contains_key(&path)
                {
                    let known = changed.entry(path.clone()).or_default();
                    *known = log.or_else(|| known.take());
                }
            }
        });
        if !complete {
            self.rescan = true;
            self.status.count(|totals| totals.overflows += 1);
        }
        for id in written {
            self.enqueue(id);
        }
    }

    /// Looks at everything that is included and everything that is followed.
    pub(super) fn scan(&mut self) {
        self.watcher.refused = 0;
        let mut dirs = Dirs {
            watcher: &mut self.watcher,
            unreadable: Vec::new(),
        };
        let included = walk(&self.globs, &mut dirs);
        let unreadable = std::mem::take(&mut dirs.unreadable);
        let stale = self.skipped.keys().filter(|path| {
            included.binary_search(path).is_err() && !unreadable.iter().any(|(dir, _)| dir == *path)
        });
        for path in stale.cloned().collect::<Vec<_>>() {
            self.unskip(&path);
        }
        for (path, source) in unreadable {
            let message = Unreadable {
                path: path.clone(),
                what: "list the directory",
                source,
            }
            .to_string();
            self.skip(&path, SkipReason::Unreadable(message), None);
        }
        let followed: Vec<PathBuf> = self
            .files
            .paths()
            .filter(|path| included.binary_search(path).is_err())
            .cloned()
            .collect();
        for path in included.iter().chain(&followed) {
            self.look_at(path, None);
        }
        let (watched, unwatched, open) = (
            self.watcher.watched(),
            self.watcher.refused,
            self.files.open_count(),
        );
        self.status.count(|totals| {
            (totals.directories_watched, totals.directories_unwatched) = (watched, unwatched);
            totals.files_open = open;
        });
    }

    pub(super) fn look_at_changed(&mut self) {
        for (path, name) in std::mem::take(&mut self.changed) {
            self.look_at(&path, name.as_deref());
        }
    }

    /// Compares what is at a path with what is known to be there. `log`: a rename from this path led here.
    fn look_at(&mut self, path: &Path, log: Option<&Path>) {
        let found = stat(path);
        let known = self.files.at_path(path);
        match (known, found) {
            (Some(id), Ok(found)) if self.files.get(id).is_some_and(|file| file.is(&found)) => {
                self.refresh(id, &found);
            }
            (Some(id), Ok(found)) => {
                self.displaced.push((id, path.to_owned()));
                if self.globs.includes(path) || log.is_some() {
                    let predecessor = self
                        .files
                        .get(id)
                        .and_then(|file| file.place.as_ref())
                        .map(|place| place.stream_id);
                    // Its path belongs to the new file from now on.
                    self.files.remove_path(id, path);
                    let new = self.appeared(path, log.unwrap_or(path), &found);
                    if let (Some(new), Some(predecessor)) = (new, predecessor)
                        && let Some(new) = self.files.get_mut(new)
                    {
                        new.predecessor = Some(predecessor);
                    }
                }
            }
            (Some(id), Err(error)) if is_missing(&error) => self.displaced.push((id, path.to_owned())),
            (Some(id), Err(error)) => self.failed(id, "look at it", error),
            (None, Ok(found)) if self.globs.includes(path) || log.is_some() => {
                self.appeared(path, log.unwrap_or(path), &found);
            }
            (None, Ok(_)) => {}
            (None, Err(error)) if is_missing(&error) && !is_symlink(path) => self.unskip(path),
            (None, Err(error)) if is_missing(&error) => self.skip(path, SkipReason::Dangling, None),
            (None, Err(source)) => {
                let unreadable = Unreadable {
                    path: path.to_owned(),
                    what: "look at it",
                    source,
                };
                self.skip(path, SkipReason::Unreadable(unreadable.to_string()), None);
            }
        }
    }

    /// The file is where it was. Has it changed?
    pub(super) fn refresh(&mut self, id: FileId, found: &FileStat) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        let is_new = file.take_note(found) || file.error.is_some();
        if is_new {
            self.enqueue(id);
        }
    }

    /// A file at a path where it is not known. Gives its id where it is followed from now on, or was before.
    pub(super) fn appeared(&mut self, path: &Path, name: &Path, found: &FileStat) -> Option<FileId> {
        let link = is_symlink(path);
        let real = if link { path.canonicalize().ok() } else { None };
        let actual = real.as_deref().unwrap_or(path);
        if self.is_own(actual) || self.is_own(path) {
            return self.leave_alone(path, SkipReason::Own, found);
        }
        if found.kind != FileKind::Regular {
            return self.leave_alone(path, SkipReason::NotRegular(found.kind), found);
        }
        if self.still_skipped(path, found) {
            return None;
        }
        let whereabouts = if self.globs.includes(path) {
            Whereabouts::Included
        } else {
            Whereabouts::Rotated
        };
        if let Some(id) = self.files.with_key(found.key) {
            if self.files.get(id).is_some_and(|file| file.is(found)) {
                self.met_again(id, path, whereabouts, found);
                self.follow_link(id, real);
                return Some(id);
            }
            // The inode was used again; the file that had it is gone.
            let old = self.files.get(id).map(|file| file.path.clone());
            self.displaced.extend(old.map(|old| (id, old)));
        }
        if self.files.len() >= self.config.files_max {
            return self.leave_alone(path, SkipReason::TooMany, found);
        }
        self.unskip(path);
        let mut file = Tailer::new(name.to_owned(), path.to_owned(), found, whereabouts);
        file.predecessor = self.left.get(name).and_then(|left| left.stream_id);
        if path == name {
            self.look_behind(name);
        }
        let id = self.files.insert(file);
        self.follow_link(id, real);
        if found.size > 0 {
            self.newcomers.push_back(id);
        }
        if let Some(file) = self.files.get(id) {
            self.status.update(id, file);
        }
        Some(id)
    }

    /// A link's target tells of its changes where it lies.
    fn follow_link(&mut self, id: FileId, real: Option<PathBuf>) {
        if let Some(real) = real {
            self.watcher.watch(parent(&real));
            self.files.add_path(id, real);
        }
    }

    /// A followed file at another path: renamed, if it is not at its old one any more; else one more link to it.
    fn met_again(&mut self, id: FileId, path: &Path, whereabouts: Whereabouts, found: &FileStat) {
        let Some(file) = self.files.get(id) else { return };
        let still_there = !file.is_gone() && stat(&file.path).is_ok_and(|there| file.is(&there));
        if still_there {
            self.files.add_path(id, path.to_owned());
        } else {
            self.moved(id, path, whereabouts);
        }
        self.unskip(path);
        self.refresh(id, found);
    }

    pub(super) fn moved(&mut self, id: FileId, path: &Path, whereabouts: Whereabouts) {
        self.left_its_path(id);
        self.files.set_path(id, path.to_owned());
        if let Some(file) = self.files.get_mut(id) {
            file.whereabouts = whereabouts;
            file.missed = false;
            self.status.update(id, file);
        }
        self.is_back(id);
        // Written to between the rename and now, perhaps under a name that nobody listens to.
        self.enqueue(id);
    }

    fn leave_alone(&mut self, path: &Path, reason: SkipReason, found: &FileStat) -> Option<FileId> {
        self.skip(path, reason, Some(found));
        None
    }

    /// Was the file judged before, and is there no reason to judge it again?
    fn still_skipped(&self, path: &Path, found: &FileStat) -> bool {
        self.skipped.get(path).is_some_and(|skipped| {
            !skipped.reason.is_passing()
                && skipped.file.is_some_and(|(key, birth_ns, size)| {
                    key == found.key && !births_differ(birth_ns, found.birth_ns) && found.size >= size
                })
        })
    }

    pub(super) fn skip(&mut self, path: &Path, reason: SkipReason, found: Option<&FileStat>) {
        let file = found.map(|found| (found.key, found.birth_ns, found.size));
        let new = self.skipped.get(path).is_none_or(|known| known.reason != reason);
        if new {
            match &reason {
                SkipReason::Unreadable(message) => tracing::warn!("{message}"),
                SkipReason::TooMany => tracing::warn!(path = %path.display(), "a file is not read: {reason}"),
                reason => tracing::info!(path = %path.display(), "a path is left out: {reason}"),
            }
            self.status.skip(path, reason.clone());
        }
        self.skipped.insert(path.to_owned(), Skipped { reason, file });
    }

    pub(super) fn unskip(&mut self, path: &Path) {
        if self.skipped.remove(path).is_some() {
            self.status.unskip(path);
        }
    }
}

/// Nothing is there, rather than something that may not be looked at.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

struct Dirs<'a> {
    watcher: &'a mut Watcher,
    unreadable: Vec<(PathBuf, io::Error)>,
}

impl Visitor for Dirs<'_> {
    fn directory(&mut self, path: &Path) {
        self.watcher.watch(path);
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let copy = error
            .raw_os_error()
            .map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error);
        self.unreadable.push((path.to_owned(), copy));
    }
}

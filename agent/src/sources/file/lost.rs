//! Streams whose file is gone with something unread: what was read of it is looked for in compressed files beside it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use edgelogger_common::block::ReceiptReason;
use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{StreamDescriptor, StreamEndReason};

use super::archive::{Archive, Format};
use super::archives::PIECE_BYTES;
use super::backlog::Backlog;
use super::claim::{Position, backlog, position};
use super::content::read_at;
use super::displaced::{Listings, distinct};
use super::files::{FileId, Tailer, Whereabouts};
use super::identity::{FINGERPRINT_BYTES_MAX, Known, enough_to_tell, is_archive_name, original_names};
use super::reader::Place;
use super::source::FileSource;
use super::stat::{FileKind, FileStat, stat, stat_open};
use crate::checkpoint::StreamState;

/// A stream whose file is not there any more, or holds something else, and that may go on in a compressed file.
#[derive(Debug)]
pub(super) struct Lost {
    pub descriptor: StreamDescriptor,
    pub stream_id: StreamId,
    pub name: PathBuf,
    /// Where to look.
    pub dirs: Vec<PathBuf>,
    /// Of its content up to where reading goes on.
    pub known: Known,
    pub place: Place,
    pub backlog: Backlog,
    pub ending: Ending,
    /// Files that it may go on in and that were not inspected yet.
    pub candidates: HashSet<FileId>,
}

/// How a stream ends that goes on nowhere.
#[derive(Debug)]
pub(super) enum Ending {
    /// Of an earlier process.
    Earlier(Box<StreamState>, StreamEndReason),
    /// Of this process; it had at least `size`.
    Followed {
        size: u64,
        why: StreamEndReason,
        reason: ReceiptReason,
    },
}

impl Lost {
    pub fn earlier(state: StreamState, why: StreamEndReason, dir: &Path) -> Option<Self> {
        let identity = state.descriptor.file.as_ref()?;
        let stream_id = StreamId::try_from(&state.descriptor.stream_id[..]).ok()?;
        let Position { offset, check } = position(&state);
        let place = Place::new(stream_id, offset, check);
        let backlog = backlog(&state, stream_id, None);
        Some(Self {
            stream_id,
            name: PathBuf::from(OsStr::from_bytes(&identity.path)),
            dirs: vec![dir.to_owned()],
            known: Known::of(identity, offset, check).reading(&place, &backlog),
            place,
            backlog,
            descriptor: state.descriptor.clone(),
            ending: Ending::Earlier(Box::new(state), why),
            candidates: HashSet::new(),
        })
    }
}

impl FileSource {
    /// Looks for the compressed form of what a stream was read from. `false`: there is none, and the stream is as it was.
    pub(super) fn search(&mut self, mut lost: Lost) -> bool {
        let mut candidates = self.find_archives(&lost);
        candidates.extend(lost.candidates.drain());
        if candidates.is_empty() {
            return false;
        }
        self.newcomers.extend(candidates.iter().copied());
        lost.candidates = candidates;
        self.archives.lost.insert(lost.stream_id, lost);
        true
    }

    /// Looks for a stream of an earlier process; where nothing is found it ends.
    pub(super) fn search_for_earlier(&mut self, state: &StreamState, why: StreamEndReason, dir: &Path) {
        if !Lost::earlier(state.clone(), why, dir).is_some_and(|lost| self.search(lost)) {
            self.end_lost(state, why);
        }
    }

    /// Looks for the stream of a followed file, with what is known of its size. `true`: it may be found.
    pub(super) fn search_for_followed(
        &mut self,
        id: FileId,
        why: StreamEndReason,
        reason: ReceiptReason,
    ) -> bool {
        self.lost_of(id, why, reason)
            .is_some_and(|lost| self.search(lost))
    }

    /// The stream of a followed file that may be in a compressed one.
    pub(super) fn lost_of(&self, id: FileId, why: StreamEndReason, reason: ReceiptReason) -> Option<Lost> {
        let file = self.files.get(id).filter(|file| file.packed.is_none())?;
        let (known, place) = file.known().zip(file.place.as_ref())?;
        let state = self.checkpoints.stream(&place.stream_id)?;
        let size = match why {
            StreamEndReason::Truncated | StreamEndReason::Replaced => place.seen,
            _ => file.size.max(place.seen),
        };
        let paths = file.others.iter().chain([&file.path, &file.name]);
        let dirs = paths.map(|path| parent(path).to_owned());
        Some(Lost {
            descriptor: state.descriptor,
            stream_id: place.stream_id,
            name: file.name.clone(),
            dirs: distinct(dirs),
            known: known.reading(place, &file.backlog),
            place: Place::new(place.stream_id, place.offset, place.check),
            backlog: file.backlog.clone(),
            ending: Ending::Followed { size, why, reason },
            candidates: HashSet::new(),
        })
    }

    /// Compressed files beside a log that begin with what was read of it, followed from now on.
    fn find_archives(&mut self, lost: &Lost) -> HashSet<FileId> {
        let beside = self.archives_beside(lost).into_iter();
        beside
            .map(|(path, at_path, format)| {
                let known = self.files.that_is(&at_path);
                known.unwrap_or_else(|| self.on_trial(&lost.name, &path, &at_path, format))
            })
            .collect()
    }

    /// Compressed files beside a log that begin with what was read of it.
    pub(super) fn archives_beside(&self, lost: &Lost) -> Vec<(PathBuf, FileStat, Format)> {
        let mut found = Vec::new();
        let Some(name) = lost.name.file_name() else {
            return found;
        };
        // A generation that was included itself is rotated on by the name of the log, not by its own.
        let mut originals = original_names(name.as_bytes());
        originals.push(name.as_bytes().to_vec());
        let mut listings = Listings::default();
        for dir in &lost.dirs {
            for (_, path) in listings.of(dir) {
                let is_named = |name: &[u8]| originals.iter().any(|original| is_archive_name(original, name));
                let named = path.file_name().is_some_and(|name| is_named(name.as_bytes()));
                if !named || self.globs.excludes(path) {
                    continue;
                }
                let Ok(at_path) = stat(path) else { continue };
                let known = self.files.that_is(&at_path);
                let is_taken = known
                    .and_then(|id| self.files.get(id))
                    .is_some_and(|file| file.place.is_some());
                if at_path.kind != FileKind::Regular || is_taken {
                    continue;
                }
                let Some(format) = begins_like(path, &lost.known).unwrap_or(None) else {
                    continue;
                };
                found.push((path.clone(), at_path, format));
            }
        }
        found
    }

    /// A compressed file that is followed only if a stream goes on in it.
    fn on_trial(&mut self, name: &Path, path: &Path, found: &FileStat, format: Format) -> FileId {
        let mut file = Tailer::new(name.to_owned(), path.to_owned(), found, Whereabouts::Rotated);
        file.on_trial = true;
        file.pack(format, found);
        self.files.insert(file)
    }

    /// A stream that has no candidate left ends.
    pub(super) fn forget_candidate(&mut self, id: FileId) {
        let mut hopeless = Vec::new();
        for lost in self.archives.lost.values_mut() {
            if lost.candidates.remove(&id) && lost.candidates.is_empty() {
                hopeless.push(lost.stream_id);
            }
        }
        for stream_id in hopeless {
            if let Some(lost) = self.archives.lost.remove(&stream_id) {
                self.give_up(lost);
            }
        }
    }

    pub(super) fn give_up(&mut self, lost: Lost) {
        match lost.ending {
            Ending::Earlier(state, why) => self.end_lost(&state, why),
            Ending::Followed { size, why, reason } => {
                if let Some(spool) = self.rescuer().filter(|_| reason == ReceiptReason::Rotated) {
                    spool.gone(lost.stream_id);
                }
                for unread in lost.backlog.ranges() {
                    self.lose(lost.stream_id, unread, lost.place.check, reason);
                }
                self.end_at(&lost.place, size, why, false, reason);
            }
        }
    }
}

/// Is it compressed, and does its content begin with what was read?
pub(super) fn begins_like(path: &Path, known: &Known) -> io::Result<Option<Format>> {
    if !enough_to_tell(known) {
        return Ok(None);
    }
    let file = std::fs::File::open(path)?;
    let size = stat_open(&file)?.size;
    let Some(format) = Format::of(&read_at(&file, 0, 4)?) else {
        return Ok(None);
    };
    let mut archive = Archive::open(file.into(), format, size, FINGERPRINT_BYTES_MAX)?;
    let len = u64::from(known.fingerprint_len);
    archive.approach(len, PIECE_BYTES)?;
    let head = archive.decoded(0, len);
    let is_alike = head.len() as u64 == len && crc32c::crc32c(head) == known.fingerprint_crc32c;
    Ok(is_alike.then_some(format))
}

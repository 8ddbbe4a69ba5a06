//! `copytruncate`: the log is copied, then cut to nothing; its stream goes on in the copy.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{FileCompression, StreamDescriptor};

use super::archive::Format;
use super::backlog::Backlog;
use super::content::read_at;
use super::displaced::{Leaving, Listings};
use super::files::{FileId, Tailer, Whereabouts};
use super::identity::{FINGERPRINT_BYTES_MAX, Known, is_copy, is_rotated_name};
use super::reader::Place;
use super::source::FileSource;
use super::stat::{FileKind, FileStat, stat};
use crate::flow::ContentCheck;

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
        let mut copy = Tailer::new(name.clone(), path, &found, Whereabouts::Rotated);
        copy.place = Some(Place::new(place.stream_id, place.offset, place.check));
        copy.backlog = backlog.clone();
        copy.fingerprint = Some(ContentCheck {
            len: known.fingerprint_len,
            crc32c: known.fingerprint_crc32c,
        });
        copy.followed = true;
        let copy = self.files.insert(copy);
        if let Some(file) = self.files.get(copy) {
            self.status.update(copy, file);
        }
        self.enqueue(copy);
        self.enqueue_backlog(copy);
        // Copies that were made after this one hold what was in the file since.
        let modified_ns = found.modified_ns;
        self.leaving.push(Leaving {
            name,
            dir,
            birth_ns: found.birth_ns,
            modified_ns,
            known: None,
            stream_id: None,
        });
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
            identity.birth_time_ns = found.birth_ns.unwrap_or(0);
            identity.compression = format.map_or(FileCompression::None, Format::compression).into();
        }
        if let Err(error) = self.checkpoints.create(std::slice::from_ref(&descriptor)) {
            tracing::warn!(%error, "where a log goes on could not be noted; after a restart it is looked for again");
        }
        Some(descriptor)
    }

    /// The youngest file with a rotated name that begins with what was read.
    fn find_copy(
        &self,
        name: &Path,
        dir: &Path,
        birth_ns: Option<i64>,
        known: &Known,
    ) -> Option<(PathBuf, FileStat)> {
        let original = name.file_name()?.as_bytes();
        let mut listings = Listings::default();
        let candidates = listings.of(dir).iter().filter_map(|(_, path)| {
            let rotated = is_rotated_name(original, path.file_name()?.as_bytes());
            let found = if rotated && !self.globs.excludes(path) {
                stat(path).ok()?
            } else {
                return None;
            };
            let younger = match (found.birth_ns, birth_ns) {
                (Some(birth), Some(original)) => birth >= original,
                _ => true,
            };
            let unknown = found.kind == FileKind::Regular && self.files.that_is(&found).is_none();
            (younger && unknown && holds(path, &found, known).unwrap_or(false)).then(|| (path.clone(), found))
        });
        candidates.max_by_key(|(_, found)| (found.birth_ns, found.modified_ns))
    }
}

/// Does the file begin with what was read?
pub(super) fn holds(path: &Path, found: &FileStat, known: &Known) -> io::Result<bool> {
    let file = std::fs::File::open(path)?;
    let head = read_at(&file, 0, FINGERPRINT_BYTES_MAX)?;
    let window = u64::from(known.check.len).min(known.offset);
    let before = read_at(&file, known.offset - window, known.check.len as usize)?;
    Ok(is_copy(known, found, &head, &before))
}

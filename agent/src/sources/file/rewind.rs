//! From where a stream can be read again, decided while no agent runs: the file must still be what was read, so that
//! what is sent again is, position by position, what was sent before.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::parent;
use edgelogger_proto::v1::FileIdentity;
use memchr::memrchr;

use super::archive::{Archive, Format};
use super::claim::{Position, position};
use super::content::{Content, read_at};
use super::displaced::Listings;
use super::identity::{FINGERPRINT_BYTES_MAX, Known, compare};
use super::lines::check_at_end_of;
use super::stat::{FileStat, stat_open};
use crate::checkpoint::StreamState;
use crate::flow::{ContentCheck, Resume};

/// Bytes before a position in which the beginning of its line is looked for. Without one, the stream is read from its
/// first position.
const LINE_START_BYTES_MAX: u64 = 1 << 20;
/// Decompressed at once.
const PIECE_BYTES: usize = 4 << 20;

/// Where a stream goes on, and in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewindPoint {
    /// Where the file is now.
    pub path: PathBuf,
    /// Everything below is acknowledged.
    pub from: u64,
    /// Where it is to be read from: the beginning of a line.
    pub to: u64,
    /// The content before that.
    pub resume: Resume,
}

/// Why a stream can't be read again.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// It was not read from a file.
    #[error("it is not a file")]
    NoFile,
    /// The file was deleted, or is elsewhere.
    #[error("its file is not there any more")]
    Gone,
    /// The file holds something else.
    #[error("its file holds something else by now; that is read as a new stream")]
    Differs,
    /// Nothing below is acknowledged.
    #[error("it is not read further than that yet")]
    NothingToDo,
    /// The system.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// Where the stream can be read again from `to`, or from the beginning of the line that this is in.
///
/// # Errors
/// Why not.
pub fn rewind_point(state: &StreamState, to: u64) -> Result<RewindPoint, RewindError> {
    let identity = state.descriptor.file.as_ref().ok_or(RewindError::NoFile)?;
    let furthest = position(state).offset;
    let start = state.descriptor.start;
    let to = to.max(start);
    if furthest <= to {
        return Err(RewindError::NothingToDo);
    }
    let (path, file, found) = locate(identity).ok_or(RewindError::Gone)?;
    let point = || -> io::Result<Option<(u64, ContentCheck)>> {
        match Format::of(&read_at(&file, 0, 4)?) {
            Some(format) if identity.compression != 0 => {
                let copy = file.try_clone()?.into();
                let archive = Archive::open(copy, format, found.size, FINGERPRINT_BYTES_MAX)?;
                packed_point(archive, state, to)
            }
            _ => plain_point(&file, &found, state, to),
        }
    };
    let found = point().map_err(|source| RewindError::Unreadable {
        path: path.clone(),
        source,
    })?;
    let (to, check) = found.ok_or(RewindError::Differs)?;
    Ok(RewindPoint {
        path,
        from: furthest,
        to,
        resume: Resume::Content(check),
    })
}

/// The file at its path or beside it, by its inode.
fn locate(identity: &FileIdentity) -> Option<(PathBuf, File, FileStat)> {
    let name = Path::new(OsStr::from_bytes(&identity.path));
    let open = |path: &Path| {
        let file = File::open(path).ok()?;
        let found = stat_open(&file).ok()?;
        (found.key.inode == identity.inode).then(|| (path.to_owned(), file, found))
    };
    let beside = || {
        let real = name.canonicalize().unwrap_or_else(|_| name.to_owned());
        let mut listings = Listings::default();
        let entries = listings.of(parent(&real)).iter();
        entries
            .filter(|(inode, _)| *inode == identity.inode)
            .find_map(|(_, path)| open(path))
    };
    open(name).or_else(beside)
}

/// `None`: it is not what was read.
fn plain_point(
    file: &File,
    found: &FileStat,
    state: &StreamState,
    to: u64,
) -> io::Result<Option<(u64, ContentCheck)>> {
    let Some(identity) = &state.descriptor.file else {
        return Ok(None);
    };
    let Position { offset, check } = position(state);
    let head = read_at(file, 0, FINGERPRINT_BYTES_MAX)?;
    let window = u64::from(check.len).min(offset);
    let before = read_at(file, offset - window, check.len as usize)?;
    if compare(&Known::of(identity, offset, check), found, &head, &before).is_err() {
        return Ok(None);
    }
    let first = state.descriptor.start;
    let searched = to.saturating_sub(LINE_START_BYTES_MAX).max(first);
    let bytes = read_at(file, searched, usize::try_from(to - searched).unwrap_or(0))?;
    let to = memrchr(b'\n', &bytes).map_or(first, |at| searched + at as u64 + 1);
    let window = to.min(FINGERPRINT_BYTES_MAX as u64);
    let before = read_at(file, to - window, usize::try_from(window).unwrap_or(0))?;
    Ok(Some((to, check_at_end_of(&before))))
}

/// The same of what is compressed in it.
fn packed_point(
    mut archive: Archive,
    state: &StreamState,
    to: u64,
) -> io::Result<Option<(u64, ContentCheck)>> {
    let Position { offset, check } = position(state);
    let first = state.descriptor.start;
    // The last line that begins before or at `to`, and what is before it.
    let mut line = (first, ContentCheck::default());
    let mut at = 0;
    while at < to {
        let mut piece = Vec::with_capacity(FINGERPRINT_BYTES_MAX);
        archive.read_on(&mut piece, at)?;
        if piece.is_empty() {
            return Ok(None);
        }
        let wanted = usize::try_from(to - at).map_or(piece.len(), |wanted| wanted.min(piece.len()));
        if let Some(feed) = memrchr(b'\n', &piece[..wanted]) {
            let end = at + feed as u64 + 1;
            let before = archive.decoded(end.saturating_sub(FINGERPRINT_BYTES_MAX as u64), end);
            line = (end, check_at_end_of(before));
        }
        at += wanted as u64;
    }
    while !archive.approach(offset, PIECE_BYTES)? {}
    let window = archive.decoded(offset - u64::from(check.len).min(offset), offset);
    let is_same = archive.position() >= offset && crc32c::crc32c(window) == check.crc32c;
    Ok(is_same.then_some(line).filter(|(end, _)| *end >= first))
}

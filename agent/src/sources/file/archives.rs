//! Logs that were compressed before they were read to their end, and compressed files that are included themselves.
//!
//! ```text
//! a stream whose file is gone ──> search ──> what beside it begins alike? ──none──> its stream ends, with a receipt
//!                                               │
//! a compressed file ────────────────────────> inspect: is what was read of one of these streams in it, up to where
//!                                               │      they were read?
//!        of a lost stream ──> claim: the stream goes on in it, at the same position
//!        of a followed or finished one ──> its content was read already
//!        of none ──> a stream of its own, if it is included, or was a log between two others
//! ```
//!
//! Inspecting takes as long as decompressing; it is done in pieces, one file after the other, between the reading of
//! other files.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use edgelogger_common::block::ReceiptReason;
use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamEndReason;

use super::archive::{Archive, Damage, Format};
use super::claim::{Position, position};
use super::files::{FileId, Whereabouts};
use super::identity::Known;
use super::inspect::Inspection;
use super::lost::{Lost, begins_like};
use super::reader::Place;
use super::skip::SkipReason;
use super::source::FileSource;
use super::stat::FileStat;
use crate::checkpoint::{FinishedFile, StreamState};

/// Compressed files that are read at the same time; others wait. A decoder takes up to 8 MiB.
pub(super) const ARCHIVES_OPEN_MAX: usize = 2;
/// Decompressed at once: some milliseconds, in which nothing else is read.
pub(super) const PIECE_BYTES: usize = 4 << 20;
/// A file that ends in the middle is not given up before it was left alone for this long.
pub(super) const COMPLETE_AFTER: Duration = Duration::from_secs(60);

/// Streams whose end is on its way to the collector.
const ENDED_MAX: usize = 4096;

/// What a followed file that is compressed has beside others.
#[derive(Debug)]
pub(super) struct Packed {
    pub format: Format,
    /// Of the file itself, as last seen.
    pub disk_size: u64,
    /// While it is read.
    pub archive: Option<Box<Archive>>,
}

/// Compressed files and those that look for them.
#[derive(Debug, Default)]
pub(super) struct Archives {
    pub lost: HashMap<StreamId, Lost>,
    /// To be inspected.
    pub waiting: VecDeque<FileId>,
    pub inspection: Option<Inspection>,
    /// To be read when another one is done.
    pub parked: VecDeque<FileId>,
    /// What was read of files whose streams ended in this process: until the collector knows of that, the checkpoints
    /// do not have it. Oldest first.
    ended: VecDeque<FinishedFile>,
    /// Perhaps not written to their end yet; looked at again with the next scan.
    unsettled: Vec<FileId>,
}

impl Archives {
    /// A stream ends that was read up to here.
    pub fn ended(&mut self, stream_id: StreamId, known: &Known) {
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(FinishedFile {
            stream_id,
            path: bytes::Bytes::new(),
            opened_time_ns: 0,
            fingerprint: known.fingerprint(),
            size: known.offset,
            check: known.check,
        });
    }

    /// What was read of files whose streams ended.
    pub fn ended_files(&self) -> impl Iterator<Item = FinishedFile> {
        self.ended.iter().cloned()
    }

    /// Does a stream still look for its file?
    pub fn is_searching(&self) -> bool {
        !self.lost.is_empty()
    }
}

impl FileSource {
    /// A new file turned out to be compressed. What was read from it by an earlier process is in `earlier`.
    pub(super) fn unpack(&mut self, id: FileId, format: Format, found: &FileStat, earlier: Vec<StreamState>) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        file.pack(format, found);
        let dir = parent(&file.path).to_owned();
        for state in earlier {
            if self.resume_whole(id, &state, found) {
                continue;
            }
            let lost = Lost::earlier(state.clone(), StreamEndReason::Deleted, &dir);
            let found = lost.map(|mut lost| {
                lost.candidates.insert(id);
                self.search(lost)
            });
            if found != Some(true) {
                self.end_lost(&state, StreamEndReason::Deleted);
            }
        }
        if self.files.get(id).is_none_or(|file| file.place.is_some()) {
            return;
        }
        let is_known = self.archives.waiting.contains(&id)
            || self.archives.inspection.as_ref().is_some_and(|one| one.id == id);
        if !is_known {
            self.archives.waiting.push_back(id);
        }
    }

    /// A compressed file whose stream had come to its end: known by its inode, beginning and length, without
    /// decompressing all of it at every start.
    fn resume_whole(&mut self, id: FileId, state: &StreamState, found: &FileStat) -> bool {
        let Some(identity) = &state.descriptor.file else {
            return false;
        };
        let Position { offset, check } = position(state);
        let known = Known::of(identity, offset, check);
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        let (Some(descriptor), Some(packed)) = (&file.file, &file.packed) else {
            return false;
        };
        let is_same = state.above.is_empty()
            && identity.compression == i32::from(packed.format.compression())
            && known.inode == found.key.inode
            && known.birth_ns == found.birth_ns
            && packed.format.content_len(descriptor, found.size) == u32::try_from(offset & 0xffff_ffff).ok()
            && begins_like(&file.path, &known).is_ok_and(|format| format.is_some());
        let Ok(stream_id) = StreamId::try_from(&state.descriptor.stream_id[..]) else {
            return false;
        };
        if is_same && file.place.is_none() {
            file.place = Some(Place::new(stream_id, offset, check));
            file.fingerprint = Some(known.fingerprint());
            (file.size, file.dirty) = (offset, false);
            self.outbox.open(state.descriptor.clone());
            self.status.update(id, file);
        }
        is_same
    }

    pub(super) fn written_within(&self, modified_ns: i64, time: Duration) -> bool {
        let time = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        modified_ns > self.clock.wall_ns().saturating_sub(time)
    }

    /// With each scan: files that may have been written to their end by now.
    pub(super) fn retry_archives(&mut self) {
        for id in std::mem::take(&mut self.archives.unsettled) {
            match self.files.get(id) {
                Some(file) if file.place.is_some() => self.enqueue(id),
                Some(_) => self.newcomers.push_back(id),
                None => {}
            }
        }
    }

    /// Is a file read at its place next? A compressed one is read in order.
    pub(super) fn is_at_place(&self, id: FileId) -> bool {
        self.files
            .get(id)
            .is_some_and(|file| file.packed.is_none() || file.backlog.is_empty())
    }

    /// Brings a compressed file to where reading goes on. `false`: not there yet, or not now.
    pub(super) fn approach_place(&mut self, id: FileId) -> bool {
        let open = self.archives_open();
        let Some(file) = self.files.get(id) else {
            return false;
        };
        let (Some(packed), Some(place), Some(descriptor)) = (&file.packed, &file.place, &file.file) else {
            return true;
        };
        let from = file.reading(place).reads_from();
        if packed
            .archive
            .as_ref()
            .is_none_or(|archive| !archive.reaches(from))
        {
            if open >= ARCHIVES_OPEN_MAX && packed.archive.is_none() {
                self.archives.parked.push_back(id);
                return false;
            }
            match self.open_archive(descriptor, packed) {
                Ok(archive) => self.reopened(id, archive),
                Err(error) => {
                    self.failed(id, "read", error);
                    return false;
                }
            }
        }
        let archive = self.files.get_mut(id).and_then(|file| {
            let from = file.reading(file.place.as_ref()?).reads_from();
            Some(
                file.packed
                    .as_mut()?
                    .archive
                    .as_mut()?
                    .approach(from, PIECE_BYTES),
            )
        });
        match archive {
            Some(Ok(true)) => self.reaches_place(id),
            Some(Ok(false)) => {
                self.enqueue(id);
                false
            }
            Some(Err(error)) => {
                self.failed(id, "read", error);
                false
            }
            None => false,
        }
    }

    /// Is what was read before still in it?
    fn reaches_place(&mut self, id: FileId) -> bool {
        let damage = self.files.get(id).and_then(|file| {
            let (archive, place) = (file.packed.as_ref()?.archive.as_ref()?, file.place.as_ref()?);
            archive
                .damage()
                .filter(|_| archive.position() < file.reading(place).reads_from())
                .cloned()
        });
        match damage {
            None => true,
            Some(Damage::Incomplete) if self.may_grow(id) => {
                self.archives.unsettled.push(id);
                false
            }
            Some(damage) => {
                self.end_damaged(id, &damage);
                false
            }
        }
    }

    fn reopened(&mut self, id: FileId, archive: Box<Archive>) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        if let Some(place) = &mut file.place {
            // Its beginning was kept by the decoder that is gone.
            place.long_line = None;
        }
        if let Some(span) = file.backlog.front_mut() {
            span.place.long_line = None;
        }
        if let Some(packed) = &mut file.packed {
            packed.archive = Some(archive);
        }
    }

    /// After a turn that came to the end of what a compressed file gives.
    pub(super) fn archive_at_end(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        let (Some(packed), Some(place)) = (&mut file.packed, &file.place) else {
            return;
        };
        let damage = packed
            .archive
            .as_ref()
            .and_then(|archive| archive.damage().cloned());
        let is_rotated = file.whereabouts == Whereabouts::Rotated;
        match damage {
            // A last line without a line feed is handed on when its time is over.
            None if place.offset < place.seen => {}
            None => {
                packed.archive = None;
                if is_rotated {
                    self.end_stream(id, StreamEndReason::Deleted, true, ReceiptReason::Rotated);
                    self.drop_file(id);
                }
            }
            Some(Damage::Incomplete) if self.may_grow(id) => self.archives.unsettled.push(id),
            Some(damage) => self.end_damaged(id, &damage),
        }
    }

    /// Somebody may still write to it. Lets go of its decoder.
    fn may_grow(&mut self, id: FileId) -> bool {
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        let modified_ns = file.modified_ns;
        if let Some(packed) = &mut file.packed {
            packed.archive = None;
        }
        self.written_within(modified_ns, COMPLETE_AFTER)
    }

    /// With the next scan.
    pub(super) fn look_again(&mut self, id: FileId) {
        self.archives.unsettled.push(id);
    }

    /// What can be read of a damaged file was read: the rest is lost, and nobody knows how much it is.
    fn end_damaged(&mut self, id: FileId, damage: &Damage) {
        let Some(file) = self.files.get(id) else { return };
        let read = file.place.as_ref().map_or(0, |place| place.offset);
        let reason = SkipReason::Damaged(damage.to_string());
        tracing::error!(
            file = %file.path.display(), read,
            "a compressed log can't be read to its end: {damage}. What follows is lost, unless it is in another copy"
        );
        self.end_stream(id, StreamEndReason::Deleted, false, ReceiptReason::Unreadable);
        self.skip_file(id, reason);
    }
}

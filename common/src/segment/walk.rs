//! From bytes to frames, and back to frames after damage. Pure: the bytes come from [`super::source`].
//!
//! The walker stands at a place where a frame should begin. If one does, with the sequence that is due, it steps
//! over it. If not, it searches for the next sync mark that begins a frame or end mark whose CRC fits and whose
//! sequence is not below what is due; everything up to there is one damaged region, and the sequences between
//! are what was lost in it.

use super::LogId;
use super::format::{FRAME_HEADER_BYTES, FrameCrc, FrameHeader, SYNC_PREFIX};
use std::ops::Range;

/// Bytes of which a search may compute the CRC before it gives a region up. Chance sync marks are rare (one
/// in 2^32 positions); bytes made to look like many frames must not make recovery quadratic.
const SEARCH_CRC_BYTES_MAX: u64 = 1 << 30;

/// What is wrong where a frame should begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageReason {
    /// Zeroes instead of a sync mark.
    Zeroes,
    /// Something else instead of a sync mark.
    NoSyncMark,
    /// A length beyond the limit.
    Length,
    /// Not the sequence that is due: frames are missing before it, or it is an old one.
    Sequence,
    /// The CRC does not fit.
    Checksum,
    /// The file ends within the frame.
    CutShort,
    /// The device could not read it.
    Unreadable,
    /// The segment's header does not fit; its frames may still be good.
    Header,
    /// A file is missing between two segments.
    MissingSegment,
}

impl std::fmt::Display for DamageReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Zeroes => "zeroes",
            Self::NoSyncMark => "no sync mark",
            Self::Length => "impossible length",
            Self::Sequence => "wrong sequence",
            Self::Checksum => "checksum mismatch",
            Self::CutShort => "cut short",
            Self::Unreadable => "unreadable",
            Self::Header => "damaged header",
            Self::MissingSegment => "missing segment",
        })
    }
}

/// A region of a segment that holds no good frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    /// Offsets in the file.
    pub(super) bytes: Range<u64>,
    /// Sequences that are not there; empty when only bytes between frames were damaged.
    pub(super) lost: Range<u64>,
    pub(super) reason: DamageReason,
}

/// What stands at the start of the window.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The window must hold so many bytes before more can be said.
    Need(usize),
    /// A good frame of this many bytes, header included.
    Frame { sequence: u64, bytes: usize },
    /// The end mark; the segment is over.
    End { next_sequence: u64 },
    /// So many bytes are of no use; take them away.
    Skip(usize),
    /// A damaged region ended here, and a good frame or end mark follows.
    Damaged(Region),
    /// No more bytes. With a region: what is left since the last good frame is not a frame.
    Exhausted(Option<Region>),
}

#[derive(Debug)]
struct Search {
    from: u64,
    reason: DamageReason,
    crc_bytes: u64,
}

/// Walks through the frames of one segment.
#[derive(Debug)]
pub(super) struct Walker {
    crc: FrameCrc,
    frame_bytes_max: u32,
    /// Offset in the file of the window's start.
    offset: u64,
    /// The sequence that is due.
    next_sequence: u64,
    /// A frame's sequence is below this: the next segment begins here.
    sequence_end: u64,
    search: Option<Search>,
}

enum Candidate {
    Good { header: FrameHeader },
    Incomplete(usize),
    Bad(DamageReason),
}

impl Walker {
    /// Begins at `offset`, where the frame `next_sequence` should stand.
    pub(super) fn new(log_id: &LogId, frame_bytes_max: u32, offset: u64, sequences: Range<u64>) -> Self {
        Self {
            crc: FrameCrc::new(log_id),
            frame_bytes_max,
            offset,
            next_sequence: sequences.start,
            sequence_end: sequences.end,
            search: None,
        }
    }

    /// Where the next good frame would begin if nothing were damaged.
    pub(super) fn offset(&self) -> u64 {
        self.search.as_ref().map_or(self.offset, |search| search.from)
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Goes on at `offset` as if everything before `next_sequence` had been seen.
    pub(super) fn resume_at(&mut self, offset: u64, next_sequence: u64) {
        self.search = None;
        self.offset = offset;
        self.next_sequence = next_sequence;
    }

    /// Looks at the window, whose start is the walker's offset; `last` when the file ends with it. After
    /// [`Step::Frame`], [`Step::End`] and [`Step::Skip`] the caller takes that many bytes away from its start.
    pub(super) fn step(&mut self, window: &[u8], last: bool) -> Step {
        if self.search.is_some() {
            self.search(window, last)
        } else {
            self.walk(window, last)
        }
    }

    fn walk(&mut self, window: &[u8], last: bool) -> Step {
        if window.is_empty() {
            return if last {
                Step::Exhausted(None)
            } else {
                Step::Need(FRAME_HEADER_BYTES)
            };
        }
        let reason = match self.candidate(window) {
            Candidate::Incomplete(bytes) if !last => return Step::Need(bytes),
            Candidate::Good { header } if header.sequence == self.next_sequence => return self.take(header),
            Candidate::Good { .. } => DamageReason::Sequence,
            Candidate::Incomplete(_) => DamageReason::CutShort,
            Candidate::Bad(reason) => reason,
        };
        self.search = Some(Search {
            from: self.offset,
            reason,
            crc_bytes: 0,
        });
        self.search(window, last)
    }

    fn take(&mut self, header: FrameHeader) -> Step {
        let bytes = FRAME_HEADER_BYTES + header.len as usize;
        self.offset += bytes as u64;
        if header.is_end {
            return Step::End {
                next_sequence: header.sequence,
            };
        }
        self.next_sequence = header.sequence + 1;
        Step::Frame {
            sequence: header.sequence,
            bytes,
        }
    }

    fn search(&mut self, window: &[u8], last: bool) -> Step {
        let Some(mark) = memchr::memmem::find(window, &SYNC_PREFIX) else {
            return self.skip_all_but(if last { 0 } else { SYNC_PREFIX.len() - 1 }, window, last);
        };
        if mark > 0 {
            return self.skip(mark);
        }
        match self.candidate(window) {
            Candidate::Good { header } => self.found(header),
            Candidate::Incomplete(bytes) if !last => Step::Need(bytes),
            Candidate::Incomplete(_) | Candidate::Bad(_) => self.skip(1),
        }
    }

    fn found(&mut self, header: FrameHeader) -> Step {
        let lost = self.next_sequence..header.sequence;
        self.next_sequence = header.sequence;
        match self.search.take() {
            Some(search) => Step::Damaged(Region {
                bytes: search.from..self.offset,
                lost,
                reason: search.reason,
            }),
            None => self.take(header),
        }
    }

    fn skip(&mut self, bytes: usize) -> Step {
        self.offset += bytes as u64;
        Step::Skip(bytes)
    }

    fn skip_all_but(&mut self, kept: usize, window: &[u8], last: bool) -> Step {
        let useless = window.len().saturating_sub(kept);
        if useless > 0 {
            return self.skip(useless);
        }
        if !last {
            return Step::Need(kept + 1);
        }
        let region = self.search.as_ref().map(|search| Region {
            bytes: search.from..self.offset,
            lost: self.next_sequence..self.next_sequence,
            reason: search.reason,
        });
        Step::Exhausted(region)
    }

    fn candidate(&mut self, window: &[u8]) -> Candidate {
        let Some(header) = FrameHeader::decode(window) else {
            return match window {
                [0, 0, 0, 0, ..] => Candidate::Bad(DamageReason::Zeroes),
                short if short.len() < FRAME_HEADER_BYTES => Candidate::Incomplete(FRAME_HEADER_BYTES),
                _ => Candidate::Bad(DamageReason::NoSyncMark),
            };
        };
        if header.len > self.frame_bytes_max || (header.is_end && header.len != 0) {
            return Candidate::Bad(DamageReason::Length);
        }
        let in_range = header.sequence >= self.next_sequence
            && (header.sequence < self.sequence_end
                || (header.is_end && header.sequence == self.sequence_end));
        if !in_range {
            return Candidate::Bad(DamageReason::Sequence);
        }
        let bytes = FRAME_HEADER_BYTES + header.len as usize;
        let Some(payload) = window.get(FRAME_HEADER_BYTES..bytes) else {
            return Candidate::Incomplete(bytes);
        };
        if !self.may_check(header.len) || self.crc.of(header.len, header.sequence, [payload]) != header.crc {
            return Candidate::Bad(DamageReason::Checksum);
        }
        Candidate::Good { header }
    }

    fn may_check(&mut self, len: u32) -> bool {
        let Some(search) = &mut self.search else {
            return true;
        };
        search.crc_bytes += u64::from(len);
        search.crc_bytes <= SEARCH_CRC_BYTES_MAX
    }
}

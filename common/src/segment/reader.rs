//! Reading durable frames in order.

use super::SegmentError;
use super::format::segment_path;
use super::source::{Item, Source};
use super::view::{Place, SegmentSpan, Shared};
use super::walk::DamageReason;
use crate::disk::{Access, At};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the log.
    pub sequence: u64,
    /// Its content, a slice of the chunk it was read with: keeping it keeps that chunk in memory.
    pub payload: Bytes,
}

/// What a reader meets, in the order of sequences and without gaps between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadItem {
    /// A frame.
    Frame(Frame),
    /// The frames `from_sequence..to_sequence` were durable and cannot be read any more.
    Damaged {
        /// First that is lost.
        from_sequence: u64,
        /// One behind the last that is lost.
        to_sequence: u64,
        /// What was found in their place.
        reason: DamageReason,
    },
    /// The frames `from_sequence..to_sequence` were dropped before this reader came to them.
    Dropped {
        /// First that is gone.
        from_sequence: u64,
        /// The oldest that is left.
        to_sequence: u64,
    },
}

/// Reads a log from a sequence on. Each has its own file handle and buffer; several do not disturb each other.
#[derive(Debug)]
pub struct SegmentReader {
    shared: Arc<Shared>,
    next: u64,
    open: Option<OpenSegment>,
    step_over_unreadable: bool,
}

#[derive(Debug)]
struct OpenSegment {
    first_sequence: u64,
    source: Source,
}

impl SegmentReader {
    pub(super) fn new(shared: Arc<Shared>, from: u64) -> Self {
        Self {
            shared,
            next: from,
            open: None,
            step_over_unreadable: false,
        }
    }

    /// The sequence of what comes next.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// From now on, take pages that the device cannot read for damage. Otherwise `next` gives the device's error
    /// again and again: a disk that was unplugged for a moment has lost nothing. For an owner that has waited
    /// long enough.
    pub fn step_over_unreadable(&mut self, step_over: bool) {
        self.step_over_unreadable = step_over;
        if let Some(open) = &mut self.open {
            open.source.step_over_unreadable = step_over;
        }
    }

    /// The next thing, or `None` when everything durable was read; later there may be more.
    ///
    /// # Errors
    /// When a file cannot be read. Asking again continues where it was.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator that said None would be over"
    )]
    pub fn next(&mut self) -> Result<Option<ReadItem>, SegmentError> {
        loop {
            if self.next >= self.shared.durable_end() {
                return Ok(None);
            }
            let Some(open) = &mut self.open else {
                match self.open_segment()? {
                    Some(item) => return Ok(Some(item)),
                    None => continue,
                }
            };
            let first = open.first_sequence;
            let item = match open
                .source
                .next()
                .at("read", &segment_path(&self.shared.dir, first))?
            {
                Item::Frame { sequence, .. } if sequence < self.next => None,
                Item::Frame { sequence, payload } => {
                    self.next = sequence + 1;
                    Some(ReadItem::Frame(Frame { sequence, payload }))
                }
                Item::Damaged(region) => self.lose(region.lost.end, region.reason),
                Item::End { .. } => self.end_of_segment(),
                Item::Exhausted(region) => self.exhausted(region.map(|region| region.reason)),
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    fn open_segment(&mut self) -> Result<Option<ReadItem>, SegmentError> {
        let span = match self.shared.place(self.next) {
            Place::Dropped { first_sequence } => return Ok(self.dropped(first_sequence)),
            Place::At { span, .. } => span,
        };
        let path = segment_path(&self.shared.dir, span.first_sequence);
        let file = match self.shared.disk.open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.not_found(span)),
            other => other.at("open", &path)?,
        };
        // The first search bound is generous: the segment may still grow while it is read.
        let sequences = span.first_sequence..u64::MAX;
        let options = self.shared.source_options(self.step_over_unreadable);
        let source = Source::new(file, &options, sequences, span.bytes);
        self.open = Some(OpenSegment {
            first_sequence: span.first_sequence,
            source,
        });
        Ok(None)
    }

    /// The file is not there: dropped a moment ago, or removed by somebody else.
    fn not_found(&mut self, span: SegmentSpan) -> Option<ReadItem> {
        match self.shared.place(self.next) {
            Place::At { span: again, .. } if again.first_sequence == span.first_sequence => {
                self.lose(span.end_sequence, DamageReason::MissingSegment)
            }
            _ => None,
        }
    }

    fn dropped(&mut self, first_sequence: u64) -> Option<ReadItem> {
        let from_sequence = self.next;
        self.next = first_sequence.max(from_sequence);
        let some = from_sequence < first_sequence;
        some.then_some(ReadItem::Dropped {
            from_sequence,
            to_sequence: first_sequence,
        })
    }

    /// An end mark: whatever is missing before the next segment is lost.
    fn end_of_segment(&mut self) -> Option<ReadItem> {
        let first = self.open.take().map(|open| open.first_sequence);
        match self.shared.place(self.next) {
            Place::At { span, .. } if Some(span.first_sequence) == first => {
                self.lose(span.end_sequence, DamageReason::MissingSegment)
            }
            _ => None,
        }
    }

    /// Everything that was durable when the segment was last asked about has been read.
    fn exhausted(&mut self, reason: Option<DamageReason>) -> Option<ReadItem> {
        let open = self.open.as_mut()?;
        let (span, is_last) = match self.shared.place(self.next) {
            Place::At { span, is_last } if span.first_sequence == open.first_sequence => (span, is_last),
            // In another segment, or dropped: open what is there now.
            _ => {
                self.open = None;
                return None;
            }
        };
        if open.source.extend(span.bytes) {
            return None;
        }
        if is_last {
            open.source.jump(span.bytes, span.end_sequence);
        } else {
            self.open = None;
        }
        self.lose(span.end_sequence, reason.unwrap_or(DamageReason::CutShort))
    }

    fn lose(&mut self, to_sequence: u64, reason: DamageReason) -> Option<ReadItem> {
        let from_sequence = self.next;
        if to_sequence <= from_sequence {
            return None;
        }
        self.next = to_sequence;
        Some(ReadItem::Damaged {
            from_sequence,
            to_sequence,
            reason,
        })
    }
}

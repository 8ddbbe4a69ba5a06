//! What readers in other threads share with the one writer: where durable frames are.

use super::source::SourceOptions;
use super::{LogId, SegmentError, SegmentReader};
use crate::disk::Disk;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is durable of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentSpan {
    pub(super) first_sequence: u64,
    /// One behind its last durable frame.
    pub(super) end_sequence: u64,
    /// Where its last durable frame ends, or behind the end mark.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) log_id: LogId,
    pub(super) frame_bytes_max: u32,
    pub(super) read_chunk_bytes: usize,
    /// Copy of the state's, to be asked often and without the lock.
    durable_end: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    spans: VecDeque<SegmentSpan>,
    durable_end: u64,
}

/// Where a reader finds a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In this segment, up to the end of which it may read. `end_sequence` is the first of the next segment.
    At { span: SegmentSpan, is_last: bool },
    /// Gone; the oldest that is left is this one.
    Dropped { first_sequence: u64 },
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        log_id: LogId,
        frame_bytes_max: u32,
        read_chunk_bytes: usize,
    ) -> Self {
        Self {
            disk,
            dir,
            log_id,
            frame_bytes_max,
            read_chunk_bytes,
            durable_end: AtomicU64::new(0),
            state: Mutex::new(State {
                spans: VecDeque::new(),
                durable_end: 0,
            }),
        }
    }

    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    pub(super) fn source_options(&self, step_over_unreadable: bool) -> SourceOptions {
        SourceOptions {
            log_id: self.log_id,
            frame_bytes_max: self.frame_bytes_max,
            read_chunk_bytes: self.read_chunk_bytes,
            step_over_unreadable,
        }
    }

    /// After recovery: everything that is there is durable.
    pub(super) fn replace(&self, spans: Vec<SegmentSpan>, durable_end: u64) {
        let mut state = self.state.lock();
        state.spans = spans.into();
        self.advance(&mut state, durable_end);
    }

    /// A segment was begun; its header is durable.
    pub(super) fn push(&self, span: SegmentSpan) {
        let mut state = self.state.lock();
        state.spans.push_back(span);
        self.advance(&mut state, span.end_sequence);
    }

    /// More of the last segment is durable.
    pub(super) fn extend_last(&self, end_sequence: u64, bytes: u64) {
        let mut state = self.state.lock();
        if let Some(last) = state.spans.back_mut() {
            (last.end_sequence, last.bytes) = (end_sequence, bytes);
        }
        self.advance(&mut state, end_sequence);
    }

    fn advance(&self, state: &mut State, durable_end: u64) {
        assert!(durable_end >= state.durable_end, "what is durable stays durable");
        state.durable_end = durable_end;
        self.durable_end.store(durable_end, Ordering::Release);
    }

    /// Takes the oldest segment out when nothing in it is at or above `sequence`, and it is not the last.
    pub(super) fn pop_before(&self, sequence: u64) -> Option<SegmentSpan> {
        let mut state = self.state.lock();
        let second = state.spans.get(1)?.first_sequence;
        if second <= sequence {
            state.spans.pop_front()
        } else {
            None
        }
    }

    /// It could not be removed after all.
    pub(super) fn put_back(&self, span: SegmentSpan) {
        self.state.lock().spans.push_front(span);
    }

    pub(super) fn first_sequence(&self) -> u64 {
        let state = self.state.lock();
        state
            .spans
            .front()
            .map_or(state.durable_end, |span| span.first_sequence)
    }

    pub(super) fn second_segment(&self) -> Option<u64> {
        Some(self.state.lock().spans.get(1)?.first_sequence)
    }

    pub(super) fn durable_bytes(&self) -> u64 {
        self.state.lock().spans.iter().map(|span| span.bytes).sum()
    }

    pub(super) fn last_span_bytes(&self) -> u64 {
        self.state.lock().spans.back().map_or(0, |span| span.bytes)
    }

    pub(super) fn segment_count(&self) -> usize {
        self.state.lock().spans.len()
    }

    /// Where `sequence` is, or would be if it was not lost.
    pub(super) fn place(&self, sequence: u64) -> Place {
        let state = self.state.lock();
        let behind = state
            .spans
            .partition_point(|span| span.first_sequence <= sequence);
        let Some(index) = behind.checked_sub(1) else {
            let first = state
                .spans
                .front()
                .map_or(state.durable_end, |span| span.first_sequence);
            return Place::Dropped {
                first_sequence: first,
            };
        };
        let mut span = state.spans[index];
        let next = state.spans.get(behind);
        // Frames that are missing between two segments are missing from the first one.
        span.end_sequence = next.map_or(state.durable_end, |next| next.first_sequence);
        Place::At {
            span,
            is_last: next.is_none(),
        }
    }
}

/// The reading side of a log: cheap to clone, usable from any thread, alive as long as anyone holds it.
#[derive(Debug, Clone)]
pub struct LogView(pub(super) Arc<Shared>);

impl LogView {
    /// Who the log is.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.0.log_id
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Every frame below this sequence is durable, and no other is shown to readers.
    #[must_use]
    pub fn durable_end(&self) -> u64 {
        self.0.durable_end()
    }

    /// The oldest sequence that was not dropped.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.0.first_sequence()
    }

    /// Bytes of all segments, as far as they are durable.
    #[must_use]
    pub fn durable_bytes(&self) -> u64 {
        self.0.durable_bytes()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.0.segment_count()
    }

    /// A reader whose first frame is `from`. Give [`LogView::first_sequence`] for everything there is, or
    /// [`LogView::durable_end`] for what comes.
    ///
    /// # Errors
    /// [`SegmentError::SequenceAhead`] when `from` is behind the durable end: that cursor belongs to another log.
    pub fn reader(&self, from: u64) -> Result<SegmentReader, SegmentError> {
        let next = self.durable_end();
        if from > next {
            return Err(SegmentError::SequenceAhead {
                dir: self.0.dir.clone(),
                asked: from,
                next,
            });
        }
        Ok(SegmentReader::new(Arc::clone(&self.0), from))
    }
}

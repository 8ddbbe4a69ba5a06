//! What is kept where. No disk, no thread, no clock of its own. Here: what the encoder and the transport ask and tell;
//! `work.rs` has what the disk's thread does.
//!
//! ```text
//!             2 s unacked: a copy                       read back when the line has room
//!  on the line ───────────────> appended ──sync──> frames ──────> ready ──> on the line ──ack──> gone
//!                                  ^                  │ over a bound, damaged
//!  no room on the line ──> waiting ┘                  └──> gaps ──> receipts: on the line, or appended
//! ```
//!
//! A batch is in exactly one of: on the line (perhaps with a frame that is its copy), waiting, appended, a frame, ready,
//! or what is left of it in gaps. Its positions are in flight as long as it is anywhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::{Block, ReceiptReason, batch};
use edgelogger_common::codec::{Codec, sha256};
use edgelogger_common::segment::{END_MARK_BYTES, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Batch, Lane};

use super::config::SpoolLimits;
use super::entry::BlockNote;
use super::frames::{Fate, Frame, Frames};
use super::gaps::Gaps;
use super::line::{Copied, Held, Line};
use crate::encoder::BatchesInFlight;
use crate::flow::{EncodedBatch, Resume, SentBlock, SpoolPolicy, StreamClose};
use crate::tally::{InFlight, Tally};

/// What was not acked for so long is written. A line that works is never so slow, and it is what a crash costs.
pub const SPOOL_AFTER: Duration = Duration::from_secs(2);
/// Batches that wait in memory while the disk takes nothing: some hours of a usual machine, compressed.
pub const MEMORY_BYTES_MAX: usize = 1 << 20;
/// What stands around an entry's payload, at most: descriptors of a few streams, notes of their blocks, a frame, and the
/// end of a segment with the beginning of the next.
const OVERHEAD_BYTES: u64 = 512 + (FRAME_HEADER_BYTES + END_MARK_BYTES + SEGMENT_HEADER_BYTES) as u64;

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Batches that went to disk.
    pub batches_written: u64,
    /// Batches that came from the spool to the line.
    pub batches_sent: u64,
    /// Given up for want of room, or too old.
    pub records_dropped: u64,
    /// Given up because they can't be read any more.
    pub records_damaged: u64,
    /// When records were given up last for want of room.
    pub dropped_at: Option<Duration>,
}

/// See the module page.
#[derive(Debug)]
pub struct State {
    pub(super) limits: SpoolLimits,
    batches: BatchesInFlight,
    pub(super) tally: Arc<Tally>,
    pub(super) line: Line,
    pub(super) waiting: VecDeque<Held>,
    pub(super) waiting_bytes: usize,
    /// In the log, not yet synced, so that it must stay in memory too.
    pub(super) appended: Vec<(u64, Held)>,
    pub(super) frames: Frames,
    pub(super) ready: Option<(u64, Batch)>,
    pub(super) reading: Option<u64>,
    pub(super) gaps: Gaps,
    /// Blocks of each stream that are here and not on the line, gaps aside.
    kept_blocks: HashMap<StreamId, usize>,
    /// Streams whose file is gone.
    pub(super) gone: HashSet<StreamId>,
    pub(super) held_ends: Vec<StreamClose>,
    pub(super) sent_ends: HashMap<StreamId, StreamClose>,
    pub(super) disk: super::work::DiskState,
    pub(super) stopping: bool,
    pub(super) counters: Counters,
}

impl State {
    pub fn new(limits: SpoolLimits, batches: BatchesInFlight, tally: Arc<Tally>) -> Self {
        Self {
            limits,
            batches,
            tally,
            line: Line::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            appended: Vec::new(),
            frames: Frames::default(),
            ready: None,
            reading: None,
            gaps: Gaps::default(),
            kept_blocks: HashMap::new(),
            gone: HashSet::new(),
            held_ends: Vec::new(),
            sent_ends: HashMap::new(),
            disk: super::work::DiskState::default(),
            stopping: false,
            counters: Counters::default(),
        }
    }

    /// A frame that an earlier process left.
    pub fn found(&mut self, sequence: u64, notes: Vec<BlockNote>, since: Duration) {
        let mut in_flight = InFlight::default();
        for note in &notes {
            in_flight.absorb(self.tally.read_amounts(&note.amounts()));
        }
        self.keep(&notes);
        self.frames.push(Frame {
            sequence,
            since,
            notes: notes.into(),
            in_flight: Some(Arc::new(in_flight)),
            fate: Fate::Unsent,
        });
    }

    /// May a batch of a source of this policy come? Otherwise the source waits.
    pub fn takes(&self, policy: SpoolPolicy) -> bool {
        policy != SpoolPolicy::Block || (self.waiting.is_empty() && self.has_room(0, false))
    }

    /// A batch that the line did not take.
    pub fn put(&mut self, held: Held) {
        self.keep(&held.notes);
        let len = held.batch.payload.len();
        let is_too_large = len as u64 + OVERHEAD_BYTES > self.limits.data_bytes_max;
        let is_new_and_full =
            held.policy == Some(SpoolPolicy::DropNewest) && !self.has_room(len as u64, false);
        if held.policy.is_some() && (is_too_large || is_new_and_full) {
            self.drop_held(held);
            return;
        }
        let oldest_goes = held.policy == Some(SpoolPolicy::DropOldest);
        self.waiting_bytes += len;
        self.waiting.push_back(held);
        // One that is larger than that waits alone.
        while self.waiting_bytes > MEMORY_BYTES_MAX
            && self.waiting.len() > 1
            && self.drop_waiting(oldest_goes)
        {}
    }

    pub(super) fn drop_waiting(&mut self, oldest: bool) -> bool {
        let may_go = |held: &Held| held.policy.is_some();
        let at = if oldest {
            self.waiting.iter().position(may_go)
        } else {
            self.waiting.iter().rposition(may_go)
        };
        let Some(held) = at.and_then(|at| self.waiting.remove(at)) else {
            return false;
        };
        self.waiting_bytes -= held.batch.payload.len();
        self.drop_held(held);
        true
    }

    fn drop_held(&mut self, held: Held) {
        let Held {
            batch, notes, since, ..
        } = held;
        self.give_up(&notes, ReceiptReason::QueueFull, Some(batch.in_flight), since);
    }

    /// Receipts instead of these blocks.
    pub(super) fn give_up(
        &mut self,
        notes: &[BlockNote],
        reason: ReceiptReason,
        in_flight: Option<Arc<InFlight>>,
        since: Duration,
    ) {
        let data = notes.iter().filter(|note| note.reason.is_none());
        let records: u64 = data.map(|note| note.amounts().records.all).sum();
        if reason == ReceiptReason::Damaged {
            self.counters.records_damaged += records;
        } else {
            self.counters.records_dropped += records;
            self.counters.dropped_at = Some(since);
        }
        notes.iter().for_each(|note| self.tally.set_aside(&note.sent()));
        self.let_go(notes);
        // The same positions stay in flight, as receipts from now on. Nobody else holds what is not on the line.
        let in_flight = in_flight.and_then(Arc::into_inner).unwrap_or_default();
        self.gaps.add(notes, reason, in_flight, since);
    }

    /// A batch was handed to the line; what is watched is a copy.
    pub fn sent(&mut self, held: Held) {
        self.line.put(held, Copied::No);
    }

    /// Is there something for the line?
    pub fn has_next(&self) -> bool {
        let in_memory = !self.waiting.is_empty() || !self.gaps.is_empty();
        self.ready.is_some() || (in_memory && self.frames.first_unsent().is_none())
    }

    /// Takes what goes on the line next: what lies on disk first, because it is older.
    pub fn next(&mut self, now: Duration) -> Option<EncodedBatch> {
        let (held, copied) = match self.take_ready(now) {
            Some(ready) => ready,
            None if self.frames.first_unsent().is_some() => return None,
            None => (
                self.take_waiting(now).or_else(|| self.take_receipts(now))?,
                Copied::No,
            ),
        };
        let batch = held.batch.clone();
        self.counters.batches_sent += 1;
        self.let_go(&held.notes);
        self.line.put(held, copied);
        Some(batch)
    }

    fn take_ready(&mut self, now: Duration) -> Option<(Held, Copied)> {
        let (sequence, batch) = self.ready.take()?;
        let frame = self.frames.get_mut(sequence)?;
        frame.fate = Fate::Sent;
        let (notes, in_flight) = (frame.notes.clone(), frame.in_flight.take().unwrap_or_default());
        for note in &notes {
            self.tally.sending_again(&note.sent(), note.amounts());
        }
        let batch = EncodedBatch {
            codec: batch.codec(),
            decompressed_len: batch.decompressed_len,
            record_count: batch.record_count,
            sha256: batch.sha256.as_ref().try_into().unwrap_or_default(),
            payload: self.batches.counted(&batch.payload),
            lane: Lane::Backfill,
            blocks: notes.iter().map(BlockNote::sent).collect(),
            in_flight,
        };
        let held = Held {
            batch,
            notes,
            policy: None,
            since: now,
            of_file: None,
        };
        Some((held, Copied::At(sequence)))
    }

    fn take_waiting(&mut self, now: Duration) -> Option<Held> {
        let mut held = self.waiting.pop_front()?;
        self.waiting_bytes -= held.batch.payload.len();
        // The line takes it now: whether it does that in time counts from here.
        (held.since, held.batch.lane) = (now, Lane::Backfill);
        Some(held)
    }

    fn take_receipts(&mut self, now: Duration) -> Option<Held> {
        let held = self.make_receipts(now)?;
        // As everything else that is let go of: it was kept.
        self.keep(&held.notes);
        Some(held)
    }

    /// A batch of all receipts that are not told yet.
    pub(super) fn make_receipts(&mut self, since: Duration) -> Option<Held> {
        if self.gaps.is_empty() {
            return None;
        }
        let (blocks, in_flight) = self.gaps.take();
        let note = |(block, resume): &(Block, Resume)| BlockNote::of(block).resuming(resume);
        let notes: Box<[BlockNote]> = blocks.iter().map(note).collect();
        let blocks: Vec<Block> = blocks.into_iter().map(|(block, _)| block).collect();
        blocks.iter().for_each(|block| self.tally.sending(block));
        Some(Held {
            batch: receipt_batch(&blocks, &notes, &self.batches, in_flight),
            notes,
            policy: None,
            since,
            of_file: None,
        })
    }

    /// An end, if it may go to the line now: all blocks of its stream were handed to it. `is_replayable`: its source
    /// finds it again, unless that is a file which is gone.
    pub fn end(&mut self, close: StreamClose, is_replayable: bool) -> Option<StreamClose> {
        if self.keeps(&close.stream_id) {
            self.held_ends.push(close);
            return None;
        }
        if !is_replayable || self.gone.contains(&close.stream_id) {
            self.sent_ends.insert(close.stream_id, close.clone());
        }
        Some(close)
    }

    /// Takes an end that waited and may go now.
    pub fn next_end(&mut self) -> Option<StreamClose> {
        let at = self.free_end()?;
        let close = self.held_ends.swap_remove(at);
        self.sent_ends.insert(close.stream_id, close.clone());
        Some(close)
    }

    /// May an end go that waited?
    pub fn has_end(&self) -> bool {
        self.free_end().is_some()
    }

    fn free_end(&self) -> Option<usize> {
        self.held_ends
            .iter()
            .position(|close| !self.keeps(&close.stream_id))
    }

    fn keeps(&self, stream_id: &StreamId) -> bool {
        self.kept_blocks.contains_key(stream_id) || self.gaps.holds(stream_id)
    }

    /// A range is acked, or rejected for good. Is there now something on disk that is not needed?
    pub fn acked(&mut self, block: &SentBlock) -> bool {
        match self.line.acked(block).map(|on_line| on_line.copied) {
            Some(Copied::At(sequence)) => {
                self.frames.set_fate(sequence, Fate::Done);
                true
            }
            _ => false,
        }
    }

    /// A stream is acked to its end.
    pub fn ended(&mut self, stream_id: &StreamId) {
        self.sent_ends.remove(stream_id);
        self.gone.remove(stream_id);
    }

    /// The agent stops: what is not acked is written now.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.line.stop();
        self.held_ends
            .extend(self.sent_ends.drain().map(|(_, close)| close));
        // The next process finds out by itself where a stream ends whose end nobody knows.
        self.held_ends.retain(|close| close.exact);
    }

    /// Is everything acked?
    pub fn is_empty(&self) -> bool {
        self.kept_blocks.is_empty() && self.gaps.is_empty() && self.line.is_empty()
    }

    pub const fn counters(&self) -> Counters {
        self.counters
    }

    pub const fn limits(&self) -> &SpoolLimits {
        &self.limits
    }

    /// Of the log, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.disk.bytes
    }

    /// Batches on disk that are not acked, and since when the oldest waits.
    pub fn stored(&self) -> (usize, Option<Duration>) {
        self.frames.kept()
    }

    /// Batches that should be on disk.
    pub fn batches_in_memory(&self) -> usize {
        self.waiting.len() + self.appended.len()
    }

    /// The end of what is kept of each stream.
    pub fn ends(&self) -> HashMap<StreamId, u64> {
        self.frames.ends()
    }

    /// Is the log as large as it may be?
    pub fn is_full(&self) -> bool {
        !self.has_room(0, false)
    }

    /// Does the reserve of free disk space keep it from growing?
    pub const fn is_capped(&self) -> bool {
        self.disk.cap_bytes.is_some()
    }

    pub const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Is there anything that may have to be written?
    pub fn wants_disk(&self) -> bool {
        !self.waiting.is_empty() || !self.gaps.is_empty() || !self.line.is_empty()
    }

    pub(super) fn keep(&mut self, notes: &[BlockNote]) {
        for note in notes {
            *self.kept_blocks.entry(note.stream_id).or_default() += 1;
        }
    }

    fn let_go(&mut self, notes: &[BlockNote]) {
        for note in notes {
            if let Some(count) = self.kept_blocks.get_mut(&note.stream_id) {
                *count -= 1;
                if *count == 0 {
                    self.kept_blocks.remove(&note.stream_id);
                }
            }
        }
    }

    /// Does a payload of this length fit the bounds? Receipts have a little more room.
    pub(super) fn has_room(&self, len: u64, is_receipt: bool) -> bool {
        let bytes_max = if is_receipt {
            self.limits.bytes_max
        } else {
            self.limits.data_bytes_max
        };
        let bytes_max = self.disk.cap_bytes.map_or(bytes_max, |cap| cap.min(bytes_max));
        self.disk.bytes + len + OVERHEAD_BYTES <= bytes_max && !self.frames.is_full()
    }
}

fn receipt_batch(
    blocks: &[Block],
    notes: &[BlockNote],
    batches: &BatchesInFlight,
    in_flight: InFlight,
) -> EncodedBatch {
    let mut payload = Vec::new();
    batch::write_payload(blocks, &mut payload).expect("a receipt has a range, so it can be written");
    EncodedBatch {
        codec: Codec::None.into(),
        decompressed_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        record_count: 0,
        sha256: sha256(&payload),
        payload: batches.counted(&payload),
        lane: Lane::Backfill,
        blocks: notes.iter().map(BlockNote::sent).collect(),
        in_flight: Arc::new(in_flight),
    }
}

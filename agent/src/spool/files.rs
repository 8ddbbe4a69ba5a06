//! What of files comes here: what is gone with them, and not acknowledged. Nothing of a file that can be read again is
//! written, however long the collector is away.
//!
//! ```text
//! read before the file went ─┬─ on the line: watched from the start, one entry a stream; copied once the file is gone
//!                            └─ in the batcher: taken out of it
//! not read ── read into batches by the source, as far as there is room
//! ```
//!
//! What files hand over waits where there is no room, in memory or in the file that is still held open; it never takes
//! the place of anything else, and leaves a part of the spool to what can't be read again at all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgelogger_common::block::{Block, ReceiptReason, batch};
use edgelogger_common::codec::{Codec, CodecError, CodecSetting, Compressor, Decompressor, sha256};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;

use super::config::SpoolLimits;
use super::entry::BlockNote;
use super::line::{Copied, Held, OfFile};
use super::recover::Known;
use super::show;
use super::state::{MEMORY_BYTES_MAX, State};
use super::work::Append;
use super::{Spool, timed};
use crate::batcher::Collected;
use crate::checkpoint::StreamState;
use crate::flow::{EncodedBatch, Resume, SourceBlock, SpoolPolicy};
use crate::tally::InFlight;

/// What happens to a file's data where there is no room: it stays where it is.
const POLICY: SpoolPolicy = SpoolPolicy::Block;
/// One part in this many of the spool is left to what can't be read again at all.
const LEFT_TO_OTHERS: u64 = 4;
/// How often room is looked for by one who waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What files may have of a spool, in bytes.
#[must_use]
pub const fn files_bytes_max(limits: &SpoolLimits) -> u64 {
    limits.data_bytes_max - limits.data_bytes_max / LEFT_TO_OTHERS
}

/// Is there room for what a file hands over?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Now.
    Yes,
    /// When the disk has taken what waits for it.
    Soon,
    /// The spool is full, or its disk does not work.
    No,
}

/// What an earlier process left of files.
#[derive(Debug)]
pub(super) enum Found {
    /// Not known yet.
    Reading,
    /// It can't be read now; that is tried again.
    Unreadable,
    /// By stream.
    Files(HashMap<StreamId, Known>),
}

impl Found {
    pub fn forget(&mut self, stream_id: &StreamId) {
        if let Self::Files(files) = self {
            files.remove(stream_id);
        }
    }
}

/// What an earlier process left of one file.
#[derive(Debug)]
pub enum Left {
    /// Nobody knows yet.
    Unknown,
    /// Nothing.
    Nothing,
    /// This.
    Kept(Box<LeftOfFile>),
}

/// What the spool holds of a file of an earlier process.
#[derive(Debug)]
pub struct LeftOfFile(Known);

impl LeftOfFile {
    /// The stream, as if all of it were acknowledged.
    #[must_use]
    pub fn added_to(&self, state: StreamState) -> StreamState {
        let mut state = state.with(&self.0.of_file);
        for range in self.0.ranges.iter() {
            // A set has room for far more ranges than a spool makes of one stream.
            let _ = state.acked.insert(range);
        }
        state
    }

    /// Where the stream ends, where that is known.
    #[must_use]
    pub fn exact_size(&self) -> Option<u64> {
        let end = self.0.end.as_ref().filter(|end| end.exact);
        end.map(|end| end.size)
    }

    /// Is it a hole that a frame left which can't be read any more?
    #[must_use]
    pub fn is_damaged(&self, range: std::ops::Range<u64>) -> bool {
        self.0.damaged.covers(range)
    }
}

impl Spool {
    /// Does the spool still read what an earlier process left?
    #[must_use]
    pub fn is_reading(&self) -> bool {
        matches!(*self.0.found.lock(), Found::Reading)
    }

    /// What an earlier process left of a file.
    #[must_use]
    pub fn left(&self, stream_id: &StreamId) -> Left {
        match &*self.0.found.lock() {
            Found::Reading | Found::Unreadable => Left::Unknown,
            Found::Files(files) => files.get(stream_id).map_or(Left::Nothing, |known| {
                Left::Kept(Box::new(LeftOfFile(known.clone())))
            }),
        }
    }

    /// The file of this stream is gone: what was read of it and is not acknowledged can't be read again.
    pub fn gone(&self, stream_id: StreamId) {
        self.0.state.lock().gone.insert(stream_id);
        self.0.changed.notify_one();
    }

    /// The file is there again.
    pub fn back(&self, stream_id: &StreamId) {
        self.0.state.lock().gone.remove(stream_id);
    }

    /// Is the file of this stream gone?
    #[must_use]
    pub fn is_gone(&self, stream_id: &StreamId) -> bool {
        self.0.state.lock().gone.contains(stream_id)
    }

    /// Streams whose file is gone.
    #[must_use]
    pub fn gone_streams(&self) -> HashSet<StreamId> {
        self.0.state.lock().gone.clone()
    }

    /// Is there room for so many bytes of a file, before compression?
    #[must_use]
    pub fn room(&self, bytes: usize) -> Room {
        self.0.state.lock().room_for_file(bytes as u64)
    }

    /// Waits for room while there may be some soon. `false`: there is none.
    #[must_use]
    pub fn wait_for_room(&self, bytes: usize, deadline: Instant) -> bool {
        loop {
            match self.room(bytes) {
                Room::Yes => return true,
                Room::Soon if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
                Room::Soon | Room::No => return false,
            }
        }
    }

    /// Keeps a batch of files that are gone; ask for [`Spool::room`] before.
    pub fn put_files(&self, held: Held) {
        self.put(Held {
            policy: Some(POLICY),
            ..held
        });
    }

    /// Keeps a block of a file that is gone, which a source read just now; ask for [`Spool::room`] before.
    pub fn keep(&self, mut block: SourceBlock) {
        let in_flight = self.0.ring.tally().read(&block.block);
        block.credit.pushed(in_flight);
        let notes = Box::new([BlockNote::of(&block.block).resuming(&block.resume)]);
        let collected = Collected {
            lane: block.lane,
            replayable: false,
            blocks: vec![block],
        };
        let encoded = self.0.encoder.lock().encode(collected);
        match encoded {
            Ok(batch) => self.put_files(Held {
                batch,
                notes,
                policy: None,
                since: self.0.clock.monotonic(),
                of_file: None,
            }),
            Err(error) => {
                tracing::error!(%error, "a batch of a file that is gone could not be made; its lines are lost");
            }
        }
    }

    /// There is no room for a batch of files that are gone, and nobody else holds it: it is told as lost.
    pub fn lose_files(&self, held: Held) {
        let Held {
            batch, notes, since, ..
        } = timed(held);
        self.lose_noted(&notes, batch.in_flight, since);
    }

    /// There is no room for what a receipt of a file that is gone stands for.
    pub fn lose(&self, receipt: &Block, resume: &Resume) {
        let in_flight = Arc::new(self.0.ring.tally().read(receipt));
        let notes = [BlockNote::of(receipt).resuming(resume)];
        self.lose_noted(&notes, in_flight, self.0.now());
    }

    fn lose_noted(&self, notes: &[BlockNote], in_flight: Arc<InFlight>, since: Duration) {
        let mut state = self.0.state.lock();
        state.keep(notes);
        state.give_up(notes, ReceiptReason::Rotated, Some(in_flight), since);
        self.0.changed.notify_one();
    }

    /// Gives the memory back that [`Spool::keep`] used.
    pub fn idle(&self) {
        self.0.encoder.lock().idle();
    }

    /// Watches what of files is about to be handed to the line: should one of them go, it is written.
    pub fn sent_files(&self, held: Held) {
        let mut state = self.0.state.lock();
        if state.sent_files(timed(held)) {
            self.0.changed.notify_one();
        }
    }
}

impl State {
    /// A batch with blocks of files was handed to the line. Is one of the files gone?
    pub fn sent_files(&mut self, held: Held) -> bool {
        let mut by_stream: HashMap<StreamId, Vec<BlockNote>> = HashMap::new();
        for note in &held.notes {
            by_stream.entry(note.stream_id).or_default().push(note.clone());
        }
        let is_any_gone = by_stream.keys().any(|stream_id| self.gone.contains(stream_id));
        let Held { mut batch, since, .. } = held;
        let blocks = std::mem::take(&mut batch.blocks).len();
        for (stream_id, notes) in by_stream {
            let part = Held {
                batch: batch.clone(),
                notes: notes.into(),
                policy: Some(POLICY),
                since,
                of_file: Some(OfFile { stream_id, blocks }),
            };
            self.line.put(part, Copied::No);
        }
        is_any_gone
    }

    /// It can't be copied.
    pub fn not_copied(&mut self, append: &Append) {
        if let Append::Copy(number, _) = append
            && let Some(on_line) = self.line.get_mut(*number)
        {
            on_line.copied = Copied::Dropped;
        }
    }

    /// Is there room for so many bytes of a file?
    pub fn room_for_file(&self, bytes: u64) -> Room {
        let others = self.limits.data_bytes_max - files_bytes_max(&self.limits);
        let waiting = self.waiting_bytes as u64;
        if self.stopping || self.is_failed() || !self.has_room(waiting + bytes + others, false) {
            return Room::No;
        }
        let in_memory = waiting + self.unsynced_bytes();
        if in_memory == 0 || in_memory + bytes <= MEMORY_BYTES_MAX as u64 {
            Room::Yes
        } else {
            Room::Soon
        }
    }

    fn unsynced_bytes(&self) -> u64 {
        let lens = self.appended.iter().map(|(_, held)| held.batch.payload.len());
        lens.sum::<usize>() as u64
    }

    /// What is not synced stays in memory, so it is synced early where it is much.
    pub(super) fn unsynced_is_much(&self) -> bool {
        self.unsynced_bytes() >= MEMORY_BYTES_MAX as u64 / 2
    }
}

/// Why a part of a batch can't be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    /// The batch is not what the encoder made.
    #[error(transparent)]
    Batch(#[from] batch::BatchError),
    /// Blocks that were read from a batch can't be written.
    #[error(transparent)]
    Block(#[from] edgelogger_common::block::BlockError),
    /// No memory.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// What `notes` speak of, where that is not all of the batch: files that are still there are left out.
pub(super) fn part_of(held: &Held) -> Result<EncodedBatch, PartError> {
    let whole = &held.batch;
    let of_file = held.of_file.filter(|of_file| of_file.blocks != held.notes.len());
    let Some(of_file) = of_file else {
        return Ok(whole.clone());
    };
    let wire = v1::Batch {
        codec: whole.codec.into(),
        decompressed_len: whole.decompressed_len,
        block_count: u32::try_from(of_file.blocks).unwrap_or(u32::MAX),
        record_count: whole.record_count,
        sha256: whole.sha256.to_vec().into(),
        payload: whole.payload.clone(),
        ..v1::Batch::default()
    };
    let blocks = batch::open(&wire, &show::limits(), &mut Decompressor::new())?;
    let is_noted = |block: &Block| {
        let header = &block.header;
        let place = (header.stream_id, header.start, header.end);
        held.notes
            .iter()
            .any(|note| (note.stream_id, note.start, note.end) == place)
    };
    let blocks: Vec<Block> = blocks.into_iter().filter(is_noted).collect();
    let mut plain = Vec::new();
    batch::write_payload(&blocks, &mut plain)?;
    let codec = Codec::try_from(whole.codec).unwrap_or(Codec::None);
    let mut payload = Vec::new();
    Compressor::new().compress(CodecSetting::default_of(codec), &plain, &mut payload)?;
    Ok(EncodedBatch {
        codec: codec.into(),
        decompressed_len: u32::try_from(plain.len()).unwrap_or(u32::MAX),
        record_count: blocks.iter().map(|block| block.header.record_count).sum(),
        sha256: sha256(&payload),
        payload: payload.into(),
        lane: whole.lane,
        blocks: held.notes.iter().map(BlockNote::sent).collect(),
        in_flight: Arc::default(),
    })
}

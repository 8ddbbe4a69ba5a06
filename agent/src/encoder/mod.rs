//! The encoder: collected blocks to one compressed batch, with the SHA-256 that stays with it to the last sink.
//!
//! Blocks are written one after another into one buffer, which is kept, compressed into another that is kept, and
//! the result is copied out at its exact length: a batch in flight holds no more memory than it has bytes. Nothing
//! is allocated per record. The ring's credit goes back as soon as a block is written.

#[cfg(test)]
mod measure;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use edgelogger_common::block::BlockError;
use edgelogger_common::codec::{CodecError, CodecSetting, Compressor, sha256};

use crate::batcher::Collected;
use crate::flow::{EncodedBatch, SentBlock, SourceBlock};
use crate::ring::Ring;
use crate::tally::{InFlight, Tally};

/// Buffers above this are given back when the line falls idle.
const IDLE_BUFFER_BYTES: usize = 16 << 10;

/// After this many batches in a row that used less than an eighth of the buffers, these are given back: a rush is over.
const SMALL_BATCHES_MAX: u32 = 20;

/// Why a batch could not be made. Its blocks are lost to this process, and the tally shows them as a residual until
/// a restart reads them again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A block can't be written.
    #[error("a block of stream {stream_id} from position {start} can't be written: {error}")]
    Block {
        /// The block's stream.
        stream_id: edgelogger_common::stream::StreamId,
        /// Its first position.
        start: u64,
        /// Why.
        error: BlockError,
    },
    /// The blocks together are longer than a batch can say.
    #[error("the blocks of a batch come to {found} bytes, a batch can say at most {limit}")]
    TooLong {
        /// Their length.
        found: usize,
        /// The longest.
        limit: u32,
    },
    /// The compressor failed (out of memory).
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Batches that have no answer yet. Counted by the payloads themselves: a batch is in flight while anybody holds it.
#[derive(Debug, Clone)]
pub struct BatchesInFlight {
    count: Arc<AtomicUsize>,
    ring: Ring,
}

impl BatchesInFlight {
    /// None yet. `ring` is nudged when the last one is answered, because the batcher may be waiting for silence.
    #[must_use]
    pub fn new(ring: Ring) -> Self {
        Self {
            count: Arc::default(),
            ring,
        }
    }

    /// Counts a payload that was made before, from now on.
    #[must_use]
    pub fn counted(&self, payload: &[u8]) -> Bytes {
        Bytes::from_owner(Payload::new(payload.into(), self))
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// The bytes of a batch, with what ends when the last one who holds them lets go.
struct Payload {
    bytes: Box<[u8]>,
    batches: BatchesInFlight,
}

impl Payload {
    fn new(bytes: Box<[u8]>, batches: &BatchesInFlight) -> Self {
        batches.count.fetch_add(1, Ordering::SeqCst);
        Self {
            bytes,
            batches: batches.clone(),
        }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if self.batches.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.batches.ring.nudge();
        }
    }
}

/// Makes batches. One per thread.
#[derive(Debug)]
pub struct Encoder {
    setting: CodecSetting,
    compressor: Compressor,
    written: Vec<u8>,
    compressed: Vec<u8>,
    small_in_a_row: u32,
    batches: BatchesInFlight,
    tally: Arc<Tally>,
}

impl Encoder {
    /// An encoder without buffers yet.
    #[must_use]
    pub fn new(setting: CodecSetting, batches: BatchesInFlight, tally: Arc<Tally>) -> Self {
        Self {
            setting,
            compressor: Compressor::new(),
            written: Vec::new(),
            compressed: Vec::new(),
            small_in_a_row: 0,
            batches,
            tally,
        }
    }

    /// Compress in this way from now on.
    pub const fn set_codec(&mut self, setting: CodecSetting) {
        self.setting = setting;
    }

    /// One batch of these blocks, in their order.
    ///
    /// # Errors
    /// See [`EncodeError`]; none can come from what a source read, only from a bug or a lack of memory.
    pub fn encode(&mut self, collected: Collected) -> Result<EncodedBatch, EncodeError> {
        self.written.clear();
        let mut sent = Vec::with_capacity(collected.blocks.len());
        let mut in_flight = InFlight::default();
        let mut record_count = 0u32;
        for mut block in collected.blocks {
            self.write(&block)?;
            in_flight.absorb(block.credit.take_in_flight());
            record_count = record_count.saturating_add(block.block.header.record_count);
            sent.push(sent_block(block));
        }
        let decompressed_len = u32::try_from(self.written.len()).map_err(|_| EncodeError::TooLong {
            found: self.written.len(),
            limit: u32::MAX,
        })?;
        self.compressor
            .compress(self.setting, &self.written, &mut self.compressed)?;
        let payload = Payload::new(self.compressed.as_slice().into(), &self.batches);
        self.shrink_after_a_rush();
        Ok(EncodedBatch {
            codec: self.setting.codec().into(),
            decompressed_len,
            record_count,
            sha256: sha256(&payload.bytes),
            payload: Bytes::from_owner(payload),
            lane: collected.lane,
            blocks: sent,
            in_flight: Arc::new(in_flight),
        })
    }

    fn shrink_after_a_rush(&mut self) {
        let is_small = self.written.len() < self.written.capacity() / 8;
        self.small_in_a_row = if is_small { self.small_in_a_row + 1 } else { 0 };
        if self.small_in_a_row >= SMALL_BATCHES_MAX {
            self.idle();
        }
    }

    /// Gives memory back: nothing will be sent for a while.
    pub fn idle(&mut self) {
        self.small_in_a_row = 0;
        if self.written.capacity() > IDLE_BUFFER_BYTES {
            self.written = Vec::new();
            self.compressed = Vec::new();
            self.compressor = Compressor::new();
        }
    }

    fn write(&mut self, block: &SourceBlock) -> Result<(), EncodeError> {
        self.tally.sending(&block.block);
        let header = &block.block.header;
        block
            .block
            .write_to(&mut self.written)
            .map_err(|error| EncodeError::Block {
                stream_id: header.stream_id,
                start: header.start,
                error,
            })
    }
}

/// Drops the block and its credit.
fn sent_block(block: SourceBlock) -> SentBlock {
    let header = block.block.header;
    SentBlock {
        stream_id: header.stream_id,
        start: header.start,
        end: header.end,
        record_count: header.record_count,
        resume: block.resume,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use edgelogger_common::block::Block;
    use edgelogger_common::block::batch::{BatchLimits, validate};
    use edgelogger_common::codec::Decompressor;
    use edgelogger_common::stream::StreamId;
    use edgelogger_proto::v1::{self, Lane};

    use super::*;
    use crate::flow::{Resume, SourceEvent};
    use crate::ring::{Popped, RingLimits};
    use crate::tally::Settled;

    fn lines(ring: &crate::ring::SourceHandle, start: u64, text: &'static [u8]) -> SourceEvent {
        let records = u32::try_from(text.iter().filter(|byte| **byte == b'\n').count()).unwrap();
        let crc = crc32c::crc32c(text);
        let id = StreamId::from_bytes([7; 16]);
        SourceEvent::Block(SourceBlock {
            block: Block::from_lines(id, start, Bytes::from_static(text), records, crc, 5),
            lane: Lane::Live,
            replayable: true,
            resume: Resume::Nowhere,
            credit: ring.acquire(text.len()).unwrap(),
        })
    }

    fn collect(ring: &Ring) -> Collected {
        let mut blocks = Vec::new();
        while let Some(SourceEvent::Block(block)) = ring.try_pop() {
            blocks.push(block);
        }
        Collected {
            lane: Lane::Live,
            replayable: true,
            blocks,
        }
    }

    #[test]
    fn a_batch_is_what_a_collector_accepts_and_its_life_is_accounted_for() {
        let ring = Ring::new(RingLimits::default());
        let source = ring.source("a", 0);
        source.push(lines(&source, 0, b"one\ntwo\n")).unwrap();
        source.push(lines(&source, 100, b"far\n")).unwrap();
        let batches = BatchesInFlight::new(ring.clone());
        let mut encoder = Encoder::new("zstd:1".parse().unwrap(), batches.clone(), ring.tally());
        let encoded = encoder.encode(collect(&ring)).unwrap();
        assert_eq!((ring.bytes_used(), batches.count()), (0, 1));

        let wire = v1::Batch {
            codec: encoded.codec.into(),
            decompressed_len: encoded.decompressed_len,
            block_count: 2,
            record_count: encoded.record_count,
            sha256: encoded.sha256.to_vec().into(),
            payload: encoded.payload.clone(),
            ..v1::Batch::default()
        };
        let opened = validate(&wire, &BatchLimits::default(), &mut Decompressor::new()).unwrap();
        assert_eq!(opened.len(), 2);
        drop((opened, wire));

        let tally = ring.tally();
        assert_eq!(tally.accounts().positions.in_flight, 12);
        encoded
            .blocks
            .iter()
            .for_each(|block| tally.settled(block, Settled::Acked));
        drop(encoded);
        let positions = tally.accounts().positions;
        assert_eq!(
            (positions.acked, positions.in_flight, positions.residual()),
            (12, 0, 0)
        );
        assert_eq!(batches.count(), 0);
        assert!(matches!(ring.pop(Some(Instant::now())), Popped::Nudged));
    }

    #[test]
    fn a_rush_that_is_over_gives_its_buffers_back() {
        let ring = Ring::new(RingLimits::default());
        let source = ring.source("a", 0);
        let mut encoder = Encoder::new(
            "zstd:1".parse().unwrap(),
            BatchesInFlight::new(ring.clone()),
            ring.tally(),
        );
        let text: &'static [u8] = vec![b'\n'; 100_000].leak();
        for small in std::iter::once(text).chain([&b"x\n"[..]; SMALL_BATCHES_MAX as usize]) {
            assert!(small.len() > 2 || encoder.written.capacity() >= 100_000);
            source.push(lines(&source, 0, small)).unwrap();
            encoder.encode(collect(&ring)).unwrap();
        }
        assert_eq!(encoder.written.capacity(), 0);
    }

    #[test]
    fn an_idle_encoder_gives_its_buffers_back_and_works_on() {
        let ring = Ring::new(RingLimits::default());
        let source = ring.source("a", 0);
        let batches = BatchesInFlight::new(ring.clone());
        let mut encoder = Encoder::new("zstd:1".parse().unwrap(), batches, ring.tally());
        let text: &'static [u8] = vec![b'\n'; 100_000].leak();
        for _ in 0..2 {
            source.push(lines(&source, 0, text)).unwrap();
            assert_eq!(encoder.encode(collect(&ring)).unwrap().record_count, 100_000);
            encoder.idle();
            assert_eq!(encoder.written.capacity(), 0);
        }
    }
}

//! What a frame of the spool holds, to bytes and back. docs/formats/spool.md.

use bytes::Bytes;
use edgelogger_common::block::{Block, BlockKind, ReceiptReason};
use edgelogger_common::codec::sha256;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Batch, Range, SpoolBlock, SpoolEntry, SpoolStream, StreamEnd, spool_entry::Body};
use prost::Message;

use crate::checkpoint::StreamState;
use crate::flow::{CONTENT_CHECK_BYTES_MAX, ContentCheck, EncodedBatch, Resume, SentBlock, StreamClose};
use crate::tally::{Amount, Amounts, amounts};

/// Ranges of a stream that an entry tells as acked; a stream has one or two.
const ACKED_RANGES_MAX: usize = 16;

/// What must be known of a block without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNote {
    /// Its stream.
    pub stream_id: StreamId,
    /// First position.
    pub start: u64,
    /// Position after the last.
    pub end: u64,
    /// Records in it.
    pub record_count: u32,
    /// Positions count records, not bytes.
    pub counts_records: bool,
    /// Of a block that is one receipt.
    pub reason: Option<ReceiptReason>,
    /// Of a block that has receipts.
    pub with_receipts: Option<Box<Amounts>>,
    /// What to remember when it is acknowledged.
    pub resume: Resume,
}

impl BlockNote {
    /// Of a block.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        let header = &block.header;
        let receipts = block.receipts().unwrap_or_default();
        let reason = match &receipts[..] {
            [only] if header.kind == BlockKind::Receipt => Some(only.reason),
            _ => None,
        };
        Self {
            stream_id: header.stream_id,
            start: header.start,
            end: header.end,
            record_count: header.record_count,
            counts_records: header.counts_records,
            reason,
            with_receipts: (!receipts.is_empty()).then(|| Box::new(amounts(block))),
            resume: Resume::Nowhere,
        }
    }

    /// The same, of a source that resumes behind it.
    #[must_use]
    pub fn resuming(self, resume: &Resume) -> Self {
        Self {
            resume: resume.clone(),
            ..self
        }
    }

    /// Positions and records, receipts included.
    #[must_use]
    pub fn amounts(&self) -> Amounts {
        let all = |all| Amount {
            all,
            ..Amount::default()
        };
        self.with_receipts.as_deref().copied().unwrap_or(Amounts {
            positions: all(self.end - self.start),
            records: all(u64::from(self.record_count)),
        })
    }

    /// As the transport knows it.
    #[must_use]
    pub fn sent(&self) -> SentBlock {
        SentBlock {
            stream_id: self.stream_id,
            start: self.start,
            end: self.end,
            record_count: self.record_count,
            resume: self.resume.clone(),
        }
    }

    fn to_proto(&self) -> SpoolBlock {
        let Amounts { positions, records } = self.with_receipts.as_deref().copied().unwrap_or_default();
        let check = match self.resume {
            Resume::Content(check) => check,
            // A journal is never here.
            Resume::Nowhere | Resume::Cursor(_) => ContentCheck::default(),
        };
        SpoolBlock {
            stream_id: self.stream_id.to_proto(),
            start: self.start,
            end: self.end,
            record_count: self.record_count,
            receipt_reason: self.reason.map_or(0, |reason| u32::from(reason as u8)),
            dropped_positions: positions.dropped,
            lost_positions: positions.lost,
            dropped_records: records.dropped,
            lost_records: records.lost,
            counts_records: self.counts_records,
            check_len: check.len,
            check_crc32c: check.crc32c,
        }
    }

    fn read(block: &SpoolBlock) -> Option<Self> {
        let stream_id = StreamId::try_from(&block.stream_id[..]).ok()?;
        let len = block.end.checked_sub(block.start).filter(|len| *len > 0)?;
        let records = u64::from(block.record_count);
        let amounts = Amounts {
            positions: Amount {
                all: len,
                dropped: block.dropped_positions,
                lost: block.lost_positions,
            },
            records: Amount {
                all: records.checked_add(block.dropped_records.checked_add(block.lost_records)?)?,
                dropped: block.dropped_records,
                lost: block.lost_records,
            },
        };
        if block.dropped_positions.checked_add(block.lost_positions)? > len {
            return None;
        }
        let has_receipts = block.dropped_positions + block.lost_positions > 0;
        Some(Self {
            stream_id,
            start: block.start,
            end: block.end,
            record_count: block.record_count,
            counts_records: block.counts_records,
            reason: u8::try_from(block.receipt_reason)
                .ok()
                .and_then(|reason| ReceiptReason::try_from(reason).ok()),
            with_receipts: has_receipts.then(|| Box::new(amounts)),
            resume: match block.check_len {
                0 => Resume::Nowhere,
                len => Resume::Content(ContentCheck {
                    len: len.min(CONTENT_CHECK_BYTES_MAX),
                    crc32c: block.check_crc32c,
                }),
            },
        })
    }
}

/// What a frame was found to hold.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Wall clock when it was written.
    pub written_ns: i64,
    /// The streams it speaks of.
    pub streams: Vec<SpoolStream>,
    /// The batch or the end.
    pub content: Content,
}

/// Of an entry.
#[derive(Debug, Clone)]
pub enum Content {
    /// A batch, checked against its hash.
    Batch(Batch, Vec<BlockNote>),
    /// Where a stream ends.
    End(StreamClose),
}

/// Why the content of a good frame can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not an entry.
    #[error("not an entry of the spool: {0}")]
    Malformed(String),
    /// The payload is not what the encoder hashed.
    #[error("SHA-256 of the batch is not the one it carries")]
    Checksum,
}

/// The bytes of a batch's entry.
pub fn batch(
    batch: &EncodedBatch,
    notes: &[BlockNote],
    streams: Vec<SpoolStream>,
    written_time_ns: i64,
) -> Vec<u8> {
    let body = Batch {
        sequence: 0,
        codec: batch.codec.into(),
        decompressed_len: batch.decompressed_len,
        block_count: u32::try_from(notes.len()).unwrap_or(u32::MAX),
        record_count: batch.record_count,
        sha256: Bytes::copy_from_slice(&batch.sha256),
        payload: batch.payload.clone(),
        lane: batch.lane.into(),
    };
    let entry = SpoolEntry {
        written_time_ns,
        streams,
        blocks: notes.iter().map(BlockNote::to_proto).collect(),
        body: Some(Body::Batch(body)),
    };
    entry.encode_to_vec()
}

/// The bytes of an end's entry.
pub fn end(close: &StreamClose, streams: Vec<SpoolStream>, written_time_ns: i64) -> Vec<u8> {
    let body = StreamEnd {
        sequence: 0,
        stream_id: close.stream_id.to_proto(),
        size: close.size,
        exact: close.exact,
        reason: close.reason.into(),
    };
    let entry = SpoolEntry {
        written_time_ns,
        streams,
        blocks: Vec::new(),
        body: Some(Body::StreamEnd(body)),
    };
    entry.encode_to_vec()
}

/// What is told of a stream in an entry.
pub fn stream(state: StreamState) -> SpoolStream {
    let acked = state.acked.iter().take(ACKED_RANGES_MAX).map(|range| Range {
        start: range.start,
        end: range.end,
    });
    SpoolStream {
        acked: acked.collect(),
        descriptor: Some(state.descriptor),
    }
}

/// Reads an entry, and checks the batch against its hash.
///
/// # Errors
/// Bytes that are none.
pub fn read(payload: Bytes) -> Result<Entry, EntryError> {
    let malformed = |what: &str| EntryError::Malformed(what.to_owned());
    let entry = SpoolEntry::decode(payload).map_err(|error| EntryError::Malformed(error.to_string()))?;
    let content = match entry.body {
        Some(Body::Batch(batch)) => {
            if sha256(&batch.payload).as_slice() != batch.sha256 {
                return Err(EntryError::Checksum);
            }
            let notes: Option<Vec<BlockNote>> = entry.blocks.iter().map(BlockNote::read).collect();
            let notes = notes.ok_or_else(|| malformed("a block without a range"))?;
            Content::Batch(batch, notes)
        }
        Some(Body::StreamEnd(end)) => Content::End(StreamClose {
            stream_id: StreamId::try_from(&end.stream_id[..])
                .map_err(|_| malformed("an end without a stream"))?,
            size: end.size,
            exact: end.exact,
            reason: end.reason(),
        }),
        None => return Err(malformed("neither a batch nor an end")),
    };
    Ok(Entry {
        written_ns: entry.written_time_ns,
        streams: entry.streams,
        content,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edgelogger_common::block::{MetricBlockBuilder, MetricRow};
    use edgelogger_proto::v1::{Codec, Lane, StreamEndReason};
    use proptest::prelude::*;

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([3; 16]);

    /// Some records, with receipts of these reasons before them.
    fn block(start: u64, records: u64, receipts: &[(u64, ReceiptReason)]) -> Block {
        let mut builder = MetricBlockBuilder::new(STREAM, start);
        for (len, reason) in receipts {
            builder.push_receipt(*len, *reason, *len, true);
        }
        for _ in 0..records {
            builder.push(MetricRow {
                name: "m".into(),
                value: Some(1.0),
                source_len: 1,
                ..MetricRow::default()
            });
        }
        builder.finish().unwrap()
    }

    fn batch_of(blocks: &[Block], notes: &[BlockNote]) -> EncodedBatch {
        let mut payload = Vec::new();
        edgelogger_common::block::batch::write_payload(blocks, &mut payload).unwrap();
        EncodedBatch {
            codec: Codec::None,
            decompressed_len: u32::try_from(payload.len()).unwrap(),
            record_count: blocks.iter().map(|block| block.header.record_count).sum(),
            sha256: sha256(&payload),
            payload: payload.into(),
            lane: Lane::Live,
            blocks: notes.iter().map(BlockNote::sent).collect(),
            in_flight: Arc::default(),
        }
    }

    fn reason() -> impl Strategy<Value = ReceiptReason> {
        prop_oneof![
            Just(ReceiptReason::Filtered),
            Just(ReceiptReason::QueueFull),
            Just(ReceiptReason::Crashed),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_of_a_batch_is_what_is_read(
            parts in prop::collection::vec((1u64..20, prop::collection::vec((1u64..9, reason()), 0..3)), 1..5),
            flip in any::<prop::sample::Index>(),
        ) {
            let mut at = 5;
            let mut blocks = Vec::new();
            for (records, receipts) in parts {
                blocks.push(block(at, records, &receipts));
                at = blocks[blocks.len() - 1].header.end + 1;
            }
            let resume = Resume::Content(ContentCheck { len: 7, crc32c: 9 });
            let mut notes: Vec<BlockNote> = blocks.iter().map(BlockNote::of).collect();
            notes[0] = notes[0].clone().resuming(&resume);
            for (block, note) in blocks.iter().zip(&notes) {
                prop_assert_eq!(note.amounts(), amounts(block));
            }
            let mut bytes = batch(&batch_of(&blocks, &notes), &notes, Vec::new(), 77);
            let entry = read(bytes.clone().into()).unwrap();
            prop_assert_eq!(entry.written_ns, 77);
            match entry.content {
                Content::Batch(_, found) => prop_assert_eq!(found, notes),
                Content::End(_) => prop_assert!(false, "a batch"),
            }
            // The frame's checksum keeps such bytes away; should they come all the same, nothing panics.
            let at = flip.index(bytes.len());
            bytes[at] ^= 0xff;
            let _ = read(bytes.into());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(bytes.into());
        }
    }

    #[test]
    fn a_receipt_keeps_its_reason_and_an_end_its_size() {
        let receipt = Block::receipt(STREAM, true, 5, 9, ReceiptReason::Crashed, 4, true);
        assert_eq!(BlockNote::of(&receipt).reason, Some(ReceiptReason::Crashed));
        assert_eq!(
            BlockNote::of(&block(0, 1, &[(3, ReceiptReason::Crashed)])).reason,
            None
        );
        let close = StreamClose {
            stream_id: STREAM,
            size: 9,
            exact: true,
            reason: StreamEndReason::ProcessRestarted,
        };
        match read(end(&close, Vec::new(), 1).into()).unwrap().content {
            Content::End(found) => assert_eq!(found, close),
            Content::Batch(..) => panic!("an end"),
        }
    }

    #[test]
    fn a_payload_that_was_changed_is_not_sent() {
        let blocks = [block(0, 3, &[])];
        let notes: Vec<BlockNote> = blocks.iter().map(BlockNote::of).collect();
        let mut changed = batch_of(&blocks, &notes);
        changed.sha256[0] ^= 1;
        assert_eq!(
            read(batch(&changed, &notes, Vec::new(), 1).into()).err(),
            Some(EntryError::Checksum)
        );
    }
}

//! Frames to bytes and back. A batch's payload is never copied here: its frame is a short head and the payload itself.

use bytes::{BufMut, Bytes};
use edgelogger_proto::v1::{Batch, Frame, frame::Body};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::flow::EncodedBatch;

/// Number of `Frame.batch`.
const BATCH_FIELD: u32 = 6;
/// Number of `Batch.payload`.
const PAYLOAD_FIELD: u32 = 7;

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// The message, or what comes before the payload.
    pub head: Bytes,
    /// The rest of a batch's message, else empty.
    pub payload: Bytes,
}

impl Outbound {
    /// A message of one of the small frames.
    #[must_use]
    pub fn frame(body: Body) -> Self {
        Self {
            head: Frame { body: Some(body) }.encode_to_vec().into(),
            payload: Bytes::new(),
        }
    }

    /// A message of a batch. Protobuf does not mind the order of fields, so the payload comes last.
    #[must_use]
    pub fn batch(sequence: u64, batch: &EncodedBatch) -> Self {
        let fields = Batch {
            sequence,
            codec: batch.codec.into(),
            decompressed_len: batch.decompressed_len,
            block_count: u32::try_from(batch.blocks.len()).unwrap_or(u32::MAX),
            record_count: batch.record_count,
            sha256: Bytes::copy_from_slice(&batch.sha256),
            payload: Bytes::new(),
            lane: batch.lane.into(),
        };
        let payload_len = batch.payload.len() as u64;
        let rest_len = key_len(PAYLOAD_FIELD) + encoded_len_varint(payload_len) + batch.payload.len();
        let mut head = Vec::with_capacity(128);
        encode_key(BATCH_FIELD, WireType::LengthDelimited, &mut head);
        encode_varint((fields.encoded_len() + rest_len) as u64, &mut head);
        head.put_slice(&fields.encode_to_vec());
        encode_key(PAYLOAD_FIELD, WireType::LengthDelimited, &mut head);
        encode_varint(payload_len, &mut head);
        Self {
            head: head.into(),
            payload: batch.payload.clone(),
        }
    }

    /// Length of the message in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// The message in pieces of at most `max` bytes; a message that fits one piece is one piece.
    pub fn pieces(self, max: usize) -> impl Iterator<Item = Bytes> {
        let Self {
            mut head,
            mut payload,
        } = self;
        if !payload.is_empty() && head.len() + payload.len() <= max {
            head = [head, std::mem::take(&mut payload)].concat().into();
        }
        std::iter::from_fn(move || {
            let from = if head.is_empty() { &mut payload } else { &mut head };
            let piece = from.split_to(from.len().min(max));
            (!piece.is_empty()).then_some(piece)
        })
    }
}

/// Takes a message apart.
///
/// # Errors
/// Bytes that are no frame.
pub fn decode(message: Bytes) -> Result<Frame, prost::DecodeError> {
    Frame::decode(message)
}

#[cfg(test)]
mod tests {
    use edgelogger_common::stream::StreamId;
    use edgelogger_proto::v1::{Codec, Goodbye, Lane};

    use super::*;
    use crate::flow::{Resume, SentBlock};

    fn batch(payload_len: usize) -> EncodedBatch {
        let stream_id = StreamId::from_bytes([1; 16]);
        let block = SentBlock {
            stream_id,
            start: 0,
            end: 1,
            record_count: 1,
            resume: Resume::Nowhere,
        };
        EncodedBatch {
            codec: Codec::Zstd,
            decompressed_len: 1000,
            record_count: 3,
            sha256: [3; 32],
            payload: vec![7; payload_len].into(),
            lane: Lane::Backfill,
            blocks: vec![block; 2],
            in_flight: std::sync::Arc::default(),
        }
    }

    fn joined(message: Outbound, max: usize) -> Bytes {
        let pieces: Vec<Bytes> = message.pieces(max).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= max && !piece.is_empty()));
        pieces.concat().into()
    }

    #[test]
    fn a_batch_written_by_hand_decodes_to_the_same_batch() {
        for payload_len in [0, 1, 100, 127, 128, 20_000, 1 << 20] {
            let encoded = batch(payload_len);
            let frame = decode(joined(Outbound::batch(9, &encoded), 64 * 1024)).unwrap();
            let Some(Body::Batch(found)) = frame.body else {
                panic!("not a batch")
            };
            assert_eq!((found.sequence, found.block_count, found.record_count), (9, 2, 3));
            assert_eq!(
                (found.codec(), found.lane(), found.decompressed_len),
                (Codec::Zstd, Lane::Backfill, 1000)
            );
            assert_eq!(
                (found.sha256.as_ref(), found.payload),
                (&[3; 32][..], encoded.payload)
            );
        }
    }

    #[test]
    fn a_message_that_fits_is_one_piece_and_a_payload_is_not_copied() {
        let small = Outbound::batch(1, &batch(100));
        assert_eq!(small.pieces(1024).count(), 1);
        let large = batch(3000);
        let pieces: Vec<Bytes> = Outbound::batch(1, &large).pieces(1024).collect();
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces[1].as_ptr(), large.payload.as_ptr());
        let goodbye = Body::Goodbye(Goodbye {
            code: "E0222".into(),
            ..Goodbye::default()
        });
        assert_eq!(
            decode(joined(Outbound::frame(goodbye.clone()), 3)).unwrap().body,
            Some(goodbye)
        );
    }
}

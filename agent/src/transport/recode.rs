//! Batches made again: what is left of a rejected one, and what a collector's limits ask for. Rare, so that nothing
//! here needs to be fast; pure computation.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use edgelogger_common::block::{Block, ColumnId, ReceiptReason, batch};
use edgelogger_common::codec::{
    Codec, CodecSetting, Compressor, DecodeLimits, Decompressor, RATIO_EXEMPT_BYTES, sha256,
};
use edgelogger_proto::v1;

use super::CollectorLimits;
use crate::flow::{EncodedBatch, Resume, SentBlock};

/// A batch that is not acknowledged yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub batch: EncodedBatch,
    /// Of each block: is it the receipt of a range that was rejected? Its `SentBlock` is still the one of the block
    /// that was rejected. Empty: none is.
    pub is_rejection: Vec<bool>,
}

/// One block of it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub block: Block,
    pub sent: SentBlock,
    pub is_rejection: bool,
}

impl From<EncodedBatch> for Pending {
    fn from(batch: EncodedBatch) -> Self {
        Self {
            batch,
            is_rejection: Vec::new(),
        }
    }
}

impl Pending {
    pub fn is_rejection(&self, index: usize) -> bool {
        self.is_rejection.get(index).copied().unwrap_or(false)
    }

    pub fn payload_bytes(&self) -> u64 {
        self.batch.payload.len() as u64
    }

    /// The blocks, or `None` where our own memory of them is damaged.
    pub fn open(&self) -> Option<Vec<Part>> {
        let batch = &self.batch;
        if sha256(&batch.payload) != batch.sha256 {
            return None;
        }
        let limits = batch::BatchLimits {
            decode: DecodeLimits {
                compressed_bytes_max: usize::MAX,
                decompressed_bytes_max: usize::MAX,
                ratio_max: usize::MAX,
                ..DecodeLimits::default()
            },
            blocks_max: u32::MAX,
            records_max: u32::MAX,
            record_bytes_max: u32::MAX,
            expanded_bytes_max: u64::MAX,
        };
        let wire = v1::Batch {
            codec: batch.codec.into(),
            decompressed_len: batch.decompressed_len,
            block_count: u32::try_from(batch.blocks.len()).ok()?,
            record_count: batch.record_count,
            payload: batch.payload.clone(),
            ..v1::Batch::default()
        };
        let blocks = batch::open_unhashed(&wire, &limits, &mut Decompressor::new()).ok()?;
        let parts = blocks.into_iter().zip(&batch.blocks).enumerate();
        Some(
            parts
                .map(|(index, (block, sent))| self.part(index, block, sent))
                .collect(),
        )
    }

    fn part(&self, index: usize, block: Block, sent: &SentBlock) -> Part {
        Part {
            block,
            sent: sent.clone(),
            is_rejection: self.is_rejection(index),
        }
    }

    /// A batch of these parts in this codec. Whatever the payload of `self` is counted for (the bytes in flight) goes
    /// on as long as the new one lives.
    pub fn remake(&self, parts: &[Part], codec: Codec) -> Self {
        let blocks: Vec<Block> = parts.iter().map(|part| part.block.clone()).collect();
        let mut plain = Vec::new();
        batch::write_payload(&blocks, &mut plain)
            .expect("these blocks were read from a payload, or are receipts");
        let decompressed_len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        let mut payload = Vec::new();
        let compressed = Compressor::new().compress(CodecSetting::default_of(codec), &plain, &mut payload);
        let (codec, payload) = match compressed {
            Ok(()) => (codec, payload),
            // No memory for a context: every collector opens what is not compressed.
            Err(_) => (Codec::None, plain),
        };
        let batch = EncodedBatch {
            codec: codec.into(),
            decompressed_len,
            record_count: blocks.iter().map(|block| block.header.record_count).sum(),
            sha256: sha256(&payload),
            payload: Bytes::from_owner(Remade {
                bytes: payload,
                _original: self.batch.payload.clone(),
            }),
            lane: self.batch.lane,
            blocks: parts.iter().map(|part| part.sent.clone()).collect(),
            in_flight: Arc::clone(&self.batch.in_flight),
        };
        Self {
            batch,
            is_rejection: parts.iter().map(|part| part.is_rejection).collect(),
        }
    }

    pub fn codec(&self) -> Codec {
        Codec::try_from(self.batch.codec).unwrap_or(Codec::None)
    }
}

/// A payload that keeps alive the one it was made from.
struct Remade {
    bytes: Vec<u8>,
    _original: Bytes,
}

impl AsRef<[u8]> for Remade {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Both halves of a block, cut between two records. `None` where there is no such place; a block with receipts stays
/// whole, because it is accounted for as a whole.
fn halves(part: &Part) -> Option<[Part; 2]> {
    let has_receipts = part.block.column(ColumnId::RECEIPTS).is_some();
    if part.is_rejection || has_receipts || part.block.header.record_count < 2 {
        return None;
    }
    let (first, second) = part.block.cut(part.block.header.record_count / 2).ok()?;
    let sent = |block: &Block, resume| SentBlock {
        stream_id: part.sent.stream_id,
        start: block.header.start,
        end: block.header.end,
        record_count: block.header.record_count,
        resume,
    };
    // How to resume was remembered for the end only.
    let first_sent = sent(&first, Resume::Nowhere);
    let second_sent = sent(&second, part.sent.resume.clone());
    Some(
        [(first, first_sent), (second, second_sent)].map(|(block, sent)| Part {
            block,
            sent,
            is_rejection: false,
        }),
    )
}

/// What to do about a rejected batch.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Blocks that were bad, for the quarantine; those that can't be read any more are missing here.
    pub bad: Vec<Block>,
    /// Their ranges.
    pub rejected: Vec<SentBlock>,
    /// Receipts that were rejected: nothing more can be said about these ranges.
    pub given_up: Vec<SentBlock>,
    /// What is sent instead.
    pub again: Vec<Pending>,
}

/// `named`: indices of the bad blocks; empty: the batch as a whole. `is_limit`: a limit was exceeded, perhaps by one
/// record only, so a bad block is cut until that one stands alone. `counts_records`: of the streams of the batch.
pub(super) fn after_reject(
    pending: &Pending,
    named: &HashSet<usize>,
    is_limit: bool,
    counts_records: impl Fn(&SentBlock) -> bool,
) -> Verdict {
    let count = pending.batch.blocks.len();
    let whole = named.is_empty() || named.iter().any(|index| *index >= count);
    let Some(mut parts) = pending.open() else {
        return all_unreadable(pending, counts_records);
    };
    if whole && count > 1 {
        let second = parts.split_off(count / 2);
        let again = [parts, second].map(|half| pending.remake(&half, pending.codec()));
        return Verdict {
            again: again.into(),
            ..Verdict::default()
        };
    }
    let mut verdict = Verdict::default();
    let mut left = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        if !whole && !named.contains(&index) {
            left.push(part);
        } else if part.is_rejection {
            verdict.given_up.push(part.sent);
        } else if let Some(halves) = is_limit.then(|| halves(&part)).flatten() {
            left.extend(halves);
        } else {
            left.push(receipt(part.sent.clone(), part.block.header.counts_records));
            verdict.rejected.push(part.sent);
            verdict.bad.push(part.block);
        }
    }
    if !left.is_empty() {
        verdict.again.push(pending.remake(&left, pending.codec()));
    }
    verdict
}

fn all_unreadable(pending: &Pending, counts_records: impl Fn(&SentBlock) -> bool) -> Verdict {
    let blocks = pending.batch.blocks.iter().enumerate();
    let (given_up, rejected): (Vec<_>, Vec<_>) = blocks
        .map(|(index, sent)| (pending.is_rejection(index), sent.clone()))
        .partition(|(again, _)| *again);
    let rejected: Vec<SentBlock> = rejected.into_iter().map(|(_, sent)| sent).collect();
    let receipts: Vec<Part> = rejected
        .iter()
        .map(|sent| receipt(sent.clone(), counts_records(sent)))
        .collect();
    let again = if receipts.is_empty() {
        Vec::new()
    } else {
        vec![pending.remake(&receipts, Codec::None)]
    };
    Verdict {
        given_up: given_up.into_iter().map(|(_, sent)| sent).collect(),
        rejected,
        again,
        bad: Vec::new(),
    }
}

fn receipt(sent: SentBlock, counts_records: bool) -> Part {
    let reason = ReceiptReason::Rejected;
    let count = u64::from(sent.record_count);
    let block = Block::receipt(
        sent.stream_id,
        counts_records,
        sent.start,
        sent.end,
        reason,
        count,
        true,
    );
    Part {
        block,
        sent,
        is_rejection: true,
    }
}

/// The batch made again for these limits; `None` where it fits as it is, or can't be made to fit (the collector then
/// rejects it, and says why).
pub(super) fn fit(pending: &Pending, limits: &CollectorLimits) -> Option<Vec<Pending>> {
    let misfit = misfit(&pending.batch, limits)?;
    if misfit == Misfit::Size && pending.batch.blocks.len() < 2 && pending.batch.record_count < 2 {
        return None;
    }
    let parts = pending.open()?;
    let codec = match misfit {
        Misfit::Size => pending.codec(),
        Misfit::Codec => limits
            .codecs
            .iter()
            .find_map(|codec| Codec::try_from(*codec).ok())
            .unwrap_or(Codec::None),
        Misfit::Ratio => Codec::None,
    };
    let mut made = Vec::new();
    make_fit(pending, parts, codec, limits, &mut made);
    Some(made)
}

fn make_fit(
    pending: &Pending,
    mut parts: Vec<Part>,
    codec: Codec,
    limits: &CollectorLimits,
    made: &mut Vec<Pending>,
) {
    let remade = pending.remake(&parts, codec);
    let fits = misfit(&remade.batch, limits).is_none();
    if !fits && parts.len() > 1 {
        let second = parts.split_off(parts.len() / 2);
        make_fit(pending, parts, codec, limits, made);
        make_fit(pending, second, codec, limits, made);
    } else if !fits && let Some(halves) = parts.first().and_then(halves) {
        for half in halves {
            make_fit(pending, vec![half], codec, limits, made);
        }
    } else {
        made.push(remade);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misfit {
    Codec,
    Ratio,
    Size,
}

fn misfit(batch: &EncodedBatch, limits: &CollectorLimits) -> Option<Misfit> {
    let (compressed, plain) = (batch.payload.len() as u64, u64::from(batch.decompressed_len));
    if !limits.codecs.is_empty() && batch.codec != v1::Codec::None && !limits.codecs.contains(&batch.codec) {
        return Some(Misfit::Codec);
    }
    if plain > RATIO_EXEMPT_BYTES as u64 && plain > compressed.saturating_mul(limits.ratio_max) {
        return Some(Misfit::Ratio);
    }
    let too_large = compressed > limits.batch_bytes_max
        || plain > limits.decompressed_bytes_max
        || batch.blocks.len() as u64 > limits.blocks_max;
    too_large.then_some(Misfit::Size)
}

#[cfg(test)]
mod tests {
    use edgelogger_common::block::{BlockView, Receipt};
    use edgelogger_common::stream::StreamId;
    use edgelogger_proto::v1::Lane;

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([5; 16]);

    fn pending(text: &'static [u8]) -> Pending {
        let count = u32::try_from(memchr::memchr_iter(b'\n', text).count()).unwrap();
        let block = Block::from_lines(
            STREAM,
            0,
            Bytes::from_static(text),
            count,
            crc32c::crc32c(text),
            1,
        );
        let mut plain = Vec::new();
        batch::write_payload(std::slice::from_ref(&block), &mut plain).unwrap();
        let sent = SentBlock {
            stream_id: STREAM,
            start: 0,
            end: text.len() as u64,
            record_count: count,
            resume: Resume::Nowhere,
        };
        Pending::from(EncodedBatch {
            codec: Codec::None.into(),
            decompressed_len: u32::try_from(plain.len()).unwrap(),
            record_count: count,
            sha256: sha256(&plain),
            payload: plain.into(),
            lane: Lane::Live,
            blocks: vec![sent],
            in_flight: Arc::default(),
        })
    }

    /// Start, end, bodies and receipts of a block.
    type Accepted = (u64, u64, Vec<Vec<u8>>, Vec<Receipt>);

    /// A collector that takes no record above 8 bytes: what it accepts of a batch, in order.
    fn accepted_by_a_strict_collector(first: Pending) -> Vec<Accepted> {
        let mut waiting = vec![first];
        let mut accepted = Vec::new();
        while let Some(next) = waiting.pop() {
            let parts = next.open().unwrap();
            let bodies = |part: &Part| match part.block.view().unwrap() {
                BlockView::Log(view) => view.rows().map(|row| row.body).collect(),
                _ => Vec::new(),
            };
            let is_bad = |part: &Part| bodies(part).iter().any(|body: &Vec<u8>| body.len() > 8);
            let bad: HashSet<usize> = (0..parts.len()).filter(|index| is_bad(&parts[*index])).collect();
            if bad.is_empty() {
                accepted.extend(parts.iter().map(|part| {
                    let receipts = part.block.view().unwrap().receipts().to_vec();
                    (part.sent.start, part.sent.end, bodies(part), receipts)
                }));
            } else {
                let verdict = after_reject(&next, &bad, true, |_| false);
                waiting.extend(verdict.again.into_iter().rev());
            }
        }
        accepted.sort_by_key(|part| part.0);
        accepted
    }

    #[test]
    fn a_limit_costs_the_record_that_exceeds_it_and_no_other() {
        let accepted =
            accepted_by_a_strict_collector(pending(b"one\ntwo\nthree is too long\nfour\nfive\nsix\n"));
        let ends: Vec<_> = accepted.iter().map(|part| (part.0, part.1)).collect();
        assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ends:?}");
        assert_eq!((ends[0].0, ends[ends.len() - 1].1), (0, 40));
        let bodies: Vec<Vec<u8>> = accepted.iter().flat_map(|part| part.2.clone()).collect();
        assert_eq!(bodies, [&b"one"[..], b"two", b"four", b"five", b"six"]);
        let receipts: Vec<Receipt> = accepted.into_iter().flat_map(|part| part.3).collect();
        assert_eq!(receipts.len(), 1);
        assert_eq!(
            (receipts[0].len, receipts[0].reason, receipts[0].count),
            (18, ReceiptReason::Rejected, 1)
        );
    }

    #[test]
    fn a_block_beyond_the_size_of_a_batch_is_cut_until_it_fits() {
        let limits = CollectorLimits {
            decompressed_bytes_max: 150,
            ..CollectorLimits::default()
        };
        let text: &[u8] =
            b"a line of forty bytes, the line feed incl\na line of forty bytes, the line feed incl\n\
            a line of forty bytes, the line feed incl\na line of forty bytes, the line feed incl\n";
        let made = fit(&pending(text), &limits).unwrap();
        assert!(made.len() > 1);
        assert!(made.iter().all(|part| misfit(&part.batch, &limits).is_none()));
        let records: u32 = made.iter().map(|part| part.batch.record_count).sum();
        assert_eq!(records, 4);
    }
}

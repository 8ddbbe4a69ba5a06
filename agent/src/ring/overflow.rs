//! What a source that can't wait keeps while the ring is full, and the receipts for what it can't keep.
//!
//! A scrape or a measurement happens now or never. When the ring has no room its block waits here; beyond
//! `bytes_max` the *oldest* block gives way to a receipt for its range (`queue_full`, with the exact count), because
//! the newest say most about what is going on. Order and positions are those in which blocks came, so the stream
//! stays whole: what is missing is named.

use std::collections::VecDeque;

use edgelogger_common::block::{Block, BlockKind, ReceiptReason};
use edgelogger_proto::v1::Lane;

use super::SourceHandle;
use crate::flow::{Resume, SourceBlock, SourceEvent};

/// Receipts are small (about 70 bytes) and neighbours become one, so there is at most one receipt per stream more
/// than there are blocks; this is what one is charged at.
const RECEIPT_BYTES: usize = 128;

/// The queue of one volatile source.
#[derive(Debug)]
pub struct Overflow {
    blocks: VecDeque<Block>,
    bytes: usize,
    bytes_max: usize,
}

impl Overflow {
    /// An empty queue that keeps `bytes_max` bytes of blocks, and always the newest block.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Blocks and receipts that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Does nothing wait?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds the newest block.
    pub fn push(&mut self, block: Block) {
        self.bytes += charge(&block);
        self.blocks.push_back(block);
        while self.bytes > self.bytes_max && self.replace_oldest() {}
    }

    /// Replaces the oldest block that is not the newest by a receipt; `false` when there is none.
    fn replace_oldest(&mut self) -> bool {
        let newest = self.blocks.len() - 1;
        let Some(at) = self
            .blocks
            .iter()
            .take(newest)
            .position(|block| block.header.kind != BlockKind::Receipt)
        else {
            return false;
        };
        let block = &self.blocks[at];
        let receipt = lost(block, block.header.start, known_count(block));
        self.bytes -= charge(block);
        self.bytes += charge(&receipt);
        self.blocks[at] = receipt;
        self.join_receipts(at);
        true
    }

    /// Makes the receipt at `at` one with the receipt before it.
    fn join_receipts(&mut self, at: usize) {
        let Some(before) = at.checked_sub(1).and_then(|before| self.blocks.get(before)) else {
            return;
        };
        let receipt = &self.blocks[at];
        let neighbours = before.header.kind == BlockKind::Receipt
            && before.header.stream_id == receipt.header.stream_id
            && before.header.end == receipt.header.start;
        if !neighbours {
            return;
        }
        let joined = lost(
            receipt,
            before.header.start,
            known_count(before) + known_count(receipt),
        );
        self.blocks[at - 1] = joined;
        self.blocks.remove(at);
        self.bytes -= RECEIPT_BYTES;
    }

    /// Empties it: a receipt for everything that waits, because nothing will ever be sent again.
    pub fn take_as_receipts(&mut self) -> impl Iterator<Item = Block> {
        self.bytes = 0;
        std::mem::take(&mut self.blocks)
            .into_iter()
            .map(|block| match block.header.kind {
                BlockKind::Receipt => block,
                _ => lost(&block, block.header.start, known_count(&block)),
            })
    }

    /// Moves what there is room for into the ring, oldest first. Never waits.
    pub fn drain_into(&mut self, ring: &SourceHandle) {
        while let Some(block) = self.blocks.front() {
            let Some(credit) = ring.try_acquire(charge(block)) else {
                return;
            };
            let event = SourceEvent::Block(SourceBlock {
                block: block.clone(),
                lane: Lane::Live,
                replayable: false,
                resume: Resume::Nowhere,
                credit,
            });
            if ring.try_push(event).is_err() {
                return;
            }
            if let Some(gone) = self.blocks.pop_front() {
                self.bytes -= charge(&gone);
            }
        }
    }
}

fn charge(block: &Block) -> usize {
    if block.header.kind == BlockKind::Receipt {
        RECEIPT_BYTES
    } else {
        block.encoded_len()
    }
}

fn known_count(block: &Block) -> u64 {
    let receipts = block.receipts().unwrap_or_default();
    u64::from(block.header.record_count) + receipts.iter().map(|receipt| receipt.count).sum::<u64>()
}

fn lost(block: &Block, start: u64, count: u64) -> Block {
    let header = &block.header;
    let reason = ReceiptReason::QueueFull;
    Block::receipt(
        header.stream_id,
        header.counts_records,
        start,
        header.end,
        reason,
        count,
        true,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::{Popped, Ring, RingLimits};
    use edgelogger_common::block::{MetricBlockBuilder, MetricRow};
    use edgelogger_common::stream::StreamId;

    fn samples(start: u64, count: u64) -> Block {
        let mut builder = MetricBlockBuilder::new(StreamId::from_bytes([1; 16]), start);
        for _ in 0..count {
            builder.push(MetricRow {
                name: "m".into(),
                value: Some(1.0),
                source_len: 1,
                ..MetricRow::default()
            });
        }
        builder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn nothing_goes_missing_without_a_receipt(
            counts in prop::collection::vec(1u64..5, 1..40),
            bytes_max in 0usize..4000,
        ) {
            let mut overflow = Overflow::new(bytes_max);
            let mut at = 0;
            for count in &counts {
                overflow.push(samples(at, *count));
                at += count;
                prop_assert!(overflow.bytes <= bytes_max || overflow.len() <= 2, "{} > {bytes_max}", overflow.bytes);
            }
            let ring = Ring::new(RingLimits { slots: 64, bytes: 1 << 20 });
            let source = ring.source("test", 0);
            overflow.drain_into(&source);
            prop_assert!(overflow.is_empty());
            prop_assert_eq!(overflow.bytes, 0);
            let (mut next, mut accounted) = (0, 0);
            while let Some(SourceEvent::Block(block)) = ring.try_pop() {
                prop_assert_eq!(block.block.header.start, next);
                next = block.block.header.end;
                accounted += known_count(&block.block);
            }
            prop_assert_eq!((next, accounted), (at, at));
        }
    }

    #[test]
    fn what_finds_no_room_in_the_ring_stays_in_order() {
        let ring = Ring::new(RingLimits {
            slots: 1,
            bytes: 1 << 20,
        });
        let source = ring.source("test", 0);
        let mut overflow = Overflow::new(1 << 20);
        overflow.push(samples(0, 1));
        overflow.push(samples(1, 1));
        overflow.drain_into(&source);
        assert_eq!(overflow.len(), 1);
        assert!(matches!(ring.pop(None), Popped::Event(_)));
        overflow.drain_into(&source);
        assert!(overflow.is_empty());
    }
}

//! Ranges that were dropped or damaged and are not told yet; neighbours are joined, so that an outage of weeks is one
//! receipt a stream.

use std::collections::BTreeMap;
use std::time::Duration;

use edgelogger_common::block::{Block, ReceiptReason};
use edgelogger_common::stream::StreamId;

use super::entry::BlockNote;
use crate::flow::Resume;
use crate::tally::InFlight;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Gap {
    end: u64,
    reason: ReceiptReason,
    records: u64,
    counts_records: bool,
    /// Behind its end.
    resume: Resume,
}

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    ranges: BTreeMap<(StreamId, u64), Gap>,
    in_flight: InFlight,
    since: Option<Duration>,
}

impl Gaps {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Since when the oldest waits.
    pub const fn since(&self) -> Option<Duration> {
        self.since
    }

    pub fn holds(&self, stream_id: &StreamId) -> bool {
        let of_stream = (*stream_id, 0)..=(*stream_id, u64::MAX);
        self.ranges.range(of_stream).next().is_some()
    }

    /// These blocks are gone, with what was in flight of them. A block that is a receipt keeps its own reason.
    pub fn add(&mut self, notes: &[BlockNote], reason: ReceiptReason, in_flight: InFlight, since: Duration) {
        for note in notes {
            let gap = Gap {
                end: note.end,
                reason: note.reason.unwrap_or(reason),
                records: note.amounts().records.all,
                counts_records: note.counts_records,
                resume: note.resume.clone(),
            };
            self.insert(note.stream_id, note.start, gap);
        }
        self.in_flight.absorb(in_flight);
        self.since.get_or_insert(since);
    }

    fn insert(&mut self, stream_id: StreamId, mut start: u64, mut gap: Gap) {
        let before = self.ranges.range(..(stream_id, start)).next_back();
        if let Some((&key, before)) = before
            && (key.0, before.end, before.reason) == (stream_id, start, gap.reason)
        {
            start = key.1;
            gap.records += before.records;
            self.ranges.remove(&key);
        }
        let behind = (stream_id, gap.end);
        if let Some(next) = self.ranges.get(&behind).filter(|next| next.reason == gap.reason) {
            gap.end = next.end;
            gap.records += next.records;
            gap.resume = next.resume.clone();
            self.ranges.remove(&behind);
        }
        self.ranges.insert((stream_id, start), gap);
    }

    /// All of them as blocks, each with how its source resumes behind it; and what is in flight of them.
    pub fn take(&mut self) -> (Vec<(Block, Resume)>, InFlight) {
        let Self {
            ranges, in_flight, ..
        } = std::mem::take(self);
        let block = |((id, start), gap): ((StreamId, u64), Gap)| {
            let block = Block::receipt(
                id,
                gap.counts_records,
                start,
                gap.end,
                gap.reason,
                gap.records,
                true,
            );
            (block, gap.resume)
        };
        (ranges.into_iter().map(block).collect(), in_flight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(start: u64, end: u64) -> BlockNote {
        BlockNote {
            stream_id: StreamId::from_bytes([1; 16]),
            start,
            end,
            record_count: u32::try_from(end - start).unwrap(),
            counts_records: true,
            reason: None,
            with_receipts: None,
            resume: Resume::Nowhere,
        }
    }

    proptest! {
        #[test]
        fn what_touches_becomes_one_receipt_and_every_record_is_counted(
            lens in prop::collection::vec((1u64..5, any::<bool>()), 1..40),
            order in any::<u64>(),
        ) {
            let mut at = 0;
            let mut notes = Vec::new();
            let mut expected = 0;
            let mut was_there = false;
            for (len, is_there) in lens {
                if is_there {
                    notes.push(note(at, at + len));
                    expected += usize::from(!was_there);
                }
                was_there = is_there;
                at += len;
            }
            let records: u64 = notes.iter().map(|note| note.end - note.start).sum();
            notes.sort_by_key(|note| note.start.wrapping_mul(order | 1));
            let mut gaps = Gaps::default();
            for note in notes {
                gaps.add(&[note], ReceiptReason::QueueFull, InFlight::default(), Duration::ZERO);
            }
            let (blocks, _) = gaps.take();
            prop_assert_eq!(blocks.len(), expected);
            let told: u64 = blocks.iter().flat_map(|(block, _)| block.receipts().unwrap()).map(|one| one.count).sum();
            prop_assert_eq!(told, records);
        }
    }

    #[test]
    fn different_reasons_stay_apart() {
        let mut gaps = Gaps::default();
        gaps.add(
            &[note(0, 5)],
            ReceiptReason::QueueFull,
            InFlight::default(),
            Duration::ZERO,
        );
        gaps.add(
            &[note(5, 9)],
            ReceiptReason::Damaged,
            InFlight::default(),
            Duration::ZERO,
        );
        assert!(gaps.holds(&StreamId::from_bytes([1; 16])) && !gaps.holds(&StreamId::from_bytes([0; 16])));
        assert_eq!(gaps.take().0.len(), 2);
        assert!(gaps.is_empty());
    }
}

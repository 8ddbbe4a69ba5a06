use std::collections::HashMap;

use bytes::Bytes;
use edgelogger_common::block::{Block, LogBlockBuilder, LogRow};
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamEndReason;
use proptest::prelude::*;

use super::*;
use crate::flow::Resume;
use crate::ring::{CreditPermit, Ring, RingLimits};

const SECOND: Duration = Duration::from_secs(1);

fn lines(stream: u8, start: u64, len: usize) -> SourceBlock {
    let bytes = Bytes::from([vec![b'x'; len - 1], vec![b'\n']].concat());
    let crc = crc32c::crc32c(&bytes);
    let block = Block::from_lines(StreamId::from_bytes([stream; 16]), start, bytes, 1, crc, 5);
    SourceBlock {
        block,
        lane: Lane::Live,
        replayable: true,
        resume: Resume::Cursor(format!("{}", start + len as u64)),
        credit: CreditPermit::uncounted(),
    }
}

fn event(block: SourceBlock) -> SourceEvent {
    SourceEvent::Block(block)
}

fn close(stream: u8) -> SourceEvent {
    SourceEvent::End(StreamClose {
        stream_id: StreamId::from_bytes([stream; 16]),
        size: 0,
        exact: true,
        reason: StreamEndReason::Deleted,
    })
}

fn batch(action: Option<Action>) -> Collected {
    match action {
        Some(Action::Batch(batch)) => batch,
        other => panic!("expected a batch, got {other:?}"),
    }
}

/// A batcher that sent something at 0 s, so that the line is not silent.
fn busy(size: BatchSize) -> Batcher {
    let mut batcher = Batcher::new(BatcherSettings {
        max_age: SECOND,
        size,
        ..BatcherSettings::default()
    });
    batcher.push(event(lines(9, 0, 10)), Duration::ZERO);
    batch(batcher.next(Duration::ZERO, 0));
    batcher
}

#[test]
fn the_first_data_after_silence_goes_at_once() {
    let mut batcher = Batcher::new(BatcherSettings::default());
    assert!(!batcher.is_ready(SECOND, 0));
    batcher.push(event(lines(1, 0, 10)), SECOND);
    assert!(batcher.is_ready(SECOND, 0));
    assert_eq!(batch(batcher.next(SECOND, 0)).blocks.len(), 1);
    assert!(batcher.is_empty());
}

#[test]
fn a_trickle_becomes_one_batch_of_one_block_each_max_age() {
    let mut batcher = busy(BatchSize::default());
    let mut sent = Vec::new();
    for tenth in 1..=20u32 {
        let now = SECOND / 10 * tenth;
        batcher.push(event(lines(1, u64::from(tenth) * 10, 10)), now);
        if let Some(Action::Batch(batch)) = batcher.next(now, 0) {
            sent.push((
                tenth,
                batch.blocks.len(),
                batch.blocks[0].block.header.record_count,
            ));
        }
    }
    assert_eq!(sent, [(10, 1, 10), (20, 1, 10)]);
}

#[test]
fn while_something_is_in_flight_data_waits_for_its_age() {
    let mut batcher = busy(BatchSize::default());
    batcher.push(event(lines(1, 0, 10)), SECOND * 5);
    assert!(!batcher.is_ready(SECOND * 5, 1));
    assert_eq!(batcher.deadline(1), Some(SECOND * 6));
    assert!(batcher.is_ready(SECOND * 6, 1));
    // The answer comes first: the line is silent.
    assert!(batcher.is_ready(SECOND * 5, 0));
}

#[test]
fn the_rest_of_a_backfill_goes_when_nothing_is_in_flight() {
    let mut batcher = busy(BatchSize::default());
    let mut rest = lines(1, 0, 10);
    rest.lane = Lane::Backfill;
    batcher.push(event(rest), SECOND / 10);
    assert!(!batcher.is_ready(SECOND / 10, 1));
    assert!(batcher.deadline(0).is_some_and(|at| at <= SECOND / 10));
    assert_eq!(batch(batcher.next(SECOND / 10, 0)).lane, Lane::Backfill);
}

#[test]
fn the_rest_of_a_burst_goes_when_nothing_is_in_flight_and_then_it_is_a_trickle_again() {
    let mut batcher = busy(BatchSize {
        bytes_max: 10_000,
        ..BatchSize::default()
    });
    for number in 0..3 {
        batcher.push(event(lines(1, number * 4_500, 4_500)), SECOND / 10);
    }
    assert_eq!(batch(batcher.next(SECOND / 10, 0)).blocks.len(), 2);
    assert!(!batcher.is_ready(SECOND / 5, 1));
    assert_eq!(batch(batcher.next(SECOND / 5, 0)).blocks.len(), 1);
    batcher.push(event(lines(1, 13_500, 10)), SECOND / 4);
    assert!(!batcher.is_ready(SECOND, 0));
    assert!(batcher.is_ready(SECOND / 5 + SECOND, 0));
}

#[test]
fn what_can_not_be_read_again_waits_for_a_second_however_long_others_may() {
    let mut batcher = Batcher::new(BatcherSettings {
        max_age: SECOND * 60,
        ..BatcherSettings::default()
    });
    batcher.push(event(lines(9, 0, 10)), Duration::ZERO);
    batch(batcher.next(Duration::ZERO, 0));
    batcher.push(event(lines(1, 0, 10)), SECOND * 5);
    assert_eq!(batcher.deadline(1), Some(SECOND * 65));
    let mut volatile = lines(2, 0, 10);
    volatile.replayable = false;
    batcher.push(event(volatile), SECOND * 7);
    assert_eq!(batcher.deadline(1), Some(SECOND * 8));
    assert!(!batcher.is_ready(SECOND * 8 - Duration::from_millis(1), 1));
    assert!(!batch(batcher.next(SECOND * 8, 1)).replayable);
    assert!(!batcher.is_ready(SECOND * 8, 1));
    // What the line does not ack in time is written when it is this old.
    assert!(VOLATILE_AGE_MAX < crate::spool::SPOOL_AFTER);
}

#[test]
fn a_batch_that_is_full_goes_at_once() {
    let mut batcher = busy(BatchSize {
        bytes_max: 1000,
        ..BatchSize::default()
    });
    batcher.push(event(lines(1, 0, 500)), SECOND / 2);
    assert!(!batcher.is_ready(SECOND / 2, 1));
    batcher.push(event(lines(1, 500, 500)), SECOND / 2);
    assert!(batcher.is_ready(SECOND / 2, 1));
    assert_eq!(batch(batcher.next(SECOND / 2, 1)).blocks.len(), 1);
    assert_eq!(batcher.held(), 1);
}

#[test]
fn a_block_larger_than_a_batch_goes_alone() {
    let mut batcher = busy(BatchSize {
        bytes_max: 100,
        ..BatchSize::default()
    });
    batcher.push(event(lines(1, 0, 5000)), SECOND);
    batcher.push(event(lines(2, 0, 10)), SECOND);
    assert_eq!(batch(batcher.next(SECOND * 5, 0)).blocks.len(), 1);
}

#[test]
fn with_max_age_zero_nothing_waits() {
    let mut batcher = Batcher::new(BatcherSettings {
        max_age: Duration::ZERO,
        ..BatcherSettings::default()
    });
    for at in 0..3 {
        batcher.push(event(lines(1, at * 10, 10)), SECOND);
        assert!(batcher.is_ready(SECOND, 3));
        batch(batcher.next(SECOND, 3));
    }
}

#[test]
fn lanes_and_replayability_never_share_a_batch() {
    let mut batcher = busy(BatchSize::default());
    for (stream, (lane, replayable)) in (1..).zip(POTS.into_iter().rev()) {
        batcher.push(
            event(SourceBlock {
                lane,
                replayable,
                ..lines(stream, 0, 10)
            }),
            SECOND,
        );
    }
    let order: Vec<_> = std::iter::from_fn(|| batcher.next(SECOND * 4, 0))
        .map(|action| batch(Some(action)))
        .map(|batch| {
            assert!(
                batch
                    .blocks
                    .iter()
                    .all(|b| (b.lane, b.replayable) == (batch.lane, batch.replayable))
            );
            (batch.lane, batch.replayable)
        })
        .collect();
    assert_eq!(order, POTS);
}

#[test]
fn a_backfill_has_its_share_of_a_line_that_live_data_would_fill() {
    let size = BatchSize {
        bytes_max: lines(1, 0, 10).block.encoded_len(),
        ..BatchSize::default()
    };
    for percent in [0, 10, 50, 90] {
        let mut batcher = Batcher::new(BatcherSettings {
            backfill_percent: percent,
            size,
            ..BatcherSettings::default()
        });
        let mut backfills = 0;
        for at in 0..1000 {
            let backfill = SourceBlock {
                lane: Lane::Backfill,
                ..lines(2, at * 10, 10)
            };
            batcher.push(event(backfill), SECOND);
            batcher.push(event(lines(1, at * 10, 10)), SECOND);
            backfills += u32::from(batch(batcher.next(SECOND * 4, 0)).lane == Lane::Backfill);
        }
        let wanted = u32::from(percent) * 10;
        assert!(
            backfills.abs_diff(wanted) < 20,
            "{backfills} of 1000 batches at {percent} %"
        );
    }
}

#[test]
fn what_waited_while_the_line_was_away_goes_behind_what_comes_now() {
    let mut batcher = busy(BatchSize::default());
    batcher.push(event(lines(1, 0, 10)), SECOND);
    batcher.push(event(lines(1, 10, 10)), SECOND);
    // The line is back.
    let now = SECOND * 2 + LIVE_FOR;
    assert!(batcher.is_ready(now, 1));
    let old = batch(batcher.next(now, 1));
    assert_eq!(old.lane, Lane::Backfill);
    assert_eq!(
        old.blocks.iter().map(|block| block.block.header.end).max(),
        Some(20)
    );

    batcher.push(event(lines(1, 20, 10)), now);
    batcher.push(event(lines(2, 0, 10)), now);
    let later = now + SECOND + LIVE_FOR - Duration::from_millis(1);
    let live = batch(batcher.next(later, 1));
    assert_eq!(live.lane, Lane::Live);
    assert!(batcher.is_empty());
}

#[test]
fn opens_go_first_and_an_end_follows_the_last_block_of_its_stream() {
    let mut batcher = busy(BatchSize {
        bytes_max: 100,
        ..BatchSize::default()
    });
    batcher.push(event(lines(1, 0, 80)), SECOND);
    batcher.push(event(lines(1, 80, 80)), SECOND);
    batcher.push(close(1), SECOND);
    batcher.push(close(2), SECOND);
    batcher.push(SourceEvent::Open(Box::default()), SECOND);
    let now = SECOND * 5;
    assert!(matches!(batcher.next(now, 0), Some(Action::Open(_))));
    assert!(
        matches!(batcher.next(now, 0), Some(Action::End(end)) if end.stream_id == StreamId::from_bytes([2; 16]))
    );
    batch(batcher.next(now, 0));
    batch(batcher.next(now, 0));
    assert!(
        matches!(batcher.next(now, 0), Some(Action::End(end)) if end.stream_id == StreamId::from_bytes([1; 16]))
    );
    assert!(batcher.next(now, 0).is_none());
}

#[test]
fn a_quiet_stream_and_a_quiet_source_are_in_the_next_batch_behind_a_busy_one() {
    let ring = Ring::new(RingLimits::default());
    let (files, journal) = (ring.source("files", 0), ring.source("journal", 0));
    let mut batcher = busy(BatchSize {
        bytes_max: 256 << 10,
        ..BatchSize::default()
    });
    for at in 0..40 {
        let credit = files.acquire(10).unwrap();
        batcher.push(
            event(SourceBlock {
                credit,
                ..lines(1, at * 50_000, 50_000)
            }),
            SECOND,
        );
    }
    batcher.push(
        event(SourceBlock {
            credit: files.acquire(10).unwrap(),
            ..lines(2, 0, 10)
        }),
        SECOND,
    );
    batcher.push(
        event(SourceBlock {
            credit: journal.acquire(10).unwrap(),
            ..lines(3, 0, 10)
        }),
        SECOND,
    );
    let first = batch(batcher.next(SECOND * 5, 0));
    for quiet in [2, 3] {
        assert!(
            first
                .blocks
                .iter()
                .any(|b| b.block.header.stream_id == StreamId::from_bytes([quiet; 16]))
        );
    }
}

#[test]
fn a_batcher_that_is_full_sends_rather_than_waits_for_ever() {
    let mut batcher = busy(BatchSize {
        blocks_max: usize::MAX,
        ..BatchSize::default()
    });
    let mut at = 0;
    while batcher.wants_more() {
        batcher.push(event(lines(1, at, 2)), SECOND / 2);
        at += 2;
    }
    assert!(batcher.is_ready(SECOND / 2, 1));
}

#[test]
fn a_merged_block_resumes_behind_its_last_part_and_keeps_all_credit() {
    let ring = Ring::new(RingLimits::default());
    let source = ring.source("a", 0);
    let part = |at: u64| SourceBlock {
        credit: source.acquire(10).unwrap(),
        ..lines(1, at, 10)
    };
    let merged = merge::merge_small(vec![part(0), part(10), part(20)]);
    assert_eq!(merged.len(), 1);
    assert_eq!(merged[0].resume, Resume::Cursor("30".into()));
    assert_eq!(merged[0].credit.bytes(), 30);
    assert_eq!(merged[0].block.header.range(), 0..30);
}

#[test]
fn small_blocks_that_are_no_plain_lines_are_merged_too() {
    let part = |at: u64| {
        let mut builder = LogBlockBuilder::new(StreamId::from_bytes([1; 16]), true, at);
        builder.push(LogRow {
            body: b"a".to_vec(),
            severity: Some(9),
            source_len: 1,
            ..LogRow::default()
        });
        SourceBlock {
            block: builder.finish().unwrap(),
            ..lines(1, 0, 2)
        }
    };
    let merged = merge::merge_small((0..5).map(part).collect());
    assert_eq!(merged.len(), 1);
    assert_eq!(
        (
            merged[0].block.header.range(),
            merged[0].block.header.record_count
        ),
        (0..5, 5)
    );
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        stream: u8,
        len: usize,
        lane: bool,
        replayable: bool,
    },
    Send {
        in_flight: usize,
    },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..4, 1usize..3000, any::<bool>(), any::<bool>())
            .prop_map(|(stream, len, lane, replayable)| Step::Push { stream, len, lane, replayable }),
        2 => (0usize..3).prop_map(|in_flight| Step::Send { in_flight }),
        1 => (0u64..1500).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Against the obvious model: per pot and stream, what goes in comes out once and in order.
    #[test]
    fn every_block_comes_out_once_and_in_order(steps in steps()) {
        let size = BatchSize { bytes_max: 8000, blocks_max: 20, records_max: 15 };
        let mut batcher = Batcher::new(BatcherSettings { max_age: SECOND, size, ..BatcherSettings::default() });
        let mut now = Duration::ZERO;
        // A stream for each kind of block, so that lanes can change on the way.
        let mut pushed: HashMap<u8, u64> = HashMap::new();
        let mut taken: HashMap<u8, RangeSet> = HashMap::new();
        let mut ends: HashMap<(u8, bool), u64> = HashMap::new();
        let mut take = |batch: Collected| {
            let bytes: usize = batch.blocks.iter().map(|b| b.block.encoded_len()).sum();
            assert!(!batch.blocks.is_empty() && bytes <= 8000);
            for b in batch.blocks {
                let stream = b.block.header.stream_id.as_bytes()[0];
                let range = b.block.header.start..b.block.header.end;
                let taken = taken.entry(stream).or_default();
                assert!(taken.missing_in(range.clone()).eq(std::iter::once(range.clone())), "once");
                taken.insert(range.clone()).unwrap();
                let end = ends.entry((stream, b.lane == Lane::Live)).or_default();
                assert!(*end <= range.start, "in order in each lane");
                *end = range.end;
                assert!(b.block.view().is_ok());
            }
        };
        for step in steps {
            match step {
                Step::Push { stream, len, lane, replayable } => {
                    let stream = stream + 4 * u8::from(lane) + 8 * u8::from(replayable);
                    let at = pushed.entry(stream).or_default();
                    let lane = if lane { Lane::Live } else { Lane::Backfill };
                    batcher.push(event(SourceBlock { lane, replayable, ..lines(stream, *at, len) }), now);
                    *at += len as u64;
                }
                Step::Send { in_flight } => {
                    let ready = batcher.is_ready(now, in_flight);
                    let action = batcher.next(now, in_flight);
                    prop_assert_eq!(ready, action.is_some());
                    if let Some(action) = action {
                        take(batch(Some(action)));
                    }
                }
                Step::Wait(ms) => now += Duration::from_millis(ms),
            }
            if let Some(deadline) = batcher.deadline(1) {
                prop_assert!(batcher.is_ready(deadline.max(now), 1));
            }
        }
        batcher.drain();
        while let Some(action) = batcher.next(now, 9) {
            take(batch(Some(action)));
        }
        prop_assert!(batcher.is_empty());
        for (stream, end) in pushed {
            prop_assert_eq!(taken[&stream].missing_in(0..end).next(), None);
        }
    }
}

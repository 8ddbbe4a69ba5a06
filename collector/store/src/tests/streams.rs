//! What the store knows of a stream, through a restart.

use std::sync::Arc;

use edgelogger_common::block::{Block, LogBlockBuilder, LogRow, ReceiptReason};
use edgelogger_common::disk::FaultDisk;
use edgelogger_proto::v1;

use super::common::{NOW, block_on, blocks_entry, descriptor, entry, lines, options, stream_id};
use crate::{
    ContentCheck, EmbeddedStore, GAPS_MAX, Gap, LogGapKind, Missed, ReceiptTotal, Store, StoreOptions,
    StreamEndState,
};

#[test]
fn receipts_and_the_end_of_a_stream_are_summed_once_and_survive() {
    let disk = FaultDisk::new(1);
    let id = stream_id(1);
    let receipt = Block::receipt(id, false, 100, 150, ReceiptReason::Filtered, 4, true);
    let mut builder = LogBlockBuilder::new(id, false, 150);
    builder.push_receipt(10, ReceiptReason::Truncated, 0, false);
    builder.push(LogRow {
        observed_time: NOW,
        body: b"x".to_vec(),
        source_len: 2,
        ..LogRow::default()
    });
    builder.push_receipt(5, ReceiptReason::Filtered, 1, true);
    let end = v1::StreamEnd {
        stream_id: id.to_proto(),
        size: 167,
        exact: true,
        reason: v1::StreamEndReason::Deleted.into(),
        ..v1::StreamEnd::default()
    };
    let open = v1::StreamOpen {
        stream: Some(descriptor(stream_id(9), "later")),
        ..v1::StreamOpen::default()
    };
    let entries = [
        blocks_entry("m1", &[lines(id, 0, &[b"12345678\n".as_slice(); 11].concat())]),
        blocks_entry("m1", std::slice::from_ref(&receipt)),
        blocks_entry("m1", &[receipt, builder.finish().unwrap()]),
        entry(
            "m1",
            v1::log_entry::Body::StreamEnd(end),
            vec![descriptor(id, "a")],
        ),
        entry("m1", v1::log_entry::Body::StreamOpen(open), Vec::new()),
    ];
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    for (entry, sequence) in entries.iter().zip(0u64..) {
        store.apply(sequence, entry).unwrap();
    }
    let before = known(&store);
    store.flush().unwrap();
    drop(store);
    disk.restart();
    let store = EmbeddedStore::open(options(Arc::new(disk))).unwrap();
    let streams = known(&store);
    assert_eq!(streams, before);
    assert_eq!(streams.len(), 2);
    let state = &streams[0].1;
    assert_eq!(state.applied(), [0..99, 100..167]);
    assert_eq!((state.applied_upto(), state.rows), (99, 12));
    assert_eq!(
        state.end,
        Some(StreamEndState {
            size: 167,
            exact: true,
            reason: 1
        })
    );
    assert_eq!(
        state.receipts,
        [
            ReceiptTotal {
                reason: 1,
                positions: 55,
                records: 5,
                exact: true
            },
            ReceiptTotal {
                reason: 16,
                positions: 10,
                records: 0,
                exact: false
            },
        ]
    );
    let gap = |range, reason, records, exact| Gap {
        range,
        reason,
        records,
        exact,
    };
    assert_eq!(
        state.gaps,
        [
            gap(100..150, 1, 4, true),
            gap(150..160, 16, 0, false),
            gap(162..167, 1, 1, true)
        ]
    );
    assert_eq!((streams[1].1.source.as_str(), streams[1].1.rows), ("later", 0));
}

fn known(store: &EmbeddedStore) -> Vec<(edgelogger_common::stream::StreamId, Arc<crate::StreamState>)> {
    let mut streams = store.streams();
    streams.sort_by_key(|(id, _)| *id);
    streams
}

#[test]
fn gaps_beyond_the_limit_are_summed() {
    let store = EmbeddedStore::open(options(Arc::new(FaultDisk::new(1)))).unwrap();
    let id = stream_id(1);
    let blocks: Vec<_> = (0..GAPS_MAX as u64 + 10)
        .map(|number| {
            let start = number * 10;
            Block::receipt(id, false, start, start + 3, ReceiptReason::Rotated, 1, true)
        })
        .collect();
    store.apply(0, &blocks_entry("m1", &blocks)).unwrap();
    let state = &known(&store)[0].1;
    assert_eq!((state.gaps.len(), state.gaps_untold), (GAPS_MAX, 30));
    assert_eq!(state.receipts[0].positions, 3 * (GAPS_MAX as u64 + 10));
}

#[test]
fn the_content_of_a_stream_is_checked_range_by_range_in_whatever_order_it_comes() {
    let store = EmbeddedStore::open(options(Arc::new(FaultDisk::new(1)))).unwrap();
    let id = stream_id(1);
    let text = b"one\ntwo\nthree\nfour\nfive\n";
    let part = |range: std::ops::Range<usize>| lines(id, range.start as u64, &text[range]);
    // The last two overlap what is there: they say nothing that could be used.
    let parts = [14..19, 0..4, 4..8, 8..14, 8..19, 0..8];
    for (sequence, range) in (0..).zip(parts) {
        store
            .apply(sequence, &blocks_entry("m1", &[part(range)]))
            .unwrap();
    }
    let check = |end: usize| ContentCheck {
        range: 0..end as u64,
        crc32c: crc32c::crc32c(&text[..end]),
    };
    assert_eq!(known(&store)[0].1.checks, [check(19)]);
    store.apply(9, &blocks_entry("m1", &[part(14..24)])).unwrap();
    assert_eq!(known(&store)[0].1.checks, [check(19)]);
    assert_eq!(known(&store)[0].1.applied_upto(), 24);
}

#[test]
fn a_changed_log_begins_again_and_stores_nothing_twice() {
    let disk = FaultDisk::new(1);
    let with_log = |log_id| StoreOptions {
        log_id: Some([log_id; 16]),
        ..options(Arc::new(disk.clone()))
    };
    let store = EmbeddedStore::open(with_log(1)).unwrap();
    let entry = blocks_entry("m1", &[lines(stream_id(1), 0, b"one\n")]);
    store.apply(41, &entry).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = EmbeddedStore::open(with_log(1)).unwrap();
    assert_eq!((store.cursor(), store.durable_cursor()), (42, 42));
    drop(store);
    let store = EmbeddedStore::open(with_log(2)).unwrap();
    assert_eq!((store.cursor(), store.durable_cursor()), (0, 0));
    assert_eq!(block_on(store.status()).unwrap().problems.len(), 1);
    let applied = store.apply(0, &entry).unwrap();
    assert_eq!((applied.rows, applied.duplicates), (0, 1));
}

#[test]
fn the_manifest_of_ten_thousand_streams_is_small() {
    let disk = FaultDisk::new(1);
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    let blocks: Vec<_> = (0..10_000u32)
        .map(|number| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            lines(
                edgelogger_common::stream::StreamId::from_bytes(id),
                1_000_000,
                b"a line\n",
            )
        })
        .collect();
    store.apply(0, &blocks_entry("machine-17", &blocks)).unwrap();
    store.flush().unwrap();
    let len = disk.contents("/store/manifest".as_ref()).unwrap().len();
    assert!(len < 2_000_000, "{len} bytes");
    println!("manifest of 10,000 streams: {len} bytes");
}

fn write_off(reason: v1::WriteOffReason, ranges: &[(u64, u64)], closes: bool) -> v1::LogEntry {
    let stream = v1::StreamWriteOff {
        stream_id: stream_id(1).to_proto(),
        ranges: ranges
            .iter()
            .map(|(start, end)| v1::Range {
                start: *start,
                end: *end,
            })
            .collect(),
        closes,
        size: 40,
    };
    let write_off = v1::WriteOff {
        reason: reason.into(),
        why: "burnt down".to_owned(),
        declared_time_ns: NOW,
        streams: vec![stream],
    };
    entry(
        "m1",
        v1::log_entry::Body::WriteOff(write_off),
        vec![descriptor(stream_id(1), "/var/log/1.log")],
    )
}

#[test]
fn what_is_written_off_yields_to_what_arrives_and_survives() {
    let disk = FaultDisk::new(1);
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    let id = stream_id(1);
    let operator = v1::WriteOffReason::Operator;
    store
        .apply(1, &blocks_entry("m1", &[lines(id, 10, b"123456789\n")]))
        .unwrap();
    store.apply(2, &write_off(operator, &[(0, 40)], true)).unwrap();
    // Said again, and for another reason: the first word stands.
    store
        .apply(3, &write_off(v1::WriteOffReason::LogDamaged, &[(0, 40)], false))
        .unwrap();
    let ranges = |store: &EmbeddedStore| -> Vec<_> {
        let state = &known(store)[0].1;
        let reasons = state.write_offs().iter().map(|off| off.reason);
        assert!(
            reasons
                .into_iter()
                .all(|reason| reason == crate::WriteOffReason::Operator as u8)
        );
        state.write_offs().iter().map(|off| off.range.clone()).collect()
    };
    assert_eq!(ranges(&store), [0..10, 20..40]);
    let end = known(&store)[0].1.end.unwrap();
    assert_eq!((end.size, end.exact, end.reason), (40, false, 7));
    // It comes back: one range is here wholly, the other in part.
    let late = [lines(id, 0, b"123456789\n"), lines(id, 20, b"1234\n")];
    assert_eq!(store.apply(4, &blocks_entry("m1", &late)).unwrap().rows, 2);
    assert_eq!((ranges(&store).len(), ranges(&store)[0].clone()), (1, 20..40));
    assert_eq!(known(&store)[0].1.unaccounted(&(0..50)).pop(), Some(40..50));
    store.flush().unwrap();
    let before = known(&store);
    drop(store);
    disk.restart();
    let store = EmbeddedStore::open(options(Arc::new(disk))).unwrap();
    assert_eq!(known(&store), before);
}

#[test]
fn a_reason_of_a_newer_version_stops_the_store() {
    let store = super::common::store();
    let mut entry = write_off(v1::WriteOffReason::Operator, &[(0, 9)], false);
    if let Some(v1::log_entry::Body::WriteOff(off)) = &mut entry.body {
        off.reason = 99;
    }
    let error = store.apply(1, &entry).unwrap_err();
    assert_eq!(error.remedy(), crate::Remedy::Stop, "{error}");
}

#[test]
fn entries_that_never_came_are_kept_in_mind_once() {
    let disk = FaultDisk::new(1);
    let store = EmbeddedStore::open(options(Arc::new(disk.clone()))).unwrap();
    let missed = || Missed {
        entries: 3..5,
        kind: LogGapKind::Damaged,
        what: "gone",
        dead_letter: None,
        records: 0,
    };
    store.step_over(&missed());
    assert_eq!(store.cursor(), 5);
    store.step_over(&missed());
    store.flush().unwrap();
    drop(store);
    disk.restart();
    let store = EmbeddedStore::open(options(Arc::new(disk))).unwrap();
    assert_eq!((store.cursor(), store.log_gaps().len()), (5, 1));
    assert_eq!(store.log_gaps()[0].entries, 3..5);
}

#[test]
fn the_health_of_the_store_is_told_while_an_entry_is_being_applied() {
    let store = super::common::store();
    store
        .apply(1, &blocks_entry("m1", &[lines(stream_id(1), 0, b"x\n")]))
        .unwrap();
    let status = store.while_applying(|store| block_on(store.status()).unwrap());
    assert_eq!((status.cursor, status.streams), (2, 1));
}

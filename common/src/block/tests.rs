//! Blocks against the naive model: rows in a vector.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::stream::StreamId;

fn stream() -> StreamId {
    StreamId::from_bytes([7; 16])
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        ".{0,8}".prop_map(Value::String),
        any::<i64>().prop_map(Value::I64),
        (-1e9..1e9f64).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        vec(any::<u8>(), 0..6).prop_map(Value::Bytes),
    ]
}

/// Sorted by key, each key once: the form in which rows come back.
fn attributes() -> impl Strategy<Value = Vec<(String, Value)>> {
    proptest::collection::btree_map("[a-d]{1,2}", value(), 0..4).prop_map(|map| map.into_iter().collect())
}

prop_compose! {
    fn log_row()(
        event_time in option::of(any::<i64>()),
        observed_time in any::<i64>(),
        severity in option::of(1u8..=24),
        body in vec(any::<u8>(), 0..20),
        attributes in attributes(),
        trace_id in option::of(any::<[u8; 16]>()),
        span_id in option::of(any::<[u8; 8]>()),
        source_len in 1u64..100,
        flags in 0u8..=RecordFlags::KNOWN,
    ) -> LogRow {
        LogRow {
            event_time, observed_time, severity, body, attributes, trace_id, span_id, source_len,
            flags: RecordFlags(flags),
        }
    }
}

fn histogram() -> impl Strategy<Value = Histogram> {
    vec(-1e3..1e3f64, 0..4).prop_flat_map(|bounds| {
        let len = bounds.len();
        vec(0i64..1000, len + 1).prop_map(move |counts| Histogram {
            bounds: bounds.clone(),
            counts,
        })
    })
}

fn summary() -> impl Strategy<Value = Summary> {
    vec((0.0..1.0f64, -1e3..1e3f64), 0..3).prop_map(|pairs| {
        let (quantiles, values) = pairs.into_iter().unzip();
        Summary { quantiles, values }
    })
}

prop_compose! {
    fn metric_row()(
        times in (option::of(any::<i64>()), any::<i64>(), option::of(any::<i64>())),
        name in "[a-z.]{1,12}",
        unit in prop_oneof![Just(String::new()), Just("By".to_owned())],
        kind in (1u8..=4, 0u8..=2, 0u8..=2),
        labels in attributes(),
        value in option::of(-1e9..1e9f64),
        totals in (option::of(0i64..1000), option::of(-1e9..1e9f64)),
        histogram in prop_oneof![Just(Histogram::default()), histogram()],
        summary in summary(),
        source_len in 1u64..3,
    ) -> MetricRow {
        MetricRow {
            event_time: times.0, observed_time: times.1, start_time: times.2, name, unit,
            kind: MetricKind::from_byte(kind.0).unwrap(),
            temporality: Temporality::from_byte(kind.1).unwrap(),
            quality: Quality::from_byte(kind.2).unwrap(),
            labels, value, count: totals.0, sum: totals.1, histogram, summary, source_len,
        }
    }
}

/// A receipt of this length before the record, where it is not 0.
fn log_block(rows: &[(LogRow, u64)], counts_records: bool, start: u64) -> Block {
    let mut builder = LogBlockBuilder::new(stream(), counts_records, start);
    for (row, receipt) in rows {
        if *receipt > 0 {
            builder.push_receipt(*receipt, ReceiptReason::Filtered, 1, true);
        }
        builder.push(row.clone());
    }
    builder.finish().unwrap()
}

fn metric_block(rows: &[MetricRow]) -> Block {
    let mut builder = MetricBlockBuilder::new(stream(), 40);
    rows.iter().for_each(|row| builder.push(row.clone()));
    builder.finish().unwrap()
}

fn written(block: &Block) -> Vec<u8> {
    let mut bytes = Vec::new();
    block.write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len(), block.encoded_len());
    bytes
}

fn read(bytes: &[u8]) -> Result<(Block, BlockView), BlockError> {
    let mut payload = Bytes::copy_from_slice(bytes);
    let block = Block::split_from(&mut payload)?;
    if !payload.is_empty() {
        return Err(BlockError::LeftOver(payload.len()));
    }
    let view = block.view()?;
    Ok((block, view))
}

fn log_view(block: &Block) -> LogView {
    match read(&written(block)).unwrap() {
        (_, BlockView::Log(view)) => view,
        other => panic!("not a log block: {other:?}"),
    }
}

fn metric_rows(block: &Block) -> Vec<MetricRow> {
    match read(&written(block)).unwrap() {
        (_, BlockView::Metric(view)) => view.rows().collect(),
        other => panic!("not a metric block: {other:?}"),
    }
}

fn naive_ranges(rows: &[(LogRow, u64)], start: u64) -> Vec<(u64, u64)> {
    let mut at = start;
    rows.iter()
        .map(|(row, receipt)| {
            let first = at + receipt;
            at = first + row.source_len;
            (first, at)
        })
        .collect()
}

proptest! {
    #[test]
    fn log_rows_read_back_with_their_positions(
        rows in vec((log_row(), 0u64..3), 1..20), counts_records: bool, start in 0u64..1000,
    ) {
        let view = log_view(&log_block(&rows, counts_records, start));
        prop_assert_eq!(view.ranges().collect::<Vec<_>>(), naive_ranges(&rows, start));
        let receipts: u64 = rows.iter().map(|(_, receipt)| receipt).sum();
        prop_assert_eq!(view.receipts().iter().map(|receipt| receipt.len).sum::<u64>(), receipts);
        let expected: Vec<_> = rows.into_iter().map(|(row, _)| row).collect();
        prop_assert_eq!(view.rows().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn metric_rows_read_back(rows in vec(metric_row(), 1..20)) {
        prop_assert_eq!(metric_rows(&metric_block(&rows)), rows);
    }

    #[test]
    fn a_cut_block_holds_the_same_rows_and_merges_back(
        rows in vec((log_row(), 0u64..3), 2..12), at in 1u32..11,
    ) {
        let at = 1 + at % u32::try_from(rows.len() - 1).unwrap();
        let block = log_block(&rows, false, 5);
        let (left, right) = block.cut(at).unwrap();
        prop_assert_eq!(left.header.end, right.header.start);
        let halves: Vec<_> = log_view(&left).rows().chain(log_view(&right).rows()).collect();
        let merged = left.merge(&right).unwrap();
        prop_assert_eq!(halves, log_view(&merged).rows().collect::<Vec<_>>());
        prop_assert_eq!(log_view(&merged).ranges().collect::<Vec<_>>(), naive_ranges(&rows, 5));
    }

    #[test]
    fn lines_of_a_file_are_a_block_as_they_are(lines in vec("[a-z]{0,9}", 1..20), at in 1usize..19) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let block = file_block(&text, lines.len());
        let bodies: Vec<_> = log_view(&block).rows().map(|row| row.body).collect();
        prop_assert_eq!(&bodies, &lines.iter().map(|line| line.clone().into_bytes()).collect::<Vec<_>>());
        if at < lines.len() {
            let (left, right) = block.cut(u32::try_from(at).unwrap()).unwrap();
            prop_assert_eq!(left.merge(&right).unwrap(), block);
        }
    }

    #[test]
    fn only_records_that_are_wholly_applied_are_left_out(
        lens in vec(1u64..5, 1..12), mut edges in vec(0u64..60, 0..6),
    ) {
        edges.sort_unstable();
        edges.dedup();
        let applied: Vec<_> = edges.as_chunks::<2>().0.iter().map(|[start, end]| *start..*end).collect();
        let mut at = 10;
        let ranges: Vec<_> = lens.iter().map(|len| { let start = at; at += len; (start, at) }).collect();
        let selection = select_unapplied(ranges.iter().copied(), 10..at, &applied);
        let is_applied = |position: u64| applied.iter().any(|range| range.contains(&position));
        for (index, (start, end)) in ranges.iter().enumerate() {
            // Ranges that touch are one range for whoever keeps them, so they never come from a range set.
            let whole = applied.iter().any(|range| range.start <= *start && *end <= range.end);
            let (kept, overlaps) = match &selection {
                RowSelection::All => (true, false),
                RowSelection::Some { keep, overlaps } =>
                    (keep.iter().any(|range| range.contains(&index)), overlaps.contains(&index)),
            };
            prop_assert_eq!(kept, !whole);
            prop_assert_eq!(overlaps, !whole && (*start..*end).any(is_applied));
        }
    }

    #[test]
    fn no_bytes_at_all_make_a_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}

fn file_block(text: &str, lines: usize) -> Block {
    let lines = u32::try_from(lines).unwrap();
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Block::from_lines(
        stream(),
        100,
        bytes,
        lines,
        crc32c::crc32c(text.as_bytes()),
        1_700_000_000_000_000_000,
    )
}

fn sample_blocks() -> Vec<Block> {
    let row = LogRow {
        event_time: Some(5),
        observed_time: 6,
        severity: Some(9),
        body: b"two\nlines".to_vec(),
        attributes: vec![("k".to_owned(), Value::String("v".to_owned()))],
        trace_id: Some([1; 16]),
        span_id: Some([2; 8]),
        source_len: 10,
        flags: RecordFlags::MULTILINE,
    };
    let plain = LogRow {
        observed_time: 7,
        body: b"x".to_vec(),
        source_len: 1,
        ..LogRow::default()
    };
    let metric = MetricRow {
        observed_time: 8,
        name: "system.cpu.time".to_owned(),
        unit: "s".to_owned(),
        kind: MetricKind::Counter,
        temporality: Temporality::Cumulative,
        start_time: Some(1),
        labels: vec![("cpu".to_owned(), Value::I64(0))],
        value: Some(1.5),
        quality: Quality::Uncertain,
        source_len: 1,
        ..MetricRow::default()
    };
    let histogram = MetricRow {
        observed_time: 9,
        name: "latency".to_owned(),
        kind: MetricKind::Histogram,
        count: Some(3),
        sum: Some(2.5),
        histogram: Histogram {
            bounds: vec![1.0],
            counts: vec![2, 1],
        },
        summary: Summary {
            quantiles: vec![0.5],
            values: vec![0.7],
        },
        source_len: 1,
        ..MetricRow::default()
    };
    vec![
        file_block("one\ntwo\n", 2),
        log_block(&[(row, 2), (plain, 0)], false, 0),
        metric_block(&[metric, histogram]),
        Block::receipt(stream(), true, 3, 9, ReceiptReason::QueueFull, 6, true),
    ]
}

#[test]
fn every_truncation_is_an_error() {
    for block in sample_blocks() {
        let bytes = written(&block);
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn no_bit_flip_makes_a_reader_panic() {
    for block in sample_blocks() {
        let bytes = written(&block);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = read(&flipped);
        }
    }
}

/// Version 1, for ever: if this fails, the format changed and needs a new version.
#[test]
fn the_bytes_of_version_1_stay() {
    let golden = include_str!("../../tests/golden/blocks_v1.hex");
    let now: Vec<String> = sample_blocks().iter().map(|block| hex(&written(block))).collect();
    assert_eq!(now.join("\n"), golden.trim_end());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_wrong_body_does_not_pass_its_source_crc() {
    let mut bytes = written(&file_block("one\ntwo\n", 2));
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    assert!(matches!(read(&bytes), Err(BlockError::SourceCrc { .. })));
}

#[test]
fn a_constant_can_not_ask_for_more_memory_than_the_limit() {
    let body = Column::new(
        ColumnId::BODY,
        ColumnType::Bytes,
        Encoding::Constant,
        vec![b'x'; 1 << 20],
    );
    let header = BlockHeader {
        kind: BlockKind::Log,
        counts_records: true,
        stream_id: stream(),
        start: 0,
        end: u64::from(RECORDS_MAX),
        record_count: RECORDS_MAX,
        source_crc32c: None,
    };
    let block = Block {
        header,
        columns: vec![Column::constant_i64(ColumnId::OBSERVED_TIME, 0), body],
    };
    assert!(matches!(block.view(), Err(BlockError::Limit { .. })));
}

#[test]
fn a_reader_skips_a_column_it_does_not_know() {
    let mut block = file_block("one\n", 1);
    block.columns.push(Column::new(
        ColumnId(900),
        ColumnType::U8,
        Encoding::Constant,
        vec![1],
    ));
    assert_eq!(log_view(&block).rows().count(), 1);
}

//! What a row holds.

use std::collections::BTreeMap;

use edgelogger_common::block::{
    Histogram, LogBlockBuilder, LogRow, MetricBlockBuilder, MetricKind, MetricRow, Quality, RecordFlags,
    Summary, Temporality, Value,
};
use edgelogger_proto::v1;

use super::common::{NOW, SECOND, blocks_entry, descriptor, entry, lines, sql, sql_texts, store, stream_id};
use crate::{EmbeddedStore, Remedy};

fn apply(store: &EmbeddedStore, blocks: &[edgelogger_common::block::Block]) {
    store.apply(store.cursor(), &blocks_entry("m1", blocks)).unwrap();
}

/// Asks before and after the flush.
fn check(store: &EmbeddedStore, query: &str, expected: &[&str]) {
    assert_eq!(sql_texts(store, query), expected, "in memory: {query}");
    store.flush().unwrap();
    assert_eq!(sql_texts(store, query), expected, "in a file: {query}");
}

#[test]
fn every_log_column_reads_back_from_memory_and_from_a_file() {
    let store = store();
    let mut builder = LogBlockBuilder::new(stream_id(1), true, 5);
    builder.push(LogRow {
        event_time: Some(NOW - 5 * SECOND),
        observed_time: NOW - SECOND,
        severity: Some(17),
        body: b"disk failed".to_vec(),
        attributes: vec![
            ("unit".to_owned(), Value::String("sshd".to_owned())),
            ("pid".to_owned(), Value::I64(-7)),
            ("load".to_owned(), Value::F64(0.5)),
            ("up".to_owned(), Value::Bool(true)),
            ("raw".to_owned(), Value::Bytes(vec![0xff, 0x00])),
        ],
        trace_id: Some([0xab; 16]),
        span_id: Some([0x0c; 8]),
        source_len: 3,
        flags: RecordFlags::TRUNCATED,
    });
    builder.push(LogRow {
        observed_time: NOW,
        body: b"plain".to_vec(),
        source_len: 1,
        ..LogRow::default()
    });
    apply(&store, &[builder.finish().unwrap()]);
    let columns = "time, event_time, observed_time, received_time, machine_id, source, stream_id, position, source_len, \
                   severity, body, body_bytes, attributes, labels, trace_id, span_id, flags, agent_version";
    check(
        &store,
        &format!("SELECT {columns} FROM logs ORDER BY position"),
        &[
            "2026-11-21T11:59:55Z|2026-11-21T11:59:55Z|2026-11-21T11:59:59Z|2026-11-21T12:00:00Z|m1|/var/log/1.log|\
         01010101010101010101010101010101|5|3|17|disk failed||\
         {load: 0.5, pid: -7, raw: \\xff00, unit: sshd, up: true}|{site: plant-7}|\
         abababababababababababababababab|0c0c0c0c0c0c0c0c|1|0.1.0",
            "2026-11-21T12:00:00Z||2026-11-21T12:00:00Z|2026-11-21T12:00:00Z|m1|/var/log/1.log|\
         01010101010101010101010101010101|8|1||plain||{}|{site: plant-7}|||0|0.1.0",
        ],
    );
    check(
        &store,
        "SELECT body FROM logs WHERE attributes['unit'] = 'sshd' AND labels['site'] = 'plant-7'",
        &["disk failed"],
    );
}

#[test]
fn every_metric_column_reads_back_from_memory_and_from_a_file() {
    let store = store();
    let mut builder = MetricBlockBuilder::new(stream_id(2), 0);
    builder.push(MetricRow {
        observed_time: NOW,
        name: "system.cpu.time".to_owned(),
        unit: "s".to_owned(),
        kind: MetricKind::Counter,
        temporality: Temporality::Cumulative,
        start_time: Some(NOW - 60 * SECOND),
        labels: vec![("cpu".to_owned(), Value::String("0".to_owned()))],
        value: Some(1.5),
        quality: Quality::Uncertain,
        source_len: 1,
        ..MetricRow::default()
    });
    builder.push(MetricRow {
        observed_time: NOW,
        name: "http.duration".to_owned(),
        kind: MetricKind::Histogram,
        count: Some(6),
        sum: Some(2.25),
        histogram: Histogram {
            bounds: vec![0.1, 1.0],
            counts: vec![1, 2, 3],
        },
        source_len: 1,
        ..MetricRow::default()
    });
    builder.push(MetricRow {
        observed_time: NOW,
        name: "rpc".to_owned(),
        kind: MetricKind::Summary,
        count: Some(2),
        summary: Summary {
            quantiles: vec![0.5],
            values: vec![7.0],
        },
        source_len: 1,
        ..MetricRow::default()
    });
    apply(&store, &[builder.finish().unwrap()]);
    let columns = "position, name, unit, kind, temporality, start_time, value, quality, labels, agent_labels, count, sum, \
                   bucket_bounds, bucket_counts, quantiles, quantile_values";
    check(
        &store,
        &format!("SELECT {columns} FROM metrics ORDER BY position"),
        &[
            "0|system.cpu.time|s|counter|cumulative|2026-11-21T11:59:00Z|1.5|1|{cpu: 0}|{site: plant-7}|||[]|[]|[]|[]",
            "1|http.duration||histogram|||||0|{}|{site: plant-7}|6|2.25|[0.1, 1.0]|[1, 2, 3]|[]|[]"
                .replace("|||||0", "||||0")
                .as_str(),
            "2|rpc||summary||||0|{}|{site: plant-7}|2||[]|[]|[0.5]|[7.0]",
        ],
    );
}

#[test]
fn bytes_that_are_no_text_are_kept_exactly() {
    let store = store();
    let text = b"good \xc3\xa4\nbad \xff\xfe bytes and some more\n\xff\n\x00\x1b[31m\n".to_vec();
    apply(&store, &[lines(stream_id(1), 0, &text)]);
    check(
        &store,
        "SELECT body, encode(body_bytes, 'hex') FROM logs ORDER BY position",
        &[
            "good ä|",
            "bad \u{fffd}\u{fffd} bytes and some more|62616420fffe20627974657320616e6420736f6d65206d6f7265",
            "\u{fffd}|ff",
            "\0\u{1b}[31m|",
        ],
    );
}

#[test]
fn times_of_1970_and_2099_are_kept_and_make_no_day_of_their_own() {
    let store = store();
    let mut builder = LogBlockBuilder::new(stream_id(1), true, 0);
    let times = [
        0,
        i64::MIN,
        i64::MAX,
        4_102_444_799 * SECOND,
        NOW - 86_400 * SECOND,
        NOW,
    ];
    for time in times {
        builder.push(LogRow {
            event_time: Some(time),
            observed_time: NOW,
            source_len: 1,
            ..LogRow::default()
        });
    }
    apply(&store, &[builder.finish().unwrap()]);
    check(
        &store,
        "SELECT CAST(event_time AS BIGINT) FROM logs ORDER BY position",
        &[
            "0",
            "-9223372036854775808",
            "9223372036854775807",
            "4102444799000000000",
            "1795176000000000000",
            "1795262400000000000",
        ],
    );
    let status = super::common::block_on(crate::Store::status(&*store)).unwrap();
    assert_eq!(
        (status.files, status.oldest_ns, status.newest_ns),
        (2, Some(i64::MIN), Some(i64::MAX))
    );
    check(
        &store,
        "SELECT count(*) FROM logs WHERE time < '1971-01-01'",
        &["2"],
    );
}

#[test]
fn time_and_severity_are_read_from_the_line_where_the_block_has_none() {
    let store = store();
    apply(
        &store,
        &[lines(
            stream_id(1),
            0,
            b"2026-11-21T11:00:00Z ERROR no\nnothing here\n",
        )],
    );
    check(
        &store,
        "SELECT event_time, severity FROM logs ORDER BY position",
        &["2026-11-21T11:00:00Z|17", "|"],
    );
}

#[test]
fn many_small_batches_are_merged_and_nothing_changes() {
    let store = store();
    let mut expected = 0;
    for number in 0..1500u64 {
        let id = stream_id(u8::try_from(number % 50).unwrap());
        let text = format!("line {number} {}\n", "x".repeat(30));
        apply(&store, &[lines(id, number * 100, text.as_bytes())]);
        expected += text.len();
    }
    let batches = store.snapshot().recent(crate::Table::Logs).len();
    assert!(batches < 70, "{batches} batches of one row each were merged");
    let query = "SELECT count(*), count(DISTINCT body), count(DISTINCT stream_id), sum(source_len) FROM logs";
    check(&store, query, &[&format!("1500|1500|50|{expected}")]);
}

#[test]
fn what_is_unknown_stops_and_what_is_wrong_is_put_aside() {
    let store = store();
    let good = blocks_entry("m1", &[lines(stream_id(1), 0, b"one\n")]);
    let check = |entry: &v1::LogEntry, remedy: Remedy| {
        let error = store.apply(0, entry).unwrap_err();
        assert_eq!(error.remedy(), remedy, "{error}");
        assert_eq!(store.cursor(), 0);
    };
    check(
        &v1::LogEntry {
            body: None,
            ..good.clone()
        },
        Remedy::Stop,
    );
    let with_batch = |change: &dyn Fn(&mut v1::Batch)| {
        let mut entry = good.clone();
        let Some(v1::log_entry::Body::Batch(batch)) = &mut entry.body else {
            unreachable!()
        };
        change(batch);
        entry
    };
    check(&with_batch(&|batch| batch.codec = 77), Remedy::Stop);
    check(&with_batch(&|batch| batch.record_count = 9), Remedy::DeadLetter);
    check(
        &with_batch(&|batch| batch.sha256 = vec![0; 32].into()),
        Remedy::DeadLetter,
    );
    check(
        &v1::LogEntry {
            streams: Vec::new(),
            ..good.clone()
        },
        Remedy::DeadLetter,
    );
    for (at, remedy) in [(5, Remedy::Stop), (4, Remedy::Stop), (9, Remedy::DeadLetter)] {
        let mut plain = Vec::new();
        lines(stream_id(1), 0, b"one\n").write_to(&mut plain).unwrap();
        plain[at] = 200;
        let batch = v1::Batch {
            codec: v1::Codec::None.into(),
            decompressed_len: u32::try_from(plain.len()).unwrap(),
            sha256: edgelogger_common::codec::sha256(&plain).to_vec().into(),
            block_count: 1,
            record_count: 1,
            payload: plain.into(),
            ..v1::Batch::default()
        };
        let streams = vec![descriptor(stream_id(1), "x")];
        check(&entry("m1", v1::log_entry::Body::Batch(batch), streams), remedy);
    }
    store.skip(0);
    assert_eq!(store.cursor(), 1);
    store.apply(1, &good).unwrap();
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["1"]);
}

/// An agent whose token was made anew under another name goes on with the streams it had.
#[test]
fn the_same_stream_of_two_machines_is_two_streams() {
    let store = store();
    for (sequence, machine) in [(0, "m1"), (1, "m2"), (2, "m1")] {
        store
            .apply(
                sequence,
                &blocks_entry(machine, &[lines(stream_id(1), 0, b"one\n")]),
            )
            .unwrap();
    }
    check(
        &store,
        "SELECT machine_id, count(*) FROM logs GROUP BY 1 ORDER BY 1",
        &["m1|1", "m2|1"],
    );
    store.flush().unwrap();
    assert_eq!(store.streams().len(), 2);
}

#[test]
fn an_agent_without_labels_and_one_with_too_many_are_stored() {
    let store = store();
    let mut bare = blocks_entry("m1", &[lines(stream_id(1), 0, b"one\n")]);
    bare.labels.clear();
    store.apply(0, &bare).unwrap();
    let mut many = blocks_entry("m2", &[lines(stream_id(2), 0, b"two\n")]);
    many.labels = (0..1000)
        .map(|n| (format!("key{n:04}"), "v".repeat(50)))
        .collect::<BTreeMap<_, _>>();
    store.apply(1, &many).unwrap();
    check(
        &store,
        "SELECT machine_id, cardinality(labels) FROM logs ORDER BY 1",
        &["m1|0", "m2|71"],
    );
    assert!(sql(&store, "SELECT labels FROM logs").row_count() == 2);
}

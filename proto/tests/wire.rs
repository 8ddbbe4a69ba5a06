//! The bytes of every message of wire v1, for ever: a reader of today must understand an agent of today in ten years.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use edgelogger_proto::v1::frame::Body;
use edgelogger_proto::v1::nack::Verdict;
use edgelogger_proto::v1::*;
use prost::Message;

fn id(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 16])
}

fn head() -> StreamHead {
    StreamHead {
        stream_id: id(1),
        acked: 10,
        read: 20,
        size: 30,
        ..StreamHead::default()
    }
}

fn descriptor() -> StreamDescriptor {
    StreamDescriptor {
        stream_id: id(1),
        kind: SourceKind::File.into(),
        unit: PositionUnit::Byte.into(),
        name: "/var/log/syslog".into(),
        replayable: true,
        start: 4096,
        predecessor: id(2),
        file: Some(FileIdentity {
            path: Bytes::from_static(b"/var/log/syslog"),
            device: 2049,
            inode: 131_073,
            birth_time_ns: 1_700_000_000_000_000_000,
            fingerprint_len: 1024,
            fingerprint_crc32c: 0xdead_beef,
            compression: FileCompression::Gzip.into(),
        }),
        opened_time_ns: 1_700_000_000_000_000_001,
        skipped_upto: 5000,
        machine_mark: Bytes::new(),
    }
}

fn batch() -> Batch {
    Batch {
        sequence: 2,
        codec: Codec::Zstd.into(),
        decompressed_len: 1000,
        block_count: 3,
        record_count: 40,
        sha256: Bytes::from(vec![3; 32]),
        payload: Bytes::from_static(b"payload"),
        lane: Lane::Backfill.into(),
    }
}

fn hello() -> Hello {
    Hello {
        agent_id: "machine-17".into(),
        instance_id: id(4),
        session_epoch: 5,
        protocol_min: 1,
        protocol_max: 1,
        agent_version: "0.1.0".into(),
        kinds: vec![
            BlockKind::Log.into(),
            BlockKind::Metric.into(),
            BlockKind::Receipt.into(),
        ],
        codecs: vec![Codec::Zstd.into(), Codec::Lz4.into()],
        labels: [("site".to_owned(), "berlin".to_owned())].into(),
        streams: vec![head()],
        last_log_id: id(6),
        clock_ns: 1_700_000_000_000_000_000,
        tenant: "default".into(),
        hostname: "machine-17.example".into(),
        boot_id: "b".into(),
        adopt_machine_mark: Bytes::new(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        log_id: id(6),
        protocol: 1,
        limits: Some(Limits {
            batch_bytes_max: 1 << 20,
            decompressed_bytes_max: 8 << 20,
            ratio_max: 200,
            blocks_max: 16_384,
            record_bytes_max: 4 << 20,
            batches_in_flight_max: 8,
        }),
        codecs: vec![Codec::Zstd.into()],
        kinds: vec![BlockKind::Log.into()],
        streams: vec![StreamKnown {
            stream_id: id(1),
            known: true,
            durable: 10,
            above: vec![Range { start: 12, end: 14 }],
        }],
        reconnect_spread_ms: 100,
        heartbeat_interval_ms: 15_000,
        credit_limit: 4 << 20,
        collector_version: "0.1.0".into(),
        clock_ns: 1_700_000_000_000_000_002,
        durability: Durability::Fsync.into(),
        stored: Vec::new(),
    }
}

fn metrics() -> AgentMetrics {
    AgentMetrics {
        rss_bytes: 1,
        cpu_time_ns: 2,
        bytes_sent: 3,
        records_read: 4,
        records_acked: 5,
        records_dropped: 6,
        records_lost: 7,
        records_rejected: 8,
        records_in_flight: 9,
        ring_bytes: 10,
        uptime_ns: 11,
        streams_open: 12,
    }
}

fn frames() -> Vec<(&'static str, Body)> {
    let stream_end = StreamEnd {
        sequence: 3,
        stream_id: id(1),
        size: 99,
        exact: true,
        reason: StreamEndReason::Deleted.into(),
    };
    let retry = Retry {
        after_ms: 500,
        code: "E0401".into(),
        message: "disk full".into(),
    };
    let bad = BlockReject {
        block_index: 1,
        code: "E0303".into(),
        message: "m".into(),
    };
    let reject = Reject {
        blocks: vec![bad],
        code: "E0303".into(),
        message: "m".into(),
    };
    vec![
        ("hello", Body::Hello(hello())),
        ("welcome", Body::Welcome(welcome())),
        (
            "refuse",
            Body::Refuse(Refuse {
                code: "E0203".into(),
                message: "m".into(),
                retry_after_ms: 7,
            }),
        ),
        (
            "stream_open",
            Body::StreamOpen(StreamOpen {
                sequence: 1,
                stream: Some(descriptor()),
            }),
        ),
        ("stream_end", Body::StreamEnd(stream_end)),
        ("batch", Body::Batch(batch())),
        (
            "ack",
            Body::Ack(Ack {
                sequence: 3,
                durability: Durability::Fsync.into(),
                credit_limit: 9,
            }),
        ),
        (
            "nack_retry",
            Body::Nack(Nack {
                sequence: 4,
                verdict: Some(Verdict::Retry(retry)),
            }),
        ),
        (
            "nack_reject",
            Body::Nack(Nack {
                sequence: 5,
                verdict: Some(Verdict::Reject(reject)),
            }),
        ),
        (
            "credit",
            Body::Credit(Credit {
                credit_limit: 1 << 22,
            }),
        ),
        (
            "heartbeat",
            Body::Heartbeat(Heartbeat {
                clock_ns: -1,
                streams: vec![head()],
                metrics: Some(metrics()),
            }),
        ),
        (
            "goodbye",
            Body::Goodbye(Goodbye {
                code: "E0204".into(),
                message: "m".into(),
                reconnect_after_ms: 1,
            }),
        ),
    ]
}

/// Frames with fields that were added later; without them they are the bytes of before.
fn extended_frames() -> Vec<(&'static str, Body)> {
    let stored = StoredStream {
        stream_id: id(1),
        name: "/var/log/syslog".into(),
        start: 0,
        stored_upto: 5000,
        checks: vec![RangeCheck {
            start: 0,
            end: 4096,
            crc32c: 0xdead_beef,
        }],
        opened_time_ns: 1_700_000_000_000_000_001,
    };
    let marked = StreamDescriptor {
        machine_mark: id(8),
        ..descriptor()
    };
    vec![
        (
            "hello_of_a_new_state",
            Body::Hello(Hello {
                adopt_machine_mark: id(8),
                ..hello()
            }),
        ),
        (
            "welcome_with_what_is_stored",
            Body::Welcome(Welcome {
                stored: vec![stored],
                ..welcome()
            }),
        ),
        (
            "stream_open_of_a_machine",
            Body::StreamOpen(StreamOpen {
                sequence: 1,
                stream: Some(marked),
            }),
        ),
    ]
}

fn log_entry() -> LogEntry {
    LogEntry {
        tenant: "default".into(),
        agent_id: "machine-17".into(),
        machine_id: "machine-17".into(),
        instance_id: id(4),
        session_epoch: 5,
        agent_version: "0.1.0".into(),
        labels: [("site".to_owned(), "berlin".to_owned())].into(),
        received_time_ns: 1_700_000_000_000_000_003,
        streams: vec![descriptor()],
        body: Some(log_entry::Body::Batch(batch())),
    }
}

/// Entries that came later than the first ones.
fn write_off() -> LogEntry {
    let stream = StreamWriteOff {
        stream_id: id(1),
        ranges: vec![Range { start: 10, end: 30 }],
        closes: true,
        size: 30,
    };
    LogEntry {
        body: Some(log_entry::Body::WriteOff(WriteOff {
            reason: WriteOffReason::Operator.into(),
            why: "burnt down".into(),
            declared_time_ns: 1_700_000_000_000_000_004,
            streams: vec![stream],
        })),
        ..log_entry()
    }
}

fn spool_entry() -> SpoolEntry {
    SpoolEntry {
        written_time_ns: 1_700_000_000_000_000_005,
        streams: vec![SpoolStream {
            descriptor: Some(descriptor()),
            acked: vec![Range { start: 10, end: 30 }],
        }],
        blocks: vec![SpoolBlock {
            stream_id: id(1),
            start: 30,
            end: 50,
            record_count: 8,
            receipt_reason: 0,
            dropped_positions: 2,
            lost_positions: 3,
            dropped_records: 4,
            lost_records: 5,
            counts_records: true,
            check_len: 0,
            check_crc32c: 0,
        }],
        body: Some(spool_entry::Body::Batch(Batch {
            sequence: 0,
            ..batch()
        })),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> String {
    let mut lines: Vec<String> = frames()
        .into_iter()
        .map(|(name, body)| format!("{name} {}", hex(&Frame { body: Some(body) }.encode_to_vec())))
        .collect();
    lines.push(format!("log_entry {}", hex(&log_entry().encode_to_vec())));
    let extended = extended_frames().into_iter();
    lines.extend(
        extended.map(|(name, body)| format!("{name} {}", hex(&Frame { body: Some(body) }.encode_to_vec()))),
    );
    lines.join("\n")
}

#[test]
fn the_bytes_of_wire_v1_stay() {
    assert_eq!(now(), include_str!("golden/wire_v1.hex").trim_end());
}

#[test]
fn the_bytes_of_a_head_with_an_age_stay() {
    let head = StreamHead {
        oldest_unacked_age_ms: 300,
        ..head()
    };
    assert_eq!(
        hex(&head.encode_to_vec()),
        "0a1001010101010101010101010101010101100a1814201e28ac02"
    );
}

#[test]
fn the_bytes_of_a_write_off_stay() {
    let bytes = write_off().encode_to_vec();
    assert_eq!(hex(&bytes), include_str!("golden/write_off_v1.hex").trim_end());
    assert_eq!(LogEntry::decode(Bytes::from(bytes)), Ok(write_off()));
}

#[test]
fn the_bytes_of_an_entry_of_the_spool_stay() {
    let bytes = spool_entry().encode_to_vec();
    assert_eq!(hex(&bytes), include_str!("golden/spool_v1.hex").trim_end());
    assert_eq!(SpoolEntry::decode(Bytes::from(bytes)), Ok(spool_entry()));
}

#[test]
fn every_message_reads_back() {
    for (name, body) in frames().into_iter().chain(extended_frames()) {
        let frame = Frame { body: Some(body) };
        assert_eq!(
            Frame::decode(Bytes::from(frame.encode_to_vec())),
            Ok(frame),
            "{name}"
        );
    }
    assert_eq!(
        LogEntry::decode(Bytes::from(log_entry().encode_to_vec())),
        Ok(log_entry())
    );
}

#[test]
fn a_payload_is_not_copied_when_its_frame_is_decoded() {
    let bytes = Bytes::from(
        Frame {
            body: Some(Body::Batch(batch())),
        }
        .encode_to_vec(),
    );
    let Some(Body::Batch(decoded)) = Frame::decode(bytes.clone()).unwrap().body else {
        panic!("a batch")
    };
    assert!(bytes.as_ptr_range().contains(&decoded.payload.as_ptr()));
}

#[test]
fn no_truncation_or_bit_flip_of_a_frame_makes_the_reader_panic() {
    for (_, body) in frames() {
        let bytes = Frame { body: Some(body) }.encode_to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = Frame::decode(Bytes::from(flipped));
            let _ = Frame::decode(&bytes[..bit / 8]);
        }
    }
}

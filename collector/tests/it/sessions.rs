//! What happens in a session.

use edgelogger_proto::v1::frame::Body;
use edgelogger_proto::v1::{Batch, Durability};

use crate::client::{AGENT, Fixture, batch_of, end, head, hello, lines, open, rehashed};

#[tokio::test]
async fn lines_are_acknowledged_with_their_durability_and_come_back_from_the_api() {
    let fixture = Fixture::start().await;
    let mut session = fixture.connect().await;
    let welcome = session.hello(hello(1, 1)).await;
    assert_eq!((welcome.protocol, welcome.durability()), (1, Durability::Fsync));
    assert_eq!(welcome.log_id.len(), 16);
    session.send(open(1)).await;
    session
        .send(Body::Batch(batch_of(
            2,
            "zstd:3",
            &[lines(0, "one\ntwo\n"), lines(8, "three\n")],
        )))
        .await;
    session.send(end(3, 14)).await;
    session.acked(3).await;
    fixture.stored(3).await;
    let (status, page) = fixture.get("/api/v1/logs?order=asc&from=-1h").await;
    assert_eq!(status, 200, "{page}");
    let bodies: Vec<_> = page["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["body"].as_str().unwrap())
        .collect();
    assert_eq!(bodies, ["one", "two", "three"]);
    assert_eq!(page["rows"][0]["machine_id"], AGENT);
    assert_eq!(page["rows"][0]["source"], "/var/log/app.log");
    assert_eq!(page["rows"][0]["labels"]["site"], "berlin");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_is_not_stored_twice() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "one\n")])))
        .await;
    session.acked(2).await;
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    let config = edgelogger_collector::Config::embedded_in(dir.path().join("data"));
    let collector = edgelogger_collector::Collector::start(config).await.unwrap();
    let fixture = Fixture { dir, collector };
    let mut session = fixture.ready_as(hello(1, 2)).await.0;
    session
        .send(Body::Batch(batch_of(
            2,
            "none",
            &[lines(0, "one\n"), lines(4, "two\n")],
        )))
        .await;
    session.acked(2).await;
    fixture.stored(2).await;
    let health = fixture.collector.health().await;
    let sink = &health.sinks[0];
    assert_eq!(
        (sink.applied, sink.duplicate, sink.residual),
        (1, 1, 0),
        "{sink:?}"
    );
}

#[tokio::test]
async fn a_reconnecting_agent_is_told_what_is_durable() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(
            2,
            "none",
            &[lines(0, "one\n"), lines(10, "late\n")],
        )))
        .await;
    session.acked(2).await;
    session.close().await;
    let mut session = fixture.connect().await;
    let mut greeting = hello(1, 2);
    greeting.streams = vec![head()];
    let welcome = session.hello(greeting).await;
    let known = &welcome.streams[0];
    assert_eq!((known.known, known.durable), (true, 4));
    assert_eq!(
        known
            .above
            .iter()
            .map(|range| (range.start, range.end))
            .collect::<Vec<_>>(),
        [(10, 15)]
    );
    session
        .send(Body::Batch(batch_of(1, "none", &[lines(4, "two\n")])))
        .await;
    assert_eq!(
        session.said().await,
        "ack 1",
        "a stream that is known needs no StreamOpen"
    );
}

#[tokio::test]
async fn a_batch_that_is_wrong_is_refused_alone() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let good = |sequence| batch_of(sequence, "lz4", &[lines(sequence * 8, "one\ntwo\n")]);
    let mut columns_disagree = lines(100, "one\ntwo\n");
    columns_disagree.header.record_count = 3;
    let two = [lines(200, "good\n"), {
        let mut block = lines(205, "bad\n");
        block.header.source_crc32c = Some(1);
        block
    }];
    let truncated = good(2);
    let truncated = rehashed(Batch {
        payload: truncated.payload.slice(..truncated.payload.len() - 3),
        ..truncated
    });
    let wrong = [
        (truncated, "E0306 []"),
        (batch_of(2, "none", &[columns_disagree]), "E0303 [0]"),
        (batch_of(2, "zstd:1", &two), "E0303 [1]"),
        (
            Batch {
                record_count: 7,
                ..good(2)
            },
            "E0303 []",
        ),
        (Batch { codec: 77, ..good(2) }, "E0305 []"),
    ];
    for (sequence, (wrong, expected)) in (2..).zip(wrong) {
        session.send(Body::Batch(Batch { sequence, ..wrong })).await;
        assert_eq!(session.said().await, format!("reject {sequence} {expected}"));
    }
    session.send(Body::Batch(good(7))).await;
    assert_eq!(session.said().await, "ack 7");
    fixture.stored(2).await;
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_opens() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let zeroes = vec![0u8; 64 << 20];
    let mut payload = Vec::new();
    edgelogger_common::codec::Compressor::new()
        .compress("zstd:3".parse().unwrap(), &zeroes, &mut payload)
        .unwrap();
    for (sequence, claimed) in (2..).zip([64 << 20, 1 << 20, u32::MAX]) {
        let bomb = rehashed(Batch {
            sequence,
            decompressed_len: claimed,
            payload: payload.clone().into(),
            ..batch_of(2, "zstd:3", &[lines(0, "one\n")])
        });
        session.send(Body::Batch(bomb)).await;
        let said = session.said().await;
        assert!(said.starts_with(&format!("reject {sequence} E030")), "{said}");
    }
}

#[tokio::test]
async fn a_payload_that_was_changed_is_asked_for_again_and_accepted_when_it_is_right() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let good = batch_of(2, "none", &[lines(0, "one\n")]);
    let mut payload = good.payload.to_vec();
    payload[60] ^= 1;
    session
        .send(Body::Batch(Batch {
            payload: payload.into(),
            ..good.clone()
        }))
        .await;
    assert_eq!(session.said().await, "retry 2 E0301");
    session.send(Body::Batch(good)).await;
    assert_eq!(session.said().await, "ack 2");
}

#[tokio::test]
async fn what_is_no_frame_ends_the_session_with_a_reason() {
    let fixture = Fixture::start().await;
    for (epoch, garbage) in (1..).zip([&b"garbage \xff\xff"[..], b"", &[0x0a, 0xff, 0x01]]) {
        let mut session = fixture.ready_as(hello(1, epoch)).await.0;
        session.send_bytes(garbage.to_vec()).await;
        assert_eq!(session.said().await, "goodbye E0219", "{garbage:?}");
        assert_eq!(session.said().await, "closed");
    }
}

#[tokio::test]
async fn a_sequence_out_of_order_ends_the_session() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(3, "none", &[lines(0, "one\n")])))
        .await;
    assert_eq!(session.said().await, "goodbye E0219");
}

#[tokio::test]
async fn credit_comes_back_over_many_batches() {
    let fixture = Fixture::start_with(|config| config.ingest.settings.window_bytes_max = 64 << 10).await;
    let mut session = fixture.connect().await;
    let mut limit = session.hello(hello(1, 1)).await.credit_limit;
    session.send(open(1)).await;
    let text = format!("{}\n", "x".repeat(20_000));
    let (mut sent, mut acked) = (0u64, 0);
    for sequence in 2..40u64 {
        while sent >= limit {
            match session.next().await.unwrap() {
                Body::Ack(ack) => (limit, acked) = (limit.max(ack.credit_limit), ack.sequence),
                Body::Credit(credit) => limit = limit.max(credit.credit_limit),
                other => panic!("{other:?}"),
            }
        }
        let batch = batch_of(sequence, "none", &[lines(sequence * 100_000, &text)]);
        sent += batch.payload.len() as u64;
        session.send(Body::Batch(batch)).await;
    }
    assert!(acked > 0);
    session.acked(39).await;
    assert_eq!(
        fixture.collector.health().await.ingest.memory_reserved_bytes,
        64 << 10
    );
}

/// Time from sending a small batch to its Ack, one at a time. Run alone, optimised:
/// `cargo test --release -p edgelogger-collector --test it -- --ignored --nocapture latency`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn latency_of_one_small_batch() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let mut times = Vec::new();
    for sequence in 2..1_002 {
        let batch = Body::Batch(batch_of(sequence, "lz4", &[lines(sequence * 4, "abc\n")]));
        let start = std::time::Instant::now();
        session.send(batch).await;
        session.acked(sequence).await;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "ack latency: p50 {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    let file = std::fs::File::create(fixture.dir.path().join("sync")).unwrap();
    let mut syncs: Vec<_> = (0..300u64)
        .map(|n| {
            std::os::unix::fs::FileExt::write_all_at(&file, &[7; 300], n * 300).unwrap();
            let start = std::time::Instant::now();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    syncs.sort();
    println!(
        "write of 300 B and fdatasync alone: p50 {:?}",
        syncs[syncs.len() / 2]
    );
}

//! What the ledger says of a stream through its life.

use edgelogger_common::block::{Block, ReceiptReason};
use edgelogger_proto::v1::frame::Body;
use edgelogger_proto::v1::{Heartbeat, StreamHead};
use serde_json::{Value, json};

use crate::client::{AGENT, Fixture, STREAM, batch_of, crc32c, end, head, hello, lines, open, wait_for};

async fn until(fixture: &Fixture, query: &str, expected: impl Fn(&Value) -> bool) -> Value {
    wait_for(async || {
        let (status, ledger) = fixture.get(&format!("/api/v1/ledger{query}")).await;
        assert_eq!(status, 200, "{ledger}");
        let stream = ledger["streams"][0].clone();
        if expected(&stream) {
            Ok(stream)
        } else {
            Err(ledger.to_string())
        }
    })
    .await
}

fn heartbeat(read: u64, size: u64) -> Body {
    Body::Heartbeat(Heartbeat {
        streams: vec![StreamHead { read, size, ..head() }],
        ..Heartbeat::default()
    })
}

#[tokio::test]
async fn every_byte_of_a_file_is_accounted_for_while_it_comes_and_when_its_agent_falls_silent() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let lost = Block::receipt(STREAM, false, 8, 20, ReceiptReason::Truncated, 2, true);
    session
        .send(Body::Batch(batch_of(
            2,
            "zstd:1",
            &[lines(0, "one\ntwo\n"), lost, lines(30, "three\n")],
        )))
        .await;
    session.acked(2).await;
    session.send(heartbeat(36, 50)).await;
    let stream = until(&fixture, "", |stream| stream["size"] == 50).await;
    assert_eq!(
        stream["positions"],
        json!({"stored": 14, "durable": 0, "pending": 24, "unknown": 0, "dropped": 0, "lost": 12})
    );
    assert_eq!(
        stream["gaps"],
        json!([
            {"start": 8, "end": 20, "state": "lost", "reason": "truncated", "records": 2},
            {"start": 20, "end": 30, "state": "pending"},
            {"start": 36, "end": 50, "state": "pending"},
        ])
    );
    assert_eq!(
        (&stream["machine"], &stream["source"], &stream["kind"]),
        (&json!(AGENT), &json!("/var/log/app.log"), &json!("file"))
    );
    assert_eq!(
        (
            &stream["stored_upto"],
            &stream["generation"],
            &stream["connected"]
        ),
        (&json!(20), &json!(1), &json!(true))
    );

    session.close().await;
    let stream = until(&fixture, "?state=unknown", |stream| stream["connected"] == false).await;
    assert_eq!(stream["positions"]["unknown"], 24);
    assert!(stream["unknown_since"].is_string(), "{stream}");

    // It comes back, sends the rest and ends the stream: nothing is missing any more but what is lost.
    let mut session = fixture.connect().await;
    session.hello(hello(1, 2)).await;
    session.send(open(1)).await;
    session
        .send(Body::Batch(batch_of(
            2,
            "none",
            &[lines(20, "backlog..\n"), lines(36, "thirteen byte\n")],
        )))
        .await;
    session.send(end(3, 50)).await;
    session.acked(3).await;
    let stream = until(&fixture, "?machine=machine-*&state=lost", |stream| {
        stream["positions"]["stored"] == 38
    })
    .await;
    assert_eq!(stream["stored_upto"], 50);
    assert_eq!(
        stream["end"],
        json!({"size": 50, "exact": true, "reason": "deleted"})
    );
    assert_eq!(stream["gaps"].as_array().unwrap().len(), 1);
    let (_, ledger) = fixture.get("/api/v1/ledger?checks=true").await;
    let checks = ledger["streams"][0]["checks"].as_array().unwrap();
    let ranges: Vec<_> = checks
        .iter()
        .map(|check| (&check["start"], &check["end"]))
        .collect();
    assert_eq!(ranges, [(&json!(0), &json!(8)), (&json!(20), &json!(50))]);
    assert_eq!(checks[0]["crc32c"], crc32c(b"one\ntwo\n"));
    let (_, none) = fixture.get("/api/v1/ledger?machine=other").await;
    assert_eq!((&none["count"], &none["streams"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn the_ledger_is_the_same_after_a_restart() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let dropped = Block::receipt(STREAM, false, 4, 9, ReceiptReason::TooOld, 1, false);
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "one\n"), dropped])))
        .await;
    session.acked(2).await;
    let before = until(&fixture, "", |stream| stream["positions"]["dropped"] == 5).await;
    let Fixture { dir, collector } = fixture;
    session.close().await;
    collector.shutdown().await;
    let config = edgelogger_collector::Config::embedded_in(dir.path().join("data"));
    let collector = edgelogger_collector::Collector::start(config).await.unwrap();
    let fixture = Fixture { dir, collector };
    let after = until(&fixture, "", Value::is_object).await;
    for field in [
        "stream_id",
        "opened",
        "last_received",
        "positions",
        "gaps",
        "rows",
        "size",
    ] {
        assert_eq!(after[field], before[field], "{field}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_answered_with_a_problem() {
    let fixture = Fixture::start().await;
    for query in ["state=gone", "stream=17", "since=soon", "limit=0", "colour=red"] {
        let (status, problem) = fixture.get(&format!("/api/v1/ledger?{query}")).await;
        assert_eq!(
            (status, &problem["code"]),
            (400, &json!("E0504")),
            "{query}: {problem}"
        );
    }
}

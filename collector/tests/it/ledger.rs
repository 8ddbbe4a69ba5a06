//! What the ledger says of a stream through its life.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::block::{Block, ReceiptReason};
use edgelogger_common::disk::OsDisk;
use edgelogger_common::segment::{SegmentLog, SegmentOptions};
use edgelogger_proto::v1::frame::Body;
use edgelogger_proto::v1::{Heartbeat, Hello, LogEntry, StreamHead, Welcome, log_entry};
use prost::Message as _;
use serde_json::{Value, json};

use crate::client::{
    AGENT, Fixture, STREAM, answer, batch_of, client, crc32c, end, head, hello, lines, open, wait_for,
};

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
        json!({"stored": 14, "expired": 0, "durable": 0, "pending": 24, "unknown": 0, "dropped": 0, "dead_lettered": 0, "lost": 12})
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
    session.close().await;
    let fixture = restarted(fixture).await;
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

async fn close(fixture: &Fixture, body: &Value) -> (u16, Value) {
    let url = format!("http://{}/api/v1/ledger/close", fixture.collector.api_addr);
    answer(client().post(url).json(body)).await
}

#[tokio::test]
async fn an_operator_closes_a_dead_machine_and_it_comes_back_after_all() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(
            2,
            "none",
            &[lines(0, "one\n"), lines(10, "three\n")],
        )))
        .await;
    session.acked(2).await;
    session.send(heartbeat(16, 40)).await;
    until(&fixture, "", |stream| {
        stream["positions"]["pending"] == 30 && stream["rows"] == 2
    })
    .await;
    let request = json!({"machine": AGENT, "reason": "burnt down"});
    let (status, problem) = close(&fixture, &request).await;
    assert_eq!((status, &problem["code"]), (409, &json!("E0508")), "{problem}");
    session.close().await;
    until(&fixture, "", |stream| stream["connected"] == false).await;

    let (status, plan) = close(
        &fixture,
        &json!({"machine": AGENT, "reason": "burnt down", "dry_run": true}),
    )
    .await;
    assert_eq!(
        (status, &plan["lost"], &plan["dry_run"]),
        (200, &json!(30), &json!(true)),
        "{plan}"
    );
    let (status, plan) = close(&fixture, &request).await;
    assert_eq!((status, &plan["streams"][0]["size"]), (200, &json!(40)), "{plan}");
    let lost = |lost: u64| move |stream: &Value| stream["positions"]["lost"] == lost;
    let stream = until(&fixture, "", lost(30)).await;
    assert_eq!(stream["positions"]["unknown"], 0);
    let gap = &stream["gaps"][0];
    assert_eq!(
        (&gap["reason"], &gap["note"]),
        (&json!("operator"), &json!("burnt down")),
        "{gap}"
    );
    assert!(gap["declared"].is_string(), "{gap}");
    assert_eq!(
        stream["end"],
        json!({"size": 40, "exact": false, "reason": "operator"})
    );

    // Doing it again closes nothing, and it survives a restart.
    let (_, again) = close(&fixture, &request).await;
    assert_eq!(again["streams"], json!([]));
    let fixture = restarted(fixture).await;
    until(&fixture, "", lost(30)).await;

    // It was in a cupboard: what it brings is stored, what is still missing stays lost.
    let mut session = fixture.ready_as(hello(1, 2)).await.0;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(16, "back again\n")])))
        .await;
    session.acked(2).await;
    let stream = until(&fixture, "", lost(19)).await;
    assert_eq!(
        (&stream["positions"]["stored"], &stream["rows"]),
        (&json!(21), &json!(3))
    );
    let ranges: Vec<_> = stream["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gap| (&gap["start"], &gap["end"]))
        .collect();
    assert_eq!(ranges, [(&json!(4), &json!(10)), (&json!(27), &json!(40))]);
    assert_eq!(stream["end"], Value::Null, "whoever speaks is not dead");
}

#[tokio::test]
async fn what_can_not_be_closed_is_said() {
    let fixture = Fixture::start().await;
    drop(fixture.ready().await);
    until(&fixture, "", |stream| stream["connected"] == false).await;
    for (body, code) in [
        (json!({"machine": "machine-1*", "reason": "gone"}), "E0504"),
        (json!({"machine": AGENT, "reason": "  "}), "E0504"),
        (json!({"machine": AGENT, "reason": "a\u{1b}b"}), "E0504"),
        (
            json!({"machine": AGENT, "reason": "gone", "source": "/other/*"}),
            "E0504",
        ),
        (
            json!({"machine": AGENT, "reason": "gone", "stream": "17"}),
            "E0504",
        ),
        (json!({"machine": AGENT}), "E0504"),
    ] {
        let (status, problem) = close(&fixture, &body).await;
        assert_eq!(
            (status, &problem["code"]),
            (400, &json!(code)),
            "{body}: {problem}"
        );
    }
    // What a form of a web page can send without asking.
    let url = format!("http://{}/api/v1/ledger/close", fixture.collector.api_addr);
    let form = client().post(url).header("content-type", "text/plain");
    let (status, _) = answer(form.body(json!({"machine": AGENT, "reason": "gone"}).to_string())).await;
    assert_eq!(status, 415);
    let stream = until(&fixture, "", Value::is_object).await;
    assert_eq!(stream["end"], Value::Null);
}

/// The same folder, in a new collector.
async fn restarted(fixture: Fixture) -> Fixture {
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    start_in(dir).await
}

async fn start_in(dir: tempfile::TempDir) -> Fixture {
    let config = edgelogger_collector::Config::embedded_in(dir.path().join("data"));
    let collector = edgelogger_collector::Collector::start(config).await.unwrap();
    Fixture { dir, collector }
}

/// Three lines acknowledged while the store is paused, and the collector stopped: they are in the log only.
async fn three_lines_in_the_log() -> tempfile::TempDir {
    let fixture = Fixture::start_with(|config| config.store.paused = true).await;
    let mut session = fixture.ready().await;
    for (sequence, text) in [(2, "first line\n"), (3, "second line\n"), (4, "third line\n")] {
        let start = [0, 11, 23][usize::try_from(sequence).unwrap() - 2];
        session
            .send(Body::Batch(batch_of(sequence, "none", &[lines(start, text)])))
            .await;
        session.acked(sequence).await;
    }
    session.close().await;
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    dir
}

/// Changes one byte of the log, in what this text is part of.
fn damage(dir: &tempfile::TempDir, text: &str) {
    let segment = dir.path().join("data/log/00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
}

fn acked(acked: u64) -> Body {
    Body::Heartbeat(Heartbeat {
        streams: vec![StreamHead {
            acked,
            read: acked,
            size: acked,
            ..head()
        }],
        ..Heartbeat::default()
    })
}

#[tokio::test]
async fn what_was_acknowledged_and_damaged_in_the_log_is_lost_and_not_pending_for_ever() {
    let dir = three_lines_in_the_log().await;
    damage(&dir, "second");
    let fixture = start_in(dir).await;
    let ledger = wait_for(async || {
        let (_, ledger) = fixture.get("/api/v1/ledger").await;
        if ledger["log_gaps"].is_array() {
            Ok(ledger)
        } else {
            Err(ledger.to_string())
        }
    })
    .await;
    assert_eq!(
        (&ledger["log_gaps"][0]["start"], &ledger["log_gaps"][0]["state"]),
        (&json!(3), &json!("lost")),
        "{ledger}"
    );
    // Whose it was is known once the agent says what was acknowledged.
    let mut session = fixture.connect().await;
    session.hello(hello(1, 2)).await;
    session.send(acked(34)).await;
    let lost = |stream: &Value| stream["positions"]["lost"] == 12;
    let stream = until(&fixture, "", lost).await;
    assert_eq!(stream["positions"]["stored"], 22);
    let gap = &stream["gaps"][0];
    assert_eq!(
        (&gap["start"], &gap["end"], &gap["reason"]),
        (&json!(11), &json!(23), &json!("log_damaged"))
    );
    session.close().await;
    let fixture = restarted(fixture).await;
    let stream = until(&fixture, "", lost).await;
    assert_eq!(stream["gaps"].as_array().unwrap().len(), 1);
    let (_, ledger) = fixture.get("/api/v1/ledger").await;
    assert_eq!(ledger["log_gaps"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_frame_that_was_stored_has_lost_nothing() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "first line\n")])))
        .await;
    session.acked(2).await;
    fixture.stored(1).await;
    session.close().await;
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    damage(&dir, "first");
    let fixture = start_in(dir).await;
    let mut session = fixture.connect().await;
    session.hello(hello(1, 2)).await;
    session.send(acked(11)).await;
    // Something new goes through, so that everything before it was looked at.
    session.send(open(1)).await;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(11, "second line\n")])))
        .await;
    session.acked(2).await;
    let stream = until(&fixture, "", |stream| stream["rows"] == 2).await;
    assert_eq!(stream["positions"]["lost"], 0, "{stream}");
    let (_, ledger) = fixture.get("/api/v1/ledger").await;
    assert_eq!(ledger["log_gaps"], Value::Null);
}

#[tokio::test]
async fn an_entry_that_can_not_be_applied_is_dead_lettered_position_by_position() {
    let dir = three_lines_in_the_log().await;
    // As if an older version had let it through: the hash of the second batch is not that of its payload.
    forge(&dir);
    let fixture = start_in(dir).await;
    let stream = until(&fixture, "?state=dead_lettered", |stream| stream["rows"] == 3).await;
    assert_eq!(stream["positions"]["dead_lettered"], 12, "{stream}");
    let gap = &stream["gaps"][0];
    assert_eq!(
        (&gap["start"], &gap["end"], &gap["state"]),
        (&json!(34), &json!(46), &json!("dead_lettered"))
    );
    assert!(gap["reason"].as_str().unwrap().starts_with('E'), "{gap}");
    let (_, ledger) = fixture.get("/api/v1/ledger").await;
    assert_eq!(ledger["log_gaps"][0]["records"], 1, "{ledger}");
    assert_eq!(
        std::fs::read_dir(fixture.dir.path().join("data/dead-letters"))
            .unwrap()
            .count(),
        1
    );
    let fixture = restarted(fixture).await;
    until(&fixture, "", |stream| stream["positions"]["dead_lettered"] == 12).await;
}

/// Appends a batch whose hash is wrong.
fn forge(dir: &tempfile::TempDir) {
    let disk = Arc::new(OsDisk);
    let (mut log, _) =
        SegmentLog::open(disk, &dir.path().join("data/log"), SegmentOptions::default()).unwrap();
    let Body::StreamOpen(open) = open(1) else {
        unreachable!()
    };
    let mut batch = batch_of(1, "none", &[lines(34, "fourth line\n")]);
    batch.sha256 = vec![0; 32].into();
    let entry = LogEntry {
        machine_id: AGENT.into(),
        agent_id: AGENT.into(),
        streams: vec![open.stream.unwrap()],
        body: Some(log_entry::Body::Batch(batch)),
        ..LogEntry::default()
    };
    log.append(&[&entry.encode_to_vec()]).unwrap();
    log.sync().unwrap();
}

#[tokio::test]
async fn what_a_silent_machine_had_is_known_after_a_restart() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "one\n")])))
        .await;
    session.acked(2).await;
    let waiting = StreamHead {
        acked: 4,
        read: 40,
        size: 90,
        oldest_unacked_age_ms: 5_000_000,
        ..head()
    };
    session
        .send(Body::Heartbeat(Heartbeat {
            streams: vec![waiting],
            ..Heartbeat::default()
        }))
        .await;
    // The oldest byte that waits is older than anything that came in.
    let seen = |stream: &Value| stream["size"] == 90 && stream["lag_s"].as_u64().unwrap() >= 5_000;
    until(&fixture, "", seen).await;
    session.close().await;
    let before = until(&fixture, "", |stream| stream["unknown_since"].is_string()).await;
    let fixture = restarted(fixture).await;
    let after = until(&fixture, "?state=unknown", seen).await;
    assert_eq!(
        after["positions"],
        json!({"stored": 4, "expired": 0, "durable": 0, "pending": 0, "unknown": 86, "dropped": 0, "dead_lettered": 0, "lost": 0})
    );
    assert_eq!(after["unknown_since"], before["unknown_since"]);

    // What it says when it comes back stands.
    let mut session = fixture.connect().await;
    session.hello(hello(1, 2)).await;
    session
        .send(Body::Heartbeat(Heartbeat {
            streams: vec![StreamHead {
                acked: 4,
                read: 95,
                size: 95,
                ..head()
            }],
            ..Heartbeat::default()
        }))
        .await;
    until(&fixture, "", |stream| {
        stream["size"] == 95 && stream["connected"] == true
    })
    .await;
}

#[tokio::test]
async fn heads_that_can_not_be_read_are_left_behind() {
    let fixture = Fixture::start().await;
    drop(fixture.ready().await);
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    std::fs::write(
        dir.path().join("data/heads"),
        "edgelogger-heads 1 crc32c=00000000 bytes=4\nbody",
    )
    .unwrap();
    let fixture = start_in(dir).await;
    until(&fixture, "", Value::is_object).await;
    assert!(fixture.collector.health().await.problems.is_empty());
}

#[tokio::test]
async fn what_an_earlier_log_acknowledged_is_not_waited_for() {
    let fixture = Fixture::start().await;
    let mut session = fixture.connect().await;
    let streams = vec![StreamHead {
        acked: 30,
        read: 30,
        size: 40,
        ..head()
    }];
    let last_log_id = vec![9; 16].into();
    session
        .hello(edgelogger_proto::v1::Hello {
            streams,
            last_log_id,
            ..hello(1, 1)
        })
        .await;
    // The collector looks at what was told before it hears of the stream.
    tokio::time::sleep(Duration::from_secs(3)).await;
    session.send(open(1)).await;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(30, "123456789\n")])))
        .await;
    session.acked(2).await;
    let stream = until(&fixture, "?state=lost", Value::is_object).await;
    assert_eq!(
        (&stream["positions"]["lost"], &stream["gaps"][0]["reason"]),
        (&json!(30), &json!("other_log")),
        "{stream}"
    );
    // Sent again after all, as `rewind` does.
    session
        .send(Body::Batch(batch_of(3, "none", &[lines(0, "abcdefghi\n")])))
        .await;
    session.acked(3).await;
    until(&fixture, "", |stream| {
        stream["positions"]["lost"] == 20 && stream["rows"] == 2
    })
    .await;
}

/// A session that ends when it was welcomed.
async fn greet(fixture: &Fixture, hello: Hello) -> Welcome {
    let mut session = fixture.connect().await;
    let welcome = session.hello(hello).await;
    session.close().await;
    welcome
}

#[tokio::test]
async fn an_agent_without_state_is_told_of_the_open_files_of_its_machine_and_of_no_other() {
    let fixture = Fixture::start().await;
    let asks = |instance: u8, mark: u8| Hello {
        adopt_machine_mark: Bytes::copy_from_slice(&[mark; 16]),
        ..hello(instance, 1)
    };
    let mut session = fixture.connect().await;
    session.hello(hello(1, 1)).await;
    let Body::StreamOpen(mut opened) = open(1) else {
        panic!("it is one")
    };
    opened.stream.as_mut().unwrap().machine_mark = Bytes::copy_from_slice(&[7; 16]);
    session.send(Body::StreamOpen(opened)).await;
    let text = "one\ntwo\nthree\n";
    session
        .send(Body::Batch(batch_of(
            2,
            "zstd:1",
            &[lines(0, text), lines(20, "behind a gap\n")],
        )))
        .await;
    session.acked(2).await;
    until(&fixture, "", |stream| stream["stored_upto"] == 14).await;
    session.close().await;

    let welcome = greet(&fixture, asks(2, 7)).await;
    assert_eq!(welcome.stored.len(), 1);
    let stored = &welcome.stored[0];
    assert_eq!((&stored.stream_id, stored.stored_upto), (&STREAM.to_proto(), 14));
    assert_eq!(stored.name, "/var/log/app.log");
    let checks: Vec<_> = stored
        .checks
        .iter()
        .map(|check| (check.start, check.end, check.crc32c))
        .collect();
    assert_eq!(checks, [(0, 14, crc32c(text.as_bytes()))]);

    let other = greet(&fixture, asks(3, 8)).await;
    assert_eq!(other.stored, []);
    let unasked = greet(&fixture, hello(4, 1)).await;
    assert_eq!(unasked.stored, []);
}

#[tokio::test]
async fn what_is_closed_whole_and_old_is_known_by_day() {
    let fixture = Fixture::start_with(|config| config.ledger.detail = std::time::Duration::ZERO).await;
    let mut session = fixture.ready().await;
    let lost = Block::receipt(STREAM, false, 4, 9, ReceiptReason::Rotated, 1, false);
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "one\n"), lost])))
        .await;
    session.send(end(3, 9)).await;
    session.acked(3).await;
    let (_, ledger) = fixture.get("/api/v1/ledger").await;
    assert_eq!(ledger["folded_streams"], 0);
    session.close().await;
    // Stopping writes the manifest.
    let fixture = restarted(fixture).await;
    let (_, ledger) = fixture
        .get("/api/v1/ledger?summaries=true&machine=machine-*")
        .await;
    assert_eq!(
        (&ledger["count"], &ledger["folded_streams"]),
        (&json!(0), &json!(1)),
        "{ledger}"
    );
    let summary = &ledger["summaries"][0];
    assert_eq!(
        (
            &summary["source"],
            &summary["streams"],
            &summary["stored"],
            &summary["rows"]
        ),
        (&json!("/var/log/app.log"), &json!(1), &json!(4), &json!(1))
    );
    assert_eq!(
        summary["gaps"],
        json!([{"state": "lost", "reason": "rotated", "positions": 5}])
    );
    let (_, none) = fixture.get("/api/v1/ledger?summaries=true&machine=other").await;
    assert_eq!(none["summaries"], Value::Null);
    // What it held is kept, for audits; asked for by the size at which it ended.
    let (_, held) = fixture
        .get("/api/v1/ledger?summaries=true&checks=true&size=9")
        .await;
    let check = json!({"start": 0, "end": 4, "crc32c": crc32c(b"one\n")});
    assert_eq!(
        held["summaries"][0]["contents"],
        json!([{"stream_id": STREAM.to_string(), "size": 9, "exact": true, "checks": [check]}]),
        "{held}"
    );
    assert_eq!(held["summaries_count"], 1);
    let (_, none) = fixture
        .get("/api/v1/ledger?summaries=true&checks=true&size=8")
        .await;
    assert_eq!((&none["summaries"], &none["count"]), (&Value::Null, &json!(0)));
    let mut session = fixture.ready_as(hello(1, 2)).await.0;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "one\n")])))
        .await;
    session.acked(2).await;
    let stream = until(&fixture, "", Value::is_object).await;
    assert_eq!((&stream["rows"], &stream["stored_upto"]), (&json!(0), &json!(9)));
    fixture.stored(1).await;
}

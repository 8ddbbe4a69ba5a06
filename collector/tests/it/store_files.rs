//! Files of the store that are damaged under a running collector, or kept no longer: every request says so.

use std::path::PathBuf;
use std::time::Duration;

use edgelogger_collector::{Collector, Config};
use edgelogger_proto::v1::frame::Body;
use edgelogger_store::TableRetention;
use serde_json::{Value, json};

use crate::client::{Fixture, batch_of, client, lines, now_ns, wait_for};
use crate::fleet::{Machine, SECOND, stored, temperature};

/// Stops the collector, so that everything is in files, and starts it again.
async fn restarted(fixture: Fixture, change: impl FnOnce(&mut Config)) -> Fixture {
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    let mut config = Config::embedded_in(dir.path().join("data"));
    change(&mut config);
    let collector = Collector::start(config).await.unwrap();
    Fixture { dir, collector }
}

fn files(fixture: &Fixture, table: &str) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(fixture.dir.path().join("data/store/files")).unwrap();
    let mut files: Vec<PathBuf> = dir.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(table));
    files.sort();
    files
}

/// Answer, and what its header says of missing files.
async fn ask(fixture: &Fixture, path: &str) -> (u16, Option<String>, Value) {
    let url = format!("http://{}{path}", fixture.collector.api_addr);
    let request = match path.strip_prefix("/api/v1/sql?") {
        Some(_) => client().post(url).json(&json!({"query": "SELECT * FROM logs"})),
        None => client().get(url),
    };
    let answer = request.send().await.unwrap();
    let (status, header) = (
        answer.status().as_u16(),
        answer.headers().get("x-edgelogger-incomplete"),
    );
    let header = header.map(|value| value.to_str().unwrap().to_owned());
    let text = answer.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, header, json)
}

const OF_LOGS: [&str; 12] = [
    "/api/v1/logs",
    "/api/v1/logs?format=csv",
    "/api/v1/logs?format=ndjson",
    "/api/v1/logs/volume?from=-2h",
    "/api/v1/logs/patterns?from=-2h",
    "/api/v1/logs/context?stream_id=42424242424242424242424242424242&position=0",
    "/api/v1/sql?format=json",
    "/api/v1/sql?format=csv",
    "/api/v1/sql?format=ndjson",
    "/api/v1/sql?format=arrow",
    "/api/v1/machines/machine-17",
    "/api/v1/machines/machine-17?days=31",
];
const OF_METRICS: [&str; 5] = [
    "/api/v1/metrics/range?name=hw.temperature&from=-2h",
    "/api/v1/metrics",
    "/api/v1/metrics/series",
    "/api/v1/latest",
    "/api/v1/latest/machine-2/hw.temperature",
];

#[tokio::test]
async fn every_answer_made_of_the_store_says_which_of_its_files_can_not_be_used() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let batch = batch_of(2, "none", &[lines(0, "one\ntwo\n")]);
    session.send(Body::Batch(batch)).await;
    session.acked(2).await;
    fixture.stored(2).await;
    let mut machine = Machine::connect(&fixture, 1, "berlin").await;
    machine
        .measure(vec![temperature(now_ns() - 60 * SECOND, 20.0, "cpu")])
        .await;
    stored(&fixture, "metrics", 1).await;
    drop((session, machine));
    let fixture = restarted(fixture, |_| ()).await;
    for path in OF_LOGS.iter().chain(&OF_METRICS[..4]) {
        let (status, header, answer) = ask(&fixture, path).await;
        assert_eq!((status, header), (200, None), "{path}: {answer}");
        assert!(answer["incomplete"].is_null(), "{path}: {answer}");
    }
    // A second file of each, so that there is something left; the first ones are damaged while nothing has read them.
    let mut session = fixture.connect().await;
    session.hello(crate::client::hello(1, 2)).await;
    session.send(crate::client::open(1)).await;
    let batch = batch_of(2, "none", &[lines(8, "three\n")]);
    session.send(Body::Batch(batch)).await;
    session.acked(2).await;
    fixture.stored(3).await;
    let mut machine = Machine::connect(&fixture, 2, "oslo").await;
    machine
        .measure(vec![temperature(now_ns() - 30 * SECOND, 21.0, "cpu")])
        .await;
    stored(&fixture, "metrics", 2).await;
    drop((session, machine));
    let fixture = restarted(fixture, |_| ()).await;
    for table in ["logs", "metrics"] {
        let path = &files(&fixture, table)[0];
        let mut bytes = std::fs::read(path).unwrap();
        let len = bytes.len();
        bytes[4..len - 4].fill(0xff);
        std::fs::write(path, bytes).unwrap();
    }
    // Who asks first finds it out.
    for path in OF_LOGS.iter().chain(&OF_METRICS[..1]) {
        check_incomplete(&fixture, path).await;
    }
    let (_, health) = fixture.get("/health").await;
    assert_eq!(health["verdict"], "degraded", "{health}");
    assert!(health.to_string().contains("is put aside"), "{health}");
    ledger_says_what_is_lost(&fixture).await;

    // The newest samples are read when the collector starts; what is aside stays so.
    let fixture = restarted(fixture, |_| ()).await;
    for path in OF_LOGS.iter().chain(&OF_METRICS) {
        wait_for(async || {
            let (status, header, answer) = ask(&fixture, path).await;
            (header.is_some() || path.contains("/context") && status == 404)
                .then_some(())
                .ok_or(format!("{path}: {answer}"))
        })
        .await;
        check_incomplete(&fixture, path).await;
    }
    let (status, _, problem) = ask(
        &fixture,
        "/api/v1/logs/context?stream_id=42424242424242424242424242424242&position=4",
    )
    .await;
    assert_eq!(status, 404);
    assert!(
        problem["detail"].as_str().unwrap().contains("can't be used"),
        "{problem}"
    );
}

async fn check_incomplete(fixture: &Fixture, path: &str) {
    let (status, header, answer) = ask(fixture, path).await;
    // The damaged file holds the record that context is asked for.
    if path.contains("/context") {
        assert_eq!(status, 404, "{answer}");
        return;
    }
    assert_eq!(status, 200, "{path}: {answer}");
    assert_eq!(header.as_deref(), Some("1"), "{path}: {answer}");
    let is_document = !path.contains("format=") || path.contains("format=json");
    if is_document {
        let missing = &answer["incomplete"][0];
        let file = missing["file"]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {answer}"));
        assert!(file.ends_with(".parquet"), "{answer}");
        assert!(!missing["reason"].as_str().unwrap().is_empty(), "{answer}");
    }
}

/// Once the collector had time to look, every position of the damaged file is lost and the others are stored.
async fn ledger_says_what_is_lost(fixture: &Fixture) {
    let ledger = wait_for(async || {
        let (_, ledger) = fixture.get("/api/v1/ledger?machine=machine-17").await;
        (ledger["streams"][0]["positions"]["lost"] == 8)
            .then(|| ledger.clone())
            .ok_or(ledger.to_string())
    })
    .await;
    let stream = &ledger["streams"][0];
    assert_eq!(
        (&stream["positions"]["stored"], &stream["rows"]),
        (&json!(6), &json!(1))
    );
    assert_eq!(
        stream["gaps"],
        json!([{"start": 0, "end": 8, "state": "lost", "reason": "store_damaged"}])
    );
    let aside = ledger["aside"].as_array().unwrap();
    assert_eq!(aside.len(), 2, "{ledger}");
    let of_logs = aside.iter().find(|aside| aside["table"] == "logs").unwrap();
    assert_eq!(
        (&of_logs["rows"], &of_logs["machines"]),
        (&json!(2), &json!(["machine-17"]))
    );
}

#[tokio::test]
async fn what_retention_drops_is_expired_in_the_ledger() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let old =
        jiff::Timestamp::from_nanosecond(i128::from(now_ns()) - 10 * 86_400 * i128::from(SECOND)).unwrap();
    let text = format!("{old} old\n");
    let len = text.len() as u64;
    let batch = batch_of(2, "none", &[lines(0, &text), lines(len, "new\n")]);
    session.send(Body::Batch(batch)).await;
    session.acked(2).await;
    fixture.stored(2).await;
    drop(session);
    let fixture = restarted(fixture, |config| {
        config.store.retention.logs = TableRetention {
            age_max: Some(Duration::from_secs(5 * 86_400)),
            bytes_max: None,
        };
    })
    .await;
    let stream = wait_for(async || {
        let (_, ledger) = fixture.get("/api/v1/ledger?state=expired").await;
        let stream = ledger["streams"][0].clone();
        (stream["positions"]["expired"] == len)
            .then_some(stream)
            .ok_or(ledger.to_string())
    })
    .await;
    assert_eq!(
        (&stream["positions"]["stored"], &stream["rows"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(
        stream["gaps"],
        json!([{"start": 0, "end": len, "state": "expired", "reason": "retention"}])
    );
    assert_eq!(stream["stored_upto"], len + 4, "nobody sends it again");
    fixture.stored(1).await;
    wait_for(async || match files(&fixture, "logs").len() {
        1 => Ok(()),
        count => Err(format!("{count} files")),
    })
    .await;
}

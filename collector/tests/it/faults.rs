//! Disks that fail under a running collector.

use std::sync::Arc;

use edgelogger_common::disk::{Effect, Fault, FaultDisk, Operation};
use edgelogger_proto::v1::frame::Body;
use edgelogger_proto::v1::{Heartbeat, StreamHead};
use rustix::io::Errno;

use crate::client::{Fixture, Session, batch_of, head, hello, lines, open, wait_for};

async fn with_disk(disk: &FaultDisk) -> (Fixture, Session) {
    let fixture = Fixture::start_with(|config| {
        config.log_disk = Arc::new(disk.clone());
        config.log.keep_free_bytes = 0;
    })
    .await;
    let session = fixture.ready().await;
    (fixture, session)
}

fn line(sequence: u64) -> Body {
    Body::Batch(batch_of(sequence, "none", &[lines(sequence * 4, "abc\n")]))
}

/// Sends it again and again, as Nack retry asks, until it is acked.
async fn until_acked(session: &mut Session, sequence: u64) {
    wait_for(async || {
        session.send(line(sequence)).await;
        let said = session.said().await;
        if said == format!("ack {sequence}") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_acknowledged_when_the_sync_fails_and_it_goes_on_afterwards() {
    let disk = FaultDisk::new(7);
    let (fixture, mut session) = with_disk(&disk).await;
    disk.install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
    session.send(line(2)).await;
    assert_eq!(session.said().await, "retry 2 E0404");
    let problems = fixture.collector.health().await.problems;
    assert_eq!((problems[0].code, problems[0].subject.as_str()), ("E0404", "log"));
    until_acked(&mut session, 2).await;
    fixture.stored(1).await;
    assert!(fixture.collector.health().await.problems.is_empty());
}

#[tokio::test]
async fn an_agent_waits_while_the_disk_is_full() {
    let disk = FaultDisk::new(7);
    let (fixture, mut session) = with_disk(&disk).await;
    disk.set_capacity(4_000);
    let large = lines(8, &format!("{}\n", "x".repeat(10_000)));
    session
        .send(Body::Batch(batch_of(2, "none", std::slice::from_ref(&large))))
        .await;
    assert_eq!(session.said().await, "retry 2 E0401");
    let health = fixture.collector.health().await;
    assert_eq!((health.problems[0].code, health.sessions.len()), ("E0401", 1));
    let (status, _) = fixture.sql("SELECT count(*) FROM logs").await;
    assert_eq!(status, 200, "queries are answered meanwhile");
    disk.set_capacity(1 << 40);
    until_acked(&mut session, 2).await;
    fixture.stored(1).await;
}

#[tokio::test]
async fn a_second_collector_on_the_same_folder_is_refused() {
    let fixture = Fixture::start().await;
    let data = fixture.dir.path().join("data");
    let second =
        edgelogger_collector::Collector::start(edgelogger_collector::Config::embedded_in(&data)).await;
    let error = second.unwrap_err();
    assert_eq!(error.code().code, "E0408");
    assert!(error.to_string().contains(data.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn heads_that_can_not_be_written_are_told_and_cost_nothing_else() {
    let disk = FaultDisk::new(7);
    let (fixture, mut session) = with_disk(&disk).await;
    session.send(line(2)).await;
    session.acked(2).await;
    let waiting = StreamHead {
        read: 100,
        size: 100,
        ..head()
    };
    session
        .send(Body::Heartbeat(Heartbeat {
            streams: vec![waiting],
            ..Heartbeat::default()
        }))
        .await;
    wait_for(async || {
        let (_, ledger) = fixture.get("/api/v1/ledger").await;
        if ledger["streams"][0]["size"] == 100 {
            Ok(())
        } else {
            Err(ledger.to_string())
        }
    })
    .await;
    session.close().await;
    let Fixture { dir, collector } = fixture;
    disk.install(Fault::from(Operation::Rename, 1, Effect::Error(Errno::IO)));
    collector.shutdown().await;
    disk.clear_faults();
    assert_eq!(disk.contents(&dir.path().join("data/heads")), None);
    let mut config = edgelogger_collector::Config::embedded_in(dir.path().join("data"));
    config.log_disk = Arc::new(disk.clone());
    let collector = edgelogger_collector::Collector::start(config).await.unwrap();
    let fixture = Fixture { dir, collector };
    fixture.stored(1).await;
}

fn damage(dir: &tempfile::TempDir, name: &str) -> Vec<u8> {
    let path = dir.path().join("data/store").join(name);
    let intact = std::fs::read(&path).unwrap();
    std::fs::write(&path, "garbage").unwrap();
    intact
}

/// Three lines, each in a manifest of its own.
async fn three_manifests() -> Fixture {
    let mut fixture = Fixture::start().await;
    for number in 0..3u64 {
        let mut session = fixture.connect().await;
        session.hello(hello(1, number + 1)).await;
        session.send(open(1)).await;
        session
            .send(Body::Batch(batch_of(2, "none", &[lines(number * 4, "abc\n")])))
            .await;
        session.acked(2).await;
        session.close().await;
        fixture = restarted(fixture).await;
    }
    fixture
}

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

#[tokio::test]
async fn a_damaged_manifest_of_the_store_heals_by_itself_from_the_one_before_and_the_log() {
    let fixture = three_manifests().await;
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    damage(&dir, "manifest");
    let fixture = start_in(dir).await;
    fixture.stored(3).await;
    let health = fixture.collector.health().await;
    assert!(
        health.problems[0]
            .what
            .contains("The manifest before it is in force"),
        "{:?}",
        health.problems
    );
    let fixture = restarted(fixture).await;
    fixture.stored(3).await;
    assert!(fixture.collector.health().await.problems.is_empty());
}

#[tokio::test]
async fn without_a_manifest_that_can_be_read_agents_are_served_and_nothing_is_lost() {
    let fixture = three_manifests().await;
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    let intact = damage(&dir, "manifest");
    damage(&dir, "manifest.previous");
    let fixture = start_in(dir).await;
    let mut session = fixture.ready_as(hello(1, 9)).await.0;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(12, "def\n")])))
        .await;
    session.acked(2).await;
    session.close().await;
    let health = fixture.collector.health().await;
    assert!(
        health
            .problems
            .iter()
            .any(|problem| problem.what.contains("backup")),
        "{:?}",
        health.problems
    );
    let (status, _) = fixture.get("/readyz").await;
    assert_eq!(status, 200);
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    std::fs::write(dir.path().join("data/store/manifest"), intact).unwrap();
    let fixture = start_in(dir).await;
    fixture.stored(4).await;
}

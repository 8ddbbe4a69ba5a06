//! A store that is paused.

use edgelogger_collector::{Collector, Config};
use edgelogger_proto::v1::frame::Body;

use crate::client::{Fixture, batch_of, lines};

#[tokio::test]
async fn what_comes_while_the_store_is_paused_is_acked_and_stored_after_a_start_without_it() {
    let fixture = Fixture::start_with(|config| config.store.paused = true).await;
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "abc\n")])))
        .await;
    assert_eq!(session.said().await, "ack 2");
    let problems = fixture.collector.health().await.problems;
    assert!(
        problems.iter().any(|problem| problem.what.starts_with("paused")),
        "{problems:?}"
    );
    let (_, answer) = fixture.sql("SELECT count(*) FROM logs").await;
    assert_eq!(answer["rows"][0][0], 0);

    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    let collector = Collector::start(Config::embedded_in(dir.path().join("data")))
        .await
        .unwrap();
    Fixture { dir, collector }.stored(1).await;
}

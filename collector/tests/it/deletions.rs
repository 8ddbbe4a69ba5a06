//! Deleting over the API: what goes, who may, and what is said of it for ever.

use std::time::Duration;

use edgelogger_common::auth::Audience;
use edgelogger_proto::v1::frame::Body;
use serde_json::{Value, json};

use crate::client::{AGENT, Fixture, answer, batch_of, client, lines, wait_for};

fn url(fixture: &Fixture, path: &str) -> String {
    format!("http://{}{path}", fixture.collector.api_addr)
}

async fn delete(fixture: &Fixture, body: &Value) -> (u16, Value) {
    answer(client().post(url(fixture, "/api/v1/delete")).json(body)).await
}

/// Three lines that are acknowledged, and maybe not stored yet.
async fn acknowledged(fixture: &Fixture) {
    let mut session = fixture.ready().await;
    session
        .send(Body::Batch(batch_of(
            2,
            "zstd:1",
            &[lines(0, "one\ntwo\nthree\n")],
        )))
        .await;
    session.acked(2).await;
    session.close().await;
}

async fn done(fixture: &Fixture, id: u64) -> Value {
    wait_for(async || {
        let (status, answer) = fixture.get(&format!("/api/v1/deletions?id={id}")).await;
        assert_eq!((status, &answer["count"]), (200, &json!(1)), "{answer}");
        let deletion = answer["deletions"][0].clone();
        match deletion["state"] == "done" {
            true => Ok(deletion),
            false => Err(answer.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn what_was_acknowledged_goes_and_what_comes_later_stays() {
    let fixture = Fixture::start().await;
    acknowledged(&fixture).await;
    let (status, answer) = delete(&fixture, &json!({"machine": AGENT, "reason": "sold"})).await;
    assert_eq!((status, &answer["dry_run"]), (200, &json!(false)), "{answer}");
    let accepted = &answer["deletion"];
    assert_eq!(
        (&accepted["id"], &accepted["reason"]),
        (&json!(1), &json!("sold"))
    );

    let mut session = fixture.ready_as(crate::client::hello(1, 2)).await.0;
    session
        .send(Body::Batch(batch_of(
            2,
            "none",
            &[lines(0, "one\ntwo\nthree\n"), lines(14, "four\n")],
        )))
        .await;
    session.acked(2).await;
    let deletion = done(&fixture, 1).await;
    assert_eq!(
        (&deletion["rows"], &deletion["files"]),
        (&json!(3), &json!(1)),
        "{deletion}"
    );
    assert_eq!(
        (&deletion["machine"], &deletion["source"]),
        (&json!(AGENT), &Value::Null)
    );
    assert_eq!(deletion["who"], "somebody on this machine");
    assert!(
        deletion["bytes"].as_u64() > Some(0) && deletion["finished"].is_string(),
        "{deletion}"
    );
    fixture.stored(1).await;

    let (_, ledger) = fixture.get("/api/v1/ledger?state=expired").await;
    let stream = &ledger["streams"][0];
    assert_eq!(
        stream["gaps"],
        json!([{"start": 0, "end": 14, "state": "expired", "reason": "deleted"}])
    );
    assert_eq!(
        (&stream["rows"], &stream["positions"]["stored"]),
        (&json!(1), &json!(5))
    );

    // It is kept through a restart, as are the answers.
    session.close().await;
    let before = fixture.get("/api/v1/deletions").await;
    let Fixture { dir, collector } = fixture;
    collector.shutdown().await;
    let config = edgelogger_collector::Config::embedded_in(dir.path().join("data"));
    let collector = edgelogger_collector::Collector::start(config).await.unwrap();
    let fixture = Fixture { dir, collector };
    assert_eq!(fixture.get("/api/v1/deletions").await, before);
    fixture.stored(1).await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_go_and_does_nothing() {
    let fixture = Fixture::start().await;
    acknowledged(&fixture).await;
    fixture.stored(3).await;
    let body = json!({
        "source": "/var/log/*", "from": "-1h", "to": "2100-01-01", "reason": "a look", "dry_run": true,
    });
    let (status, answer) = delete(&fixture, &body).await;
    assert_eq!((status, &answer["dry_run"]), (200, &json!(true)), "{answer}");
    let plan = &answer["plan"];
    assert_eq!(
        (&plan["rows"], &plan["to"]),
        (&json!(3), &json!("2100-01-01T00:00:00Z")),
        "{plan}"
    );
    assert_eq!(
        plan["sources"],
        json!([{"machine": AGENT, "source": "/var/log/app.log", "rows": 3}])
    );
    assert_eq!(
        fixture.get("/api/v1/deletions").await.1,
        json!({"deletions": [], "count": 0})
    );
    let of_before = json!({"machine": AGENT, "to": "-1h", "reason": "a look", "dry_run": true});
    assert_eq!(delete(&fixture, &of_before).await.1["plan"]["rows"], 0);
    fixture.stored(3).await;
}

#[tokio::test]
async fn what_makes_no_sense_deletes_nothing() {
    let fixture = Fixture::start().await;
    acknowledged(&fixture).await;
    for (body, expected) in [
        (json!({"reason": "everything"}), 422),
        (json!({"from": "-1h", "reason": "everything"}), 422),
        (json!({"machine": AGENT}), 400),
        (json!({"machine": AGENT, "reason": " "}), 422),
        (json!({"machine": AGENT, "reason": "a\u{1b}b"}), 422),
        (json!({"machine": "", "reason": "gone"}), 422),
        (json!({"machine": AGENT, "reason": "gone", "from": "soon"}), 400),
        (
            json!({"machine": AGENT, "reason": "gone", "from": "now", "to": "-1h"}),
            422,
        ),
        (json!({"machine": AGENT, "reason": "gone", "sources": "/a"}), 400),
    ] {
        let (status, problem) = delete(&fixture, &body).await;
        assert_eq!(
            (status, &problem["code"]),
            (expected, &json!("E0504")),
            "{body}: {problem}"
        );
    }
    // What a form of a web page can send without asking.
    let form = client()
        .post(url(&fixture, "/api/v1/delete"))
        .header("content-type", "text/plain");
    let (status, _) = answer(form.body(json!({"machine": AGENT, "reason": "gone"}).to_string())).await;
    assert_eq!(status, 415);
    assert_eq!(fixture.get("/api/v1/deletions").await.1["count"], 0);
    let (status, problem) = fixture.get("/api/v1/deletions?stat=running").await;
    assert_eq!(status, 400);
    assert!(
        problem["detail"].as_str().unwrap().contains("`state`"),
        "{problem}"
    );
    fixture.stored(3).await;
}

#[tokio::test]
async fn whoever_has_a_token_of_another_audience_deletes_nothing() {
    let fixture = Fixture::start_with(|config| config.api.needs_token = true).await;
    acknowledged(&fixture).await;
    let token = |audience| {
        let ttl = Duration::from_secs(60);
        fixture.collector.issue_token(audience, "ada", ttl).unwrap()
    };
    let body = json!({"machine": AGENT, "reason": "sold"});
    let ask = || client().post(url(&fixture, "/api/v1/delete")).json(&body);
    assert_eq!(answer(ask()).await.0, 401);
    assert_eq!(answer(ask().bearer_auth(token(Audience::Agents))).await.0, 401);
    let (status, accepted) = answer(ask().bearer_auth(token(Audience::People))).await;
    assert_eq!(
        (status, &accepted["deletion"]["who"]),
        (200, &json!("ada")),
        "{accepted}"
    );
}

#[tokio::test]
async fn a_store_that_is_behind_the_log_refuses() {
    let fixture = Fixture::start_with(|config| config.store.paused = true).await;
    acknowledged(&fixture).await;
    let (status, problem) = delete(&fixture, &json!({"machine": AGENT, "reason": "sold"})).await;
    assert_eq!((status, &problem["code"]), (503, &json!("E0512")), "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("behind the commit log"),
        "{problem}"
    );
}

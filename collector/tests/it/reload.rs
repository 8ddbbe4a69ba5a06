//! Another configuration comes into force while the collector runs.

use std::time::Duration;

use edgelogger_collector::Config;
use edgelogger_common::auth::{Audience, SigningKey, issue};
use edgelogger_common::tls::CertificateAuthority;
use edgelogger_proto::v1::frame::Body;
use serde_json::json;

use crate::client::{AGENT, Fixture, batch_of, lines, now_ns, tls, wait_for};

const HOUR: Duration = Duration::from_secs(3600);

fn config(fixture: &Fixture, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::embedded_in(fixture.dir.path().join("data"));
    change(&mut config);
    config
}

fn reload(fixture: &Fixture, change: impl FnOnce(&mut Config)) {
    fixture
        .collector
        .reload()
        .apply(&config(fixture, change), Vec::new())
        .unwrap();
}

#[tokio::test]
async fn keys_come_and_go_and_a_file_that_is_no_key_changes_nothing() {
    let fixture = Fixture::start().await;
    let foreign = SigningKey::generate().unwrap();
    let token = issue(&foreign, Audience::Agents, AGENT, HOUR, now_ns()).unwrap();
    let is_let_in = async || fixture.upgrade(&token).await.0.starts_with("HTTP/1.1 101");
    assert!(!is_let_in().await);
    let path = fixture.dir.path().join("foreign.pem");
    std::fs::write(&path, foreign.verifying_key().to_pem()).unwrap();
    reload(&fixture, |config| config.verifying_keys = vec![path.clone()]);
    assert!(is_let_in().await);
    for broken in ["not a key", ""] {
        let other = fixture.dir.path().join("broken.pem");
        std::fs::write(&other, broken).unwrap();
        let broken = config(&fixture, |config| {
            config.verifying_keys = vec![other];
            config.store.query_rows_max = 1;
        });
        assert!(fixture.collector.reload().apply(&broken, Vec::new()).is_err());
        assert!(is_let_in().await, "what was in force stays");
        let (_, health) = fixture.get("/health").await;
        assert_eq!(health["problems"][0]["subject"], "configuration", "{health}");
        let (_, answer) = fixture.sql("SELECT * FROM (VALUES (1), (2))").await;
        assert_eq!(answer["rows"].as_array().unwrap().len(), 2, "{answer}");
    }
    reload(&fixture, |_| ());
    assert!(!is_let_in().await);
    let (_, health) = fixture.get("/health").await;
    assert_eq!(health["problems"], json!([]), "{health}");
    // The own key stays, whatever the file says.
    assert!(
        fixture
            .upgrade(&fixture.token(AGENT))
            .await
            .0
            .starts_with("HTTP/1.1 101")
    );
}

#[tokio::test]
async fn limits_and_retention_are_those_of_the_new_configuration() {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let text: String = (0..50).map(|n| format!("line {n}\n")).collect();
    session
        .send(Body::Batch(batch_of(2, "zstd:1", &[lines(0, &text)])))
        .await;
    session.acked(2).await;
    fixture.stored(50).await;
    let rows = async || {
        let (_, answer) = fixture.sql("SELECT body FROM logs").await;
        answer["rows"].as_array().unwrap().len()
    };
    assert_eq!(rows().await, 50);
    reload(&fixture, |config| {
        config.store.query_rows_max = 7;
        config.api.tails_max = 1;
        config.store.retention.logs.bytes_max = Some(1);
    });
    assert_eq!(rows().await, 7);
    let tail = |path: &'static str| {
        let url = format!("http://{}{path}", fixture.collector.api_addr);
        crate::client::client().get(url).send()
    };
    let open = tail("/api/v1/logs/tail").await.unwrap();
    assert_eq!(
        (
            open.status().as_u16(),
            tail("/api/v1/logs/tail").await.unwrap().status().as_u16()
        ),
        (200, 503)
    );
    // Only what is in files expires.
    fixture.collector.store().flush().unwrap();
    let store = fixture.collector.store();
    tokio::task::spawn_blocking(move || store.expire(&|| true))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rows().await, 0);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_another_certificate_is_served() {
    let fixture = Fixture::start().await;
    let waiting = vec!["ingest.listen".to_owned(), "store.memory".to_owned()];
    let loaded = fixture.get("/health").await.1["configuration"]["loaded"].clone();
    let same = config(&fixture, |_| ());
    fixture.collector.reload().apply(&same, waiting).unwrap();
    let (_, health) = fixture.get("/health").await;
    let configuration = &health["configuration"];
    assert_eq!(
        configuration["needs_restart"],
        json!(["ingest.listen", "store.memory"])
    );
    assert_ne!(configuration["loaded"], loaded);
    assert_eq!(health["verdict"], "ok", "{health}");
    // From an authority that is not the collector's own.
    let dir = fixture.dir.path().join("elsewhere");
    std::fs::create_dir(&dir).unwrap();
    let authority = CertificateAuthority::load_or_create(&dir, now_ns()).unwrap();
    let (pair, _) = authority
        .load_or_issue(&dir, &["localhost".to_owned()], now_ns())
        .unwrap();
    let files = (dir.join("chain.pem"), dir.join("chain.key"));
    std::fs::write(&files.0, pair.chain_pem).unwrap();
    std::fs::write(&files.1, pair.key_pem).unwrap();
    let ca = dir.join("ca.pem");
    let port = fixture.collector.ingest_addr.port();
    assert!(tls(port, &ca).await.is_err());
    reload(&fixture, |config| config.tls.files = Some(files));
    wait_for(async || tls(port, &ca).await.map(drop).map_err(|error| error.to_string())).await;
}

//! Who is let in, and what the others are told.

use std::time::Duration;

use edgelogger_common::auth::{Audience, SigningKey, issue};
use edgelogger_common::tls::CertificateAuthority;
use edgelogger_proto::v1::Hello;
use edgelogger_proto::v1::frame::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{AGENT, Fixture, batch_of, hello, lines, now_ns, open, tls, wait_for};

/// The answer to a token: status line and body.
async fn answer_to(fixture: &Fixture, token: &str) -> (String, serde_json::Value) {
    let (head, mut stream) = fixture.upgrade(token).await;
    let mut bytes = Vec::new();
    // Whether or not the other side says goodbye in TLS.
    let ended = stream.read_to_end(&mut bytes).await;
    let body = String::from_utf8(bytes).unwrap();
    assert!(!body.is_empty(), "{head} {ended:?}");
    (
        head.lines().next().unwrap().to_owned(),
        serde_json::from_str(&body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_token_that_is_not_right_is_answered_with_401_and_its_code() {
    let fixture = Fixture::start().await;
    let own = |audience, ttl| fixture.collector.issue_token(audience, AGENT, ttl).unwrap();
    let foreign = SigningKey::generate().unwrap();
    let hour = Duration::from_secs(3600);
    let key_path = fixture.dir.path().join("data/tokens/signing.key");
    let own_key = SigningKey::load(&key_path).unwrap();
    let expired = issue(
        &own_key,
        Audience::Agents,
        AGENT,
        hour,
        now_ns() - 7_200_000_000_000,
    )
    .unwrap();
    let early = issue(
        &own_key,
        Audience::Agents,
        AGENT,
        hour,
        now_ns() + 3_600_000_000_000,
    )
    .unwrap();
    let good = own(Audience::Agents, hour);
    let mut changed = good.clone().into_bytes();
    let last = changed.len() - 10;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    let cases = [
        (String::new(), "E0201"),
        ("garbage".to_owned(), "E0202"),
        (
            issue(&foreign, Audience::Agents, AGENT, hour, now_ns()).unwrap(),
            "E0207",
        ),
        (String::from_utf8(changed).unwrap(), "E0207"),
        (expired, "E0208"),
        (early, "E0209"),
        (own(Audience::People, hour), "E0210"),
    ];
    for (token, code) in cases {
        let (status, problem) = answer_to(&fixture, &token).await;
        assert!(status.starts_with("HTTP/1.1 401"), "{code}: {status}");
        assert_eq!(problem["code"], code, "{problem}");
        assert!(problem["detail"].is_string() && problem["help"].is_string());
    }
    let (status, _) = fixture.upgrade(&good).await;
    assert!(status.starts_with("HTTP/1.1 101"), "{status}");
}

#[tokio::test]
async fn the_ca_of_another_collector_is_not_trusted() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    let error = tls(fixture.collector.ingest_addr.port(), &other.collector.ca_path)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let authority = |name: &str| {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
        CertificateAuthority::load_or_create(&dir.path().join(name), now_ns()).unwrap()
    };
    let install = |authority: &CertificateAuthority| {
        let made = authority
            .issue_server(&["localhost".to_owned()], 1, now_ns())
            .unwrap();
        std::fs::write(&key, made.key_pem).unwrap();
        std::fs::write(&chain, made.chain_pem).unwrap();
    };
    let (old, new) = (authority("old"), authority("new"));
    install(&old);
    let fixture = Fixture::start_with(|config| {
        config.tls.files = Some((chain.clone(), key.clone()));
        config.tls.check_every = Duration::from_millis(20);
    })
    .await;
    let port = fixture.collector.ingest_addr.port();
    tls(port, old.certificate_path()).await.unwrap();
    assert!(tls(port, new.certificate_path()).await.is_err());

    // What can't be used is not used, and said.
    std::fs::write(&chain, "half a certi").unwrap();
    let is_said = async || {
        let (_, health) = fixture.get("/health").await;
        health["problems"]
            .as_array()
            .unwrap()
            .iter()
            .any(|problem| problem["subject"] == "certificate")
    };
    until(&is_said).await;
    tls(port, old.certificate_path()).await.unwrap();

    install(&new);
    until(async || tls(port, new.certificate_path()).await.is_ok()).await;
    assert!(tls(port, old.certificate_path()).await.is_err());
    until(async || !is_said().await).await;
}

async fn until(condition: impl AsyncFn() -> bool) {
    wait_for(async || condition().await.then_some(()).ok_or_else(String::new)).await;
}

#[tokio::test]
async fn plain_http_is_told_that_this_port_speaks_tls() {
    let fixture = Fixture::start().await;
    let mut socket = TcpStream::connect(fixture.collector.ingest_addr).await.unwrap();
    socket
        .write_all(b"GET /v1/session HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("E0206") && answer.contains("TLS"),
        "{answer}"
    );
}

#[tokio::test]
async fn other_paths_and_plain_requests_are_told_where_agents_connect() {
    let fixture = Fixture::start().await;
    for (request, status, code) in [
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            "404",
            "E0507",
        ),
        (
            format!(
                "GET /v1/session HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
                fixture.token(AGENT)
            ),
            "426",
            "E0219",
        ),
    ] {
        let mut stream = fixture.tls().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_get_on_is_given_up() {
    let fixture = Fixture::start_with(|config| {
        config.ingest.settings.handshake_timeout = Duration::from_millis(300);
        config.ingest.settings.handshakes_max = 1;
    })
    .await;
    let _silent = TcpStream::connect(fixture.collector.ingest_addr).await.unwrap();
    // Only one handshake at once: this one is served when the silent one was given up.
    fixture.ready().await;
}

#[tokio::test]
async fn a_hello_that_does_not_fit_is_refused_with_its_code() {
    let fixture = Fixture::start().await;
    let cases = [
        (
            Hello {
                protocol_min: 2,
                protocol_max: 9,
                ..hello(1, 1)
            },
            "refuse E0205",
        ),
        (
            Hello {
                agent_id: "machine-18".into(),
                ..hello(1, 1)
            },
            "refuse E0220",
        ),
        (
            Hello {
                instance_id: Default::default(),
                ..hello(1, 1)
            },
            "refuse E0219",
        ),
    ];
    for (greeting, expected) in cases {
        let mut session = fixture.connect().await;
        session.send(Body::Hello(greeting)).await;
        assert_eq!(session.said().await, expected);
        assert_eq!(session.said().await, "closed");
    }
    let mut session = fixture.connect().await;
    session.send(open(1)).await;
    assert_eq!(session.said().await, "refuse E0219", "a Hello comes first");
}

#[tokio::test]
async fn the_newest_session_takes_over_and_older_and_foreign_ones_are_refused() {
    let fixture = Fixture::start().await;
    let mut first = fixture.ready_as(hello(1, 5)).await.0;

    let mut clone = fixture.connect().await;
    clone.send(Body::Hello(hello(2, 9))).await;
    assert_eq!(clone.said().await, "refuse E0203");
    let problems = fixture.collector.health().await.problems;
    assert_eq!(
        (problems[0].code, problems[0].subject.as_str()),
        ("E0203", "agent machine-17")
    );

    for epoch in [4, 5] {
        let mut older = fixture.connect().await;
        older.send(Body::Hello(hello(1, epoch))).await;
        assert_eq!(older.said().await, "refuse E0204");
    }

    let mut newer = fixture.ready_as(hello(1, 6)).await.0;
    assert_eq!(first.said().await, "goodbye E0204");
    newer
        .send(Body::Batch(batch_of(2, "none", &[lines(0, "one\n")])))
        .await;
    assert_eq!(newer.said().await, "ack 2");
}

#[tokio::test]
async fn a_token_that_expires_ends_its_session() {
    let fixture =
        Fixture::start_with(|config| config.ingest.settings.heartbeat_interval = Duration::from_millis(200))
            .await;
    let key = SigningKey::load(&fixture.dir.path().join("data/tokens/signing.key")).unwrap();
    // Valid only by the leeway between clocks, for three more seconds.
    let token = issue(
        &key,
        Audience::Agents,
        AGENT,
        Duration::from_secs(3),
        now_ns() - 60_000_000_000,
    )
    .unwrap();
    let (head, stream) = fixture.upgrade(&token).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
    let socket = tokio_tungstenite::WebSocketStream::from_raw_socket(stream, role, None).await;
    let mut session = crate::client::Session { socket };
    session.hello(hello(1, 1)).await;
    let beat = async {
        loop {
            let heartbeat = edgelogger_proto::v1::Heartbeat::default();
            session.send(Body::Heartbeat(heartbeat)).await;
            match tokio::time::timeout(Duration::from_millis(100), session.said()).await {
                Ok(said) => return said,
                Err(_) => continue,
            }
        }
    };
    let said = tokio::time::timeout(crate::client::PATIENCE, beat).await.unwrap();
    assert_eq!(said, "goodbye E0208");
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_its_agent_may_come_back_as_anyone() {
    let fixture =
        Fixture::start_with(|config| config.ingest.settings.heartbeat_interval = Duration::from_millis(200))
            .await;
    let mut silent = fixture.ready().await;
    assert_eq!(silent.said().await, "closed");
    fixture.ready_as(hello(2, 1)).await;
}

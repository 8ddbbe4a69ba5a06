//! Questions and answers.

use std::time::Duration;

use edgelogger_common::auth::Audience;
use edgelogger_proto::v1::frame::Body;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Fixture, PATIENCE, answer, batch_of, client, lines, wait_for};

async fn with_lines(count: usize) -> Fixture {
    let fixture = Fixture::start().await;
    let mut session = fixture.ready().await;
    let text: String = (0..count).map(|n| format!("line {n:06} \u{1b}[31m\n")).collect();
    session
        .send(Body::Batch(batch_of(2, "zstd:1", &[lines(0, &text)])))
        .await;
    session.acked(2).await;
    fixture.stored(i64::try_from(count).unwrap()).await;
    fixture
}

#[tokio::test]
async fn pages_follow_one_another_without_gap_or_repetition() {
    let fixture = with_lines(250).await;
    let (mut bodies, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = fixture
            .get(&format!("/api/v1/logs?limit=90&order=asc{cursor}"))
            .await;
        assert_eq!(status, 200, "{page}");
        bodies.extend(
            page["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["body"].to_string()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(bodies.len(), 250);
    assert!(bodies.is_sorted());
}

#[tokio::test]
async fn searches_are_narrowed_by_their_parameters() {
    let fixture = with_lines(20).await;
    let count = async |query: &str| {
        let (status, page) = fixture.get(&format!("/api/v1/logs?{query}")).await;
        assert_eq!(status, 200, "{query}: {page}");
        page["rows"].as_array().unwrap().len()
    };
    assert_eq!(count("q=000007").await, 1);
    assert_eq!(count("q=LINE").await, 0);
    assert_eq!(count("q=LINE&i=true").await, 20);
    assert_eq!(count("machine=machine-*").await, 20);
    assert_eq!(count("machine=other").await, 0);
    assert_eq!(count("source=/var/log/*").await, 20);
    assert_eq!(count("from=-1h&to=now").await, 20);
    assert_eq!(count("to=-1h").await, 0);
    assert_eq!(count("severity=error").await, 0);
}

#[tokio::test]
async fn what_makes_no_sense_is_answered_with_a_problem() {
    let fixture = Fixture::start().await;
    for (path, status, code) in [
        ("/api/v1/logs?from=soon", 400, "E0504"),
        ("/api/v1/logs?limit=0", 400, "E0504"),
        ("/api/v1/logs?limit=many", 400, "E0504"),
        ("/api/v1/logs?form=-1h", 400, "E0504"),
        ("/api/v1/logs?cursor=abc", 400, "E0504"),
        ("/api/v2/logs", 404, "E0507"),
    ] {
        let (found, problem) = fixture.get(path).await;
        assert_eq!(
            (found, problem["code"].as_str()),
            (status, Some(code)),
            "{path}: {problem}"
        );
    }
    let request = client()
        .post(format!("http://{}/api/v1/sql", fixture.collector.api_addr))
        .body("{");
    assert_eq!(
        answer(request.header("content-type", "application/json")).await.1["code"],
        "E0504"
    );
}

#[tokio::test]
async fn an_unknown_parameter_is_answered_with_the_right_one_and_a_wrong_method_with_what_is_allowed() {
    let fixture = Fixture::start().await;
    let (status, problem) = fixture.get("/api/v1/logs?machne=a").await;
    assert_eq!(
        (status, problem["detail"].as_str()),
        (400, Some("unknown parameter `machne`; did you mean `machine`?"))
    );
    let (status, problem) = fixture.get("/api/v1/logs?from=now&to=-1h").await;
    assert_eq!((status, &problem["code"]), (422, &"E0504".into()), "{problem}");
    let (status, problem) = fixture.get("/livez?x=1").await;
    assert_eq!(status, 400, "{problem}");
    let url = format!("http://{}/api/v1/logs", fixture.collector.api_addr);
    let answer = client().delete(&url).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], "GET,HEAD");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn the_description_names_every_parameter_with_its_bounds_and_every_answer() {
    let fixture = Fixture::start().await;
    let (status, document) = fixture.get("/api/v1/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &"3.1.0".into()));
    let logs = &document["paths"]["/api/v1/logs"]["get"];
    let limit = logs["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "limit")
        .unwrap();
    assert_eq!(limit["schema"]["default"], 100, "{limit}");
    let problem = &logs["responses"]["400"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(problem, "#/components/schemas/ProblemDocument");
    assert!(document["components"]["schemas"]["ProblemDocument"]["properties"]["code"].is_object());
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test]
async fn answers_are_compressed_for_whoever_can_read_it() {
    let fixture = with_lines(500).await;
    let url = format!("http://{}/api/v1/logs?limit=500", fixture.collector.api_addr);
    let plain = client().get(&url).send().await.unwrap().bytes().await.unwrap();
    for coding in ["zstd", "gzip"] {
        let answer = client()
            .get(&url)
            .header("accept-encoding", coding)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-encoding"], coding);
        let bytes = answer.bytes().await.unwrap();
        assert!(
            bytes.len() * 4 < plain.len(),
            "{} of {}",
            bytes.len(),
            plain.len()
        );
    }
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let fixture = Fixture::start_with(|config| config.api.connections_max = 2).await;
    let held = [
        TcpStream::connect(fixture.collector.api_addr).await.unwrap(),
        TcpStream::connect(fixture.collector.api_addr).await.unwrap(),
    ];
    let request = || client().get(format!("http://{}/livez", fixture.collector.api_addr));
    wait_for(async || {
        let (status, problem) = answer(request()).await;
        (status == 503 && problem["code"] == "E0509")
            .then_some(())
            .ok_or(problem.to_string())
    })
    .await;
    drop(held);
    wait_for(async || {
        let (status, said) = answer(request()).await;
        (status == 200).then_some(()).ok_or(said.to_string())
    })
    .await;
}

#[tokio::test]
async fn who_sends_no_request_is_disconnected() {
    let fixture = Fixture::start_with(|config| config.api.header_timeout = Duration::from_millis(200)).await;
    let mut socket = TcpStream::connect(fixture.collector.api_addr).await.unwrap();
    socket.write_all(b"GET /livez HTT").await.unwrap();
    let mut said = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "still open after {PATIENCE:?}");
}

#[tokio::test]
async fn sql_answers_in_columns_and_rows_and_changes_nothing() {
    let fixture = with_lines(5).await;
    let (status, result) = fixture.sql("SELECT count(*) AS n, count(*) + 1 FROM logs").await;
    assert_eq!(
        (status, &result["rows"]),
        (200, &serde_json::json!([[5, 6]])),
        "{result}"
    );
    assert_eq!(result["columns"][0]["name"], "n");
    for query in [
        "DELETE FROM logs",
        "INSERT INTO logs SELECT * FROM logs",
        "CREATE TABLE t AS SELECT 1",
        "DROP TABLE logs",
        "COPY logs TO '/tmp/edgelogger-stolen.parquet'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT * FROM '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "SELEC 1",
        "",
    ] {
        let (status, problem) = fixture.sql(query).await;
        assert_eq!(status, 400, "{query}: {problem}");
        assert!(
            problem["code"].as_str().unwrap().starts_with("E05"),
            "{query}: {problem}"
        );
    }
    assert!(!std::path::Path::new("/tmp/edgelogger-stolen.parquet").exists());
}

#[tokio::test]
async fn sql_answers_line_by_line_when_asked_to() {
    let fixture = with_lines(3).await;
    let request = client()
        .post(format!("http://{}/api/v1/sql", fixture.collector.api_addr))
        .header("accept", "application/x-ndjson")
        .json(&serde_json::json!({ "query": "SELECT position FROM logs ORDER BY 1" }));
    let text = request.send().await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().count(), 3);
    assert_eq!(text.lines().next(), Some(r#"{"position":0}"#));
    let request = client()
        .post(format!("http://{}/api/v1/sql?format=csv", fixture.collector.api_addr))
        .json(&serde_json::json!({ "query": "SELECT position, 'a\"b' AS text, labels FROM logs ORDER BY 1 LIMIT 1" }));
    let text = request.send().await.unwrap().text().await.unwrap();
    assert_eq!(
        text,
        "position,text,labels\r\n0,\"a\"\"b\",\"{\"\"site\"\":\"\"berlin\"\"}\"\r\n"
    );
    let request = client()
        .post(format!("http://{}/api/v1/sql", fixture.collector.api_addr))
        .header("accept", "text/html")
        .json(&serde_json::json!({ "query": "SELECT 1" }));
    assert_eq!(answer(request).await.0, 406);
}

#[tokio::test]
async fn health_is_ok_and_balances() {
    let fixture = with_lines(10).await;
    let (status, health) = fixture.get("/health").await;
    assert_eq!((status, &health["verdict"]), (200, &"ok".into()), "{health}");
    assert_eq!(health["ingest"]["records"], 10);
    let sink = &health["sinks"][0];
    assert_eq!(
        (&sink["read"], &sink["applied"], &sink["residual"]),
        (&10.into(), &10.into(), &0.into())
    );
    assert_eq!(fixture.get("/livez").await.0, 200);
    assert_eq!(fixture.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_page_of_another_host_cannot_ask_through_a_browser() {
    let fixture = Fixture::start().await;
    let request = client()
        .get(format!("http://{}/health", fixture.collector.api_addr))
        .header("host", "evil.example");
    assert_eq!(answer(request).await.0, 421);
}

#[tokio::test]
async fn away_from_loopback_only_people_with_a_token_are_answered() {
    let fixture = Fixture::start_with(|config| config.api.needs_token = true).await;
    let url = format!("http://{}/api/v1/logs", fixture.collector.api_addr);
    assert_eq!(answer(client().get(&url)).await.0, 401);
    let ttl = Duration::from_secs(60);
    let agent = fixture
        .collector
        .issue_token(Audience::Agents, "ada", ttl)
        .unwrap();
    let (status, problem) = answer(client().get(&url).bearer_auth(agent)).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("E0210")));
    let person = fixture
        .collector
        .issue_token(Audience::People, "ada", ttl)
        .unwrap();
    assert_eq!(answer(client().get(&url).bearer_auth(person)).await.0, 200);
    assert_eq!(
        answer(client().get(format!("http://{}/livez", fixture.collector.api_addr)))
            .await
            .0,
        200
    );
}

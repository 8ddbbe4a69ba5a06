//! Metrics, machines and SQL over HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Fixture, answer, client, now_ns, wait_for};
use crate::fleet::{Machine, SECOND, network, stored, temperature};

/// Two machines that measured for ten minutes, each 10 s, but for the fifth and sixth.
async fn measured() -> (Fixture, Vec<Machine>) {
    let fixture = Fixture::start().await;
    let mut machines = Vec::new();
    let end = now_ns().div_euclid(60 * SECOND) * 60 * SECOND;
    for (number, site) in [(1, "berlin"), (2, "oslo")] {
        let mut machine = Machine::connect(&fixture, number, site).await;
        let times = (0..60)
            .filter(|n| !(24..36).contains(n))
            .map(|n| end - 600 * SECOND + n * 10 * SECOND);
        let rows = times.enumerate().flat_map(|(n, time)| {
            let counted = (n as f64) * 1000.0;
            [
                temperature(time, f64::from(number) * 10.0, "cpu"),
                network(time, counted),
            ]
        });
        machine.measure(rows.collect()).await;
        machines.push(machine);
    }
    stored(&fixture, "metrics", 192).await;
    (fixture, machines)
}

#[tokio::test]
async fn metrics_are_listed_with_unit_kind_and_series() {
    let (fixture, _machines) = measured().await;
    let (status, answer) = fixture.get("/api/v1/metrics").await;
    assert_eq!(status, 200, "{answer}");
    let heat = &answer["metrics"][0];
    assert_eq!(
        (
            &heat["name"],
            &heat["unit"],
            &heat["kind"],
            &heat["series"],
            &heat["machines"]
        ),
        (
            &json!("hw.temperature"),
            &json!("Cel"),
            &json!("gauge"),
            &json!(2),
            &json!(2)
        )
    );
    assert_eq!(answer["metrics"][1]["kind"], "counter");
    let count = async |query: &str| {
        let (status, answer) = fixture.get(&format!("/api/v1/metrics/series?{query}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        answer["count"].as_u64().unwrap()
    };
    assert_eq!(count("").await, 4);
    assert_eq!(count("name=hw.*").await, 2);
    assert_eq!(count("machine=machine-1").await, 2);
    assert_eq!(count("label.sensor=cpu&label.site=os*").await, 1);
    assert_eq!(count("label.sensor=").await, 2);
    assert_eq!(count("source=host&since=-5m").await, 4);
}

#[tokio::test]
async fn a_range_has_a_point_for_each_step_and_null_where_nothing_was_measured() {
    let (fixture, _machines) = measured().await;
    let ask = async |query: &str| {
        let (status, answer) = fixture.get(&format!("/api/v1/metrics/range?{query}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        answer
    };
    let answer = ask("name=hw.temperature&from=-15m&step=1m&machine=machine-1").await;
    assert_eq!(
        (&answer["unit"], &answer["step_ms"], &answer["samples"]),
        (&json!("Cel"), &json!(60_000), &json!(48))
    );
    let line = &answer["series"][0];
    assert_eq!(
        (&line["machine"], &line["labels"]["sensor"]),
        (&json!("machine-1"), &json!("cpu"))
    );
    let values = line["values"].as_array().unwrap();
    assert_eq!(values.len(), answer["times_ms"].as_array().unwrap().len());
    let measured: String = values
        .iter()
        .map(|value| if value.is_null() { '.' } else { 'x' })
        .collect();
    assert!(measured.contains("xxxx..xxxx"), "{measured}");
    let grouped = ask("name=hw.temperature&from=-15m&step=1m&group_by=label.site&aggregate=max").await;
    assert_eq!(grouped["series"].as_array().unwrap().len(), 2);
    assert_eq!(grouped["series"][1]["labels"], json!({ "site": "oslo" }));
    let rate = ask("name=system.network.io&from=-15m&step=1m&aggregate=rate&group_by=none").await;
    let rates: Vec<f64> = rate["series"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert!(rates.iter().any(|rate| (rate - 200.0).abs() < 1e-6), "{rates:?}");
    let chosen = ask("name=hw.temperature").await;
    assert_eq!(chosen["step_ms"], 15_000);
}

#[tokio::test]
async fn what_is_no_question_about_metrics_is_answered_with_what_to_do() {
    let (fixture, _machines) = measured().await;
    for (path, status, word) in [
        ("/api/v1/metrics/range", 400, "`name` is needed"),
        ("/api/v1/metrics/range?name=hw.*", 422, "pattern"),
        (
            "/api/v1/metrics/range?name=hw.temperature&step=1ms",
            422,
            "longer step",
        ),
        (
            "/api/v1/metrics/range?name=hw.temperature&limit=1",
            422,
            "more than 1 series",
        ),
        (
            "/api/v1/metrics/range?name=hw.temperature&aggregate=rate",
            422,
            "gauge",
        ),
        (
            "/api/v1/metrics/range?name=hw.temperature&aggregate=mean",
            400,
            "aggregate",
        ),
        (
            "/api/v1/metrics/range?name=hw.temperature&from=now&to=-1h",
            422,
            "after",
        ),
        ("/api/v1/metrics/range?nme=hw.temperature", 400, "did you mean"),
        ("/api/v1/latest/machine-9/hw.temperature", 404, "machine-9"),
        ("/api/v1/latest/machine-*/hw.temperature", 404, "no sample"),
        ("/api/v1/latest?limit=0", 400, "limit"),
        ("/api/v1/machines/nobody", 404, "nobody"),
        ("/api/v1/machines?connected=maybe", 400, "connected"),
        ("/api/v1/machines/machine-1?days=99", 400, "days"),
    ] {
        let (found, problem) = fixture.get(path).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(
            found == status && detail.contains(word),
            "{path}: {found} {problem}"
        );
    }
}

#[tokio::test]
async fn the_newest_samples_have_value_unit_quality_and_age() {
    let (fixture, mut machines) = measured().await;
    let (status, answer) = fixture.get("/api/v1/latest?name=hw.temperature").await;
    assert_eq!((status, &answer["count"]), (200, &json!(2)), "{answer}");
    let before = now_ns();
    machines[1]
        .measure(vec![
            temperature(before - SECOND, 71.5, "cpu"),
            temperature(before, 44.0, "disk 1"),
        ])
        .await;
    stored(&fixture, "metrics", 194).await;
    let (status, answer) = fixture.get("/api/v1/latest/machine-2/hw.temperature").await;
    assert_eq!((status, &answer["count"]), (200, &json!(2)), "{answer}");
    let cpu = &answer["samples"][0];
    assert_eq!(
        (
            &cpu["value"],
            &cpu["unit"],
            &cpu["quality"],
            &cpu["agent_labels"]["site"]
        ),
        (&json!(71.5), &json!("Cel"), &json!("good"), &json!("oslo"))
    );
    let age = cpu["age_ms"].as_i64().unwrap();
    assert!((1000..600_000).contains(&age), "{age}");
    let (_, one) = fixture
        .get("/api/v1/latest/machine-2/hw.temperature?label.sensor=disk%201")
        .await;
    assert_eq!(one["samples"][0]["value"], 44.0);
}

#[tokio::test]
async fn machines_are_known_with_their_streams_also_when_they_have_gone() {
    let (fixture, mut machines) = measured().await;
    machines[0].log("one line\nand another\n").await;
    stored(&fixture, "logs", 2).await;
    let (status, answer) = fixture.get("/api/v1/machines").await;
    assert_eq!((status, &answer["count"]), (200, &json!(2)), "{answer}");
    machines.remove(1).session.close().await;
    let gone = wait_for(async || {
        let (_, answer) = fixture.get("/api/v1/machines?connected=no").await;
        (answer["count"] == 1)
            .then(|| answer.clone())
            .ok_or(answer.to_string())
    })
    .await;
    let gone = &gone["machines"][0];
    assert_eq!(
        (
            &gone["machine"],
            &gone["agent_version"],
            &gone["hostname"],
            &gone["labels"]["site"]
        ),
        (
            &json!("machine-2"),
            &json!("test"),
            &json!("host-2"),
            &json!("oslo")
        )
    );
    assert!(
        gone["first_seen"].is_string() && gone["last_seen"].is_string() && gone["peer"].is_null(),
        "{gone}"
    );
    let (status, one) = fixture.get("/api/v1/machines/machine-1").await;
    assert_eq!(status, 200, "{one}");
    assert_eq!(
        (&one["machine"]["connected"], &one["machine"]["rows"]),
        (&json!(true), &json!(98))
    );
    assert_eq!(one["machine"]["bytes"]["stored"], 21);
    assert_eq!(one["streams"].as_array().unwrap().len(), 2);
    let days = one["days"].as_array().unwrap();
    let sum = |key: &str| days.iter().map(|day| day[key].as_i64().unwrap()).sum::<i64>();
    assert_eq!(
        (sum("logs"), sum("log_bytes"), sum("metrics")),
        (2, 21, 96),
        "{one}"
    );
    let (_, rows) = fixture
        .sql("SELECT machine_id, connected, labels['site'], rows FROM machines ORDER BY 1")
        .await;
    assert_eq!(
        rows["rows"],
        json!([
            ["machine-1", true, "berlin", 98],
            ["machine-2", false, "oslo", 96]
        ])
    );
    let (_, rows) = fixture
        .sql("SELECT s.source, s.unit, s.stored, m.hostname FROM streams s JOIN machines m USING (machine_id) WHERE kind = 'file' ORDER BY s.stored")
        .await;
    assert_eq!(
        rows["rows"],
        json!([
            ["/var/log/app.log", "bytes", 0, "host-2"],
            ["/var/log/app.log", "bytes", 21, "host-1"]
        ])
    );
}

#[tokio::test]
async fn the_schema_describes_every_table_and_column() {
    let fixture = Fixture::start().await;
    let (status, answer) = fixture.get("/api/v1/schema").await;
    assert_eq!(status, 200, "{answer}");
    let tables = answer["tables"].as_array().unwrap();
    let names: Vec<_> = tables
        .iter()
        .map(|table| table["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["logs", "metrics", "machines", "streams"]);
    for table in tables {
        let name = table["name"].as_str().unwrap();
        let (status, result) = fixture.sql(&format!("SELECT * FROM {name} LIMIT 0")).await;
        assert_eq!(status, 200, "{result}");
        let columns = table["columns"].as_array().unwrap();
        let found: Vec<_> = result["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| &column["name"])
            .collect();
        assert_eq!(
            columns.iter().map(|column| &column["name"]).collect::<Vec<_>>(),
            found,
            "{name}"
        );
        for column in columns {
            assert!(
                !column["description"].as_str().unwrap().is_empty(),
                "{name} {column}"
            );
        }
    }
}

fn sql(fixture: &Fixture, format: &str, body: &Value) -> reqwest::RequestBuilder {
    let url = format!("http://{}/api/v1/sql{format}", fixture.collector.api_addr);
    client().post(url).json(body)
}

#[tokio::test]
async fn sql_takes_parameters_and_answers_in_arrow_too() {
    let (fixture, _machines) = measured().await;
    let ask = async |body: Value| answer(sql(&fixture, "", &body)).await;
    let counted = "SELECT count(*) FROM metrics WHERE machine_id = $1 AND value >= $2";
    let (status, result) = ask(json!({ "query": counted, "params": ["machine-1", 10] })).await;
    assert_eq!((status, &result["rows"][0][0]), (200, &json!(95)), "{result}");
    let named = "SELECT count(*) FROM metrics WHERE machine_id = $machine AND time < $to";
    let params = json!({ "machine": "machine-1", "to": "2199-01-01T00:00:00Z" });
    let (status, result) = ask(json!({ "query": named, "params": params })).await;
    assert_eq!((status, &result["rows"][0][0]), (200, &json!(96)), "{result}");
    for params in [
        json!(null),
        json!([]),
        json!([1, []]),
        json!("x"),
        json!({ "a": 1 }),
    ] {
        let (status, problem) = ask(json!({ "query": counted, "params": params })).await;
        assert_eq!(status, 400, "{params}: {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(['$', '`', '"']),
            "{problem}"
        );
    }
    let body = json!({ "query": "SELECT machine_id, value FROM metrics WHERE name = 'hw.temperature' ORDER BY 1, time" });
    let answer = sql(&fixture, "?format=arrow", &body).send().await.unwrap();
    assert_eq!(
        answer.headers()["content-type"],
        "application/vnd.apache.arrow.stream"
    );
    assert_eq!(answer.headers()["edgelogger-truncated"], "false");
    let bytes = answer.bytes().await.unwrap();
    let table = |bytes: &[u8]| {
        let batches: Vec<_> = arrow::ipc::reader::StreamReader::try_new(bytes, None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let rows: usize = batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
        let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap();
        (rows, shown.to_string())
    };
    assert_eq!(table(&bytes).0, 96);
    let accepted = sql(&fixture, "", &body)
        .header("accept", "application/vnd.apache.arrow.stream")
        .send()
        .await
        .unwrap();
    // The rows, not the bytes: a dictionary is in the order in which its files were read.
    assert_eq!(table(&accepted.bytes().await.unwrap()), table(&bytes));
}

#[tokio::test]
async fn sql_beyond_its_limits_is_a_problem_and_the_collector_goes_on() {
    let fixture = Fixture::start_with(|config| {
        config.store.query_rows_max = 10;
        config.store.query_timeout = Duration::from_secs(1);
    })
    .await;
    let mut machine = Machine::connect(&fixture, 1, "berlin").await;
    machine.log(&"a line\n".repeat(5000)).await;
    stored(&fixture, "logs", 5000).await;
    let answer_lines = sql(
        &fixture,
        "?format=ndjson",
        &json!({ "query": "SELECT body FROM logs" }),
    )
    .send()
    .await
    .unwrap();
    assert_eq!(answer_lines.headers()["edgelogger-truncated"], "true");
    assert_eq!(answer_lines.text().await.unwrap().lines().count(), 10);
    let long = "x".repeat(9000);
    for (query, status) in [
        ("SELECT repeat('x', 1000000000)".to_owned(), 400),
        ("SELECT array_repeat(1, 1000000000)".to_owned(), 400),
        ("SELECT * FROM generate_series(1, 1000000000)".to_owned(), 400),
        (
            format!("SELECT replace(replace('{long}', 'x', '{long}'), 'x', 'yy')"),
            422,
        ),
        (
            "SELECT sum(a.position * b.position) FROM logs a CROSS JOIN logs b CROSS JOIN logs c".to_owned(),
            408,
        ),
    ] {
        let (found, problem) = fixture.sql(&query).await;
        assert_eq!(found, status, "{}: {problem}", &query[..40]);
        assert_eq!(problem["code"].as_str().map(|code| &code[..3]), Some("E05"));
    }
    let (status, _) = fixture.sql("SELECT count(*) FROM logs").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_query_ends_when_its_client_goes() {
    let fixture = Fixture::start_with(|config| config.store.query_timeout = Duration::from_secs(3000)).await;
    let mut machine = Machine::connect(&fixture, 1, "berlin").await;
    machine.log(&"a line\n".repeat(5000)).await;
    stored(&fixture, "logs", 5000).await;
    let running = async |wanted: u64| {
        wait_for(async || {
            let (_, health) = fixture.get("/health").await;
            let running = &health["sinks"][0]["details"]["queries_running"];
            (*running == wanted).then_some(()).ok_or(health.to_string())
        })
        .await;
    };
    let body = json!({ "query": "SELECT sum(a.position * b.position) FROM logs a CROSS JOIN logs b CROSS JOIN logs c" }).to_string();
    let request = format!(
        "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(fixture.collector.api_addr).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    running(1).await;
    drop(socket);
    running(0).await;
}

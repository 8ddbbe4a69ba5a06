//! Everything that is asked of log records over HTTP.

use std::collections::HashSet;

use edgelogger_proto::v1::frame::Body;
use serde_json::{Value, json};

use crate::client::{Fixture, PATIENCE, STREAM, Session, batch_of, client, lines, wait_for};

/// A collector and an agent that goes on sending.
struct Sending {
    fixture: Fixture,
    session: Session,
    sequence: u64,
    position: u64,
    count: i64,
}

impl Sending {
    async fn start() -> Self {
        Self::over(Fixture::start().await).await
    }

    async fn over(fixture: Fixture) -> Self {
        let session = fixture.ready().await;
        Self {
            fixture,
            session,
            sequence: 1,
            position: 0,
            count: 0,
        }
    }

    /// Sends lines and waits until they can be queried.
    async fn say(&mut self, text: &str) {
        self.sequence += 1;
        let batch = batch_of(self.sequence, "zstd:1", &[lines(self.position, text)]);
        self.session.send(Body::Batch(batch)).await;
        self.session.acked(self.sequence).await;
        self.position += text.len() as u64;
        self.count += i64::try_from(text.matches('\n').count()).unwrap();
        self.fixture.stored(self.count).await;
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.fixture.collector.api_addr)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.fixture.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn text(&self, path: &str) -> String {
        let answer = client().get(self.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    }

    async fn refused(&self, path: &str) -> (u16, String) {
        let (status, problem) = self.fixture.get(path).await;
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    }

    async fn tail(&self, path: &str, last_event_id: Option<&str>) -> Tail {
        let mut request = client().get(self.url(path));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut tail = Tail {
            answer,
            text: String::new(),
        };
        let head = tail.event().await;
        assert!(head.contains("retry: "), "{head}");
        tail
    }
}

/// A reader of events.
struct Tail {
    answer: reqwest::Response,
    text: String,
}

impl Tail {
    async fn event(&mut self) -> String {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return event;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk())
                .await
                .expect("an event in time");
            let chunk = chunk.unwrap().expect("the tail goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Id and record of the next event.
    async fn record(&mut self) -> (String, Value) {
        let event = self.event().await;
        let field = |name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {event}")).to_owned()
        };
        (field("id: "), serde_json::from_str(&field("data: ")).unwrap())
    }

    async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(self.record().await.1["body"].as_str().unwrap().to_owned());
        }
        bodies
    }
}

fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("line {number:06}\n")).collect()
}

fn rows(page: &Value) -> Vec<&str> {
    let rows = page["rows"].as_array().unwrap().iter();
    rows.map(|row| row["body"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn records_are_found_by_pattern_attribute_and_label() {
    let mut sending = Sending::start().await;
    sending
        .say("ERROR timeout after 42ms\nWARN slow\nerror again\ndone\n")
        .await;
    let count = async |query: &str| {
        let page = sending.get(&format!("/api/v1/logs?{query}")).await;
        page["rows"].as_array().unwrap().len()
    };
    assert_eq!(count("re=after%20\\d%2Bms$").await, 1);
    assert_eq!(count("re=^error").await, 1);
    assert_eq!(count("re=^error&i=true").await, 2);
    assert_eq!(count("q=ERROR&re=after").await, 1);
    assert_eq!(count("severity=warn").await, 2);
    assert_eq!(count("label.site=berlin").await, 4);
    assert_eq!(count("label.site=paris").await, 0);
    assert_eq!(count("attr.site=berlin").await, 0);
    assert_eq!(sending.refused("/api/v1/logs?re=(").await, (422, "E0511".into()));
    let hostile = "/api/v1/logs?re=(((a{100}){100}){100}){100}";
    assert_eq!(sending.refused(hostile).await, (422, "E0511".into()));
    assert_eq!(
        sending.refused("/api/v1/logs?severity=loud").await,
        (400, "E0504".into())
    );
}

#[tokio::test]
async fn fields_and_forms_are_chosen() {
    let mut sending = Sending::start().await;
    sending.say("a \"quoted\", line\nb\n").await;
    let page = sending.get("/api/v1/logs?fields=machine,body&order=asc").await;
    assert_eq!(
        page["rows"],
        json!([
            { "machine": "machine-17", "body": "a \"quoted\", line" },
            { "machine": "machine-17", "body": "b" },
        ])
    );
    assert_eq!(
        sending
            .text("/api/v1/logs?fields=body,position&order=asc&format=csv")
            .await,
        "body,position\r\n\"a \"\"quoted\"\", line\",0\r\nb,17\r\n"
    );
    let lines = sending
        .text("/api/v1/logs?fields=body&order=asc&format=ndjson")
        .await;
    assert_eq!(lines, "{\"body\":\"a \\\"quoted\\\", line\"}\n{\"body\":\"b\"}\n");
    let nothing = sending
        .text("/api/v1/logs?q=nothing&format=csv&fields=body")
        .await;
    assert_eq!(nothing, "body\r\n");
    assert_eq!(
        sending.refused("/api/v1/logs?fields=bdy").await,
        (400, "E0504".into())
    );
    assert_eq!(
        sending.refused("/api/v1/logs?limit=10001").await,
        (422, "E0504".into())
    );
}

#[tokio::test]
async fn a_stream_of_lines_goes_beyond_one_page() {
    let mut sending = Sending::start().await;
    sending.say(&numbered(0..12_000)).await;
    let text = sending
        .text("/api/v1/logs?format=ndjson&order=asc&limit=11500&fields=body")
        .await;
    let bodies: Vec<&str> = text.lines().collect();
    assert_eq!(bodies.len(), 11_500);
    assert_eq!(bodies[11_499], r#"{"body":"line 011499"}"#);
    assert!(bodies.is_sorted());
    let text = sending
        .text("/api/v1/logs?format=csv&limit=1000000&fields=body")
        .await;
    assert_eq!(text.lines().count(), 12_001);
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_records_arrive() {
    let mut sending = Sending::start().await;
    sending.say(&numbered(0..300)).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for round in 0..100 {
        let page = sending
            .get(&format!("/api/v1/logs?from=-1h&limit=40{cursor}"))
            .await;
        seen.extend(rows(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
        let at = 300 + round * 10;
        sending.say(&numbered(at..at + 10)).await;
    }
    let first: HashSet<String> = numbered(0..300).lines().map(str::to_owned).collect();
    let unique: HashSet<&String> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "nothing came twice");
    assert!(
        first.iter().all(|line| unique.contains(line)),
        "nothing was skipped"
    );
}

#[tokio::test]
async fn a_cursor_of_another_question_is_refused() {
    let mut sending = Sending::start().await;
    sending.say(&numbered(0..10)).await;
    let page = sending.get("/api/v1/logs?limit=3&q=line").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(
        rows(
            &sending
                .get(&format!("/api/v1/logs?q=line&limit=7&cursor={cursor}"))
                .await
        )
        .len(),
        7
    );
    for other in [
        "q=other",
        "q=line&order=asc",
        "q=line&machine=x",
        "",
        "q=line&from=-1h",
    ] {
        let refused = sending
            .refused(&format!("/api/v1/logs?{other}&cursor={cursor}"))
            .await;
        assert_eq!(refused, (422, "E0510".into()), "{other}");
    }
    let broken = format!("{}zz", &cursor[..cursor.len() - 2]);
    assert_eq!(
        sending
            .refused(&format!("/api/v1/logs?q=line&cursor={broken}"))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn records_are_counted_by_time_and_severity() {
    let mut sending = Sending::start().await;
    sending.say("ERROR a\nERROR b\nINFO c\nnothing\n").await;
    let volume = sending.get("/api/v1/logs/volume").await;
    assert_eq!(
        (&volume["total"], &volume["bucket_s"]),
        (&json!(4), &json!(60)),
        "{volume}"
    );
    let sum = |name: &str| -> u64 {
        let buckets = volume["buckets"].as_array().unwrap();
        buckets.iter().map(|bucket| bucket[name].as_u64().unwrap()).sum()
    };
    assert_eq!(
        (sum("error"), sum("info"), sum("unset"), sum("fatal")),
        (2, 1, 1, 0)
    );
    assert!((60..=61).contains(&volume["buckets"].as_array().unwrap().len()));
    let day = sending
        .get("/api/v1/logs/volume?from=-1d&bucket=86400&q=ERROR")
        .await;
    assert_eq!(day["total"], 2);
    assert_eq!(
        sending.refused("/api/v1/logs/volume?from=-30d&bucket=1").await,
        (422, "E0504".into())
    );
    let ever = sending.get("/api/v1/logs/volume?from=0001-01-01T00:00:00Z").await;
    let buckets = ever["buckets"].as_array().unwrap();
    assert_eq!((&ever["total"], &buckets[0]["total"]), (&json!(4), &json!(0)));
    assert_eq!(buckets.last().unwrap()["total"], 4);
}

#[tokio::test]
async fn the_neighbours_of_a_record_are_found_by_its_address() {
    let mut sending = Sending::start().await;
    sending.say(&numbered(0..50)).await;
    let address = format!("stream_id={STREAM}&position={}", 12 * 20);
    let found = sending
        .get(&format!(
            "/api/v1/logs/context?{address}&before=2&after=3&fields=body"
        ))
        .await;
    assert_eq!(found["record"], json!({ "body": "line 000020" }));
    let bodies = |name: &str| {
        let rows = found[name].as_array().unwrap().iter();
        rows.map(|row| row["body"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(bodies("before"), ["line 000018", "line 000019"]);
    assert_eq!(bodies("after"), ["line 000021", "line 000022", "line 000023"]);
    let path = format!("/api/v1/logs/context?stream_id={STREAM}&position=7");
    assert_eq!(sending.refused(&path).await, (404, "E0507".into()));
    assert_eq!(
        sending.refused("/api/v1/logs/context").await,
        (400, "E0504".into())
    );
}

#[tokio::test]
async fn matches_come_with_the_records_around_them() {
    let mut sending = Sending::start().await;
    sending.say(&numbered(0..50)).await;
    let page = sending
        .get("/api/v1/logs?re=[05]$&order=asc&limit=3&before=1&after=2&fields=body")
        .await;
    let row = |number: usize, is_match: bool, group: u32| json!({ "body": format!("line {number:06}"), "match": is_match, "group": group });
    let expected = [
        (0, true, 0),
        (1, false, 0),
        (2, false, 0),
        (4, false, 1),
        (5, true, 1),
        (6, false, 1),
        (7, false, 1),
        (9, false, 2),
        (10, true, 2),
        (11, false, 2),
        (12, false, 2),
    ];
    let expected: Vec<Value> = expected
        .into_iter()
        .map(|(number, is_match, group)| row(number, is_match, group))
        .collect();
    assert_eq!(page["rows"].as_array().unwrap(), &expected);
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/api/v1/logs?re=[05]$&order=asc&limit=1&cursor={cursor}&before=0");
    assert_eq!(rows(&sending.get(&path).await), ["line 000015"]);
    // Where groups meet they are one.
    let csv = sending
        .text("/api/v1/logs?re=2[05]$&before=2&after=2&fields=position&format=csv")
        .await;
    let groups: Vec<&str> = csv
        .lines()
        .skip(1)
        .map(|line| line.rsplit(',').next().unwrap())
        .collect();
    assert_eq!(groups, ["0"; 10], "{csv}");
    assert_eq!(
        sending.refused("/api/v1/logs?before=1000&after=1000").await,
        (422, "E0504".into())
    );
    assert_eq!(
        sending.refused("/api/v1/logs?before=1001").await,
        (400, "E0504".into())
    );
}

#[tokio::test]
async fn the_most_frequent_shapes_come_first() {
    let mut sending = Sending::start().await;
    let text: String = (0..30).map(|n| format!("took {n}ms for \"job {n}\"\n")).collect();
    sending.say(&format!("{text}started\nstarted\nonce\n")).await;
    let found = sending.get("/api/v1/logs/patterns?limit=2").await;
    assert_eq!((&found["records"], &found["shapes"]), (&json!(33), &json!(3)));
    assert_eq!(found["patterns"][0]["pattern"], "took <num>ms for <str>");
    assert_eq!(found["patterns"][0]["count"], 30);
    assert_eq!(found["patterns"][1]["example"], "started");
    assert_eq!(found["patterns"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_tail_shows_what_is_applied_and_goes_on_behind_its_last_event() {
    let mut sending = Sending::start().await;
    sending.say("before\n").await;
    let mut tail = sending
        .tail("/api/v1/logs/tail?q=line&fields=body,machine", None)
        .await;
    let mut other = sending.tail("/api/v1/logs/tail?machine=nobody", None).await;
    sending.say(&format!("other\n{}", numbered(0..3))).await;
    let (id, record) = tail.record().await;
    assert_eq!(record, json!({ "body": "line 000000", "machine": "machine-17" }));
    assert_eq!(id, format!("{STREAM}:{}", "before\nother\n".len()));
    assert_eq!(tail.bodies(2).await, ["line 000001", "line 000002"]);
    drop(tail);
    sending.say(&numbered(3..6)).await;
    let mut again = sending.tail("/api/v1/logs/tail?q=line", Some(&id)).await;
    assert_eq!(again.bodies(5).await, numbered(1..6).lines().collect::<Vec<_>>());
    sending.say(&numbered(6..8)).await;
    assert_eq!(again.bodies(2).await, ["line 000006", "line 000007"]);
    drop(again);
    let path = format!("/api/v1/logs/tail?q=line&last_event_id={id}");
    let mut third = sending.tail(&path, None).await;
    assert_eq!(third.bodies(7).await.len(), 7);
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(300), other.event()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let broken = client()
        .get(sending.url("/api/v1/logs/tail"))
        .header("last-event-id", "17")
        .send()
        .await
        .unwrap();
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn a_tail_goes_on_from_the_store_where_the_collector_remembers_no_event() {
    let mut sending = Sending::start().await;
    // Nobody tailed when these came.
    sending.say(&numbered(0..5)).await;
    let id = format!("{STREAM}:{}", 12);
    let mut tail = sending.tail("/api/v1/logs/tail", Some(&id)).await;
    let bodies: HashSet<String> = tail.bodies(4).await.into_iter().collect();
    let expected = ["line 000000", "line 000002", "line 000003", "line 000004"];
    assert_eq!(bodies, expected.into_iter().map(str::to_owned).collect());
    sending.say(&numbered(5..6)).await;
    assert_eq!(tail.bodies(1).await, ["line 000005"]);
    let nowhere = format!("{STREAM}:5");
    let mut lost = sending.tail("/api/v1/logs/tail", Some(&nowhere)).await;
    assert_eq!(lost.event().await, "event: missed\ndata: {\"count\":null}");
}

#[tokio::test]
async fn a_tail_that_had_no_record_yet_comes_back_with_the_moment_at_which_it_began() {
    let mut sending = Sending::start().await;
    let answer = client()
        .get(sending.url("/api/v1/logs/tail"))
        .send()
        .await
        .unwrap();
    let mut tail = Tail {
        answer,
        text: String::new(),
    };
    let head = tail.event().await;
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .expect("a place");
    assert!(id.starts_with('@'), "{head}");
    drop(tail);
    sending.say(&numbered(0..5)).await;
    let mut again = sending.tail("/api/v1/logs/tail?q=line", Some(id)).await;
    let bodies: HashSet<String> = again.bodies(5).await.into_iter().collect();
    assert_eq!(bodies, numbered(0..5).lines().map(str::to_owned).collect());
    sending.say(&numbered(5..6)).await;
    assert_eq!(again.bodies(1).await, ["line 000005"]);
    for wrong in ["@", "@-1", "@123456789012345", "@1x"] {
        let path = format!("/api/v1/logs/tail?last_event_id={wrong}");
        assert_eq!(sending.refused(&path).await, (400, "E0504".into()), "{wrong}");
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_told_how_much_it_missed() {
    let mut sending = Sending::start().await;
    let mut tail = sending.tail("/api/v1/logs/tail?fields=body", None).await;
    // More than buffers of sockets and the tail's own together.
    let filler = "x".repeat(1_000);
    let mut sent = 0;
    for _ in 0..12 {
        let text: String = (0..2_000)
            .map(|n| format!("{:06} {filler}\n", sent + n))
            .collect();
        sending.say(&text).await;
        sent += 2_000;
    }
    let (mut shown, mut missed) = (0u64, 0u64);
    let mut last = None;
    while last.as_deref() != Some("023999") {
        let event = tail.event().await;
        if let Some(data) = event.strip_prefix("event: missed\ndata: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            missed += data["count"].as_u64().unwrap();
        } else {
            shown += 1;
            let body = event.split("\"body\":\"").nth(1).unwrap();
            last = Some(body[..6].to_owned());
        }
    }
    assert!(missed > 0, "{shown} shown");
    assert_eq!(shown + missed, 24_000);
}

#[tokio::test]
async fn tails_are_bounded_and_end_with_the_collector() {
    let fixture = Fixture::start_with(|config| config.api.tails_max = 1).await;
    let sending = Sending::over(fixture).await;
    let mut tail = sending.tail("/api/v1/logs/tail", None).await;
    assert_eq!(sending.refused("/api/v1/logs/tail").await, (503, "E0509".into()));
    assert_eq!(
        sending.refused("/api/v1/logs/tail?re=(").await,
        (422, "E0511".into())
    );
    assert_eq!(
        sending.refused("/api/v1/logs/tail?from=-1h").await,
        (400, "E0504".into())
    );
    let Sending { fixture, session, .. } = sending;
    session.close().await;
    let Fixture { collector, dir } = fixture;
    let stopping = tokio::spawn(collector.shutdown());
    let ended = tokio::time::timeout(PATIENCE, tail.answer.chunk())
        .await
        .expect("the tail ends");
    assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
    stopping.await.unwrap();
    drop(dir);
}

#[tokio::test]
async fn a_place_at_the_tail_is_free_again_when_its_reader_is_gone() {
    let fixture = Fixture::start_with(|config| config.api.tails_max = 1).await;
    let sending = Sending::over(fixture).await;
    drop(sending.tail("/api/v1/logs/tail", None).await);
    wait_for(async || {
        let answer = client()
            .get(sending.url("/api/v1/logs/tail"))
            .send()
            .await
            .unwrap();
        (answer.status() == 200)
            .then_some(())
            .ok_or(answer.status().to_string())
    })
    .await;
}

#[tokio::test]
async fn a_tail_from_an_earlier_moment_of_an_empty_store_is_a_tail() {
    let sending = Sending::start().await;
    let answer = client()
        .get(sending.url("/api/v1/logs/tail?seconds=0"))
        .header("last-event-id", "@0")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains(": live"));
}

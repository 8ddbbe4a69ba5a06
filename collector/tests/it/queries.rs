//! docs/queries.md: every example on it is asked, and answers something.

use std::process::Command;

use crate::client::{Fixture, now_ns};
use crate::fleet::{Machine, SECOND, network, stored, temperature};

/// Blocks of the page: language, the sentence before, text.
fn examples() -> Vec<(String, String, String)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/queries.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut examples = Vec::new();
    let mut before = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            examples.push((language.to_owned(), before.clone(), text.join("\n")));
        } else if !line.is_empty() {
            before = line.to_owned();
        }
    }
    examples
}

/// Questions to which nothing is a good answer, and the right one here.
const NOTHING: [&str; 2] = ["Which ranges, and why", "have sent no line for ten minutes"];

async fn fleet(fixture: &Fixture) -> Vec<Machine> {
    let mut machines = Vec::new();
    for (number, site) in [(17, "berlin"), (18, "oslo")] {
        let mut machine = Machine::connect(fixture, number, site).await;
        let now = now_ns();
        let times = (0..60)
            .filter(|n| !(20..40).contains(n))
            .map(|n| now - (60 - n) * 10 * SECOND);
        let rows = times.enumerate().flat_map(|(n, time)| {
            [
                temperature(time, 60.0 + n as f64, "cpu"),
                network(time, n as f64 * 1e6),
            ]
        });
        machine.measure(rows.collect()).await;
        let lines: String = (0..20)
            .map(|n| format!("ERROR request {n} failed duration_ms={}\nINFO ok {n}\n", n * 7))
            .collect();
        machine.log(&lines).await;
        machines.push(machine);
    }
    stored(fixture, "metrics", 160).await;
    stored(fixture, "logs", 80).await;
    machines
}

#[tokio::test]
async fn every_example_of_the_page_answers() {
    let fixture = Fixture::start().await;
    let mut machines = fleet(&fixture).await;
    let gone = machines.pop().unwrap();
    // It had more than it sent, its clock was wrong, and it is gone.
    gone.leave_behind(5000).await;
    crate::client::wait_for(async || {
        let (_, answer) = fixture.get("/api/v1/machines?connected=no").await;
        (answer["count"] == 1).then_some(()).ok_or(answer.to_string())
    })
    .await;
    let examples = examples();
    assert!(examples.len() > 20, "{}", examples.len());
    for (language, before, text) in examples {
        let may_be_empty = NOTHING.iter().any(|words| before.contains(words));
        match language.as_str() {
            "sql" => {
                let (status, answer) = fixture.sql(&text).await;
                assert_eq!(status, 200, "{before}\n{text}\n{answer}");
                let rows = answer["rows"].as_array().unwrap();
                assert!(may_be_empty || !rows.is_empty(), "{before}\n{text}\n{answer}");
            }
            "sh" => {
                let address = format!("http://{}", fixture.collector.api_addr);
                let output = tokio::task::spawn_blocking(move || {
                    Command::new("sh")
                        .args(["-ec", &text])
                        .env("COLLECTOR", address)
                        .output()
                });
                let output = output.await.unwrap().unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{before}\n{complaint}");
                assert!(!said.is_empty(), "{before}");
                if let Ok(answer) = serde_json::from_str::<serde_json::Value>(&said) {
                    let list = ["rows", "metrics", "samples", "series", "streams"]
                        .iter()
                        .find_map(|key| answer[key].as_array());
                    assert!(
                        may_be_empty || list.is_some_and(|list| !list.is_empty()),
                        "{before}\n{said}"
                    );
                }
            }
            other => panic!("a block of {other:?} after {before:?}"),
        }
    }
}

//! From a line in a file to an answer.

use std::process::Command;

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::{AGENT, Stack};
use edgelogger_tests::wait_for;
use serde_json::{Value, json};

#[test]
fn lines_come_back_from_the_logs_api_page_by_page() {
    let mut stack = Stack::new(&[], &["--label", "site=berlin"]);
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 0, 1_000, |_| ());
    expect_exactly(&stack, "run", 1_000);
    let mut bodies = Vec::new();
    let mut cursor = String::new();
    for _ in 0..20 {
        let path = format!("/api/v1/logs?machine={AGENT}&from=-1h&q=run&limit=90&order=asc{cursor}");
        let page = stack.get(&path).unwrap();
        let rows = page["rows"].as_array().unwrap();
        bodies.extend(rows.iter().map(|row| row["body"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(bodies.len(), 1_000);
    assert!(bodies.is_sorted(), "pages are in order");
    bodies.dedup();
    assert_eq!(bodies.len(), 1_000, "no row is on two pages");
}

#[test]
fn host_metrics_arrive_with_their_units() {
    let mut stack = Stack::new(&[], &["--host-metrics"]);
    stack.start();
    wait_for("memory is reported", || {
        let rows =
            stack.sql("SELECT count(*) FROM metrics WHERE name = 'system.memory.usage' AND unit = 'By'")?;
        if rows[0][0].as_i64() > Some(0) {
            Ok(())
        } else {
            Err(format!("{rows:?}\n{}", stack.said()))
        }
    });
}

#[test]
fn a_graceful_stop_of_both_leaves_everything_stored() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 0, 20_000, |_| ());
    expect_exactly(&stack, "run", 20_000);
    stack.stop_agent();
    stack.stop_collector();
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 20_000, 30_000, |_| ());
    expect_exactly(&stack, "run", 30_000);
}

#[test]
fn the_balance_of_both_ends_has_no_residual() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 0, 5_000, |_| ());
    expect_exactly(&stack, "run", 5_000);
    let health = stack.get("/health").unwrap();
    assert_eq!(health["verdict"], "ok", "{health}");
    let store = &health["sinks"][0];
    assert_eq!(
        (&store["read"], &store["applied"]),
        (&json!(5_000), &json!(5_000))
    );
    assert_eq!((&store["duplicate"], &store["residual"]), (&json!(0), &json!(0)));
    let status = Command::new(program("edgelogger-agent"))
        .args(["status", "--json", "--state-dir"])
        .arg(stack.state_dir())
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["residual_positions"], 0, "{status}");
}

#[test]
fn the_ledger_says_which_byte_of_which_file_is_stored_and_which_is_not_and_why() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    write_lines(&path, "run", 0, 2_000, |_| ());
    expect_exactly(&stack, "run", 2_000);
    let whole = std::fs::metadata(&path).unwrap().len();
    // Truncated while nobody looks, with bytes in it that were never read.
    stack.kill_agent();
    write_lines(&path, "never", 0, 10, |_| ());
    std::fs::write(&path, "after\n").unwrap();
    stack.start_agent();
    wait_for("both contents of the file are in the ledger", || {
        let ledger = stack.get("/api/v1/ledger?source=*/app.log")?;
        let size = |stream: &Value| (stream["stored_upto"].as_u64(), stream["size"].as_u64());
        let sizes: Vec<_> = ledger["streams"].as_array().unwrap().iter().map(size).collect();
        let expected = [(Some(whole), Some(whole)), (Some(6), Some(6))];
        (sizes == expected)
            .then_some(())
            .ok_or_else(|| ledger.to_string())
    });
    let ledger = stack.get("/api/v1/ledger").unwrap();
    let first = &ledger["streams"][0];
    assert_eq!((&first["generation"], &first["rows"]), (&json!(1), &json!(2_000)));
    // Nobody can know that there was more behind the end that was seen: the end is "at least".
    assert_eq!(first["end"]["exact"], false, "{ledger}");
    let audit = |what: &std::path::Path| {
        let output = Command::new(program("edgelogger-agent"))
            .args(["audit", "--url", &stack.api("")])
            .arg(what)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = audit(&path);
    assert!(
        code == Some(0) && text.contains("[0, 6)  6 bytes  stored, and the same"),
        "{text}"
    );
    let copy = stack.dir().join("copy");
    std::fs::write(&copy, "aftex\n").unwrap();
    let (code, text) = audit(&copy);
    assert!(code == Some(1) && text.contains("in no stream"), "{text}");
    let table = Command::new(program("edgelogger-collector"))
        .args(["ledger", "--url", &stack.api("")])
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("app.log") && table.contains("ended ("), "{table}");
}

//! From a line in a file to an answer.

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::stack::{AGENT, Stack};
use edgelogger_tests::wait_for;

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
}

//! Deleting with the real programs: the command line, and a collector that is killed while it deletes.

use std::process::{Command, Output, Stdio};

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::{AGENT, Stack};
use edgelogger_tests::wait_for;
use serde_json::Value;

fn collector(stack: &Stack, arguments: &[&str]) -> Output {
    Command::new(program("edgelogger-collector"))
        .args(arguments)
        .args(["--url", &stack.api("")])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn the_command_shows_what_goes_asks_for_a_yes_and_says_what_is_gone() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 0, 1_000, |_| ());
    write_lines(&stack.log_file("other.log"), "other", 0, 100, |_| ());
    expect_exactly(&stack, "run", 1_000);
    expect_exactly(&stack, "other", 100);
    let delete = |more: &[&str]| {
        let which = [
            "delete",
            "--machine",
            AGENT,
            "--source",
            "*/app.log",
            "--reason",
            "a test",
        ];
        collector(&stack, &[&which, more].concat())
    };
    let plan = delete(&["--dry-run"]);
    assert!(
        plan.status.success() && said(&plan).contains("1000 rows would go"),
        "{}",
        said(&plan)
    );
    let unasked = delete(&[]);
    assert!(
        !unasked.status.success() && said(&unasked).contains("--yes"),
        "{}",
        said(&unasked)
    );
    expect_exactly(&stack, "run", 1_000);
    let done = delete(&["--yes"]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(
        said(&done).contains("deletion 1 is done: 1000 rows are gone"),
        "{}",
        said(&done)
    );
    expect_exactly(&stack, "run", 0);
    expect_exactly(&stack, "other", 100);
    let listed = collector(&stack, &["deletions", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["deletions"][0]["reason"], "a test", "{listed}");
    let wrong = collector(&stack, &["delete", "--reason", "a test", "--yes"]);
    assert!(said(&wrong).contains("--machine"), "{}", said(&wrong));
}

#[test]
fn a_collector_that_is_killed_while_it_deletes_goes_on_when_it_is_back() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 0, 20_000, |_| ());
    write_lines(&stack.log_file("other.log"), "other", 0, 1_000, |_| ());
    expect_exactly(&stack, "run", 20_000);
    expect_exactly(&stack, "other", 1_000);
    for round in 0..4 {
        let source = if round == 3 { "*/app.log" } else { "*/none.log" };
        let accepted = collector(
            &stack,
            &[
                "delete",
                "--source",
                source,
                "--reason",
                "a test",
                "--yes",
                "--no-wait",
            ],
        );
        assert!(accepted.status.success(), "{}", said(&accepted));
        // At another moment each time: most of them before it has begun.
        std::thread::sleep(std::time::Duration::from_millis(300 * round));
        stack.kill_collector();
        stack.start_collector();
    }
    wait_for("all deletions are done", || {
        let running = stack.get("/api/v1/deletions?state=running")?;
        (running["count"] == 0)
            .then_some(())
            .ok_or_else(|| running.to_string())
    });
    let all = stack.get("/api/v1/deletions").unwrap();
    let rows: Vec<_> = all["deletions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["rows"].clone())
        .collect();
    assert_eq!(rows, [20_000, 0, 0, 0], "{all}");
    expect_exactly(&stack, "run", 0);
    expect_exactly(&stack, "other", 1_000);
    // What is deleted does not come back, and what is new is stored.
    write_lines(&stack.log_file("app.log"), "new", 0, 500, |_| ());
    expect_exactly(&stack, "new", 500);
    expect_exactly(&stack, "run", 0);
}

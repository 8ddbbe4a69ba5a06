//! What happens to logs, and to the agent's memory of them, while it is away.

use std::fs;
use std::path::Path;
use std::process::Command;

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;

fn gzip(path: &Path) {
    assert!(Command::new("gzip").arg(path).status().unwrap().success());
}

#[test]
fn a_log_that_was_rotated_and_compressed_while_the_agent_was_away_is_stored_once_and_whole() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let path = stack.log_file("app.log");
    write_lines(&path, "run", 0, 3_000, |_| ());
    expect_exactly(&stack, "run", 3_000);
    stack.stop_agent();
    for generation in (1..=3u64).rev() {
        let from = 3_000 + (3 - generation) * 2_000;
        write_lines(&path, "run", from, from + 2_000, |_| ());
        let rotated = stack.log_file(&format!("app.log.{generation}"));
        fs::rename(&path, &rotated).unwrap();
        gzip(&rotated);
    }
    write_lines(&path, "run", 9_000, 10_000, |_| ());
    stack.start_agent();
    expect_exactly(&stack, "run", 10_000);
    stack.stop_agent();
    stack.start_agent();
    write_lines(&path, "run", 10_000, 11_000, |_| ());
    expect_exactly(&stack, "run", 11_000);
}

#[test]
fn an_agent_whose_state_is_lost_goes_on_where_it_was() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let (app, other) = (stack.log_file("app.log"), stack.log_file("other.log"));
    write_lines(&app, "app", 0, 5_000, |_| ());
    write_lines(&other, "other", 0, 1_000, |_| ());
    expect_exactly(&stack, "app", 5_000);
    expect_exactly(&stack, "other", 1_000);
    stack.kill_agent();
    write_lines(&app, "app", 5_000, 6_000, |_| ());
    fs::rename(&other, stack.log_file("other.log.1")).unwrap();
    write_lines(&other, "other", 1_000, 2_000, |_| ());
    fs::remove_dir_all(stack.state_dir()).unwrap();
    stack.start_agent();
    expect_exactly(&stack, "app", 6_000);
    expect_exactly(&stack, "other", 2_000);
    let streams = stack.sql("SELECT count(DISTINCT stream_id) FROM logs").unwrap();
    assert_eq!(streams[0][0], 3, "two go on, one is new: {}", stack.said());
}

/// What an agent's command says, and its exit code.
fn agent(stack: &Stack, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program("edgelogger-agent"));
    command.args(arguments).arg("--state-dir").arg(stack.state_dir());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_replaced_disk_of_the_collector_is_told_until_it_is_settled_and_sent_again_only_when_asked_for() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let (path, other) = (stack.log_file("app.log"), stack.log_file("other.log"));
    write_lines(&path, "run", 0, 3_000, |_| ());
    write_lines(&other, "other", 0, 100, |_| ());
    expect_exactly(&stack, "run", 3_000);
    expect_exactly(&stack, "other", 100);
    stack.stop_agent();
    stack.stop_collector();
    for part in ["log", "store"] {
        fs::remove_dir_all(stack.data_dir().join(part)).unwrap();
    }
    write_lines(&path, "after", 0, 10, |_| ());
    stack.start();
    expect_exactly(&stack, "after", 10);
    expect_exactly(&stack, "run", 0);
    let (refused, said) = agent(&stack, &["rewind", "--all"]);
    assert_eq!(refused, Some(1), "it runs: {said}");
    stack.stop_agent();
    // It is told after a restart, too.
    stack.start_agent();
    wait_for("status says that the log was replaced", || {
        match agent(&stack, &["status"]) {
            (Some(4), said) if said.contains("E0225") && said.contains("rewind") => Ok(()),
            (code, said) => Err(format!("{code:?} {said}")),
        }
    });
    expect_exactly(&stack, "run", 0);
    stack.stop_agent();
    let (code, planned) = agent(&stack, &["rewind", "--all", "--dry-run"]);
    assert_eq!(code, Some(0), "{planned}");
    // One of two: what is left is said, also by the running agent.
    let (code, said) = agent(&stack, &["rewind", "--path", &other.display().to_string()]);
    assert!(
        code == Some(0) && said.contains("E0225") && said.contains("app.log"),
        "{said}"
    );
    stack.start_agent();
    expect_exactly(&stack, "other", 100);
    wait_for("status names the file that is left", || {
        match agent(&stack, &["status", "--json"]) {
            (Some(4), said) if said.contains("not rewound yet: 1 file") && said.contains("E0225") => Ok(()),
            (code, said) => Err(format!("{code:?} {said}")),
        }
    });
    expect_exactly(&stack, "run", 0);
    stack.stop_agent();
    let (code, done) = agent(
        &stack,
        &["rewind", "--all", "--to", "stored", "--url", &stack.api("")],
    );
    assert_eq!(code, Some(0), "{done}");
    stack.start_agent();
    expect_exactly(&stack, "run", 3_000);
    expect_exactly(&stack, "after", 10);
    wait_for("status is healthy", || match agent(&stack, &["status"]) {
        (Some(0), _) => Ok(()),
        (code, said) => Err(format!("{code:?} {said}")),
    });
}

//! SIGHUP: what can comes into force, what can't is named, and a broken file changes nothing.

use std::path::PathBuf;

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;
use serde_json::{Value, json};

struct File {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = Self {
            path: dir.path().join("config.toml"),
            _dir: dir,
        };
        file.write("");
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }
}

/// Flags say where the collector is and where state lies, and win.
const AGENT: &str = "[collector]\nurl = \"wss://localhost\"\nca = \"ca.pem\"\n";

fn agent_stack(file: &File) -> Stack {
    Stack::new(&[], &["--config", file.path.to_str().unwrap()])
}

fn hang_up(stack: &Stack) {
    stack.agent.as_ref().unwrap().signal("HUP");
}

fn wait_for_status(stack: &Stack, what: &str, is_so: impl Fn(&Value) -> bool) {
    wait_for(what, || {
        let status = stack.agent_status()?;
        is_so(&status)
            .then_some(())
            .ok_or_else(|| format!("{status}\n{}", stack.said()))
    });
}

#[test]
fn a_source_that_is_removed_and_comes_back_loses_nothing_and_sends_nothing_twice() {
    let file = File::new();
    let mut stack = agent_stack(&file);
    let extra = stack.dir().join("extra");
    std::fs::create_dir(&extra).unwrap();
    let with_source = format!(
        "{AGENT}[[source.file]]\ninclude = [\"{}/*.txt\"]\n",
        extra.display()
    );
    file.write(&with_source);
    stack.start();
    let (path, kept) = (extra.join("a.txt"), stack.log_file("kept.log"));
    write_lines(&path, "extra", 0, 3_000, |_| ());
    write_lines(&kept, "kept", 0, 3_000, |_| ());
    expect_exactly(&stack, "extra", 3_000);
    let sources = |status: &Value| status["sources"].as_array().map_or(0, Vec::len);
    // In the middle of what is written.
    write_lines(&path, "extra", 3_000, 20_000, |_| ());
    write_lines(&kept, "kept", 3_000, 20_000, |_| ());
    file.write(AGENT);
    hang_up(&stack);
    wait_for_status(&stack, "one source is left", |status| sources(status) == 1);
    write_lines(&path, "extra", 20_000, 25_000, |_| ());
    // It is rotated while nobody looks.
    std::fs::rename(&path, extra.join("a.1.txt")).unwrap();
    write_lines(&path, "extra", 25_000, 30_000, |_| ());
    write_lines(&kept, "kept", 20_000, 30_000, |_| ());
    expect_exactly(&stack, "kept", 30_000);
    file.write(&with_source);
    hang_up(&stack);
    wait_for_status(&stack, "both sources are there", |status| sources(status) == 2);
    expect_exactly(&stack, "extra", 30_000);
    wait_for_status(&stack, "the account balances", |status| {
        status["residual_positions"] == 0 && status["health"] == "healthy"
    });
    // Many at once, while lines come.
    let writer = std::thread::spawn({
        let kept = kept.clone();
        move || {
            for part in 0..40 {
                write_lines(&kept, "kept", 30_000 + part * 100, 30_100 + part * 100, |_| ());
                std::thread::sleep(std::time::Duration::from_millis(25));
            }
        }
    });
    for text in [AGENT, &with_source, AGENT, &with_source] {
        file.write(text);
        hang_up(&stack);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    writer.join().unwrap();
    expect_exactly(&stack, "kept", 34_000);
    expect_exactly(&stack, "extra", 30_000);
}

#[test]
fn an_agents_broken_file_changes_nothing_and_what_needs_a_restart_is_named() {
    let file = File::new();
    file.write(AGENT);
    let mut stack = agent_stack(&file);
    stack.start();
    let path = stack.log_file("app.log");
    write_lines(&path, "run", 0, 100, |_| ());
    expect_exactly(&stack, "run", 100);
    for broken in [
        "[batch]\nmax_agee = \"1s\"\n",
        "[log]\nfilter = \"edgelogger=loud\"\n",
        "[[source.file]]\ninclude = []\n",
    ] {
        file.write(&format!("{AGENT}{broken}"));
        hang_up(&stack);
        wait_for_status(&stack, "the problem is told", |status| {
            status["health"] == "degraded"
                && status["problems"][0]["what"].as_str().unwrap().contains("stays")
        });
        file.write(AGENT);
        hang_up(&stack);
        wait_for_status(&stack, "it is over", |status| status["health"] == "healthy");
    }
    write_lines(&path, "run", 100, 200, |_| ());
    expect_exactly(&stack, "run", 200);
    file.write(&format!("{AGENT}[log]\nformat = \"json\"\nfilter = \"error\"\n"));
    hang_up(&stack);
    wait_for_status(&stack, "what waits is named", |status| {
        status["needs_restart"] == json!(["log.format"])
    });
    assert_eq!(stack.said().matches("reloaded: log.filter").count(), 0);
    file.write(AGENT);
    hang_up(&stack);
    wait_for_status(&stack, "nothing waits", |status| {
        status["needs_restart"] == json!([])
    });
    assert_eq!(stack.said().matches("reloaded: log.filter").count(), 1);
    stack.stop_agent();
}

#[test]
fn a_collector_reloads_its_file_and_names_what_it_can_not() {
    let file = File::new();
    let mut stack = Stack::new(&["--config", file.path.to_str().unwrap()], &[]);
    stack.start_collector();
    let hang_up = |stack: &Stack| stack.collector.as_ref().unwrap().signal("HUP");
    let health = |stack: &Stack, what: &str, is_so: &dyn Fn(&Value) -> bool| {
        wait_for(what, || {
            let health = stack.get("/health")?;
            is_so(&health)
                .then_some(())
                .ok_or_else(|| format!("{health}\n{}", stack.said()))
        });
    };
    file.write("[store]\nquery_rows_max = 3\nqueries_max = 2\n[api]\nconnections_max = 7\n");
    hang_up(&stack);
    let waiting = json!(["api.connections_max", "store.queries_max"]);
    health(&stack, "what waits is named", &|health| {
        health["configuration"]["needs_restart"] == waiting
    });
    assert_eq!(
        stack
            .sql("SELECT * FROM (VALUES (1), (2), (3), (4))")
            .unwrap()
            .len(),
        3
    );
    file.write("[store]\nquery_rows_max = 0\n");
    hang_up(&stack);
    health(&stack, "the problem is told", &|health| {
        let problem = &health["problems"][0];
        problem["subject"] == "configuration" && problem["code"] == "E0108"
    });
    assert_eq!(
        stack
            .sql("SELECT * FROM (VALUES (1), (2), (3), (4))")
            .unwrap()
            .len(),
        3
    );
    file.write("");
    hang_up(&stack);
    health(&stack, "it is over", &|health| {
        health["verdict"] == "ok" && health["configuration"]["needs_restart"] == json!([])
    });
    assert_eq!(
        stack
            .sql("SELECT * FROM (VALUES (1), (2), (3), (4))")
            .unwrap()
            .len(),
        4
    );
    stack.stop_collector();
}

//! What people get wrong, and what they are told.

use std::fs;
use std::process::{Command, Output};

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::{AGENT, Stack};
use edgelogger_tests::wait_for;

fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(program(name)).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// The agent says all of `words`, and once it is given what is right, its lines are stored.
fn agent_is_told(stack: &mut Stack, words: &[&str]) {
    stack.start_agent();
    wait_for("the agent says what is wrong", || {
        let text = stack.agent.as_ref().unwrap().said();
        if words.iter().all(|word| text.contains(word)) {
            Ok(())
        } else {
            Err(text)
        }
    });
    stack.kill_agent();
}

#[test]
fn a_foreign_token_is_refused_and_the_right_one_then_loses_nothing() {
    let mut stack = Stack::new(&[], &[]);
    let mut other = Stack::new(&[], &[]);
    stack.start_collector();
    other.start_collector();
    write_lines(&stack.log_file("app.log"), "run", 0, 1_000, |_| ());
    let foreign = fs::read(other.token_file()).unwrap();
    let token = stack.token_file();
    let right = fs::read(&token).unwrap();
    fs::write(&token, foreign).unwrap();
    agent_is_told(&mut stack, &["E02", "token"]);
    fs::write(&token, right).unwrap();
    stack.start_agent();
    expect_exactly(&stack, "run", 1_000);
}

#[test]
fn the_ca_of_another_collector_is_refused_with_a_reason() {
    let mut stack = Stack::new(&[], &[]);
    let mut other = Stack::new(&[], &[]);
    stack.start_collector();
    other.start_collector();
    let ca = stack.data_dir().join("tls/ca.pem");
    let right = fs::read(&ca).unwrap();
    fs::copy(other.data_dir().join("tls/ca.pem"), &ca).unwrap();
    agent_is_told(&mut stack, &["certificate"]);
    fs::write(&ca, right).unwrap();
    write_lines(&stack.log_file("app.log"), "run", 0, 1_000, |_| ());
    stack.start_agent();
    expect_exactly(&stack, "run", 1_000);
}

#[test]
fn a_misspelt_key_is_pointed_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "[collector]\nulr = \"wss://localhost:7443\"\n").unwrap();
    let output = run("edgelogger-agent", &["check", "--config", path.to_str().unwrap()]);
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    for word in ["ulr", "agent.toml", "url", "2"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn sql_can_neither_write_nor_read_files() {
    let mut stack = Stack::new(&[], &[]);
    stack.start_collector();
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
    ] {
        let error = stack.sql(query).unwrap_err();
        assert!(error.starts_with('4'), "{query}: {error}");
    }
    assert!(!std::path::Path::new("/tmp/edgelogger-stolen.parquet").exists());
    assert_eq!(stack.sql("SELECT 1").unwrap()[0][0], 1);
}

#[test]
fn plain_http_on_the_tls_port_is_told_so() {
    use std::io::{Read, Write};
    let mut stack = Stack::new(&[], &[]);
    stack.start_collector();
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", stack.ingest_port())).unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("TLS"),
        "{answer}"
    );
}

#[test]
fn a_second_collector_on_the_same_folder_is_refused() {
    let mut stack = Stack::new(&[], &[]);
    stack.start_collector();
    let dir = stack.data_dir();
    let output = run(
        "edgelogger-collector",
        &[
            "run",
            "--data-dir",
            dir.to_str().unwrap(),
            "--ingest-listen",
            "127.0.0.1:0",
            "--api-listen",
            "127.0.0.1:0",
        ],
    );
    let text = said(&output);
    assert!(
        !output.status.success() && text.contains(dir.to_str().unwrap()),
        "{text}"
    );
}

#[test]
fn a_full_disk_under_the_collector_loses_nothing_and_says_so() {
    let mount = tempfile::tempdir().unwrap();
    let path = mount.path().to_str().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs", path])
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a tmpfs can't be mounted here (needs root)");
        return;
    }
    let _unmount = Unmount(path.to_owned());
    let mut stack = Stack::new(&[], &[]);
    std::os::unix::fs::symlink(path, stack.data_dir()).unwrap();
    let ballast = mount.path().join("ballast");
    stack.start();
    write_lines(&stack.log_file("app.log"), "run", 0, 1_000, |_| ());
    expect_exactly(&stack, "run", 1_000);
    let free = 48 << 20;
    let filled = fs::write(&ballast, vec![0u8; free]);
    assert!(filled.is_err(), "the disk is full now");
    write_lines(&stack.log_file("app.log"), "run", 1_000, 20_000, |_| ());
    wait_for("health says that the disk is full", || {
        let health = stack
            .get("/health")
            .or_else(|error| Ok::<_, String>(error.into()))?;
        let text = health.to_string();
        if text.contains("E0401") {
            Ok(())
        } else {
            Err(format!("{text}\n{}", stack.said()))
        }
    });
    wait_for("the agent's status says that nothing is taken", || {
        let status = Command::new(program("edgelogger-agent"))
            .args(["status", "--state-dir"])
            .arg(stack.state_dir())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        if text.contains("the collector takes nothing now") && status.status.code() == Some(4) {
            Ok(())
        } else {
            Err(format!("{text} {status:?}"))
        }
    });
    fs::remove_file(&ballast).unwrap();
    expect_exactly(&stack, "run", 20_000);
    assert_eq!(
        stack.sql("SELECT DISTINCT machine_id FROM logs").unwrap()[0][0],
        AGENT
    );
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

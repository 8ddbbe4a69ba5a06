//! The program itself: arguments, exit codes, signals, the status socket.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Only a test that fails waits for so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgelogger-agent"));
    command.args(arguments).env_remove("EDGELOGGER_COLLECTOR");
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = agent(arguments).output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap(),
    )
}

/// Killed when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Writes a configuration whose collector is not there.
fn configure(dir: &Path) -> String {
    let path = dir.join("agent.toml");
    std::fs::write(dir.join("token"), "e30.eyJzdWIiOiJtYWNoaW5lLTE3In0.c2ln").unwrap();
    std::fs::write(dir.join("a.log"), "one\ntwo\n").unwrap();
    std::fs::write(
        &path,
        format!(
            "state_dir = 'state'\nshutdown_timeout = '100ms'\n[collector]\nurl = 'wss://127.0.0.1:1'\nca = 'ca.pem'\n\
             token_file = 'token'\n[[source.file]]\ninclude = ['{}/*']\n[source.host_metrics]\n",
            dir.display()
        ),
    )
    .unwrap();
    path.display().to_string()
}

fn start(config: &str) -> Running {
    let mut command = agent(&["run", "--config", config]);
    Running(
        command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

fn until_read(config: &str, positions: u64) -> serde_json::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, text) = output(&["status", "--config", config, "--json"]);
        if let Ok(report) = serde_json::from_str::<serde_json::Value>(&text)
            && report["accounts"]["positions"]["read"].as_u64() >= Some(positions)
            && !report["problems"].as_array().unwrap().is_empty()
        {
            return report;
        }
        assert!(Instant::now() < deadline, "it never read: {text}");
    }
}

#[test]
fn it_runs_answers_refuses_a_second_one_and_stops_at_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path());
    let mut first = start(&config);
    let report = until_read(&config, 8);
    assert_eq!(
        (&report["residual_positions"], &report["health"]),
        (&0.into(), &"degraded".into())
    );

    let (code, screen) = output(&["status", "--config", &config]);
    assert_eq!(code, Some(4), "{screen}");
    assert!(
        screen.starts_with("DEGRADED") && screen.contains("E0213") && screen.contains("NOT CONNECTED"),
        "{screen}"
    );
    let (code, message) = output(&["run", "--config", &config]);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("another agent runs"), "{message}");

    first.signal("-TERM");
    assert_eq!(first.exit_code(), Some(0));
    let (code, message) = output(&["status", "--config", &config]);
    assert_eq!(code, Some(3), "{message}");
}

#[test]
fn one_that_was_killed_leaves_nothing_in_the_way_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path());
    let mut first = start(&config);
    until_read(&config, 8);
    first.signal("-KILL");
    first.exit_code();
    let mut second = start(&config);
    until_read(&config, 8);
    second.signal("-INT");
    assert_eq!(second.exit_code(), Some(0));
}

#[test]
fn check_shows_what_would_be_read_and_never_the_agents_own_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path());
    let (code, text) = output(&["check", "--config", &config]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("a.log") && text.contains("every 15s"), "{text}");
    let token = format!("{}/token", dir.path().display());
    let line = text.lines().find(|line| line.contains(&token)).unwrap();
    assert!(line.trim_start().starts_with("skip"), "{line}");
    assert!(!dir.path().join("state").exists(), "check changes nothing");

    let (code, text) = output(&["check", "--config", &config, "--connect"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("PROBLEM"), "{text}");
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, "[collector]\nurl = 'c'\nca = 'ca.pem'\ntokenfile = 'x'\n").unwrap();
    let (code, message) = output(&["run", "--config", &path.display().to_string()]);
    assert_eq!(code, Some(2), "{message}");
    assert!(
        message.contains("E0104") && message.contains("token_file"),
        "{message}"
    );
    let (code, message) = output(&["run", "--collector", "wss://c"]);
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains("E0106") && message.contains("--ca"), "{message}");
    assert_eq!(output(&["run", "--no-such-flag"]).0, Some(2));
    let (code, text) = output(&["explain", "e0104"]);
    assert!(
        code == Some(0) && text.starts_with("E0104: unknown configuration key\n"),
        "{text}"
    );
    assert_eq!(output(&["explain", "E9999"]).0, Some(2));
}

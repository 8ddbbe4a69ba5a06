//! The commands that look at the files of a collector that does not run.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::{AGENT, Stack};
use edgelogger_tests::wait_for;
use serde_json::Value;

const LINES: u64 = 500;

/// `store` with these arguments: its exit code, what it printed, and what it complained.
fn store(stack: &Stack, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program("edgelogger-collector"))
        .arg("store")
        .args(arguments)
        .arg("--data-dir")
        .arg(stack.data_dir())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn store_json(stack: &Stack, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, out, complaint) = store(stack, &[arguments, &["--json"]].concat());
    let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{complaint}"));
    (code, json)
}

fn files(stack: &Stack) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(stack.data_dir().join("store/files")).unwrap();
    let mut files: Vec<PathBuf> = dir.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Two files: a stop writes what is in memory.
fn stopped_twice() -> Stack {
    let mut stack = Stack::new(&[], &[]);
    for round in 0..2 {
        stack.start();
        write_lines(
            &stack.log_file("app.log"),
            "run",
            round * LINES,
            (round + 1) * LINES,
            |_| (),
        );
        expect_exactly(&stack, "run", i64::try_from((round + 1) * LINES).unwrap());
        stack.stop_agent();
        stack.stop_collector();
    }
    stack
}

#[test]
fn the_files_are_listed_verified_and_exported_in_every_form() {
    let mut stack = stopped_twice();
    let (code, listed) = store_json(&stack, &["ls"]);
    assert_eq!(
        (code, listed["files"].as_array().unwrap().len()),
        (Some(0), 2),
        "{listed}"
    );
    let rows: u64 = listed["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(rows, 2 * LINES);
    assert_eq!(listed["files"][0]["machines"][0], AGENT);
    assert_eq!(listed["aside"], Value::Array(Vec::new()));
    let (code, text, _) = store(&stack, &["ls"]);
    assert!(code == Some(0) && text.contains("2 files, 1000 rows"), "{text}");
    let (code, verified) = store_json(&stack, &["verify"]);
    assert_eq!(
        (code, &verified["whole"]),
        (Some(0), &Value::from(2)),
        "{verified}"
    );
    let (_, text, _) = store(&stack, &["verify"]);
    assert_eq!(text, "2 files are whole\n");

    let export = |arguments: &[&str]| {
        let (code, out, complaint) = store(&stack, &[&["export", "--table", "logs"], arguments].concat());
        assert_eq!(code, Some(0), "{complaint}");
        (out, complaint)
    };
    let (lines, said) = export(&["--format", "ndjson"]);
    assert_eq!(said, "1000 rows\n");
    let rows: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len() as u64, 2 * LINES);
    assert!(
        rows.iter()
            .all(|row| row["body"].as_str().unwrap().starts_with("run "))
    );
    let (table, _) = export(&["--format", "csv", "--machine", AGENT]);
    assert_eq!(
        table.lines().count() as u64,
        2 * LINES + 1,
        "with a line of names"
    );
    let (nothing, said) = export(&["--format", "ndjson", "--to", "2020-01-01T00:00:00Z"]);
    assert_eq!((nothing.as_str(), said.as_str()), ("", "0 rows\n"));
    let path = stack.dir().join("export.parquet");
    let path = path.to_str().unwrap();
    export(&["--format", "parquet", "-o", path]);
    assert!(std::fs::read(path).unwrap().starts_with(b"PAR1"));
    let (code, _, complaint) = store(
        &stack,
        &["export", "--table", "logs", "--format", "parquet", "-o", path],
    );
    assert!(
        code != Some(0) && complaint.contains(path),
        "it is not replaced: {complaint}"
    );

    stack.start_collector();
    for command in ["ls", "verify"] {
        let (code, _, complaint) = store(&stack, &[command]);
        assert!(
            code != Some(0) && complaint.contains("running collector"),
            "{complaint}"
        );
    }
}

#[test]
fn a_damaged_file_is_found_put_aside_shown_and_comes_back_from_a_backup() {
    let mut stack = stopped_twice();
    let damaged = files(&stack).remove(0);
    let whole = std::fs::read(&damaged).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[4..middle].fill(0);
    std::fs::write(&damaged, bytes).unwrap();
    let check_damaged = |stack: &Stack, what: &str| {
        let (code, verified) = store_json(stack, &["verify"]);
        assert_eq!(
            (code, &verified["whole"]),
            (Some(1), &Value::from(1)),
            "{verified}"
        );
        assert_eq!(verified["damaged"][0]["file"], name(&damaged), "{verified}");
        let problem = verified["damaged"][0]["problems"][0].as_str().unwrap();
        assert!(problem.contains(what), "{problem}");
    };
    check_damaged(&stack, "CRC32C");

    stack.start_collector();
    let page = stack.get("/api/v1/logs?limit=10000&from=-1d").unwrap();
    assert_eq!(page["rows"].as_array().unwrap().len() as u64, LINES);
    assert_eq!(page["incomplete"][0]["file"], name(&damaged));
    let asked = Command::new(program("edgelogger-collector"))
        .args(["sql", "--url", &stack.api(""), "SELECT count(*) FROM logs"])
        .output()
        .unwrap();
    let complaint = String::from_utf8(asked.stderr).unwrap();
    assert!(
        asked.status.success() && complaint.contains("incomplete"),
        "{complaint}"
    );
    wait_for("the ledger says what was in it", || {
        let ledger = stack.get("/api/v1/ledger")?;
        let lost = ledger["streams"][0]["positions"]["lost"].as_u64();
        (lost > Some(0)).then_some(()).ok_or_else(|| ledger.to_string())
    });
    stack.stop_collector();

    let (_, listed) = store_json(&stack, &["ls"]);
    assert_eq!(listed["files"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["aside"][0]["name"], name(&damaged), "{listed}");
    let (_, text, _) = store(&stack, &["ls"]);
    assert!(
        text.contains(&format!("put aside, with {LINES} rows: {}", name(&damaged))),
        "{text}"
    );
    check_damaged(&stack, "put aside");

    std::fs::write(&damaged, whole).unwrap();
    stack.start_collector();
    expect_exactly(&stack, "run", i64::try_from(2 * LINES).unwrap());
    let health = stack.get("/health").unwrap();
    assert_eq!(health["verdict"], "ok", "{health}");
    let ledger = stack.get("/api/v1/ledger").unwrap();
    assert_eq!(ledger["streams"][0]["positions"]["lost"], 0, "{ledger}");
    stack.stop_collector();
    let (code, verified) = store_json(&stack, &["verify"]);
    assert_eq!(
        (code, &verified["whole"]),
        (Some(0), &Value::from(2)),
        "{verified}"
    );
}

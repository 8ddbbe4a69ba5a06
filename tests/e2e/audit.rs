//! Files against what the real collector has of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use edgelogger_common::stamped::{stamp, unstamp};
use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;
use serde_json::{Value, json};

/// What `audit` says of a file, and its exit code.
fn audit(arguments: &[&str], file: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(program("edgelogger-agent"));
    let output = command.arg("audit").args(arguments).arg(file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The file compressed by the program of this name, beside it.
fn packed(path: &Path, by: &str, suffix: &str) -> std::path::PathBuf {
    let bytes = Command::new(by).arg("-c").arg(path).output().unwrap();
    assert!(bytes.status.success(), "{by}");
    let packed = path.with_extension(suffix);
    fs::write(&packed, bytes.stdout).unwrap();
    packed
}

#[test]
fn compressed_copies_are_audited_by_their_content() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let log = stack.log_file("app.log");
    write_lines(&log, "run", 0, 20_000, |_| ());
    expect_exactly(&stack, "run", 20_000);
    let (api, copy) = (stack.api(""), stack.dir().join("copy"));
    fs::copy(&log, &copy).unwrap();
    let url = ["--url", &api];
    for path in [packed(&copy, "gzip", "gz"), packed(&copy, "zstd", "zst")] {
        let (code, said) = audit(&url, &path);
        assert!(code == Some(0) && said.contains("of content"), "{said}");
        assert!(said.contains("stored, and the same"), "{said}");
    }
    // Cut in the middle: it is said where.
    let whole = fs::read(copy.with_extension("gz")).unwrap();
    let cut = stack.dir().join("cut.gz");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let (code, said) = audit(&url, &cut);
    assert_eq!(code, Some(1), "{said}");
    let place = format!("DAMAGED at byte {} of the file", whole.len() / 2);
    assert!(
        said.contains(&place) && said.contains("it ends in the middle"),
        "{said}"
    );
    // One line is another one.
    let other = fs::read_to_string(&log)
        .unwrap()
        .replace("run 0000012345", "run 0000012354");
    fs::write(&copy, other).unwrap();
    let (code, said) = audit(&url, &packed(&copy, "gzip", "gz"));
    assert!(code == Some(1) && !said.contains("and the same"), "{said}");
}

/// As if nothing had come in for a year: then whole streams fold when the collector next writes its manifest.
fn age_streams(stack: &Stack) {
    const MAGIC: &str = "edgelogger-store-manifest";
    let path = stack.data_dir().join("store/manifest");
    let bytes = fs::read(&path).unwrap();
    let (version, body) = unstamp(MAGIC, 9, &bytes).unwrap();
    let mut manifest: Value = serde_json::from_slice(body).unwrap();
    for stream in manifest["streams"].as_array_mut().unwrap() {
        let seen = stream["state"]["seen_ms"].as_i64().unwrap();
        stream["state"]["seen_ms"] = json!(seen - 365 * 86_400_000);
    }
    fs::write(&path, stamp(MAGIC, version, manifest.to_string().as_bytes())).unwrap();
}

#[test]
fn a_rotated_log_is_audited_long_after_its_stream_was_folded() {
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let log = stack.log_file("app.log");
    write_lines(&log, "run", 0, 5_000, |_| ());
    expect_exactly(&stack, "run", 5_000);
    let copy = stack.dir().join("app.log-20261114");
    fs::copy(&log, &copy).unwrap();
    fs::remove_file(&log).unwrap();
    wait_for("the stream has ended", || {
        let ledger = stack.get("/api/v1/ledger?source=*/app.log")?;
        let is_whole = ledger["streams"][0]["end"]["exact"] == true;
        is_whole.then_some(()).ok_or_else(|| ledger.to_string())
    });
    stack.stop_agent();
    stack.stop_collector();
    age_streams(&stack);
    stack.start();
    write_lines(&stack.log_file("other.log"), "other", 0, 100, |_| ());
    expect_exactly(&stack, "other", 100);
    stack.stop_collector();
    stack.start_collector();
    let ledger = stack.get("/api/v1/ledger").unwrap();
    assert_eq!(ledger["folded_streams"], 1, "{ledger}");
    let stream = stack
        .sql("SELECT DISTINCT stream_id FROM logs WHERE source LIKE '%/app.log'")
        .unwrap();
    let stream = stream[0][0].as_str().unwrap().to_owned();

    let api = stack.api("");
    let file = stack.dir().join("ledger.json");
    let table = Command::new(program("edgelogger-collector"))
        .args(["ledger", "--json", "--checks", "--summaries", "--url", &api])
        .output()
        .unwrap();
    fs::write(&file, table.stdout).unwrap();
    let gz = packed(&copy, "gzip", "gz");
    for arguments in [["--url", &api], ["--ledger", file.to_str().unwrap()]] {
        for path in [&copy, &gz] {
            let (code, said) = audit(&arguments, path);
            assert!(code == Some(0) && said.contains("stored, and the same"), "{said}");
            assert!(
                said.contains(&stream) && said.contains("complete since"),
                "{said}"
            );
        }
    }
    // One byte is another one: beside the log its name tells which stream it is compared with.
    let mut other = fs::read(&copy).unwrap();
    other[100_000] ^= 1;
    let beside = stack.log_file("app.log-20261114");
    fs::write(&beside, &other).unwrap();
    let (code, said) = audit(&["--url", &api], &beside);
    assert!(code == Some(1) && said.contains("OTHER BYTES"), "{said}");
    let elsewhere = stack.dir().join("elsewhere");
    fs::write(&elsewhere, &other).unwrap();
    let (code, said) = audit(&["--url", &api], &elsewhere);
    assert!(code == Some(1) && said.contains("in no stream"), "{said}");
    let (code, said) = audit(&["--url", &api, "--source", "*/app.log"], &copy);
    assert!(code == Some(0), "{said}");
}

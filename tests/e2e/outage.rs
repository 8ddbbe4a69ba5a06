//! The collector is away, the agent is killed: what can't be measured again is stored or told of, and nothing is twice.

use std::io::Write;
use std::process::{Command, Output};

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::process::program;
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;
use serde_json::Value;

/// A stack whose agent measures every second. The file must live as long.
fn measuring() -> (Stack, tempfile::NamedTempFile) {
    let mut config = tempfile::NamedTempFile::new().unwrap();
    // Flags say the rest, and win.
    let text =
        "[collector]\nurl = \"wss://localhost\"\nca = \"ca.pem\"\n[source.host_metrics]\ninterval = \"1s\"\n";
    config.write_all(text.as_bytes()).unwrap();
    let stack = Stack::new(&[], &["--config", config.path().to_str().unwrap()]);
    (stack, config)
}

fn agent(stack: &Stack, words: &[&str]) -> Output {
    let mut command = Command::new(program("edgelogger-agent"));
    command.args(words).arg("--state-dir").arg(stack.state_dir());
    command.output().unwrap()
}

fn status(stack: &Stack) -> Result<Value, String> {
    let output = agent(stack, &["status", "--json"]);
    serde_json::from_slice(&output.stdout).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn wait_for_spooled(stack: &Stack, at_least: u64) {
    wait_for("batches are in the spool", || {
        let report = status(stack)?;
        assert_eq!(report["residual_positions"], 0, "{report}");
        match report["spool"]["batches"].as_u64() {
            Some(batches) if batches >= at_least => Ok(()),
            _ => Err(format!("{report}\n{}", stack.said())),
        }
    });
}

fn streams(stack: &Stack) -> Result<Vec<Value>, String> {
    let answer = stack.get("/api/v1/ledger?limit=1000")?;
    let streams = answer["streams"].as_array().ok_or("no streams")?;
    Ok(streams
        .iter()
        .filter(|stream| stream["source"] == "host")
        .cloned()
        .collect())
}

/// `ended` streams have their end, and everything below it is stored or lost for a reason.
fn wait_for_whole(stack: &Stack, ended: usize) -> Vec<Value> {
    wait_for("all streams of earlier processes are whole", || {
        let streams = streams(stack)?;
        let is_whole = |stream: &&Value| {
            let positions = &stream["positions"];
            let told = positions["stored"].as_u64().unwrap() + positions["lost"].as_u64().unwrap();
            !stream["end"].is_null() && Some(told) == stream["end"]["size"].as_u64()
        };
        let whole: Vec<Value> = streams.iter().filter(is_whole).cloned().collect();
        if whole.len() >= ended {
            return Ok(whole);
        }
        Err(format!("{streams:#?}\n{}", stack.said()))
    })
}

fn wait_for_a_measurement(stack: &Stack) {
    wait_for("the first measurement is stored", || {
        match stack.sql("SELECT count(*) FROM metrics")?[0][0].as_i64() {
            Some(rows) if rows > 0 => Ok(()),
            rows => Err(format!("{rows:?}\n{}", stack.said())),
        }
    });
}

fn expect_nothing_twice(stack: &Stack) {
    let twice = "SELECT stream_id, position FROM metrics GROUP BY stream_id, position HAVING count(*) > 1";
    assert_eq!(stack.sql(twice).unwrap(), Vec::<Vec<Value>>::new());
}

#[test]
fn measurements_of_an_outage_outlive_two_kills_of_the_agent() {
    let (mut stack, _config) = measuring();
    stack.start();
    wait_for_a_measurement(&stack);
    assert!(
        !stack.state_dir().join("spool").exists(),
        "it acks in time: nothing is written"
    );
    stack.kill_collector();
    wait_for_spooled(&stack, 2);
    let before: u64 = status(&stack).unwrap()["host_metrics"]["samples"]
        .as_u64()
        .unwrap();
    stack.kill_agent();
    stack.start_agent();
    wait_for_spooled(&stack, 3);
    stack.kill_agent();
    stack.start_collector();
    stack.start_agent();
    let streams = wait_for_whole(&stack, 2);
    expect_nothing_twice(&stack);
    for stream in &streams {
        assert_eq!(
            stream["end"]["exact"], false,
            "a killed process can't tell its end: {stream}"
        );
        assert_eq!(stream["rows"], stream["positions"]["stored"], "{stream}");
        assert_eq!(
            stream["positions"]["lost"], 0,
            "what was in the spool is not lost: {stream}"
        );
    }
    // All but what was younger than the window when it was killed: two or three measurements.
    let first = streams.iter().find(|stream| stream["generation"] == 1).unwrap();
    let per_measurement = before / 4;
    let stored = first["positions"]["stored"].as_u64().unwrap();
    assert!(
        stored + 4 * per_measurement.max(1) >= before,
        "{stored} of {before}"
    );
    wait_for("the spool is empty and the account balances", || {
        let report = status(&stack)?;
        let is_done = report["spool"]["batches"] == 0 && report["residual_positions"] == 0;
        if is_done { Ok(()) } else { Err(report.to_string()) }
    });
}

#[test]
fn an_agent_that_is_stopped_in_an_outage_loses_nothing() {
    let (mut stack, _config) = measuring();
    stack.start();
    wait_for(
        "it measures",
        || match status(&stack)?["host_metrics"]["samples"].as_u64() {
            Some(samples) if samples > 0 => Ok(()),
            _ => Err(stack.said()),
        },
    );
    stack.stop_collector();
    wait_for_spooled(&stack, 1);
    stack.stop_agent();
    stack.start();
    let streams = wait_for_whole(&stack, 1);
    assert_eq!(streams[0]["end"]["exact"], true, "{streams:#?}");
    assert_eq!(streams[0]["positions"]["lost"], 0);
    expect_nothing_twice(&stack);
}

/// What the spool holds, by the name of the source: records and, where it is known, the end.
fn spooled(stack: &Stack) -> Vec<(String, u64, Option<u64>)> {
    let output = agent(stack, &["spool", "ls", "--json"]);
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let streams = listing["streams"].as_array().cloned().unwrap_or_default();
    let line = |stream: &Value| {
        let name = stream["name"].as_str().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        (
            name,
            stream["records"].as_u64().unwrap_or(0),
            stream["end"].as_u64(),
        )
    };
    streams.iter().map(line).collect()
}

#[test]
fn logs_that_are_deleted_in_an_outage_are_kept_and_arrive_once() {
    let mut stack = Stack::new(&[], &[]);
    let dir = stack.dir().join("kept");
    std::fs::create_dir(&dir).unwrap();
    let config = stack.dir().join("agent.toml");
    let text = format!(
        "shutdown_timeout = \"1s\"\n[collector]\nurl = \"wss://localhost\"\nca = \"ca.pem\"\n[memory]\nring_bytes = \
         \"1 MiB\"\n[[source.file]]\ninclude = [\"{}/*.log\"]\nspool_before_loss = true\n",
        dir.display()
    );
    std::fs::write(&config, text).unwrap();
    stack.agent_arguments = vec!["--config".to_owned(), config.display().to_string()];
    let (app, rotated, other) = (dir.join("app.log"), dir.join("app.log.1"), dir.join("other.log"));
    stack.start();
    write_lines(&app, "app", 0, 1000, |_| ());
    expect_exactly(&stack, "app", 1000);
    assert!(
        !stack.state_dir().join("spool").exists(),
        "it acks in time: nothing is written"
    );

    stack.kill_collector();
    // More than the ring takes.
    write_lines(&app, "app", 1000, 40_000, |_| ());
    std::fs::rename(&app, &rotated).unwrap();
    write_lines(&app, "app", 40_000, 41_000, |_| ());
    write_lines(&other, "other", 0, 500, |_| ());
    wait_for("the agent knows all three files", || {
        let report = status(&stack)?;
        match report["files"]["followed"].as_u64() {
            Some(3) => Ok(()),
            _ => Err(report.to_string()),
        }
    });
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(spooled(&stack), [], "they are still there, also the renamed one");
    std::fs::remove_file(&rotated).unwrap();
    wait_for("the deleted log is in the spool", || {
        let kept = spooled(&stack);
        match &kept[..] {
            // What was on its way when the collector was killed may have been acked.
            [(name, records, _)] if name == "app.log" && *records >= 38_000 => Ok(()),
            _ => Err(format!("{kept:?}\n{}", stack.said())),
        }
    });
    std::fs::remove_file(&app).unwrap();
    stack.stop_agent();
    let kept: u64 = spooled(&stack).iter().map(|(_, records, _)| records).sum();
    assert!(kept >= 39_000, "{:?}", spooled(&stack));
    assert!(spooled(&stack).iter().all(|(name, ..)| name == "app.log"));
    assert!(agent(&stack, &["spool", "verify"]).status.success());

    stack.start();
    expect_exactly(&stack, "app", 41_000);
    expect_exactly(&stack, "other", 500);
    let twice = "SELECT stream_id, position FROM logs GROUP BY stream_id, position HAVING count(*) > 1";
    assert_eq!(stack.sql(twice).unwrap(), Vec::<Vec<Value>>::new());
    wait_for(
        "both streams of the deleted logs end, and nothing is lost",
        || {
            let answer = stack.get("/api/v1/ledger?limit=1000")?;
            let streams = answer["streams"].as_array().cloned().unwrap_or_default();
            let is_whole = |stream: &&Value| {
                stream["positions"]["lost"] == 0 && stream["end"]["size"] == stream["positions"]["stored"]
            };
            match streams.iter().filter(is_whole).count() {
                2 => Ok(()),
                _ => Err(format!("{streams:#?}")),
            }
        },
    );
    wait_for("the spool is empty and the account balances", || {
        let report = status(&stack)?;
        let is_done = report["spool"]["batches"] == 0 && report["residual_positions"] == 0;
        if is_done { Ok(()) } else { Err(report.to_string()) }
    });
}

#[test]
fn a_damaged_spool_is_shown_repaired_and_told() {
    let (mut stack, _config) = measuring();
    stack.start_collector();
    let _ = stack.token_file();
    stack.kill_collector();
    stack.start_agent();
    wait_for_spooled(&stack, 3);
    let refused = agent(&stack, &["spool", "repair"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
    assert!(agent(&stack, &["spool", "verify"]).status.success());
    let listing: Value = serde_json::from_slice(&agent(&stack, &["spool", "ls", "--json"]).stdout).unwrap();
    stack.kill_agent();

    let records = listing["records"].as_u64().unwrap();
    let exported = agent(&stack, &["spool", "export"]);
    let lines: Vec<Value> = serde_json::Deserializer::from_slice(&exported.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(
        lines.len() as u64 >= records && records > 0,
        "{} of {records}",
        lines.len()
    );
    assert!(
        lines
            .iter()
            .all(|line| line["kind"] == "metric" && line["source"] == "host")
    );

    let segment = stack
        .state_dir()
        .join("spool")
        .join(listing["segments"][0]["name"].as_str().unwrap());
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the first frame: behind the header of the segment and its own.
    bytes[64 + 20 + 100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let found = agent(&stack, &["spool", "verify", "--json"]);
    assert_eq!(found.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["frames_damaged"], 1, "{found}");
    let planned = agent(&stack, &["spool", "repair", "--dry-run"]);
    assert!(String::from_utf8_lossy(&planned.stdout).contains("would be repaired"));
    assert_eq!(
        std::fs::read(&segment).unwrap(),
        bytes,
        "a dry run changes nothing"
    );
    assert!(agent(&stack, &["spool", "repair"]).status.success());

    stack.start();
    let streams = wait_for_whole(&stack, 1);
    let gaps = streams[0]["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{streams:#?}");
    assert_eq!(
        (&gaps[0]["reason"], &gaps[0]["start"]),
        (&"damaged".into(), &0.into())
    );
    expect_nothing_twice(&stack);
    assert_eq!(status(&stack).unwrap()["health"], "degraded");
}

#[test]
fn the_commit_log_is_listed_checked_and_repaired_from_the_command_line() {
    let (mut stack, _config) = measuring();
    stack.start();
    wait_for_a_measurement(&stack);
    let log = |words: &[&str]| {
        let mut command = Command::new(program("edgelogger-collector"));
        command
            .arg("log")
            .args(words)
            .arg("--data-dir")
            .arg(stack.data_dir());
        command.output().unwrap()
    };
    assert!(log(&["verify"]).status.success());
    let listing: Value = serde_json::from_slice(&log(&["ls", "--json"]).stdout).unwrap();
    assert_eq!(listing["is_in_use"], true);
    let refused = log(&["repair"]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("E0408"),
        "{refused:?}"
    );
    let segment = stack
        .data_dir()
        .join("log")
        .join(listing["segments"][0]["name"].as_str().unwrap());
    stack.kill_agent();
    stack.kill_collector();
    let log = |words: &[&str]| {
        let mut command = Command::new(program("edgelogger-collector"));
        command
            .arg("log")
            .args(words)
            .arg("--data-dir")
            .arg(stack.data_dir());
        command.output().unwrap()
    };
    // A torn write.
    let file = std::fs::File::options().append(true).open(&segment).unwrap();
    (&file).write_all(&[0xe5, 0x1f, 0xa7, 0x46, 9]).unwrap();
    assert_eq!(log(&["verify"]).status.code(), Some(1));
    let len = file.metadata().unwrap().len();
    let planned = log(&["repair", "--dry-run"]);
    assert!(
        String::from_utf8_lossy(&planned.stdout).contains("cut 5 bytes"),
        "{planned:?}"
    );
    assert_eq!(file.metadata().unwrap().len(), len);
    assert!(log(&["repair"]).status.success());
    assert_eq!(file.metadata().unwrap().len(), len - 5);
    assert!(log(&["verify"]).status.success());
}

use std::collections::HashSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgelogger_common::block::{BlockView, LogRow, ReceiptReason, Value};
use edgelogger_common::clock::SystemClock;
use edgelogger_common::disk::OsDisk;
use proptest::prelude::*;

use super::child::{From, arguments};
use super::entry::{Filter, row};
use super::*;
use crate::alarm::Alarm;
use crate::checkpoint::Checkpoints;
use crate::flow::{SentBlock, SourceBlock, SourceEvent, StreamClose};
use crate::ring::{Popped, Ring, RingLimits};

const PATIENCE: Duration = Duration::from_secs(20);

type Fields = Vec<(String, Vec<u8>)>;

fn write_entry(fields: &Fields, out: &mut Vec<u8>) {
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        if value.iter().any(|byte| *byte < b' ' || *byte >= 127) {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            out.extend_from_slice(value);
        } else {
            out.push(b'=');
            out.extend_from_slice(value);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
}

fn parse_in_pieces(bytes: &[u8], pieces: &[usize], wanted: Option<HashSet<Vec<u8>>>) -> Vec<Fields> {
    let mut parser = ExportParser::new(wanted);
    let mut entries = Vec::new();
    let mut rest = bytes;
    let mut sizes = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        parser
            .feed(piece, |entry| {
                let own = |(name, value): (&[u8], &[u8])| {
                    (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())
                };
                entries.push(entry.iter().map(own).collect());
            })
            .unwrap();
        rest = later;
    }
    entries
}

proptest! {
    #[test]
    fn entries_read_back_whatever_the_pieces_they_come_in(
        entries in prop::collection::vec(
            prop::collection::vec(("[A-Z_][A-Z0-9_]{0,20}", prop::collection::vec(any::<u8>(), 0..50)), 1..6),
            0..6,
        ),
        pieces in prop::collection::vec(1usize..40, 1..8),
    ) {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| write_entry(entry, &mut bytes));
        prop_assert_eq!(&parse_in_pieces(&bytes, &pieces, None), &entries);
        let wanted: HashSet<Vec<u8>> =
            entries.iter().flatten().step_by(2).map(|(name, _)| name.clone().into_bytes()).collect();
        let kept: Vec<Fields> = entries
            .into_iter()
            .map(|entry| entry.into_iter().filter(|(name, _)| wanted.contains(name.as_bytes())).collect())
            .collect();
        prop_assert_eq!(parse_in_pieces(&bytes, &pieces, Some(wanted)), kept);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), upper in "[A-Z_=\n]{0,80}") {
        let mut parser = ExportParser::new(None);
        let _ = parser.feed(upper.as_bytes(), |_| {});
        let _ = parser.feed(&bytes, |_| {});
    }
}

#[test]
fn a_giant_value_is_cut_and_the_next_entry_is_whole() {
    let mut bytes = Vec::new();
    write_entry(
        &vec![
            ("MESSAGE".into(), vec![0; 3 << 20]),
            ("PRIORITY".into(), b"3".to_vec()),
        ],
        &mut bytes,
    );
    write_entry(&vec![("MESSAGE".into(), b"next".to_vec())], &mut bytes);
    let mut parser = ExportParser::new(None);
    let mut seen = Vec::new();
    parser
        .feed(&bytes, |entry| {
            seen.push((
                entry.get("MESSAGE").unwrap().len(),
                entry.text("PRIORITY").is_some(),
                entry.is_cut(),
            ));
        })
        .unwrap();
    assert_eq!(seen, [(VALUE_BYTES_MAX, true, true), (4, false, false)]);
}

#[test]
fn what_is_no_export_format_is_an_error_with_its_place() {
    for (bytes, problem) in [
        (&b"A=1\nnot a field\n"[..], "byte 4"),
        (b"A\n\x01\0\0\0\0\0\0\0xy\n", "byte 11"),
        (&[b'A'; 100], "byte 0"),
        (b"=x\n", "byte 0"),
    ] {
        let error = ExportParser::new(None).feed(bytes, |_| {}).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}

fn entry_of(fields: &[(&str, &str)], each: impl FnMut(&Entry)) {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    let mut bytes = Vec::new();
    write_entry(&fields, &mut bytes);
    ExportParser::new(None).feed(&bytes, each).unwrap();
}

#[test]
fn an_entry_becomes_a_record_with_the_names_of_opentelemetry() {
    let config = JournaldConfig {
        fields: vec!["_BOOT_ID".into()],
        ..JournaldConfig::default()
    };
    let fields = [
        ("__REALTIME_TIMESTAMP", "1700000000000002"),
        ("_SOURCE_REALTIME_TIMESTAMP", "1700000000000001"),
        ("MESSAGE", "it failed"),
        ("PRIORITY", "3"),
        ("_PID", "17"),
        ("_UID", "not a number"),
        ("_SYSTEMD_UNIT", "a.service"),
        ("_BOOT_ID", "bb"),
    ];
    let mut rows = Vec::new();
    entry_of(&fields, |entry| rows.push(row(entry, &config, 5)));
    let text = |text: &str| Value::String(text.to_owned());
    let expected = LogRow {
        event_time: Some(1_700_000_000_000_001_000),
        observed_time: 5,
        severity: Some(17),
        body: b"it failed".to_vec(),
        attributes: vec![
            ("process.pid".into(), Value::I64(17)),
            ("process.user.id".into(), text("not a number")),
            ("systemd.unit".into(), text("a.service")),
            ("journald.boot_id".into(), text("bb")),
        ],
        source_len: 1,
        ..LogRow::default()
    };
    assert_eq!(rows, [expected]);
}

#[test]
fn filters_look_at_unit_priority_and_identifier() {
    let config = JournaldConfig {
        units: vec!["a".into(), "b.socket".into()],
        exclude_units: vec!["c".into()],
        priority_max: Some("warning".parse().unwrap()),
        ..JournaldConfig::default()
    };
    let filter = Filter::new(&config);
    for (fields, kept) in [
        (&[("_SYSTEMD_UNIT", "a.service"), ("PRIORITY", "4")][..], true),
        (&[("_SYSTEMD_UNIT", "a.service")], true),
        (&[("_SYSTEMD_UNIT", "a.service"), ("PRIORITY", "5")], false),
        (
            &[
                ("_SYSTEMD_UNIT", "init.scope"),
                ("UNIT", "b.socket"),
                ("PRIORITY", "0"),
            ],
            true,
        ),
        (&[("_SYSTEMD_UNIT", "c.service"), ("UNIT", "a.service")], false),
        (&[("PRIORITY", "0")], false),
    ] {
        entry_of(fields, |entry| {
            assert_eq!(filter.keeps(entry), kept, "{fields:?}");
        });
    }
}

#[test]
fn the_child_is_told_where_to_begin_and_which_journal() {
    let words = |config: &JournaldConfig, from: &From| {
        arguments(config, from, "MESSAGE")
            .into_iter()
            .map(|a| a.into_string().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let own = JournaldConfig {
        namespace: Some("ns".into()),
        ..JournaldConfig::default()
    };
    let end = From::Start(JournaldStart::End);
    assert!(words(&own, &end).ends_with("--lines=0 --namespace=ns"));
    let other = JournaldConfig {
        directory: Some("/j".into()),
        ..JournaldConfig::default()
    };
    assert!(words(&other, &From::Entry("s=1".into())).ends_with("--cursor=s=1 --no-tail --directory=/j"));
}

/// A journald source that runs against a journal of this test.
struct Run {
    dir: PathBuf,
    ring: Ring,
    checkpoints: Arc<Checkpoints>,
    alarm: Alarm,
    status: JournaldStatus,
    thread: Option<JoinHandle<()>>,
}

impl Run {
    fn start(dir: &Path, config: JournaldConfig) -> Self {
        let ring = Ring::new(RingLimits::default());
        let clock = Arc::new(SystemClock::new());
        let checkpoints = Checkpoints::open(Arc::new(OsDisk), &dir.join("state"), clock.clone()).unwrap();
        let alarm = Alarm::new().unwrap();
        let handle = ring.source("journald", 0);
        let source = JournaldSource::new(config, handle, checkpoints.clone(), clock, alarm.clone());
        let status = source.status();
        let thread = Some(std::thread::spawn(move || source.run()));
        Self {
            dir: dir.to_owned(),
            ring,
            checkpoints,
            alarm,
            status,
            thread,
        }
    }

    fn next(&self) -> SourceEvent {
        match self.ring.pop(Some(Instant::now() + PATIENCE)) {
            Popped::Event(event) => event,
            other => panic!("nothing came ({other:?}): {:?}", self.status.view()),
        }
    }

    fn block(&self) -> SourceBlock {
        match self.next() {
            SourceEvent::Block(block) => block,
            other => panic!("expected a block, got {other:?}"),
        }
    }

    fn end(&self) -> StreamClose {
        match self.next() {
            SourceEvent::End(close) => close,
            other => panic!("expected an end, got {other:?}"),
        }
    }

    fn ack(&self, block: &SourceBlock) {
        let header = &block.block.header;
        self.checkpoints.acked(&SentBlock {
            stream_id: header.stream_id,
            start: header.start,
            end: header.end,
            record_count: header.record_count,
            resume: block.resume.clone(),
        });
    }

    /// Stops everything and gives the directory for the next run.
    fn stop(mut self) -> PathBuf {
        self.shut_down();
        self.checkpoints
            .flush(crate::checkpoint::Durability::Written)
            .unwrap();
        self.dir.clone()
    }

    fn shut_down(&mut self) {
        self.ring.stop();
        self.alarm.ring();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn bodies(block: &SourceBlock) -> Vec<String> {
    match block.block.view().unwrap() {
        BlockView::Log(view) => view
            .rows()
            .map(|row| String::from_utf8(row.body).unwrap())
            .collect(),
        other => panic!("expected log records, got {other:?}"),
    }
}

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

fn export(range: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in range {
        let time = 1_700_000_000_000_000 + at * 1000;
        let fields: Vec<(String, Vec<u8>)> = [
            (
                "__CURSOR",
                format!("s={MACHINE};i={at:x};b={MACHINE};m={at:x};t={time:x};x={at:x}"),
            ),
            ("__REALTIME_TIMESTAMP", time.to_string()),
            ("__MONOTONIC_TIMESTAMP", (1000 + at).to_string()),
            ("_BOOT_ID", MACHINE.into()),
            ("_MACHINE_ID", MACHINE.into()),
            ("PRIORITY", (at % 8).to_string()),
            ("_SYSTEMD_UNIT", format!("unit{}.service", at % 2)),
            (
                "MESSAGE",
                if at == 3 {
                    "two\nlines".to_owned()
                } else {
                    format!("message {at}")
                },
            ),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .collect();
        write_entry(&fields, &mut bytes);
    }
    bytes
}

/// A `journalctl` that prints a recorded stream, minding `--cursor`, and then waits as `--follow` does.
fn recorded(dir: &Path, entries: std::ops::Range<u64>) -> JournaldConfig {
    let mut script = "#!/bin/sh\nfrom=0\nfor a in \"$@\"; do case $a in --cursor=*) a=${a#*;i=}; from=${a%%;*};; esac; done\n"
        .to_owned();
    std::fs::create_dir_all(dir.join("entries")).unwrap();
    for at in entries.clone() {
        std::fs::write(dir.join(format!("entries/{at:x}")), export(at..at + 1)).unwrap();
        let path = dir.join(format!("entries/{at:x}"));
        writeln!(
            script,
            "[ $(printf %d 0x$from) -gt {at} ] || cat '{}'",
            path.display()
        )
        .unwrap();
    }
    script.push_str("echo 'Hint: nobody' >&2\nexec sleep 600\n");
    let program = dir.join("journalctl");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    JournaldConfig {
        journalctl: Some(program),
        ..JournaldConfig::default()
    }
}

fn collect(run: &Run, count: usize) -> (Vec<SourceBlock>, Vec<String>) {
    let (mut blocks, mut all) = (Vec::new(), Vec::new());
    while all.len() < count {
        let block = run.block();
        all.extend(bodies(&block));
        blocks.push(block);
    }
    (blocks, all)
}

#[test]
fn a_recorded_journal_is_read_and_resumed_in_the_same_stream() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::start(dir.path(), recorded(dir.path(), 0..5));
    assert!(matches!(run.next(), SourceEvent::Open(_)));
    let (blocks, all) = collect(&run, 5);
    assert_eq!(
        all,
        ["message 0", "message 1", "message 2", "two\nlines", "message 4"]
    );
    let stream = blocks[0].block.header.stream_id;
    blocks.iter().for_each(|block| run.ack(block));
    let dir = (run.stop(), dir);

    let run = Run::start(&dir.0, recorded(&dir.0, 0..7));
    let (blocks, all) = collect(&run, 2);
    assert_eq!(all, ["message 5", "message 6"]);
    assert_eq!(
        (blocks[0].block.header.stream_id, blocks[0].block.header.start),
        (stream, 5)
    );
    run.stop();
}

#[test]
fn a_journal_that_was_vacuumed_meanwhile_ends_the_stream_inexactly() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::start(dir.path(), recorded(dir.path(), 0..3));
    assert!(matches!(run.next(), SourceEvent::Open(_)));
    let (blocks, _) = collect(&run, 3);
    let stream = blocks[0].block.header.stream_id;
    blocks.iter().for_each(|block| run.ack(block));
    run.stop();

    let run = Run::start(dir.path(), recorded(dir.path(), 4..6));
    let end = run.end();
    assert_eq!((end.stream_id, end.size, end.exact), (stream, 3, false));
    let SourceEvent::Open(descriptor) = run.next() else {
        panic!("expected a new stream")
    };
    assert_eq!(descriptor.predecessor, stream.to_proto());
    assert_eq!(run.block().block.header.start, 0);
    run.stop();
}

#[test]
fn a_stream_of_which_nothing_was_acked_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::start(dir.path(), recorded(dir.path(), 0..2));
    assert!(matches!(run.next(), SourceEvent::Open(_)));
    run.stop();
    let run = Run::start(dir.path(), recorded(dir.path(), 0..2));
    let end = run.end();
    assert_eq!((end.size, end.exact), (0, false));
    assert!(matches!(run.next(), SourceEvent::Open(_)));
    assert_eq!(collect(&run, 2).1, ["message 0", "message 1"]);
    run.stop();
}

#[test]
fn filtered_entries_become_receipts_and_keep_their_positions() {
    let dir = tempfile::tempdir().unwrap();
    let config = JournaldConfig {
        units: vec!["unit1".into()],
        ..recorded(dir.path(), 0..6)
    };
    let run = Run::start(dir.path(), config);
    assert!(matches!(run.next(), SourceEvent::Open(_)));
    let (blocks, all) = collect(&run, 3);
    assert_eq!(all, ["message 1", "two\nlines", "message 5"]);
    assert_eq!(blocks.last().unwrap().block.header.end, 6);
    let receipts: Vec<_> = blocks
        .iter()
        .flat_map(|block| block.block.receipts().unwrap())
        .collect();
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.reason == ReceiptReason::Filtered)
    );
    assert_eq!(receipts.iter().map(|receipt| receipt.len).sum::<u64>(), 3);
    run.stop();
}

#[test]
fn a_machine_without_journalctl_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = JournaldConfig {
        journalctl: Some("/nowhere/journalctl".into()),
        ..JournaldConfig::default()
    };
    let run = Run::start(dir.path(), config);
    let deadline = Instant::now() + PATIENCE;
    let trouble = loop {
        assert!(Instant::now() < deadline, "it never said what is wrong");
        match run.status.view().trouble {
            Some(trouble) => break trouble,
            None => std::thread::yield_now(),
        }
    };
    assert!(trouble.contains("/nowhere/journalctl was not found"), "{trouble}");
    run.stop();
}

#[test]
fn a_child_that_dies_is_started_again_behind_the_last_entry() {
    let dir = tempfile::tempdir().unwrap();
    let config = recorded(dir.path(), 0..2);
    let program = config.journalctl.clone().unwrap();
    let dying = std::fs::read_to_string(&program)
        .unwrap()
        .replace("exec sleep 600", "echo 'out of order' >&2\nexit 1");
    std::fs::write(&program, dying).unwrap();
    let run = Run::start(dir.path(), config);
    assert!(matches!(run.next(), SourceEvent::Open(_)));
    collect(&run, 2);
    recorded(dir.path(), 0..3);
    let again = run.block();
    assert_eq!(
        (bodies(&again), again.block.header.start),
        (vec!["message 2".to_owned()], 2)
    );
    assert!(run.status.view().restarts >= 1);
    run.stop();
}

/// Real journal files, made by systemd's own tool. `None` where it is not installed.
fn real_journal(dir: &Path, entries: std::ops::Range<u64>) -> Option<()> {
    let tool = [
        "/lib/systemd/systemd-journal-remote",
        "/usr/lib/systemd/systemd-journal-remote",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists())?;
    let journalctl = Command::new("journalctl").arg("--version").output().ok()?;
    assert!(journalctl.status.success());
    std::fs::create_dir_all(dir).unwrap();
    let mut child = Command::new(tool)
        .arg(format!("--output={}", dir.join("remote.journal").display()))
        .args(["--split-mode=none", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &export(entries)).unwrap();
    assert!(child.wait().unwrap().success());
    Some(())
}

#[test]
fn a_real_journal_is_read_followed_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    if real_journal(&journal, 0..100).is_none() {
        eprintln!("skipped: systemd-journal-remote or journalctl is not installed");
        return;
    }
    let config = JournaldConfig {
        directory: Some(journal.clone()),
        ..JournaldConfig::default()
    };
    let run = Run::start(dir.path(), config.clone());
    assert!(matches!(run.next(), SourceEvent::Open(_)));
    let (blocks, all) = collect(&run, 100);
    assert_eq!(all[3], "two\nlines");
    assert_eq!(all[99], "message 99");
    // Written while it is followed.
    real_journal(&journal, 100..102).unwrap();
    let (more, all) = collect(&run, 2);
    assert_eq!(all, ["message 100", "message 101"]);
    blocks.iter().chain(&more).for_each(|block| run.ack(block));
    run.stop();

    real_journal(&journal, 102..103).unwrap();
    let run = Run::start(dir.path(), config);
    let last = run.block();
    assert_eq!(
        (bodies(&last), last.block.header.start),
        (vec!["message 102".to_owned()], 102)
    );
    run.stop();
}

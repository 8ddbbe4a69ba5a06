//! The source stops and starts again; things happen in between.

use edgelogger_common::duration::HumanDuration;
use edgelogger_proto::v1::StreamEndReason::{Deleted, Replaced, Truncated};

use super::*;

#[test]
fn reading_goes_on_behind_what_was_acknowledged() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    world.stop();
    world.append("a.log", "two\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
}

#[test]
fn what_was_not_acknowledged_is_read_again_at_the_same_positions() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    world.acks = false;
    world.append("a.log", "two\n");
    world.settle();
    world.stop();
    // The collector has both; the agent knows of one only.
    world.forget(0, 4);
    world.start();
    assert_eq!(world.lines(), [lines(&["one", "two", "two"])]);
    assert_eq!(world.stream(0).end, 8);
}

#[test]
fn other_content_is_a_new_stream() {
    for (content, reason) in [
        ("1\n", Truncated),
        ("", Truncated),
        ("other and longer\n", Replaced),
    ] {
        let mut world = World::new();
        world.write("a.log", "one\ntwo\n");
        world.start();
        world.stop();
        world.write("a.log", content);
        world.start();
        assert_eq!(world.ends()[0], Some((reason, 8, false)), "{content:?}");
        if content.is_empty() {
            world.append("a.log", "later\n");
            world.settle();
        }
        assert_eq!(
            world.stream(1).descriptor.predecessor[..],
            world.streams[0].as_bytes()[..],
            "{content:?}"
        );
        let expected = if content.is_empty() {
            "later"
        } else {
            content.trim_end()
        };
        assert_eq!(world.stream(1).lines(), [expected], "{content:?}");
    }
}

#[test]
fn a_change_far_before_the_end_is_seen_by_the_first_bytes() {
    let mut world = World::new();
    let tail = "y".repeat(3000);
    world.write("a.log", format!("first\n{tail}\n"));
    world.start();
    world.stop();
    world.write("a.log", format!("FIRST\n{tail}\n"));
    world.start();
    assert_eq!(world.ends()[0].unwrap().0, Replaced);
    assert_eq!(world.stream(1).lines()[0], "FIRST");
}

#[test]
fn rotations_while_stopped_lose_nothing() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    world.stop();
    world.append("a.log", "two\n");
    world.rename("a.log", "a.log.2");
    world.write("a.log.1", "three\n");
    world.write("a.log", "four\n");
    world.start();
    let mut found = world.lines();
    found.sort();
    assert_eq!(
        found,
        [lines(&["four"]), lines(&["one", "two"]), lines(&["three"])]
    );
    world.stop();
    world.append("a.log.1", "more\n");
    world.append("a.log", "five\n");
    world.start();
    let mut found = world.lines();
    found.sort();
    assert_eq!(
        found,
        [
            lines(&["four", "five"]),
            lines(&["one", "two"]),
            lines(&["three", "more"])
        ]
    );
}

#[test]
fn a_file_deleted_and_made_again_while_stopped_is_another() {
    let mut world = World::new();
    world.write("a.log", "banner\n");
    world.start();
    world.stop();
    let birth_ns = world.birth_ns("a.log");
    world.remove("a.log");
    world.write_younger("a.log", "banner\n", birth_ns);
    world.start();
    assert_eq!(world.lines(), [lines(&["banner"]), lines(&["banner"])]);
    assert!(world.ends()[0].is_some());
}

#[test]
fn a_file_deleted_while_stopped_ends_its_stream_as_at_least() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    world.stop();
    world.remove("a.log");
    world.start();
    assert_eq!(world.ends(), [Some((Deleted, 4, false))]);
    world.stop();
    world.start();
    assert_eq!(world.ends().len(), 1);
}

#[test]
fn a_directory_that_is_not_there_keeps_its_streams_waiting() {
    let mut world = World::new();
    world.config.include = vec![format!("{}/mount/*.log", world.dir.path().display())];
    fs::create_dir(world.path("mount")).unwrap();
    world.write("mount/a.log", "one\n");
    world.start();
    world.stop();
    world.rename("mount", "away");
    world.start();
    assert_eq!(world.ends(), [None]);
    world.rename("away", "mount");
    world.append("mount/a.log", "two\n");
    world.pass(Duration::from_secs(10));
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
}

#[test]
fn start_at_the_end_skips_what_was_there_with_a_receipt_and_nothing_else() {
    let mut world = World::with(|config| config.start = Start::End);
    world.write("a.log", "old\nhalf");
    world.start();
    assert_eq!(world.stream(0).receipts, [(0, 4, ReceiptReason::TooOld)]);
    world.append("a.log", " new\n");
    world.write("b.log", "appeared\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["half new"]), lines(&["appeared"])]);
    world.stop();
    world.append("a.log", "more\n");
    world.write("c.log", "while stopped\n");
    world.start();
    assert_eq!(
        world.lines(),
        [
            lines(&["half new", "more"]),
            lines(&["appeared"]),
            lines(&["while stopped"])
        ]
    );
}

#[test]
fn what_was_skipped_stays_skipped_though_nobody_acknowledged_it() {
    let mut world = World::with(|config| config.start = Start::End);
    world.write("a.log", "old\nhalf");
    // The collector is away, and the agent is stopped before it comes back.
    world.acks = false;
    world.start();
    world.stop();
    world.acks = true;
    world.forget(0, 0);
    world.append("a.log", " new\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["half new"])]);
    let receipt = (0, 4, ReceiptReason::TooOld);
    assert_eq!(world.stream(0).receipts, [receipt, receipt]);
    world.stop();
    world.append("a.log", "more\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["half new", "more"])]);
}

#[test]
fn a_file_that_was_old_when_found_is_skipped_until_it_grows() {
    let mut world = World::with(|config| config.ignore_older = Some(HumanDuration::from_secs(3600)));
    world.write("old.log", "old\n");
    let file = File::options().append(true).open(world.path("old.log")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200))
        .unwrap();
    world.write("young.log", "young\n");
    world.start();
    let old = world
        .streams
        .iter()
        .position(|id| world.arrived[id].descriptor.name.ends_with("old.log"))
        .unwrap();
    assert_eq!(world.stream(old).receipts, [(0, 4, ReceiptReason::TooOld)]);
    world.append("old.log", "again\n");
    world.settle();
    assert_eq!(world.stream(old).lines(), ["again"]);
    assert_eq!(world.stream(1 - old).lines(), ["young"]);
}

#[test]
fn new_files_of_one_scan_are_made_durable_together() {
    let mut world = World::new();
    for file in 0..300 {
        world.write(&format!("{file}.log"), "x\n");
    }
    world.start();
    assert_eq!(world.streams.len(), 300);
    world.stop();
    world.start();
    assert_eq!(world.streams.len(), 300);
    assert!(world.arrived.values().all(|stream| stream.rows.len() == 1));
}

#[test]
fn a_stopped_ring_ends_the_source_at_once() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    let source = world.source.take().unwrap();
    let waker = source.waker();
    let thread = std::thread::spawn(move || source.run());
    world.ring.stop();
    waker.wake();
    thread.join().unwrap();
}

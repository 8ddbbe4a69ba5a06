//! Renames, truncations, deletions, while the source runs.

use edgelogger_common::size::ByteSize;
use edgelogger_proto::v1::StreamEndReason::{Deleted, HoldExpired, Replaced, Truncated};

use super::*;

#[test]
fn a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    let mut writer = OpenOptions::new().append(true).open(world.path("a.log")).unwrap();
    world.rename("a.log", "a.log.1");
    writer.write_all(b"two\n").unwrap();
    world.write("a.log", "new\n");
    writer.write_all(b"three\n").unwrap();
    world.settle();
    writer.write_all(b"four\n").unwrap();
    world.settle();
    assert_eq!(
        world.lines(),
        [lines(&["one", "two", "three", "four"]), lines(&["new"])]
    );
    assert_eq!(
        world.stream(1).descriptor.predecessor[..],
        world.streams[0].as_bytes()[..]
    );
    assert_eq!(world.ends(), [None, None]);
    world.remove("a.log.1");
    world.settle();
    world.pass(Duration::from_secs(4));
    assert_eq!(world.ends(), [None, None], "its writer may still have it open");
    writer.write_all(b"last\n").unwrap();
    world.pass(Duration::from_secs(4));
    world.pass(Duration::from_secs(4));
    assert_eq!(world.ends(), [None, None], "it was written to 4 seconds ago");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.stream(0).lines()[4], "last");
    assert_eq!(world.ends(), [Some((Deleted, 24, true)), None]);
}

#[test]
fn several_rotations_at_once_lose_nothing() {
    let mut world = World::new();
    world.write("a.log", "0\n");
    world.start();
    for round in 1..=5 {
        for generation in (0..round).rev() {
            let from = if generation == 0 {
                "a.log".to_owned()
            } else {
                format!("a.log.{generation}")
            };
            world.rename(&from, &format!("a.log.{}", generation + 1));
        }
        world.write("a.log", format!("{round}\n"));
    }
    world.settle();
    let mut found = world.lines().concat();
    found.sort();
    assert_eq!(found, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(world.streams.len(), 6);
    assert_eq!(
        world.stream(1).descriptor.name,
        world.path("a.log").display().to_string()
    );
}

#[test]
fn rotations_that_no_event_told_of_are_found_by_a_scan() {
    let mut world = World::new();
    world.write("a.log", "0\n");
    world.start();
    world.source.as_mut().unwrap().close_all();
    world.append("a.log", "1\n");
    world.rename("a.log", "a.log.2");
    world.write("a.log.1", "2\n");
    world.write("a.log", "3\n");
    world.source.as_mut().unwrap().forget_changes();
    world.pass(Duration::from_secs(10));
    let mut found = world.lines();
    found.sort();
    assert_eq!(found, [lines(&["0", "1"]), lines(&["2"]), lines(&["3"])]);
}

#[test]
fn a_log_that_nobody_saw_between_two_others_is_read() {
    let mut world = World::new();
    world.write("a.log", "1\n");
    world.start();
    world.rename("a.log", "a.log.1");
    world.settle();
    world.write("a.log", "2\n");
    world.rename("a.log", "a.log.2");
    world.source.as_mut().unwrap().forget_changes();
    world.settle();
    assert_eq!(world.streams.len(), 1);
    world.write("a.log", "3\n");
    world.settle();
    let mut found = world.lines().concat();
    found.sort();
    assert_eq!(found, ["1", "2", "3"]);
}

#[test]
fn a_log_that_comes_and_is_renamed_before_anybody_looked_is_read() {
    let mut world = World::new();
    world.start();
    world.write("a.log", "one\n");
    world.rename("a.log", "a.log.1");
    world.rename("a.log.1", "a.log.2");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one"])]);
}

#[test]
fn older_generations_are_left_alone() {
    let mut world = World::new();
    world.write("a.log.1", "old\n");
    world.write_younger("a.log", "one\n", world.birth_ns("a.log.1"));
    world.start();
    world.rename("a.log.1", "a.log.2");
    world.rename("a.log", "a.log.1");
    world.write("a.log", "two\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one"]), lines(&["two"])]);
}

#[test]
fn a_truncated_file_begins_a_new_stream() {
    let mut world = World::new();
    world.write("a.log", "one\ntwo\n");
    world.start();
    world.write("a.log", "3\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two"]), lines(&["3"])]);
    assert_eq!(world.ends(), [Some((Truncated, 8, false)), None]);
    assert_eq!(
        world.stream(1).descriptor.predecessor[..],
        world.streams[0].as_bytes()[..]
    );
}

#[test]
fn a_file_that_shrank_and_grew_past_its_old_length_loses_nothing_of_the_new() {
    let mut world = World::new();
    world.write("a.log", "one\ntwo\n");
    world.start();
    world.write("a.log", "three\nfour\nfive\n");
    world.settle();
    assert_eq!(
        world.lines(),
        [lines(&["one", "two"]), lines(&["three", "four", "five"])]
    );
    assert_eq!(world.ends(), [Some((Replaced, 8, false)), None]);
}

#[test]
fn a_file_rewritten_to_the_same_length_is_noticed_without_an_event() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    world.write("a.log", "two\n");
    world.source.as_mut().unwrap().forget_changes();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.lines(), [lines(&["one"]), lines(&["two"])]);
}

#[test]
fn copytruncate_goes_on_from_the_beginning() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    let mut writer = OpenOptions::new().append(true).open(world.path("a.log")).unwrap();
    for round in 0..20 {
        fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
        File::options()
            .write(true)
            .open(world.path("a.log"))
            .unwrap()
            .set_len(0)
            .unwrap();
        writer
            .write_all(format!("round {round}\n").repeat(round % 3 + 1).as_bytes())
            .unwrap();
        world.settle();
    }
    assert_eq!(world.streams.len(), 21);
    assert_eq!(world.stream(20).lines(), ["round 19", "round 19"]);
}

#[test]
fn a_writer_that_keeps_its_offset_after_a_truncation_is_followed() {
    let mut world = World::new();
    world.write("a.log", "x".repeat(9_999) + "\n");
    world.start();
    let mut writer = OpenOptions::new().write(true).open(world.path("a.log")).unwrap();
    std::io::Seek::seek(&mut writer, std::io::SeekFrom::End(0)).unwrap();
    File::options()
        .write(true)
        .open(world.path("a.log"))
        .unwrap()
        .set_len(0)
        .unwrap();
    world.settle();
    writer.write_all(b"behind the hole\n").unwrap();
    world.settle();
    assert_eq!(world.stream(1).lines(), ["behind the hole"]);
    assert_eq!(world.stream(1).receipts, [(0, 10_000, ReceiptReason::Empty)]);
}

#[test]
fn an_unfinished_line_that_is_truncated_away_has_a_receipt() {
    let mut world = World::new();
    world.write("a.log", "one\nhalf");
    world.start();
    world.write("a.log", "2\n");
    world.settle();
    assert_eq!(world.stream(0).receipts, [(4, 8, ReceiptReason::Truncated)]);
    assert_eq!(world.ends()[0], Some((Truncated, 8, false)));
    assert_eq!(world.stream(1).lines(), ["2"]);
}

#[test]
fn a_file_deleted_and_made_again_with_the_same_content_is_another() {
    let mut world = World::new();
    world.write("a.log", "banner\n");
    world.start();
    for _ in 0..5 {
        world.source.as_mut().unwrap().close_all();
        let birth_ns = world.birth_ns("a.log");
        world.remove("a.log");
        world.write_younger("a.log", "banner\n", birth_ns);
        world.settle();
    }
    assert_eq!(world.lines(), vec![lines(&["banner"]); 6]);
    assert!(
        world.ends()[..5]
            .iter()
            .all(|end| matches!(end, Some((Deleted, 7, _)))),
        "{:?}",
        world.ends()
    );
}

#[test]
fn what_is_written_between_the_last_read_and_the_deletion_is_read() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    world.append("a.log", "two\n");
    world.remove("a.log");
    world.settle();
    world.pass(Duration::from_secs(6));
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    assert_eq!(world.ends(), [Some((Deleted, 8, true))]);
    assert_eq!(world.status().totals().files_open, 0);
}

#[test]
fn a_deleted_file_is_held_while_the_ring_is_full_and_no_longer_than_allowed() {
    let mut world =
        World::with(|config| config.hold_age_max = edgelogger_common::duration::HumanDuration::from_secs(60));
    world.limits = RingLimits {
        slots: 4,
        bytes: 300 << 10,
    };
    world.write("a.log", "line\n".repeat(1 << 18));
    world.write("b.log", "x\n");
    world.start();
    world.append("a.log", "line\n".repeat(1 << 18));
    for _ in 0..50 {
        world.step();
    }
    let read = world.stream(0).end;
    world.remove("a.log");
    for _ in 0..30 {
        world.clock.advance(Duration::from_secs(1));
        world.step();
    }
    assert_eq!(world.status().files()[0].state, FileState::Deleted);
    world.clock.advance(Duration::from_secs(60));
    world.step();
    assert_eq!(world.status().files().len(), 1, "let go of");
    world.settle();
    let size = 10 << 18;
    let (reason, end, exact) = world.ends()[0].unwrap();
    assert_eq!((reason, end, exact), (HoldExpired, size, false));
    let lost = world.stream(0).receipts[0];
    assert_eq!((lost.1, lost.2), (size, ReceiptReason::Rotated));
    assert!(lost.0 >= read && lost.0 < size);
    world.append("b.log", "y\n");
    world.settle();
    assert_eq!(world.stream(1).lines(), ["x", "y"]);
}

#[test]
fn deleted_files_do_not_fill_the_disk() {
    let mut world = World::with(|config| config.hold_bytes_max = Some(ByteSize::mib(1)));
    world.limits = RingLimits {
        slots: 2,
        bytes: 4 << 10,
    };
    world.start();
    world.acks = false;
    for name in ["a.log", "b.log", "c.log"] {
        world.write(name, "line\n".repeat(1 << 17));
        for _ in 0..20 {
            world.step();
        }
    }
    for name in ["a.log", "b.log", "c.log"] {
        world.remove(name);
        world.clock.advance(Duration::from_secs(2));
        for _ in 0..20 {
            world.step();
        }
    }
    let held = world
        .status()
        .files()
        .iter()
        .filter(|file| file.state == FileState::Deleted)
        .count();
    assert!(held <= 1, "{held} files of 640 KiB are held");
}

#[test]
fn a_file_renamed_into_another_included_name_keeps_its_stream() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    world.rename("a.log", "b.log");
    world.append("b.log", "two\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    assert_eq!(world.status().files()[0].path, world.path("b.log"));
}

#[test]
fn thousands_of_files_need_few_descriptors() {
    let mut world = World::with(|config| config.open_files_max = 10);
    for file in 0..500 {
        world.write(&format!("{file}.log"), format!("{file}\n"));
    }
    world.start();
    for file in 0..500 {
        world.append(&format!("{file}.log"), "more\n");
    }
    world.settle();
    assert_eq!(world.lines().concat().len(), 1000);
    assert!(world.status().totals().files_open <= 10);
}

#[test]
fn what_a_truncation_took_is_read_from_the_copy() {
    let mut world = World::new();
    world.limits = RingLimits {
        slots: 4,
        bytes: 300 << 10,
    };
    world.write(
        "a.log",
        (0..100_000)
            .map(|line| format!("line {line}\n"))
            .collect::<String>(),
    );
    world.prepare();
    for _ in 0..20 {
        world.step();
    }
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    world.write("a.log", "new\n");
    world.settle();
    assert_eq!(world.stream(0).rows.len(), 100_000);
    assert_eq!(world.stream(1).lines(), ["new"]);
    assert_eq!(world.ends(), [None, None]);
    world.remove("a.log.1");
    world.settle();
    world.pass(Duration::from_secs(6));
    assert!(matches!(world.ends()[0], Some((Deleted, _, true))));
}

#[test]
fn files_deleted_while_the_collector_is_away_are_read_when_it_is_back() {
    let mut world = World::new();
    world.limits = RingLimits {
        slots: 4,
        bytes: 300 << 10,
    };
    world.write("a.log", "line\n".repeat(1 << 18));
    world.start();
    world.append("a.log", "line\n".repeat(1 << 18));
    for _ in 0..50 {
        world.step();
    }
    for round in 0..5 {
        if round > 0 {
            world.remove("a.log.1");
        }
        world.rename("a.log", "a.log.1");
        world.write("a.log", format!("round {round}\n"));
        for _ in 0..3 {
            world.step();
        }
    }
    world.settle();
    world.pass(Duration::from_secs(6));
    let mut short: Vec<_> = world
        .lines()
        .into_iter()
        .filter(|lines| lines.len() == 1)
        .flatten()
        .collect();
    short.sort();
    assert_eq!(short, ["round 0", "round 1", "round 2", "round 3", "round 4"]);
    assert_eq!(world.stream(0).rows.len(), 2 << 18);
    assert_eq!(world.status().totals().bytes_lost, 0);
}

#[test]
fn a_file_that_is_moved_out_of_sight_is_read_to_its_end() {
    let mut world = World::new();
    let elsewhere = tempfile::tempdir_in(world.dir.path()).unwrap();
    world.write("a.log", "one\n");
    world.start();
    let mut writer = OpenOptions::new().append(true).open(world.path("a.log")).unwrap();
    fs::rename(world.path("a.log"), elsewhere.path().join("a.log.1")).unwrap();
    world.settle();
    writer.write_all(b"two\n").unwrap();
    world.pass(Duration::from_secs(30));
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    assert_eq!(world.ends(), [None]);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.ends(), [Some((Deleted, 8, true))]);
}

#[test]
fn a_file_whose_path_was_taken_over_before_its_own_move_was_seen_is_still_followed() {
    let mut world = World::new();
    world.write("a.log", "0\n");
    world.start();
    world.rename("a.log", "a.log.1");
    world.write("a.log", "1\n");
    world.settle();
    let mut writer = OpenOptions::new()
        .append(true)
        .open(world.path("a.log.1"))
        .unwrap();
    world.source.as_mut().unwrap().close_all();
    // Only the second rename is told of.
    world.rename("a.log.1", "a.log.2");
    world.source.as_mut().unwrap().forget_changes();
    world.rename("a.log", "a.log.1");
    world.settle();
    writer.write_all(b"late\n").unwrap();
    world.settle();
    assert_eq!(world.lines(), [lines(&["0", "late"]), lines(&["1"])]);
    let paths: Vec<_> = world.status().files().into_iter().map(|file| file.path).collect();
    assert_eq!(paths, [world.path("a.log.1"), world.path("a.log.2")]);
}

#[test]
fn a_ring_that_another_source_fills_does_not_keep_deletions_from_being_seen() {
    let mut world = World::new();
    world.limits = RingLimits {
        slots: 2,
        bytes: 4 << 20,
    };
    world.write("a.log", "one\n");
    world.start();
    let other = world.ring.source("other", 1 << 10);
    let (stop, stopped) = (
        std::sync::atomic::AtomicBool::new(false),
        &Duration::from_secs(20),
    );
    let begun = Instant::now();
    // The other one takes every slot as soon as it is free; nobody takes events out.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let close = StreamClose {
                    stream_id: StreamId::from_bytes([9; 16]),
                    size: 0,
                    exact: true,
                    reason: StreamEndReason::Stopped,
                };
                let _ = other.try_push(SourceEvent::End(close));
            }
        });
        for round in 0..2000 {
            world.append("a.log", format!("{round}\n"));
            world.step();
            let _ = world.ring.try_pop();
            assert!(begun.elapsed() < *stopped, "it hangs");
        }
        world.remove("a.log");
        world.step();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(world.status().files()[0].state, FileState::Deleted);
}

/// Lines that are long enough to be known again elsewhere.
fn generation(name: &str) -> String {
    (0..50)
        .map(|line| format!("{name}, line {line} of fifty\n"))
        .collect()
}

fn truncate(world: &World, name: &str) {
    let file = File::options().write(true).open(world.path(name)).unwrap();
    file.set_len(0).unwrap();
}

/// Every line of these generations came once, and no stream lost anything.
#[track_caller]
fn check_generations(world: &World, generations: &[String]) {
    let mut found = world.lines().concat();
    found.sort();
    let mut expected: Vec<String> = generations
        .iter()
        .flat_map(|lines| lines.lines().map(str::to_owned))
        .collect();
    expected.sort();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
    assert!(
        world
            .streams
            .iter()
            .all(|id| world.arrived[id].receipts.is_empty())
    );
}

#[test]
fn copies_that_are_included_themselves_are_not_read_twice() {
    for is_seen in [true, false] {
        let mut world = World::with(|config| config.include[0].push('*'));
        let mut written = vec![generation("first")];
        world.write("a.log", &written[0]);
        world.start();
        for round in 0..4 {
            let more = generation(&format!("more {round}"));
            world.append("a.log", &more);
            if round > 0 {
                world.rename("a.log.1", &format!("a.log.{}", round + 1));
            }
            fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
            if is_seen {
                world.settle();
                let reason = world.skip_reason("a.log.1");
                assert!(matches!(reason, Some(SkipReason::Copy(_))), "{reason:?}");
            }
            truncate(&world, "a.log");
            let new = generation(&format!("new {round}"));
            world.append("a.log", &new);
            world.settle();
            written.extend([more, new]);
        }
        world.pass(Duration::from_secs(10));
        check_generations(&world, &written);
        assert_eq!(world.streams.len(), 5);
        assert!(world.status().skipped(usize::MAX).is_empty());
    }
}

#[test]
fn an_included_copy_is_gone_on_in_after_a_restart() {
    let mut world = World::with(|config| config.include[0].push('*'));
    let written = [generation("old"), generation("late"), generation("new")];
    world.write("a.log", &written[0]);
    world.start();
    world.stop();
    world.append("a.log", &written[1]);
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    truncate(&world, "a.log");
    world.append("a.log", &written[2]);
    world.start();
    check_generations(&world, &written);
    assert_eq!(world.streams.len(), 2);
}

#[test]
fn a_copy_that_is_kept_is_left_out_until_it_holds_something_else() {
    let mut world = World::with(|config| config.include[0].push('*'));
    let mut written = vec![generation("old")];
    world.write("a.log", &written[0]);
    world.start();
    // Half of it is there when it is first looked at.
    world.write("a.log.bak", &written[0][..written[0].len() / 2]);
    world.settle();
    world.write("a.log.bak", &written[0]);
    world.settle();
    world.pass(Duration::from_secs(10));
    assert_eq!(
        world.skip_reason("a.log.bak").unwrap().to_string(),
        "it is a copy of a.log, which is read"
    );
    written.push(generation("more"));
    world.append("a.log", &written[1]);
    world.pass(Duration::from_secs(10));
    check_generations(&world, &written);
    world.append("a.log.bak", "something else\n");
    world.settle();
    assert_eq!(world.stream(1).lines().len(), 51);
    assert_eq!(world.skip_reason("a.log.bak"), None);
    assert_eq!(world.stream(0).lines().len(), 100);
}

#[test]
fn a_copy_that_was_left_out_is_deleted_without_a_loss() {
    let mut world = World::with(|config| config.include[0].push('*'));
    world.write("a.log", generation("old"));
    world.start();
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    world.settle();
    world.remove("a.log.1");
    world.pass(Duration::from_secs(10));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.status().totals().bytes_lost, 0);
    assert_eq!(world.streams.len(), 1);
    assert!(world.status().skipped(usize::MAX).is_empty());
}

#[test]
fn the_next_copy_that_is_made_while_a_truncation_is_settled_is_no_other_log() {
    let mut world = World::new();
    let written = [generation("one"), generation("two"), generation("three")];
    world.write("a.log", &written[0]);
    world.start();
    let birth_ns = world.birth_ns("a.log");
    world.write_younger("tick", "", birth_ns);
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    world.write("a.log", &written[1]);
    let copy = world.path("a.log.1");
    while !world.status().files().iter().any(|file| file.path == copy) {
        world.step();
        world.take();
    }
    world.rename("a.log.1", "a.log.2");
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    world.settle();
    world.write("a.log", &written[2]);
    world.settle();
    check_generations(&world, &written);
    assert_eq!(world.streams.len(), 3);
}

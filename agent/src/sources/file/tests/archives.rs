//! Logs that were compressed while they were read, while the agent was stopped, or before.

use edgelogger_proto::v1::FileCompression;
use edgelogger_proto::v1::StreamEndReason::Deleted;

use super::super::archive::Format;
use super::super::archive::tests::compress;
use super::*;

const FORMATS: [(Format, &str); 2] = [(Format::Gzip, ".gz"), (Format::Zstd, ".zst")];

/// As `gzip` and `zstd --rm` do it: the compressed file is made beside the original, gets its times, and the original
/// is removed.
impl World {
    pub(super) fn compress(&self, name: &str, format: Format, suffix: &str) {
        self.compress_as(name, &format!("{name}{suffix}"), format);
        self.remove(name);
    }

    fn compress_as(&self, name: &str, archive: &str, format: Format) {
        let content = fs::read(self.path(name)).unwrap();
        // In two members, as where logs were put together.
        let (one, other) = content.split_at(content.len() / 3);
        self.write(archive, compress(format, &[one, other]));
        let modified = fs::metadata(self.path(name)).unwrap().modified().unwrap();
        let file = File::options().write(true).open(self.path(archive)).unwrap();
        file.set_modified(modified).unwrap();
    }

    /// Time goes on until everything that was written is old enough to be looked into.
    fn wait(&mut self) {
        for _ in 0..8 {
            self.pass(Duration::from_secs(10));
        }
    }
}

fn numbered(from: usize, upto: usize) -> String {
    (from..upto)
        .map(|line| format!("this is line {line}\n"))
        .collect()
}

fn numbers(lines: &[String]) -> Vec<usize> {
    lines.iter().map(|line| line[13..].parse().unwrap()).collect()
}

/// All lines of all streams are these, each once.
#[track_caller]
fn check_all(world: &World, expected: usize) {
    let mut found = numbers(&world.lines().concat());
    found.sort_unstable();
    assert_eq!(found.len(), expected);
    assert!(found.into_iter().eq(0..expected));
}

#[test]
fn a_log_compressed_while_the_agent_was_stopped_is_read_on_in_the_compressed_file() {
    for (format, suffix) in FORMATS {
        let mut world = World::new();
        world.write("a.log", numbered(0, 100));
        world.start();
        world.stop();
        world.append("a.log", numbered(100, 200));
        world.rename("a.log", "a.log.1");
        world.write("a.log", numbered(200, 210));
        world.compress("a.log.1", format, suffix);
        world.start();
        world.wait();
        assert_eq!(numbers(&world.stream(0).lines()).len(), 200, "{format:?}");
        check_all(&world, 210);
        let size = numbered(0, 200).len() as u64;
        assert_eq!(world.ends(), [Some((Deleted, size, true)), None]);
        // It is not read again.
        world.stop();
        world.start();
        world.wait();
        check_all(&world, 210);
    }
}

#[test]
fn the_stream_says_that_it_goes_on_in_a_compressed_file_and_survives_another_restart() {
    let mut world = World::new();
    world.limits = RingLimits {
        slots: 4,
        bytes: 300 << 10,
    };
    world.write("a.log", numbered(0, 100));
    world.start();
    world.stop();
    world.append("a.log", numbered(100, 60_000));
    world.compress("a.log", Format::Gzip, ".gz");
    world.prepare();
    // Stopped in the middle of it.
    for _ in 0..30 {
        world.step();
    }
    world.take();
    let read = world.stream(0).end;
    assert!(read > 0 && read < numbered(0, 60_000).len() as u64, "{read}");
    let id = world.streams[0];
    let state = world.checkpoints.as_ref().unwrap().stream(&id).unwrap();
    assert_eq!(
        state.descriptor.file.unwrap().compression(),
        FileCompression::Gzip
    );
    world.stop();
    world.rename("a.log.gz", "a.log.1.gz");
    world.start();
    world.wait();
    assert_eq!(world.streams.len(), 1);
    check_all(&world, 60_000);
    assert!(matches!(world.ends()[0], Some((Deleted, _, true))));
}

#[test]
fn logs_that_came_and_were_compressed_while_the_agent_was_stopped_are_read_too() {
    for (format, suffix) in FORMATS {
        let mut world = World::new();
        world.write("a.log.7", numbered(900, 901));
        world.compress("a.log.7", format, suffix);
        let old = File::options()
            .write(true)
            .open(world.path(&format!("a.log.7{suffix}")))
            .unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(86_400))
            .unwrap();
        world.write("a.log", numbered(0, 100));
        world.start();
        world.stop();
        world.append("a.log", numbered(100, 200));
        world.rename("a.log", "a.log.3");
        world.write("a.log.2", numbered(200, 300));
        world.write("a.log.1", numbered(300, 400));
        world.write("a.log", numbered(400, 500));
        world.compress("a.log.3", format, suffix);
        world.compress("a.log.2", format, suffix);
        world.start();
        world.wait();
        check_all(&world, 500);
        assert_eq!(
            world.streams.len(),
            4,
            "{:?}",
            world.lines().iter().map(Vec::len).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_log_compressed_after_it_was_read_is_not_read_again_though_it_is_included() {
    for (format, suffix) in FORMATS {
        let mut world = World::with(|config| config.include[0].push('*'));
        world.write("a.log", numbered(0, 100));
        world.start();
        world.rename("a.log", "a.log.1");
        world.write("a.log", numbered(100, 200));
        world.settle();
        // The compressed file is there before the original goes.
        world.compress_as("a.log.1", &format!("a.log.1{suffix}"), format);
        world.settle();
        world.remove("a.log.1");
        world.wait();
        check_all(&world, 200);
        assert_eq!(
            world.skip_reason(&format!("a.log.1{suffix}")),
            Some(SkipReason::AlreadyRead)
        );
        for _ in 0..2 {
            world.stop();
            world.start();
            world.wait();
            check_all(&world, 200);
            assert_eq!(world.streams.len(), 2);
        }
    }
}

#[test]
fn a_log_that_was_read_and_closed_is_not_read_again_while_it_is_compressed() {
    for (format, suffix) in FORMATS {
        let mut world = World::with(|config| config.include[0].push('*'));
        let content = numbered(0, 30_000);
        world.write("a.log", &content);
        world.start();
        world.rename("a.log", "a.log.1");
        world.settle();
        let packed = compress(format, &[content.as_bytes()]);
        for piece in packed.chunks(packed.len() / 5 + 1) {
            world.source.as_mut().unwrap().close_all();
            world.append(&format!("a.log.1{suffix}"), piece);
            world.pass(Duration::from_secs(12));
        }
        world.remove("a.log.1");
        world.wait();
        check_all(&world, 30_000);
        assert_eq!(world.streams.len(), 1);
    }
}

#[test]
fn a_compressed_log_that_begins_like_a_very_short_one_that_is_over_is_read_whole() {
    let mut world = World::with(|config| config.include[0].push('*'));
    world.write("a.log", "banner\n");
    world.start();
    world.remove("a.log");
    world.settle();
    world.pass(Duration::from_secs(6));
    assert!(world.ends()[0].is_some());
    world.write("b.log", format!("banner\n{}", numbered(0, 10)));
    world.compress("b.log", Format::Gzip, ".gz");
    world.wait();
    assert_eq!(world.stream(1).lines().len(), 11);
    assert_eq!(world.stream(1).lines()[0], "banner");
}

#[test]
fn a_copy_of_a_log_that_is_followed_is_not_read_however_far_either_is() {
    let mut world = World::with(|config| config.include[0].push('*'));
    world.write("a.log", numbered(0, 100));
    world.start();
    world.compress_as("a.log", "a.log.snapshot.gz", Format::Gzip);
    world.append("a.log", numbered(100, 200));
    world.wait();
    world.compress_as("a.log", "a.log.later.zst", Format::Zstd);
    world.wait();
    check_all(&world, 200);
    for name in ["a.log.snapshot.gz", "a.log.later.zst"] {
        assert_eq!(world.skip_reason(name), Some(SkipReason::AlreadyRead), "{name}");
    }
}

#[test]
fn a_compressed_file_that_is_included_is_a_stream_of_its_own() {
    for (format, suffix) in FORMATS {
        let mut world = World::with(|config| config.include[0].push('*'));
        world.write("old.log", numbered(0, 50_000));
        world.compress("old.log", format, suffix);
        world.start();
        world.wait();
        check_all(&world, 50_000);
        let file = world.stream(0).descriptor.file.clone().unwrap();
        assert_eq!(file.compression(), format.compression());
        for _ in 0..2 {
            world.stop();
            world.start();
            world.wait();
        }
        check_all(&world, 50_000);
        assert_eq!((world.streams.len(), world.ends()[0]), (1, None));
        world.remove(&format!("old.log{suffix}"));
        world.wait();
        assert_eq!(
            world.ends()[0],
            Some((Deleted, numbered(0, 50_000).len() as u64, true))
        );
    }
}

#[test]
fn compressed_files_that_are_not_included_are_left_alone() {
    let mut world = World::new();
    world.write("a.log", numbered(0, 10));
    world.write("b.log", numbered(10, 20));
    world.compress("b.log", Format::Gzip, ".gz");
    world.start();
    world.rename("a.log", "a.log.1");
    world.write("a.log", numbered(10, 20));
    world.wait();
    check_all(&world, 20);
    assert_eq!(world.streams.len(), 2);
}

#[test]
fn a_log_that_could_not_be_read_to_its_end_before_it_was_compressed_is_read_on() {
    // Closed, then written to, rotated, compressed and removed before anybody looked.
    let mut world = World::new();
    world.write("a.log", numbered(0, 100));
    world.start();
    world.source.as_mut().unwrap().close_all();
    world.append("a.log", numbered(100, 200));
    world.rename("a.log", "a.log.1");
    world.compress("a.log.1", Format::Gzip, ".gz");
    world.write("a.log", numbered(200, 300));
    world.settle();
    world.wait();
    check_all(&world, 300);
    assert_eq!(world.status().totals().bytes_lost, 0);
}

#[test]
fn a_copied_and_truncated_log_whose_copy_was_compressed_is_read_on() {
    let mut world = World::new();
    world.write("a.log", numbered(0, 100));
    world.start();
    world.stop();
    world.append("a.log", numbered(100, 200));
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    world.compress("a.log.1", Format::Gzip, ".gz");
    world.write("a.log", numbered(200, 300));
    world.start();
    world.wait();
    check_all(&world, 300);
}

#[test]
fn a_file_that_is_compressed_slowly_is_read_when_it_is_whole() {
    for (format, suffix) in FORMATS {
        let mut world = World::with(|config| config.include[0].push('*'));
        let content = numbered(0, 30_000);
        let packed = compress(format, &[content.as_bytes()]);
        let name = format!("a.log.1{suffix}");
        world.start();
        for piece in packed.chunks(packed.len() / 5 + 1) {
            world.append(&name, piece);
            world.pass(Duration::from_secs(12));
        }
        world.wait();
        check_all(&world, 30_000);
        assert_eq!(world.streams.len(), 1);
    }
}

#[test]
fn a_compressed_log_that_is_cut_gives_what_is_in_it_and_a_receipt_and_holds_nothing_up() {
    for (format, suffix) in FORMATS {
        let mut world = World::new();
        world.write("a.log", numbered(0, 100));
        world.start();
        world.stop();
        world.append("a.log", numbered(100, 100_000));
        world.rename("a.log", "a.log.1");
        world.compress("a.log.1", format, suffix);
        let path = world.path(&format!("a.log.1{suffix}"));
        let len = fs::metadata(&path).unwrap().len();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(len * 2 / 3)
            .unwrap();
        world.write("a.log", "new\n");
        world.start();
        assert!(world.lines().concat().contains(&"new".to_owned()));
        world.wait();
        world.wait();
        let found = numbers(&world.stream(0).lines());
        assert!(found.len() > 1000 && found.len() < 100_000, "{}", found.len());
        assert!(found.iter().copied().eq(0..found.len()));
        let (reason, size, exact) = world.ends()[0].expect("it ends");
        assert_eq!((reason, exact), (Deleted, false));
        let read = numbered(0, found.len()).len() as u64;
        if size > read {
            assert_eq!(
                world.stream(0).receipts,
                [(read, size, ReceiptReason::Unreadable)]
            );
        }
    }
}

#[test]
fn garbage_behind_the_first_bytes_is_left_out_with_its_reason() {
    let mut world = World::new();
    world.write("a.log", b"\x1f\x8b\x08 compressed, or so it says");
    world.write("b.log", numbered(0, 3));
    world.start();
    world.wait();
    assert!(
        matches!(world.skip_reason("a.log"), Some(SkipReason::Damaged(_))),
        "{:?}",
        world.skip_reason("a.log")
    );
    check_all(&world, 3);
}

#[test]
fn logs_that_begin_with_the_same_kilobyte_are_told_apart() {
    let banner = format!("{}\n", "b".repeat(2000));
    for (format, suffix) in FORMATS {
        let mut world = World::with(|config| config.include[0].push('*'));
        for file in 0..20 {
            world.write(
                &format!("{file}.log"),
                format!("{banner}{}", numbered(file * 10, file * 10 + 5)),
            );
        }
        world.start();
        world.stop();
        for file in 0..20 {
            let name = format!("{file}.log");
            world.append(&name, numbered(file * 10 + 5, file * 10 + 10));
            world.rename(&name, &format!("{name}.1"));
            world.compress(&format!("{name}.1"), format, suffix);
            world.write(&name, &banner);
        }
        world.start();
        world.wait();
        let mut found: Vec<String> = world.lines().concat();
        found.retain(|line| !line.starts_with('b'));
        let mut found = numbers(&found);
        found.sort_unstable();
        assert_eq!(found, (0..200).collect::<Vec<_>>());
        assert_eq!(world.streams.len(), 40);
        for id in &world.streams[..20] {
            let stream = numbers(&world.arrived[id].lines()[1..]);
            assert_eq!(stream.len(), 10);
            assert!(stream.windows(2).all(|pair| pair[1] == pair[0] + 1), "{stream:?}");
        }
    }
}

#[test]
fn long_lines_are_cut_in_a_compressed_file_as_in_another() {
    let mut world = World::with(|config| config.include[0].push('*'));
    let lines: String = (0..5)
        .map(|line| format!("{line}{}\nshort {line}\n", "x".repeat(3 << 20)))
        .collect();
    world.write("a.log", &lines);
    world.compress("a.log", Format::Gzip, ".gz");
    world.start();
    world.wait();
    let rows = &world.stream(0).rows;
    assert_eq!(rows.len(), 10);
    for (index, pair) in rows.chunks(2).enumerate() {
        assert_eq!(pair[0].body.len(), LINE_BYTES_MAX_DEFAULT.as_usize());
        assert!(pair[0].body.starts_with(index.to_string().as_bytes()));
        assert_eq!(pair[1].body, format!("short {index}").as_bytes());
    }
    assert_eq!(world.stream(0).end, lines.len() as u64);
}

#[test]
fn what_is_compressed_and_no_text_or_too_old_is_left_out() {
    let mut world = World::with(|config| {
        config.include[0].push('*');
        config.start = Start::End;
    });
    world.write("old.log", numbered(0, 10));
    world.compress("old.log", Format::Gzip, ".gz");
    world.start();
    world.wait();
    assert_eq!(world.skip_reason("old.log.gz"), Some(SkipReason::TooOld));
    world.write("image.log", [7, 0, 7, 0]);
    world.compress("image.log", Format::Gzip, ".gz");
    world.write("empty.log", "");
    world.compress("empty.log", Format::Gzip, ".gz");
    world.wait();
    assert_eq!(world.skip_reason("image.log.gz"), Some(SkipReason::Binary));
    assert_eq!(world.skip_reason("empty.log.gz"), Some(SkipReason::Empty));
    assert_eq!(world.streams.len(), 0);
}

#[test]
fn a_last_line_without_a_line_feed_is_read_from_a_compressed_file() {
    let mut world = World::new();
    world.write("a.log", numbered(0, 100));
    world.start();
    world.stop();
    world.append("a.log", "this is line 100");
    world.compress("a.log", Format::Zstd, ".zst");
    world.start();
    world.wait();
    check_all(&world, 101);
    assert_eq!(
        world.ends(),
        [Some((Deleted, numbered(0, 100).len() as u64 + 16, true))]
    );
}

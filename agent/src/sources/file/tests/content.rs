//! What is in files: line ends, unfinished and endless lines, holes.

use edgelogger_common::block::RecordFlags;
use edgelogger_common::size::ByteSize;

use super::*;

#[test]
fn lines_arrive_as_they_are_written() {
    let mut world = World::new();
    world.write("a.log", "one\ntwo\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    world.append("a.log", "three\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two", "three"])]);
    assert_eq!(world.stream(0).end, 14);
}

#[test]
fn a_file_that_appears_is_found_at_once() {
    let mut world = World::new();
    world.start();
    world.write("a.log", "one\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one"])]);
}

#[test]
fn an_empty_file_has_no_stream_until_it_is_written_to() {
    let mut world = World::new();
    world.write("a.log", "");
    world.start();
    assert!(world.streams.is_empty());
    assert_eq!(world.status().files()[0].state, FileState::Waiting);
    world.append("a.log", "x\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["x"])]);
}

#[test]
fn an_unfinished_line_waits_for_its_line_feed() {
    let mut world = World::new();
    world.write("a.log", "one\ntw");
    world.start();
    assert_eq!(world.lines(), [lines(&["one"])]);
    world.pass(Duration::from_secs(4));
    world.append("a.log", "o");
    world.settle();
    world.pass(Duration::from_secs(4));
    assert_eq!(world.lines(), [lines(&["one"])], "it grew, so it waits anew");
    world.append("a.log", "\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    assert_eq!(world.stream(0).rows[1].flags, RecordFlags::default());
}

#[test]
fn an_unfinished_line_is_sent_with_a_flag_when_its_time_is_over() {
    let mut world = World::new();
    world.write("a.log", "one\ntwo");
    world.start();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    let row = &world.stream(0).rows[1];
    assert_eq!((row.flags, row.source_len), (RecordFlags::NO_LINE_FEED, 3));
    world.append("a.log", "!\nthree\n");
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two", "!", "three"])]);
}

#[test]
fn carriage_returns_are_not_part_of_a_line() {
    let mut world = World::new();
    world.write("a.log", "one\r\ntwo\nthree\r\n");
    world.start();
    assert_eq!(world.lines(), [lines(&["one", "two", "three"])]);
    assert_eq!(
        world
            .stream(0)
            .rows
            .iter()
            .map(|row| row.source_len)
            .collect::<Vec<_>>(),
        [5, 4, 7]
    );
}

#[test]
fn a_line_of_a_hundred_megabytes_is_cut_and_takes_no_memory() {
    const LEN: usize = 100 << 20;
    let mut world = World::new();
    world.write("a.log", "before\n");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..LEN / chunk.len() {
        world.append("a.log", &chunk);
    }
    world.append("a.log", "\nafter\n");
    world.prepare();
    let mut most = 0;
    while world.step().is_zero() {
        let source = world.source.as_ref().unwrap();
        most = most.max(source.memory_bytes() + world.ring.bytes_used());
    }
    assert!(most < 2 << 20, "{most} bytes at once");
    world.settle();
    let rows = &world.stream(0).rows;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1].body, vec![b'x'; 256 << 10]);
    assert_eq!(
        (rows[1].source_len, rows[1].flags),
        (LEN as u64 + 1, RecordFlags::TRUNCATED)
    );
    assert_eq!(rows[2].body, b"after");
}

#[test]
fn a_long_line_that_grows_slowly_arrives_whole() {
    let mut world = World::new();
    world.start();
    for part in 0..50 {
        world.append("a.log", vec![b'a' + part % 26; 1000]);
        world.settle();
    }
    world.append("a.log", "\nnext\n");
    world.settle();
    let rows = &world.stream(0).rows;
    assert_eq!(
        (rows[0].body.len(), rows[0].flags),
        (50_000, RecordFlags::default())
    );
    assert_eq!(rows[1].body, b"next");
}

#[test]
fn a_long_line_without_an_end_is_sent_when_its_time_is_over() {
    let mut world = World::with(|config| config.line_bytes_max = ByteSize::kib(32));
    world.write("a.log", vec![b'x'; 20_000]);
    world.write("b.log", vec![b'x'; 40_000]);
    world.start();
    world.pass(Duration::from_secs(5));
    let found: Vec<_> = (0..2).map(|index| &world.stream(index).rows[0]).collect();
    let found: Vec<_> = found
        .iter()
        .map(|row| (row.body.len(), row.source_len, row.flags))
        .collect();
    let both = RecordFlags::NO_LINE_FEED.with(RecordFlags::TRUNCATED);
    assert_eq!(
        found,
        [
            (20_000, 20_000, RecordFlags::NO_LINE_FEED),
            (32 << 10, 40_000, both)
        ]
    );
}

#[test]
fn a_hole_becomes_a_receipt_and_the_lines_behind_it_are_kept() {
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    let mut content = b"one\n".to_vec();
    content.resize(4 + 10_000, 0);
    content.extend_from_slice(b"two\nthr\0ee\n");
    world.write("a.log", &content);
    world.settle();
    let stream = world.stream(0);
    assert_eq!(stream.receipts, [(4, 10_004, ReceiptReason::Empty)]);
    assert_eq!(stream.lines(), ["one", "two", "thr\0ee"]);
}

#[test]
fn a_hole_of_a_terabyte_is_stepped_over() {
    const LEN: u64 = 1 << 40;
    let mut world = World::new();
    world.write("a.log", "one\n");
    world.start();
    let file = File::options().write(true).open(world.path("a.log")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"two\n", LEN + 5).unwrap();
    world.settle();
    assert_eq!(world.lines(), [lines(&["one", "two"])]);
    let receipts = &world.stream(0).receipts;
    assert_eq!((receipts[0].0, receipts[receipts.len() - 1].1), (4, LEN + 5));
    assert!(receipts.len() < 10, "{}", receipts.len());
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let mut world = World::new();
    world.write("a.log", b"\xff\xfe\x1b[31m\n");
    world.start();
    assert_eq!(world.stream(0).rows[0].body, b"\xff\xfe\x1b[31m");
}

#[test]
fn a_small_block_does_not_keep_a_large_buffer() {
    let mut world = World::new();
    world.write("a.log", "small\n");
    world.start();
    let used = world.ring.bytes_used();
    world.append("a.log", "small\n");
    while world.ring.is_empty() {
        world.step();
    }
    assert!(
        world.ring.bytes_used() - used < 1024,
        "{}",
        world.ring.bytes_used()
    );
}

#[test]
fn files_are_read_in_turn_and_blocks_are_bounded() {
    let mut world = World::new();
    let line = format!("{}\n", "x".repeat(99));
    world.write("a.log", line.repeat(20_000));
    world.write("b.log", line.repeat(20_000));
    world.limits.bytes = 600 << 10;
    world.acks = false;
    world.start();
    assert_eq!(world.stream(0).rows.len(), 20_000);
    assert_eq!(world.stream(1).rows.len(), 20_000);
}

#[test]
fn reading_stops_when_the_ring_is_full_and_goes_on_when_there_is_room() {
    let mut world = World::new();
    world.limits = RingLimits {
        slots: 8,
        bytes: 1 << 20,
    };
    world.write("a.log", "0\n");
    world.start();
    world.append("a.log", "line\n".repeat(1 << 20));
    for _ in 0..100 {
        world.step();
    }
    assert!(world.status().totals().waits_for_credit);
    assert!(world.ring.bytes_used() <= 1 << 20);
    world.settle();
    assert_eq!(world.stream(0).rows.len(), 1 + (1 << 20));
    assert!(!world.status().totals().waits_for_credit);
}

//! Fresh lines first, and the backlog after them.

use super::*;

/// Lines of 100 bytes, numbered.
fn numbered(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number:099}\n")).collect()
}

fn numbers(arrived: &Arrived) -> Vec<u32> {
    arrived.lines().iter().map(|line| line.parse().unwrap()).collect()
}

fn is_all_up_to(arrived: &Arrived, end: u32) -> bool {
    numbers(arrived).into_iter().eq(0..end)
}

/// A world in which a log may be 10,000 bytes behind.
fn world() -> World {
    let mut world = World::new();
    world.unread_bytes_max = 10_000;
    world
}

/// The lane and range of each block that is in the ring.
fn lanes(world: &mut World) -> Vec<(Lane, u64, u64)> {
    let mut lanes = Vec::new();
    while let Popped::Event(event) = world.ring.pop(Some(Instant::now())) {
        match event {
            SourceEvent::Block(block) => {
                let header = &block.block.header;
                lanes.push((block.lane, header.start, header.end));
                world.block(&block);
            }
            SourceEvent::Open(descriptor) => world.opened(*descriptor),
            SourceEvent::End(close) => panic!("{close:?}"),
        }
    }
    lanes
}

#[test]
fn the_newest_lines_go_first_and_the_rest_in_the_backfill_lane() {
    let mut world = world();
    world.write("a.log", numbered(0..1000));
    world.prepare();
    world.step();
    world.append("a.log", numbered(1000..1003));
    while world.step().is_zero() {}
    let lanes = lanes(&mut world);
    let (live, backfill): (Vec<_>, Vec<_>) = lanes.into_iter().partition(|(lane, ..)| *lane == Lane::Live);
    // The newest lines when the file was found, and what came after.
    assert_eq!(
        live,
        [(Lane::Live, 99_400, 100_000), (Lane::Live, 100_000, 100_300)]
    );
    assert_eq!(backfill, [(Lane::Backfill, 0, 99_400)]);
    assert_eq!(numbers(world.stream(0)), (0..1003).collect::<Vec<_>>());
}

#[test]
fn a_log_that_is_little_behind_is_read_in_order() {
    let mut world = world();
    world.write("a.log", numbered(0..100));
    world.prepare();
    while world.step().is_zero() {}
    assert_eq!(lanes(&mut world), [(Lane::Live, 0, 10_000)]);
}

#[test]
fn what_was_put_off_is_read_after_a_restart_and_nothing_twice() {
    let mut world = world();
    world.limits.bytes = 600 << 10;
    world.write("a.log", numbered(0..20_000));
    world.prepare();
    world.step();
    world.append("a.log", numbered(20_000..20_001));
    // The ring has room for a part only; the rest waits while the new line is acknowledged.
    world.step();
    world.take();
    world.step();
    world.take();
    let before = numbers(world.stream(0));
    assert!(
        before.contains(&20_000) && before.len() < 20_001,
        "{}",
        before.len()
    );
    world.stop();
    world.append("a.log", numbered(20_001..20_002));
    world.start();
    assert_eq!(world.streams.len(), 1);
    assert!(is_all_up_to(world.stream(0), 20_002));
}

/// Puts most of a.log off and reads its newest line; the backlog is not read.
fn put_off(world: &mut World) {
    world.limits.bytes = 600 << 10;
    world.write("a.log", numbered(0..20_000));
    world.prepare();
    world.step();
    world.append("a.log", numbered(20_000..20_001));
    world.step();
    world.take();
}

#[test]
fn a_truncation_takes_the_backlog_and_the_receipts_say_exactly_what() {
    let mut world = world();
    put_off(&mut world);
    let read = numbers(world.stream(0)).len() as u64 * 100;
    world.write("a.log", numbered(30_000..30_001));
    world.settle();
    let old = world.stream(0);
    let lost: u64 = old.receipts.iter().map(|(start, end, _)| end - start).sum();
    assert_eq!(read + lost, 2_000_100);
    assert!(
        old.receipts
            .iter()
            .all(|(.., reason)| *reason == ReceiptReason::Truncated)
    );
    assert_eq!(old.closed.as_ref().unwrap().reason, StreamEndReason::Truncated);
    assert_eq!(numbers(world.stream(1)), [30_000]);
}

#[test]
fn after_copytruncate_the_backlog_is_read_from_the_copy() {
    let mut world = world();
    put_off(&mut world);
    fs::copy(world.path("a.log"), world.path("a.log.1")).unwrap();
    world.write("a.log", numbered(30_000..30_001));
    world.settle();
    assert!(is_all_up_to(world.stream(0), 20_001));
    assert_eq!(numbers(world.stream(1)), [30_000]);
    assert_eq!(world.stream(0).receipts, []);
}

#[test]
fn a_backlog_is_read_to_its_end_when_the_file_is_renamed_or_deleted() {
    for rename in [true, false] {
        let mut world = world();
        put_off(&mut world);
        if rename {
            world.rename("a.log", "a.log.1");
        } else {
            world.remove("a.log");
        }
        world.write("a.log", numbered(30_000..30_001));
        world.settle();
        assert!(is_all_up_to(world.stream(0), 20_001));
        assert_eq!(numbers(world.stream(1)), [30_000]);
    }
}

#[test]
fn a_file_that_was_replaced_by_a_longer_one_is_not_divided() {
    let mut world = world();
    world.write("a.log", numbered(0..10));
    world.start();
    world.write("a.log", numbered(50_000..50_500));
    world.settle();
    assert_eq!(numbers(world.stream(0)), (0..10).collect::<Vec<_>>());
    assert_eq!(numbers(world.stream(1)), (50_000..50_500).collect::<Vec<_>>());
}

#[test]
fn a_log_without_line_feeds_is_read_in_order() {
    let mut world = world();
    world.write("a.log", "x".repeat(300_000));
    world.start();
    world.append("a.log", "\nnext\n");
    world.settle();
    assert_eq!(world.stream(0).lines()[1], "next");
}

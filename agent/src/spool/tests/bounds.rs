//! Full, too old, no space left.

use super::*;

#[test]
fn drop_oldest_keeps_the_newest_within_the_bound_and_tells_the_rest() {
    let mut world = World::with_bytes_max(ByteSize::mib(1), SpoolPolicy::DropOldest);
    let mut process = world.start();
    let limit = 1 << 20;
    for _ in 0..8000 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(2));
        assert!(
            world.bytes_on_disk() <= limit,
            "{} on disk",
            world.bytes_on_disk()
        );
    }
    world.advance(&mut process, Duration::from_secs(3));
    assert_eq!(process.residual().0, 0);
    let (stream, positions) = (process.stream, process.position);
    let dropped = process.spool.status().records_dropped;
    assert!(dropped > 0);
    world.heal(&mut process);
    let is_record = |position| world.collector.positions[&(stream, position)] == What::Record;
    let first = (0..positions).find(|position| is_record(*position)).unwrap();
    assert!((first..positions).all(is_record));
    assert_eq!(first, dropped);
    let lost = process.ring.tally().accounts().records.lost;
    assert_eq!((lost, process.residual()), (dropped, (0, 0)));
}

#[test]
fn drop_newest_keeps_the_oldest_within_the_bound_and_tells_the_rest() {
    let mut world = World::with_bytes_max(ByteSize::mib(1), SpoolPolicy::DropNewest);
    let mut process = world.start();
    for _ in 0..8000 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(2));
        assert!(
            world.bytes_on_disk() <= 1 << 20,
            "{} on disk",
            world.bytes_on_disk()
        );
    }
    let (stream, positions) = (process.stream, process.position);
    world.advance(&mut process, Duration::from_secs(3));
    let dropped = process.spool.status().records_dropped;
    assert!(dropped > 0 && process.residual().0 == 0);
    assert!(!process.spool.status().problems.is_empty());
    world.heal(&mut process);
    let kept = positions - dropped;
    for position in 0..positions {
        let expected = if position < kept {
            What::Record
        } else {
            What::Receipt(ReceiptReason::QueueFull)
        };
        assert_eq!(
            world.collector.positions[&(stream, position)],
            expected,
            "{position}"
        );
    }
    assert_eq!(process.residual(), (0, 0));
}

#[test]
fn block_takes_no_more_and_drops_nothing() {
    let mut world = World::with_bytes_max(ByteSize::mib(1), SpoolPolicy::Block);
    let mut process = world.start();
    let mut measured = 0;
    while process.spool.takes(SpoolPolicy::Block) {
        process.measure(&world);
        measured += SAMPLES;
        world.advance(&mut process, Duration::from_secs(2));
        assert!(measured < 1_000_000 && world.bytes_on_disk() <= 1 << 20);
    }
    assert_eq!(process.spool.status().records_dropped, 0);
    world.heal(&mut process);
    assert_eq!(
        world.collector.count(|what| what == What::Record) as u64,
        measured
    );
}

#[test]
fn what_is_too_old_is_dropped_by_policy() {
    let mut world = World::new();
    world.config.age_max = edgelogger_common::duration::HumanDuration::from_secs(3600);
    let mut process = world.start();
    process.measure(&world);
    world.advance(&mut process, Duration::from_secs(3));
    let stream = process.stream;
    world.crash(process, false);
    // A day later, by the wall clock.
    world.clock.advance(Duration::from_secs(86_400));
    let mut process = world.start();
    world.heal(&mut process);
    assert_eq!(
        world.collector.positions[&(stream, 0)],
        What::Receipt(ReceiptReason::TooOld)
    );
    assert_eq!(process.ring.tally().accounts().positions.dropped, SAMPLES);
    assert_eq!(process.residual(), (0, 0));
}

#[test]
fn the_reserve_of_free_space_is_left_alone() {
    let mut world = World::new();
    world.config.keep_free = Some(ByteSize::mib(2));
    world.config.bytes_max = Some(ByteSize::mib(64));
    world.disk.set_capacity(3 << 20);
    let mut process = world.start();
    for _ in 0..9000 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(2));
        assert!(world.bytes_on_disk() <= 1 << 20, "{}", world.bytes_on_disk());
    }
    let status = process.spool.status();
    assert!(status.problems[0].code.as_deref() == Some("E0401"), "{status:?}");
    let positions = process.position;
    world.heal(&mut process);
    assert_eq!(world.collector.positions.len() as u64, positions);
    assert_eq!(process.residual(), (0, 0));
}

#[test]
fn what_there_was_no_room_for_is_written_when_there_is() {
    for is_orderly in [true, false] {
        let mut world = World::with_bytes_max(ByteSize::mib(64), SpoolPolicy::DropNewest);
        world.config.keep_free = Some(ByteSize::mib(2));
        world.disk.set_capacity(2 << 20);
        let mut process = world.start();
        process.line_is_up = true;
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(3));
        assert_eq!((process.line.len(), world.bytes_on_disk()), (1, 0));
        world.disk.set_capacity(64 << 20);
        if is_orderly {
            process.stop();
        } else {
            world.advance(&mut process, Duration::from_secs(1));
            world.crash(process, false);
        }
        let mut process = world.start();
        world.heal(&mut process);
        let records = world.collector.count(|what| what == What::Record) as u64;
        assert_eq!(records, SAMPLES, "orderly: {is_orderly}");
    }
}

#[test]
fn a_copy_that_gave_way_is_written_at_the_end_where_there_is_room() {
    let mut world = World::with_bytes_max(ByteSize::mib(1), SpoolPolicy::DropOldest);
    let mut process = world.start();
    let stream = process.stream;
    process.line_is_up = true;
    process.measure(&world);
    world.advance(&mut process, Duration::from_secs(3));
    process.line_is_up = false;
    while process.spool.status().records_dropped == 0 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(2));
    }
    process.stop();
    let mut process = world.start();
    world.heal(&mut process);
    assert_eq!(world.collector.positions[&(stream, 0)], What::Record);
    assert_eq!(
        world.collector.positions[&(stream, SAMPLES)],
        What::Receipt(ReceiptReason::QueueFull)
    );
    world.expect_whole();
}

#[test]
fn what_others_take_of_the_disk_does_not_empty_the_spool() {
    let mut world = World::new();
    world.config.keep_free = Some(ByteSize::mib(2));
    world.config.bytes_max = Some(ByteSize::mib(64));
    world.disk.set_capacity(4 << 20);
    let mut process = world.start();
    for _ in 0..2000 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(2));
    }
    let before = world.bytes_on_disk();
    // Somebody else fills the disk, the reserve too.
    world.disk.set_capacity(before + (64 << 10));
    for _ in 0..2000 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(2));
        assert!(
            world.bytes_on_disk() <= before,
            "{} of {before}",
            world.bytes_on_disk()
        );
        assert!(
            world.bytes_on_disk() >= before / 2,
            "{} of {before}",
            world.bytes_on_disk()
        );
    }
    assert!(process.spool.status().records_dropped > 0);
    let positions = process.position;
    world.heal(&mut process);
    assert_eq!(world.collector.positions.len() as u64, positions);
    assert_eq!(process.residual(), (0, 0));
}

//! What of files comes to the spool, beside what can't be read again at all.

use super::*;
use crate::flow::{CONTENT_CHECK_BYTES_MAX, ContentCheck};

/// A line of a file that compresses to nothing less than it is.
fn line(stream_id: StreamId, start: u64, len: usize) -> SourceBlock {
    let mut noise = start + 1;
    let mut byte = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // No line feed.
        (noise >> 56) as u8 | 0x80
    };
    let mut text: Vec<u8> = (1..len).map(|_| byte()).collect();
    text.push(b'\n');
    let crc = crc32c::crc32c(&text);
    SourceBlock {
        block: Block::from_lines(stream_id, start, text.into(), 1, crc, 5),
        lane: Lane::Live,
        replayable: true,
        resume: Resume::Content(ContentCheck { len: 9, crc32c: crc }),
        credit: crate::ring::CreditPermit::uncounted(),
    }
}

fn file(process: &Process, number: u8) -> StreamId {
    let stream = StreamId::from_bytes([number; 16]);
    let descriptor = StreamDescriptor {
        stream_id: stream.to_proto(),
        kind: SourceKind::File.into(),
        unit: PositionUnit::Byte.into(),
        replayable: true,
        ..StreamDescriptor::default()
    };
    process.checkpoints.create(&[descriptor]).unwrap();
    stream
}

/// A batch of one line of each of these streams, handed to the line.
fn send(process: &mut Process, world: &World, streams: &[StreamId]) {
    let mut blocks: Vec<SourceBlock> = streams.iter().map(|stream| line(*stream, 0, 100)).collect();
    let notes = blocks
        .iter()
        .map(|block| BlockNote::of(&block.block).resuming(&block.resume));
    let notes = notes.collect();
    for block in &mut blocks {
        // As a source that pushes it.
        let in_flight = process.ring.tally().read(&block.block);
        block.credit.pushed(in_flight);
    }
    let collected = Collected {
        lane: Lane::Live,
        replayable: true,
        blocks,
    };
    let batch = process.encoder.encode(collected).unwrap();
    process.line.push_back(batch.clone());
    process.spool.sent_files(Held {
        batch,
        notes,
        policy: None,
        since: world.clock.monotonic(),
        of_file: None,
    });
}

#[test]
fn of_a_batch_only_what_is_gone_is_written_and_how_the_file_is_known_again() {
    let mut world = World::new();
    let mut process = world.start();
    let streams: Vec<StreamId> = (1..4).map(|number| file(&process, number)).collect();
    send(&mut process, &world, &streams);
    world.advance(&mut process, Duration::from_secs(60));
    assert_eq!(world.bytes_on_disk(), 0, "all files are there");
    process.spool.gone(streams[1]);
    process.spool.gone(streams[2]);
    process.spool.back(&streams[2]);
    world.advance(&mut process, Duration::from_secs(3));
    assert!(world.bytes_on_disk() > 0);
    world.crash(process, false);

    let mut process = world.start();
    assert_eq!(process.spool.ends(), HashMap::from([(streams[1], 100)]));
    assert!(matches!(process.spool.left(&streams[0]), Left::Nothing));
    let Left::Kept(left) = process.spool.left(&streams[1]) else {
        panic!("it is kept");
    };
    let state = left.added_to(process.checkpoints.stream(&streams[1]).unwrap());
    assert_eq!(state.acked_upto, 100);
    assert!(
        matches!(state.resume, Resume::Content(check) if check.len == 9 && check.len <= CONTENT_CHECK_BYTES_MAX)
    );
    assert_eq!(left.exact_size(), None);
    let close = StreamClose {
        stream_id: streams[1],
        size: 100,
        exact: false,
        reason: StreamEndReason::Deleted,
    };
    assert_eq!(process.spool.end(close.clone()), None, "not before what is kept");
    process.line_is_up = true;
    process.turn(world.policy, world.clock.monotonic());
    assert_eq!((process.line.len(), process.ends.last()), (1, Some(&close)));
    world.deliver(&mut process, usize::MAX);
    assert_eq!(process.checkpoints.acked_upto(&streams[1]), None, "it ended");
    assert!(matches!(process.spool.left(&streams[1]), Left::Nothing));
}

#[test]
fn files_leave_a_part_of_the_spool_to_others() {
    let mut world = World::with_bytes_max(ByteSize::mib(4), SpoolPolicy::DropNewest);
    let mut process = world.start();
    let stream = file(&process, 1);
    process.spool.gone(stream);
    let mut at = 0;
    while process.spool.room(64 << 10) == Room::Yes {
        process.spool.keep(line(stream, at, 64 << 10));
        at += 64 << 10;
        world.advance(&mut process, Duration::from_secs(1));
    }
    assert_eq!(process.spool.room(64 << 10), Room::No);
    assert!(
        (2 << 20..3 << 20).contains(&world.bytes_on_disk()),
        "{}",
        world.bytes_on_disk()
    );
    for _ in 0..100 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(3));
    }
    assert_eq!(process.spool.status().records_dropped, 0);
    world.heal(&mut process);
    assert_eq!(
        world
            .collector
            .positions
            .keys()
            .filter(|(of, _)| *of == stream)
            .count() as u64,
        at
    );
    assert_eq!(process.residual(), (0, 0));
}

#[test]
fn what_waits_for_room_holds_up_nobody() {
    let mut world = World::with_bytes_max(ByteSize::mib(1), SpoolPolicy::DropOldest);
    let mut process = world.start();
    let stream = file(&process, 1);
    process.spool.gone(stream);
    // Together they have no room, and nobody asked.
    for number in 0..3 {
        process.spool.keep(line(stream, number * (400 << 10), 400 << 10));
    }
    for _ in 0..50 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(3));
    }
    assert!(
        process.spool.status().batches >= 50,
        "{:?}",
        process.spool.status()
    );
    world.heal(&mut process);
    assert_eq!(
        world.collector.count(|what| what == What::Record) as u64 % SAMPLES,
        0
    );
    assert_eq!(process.residual(), (0, 0));
}

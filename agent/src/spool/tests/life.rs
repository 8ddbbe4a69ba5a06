//! Outages, crashes and stops on a good disk.

use super::*;

#[test]
fn nothing_is_written_while_the_collector_acks_in_time() {
    let mut world = World::new();
    let mut process = world.start();
    process.line_is_up = true;
    let before = world.disk.changes();
    for _ in 0..100 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_millis(1900));
        world.deliver(&mut process, usize::MAX);
    }
    assert_eq!(world.disk.changes(), before);
    assert_eq!(world.collector.count(|what| what == What::Record), 1000);
    assert_eq!(process.residual(), (0, 0));
}

#[test]
fn what_the_line_does_not_take_is_on_disk_after_two_seconds_and_sent_when_it_does() {
    let mut world = World::new();
    let mut process = world.start();
    for _ in 0..20 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(15));
        assert_eq!(process.residual().0, 0);
    }
    let status = process.spool.status();
    assert_eq!((status.batches, status.batches_in_memory), (20, 0), "{status:?}");
    assert!(status.oldest_age_ns > Some(200_000_000_000), "{status:?}");
    assert_eq!(process.residual(), (0, 200));
    world.heal(&mut process);
    assert_eq!(world.collector.count(|what| what == What::Record), 200);
    assert_eq!(process.residual(), (0, 0));
    assert_eq!(process.ring.tally().accounts().positions.acked, 200);
}

#[test]
fn what_is_on_the_line_and_unacked_outlives_the_process_and_is_sent_by_the_next() {
    for cut_power in [false, true] {
        let mut world = World::new();
        let mut process = world.start();
        process.line_is_up = true;
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(1));
        world.deliver(&mut process, 1);
        process
            .checkpoints
            .flush(crate::checkpoint::Durability::Synced)
            .unwrap();
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(3));
        process.measure(&world);
        let stream = process.stream;
        world.crash(process, cut_power);

        let mut process = world.start();
        world.heal(&mut process);
        assert_eq!(world.collector.count(|what| what == What::Record), 20);
        let end = &world.collector.ends[&stream];
        assert_eq!(
            (end.size, end.exact),
            (20, false),
            "the last measurement was too young, and nobody knows of it"
        );
        assert_eq!(process.residual(), (0, 0));
        world.expect_whole();
    }
}

#[test]
fn a_process_that_stops_in_order_leaves_everything_and_an_exact_end() {
    let mut world = World::new();
    let mut process = world.start();
    for _ in 0..5 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(1));
    }
    let stream = process.stream;
    process.stop();
    let mut process = world.start();
    world.heal(&mut process);
    let end = &world.collector.ends[&stream];
    assert_eq!((end.size, end.exact), (50, true));
    assert_eq!(world.collector.count(|what| what == What::Record), 50);
    process.stop();
    // Nothing is sent a second time.
    let process = world.start();
    assert!(process.spool.is_empty());
}

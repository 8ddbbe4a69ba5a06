//! A disk that fails, lies and is cut off; and any order of everything.

use super::*;

#[test]
fn a_damaged_frame_costs_what_it_held_and_is_told() {
    for while_running in [true, false] {
        let mut world = World::new();
        let mut process = world.start();
        for _ in 0..10 {
            process.measure(&world);
            world.advance(&mut process, Duration::from_secs(3));
        }
        let stream = process.stream;
        let dir = Path::new(STATE_DIR).join(SPOOL_DIR);
        let name = world
            .disk
            .list_files(&dir)
            .unwrap()
            .into_iter()
            .find(|name| name.ends_with(".seg"))
            .unwrap();
        world.disk.corrupt(&dir.join(name), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
        });
        if !while_running {
            world.crash(process, false);
            process = world.start();
        }
        world.heal(&mut process);
        let damaged = What::Receipt(ReceiptReason::Damaged);
        assert_eq!(
            world.collector.count(|what| what == damaged) as u64,
            SAMPLES,
            "{while_running}"
        );
        assert_eq!(
            world.collector.count(|what| what == What::Record) as u64,
            9 * SAMPLES
        );
        assert!((0..100).all(|position| world.collector.positions.contains_key(&(stream, position))));
        assert!(!process.spool.status().problems.is_empty());
        assert_eq!(process.residual(), (0, 0));
    }
}

#[test]
fn a_lost_checkpoint_file_does_not_lose_what_the_spool_holds() {
    let mut world = World::new();
    let mut process = world.start();
    process.measure(&world);
    world.advance(&mut process, Duration::from_secs(3));
    let stream = process.stream;
    world.crash(process, false);
    world
        .disk
        .remove_file(&Path::new(STATE_DIR).join(crate::checkpoint::FILE_NAME))
        .unwrap();
    let mut process = world.start();
    world.heal(&mut process);
    assert_eq!(world.collector.count(|what| what == What::Record) as u64, SAMPLES);
    assert_eq!(world.collector.ends[&stream].size, SAMPLES);
}

#[test]
fn a_full_disk_costs_nothing_while_memory_lasts_and_heals() {
    let mut world = World::new();
    let mut process = world.start();
    let fault = Fault::from(Operation::Write, 1, Effect::PartThenError(Errno::NOSPC));
    world.disk.install(fault);
    for _ in 0..50 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(5));
        assert_eq!(process.residual().0, 0);
    }
    let status = process.spool.status();
    assert!(status.problems[0].code.as_deref() == Some("E0401"), "{status:?}");
    assert!(
        status.batches_in_memory > 0 && status.records_dropped == 0,
        "{status:?}"
    );
    world.disk.clear_faults();
    world.advance(&mut process, Duration::from_secs(70));
    world.advance(&mut process, Duration::from_secs(5));
    let status = process.spool.status();
    assert!(
        status.problems.is_empty() && status.batches_in_memory == 0,
        "{status:?}"
    );
    world.heal(&mut process);
    assert_eq!(
        world.collector.count(|what| what == What::Record) as u64,
        50 * SAMPLES
    );
    assert_eq!(process.residual(), (0, 0));
}

#[test]
fn what_a_full_segment_made_durable_is_not_sent_twice_when_the_next_sync_fails() {
    let mut world = World::with_bytes_max(ByteSize::mib(1), SpoolPolicy::DropOldest);
    world.config.fsync_interval = edgelogger_common::duration::HumanDuration::from_secs(3600);
    let mut process = world.start();
    let dir = Path::new(STATE_DIR).join(SPOOL_DIR);
    let mut measured = 0;
    // All but the first waits for its sync, until a segment is full.
    let segments = |world: &World| {
        let names = world.disk.list_files(&dir).unwrap_or_default();
        names.iter().filter(|name| name.ends_with(".seg")).count()
    };
    while segments(&world) < 2 {
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(2));
        measured += SAMPLES;
        assert!(measured < 10_000, "no segment is ever full");
    }
    world
        .disk
        .install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
    world.advance(&mut process, Duration::from_secs(3600));
    assert!(!process.spool.status().problems.is_empty());
    assert_eq!(process.residual().0, 0);
    world.heal(&mut process);
    let records = world.collector.count(|what| what == What::Record) as u64;
    assert_eq!((records, process.spool.status().records_dropped), (measured, 0));
    assert_eq!(process.residual(), (0, 0));
}

/// A small run with one fault at one operation; then a crash, and a process that heals.
fn run_with(fault: Option<Fault>, cut_power: bool) -> u64 {
    let mut world = World::new();
    let mut process = world.start();
    let before = world.disk.changes();
    if let Some(fault) = fault {
        world.disk.install(fault);
    }
    for round in 0..6 {
        process.line_is_up = round == 2;
        process.measure(&world);
        world.advance(&mut process, Duration::from_secs(3));
        assert_eq!(process.residual().0, 0);
        world.deliver(&mut process, 1);
        if world.disk.is_down() {
            break;
        }
    }
    let (stream, position) = (process.stream, process.position);
    let changes = world.disk.changes() - before;
    world.crash(process, cut_power);
    let mut process = world.start();
    world.heal(&mut process);
    world.expect_whole();
    assert!(world.collector.ends.contains_key(&stream));
    assert!(world.collector.ends[&stream].size <= position);
    assert_eq!(process.residual(), (0, 0));
    changes
}

#[test]
fn a_disk_that_fails_at_any_operation_leaves_no_position_untold() {
    let changes = run_with(None, false);
    assert!(changes > 20, "{changes} changes are no run");
    for nth in 1..=changes {
        for effect in [
            Effect::Error(Errno::IO),
            Effect::PartThenError(Errno::NOSPC),
            Effect::Kill,
            Effect::PowerCut(Survivors::Nothing),
            Effect::PowerCut(Survivors::Some),
        ] {
            println!("operation {nth}: {effect:?}");
            run_with(Some(Fault::once(Operation::AnyChange, nth, effect)), true);
        }
    }
    for nth in 1..10 {
        run_with(
            Some(Fault::once(Operation::Read, nth, Effect::Error(Errno::IO))),
            false,
        );
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Measure,
    Wait(u64),
    Line(bool),
    Deliver(usize),
    Crash { cut_power: bool },
    Stop,
    Fail(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Measure),
        4 => (100u64..4000).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(Step::Line),
        4 => (1usize..5).prop_map(Step::Deliver),
        1 => any::<bool>().prop_map(|cut_power| Step::Crash { cut_power }),
        1 => Just(Step::Stop),
        1 => (1u64..20).prop_map(Step::Fail),
    ]
}

/// Takes the steps, then the power; the process after that heals.
fn check_steps(steps: &[Step]) {
    let mut world = World::new();
    let mut process = world.start();
    let mut streams = vec![process.stream];
    for step in steps {
        match *step {
            Step::Measure => process.measure(&world),
            Step::Wait(ms) => world.advance(&mut process, Duration::from_millis(ms)),
            Step::Line(up) => process.line_is_up = up,
            Step::Deliver(count) => world.deliver(&mut process, count),
            Step::Crash { cut_power } => {
                world.crash(process, cut_power);
                process = world.start();
                streams.push(process.stream);
            }
            Step::Stop => {
                process.stop();
                world.disk.restart();
                process = world.start();
                streams.push(process.stream);
            }
            Step::Fail(nth) => {
                let fault = Fault::once(Operation::AnyChange, nth, Effect::Error(Errno::IO));
                world.disk.install(fault);
            }
        }
        assert_eq!(process.residual().0, 0);
    }
    world.crash(process, true);
    let mut process = world.start();
    world.heal(&mut process);
    world.expect_whole();
    for stream in &streams {
        assert!(world.collector.ends.contains_key(stream), "{stream} never ended");
    }
    assert_eq!(process.residual(), (0, 0));
}

proptest! {
    #[test]
    fn whatever_happens_every_position_is_delivered_or_told(steps in prop::collection::vec(step(), 1..120)) {
        check_steps(&steps);
    }
}

/// The first stop's sync fails, and with it goes the end of the file.
#[test]
fn a_log_that_lost_its_tail_to_a_failed_sync_comes_to_rest() {
    let crash = Step::Crash { cut_power: false };
    for nth in 1..=30 {
        check_steps(&[crash, Step::Fail(nth), Step::Stop, Step::Stop]);
    }
}

#[test]
fn a_full_disk_that_keeps_a_segment_from_being_begun_is_waited_for() {
    let mut world = World::new();
    let mut process = world.start();
    process.measure(&world);
    world.advance(&mut process, Duration::from_secs(3));
    // The log can be closed, and no other segment begun.
    world
        .disk
        .install(Fault::from(Operation::Create, 1, Effect::Error(Errno::NOSPC)));
    process.line_is_up = true;
    for _ in 0..5 {
        world.advance(&mut process, Duration::from_secs(70));
        world.deliver(&mut process, usize::MAX);
    }
    process.stop();
    world.disk.restart();
    world
        .disk
        .install(Fault::from(Operation::Create, 1, Effect::Error(Errno::NOSPC)));
    world.start().stop();
    world.disk.restart();
    let mut process = world.start();
    world.heal(&mut process);
    assert_eq!(world.collector.count(|what| what == What::Record) as u64, SAMPLES);
    world.expect_whole();
}

/// The receipts for what a failing disk lost wait for the line, and the end of their stream waits behind them.
#[test]
fn the_end_of_a_lost_stream_does_not_overtake_its_receipts() {
    check_steps(&[
        Step::Fail(1),
        Step::Measure,
        Step::Fail(5),
        Step::Measure,
        Step::Wait(2000),
        Step::Line(true),
        Step::Measure,
        Step::Deliver(1),
        Step::Stop,
        Step::Measure,
        Step::Deliver(1),
        Step::Stop,
    ]);
}

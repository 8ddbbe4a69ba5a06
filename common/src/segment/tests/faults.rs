//! The disk fails at every single operation of a small run: what `sync` returned is there afterwards.

use super::*;

/// What a run had been told.
#[derive(Debug, Default)]
struct Told {
    /// Highest durable end that was returned.
    durable_end: u64,
    /// One behind the last sequence that was given to an append.
    next: u64,
    dropped_before: u64,
    /// Appended and not synced since.
    waiting: Vec<u64>,
    /// Synced.
    acked: Vec<u64>,
}

impl Told {
    fn nothing() -> Self {
        Self {
            durable_end: 1,
            next: 1,
            dropped_before: 1,
            waiting: Vec::new(),
            acked: Vec::new(),
        }
    }
}

/// A small run that appends, syncs, rolls over and drops, until something fails; then, if the machine is up, it
/// reopens in place and goes on, as a collector does.
fn run(disk: &FaultDisk, told: &mut Told) -> Result<(), SegmentError> {
    let options = SegmentOptions {
        segment_bytes_max: 300,
        ..options()
    };
    let (mut log, _) = SegmentLog::open(Arc::new(disk.clone()), Path::new(DIR), options)?;
    let mut reopened = 0;
    let mut step = 0;
    while step < 12 {
        step += 1;
        if let Err(error) = run_step(&mut log, step, told) {
            if disk.is_down() || reopened == 3 {
                return Err(error);
            }
            assert!(
                log.is_poisoned() || matches!(error, SegmentError::Disk(_)),
                "{error}"
            );
            reopened += 1;
            let report = log.reopen()?;
            assert!(log.durable_end() >= told.durable_end, "{report}");
            assert!(
                report.plan.lost.iter().all(|lost| lost.may_be_unacked),
                "{report}"
            );
            // Those that were not acked and did not survive are appended anew, under the same numbers.
            told.next = log.next_sequence();
            told.waiting.clear();
        }
    }
    Ok(())
}

fn run_step(log: &mut SegmentLog, step: u64, told: &mut Told) -> Result<(), SegmentError> {
    for _ in 0..step % 3 + 1 {
        // An append that fails may be there all the same.
        told.next = log.next_sequence() + 1;
        let bytes = payload(log.next_sequence());
        told.waiting.push(log.append(&[&bytes])?);
    }
    told.durable_end = log.sync()?;
    told.acked.append(&mut told.waiting);
    if step == 7 {
        let before = told.durable_end / 2;
        told.dropped_before = before;
        log.drop_before(before)?;
    }
    Ok(())
}

/// Everything acked is there, in order; nothing is invented.
fn check_after(disk: &FaultDisk, told: &Told, what: &str) {
    let options = SegmentOptions {
        segment_bytes_max: 300,
        ..options()
    };
    let (mut log, report) = open(disk, options);
    let (first, next) = (log.first_sequence(), log.next_sequence());
    assert!(next >= told.durable_end, "{what}: {told:?}\n{report}");
    assert!(next <= told.next.max(1), "{what}: {told:?}\n{report}");
    assert!(first <= told.dropped_before.max(1), "{what}: {told:?}\n{report}");
    // A power cut may keep the second of two frames that were synced together, and not the first.
    assert!(
        report.plan.lost.iter().all(|lost| lost.may_be_unacked),
        "{what}: {told:?}\n{report}"
    );
    let seen = check_items(&read_from(&log, first), first, next);
    assert!(
        told.acked
            .iter()
            .filter(|acked| **acked >= first)
            .all(|acked| seen.contains(acked)),
        "{what}: {told:?}\n{report}"
    );
    append(&mut log, 3);
    log.sync().unwrap();
    assert_eq!(
        check_items(&read_from(&log, first), first, next + 3).len(),
        seen.len() + 3,
        "{what}"
    );
}

fn check_every_n(operation: Operation, lasting: bool, effect: Effect, seeds: u64) {
    for nth in 1.. {
        let mut reached = false;
        for seed in 0..seeds {
            let disk = FaultDisk::new(seed * 1000 + nth);
            disk.install(Fault {
                operation,
                nth,
                lasting,
                effect,
            });
            let mut told = Told::nothing();
            let outcome = run(&disk, &mut told);
            let changes = disk.changes();
            reached |= outcome.is_err() || changes >= nth;
            let what = format!("{operation:?} {nth} {effect:?} lasting {lasting} seed {seed}");
            // First as after a kill: the page cache is whole. Then the power goes as well.
            disk.restart();
            if seed % 2 == 0 {
                disk.cut_power(if seed % 4 == 0 {
                    Survivors::Some
                } else {
                    Survivors::Nothing
                });
                disk.restart();
            }
            check_after(&disk, &told, &what);
            disk.cut_power(Survivors::Nothing);
            disk.restart();
            let told = Told {
                durable_end: told.durable_end.max(1),
                next: u64::MAX,
                ..told
            };
            let (log, _) = open(&disk, options());
            assert!(
                log.next_sequence() >= told.durable_end + 3,
                "{what}: acked after the fault, lost by a power cut"
            );
        }
        if !reached || nth > 120 {
            break;
        }
    }
}

#[test]
fn killed_at_every_operation() {
    check_every_n(Operation::AnyChange, false, Effect::Kill, 4);
}

#[test]
fn the_power_goes_at_every_operation() {
    check_every_n(
        Operation::AnyChange,
        false,
        Effect::PowerCut(Survivors::Nothing),
        2,
    );
    check_every_n(Operation::AnyChange, false, Effect::PowerCut(Survivors::Some), 6);
}

#[test]
fn every_operation_fails_once() {
    for errno in [Errno::IO, Errno::NOSPC] {
        check_every_n(Operation::AnyChange, false, Effect::Error(errno), 2);
        check_every_n(Operation::AnyChange, false, Effect::PartThenError(errno), 4);
    }
}

#[test]
fn every_operation_fails_from_then_on() {
    for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS] {
        check_every_n(Operation::AnyChange, true, Effect::Error(errno), 2);
        check_every_n(Operation::AnyChange, true, Effect::PartThenError(errno), 2);
    }
}

#[test]
fn every_sync_fails_once_and_what_the_cache_shows_is_not_believed() {
    check_every_n(Operation::Sync, false, Effect::Error(Errno::IO), 8);
    check_every_n(Operation::Sync, true, Effect::Error(Errno::IO), 4);
}

#[test]
fn reading_fails_once_at_every_read() {
    check_every_n(Operation::Read, false, Effect::Error(Errno::INTR), 1);
    check_every_n(Operation::Open, false, Effect::Error(Errno::MFILE), 1);
}

#[test]
fn a_disk_that_lies_about_sync_is_caught_by_these_very_checks() {
    let caught = (0..10).any(|seed| {
        let disk = FaultDisk::new(seed);
        disk.install(Fault::from(Operation::Sync, 5, Effect::Lie));
        let mut told = Told::nothing();
        run(&disk, &mut told).unwrap();
        disk.cut_power(Survivors::Nothing);
        disk.restart();
        let (log, _) = open(&disk, options());
        log.next_sequence() < told.durable_end
    });
    assert!(caught, "the control must fail, or the other tests prove nothing");
}

#[test]
fn a_full_disk_refuses_appends_until_old_segments_are_dropped() {
    let disk = FaultDisk::new(1);
    disk.set_capacity(2000);
    let (mut log, _) = open(&disk, options());
    let mut acked = 1;
    let error = loop {
        let bytes = payload(log.next_sequence());
        match log.append(&[&bytes]).and_then(|_| log.sync()) {
            Ok(durable) => acked = durable,
            Err(error) => break error,
        }
    };
    assert!(error.is_disk_full() && error.code().code == "E0401", "{error}");
    assert!(log.is_poisoned());
    assert!(matches!(
        log.append(&[b"x"]).unwrap_err(),
        SegmentError::Poisoned { .. }
    ));
    assert!(matches!(log.sync().unwrap_err(), SegmentError::Poisoned { .. }));
    let mut reader = log.reader(1).unwrap();
    check_items(&read_all(&mut reader), 1, acked);
    log.drop_before(acked).unwrap();
    log.reopen().unwrap();
    append(&mut log, 3);
    let durable = log.sync().unwrap();
    check_items(&read_all(&mut reader), acked, durable);
}

#[test]
fn a_full_disk_does_not_keep_a_log_from_opening() {
    let disk = filled(20, options());
    disk.restart();
    {
        let (mut log, _) = open(&disk, options());
        log.roll().unwrap();
    }
    // As left by a crash between closing a segment and beginning the next.
    disk.remove_file(&last_segment(&disk)).unwrap();
    disk.restart();
    disk.install(Fault::once(Operation::Create, 1, Effect::Error(Errno::NOSPC)));
    let (mut log, report) = open(&disk, options());
    assert!(report.warnings[0].contains("free space"), "{report}");
    assert_eq!(read_from(&log, 1), frames(1..21));
    append(&mut log, 2);
    log.sync().unwrap();
    assert_eq!(read_from(&log, 1), frames(1..23));
}

#[test]
fn a_log_that_a_full_disk_left_without_a_segment_to_write_rolls_when_there_is_room() {
    let disk = filled(3, options());
    let (mut log, _) = open(&disk, options());
    disk.install(Fault::from(Operation::Create, 1, Effect::Error(Errno::NOSPC)));
    log.roll().unwrap_err();
    log.reopen().unwrap();
    assert!(log.roll().unwrap_err().is_disk_full(), "it is not taken for done");
    disk.clear_faults();
    log.reopen().unwrap();
    log.roll().unwrap();
    log.drop_before(log.next_sequence()).unwrap();
    assert_eq!(log.bytes(), SEGMENT_HEADER_BYTES as u64);
}

#[test]
fn after_a_sync_that_failed_a_log_is_as_long_as_its_files_are() {
    for seed in 0..50 {
        let disk = FaultDisk::new(seed);
        let (mut log, _) = open(&disk, options());
        append(&mut log, 1);
        disk.install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
        log.sync().unwrap_err();
        log.reopen().unwrap();
        let files = segment_files(&disk);
        let on_disk: u64 = files.iter().map(|path| disk.file_len(path).unwrap()).sum();
        assert_eq!(log.bytes(), on_disk, "seed {seed}");
        append(&mut log, 2);
        let durable = log.sync().unwrap();
        assert_eq!(read_from(&log, 1), frames(1..durable), "seed {seed}");
    }
}

#[test]
fn readers_outlive_a_failure_and_its_repair() {
    let disk = FaultDisk::new(1);
    let (mut log, _) = open(
        &disk,
        SegmentOptions {
            segment_bytes_max: 10_000,
            ..options()
        },
    );
    append(&mut log, 4);
    log.sync().unwrap();
    let mut reader = log.reader(1).unwrap();
    check_items(&read_all(&mut reader), 1, 5);
    append(&mut log, 2);
    disk.install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
    log.sync().unwrap_err();
    assert_eq!(
        reader.next().unwrap(),
        None,
        "what was not durable was never shown"
    );
    log.reopen().unwrap();
    append(&mut log, 2);
    let durable = log.sync().unwrap();
    check_items(&read_all(&mut reader), 5, durable);
}

#[test]
fn a_process_that_dies_during_recovery_leaves_nothing_that_a_later_one_cannot_recover() {
    let spoil = |disk: &FaultDisk| {
        let path = last_segment(disk);
        disk.corrupt(&path, |bytes| {
            bytes[70] ^= 1;
            bytes.extend([0; 99]);
        });
    };
    for effect in [
        Effect::Kill,
        Effect::PowerCut(Survivors::Some),
        Effect::Error(Errno::IO),
    ] {
        for nth in 1..40 {
            let options = SegmentOptions {
                segment_bytes_max: 100_000,
                ..options()
            };
            let disk = filled(6, options.clone());
            spoil(&disk);
            disk.restart();
            disk.install(Fault::once(Operation::AnyChange, nth, effect));
            let _ = SegmentLog::open(Arc::new(disk.clone()), Path::new(DIR), options.clone());
            disk.restart();
            let (log, report) = open(&disk, options);
            assert_eq!(log.next_sequence(), 7, "{effect:?} {nth}\n{report}");
            assert_eq!(
                check_items(&read_from(&log, 1), 1, 7),
                [2, 3, 4, 5, 6],
                "{effect:?} {nth}\n{report}"
            );
        }
    }
}

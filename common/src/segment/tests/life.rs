//! An undamaged log: append, sync, roll, drop, read.

use super::*;

#[test]
fn what_is_appended_and_synced_is_read_in_order_across_segments() {
    let disk = FaultDisk::new(1);
    let (mut log, report) = open(&disk, options());
    assert!(report.plan.is_new && report.plan.is_clean(), "{report}");
    assert_eq!(
        (log.first_sequence(), log.next_sequence(), log.durable_end()),
        (1, 1, 1)
    );
    append(&mut log, 50);
    assert_eq!(log.sync().unwrap(), 51);
    assert_eq!(log.next_sequence(), 51);
    assert!(segment_files(&disk).len() > 5);
    assert_eq!(read_from(&log, 1), frames(1..51));
    for from in [2, 17, 50, 51] {
        assert_eq!(read_from(&log, from), frames(from..51));
    }
}

#[test]
fn on_a_real_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/log");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut next = 1;
    for round in 0..5 {
        let (mut log, report) = SegmentLog::open(Arc::clone(&disk), &path, options()).unwrap();
        assert!(report.plan.is_clean(), "{report}");
        assert_eq!(log.next_sequence(), next);
        let again = SegmentLog::open(Arc::clone(&disk), &path, options()).unwrap_err();
        assert!(matches!(again, SegmentError::Locked { .. }), "{again}");
        append(&mut log, 30);
        log.sync().unwrap();
        append(&mut log, 1);
        next = log.sync().unwrap();
        assert_eq!(next, (round + 1) * 31 + 1);
        let first = log.first_sequence();
        assert_eq!(read_from(&log, first), frames(first..next));
        log.drop_before(next - 40.min(next)).unwrap();
        let first = log.first_sequence();
        assert_eq!(read_from(&log, first), frames(first..next));
        drop(log);
        let plan = inspect(disk.as_ref(), &path, &options(), ScanDepth::Full).unwrap();
        assert!(plan.is_clean(), "{plan}");
        assert_eq!((plan.first_sequence, plan.next_sequence), (first, next));
    }
}

#[test]
fn a_reader_sees_nothing_before_it_is_durable_and_everything_after() {
    let disk = FaultDisk::new(1);
    let (mut log, _) = open(&disk, options());
    let mut reader = log.reader(1).unwrap();
    for round in 0..40 {
        append(&mut log, 3);
        let durable = log.durable_end();
        assert!(reader.next_sequence() <= durable);
        let before = read_all(&mut reader); // what a roll made durable
        check_items(&before, round * 3 + 1, durable);
        log.sync().unwrap();
        let after = read_all(&mut reader);
        check_items(&after, durable, round * 3 + 4);
    }
}

#[test]
fn large_frames_and_many_parts_go_around_the_buffer() {
    let disk = FaultDisk::new(1);
    let (mut log, _) = open(&disk, options());
    let big = vec![7; 4096];
    assert_eq!(log.append(&[b"small"]).unwrap(), 1);
    assert_eq!(log.append(&[&big]).unwrap(), 2);
    assert_eq!(log.append(&vec![&b"ab"[..]; 2000]).unwrap(), 3);
    log.sync().unwrap();
    let items = read_from(&log, 1);
    let payloads: Vec<usize> = items
        .iter()
        .map(|item| match item {
            ReadItem::Frame(frame) => frame.payload.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(payloads, [5, 4096, 4000]);
}

#[test]
fn a_frame_that_is_too_large_is_refused_and_the_log_goes_on() {
    let disk = FaultDisk::new(1);
    let (mut log, _) = open(&disk, options());
    let error = log.append(&[&[0; 4000], &[0; 97]]).unwrap_err();
    assert!(
        matches!(
            error,
            SegmentError::FrameTooLarge {
                bytes: 4097,
                bytes_max: 4096
            }
        ),
        "{error}"
    );
    assert!(!log.is_poisoned());
    append(&mut log, 1);
    assert_eq!(log.sync().unwrap(), 2);
}

#[test]
fn reopening_goes_on_in_the_same_segment() {
    let disk = filled(
        3,
        SegmentOptions {
            segment_bytes_max: 10_000,
            ..options()
        },
    );
    for round in 1..5 {
        disk.restart();
        let (mut log, report) = open(
            &disk,
            SegmentOptions {
                segment_bytes_max: 10_000,
                ..options()
            },
        );
        assert!(report.plan.is_clean() && !report.plan.is_new, "{report}");
        assert_eq!(log.next_sequence(), round * 3 + 1);
        append(&mut log, 3);
        log.sync().unwrap();
        assert_eq!(read_from(&log, 1), frames(1..round * 3 + 4));
    }
    assert_eq!(segment_files(&disk).len(), 1);
}

#[test]
fn dropping_removes_whole_segments_and_a_reader_is_told() {
    let disk = FaultDisk::new(1);
    let (mut log, _) = open(&disk, options());
    append(&mut log, 40);
    log.sync().unwrap();
    let mut reader = log.reader(1).unwrap();
    assert_eq!(reader.next().unwrap(), Some(frame(1)));
    let bytes = log.bytes();
    assert_eq!(log.drop_before(1).unwrap(), 0);
    let freed = log.drop_before(20).unwrap();
    assert!(freed > 0);
    assert_eq!(log.bytes(), bytes - freed);
    let first = log.first_sequence();
    assert!(first > 5 && first <= 20, "{first}");
    assert_eq!(
        read_from(&log, 1)[0],
        ReadItem::Dropped {
            from_sequence: 1,
            to_sequence: first
        }
    );
    check_items(&read_from(&log, 1), 1, 41);
    let rest = read_all(&mut reader);
    check_items(&rest, 2, 41);
    // The active segment stays, whatever is asked.
    log.drop_before(u64::MAX).unwrap();
    assert_eq!(log.view().segment_count(), 1);
    log.roll().unwrap();
    log.roll().unwrap();
    log.drop_before(u64::MAX).unwrap();
    assert_eq!((log.first_sequence(), log.bytes()), (41, 64));
    assert_eq!(
        read_from(&log, 1),
        [ReadItem::Dropped {
            from_sequence: 1,
            to_sequence: 41
        }]
    );
    disk.restart();
    assert_eq!(open(&disk, options()).0.next_sequence(), 41);
}

#[test]
fn asking_for_what_the_log_does_not_have_is_an_error() {
    let (log, _) = open(&filled(3, options()), options());
    let error = log.reader(5).unwrap_err();
    assert!(
        matches!(
            error,
            SegmentError::SequenceAhead {
                asked: 5,
                next: 4,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(read_from(&log, 4), []);
}

#[test]
fn readers_in_other_threads_follow_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let options = SegmentOptions {
        segment_bytes_max: 20_000,
        ..options()
    };
    let (mut log, _) = SegmentLog::open(Arc::new(OsDisk), dir.path(), options).unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let view = log.view();
            std::thread::spawn(move || {
                let mut reader = view.reader(1).unwrap();
                let mut items = Vec::new();
                while reader.next_sequence() < 5001 {
                    match reader.next().unwrap() {
                        Some(item) => items.push(item),
                        None => std::thread::yield_now(),
                    }
                }
                check_items(&items, 1, 5001)
            })
        })
        .collect();
    while log.next_sequence() < 5001 {
        append(&mut log, 50);
        log.sync().unwrap();
    }
    for reader in readers {
        assert_eq!(reader.join().unwrap().len(), 5000);
    }
}

#[test]
fn a_later_sequence_can_be_demanded_and_what_lies_between_is_lost() {
    for count in [0, 3, 20] {
        let disk = filled(count, options());
        disk.restart();
        let (mut log, report) = open(
            &disk,
            SegmentOptions {
                sequence_min: 100,
                ..options()
            },
        );
        assert_eq!(log.next_sequence(), 100);
        assert_eq!(
            report
                .plan
                .lost
                .iter()
                .map(|l| l.sequences.clone())
                .collect::<Vec<_>>(),
            std::slice::from_ref(&(count + 1..100))
        );
        append(&mut log, 2);
        log.sync().unwrap();
        check_items(&read_from(&log, log.first_sequence()), log.first_sequence(), 102);
        drop(log);
        let (_, report) = open(&disk, options());
        assert_eq!(report.plan.newly_lost().count(), 0, "{report}");
        assert_eq!(report.plan.next_sequence, 102);
    }
    let (log, report) = open(
        &FaultDisk::new(1),
        SegmentOptions {
            sequence_min: 7,
            ..options()
        },
    );
    assert_eq!((log.first_sequence(), log.next_sequence()), (7, 7));
    assert!(report.plan.is_clean());
}

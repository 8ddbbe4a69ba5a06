//! Damage of every kind at every place: it always opens, what is good is read, the rest is named.

use super::*;

/// Opens, reads everything, appends, syncs, reads again; gives what was read of the first `count` frames.
fn check_survives(disk: &FaultDisk, options: &SegmentOptions, count: u64) -> (Vec<u64>, RecoveryReport) {
    disk.restart();
    let (mut log, report) = open(disk, options.clone());
    let next = log.next_sequence();
    assert!(next <= count + 1, "nothing is invented");
    let first = log.first_sequence();
    let seen = check_items(&read_from(&log, first), first, next);
    append(&mut log, 5);
    log.sync().unwrap();
    let again = check_items(&read_from(&log, first), first, next + 5);
    assert_eq!(again.len(), seen.len() + 5);
    let _ = report.to_string();
    drop(log);
    // Once more: recovery settled it, and reports no loss a second time.
    let (log, second) = open(disk, options.clone());
    assert_eq!(log.next_sequence(), next + 5);
    assert_eq!(
        second.plan.newly_lost().count(),
        0,
        "first\n{report}second\n{second}"
    );
    assert_eq!(
        check_items(&read_from(&log, first), first, next + 5).len(),
        again.len()
    );
    (seen, report)
}

#[test]
fn a_tail_cut_at_every_byte_loses_the_cut_frame_and_nothing_before_it() {
    let options = SegmentOptions {
        segment_bytes_max: 100_000,
        ..options()
    };
    let whole = filled(6, options.clone());
    let bytes = whole.contents(&last_segment(&whole)).unwrap();
    for len in 0..bytes.len() {
        let disk = filled(6, options.clone());
        disk.corrupt(&last_segment(&disk), |bytes| bytes.truncate(len));
        let (seen, _) = check_survives(&disk, &options, 6);
        let mut end = 64;
        let complete = (1..7).take_while(|sequence| {
            end += 20 + payload(*sequence).len();
            end <= len
        });
        assert_eq!(seen, complete.collect::<Vec<u64>>(), "cut to {len}");
    }
}

#[test]
fn a_tail_of_zeroes_or_garbage_is_cut_off() {
    for tail in [
        vec![0; 1],
        vec![0; 5000],
        vec![0xaa; 777],
        b"\xe5\x1f\xa7\x46".to_vec(),
    ] {
        let disk = filled(3, options());
        disk.corrupt(&last_segment(&disk), |bytes| bytes.extend(&tail));
        let (seen, report) = check_survives(&disk, &options(), 3);
        assert_eq!(seen, [1, 2, 3]);
        assert!(
            report
                .plan
                .steps
                .iter()
                .any(|step| matches!(step, RecoveryStep::Truncate { .. })),
            "{report}"
        );
        assert_eq!(report.plan.lost, []);
    }
}

#[test]
fn any_zeroed_sector_costs_only_the_frames_it_touches() {
    let options = SegmentOptions {
        segment_bytes_max: 3000,
        ..options()
    };
    let count = 100;
    let whole = filled(count, options.clone());
    for path in segment_files(&whole) {
        let len = whole.contents(&path).unwrap().len();
        for sector in 0..len.div_ceil(512) {
            let disk = filled(count, options.clone());
            disk.corrupt(&path, |bytes| {
                let end = (sector * 512 + 512).min(len);
                bytes[sector * 512..end].fill(0);
            });
            let (seen, _) = check_survives(&disk, &options, count);
            // Frames have 23 bytes or more, so a sector touches 24 at most.
            assert!(
                seen.len() as u64 >= count - 24,
                "sector {sector} of {}: {seen:?}",
                path.display()
            );
        }
    }
}

#[test]
fn any_flipped_bit_costs_at_most_one_frame() {
    let options = SegmentOptions {
        segment_bytes_max: 300,
        ..options()
    };
    let whole = filled(12, options.clone());
    assert!(segment_files(&whole).len() > 3);
    for path in segment_files(&whole) {
        let bits = whole.contents(&path).unwrap().len() * 8;
        // Every bit of headers, marks and frame headers is met; payloads are sampled.
        for bit in (0..bits).filter(|bit| *bit < 64 * 8 + 20 * 8 || bit % 7 == 0) {
            let disk = filled(12, options.clone());
            disk.corrupt(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let (seen, _) = check_survives(&disk, &options, 12);
            assert!(seen.len() >= 11, "bit {bit} of {}: {seen:?}", path.display());
        }
    }
}

#[test]
fn a_flipped_bit_in_the_middle_is_reported_with_its_exact_sequence_and_copied() {
    let options = SegmentOptions {
        segment_bytes_max: 100_000,
        ..options()
    };
    let disk = filled(6, options.clone());
    let path = last_segment(&disk);
    let third: usize = 64 + (1..3).map(|s| 20 + payload(s).len()).sum::<usize>();
    disk.corrupt(&path, |bytes| bytes[third + 21] ^= 4);
    let damaged_bytes = disk.contents(&path).unwrap()[third..third + 20 + payload(3).len()].to_vec();
    disk.restart();
    let (log, report) = open(&disk, options.clone());
    let lost = &report.plan.lost[0];
    assert_eq!(
        (lost.sequences.clone(), lost.reason, lost.is_known),
        (3..4, DamageReason::Checksum, false)
    );
    let mut expected = frames(1..3);
    expected.push(damaged(3, 4, DamageReason::Checksum));
    expected.extend(frames(4..7));
    assert_eq!(read_from(&log, 1), expected);
    let quarantine = Path::new(DIR).join("quarantine");
    let names = disk.list_files(&quarantine).unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    let copy = names.iter().find(|name| name.ends_with(".bad")).unwrap();
    assert_eq!(disk.contents(&quarantine.join(copy)).unwrap(), damaged_bytes);
    assert!(
        report.to_string().contains("lost: sequences 3 to 4 (exclusive)"),
        "{report}"
    );
}

#[test]
fn damage_in_a_sealed_segment_is_found_by_the_reader_and_by_a_full_inspection() {
    let disk = filled(40, options());
    let files = segment_files(&disk);
    disk.corrupt(&files[1], |bytes| bytes[64 + 25] ^= 1);
    disk.restart();
    let (log, report) = open(&disk, options());
    assert!(
        report.plan.is_clean(),
        "sealed segments aren't read when opening: {report}"
    );
    let items = read_from(&log, 1);
    assert_eq!(
        items
            .iter()
            .filter(|item| matches!(item, ReadItem::Damaged { .. }))
            .count(),
        1
    );
    assert_eq!(check_items(&items, 1, 41).len(), 39);
    let fast = inspect(&disk, Path::new(DIR), &options(), ScanDepth::Fast).unwrap();
    let full = inspect(&disk, Path::new(DIR), &options(), ScanDepth::Full).unwrap();
    assert_eq!((fast.lost.len(), full.lost.len()), (0, 1), "{full}");
}

#[test]
fn a_missing_segment_is_an_exact_range() {
    let disk = filled(40, options());
    let files = segment_files(&disk);
    disk.remove_file(&files[2]).unwrap();
    let (seen, report) = check_survives(&disk, &options(), 40);
    let lost = &report.plan.lost[0];
    assert_eq!(lost.reason, DamageReason::MissingSegment);
    assert_eq!(
        seen.len() as u64,
        40 - (lost.sequences.end - lost.sequences.start)
    );
    assert_eq!(
        files[3],
        Path::new(DIR).join(format!("{:020}.seg", lost.sequences.end))
    );
}

#[test]
fn a_file_that_vanishes_while_the_log_is_open_is_damage_too() {
    let disk = filled(40, options());
    disk.restart();
    let (log, _) = open(&disk, options());
    let files = segment_files(&disk);
    disk.remove_file(&files[2]).unwrap();
    let last = files.last().unwrap();
    disk.corrupt(last, |bytes| bytes.truncate(70));
    let items = read_from(&log, 1);
    check_items(&items, 1, 41);
    assert_eq!(
        items
            .iter()
            .filter(|item| matches!(item, ReadItem::Damaged { .. }))
            .count(),
        2
    );
}

#[test]
fn every_file_may_be_missing_empty_zeroed_or_garbage() {
    let count = 30;
    let spoil: [fn(&mut Vec<u8>); 5] = [
        Vec::clear,
        |bytes| bytes.fill(0),
        |bytes| bytes.fill(0x77),
        |bytes| bytes.truncate(30),
        |bytes| bytes[..64].fill(0),
    ];
    let whole = filled(count, options());
    let mut files = segment_files(&whole);
    files.push(Path::new(DIR).join("log_id"));
    for path in files {
        for spoil in spoil {
            let disk = filled(count, options());
            disk.corrupt(&path, |bytes| {
                if bytes.len() >= 64 || bytes.len() < 30 {
                    spoil(bytes);
                } else {
                    bytes.clear();
                }
            });
            let (seen, report) = check_survives(&disk, &options(), count);
            assert!(seen.len() > 15, "{}: {seen:?}\n{report}", path.display());
            assert!(!report.plan.is_new, "the log keeps its identity");
        }
        let disk = filled(count, options());
        disk.remove_file(&path).unwrap();
        check_survives(&disk, &options(), count);
    }
}

#[test]
fn a_log_whose_files_are_all_gone_gets_another_id() {
    let no_id = SegmentOptions {
        log_id: None,
        ..options()
    };
    let disk = filled(10, no_id.clone());
    disk.restart();
    let (log, report) = open(&disk, no_id.clone());
    assert!(!report.plan.is_new);
    let before = log.log_id();
    drop(log);
    for path in segment_files(&disk) {
        disk.remove_file(&path).unwrap();
    }
    let (log, report) = open(&disk, no_id);
    assert!(report.plan.is_new);
    assert_ne!(log.log_id(), before);
}

#[test]
fn segments_of_another_log_and_strange_names_are_moved_away() {
    let disk = filled(5, options());
    let other = FaultDisk::new(2);
    let (mut log, _) = open(
        &other,
        SegmentOptions {
            log_id: Some(*b"another log's id"),
            sequence_min: 1000,
            ..options()
        },
    );
    append(&mut log, 3);
    log.sync().unwrap();
    for name in ["00000000000000001000.seg", "backup.seg", "notes.txt", "x.new"] {
        let path = Path::new(DIR).join(name);
        disk.create_new(&path).unwrap();
        let bytes = other.contents(&last_segment(&other)).unwrap();
        disk.corrupt(&path, |target| *target = bytes);
    }
    let (seen, report) = check_survives(&disk, &options(), 5);
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert!(report.to_string().contains("of another log"), "{report}");
    let quarantine = disk.list_files(&Path::new(DIR).join("quarantine")).unwrap();
    assert_eq!(quarantine, ["00000000000000001000.seg", "backup.seg"]);
    assert!(disk.exists(&Path::new(DIR).join("notes.txt")).unwrap());
    assert!(!disk.exists(&Path::new(DIR).join("x.new")).unwrap());
}

#[test]
fn random_garbage_over_random_places_always_opens() {
    for seed in 0..300_u64 {
        let disk = filled(40, options());
        let mut state = seed;
        let mut dice = |bound: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % bound
        };
        for path in segment_files(&disk) {
            if dice(3) == 0 {
                disk.corrupt(&path, |bytes| {
                    let from = dice(bytes.len());
                    let to = (from + dice(200)).min(bytes.len());
                    bytes[from..to].fill_with(|| u8::try_from(dice(256)).unwrap());
                });
            }
        }
        check_survives(&disk, &options(), 40);
    }
}

#[test]
fn quarantine_is_bounded_and_says_so() {
    let tight = SegmentOptions {
        quarantine_bytes_max: 10,
        segment_bytes_max: 100_000,
        ..options()
    };
    let disk = filled(6, tight.clone());
    disk.corrupt(&last_segment(&disk), |bytes| bytes[90] ^= 1);
    disk.restart();
    let (_, report) = open(&disk, tight);
    assert!(report.warnings[0].contains("quarantine is full"), "{report}");
}

#[test]
fn a_bad_sector_is_an_error_until_the_reader_is_told_to_step_over_it() {
    let disk = filled(6, options());
    disk.restart();
    let (log, _) = open(&disk, options());
    let mut reader = log.reader(1).unwrap();
    disk.install(Fault::from(Operation::Read, 1, Effect::Error(Errno::IO)));
    for _ in 0..3 {
        let error = reader.next().unwrap_err();
        assert_eq!(error.code().code, "E0404");
    }
    disk.clear_faults();
    assert_eq!(
        reader.next().unwrap(),
        Some(frame(1)),
        "a disk that comes back has lost nothing"
    );
    let mut reader = log.reader(1).unwrap();
    reader.step_over_unreadable(true);
    disk.install(Fault::from(Operation::Read, 1, Effect::Error(Errno::IO)));
    check_items(&read_all(&mut reader), 1, 7);
}

#[test]
fn a_bad_sector_in_the_last_segment_does_not_keep_the_log_from_opening_and_cuts_nothing() {
    let options = SegmentOptions {
        segment_bytes_max: 100_000,
        ..options()
    };
    let disk = filled(300, options.clone());
    let path = last_segment(&disk);
    let before = disk.contents(&path).unwrap();
    assert!(before.len() > 9000);
    disk.restart();
    // Read are the log_id, the header, a chunk of everything, and after that failed the first page.
    disk.install(Fault::once(Operation::Read, 3, Effect::Error(Errno::IO)));
    disk.install(Fault::once(Operation::Read, 4, Effect::Error(Errno::IO)));
    let (mut log, report) = open(&disk, options);
    assert_eq!(report.plan.lost.len(), 1, "{report}");
    assert_eq!(log.next_sequence(), 301);
    assert_eq!(&disk.contents(&path).unwrap()[..before.len()], &before[..]);
    append(&mut log, 1);
    log.sync().unwrap();
    assert_eq!(read_from(&log, 1), frames(1..302), "it was readable after all");
}

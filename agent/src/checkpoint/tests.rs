use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{self, StreamDescriptor};
use proptest::prelude::*;
use rustix::io::Errno;

use super::format::Record;
use super::progress::{Progress, RANGES_ABOVE_MAX};
use super::scan::scan;
use super::*;
use crate::flow::{ContentCheck, Resume, SentBlock};

const DIR: &str = "/state";

fn file() -> &'static Path {
    Path::new("/state/checkpoints")
}

fn id(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

fn descriptor(number: u8) -> StreamDescriptor {
    StreamDescriptor {
        stream_id: id(number).to_proto(),
        name: format!("/var/log/{number}"),
        replayable: true,
        ..StreamDescriptor::default()
    }
}

fn content(crc32c: u32) -> Resume {
    Resume::Content(ContentCheck { len: 4, crc32c })
}

fn block(number: u8, start: u64, end: u64, resume: Resume) -> SentBlock {
    SentBlock {
        stream_id: id(number),
        start,
        end,
        record_count: 1,
        resume,
    }
}

struct Bench {
    disk: FaultDisk,
    clock: Arc<ManualClock>,
    machine: Option<MachineMark>,
}

impl Bench {
    fn new() -> Self {
        Self {
            disk: FaultDisk::new(7),
            clock: Arc::new(ManualClock::at(0)),
            machine: MachineMark::of("a machine"),
        }
    }

    fn try_open(&self) -> Result<Arc<Checkpoints>, CheckpointError> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Checkpoints::open_on(Arc::new(self.disk.clone()), Path::new(DIR), clock, self.machine)
    }

    fn open(&self) -> Arc<Checkpoints> {
        self.try_open().unwrap()
    }

    fn len(&self) -> u64 {
        self.disk.file_len(file()).unwrap()
    }
}

#[test]
fn what_was_acked_and_flushed_is_there_after_a_power_cut() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    assert!(checkpoints.recovery().fresh);
    checkpoints.create(&[descriptor(1), descriptor(2)]).unwrap();
    checkpoints.acked(&block(1, 0, 10, content(1)));
    checkpoints.acked(&block(1, 20, 30, content(3)));
    checkpoints.set_log_id([9; 16]);
    checkpoints.flush(Durability::Synced).unwrap();
    let instance_id = checkpoints.instance_id();
    drop(checkpoints);
    bench.disk.cut_power(Survivors::Nothing);
    bench.disk.restart();
    let checkpoints = bench.open();
    assert_eq!(checkpoints.recovery(), &Recovery::default());
    assert_eq!(
        (checkpoints.instance_id(), checkpoints.log_id()),
        (instance_id, Some([9; 16]))
    );
    let state = checkpoints.stream(&id(1)).unwrap();
    assert_eq!(
        (state.acked_upto, &state.resume, state.acked.covers(20..30)),
        (10, &content(1), true)
    );
    checkpoints.acked(&block(1, 10, 20, content(2)));
    let state = checkpoints.stream(&id(1)).unwrap();
    assert_eq!(
        (state.acked_upto, state.resume),
        (30, content(3)),
        "the resume of the range above was kept"
    );
    assert_eq!(checkpoints.streams().len(), 2);
}

#[test]
fn acks_are_written_after_five_seconds_and_synced_after_thirty_more() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    checkpoints.create(&[descriptor(1)]).unwrap();
    checkpoints.acked(&block(1, 0, 10, Resume::Nowhere));
    let (len, changes) = (bench.len(), bench.disk.changes());
    bench.clock.advance(Duration::from_millis(4_999));
    checkpoints.tick().unwrap();
    assert_eq!(bench.disk.changes(), changes);
    assert_eq!(checkpoints.due_in(), Some(Duration::from_millis(1)));
    bench.clock.advance(Duration::from_millis(1));
    checkpoints.tick().unwrap();
    assert!(bench.len() > len);
    assert_eq!(bench.disk.changes(), changes + 1, "written, not synced");
    bench.clock.advance(SYNC_INTERVAL);
    checkpoints.tick().unwrap();
    assert_eq!(bench.disk.changes(), changes + 2, "synced, nothing written");
    assert_eq!(checkpoints.due_in(), None);
}

#[test]
fn an_idle_agent_writes_nothing() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    checkpoints.create(&[descriptor(1)]).unwrap();
    checkpoints.acked(&block(1, 0, 10, Resume::Nowhere));
    checkpoints.flush(Durability::Synced).unwrap();
    let changes = bench.disk.changes();
    for _ in 0..1000 {
        bench.clock.advance(Duration::from_secs(60));
        checkpoints.acked(&block(1, 0, 10, Resume::Nowhere));
        checkpoints.set_log_id([0; 16]);
        if changes == bench.disk.changes() {
            checkpoints.flush(Durability::Synced).unwrap();
        }
        checkpoints.tick().unwrap();
    }
    // The log id alone, once.
    assert_eq!(bench.disk.changes(), changes + 2);
}

#[test]
fn many_streams_are_created_with_one_sync() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    let changes = bench.disk.changes();
    let many: Vec<StreamDescriptor> = (0..200).map(descriptor).collect();
    checkpoints.create(&many).unwrap();
    assert_eq!(bench.disk.changes(), changes + 2);
    checkpoints.create(&[]).unwrap();
    assert_eq!(bench.disk.changes(), changes + 2);
}

#[test]
fn creating_a_known_stream_renames_it_and_keeps_its_progress() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    checkpoints.create(&[descriptor(1)]).unwrap();
    checkpoints.acked(&block(1, 0, 10, Resume::Nowhere));
    let renamed = StreamDescriptor {
        name: "/var/log/1.1".into(),
        ..descriptor(1)
    };
    checkpoints.create(std::slice::from_ref(&renamed)).unwrap();
    let state = checkpoints.stream(&id(1)).unwrap();
    assert_eq!((state.acked_upto, state.descriptor), (10, renamed));
}

#[test]
fn an_ended_stream_is_forgotten_for_good() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    checkpoints.create(&[descriptor(1)]).unwrap();
    checkpoints.acked(&block(1, 0, 10, Resume::Nowhere));
    checkpoints.ended(&id(1));
    checkpoints.acked(&block(1, 10, 20, Resume::Nowhere));
    assert!(checkpoints.stream(&id(1)).is_none());
    checkpoints.flush(Durability::Synced).unwrap();
    drop(checkpoints);
    assert!(bench.open().streams().is_empty());
}

#[test]
fn streams_beyond_the_limit_are_refused_with_advice() {
    let state = State::default();
    let many: Vec<StreamDescriptor> = (0..=STREAMS_MAX)
        .map(|number| StreamDescriptor {
            stream_id: (number as u128).to_le_bytes().to_vec().into(),
            ..descriptor(1)
        })
        .collect();
    let error = state.plan_create(&many).unwrap_err();
    assert!(
        matches!(
            error,
            CheckpointError::TooManyStreams {
                limit: STREAMS_MAX,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("exclude files"));
}

#[test]
fn a_descriptor_that_cannot_be_kept_is_refused_and_nothing_is_created() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    let huge = StreamDescriptor {
        name: "x".repeat(20_000),
        ..descriptor(2)
    };
    let anonymous = StreamDescriptor {
        stream_id: bytes::Bytes::new(),
        ..descriptor(2)
    };
    for bad in [huge, anonymous] {
        assert!(matches!(
            checkpoints.create(&[descriptor(1), bad]),
            Err(CheckpointError::Descriptor { .. })
        ));
    }
    assert!(checkpoints.streams().is_empty());
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused() {
    let bench = Bench::new();
    let _first = bench.open();
    assert!(matches!(bench.try_open(), Err(CheckpointError::InUse { .. })));
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let bench = Bench::new();
    drop(bench.open());
    bench.disk.corrupt(file(), |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    let before = bench.disk.contents(file());
    assert!(matches!(
        bench.try_open(),
        Err(CheckpointError::NewerFormat { found: 2, .. })
    ));
    assert_eq!(bench.disk.contents(file()), before);
}

#[test]
fn epochs_grow_over_crashes_and_cost_one_sync_in_a_hundred() {
    let bench = Bench::new();
    let mut last = 0;
    for _ in 0..5 {
        let checkpoints = bench.open();
        let changes = bench.disk.changes();
        for _ in 0..100 {
            let epoch = checkpoints.next_epoch();
            assert!(epoch > last);
            last = epoch;
        }
        assert_eq!(bench.disk.changes(), changes + 2);
        drop(checkpoints);
        bench.disk.cut_power(Survivors::Nothing);
        bench.disk.restart();
    }
    assert!(last <= 500);
}

#[test]
fn on_another_machine_files_continue_as_new_streams_of_a_new_instance() {
    let mut bench = Bench::new();
    let checkpoints = bench.open();
    let volatile = StreamDescriptor {
        replayable: false,
        ..descriptor(2)
    };
    checkpoints.create(&[descriptor(1), volatile]).unwrap();
    checkpoints.acked(&block(1, 0, 10, content(5)));
    checkpoints.flush(Durability::Synced).unwrap();
    let old = checkpoints.instance_id();
    drop(checkpoints);
    bench.machine = MachineMark::of("another machine");
    let checkpoints = bench.open();
    assert!(checkpoints.recovery().cloned);
    assert_ne!(checkpoints.instance_id(), old);
    let [state] = &checkpoints.streams()[..] else {
        panic!("the volatile stream belongs to the other machine")
    };
    assert_ne!(state.descriptor.stream_id, id(1).to_proto());
    assert_eq!(
        (&state.descriptor.predecessor, state.descriptor.start),
        (&id(1).to_proto(), 10)
    );
    assert_eq!((state.acked_upto, &state.resume), (10, &content(5)));
    let new = checkpoints.instance_id();
    drop(checkpoints);
    let checkpoints = bench.open();
    assert!(!checkpoints.recovery().cloned);
    assert_eq!((checkpoints.instance_id(), checkpoints.streams().len()), (new, 1));
}

#[test]
fn a_machine_without_an_id_keeps_its_instance_and_adopts_one_later() {
    let mut bench = Bench::new();
    bench.machine = None;
    let instance_id = bench.open().instance_id();
    bench.machine = MachineMark::of("m");
    assert_eq!(bench.open().instance_id(), instance_id);
    bench.machine = None;
    assert_eq!(bench.open().instance_id(), instance_id);
    bench.machine = MachineMark::of("n");
    assert_ne!(bench.open().instance_id(), instance_id);
}

#[test]
fn the_file_stays_small_however_long_the_agent_runs() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    for round in 0..2000u64 {
        let number = u8::try_from(round % 200).unwrap();
        checkpoints.create(&[descriptor(number)]).unwrap();
        checkpoints.acked(&block(number, 0, round + 1, content(0)));
        checkpoints.flush(Durability::Written).unwrap();
        if round % 200 > 5 {
            checkpoints.ended(&id(number - 1));
        }
        assert!(bench.len() < 128 * 1024, "{} in round {round}", bench.len());
    }
    checkpoints.flush(Durability::Synced).unwrap();
    let expected = checkpoints.streams().len();
    drop(checkpoints);
    assert_eq!(bench.open().streams().len(), expected);
}

/// The bytes of version 1, for ever.
#[test]
fn golden_bytes() {
    let mut progress = Progress::new(0);
    progress.ack(0, 258, &content(0xdead_beef));
    progress.ack(512, 513, &Resume::Cursor("s=1".into()));
    let records = [
        Record::Instance {
            id: [1; 16],
            machine: [2; 16],
        },
        Record::Epoch(100),
        Record::LogId([3; 16]),
        Record::Created(Box::new(StreamDescriptor {
            name: "/a".into(),
            stream_id: id(4).to_proto(),
            ..Default::default()
        })),
        Record::Acked(id(4), progress),
        Record::Ended(id(4)),
        Record::LogReplaced(Some(REPLACED)),
        Record::Settled(id(4)),
    ];
    let mut bytes = format::header().to_vec();
    records.iter().for_each(|record| record.write_to(&mut bytes));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("golden_v1.hex").trim());
    assert_eq!(scan(&bytes).unwrap().records, records);
}

fn sample() -> (Vec<u8>, Vec<Record>) {
    let mut bytes = format::header().to_vec();
    let mut records = vec![
        Record::Instance {
            id: [1; 16],
            machine: [2; 16],
        },
        Record::Epoch(100),
    ];
    for number in 1..6u8 {
        let mut progress = Progress::new(0);
        progress.ack(0, 10, &content(7));
        progress.ack(20, 30 + u64::from(number), &Resume::Cursor("c".into()));
        records.push(Record::Created(Box::new(descriptor(number))));
        records.push(Record::Acked(id(number), progress));
    }
    records.iter().for_each(|record| record.write_to(&mut bytes));
    (bytes, records)
}

#[test]
fn cut_at_every_byte_the_whole_frames_before_are_read() {
    let (bytes, records) = sample();
    for len in 0..=bytes.len() {
        let found = scan(&bytes[..len]).unwrap();
        assert_eq!(found.records, records[..found.records.len()], "cut at {len}");
        if len >= format::HEADER_LEN {
            assert!(found.only_tail_damaged(), "cut at {len}");
        }
        assert!(found.good_len <= len as u64);
    }
}

#[test]
fn every_flipped_bit_costs_one_record_at_most() {
    let (bytes, records) = sample();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let found = scan(&damaged).unwrap();
        assert_eq!(found.damage.len(), 1, "bit {bit}");
        assert!(
            found.records.len() + 1 >= records.len(),
            "bit {bit}: {} records",
            found.records.len()
        );
        assert!(found.records.iter().all(|record| records.contains(record)));
    }
}

#[test]
fn damage_in_the_middle_is_stepped_over_reported_and_gone_afterwards() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    let many: Vec<StreamDescriptor> = (0..50).map(descriptor).collect();
    checkpoints.create(&many).unwrap();
    let (instance_id, epoch) = (checkpoints.instance_id(), checkpoints.next_epoch());
    drop(checkpoints);
    bench.disk.corrupt(file(), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 30].fill(0);
    });
    let checkpoints = bench.open();
    assert_eq!(checkpoints.recovery().damage.len(), 1);
    let left = checkpoints.streams().len();
    assert!((46..50).contains(&left), "{left}");
    assert_eq!(checkpoints.instance_id(), instance_id);
    assert!(checkpoints.next_epoch() > epoch);
    drop(checkpoints);
    let checkpoints = bench.open();
    assert_eq!(checkpoints.recovery(), &Recovery::default());
    assert_eq!(checkpoints.streams().len(), left);
}

#[test]
fn a_file_of_rubbish_starts_anew_without_anybodys_help() {
    for rubbish in [&b""[..], b"x", &[0; 5000], &[0xEC; 5000]] {
        let bench = Bench::new();
        drop(bench.open());
        bench.disk.corrupt(file(), |bytes| rubbish.clone_into(bytes));
        let checkpoints = bench.open();
        checkpoints.create(&[descriptor(1)]).unwrap();
        drop(checkpoints);
        assert_eq!(bench.open().streams().len(), 1);
    }
}

#[test]
fn a_bad_sector_costs_what_was_in_it() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    let many: Vec<StreamDescriptor> = (0..200).map(descriptor).collect();
    checkpoints.create(&many).unwrap();
    drop(checkpoints);
    // The first read is of the whole file; this one and its repetition in the sector fail.
    bench
        .disk
        .install(Fault::once(Operation::Read, 1, Effect::Error(Errno::IO)));
    bench
        .disk
        .install(Fault::once(Operation::Read, 2, Effect::Error(Errno::IO)));
    let checkpoints = bench.open();
    assert_eq!(checkpoints.recovery().damage.len(), 1);
    let left = checkpoints.streams().len();
    assert!((50..200).contains(&left), "{left}");
}

#[test]
fn after_a_failed_sync_the_file_is_written_anew_and_nothing_is_lost() {
    for (operation, errno) in [(Operation::Sync, Errno::IO), (Operation::Write, Errno::NOSPC)] {
        let bench = Bench::new();
        let checkpoints = bench.open();
        checkpoints.create(&[descriptor(1)]).unwrap();
        checkpoints.acked(&block(1, 0, 10, content(1)));
        checkpoints.flush(Durability::Written).unwrap();
        checkpoints.acked(&block(1, 10, 20, content(2)));
        bench
            .disk
            .install(Fault::once(operation, 1, Effect::Error(errno)));
        assert!(checkpoints.flush(Durability::Synced).is_err());
        assert!(checkpoints.trouble().is_some());
        assert_eq!(
            checkpoints.due_in(),
            Some(WRITE_INTERVAL),
            "it is tried again by itself"
        );
        bench.clock.advance(WRITE_INTERVAL);
        checkpoints.tick().unwrap();
        assert_eq!(checkpoints.trouble(), None);
        drop(checkpoints);
        bench.disk.cut_power(Survivors::Nothing);
        bench.disk.restart();
        let state = bench.open().stream(&id(1)).unwrap();
        assert_eq!((state.acked_upto, state.resume), (20, content(2)));
    }
}

#[test]
fn a_creation_that_failed_left_no_stream_and_can_be_repeated() {
    let bench = Bench::new();
    let checkpoints = bench.open();
    bench
        .disk
        .install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
    assert!(checkpoints.create(&[descriptor(1)]).is_err());
    assert!(checkpoints.stream(&id(1)).is_none());
    checkpoints.create(&[descriptor(1)]).unwrap();
    drop(checkpoints);
    bench.disk.cut_power(Survivors::Nothing);
    bench.disk.restart();
    assert!(bench.open().stream(&id(1)).is_some());
}

/// What a run believed to be durable.
#[derive(Default)]
struct Believed {
    created: Vec<u8>,
    ended: Vec<u8>,
    /// Acked and synced without a complaint.
    synced: BTreeMap<u8, u64>,
    /// Acked at all.
    acked: BTreeMap<u8, u64>,
    epoch: u64,
    instance_id: Option<[u8; 16]>,
}

/// A small life of an agent; whatever fails is taken as it comes.
fn run(bench: &Bench, believed: &mut Believed) {
    for life in 0..3u8 {
        let Ok(checkpoints) = bench.try_open() else { return };
        let known = *believed.instance_id.get_or_insert(checkpoints.instance_id());
        assert_eq!(known, checkpoints.instance_id(), "the agent became another one");
        let epoch = checkpoints.next_epoch();
        assert!(epoch > believed.epoch, "{epoch} after {}", believed.epoch);
        if !bench.disk.is_down() {
            // Otherwise there is nobody left to use it.
            believed.epoch = epoch;
        }
        for step in 0..4u8 {
            let number = life * 4 + step;
            if checkpoints.create(&[descriptor(number)]).is_ok() {
                believed.created.push(number);
            }
            for other in believed.created.clone() {
                let upto = checkpoints.acked_upto(&id(other)).unwrap_or(0);
                checkpoints.acked(&block(other, upto, upto + 10, content(u32::from(other))));
                if checkpoints.acked_upto(&id(other)).is_some() {
                    believed.acked.insert(other, upto + 10);
                }
            }
            bench.clock.advance(WRITE_INTERVAL);
            let _ = checkpoints.tick();
            if step == 2 && checkpoints.flush(Durability::Synced).is_ok() {
                believed.synced.clone_from(&believed.acked);
            }
            if step == 3 && believed.created.len() > 2 {
                let oldest = believed.created.remove(0);
                checkpoints.ended(&id(oldest));
                believed.ended.push(oldest);
            }
        }
    }
}

fn check_after(bench: &Bench, believed: &Believed, what: &str) {
    bench.disk.restart();
    let checkpoints = bench.open();
    if let Some(instance_id) = believed.instance_id {
        assert_eq!(checkpoints.instance_id(), instance_id, "{what}");
    }
    for number in &believed.created {
        let state = checkpoints.stream(&id(*number));
        let state = state.unwrap_or_else(|| panic!("{what}: stream {number} is gone"));
        let synced = believed.synced.get(number).copied().unwrap_or(0);
        let acked = believed.acked.get(number).copied().unwrap_or(0);
        assert!(
            (synced..=acked).contains(&state.acked_upto),
            "{what}: {number} at {}",
            state.acked_upto
        );
        if state.acked_upto > 0 {
            assert_eq!(state.resume, content(u32::from(*number)), "{what}");
        }
    }
    assert!(
        checkpoints.next_epoch() > believed.epoch,
        "{what}: an epoch was used twice"
    );
    checkpoints.create(&[descriptor(99)]).unwrap();
}

#[test]
fn killed_or_without_power_at_every_change_what_was_promised_is_there() {
    let total = {
        let bench = Bench::new();
        run(&bench, &mut Believed::default());
        bench.disk.changes()
    };
    assert!(total > 40, "{total}");
    for effect in [
        Effect::Kill,
        Effect::PowerCut(Survivors::Nothing),
        Effect::PowerCut(Survivors::Some),
    ] {
        for nth in 1..=total {
            let (bench, mut believed) = (Bench::new(), Believed::default());
            bench.disk.install(Fault::once(Operation::AnyChange, nth, effect));
            run(&bench, &mut believed);
            check_after(&bench, &believed, &format!("{effect:?} at change {nth}"));
        }
    }
}

#[test]
fn a_disk_that_fails_at_any_change_once_or_for_ever_loses_nothing_that_was_promised() {
    for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS] {
        for effect in [Effect::Error(errno), Effect::PartThenError(errno)] {
            for nth in 1..=60 {
                for lasting in [false, true] {
                    let (bench, mut believed) = (Bench::new(), Believed::default());
                    bench.disk.install(Fault {
                        operation: Operation::AnyChange,
                        nth,
                        lasting,
                        effect,
                    });
                    // Epochs that could not be made durable are told; here only the rest is checked.
                    run_without_epochs(&bench, &mut believed);
                    bench.disk.cut_power(Survivors::Some);
                    check_after(
                        &bench,
                        &believed,
                        &format!("{effect:?} at change {nth}, lasting {lasting}"),
                    );
                }
            }
        }
    }
}

#[test]
fn what_the_next_life_promises_outlives_a_power_cut_wherever_the_one_before_ended() {
    let errno = Errno::IO;
    for effect in [Effect::Kill, Effect::Error(errno), Effect::PartThenError(errno)] {
        for nth in 1..=60 {
            let (bench, mut believed) = (Bench::new(), Believed::default());
            bench.disk.install(Fault::from(Operation::AnyChange, nth, effect));
            run_without_epochs(&bench, &mut believed);
            bench.disk.restart();
            let checkpoints = bench.open();
            believed.instance_id.get_or_insert(checkpoints.instance_id());
            checkpoints.create(&[descriptor(50)]).unwrap();
            believed.created.push(50);
            bench.disk.cut_power(Survivors::Nothing);
            check_after(&bench, &believed, &format!("{effect:?} at change {nth}"));
        }
    }
}

fn run_without_epochs(bench: &Bench, believed: &mut Believed) {
    let Ok(checkpoints) = bench.try_open() else { return };
    believed.instance_id = Some(checkpoints.instance_id());
    for number in 0..6u8 {
        if checkpoints.create(&[descriptor(number)]).is_ok() {
            believed.created.push(number);
        }
        for other in believed.created.clone() {
            let upto = checkpoints.acked_upto(&id(other)).unwrap();
            checkpoints.acked(&block(other, upto, upto + 10, content(u32::from(other))));
            believed.acked.insert(other, upto + 10);
        }
        bench.clock.advance(WRITE_INTERVAL);
        let _ = checkpoints.tick();
        if checkpoints.flush(Durability::Synced).is_ok() {
            believed.synced.clone_from(&believed.acked);
        }
    }
}

#[derive(Debug, Default)]
struct Naive(BTreeMap<u64, (u64, u64)>);

proptest! {
    #[test]
    fn progress_is_what_a_naive_set_of_positions_says(
        start in 0u64..20,
        acks in proptest::collection::vec((0u64..100, 1u64..30), 0..60),
    ) {
        let mut progress = Progress::new(start);
        // Position to the end of the range that covered it furthest.
        let mut naive = Naive::default();
        let mut positions = std::collections::BTreeSet::new();
        for (from, len) in acks {
            let to = from + len;
            progress.ack(from, to, &Resume::Cursor(to.to_string()));
            positions.extend(from.max(start)..to);
            naive.0.insert(from, (to, to));
        }
        let mut upto = start;
        while positions.contains(&upto) { upto += 1; }
        prop_assert_eq!(progress.upto, upto);
        if upto > start {
            prop_assert_eq!(&progress.resume, &Resume::Cursor(upto.to_string()));
        }
        let found: std::collections::BTreeSet<u64> = progress.ranges(start).flatten().collect();
        prop_assert_eq!(found, positions);
        for (end, resume) in progress.above.values() {
            prop_assert_eq!(resume, &Resume::Cursor(end.to_string()));
        }
    }

    #[test]
    fn ranges_above_are_bounded_and_what_is_kept_is_true(
        acks in proptest::collection::vec(0u64..1000, 0..400),
    ) {
        let mut progress = Progress::new(0);
        let mut positions = std::collections::BTreeSet::new();
        for at in acks {
            progress.ack(at * 2, at * 2 + 1, &Resume::Nowhere);
            positions.insert(at * 2);
            prop_assert!(progress.above.len() <= RANGES_ABOVE_MAX);
        }
        for position in progress.ranges(0).flatten() {
            prop_assert!(positions.contains(&position));
        }
    }

    #[test]
    fn rubbish_never_panics_and_never_reads_as_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(found) = scan(&bytes) {
            prop_assert!(found.records.is_empty());
        }
        for kind in 0..8 {
            let _ = Record::read(kind, &bytes);
        }
    }

    #[test]
    fn records_survive_their_bytes(
        upto in any::<u64>(), starts in proptest::collection::vec((0u64..1 << 40, 1u64..1000), 0..80), len in 0usize..1024,
    ) {
        let mut progress = Progress::new(upto);
        for (start, size) in starts {
            progress.ack(start, start + size, &Resume::Cursor("x".repeat(len)));
        }
        let record = Record::Acked(id(1), progress.clone());
        let mut bytes = format::header().to_vec();
        record.write_to(&mut bytes);
        let found = scan(&bytes).unwrap();
        let [Record::Acked(_, read)] = &found.records[..] else { panic!("{found:?}") };
        prop_assert_eq!((read.upto, &read.resume), (progress.upto, &progress.resume));
        // Where cursors are huge the highest ranges are left out: they are sent again.
        prop_assert!(read.above.iter().all(|(start, end)| progress.above.get(start) == Some(end)));
        prop_assert!(read.above.len() == progress.above.len() || len > 500);
    }
}

fn file_descriptor(number: u8) -> StreamDescriptor {
    StreamDescriptor {
        kind: v1::SourceKind::File.into(),
        ..descriptor(number)
    }
}

fn names(checkpoints: &Checkpoints) -> Vec<String> {
    let left = checkpoints.unsettled().into_iter();
    left.map(|state| state.descriptor.name).collect()
}

const REPLACED: LogReplaced = LogReplaced {
    known: [1; 16],
    found: [2; 16],
};

/// 1 and 2 are acknowledged by the log of before, 3 by that of now, 4 is made behind the change, 5 is no file.
fn replaced(bench: &Bench) -> Arc<Checkpoints> {
    let checkpoints = bench.open();
    let files = [1, 2, 3].map(file_descriptor);
    checkpoints.create(&files).unwrap();
    checkpoints.create(&[descriptor(5)]).unwrap();
    for number in [1, 2, 5] {
        checkpoints.acked(&block(number, 0, 9, content(1)));
    }
    checkpoints.set_log_replaced(Some(REPLACED));
    checkpoints.acked(&block(3, 0, 9, content(1)));
    checkpoints.flush(Durability::Synced).unwrap();
    checkpoints.create(&[file_descriptor(4)]).unwrap();
    checkpoints.acked(&block(4, 0, 9, content(1)));
    checkpoints.flush(Durability::Synced).unwrap();
    checkpoints
}

#[test]
fn which_files_a_replaced_log_leaves_undecided_is_known_after_a_restart() {
    let bench = Bench::new();
    let checkpoints = replaced(&bench);
    assert_eq!(names(&checkpoints), ["/var/log/1", "/var/log/2"]);
    drop(checkpoints);
    bench.disk.restart();
    let checkpoints = bench.open();
    assert_eq!(names(&checkpoints), ["/var/log/1", "/var/log/2"]);
    checkpoints.settle(&id(1));
    checkpoints.settle(&id(9));
    checkpoints.flush(Durability::Synced).unwrap();
    drop(checkpoints);
    bench.disk.restart();
    let checkpoints = bench.open();
    assert_eq!(names(&checkpoints), ["/var/log/2"]);
    checkpoints.ended(&id(2));
    assert!(names(&checkpoints).is_empty());
    assert!(checkpoints.log_replaced().is_some(), "somebody has to say so");
}

#[test]
fn which_files_are_undecided_survives_a_rewriting_of_the_file() {
    let bench = Bench::new();
    let checkpoints = replaced(&bench);
    checkpoints.settle(&id(1));
    // The next write fails, and a new file is written from memory.
    bench
        .disk
        .install(Fault::once(Operation::AnyChange, 1, Effect::Error(Errno::IO)));
    assert!(checkpoints.flush(Durability::Synced).is_err());
    bench.disk.clear_faults();
    checkpoints.flush(Durability::Synced).unwrap();
    assert_eq!(names(&checkpoints), ["/var/log/2"]);
    drop(checkpoints);
    bench.disk.restart();
    assert_eq!(names(&bench.open()), ["/var/log/2"]);
}

#[test]
fn a_third_log_makes_all_undecided_again_and_the_former_one_none() {
    let bench = Bench::new();
    let checkpoints = replaced(&bench);
    checkpoints.settle(&id(1));
    let third = LogReplaced {
        found: [3; 16],
        ..REPLACED
    };
    checkpoints.set_log_replaced(Some(third));
    let all = ["/var/log/1", "/var/log/2", "/var/log/3", "/var/log/4"];
    assert_eq!(names(&checkpoints), all);
    checkpoints.flush(Durability::Synced).unwrap();
    drop(checkpoints);
    bench.disk.restart();
    let checkpoints = bench.open();
    assert_eq!(names(&checkpoints), all);
    checkpoints.set_log_replaced(None);
    assert!(names(&checkpoints).is_empty());
}

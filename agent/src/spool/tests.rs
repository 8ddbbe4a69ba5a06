//! The spool on a disk that fails, with a line that comes and goes and processes that are killed: every position is
//! delivered, or told as lost.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use edgelogger_common::block::batch::{BatchLimits, validate};
use edgelogger_common::block::{Block, BlockView, MetricBlockBuilder, MetricRow, ReceiptReason};
use edgelogger_common::clock::ManualClock;
use edgelogger_common::codec::Decompressor;
use edgelogger_common::disk::{Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_common::size::ByteSize;
use edgelogger_proto::v1::{self, Lane, PositionUnit, SourceKind, StreamDescriptor, StreamEndReason};
use proptest::prelude::*;
use rustix::io::Errno;

use super::thread::DiskThread;
use super::*;
use crate::batcher::Collected;
use crate::encoder::Encoder;
use crate::flow::{Resume, SourceBlock, SourceEvent};
use crate::ring::{RingLimits, SourceHandle};
use crate::tally::Settled;

const STATE_DIR: &str = "/state";
const SAMPLES: u64 = 10;

/// What the collector has of one position. What came first stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Record,
    Receipt(ReceiptReason),
}

#[derive(Debug, Default)]
struct Collector {
    positions: HashMap<(StreamId, u64), What>,
    ends: HashMap<StreamId, StreamClose>,
}

impl Collector {
    fn take(&mut self, batch: &EncodedBatch) {
        let wire = v1::Batch {
            codec: batch.codec.into(),
            decompressed_len: batch.decompressed_len,
            block_count: u32::try_from(batch.blocks.len()).unwrap(),
            record_count: batch.record_count,
            sha256: batch.sha256.to_vec().into(),
            payload: batch.payload.clone(),
            ..v1::Batch::default()
        };
        for block in validate(&wire, &BatchLimits::default(), &mut Decompressor::new()).unwrap() {
            let what = match block.view().unwrap() {
                BlockView::Metric(_) => What::Record,
                _ => What::Receipt(block.receipts().unwrap()[0].reason),
            };
            for position in block.header.range() {
                self.positions
                    .entry((block.header.stream_id, position))
                    .or_insert(what);
            }
        }
    }

    fn count(&self, what: impl Fn(What) -> bool) -> usize {
        self.positions.values().filter(|is| what(**is)).count()
    }
}

/// What outlives a process.
struct World {
    disk: FaultDisk,
    clock: Arc<ManualClock>,
    collector: Collector,
    config: SpoolConfig,
    policy: SpoolPolicy,
}

/// One run of an agent, without threads.
struct Process {
    spool: Spool,
    thread: DiskThread,
    checkpoints: Arc<Checkpoints>,
    ring: Ring,
    source: SourceHandle,
    encoder: Encoder,
    stream: StreamId,
    position: u64,
    /// In the batcher: what came when.
    collected: VecDeque<(Duration, SourceBlock)>,
    /// Handed to the transport.
    line: VecDeque<EncodedBatch>,
    ends: Vec<StreamClose>,
    line_is_up: bool,
}

impl World {
    fn new() -> Self {
        Self {
            disk: FaultDisk::new(7),
            clock: Arc::new(ManualClock::at(1_800_000_000_000_000_000)),
            collector: Collector::default(),
            config: SpoolConfig::default(),
            policy: SpoolPolicy::DropOldest,
        }
    }

    fn with_bytes_max(bytes_max: ByteSize, policy: SpoolPolicy) -> Self {
        let mut world = Self::new();
        (world.config.bytes_max, world.policy) = (Some(bytes_max), policy);
        world
    }

    fn start(&self) -> Process {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let checkpoints =
            Checkpoints::open_on(Arc::clone(&disk), Path::new(STATE_DIR), self.clock.clone(), None).unwrap();
        let ring = Ring::new(RingLimits::default());
        let batches = BatchesInFlight::new(ring.clone());
        let (spool, mut thread) = Spool::assemble(Parts {
            disk,
            state_dir: PathBuf::from(STATE_DIR),
            config: self.config.clone(),
            clock: self.clock.clone(),
            checkpoints: Arc::clone(&checkpoints),
            ring: ring.clone(),
            batches: batches.clone(),
        });
        thread.begin();
        let source = ring.volatile_source("test", 1 << 20);
        let stream = StreamId::random();
        let descriptor = StreamDescriptor {
            stream_id: stream.to_proto(),
            kind: SourceKind::HostMetrics.into(),
            unit: PositionUnit::Record.into(),
            ..StreamDescriptor::default()
        };
        // A disk that refuses keeps a source from beginning, not the spool from working.
        let _ = checkpoints.create(&[descriptor]);
        Process {
            encoder: Encoder::new("zstd:1".parse().unwrap(), batches, ring.tally()),
            spool,
            thread,
            checkpoints,
            ring,
            source,
            stream,
            position: 0,
            collected: VecDeque::new(),
            line: VecDeque::new(),
            ends: Vec::new(),
            line_is_up: false,
        }
    }

    fn advance(&self, process: &mut Process, by: Duration) {
        self.clock.advance(by);
        process.turn(self.policy, self.clock.monotonic());
    }

    /// Everything that is on the line is acked, and what follows it, until nothing does.
    fn heal(&mut self, process: &mut Process) {
        process.line_is_up = true;
        for _ in 0..10_000 {
            self.advance(process, Duration::from_millis(100));
            process.turn(self.policy, self.clock.monotonic());
            self.deliver(process, usize::MAX);
            if process.spool.is_empty() && process.ends.is_empty() && !process.spool.has_next() {
                return;
            }
        }
        panic!("it never healed: {:?}", process.spool.status());
    }

    fn deliver(&mut self, process: &mut Process, count: usize) {
        for _ in 0..count {
            let Some(batch) = process.line.pop_front() else {
                break;
            };
            self.collector.take(&batch);
            for block in &batch.blocks {
                process.ring.tally().settled(block, Settled::Acked);
                process.checkpoints.acked(block);
                process.spool.acked(block);
            }
        }
        if process.line.is_empty() {
            for close in process.ends.drain(..) {
                process.checkpoints.ended(&close.stream_id);
                process.spool.ended(&close.stream_id);
                self.collector.ends.insert(close.stream_id, close);
            }
        }
        process.work();
    }

    /// The process is gone, and with it what it had in memory.
    fn crash(&self, process: Process, cut_power: bool) {
        if cut_power {
            self.disk.cut_power(Survivors::Some);
        } else {
            self.disk.kill();
        }
        drop(process);
        self.disk.restart();
    }

    fn bytes_on_disk(&self) -> u64 {
        let dir = Path::new(STATE_DIR).join(SPOOL_DIR);
        let names = self.disk.list_files(&dir).unwrap_or_default();
        let segments = names.iter().filter(|name| name.ends_with(".seg"));
        segments
            .map(|name| self.disk.file_len(&dir.join(name)).unwrap())
            .sum()
    }

    /// Each position below the end of each stream is a record or a receipt.
    fn expect_whole(&self) {
        for (stream, close) in &self.collector.ends {
            for position in 0..close.size {
                assert!(
                    self.collector.positions.contains_key(&(*stream, position)),
                    "position {position} of {stream} is nowhere; it ends at {close:?}"
                );
            }
        }
    }
}

impl Process {
    fn measure(&mut self, world: &World) {
        let mut builder = MetricBlockBuilder::new(self.stream, self.position);
        for at in 0..SAMPLES {
            builder.push(MetricRow {
                name: format!("metric {}", at + self.position),
                value: Some(1.0),
                source_len: 1,
                ..MetricRow::default()
            });
        }
        let block = builder.finish().unwrap();
        self.position = block.header.end;
        self.take(block, Lane::Live, world.clock.monotonic());
        self.turn(world.policy, world.clock.monotonic());
    }

    fn take(&mut self, block: Block, lane: Lane, now: Duration) {
        let event = SourceEvent::Block(SourceBlock {
            credit: self.source.acquire(block.encoded_len()).unwrap(),
            block,
            lane,
            replayable: false,
            resume: Resume::Nowhere,
        });
        self.source.push(event).unwrap();
        self.collect(now);
    }

    fn collect(&mut self, now: Duration) {
        while let Some(event) = self.ring.try_pop() {
            match event {
                SourceEvent::Block(block) => self.collected.push_back((now, block)),
                SourceEvent::End(close) => self.ends.extend(self.spool.end(close)),
                SourceEvent::Open(_) => {}
            }
        }
    }

    /// As the encoder's thread does it.
    fn turn(&mut self, policy: SpoolPolicy, now: Duration) {
        self.collect(now);
        while let Some((since, _)) = self.collected.front() {
            let is_due = now >= *since + SPOOL_AFTER && self.spool.takes(policy);
            if !self.line_is_up && !is_due {
                break;
            }
            let (since, block) = self.collected.pop_front().unwrap();
            let held = self.hold(block, since, policy);
            if self.line_is_up {
                self.line.push_back(held.batch.clone());
                self.spool.sent(held);
            } else {
                self.spool.put(held);
            }
        }
        self.work();
        while self.line_is_up {
            self.ends.extend(self.spool.next_end());
            let Some(batch) = self.spool.next() else { break };
            assert_eq!(batch.lane, Lane::Backfill);
            self.line.push_back(batch);
            self.work();
        }
        self.ends.extend(self.spool.next_end());
    }

    fn hold(&mut self, block: SourceBlock, since: Duration, policy: SpoolPolicy) -> Held {
        let notes = Box::new([BlockNote::of(&block.block)]);
        let is_receipt = block.block.header.record_count == 0;
        let collected = Collected {
            lane: block.lane,
            replayable: false,
            blocks: vec![block],
        };
        Held {
            batch: self.encoder.encode(collected).unwrap(),
            notes,
            policy: (!is_receipt).then_some(policy),
            since,
        }
    }

    fn work(&mut self) {
        for _ in 0..10_000 {
            let Some(work) = self.thread.work_now() else {
                return;
            };
            self.thread.do_it(work);
        }
        panic!("it never comes to rest");
    }

    fn stop(mut self) {
        let (since, policy) = (Duration::ZERO, SpoolPolicy::DropOldest);
        while let Some((_, block)) = self.collected.pop_front() {
            let held = self.hold(block, since, policy);
            self.spool.put(held);
        }
        let _ = self.spool.end(StreamClose {
            stream_id: self.stream,
            size: self.position,
            exact: true,
            reason: StreamEndReason::ProcessRestarted,
        });
        self.spool.0.state.lock().stop();
        self.work();
        // Where the disk fails, acks are forgotten and data is sent twice.
        let _ = self.checkpoints.flush(crate::checkpoint::Durability::Synced);
    }

    fn residual(&self) -> (i64, u64) {
        let positions = self.ring.tally().accounts().positions;
        (positions.residual(), positions.in_flight)
    }
}

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
    assert!(!process.spool.status().troubles.is_empty());
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
        assert!(!process.spool.status().troubles.is_empty());
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
    assert!(status.troubles[0].contains("E0401"), "{status:?}");
    assert!(
        status.batches_in_memory > 0 && status.records_dropped == 0,
        "{status:?}"
    );
    world.disk.clear_faults();
    world.advance(&mut process, Duration::from_secs(70));
    world.advance(&mut process, Duration::from_secs(5));
    let status = process.spool.status();
    assert!(
        status.troubles.is_empty() && status.batches_in_memory == 0,
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
    assert!(status.troubles[0].contains("E0401"), "{status:?}");
    let positions = process.position;
    world.heal(&mut process);
    assert_eq!(world.collector.positions.len() as u64, positions);
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

proptest! {
    #[test]
    fn whatever_happens_every_position_is_delivered_or_told(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        let mut process = world.start();
        let mut streams = vec![process.stream];
        for step in steps {
            match step {
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
                Step::Fail(nth) => world.disk.install(Fault::once(Operation::AnyChange, nth, Effect::Error(Errno::IO))),
            }
            prop_assert_eq!(process.residual().0, 0);
        }
        world.crash(process, true);
        let mut process = world.start();
        world.heal(&mut process);
        world.expect_whole();
        for stream in &streams {
            prop_assert!(world.collector.ends.contains_key(stream), "{} never ended", stream);
        }
        prop_assert_eq!(process.residual(), (0, 0));
    }
}

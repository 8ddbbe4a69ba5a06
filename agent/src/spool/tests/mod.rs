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
                BlockView::Metric(_) | BlockView::Log(_) => What::Record,
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
    /// In the batcher too, behind all blocks of their streams.
    closes: Vec<StreamClose>,
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
        self.start_on(Arc::new(self.disk.clone()))
    }

    fn start_on(&self, disk: Arc<dyn Disk>) -> Process {
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
            codec: "zstd:1".parse().unwrap(),
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
            closes: Vec::new(),
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
                SourceEvent::End(close) => self.closes.push(close),
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
        if self.line_is_up {
            let closes = std::mem::take(&mut self.closes).into_iter();
            self.ends.extend(closes.filter_map(|close| self.spool.end(close)));
        }
        while self.line_is_up {
            self.ends.extend(self.spool.next_end());
            let Some(batch) = self.spool.next() else { break };
            assert_eq!(batch.lane, Lane::Backfill);
            self.line.push_back(batch);
            self.work();
        }
        if self.line_is_up {
            self.ends.extend(self.spool.next_end());
        }
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
            of_file: None,
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
        self.closes.push(StreamClose {
            stream_id: self.stream,
            size: self.position,
            exact: true,
            reason: StreamEndReason::ProcessRestarted,
        });
        for close in self.closes.drain(..) {
            // Kept for the next start.
            let _ = self.spool.end(close);
        }
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

mod bounds;
mod faults;
mod files;
mod hung;
mod life;

//! Files that are deleted while the collector is away, with `spool_before_loss`: a source, a batcher, a spool on a disk
//! that can be made to fail, a line that comes and goes, and processes that stop or are killed.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use edgelogger_common::block::batch::{BatchLimits, validate};
use edgelogger_common::clock::Clock;
use edgelogger_common::codec::Decompressor;
use edgelogger_common::disk::{Disk, Effect, Fault, FaultDisk, Operation};
use edgelogger_common::size::ByteSize;
use edgelogger_proto::v1;
use proptest::prelude::*;
use rustix::io::Errno;

use super::super::archive::Format;
use super::super::archive::tests::compress;
use super::property::cases;
use super::*;
use crate::batcher::{Action, Batcher, BatcherSettings, Collected};
use crate::encoder::{BatchesInFlight, Encoder};
use crate::flow::EncodedBatch;
use crate::spool::{BlockNote, ByHand, Held, Parts, Room, SPOOL_AFTER, Spool, SpoolConfig};
use crate::tally::Settled;

const STATE_DIR: &str = "/state";
/// What is handed to the line in a batch before compression: as in `pipeline::encode`.
const GONE_BYTES_MAX: usize = 256 << 10;

/// What the collector has of one stream.
#[derive(Debug, Default)]
struct Stored {
    /// By position; what came first stays.
    rows: BTreeMap<u64, String>,
    ranges: RangeSet,
    receipts: Vec<(u64, u64, ReceiptReason)>,
    end: Option<StreamClose>,
}

/// What outlives a process.
struct Machine {
    logs: tempfile::TempDir,
    disk: FaultDisk,
    clock: Arc<ManualClock>,
    config: FileSourceConfig,
    spool: SpoolConfig,
    limits: RingLimits,
    stored: HashMap<StreamId, Stored>,
    /// Lines that were written.
    written: usize,
    line_is_up: bool,
    process: Option<Process>,
}

struct Process {
    source: FileSource,
    number: u32,
    ring: Ring,
    checkpoints: Arc<Checkpoints>,
    spool: Spool,
    disk: ByHand,
    batcher: Batcher,
    encoder: Encoder,
    /// Handed to the transport.
    line: VecDeque<EncodedBatch>,
    ends: Vec<StreamClose>,
}

impl Machine {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut FileSourceConfig)) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let mut config = FileSourceConfig::new(vec![format!("{}/*.log", logs.path().display())]);
        config.spool_before_loss = true;
        change(&mut config);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            logs,
            disk: FaultDisk::new(7),
            clock: Arc::new(ManualClock::at(i64::try_from(now.as_nanos()).unwrap())),
            config,
            spool: SpoolConfig::default(),
            limits: RingLimits {
                slots: 64,
                bytes: 512 << 10,
            },
            stored: HashMap::new(),
            written: 0,
            line_is_up: true,
            process: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.logs.path().join(name)
    }

    /// Lines that compress badly, each with its number.
    fn append(&mut self, name: &str, lines: usize) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        let mut text = String::new();
        for _ in 0..lines {
            let noise = (self.written as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            text.push_str(&format!(
                "line {:08} {noise:016x} {:016x}\n",
                self.written,
                noise.rotate_left(29) ^ noise
            ));
            self.written += 1;
        }
        file.write_all(text.as_bytes()).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn start(&mut self) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let clock = || Arc::clone(&self.clock) as Arc<dyn Clock>;
        let checkpoints =
            Checkpoints::open_on(Arc::clone(&disk), Path::new(STATE_DIR), clock(), None).unwrap();
        let ring = Ring::new(self.limits);
        let batches = BatchesInFlight::new(ring.clone());
        let codec = "zstd:1".parse().unwrap();
        let (spool, by_hand) = Spool::by_hand(Parts {
            disk,
            state_dir: PathBuf::from(STATE_DIR),
            config: self.spool.clone(),
            clock: clock(),
            checkpoints: Arc::clone(&checkpoints),
            ring: ring.clone(),
            batches: batches.clone(),
            codec,
        });
        let handle = ring.source("files", self.limits.bytes / 2);
        let number = handle.number();
        let mut source = FileSource::new(
            self.config.clone(),
            handle,
            Arc::clone(&checkpoints),
            clock(),
            &[],
        )
        .unwrap();
        source.keep_in(spool.clone());
        self.process = Some(Process {
            source,
            number,
            encoder: Encoder::new(codec, batches, ring.tally()),
            ring,
            checkpoints,
            spool,
            disk: by_hand,
            batcher: Batcher::new(BatcherSettings::default()),
            line: VecDeque::new(),
            ends: Vec::new(),
        });
        self.settle();
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// One turn of all threads.
    fn turn(&mut self) -> bool {
        let (now, line_is_up) = (self.clock.monotonic(), self.line_is_up);
        self.process().turn(now, line_is_up)
    }

    /// Lets everything happen that can happen now.
    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..100_000 {
            idle = if self.turn() { 0 } else { idle + 1 };
            if idle == 3 {
                let residual = self.process().ring.tally().accounts().positions.residual();
                assert_eq!(residual, 0, "the account balances");
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.settle();
    }

    /// The collector acks so many batches, and ends where nothing else is under way.
    fn deliver(&mut self, batches: usize) {
        let process = self.process.as_mut().unwrap();
        for _ in 0..batches {
            let Some(batch) = process.line.pop_front() else {
                break;
            };
            store(&mut self.stored, &batch);
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
                let stored = self.stored.entry(close.stream_id).or_default();
                let missing: Vec<_> = stored.ranges.missing_in(0..close.size).collect();
                assert!(missing.is_empty(), "{close:?} comes before {missing:?}");
                stored.end = Some(close);
            }
        }
        self.settle();
    }

    fn deliver_all(&mut self) {
        self.line_is_up = true;
        for _ in 0..40 {
            self.deliver(usize::MAX);
            self.pass(Duration::from_secs(2));
        }
        let process = self.process();
        assert!(
            process.line.is_empty() && process.spool.is_empty(),
            "{:?}",
            process.spool.status()
        );
    }

    /// SIGTERM; the transport gives up at once.
    fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.ring.stop();
        process.source.rescue_at_stop();
        process.disk.work();
        process.collect();
        let gone = process.spool.gone_streams();
        while process.spool.room(GONE_BYTES_MAX) == Room::Yes && process.keep_one_gone(&gone, Duration::MAX) {
        }
        while let Some((since, collected)) = process.batcher.take_gone(&gone, Duration::MAX, GONE_BYTES_MAX) {
            let held = process.hold(collected, since);
            process.spool.lose_files(held);
        }
        for close in process.batcher.take_ends() {
            let _ = process.spool.end(close);
        }
        process.disk.finish();
        process.checkpoints.flush(Durability::Synced).unwrap();
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.disk.kill();
        self.process = None;
        self.disk.restart();
    }

    /// Streams that the spool holds something of.
    fn spooled(&mut self) -> HashMap<StreamId, u64> {
        self.process().spool.ends()
    }

    fn bytes_written(&mut self) -> u64 {
        self.process().spool.status().bytes_written
    }

    fn expect_every_line_once(&self) {
        let rows = self.stored.values().flat_map(|stored| stored.rows.values());
        let mut times = vec![0; self.written];
        rows.for_each(|line| times[line[5..13].parse::<usize>().unwrap()] += 1);
        let wrong: Vec<(usize, i32)> = times
            .into_iter()
            .enumerate()
            .filter(|(_, times)| *times != 1)
            .collect();
        assert!(
            wrong.is_empty(),
            "{} lines are not there once, first {:?}, last {:?}; {:?}",
            wrong.len(),
            wrong.first(),
            wrong.last(),
            self.receipts()
        );
    }

    fn receipts(&self) -> Vec<(u64, u64, ReceiptReason)> {
        self.stored
            .values()
            .flat_map(|stored| stored.receipts.clone())
            .collect()
    }

    fn ends(&self) -> Vec<(StreamEndReason, u64, bool)> {
        let ends = self.stored.values().filter_map(|stored| stored.end.as_ref());
        ends.map(|end| (end.reason, end.size, end.exact)).collect()
    }
}

impl Process {
    /// As the threads of the source, the encoder and the spool do it. `true`: something happened.
    fn turn(&mut self, now: Duration, line_is_up: bool) -> bool {
        let mut is_busy = self.source.step().unwrap().is_zero();
        is_busy |= self.collect_at(now);
        if line_is_up {
            while let Some(action) = self.batcher.next(now, 0) {
                is_busy = true;
                self.send(action, now);
            }
            while let Some(batch) = self.spool.next() {
                is_busy = true;
                self.line.push_back(batch);
                self.disk.work();
            }
            self.ends.extend(self.spool.next_end());
        }
        if let Some(until) = now.checked_sub(SPOOL_AFTER) {
            let gone = self.spool.gone_streams();
            while self.spool.room(GONE_BYTES_MAX) == Room::Yes && self.keep_one_gone(&gone, until) {}
        }
        self.disk.work();
        is_busy
    }

    fn collect(&mut self) {
        self.collect_at(Duration::ZERO);
    }

    fn collect_at(&mut self, now: Duration) -> bool {
        let mut came = false;
        while self.batcher.wants_more()
            && let Some(event) = self.ring.try_pop()
        {
            came = true;
            self.batcher.push(event, now);
        }
        came
    }

    fn send(&mut self, action: Action, now: Duration) {
        match action {
            Action::Open(_) => {}
            Action::End(close) => self.ends.extend(self.spool.end(close)),
            Action::Batch(collected) => {
                let held = self.hold(collected, now);
                self.line.push_back(held.batch.clone());
                self.spool.sent_files(held);
            }
        }
    }

    fn keep_one_gone(&mut self, gone: &std::collections::HashSet<StreamId>, until: Duration) -> bool {
        let Some((since, collected)) = self.batcher.take_gone(gone, until, GONE_BYTES_MAX) else {
            return false;
        };
        let held = self.hold(collected, since);
        self.spool.put_files(held);
        self.disk.work();
        true
    }

    fn hold(&mut self, collected: Collected, since: Duration) -> Held {
        let ours = collected
            .blocks
            .iter()
            .filter(|block| block.credit.source_number() == self.number);
        Held {
            notes: ours
                .map(|block| BlockNote::of(&block.block).resuming(&block.resume))
                .collect(),
            batch: self.encoder.encode(collected).unwrap(),
            policy: None,
            since,
            of_file: None,
        }
    }
}

fn store(stored: &mut HashMap<StreamId, Stored>, batch: &EncodedBatch) {
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
        let header = block.header.clone();
        let stored = stored.entry(header.stream_id).or_default();
        let end = stored.end.as_ref().filter(|end| end.exact);
        assert!(end.is_none_or(|end| header.end <= end.size), "behind the end");
        match block.view().unwrap() {
            BlockView::Log(view) => {
                let mut position = header.start;
                for row in view.rows() {
                    let line = String::from_utf8(row.body).unwrap();
                    if !stored.ranges.contains(position) {
                        stored.rows.insert(position, line);
                    } else if let Some(before) = stored.rows.get(&position) {
                        assert_eq!(*before, line, "an address names one content");
                    }
                    position += row.source_len;
                }
            }
            _ => {
                let receipt = block.receipts().unwrap()[0];
                stored.receipts.push((header.start, header.end, receipt.reason));
            }
        }
        stored.ranges.insert(header.start..header.end).unwrap();
    }
}

#[test]
fn what_is_deleted_in_an_outage_is_kept_and_outlives_a_kill() {
    let mut machine = Machine::new();
    machine.start();
    machine.append("a.log", 10);
    machine.settle();
    machine.deliver(usize::MAX);
    machine.line_is_up = false;
    // More than the ring takes.
    machine.append("a.log", 30_000);
    machine.settle();
    machine.remove("a.log");
    machine.settle();
    assert_eq!(machine.bytes_written(), 0, "it is still held open");
    machine.pass(Duration::from_secs(3));
    machine.pass(Duration::from_secs(3));
    assert_eq!(machine.spooled().len(), 1);
    machine.kill();
    machine.start();
    machine.deliver_all();
    machine.expect_every_line_once();
    assert_eq!(machine.receipts(), []);
    let size = 30_010 * 48;
    assert_eq!(machine.ends(), [(StreamEndReason::Deleted, size, false)]);
}

#[test]
fn a_file_that_was_read_to_its_end_keeps_its_exact_end_over_a_stop() {
    for is_quiet in [true, false] {
        let mut machine = Machine::new();
        machine.line_is_up = false;
        machine.start();
        machine.append("a.log", 100);
        machine.settle();
        machine.remove("a.log");
        machine.settle();
        if is_quiet {
            machine.pass(Duration::from_secs(6));
        }
        machine.stop();
        machine.start();
        machine.deliver_all();
        machine.expect_every_line_once();
        assert_eq!(machine.ends(), [(StreamEndReason::Deleted, 4800, is_quiet)]);
        // Nothing of it is left.
        machine.stop();
        machine.start();
        assert!(machine.spooled().is_empty());
    }
}

#[test]
fn nothing_is_written_while_the_collector_acks_in_time() {
    let mut machine = Machine::new();
    machine.start();
    for _ in 0..20 {
        machine.append("a.log", 200);
        machine.settle();
        machine.remove("a.log");
        machine.pass(Duration::from_secs(1));
        machine.deliver(usize::MAX);
        machine.pass(Duration::from_secs(9));
        machine.deliver(usize::MAX);
    }
    assert_eq!(machine.bytes_written(), 0);
    assert!(
        !machine
            .disk
            .exists(&Path::new(STATE_DIR).join(crate::spool::SPOOL_DIR))
            .unwrap()
    );
    machine.expect_every_line_once();
    assert_eq!(machine.ends().len(), 20);
}

#[test]
fn a_file_that_is_still_there_is_never_written() {
    let mut machine = Machine::new();
    machine.line_is_up = false;
    machine.start();
    machine.append("a.log", 20_000);
    machine.settle();
    machine.rename("a.log", "a.log.1");
    machine.append("a.log", 100);
    machine.pass(Duration::from_secs(60));
    machine.rename("a.log.1", "a.log.2");
    machine.rename("a.log", "a.log.1");
    for _ in 0..10 {
        machine.pass(Duration::from_secs(10));
    }
    assert_eq!(machine.bytes_written(), 0);
    machine.stop();
    machine.start();
    assert_eq!(machine.bytes_written(), 0);
    machine.deliver_all();
    machine.expect_every_line_once();
}

#[test]
fn a_file_whose_compressed_form_is_there_is_not_written_until_that_goes() {
    let mut machine = Machine::new();
    machine.line_is_up = false;
    machine.start();
    machine.append("a.log", 100);
    machine.settle();
    machine.rename("a.log", "a.log.1");
    machine.settle();
    let content = fs::read(machine.path("a.log.1")).unwrap();
    fs::write(machine.path("a.log.1.gz"), compress(Format::Gzip, &[&content])).unwrap();
    machine.remove("a.log.1");
    for _ in 0..6 {
        machine.pass(Duration::from_secs(10));
    }
    assert_eq!(machine.bytes_written(), 0);
    machine.remove("a.log.1.gz");
    machine.pass(Duration::from_secs(11));
    machine.pass(Duration::from_secs(3));
    assert!(machine.bytes_written() > 0);
    machine.kill();
    machine.start();
    machine.deliver_all();
    machine.expect_every_line_once();
}

#[test]
fn of_a_batch_on_the_line_only_the_deleted_file_is_written() {
    let mut machine = Machine::new();
    machine.start();
    machine.append("a.log", 10);
    machine.append("b.log", 10);
    machine.settle();
    let streams: Vec<StreamId> = machine.process().line[0]
        .blocks
        .iter()
        .map(|block| block.stream_id)
        .collect();
    assert_eq!(streams.len(), 2, "one batch of two files");
    machine.line_is_up = false;
    machine.remove("a.log");
    machine.pass(Duration::from_secs(3));
    machine.pass(Duration::from_secs(3));
    assert!(machine.bytes_written() > 0);
    machine.kill();
    machine.line_is_up = false;
    machine.start();
    let spooled = machine.spooled();
    assert_eq!(spooled.len(), 1, "{spooled:?}");
    machine.deliver_all();
    machine.expect_every_line_once();
}

#[test]
fn a_descriptor_is_given_up_only_when_the_spool_has_what_it_held() {
    let mut machine = Machine::with(|config| config.hold_bytes_max = Some(ByteSize::kib(64)));
    machine.line_is_up = false;
    machine.start();
    machine.append("a.log", 30_000);
    machine.settle();
    machine.remove("a.log");
    for _ in 0..4 {
        machine.pass(Duration::from_secs(1));
    }
    let held = machine.process().source.status().files();
    assert!(held.is_empty(), "{held:?}");
    machine.deliver_all();
    machine.expect_every_line_once();
    assert_eq!(machine.receipts(), []);
    assert_eq!(
        machine.ends(),
        [(StreamEndReason::HoldExpired, 30_000 * 48, false)]
    );
}

#[test]
fn what_does_not_fit_is_declared_as_without_a_spool() {
    let mut machine = Machine::with(|config| config.hold_age_max = Duration::from_secs(60).into());
    machine.spool.bytes_max = Some(ByteSize::mib(1));
    machine.line_is_up = false;
    machine.start();
    machine.append("a.log", 100_000);
    machine.settle();
    machine.remove("a.log");
    machine.pass(Duration::from_secs(3));
    machine.pass(Duration::from_secs(3));
    let status = machine.process().spool.status();
    assert!(
        status.bytes > 256 << 10 && status.bytes <= 768 << 10,
        "{status:?}"
    );
    assert_eq!(status.records_dropped, 0);
    machine.pass(Duration::from_secs(60));
    machine.deliver_all();
    let receipts = machine.receipts();
    let [(from, to, ReceiptReason::Rotated)] = receipts[..] else {
        panic!("{receipts:?}");
    };
    let size = 100_000 * 48;
    let stored = machine.stored.values().next().unwrap();
    assert_eq!(
        stored.rows.len() as u64 * 48,
        from + (size - to),
        "all else is stored"
    );
    assert_eq!(machine.ends(), [(StreamEndReason::HoldExpired, size, false)]);
}

#[test]
fn what_a_full_spool_can_not_take_at_the_stop_is_declared() {
    let mut machine = Machine::new();
    machine.spool.bytes_max = Some(ByteSize::mib(1));
    machine.line_is_up = false;
    machine.start();
    machine.append("a.log", 100_000);
    machine.settle();
    machine.remove("a.log");
    machine.pass(Duration::from_secs(3));
    machine.pass(Duration::from_secs(3));
    machine.stop();
    machine.start();
    machine.deliver_all();
    let lost: u64 = machine.receipts().iter().map(|(start, end, _)| end - start).sum();
    let is_rotated = |(_, _, reason): &(u64, u64, ReceiptReason)| *reason == ReceiptReason::Rotated;
    assert!(
        lost > 0 && machine.receipts().iter().all(is_rotated),
        "{:?}",
        machine.receipts()
    );
    let stored = machine.stored.values().next().unwrap();
    assert_eq!(stored.rows.len() as u64 * 48 + lost, 100_000 * 48);
    assert_eq!(machine.ends(), [(StreamEndReason::Deleted, 100_000 * 48, false)]);
}

#[test]
fn without_the_option_nothing_is_written_and_what_is_deleted_is_lost_with_the_process() {
    let mut machine = Machine::with(|config| config.spool_before_loss = false);
    machine.start();
    machine.append("a.log", 10);
    machine.settle();
    machine.deliver(usize::MAX);
    machine.line_is_up = false;
    machine.append("a.log", 10);
    machine.settle();
    machine.remove("a.log");
    machine.pass(Duration::from_secs(6));
    assert_eq!(machine.bytes_written(), 0);
    machine.stop();
    machine.start();
    machine.deliver_all();
    assert_eq!(machine.ends(), [(StreamEndReason::Deleted, 480, false)]);
    assert_eq!(machine.stored.values().next().unwrap().rows.len(), 10);
}

#[test]
fn what_an_earlier_process_kept_is_sent_when_the_option_is_off_again() {
    let mut machine = Machine::new();
    machine.line_is_up = false;
    machine.start();
    machine.append("a.log", 20_000);
    machine.settle();
    machine.remove("a.log");
    machine.settle();
    machine.stop();
    machine.config.spool_before_loss = false;
    machine.start();
    machine.deliver_all();
    machine.expect_every_line_once();
    assert_eq!(machine.ends(), [(StreamEndReason::Deleted, 20_000 * 48, false)]);
}

#[test]
fn a_file_that_comes_back_goes_on_in_its_stream() {
    for is_killed in [false, true] {
        let mut machine = Machine::new();
        fs::create_dir(machine.path("away")).unwrap();
        machine.line_is_up = false;
        machine.start();
        machine.append("a.log", 20_000);
        machine.settle();
        machine.rename("a.log", "away/a.log");
        machine.pass(Duration::from_secs(3));
        machine.pass(Duration::from_secs(3));
        assert!(machine.bytes_written() > 0, "it is where nobody looks");
        if is_killed {
            machine.kill();
            machine.rename("away/a.log", "a.log");
            machine.start();
        } else {
            machine.rename("away/a.log", "a.log");
            machine.settle();
        }
        let written = machine.bytes_written();
        machine.append("a.log", 10);
        machine.pass(Duration::from_secs(60));
        assert_eq!(machine.bytes_written(), written, "it is there again");
        machine.deliver_all();
        machine.expect_every_line_once();
        assert_eq!((machine.stored.len(), machine.ends().len()), (1, 0));
    }
}

#[test]
fn a_stream_stays_open_while_the_spool_can_not_be_read() {
    let mut machine = Machine::new();
    machine.line_is_up = false;
    machine.start();
    machine.append("a.log", 20_000);
    machine.settle();
    machine.remove("a.log");
    machine.settle();
    machine.stop();
    machine
        .disk
        .install(Fault::from(Operation::List, 1, Effect::Error(Errno::IO)));
    machine.start();
    machine.append("b.log", 10);
    machine.pass(Duration::from_secs(10));
    let problems = machine.process().spool.status().problems;
    assert!(!problems.is_empty(), "the fault is met");
    assert_eq!(machine.process().checkpoints.streams().len(), 2);
    machine.line_is_up = true;
    machine.settle();
    machine.deliver(usize::MAX);
    assert_eq!(machine.ends(), []);
    machine.disk.clear_faults();
    machine.pass(Duration::from_secs(70));
    machine.deliver_all();
    machine.expect_every_line_once();
    assert_eq!(machine.ends(), [(StreamEndReason::Deleted, 20_000 * 48, false)]);
}

#[test]
fn a_disk_that_fails_once_costs_nothing() {
    let run = |fault: Option<Fault>| {
        let mut machine = Machine::new();
        machine.line_is_up = false;
        machine.start();
        machine.append("a.log", 20_000);
        machine.append("b.log", 100);
        machine.settle();
        let before = machine.disk.changes();
        if let Some(fault) = fault {
            machine.disk.install(fault);
        }
        machine.remove("a.log");
        for _ in 0..5 {
            machine.pass(Duration::from_secs(2));
        }
        machine.remove("b.log");
        machine.pass(Duration::from_secs(70));
        machine.pass(Duration::from_secs(5));
        let changes = machine.disk.changes() - before;
        machine.kill();
        machine.start();
        machine.deliver_all();
        machine.expect_every_line_once();
        assert_eq!(machine.receipts(), []);
        changes
    };
    let changes = run(None);
    assert!(changes > 10, "{changes} changes are no run");
    for nth in 1..=changes {
        for effect in [Effect::Error(Errno::IO), Effect::PartThenError(Errno::NOSPC)] {
            println!("operation {nth}: {effect:?}");
            run(Some(Fault::once(Operation::AnyChange, nth, effect)));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// Rename every generation up by one, begin a new file, delete the third.
    Rotate,
    /// Delete the log.
    Delete,
    Pass(u64),
    Line(bool),
    Deliver(usize),
    Stop,
    /// Long enough after the last deletion.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![4 => 1usize..40, 1 => 5000usize..12_000].prop_map(Step::Append),
        3 => Just(Step::Rotate),
        2 => Just(Step::Delete),
        4 => (100u64..6000).prop_map(Step::Pass),
        3 => any::<bool>().prop_map(Step::Line),
        3 => (1usize..4).prop_map(Step::Deliver),
        1 => Just(Step::Stop),
        1 => Just(Step::Kill),
    ]
}

impl Machine {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(lines) => self.append("a.log", *lines),
            Step::Rotate => {
                self.settle();
                for (from, to) in [("a.log.1", "a.log.2"), ("a.log", "a.log.1")] {
                    if self.path(from).exists() {
                        self.rename(from, to);
                    }
                }
                self.append("a.log", 1);
                self.settle();
            }
            Step::Delete => {
                self.settle();
                let _ = fs::remove_file(self.path("a.log"));
                self.settle();
            }
            Step::Pass(ms) => self.pass(Duration::from_millis(*ms)),
            Step::Line(up) => self.line_is_up = *up,
            Step::Deliver(batches) => self.deliver(*batches),
            Step::Stop => {
                self.stop();
                self.start();
            }
            Step::Kill => {
                for _ in 0..3 {
                    self.pass(Duration::from_secs(3));
                }
                self.kill();
                self.start();
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn whatever_is_deleted_every_byte_is_stored_once(steps in proptest::collection::vec(step(), 1..40)) {
        let mut machine = Machine::new();
        machine.start();
        for step in &steps {
            machine.apply(step);
        }
        machine.deliver_all();
        machine.expect_every_line_once();
        prop_assert_eq!(machine.receipts(), []);
        let tally = machine.process().ring.tally();
        prop_assert_eq!(tally.accounts().positions.in_flight, 0);
    }
}

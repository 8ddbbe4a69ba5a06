//! Real files in temporary directories. The source is driven step by step: the kernel queues its events before the
//! operation that causes them returns, so nothing here waits for time to pass but the injected clock.

mod adopt;
mod archives;
mod backlog;
mod content;
mod copytruncate;
mod kinds;
mod meanwhile;
mod paths;
mod property;
mod random;
mod rescue;
mod restart;
mod rewind;
mod rotation;
mod running;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edgelogger_common::block::{BlockView, LogRow, Receipt, ReceiptReason};
use edgelogger_common::clock::{Clock as _, ManualClock};
use edgelogger_common::disk::{Disk, OsDisk};
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Lane, StreamDescriptor, StreamEndReason};

use super::*;
use crate::checkpoint::{Checkpoints, Durability};
use crate::flow::{SentBlock, SourceBlock, SourceEvent, StreamClose};
use crate::ring::{Popped, RESERVE_BYTES_DEFAULT, Ring, RingLimits};

/// What arrived of one stream.
#[derive(Debug)]
struct Arrived {
    descriptor: StreamDescriptor,
    /// End of the furthest block.
    end: u64,
    /// What has come.
    ranges: RangeSet,
    /// Start of each block above all before it, and how many rows had come then.
    starts: BTreeMap<u64, usize>,
    rows: Vec<LogRow>,
    receipts: Vec<(u64, u64, ReceiptReason)>,
    closed: Option<StreamClose>,
}

impl Arrived {
    /// Number of rows below a position.
    fn row_before(&self, position: u64) -> usize {
        self.starts
            .range(position..)
            .next()
            .map_or(self.rows.len(), |(_, row)| *row)
    }

    fn lines(&self) -> Vec<String> {
        self.rows
            .iter()
            .map(|row| String::from_utf8_lossy(&row.body).into_owned())
            .collect()
    }
}

/// A source, the files it follows, and what came out of it.
struct World {
    dir: tempfile::TempDir,
    state: tempfile::TempDir,
    /// Of the state.
    disk: Arc<dyn Disk>,
    clock: Arc<ManualClock>,
    config: FileSourceConfig,
    ring: Ring,
    checkpoints: Option<Arc<Checkpoints>>,
    source: Option<FileSource>,
    /// By order of their first announcement.
    streams: Vec<StreamId>,
    arrived: BTreeMap<StreamId, Arrived>,
    /// Acknowledge what arrives?
    acks: bool,
    limits: RingLimits,
    /// As `FileSource::unread_bytes_max`.
    unread_bytes_max: u64,
}

impl World {
    /// Follows `*.log`; nothing is started.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut FileSourceConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = FileSourceConfig::new(vec![format!("{}/*.log", dir.path().display())]);
        change(&mut config);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            dir,
            state: tempfile::tempdir().unwrap(),
            disk: Arc::new(OsDisk),
            clock: Arc::new(ManualClock::at(i64::try_from(now.as_nanos()).unwrap())),
            config,
            ring: Ring::new(RingLimits::default()),
            checkpoints: None,
            source: None,
            streams: Vec::new(),
            arrived: BTreeMap::new(),
            acks: true,
            limits: RingLimits::default(),
            unread_bytes_max: super::backlog::UNREAD_BYTES_MAX,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Makes a file that is younger than another was, by the file system's own clock, which ticks every few
    /// milliseconds.
    fn write_younger(&self, name: &str, content: &str, than_ns: Option<i64>) {
        loop {
            self.write(name, content);
            if than_ns.is_none() || self.birth_ns(name) > than_ns {
                return;
            }
            self.remove(name);
        }
    }

    fn birth_ns(&self, name: &str) -> Option<i64> {
        stat::stat(&self.path(name)).unwrap().birth_ns
    }

    fn append(&self, name: &str, content: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(content.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn start(&mut self) {
        self.prepare();
        self.settle();
    }

    /// A source that has done nothing yet.
    fn prepare(&mut self) {
        let checkpoints =
            Checkpoints::open(self.disk.clone(), self.state.path(), self.clock.clone() as Arc<_>).unwrap();
        self.ring = Ring::new(self.limits);
        let handle = self
            .ring
            .source("files", RESERVE_BYTES_DEFAULT.min(self.limits.bytes / 2));
        let own = [self.state.path().to_owned()];
        let source = FileSource::new(
            self.config.clone(),
            handle,
            Arc::clone(&checkpoints),
            self.clock.clone(),
            &own,
        );
        let mut source = source.unwrap();
        source.unread_bytes_max = self.unread_bytes_max;
        self.source = Some(source);
        self.checkpoints = Some(checkpoints);
    }

    /// As after an orderly stop.
    fn stop(&mut self) {
        self.source = None;
        if let Some(checkpoints) = self.checkpoints.take() {
            checkpoints.flush(Durability::Synced).unwrap();
        }
    }

    fn step(&mut self) -> Duration {
        self.source.as_mut().unwrap().step().unwrap()
    }

    /// Lets the source do all it can do now, and takes what comes out.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            let busy = self.step().is_zero();
            let came = self.take();
            idle = if busy || came { 0 } else { idle + 1 };
        }
    }

    /// The clock that streams are opened by is not behind that of the file system.
    fn keep_time(&self) {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ours = Duration::from_nanos(self.clock.wall_ns().cast_unsigned());
        self.clock.advance(real.saturating_sub(ours));
    }

    /// Time passes, then everything is done that is due.
    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.settle();
    }

    /// Takes what is in the ring. `true`: something was.
    fn take(&mut self) -> bool {
        let mut came = false;
        while let Popped::Event(event) = self.ring.pop(Some(Instant::now())) {
            came = true;
            match event {
                SourceEvent::Open(descriptor) => self.opened(*descriptor),
                SourceEvent::Block(block) => self.block(&block),
                SourceEvent::End(close) => {
                    self.checkpoints.as_ref().unwrap().ended(&close.stream_id);
                    let arrived = self.arrived.get_mut(&close.stream_id).expect("opened before");
                    assert!(arrived.closed.is_none(), "ended twice: {close:?}");
                    assert!(close.size >= arrived.end, "{close:?} ends before its last block");
                    let start = arrived.descriptor.start;
                    assert_eq!(
                        arrived.ranges.missing_in(start..close.size).next(),
                        None,
                        "{close:?} leaves a hole"
                    );
                    arrived.closed = Some(close);
                }
            }
        }
        came
    }

    fn opened(&mut self, descriptor: StreamDescriptor) {
        let id = StreamId::try_from(&descriptor.stream_id[..]).unwrap();
        assert!(
            self.checkpoints.as_ref().unwrap().stream(&id).is_some(),
            "not durable before it is announced"
        );
        let start = descriptor.start;
        self.arrived.entry(id).or_insert_with(|| {
            self.streams.push(id);
            Arrived {
                descriptor,
                end: start,
                ranges: RangeSet::new(),
                starts: BTreeMap::new(),
                rows: Vec::new(),
                receipts: Vec::new(),
                closed: None,
            }
        });
    }

    fn block(&mut self, block: &SourceBlock) {
        let header = &block.block.header;
        let arrived = self.arrived.get_mut(&header.stream_id).expect("opened before");
        assert!(arrived.closed.is_none(), "a block behind the end");
        let range = header.start..header.end;
        let is_new = arrived
            .ranges
            .missing_in(range.clone())
            .eq(std::iter::once(range.clone()));
        assert!(is_new, "{range:?} of {} comes once", arrived.descriptor.name);
        arrived.ranges.insert(range.clone()).unwrap();
        let is_live = block.lane == Lane::Live && header.record_count > 0;
        assert!(
            !is_live || range.start >= arrived.end,
            "live lines are read forwards"
        );
        assert!(block.replayable);
        arrived.end = arrived.end.max(range.end);
        match block.block.view().unwrap() {
            BlockView::Log(view) => {
                let at = arrived.row_before(range.start);
                let rows: Vec<LogRow> = view.rows().collect();
                arrived
                    .starts
                    .range_mut(range.start..)
                    .for_each(|(_, row)| *row += rows.len());
                arrived.starts.insert(range.start, at);
                arrived.rows.splice(at..at, rows);
            }
            BlockView::Receipt(_, receipts) => {
                let receipts = receipts
                    .iter()
                    .map(|Receipt { reason, .. }| (header.start, header.end, *reason));
                arrived.receipts.extend(receipts);
            }
            BlockView::Metric(_) => panic!("files have no metrics"),
        }
        if self.acks {
            self.checkpoints.as_ref().unwrap().acked(&SentBlock {
                stream_id: header.stream_id,
                start: header.start,
                end: header.end,
                record_count: header.record_count,
                resume: block.resume.clone(),
            });
        }
    }

    /// What came of a stream from a position on may come again.
    fn forget(&mut self, stream: usize, from: u64) {
        let arrived = self.arrived.get_mut(&self.streams[stream]).unwrap();
        let whole = arrived.ranges.missing_in(0..from).next().is_none();
        assert!(whole, "only a prefix can be kept");
        arrived.ranges = RangeSet::new();
        if from > 0 {
            arrived.ranges.insert(0..from).unwrap();
        }
        arrived.end = from;
    }

    /// The n-th stream that was announced.
    fn stream(&self, index: usize) -> &Arrived {
        &self.arrived[&self.streams[index]]
    }

    /// Lines of every stream, in order of their announcement.
    fn lines(&self) -> Vec<Vec<String>> {
        self.streams.iter().map(|id| self.arrived[id].lines()).collect()
    }

    fn ends(&self) -> Vec<Option<(StreamEndReason, u64, bool)>> {
        let ends = self.streams.iter().map(|id| self.arrived[id].closed.as_ref());
        ends.map(|close| close.map(|close| (close.reason, close.size, close.exact)))
            .collect()
    }

    fn status(&self) -> FileSourceStatus {
        self.source.as_ref().unwrap().status()
    }

    fn skip_reason(&self, name: &str) -> Option<SkipReason> {
        let path = self.path(name);
        self.status()
            .skipped(usize::MAX)
            .into_iter()
            .find(|(skipped, _)| *skipped == path)
            .map(|(_, reason)| reason)
    }
}

/// Lines as owned strings, for comparison.
fn lines(of: &[&str]) -> Vec<String> {
    of.iter().map(|line| (*line).to_owned()).collect()
}

//! Real files in temporary directories. The source is driven step by step: the kernel queues its events before the
//! operation that causes them returns, so nothing here waits for time to pass but the injected clock.

mod content;
mod paths;
mod property;
mod random;
mod restart;
mod rotation;
mod running;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edgelogger_common::block::{BlockView, LogRow, Receipt, ReceiptReason};
use edgelogger_common::clock::ManualClock;
use edgelogger_common::disk::OsDisk;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{StreamDescriptor, StreamEndReason};

use super::*;
use crate::checkpoint::{Checkpoints, Durability};
use crate::flow::{SentBlock, SourceBlock, SourceEvent, StreamClose};
use crate::ring::{Popped, RESERVE_BYTES_DEFAULT, Ring, RingLimits};

/// What arrived of one stream.
#[derive(Debug)]
struct Arrived {
    descriptor: StreamDescriptor,
    /// End of the last block.
    end: u64,
    rows: Vec<LogRow>,
    receipts: Vec<(u64, u64, ReceiptReason)>,
    closed: Option<StreamClose>,
}

impl Arrived {
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
            clock: Arc::new(ManualClock::at(i64::try_from(now.as_nanos()).unwrap())),
            config,
            ring: Ring::new(RingLimits::default()),
            checkpoints: None,
            source: None,
            streams: Vec::new(),
            arrived: BTreeMap::new(),
            acks: true,
            limits: RingLimits::default(),
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
            Checkpoints::open(Arc::new(OsDisk), self.state.path(), self.clock.clone() as Arc<_>).unwrap();
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
        self.source = Some(source.unwrap());
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
        assert_eq!(
            header.start, arrived.end,
            "blocks of {} follow each other",
            arrived.descriptor.name
        );
        assert!(block.replayable);
        arrived.end = header.end;
        match block.block.view().unwrap() {
            BlockView::Log(view) => arrived.rows.extend(view.rows()),
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
            .skipped()
            .into_iter()
            .find(|(skipped, _)| *skipped == path)
            .map(|(_, reason)| reason)
    }
}

/// Lines as owned strings, for comparison.
fn lines(of: &[&str]) -> Vec<String> {
    of.iter().map(|line| (*line).to_owned()).collect()
}

//! The loop: measure, put in order, hand on.

use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::{Block, BlockError, MetricBlockBuilder};
use edgelogger_common::clock::Clock;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Lane, PositionUnit, SourceKind, StreamDescriptor, StreamEndReason};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::config::{HostMetricsConfig, INTERVAL_MIN};
use super::reader::Reader;
use super::samples::samples;
use super::snapshot::Snapshot;
use crate::alarm::Alarm;
use crate::checkpoint::Checkpoints;
use crate::flow::{Resume, SourceBlock, SourceEvent, SpoolPolicy, StreamClose};
use crate::ring::{CreditPermit, Overflow, SourceHandle, Stopped};

/// Blocks that wait while the ring is full: some five minutes of a usual machine, beside the hour that fits the
/// ring's reserve.
pub const OVERFLOW_BYTES_MAX: usize = 128 << 10;
/// What every row shows as its source.
const STREAM_NAME: &str = "host";
/// How long to wait before a stream is tried again that the disk refused.
const CREATE_PAUSE: Duration = Duration::from_secs(10);

/// What the source says about itself. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct HostMetricsStatus(Arc<Mutex<HostMetricsStatusView>>);

/// The same at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostMetricsStatusView {
    /// The stream, once there is one, as hexadecimal digits.
    pub stream: Option<String>,
    /// Measurements so far.
    pub measurements: u64,
    /// Samples so far.
    pub samples: u64,
    /// Blocks that wait for room in the ring.
    pub waiting: usize,
    /// What is wrong, and what is done about it.
    pub trouble: Option<String>,
}

impl HostMetricsStatus {
    /// What it says now.
    #[must_use]
    pub fn view(&self) -> HostMetricsStatusView {
        self.0.lock().clone()
    }
}

/// See the module page.
pub struct HostMetricsSource {
    config: HostMetricsConfig,
    reader: Reader,
    ring: SourceHandle,
    checkpoints: Arc<Checkpoints>,
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    status: HostMetricsStatus,
    overflow: Overflow,
    before: Option<Snapshot>,
    stream_id: StreamId,
    position: u64,
}

impl std::fmt::Debug for HostMetricsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostMetricsSource")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl HostMetricsSource {
    /// A source that begins when it is run. `alarm` must ring when the ring is stopped.
    ///
    /// # Errors
    /// A glob that can't be used.
    pub fn new(
        config: HostMetricsConfig,
        ring: SourceHandle,
        checkpoints: Arc<Checkpoints>,
        clock: Arc<dyn Clock>,
        alarm: Alarm,
    ) -> Result<Self, globset::Error> {
        Ok(Self {
            reader: Reader::new(config.clone())?,
            config,
            ring,
            checkpoints,
            clock,
            alarm,
            status: HostMetricsStatus::default(),
            overflow: Overflow::new(OVERFLOW_BYTES_MAX),
            before: None,
            stream_id: StreamId::random(),
            position: 0,
        })
    }

    /// The shared view of what it does.
    #[must_use]
    pub fn status(&self) -> HostMetricsStatus {
        self.status.clone()
    }

    /// Runs until the ring is stopped.
    pub fn run(mut self) {
        if self.begin().is_err() {
            return;
        }
        let interval = self.config.interval.get().max(INTERVAL_MIN);
        let mut next = self.clock.monotonic();
        loop {
            self.measure();
            // A measurement that took too long (a suspended machine) is not made up for.
            next = (next + interval).max(self.clock.monotonic());
            if self.alarm.wait(next.saturating_sub(self.clock.monotonic())) || self.ring.stopped() {
                self.finish();
                return;
            }
        }
    }

    /// Opens this process' stream. Those of earlier ones are closed by whoever knows what lies in the spool.
    fn begin(&mut self) -> Result<(), Stopped> {
        let descriptor = StreamDescriptor {
            stream_id: self.stream_id.to_proto(),
            kind: SourceKind::HostMetrics.into(),
            unit: PositionUnit::Record.into(),
            name: STREAM_NAME.to_owned(),
            opened_time_ns: self.clock.wall_ns(),
            ..StreamDescriptor::default()
        };
        while let Err(error) = self.checkpoints.create(std::slice::from_ref(&descriptor)) {
            let pause = CREATE_PAUSE.as_secs();
            tracing::error!(%error, "no stream for host metrics; tried again in {pause} s");
            self.status.0.lock().trouble = Some(format!("{error}; tried again in {pause} s"));
            if self.alarm.wait(CREATE_PAUSE) {
                return Err(Stopped);
            }
        }
        let mut status = self.status.0.lock();
        (status.stream, status.trouble) = (Some(self.stream_id.to_string()), None);
        drop(status);
        self.ring.push(SourceEvent::Open(Box::new(descriptor)))
    }

    fn measure(&mut self) {
        if self.config.spool == SpoolPolicy::Block && !self.overflow.is_empty() {
            self.overflow.drain_into(&self.ring);
            if !self.overflow.is_empty() {
                return;
            }
        }
        let now = self.reader.measure(&*self.clock);
        let rows = samples(&now, self.before.as_ref(), &self.config);
        self.before = Some(now);
        let count = rows.len() as u64;
        let mut builder = MetricBlockBuilder::new(self.stream_id, self.position);
        rows.into_iter().for_each(|row| builder.push(row));
        match builder.finish() {
            Ok(block) => {
                self.position = block.header.end;
                self.overflow.push(block);
            }
            // Everything is switched off, or can't be measured here.
            Err(BlockError::Range { .. }) => {}
            Err(error) => tracing::error!(%error, "a block of host metrics can't be built"),
        }
        self.overflow.drain_into(&self.ring);
        let mut status = self.status.0.lock();
        status.measurements += 1;
        status.samples += count;
        status.waiting = self.overflow.len();
    }

    /// The agent stops: what waits becomes receipts, and the stream ends exactly.
    fn finish(mut self) {
        for receipt in self.overflow.take_as_receipts() {
            if self.ring.push(event(receipt)).is_err() {
                return;
            }
        }
        // Where this does not arrive, the next process ends the stream.
        let _ = self.ring.push(SourceEvent::End(StreamClose {
            stream_id: self.stream_id,
            size: self.position,
            exact: true,
            reason: StreamEndReason::ProcessRestarted,
        }));
    }
}

/// A receipt, which is too small to be counted.
fn event(block: Block) -> SourceEvent {
    SourceEvent::Block(SourceBlock {
        block,
        lane: Lane::Live,
        replayable: false,
        resume: Resume::Nowhere,
        credit: CreditPermit::uncounted(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use edgelogger_common::clock::SystemClock;
    use edgelogger_common::disk::OsDisk;

    use super::*;
    use crate::ring::{Popped, Ring, RingLimits};

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Run {
        ring: Ring,
        checkpoints: Arc<Checkpoints>,
        alarm: Alarm,
        thread: std::thread::JoinHandle<()>,
    }

    impl Run {
        fn start(dir: &Path) -> Self {
            let ring = Ring::new(RingLimits::default());
            let clock = Arc::new(SystemClock::new());
            let checkpoints = Checkpoints::open(Arc::new(OsDisk), dir, clock.clone()).unwrap();
            let alarm = Alarm::new().unwrap();
            let handle = ring.volatile_source("host", 0);
            let config = HostMetricsConfig::default();
            let source =
                HostMetricsSource::new(config, handle, checkpoints.clone(), clock, alarm.clone()).unwrap();
            let thread = std::thread::spawn(move || source.run());
            Self {
                ring,
                checkpoints,
                alarm,
                thread,
            }
        }

        fn next(&self) -> SourceEvent {
            match self.ring.pop(Some(Instant::now() + PATIENCE)) {
                Popped::Event(event) => event,
                other => panic!("nothing came: {other:?}"),
            }
        }

        fn stop(self) -> Vec<SourceEvent> {
            self.ring.stop();
            self.alarm.ring();
            self.thread.join().unwrap();
            let rest = std::iter::from_fn(|| self.ring.try_pop()).collect();
            self.checkpoints
                .flush(crate::checkpoint::Durability::Written)
                .unwrap();
            rest
        }
    }

    #[test]
    fn a_process_opens_a_stream_measures_and_ends_it_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::start(dir.path());
        let SourceEvent::Open(descriptor) = run.next() else {
            panic!("expected a stream")
        };
        assert!(!descriptor.replayable);
        let SourceEvent::Block(block) = run.next() else {
            panic!("expected samples")
        };
        assert!(!block.replayable && block.block.view().is_ok());
        let rest = run.stop();
        let [SourceEvent::End(end)] = &rest[..] else {
            panic!("expected the end, got {rest:?}")
        };
        assert_eq!((end.size, end.exact), (block.block.header.end, true));
    }
}

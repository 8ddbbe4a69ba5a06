//! From a line in a file to its ack: one line each 10 ms, `max_age` = 0.
//!
//! The agent's stages run in this process, wired as its pipeline wires them, because only its journal sees the moment
//! of an ack. The collector is the real program.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgelogger_agent::batcher::{Action, Batcher, BatcherSettings};
use edgelogger_agent::checkpoint::Checkpoints;
use edgelogger_agent::encoder::{BatchesInFlight, Encoder};
use edgelogger_agent::flow::{Outgoing, SentBlock};
use edgelogger_agent::ring::{Popped, RESERVE_BYTES_DEFAULT, Ring, RingLimits};
use edgelogger_agent::sources::file::{FileSource, FileSourceConfig};
use edgelogger_agent::transport::{CollectorConfig, Delivered, Identity, Journal, Parts, Transport, Vitals};
use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::disk::{Disk, OsDisk};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{AgentMetrics, StreamDescriptor, StreamHead};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::ship::collector_config;
use crate::corpus::Generator;
use crate::programs::Collector;
use crate::report::Target;
use crate::timing::{ms, percentile};
use crate::{Bench, Outcome};

const LINES: usize = 1_500;
/// Not measured: connecting, the first inotify watch, caches.
const WARM_UP_LINES: usize = 200;
const EVERY: Duration = Duration::from_millis(10);
/// As between the agent's encoder and its transport.
const OUTGOING_MAX: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limits = std::mem::take(&mut bench.limits);
    // As for the limit: what other scenarios wrote must not be on its way to the disk.
    rustix::fs::sync();
    let sync = limits.fdatasync(bench)?;
    bench.limits = limits;
    let dir = bench.scratch("latency")?.canonicalize()?;
    let collector = Collector::start(&dir, collector_config(true))?;
    let samples = measure(&dir, &collector)?;
    collector.program.stop()?;
    let (p50, p99) = (ms(percentile(&samples, 50)), ms(percentile(&samples, 99)));
    let (p50_bound, p99_bound) = (2.0 * ms(sync.p50) + 2.0, 2.0 * ms(sync.p99) + 10.0);
    let report = &mut bench.report;
    report.compare(
        "line to ack, p50, against 2 x fdatasync + 2 ms",
        p50,
        "ms",
        p50_bound,
        Target::RatioAtMost(1.0),
    );
    report.compare(
        "line to ack, p99, against 2 x fdatasync + 10 ms",
        p99,
        "ms",
        p99_bound,
        Target::RatioAtMost(1.0),
    );
    Ok(())
}

/// Lines that wait for their ack: the offset behind each, and when it was written; and how long others took.
#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<(u64, Instant)>,
    took: Vec<Duration>,
}

/// Checkpoints that look at the clock when an ack comes.
struct Watched {
    checkpoints: Arc<Checkpoints>,
    lines: Arc<Mutex<Lines>>,
}

impl Journal for Watched {
    fn acked(&self, block: &SentBlock, how: Delivered) {
        let now = Instant::now();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, written)) = lines.waiting.pop_front_if(|(end, _)| *end <= block.end) {
            lines.took.push(now - written);
        }
        drop(lines);
        Journal::acked(&*self.checkpoints, block, how);
    }

    fn ended(&self, stream_id: &StreamId) {
        Journal::ended(&*self.checkpoints, stream_id);
    }

    fn descriptor(&self, stream_id: &StreamId) -> Option<StreamDescriptor> {
        self.checkpoints.descriptor(stream_id)
    }

    fn instance_id(&self) -> [u8; 16] {
        Journal::instance_id(&*self.checkpoints)
    }

    fn next_epoch(&self) -> u64 {
        Journal::next_epoch(&*self.checkpoints)
    }

    fn log_id(&self) -> Option<[u8; 16]> {
        Journal::log_id(&*self.checkpoints)
    }

    fn set_log_id(&self, log_id: [u8; 16]) {
        Journal::set_log_id(&*self.checkpoints, log_id);
    }
}

/// Nothing to tell in heartbeats.
struct Silent;

impl Vitals for Silent {
    fn heads(&self) -> Vec<StreamHead> {
        Vec::new()
    }

    fn metrics(&self) -> AgentMetrics {
        AgentMetrics::default()
    }
}

fn measure(dir: &Path, collector: &Collector) -> Outcome<Vec<Duration>> {
    let path = dir.join("app.log");
    let file = File::create(&path)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let checkpoints = Checkpoints::open(Arc::clone(&disk), &dir.join("agent"), Arc::clone(&clock))?;
    let lines = Arc::new(Mutex::new(Lines::default()));
    let ring = Ring::new(RingLimits::default());
    let source = FileSource::new(
        FileSourceConfig::new(vec![path.display().to_string()]),
        ring.source("files", RESERVE_BYTES_DEFAULT),
        Arc::clone(&checkpoints),
        Arc::clone(&clock),
        &[],
    )?;
    let waker = source.waker();
    let mut config = CollectorConfig::new(
        format!("wss://localhost:{}", collector.ingest_port),
        collector.ca(),
    );
    config.token_file = Some(collector.token("bench", dir)?);
    let (transport, _status, _limits) = Transport::new(Parts {
        config,
        identity: Identity {
            agent_version: "bench".to_owned(),
            ..Identity::default()
        },
        journal: Arc::new(Watched {
            checkpoints,
            lines: Arc::clone(&lines),
        }),
        vitals: Arc::new(Silent),
        clock: Arc::clone(&clock),
        disk,
        quarantine_dir: dir.join("agent/quarantine"),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (outgoing, items) = mpsc::channel(OUTGOING_MAX);
    let (stop, stopping) = watch::channel(None);

    let reading = std::thread::spawn(move || source.run());
    let encoding = {
        let (ring, handle) = (ring.clone(), runtime.handle().clone());
        std::thread::spawn(move || encode(&ring, &*clock, &outgoing, &handle))
    };
    let sending = std::thread::spawn(move || send(&runtime, transport, items, stopping));
    let written = write_lines(file, &lines);
    let done = written.and_then(|()| wait_for_acks(&lines));
    ring.stop();
    waker.wake();
    let _ = stop.send(Some(tokio::time::Instant::now() + Duration::from_secs(5)));
    for thread in [reading, encoding, sending] {
        thread.join().map_err(|_| "a stage panicked")?;
    }
    done?;
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(lines.took.get(WARM_UP_LINES..).unwrap_or_default().to_vec())
}

fn send(
    runtime: &Runtime,
    transport: Transport,
    items: mpsc::Receiver<Outgoing>,
    stopping: watch::Receiver<Option<tokio::time::Instant>>,
) {
    runtime.block_on(Box::pin(transport.run(items, stopping)));
}

/// The encoder's thread of the agent, with `max_age` = 0.
fn encode(
    ring: &Ring,
    clock: &dyn Clock,
    outgoing: &mpsc::Sender<Outgoing>,
    runtime: &tokio::runtime::Handle,
) {
    let settings = BatcherSettings {
        max_age: Duration::ZERO,
        ..BatcherSettings::default()
    };
    let mut batcher = Batcher::new(settings);
    let batches = BatchesInFlight::new(ring.clone());
    let setting = "zstd:1".parse().expect("a codec that exists");
    let mut encoder = Encoder::new(setting, batches.clone(), ring.tally());
    loop {
        if batcher.is_ready(clock.monotonic(), batches.count()) {
            let Ok(place) = runtime.block_on(outgoing.reserve()) else {
                return;
            };
            while let Some(event) = ring.try_pop() {
                batcher.push(event, clock.monotonic());
            }
            match batcher.next(clock.monotonic(), batches.count()) {
                Some(Action::Open(descriptor)) => place.send(Outgoing::Open(descriptor)),
                Some(Action::End(close)) => place.send(Outgoing::End(close)),
                Some(Action::Batch(collected)) => match encoder.encode(collected) {
                    Ok(batch) => place.send(Outgoing::Batch(batch)),
                    Err(error) => eprintln!("  {error}"),
                },
                None => {}
            }
            continue;
        }
        match ring.pop(None) {
            Popped::Event(event) => batcher.push(event, clock.monotonic()),
            Popped::Finished => return,
            Popped::Nudged | Popped::TimedOut => {}
        }
    }
}

fn write_lines(mut file: File, lines: &Mutex<Lines>) -> Outcome<()> {
    let mut generator = Generator::new();
    let (mut line, mut end) = (Vec::new(), 0);
    let start = Instant::now();
    for index in 1..=LINES + WARM_UP_LINES {
        line.clear();
        generator.next_line(&mut line);
        end += line.len() as u64;
        let mut shared = lines.lock().unwrap_or_else(PoisonError::into_inner);
        shared.waiting.push_back((end, Instant::now()));
        drop(shared);
        file.write_all(&line)?;
        let due = start + EVERY * u32::try_from(index)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn wait_for_acks(lines: &Mutex<Lines>) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waiting = lines.lock().unwrap_or_else(PoisonError::into_inner).waiting.len();
        if waiting == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{waiting} lines were not acked within {PATIENCE:?}").into());
        }
        std::thread::sleep(EVERY);
    }
}

//! The agent without a network, on one core: read a file, find its lines, make blocks, batch them, compress, hash.
//!
//! The file source runs on its own thread, as it does in the agent; both threads are bound to the same core.

use std::sync::Arc;
use std::time::Instant;

use edgelogger_agent::batcher::{Action, Batcher, BatcherSettings};
use edgelogger_agent::checkpoint::Checkpoints;
use edgelogger_agent::encoder::{BatchesInFlight, Encoder};
use edgelogger_agent::flow::SourceEvent;
use edgelogger_agent::ring::{Popped, RESERVE_BYTES_DEFAULT, Ring, RingLimits};
use edgelogger_agent::sources::file::{FileSource, FileSourceConfig};
use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::disk::OsDisk;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::report::Target;
use crate::timing::mb_per_s;
use crate::{Bench, Outcome};

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limits = std::mem::take(&mut bench.limits);
    let limit = limits.lz4_mb_per_s(bench)?;
    bench.limits = limits;
    let everywhere = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(0);
    sched_setaffinity(None, &one)?;
    let speeds = [once(bench), once(bench)];
    sched_setaffinity(None, &everywhere)?;
    let mut best = 0.0;
    for speed in speeds {
        best = f64::max(best, speed?);
    }
    bench.report.compare(
        "tail, block, batch, lz4, SHA-256, one core, against lz4_flex",
        best,
        "MB/s",
        limit,
        Target::RatioAtLeast(0.6),
    );
    Ok(())
}

/// The whole corpus once, in MB/s.
fn once(bench: &Bench) -> Outcome<f64> {
    let dir = bench.scratch("agent-core")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let checkpoints = Checkpoints::open(Arc::new(OsDisk), &dir, Arc::clone(&clock))?;
    let ring = Ring::new(RingLimits::default());
    let config = FileSourceConfig::new(vec![bench.corpus.path.canonicalize()?.display().to_string()]);
    let handle = ring.source("files", RESERVE_BYTES_DEFAULT);
    let source = FileSource::new(config, handle, checkpoints, Arc::clone(&clock), &[])?;
    let waker = source.waker();
    let start = Instant::now();
    let thread = std::thread::spawn(move || source.run());
    let done = encode_all(&ring, &*clock, bench.corpus.bytes);
    let seconds = start.elapsed().as_secs_f64();
    ring.stop();
    waker.wake();
    while ring.try_pop().is_some() {}
    thread.join().map_err(|_| "the file source panicked")?;
    done?;
    Ok(mb_per_s(usize::try_from(bench.corpus.bytes)?, seconds))
}

/// The encoder's thread: until this many positions are in batches.
fn encode_all(ring: &Ring, clock: &dyn Clock, positions: u64) -> Outcome<()> {
    let batches = BatchesInFlight::new(ring.clone());
    let mut encoder = Encoder::new("lz4".parse()?, batches, ring.tally());
    let mut batcher = Batcher::new(BatcherSettings::default());
    let (mut taken, mut encoded) = (0, 0);
    while encoded < positions {
        // One batch is always under way, so that only full ones leave.
        let in_flight = 1;
        while let Some(action) = batcher.next(clock.monotonic(), in_flight) {
            if let Action::Batch(collected) = action {
                let batch = encoder.encode(collected)?;
                encoded += batch
                    .blocks
                    .iter()
                    .map(|block| block.end - block.start)
                    .sum::<u64>();
            }
        }
        if encoded == positions {
            break;
        }
        let wait = batcher
            .deadline(in_flight)
            .map(|at| Instant::now() + at.saturating_sub(clock.monotonic()));
        if let Popped::Event(event) = ring.pop(wait) {
            if let SourceEvent::Block(block) = &event {
                taken += block.block.header.end - block.block.header.start;
            }
            batcher.push(event, clock.monotonic());
        }
        // The last batch would otherwise wait for more until it is old.
        if taken == positions {
            batcher.drain();
        }
    }
    Ok(())
}

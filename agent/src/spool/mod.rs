//! The spool: keeps on disk what can't be read again and is not acknowledged.
//!
//! ```text
//! encoder ──> transport                  the line has room: a copy is watched, and written where it is not acked in 2 s
//!    │  ^
//!    v  │ backfill                       it has none: written after 2 s, sent when it has
//!  spool ──> segment files in <state_dir>/spool
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `config.rs` | bounds, and what they are on a given disk |
//! | `entry.rs` | what a frame holds |
//! | `state.rs`, `work.rs` | what is kept where; what the disk does next; pure |
//! | `line.rs`, `frames.rs`, `gaps.rs` | its parts: on the line, on disk, given up |
//! | `files.rs` | what of files comes here: only what is gone |
//! | `recover.rs` | what an earlier process left, and how its streams are closed; pure |
//! | `disk.rs`, `thread.rs` | the shell: the log, and the one thread that waits for it |
//! | `status.rs` | what is said of it |
//! | `show.rs` | what lies in it, for the commands `spool ls`, `verify`, `export` |
//!
//! # What always holds
//!
//! - The journal never comes here: its data lies on disk already; nor does a file that can be read again. What is gone
//!   of files comes only where the operator says so (`spool_before_loss`), and never takes the place of anything else.
//! - While the collector acknowledges in time nothing is written, and no file is made.
//! - Every position is somewhere: on the line, in memory, in a frame, or told in a receipt; the tally counts it as in
//!   flight until the collector has the one or the other.
//! - What an earlier process left is sent in the backfill lane, before its stream is ended.
//! - The files together are never larger than `bytes_max`, nor do they grow into the reserve of free disk space.
//!
//! # On failure
//!
//! The disk refuses: what should be on it waits in memory (1 MiB; beyond, the source's policy), the log is opened again
//! with growing pauses, and status says so. A frame that can't be read any more becomes a receipt with its exact range.
//! A crash costs what came within the last 2 s (and of the machine: since the last sync), and the receipt that closes
//! the stream says *at least*.

mod config;
mod disk;
mod entry;
mod files;
mod frames;
mod gaps;
mod line;
mod recover;
mod show;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod thread;
mod work;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgelogger_common::clock::Clock;
use edgelogger_common::codec::CodecSetting;
use edgelogger_common::disk::Disk;
use edgelogger_common::stream::StreamId;
use parking_lot::{Condvar, Mutex};

pub use config::{BYTES_MAX_MIN, SpoolConfig, SpoolLimits};
pub use entry::BlockNote;
pub use files::{Left, LeftOfFile, Room, files_bytes_max};
pub use line::{Held, OfFile};
pub use show::{Exporter, Holdings, PositionRange, StreamHoldings, check_entry, log_options};
pub use state::{MEMORY_BYTES_MAX, SPOOL_AFTER};
pub use status::SpoolStatusView;

use crate::checkpoint::Checkpoints;
use crate::encoder::{BatchesInFlight, Encoder};
use crate::flow::{EncodedBatch, SentBlock, SpoolPolicy, StreamClose};
use crate::ring::Ring;
use files::Found;
use state::State;
use status::Trouble;

/// Folder in the state directory.
pub const SPOOL_DIR: &str = "spool";
/// How long the end of the process may wait for the disk.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);
/// What was found on disk is older than this process; times count from so long before its start.
const BEFORE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a spool is made of.
pub struct Parts {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The agent's state directory, which exists.
    pub state_dir: PathBuf,
    /// `[spool]`.
    pub config: SpoolConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is acked.
    pub checkpoints: Arc<Checkpoints>,
    /// Woken when there is something to send.
    pub ring: Ring,
    /// Counts what comes back from disk.
    pub batches: BatchesInFlight,
    /// How what files hand over is compressed.
    pub codec: CodecSetting,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    trouble: Mutex<Trouble>,
    bytes_written: AtomicU64,
    clock: Arc<dyn Clock>,
    checkpoints: Arc<Checkpoints>,
    ring: Ring,
    /// What an earlier process left of files.
    found: Mutex<Found>,
    /// Of what files hand over.
    encoder: Mutex<Encoder>,
}

impl Shared {
    fn now(&self) -> Duration {
        BEFORE + self.clock.monotonic()
    }

    fn bytes_written_add(&self, bytes: u64) {
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// See the module page. Cheap to clone.
#[derive(Clone)]
pub struct Spool(Arc<Shared>);

/// The thread that waits for the disk.
pub struct SpoolThread {
    spool: Spool,
    thread: JoinHandle<()>,
}

impl Spool {
    /// Starts the thread, which takes over what an earlier process left. Before any source makes a stream.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(parts: Parts) -> io::Result<(Self, SpoolThread)> {
        let (spool, thread) = Self::assemble(parts);
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || thread.run())?;
        Ok((spool.clone(), SpoolThread { spool, thread }))
    }

    fn assemble(parts: Parts) -> (Self, thread::DiskThread) {
        // A file system that does not tell its size gets the smallest spool.
        let total = parts.disk.total_bytes(&parts.state_dir).unwrap_or(0);
        let limits = parts.config.limits(total);
        let recovery = parts.checkpoints.recovery();
        let adopts = recovery.fresh || !recovery.damage.is_empty();
        let earlier = thread::earlier(&parts.checkpoints);
        let encoder = Encoder::new(parts.codec, parts.batches.clone(), parts.ring.tally());
        let shared = Arc::new(Shared {
            found: Mutex::new(Found::Reading),
            encoder: Mutex::new(encoder),
            state: Mutex::new(State::new(limits, parts.batches, parts.ring.tally())),
            changed: Condvar::new(),
            trouble: Mutex::default(),
            bytes_written: AtomicU64::new(0),
            clock: parts.clock,
            checkpoints: parts.checkpoints,
            ring: parts.ring,
        });
        let thread = thread::DiskThread {
            shared: Arc::clone(&shared),
            store: disk::Store::new(parts.disk, parts.state_dir.join(SPOOL_DIR), limits),
            earlier: Some(earlier),
            adopts,
            failures: 0,
            gave_up: false,
        };
        (Self(shared), thread)
    }

    /// May a batch of a source of this policy come? Otherwise the source waits.
    #[must_use]
    pub fn takes(&self, policy: SpoolPolicy) -> bool {
        self.0.state.lock().takes(policy)
    }

    /// Keeps a batch that the line does not take.
    pub fn put(&self, held: Held) {
        self.0.state.lock().put(timed(held));
        self.0.changed.notify_one();
    }

    /// Watches a batch that is about to be handed to the line.
    pub fn sent(&self, held: Held) {
        self.0.state.lock().sent(timed(held));
        self.0.changed.notify_one();
    }

    /// Is there something for the line?
    #[must_use]
    pub fn has_next(&self) -> bool {
        let state = self.0.state.lock();
        state.has_next() || state.has_end()
    }

    /// Takes what goes on the line next.
    #[must_use]
    pub fn next(&self) -> Option<EncodedBatch> {
        let next = self.0.state.lock().next(self.0.now());
        self.0.changed.notify_one();
        next
    }

    /// An end, if it may go to the line now; otherwise it waits here for the batches of its stream.
    #[must_use]
    pub fn end(&self, close: StreamClose) -> Option<StreamClose> {
        let stream = self.0.checkpoints.stream(&close.stream_id);
        let is_replayable = stream.is_none_or(|stream| stream.descriptor.replayable);
        self.0.state.lock().end(close, is_replayable)
    }

    /// Takes an end that waited and may go now.
    #[must_use]
    pub fn next_end(&self) -> Option<StreamClose> {
        self.0.state.lock().next_end()
    }

    /// A range is acked, or rejected for good.
    pub fn acked(&self, block: &SentBlock) {
        if self.0.state.lock().acked(block) {
            self.0.changed.notify_one();
        }
    }

    /// A stream is acked to its end.
    pub fn ended(&self, stream_id: &StreamId) {
        self.0.state.lock().ended(stream_id);
        self.0.found.lock().forget(stream_id);
    }

    /// Is everything acked?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.state.lock().is_empty()
    }

    /// The end of what is kept of each stream.
    #[must_use]
    pub fn ends(&self) -> HashMap<StreamId, u64> {
        self.0.state.lock().ends()
    }

    /// What `status` shows.
    #[must_use]
    pub fn status(&self) -> SpoolStatusView {
        status::view(&self.0)
    }
}

/// By the spool's clock.
fn timed(held: Held) -> Held {
    Held {
        since: BEFORE + held.since,
        ..held
    }
}

/// A spool whose disk is waited for by a test.
#[cfg(test)]
pub(crate) struct ByHand(thread::DiskThread);

#[cfg(test)]
impl Spool {
    pub(crate) fn by_hand(parts: Parts) -> (Self, ByHand) {
        let (spool, mut thread) = Self::assemble(parts);
        thread.begin();
        (spool, ByHand(thread))
    }
}

#[cfg(test)]
impl ByHand {
    /// Does all that is to be done now.
    pub(crate) fn work(&mut self) {
        for _ in 0..10_000 {
            let Some(work) = self.0.work_now() else { return };
            self.0.do_it(work);
        }
        panic!("it never comes to rest");
    }

    /// As [`SpoolThread::finish`].
    pub(crate) fn finish(mut self) {
        self.0.shared.state.lock().stop();
        self.work();
    }
}

impl SpoolThread {
    /// Writes what is not acked, and waits for that within bounds. When nothing else runs any more.
    pub fn finish(self) {
        self.spool.0.state.lock().stop();
        self.spool.0.changed.notify_one();
        let deadline = Instant::now() + FINISH_PATIENCE;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !self.thread.is_finished() {
            tracing::error!("the disk of the spool does not answer; what was not acknowledged may be lost");
        } else if self.thread.join().is_err() {
            tracing::error!("the spool's thread ended in a panic; please report what it printed");
        }
    }
}

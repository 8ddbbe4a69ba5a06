//! The ring: a bounded queue of [`SourceEvent`]s between the sources and the encoder, with a credit in bytes.
//!
//! Two bounds hold at once: **slots** (a lock-free `ArrayQueue`) and **bytes** ([`credit`]). A source takes
//! credit before it reads, puts the permit into the block it pushes, and the encoder gives it back by dropping
//! it. Each source has a reserved minimum that no other can use, so a busy file never starves the metrics; the
//! rest is shared, first come, first served.
//!
//! | file | idea |
//! | --- | --- |
//! | `credit` | bytes: reserved per source, and shared |
//! | `overflow` | what a source that can't wait keeps, and the receipts for what it can't |
//! | `gate` | how a thread sleeps until the queue has room, or an event, without losing a wake-up |
//!
//! What can't be read again has a queue of its own, which is emptied first: while the collector is away the encoder
//! must come to it (it goes to the spool), however many lines of files wait in the other.
//!
//! # Stop
//!
//! [`Ring::stop`] wakes everyone. From then on `acquire` gives [`Stopped`], and `push` puts an event in only where
//! a slot is free at once. The consumer still gets everything that was pushed; [`Popped::Finished`] comes when the
//! ring is stopped, empty, and every [`SourceHandle`] is dropped, so an event pushed late is never left behind.

mod credit;
mod gate;
mod overflow;
#[cfg(test)]
mod tests;

/// What `gate` is made of; its test by loom has others here.
mod sync {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering, fence};

    pub(super) use parking_lot::{Condvar, Mutex};
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_queue::ArrayQueue;

pub use credit::CreditPermit;
pub use overflow::Overflow;

use crate::flow::SourceEvent;
use crate::tally::Tally;
use credit::{Credit, SourceCredit};
use gate::Gate;

/// Bytes of blocks in the ring, and in a batch that is being collected: two batches of the default size beside
/// what the sources read meanwhile.
pub const RING_BYTES_DEFAULT: usize = 8 << 20;
/// Events in the ring. A source that pushes one-line blocks must not need more than this many slots before the
/// encoder has run, which takes them all at once. A slot is 200 bytes that are always resident.
pub const RING_SLOTS_DEFAULT: usize = 1024;
/// Events of sources that can't be read again; each of them pushes one block a measurement.
const VOLATILE_SLOTS: usize = 256;
/// Credit that only one source can use: one read of a file (64 KiB) always fits.
pub const RESERVE_BYTES_DEFAULT: usize = 256 << 10;

/// How much the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// Events, at least 1.
    pub slots: usize,
    /// Bytes of blocks, at least 1. What a single oversized block needs beyond this is granted when nothing
    /// else is in the way, so that it is late rather than stuck.
    pub bytes: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self {
            slots: RING_SLOTS_DEFAULT,
            bytes: RING_BYTES_DEFAULT,
        }
    }
}

/// The agent is stopping; a source ends its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopped;

/// What the consumer got.
#[derive(Debug)]
pub enum Popped {
    /// The oldest event.
    Event(SourceEvent),
    /// The deadline passed.
    TimedOut,
    /// [`Ring::nudge`] was called: something else than the queue changed.
    Nudged,
    /// Stopped, empty, and no source is left that could push.
    Finished,
}

/// The queue. Cheap to clone; all clones are one ring.
#[derive(Debug, Clone)]
pub struct Ring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    volatile: Slots,
    replayable: Slots,
    credit: Arc<Credit>,
    not_empty: Gate,
    stopped: AtomicBool,
    nudged: AtomicBool,
    /// Sources that may still push.
    sources: AtomicUsize,
    tally: Arc<Tally>,
}

/// One of the two queues.
#[derive(Debug)]
struct Slots {
    queue: ArrayQueue<SourceEvent>,
    not_full: Gate,
}

impl Slots {
    fn new(slots: usize) -> Self {
        Self {
            queue: ArrayQueue::new(slots),
            not_full: Gate::default(),
        }
    }

    fn pop(&self) -> Option<SourceEvent> {
        let event = self.queue.pop()?;
        self.not_full.open_one();
        Some(event)
    }
}

impl Ring {
    /// An empty ring.
    ///
    /// # Panics
    /// When a limit is 0.
    #[must_use]
    pub fn new(limits: RingLimits) -> Self {
        assert!(
            limits.slots > 0 && limits.bytes > 0,
            "a ring without room passes nothing on: {limits:?}"
        );
        Self(Arc::new(Inner {
            volatile: Slots::new(VOLATILE_SLOTS),
            replayable: Slots::new(limits.slots),
            credit: Arc::new(Credit::new(limits.bytes)),
            not_empty: Gate::default(),
            stopped: AtomicBool::new(false),
            nudged: AtomicBool::new(false),
            sources: AtomicUsize::new(0),
            tally: Arc::new(Tally::default()),
        }))
    }

    /// A source's way in. `reserve_bytes` of the ring's bytes are its own; where that is more than a half of
    /// what is still shared, it gets that half.
    #[must_use]
    pub fn source(&self, name: &str, reserve_bytes: usize) -> SourceHandle {
        self.join(name, reserve_bytes, false)
    }

    /// As [`Ring::source`], for a source that can't be read again.
    #[must_use]
    pub fn volatile_source(&self, name: &str, reserve_bytes: usize) -> SourceHandle {
        self.join(name, reserve_bytes, true)
    }

    fn join(&self, name: &str, reserve_bytes: usize, is_volatile: bool) -> SourceHandle {
        self.0.sources.fetch_add(1, Ordering::SeqCst);
        let credit = self.0.credit.source(name, reserve_bytes);
        SourceHandle(Arc::new(SourceInner {
            ring: Arc::clone(&self.0),
            credit,
            is_volatile,
        }))
    }

    /// Takes the oldest event; waits until there is one, `deadline` (`None`: for ever), a nudge or the end.
    #[must_use]
    pub fn pop(&self, deadline: Option<Instant>) -> Popped {
        let inner = &*self.0;
        loop {
            if let Some(event) = inner.pop() {
                return Popped::Event(event);
            }
            if inner.nudged.swap(false, Ordering::SeqCst) {
                return Popped::Nudged;
            }
            // The order matters: whoever pushes is counted in `sources`, so "none is left" seen first and an empty
            // queue seen after it means empty for ever.
            if inner.finished() {
                return inner.pop().map_or(Popped::Finished, Popped::Event);
            }
            let nothing = || inner.is_empty() && !inner.nudged.load(Ordering::SeqCst) && !inner.finished();
            if !inner.not_empty.wait_while(nothing, deadline) {
                return inner.pop().map_or(Popped::TimedOut, Popped::Event);
            }
        }
    }

    /// Takes the oldest event if there is one now.
    #[must_use]
    pub fn try_pop(&self) -> Option<SourceEvent> {
        self.0.pop()
    }

    /// Takes the oldest event of a source that can't be read again, if there is one now.
    #[must_use]
    pub fn try_pop_volatile(&self) -> Option<SourceEvent> {
        self.0.volatile.pop()
    }

    /// Makes a waiting (or the next) [`Ring::pop`] return [`Popped::Nudged`] once the queue is empty: a batch left
    /// the line, so the consumer may want to send what it has collected.
    pub fn nudge(&self) {
        self.0.nudged.store(true, Ordering::SeqCst);
        self.0.not_empty.open_all();
    }

    /// Stops the sources; see the module page.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.credit.stop();
        self.0.volatile.not_full.open_all();
        self.0.replayable.not_full.open_all();
        self.0.not_empty.open_all();
    }

    /// Was the ring stopped?
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Credit that is handed out, in bytes.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.0.credit.used()
    }

    /// Events in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.volatile.queue.len() + self.0.replayable.queue.len()
    }

    /// Is there no event in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where every position that passes is accounted for.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.0.tally)
    }
}

impl Inner {
    fn pop(&self) -> Option<SourceEvent> {
        self.volatile.pop().or_else(|| self.replayable.pop())
    }

    fn is_empty(&self) -> bool {
        self.volatile.queue.is_empty() && self.replayable.queue.is_empty()
    }

    fn finished(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) && self.sources.load(Ordering::SeqCst) == 0
    }
}

/// A source's way into the ring. Clones share the source's credit; when the last is dropped, its reserve goes back
/// to the others.
#[derive(Debug, Clone)]
pub struct SourceHandle(Arc<SourceInner>);

#[derive(Debug)]
struct SourceInner {
    ring: Arc<Inner>,
    credit: Arc<SourceCredit>,
    is_volatile: bool,
}

impl SourceHandle {
    /// Waits until `bytes` may be used.
    ///
    /// # Errors
    /// [`Stopped`], also while waiting.
    pub fn acquire(&self, bytes: usize) -> Result<CreditPermit, Stopped> {
        SourceCredit::acquire(&self.0.credit, bytes)
    }

    /// Credit for `bytes` if it is there now and nobody waits for it; `None` also when the ring is stopped.
    #[must_use]
    pub fn try_acquire(&self, bytes: usize) -> Option<CreditPermit> {
        SourceCredit::try_acquire(&self.0.credit, bytes)
    }

    /// As [`SourceHandle::try_acquire`], for what can wait: half of what the sources share stays free for what can't.
    #[must_use]
    pub fn try_acquire_spare(&self, bytes: usize) -> Option<CreditPermit> {
        SourceCredit::try_acquire_spare(&self.0.credit, bytes)
    }

    /// Puts an event in, waiting for a free slot.
    ///
    /// # Errors
    /// [`Stopped`] when the ring is stopped and no slot is free. The event is gone with its credit; a replayable
    /// source reads it again after the restart.
    pub fn push(&self, mut event: SourceEvent) -> Result<(), Stopped> {
        let (ring, slots) = (&*self.0.ring, self.slots());
        if let SourceEvent::Block(block) = &mut event {
            block.credit.pushed(ring.tally.read(&block.block));
        }
        loop {
            match slots.queue.push(event) {
                Ok(()) => {
                    ring.not_empty.open_one();
                    return Ok(());
                }
                Err(back) => event = back,
            }
            if self.stopped() {
                if let SourceEvent::Block(block) = &mut event {
                    block.credit.take_in_flight().unread();
                }
                return Err(Stopped);
            }
            let full = || slots.queue.is_full() && !ring.stopped.load(Ordering::SeqCst);
            slots.not_full.wait_while(full, None);
        }
    }

    /// Puts an event in if a slot is free now.
    ///
    /// # Errors
    /// The event, where none is: a source that must not wait keeps it.
    pub fn try_push(&self, mut event: SourceEvent) -> Result<(), Box<SourceEvent>> {
        let ring = &*self.0.ring;
        if let SourceEvent::Block(block) = &mut event {
            block.credit.pushed(ring.tally.read(&block.block));
        }
        match self.slots().queue.push(event) {
            Ok(()) => {
                ring.not_empty.open_one();
                Ok(())
            }
            Err(mut back) => {
                if let SourceEvent::Block(block) = &mut back {
                    block.credit.take_in_flight().unread();
                }
                Err(Box::new(back))
            }
        }
    }

    /// Was the ring stopped?
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.0.ring.stopped.load(Ordering::SeqCst)
    }

    /// Would [`SourceHandle::push`] have to wait for a slot now?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots().queue.is_full()
    }

    fn slots(&self) -> &Slots {
        if self.0.is_volatile {
            &self.0.ring.volatile
        } else {
            &self.0.ring.replayable
        }
    }

    /// From 1; what the blocks' permits say too.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.credit.number()
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.credit.name()
    }
}

impl Drop for SourceInner {
    fn drop(&mut self) {
        self.ring.sources.fetch_sub(1, Ordering::SeqCst);
        self.ring.not_empty.open_all();
    }
}

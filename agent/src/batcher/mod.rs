//! The batcher: which blocks go together, and when. Pure: it is told what came and what time it is, and says what to
//! do next; the encoder's thread does it.
//!
//! ```text
//! push(event)                       next(now, line)
//!    │                                  ▲ Open: before anything else
//!    ├─ Open ──> opens ─────────────────┤
//!    ├─ Block ─> pot[lane, replayable] ─┤ Batch: of one pot, fair between its sources and streams
//!    └─ End ───> ends ──────────────────┘ End: when no pot holds a block of its stream
//! ```
//!
//! **When.** A pot is ready when it has a batch's worth (bytes, blocks or records), when its oldest block waited
//! `max_age`, or at once when the line was silent: nothing in flight and nothing sent for `max_age`. So the first
//! line after a pause leaves immediately, and a steady trickle becomes one batch every `max_age`. A backfill, and what
//! follows a full batch, are no trickle: they wait for nothing but what is in flight, so the rest of a burst does not lie
//! there for `max_age`. `max_age` = 0 sends whatever there is whenever the line takes it. What can't be read again waits for [`VOLATILE_AGE_MAX`] at most.
//!
//! **What first.** Live before backfill, volatile before replayable, because what can be read again can wait. A
//! backfill has all that live data leaves of the line, and of a line that live data would fill its share
//! (`backfill_percent`, in bytes before compression), so that it ends one day.
//!
//! **What is live.** What waited here for `max_age` and [`LIVE_FOR`] is a backlog, whatever lane it came in: the line was away, and
//! what comes now is fresher.
//!
//! **Never together**: live and backfill, replayable and volatile; each batch is of one pot.

mod merge;
mod pot;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Lane, StreamDescriptor};

use crate::flow::{SourceBlock, SourceEvent, StreamClose};
use pot::Pot;

/// Bytes of blocks before compression. Larger ones compress no better (web server lines with `zstd:1`: 3.97 to 1 at 4 KiB,
/// 5.15 at 32 KiB, 5.24 at 128 KiB, 5.25 at 512 KiB, 5.26 at 4 MiB; `encoder::measure`), hold more memory and make
/// a lost connection dearer; much smaller ones cost more frames and acks.
pub const BATCH_BYTES_DEFAULT: usize = 512 << 10;
/// How long data waits for company.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(1);
/// How long data waits at most that can't be read again, whatever `max_age` says. A crash costs it until the spool has it,
/// and the spool writes what is not acked [`SPOOL_AFTER`](crate::spool::SPOOL_AFTER) after it came: the other half of
/// that is for the ack, so that nothing is written while the line works.
pub const VOLATILE_AGE_MAX: Duration = Duration::from_secs(1);
/// Events held here. With the ring's slots it bounds the memory of very small blocks, whose credit counts only
/// their bytes; at it, the rest waits in the ring.
pub const HELD_EVENTS_MAX: usize = 4096;
/// How long data is live beyond `max_age`, for which it may wait anyhow.
pub const LIVE_FOR: Duration = Duration::from_secs(3);
/// What a waiting backfill has of a line that live data would fill.
pub const BACKFILL_PERCENT_DEFAULT: u8 = 20;
/// Beyond this, live data would be the one that waits.
pub const BACKFILL_PERCENT_MAX: u8 = 90;

/// The bounds of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Bytes of blocks before compression. A single larger block makes a batch of its own.
    pub bytes_max: usize,
    /// Blocks.
    pub blocks_max: usize,
    /// Records in all blocks.
    pub records_max: u64,
}

impl Default for BatchSize {
    /// Blocks and records are half of what a collector takes by default.
    fn default() -> Self {
        Self {
            bytes_max: BATCH_BYTES_DEFAULT,
            blocks_max: 8_192,
            records_max: 1 << 20,
        }
    }
}

/// How the batcher is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherSettings {
    /// See the module page.
    pub max_age: Duration,
    /// The bounds of a batch.
    pub size: BatchSize,
    /// What a waiting backfill has of a line that live data would fill, at most [`BACKFILL_PERCENT_MAX`]; 0: nothing.
    pub backfill_percent: u8,
}

impl Default for BatcherSettings {
    fn default() -> Self {
        Self {
            max_age: MAX_AGE_DEFAULT,
            size: BatchSize::default(),
            backfill_percent: BACKFILL_PERCENT_DEFAULT,
        }
    }
}

/// Blocks that go together.
#[derive(Debug)]
pub struct Collected {
    /// Of all of them.
    pub lane: Lane,
    /// Can all of them, or none, be read again?
    pub replayable: bool,
    /// Each stream's blocks next to each other and by position; tiny neighbours are merged.
    pub blocks: Vec<SourceBlock>,
}

/// What is to be sent next.
#[derive(Debug)]
pub enum Action {
    /// Announce a stream.
    Open(Box<StreamDescriptor>),
    /// Encode and send these.
    Batch(Collected),
    /// Announce the end of a stream.
    End(StreamClose),
}

/// Order of preference: live volatile, live replayable, backfill volatile, backfill replayable.
const POTS: [(Lane, bool); 4] = [
    (Lane::Live, false),
    (Lane::Live, true),
    (Lane::Backfill, false),
    (Lane::Backfill, true),
];
const BACKFILL_FROM: usize = 2;

/// See the module page.
#[derive(Debug)]
pub struct Batcher {
    settings: BatcherSettings,
    opens: VecDeque<Box<StreamDescriptor>>,
    ends: VecDeque<StreamClose>,
    pots: [Pot; 4],
    /// Of each pot: was its last batch full?
    bursts: [bool; 4],
    /// When the last batch was taken.
    last_batch_at: Option<Duration>,
    /// Bytes that a waiting backfill is owed for the live batches that went before it.
    backfill_due: usize,
    draining: bool,
}

impl Batcher {
    /// An empty batcher.
    #[must_use]
    pub fn new(settings: BatcherSettings) -> Self {
        Self {
            settings,
            opens: VecDeque::new(),
            ends: VecDeque::new(),
            pots: Default::default(),
            bursts: [false; 4],
            last_batch_at: None,
            backfill_due: 0,
            draining: false,
        }
    }

    /// The bounds of a batch changed: the collector said what it takes.
    pub const fn set_size(&mut self, size: BatchSize) {
        self.settings.size = size;
    }

    /// May more be pushed? Otherwise it stays in the ring.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.held() < HELD_EVENTS_MAX
    }

    /// Events held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.opens.len() + self.ends.len() + self.pots.iter().map(Pot::blocks).sum::<usize>()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held() == 0
    }

    /// From now on nothing waits for company: the agent stops.
    pub const fn drain(&mut self) {
        self.draining = true;
    }

    /// Something came.
    pub fn push(&mut self, event: SourceEvent, now: Duration) {
        match event {
            SourceEvent::Open(descriptor) => self.opens.push_back(descriptor),
            SourceEvent::End(close) => self.ends.push_back(close),
            SourceEvent::Block(block) => {
                let kind = (block.lane, block.replayable);
                let pot = POTS
                    .iter()
                    .position(|pot| *pot == kind)
                    .expect("POTS lists every combination");
                self.pots[pot].push(block, now);
            }
        }
    }

    /// Is there something that should go now, if the line takes it? `in_flight` is the number of batches that
    /// have no answer yet.
    #[must_use]
    pub fn is_ready(&self, now: Duration, in_flight: usize) -> bool {
        !self.opens.is_empty() || self.ready_end().is_some() || self.ready_pot(now, in_flight).is_some()
    }

    /// When [`Batcher::is_ready`] will turn true with nothing else happening; `None`: never.
    #[must_use]
    pub fn deadline(&self, in_flight: usize) -> Option<Duration> {
        (0..POTS.len())
            .filter_map(|pot| self.due_at(pot, in_flight))
            .min()
    }

    /// When what a pot holds goes, though it fills no batch; `None`: it is empty.
    fn due_at(&self, pot: usize, in_flight: usize) -> Option<Duration> {
        let aged_at = self.aged_at(pot)?;
        Some(match in_flight {
            0 if pot >= BACKFILL_FROM || self.bursts[pot] => Duration::ZERO,
            0 => aged_at.min(self.silent_at()),
            _ => aged_at,
        })
    }

    /// When the oldest block of a pot has waited long enough.
    fn aged_at(&self, pot: usize) -> Option<Duration> {
        let (_, replayable) = POTS[pot];
        let age_max = if replayable {
            self.settings.max_age
        } else {
            self.settings.max_age.min(VOLATILE_AGE_MAX)
        };
        Some(self.pots[pot].oldest_at()?.saturating_add(age_max))
    }

    /// Takes what goes next. `None` while [`Batcher::is_ready`] is false.
    pub fn next(&mut self, now: Duration, in_flight: usize) -> Option<Action> {
        if let Some(descriptor) = self.opens.pop_front() {
            return Some(Action::Open(descriptor));
        }
        if let Some(end) = self.ready_end() {
            return self.ends.remove(end).map(Action::End);
        }
        self.put_back(now);
        let pot = self.ready_pot(now, in_flight)?;
        self.last_batch_at = Some(now);
        let (lane, replayable) = POTS[pot];
        let before = self.pots[pot].bytes();
        self.bursts[pot] = self.pots[pot].fills(&self.settings.size);
        let blocks = self.pots[pot].take(&self.settings.size);
        self.share_line(pot, before - self.pots[pot].bytes());
        let blocks = merge::merge_small(blocks);
        Some(Action::Batch(Collected {
            lane,
            replayable,
            blocks,
        }))
    }

    /// What was live, and waited too long to be live still.
    fn put_back(&mut self, now: Duration) {
        let live_for = self.settings.max_age.saturating_add(LIVE_FOR);
        let Some(until) = now.checked_sub(live_for) else {
            return;
        };
        let (live, backfill) = self.pots.split_at_mut(BACKFILL_FROM);
        for (live, backfill) in live.iter_mut().zip(backfill) {
            if live.oldest_at().is_some_and(|since| since <= until) {
                for (since, mut block) in live.take_old(until) {
                    block.lane = Lane::Backfill;
                    backfill.push(block, since);
                }
            }
        }
    }

    /// A batch of `bytes` was taken from a pot: who has the line next?
    fn share_line(&mut self, pot: usize, bytes: usize) {
        if pot >= BACKFILL_FROM {
            self.backfill_due = self.backfill_due.saturating_sub(bytes);
        } else if self.pots[BACKFILL_FROM..].iter().any(|pot| pot.blocks() > 0) {
            let percent = usize::from(self.settings.backfill_percent.min(BACKFILL_PERCENT_MAX));
            let share_of = |bytes: usize| bytes * percent / (100 - percent);
            // What two live batches owe it is as much as it can be late.
            let due_max = 2 * (self.settings.size.bytes_max + share_of(self.settings.size.bytes_max));
            self.backfill_due = (self.backfill_due + share_of(bytes)).min(due_max);
        } else {
            self.backfill_due = 0;
        }
    }

    /// When the oldest block came that can't be read again.
    #[must_use]
    pub fn volatile_oldest_at(&self) -> Option<Duration> {
        let volatile = POTS
            .iter()
            .zip(&self.pots)
            .filter(|((_, replayable), _)| !replayable);
        volatile.filter_map(|(_, pot)| pot.oldest_at()).min()
    }

    /// When the oldest block came that can be read again.
    #[must_use]
    pub fn replayable_oldest_at(&self) -> Option<Duration> {
        let replayable = POTS
            .iter()
            .zip(&self.pots)
            .filter(|((_, replayable), _)| *replayable);
        replayable.filter_map(|(_, pot)| pot.oldest_at()).min()
    }

    /// Takes a batch of blocks that can't be read again, due or not: the line does not take them, the disk will.
    pub fn take_volatile(&mut self) -> Option<Collected> {
        let (pot, (lane, replayable)) = POTS
            .into_iter()
            .enumerate()
            .find(|(pot, (_, replayable))| !replayable && self.pots[*pot].blocks() > 0)?;
        let blocks = merge::merge_small(self.pots[pot].take(&self.settings.size));
        Some(Collected {
            lane,
            replayable,
            blocks,
        })
    }

    /// Takes what came at `until` or before of files that are gone, about `bytes_max` of it, and says when the oldest of
    /// it came.
    pub fn take_gone(
        &mut self,
        gone: &HashSet<StreamId>,
        until: Duration,
        bytes_max: usize,
    ) -> Option<(Duration, Collected)> {
        let replayable = POTS
            .iter()
            .zip(&mut self.pots)
            .filter(|((_, replayable), _)| *replayable);
        let (lane, taken) = replayable
            .map(|((lane, _), pot)| (*lane, pot.take_of(gone, until, bytes_max)))
            .find(|(_, taken)| !taken.is_empty())?;
        let since = taken.iter().map(|(since, _)| *since).min()?;
        let blocks = merge::merge_small(taken.into_iter().map(|(_, block)| block).collect());
        let collected = Collected {
            lane,
            replayable: false,
            blocks,
        };
        Some((since, collected))
    }

    /// Ends that wait for their streams' blocks, or for the line.
    pub fn take_ends(&mut self) -> impl Iterator<Item = StreamClose> {
        std::mem::take(&mut self.ends).into_iter()
    }

    /// An end may go when all blocks of its stream have gone.
    fn ready_end(&self) -> Option<usize> {
        self.ends
            .iter()
            .position(|end| !self.pots.iter().any(|pot| pot.holds(&end.stream_id)))
    }

    fn ready_pot(&self, now: Duration, in_flight: usize) -> Option<usize> {
        let mut ready = (0..POTS.len()).filter(|pot| self.pot_is_ready(*pot, now, in_flight));
        let first = ready.next()?;
        if first < BACKFILL_FROM && self.backfill_due >= self.settings.size.bytes_max {
            return Some(ready.find(|pot| *pot >= BACKFILL_FROM).unwrap_or(first));
        }
        Some(first)
    }

    fn pot_is_ready(&self, pot: usize, now: Duration, in_flight: usize) -> bool {
        let Some(due_at) = self.due_at(pot, in_flight) else {
            return false;
        };
        self.draining
            || due_at <= now
            || self.pots[pot].fills(&self.settings.size)
            // Nothing more can come in, so waiting would be for ever.
            || !self.wants_more()
    }

    fn silent_at(&self) -> Duration {
        self.last_batch_at
            .map_or(Duration::ZERO, |last| last.saturating_add(self.settings.max_age))
    }
}

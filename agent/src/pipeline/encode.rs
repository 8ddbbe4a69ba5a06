//! The encoder's thread: collects from the ring, and when a batch is due and the line has room, makes and hands it on.
//!
//! The thread first gets a place in the channel and only then decides what goes into it. So while the line is full
//! nothing is sealed: data waits in the ring and in the batcher, and leaves in batches as large as allowed. But for
//! what can't be read again: of that a batch is made after [`SPOOL_AFTER`], for the spool.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgelogger_common::clock::Clock;
use edgelogger_common::codec::{Codec, CodecSetting};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::Lane;
use tokio::sync::{mpsc, watch};

use crate::batcher::{Action, BatchSize, Batcher, BatcherSettings, Collected};
use crate::encoder::{BatchesInFlight, Encoder};
use crate::flow::{Outgoing, SourceBlock, SpoolPolicy};
use crate::ring::{Popped, Ring};
use crate::sources::file::RESCUE_PATIENCE;
use crate::spool::{BlockNote, Held, Room, SPOOL_AFTER, Spool};
use crate::transport::{CollectorLimits, LineTerms};

/// After this long without an event the encoder's buffers are given back.
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// While the line takes nothing: how often to take what came, so that it ages, and to look for what is due for the spool.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// However thin the line: smaller batches compress badly.
const THIN_BATCH_BYTES_MIN: u64 = 64 << 10;
/// A line that is not measured yet may be one of 1 Mbit/s. Four batches may be ready when it is there.
const UNMEASURED_BYTES_PER_SECOND: u64 = 128 << 10;
/// What of files that are gone is made a batch for the spool, before compression.
const GONE_BYTES_MAX: usize = 256 << 10;

pub(super) struct EncodeLoop {
    pub ring: Ring,
    pub batcher: Batcher,
    pub encoder: Encoder,
    pub batches: BatchesInFlight,
    pub clock: Arc<dyn Clock>,
    pub outgoing: mpsc::Sender<Outgoing>,
    pub terms: watch::Receiver<LineTerms>,
    pub settings: BatcherSettings,
    pub codec: CodecSetting,
    pub runtime: tokio::runtime::Handle,
    /// Where something is collected that can't be read again.
    pub spool: Option<Spool>,
    /// By the number of the source.
    pub policies: HashMap<u32, SpoolPolicy>,
    /// Numbers of the sources whose files go to the spool when they are gone.
    pub files: HashSet<u32>,
    /// Batches since the last one from the spool, while there was one.
    pub since_spooled: u32,
}

/// Nobody takes anything any more.
struct Gone;

impl EncodeLoop {
    /// Runs until the ring is finished and everything is handed on, or nobody takes it any more.
    pub fn run(mut self) {
        let mut finished = false;
        while !(finished && self.batcher.is_empty()) {
            if !self.is_ready() {
                self.keep_what_is_gone();
                finished |= self.collect();
                if finished {
                    self.batcher.drain();
                }
                continue;
            }
            let place = match self.place() {
                Ok(place) => place,
                Err(Gone) => return self.keep_all(),
            };
            // More may have come while there was no place.
            Self::drain(&self.ring, &mut self.batcher, &*self.clock);
            let Some(place) = place else {
                self.keep_what_is_due();
                self.keep_what_is_gone();
                continue;
            };
            let terms = self
                .terms
                .has_changed()
                .unwrap_or(false)
                .then(|| self.terms.borrow_and_update().clone());
            if let Some(terms) = terms {
                self.batcher.set_size(size_within(self.settings.size, &terms));
                self.encoder.set_codec(codec_within(self.codec, &terms.limits));
            }
            if let Some(item) = self.next_item() {
                place.send(item);
            }
            self.keep_what_is_gone();
        }
    }

    fn is_ready(&self) -> bool {
        let now = self.clock.monotonic();
        self.batcher.is_ready(now, self.batches.count()) || self.backlog().is_some()
    }

    /// The spool, if it has something for the line. While the agent stops it keeps that for the next start.
    fn backlog(&self) -> Option<&Spool> {
        let spool = self.spool.as_ref()?;
        (!self.ring.stopped() && spool.has_next()).then_some(spool)
    }

    /// A place in the line; `None`: it is time to look after what the line does not take.
    fn place(&self) -> Result<Option<mpsc::OwnedPermit<Outgoing>>, Gone> {
        let place = self.outgoing.clone().reserve_owned();
        let place = self
            .runtime
            .block_on(async { tokio::time::timeout(LOOK_EVERY, place).await });
        match place {
            Ok(place) => place.map(Some).map_err(|_| Gone),
            Err(_) => Ok(None),
        }
    }

    /// What goes on the line: fresh data before the spool's, which comes before other backlogs and always gets its turn.
    fn next_item(&mut self) -> Option<Outgoing> {
        if self.since_spooled >= self.live_in_a_row()
            && let Some(item) = self.spooled_item()
        {
            return Some(item);
        }
        let (now, in_flight) = (self.clock.monotonic(), self.batches.count());
        let since = self.batcher.volatile_oldest_at().unwrap_or(now);
        match self.batcher.next(now, in_flight) {
            Some(action) => self.encode(action, since),
            None => self.spooled_item(),
        }
    }

    /// Live batches before the spool has its turn: it is a backlog, with a backlog's share.
    fn live_in_a_row(&self) -> u32 {
        let percent = u32::from(self.settings.backfill_percent.min(100));
        (100 - percent) / percent.max(1)
    }

    fn spooled_item(&mut self) -> Option<Outgoing> {
        self.since_spooled = 0;
        let spool = self.backlog()?;
        let end = spool.next_end().map(Outgoing::End);
        end.or_else(|| spool.next().map(Outgoing::Batch))
    }

    fn encode(&mut self, action: Action, since: Duration) -> Option<Outgoing> {
        match action {
            Action::Open(descriptor) => Some(Outgoing::Open(descriptor)),
            Action::End(close) => match &self.spool {
                Some(spool) => spool.end(close).map(Outgoing::End),
                None => Some(Outgoing::End(close)),
            },
            Action::Batch(collected) => {
                if self.backlog().is_some() {
                    let turns = if collected.lane == Lane::Live {
                        1
                    } else {
                        self.live_in_a_row()
                    };
                    self.since_spooled += turns;
                }
                let replayable = collected.replayable;
                let held = self.hold(collected, since)?;
                let batch = held.batch.clone();
                match &self.spool {
                    Some(spool) if !replayable => spool.sent(held),
                    Some(spool) if !held.notes.is_empty() => {
                        // Whether the line takes it in time counts from here.
                        let since = self.clock.monotonic();
                        spool.sent_files(Held { since, ..held });
                    }
                    _ => {}
                }
                Some(Outgoing::Batch(batch))
            }
        }
    }

    fn hold(&mut self, collected: Collected, since: Duration) -> Option<Held> {
        let of_source = |number: u32| self.policies.get(&number).copied();
        let policy = collected
            .blocks
            .iter()
            .find_map(|block| of_source(block.credit.source_number()));
        let is_watched = |block: &&SourceBlock| {
            !collected.replayable || self.files.contains(&block.credit.source_number())
        };
        let notes = collected
            .blocks
            .iter()
            .filter(is_watched)
            .map(|block| BlockNote::of(&block.block).resuming(&block.resume))
            .collect();
        match self.encoder.encode(collected) {
            Ok(batch) => Some(Held {
                batch,
                notes,
                policy,
                since,
                of_file: None,
            }),
            Err(error) => {
                tracing::error!(%error, "a batch could not be made; its records are sent after a restart of the agent");
                None
            }
        }
    }

    /// The line takes nothing: what can't be read again goes to the spool.
    fn keep_what_is_due(&mut self) {
        let Some(spool) = self.spool.clone() else { return };
        while let Some(since) = self.batcher.volatile_oldest_at()
            && self.clock.monotonic() >= since + SPOOL_AFTER
            && self.policies.values().all(|policy| spool.takes(*policy))
        {
            self.keep_one(&spool, since);
        }
    }

    fn keep_one(&mut self, spool: &Spool, since: Duration) {
        let collected = self.batcher.take_volatile();
        if let Some(held) = collected.and_then(|collected| self.hold(collected, since)) {
            spool.put(held);
        }
    }

    /// What was read of files that are gone now goes to the spool, if it waits here for too long.
    fn keep_what_is_gone(&mut self) {
        let (Some(spool), Some(since)) = (self.spool.clone(), self.batcher.replayable_oldest_at()) else {
            return;
        };
        let until = self.clock.monotonic().checked_sub(SPOOL_AFTER);
        let Some(until) = until.filter(|until| since <= *until && !self.files.is_empty()) else {
            return;
        };
        let gone = spool.gone_streams();
        while !gone.is_empty()
            && spool.room(GONE_BYTES_MAX) == Room::Yes
            && self.keep_one_gone(&spool, &gone, until)
        {}
    }

    /// `false`: there is nothing more.
    fn keep_one_gone(&mut self, spool: &Spool, gone: &HashSet<StreamId>, until: Duration) -> bool {
        let Some((since, collected)) = self.batcher.take_gone(gone, until, GONE_BYTES_MAX) else {
            return false;
        };
        if let Some(held) = self.hold(collected, since) {
            spool.put_files(held);
        }
        true
    }

    /// The agent stops and the line is gone: everything that can't be read again goes to the spool.
    fn keep_all(&mut self) {
        let Some(spool) = self.spool.clone() else { return };
        let deadline = Instant::now() + RESCUE_PATIENCE;
        if self.files.is_empty() {
            while let Some(event) = self.ring.try_pop() {
                self.batcher.push(event, self.clock.monotonic());
            }
        } else {
            // The sources say until their end which files are gone.
            loop {
                match self.ring.pop(Some(deadline)) {
                    Popped::Event(event) => self.batcher.push(event, self.clock.monotonic()),
                    Popped::Nudged => {}
                    Popped::Finished | Popped::TimedOut => break,
                }
            }
            let gone = spool.gone_streams();
            while spool.wait_for_room(GONE_BYTES_MAX, deadline)
                && self.keep_one_gone(&spool, &gone, Duration::MAX)
            {}
            while let Some((since, collected)) = self.batcher.take_gone(&gone, Duration::MAX, GONE_BYTES_MAX)
            {
                if let Some(held) = self.hold(collected, since) {
                    spool.lose_files(held);
                }
            }
        }
        while let Some(since) = self.batcher.volatile_oldest_at() {
            self.keep_one(&spool, since);
        }
        for close in self.batcher.take_ends() {
            // Kept for the next start, which tells it; nothing takes it now.
            let _ = spool.end(close);
        }
    }

    /// Waits for something to happen; `true`: nothing will ever come again.
    fn collect(&mut self) -> bool {
        let now = self.clock.monotonic();
        let due = self.batcher.deadline(self.batches.count());
        let wait = due.map(|due| due.saturating_sub(now));
        // A file may go while what was read of it waits for company.
        let wait = wait.map(|wait| {
            if self.files.is_empty() {
                wait
            } else {
                wait.min(SPOOL_AFTER)
            }
        });
        match self.ring.pop(Some(Instant::now() + wait.unwrap_or(IDLE_AFTER))) {
            Popped::Event(event) => {
                self.batcher.push(event, self.clock.monotonic());
                Self::drain(&self.ring, &mut self.batcher, &*self.clock);
                false
            }
            Popped::Nudged => false,
            Popped::Finished => true,
            Popped::TimedOut if wait.is_some() => false,
            Popped::TimedOut => {
                self.encoder.idle();
                self.wait_for_ever()
            }
        }
    }

    /// There is nothing to do and nothing to wait for but an event.
    fn wait_for_ever(&mut self) -> bool {
        match self.ring.pop(None) {
            Popped::Event(event) => self.batcher.push(event, self.clock.monotonic()),
            Popped::Finished => return true,
            Popped::Nudged | Popped::TimedOut => {}
        }
        false
    }

    fn drain(ring: &Ring, batcher: &mut Batcher, clock: &dyn Clock) {
        let now = clock.monotonic();
        // Bounded by the credit of their sources.
        while let Some(event) = ring.try_pop_volatile() {
            batcher.push(event, now);
        }
        while batcher.wants_more()
            && let Some(event) = ring.try_pop()
        {
            batcher.push(event, now);
        }
    }
}

/// Our bounds of a batch within the collector's. On a thin line a batch has before compression what the line carries in
/// a second, and so holds up what is fresher for a part of one.
fn size_within(size: BatchSize, terms: &LineTerms) -> BatchSize {
    let at_most = |ours: usize, theirs: u64| ours.min(usize::try_from(theirs).unwrap_or(usize::MAX));
    let second = terms
        .bytes_per_second
        .unwrap_or(UNMEASURED_BYTES_PER_SECOND)
        .max(THIN_BATCH_BYTES_MIN);
    let limits = &terms.limits;
    BatchSize {
        bytes_max: at_most(size.bytes_max, limits.decompressed_bytes_max.min(second)),
        blocks_max: at_most(size.blocks_max, limits.blocks_max),
        records_max: size.records_max,
    }
}

/// The configured codec where the collector decodes it, otherwise what it likes best.
fn codec_within(setting: CodecSetting, limits: &CollectorLimits) -> CodecSetting {
    let known: Vec<Codec> = limits
        .codecs
        .iter()
        .filter_map(|codec| Codec::try_from(*codec).ok())
        .collect();
    match known.first() {
        Some(best) if !known.contains(&setting.codec()) => {
            tracing::info!(
                "the collector does not decode {}; batches are compressed with {best}",
                setting.codec()
            );
            CodecSetting::default_of(*best)
        }
        _ => setting,
    }
}

#[cfg(test)]
mod tests {
    use edgelogger_proto::v1;

    use super::*;

    #[test]
    fn a_batch_stays_within_the_bounds_of_both() {
        let limits = CollectorLimits {
            decompressed_bytes_max: 1000,
            blocks_max: 5,
            ..CollectorLimits::default()
        };
        let terms = LineTerms {
            limits,
            bytes_per_second: None,
        };
        let size = size_within(BatchSize::default(), &terms);
        assert_eq!((size.bytes_max, size.blocks_max), (1000, 5));
        assert_eq!(
            size_within(BatchSize::default(), &LineTerms::default()).bytes_max,
            128 << 10,
            "not measured"
        );
    }

    #[test]
    fn a_batch_is_as_small_as_the_line_is_thin() {
        let bytes_max = |bytes_per_second| {
            let terms = LineTerms {
                bytes_per_second,
                ..LineTerms::default()
            };
            size_within(BatchSize::default(), &terms).bytes_max
        };
        assert_eq!(bytes_max(Some(128 << 10)), 128 << 10);
        assert_eq!(bytes_max(Some(1 << 10)), 64 << 10);
        assert_eq!(bytes_max(Some(1 << 40)), BatchSize::default().bytes_max);
    }

    #[test]
    fn a_codec_that_the_collector_does_not_know_is_replaced() {
        let setting: CodecSetting = "zstd:1".parse().unwrap();
        let limits = |codecs: &[v1::Codec]| CollectorLimits {
            codecs: codecs.to_vec(),
            ..CollectorLimits::default()
        };
        assert_eq!(codec_within(setting, &limits(&[])), setting);
        assert_eq!(
            codec_within(setting, &limits(&[v1::Codec::Lz4, v1::Codec::Zstd])),
            setting
        );
        assert_eq!(
            codec_within(setting, &limits(&[v1::Codec::Lz4])),
            "lz4".parse().unwrap()
        );
    }
}

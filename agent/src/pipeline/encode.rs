//! The encoder's thread: collects from the ring, and when a batch is due and the line has room, makes and hands it on.
//!
//! The thread first gets a place in the channel and only then decides what goes into it. So while the line is full
//! nothing is sealed: data waits in the ring and in the batcher, and leaves in batches as large as allowed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use edgelogger_common::clock::Clock;
use edgelogger_common::codec::{Codec, CodecSetting};
use tokio::sync::{mpsc, watch};

use crate::batcher::{Action, BatchSize, Batcher, BatcherSettings};
use crate::encoder::{BatchesInFlight, Encoder};
use crate::flow::Outgoing;
use crate::ring::{Popped, Ring};
use crate::transport::CollectorLimits;

/// After this long without an event the encoder's buffers are given back.
const IDLE_AFTER: Duration = Duration::from_secs(5);

pub(super) struct EncodeLoop {
    pub ring: Ring,
    pub batcher: Batcher,
    pub encoder: Encoder,
    pub batches: BatchesInFlight,
    pub clock: Arc<dyn Clock>,
    pub outgoing: mpsc::Sender<Outgoing>,
    pub limits: watch::Receiver<CollectorLimits>,
    pub settings: BatcherSettings,
    pub codec: CodecSetting,
    pub runtime: tokio::runtime::Handle,
}

impl EncodeLoop {
    /// Runs until the ring is finished and everything is handed on, or nobody takes it any more.
    pub fn run(mut self) {
        let mut finished = false;
        while !(finished && self.batcher.is_empty()) {
            if !self
                .batcher
                .is_ready(self.clock.monotonic(), self.batches.count())
            {
                finished |= self.collect();
                if finished {
                    self.batcher.drain();
                }
                continue;
            }
            let Ok(place) = self.runtime.block_on(self.outgoing.reserve()) else {
                return;
            };
            // More may have come while there was no place.
            Self::drain(&self.ring, &mut self.batcher, &*self.clock);
            let limits = self
                .limits
                .has_changed()
                .unwrap_or(false)
                .then(|| self.limits.borrow_and_update().clone());
            if let Some(limits) = limits {
                self.batcher.set_size(size_within(self.settings.size, &limits));
                self.encoder.set_codec(codec_within(self.codec, &limits));
            }
            let action = self.batcher.next(self.clock.monotonic(), self.batches.count());
            if let Some(item) = action.and_then(|action| encode(&mut self.encoder, action)) {
                place.send(item);
            }
        }
    }

    /// Waits for something to happen; `true`: nothing will ever come again.
    fn collect(&mut self) -> bool {
        let now = self.clock.monotonic();
        let due = self.batcher.deadline(self.batches.count());
        let wait = due.map(|due| due.saturating_sub(now));
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
        while batcher.wants_more()
            && let Some(event) = ring.try_pop()
        {
            batcher.push(event, now);
        }
    }
}

fn encode(encoder: &mut Encoder, action: Action) -> Option<Outgoing> {
    match action {
        Action::Open(descriptor) => Some(Outgoing::Open(descriptor)),
        Action::End(close) => Some(Outgoing::End(close)),
        Action::Batch(collected) => match encoder.encode(collected) {
            Ok(batch) => Some(Outgoing::Batch(batch)),
            Err(error) => {
                tracing::error!(%error, "a batch could not be made; its records are sent after a restart of the agent");
                None
            }
        },
    }
}

/// Our bounds of a batch within the collector's.
fn size_within(size: BatchSize, limits: &CollectorLimits) -> BatchSize {
    let at_most = |ours: usize, theirs: u64| ours.min(usize::try_from(theirs).unwrap_or(usize::MAX));
    BatchSize {
        bytes_max: at_most(size.bytes_max, limits.decompressed_bytes_max),
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
        let size = size_within(BatchSize::default(), &limits);
        assert_eq!((size.bytes_max, size.blocks_max), (1000, 5));
        assert_eq!(
            size_within(BatchSize::default(), &CollectorLimits::default()),
            BatchSize::default()
        );
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

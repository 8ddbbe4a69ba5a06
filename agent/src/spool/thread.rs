//! The thread that waits for the disk, so that nothing else does: carries out what the state decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::{Block, ReceiptReason};
use edgelogger_common::segment::{ReadItem, SegmentError};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Lane, PositionUnit, SpoolStream};
use parking_lot::MutexGuard;

use super::disk::{InPlace, Store};
use super::entry::{self, BlockNote, Content};
use super::files::{self, Found};
use super::recover::{self, Plan, Recovery};
use super::state::State;
use super::work::{Append, Work};
use super::{BEFORE, Shared};
use crate::checkpoint::{Checkpoints, StreamState};
use crate::flow::{Resume, SourceBlock, SourceEvent};
use crate::ring::{CreditPermit, SourceHandle, Stopped};

/// The first pause after a failure; it doubles up to the longest.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// After so many failures to read, what can't be read is taken for damaged.
const READ_ATTEMPTS: u32 = 5;
/// How often the free space is looked at while there is too little.
const LOOK_AT_FREE: Duration = Duration::from_secs(10);
/// A clock before this (2024-01-01) is not set: how old something is by it means nothing.
const PLAUSIBLE_NS: i64 = 1_704_067_200_000_000_000;

pub(super) struct DiskThread {
    pub shared: Arc<Shared>,
    pub store: Store,
    /// Streams of earlier processes that can't be read again, until they are closed.
    pub earlier: Option<Vec<StreamState>>,
    /// The checkpoint file lost streams.
    pub adopts: bool,
    pub failures: u32,
    pub gave_up: bool,
}

impl DiskThread {
    pub fn run(mut self) {
        self.begin();
        while let Some(work) = self.next_work() {
            self.do_it(work);
            let state = self.shared.state.lock();
            let has_something = state.has_next() || state.has_end();
            drop(state);
            if has_something {
                self.shared.ring.nudge();
            }
        }
    }

    /// Waits for something to do; `None`: the agent stops, and everything that can be written is.
    pub fn next_work(&self) -> Option<Work> {
        loop {
            let (mut state, left) = self.look_at_free();
            let now = self.shared.now();
            if let Some(work) = state.work(now) {
                return if self.gave_up { None } else { Some(work) };
            }
            if state.is_settled() || (self.gave_up && state.is_stopping()) {
                return None;
            }
            let due = state.due().map(|due| due.saturating_sub(now));
            let look = left.map(|_| LOOK_AT_FREE);
            match due.into_iter().chain(look).min() {
                Some(wait) => drop(self.shared.changed.wait_for(&mut state, wait)),
                None => self.shared.changed.wait(&mut state),
            }
        }
    }

    /// The disk is asked before the lock is taken: it may not answer, and acks don't wait for it.
    fn look_at_free(&self) -> (MutexGuard<'_, State>, Option<u64>) {
        let left = self.store.left();
        let mut state = self.shared.state.lock();
        let left = left.filter(|_| state.wants_disk() || state.is_capped());
        state.free_is(left);
        (state, left)
    }

    /// Something to do now, if there is.
    #[cfg(test)]
    pub fn work_now(&self) -> Option<Work> {
        let (mut state, _) = self.look_at_free();
        let work = state.work(self.shared.now());
        work.filter(|_| !self.gave_up)
    }

    pub fn do_it(&mut self, work: Work) {
        if let Err(error) = self.carry_out(work) {
            self.failed(&error);
        }
    }

    fn carry_out(&mut self, work: Work) -> Result<(), SegmentError> {
        match work {
            Work::Reopen => return self.reopen(),
            Work::Append(append) => self.append(*append)?,
            Work::Sync => {
                let end = self.store.sync()?;
                self.works();
                self.shared.state.lock().synced(end, self.shared.now());
            }
            Work::DropOldest => {
                let end = self.store.drop_oldest()?;
                self.shared.state.lock().dropped_below(end, self.shared.now());
            }
            Work::Trim(sequence) => self.store.trim(sequence)?,
            Work::Clear => self.store.clear()?,
            Work::Read(sequence) => self.read(sequence)?,
        }
        self.tell_extent();
        Ok(())
    }

    fn works(&mut self) {
        self.failures = 0;
        self.shared.trouble.lock().disk = None;
    }

    fn tell_extent(&self) {
        let (bytes, durable_end, oldest_segment_end) = self.store.extent();
        self.shared
            .state
            .lock()
            .log_is(bytes, durable_end, oldest_segment_end);
    }

    fn append(&mut self, append: Append) -> Result<(), SegmentError> {
        let now_ns = self.shared.clock.wall_ns();
        let bytes = match &append {
            Append::Waiting(held) | Append::Copy(_, held) => {
                let streams = self.streams(&held.notes);
                match files::part_of(held) {
                    Ok(batch) => entry::batch(&batch, &held.notes, streams, now_ns),
                    Err(error) => {
                        tracing::error!("a batch can't be copied to the spool: {error}; test the memory");
                        self.shared.state.lock().not_copied(&append);
                        return Ok(());
                    }
                }
            }
            Append::End(close) => {
                let stream = self.shared.checkpoints.stream(&close.stream_id);
                entry::end(close, stream.map(entry::stream).into_iter().collect(), now_ns)
            }
        };
        match self.store.append(&bytes) {
            Ok(sequence) => {
                self.shared.bytes_written_add(bytes.len() as u64);
                self.shared
                    .state
                    .lock()
                    .appended(append, sequence, self.shared.now());
                Ok(())
            }
            Err(error) => {
                let retry_at = self.retry_at();
                self.shared.state.lock().failed(Some(append), retry_at);
                Err(error)
            }
        }
    }

    fn streams(&self, notes: &[BlockNote]) -> Vec<SpoolStream> {
        let mut ids: Vec<StreamId> = notes.iter().map(|note| note.stream_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let states = ids.iter().filter_map(|id| self.shared.checkpoints.stream(id));
        states.map(entry::stream).collect()
    }

    fn read(&mut self, sequence: u64) -> Result<(), SegmentError> {
        let found = self.store.read(sequence)?;
        let now = self.shared.now();
        let mut state = self.shared.state.lock();
        let damaged = match found {
            // It stands behind what is durable after all: a failure was in between, which is dealt with.
            None => {
                state.not_loaded();
                return Ok(());
            }
            Some(InPlace::Nothing(frames)) => frames,
            Some(InPlace::Entry(payload)) => match entry::read(payload).map(|entry| entry.content) {
                Ok(Content::Batch(batch, _)) => {
                    state.loaded(sequence, batch);
                    drop(state);
                    self.works();
                    return Ok(());
                }
                Ok(Content::End(_)) => sequence..sequence + 1,
                Err(error) => {
                    tracing::error!("frame {sequence} of the spool: {error}");
                    sequence..sequence + 1
                }
            },
        };
        state.damaged(damaged.start, damaged.end, now);
        drop(state);
        self.say_damaged(damaged.end - damaged.start);
        Ok(())
    }

    fn say_damaged(&self, frames: u64) {
        let now_ns = self.shared.clock.wall_ns();
        self.shared.trouble.lock().damaged(frames, now_ns);
        tracing::error!(
            "{frames} frames of the spool are damaged: what they held is declared lost. Damaged bytes are kept in \
             spool/quarantine; test the disk"
        );
    }

    // --- Failure -------------------------------------------------------------------------------------------------

    fn retry_at(&self) -> Duration {
        let pause = RETRY_MIN.saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX);
        self.shared.now() + pause
    }

    fn failed(&mut self, error: &SegmentError) {
        let retry_at = self.retry_at();
        let mut state = self.shared.state.lock();
        if !state.is_failed() {
            state.failed(None, retry_at);
        }
        self.gave_up = state.is_stopping();
        drop(state);
        self.failures += 1;
        self.store.step_over_unreadable = self.failures >= READ_ATTEMPTS;
        let code = error.code();
        let said = self.shared.trouble.lock().failed(code.code, &error.to_string());
        if said {
            tracing::error!(
                "{code}: the spool can't be used: {error}. What it should keep stays in memory; it is tried again"
            );
        }
        if self.gave_up {
            tracing::error!(
                "the spool could not be written before the end: what was not acknowledged is lost, and the next start says so"
            );
        }
    }

    fn reopen(&mut self) -> Result<(), SegmentError> {
        if self.earlier.is_some() && self.store.exists() {
            return self.try_begin();
        }
        if self.store.extent().1 > 0 {
            let report = self.store.open()?;
            self.tell_report(&report);
        }
        self.tell_extent();
        Ok(())
    }

    // --- The beginning -------------------------------------------------------------------------------------------

    pub fn begin(&mut self) {
        if !self.store.exists() {
            self.close_earlier(&Plan::default());
            *self.shared.found.lock() = Found::Files(HashMap::new());
        } else if let Err(error) = self.try_begin() {
            *self.shared.found.lock() = Found::Unreadable;
            self.failed(&error);
        }
    }

    /// Opens what an earlier process left, takes over what is to be sent, and closes its streams.
    fn try_begin(&mut self) -> Result<(), SegmentError> {
        let report = self.store.open()?;
        self.tell_report(&report);
        let states = self.shared.checkpoints.streams();
        let mut recovery = Recovery::new(&states, self.adopts);
        self.store.read_all(|item| match item {
            ReadItem::Frame(frame) => match entry::read(frame.payload) {
                Ok(entry) => recovery.frame(frame.sequence, entry),
                Err(error) => {
                    tracing::error!("frame {} of the spool: {error}", frame.sequence);
                    recovery.damaged(1);
                }
            },
            ReadItem::Damaged {
                from_sequence,
                to_sequence,
                ..
            } => recovery.damaged(to_sequence - from_sequence),
            ReadItem::Dropped { .. } => {}
        })?;
        let mut plan = recovery.finish();
        if plan.frames_damaged > 0 {
            self.say_damaged(plan.frames_damaged);
        }
        if !plan.adopted.is_empty()
            && let Err(error) = self.shared.checkpoints.create(&plan.adopted)
        {
            // They are sent all the same; only what is acked of them is not remembered.
            tracing::error!(%error, "streams of the spool could not be entered in the checkpoint file");
        }
        self.take_over(std::mem::take(&mut plan.frames));
        self.tell_extent();
        self.close_earlier(&plan);
        let is_file = |id: &StreamId| {
            let stream = self.shared.checkpoints.stream(id);
            stream.is_some_and(|stream| stream.descriptor.replayable)
        };
        plan.known.retain(|id, _| is_file(id));
        *self.shared.found.lock() = Found::Files(plan.known);
        Ok(())
    }

    fn tell_report(&self, report: &edgelogger_common::segment::RecoveryReport) {
        if report.plan.is_clean() || report.plan.is_new {
            tracing::debug!("{report}");
        } else {
            tracing::warn!("the spool was repaired:\n{report}");
        }
    }

    fn take_over(&self, frames: Vec<(u64, i64, Vec<BlockNote>)>) {
        let (now, now_ns) = (self.shared.now(), self.shared.clock.wall_ns());
        if !frames.is_empty() {
            tracing::info!(
                "{} batches of an earlier process are in the spool and will be sent",
                frames.len()
            );
        }
        let mut state = self.shared.state.lock();
        for (sequence, written_ns, notes) in frames {
            let is_plausible = written_ns >= PLAUSIBLE_NS && now_ns >= written_ns;
            let age_ns = if is_plausible {
                now_ns.abs_diff(written_ns)
            } else {
                0
            };
            let age = Duration::from_nanos(age_ns).min(BEFORE);
            state.found(sequence, notes, now.saturating_sub(age));
        }
    }

    fn close_earlier(&mut self, plan: &Plan) {
        let mut earlier = self.earlier.take().unwrap_or_default();
        let adopted = plan
            .adopted
            .iter()
            .filter_map(|descriptor| StreamId::try_from(&descriptor.stream_id[..]).ok());
        let adopted = adopted.filter_map(|id| self.shared.checkpoints.stream(&id));
        // A file's stream is ended by its source, which looks for the file first.
        earlier.extend(adopted.filter(|stream| !stream.descriptor.replayable));
        if earlier.is_empty() {
            return;
        }
        let ring = self.shared.ring.volatile_source("spool", 0);
        for state in earlier {
            // What the ring does not take any more the next process closes.
            if close(&ring, &state, plan).is_err() {
                return;
            }
        }
    }
}

fn close(ring: &SourceHandle, state: &StreamState, plan: &Plan) -> Result<(), Stopped> {
    let Ok(stream_id) = StreamId::try_from(&state.descriptor.stream_id[..]) else {
        return Ok(());
    };
    let closing = recover::close(stream_id, state, plan.known.get(&stream_id));
    let counts_records = state.descriptor.unit() == PositionUnit::Record;
    for (start, end, reason) in closing.holes {
        ring.push(SourceEvent::Block(receipt(
            stream_id,
            counts_records,
            start..end,
            reason,
        )))?;
    }
    ring.push(SourceEvent::End(closing.end))
}

/// A receipt, which is too small to be counted.
fn receipt(
    stream_id: StreamId,
    counts_records: bool,
    range: std::ops::Range<u64>,
    reason: ReceiptReason,
) -> SourceBlock {
    let count = if counts_records {
        range.end - range.start
    } else {
        0
    };
    SourceBlock {
        block: Block::receipt(
            stream_id,
            counts_records,
            range.start,
            range.end,
            reason,
            count,
            counts_records,
        ),
        lane: Lane::Backfill,
        replayable: false,
        resume: Resume::Nowhere,
        credit: CreditPermit::uncounted(),
    }
}

/// Streams that can't be read again, which earlier processes left open.
pub(super) fn earlier(checkpoints: &Checkpoints) -> Vec<StreamState> {
    let mut states = checkpoints.streams();
    states.retain(|state| !state.descriptor.replayable);
    states
}

//! What the disk does next, and what came of it.

use std::time::Duration;

use edgelogger_common::block::ReceiptReason;
use edgelogger_common::segment::SEGMENT_HEADER_BYTES;
use edgelogger_proto::v1::Batch;

use super::frames::{Fate, Frame};
use super::line::{Copied, Held};
use super::state::{MEMORY_BYTES_MAX, SPOOL_AFTER, State};
use crate::flow::{SpoolPolicy, StreamClose};

/// A log without anything in it that is needed is thrown away from this size on; a smaller one costs more to begin anew
/// than it takes.
const TRIM_BYTES: u64 = 256 << 10;

/// What to append.
#[derive(Debug)]
pub enum Append {
    /// A batch that waited.
    Waiting(Held),
    /// A copy of what is on the line, by its number.
    Copy(u64, Held),
    /// The end of a stream.
    End(StreamClose),
}

/// What the shell does next.
#[derive(Debug)]
pub enum Work {
    /// Open the log again after a failure.
    Reopen,
    /// Append this; tell [`State::appended`] or [`State::failed`].
    Append(Box<Append>),
    /// Sync; tell [`State::synced`].
    Sync,
    /// Remove the oldest segment; tell [`State::dropped_below`].
    DropOldest,
    /// Nothing below this sequence is needed.
    Trim(u64),
    /// Nothing at all is needed.
    Clear,
    /// Read this frame; tell [`State::loaded`].
    Read(u64),
}

/// The log, as far as decisions need it.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    pub bytes: u64,
    /// Beyond this it may not grow: the disk belongs to others too.
    pub cap_bytes: Option<u64>,
    /// The most that it had since that began.
    floor_bytes: Option<u64>,
    oldest_segment_end: Option<u64>,
    durable_end: u64,
    unsynced: bool,
    /// Not before this.
    sync_at: Duration,
    retry_at: Option<Duration>,
    /// It holds an end, which is for the next process.
    has_end: bool,
}

impl State {
    /// The log was opened, or changed.
    pub fn log_is(&mut self, bytes: u64, durable_end: u64, oldest_segment_end: Option<u64>) {
        self.disk.bytes = bytes;
        self.disk.durable_end = durable_end;
        self.disk.oldest_segment_end = oldest_segment_end;
        // Where a segment is full, an append makes durable what stands before it.
        self.settle_durable();
    }

    /// How many more bytes of the disk may be used; `None`: enough.
    pub fn free_is(&mut self, left: Option<u64>) {
        let disk = &mut self.disk;
        // As large as it was it may always be: what it gives up of its own it may use again.
        let floor = left.map(|_| disk.floor_bytes.unwrap_or(0).max(disk.bytes));
        disk.cap_bytes = left
            .zip(floor)
            .map(|(left, floor)| (disk.bytes + left).max(floor));
        disk.floor_bytes = floor;
    }

    /// What to do now.
    pub fn work(&mut self, now: Duration) -> Option<Work> {
        if let Some(at) = self.disk.retry_at {
            if now < at && !self.stopping {
                return None;
            }
            self.disk.retry_at = None;
            return Some(Work::Reopen);
        }
        let is_due = now >= self.disk.sync_at || self.stopping || self.unsynced_is_much();
        if self.disk.unsynced && is_due {
            return Some(Work::Sync);
        }
        self.drop_too_old(now);
        self.next_append(now)
            .or_else(|| self.next_trim())
            .or_else(|| self.next_read())
            .or_else(|| self.next_end_to_append())
    }

    /// When [`State::work`] has something to do with nothing else happening.
    pub fn due(&self) -> Option<Duration> {
        if self.disk.retry_at.is_some() {
            return self.disk.retry_at;
        }
        let sync = self.disk.unsynced.then_some(self.disk.sync_at);
        let receipts = self.gaps.since().filter(|_| self.has_room(0, true));
        let receipts = receipts.map(|since| since + SPOOL_AFTER);
        let age = self
            .frames
            .first_unsent()
            .map(|frame| frame.since + self.limits.age_max);
        [self.line.due(&self.gone), sync, receipts, age]
            .into_iter()
            .flatten()
            .min()
    }

    /// Is everything done that can be, before the process ends?
    pub fn is_settled(&self) -> bool {
        self.stopping && !self.disk.unsynced && self.appended.is_empty()
    }

    fn drop_too_old(&mut self, now: Duration) {
        if let Some(time) = now.checked_sub(self.limits.age_max) {
            for sequence in self.frames.unsent_before(time) {
                self.give_up_frame(sequence, ReceiptReason::TooOld, now);
            }
            self.frames.pop_done();
        }
    }

    fn next_append(&mut self, now: Duration) -> Option<Work> {
        let has_room = |held: &Held| self.has_room(held.batch.payload.len() as u64, held.policy.is_none());
        let may_drop = self.may_drop();
        let makes_room = |held: &Held| held.policy == Some(SpoolPolicy::DropOldest) && may_drop;
        // What waits until there is room holds up nobody behind it.
        let at = self
            .waiting
            .iter()
            .position(|held| has_room(held) || makes_room(held));
        if let Some(at) = at {
            if !has_room(&self.waiting[at]) {
                return Some(Work::DropOldest);
            }
            let held = self.waiting.remove(at)?;
            self.waiting_bytes -= held.batch.payload.len();
            return Some(Work::Append(Box::new(Append::Waiting(held))));
        }
        self.next_copy(now).or_else(|| self.receipts_to_append(now))
    }

    fn next_copy(&mut self, now: Duration) -> Option<Work> {
        let since_max = if self.stopping {
            Duration::MAX
        } else {
            now.checked_sub(SPOOL_AFTER)?
        };
        loop {
            let Some((number, on_line)) = self.line.uncopied(since_max, &self.gone) else {
                return self.next_late_copy();
            };
            let held = on_line.held.clone();
            let may_drop = held.policy == Some(SpoolPolicy::DropOldest) && self.may_drop();
            let has_room = self.has_room(held.batch.payload.len() as u64, held.policy.is_none());
            if !has_room && may_drop {
                return Some(Work::DropOldest);
            }
            let on_line = self.line.get_mut(number)?;
            on_line.copied = if has_room { Copied::Now } else { Copied::NoRoom };
            if has_room {
                return Some(Work::Append(Box::new(Append::Copy(number, held))));
            }
        }
    }

    /// There was no room for it when it was due, and there is now.
    fn next_late_copy(&mut self) -> Option<Work> {
        let fits = |held: &Held| self.has_room(held.batch.payload.len() as u64, held.policy.is_none());
        let (number, held) = self.line.without_room().find(|(_, held)| fits(held))?;
        let held = held.clone();
        self.line.get_mut(number)?.copied = Copied::Now;
        Some(Work::Append(Box::new(Append::Copy(number, held))))
    }

    fn receipts_to_append(&mut self, now: Duration) -> Option<Work> {
        let since = self.gaps.since()?;
        let is_due = self.stopping || now >= since + SPOOL_AFTER;
        if !is_due || !self.has_room(0, true) {
            return None;
        }
        let held = self.make_receipts(since)?;
        self.keep(&held.notes);
        Some(Work::Append(Box::new(Append::Waiting(held))))
    }

    fn next_trim(&self) -> Option<Work> {
        if let Some(first) = self.frames.first() {
            let end = self.disk.oldest_segment_end?;
            return (end <= first.sequence).then_some(Work::Trim(first.sequence));
        }
        let least = if self.stopping {
            SEGMENT_HEADER_BYTES as u64
        } else {
            TRIM_BYTES
        };
        let is_idle = !self.disk.unsynced && !self.disk.has_end;
        (is_idle && self.disk.bytes > least).then_some(Work::Clear)
    }

    fn next_read(&mut self) -> Option<Work> {
        if self.ready.is_some() || self.reading.is_some() || self.stopping {
            return None;
        }
        let sequence = self.frames.first_unsent()?.sequence;
        if sequence >= self.disk.durable_end {
            return None;
        }
        self.reading = Some(sequence);
        Some(Work::Read(sequence))
    }

    fn next_end_to_append(&mut self) -> Option<Work> {
        if !self.stopping || !self.has_room(0, true) {
            return None;
        }
        let close = self.held_ends.pop()?;
        Some(Work::Append(Box::new(Append::End(close))))
    }

    /// It stands in this frame, not yet synced.
    pub fn appended(&mut self, append: Append, sequence: u64, now: Duration) {
        if !self.disk.unsynced {
            self.disk.unsynced = true;
            self.disk.sync_at = self.disk.sync_at.max(now);
        }
        let (fate, notes) = match append {
            Append::End(_) => {
                self.disk.has_end = true;
                return;
            }
            Append::Waiting(held) => {
                let notes = held.notes.clone();
                self.appended.push((sequence, held));
                (Fate::Unsent, notes)
            }
            Append::Copy(number, held) => match self.line.get_mut(number) {
                Some(on_line) => {
                    on_line.copied = Copied::At(sequence);
                    (Fate::Sent, held.notes)
                }
                // Acked while it was written.
                None => (Fate::Done, held.notes),
            },
        };
        self.counters.batches_written += 1;
        self.frames.push(Frame {
            sequence,
            since: now,
            notes,
            in_flight: None,
            fate,
        });
    }

    /// Everything appended is durable: it need not be in memory any more.
    pub fn synced(&mut self, durable_end: u64, now: Duration) {
        let disk = &mut self.disk;
        (disk.durable_end, disk.unsynced) = (durable_end, false);
        disk.sync_at = now + self.limits.fsync_interval;
        self.settle_durable();
        self.frames.pop_done();
    }

    /// What is durable lives on as its frame alone.
    fn settle_durable(&mut self) {
        let durable_end = self.disk.durable_end;
        let durable: Vec<(u64, Held)>;
        (durable, self.appended) = std::mem::take(&mut self.appended)
            .into_iter()
            .partition(|(sequence, _)| *sequence < durable_end);
        for (sequence, held) in durable {
            held.batch
                .blocks
                .iter()
                .for_each(|block| self.tally.set_aside(block));
            if let Some(frame) = self.frames.get_mut(sequence) {
                frame.in_flight = Some(held.batch.in_flight);
            }
        }
    }

    /// A write or sync failed: what is not durable is in memory only, as before.
    pub fn failed(&mut self, unfinished: Option<Append>, retry_at: Duration) {
        self.disk.retry_at = Some(retry_at);
        self.disk.unsynced = false;
        self.reading = None;
        let durable = self.disk.durable_end;
        self.frames.cut_from(durable);
        self.line.copies_gone(|sequence| sequence >= durable, Copied::No);
        let mut back: Vec<Held> = std::mem::take(&mut self.appended)
            .into_iter()
            .map(|(_, held)| held)
            .collect();
        match unfinished {
            Some(Append::Waiting(held)) => back.push(held),
            Some(Append::Copy(number, _)) => {
                if let Some(on_line) = self.line.get_mut(number) {
                    on_line.copied = Copied::No;
                }
            }
            Some(Append::End(close)) => self.held_ends.push(close),
            None => {}
        }
        for held in back.into_iter().rev() {
            self.waiting_bytes += held.batch.payload.len();
            self.waiting.push_front(held);
        }
        while self.waiting_bytes > MEMORY_BYTES_MAX && self.waiting.len() > 1 && self.drop_waiting(true) {}
    }

    /// The segments below are gone, for want of room.
    pub fn dropped_below(&mut self, end: u64, now: Duration) {
        for sequence in self.frames.unsent_in(0..end) {
            self.give_up_frame(sequence, ReceiptReason::QueueFull, now);
        }
        self.frames.cut_below(end);
        self.line.copies_gone(|sequence| sequence < end, Copied::Dropped);
    }

    fn give_up_frame(&mut self, sequence: u64, reason: ReceiptReason, now: Duration) {
        let Some(frame) = self.frames.get_mut(sequence) else {
            return;
        };
        frame.fate = Fate::Done;
        let (notes, in_flight) = (std::mem::take(&mut frame.notes), frame.in_flight.take());
        // Not synced yet: it is still in memory, and with it what is in flight.
        let at = self
            .appended
            .iter()
            .position(|(appended, _)| *appended == sequence);
        let appended = at.map(|at| self.appended.swap_remove(at).1.batch.in_flight);
        if self.ready.as_ref().is_some_and(|(ready, _)| *ready == sequence) {
            self.ready = None;
        }
        self.give_up(&notes, reason, in_flight.or(appended), now);
    }

    /// What a frame holds was read.
    pub fn loaded(&mut self, sequence: u64, batch: Batch) {
        self.reading = None;
        let is_wanted = |frame: &mut Frame| frame.fate == Fate::Unsent;
        if self.frames.get_mut(sequence).is_some_and(is_wanted) {
            self.ready = Some((sequence, batch));
        }
    }

    /// Nothing could be read.
    pub fn not_loaded(&mut self) {
        self.reading = None;
    }

    /// These frames can't be read any more.
    pub fn damaged(&mut self, from: u64, to: u64, now: Duration) {
        self.reading = None;
        for sequence in self.frames.unsent_in(from..to) {
            self.give_up_frame(sequence, ReceiptReason::Damaged, now);
        }
        self.frames.pop_done();
    }

    fn may_drop(&self) -> bool {
        self.frames.first().is_some() || self.disk.bytes > SEGMENT_HEADER_BYTES as u64
    }

    /// Does the log wait to be opened again?
    pub(super) const fn is_failed(&self) -> bool {
        self.disk.retry_at.is_some()
    }
}

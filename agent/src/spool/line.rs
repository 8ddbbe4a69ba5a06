//! What is on the line: handed to the transport, and not acked yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use edgelogger_common::stream::StreamId;

use super::entry::BlockNote;
use super::state::SPOOL_AFTER;
use crate::flow::{EncodedBatch, SentBlock, SpoolPolicy};

/// A batch in memory.
#[derive(Debug, Clone)]
pub struct Held {
    /// It.
    pub batch: EncodedBatch,
    /// What is in it.
    pub notes: Box<[BlockNote]>,
    /// What happens to it where there is no room. `None`: receipts, which are never dropped.
    pub policy: Option<SpoolPolicy>,
    /// When its oldest block came.
    pub since: Duration,
    /// It is what one file has in a batch that is on the line; written only once the file is gone.
    pub of_file: Option<OfFile>,
}

/// A file's part of a batch.
#[derive(Debug, Clone, Copy)]
pub struct OfFile {
    /// Its stream, which is that of all `notes`.
    pub stream_id: StreamId,
    /// Blocks of all streams in the batch.
    pub blocks: usize,
}

impl Held {
    /// Can it not be read again?
    fn is_volatile(&self, gone: &HashSet<StreamId>) -> bool {
        self.of_file
            .is_none_or(|of_file| gone.contains(&of_file.stream_id))
    }
}

/// Where the copy of a batch is that is on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// Nowhere yet.
    No,
    /// Being written.
    Now,
    /// In this frame.
    At(u64),
    /// Nowhere: there was no room for it. It stays in memory until it is acked, or there is room.
    NoRoom,
    /// It gave way to newer data. Written again it would take the place of that, so that waits for the end.
    Dropped,
}

#[derive(Debug)]
pub(super) struct OnLine {
    pub held: Held,
    /// Positions that are not acked.
    left: u64,
    pub copied: Copied,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    /// By number, in the order in which they were handed over. As many as the transport has in flight.
    batches: BTreeMap<u64, OnLine>,
    /// Start to (end, number).
    by_block: HashMap<StreamId, BTreeMap<u64, (u64, u64)>>,
    next_number: u64,
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn put(&mut self, held: Held, copied: Copied) {
        let number = self.next_number;
        self.next_number += 1;
        for note in &held.notes {
            let starts = self.by_block.entry(note.stream_id).or_default();
            starts.insert(note.start, (note.end, number));
        }
        let left = held.notes.iter().map(|note| note.end - note.start).sum();
        self.batches.insert(number, OnLine { held, left, copied });
    }

    /// A range is acked (all of a block, or a part where it was cut on the way); the batch, where that was the last of
    /// it.
    pub fn acked(&mut self, block: &SentBlock) -> Option<OnLine> {
        let starts = self.by_block.get(&block.stream_id)?;
        let (_, (end, number)) = starts.range(..=block.start).next_back()?;
        if block.end > *end {
            return None;
        }
        let number = *number;
        let on_line = self.batches.get_mut(&number)?;
        on_line.left = on_line.left.saturating_sub(block.end - block.start);
        if on_line.left > 0 {
            return None;
        }
        let on_line = self.batches.remove(&number)?;
        on_line
            .held
            .notes
            .iter()
            .for_each(|note| self.forget(note, number));
        Some(on_line)
    }

    fn forget(&mut self, note: &BlockNote, number: u64) {
        let Some(starts) = self.by_block.get_mut(&note.stream_id) else {
            return;
        };
        if starts.get(&note.start).is_some_and(|(_, of)| *of == number) {
            starts.remove(&note.start);
        }
        if starts.is_empty() {
            self.by_block.remove(&note.stream_id);
        }
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut OnLine> {
        self.batches.get_mut(&number)
    }

    /// When the next copy is due. `gone`: files that can't be read again.
    pub fn due(&self, gone: &HashSet<StreamId>) -> Option<Duration> {
        let uncopied = self
            .batches
            .values()
            .filter(|on_line| on_line.copied == Copied::No && on_line.held.is_volatile(gone));
        uncopied.map(|on_line| on_line.held.since + SPOOL_AFTER).min()
    }

    /// The oldest that has no copy and is at least this old.
    pub fn uncopied(&mut self, since_max: Duration, gone: &HashSet<StreamId>) -> Option<(u64, &mut OnLine)> {
        let is_due = |on_line: &OnLine| {
            on_line.copied == Copied::No && on_line.held.since <= since_max && on_line.held.is_volatile(gone)
        };
        self.batches
            .iter_mut()
            .find(|(_, on_line)| is_due(on_line))
            .map(|(number, on_line)| (*number, on_line))
    }

    /// Those that there was no room for, the oldest first.
    pub fn without_room(&self) -> impl Iterator<Item = (u64, &Held)> {
        let without = self
            .batches
            .iter()
            .filter(|(_, on_line)| on_line.copied == Copied::NoRoom);
        without.map(|(number, on_line)| (*number, &on_line.held))
    }

    /// Nothing newer comes any more: what gave way may have the room that is left.
    pub fn stop(&mut self) {
        for on_line in self.batches.values_mut() {
            if on_line.copied == Copied::Dropped {
                on_line.copied = Copied::NoRoom;
            }
        }
    }

    /// The copies in these frames are gone.
    pub fn copies_gone(&mut self, is_gone: impl Fn(u64) -> bool, now: Copied) {
        for on_line in self.batches.values_mut() {
            if matches!(on_line.copied, Copied::At(sequence) if is_gone(sequence)) {
                on_line.copied = now;
            }
        }
    }
}

//! What is to be sent and what is under way, in one row.
//!
//! ```text
//!  acked and gone | first_sequence ... sent, not acked ... | to send ...
//!                 | <------------- `sent` entries -------> |
//! ```
//!
//! An entry's sequence is its place, so that sequences can't have gaps.

use std::collections::VecDeque;

use edgelogger_common::stream::StreamId;

use super::super::recode::Pending;
use crate::flow::StreamClose;

#[derive(Debug)]
pub(super) enum Entry {
    Open(StreamId),
    Batch(Pending),
    End(StreamClose),
    /// A rejected frame keeps its place until it is acked.
    Gone,
}

impl Entry {
    fn payload_bytes(&self) -> Option<u64> {
        if let Self::Batch(pending) = self {
            Some(pending.payload_bytes())
        } else {
            None
        }
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    sent: usize,
    first_sequence: u64,
    /// The highest ever sent in this session, plus one.
    unsent_sequence: u64,
    bytes_in_flight: u64,
    batches_in_flight: u64,
}

impl Queue {
    pub const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            sent: 0,
            first_sequence: 1,
            unsent_sequence: 1,
            bytes_in_flight: 0,
            batches_in_flight: 0,
        }
    }

    /// Payload bytes sent and not acked.
    pub const fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// Batches sent and not acked.
    pub const fn batches_in_flight(&self) -> u64 {
        self.batches_in_flight
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Payload bytes of everything.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().filter_map(Entry::payload_bytes).sum()
    }

    pub fn has_unsent(&self) -> bool {
        self.sent < self.entries.len()
    }

    pub fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// What is sent next, and its sequence.
    pub fn next(&self) -> Option<(u64, &Entry)> {
        Some((
            self.first_sequence + self.sent as u64,
            self.entries.get(self.sent)?,
        ))
    }

    /// Before what is sent next.
    pub fn insert_next(&mut self, entry: Entry) {
        self.entries.insert(self.sent, entry);
    }

    /// Instead of what is sent next.
    pub fn replace_next(&mut self, entries: Vec<Entry>) {
        self.entries.remove(self.sent);
        for entry in entries.into_iter().rev() {
            self.entries.insert(self.sent, entry);
        }
    }

    /// The next one was sent.
    pub fn advance(&mut self) {
        self.count(self.sent, true);
        self.sent += 1;
        self.unsent_sequence = self.unsent_sequence.max(self.first_sequence + self.sent as u64);
    }

    fn count(&mut self, index: usize, sent: bool) {
        let Some(bytes) = self.entries.get(index).and_then(Entry::payload_bytes) else {
            return;
        };
        if sent {
            self.bytes_in_flight += bytes;
            self.batches_in_flight += 1;
        } else {
            self.bytes_in_flight -= bytes;
            self.batches_in_flight -= 1;
        }
    }

    /// Was this sequence ever sent in this session?
    pub const fn was_sent(&self, sequence: u64) -> bool {
        sequence < self.unsent_sequence
    }

    /// The first entry, if it is sent and its sequence is at most this.
    pub fn pop_acked(&mut self, sequence: u64) -> Option<Entry> {
        if self.sent == 0 || sequence < self.first_sequence {
            return None;
        }
        self.count(0, false);
        self.sent -= 1;
        self.first_sequence += 1;
        self.entries.pop_front()
    }

    fn index_in_flight(&self, sequence: u64) -> Option<usize> {
        let index = usize::try_from(sequence.checked_sub(self.first_sequence)?).ok()?;
        (index < self.sent).then_some(index)
    }

    /// Takes out what was sent with this sequence; its place stays.
    pub fn take(&mut self, sequence: u64) -> Option<Entry> {
        let index = self.index_in_flight(sequence)?;
        self.count(index, false);
        Some(std::mem::replace(&mut self.entries[index], Entry::Gone))
    }

    /// Everything from this sequence on is to be sent again; `false`: it isn't under way.
    pub fn rewind(&mut self, sequence: u64) -> bool {
        let Some(index) = self.index_in_flight(sequence) else {
            return false;
        };
        (index..self.sent).for_each(|index| self.count(index, false));
        self.sent = index;
        let unsent = self.entries.split_off(index);
        self.entries
            .extend(unsent.into_iter().filter(|entry| !matches!(entry, Entry::Gone)));
        true
    }

    /// A new session: sequences begin again, nothing is sent. Opens are made anew where they are needed.
    pub fn restart(&mut self) {
        let mut kept = std::mem::replace(self, Self::new()).entries;
        kept.retain(|entry| !matches!(entry, Entry::Gone | Entry::Open(_)));
        self.entries = kept;
    }

    /// Takes out the entries for which `is_done`; only while nothing is sent.
    pub fn extract(&mut self, mut is_done: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        assert_eq!(self.sent, 0, "sequences would move");
        let (done, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| is_done(entry));
        self.entries = left;
        done.into()
    }
}

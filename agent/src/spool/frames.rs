//! What lies on disk: one note for each frame, by sequence.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::stream::StreamId;

use super::entry::BlockNote;
use crate::tally::InFlight;

/// Frames, each of which takes some 150 bytes of memory: eleven days of measurements that are written every 15 s.
pub const FRAMES_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// To be sent. What it holds is in flight.
    Unsent,
    /// The copy of what is on the line.
    Sent,
    /// Acked, or given up.
    Done,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub sequence: u64,
    /// When it was written.
    pub since: Duration,
    pub notes: Box<[BlockNote]>,
    /// Of a frame that is to be sent and durable.
    pub in_flight: Option<Arc<InFlight>>,
    pub fate: Fate,
}

#[derive(Debug, Default)]
pub(super) struct Frames(VecDeque<Frame>);

impl Frames {
    pub fn is_full(&self) -> bool {
        self.0.len() >= FRAMES_MAX
    }

    /// Behind all others.
    pub fn push(&mut self, frame: Frame) {
        assert!(
            self.0.back().is_none_or(|last| last.sequence < frame.sequence),
            "sequences of a log ascend"
        );
        self.0.push_back(frame);
    }

    pub fn get_mut(&mut self, sequence: u64) -> Option<&mut Frame> {
        let index = self
            .0
            .binary_search_by_key(&sequence, |frame| frame.sequence)
            .ok()?;
        self.0.get_mut(index)
    }

    /// Marks a frame, and forgets what is done at the front.
    pub fn set_fate(&mut self, sequence: u64, fate: Fate) {
        if let Some(frame) = self.get_mut(sequence) {
            frame.fate = fate;
        }
        self.pop_done();
    }

    pub fn pop_done(&mut self) {
        while self.0.front().is_some_and(|frame| frame.fate == Fate::Done) {
            self.0.pop_front();
        }
    }

    /// The oldest that is still needed.
    pub fn first(&self) -> Option<&Frame> {
        self.0.front()
    }

    pub fn first_unsent(&self) -> Option<&Frame> {
        self.0.iter().find(|frame| frame.fate == Fate::Unsent)
    }

    pub fn unsent_in(&self, sequences: Range<u64>) -> Vec<u64> {
        let from = self.0.partition_point(|frame| frame.sequence < sequences.start);
        let frames = self
            .0
            .range(from..)
            .take_while(|frame| frame.sequence < sequences.end);
        let unsent = frames.filter(|frame| frame.fate == Fate::Unsent);
        unsent.map(|frame| frame.sequence).collect()
    }

    /// Frames written before this that are to be sent.
    pub fn unsent_before(&self, time: Duration) -> Vec<u64> {
        let old = self.0.iter().take_while(|frame| frame.since <= time);
        let unsent = old.filter(|frame| frame.fate == Fate::Unsent);
        unsent.map(|frame| frame.sequence).collect()
    }

    /// Forgets everything from this sequence on.
    pub fn cut_from(&mut self, sequence: u64) {
        self.0.retain(|frame| frame.sequence < sequence);
    }

    /// Forgets everything below this sequence.
    pub fn cut_below(&mut self, sequence: u64) {
        self.0.retain(|frame| frame.sequence >= sequence);
    }

    /// How many are needed, and since when the oldest of them waits.
    pub fn kept(&self) -> (usize, Option<Duration>) {
        let needed = || self.0.iter().filter(|frame| frame.fate != Fate::Done);
        (needed().count(), needed().next().map(|frame| frame.since))
    }

    /// The end of what is to be sent of each stream.
    pub fn ends(&self) -> HashMap<StreamId, u64> {
        let mut ends: HashMap<StreamId, u64> = HashMap::new();
        let unsent = self.0.iter().filter(|frame| frame.fate == Fate::Unsent);
        for note in unsent.flat_map(|frame| &frame.notes) {
            let end = ends.entry(note.stream_id).or_default();
            *end = note.end.max(*end);
        }
        ends
    }
}

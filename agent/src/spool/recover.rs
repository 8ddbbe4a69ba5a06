//! What an earlier process left on disk: frame by frame to a plan of what is sent, and what is known of its streams. Pure.

use std::collections::HashMap;
use std::ops::Range;

use edgelogger_common::block::ReceiptReason;
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{SpoolStream, StreamDescriptor, StreamEndReason};

use super::entry::{BlockNote, Content, Entry};
use crate::checkpoint::StreamState;
use crate::flow::{Resume, StreamClose};

/// What is known of one stream of an earlier process.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What the spool holds, or says that the collector has.
    pub ranges: RangeSet,
    /// Holes that frames left which can't be read any more.
    pub damaged: RangeSet,
    /// Where it ends, if its process stopped in order.
    pub end: Option<StreamClose>,
    /// What the spool holds of a file, and how that is resumed behind it.
    pub of_file: Vec<(Range<u64>, Resume)>,
    /// Damage was met before its last block.
    damage_seen: u64,
}

/// What is done with what was found.
#[derive(Debug, Default)]
pub struct Plan {
    /// Frames that are sent: sequence, when they were written (ns UTC), what they hold.
    pub frames: Vec<(u64, i64, Vec<BlockNote>)>,
    /// By stream.
    pub known: HashMap<StreamId, Known>,
    /// Streams that the checkpoint file lost.
    pub adopted: Vec<StreamDescriptor>,
    /// Frames that can't be read.
    pub frames_damaged: u64,
}

/// Makes the plan.
#[derive(Debug)]
pub struct Recovery<'a> {
    checkpoints: HashMap<StreamId, &'a StreamState>,
    /// A stream that the checkpoint file does not know was lost, rather than ended.
    adopts: bool,
    plan: Plan,
    /// Runs of frames that can't be read.
    damages: u64,
}

impl<'a> Recovery<'a> {
    /// `adopts`: the checkpoint file was lost or damaged.
    pub fn new(states: &'a [StreamState], adopts: bool) -> Self {
        let id = |state: &StreamState| StreamId::try_from(&state.descriptor.stream_id[..]).ok();
        Self {
            checkpoints: states
                .iter()
                .filter_map(|state| Some((id(state)?, state)))
                .collect(),
            adopts,
            plan: Plan::default(),
            damages: 0,
        }
    }

    /// The next frame.
    pub fn frame(&mut self, sequence: u64, entry: Entry) {
        entry.streams.iter().for_each(|stream| self.learn(stream));
        match entry.content {
            Content::Batch(_, notes) => self.batch(sequence, entry.written_ns, notes),
            Content::End(close) => {
                if let Some(known) = self.plan.known.get_mut(&close.stream_id) {
                    known.end = Some(close);
                }
            }
        }
    }

    /// Frames that can't be read.
    pub fn damaged(&mut self, frames: u64) {
        self.damages += 1;
        self.plan.frames_damaged += frames;
    }

    /// The plan.
    pub fn finish(self) -> Plan {
        self.plan
    }

    fn learn(&mut self, stream: &SpoolStream) {
        let Some(descriptor) = &stream.descriptor else {
            return;
        };
        let Ok(id) = StreamId::try_from(&descriptor.stream_id[..]) else {
            return;
        };
        if !self.checkpoints.contains_key(&id) {
            // Ended, and acked to its end; unless what said so is lost.
            if !self.adopts {
                return;
            }
            if !self.plan.known.contains_key(&id) {
                self.plan.adopted.push(descriptor.clone());
            }
        }
        let known = self.plan.known.entry(id).or_default();
        for range in &stream.acked {
            add(&mut known.ranges, range.start..range.end);
        }
    }

    fn batch(&mut self, sequence: u64, written_ns: i64, notes: Vec<BlockNote>) {
        let mut is_needed = false;
        for note in &notes {
            let Some(known) = self.plan.known.get_mut(&note.stream_id) else {
                continue;
            };
            let at = known.ranges.end().unwrap_or(0);
            if known.damage_seen != self.damages && note.start > at {
                add(&mut known.damaged, at..note.start);
            }
            known.damage_seen = self.damages;
            let range = note.start..note.end;
            let is_acked = self
                .checkpoints
                .get(&note.stream_id)
                .is_some_and(|state| state.acked.covers(range.clone()));
            // A frame that a crash left twice, or receipts for a segment that is still there.
            let is_here = known.ranges.covers(range.clone());
            is_needed |= !is_acked && !is_here;
            if note.resume != Resume::Nowhere {
                known.of_file.push((range.clone(), note.resume.clone()));
            }
            add(&mut known.ranges, range);
        }
        if is_needed {
            self.plan.frames.push((sequence, written_ns, notes));
        }
    }
}

/// A set holds far more ranges than a spool makes of one stream; one that does not fit leaves a hole that is told as lost,
/// and the collector knows better.
fn add(set: &mut RangeSet, range: Range<u64>) {
    if range.start < range.end {
        let _ = set.insert(range);
    }
}

/// How an earlier process' stream is closed: receipts for what is missing below what is known, and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Start, end, why.
    pub holes: Vec<(u64, u64, ReceiptReason)>,
    /// Its end.
    pub end: StreamClose,
}

/// The end of a stream that can't be read again, of which the checkpoint file says `state`.
pub fn close(stream_id: StreamId, state: &StreamState, known: Option<&Known>) -> Closing {
    let mut have = state.acked.clone();
    let nothing = Known::default();
    let known = known.unwrap_or(&nothing);
    known.ranges.iter().for_each(|range| add(&mut have, range));
    let end = have.end().unwrap_or(0).max(state.acked_upto);
    let end = known.end.clone().map_or(
        StreamClose {
            stream_id,
            size: end,
            exact: false,
            reason: StreamEndReason::ProcessRestarted,
        },
        |close| StreamClose {
            size: close.size.max(end),
            ..close
        },
    );
    let hole = |hole: Range<u64>| {
        let reason = if known.damaged.covers(hole.clone()) {
            ReceiptReason::Damaged
        } else {
            ReceiptReason::Crashed
        };
        (hole.start, hole.end, reason)
    };
    let start = state.descriptor.start;
    Closing {
        holes: have.missing_in(start..end.size).map(hole).collect(),
        end,
    }
}

#[cfg(test)]
mod tests {
    use edgelogger_proto::v1::{self, Batch};

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([9; 16]);

    fn descriptor() -> StreamDescriptor {
        StreamDescriptor {
            stream_id: STREAM.to_proto(),
            ..StreamDescriptor::default()
        }
    }

    fn state(acked: Range<u64>) -> StreamState {
        let mut set = RangeSet::new();
        add(&mut set, acked.clone());
        StreamState {
            descriptor: descriptor(),
            acked: set,
            resume: Resume::Nowhere,
            above: Vec::new(),
            acked_upto: if acked.start == 0 { acked.end } else { 0 },
        }
    }

    fn frame(acked: Range<u64>, start: u64, end: u64) -> Entry {
        let note = BlockNote {
            stream_id: STREAM,
            start,
            end,
            record_count: 1,
            counts_records: true,
            reason: None,
            with_receipts: None,
            resume: Resume::Nowhere,
        };
        Entry {
            written_ns: 1,
            streams: vec![SpoolStream {
                descriptor: Some(descriptor()),
                acked: vec![v1::Range {
                    start: acked.start,
                    end: acked.end,
                }],
            }],
            content: Content::Batch(Batch::default(), vec![note]),
        }
    }

    fn sent(plan: &Plan) -> Vec<u64> {
        plan.frames.iter().map(|(sequence, ..)| *sequence).collect()
    }

    #[test]
    fn what_is_acked_or_there_twice_is_not_sent() {
        let states = [state(0..10)];
        let mut recovery = Recovery::new(&states, false);
        recovery.frame(1, frame(0..0, 0, 10));
        recovery.frame(2, frame(0..10, 10, 20));
        recovery.frame(3, frame(0..10, 10, 20));
        recovery.frame(4, frame(0..10, 5, 25));
        assert_eq!(sent(&recovery.finish()), [2, 4]);
    }

    #[test]
    fn a_stream_that_nobody_knows_has_ended_unless_the_checkpoint_file_is_lost() {
        for (adopts, expected) in [(false, &[][..]), (true, &[1][..])] {
            let mut recovery = Recovery::new(&[], adopts);
            recovery.frame(1, frame(0..0, 0, 10));
            let plan = recovery.finish();
            assert_eq!(sent(&plan), expected);
            assert_eq!(plan.adopted.len(), expected.len());
        }
    }

    #[test]
    fn holes_are_told_with_what_made_them() {
        let states = [state(0..10)];
        let mut recovery = Recovery::new(&states, false);
        // Acked later than the checkpoint file knows: an entry says so.
        recovery.frame(1, frame(0..30, 30, 40));
        recovery.damaged(1);
        recovery.frame(3, frame(0..30, 50, 60));
        recovery.frame(4, frame(0..30, 65, 70));
        let plan = recovery.finish();
        let closing = close(STREAM, &states[0], plan.known.get(&STREAM));
        assert_eq!(
            closing.holes,
            [(40, 50, ReceiptReason::Damaged), (60, 65, ReceiptReason::Crashed)]
        );
        assert_eq!((closing.end.size, closing.end.exact), (70, false));
    }

    #[test]
    fn without_a_spool_a_stream_ends_where_its_acks_do() {
        let closing = close(STREAM, &state(5..20), None);
        assert_eq!(closing.holes, [(0, 5, ReceiptReason::Crashed)]);
        assert_eq!((closing.end.size, closing.end.exact), (20, false));
    }
}

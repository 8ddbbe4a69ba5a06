//! Since when the oldest position of a stream waits that is not acknowledged: what the ledger calls its lag.
//!
//! Whenever somebody looks, the end of each stream is noted with the time, if it has moved. The oldest position above what
//! is acknowledged was then first seen at the first such note above it. What was there before this process started counts
//! from its start.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use edgelogger_common::stream::StreamId;

/// Notes of a stream. Beyond, two that are close in time become one, with the earlier of both: the age is then too high
/// rather than too low.
const NOTES_MAX: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Note {
    end: u64,
    seen: Duration,
}

/// Of all streams of which something waits; the others cost nothing.
#[derive(Debug, Default)]
pub(super) struct Ages(HashMap<StreamId, VecDeque<Note>>);

impl Ages {
    /// How long the oldest unacknowledged position has waited; `None` where nothing waits.
    pub fn look(&mut self, stream: &StreamId, acked: u64, size: u64, now: Duration) -> Option<Duration> {
        if size <= acked {
            self.0.remove(stream);
            return None;
        }
        let notes = self.0.entry(*stream).or_default();
        while notes.front().is_some_and(|note| note.end <= acked) {
            notes.pop_front();
        }
        if notes.back().is_none_or(|note| note.end < size) {
            notes.push_back(Note { end: size, seen: now });
        }
        if notes.len() > NOTES_MAX {
            join_closest(notes);
        }
        notes.front().map(|note| now.saturating_sub(note.seen))
    }

    /// Forgets streams that are over.
    pub fn retain(&mut self, is_open: impl Fn(&StreamId) -> bool) {
        self.0.retain(|stream, _| is_open(stream));
    }
}

fn join_closest(notes: &mut VecDeque<Note>) {
    let apart = |index: usize| notes[index + 1].seen.saturating_sub(notes[index].seen);
    let Some(closest) = (0..notes.len() - 1).min_by_key(|index| apart(*index)) else {
        return;
    };
    notes[closest + 1].seen = notes[closest].seen;
    notes.remove(closest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([7; 16]);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_age_is_that_of_the_oldest_that_waits() {
        let mut ages = Ages::default();
        assert_eq!(ages.look(&STREAM, 0, 0, at(1)), None);
        assert_eq!(ages.look(&STREAM, 0, 10, at(2)), Some(at(0)));
        assert_eq!(ages.look(&STREAM, 5, 30, at(5)), Some(at(3)));
        assert_eq!(
            ages.look(&STREAM, 10, 30, at(6)),
            Some(at(1)),
            "what was seen at 5 s"
        );
        assert_eq!(ages.look(&STREAM, 30, 30, at(7)), None);
        assert!(ages.0.is_empty(), "nothing is kept of a stream that is through");
    }

    #[test]
    fn streams_that_are_over_are_forgotten() {
        let mut ages = Ages::default();
        ages.look(&STREAM, 0, 10, at(2));
        ages.retain(|_| false);
        assert!(ages.0.is_empty());
    }

    proptest! {
        /// Against a list of when each position was first seen.
        #[test]
        fn the_age_is_never_too_low_and_with_few_notes_exact(steps in proptest::collection::vec((0u64..20, 0u64..20, 1u64..9), 1..40)) {
            let (mut ages, mut seen) = (Ages::default(), Vec::new());
            let (mut acked, mut now) = (0, 0);
            for (grown, done, passed) in steps {
                now += passed;
                seen.resize(seen.len() + usize::try_from(grown).unwrap(), now);
                let size = seen.len() as u64;
                acked = size.min(acked + done);
                let expected = seen.get(usize::try_from(acked).unwrap()).map(|first| at(now - first));
                let found = ages.look(&STREAM, acked, size, at(now));
                prop_assert_eq!(found.is_some(), expected.is_some());
                prop_assert!(found >= expected, "{:?} {:?}", found, expected);
                let notes = ages.0.get(&STREAM).map_or(0, VecDeque::len);
                prop_assert!(notes <= NOTES_MAX);
            }
        }
    }
}

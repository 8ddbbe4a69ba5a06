//! The acknowledged ranges of one stream, and how its source resumes behind each.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::flow::Resume;

/// Ranges above the contiguous end. A stream has one or two (live data above a backlog); beyond this the highest is
/// forgotten, which costs sending it again.
pub(super) const RANGES_ABOVE_MAX: usize = 64;

/// How far a stream is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// Every position from the stream's start below this is acknowledged.
    pub upto: u64,
    /// How the source resumes there.
    pub resume: Resume,
    /// Start to (end, how to resume there): disjoint, not adjacent, all above `upto`.
    pub above: BTreeMap<u64, (u64, Resume)>,
}

impl Progress {
    pub fn new(start: u64) -> Self {
        Self {
            upto: start,
            resume: Resume::Nowhere,
            above: BTreeMap::new(),
        }
    }

    /// Adds `[start, end)`; did that change anything?
    pub fn ack(&mut self, start: u64, end: u64, resume: &Resume) -> bool {
        if start >= end || end <= self.upto {
            return false;
        }
        if start <= self.upto {
            (self.upto, self.resume) = (end, resume.clone());
            self.absorb();
            return true;
        }
        self.ack_above(start, end, resume)
    }

    /// Takes in the ranges that the contiguous end has reached.
    fn absorb(&mut self) {
        while let Some(first) = self.above.first_entry().filter(|first| *first.key() <= self.upto) {
            let (end, resume) = first.remove();
            if end > self.upto {
                (self.upto, self.resume) = (end, resume);
            }
        }
    }

    fn ack_above(&mut self, start: u64, end: u64, resume: &Resume) -> bool {
        let (mut start, mut end, mut resume) = (start, end, resume.clone());
        // From the highest that begins at or below our end, downwards, while they touch.
        while let Some((&other_start, (other_end, other_resume))) = self.above.range(..=end).next_back() {
            if *other_end < start {
                break;
            }
            if other_start <= start && end <= *other_end {
                return false;
            }
            if *other_end > end {
                (end, resume) = (*other_end, other_resume.clone());
            }
            start = start.min(other_start);
            self.above.remove(&other_start);
        }
        self.above.insert(start, (end, resume));
        if self.above.len() > RANGES_ABOVE_MAX {
            self.above.pop_last();
        }
        true
    }

    /// The ranges above the contiguous end, and how to resume behind each.
    pub fn above(&self) -> impl Iterator<Item = (Range<u64>, Resume)> {
        self.above
            .iter()
            .map(|(start, (end, resume))| (*start..*end, resume.clone()))
    }

    /// Every acknowledged range, given the stream's first position, ascending.
    pub fn ranges(&self, first: u64) -> impl Iterator<Item = Range<u64>> {
        let contiguous = (self.upto > first).then_some(first..self.upto);
        contiguous
            .into_iter()
            .chain(self.above.iter().map(|(start, (end, _))| *start..*end))
    }
}

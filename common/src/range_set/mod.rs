//! Sets of positions: what of a stream is acked, durable, applied.
//!
//! A [`RangeSet`] is a sorted list of half-open ranges that neither overlap nor touch. Nearly always it is one
//! range that grows at its end, and that costs nothing but an addition; live and backfill make it two.
//!
//! # Limits
//!
//! At most [`RANGES_MAX`] ranges. An insertion that would make more is refused and changes nothing: whoever
//! inserts must not acknowledge then, and has the data sent again later, when gaps have closed. (Dropping or
//! merging ranges instead would make the set say something untrue.)
//!
//! | file | idea |
//! | --- | --- |
//! | `mod.rs` | the set |
//! | `encode.rs` | its bytes, and serde |

mod encode;
#[cfg(test)]
mod tests;

pub use encode::RangeSetDecodeError;

use std::ops::Range;

/// Ranges in a set. 1,024 gaps in one stream mean that something is wrong; 16 KiB is what that costs.
pub const RANGES_MAX: usize = 1_024;

/// A set of positions (module page).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RangeSet {
    /// Sorted, none empty, each beginning behind the end of the one before: `a.end < b.start`.
    ranges: Vec<Range<u64>>,
}

/// The insertion would have made more than [`RANGES_MAX`] ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a set of positions cannot hold more than {RANGES_MAX} ranges; gaps must close first")]
pub struct TooManyRanges;

/// What an insertion added: the parts that were not in the set before, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted {
    inserted: Range<u64>,
    new: New,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum New {
    All,
    Parts(Vec<Range<u64>>),
}

impl Inserted {
    /// Was everything new? (Also when nothing was inserted.)
    #[must_use]
    pub fn is_all_new(&self) -> bool {
        self.new == New::All
    }

    /// Was everything there already?
    #[must_use]
    pub fn is_all_known(&self) -> bool {
        self.inserted.is_empty() || matches!(&self.new, New::Parts(parts) if parts.is_empty())
    }

    /// The new parts.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let parts = match &self.new {
            New::All if self.inserted.is_empty() => &[],
            New::All => std::slice::from_ref(&self.inserted),
            New::Parts(parts) => parts.as_slice(),
        };
        parts.iter().cloned()
    }
}

impl RangeSet {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds a range (an empty one adds nothing) and tells what of it was new.
    ///
    /// # Errors
    /// [`TooManyRanges`]; the set is then unchanged.
    pub fn insert(&mut self, range: Range<u64>) -> Result<Inserted, TooManyRanges> {
        if range.is_empty() {
            return Ok(Inserted {
                inserted: range,
                new: New::All,
            });
        }
        // What overlaps or touches the new range becomes one with it.
        let first = self.ranges.partition_point(|known| known.end < range.start);
        let behind = first + self.ranges[first..].partition_point(|known| known.start <= range.end);
        let merged = &self.ranges[first..behind];
        let overlaps = merged
            .iter()
            .any(|known| known.start < range.end && range.start < known.end);
        let new = if overlaps {
            New::Parts(gaps(merged, range.clone()).collect())
        } else {
            New::All
        };
        match merged {
            [] if self.ranges.len() >= RANGES_MAX => return Err(TooManyRanges),
            [] => self.ranges.insert(first, range.clone()),
            [one, ..] => {
                let start = one.start.min(range.start);
                let end = merged.last().map_or(range.end, |last| last.end.max(range.end));
                self.ranges[first] = start..end;
                self.ranges.drain(first + 1..behind);
            }
        }
        Ok(Inserted { inserted: range, new })
    }

    /// Is this position in the set?
    #[must_use]
    pub fn contains(&self, position: u64) -> bool {
        self.range_at(position).is_some()
    }

    /// Is all of this range in the set? (Of an empty one: yes.)
    #[must_use]
    pub fn covers(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self
                .range_at(range.start)
                .is_some_and(|known| range.end <= known.end)
    }

    /// The parts of this range that are not in the set, in order.
    pub fn missing_in(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.ranges.partition_point(|known| known.end <= range.start);
        let behind = first + self.ranges[first..].partition_point(|known| known.start < range.end);
        gaps(&self.ranges[first..behind], range)
    }

    /// The end of what is in the set from `start` on without a gap; `start` itself when that is not in it.
    #[must_use]
    pub fn contiguous_from(&self, start: u64) -> u64 {
        self.range_at(start).map_or(start, |known| known.end)
    }

    /// Takes everything below a position out.
    pub fn remove_below(&mut self, position: u64) {
        let gone = self.ranges.partition_point(|known| known.end <= position);
        self.ranges.drain(..gone);
        if let Some(first) = self.ranges.first_mut() {
            first.start = first.start.max(position);
        }
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Is nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many positions are in it.
    #[must_use]
    pub fn position_count(&self) -> u64 {
        self.ranges.iter().map(|known| known.end - known.start).sum()
    }

    /// One behind the highest position; `None` when empty.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.ranges.last().map(|last| last.end)
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<u64>> + DoubleEndedIterator + '_ {
        self.ranges.iter().cloned()
    }

    fn range_at(&self, position: u64) -> Option<&Range<u64>> {
        let index = self.ranges.partition_point(|known| known.end <= position);
        self.ranges.get(index).filter(|known| known.start <= position)
    }
}

/// The parts of `range` that none of `known` holds; `known` is sorted and disjoint.
fn gaps(known: &[Range<u64>], range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
    let mut from = range.start;
    let ends = known
        .iter()
        .map(|known| (known.start, known.end))
        .chain([(range.end, range.end)]);
    ends.filter_map(move |(start, end)| {
        let gap = from..start.min(range.end);
        from = from.max(end);
        (!gap.is_empty()).then_some(gap)
    })
}

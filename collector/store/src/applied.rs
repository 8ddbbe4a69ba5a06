//! Which positions of a stream are applied: half-open ranges, ascending, disjoint, none touching the next.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Applied positions. The normal case is one range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedRanges(Vec<Range<u64>>);

impl AppliedRanges {
    /// All ranges, ascending.
    pub fn as_slice(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Those that overlap or touch it become one with it.
        let from = self.0.partition_point(|other| other.end < range.start);
        let to = self.0.partition_point(|other| other.start <= range.end);
        let merged = self.0[from..to].iter().fold(range, |all, other| {
            all.start.min(other.start)..all.end.max(other.end)
        });
        self.0.splice(from..to, [merged]);
    }

    /// Does a range overlap or touch one of them?
    pub fn touches(&self, range: &Range<u64>) -> bool {
        let near = self.0.partition_point(|other| other.end < range.start);
        self.0.get(near).is_some_and(|other| other.start <= range.end)
    }

    /// What of a range is not applied, ascending.
    pub fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let near = self.0.partition_point(|other| other.end <= range.start);
        let mut missing = Vec::new();
        let mut at = range.start;
        for other in self.0[near..].iter().take_while(|other| other.start < range.end) {
            if at < other.start {
                missing.push(at..other.start);
            }
            at = other.end;
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }

    /// The first range's end, where it begins at `start`: every position below is applied.
    pub fn upto(&self, start: u64) -> u64 {
        self.0
            .first()
            .filter(|first| first.start <= start)
            .map_or(start, |first| first.end)
    }
}

impl Serialize for AppliedRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut before = 0;
        let numbers = self
            .0
            .iter()
            .flat_map(|range| [range.start, range.end])
            .map(|number| {
                let step = number - before;
                before = number;
                step
            });
        serializer.collect_seq(numbers.collect::<Vec<u64>>())
    }
}

impl<'de> Deserialize<'de> for AppliedRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let steps = Vec::<u64>::deserialize(deserializer)?;
        let mut at = 0u64;
        let mut ranges = Vec::with_capacity(steps.len() / 2);
        let (pairs, rest) = steps.as_chunks::<2>();
        for [gap, len] in pairs {
            let start = at
                .checked_add(*gap)
                .filter(|start| *len > 0 && (*gap > 0 || *start == 0));
            let end = start.and_then(|start| start.checked_add(*len));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(de::Error::custom(
                    "applied ranges that overlap, touch or overflow",
                ));
            };
            ranges.push(start..end);
            at = end;
        }
        if rest.is_empty() {
            Ok(Self(ranges))
        } else {
            Err(de::Error::custom("half an applied range"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_say_what_a_set_of_positions_says(
            inserted in proptest::collection::vec((0u64..60, 0u64..12), 0..20),
            asked in (0u64..70, 0u64..20),
        ) {
            let mut ranges = AppliedRanges::default();
            let mut model = BTreeSet::new();
            for (start, len) in inserted {
                ranges.insert(start..start + len);
                model.extend(start..start + len);
            }
            let asked = asked.0..asked.0 + asked.1;
            let missing: Vec<u64> = asked.clone().filter(|position| !model.contains(position)).collect();
            prop_assert_eq!(ranges.missing(&asked).into_iter().flatten().collect::<Vec<_>>(), missing);
            let covered: BTreeSet<u64> = ranges.as_slice().iter().cloned().flatten().collect();
            prop_assert_eq!(covered, model);
            prop_assert!(ranges.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start));
            let text = serde_json::to_string(&ranges).unwrap();
            prop_assert_eq!(serde_json::from_str::<AppliedRanges>(&text).unwrap(), ranges);
        }
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        for text in ["[1]", "[0,0]", "[1,5,0,3]", "[1,18446744073709551615]", "[-1,3]"] {
            assert!(serde_json::from_str::<AppliedRanges>(text).is_err(), "{text}");
        }
        assert_eq!(
            serde_json::to_string(&AppliedRanges(vec![0..7, 10..12])).unwrap(),
            "[0,7,3,2]"
        );
    }
}

//! Which files become one.
//!
//! Files of one table and day, of about the same size ([`TIER_FACTOR`]), when there are [`FAN_IN_MIN`] of them: so a row
//! is written again once for each factor of eight. Of a day that is over there will be little more: there any files
//! are taken, but never a large one for the sake of some small ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::live_file::LiveFile;
use crate::schema::Table;

/// Files of a tier that are worth a merge.
const FAN_IN_MIN: usize = 8;
/// Files of one merge, at most: each has a batch and a page of each column in memory.
const FAN_IN_MAX: usize = 16;
/// A file of this size is not merged any more.
const LARGE_BYTES: u64 = 128 << 20;
/// A merge never makes a file much larger than this.
const MERGED_BYTES_MAX: u64 = 512 << 20;
/// Files below are alike: one minute of one machine, or of ten.
const TIER_BYTES_MIN: u64 = 64 << 10;
/// As a power of two: files of a tier differ by less than this factor.
const TIER_FACTOR: u32 = 3;
/// Of a day that is over the largest file is at most so many times the others together.
const CLOSED_FACTOR: u64 = 4;

/// The files that are merged next, of the table and day that gains most; `today` in days since 1970.
pub fn pick(files: &[Arc<LiveFile>], today: i64) -> Option<Vec<Arc<LiveFile>>> {
    let mut groups: BTreeMap<(i64, &str), Vec<&Arc<LiveFile>>> = BTreeMap::new();
    let may_be = |file: &&Arc<LiveFile>| file.entry.bytes < LARGE_BYTES && file.entry.is_sorted();
    for file in files.iter().filter(may_be) {
        let entry = &file.entry;
        groups
            .entry((entry.day, Table::name(entry.table)))
            .or_default()
            .push(file);
    }
    let candidates = groups.into_iter().filter_map(|((day, _), mut group)| {
        group.sort_by_key(|file| file.entry.bytes);
        let sizes: Vec<u64> = group.iter().map(|file| file.entry.bytes).collect();
        let range = choose(&sizes, day < today)?;
        Some(group[range].iter().map(|file| Arc::clone(file)).collect())
    });
    candidates.max_by_key(Vec::len)
}

/// Which of these sizes, ascending.
fn choose(sizes: &[u64], is_closed: bool) -> Option<std::ops::Range<usize>> {
    let tier = |bytes: u64| bytes.max(TIER_BYTES_MIN).ilog2() / TIER_FACTOR;
    let mut start = 0;
    for alike in sizes.chunk_by(|left, right| tier(*left) == tier(*right)) {
        let count = bounded(alike);
        if count >= FAN_IN_MIN {
            return Some(start..start + count);
        }
        start += alike.len();
    }
    let mut count = if is_closed { bounded(sizes) } else { 0 };
    while count >= 2 && sizes[count - 1] > CLOSED_FACTOR * sizes[..count - 1].iter().sum::<u64>() {
        count -= 1;
    }
    (count >= 2).then_some(0..count)
}

/// How many of them one merge takes.
fn bounded(sizes: &[u64]) -> usize {
    let mut sum = 0u64;
    let fits = sizes.iter().take(FAN_IN_MAX).take_while(|bytes| {
        sum = sum.saturating_add(**bytes);
        sum <= MERGED_BYTES_MAX
    });
    fits.count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn files_of_about_one_size_are_merged_and_a_large_one_is_left_alone() {
        assert_eq!(choose(&[1; 7], false), None);
        assert_eq!(choose(&[1; 8], false), Some(0..8));
        assert_eq!(choose(&[1; 40], false), Some(0..16));
        let mut sizes = vec![1; 3];
        sizes.extend([MIB; 9]);
        assert_eq!(choose(&sizes, false), Some(3..12));
        assert_eq!(
            choose(&[100 * MIB; 16], false),
            None,
            "five of them are enough, and too few"
        );
    }

    #[test]
    fn of_a_day_that_is_over_few_files_stay() {
        assert_eq!(choose(&[1, 1], true), Some(0..2));
        assert_eq!(choose(&[1, 1, 1000], true), Some(0..2));
        assert_eq!(choose(&[1, 1000], true), None);
        assert_eq!(choose(&[10, 30], true), Some(0..2));
        assert_eq!(choose(&[5], true), None);
    }

    proptest! {
        /// However files come, merging ends, with few files.
        #[test]
        fn merging_ends_and_leaves_few_files(mut sizes in proptest::collection::vec(1u64..200 * MIB, 0..300)) {
            let mut written = 0u64;
            let all: u64 = sizes.iter().sum();
            loop {
                sizes.retain(|bytes| *bytes < LARGE_BYTES);
                sizes.sort_unstable();
                let Some(range) = choose(&sizes, true) else { break };
                let merged: u64 = sizes[range.clone()].iter().sum();
                prop_assert!(range.len() >= 2 && merged <= MERGED_BYTES_MAX);
                written += merged;
                sizes.drain(range);
                sizes.push(merged);
            }
            prop_assert!(sizes.len() <= 20, "{} files stay", sizes.len());
            prop_assert!(written <= all.saturating_mul(12), "{written} written of {all}");
        }
    }
}

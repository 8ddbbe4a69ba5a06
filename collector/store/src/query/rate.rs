//! How fast counters grow.
//!
//! What a counter grew between two samples is spread evenly over the time between them; a bucket's rate is what falls
//! into it, per second of it that lies between samples. So no growth is counted twice or lost at the edges of buckets.
//! A counter that went down, or that says that it began anew, counts from zero. A bucket without a sample has no rate.

use super::buckets::Grid;

const SECOND_NS: f64 = 1e9;

/// One sample of a counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, ns.
    pub time: i64,
    /// Since when it counts, ns.
    pub start: Option<i64>,
    pub value: f64,
}

/// The rate of one series in each bucket, per second. `is_delta`: each sample says what came since the one before it.
pub fn rates(samples: &mut Vec<Sample>, is_delta: bool, grid: &Grid) -> Vec<Option<f64>> {
    samples.sort_by_key(|sample| sample.time);
    // Of samples of the same time the one that came last counts.
    samples.dedup_by(|later, earlier| {
        let same = later.time == earlier.time;
        if same {
            *earlier = *later;
        }
        same
    });
    let mut buckets = vec![Bucket::default(); grid.count];
    for sample in samples.iter() {
        if let Some(index) = grid.index(sample.time) {
            buckets[index].has_sample = true;
        }
    }
    let mut before: Option<Sample> = None;
    for sample in samples.iter() {
        if let Some((from, grown)) = growth(before, *sample, is_delta) {
            spread(&mut buckets, grid, (from, sample.time), grown);
        }
        before = Some(*sample);
    }
    buckets.iter().map(Bucket::rate).collect()
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    grown: f64,
    covered_ns: f64,
    has_sample: bool,
}

impl Bucket {
    fn rate(&self) -> Option<f64> {
        (self.has_sample && self.covered_ns > 0.0).then(|| self.grown / self.covered_ns * SECOND_NS)
    }
}

/// What was added up to a sample, and since when.
fn growth(before: Option<Sample>, sample: Sample, is_delta: bool) -> Option<(i64, f64)> {
    let begun = |time: i64| sample.start.filter(|start| *start > time && *start < sample.time);
    match before {
        None if is_delta => Some((sample.start.filter(|start| *start < sample.time)?, sample.value)),
        None => None,
        Some(before) => {
            let anew = begun(before.time);
            let from = anew.unwrap_or(before.time);
            let counts_from_zero = is_delta || anew.is_some() || sample.value < before.value;
            let grown = if counts_from_zero {
                sample.value
            } else {
                sample.value - before.value
            };
            Some((from, grown))
        }
    }
}

fn spread(buckets: &mut [Bucket], grid: &Grid, (from, to): (i64, i64), grown: f64) {
    let (first, last) = (from.max(grid.from), to.min(grid.end()));
    if first >= last {
        return;
    }
    let length = ns(from, to);
    let mut at = first;
    while at < last {
        let Some(index) = grid.index(at) else { return };
        let end = grid.start_of(index + 1).min(last);
        let covered = ns(at, end);
        buckets[index].grown += grown * (covered / length);
        buckets[index].covered_ns += covered;
        at = end;
    }
}

fn ns(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000_000;

    fn check(samples: &[(i64, f64)], is_delta: bool, expected: &[Option<f64>]) {
        let grid = Grid {
            from: 0,
            step: 10 * S,
            count: expected.len(),
        };
        let mut samples: Vec<Sample> = samples
            .iter()
            .map(|(second, value)| Sample {
                time: second * S,
                start: None,
                value: *value,
            })
            .collect();
        let found = rates(&mut samples, is_delta, &grid);
        let near = |(found, expected): (&Option<f64>, &Option<f64>)| match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
            (found, expected) => found == expected,
        };
        assert!(found.iter().zip(expected).all(near), "{found:?} {expected:?}");
    }

    #[test]
    fn a_counter_that_grows_evenly_has_one_rate_wherever_its_samples_lie() {
        check(
            &[(-5, 0.0), (5, 20.0), (15, 40.0), (25, 60.0)],
            false,
            &[Some(2.0), Some(2.0), Some(2.0)],
        );
        check(
            &[(0, 0.0), (10, 20.0), (20, 40.0)],
            false,
            &[Some(2.0), Some(2.0)],
        );
    }

    #[test]
    fn a_reset_counts_from_zero() {
        check(&[(0, 1000.0), (5, 1010.0), (9, 8.0)], false, &[Some(2.0)]);
    }

    #[test]
    fn a_counter_that_says_that_it_began_anew_counts_from_there() {
        let grid = Grid {
            from: 0,
            step: 20 * S,
            count: 1,
        };
        let sample = |second, start, value| Sample {
            time: second * S,
            start: Some(start * S),
            value,
        };
        // It was restarted at 8 s and had grown past its old value by 18 s.
        let mut samples = vec![sample(0, -100, 10.0), sample(8, -100, 10.0), sample(18, 9, 90.0)];
        let rate = rates(&mut samples, false, &grid)[0].unwrap();
        assert!((rate - 90.0 / 17.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn a_gap_is_a_gap() {
        check(
            &[(0, 0.0), (5, 5.0), (45, 45.0)],
            false,
            &[Some(1.0), None, None, None, Some(1.0)],
        );
        check(&[(3, 7.0)], false, &[None]);
        check(&[], false, &[None, None]);
    }

    #[test]
    fn deltas_are_added() {
        check(
            &[(0, 50.0), (5, 10.0), (10, 10.0), (19, 9.0)],
            true,
            &[Some(2.0), Some(1.0)],
        );
    }

    proptest! {
        #[test]
        fn what_grew_is_neither_lost_nor_counted_twice(steps in proptest::collection::vec((1i64..5, 0.0..100.0f64), 2..50)) {
            let (mut time, mut value) = (0, 0.0);
            let mut samples = vec![Sample { time, start: None, value }];
            for (pause, grown) in steps {
                time += pause * S;
                value += grown;
                samples.push(Sample { time, start: None, value });
            }
            let grid = Grid { from: 0, step: 5 * S, count: usize::try_from(time / (5 * S) + 1).unwrap() };
            let mut buckets = vec![Bucket::default(); grid.count];
            for pair in samples.windows(2) {
                spread(&mut buckets, &grid, (pair[0].time, pair[1].time), pair[1].value - pair[0].value);
            }
            let all: f64 = buckets.iter().map(|bucket| bucket.grown).sum();
            prop_assert!((all - value).abs() < 1e-6, "{all} {value}");
        }

        #[test]
        fn no_times_panic(times: Vec<(i64, f64)>, from: i64, step in 1i64.., count in 0usize..100) {
            let grid = Grid { from, step, count };
            let mut samples: Vec<Sample> = times
                .iter()
                .map(|(time, value)| Sample { time: *time, start: Some(time.wrapping_mul(3)), value: *value })
                .collect();
            rates(&mut samples, false, &grid);
        }
    }
}

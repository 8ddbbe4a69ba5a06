//! Samples to points: one value for each span of time.

use super::Aggregate;

/// Spans of time, one behind the other, all of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Where the first begins, ns.
    pub from: i64,
    /// Length of each, ns; above 0.
    pub step: i64,
    /// Their number.
    pub count: usize,
}

impl Grid {
    /// Spans that cover a range of time and begin at multiples of their length.
    pub fn over(from: i64, to: i64, step: i64) -> Self {
        let from = from.div_euclid(step).saturating_mul(step);
        let length = i128::from(to) - i128::from(from);
        let count = usize::try_from((length + i128::from(step) - 1) / i128::from(step)).unwrap_or(0);
        Self { from, step, count }
    }

    /// The span in which a time lies.
    pub fn index(&self, time: i64) -> Option<usize> {
        let since = i128::from(time) - i128::from(self.from);
        let index = usize::try_from(since.div_euclid(i128::from(self.step))).ok()?;
        (index < self.count).then_some(index)
    }

    /// Where a span begins.
    pub fn start_of(&self, index: usize) -> i64 {
        let start = i128::from(self.from) + i128::from(self.step) * index as i128;
        i64::try_from(start).unwrap_or(i64::MAX)
    }

    /// Behind the last one.
    pub fn end(&self) -> i64 {
        self.start_of(self.count)
    }
}

/// The samples of a group as they come in, in any order.
#[derive(Debug)]
pub enum Buckets {
    Cells(Vec<Cell>),
    /// Bucket and value, for quantiles.
    Values(Vec<(u32, f64)>),
    /// Sums of the rates of the group's series.
    Rates(Vec<Option<f64>>),
}

/// What is kept of the samples of one bucket.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    last: f64,
    last_time: i64,
}

const EMPTY: Cell = Cell {
    count: 0,
    sum: 0.0,
    min: f64::INFINITY,
    max: f64::NEG_INFINITY,
    last: 0.0,
    last_time: i64::MIN,
};

impl Buckets {
    pub fn new(aggregate: Aggregate, grid: &Grid) -> Self {
        match aggregate {
            Aggregate::Quantile(_) => Self::Values(Vec::new()),
            Aggregate::Rate => Self::Rates(vec![None; grid.count]),
            _ => Self::Cells(vec![EMPTY; grid.count]),
        }
    }

    /// What a group takes before its first sample, in bytes.
    pub const fn fixed_bytes(aggregate: Aggregate, grid: &Grid) -> usize {
        match aggregate {
            Aggregate::Quantile(_) => 0,
            Aggregate::Rate => grid.count * size_of::<Option<f64>>(),
            _ => grid.count * size_of::<Cell>(),
        }
    }

    pub fn add(&mut self, index: usize, time: i64, value: f64) {
        match self {
            Self::Cells(cells) => {
                let cell = &mut cells[index];
                cell.count += 1;
                cell.sum += value;
                cell.min = cell.min.min(value);
                cell.max = cell.max.max(value);
                if time >= cell.last_time {
                    (cell.last, cell.last_time) = (value, time);
                }
            }
            Self::Values(values) => values.push((u32::try_from(index).unwrap_or(u32::MAX), value)),
            Self::Rates(_) => {}
        }
    }

    /// Adds the rates of one series.
    pub fn add_rates(&mut self, rates: &[Option<f64>]) {
        if let Self::Rates(sums) = self {
            for (sum, rate) in sums.iter_mut().zip(rates) {
                if let Some(rate) = rate {
                    *sum = Some(sum.unwrap_or(0.0) + rate);
                }
            }
        }
    }

    /// One point for each bucket; none where it had no sample.
    pub fn finish(self, aggregate: Aggregate, grid: &Grid) -> Vec<Option<f64>> {
        match self {
            Self::Rates(rates) => rates,
            Self::Cells(cells) => cells.iter().map(|cell| cell.point(aggregate)).collect(),
            Self::Values(mut values) => {
                values.sort_unstable_by(|left, right| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1)));
                let mut points = vec![None; grid.count];
                for bucket in values.chunk_by(|left, right| left.0 == right.0) {
                    if let Some(point) = points.get_mut(bucket[0].0 as usize) {
                        *point = Some(quantile(bucket, aggregate));
                    }
                }
                points
            }
        }
    }
}

impl Cell {
    fn point(&self, aggregate: Aggregate) -> Option<f64> {
        let count = self.count as f64;
        (self.count > 0).then_some(match aggregate {
            Aggregate::Avg => self.sum / count,
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Sum => self.sum,
            Aggregate::Count => count,
            Aggregate::Last | Aggregate::Rate | Aggregate::Quantile(_) => self.last,
        })
    }
}

/// Between the two nearest samples, as they lie to each other (definition 7 of Hyndman and Fan, 1996).
#[expect(clippy::cast_possible_truncation, reason = "the rank lies within the samples")]
fn quantile(sorted: &[(u32, f64)], aggregate: Aggregate) -> f64 {
    let share = match aggregate {
        Aggregate::Quantile(share) => share.clamp(0.0, 1.0),
        _ => 0.5,
    };
    let rank = share * (sorted.len() - 1) as f64;
    let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
    let (low, high) = (sorted[below].1, sorted[above].1);
    if below == above {
        return low;
    }
    low + (high - low) * (rank - rank.floor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(aggregate: Aggregate, samples: &[(i64, f64)]) -> Vec<Option<f64>> {
        let grid = Grid::over(0, 30, 10);
        let mut buckets = Buckets::new(aggregate, &grid);
        for (time, value) in samples {
            if let Some(index) = grid.index(*time) {
                buckets.add(index, *time, *value);
            }
        }
        buckets.finish(aggregate, &grid)
    }

    #[test]
    fn each_aggregate_says_what_its_name_says_and_gaps_stay() {
        let samples = [(5, 2.0), (1, 4.0), (9, 3.0), (29, 7.0), (30, 9.0), (-1, 9.0)];
        for (aggregate, first) in [
            (Aggregate::Avg, 3.0),
            (Aggregate::Min, 2.0),
            (Aggregate::Max, 4.0),
            (Aggregate::Sum, 9.0),
            (Aggregate::Count, 3.0),
            (Aggregate::Last, 3.0),
            (Aggregate::Quantile(0.5), 3.0),
            (Aggregate::Quantile(0.75), 3.5),
            (Aggregate::Quantile(1.0), 4.0),
        ] {
            let found = points(aggregate, &samples);
            assert_eq!((found[0], found[1]), (Some(first), None), "{aggregate:?}");
            assert!(found[2].is_some() && found.len() == 3, "{aggregate:?}");
        }
    }

    proptest! {
        #[test]
        fn every_time_of_a_range_lies_in_exactly_one_span(from: i64, length in 1i64..1_000_000, step in 1i64..1000, at in 0i64..1_000_000) {
            let to = from.saturating_add(length);
            let grid = Grid::over(from, to, step);
            let time = from.saturating_add(at % length.max(1));
            if time < to && grid.from > i64::MIN + step {
                let index = grid.index(time).unwrap();
                prop_assert!(grid.start_of(index) <= time && time < grid.start_of(index + 1));
            }
            prop_assert!(grid.count as i64 <= length / step + 2);
        }
    }
}

//! Matches of a page with the records around them, all matches in few passes: their neighbours are found by stream and
//! position alone, which are small columns, and then the records are read by address.
//!
//! Neighbours are sought near each match first, as far as so many records of its length reach; where that was not enough
//! (long lines between short ones, the end of a stream), in all of the stream on that side.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{Expr, col, lit};
use futures_util::StreamExt;

use super::engine::RunError;
use super::logs::Search;
use super::runs::{Run, arranged, read, runs};
use super::{AROUND_ROWS_MAX, Around, LogQuery};
use crate::columns::Words;
use crate::error::QueryError;
use crate::schema::column;

/// Neighbours are sought first within so many times the length that they have if they are as long as their match.
const REACH_FACTOR: i64 = 8;
/// Places gathered before those are dropped that are no neighbours.
const PLACES_MAX: usize = 1 << 18;

/// A record of a stream: position and time, ns.
pub type Place = (i64, i64);

/// What is looked at in one stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// In the order of positions.
    pub matches: Vec<Match>,
    /// Matches and what was found around them, in the order of positions.
    pub places: Vec<Place>,
}

/// A record of the page.
#[derive(Debug, Clone, Copy)]
pub struct Match {
    pub position: i64,
    /// Its row on the page.
    pub row: usize,
    /// Where neighbours are sought, both ends included.
    from: i64,
    to: i64,
}

/// The streams of a page, by their id.
pub type Streams = BTreeMap<String, Stream>;

/// The records of a page and those around them: runs of neighbours in the order of their first matches, each run in the
/// order of positions, with two columns more.
pub async fn find(
    search: &Search<'_>,
    query: &LogQuery,
    around: Around,
    page: &RecordBatch,
) -> Result<RecordBatch, RunError> {
    let each = around.before.saturating_add(around.after).saturating_add(1);
    let rows_max = page.num_rows().saturating_mul(each);
    if rows_max > AROUND_ROWS_MAX {
        let matches = page.num_rows();
        return Err(QueryError::Invalid(format!(
            "{matches} records with those around them may be {rows_max}, allowed are {AROUND_ROWS_MAX} on a page"
        ))
        .into());
    }
    // One more before, so that it is known whether two runs follow one another.
    let sought = Around {
        before: around.before + 1,
        after: around.after,
    };
    let machines = distinct(page, column::MACHINE_ID);
    let mut streams = streams_of(page, sought)?;
    seek(search, &machines, &mut streams, sought).await?;
    let mut is_wider = false;
    for stream in streams.values_mut() {
        is_wider |= stream.widen(sought);
    }
    if is_wider {
        seek(search, &machines, &mut streams, sought).await?;
    }
    let runs: Vec<Run> = runs(&streams, around);
    let found = read(search, of(&machines, streams.keys()), &runs).await?;
    arranged(query, &runs, &found)
}

fn distinct(rows: &RecordBatch, name: &str) -> Vec<String> {
    let words = Words::of(rows, name);
    let values: BTreeSet<&str> = words.iter().flat_map(Words::iter).collect();
    values.into_iter().map(str::to_owned).collect()
}

fn streams_of(page: &RecordBatch, sought: Around) -> Result<Streams, RunError> {
    let numbers = |name: &str| {
        let column = page.column_by_name(name);
        let column = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.ok_or_else(|| RunError::Query(QueryError::Failed(format!("rows without {name}"))))
    };
    let (positions, lengths) = (numbers(column::POSITION)?, numbers(column::SOURCE_LEN)?);
    let times = page.column_by_name(column::TIME);
    let times = times.and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
    let mut streams = Streams::new();
    let stream_ids = Words::of(page, column::STREAM_ID);
    for (row, stream_id) in stream_ids.iter().flat_map(Words::iter).enumerate() {
        let position = positions.value(row);
        let reach = |count: usize| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let length = lengths.value(row).max(1).saturating_mul(REACH_FACTOR);
            length.saturating_mul(count)
        };
        let stream = streams.entry(stream_id.to_owned()).or_default();
        stream.matches.push(Match {
            position,
            row,
            from: position.saturating_sub(reach(sought.before)),
            to: position.saturating_add(reach(sought.after)),
        });
        stream
            .places
            .push((position, times.map_or(0, |times| times.value(row))));
    }
    for stream in streams.values_mut() {
        stream.matches.sort_unstable_by_key(|found| found.position);
        stream.level_reaches();
    }
    Ok(streams)
}

/// Gathers the places that lie where neighbours are sought.
async fn seek(
    search: &Search<'_>,
    machines: &[String],
    streams: &mut Streams,
    sought: Around,
) -> Result<(), RunError> {
    let matches = || streams.values().flat_map(|stream| &stream.matches);
    let ends = (
        matches().map(|found| found.from).min(),
        matches().map(|found| found.to).max(),
    );
    let (Some(from), Some(to)) = ends else {
        return Ok(());
    };
    let mut conditions = of(machines, streams.keys());
    conditions.push(col(column::POSITION).gt_eq(lit(from)));
    conditions.push(col(column::POSITION).lt_eq(lit(to)));
    let wanted = [column::STREAM_ID, column::POSITION, column::TIME];
    let frame = search.frame(conditions);
    let frame = frame
        .and_then(|frame| frame.select_columns(&wanted))
        .map_err(RunError::Running)?;
    let mut batches = frame.execute_stream().await.map_err(RunError::Running)?;
    while let Some(batch) = batches.next().await {
        gather(&batch.map_err(RunError::Running)?, streams, sought);
        tokio::task::yield_now().await;
    }
    for stream in streams.values_mut() {
        stream.keep_neighbours(sought);
    }
    Ok(())
}

/// Of these machines and streams. A stream belongs to one machine, and files say whose records they hold.
fn of<'a>(machines: &[String], streams: impl Iterator<Item = &'a String>) -> Vec<Expr> {
    let texts = |values: Vec<&String>| values.into_iter().map(|value| lit(value.clone())).collect();
    vec![
        col(column::MACHINE_ID).in_list(texts(machines.iter().collect()), false),
        col(column::STREAM_ID).in_list(texts(streams.collect()), false),
    ]
}

fn gather(batch: &RecordBatch, streams: &mut Streams, sought: Around) {
    let ids = Words::of(batch, column::STREAM_ID);
    let positions = batch.column(1).as_primitive_opt::<Int64Type>();
    let times = batch.column(2).as_primitive_opt::<TimestampNanosecondType>();
    let (Some(ids), Some(positions), Some(times)) = (ids, positions, times) else {
        return;
    };
    // One look-up for each stream of the batch.
    let mut rows_of: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for row in 0..batch.num_rows() {
        rows_of.entry(ids.key(row)).or_default().push(row);
    }
    for (key, rows) in rows_of {
        if let Some(stream) = streams.get_mut(key.map_or("", |key| ids.value(key))) {
            let places = rows
                .into_iter()
                .map(|row| (positions.value(row), times.value(row)));
            stream.add(places, sought);
        }
    }
}

impl Stream {
    fn add(&mut self, places: impl Iterator<Item = Place>, sought: Around) {
        for place in places {
            if self.is_sought(place.0) {
                self.places.push(place);
            }
        }
        if self.places.len() >= PLACES_MAX {
            self.keep_neighbours(sought);
        }
    }

    /// A place is sought if any match reaches it. Afterwards those next to it tell.
    fn level_reaches(&mut self) {
        let mut to = i64::MIN;
        for found in &mut self.matches {
            to = to.max(found.to);
            found.to = to;
        }
        let mut from = i64::MAX;
        for found in self.matches.iter_mut().rev() {
            from = from.min(found.from);
            found.from = from;
        }
    }

    fn is_sought(&self, position: i64) -> bool {
        let next = self.matches.partition_point(|found| found.position < position);
        let by_next = self.matches.get(next).is_some_and(|found| found.from <= position);
        let by_last = || next > 0 && self.matches[next - 1].to >= position;
        by_next || by_last()
    }

    /// Drops places that are neighbours of no match. What is among the nearest of all places is so among any part of them.
    fn keep_neighbours(&mut self, sought: Around) {
        self.places.sort_unstable();
        self.places.dedup_by_key(|place| place.0);
        let mut kept = Vec::new();
        let mut behind = 0;
        for found in &self.matches {
            let (first, end) = self.span(found, sought);
            kept.extend_from_slice(&self.places[first.max(behind).min(end)..end]);
            behind = behind.max(end);
        }
        self.places = kept;
    }

    /// A match and its neighbours, as indices of sorted places.
    pub fn span(&self, found: &Match, around: Around) -> (usize, usize) {
        let at = self.places.partition_point(|place| place.0 < found.position);
        let end = at.saturating_add(around.after).saturating_add(1);
        (at.saturating_sub(around.before), end.min(self.places.len()))
    }

    /// Reaches to the ends of the stream where too little was found. False where there was enough.
    fn widen(&mut self, sought: Around) -> bool {
        let mut is_wider = false;
        let count = |from: i64, to: i64| {
            let first = self.places.partition_point(|place| place.0 < from);
            self.places
                .partition_point(|place| place.0 < to)
                .saturating_sub(first)
        };
        let mut matches = self.matches.clone();
        for found in &mut matches {
            let behind = found.position.saturating_add(1);
            let lacks_before = found.from > 0 && count(found.from, found.position) < sought.before;
            let lacks_after = count(behind, found.to.saturating_add(1)) < sought.after;
            found.from = if lacks_before { i64::MIN } else { found.position };
            found.to = if lacks_after { i64::MAX } else { found.position };
            is_wider |= lacks_before || lacks_after;
        }
        self.matches = matches;
        self.level_reaches();
        is_wider
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(matches: &[(i64, i64, i64)], places: &[i64]) -> Stream {
        let found = |(row, (position, from, to)): (usize, &(i64, i64, i64))| Match {
            position: *position,
            row,
            from: *from,
            to: *to,
        };
        let mut stream = Stream {
            matches: matches.iter().enumerate().map(found).collect(),
            places: places.iter().map(|position| (*position, 0)).collect(),
        };
        stream.level_reaches();
        stream
    }

    #[test]
    fn a_place_is_sought_where_any_match_reaches_it() {
        let stream = stream(&[(10, 9, 11), (20, 2, 21), (30, 29, 31)], &[]);
        let sought: Vec<i64> = (0..40).filter(|position| stream.is_sought(*position)).collect();
        assert_eq!(sought, (2..=21).chain(29..=31).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn the_nearest_are_kept_however_they_come(
            positions in prop::collection::btree_set(0i64..400, 1..80),
            chosen in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
            (before, after, reach, parts) in (0usize..5, 0usize..5, 0i64..60, 1usize..7),
        ) {
            let positions: Vec<i64> = positions.into_iter().collect();
            let sought = Around { before, after };
            let mut indices: Vec<usize> = chosen.iter().map(|index| index.index(positions.len())).collect();
            indices.sort_unstable();
            indices.dedup();
            let matches: Vec<_> =
                indices.iter().map(|index| positions[*index]).map(|at| (at, at - reach, at + reach)).collect();
            let at: Vec<i64> = matches.iter().map(|found| found.0).collect();
            let mut stream = stream(&matches, &at);
            for round in 0..2 {
                for part in 0..parts {
                    let places = positions.iter().skip(part).step_by(parts).map(|position| (*position, 0));
                    stream.add(places, sought);
                    stream.keep_neighbours(sought);
                }
                if round == 0 {
                    stream.widen(sought);
                }
            }
            for (found, index) in stream.matches.iter().zip(indices) {
                let (first, end) = stream.span(found, sought);
                let near: Vec<i64> = stream.places[first..end].iter().map(|place| place.0).collect();
                let end = (index + after + 1).min(positions.len());
                prop_assert_eq!(&near[..], &positions[index.saturating_sub(before)..end]);
            }
        }
    }
}

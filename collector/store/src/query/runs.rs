//! Runs of neighbours around matches: which records they are, reading these, and putting them in order.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::{Expr, col, lit};
use futures_util::StreamExt;

use super::around::{Place, Streams};
use super::engine::RunError;
use super::filter::{LogMatcher, time};
use super::logs::Search;
use super::{AROUND_COLUMNS, Around, LogQuery};
use crate::columns::Words;
use crate::schema::{Table, column};

/// Records that follow one another in a stream, one of them at least a match.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    stream_id: String,
    places: Vec<Place>,
    /// Of its matches, the first on the page.
    row: usize,
}

/// The runs of all streams. Where two meet they are one.
pub fn runs(streams: &Streams, around: Around) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (stream_id, stream) in streams {
        let mut behind = None;
        for found in &stream.matches {
            let (first, end) = stream.span(found, around);
            match runs
                .last_mut()
                .filter(|_| behind.is_some_and(|behind| first <= behind))
            {
                Some(run) => {
                    let from = behind.unwrap_or(first).min(end);
                    run.places.extend_from_slice(&stream.places[from..end]);
                    run.row = run.row.min(found.row);
                }
                None => runs.push(Run {
                    stream_id: stream_id.clone(),
                    places: stream.places[first..end].to_vec(),
                    row: found.row,
                }),
            }
            behind = Some(end);
        }
    }
    runs.sort_by_key(|run| run.row);
    runs
}

/// Rows by stream and position.
type Rows = HashMap<(String, i64), Vec<u32>>;

/// Reads the records of runs, in no order.
pub async fn read(search: &Search<'_>, of: Vec<Expr>, runs: &[Run]) -> Result<RecordBatch, RunError> {
    let places = || runs.iter().flat_map(|run| &run.places);
    let schema = Table::Logs.schema();
    let times = (
        places().map(|place| place.1).min(),
        places().map(|place| place.1).max(),
    );
    let (Some(first), Some(last)) = times else {
        return Ok(RecordBatch::new_empty(schema));
    };
    let mut positions: Vec<i64> = places().map(|place| place.0).collect();
    positions.sort_unstable();
    positions.dedup();
    let mut conditions = of;
    conditions.push(
        col(column::TIME)
            .gt_eq(time(first))
            .and(col(column::TIME).lt_eq(time(last))),
    );
    // Bounds besides the list: files and pages are skipped by those.
    if let (Some(least), Some(greatest)) = (positions.first(), positions.last()) {
        conditions.push(col(column::POSITION).gt_eq(lit(*least)));
        conditions.push(col(column::POSITION).lt_eq(lit(*greatest)));
    }
    conditions.push(col(column::POSITION).in_list(positions.into_iter().map(lit).collect(), false));
    let wanted = by_stream(runs);
    let frame = search.frame(conditions).map_err(RunError::Running)?;
    let mut batches = frame.execute_stream().await.map_err(RunError::Running)?;
    let mut found = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(RunError::Running)?;
        let chosen = chosen(&batch, &wanted).and_then(|batch| compact(&batch));
        found.extend(chosen.map_err(arrow)?);
        tokio::task::yield_now().await;
    }
    concat_batches(&schema, &found).map_err(arrow)
}

/// The positions of each stream, sorted.
fn by_stream(runs: &[Run]) -> HashMap<&str, Vec<i64>> {
    let mut wanted: HashMap<&str, Vec<i64>> = HashMap::new();
    for run in runs {
        let positions = wanted.entry(&run.stream_id).or_default();
        positions.extend(run.places.iter().map(|place| place.0));
    }
    wanted
        .values_mut()
        .for_each(|positions| positions.sort_unstable());
    wanted
}

fn arrow(error: ArrowError) -> RunError {
    RunError::Running(DataFusionError::from(error))
}

/// Other streams have records at the same positions.
fn chosen(batch: &RecordBatch, wanted: &HashMap<&str, Vec<i64>>) -> Result<RecordBatch, ArrowError> {
    let addresses = addresses(batch).unwrap_or_default();
    let is_wanted = |(stream_id, position): (&str, i64)| {
        let positions = wanted.get(stream_id);
        positions.is_some_and(|positions| positions.binary_search(&position).is_ok())
    };
    let mask: BooleanArray = addresses
        .into_iter()
        .map(|address| Some(is_wanted(address)))
        .collect();
    filter_record_batch(batch, &mask)
}

/// A few rows must not keep all bodies of the batch that they were among.
fn compact(batch: &RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let compacted = |column: &ArrayRef| -> ArrayRef {
        match column.as_string_view_opt() {
            Some(views) => Arc::new(views.gc()),
            None => Arc::clone(column),
        }
    };
    let columns = batch.columns().iter().map(compacted).collect();
    RecordBatch::try_new(batch.schema(), columns).map(Some)
}

fn addresses(rows: &RecordBatch) -> Option<Vec<(&str, i64)>> {
    let streams = Words::of(rows, column::STREAM_ID)?;
    let positions = rows.column_by_name(column::POSITION)?;
    let positions = positions.as_primitive_opt::<Int64Type>()?;
    Some(streams.iter().zip(positions.values().iter().copied()).collect())
}

/// In the order of runs, with what a row is: a match or not, and of which run.
pub fn arranged(query: &LogQuery, runs: &[Run], found: &RecordBatch) -> Result<RecordBatch, RunError> {
    let mut rows = Rows::new();
    let known = addresses(found).unwrap_or_default();
    for (row, (stream_id, position)) in (0u32..).zip(known) {
        rows.entry((stream_id.to_owned(), position))
            .or_default()
            .push(row);
    }
    let (mut order, mut numbers) = (Vec::new(), Vec::new());
    for (number, run) in (0u32..).zip(runs) {
        for (position, _) in &run.places {
            // Two records may share an address after damage; both are shown.
            let here = rows.get(&(run.stream_id.clone(), *position));
            for row in here.into_iter().flatten() {
                order.push(*row);
                numbers.push(number);
            }
        }
    }
    let ordered = take_record_batch(found, &UInt32Array::from(order)).map_err(arrow)?;
    let matches = LogMatcher::new(query)?.matches(&ordered)?;
    // What can't be told is no match, as in a search.
    let matches: BooleanArray = matches
        .iter()
        .map(|is_match| Some(is_match == Some(true)))
        .collect();
    let [is_match, run] = AROUND_COLUMNS;
    let mut fields: Vec<Arc<Field>> = ordered.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(is_match, DataType::Boolean, false)));
    fields.push(Arc::new(Field::new(run, DataType::UInt32, false)));
    let mut columns = ordered.columns().to_vec();
    columns.push(Arc::new(matches));
    columns.push(Arc::new(UInt32Array::from(numbers)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(arrow)
}

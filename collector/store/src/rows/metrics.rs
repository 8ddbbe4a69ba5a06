//! Metric samples.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, PrimitiveArray, StringDictionaryBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use edgelogger_common::block::{BytesColumn, ListColumn, MetricView, Temporality};

use super::common::{address, bytes, optional, same, times};
use super::maps::{attribute_map, repeated_map, repeated_map_bytes};
use super::{BATCH_ROWS_MAX, Kept, Origin, RowTools, Rows};
use crate::schema::{Table, list_item};

/// The kept samples of a block as batches of rows.
pub fn metric_rows(
    view: &MetricView,
    kept: &[Kept],
    origin: &Origin<'_>,
    tools: &mut RowTools,
) -> Result<Vec<Rows>, ArrowError> {
    kept.chunks(BATCH_ROWS_MAX)
        .map(|rows| batch(view, rows, origin, tools))
        .collect()
}

fn batch(
    view: &MetricView,
    rows: &[Kept],
    origin: &Origin<'_>,
    tools: &mut RowTools,
) -> Result<Rows, ArrowError> {
    let (zeros, count) = (&mut tools.zeros, rows.len());
    let events: Vec<Option<i64>> = rows
        .iter()
        .map(|row| view.event_time.as_ref().and_then(|times| times.get(row.record)))
        .collect();
    let mut columns = address(
        rows,
        &events,
        |record| view.observed_time.value(record),
        origin,
        zeros,
    )?;
    let (labels, label_bytes) = attribute_map(&view.labels, rows, zeros)?;
    let start = optional::<Int64Type>(rows, |record| {
        view.start_time.as_ref().and_then(|times| times.get(record))
    });
    let (start, start_nulls) = (start.values().to_vec(), start.into_parts().2);
    columns.extend([
        names(Some(&view.name), rows)?,
        names(view.unit.as_ref(), rows)?,
        words(rows.iter().map(|row| view.kind(row.record).word()))?,
        words(rows.iter().map(|row| temporality(view.temporality(row.record))))?,
        times(start, start_nulls),
        floats(rows, |record| {
            view.value.as_ref().and_then(|values| values.get(record))
        }),
        bytes(rows.iter().map(|row| view.quality(row.record) as u8).collect()),
        labels,
        repeated_map(origin.labels, count, zeros)?,
        Arc::new(optional::<Int64Type>(rows, |record| {
            view.count.as_ref().and_then(|counts| counts.get(record))
        })),
        floats(rows, |record| view.sum.as_ref().and_then(|sums| sums.get(record))),
        lists::<Float64Type>(view.bucket_bounds.as_ref(), rows)?,
        lists::<Int64Type>(view.bucket_counts.as_ref(), rows)?,
        lists::<Float64Type>(view.quantiles.as_ref(), rows)?,
        lists::<Float64Type>(view.quantile_values.as_ref(), rows)?,
        same(origin.agent_version, count, zeros)?,
    ]);
    let text = label_bytes + repeated_map_bytes(origin.labels) * count as u64;
    Ok(Rows::new(
        RecordBatch::try_new(Table::Metrics.schema(), columns)?,
        text,
    ))
}

const fn temporality(temporality: Temporality) -> &'static str {
    match temporality {
        Temporality::Unspecified => "",
        Temporality::Delta => "delta",
        Temporality::Cumulative => "cumulative",
    }
}

fn floats(rows: &[Kept], get: impl Fn(usize) -> Option<f64>) -> ArrayRef {
    Arc::new(optional::<Float64Type>(rows, get))
}

/// Names come checked as UTF-8 from the block.
fn names(names: Option<&BytesColumn>, rows: &[Kept]) -> Result<ArrayRef, ArrowError> {
    let text = |record| {
        names.map_or("", |names| {
            std::str::from_utf8(names.get(record)).unwrap_or_default()
        })
    };
    words(rows.iter().map(|row| text(row.record)))
}

fn words<'a>(values: impl Iterator<Item = &'a str>) -> Result<ArrayRef, ArrowError> {
    let mut words = StringDictionaryBuilder::<Int32Type>::new();
    for value in values {
        words.append(value)?;
    }
    Ok(Arc::new(words.finish()))
}

fn lists<T: ArrowPrimitiveType>(
    lists: Option<&ListColumn<T::Native>>,
    rows: &[Kept],
) -> Result<ArrayRef, ArrowError> {
    let list = |row: &Kept| lists.map_or(&[][..], |lists| lists.get(row.record));
    let values: Vec<T::Native> = rows.iter().flat_map(list).copied().collect();
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| list(row).len()));
    let values = Arc::new(PrimitiveArray::<T>::new(values.into(), None));
    Ok(Arc::new(ListArray::try_new(
        list_item(T::DATA_TYPE),
        offsets,
        values,
        None,
    )?))
}

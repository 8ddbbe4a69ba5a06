//! Log records.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder, UInt8Array};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use edgelogger_common::block::{Block, ColumnId, FixedColumn, LogView, RecordFlags};

use super::body::body_columns;
use super::common::{address, bytes, no_text, nulls, positions, same};
use super::maps::{attribute_map, repeated_map, repeated_map_bytes};
use super::{BATCH_ROWS_MAX, Kept, Origin, RowTools, Rows, Zeros};
use crate::schema::Table;

/// The kept records of a block as batches of rows.
pub fn log_rows(
    block: &Block,
    view: &LogView,
    kept: &[Kept],
    origin: &Origin<'_>,
    tools: &mut RowTools,
) -> Result<Vec<Rows>, ArrowError> {
    kept.chunks(BATCH_ROWS_MAX)
        .map(|rows| batch(block, view, rows, origin, tools))
        .collect()
}

fn batch(
    block: &Block,
    view: &LogView,
    rows: &[Kept],
    origin: &Origin<'_>,
    tools: &mut RowTools,
) -> Result<Rows, ArrowError> {
    let data = block
        .column(ColumnId::BODY)
        .map(|column| column.data.clone())
        .unwrap_or_default();
    let (events, severities) = recognized(view, rows, tools);
    let (zeros, count) = (&mut tools.zeros, rows.len());
    let mut columns = address(
        rows,
        &events,
        |record| view.observed_time.value(record),
        origin,
        zeros,
    )?;
    let (body, body_bytes) = body_columns(&data, &view.body, rows, zeros)?;
    let (attributes, attribute_bytes) = attribute_map(&view.attributes, rows, zeros)?;
    columns.extend([
        positions(rows.iter().map(|row| row.end - row.start)),
        severity_column(&severities),
        body,
        body_bytes,
        attributes,
        repeated_map(origin.labels, count, zeros)?,
        hex(view.trace_id.as_ref(), rows, zeros)?,
        hex(view.span_id.as_ref(), rows, zeros)?,
        bytes(rows.iter().map(|row| flags(view, row).0).collect()),
        same(origin.agent_version, count, zeros)?,
    ]);
    let body_len: u64 = rows
        .iter()
        .map(|row| view.body.get(row.record).len() as u64)
        .sum();
    let text = body_len + attribute_bytes + repeated_map_bytes(origin.labels) * count as u64;
    Ok(Rows::new(
        RecordBatch::try_new(Table::Logs.schema(), columns)?,
        text,
    ))
}

/// Event time and severity: what the block says, else what the line says.
fn recognized(view: &LogView, rows: &[Kept], tools: &mut RowTools) -> (Vec<Option<i64>>, Vec<Option<u8>>) {
    let said = |record| {
        let event = view.event_time.as_ref().and_then(|times| times.get(record));
        let severity = view.severity.as_ref().and_then(|numbers| numbers.get(record));
        (event, severity)
    };
    rows.iter()
        .map(|row| match said(row.record) {
            (Some(event), Some(severity)) => (Some(event), Some(severity)),
            (event, severity) => {
                let observed = view.observed_time.value(row.record);
                let found = tools.recognizer.recognize(view.body.get(row.record), observed);
                (event.or(found.event_time), severity.or(found.severity))
            }
        })
        .unzip()
}

fn severity_column(severities: &[Option<u8>]) -> ArrayRef {
    let present: Vec<bool> = severities.iter().map(Option::is_some).collect();
    let values: Vec<u8> = severities
        .iter()
        .map(|severity| severity.unwrap_or_default())
        .collect();
    Arc::new(UInt8Array::new(values.into(), nulls(&present)))
}

fn flags(view: &LogView, row: &Kept) -> RecordFlags {
    let flags = view.flags(row.record);
    if row.overlaps {
        flags.with(RecordFlags::OVERLAPS)
    } else {
        flags
    }
}

fn hex<const N: usize>(
    column: Option<&FixedColumn<N>>,
    rows: &[Kept],
    zeros: &mut Zeros,
) -> Result<ArrayRef, ArrowError> {
    let Some(column) = column else {
        return no_text(rows.len(), zeros);
    };
    let mut text = StringBuilder::with_capacity(rows.len(), rows.len() * N * 2);
    let mut digits = String::with_capacity(N * 2);
    for row in rows {
        match column.get(row.record) {
            None => text.append_null(),
            Some(id) => {
                digits.clear();
                digits.extend(id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit));
                text.append_value(&digits);
            }
        }
    }
    Ok(Arc::new(text.finish()))
}

fn digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

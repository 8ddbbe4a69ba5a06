//! Columns that both tables have, and what all columns are built with.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, PrimitiveArray, StringArray, TimestampNanosecondArray,
    UInt8Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type};
use arrow::error::ArrowError;

use super::{Kept, Origin};
use crate::schema::TIMEZONE;

/// A buffer of zeroes that columns share.
#[derive(Debug)]
pub struct Zeros(Buffer);

impl Default for Zeros {
    fn default() -> Self {
        Self(Buffer::from(Vec::<u8>::new()))
    }
}

impl Zeros {
    /// This many 32-bit zeroes.
    pub fn i32s(&mut self, count: usize) -> ScalarBuffer<i32> {
        if self.0.len() < count * 4 {
            self.0 = Buffer::from(vec![0u8; count.next_power_of_two() * 4]);
        }
        ScalarBuffer::new(self.0.clone(), 0, count)
    }

    /// Offsets of this many empty values.
    pub fn offsets(&mut self, count: usize) -> OffsetBuffer<i32> {
        OffsetBuffer::new(self.i32s(count + 1))
    }
}

/// One value for all rows.
pub fn same(value: &str, rows: usize, zeros: &mut Zeros) -> Result<ArrayRef, ArrowError> {
    let keys = Int32Array::new(zeros.i32s(rows), None);
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
        keys,
        Arc::new(StringArray::from(vec![value])),
    )?))
}

/// Text without a value in any row.
pub fn no_text(rows: usize, zeros: &mut Zeros) -> Result<ArrayRef, ArrowError> {
    let nulls = Some(NullBuffer::new_null(rows));
    Ok(Arc::new(StringArray::try_new(
        zeros.offsets(rows),
        Buffer::from(Vec::<u8>::new()),
        nulls,
    )?))
}

pub fn times(values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::new(values.into(), nulls).with_timezone(TIMEZONE))
}

/// Numbers that rows may lack.
pub fn optional<T: ArrowPrimitiveType>(
    rows: &[Kept],
    get: impl Fn(usize) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    let mut values = Vec::with_capacity(rows.len());
    let mut present = vec![false; rows.len()];
    for (present, row) in present.iter_mut().zip(rows) {
        let value = get(row.record);
        *present = value.is_some();
        values.push(value.unwrap_or_default());
    }
    PrimitiveArray::new(values.into(), nulls(&present))
}

/// The validity of rows; none where all have a value.
pub fn nulls(present: &[bool]) -> Option<NullBuffer> {
    let nulls = NullBuffer::new(BooleanBuffer::from(present));
    (nulls.null_count() > 0).then_some(nulls)
}

pub fn bytes(values: Vec<u8>) -> ArrayRef {
    Arc::new(UInt8Array::from(values))
}

/// A position or length; they are at most 2^63 - 1.
pub fn positions(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(
        values.map(|value| i64::try_from(value).unwrap_or(i64::MAX)),
    ))
}

/// `time`, `event_time`, `observed_time`, `received_time`, `machine_id`, `source`, `stream_id`, `position`.
pub fn address(
    rows: &[Kept],
    events: &[Option<i64>],
    observed: impl Fn(usize) -> i64,
    origin: &Origin<'_>,
    zeros: &mut Zeros,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let count = rows.len();
    let observed: Vec<i64> = rows.iter().map(|row| observed(row.record)).collect();
    let time = events
        .iter()
        .zip(&observed)
        .map(|(event, observed)| event.unwrap_or(*observed))
        .collect();
    let present: Vec<bool> = events.iter().map(Option::is_some).collect();
    let event_values = events.iter().map(|event| event.unwrap_or_default()).collect();
    Ok(vec![
        times(time, None),
        times(event_values, nulls(&present)),
        times(observed, None),
        times(vec![origin.received_ns; count], None),
        same(origin.machine_id, count, zeros)?,
        same(origin.source, count, zeros)?,
        same(&origin.stream_id.to_string(), count, zeros)?,
        positions(rows.iter().map(|row| row.start)),
    ])
}

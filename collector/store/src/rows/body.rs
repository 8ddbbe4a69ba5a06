//! Bodies: text as it is, and the exact bytes where they are no text.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BinaryBuilder, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::error::ArrowError;
use bytes::Bytes;
use edgelogger_common::block::BytesColumn;

use super::{Kept, Zeros};

/// Below this part of a column's bytes the rows get a copy: a few kept rows must not hold a large block in memory.
const SHARED_PART_MIN: usize = 2;

/// `body` and `body_bytes`. `data` is the encoded column, in which all of `body` lies.
pub fn body_columns(
    data: &Bytes,
    body: &BytesColumn,
    rows: &[Kept],
    zeros: &mut Zeros,
) -> Result<(ArrayRef, ArrayRef), ArrowError> {
    match shared_text(data, body, rows) {
        Ok(text) => Ok((compact(text, data.len()), no_bytes(rows.len(), zeros)?)),
        // The only way for views into the column to be refused is that some are not UTF-8.
        Err(_) => lossy_text(data, body, rows),
    }
}

fn view(data: &Bytes, value: &[u8]) -> u128 {
    let offset = value.as_ptr().addr().wrapping_sub(data.as_ptr().addr());
    make_view(value, 0, u32::try_from(offset).unwrap_or(u32::MAX))
}

fn shared_text(data: &Bytes, body: &BytesColumn, rows: &[Kept]) -> Result<StringViewArray, ArrowError> {
    let views: Vec<u128> = rows.iter().map(|row| view(data, body.get(row.record))).collect();
    StringViewArray::try_new(views.into(), vec![Buffer::from(data.clone())], None)
}

fn compact(text: StringViewArray, shared_bytes: usize) -> ArrayRef {
    let few = text.total_buffer_bytes_used() * SHARED_PART_MIN < shared_bytes;
    Arc::new(if few { text.gc() } else { text })
}

fn no_bytes(rows: usize, zeros: &mut Zeros) -> Result<ArrayRef, ArrowError> {
    let nulls = Some(NullBuffer::new_null(rows));
    Ok(Arc::new(BinaryArray::try_new(
        zeros.offsets(rows),
        Buffer::from(Vec::<u8>::new()),
        nulls,
    )?))
}

fn lossy_text(data: &Bytes, body: &BytesColumn, rows: &[Kept]) -> Result<(ArrayRef, ArrayRef), ArrowError> {
    let mut views = Vec::with_capacity(rows.len());
    let mut replaced = Vec::new();
    let mut exact = BinaryBuilder::with_capacity(rows.len(), 0);
    for row in rows {
        let value = body.get(row.record);
        if std::str::from_utf8(value).is_ok() {
            views.push(view(data, value));
            exact.append_null();
            continue;
        }
        let text = String::from_utf8_lossy(value);
        let offset = u32::try_from(replaced.len()).map_err(|_| {
            ArrowError::ComputeError("4 GiB of text that is not UTF-8 in one batch".to_owned())
        })?;
        views.push(make_view(text.as_bytes(), 1, offset));
        replaced.extend_from_slice(text.as_bytes());
        exact.append_value(value);
    }
    let buffers = vec![Buffer::from(data.clone()), Buffer::from(replaced)];
    let text = StringViewArray::try_new(views.into(), buffers, None)?;
    Ok((compact(text, data.len()), Arc::new(exact.finish())))
}

//! Columns of byte strings: bodies, names, units.

use std::collections::HashMap;

use bytes::{BufMut, Bytes};
use memchr::memchr_iter;

use super::cursor::{Cursor, put_varint};
use super::{BlockError, Column, ColumnId, ColumnType, EXPANDED_BYTES_MAX, Encoding};

/// A dictionary pays where values come again at least this often on average.
const DICTIONARY_REPEATS_MIN: usize = 4;

/// A decoded column of byte strings. The bytes are shared with the payload.
#[derive(Debug, Clone, PartialEq)]
pub struct BytesColumn {
    data: Bytes,
    /// Where each record's value starts and ends in `data`.
    spans: Vec<(u32, u32)>,
    /// `data` is the records' lines with their line feeds and nothing else.
    lines: bool,
}

impl BytesColumn {
    /// The value of a record.
    ///
    /// # Panics
    /// When `index` is not below the block's record count.
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        let (start, end) = self.spans[index];
        &self.data[start as usize..end as usize]
    }

    /// Number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.spans.len()
    }

    /// Is there no value?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.spans
            .iter()
            .map(|(start, end)| &self.data[*start as usize..*end as usize])
    }

    /// Sum of the lengths of all values, in bytes.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        self.spans.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// The lines as they stood in the source, line feeds included, where the column was written so.
    pub(super) const fn source_lines(&self) -> Option<&Bytes> {
        if self.lines { Some(&self.data) } else { None }
    }

    pub(super) fn decode(column: &Column, records: usize) -> Result<Self, BlockError> {
        column.expect_type(ColumnType::Bytes)?;
        if column.nullable {
            return Err(column.error("byte strings can't be null"));
        }
        let end = u32::try_from(column.data.len()).map_err(|_| column.error("longer than 4 GiB"))?;
        let spans = match column.encoding {
            Encoding::Lines => line_spans(column, records)?,
            Encoding::Lengths => length_spans(column, records)?,
            Encoding::Dictionary => dictionary_spans(column, records)?,
            Encoding::Constant => vec![(0, end); records],
            Encoding::Plain | Encoding::Delta => {
                return Err(column.error("encoding does not go with the type"));
            }
        };
        let decoded = Self {
            data: column.data.clone(),
            spans,
            lines: column.encoding == Encoding::Lines,
        };
        let expanded = decoded.total_len();
        if expanded > EXPANDED_BYTES_MAX {
            return Err(BlockError::Limit {
                what: "the length of a column's values written out",
                found: expanded,
                limit: EXPANDED_BYTES_MAX,
            });
        }
        Ok(decoded)
    }

    /// Bodies: lines where no value holds a line feed, else lengths.
    pub(super) fn encode_bodies(id: ColumnId, values: &[&[u8]]) -> Column {
        if values.iter().any(|value| memchr::memchr(b'\n', value).is_some()) {
            return encode_lengths(id, values);
        }
        let mut data = Vec::with_capacity(values.iter().map(|value| value.len() + 1).sum());
        for value in values {
            data.put_slice(value);
            data.put_u8(b'\n');
        }
        Column::new(id, ColumnType::Bytes, Encoding::Lines, data)
    }

    /// Names and other strings that repeat: constant or dictionary where that pays, else lengths.
    pub(super) fn encode_repeating(id: ColumnId, values: &[&[u8]]) -> Column {
        let Some(first) = values.first() else {
            return encode_lengths(id, values);
        };
        if values.iter().all(|value| value == first) {
            return Column::new(id, ColumnType::Bytes, Encoding::Constant, first.to_vec());
        }
        let mut indices = HashMap::new();
        let mut distinct = Vec::new();
        for value in values {
            indices.entry(*value).or_insert_with(|| {
                distinct.push(*value);
                distinct.len() - 1
            });
        }
        if distinct.len() * DICTIONARY_REPEATS_MIN > values.len() {
            return encode_lengths(id, values);
        }
        let mut data = Vec::new();
        put_varint(&mut data, distinct.len() as u64);
        for value in &distinct {
            put_varint(&mut data, value.len() as u64);
            data.put_slice(value);
        }
        values
            .iter()
            .for_each(|value| put_varint(&mut data, indices[value] as u64));
        Column::new(id, ColumnType::Bytes, Encoding::Dictionary, data)
    }
}

fn encode_lengths(id: ColumnId, values: &[&[u8]]) -> Column {
    let mut data = Vec::new();
    values
        .iter()
        .for_each(|value| put_varint(&mut data, value.len() as u64));
    values.iter().for_each(|value| data.put_slice(value));
    Column::new(id, ColumnType::Bytes, Encoding::Lengths, data)
}

fn position(column: &Column, at: usize) -> Result<u32, BlockError> {
    u32::try_from(at).map_err(|_| column.error("longer than 4 GiB"))
}

fn line_spans(column: &Column, records: usize) -> Result<Vec<(u32, u32)>, BlockError> {
    if records > column.data.len() {
        return Err(column.error("fewer lines than records"));
    }
    if column.data.last().is_some_and(|byte| *byte != b'\n') {
        return Err(column.error("last line has no line feed"));
    }
    let mut spans = Vec::with_capacity(records);
    let mut start = 0;
    for line_feed in memchr_iter(b'\n', &column.data) {
        let end = position(column, line_feed)?;
        if spans.len() == records {
            return Err(column.error("more lines than records"));
        }
        spans.push((start, end));
        start = end + 1;
    }
    if spans.len() < records {
        return Err(column.error("fewer lines than records"));
    }
    Ok(spans)
}

fn length_spans(column: &Column, records: usize) -> Result<Vec<(u32, u32)>, BlockError> {
    let mut cursor = Cursor::new(&column.data, "a column of byte strings");
    if records > cursor.left() {
        return Err(column.error("fewer lengths than records"));
    }
    let mut spans = Vec::with_capacity(records);
    for _ in 0..records {
        let len = cursor.varint()?;
        spans.push((
            0,
            u32::try_from(len).map_err(|_| column.error("longer than 4 GiB"))?,
        ));
    }
    let mut start = column.data.len() - cursor.left();
    for span in &mut spans {
        let end = start + span.1 as usize;
        if end > column.data.len() {
            return Err(column.error("values are longer than the column"));
        }
        *span = (position(column, start)?, position(column, end)?);
        start = end;
    }
    if start == column.data.len() {
        Ok(spans)
    } else {
        Err(column.error("bytes behind the last value"))
    }
}

fn dictionary_spans(column: &Column, records: usize) -> Result<Vec<(u32, u32)>, BlockError> {
    let mut cursor = Cursor::new(&column.data, "a dictionary");
    let count = cursor.len_varint()?;
    if count > cursor.left() {
        return Err(column.error("dictionary is longer than the column"));
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let len = cursor.len_varint()?;
        let start = column.data.len() - cursor.left();
        cursor.take(len)?;
        entries.push((position(column, start)?, position(column, start + len)?));
    }
    if records > cursor.left() {
        return Err(column.error("fewer indices than records"));
    }
    let mut spans = Vec::with_capacity(records);
    for _ in 0..records {
        let entry = entries.get(cursor.len_varint()?);
        spans.push(*entry.ok_or_else(|| column.error("index beyond the dictionary"))?);
    }
    cursor.finish()?;
    Ok(spans)
}

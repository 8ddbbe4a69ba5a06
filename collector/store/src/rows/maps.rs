//! Attributes and labels: maps of text to text, keys sorted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, MapArray, StringArray, StructArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use edgelogger_common::block::{Attributes, Value};

use super::{Kept, Zeros};
use crate::schema::{map_entries, map_fields};

/// Bytes of an agent's labels, keys and values together, that its rows repeat. What comes behind is left out: labels
/// are a handful of words, and every row pays for them.
pub const LABEL_BYTES_MAX: usize = 4096;

/// Text of all attributes of one batch of rows: a constant takes no room in a block, and this is what stops a small
/// block from asking for terabytes.
pub const TEXT_BYTES_MAX: usize = 256 << 20;

/// The same pairs in every row.
pub fn repeated_map(
    labels: &BTreeMap<String, String>,
    rows: usize,
    zeros: &mut Zeros,
) -> Result<ArrayRef, ArrowError> {
    let labels = bounded(labels);
    if labels.is_empty() {
        return map_of(
            zeros.offsets(rows),
            StringArray::new_null(0),
            StringArray::new_null(0),
        );
    }
    let offsets = OffsetBuffer::from_repeated_length(labels.len(), rows);
    let (names, texts): (Vec<&str>, Vec<&str>) = labels.into_iter().unzip();
    let keys = repeated_text(&names, rows)?;
    let values = repeated_text(&texts, rows)?;
    map_of(offsets, keys, values)
}

/// What [`repeated_map`] takes for one row, in bytes.
pub fn repeated_map_bytes(labels: &BTreeMap<String, String>) -> u64 {
    bounded(labels)
        .iter()
        .map(|(key, value)| (key.len() + value.len() + 8) as u64)
        .sum()
}

fn bounded(labels: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    let mut left = LABEL_BYTES_MAX;
    let fitting = labels.iter().map_while(|(key, value)| {
        left = left.checked_sub(key.len() + value.len())?;
        Some((key.as_str(), value.as_str()))
    });
    fitting.collect()
}

fn repeated_text(texts: &[&str], rows: usize) -> Result<StringArray, ArrowError> {
    let mut ends = Vec::with_capacity(rows * texts.len() + 1);
    let mut end = 0i32;
    ends.push(end);
    for _ in 0..rows {
        for text in texts {
            end += i32::try_from(text.len()).unwrap_or(i32::MAX);
            ends.push(end);
        }
    }
    StringArray::try_new(
        offsets(ends),
        Buffer::from(texts.concat().repeat(rows).into_bytes()),
        None,
    )
}

/// Each row's own pairs. Also what they take, in bytes.
pub fn attribute_map(
    attributes: &Attributes,
    rows: &[Kept],
    zeros: &mut Zeros,
) -> Result<(ArrayRef, u64), ArrowError> {
    if attributes.columns.is_empty() {
        let empty = map_of(
            zeros.offsets(rows.len()),
            StringArray::new_null(0),
            StringArray::new_null(0),
        )?;
        return Ok((empty, 0));
    }
    let mut texts = Texts::default();
    texts.collect(attributes, rows)?;
    texts.finish(attributes, rows.len())
}

/// Values as text in one buffer, and for each: its row (counted among those kept), its key, where its text lies.
#[derive(Default)]
struct Texts {
    text: String,
    key_bytes: usize,
    values: Vec<(usize, usize, usize, usize)>,
}

impl Texts {
    fn collect(&mut self, attributes: &Attributes, rows: &[Kept]) -> Result<(), ArrowError> {
        let Some(last) = rows.last() else { return Ok(()) };
        let records = u32::try_from(last.record + 1).unwrap_or(u32::MAX);
        for (key, column) in attributes.columns.iter().enumerate() {
            let mut at = 0;
            for (record, value) in column.iter(records) {
                while at < rows.len() && rows[at].record < record as usize {
                    at += 1;
                }
                if rows.get(at).is_some_and(|row| row.record == record as usize) {
                    let start = self.text.len();
                    push_text(&mut self.text, &value);
                    self.key_bytes += column.name.len();
                    self.values.push((at, key, start, self.text.len()));
                }
            }
            if self.text.len() + self.key_bytes > TEXT_BYTES_MAX {
                return Err(ArrowError::ComputeError(
                    "attributes of one block are over 256 MiB of text".to_owned(),
                ));
            }
        }
        self.values.sort_unstable();
        Ok(())
    }

    fn finish(self, attributes: &Attributes, rows: usize) -> Result<(ArrayRef, u64), ArrowError> {
        let mut ends = vec![0i32; rows + 1];
        self.values.iter().for_each(|(row, ..)| ends[row + 1] += 1);
        for row in 0..rows {
            ends[row + 1] += ends[row];
        }
        let keys: StringArray = self
            .values
            .iter()
            .map(|(_, key, ..)| Some(attributes.columns[*key].name.as_str()))
            .collect();
        let values: StringArray = self
            .values
            .iter()
            .map(|(.., start, end)| Some(&self.text[*start..*end]))
            .collect();
        let bytes = keys.values().len() + values.values().len() + 8 * self.values.len();
        Ok((map_of(offsets(ends), keys, values)?, bytes as u64))
    }
}

fn push_text(out: &mut String, value: &Value) {
    let written = match value {
        Value::String(text) => out.write_str(text),
        Value::I64(value) => write!(out, "{value}"),
        Value::F64(value) => write!(out, "{value}"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Bytes(bytes) => push_bytes(out, bytes),
    };
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

/// Bytes that are text as text, others as `\x` and their digits.
fn push_bytes(out: &mut String, bytes: &[u8]) -> std::fmt::Result {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.write_str(text),
        Err(_) => {
            out.write_str("\\x")?;
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
        }
    }
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(ends))
}

fn map_of(
    offsets: OffsetBuffer<i32>,
    keys: StringArray,
    values: StringArray,
) -> Result<ArrayRef, ArrowError> {
    let entries = StructArray::try_new(map_fields(), vec![Arc::new(keys), Arc::new(values)], None)?;
    Ok(Arc::new(MapArray::try_new(
        map_entries(),
        offsets,
        entries,
        None,
        false,
    )?))
}

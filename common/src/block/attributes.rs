//! Typed sparse attributes: for each key and type the rows that have it, and their values.
//!
//! ```text
//! varint key_count
//! each: varint name_len, name (UTF-8), u8 value type (1 string, 2 i64, 3 f64, 4 bool, 5 bytes),
//!       varint row_count, then unless row_count is the block's record count the rows: first row, then gaps,
//!       as varints; u8 encoding, varint length, values (as a column of that type)
//! ```
//!
//! Sorted by (name, type), each pair once; a row has a name at most once, whatever the type.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};

use super::cursor::{Cursor, put_varint};
use super::{
    ATTRIBUTE_KEYS_MAX, ATTRIBUTE_VALUES_MAX, BlockError, BytesColumn, Column, ColumnId, ColumnType,
    Encoding, F64Column, I64Column, NAME_BYTES_MAX, U8Column, Value,
};

const STRING: u8 = 1;
const I64: u8 = 2;
const F64: u8 = 3;
const BOOL: u8 = 4;
const BYTES: u8 = 5;

/// The values of one key.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    String(BytesColumn),
    I64(I64Column),
    F64(F64Column),
    Bool(U8Column),
    Bytes(BytesColumn),
}

/// One key with one type: which rows have it, and their values.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeColumn {
    /// The key.
    pub name: String,
    /// Ascending; `None` means every row.
    rows: Option<Vec<u32>>,
    values: Values,
}

impl AttributeColumn {
    /// The value of a row, where it has one.
    #[must_use]
    pub fn get(&self, row: u32) -> Option<Value> {
        let index = match &self.rows {
            None => row as usize,
            Some(rows) => rows.binary_search(&row).ok()?,
        };
        Some(self.value(index))
    }

    /// Rows that have the key, ascending, and their values.
    pub fn iter(&self, records: u32) -> impl Iterator<Item = (u32, Value)> {
        let count = self.rows.as_ref().map_or(records as usize, Vec::len);
        (0..count).map(|index| (self.row(index), self.value(index)))
    }

    fn row(&self, index: usize) -> u32 {
        match &self.rows {
            Some(rows) => rows[index],
            None => u32::try_from(index).unwrap_or(u32::MAX),
        }
    }

    fn value(&self, index: usize) -> Value {
        match &self.values {
            Values::String(values) => Value::String(String::from_utf8_lossy(values.get(index)).into_owned()),
            Values::I64(values) => Value::I64(values.value(index)),
            Values::F64(values) => Value::F64(values.value(index)),
            Values::Bool(values) => Value::Bool(values.value(index) != 0),
            Values::Bytes(values) => Value::Bytes(values.get(index).to_vec()),
        }
    }
}

/// All attributes of a block.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attributes {
    /// Sorted by name.
    pub columns: Vec<AttributeColumn>,
}

impl Attributes {
    /// The attributes of one row, sorted by name.
    pub fn of_row(&self, row: u32) -> impl Iterator<Item = (&str, Value)> {
        self.columns
            .iter()
            .filter_map(move |column| Some((column.name.as_str(), column.get(row)?)))
    }

    pub(super) fn decode(column: &Column, records: u32) -> Result<Self, BlockError> {
        column.expect_type(ColumnType::Attributes)?;
        if column.nullable || column.encoding != Encoding::Plain {
            return Err(column.error("encoding does not go with the type"));
        }
        let mut cursor = Cursor::new(&column.data, "an attribute");
        let count = cursor.len_varint()?;
        if count == 0 || count > ATTRIBUTE_KEYS_MAX {
            return Err(BlockError::Limit {
                what: "the number of attribute keys",
                found: count as u64,
                limit: ATTRIBUTE_KEYS_MAX as u64,
            });
        }
        let mut keys: Vec<(u8, AttributeColumn)> = Vec::with_capacity(count);
        let mut left = ATTRIBUTE_VALUES_MAX;
        for _ in 0..count {
            let (value_type, key) = decode_key(column, &mut cursor, records, &mut left)?;
            if let Some((last_type, last)) = keys.last() {
                check_order(column, (last, *last_type), (&key, value_type))?;
            }
            keys.push((value_type, key));
        }
        cursor.finish()?;
        let columns: Vec<_> = keys.into_iter().map(|(_, key)| key).collect();
        check_names_once(column, &columns, records)?;
        Ok(Self { columns })
    }

    pub(super) fn encode(rows: &[&[(String, Value)]]) -> Option<Column> {
        let mut keys: BTreeMap<(&str, u8), Vec<(u32, &Value)>> = BTreeMap::new();
        for (row, attributes) in (0u32..).zip(rows) {
            for (name, value) in *attributes {
                keys.entry((name, type_of(value))).or_default().push((row, value));
            }
        }
        if keys.is_empty() {
            return None;
        }
        let mut data = Vec::new();
        put_varint(&mut data, keys.len() as u64);
        for ((name, value_type), values) in keys {
            put_varint(&mut data, name.len() as u64);
            data.put_slice(name.as_bytes());
            data.put_u8(value_type);
            put_rows(&mut data, &values, rows.len());
            let values = encode_values(value_type, values.iter().map(|(_, value)| *value));
            data.put_u8(values.encoding as u8);
            put_varint(&mut data, values.data.len() as u64);
            data.put_slice(&values.data);
        }
        Some(Column::new(
            ColumnId::ATTRIBUTES,
            ColumnType::Attributes,
            Encoding::Plain,
            data,
        ))
    }
}

const fn type_of(value: &Value) -> u8 {
    match value {
        Value::String(_) => STRING,
        Value::I64(_) => I64,
        Value::F64(_) => F64,
        Value::Bool(_) => BOOL,
        Value::Bytes(_) => BYTES,
    }
}

fn put_rows(data: &mut Vec<u8>, values: &[(u32, &Value)], records: usize) {
    put_varint(data, values.len() as u64);
    if values.len() == records {
        return;
    }
    let mut before = 0;
    for (row, _) in values {
        put_varint(data, u64::from(row - before));
        before = *row;
    }
}

fn encode_values<'a>(value_type: u8, values: impl Iterator<Item = &'a Value>) -> Column {
    let id = ColumnId::ATTRIBUTES;
    let column = match value_type {
        I64 => I64Column::encode(id, &values.map(as_i64).collect::<Vec<_>>()),
        F64 => F64Column::encode(id, &values.map(as_f64).collect::<Vec<_>>()),
        BOOL => U8Column::encode(id, &values.map(as_bool).collect::<Vec<_>>()),
        _ => Some(BytesColumn::encode_repeating(
            id,
            &values.map(as_bytes).collect::<Vec<_>>(),
        )),
    };
    column.expect("a key is kept only with at least one value, and its values are all of its type")
}

const fn as_i64(value: &Value) -> Option<i64> {
    if let Value::I64(value) = value {
        Some(*value)
    } else {
        None
    }
}

const fn as_f64(value: &Value) -> Option<f64> {
    if let Value::F64(value) = value {
        Some(*value)
    } else {
        None
    }
}

fn as_bool(value: &Value) -> Option<u8> {
    if let Value::Bool(value) = value {
        Some(u8::from(*value))
    } else {
        None
    }
}

const fn as_bytes(value: &Value) -> &[u8] {
    match value {
        Value::String(text) => text.as_bytes(),
        Value::Bytes(bytes) => bytes.as_slice(),
        _ => &[],
    }
}

fn decode_key(
    column: &Column,
    cursor: &mut Cursor<'_>,
    records: u32,
    left: &mut usize,
) -> Result<(u8, AttributeColumn), BlockError> {
    let name_len = cursor.len_varint()?;
    if name_len == 0 || name_len > NAME_BYTES_MAX {
        return Err(column.error("key is empty or too long"));
    }
    let name = std::str::from_utf8(cursor.take(name_len)?).map_err(|_| column.error("key is not UTF-8"))?;
    let value_type = cursor.u8()?;
    let rows = decode_rows(column, cursor, records)?;
    let count = rows.as_ref().map_or(records as usize, Vec::len);
    *left = left.checked_sub(count).ok_or(BlockError::Limit {
        what: "the number of attribute values",
        found: (ATTRIBUTE_VALUES_MAX - *left + count) as u64,
        limit: ATTRIBUTE_VALUES_MAX as u64,
    })?;
    let encoding = cursor.u8()?;
    let len = cursor.len_varint()?;
    let at = column.data.len() - cursor.left();
    cursor.take(len)?;
    let values = decode_values(
        column,
        value_type,
        encoding,
        column.data.slice(at..at + len),
        count,
    )?;
    Ok((
        value_type,
        AttributeColumn {
            name: name.to_owned(),
            rows,
            values,
        },
    ))
}

fn decode_rows(
    column: &Column,
    cursor: &mut Cursor<'_>,
    records: u32,
) -> Result<Option<Vec<u32>>, BlockError> {
    let count = cursor.varint()?;
    if count == 0 || count > u64::from(records) {
        return Err(column.error("key of no row, or of more rows than there are"));
    }
    if count == u64::from(records) {
        return Ok(None);
    }
    let mut rows: Vec<u32> = Vec::new();
    let mut row = 0u64;
    for index in 0..count {
        let gap = cursor.varint()?;
        if gap == 0 && index > 0 {
            return Err(column.error("row twice"));
        }
        row = row.saturating_add(gap);
        let inside = u32::try_from(row).ok().filter(|row| *row < records);
        rows.push(inside.ok_or_else(|| column.error("row beyond the last record"))?);
    }
    Ok(Some(rows))
}

fn decode_values(
    column: &Column,
    value_type: u8,
    encoding: u8,
    data: Bytes,
    count: usize,
) -> Result<Values, BlockError> {
    let column_type = match value_type {
        STRING | BYTES => ColumnType::Bytes,
        I64 => ColumnType::I64,
        F64 => ColumnType::F64,
        BOOL => ColumnType::U8,
        _ => return Err(column.error("unknown value type")),
    };
    let encoding = Encoding::from_byte(encoding).ok_or_else(|| column.error("unknown encoding"))?;
    let inner = Column {
        id: ColumnId::ATTRIBUTES,
        column_type,
        encoding,
        nullable: false,
        data,
    };
    Ok(match value_type {
        STRING => Values::String(utf8(&inner, BytesColumn::decode(&inner, count)?)?),
        BYTES => Values::Bytes(BytesColumn::decode(&inner, count)?),
        I64 => Values::I64(I64Column::decode(&inner, count)?),
        F64 => Values::F64(F64Column::decode(&inner, count)?),
        _ => {
            let values = U8Column::decode(&inner, count)?;
            values.check(&inner, |byte| byte <= 1)?;
            Values::Bool(values)
        }
    })
}

pub(super) fn utf8(column: &Column, values: BytesColumn) -> Result<BytesColumn, BlockError> {
    if values.iter().all(|value| std::str::from_utf8(value).is_ok()) {
        Ok(values)
    } else {
        Err(column.error("string is not UTF-8"))
    }
}

fn check_order(
    column: &Column,
    (last, last_type): (&AttributeColumn, u8),
    (key, value_type): (&AttributeColumn, u8),
) -> Result<(), BlockError> {
    if (last.name.as_str(), last_type) < (key.name.as_str(), value_type) {
        Ok(())
    } else {
        Err(column.error("keys out of order, or one twice"))
    }
}

/// Where a name comes with several types, no row may have two of them.
fn check_names_once(column: &Column, columns: &[AttributeColumn], records: u32) -> Result<(), BlockError> {
    for same_name in columns.chunk_by(|left, right| left.name == right.name) {
        if same_name.len() < 2 {
            continue;
        }
        let mut seen = vec![false; records as usize];
        for key in same_name {
            let count = key.rows.as_ref().map_or(records as usize, Vec::len);
            for index in 0..count {
                if std::mem::replace(&mut seen[key.row(index) as usize], true) {
                    return Err(column.error("row has a key twice"));
                }
            }
        }
    }
    Ok(())
}

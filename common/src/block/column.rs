//! Columns: ids, types, encodings, and the columns of numbers.

use bytes::{Buf, BufMut, Bytes};

use super::BlockError;
use super::cursor::{Cursor, put_varint, put_zigzag};

/// What a column means. Ids are never used again for another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u16);

#[rustfmt::skip]
impl ColumnId {
    /// When it happened, as the source says: i64 ns UTC, may be null.
    pub const EVENT_TIME: Self = Self(1);
    /// When the agent saw it: i64 ns UTC.
    pub const OBSERVED_TIME: Self = Self(2);
    /// OpenTelemetry severity number 1-24, may be null.
    pub const SEVERITY: Self = Self(3);
    /// The record's text, as bytes.
    pub const BODY: Self = Self(4);
    /// Typed sparse attributes; a metric's labels.
    pub const ATTRIBUTES: Self = Self(5);
    /// 16 bytes, may be null.
    pub const TRACE_ID: Self = Self(6);
    /// 8 bytes, may be null.
    pub const SPAN_ID: Self = Self(7);
    /// Positions a record used, less the length of its body: i64.
    pub const SOURCE_LEN: Self = Self(8);
    /// `RecordFlags`; absent where all are 0.
    pub const RECORD_FLAGS: Self = Self(9);
    /// Ranges without a record.
    pub const RECEIPTS: Self = Self(10);
    /// Metric name.
    pub const METRIC_NAME: Self = Self(32);
    /// UCUM unit.
    pub const UNIT: Self = Self(33);
    /// `MetricKind`.
    pub const METRIC_KIND: Self = Self(34);
    /// `Temporality`; absent where all are unspecified.
    pub const TEMPORALITY: Self = Self(35);
    /// Start of a counter or histogram: i64 ns UTC, may be null.
    pub const START_TIME: Self = Self(36);
    /// f64, may be null (histograms and summaries have none).
    pub const VALUE: Self = Self(37);
    /// `Quality`; absent where all are good.
    pub const QUALITY: Self = Self(38);
    /// Observations of a histogram or summary: i64, may be null.
    pub const COUNT: Self = Self(39);
    /// Sum of a histogram or summary: f64, may be null.
    pub const SUM: Self = Self(40);
    /// Upper bounds of a histogram's buckets, ascending: list of f64.
    pub const BUCKET_BOUNDS: Self = Self(41);
    /// One more count than bounds: list of i64.
    pub const BUCKET_COUNTS: Self = Self(42);
    /// Quantiles of a summary, 0 to 1: list of f64.
    pub const QUANTILES: Self = Self(43);
    /// Their values: list of f64.
    pub const QUANTILE_VALUES: Self = Self(44);
}

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum ColumnType {
    I64 = 1,
    U8 = 2,
    F64 = 3,
    Bytes = 4,
    Fixed8 = 5,
    Fixed16 = 6,
    Attributes = 7,
    Receipts = 8,
    ListI64 = 9,
    ListF64 = 10,
}

/// How a column's values are written. Bit 7 of the byte says that a validity bitmap comes first
/// (ceil(records / 8) bytes, least significant bit first, 1 = present) and only present values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// One value after another, fixed width.
    Plain = 0,
    /// One value that all records share.
    Constant = 1,
    /// i64: zigzag varint of the difference from the value before, which starts at 0.
    Delta = 2,
    /// Bytes: each value followed by a line feed, none within.
    Lines = 3,
    /// Bytes: a varint length for each value, then the values. Lists: a varint length each, then the elements.
    Lengths = 4,
    /// Bytes: varint count, the distinct values (varint length, bytes), then a varint index for each record.
    Dictionary = 5,
}

const NULLABLE: u8 = 0x80;
/// id, type, encoding, length.
const COLUMN_HEADER_LEN: usize = 8;

impl ColumnType {
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [ColumnType; 10] = [
            ColumnType::I64,
            ColumnType::U8,
            ColumnType::F64,
            ColumnType::Bytes,
            ColumnType::Fixed8,
            ColumnType::Fixed16,
            ColumnType::Attributes,
            ColumnType::Receipts,
            ColumnType::ListI64,
            ColumnType::ListF64,
        ];
        ALL.into_iter().find(|column_type| *column_type as u8 == byte)
    }
}

impl Encoding {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Encoding; 6] = [
            Encoding::Plain,
            Encoding::Constant,
            Encoding::Delta,
            Encoding::Lines,
            Encoding::Lengths,
            Encoding::Dictionary,
        ];
        ALL.into_iter().find(|encoding| *encoding as u8 == byte)
    }
}

/// One encoded column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What it means.
    pub id: ColumnId,
    /// What its values are.
    pub column_type: ColumnType,
    /// How they are written.
    pub encoding: Encoding,
    /// A validity bitmap comes first.
    pub nullable: bool,
    /// The encoded values.
    pub data: Bytes,
}

impl Column {
    pub(super) fn new(id: ColumnId, column_type: ColumnType, encoding: Encoding, data: Vec<u8>) -> Self {
        Self {
            id,
            column_type,
            encoding,
            nullable: false,
            data: data.into(),
        }
    }

    /// A column in which every record has this value.
    #[must_use]
    pub fn constant_i64(id: ColumnId, value: i64) -> Self {
        Self::new(
            id,
            ColumnType::I64,
            Encoding::Constant,
            value.to_le_bytes().to_vec(),
        )
    }

    pub(super) const fn encoded_len(&self) -> usize {
        COLUMN_HEADER_LEN + self.data.len()
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) -> Result<(), BlockError> {
        let len = u32::try_from(self.data.len()).map_err(|_| BlockError::Limit {
            what: "the length of a column",
            found: self.data.len() as u64,
            limit: u64::from(u32::MAX),
        })?;
        out.put_u16_le(self.id.0);
        out.put_u8(self.column_type as u8);
        out.put_u8(self.encoding as u8 | if self.nullable { NULLABLE } else { 0 });
        out.put_u32_le(len);
        out.put_slice(&self.data);
        Ok(())
    }

    /// Takes one column off the front of a block. A column of unknown type or encoding is an error: a new one
    /// comes with a new id that older readers skip only where both are known.
    pub(super) fn split_from(block: &mut Bytes) -> Result<Self, BlockError> {
        let mut cursor = Cursor::new(block, "a column");
        let id = ColumnId(cursor.u16()?);
        let (column_type, encoding, len) = (cursor.u8()?, cursor.u8()?, cursor.u32()? as usize);
        cursor.take(len)?;
        let error = |problem| BlockError::Column { column: id, problem };
        let column_type = ColumnType::from_byte(column_type).ok_or_else(|| error("unknown type"))?;
        let nullable = encoding & NULLABLE != 0;
        let encoding = Encoding::from_byte(encoding & !NULLABLE).ok_or_else(|| error("unknown encoding"))?;
        block.advance(COLUMN_HEADER_LEN);
        Ok(Self {
            id,
            column_type,
            encoding,
            nullable,
            data: block.split_to(len),
        })
    }

    pub(super) const fn error(&self, problem: &'static str) -> BlockError {
        BlockError::Column {
            column: self.id,
            problem,
        }
    }

    pub(super) fn expect_type(&self, column_type: ColumnType) -> Result<(), BlockError> {
        if self.column_type == column_type {
            Ok(())
        } else {
            Err(self.error("wrong type"))
        }
    }

    /// Splits off the validity bitmap: which records have a value, and how many.
    pub(super) fn validity(&self, records: usize) -> Result<(Option<Bytes>, usize, &[u8]), BlockError> {
        if !self.nullable {
            return Ok((None, records, &self.data));
        }
        let len = records.div_ceil(8);
        let (bitmap, values) = self
            .data
            .split_at_checked(len)
            .ok_or_else(|| self.error("validity bitmap is cut short"))?;
        let spare_bits = len * 8 - records;
        if spare_bits > 0 && bitmap[len - 1].leading_zeros() < u32::try_from(spare_bits).unwrap_or(8) {
            return Err(self.error("validity bitmap has bits beyond the last record"));
        }
        let present = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        Ok((Some(self.data.slice(..len)), present, values))
    }

    /// A nullable column from options: `encode` writes the present values and names the encoding.
    pub(super) fn from_options<T>(
        id: ColumnId,
        column_type: ColumnType,
        values: &[Option<T>],
        encode: impl FnOnce(&[&T], &mut Vec<u8>) -> Encoding,
    ) -> Option<Self> {
        let present: Vec<&T> = values.iter().flatten().collect();
        if present.is_empty() {
            return None;
        }
        let nullable = present.len() < values.len();
        let mut data = Vec::new();
        if nullable {
            data = validity_bitmap(values);
        }
        let encoding = encode(&present, &mut data);
        Some(Self {
            id,
            column_type,
            encoding,
            nullable,
            data: data.into(),
        })
    }
}

fn validity_bitmap<T>(values: &[Option<T>]) -> Vec<u8> {
    let mut bitmap = vec![0u8; values.len().div_ceil(8)];
    for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_some()) {
        bitmap[index / 8] |= 1 << (index % 8);
    }
    bitmap
}

pub(super) fn is_valid(validity: Option<&Bytes>, index: usize) -> bool {
    validity.is_none_or(|bitmap| bitmap[index / 8] >> (index % 8) & 1 == 1)
}

/// Spreads present values over all records; absent ones get `T::default()`.
fn spread<T: Copy + Default>(validity: Option<&Bytes>, records: usize, present: Vec<T>) -> Vec<T> {
    if validity.is_none() {
        return present;
    }
    let mut values = present.into_iter();
    (0..records)
        .map(|index| {
            if is_valid(validity, index) {
                values.next().unwrap_or_default()
            } else {
                T::default()
            }
        })
        .collect()
}

/// Decoded numbers of one column.
#[derive(Debug, Clone, PartialEq)]
enum Values<T> {
    Constant(T),
    Each(Vec<T>),
}

macro_rules! number_column {
    ($name:ident, $type:ty, $column_type:expr, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            validity: Option<Bytes>,
            values: Values<$type>,
        }

        impl $name {
            /// The value of a record, or `None` where it has none.
            ///
            /// # Panics
            /// When `index` is not below the block's record count.
            #[must_use]
            pub fn get(&self, index: usize) -> Option<$type> {
                is_valid(self.validity.as_ref(), index).then(|| self.value(index))
            }

            /// The value of a record of a column without nulls (the type's default where it is null).
            ///
            /// # Panics
            /// When `index` is not below the block's record count.
            #[must_use]
            pub fn value(&self, index: usize) -> $type {
                match &self.values {
                    Values::Constant(value) => *value,
                    Values::Each(values) => values[index],
                }
            }

            /// The value that all records share, where the column was written so.
            #[must_use]
            pub const fn constant(&self) -> Option<$type> {
                match (&self.validity, &self.values) {
                    (None, Values::Constant(value)) => Some(*value),
                    _ => None,
                }
            }

            /// Has every record a value?
            #[must_use]
            pub const fn is_complete(&self) -> bool {
                self.validity.is_none()
            }
        }
    };
}

number_column!(
    I64Column,
    i64,
    ColumnType::I64,
    "A column of 64-bit signed integers."
);
number_column!(U8Column, u8, ColumnType::U8, "A column of bytes.");
number_column!(
    F64Column,
    f64,
    ColumnType::F64,
    "A column of 64-bit floating-point numbers."
);

fn fixed<const N: usize>(column: &Column, bytes: &[u8], count: usize) -> Result<Vec<[u8; N]>, BlockError> {
    if Some(bytes.len()) != count.checked_mul(N) {
        return Err(column.error("length does not fit the number of records"));
    }
    Ok(bytes.as_chunks::<N>().0.to_vec())
}

fn decode_values<T: Copy + Default, const N: usize>(
    column: &Column,
    records: usize,
    from: impl Fn([u8; N]) -> T,
) -> Result<(Option<Bytes>, Values<T>), BlockError> {
    let (validity, present, bytes) = column.validity(records)?;
    let values = match column.encoding {
        Encoding::Constant => Values::Constant(from(fixed::<N>(column, bytes, 1)?[0])),
        Encoding::Plain => {
            let present = fixed::<N>(column, bytes, present)?
                .into_iter()
                .map(from)
                .collect();
            Values::Each(spread(validity.as_ref(), records, present))
        }
        _ => return Err(column.error("encoding does not go with the type")),
    };
    Ok((validity, values))
}

impl I64Column {
    pub(super) fn decode(column: &Column, records: usize) -> Result<Self, BlockError> {
        column.expect_type(ColumnType::I64)?;
        if column.encoding != Encoding::Delta {
            let (validity, values) = decode_values(column, records, i64::from_le_bytes)?;
            return Ok(Self { validity, values });
        }
        let (validity, present, bytes) = column.validity(records)?;
        let values = decode_deltas(column, bytes, present)?;
        let values = Values::Each(spread(validity.as_ref(), records, values));
        Ok(Self { validity, values })
    }

    pub(super) fn encode(id: ColumnId, values: &[Option<i64>]) -> Option<Column> {
        Column::from_options(id, ColumnType::I64, values, encode_i64)
    }
}

fn decode_deltas(column: &Column, bytes: &[u8], count: usize) -> Result<Vec<i64>, BlockError> {
    let mut cursor = Cursor::new(bytes, "a column of differences");
    // A difference is at least one byte, so the count is checked before it is allocated.
    if count > cursor.left() {
        return Err(column.error("fewer differences than records"));
    }
    let mut value = 0i64;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        value = value.wrapping_add(cursor.zigzag()?);
        values.push(value);
    }
    cursor.finish()?;
    Ok(values)
}

fn encode_i64(values: &[&i64], out: &mut Vec<u8>) -> Encoding {
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        out.put_i64_le(*values[0]);
        return Encoding::Constant;
    }
    let mut before = 0i64;
    for value in values {
        put_zigzag(out, value.wrapping_sub(before));
        before = **value;
    }
    Encoding::Delta
}

impl U8Column {
    pub(super) fn decode(column: &Column, records: usize) -> Result<Self, BlockError> {
        column.expect_type(ColumnType::U8)?;
        let (validity, values) = decode_values(column, records, |[byte]: [u8; 1]| byte)?;
        Ok(Self { validity, values })
    }

    pub(super) fn encode(id: ColumnId, values: &[Option<u8>]) -> Option<Column> {
        Column::from_options(id, ColumnType::U8, values, |present, out| {
            encode_fixed(present, out, |byte| [byte])
        })
    }

    /// Any record whose value fails `allowed`?
    pub(super) fn check(&self, column: &Column, allowed: impl Fn(u8) -> bool) -> Result<(), BlockError> {
        let fine = match &self.values {
            Values::Constant(value) => allowed(*value),
            Values::Each(values) => values
                .iter()
                .enumerate()
                .all(|(index, value)| !is_valid(self.validity.as_ref(), index) || allowed(*value)),
        };
        if fine {
            Ok(())
        } else {
            Err(column.error("value outside its range"))
        }
    }
}

impl F64Column {
    pub(super) fn decode(column: &Column, records: usize) -> Result<Self, BlockError> {
        column.expect_type(ColumnType::F64)?;
        let (validity, values) = decode_values(column, records, f64::from_le_bytes)?;
        Ok(Self { validity, values })
    }

    pub(super) fn encode(id: ColumnId, values: &[Option<f64>]) -> Option<Column> {
        Column::from_options(id, ColumnType::F64, values, |present, out| {
            encode_fixed(present, out, f64::to_le_bytes)
        })
    }
}

/// Constant where every value has the same bytes, else plain.
fn encode_fixed<T: Copy, const N: usize>(
    values: &[&T],
    out: &mut Vec<u8>,
    to: impl Fn(T) -> [u8; N],
) -> Encoding {
    let first = to(*values[0]);
    if values.iter().all(|value| to(**value) == first) {
        out.put_slice(&first);
        return Encoding::Constant;
    }
    values.iter().for_each(|value| out.put_slice(&to(**value)));
    Encoding::Plain
}

/// A column of byte strings of one fixed length: trace ids (16), span ids (8).
#[derive(Debug, Clone, PartialEq)]
pub struct FixedColumn<const N: usize> {
    validity: Option<Bytes>,
    values: Vec<[u8; N]>,
}

impl<const N: usize> FixedColumn<N> {
    pub(super) fn decode(column: &Column, records: usize) -> Result<Self, BlockError> {
        column.expect_type(if N == 16 {
            ColumnType::Fixed16
        } else {
            ColumnType::Fixed8
        })?;
        if column.encoding != Encoding::Plain {
            return Err(column.error("encoding does not go with the type"));
        }
        let (validity, present, bytes) = column.validity(records)?;
        let values = fixed::<N>(column, bytes, present)?;
        let mut values = values.into_iter();
        let values = (0..records)
            .map(|index| {
                if is_valid(validity.as_ref(), index) {
                    values.next().unwrap_or([0; N])
                } else {
                    [0; N]
                }
            })
            .collect();
        Ok(Self { validity, values })
    }

    pub(super) fn encode(id: ColumnId, values: &[Option<[u8; N]>]) -> Option<Column> {
        let column_type = if N == 16 {
            ColumnType::Fixed16
        } else {
            ColumnType::Fixed8
        };
        Column::from_options(id, column_type, values, |present, out| {
            present.iter().for_each(|value| out.put_slice(*value));
            Encoding::Plain
        })
    }

    /// The bytes of a record, or `None` where it has none.
    ///
    /// # Panics
    /// When `index` is not below the block's record count.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8; N]> {
        is_valid(self.validity.as_ref(), index).then(|| &self.values[index])
    }
}

/// A column of lists; a record without one has an empty list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListColumn<T> {
    ends: Vec<u32>,
    values: Vec<T>,
}

impl<T> ListColumn<T> {
    /// The list of a record.
    ///
    /// # Panics
    /// When `index` is not below the block's record count.
    #[must_use]
    pub fn get(&self, index: usize) -> &[T] {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.values[start..self.ends[index] as usize]
    }
}

/// Reads the list lengths; gives where each ends and what follows.
fn list_ends<'a>(column: &'a Column, records: usize) -> Result<(Vec<u32>, Cursor<'a>), BlockError> {
    if column.encoding != Encoding::Lengths || column.nullable {
        return Err(column.error("encoding does not go with the type"));
    }
    let mut cursor = Cursor::new(&column.data, "a column of lists");
    if records > cursor.left() {
        return Err(column.error("fewer lengths than records"));
    }
    let mut total = 0usize;
    let mut ends = Vec::with_capacity(records);
    for _ in 0..records {
        total = total.saturating_add(cursor.len_varint()?);
        // An element is at least one byte.
        let end = u32::try_from(total).ok().filter(|_| total <= column.data.len());
        ends.push(end.ok_or_else(|| column.error("lists are longer than the column"))?);
    }
    Ok((ends, cursor))
}

fn put_list_lengths<T>(lists: &[&[T]], out: &mut Vec<u8>) {
    lists.iter().for_each(|list| put_varint(out, list.len() as u64));
}

impl ListColumn<f64> {
    pub(super) fn decode(column: &Column, records: usize) -> Result<Self, BlockError> {
        column.expect_type(ColumnType::ListF64)?;
        let (ends, mut cursor) = list_ends(column, records)?;
        let count = ends.last().map_or(0, |end| *end as usize);
        let rest = cursor.take(cursor.left())?;
        let values = fixed::<8>(column, rest, count)?
            .into_iter()
            .map(f64::from_le_bytes)
            .collect();
        Ok(Self { ends, values })
    }

    pub(super) fn encode(id: ColumnId, lists: &[&[f64]]) -> Option<Column> {
        if lists.iter().all(|list| list.is_empty()) {
            return None;
        }
        let mut data = Vec::new();
        put_list_lengths(lists, &mut data);
        lists
            .iter()
            .flat_map(|list| *list)
            .for_each(|value| data.put_f64_le(*value));
        Some(Column::new(id, ColumnType::ListF64, Encoding::Lengths, data))
    }
}

impl ListColumn<i64> {
    pub(super) fn decode(column: &Column, records: usize) -> Result<Self, BlockError> {
        column.expect_type(ColumnType::ListI64)?;
        let (ends, mut cursor) = list_ends(column, records)?;
        let count = ends.last().map_or(0, |end| *end as usize);
        let values = decode_deltas(column, cursor.take(cursor.left())?, count)?;
        Ok(Self { ends, values })
    }

    pub(super) fn encode(id: ColumnId, lists: &[&[i64]]) -> Option<Column> {
        if lists.iter().all(|list| list.is_empty()) {
            return None;
        }
        let mut data = Vec::new();
        put_list_lengths(lists, &mut data);
        let mut before = 0i64;
        for value in lists.iter().flat_map(|list| *list) {
            put_zigzag(&mut data, value.wrapping_sub(before));
            before = *value;
        }
        Some(Column::new(id, ColumnType::ListI64, Encoding::Lengths, data))
    }
}

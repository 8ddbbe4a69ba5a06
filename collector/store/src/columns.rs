//! Columns of rows as what they are: words, maps, numbers.

use arrow::array::{Array, ArrayRef, AsArray, MapArray, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt8Type,
};
use arrow::record_batch::RecordBatch;

/// A column of text of few values. A dictionary may be empty where its column is; here that is no special case.
pub struct Words<'a> {
    keys: &'a PrimitiveArray<Int32Type>,
    values: &'a StringArray,
}

impl<'a> Words<'a> {
    /// `None`: the rows have no such column.
    #[must_use]
    pub fn of(batch: &'a RecordBatch, name: &str) -> Option<Self> {
        let dictionary = batch.column_by_name(name)?.as_dictionary_opt::<Int32Type>()?;
        Some(Self {
            keys: dictionary.keys(),
            values: dictionary.values().as_string_opt()?,
        })
    }

    /// What stands in a row, which there must be; nothing where it is null.
    #[must_use]
    pub fn get(&self, row: usize) -> &'a str {
        self.key(row).map_or("", |key| self.value(key))
    }

    /// The number of the word in a row; `None` where it is null.
    #[must_use]
    pub fn key(&self, row: usize) -> Option<usize> {
        let key = self.keys.is_valid(row).then(|| self.keys.value(row))?;
        usize::try_from(key).ok()
    }

    /// The word of a number.
    #[must_use]
    pub fn value(&self, key: usize) -> &'a str {
        if self.values.is_valid(key) {
            self.values.value(key)
        } else {
            ""
        }
    }

    /// What stands in each row.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        (0..self.keys.len()).map(|row| self.get(row))
    }
}

/// A column of maps.
pub struct Maps<'a> {
    maps: &'a MapArray,
    keys: &'a StringArray,
    values: &'a StringArray,
}

impl<'a> Maps<'a> {
    pub fn of(batch: &'a RecordBatch, name: &str) -> Option<Self> {
        let maps = batch.column_by_name(name)?.as_map_opt()?;
        Some(Self {
            maps,
            keys: maps.keys().as_string_opt()?,
            values: maps.values().as_string_opt()?,
        })
    }

    pub fn pairs(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let offsets = self.maps.value_offsets();
        let end = |at: usize| usize::try_from(offsets[at]).unwrap_or(0);
        let (keys, values) = (self.keys, self.values);
        let text = |texts: &'a StringArray, at| if texts.is_valid(at) { texts.value(at) } else { "" };
        (end(row)..end(row + 1)).map(move |at| (text(keys, at), text(values, at)))
    }

    pub fn get(&self, row: usize, key: &str) -> Option<&'a str> {
        self.pairs(row)
            .find(|(found, _)| *found == key)
            .map(|pair| pair.1)
    }
}

/// Numbers of a column that rows may lack.
pub struct Numbers<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<'a, T: ArrowPrimitiveType> Numbers<'a, T> {
    pub fn of(batch: &'a RecordBatch, name: &str) -> Option<Self> {
        let column: &ArrayRef = batch.column_by_name(name)?;
        column.as_primitive_opt::<T>().map(Self)
    }

    pub fn get(&self, row: usize) -> Option<T::Native> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
}

pub type Times<'a> = Numbers<'a, TimestampNanosecondType>;
pub type Floats<'a> = Numbers<'a, Float64Type>;
pub type Counts<'a> = Numbers<'a, Int64Type>;
pub type Bytes<'a> = Numbers<'a, UInt8Type>;

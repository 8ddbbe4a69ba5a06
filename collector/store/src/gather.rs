//! Picking rows out of many batches.
//!
//! Arrow's own interleave would string the dictionaries of thousands of batches together. Here each dictionary column
//! gets one sorted set of values first, so that a key also *orders* its rows, and each batch a translation into it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, MapArray, StringArray, new_empty_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

/// A row: which batch, and which row of it.
pub type Pick = (usize, usize);

/// The values of one dictionary column over all batches.
pub struct Dictionary<'a> {
    /// Sorted, each once.
    pub values: Vec<&'a str>,
    /// For each batch: its keys, and which of `values` each stands for.
    batches: Vec<(&'a [i32], Vec<i32>)>,
}

impl<'a> Dictionary<'a> {
    fn new(columns: impl Iterator<Item = &'a ArrayRef> + Clone) -> Self {
        let parts = columns.map(|column| {
            let dictionary = column.as_dictionary::<Int32Type>();
            (
                dictionary.keys().values().as_ref(),
                dictionary.values().as_string::<i32>(),
            )
        });
        let all: BTreeSet<&str> = parts
            .clone()
            .flat_map(|(_, values)| values.iter().flatten())
            .collect();
        let values: Vec<&str> = all.into_iter().collect();
        let translate = |text: Option<&str>| {
            let index = text.map_or(0, |text| values.partition_point(|value| *value < text));
            i32::try_from(index).unwrap_or(i32::MAX)
        };
        let batches = parts
            .map(|(keys, texts)| (keys, texts.iter().map(translate).collect()))
            .collect();
        Self { values, batches }
    }

    /// The key of a row; keys compare as their values do.
    pub fn key(&self, (batch, row): Pick) -> i32 {
        let (keys, translation) = &self.batches[batch];
        usize::try_from(keys[row]).map_or(0, |key| translation[key])
    }

    fn gather(&self, values: &Arc<StringArray>, picks: &[Pick]) -> Result<ArrayRef, ArrowError> {
        let keys = Int32Array::from_iter_values(picks.iter().map(|pick| self.key(*pick)));
        Ok(Arc::new(DictionaryArray::try_new(
            keys,
            Arc::clone(values) as ArrayRef,
        )?))
    }
}

/// Batches of one schema, out of which rows can be picked.
pub struct Gather<'a> {
    schema: SchemaRef,
    batches: Vec<&'a RecordBatch>,
    dictionaries: Vec<Option<(Dictionary<'a>, Arc<StringArray>)>>,
}

impl<'a> Gather<'a> {
    /// Prepares all dictionary columns.
    pub fn new(schema: SchemaRef, batches: Vec<&'a RecordBatch>) -> Self {
        let dictionaries = (0..schema.fields().len()).map(|index| {
            matches!(schema.field(index).data_type(), DataType::Dictionary(..)).then(|| {
                let columns: Vec<&'a ArrayRef> =
                    batches.iter().map(|batch| &batch.columns()[index]).collect();
                let dictionary = Dictionary::new(columns.into_iter());
                let values = Arc::new(StringArray::from(dictionary.values.clone()));
                (dictionary, values)
            })
        });
        let dictionaries = dictionaries.collect();
        Self {
            schema,
            batches,
            dictionaries,
        }
    }

    /// The batches.
    pub fn batches(&self) -> &[&'a RecordBatch] {
        &self.batches
    }

    /// The dictionary of a column of this name, where it is one.
    pub fn dictionary(&self, name: &str) -> Option<&Dictionary<'a>> {
        let index = self.schema.index_of(name).ok()?;
        self.dictionaries[index]
            .as_ref()
            .map(|(dictionary, _)| dictionary)
    }

    /// Every row, in the order of the batches.
    pub fn all(&self) -> Vec<Pick> {
        let rows = self.batches.iter().enumerate();
        rows.flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)))
            .collect()
    }

    /// These rows as one batch.
    pub fn gather(&self, picks: &[Pick]) -> Result<RecordBatch, ArrowError> {
        let columns = (0..self.schema.fields().len()).map(|index| match &self.dictionaries[index] {
            Some((dictionary, values)) => dictionary.gather(values, picks),
            None => self.plain(index, picks),
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }

    fn plain(&self, index: usize, picks: &[Pick]) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<&dyn Array> = self
            .batches
            .iter()
            .map(|batch| batch.column(index).as_ref())
            .collect();
        match empty_maps(&columns, picks.len()) {
            Some(maps) => maps,
            None => interleave(&columns, picks),
        }
    }
}

/// Where no row of a map column has an entry, which is the normal case, there is nothing to pick.
fn empty_maps(columns: &[&dyn Array], rows: usize) -> Option<Result<ArrayRef, ArrowError>> {
    let DataType::Map(field, _) = columns.first()?.data_type() else {
        return None;
    };
    let empty = columns.iter().all(|column| column.as_map().entries().is_empty());
    empty.then(|| {
        let entries = new_empty_array(field.data_type()).as_struct().clone();
        let maps = MapArray::try_new(
            Arc::clone(field),
            OffsetBuffer::new_zeroed(rows),
            entries,
            None,
            false,
        )?;
        Ok(Arc::new(maps) as ArrayRef)
    })
}

//! Arrow to JSON.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use serde_json::{Map, Value};

/// One object for each row; what is null is left out.
pub fn objects(batches: &[RecordBatch]) -> Result<Vec<Value>, ArrowError> {
    let mut writer = WriterBuilder::new().build::<_, JsonArray>(Vec::new());
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    parse(&writer.into_inner())
}

/// One list for each row, in the order of the columns: two columns may have the same name.
pub fn lists(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Value>, ArrowError> {
    let count = schema.fields().len();
    let numbered = |(index, field): (usize, &Arc<Field>)| field.as_ref().clone().with_name(index.to_string());
    let fields: Vec<Field> = schema.fields().iter().enumerate().map(numbered).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, JsonArray>(Vec::new());
    for batch in batches {
        writer.write(&RecordBatch::try_new(
            Arc::clone(&schema),
            batch.columns().to_vec(),
        )?)?;
    }
    writer.finish()?;
    let rows: Vec<Map<String, Value>> = parse(&writer.into_inner())?;
    let list = |mut row: Map<String, Value>| {
        (0..count)
            .map(|index| row.remove(&index.to_string()).unwrap_or(Value::Null))
            .collect()
    };
    Ok(rows.into_iter().map(list).collect())
}

/// One JSON object a line.
pub fn lines(batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner())
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<Vec<T>, ArrowError> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(json).map_err(|error| ArrowError::JsonError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::DataType;

    use super::*;

    fn batch() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("n", DataType::Utf8, true),
        ]);
        let columns: [ArrayRef; 2] = [
            Arc::new(Int64Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec!["a", "b\u{1b}"])),
        ];
        RecordBatch::try_new(Arc::new(schema), columns.to_vec()).unwrap()
    }

    #[test]
    fn rows_are_lists_in_the_order_of_columns() {
        let batch = batch();
        let rows = lists(&batch.schema(), &[batch]).unwrap();
        assert_eq!(Value::from(rows).to_string(), r#"[[1,"a"],[null,"b\u001b"]]"#);
        assert!(lists(&Arc::new(Schema::empty()), &[]).unwrap().is_empty());
        assert!(objects(&[]).unwrap().is_empty() && lines(&[]).unwrap().is_empty());
    }
}

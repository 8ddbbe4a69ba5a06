//! Arrow to JSON and CSV.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};

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

/// A JSON list of one object for each row; what is null is left out.
pub fn array(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new().build::<_, JsonArray>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let text = writer.into_inner();
    Ok(if text.is_empty() { b"[]".to_vec() } else { text })
}

/// One JSON object a line; what is null is left out.
pub fn object_lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new().build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
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

/// A table (RFC 4180) with a line of names. What is null is empty; maps and lists are JSON.
pub fn csv(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let mut table = table(Some(schema), Vec::new())?;
    for batch in batches {
        csv_rows(batch, &mut table)?;
    }
    table
        .into_inner()
        .map_err(|error| ArrowError::CsvError(error.to_string()))
}

/// The rows of one batch, without the line of names.
pub fn csv_lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut table = table(None, Vec::new())?;
    csv_rows(batch, &mut table)?;
    table
        .into_inner()
        .map_err(|error| ArrowError::CsvError(error.to_string()))
}

fn table(names: Option<&SchemaRef>, out: Vec<u8>) -> Result<csv::Writer<Vec<u8>>, ArrowError> {
    let mut table = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(out);
    if let Some(schema) = names {
        let written = table.write_record(schema.fields().iter().map(|field| field.name()));
        written.map_err(|error| ArrowError::CsvError(error.to_string()))?;
    }
    Ok(table)
}

fn csv_rows(batch: &RecordBatch, table: &mut csv::Writer<Vec<u8>>) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let cells = batch.columns().iter().map(|column| Cells::new(column, &options));
    let cells = cells.collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for column in &cells {
            text.clear();
            column.write(row, &mut text)?;
            let written = table.write_field(&text);
            written.map_err(|error| ArrowError::CsvError(error.to_string()))?;
        }
        let ended = table.write_record(None::<&[u8]>);
        ended.map_err(|error| ArrowError::CsvError(error.to_string()))?;
    }
    Ok(())
}

/// The values of one column as text.
enum Cells<'a> {
    Plain(ArrayFormatter<'a>),
    Nested(Vec<Map<String, Value>>),
}

impl<'a> Cells<'a> {
    fn new(column: &'a ArrayRef, options: &'a FormatOptions<'a>) -> Result<Self, ArrowError> {
        if !column.data_type().is_nested() {
            return ArrayFormatter::try_new(column.as_ref(), options).map(Self::Plain);
        }
        let field = Field::new(CELL, column.data_type().clone(), true);
        let alone = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(column)])?;
        let mut writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, JsonArray>(Vec::new());
        writer.write(&alone)?;
        writer.finish()?;
        parse(&writer.into_inner()).map(Self::Nested)
    }

    fn write(&self, row: usize, out: &mut String) -> Result<(), ArrowError> {
        let written = match self {
            Self::Plain(formatter) => write!(out, "{}", formatter.value(row)),
            Self::Nested(rows) => match rows.get(row).and_then(|row| row.get(CELL)) {
                None | Some(Value::Null) => Ok(()),
                Some(value) => write!(out, "{value}"),
            },
        };
        written.map_err(|error| ArrowError::CsvError(error.to_string()))
    }
}

const CELL: &str = "cell";

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
        let rows = lists(&batch().schema(), &[batch()]).unwrap();
        assert_eq!(Value::from(rows).to_string(), r#"[[1,"a"],[null,"b\u001b"]]"#);
        assert!(lists(&Arc::new(Schema::empty()), &[]).unwrap().is_empty());
        let table = csv(&batch().schema(), &[batch()]).unwrap();
        assert_eq!(String::from_utf8(table).unwrap(), "n,n\r\n1,a\r\n,b\u{1b}\r\n");
        assert!(lines(&[]).unwrap().is_empty());
        assert_eq!(array(&batch().slice(0, 0)).unwrap(), b"[]");
        assert_eq!(array(&batch().slice(1, 1)).unwrap(), br#"[{"n":"b\u001b"}]"#);
    }
}

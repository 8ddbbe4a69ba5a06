//! What can be asked, in words: tables, columns, types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

use super::live_table::{DESCRIPTION, LiveTable};
use crate::schema::Table;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its name in SQL.
    pub name: &'static str,
    /// What a row is.
    pub description: &'static str,
    /// Its columns, in order.
    pub columns: Vec<ColumnInfo>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// May a row lack it?
    pub is_nullable: bool,
    /// What it says.
    pub description: String,
}

impl ColumnInfo {
    /// Its type in a word: `text`, `timestamp`, `integer`, `float`, `boolean`, `map`, `list`, `bytes`.
    #[must_use]
    pub fn type_word(&self) -> &'static str {
        match &self.data_type {
            DataType::Timestamp(..) => "timestamp",
            DataType::Boolean => "boolean",
            DataType::Map(..) => "map",
            DataType::List(_) => "list",
            DataType::Binary => "bytes",
            other if other.is_integer() => "integer",
            other if other.is_floating() => "float",
            _ => "text",
        }
    }
}

/// All tables: those of the store, then these.
pub fn tables(live: &[Arc<dyn LiveTable>]) -> Vec<TableInfo> {
    let stored = Table::ALL.into_iter().map(|table| TableInfo {
        name: table.name(),
        description: match table {
            Table::Logs => "Log records, one row each.",
            Table::Metrics => "Metric samples, one row each.",
        },
        columns: columns(table.schema().fields().iter(), |field| {
            describe(table, field.name()).to_owned()
        }),
    });
    let live = live.iter().map(|table| TableInfo {
        name: table.name(),
        description: table.description(),
        columns: columns(table.schema().fields().iter(), |field| {
            field.metadata().get(DESCRIPTION).cloned().unwrap_or_default()
        }),
    });
    stored.chain(live).collect()
}

fn columns<'a>(
    fields: impl Iterator<Item = &'a Arc<Field>>,
    describe: impl Fn(&Field) -> String,
) -> Vec<ColumnInfo> {
    let column = |field: &Arc<Field>| ColumnInfo {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        is_nullable: field.is_nullable(),
        description: describe(field),
    };
    fields.map(column).collect()
}

fn describe(table: Table, column: &str) -> &'static str {
    match (table, column) {
        (_, "time") => "When it happened: event_time, else observed_time. What queries go by.",
        (_, "event_time") => "When it happened, as its source says.",
        (_, "observed_time") => "When the agent saw it.",
        (_, "received_time") => "When the collector received it.",
        (_, "machine_id") => "The machine that it is from.",
        (_, "source") => "Where on the machine: a file's path, journald, host.",
        (_, "stream_id") => "The stream, 32 hexadecimal digits. With position the address of the row.",
        (_, "position") => "Position in the stream: bytes or records from its beginning.",
        (_, "agent_version") => "Version of the agent.",
        (Table::Logs, "source_len") => {
            "What it took in its source, in positions of the stream: bytes of a file."
        }
        (Table::Logs, "severity") => {
            "OpenTelemetry number: 1 trace, 5 debug, 9 info, 13 warn, 17 error, 21 fatal."
        }
        (Table::Logs, "body") => "The text. Bytes that are no UTF-8 are replaced.",
        (Table::Logs, "body_bytes") => "The exact bytes, where they are no UTF-8.",
        (Table::Logs, "attributes") => "Attributes of the record, text to text: attributes['unit'].",
        (Table::Logs, "labels") => "Labels of the agent, text to text: labels['site'].",
        (Table::Logs, "trace_id") => "Trace, 32 hexadecimal digits.",
        (Table::Logs, "span_id") => "Span, 16 hexadecimal digits.",
        (Table::Logs, "flags") => "Bits: 1 truncated, 2 fragment, 4 overlaps, and further ones.",
        (Table::Metrics, "name") => "Name of the metric.",
        (Table::Metrics, "unit") => "Its unit (UCUM): s, By, 1, Cel.",
        (Table::Metrics, "kind") => "gauge, counter, histogram or summary.",
        (Table::Metrics, "temporality") => "Of counters: cumulative or delta.",
        (Table::Metrics, "start_time") => "Of counters: since when they count.",
        (Table::Metrics, "value") => "The value; histograms and summaries have none.",
        (Table::Metrics, "quality") => "0 good, 1 uncertain, 2 bad.",
        (Table::Metrics, "labels") => "Labels of the sample, text to text: labels['cpu.mode'].",
        (Table::Metrics, "agent_labels") => "Labels of the agent, text to text: agent_labels['site'].",
        (Table::Metrics, "count") => "Of histograms and summaries: observations.",
        (Table::Metrics, "sum") => "Of histograms and summaries: sum of the observations.",
        (Table::Metrics, "bucket_bounds") => "Of histograms: upper bounds of the buckets, ascending.",
        (Table::Metrics, "bucket_counts") => {
            "Of histograms: observations in each bucket, one more than bounds."
        }
        (Table::Metrics, "quantiles") => "Of summaries: which quantiles, 0 to 1.",
        (Table::Metrics, "quantile_values") => "Of summaries: their values.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_described() {
        for table in tables(&[]) {
            for column in table.columns {
                assert!(!column.description.is_empty(), "{}.{}", table.name, column.name);
            }
        }
    }
}

//! The two tables and their columns.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// A table of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Log records.
    Logs,
    /// Metric samples.
    Metrics,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 2] = [Self::Logs, Self::Metrics];

    /// Its name in SQL and in file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// Its columns.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        Arc::clone(match self {
            Self::Logs => &LOGS,
            Self::Metrics => &METRICS,
        })
    }
}

pub(crate) const TIMEZONE: &str = "UTC";

/// Columns that the store itself reads, by name.
pub(crate) mod column {
    pub const TIME: &str = "time";
    pub const EVENT_TIME: &str = "event_time";
    pub const OBSERVED_TIME: &str = "observed_time";
    pub const RECEIVED_TIME: &str = "received_time";
    pub const MACHINE_ID: &str = "machine_id";
    pub const SOURCE: &str = "source";
    pub const STREAM_ID: &str = "stream_id";
    pub const POSITION: &str = "position";
    pub const SOURCE_LEN: &str = "source_len";
    pub const SEVERITY: &str = "severity";
    pub const BODY: &str = "body";
    pub const NAME: &str = "name";
    pub const UNIT: &str = "unit";
    pub const KIND: &str = "kind";
    pub const TEMPORALITY: &str = "temporality";
    pub const START_TIME: &str = "start_time";
    pub const VALUE: &str = "value";
    pub const COUNT: &str = "count";
    pub const SUM: &str = "sum";
    pub const QUALITY: &str = "quality";
    pub const LABELS: &str = "labels";
    pub const AGENT_LABELS: &str = "agent_labels";
    pub const ATTRIBUTES: &str = "attributes";
}

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(TIMEZONE.into()))
}

/// Text of few values: a number for each row and the values once.
pub(crate) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

pub(crate) fn map_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ])
}

pub(crate) fn map_entries() -> Arc<Field> {
    Arc::new(Field::new("entries", DataType::Struct(map_fields()), false))
}

/// Text to text. Keys are sorted, each once.
pub(crate) fn map() -> DataType {
    DataType::Map(map_entries(), false)
}

pub(crate) fn list_item(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", item, false))
}

fn list(item: DataType) -> DataType {
    DataType::List(list_item(item))
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn address() -> Vec<Field> {
    vec![
        required(column::TIME, timestamp()),
        optional(column::EVENT_TIME, timestamp()),
        required(column::OBSERVED_TIME, timestamp()),
        required(column::RECEIVED_TIME, timestamp()),
        required(column::MACHINE_ID, dictionary()),
        required(column::SOURCE, dictionary()),
        required(column::STREAM_ID, dictionary()),
        required(column::POSITION, DataType::Int64),
    ]
}

static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = address();
    fields.extend([
        required(column::SOURCE_LEN, DataType::Int64),
        optional(column::SEVERITY, DataType::UInt8),
        required(column::BODY, DataType::Utf8View),
        // The exact bytes, where they are not UTF-8.
        optional("body_bytes", DataType::Binary),
        required(column::ATTRIBUTES, map()),
        required(column::LABELS, map()),
        optional("trace_id", DataType::Utf8),
        optional("span_id", DataType::Utf8),
        required("flags", DataType::UInt8),
        required("agent_version", dictionary()),
    ]);
    Arc::new(Schema::new(fields))
});

static METRICS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = address();
    fields.extend([
        required("name", dictionary()),
        required("unit", dictionary()),
        required("kind", dictionary()),
        required("temporality", dictionary()),
        optional("start_time", timestamp()),
        optional("value", DataType::Float64),
        required("quality", DataType::UInt8),
        required("labels", map()),
        required("agent_labels", map()),
        optional("count", DataType::Int64),
        optional("sum", DataType::Float64),
        required("bucket_bounds", list(DataType::Float64)),
        required("bucket_counts", list(DataType::Int64)),
        required("quantiles", list(DataType::Float64)),
        required("quantile_values", list(DataType::Float64)),
        required("agent_version", dictionary()),
    ]);
    Arc::new(Schema::new(fields))
});

//! Machines and streams as tables of the query engine, made anew for each query.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Weak};

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, MapBuilder, MapFieldNames, StringArray, StringBuilder,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use edgelogger_store::query::{DESCRIPTION, LiveRows, LiveTable};

use super::report::{MachineReport, Machines};
use crate::ledger::{Ledger, StreamReport};

/// Rows at a time.
const BATCH_ROWS: usize = 1024;

/// `machines`. The store holds the tables, and the ledger the store: neither may keep the other alive.
pub struct MachinesTable(pub Weak<Machines>);

/// `streams`.
pub struct StreamsTable(pub Weak<Ledger>);

type Column<T> = (&'static str, &'static str, Get<T>);

/// How a column is made.
enum Get<T> {
    Text(fn(&T) -> Option<&str>),
    Time(fn(&T) -> Option<&str>),
    Bool(fn(&T) -> bool),
    Int(fn(&T) -> Option<i64>),
    Count(fn(&T) -> u64),
    Map(fn(&T) -> &BTreeMap<String, String>),
}

const MACHINES: [Column<MachineReport>; 16] = [
    ("machine_id", "Its name.", Get::Text(|m| Some(&m.machine))),
    ("connected", "Is its agent connected?", Get::Bool(|m| m.connected)),
    (
        "connected_since",
        "Since when.",
        Get::Time(|m| m.connected_since.as_deref()),
    ),
    (
        "peer",
        "Where it connects from.",
        Get::Text(|m| m.peer.as_deref()),
    ),
    (
        "first_seen",
        "When something was first heard of it.",
        Get::Time(|m| m.first_seen.as_deref()),
    ),
    (
        "last_seen",
        "When something was last heard of it.",
        Get::Time(|m| m.last_seen.as_deref()),
    ),
    (
        "agent_version",
        "Version of its agent.",
        Get::Text(|m| m.agent_version.as_deref()),
    ),
    ("hostname", "Its host name.", Get::Text(|m| m.hostname.as_deref())),
    (
        "labels",
        "Labels of its agent, text to text: labels['site'].",
        Get::Map(|m| &m.labels),
    ),
    (
        "clock_ahead_ms",
        "What its clock is ahead of the collector's, ms.",
        Get::Int(|m| m.clock_ahead_ms),
    ),
    (
        "streams",
        "Streams that are known of it.",
        Get::Count(|m| m.streams),
    ),
    (
        "open_streams",
        "Of them, those that have not ended.",
        Get::Count(|m| m.open_streams),
    ),
    ("rows", "Rows stored.", Get::Count(|m| m.rows)),
    (
        "bytes_stored",
        "Bytes of its files that are stored.",
        Get::Count(|m| m.bytes.stored),
    ),
    (
        "bytes_behind",
        "Bytes of its files that are known and not stored yet.",
        Get::Count(|m| m.bytes.behind()),
    ),
    (
        "lag_s",
        "While something is missing: seconds since it was first seen.",
        Get::Count(|m| m.lag_s),
    ),
];

const STREAMS: [Column<StreamReport>; 23] = [
    (
        "machine_id",
        "The machine that it is of.",
        Get::Text(|s| Some(&s.machine)),
    ),
    (
        "source",
        "Where on the machine: a file's path, journald, host.",
        Get::Text(|s| Some(&s.source)),
    ),
    (
        "stream_id",
        "32 hexadecimal digits.",
        Get::Text(|s| Some(&s.stream_id)),
    ),
    (
        "generation",
        "Which stream of its source; the first is 1.",
        Get::Count(|s| s.generation.into()),
    ),
    ("kind", "file, journald, and so on.", Get::Text(|s| Some(&s.kind))),
    (
        "unit",
        "What positions count: bytes or records.",
        Get::Text(|s| Some(s.unit)),
    ),
    (
        "opened",
        "When its agent opened it.",
        Get::Time(|s| s.opened.as_deref()),
    ),
    (
        "last_received",
        "When something of it last came in.",
        Get::Time(|s| s.last_received.as_deref()),
    ),
    ("connected", "Is its agent connected?", Get::Bool(|s| s.connected)),
    ("start", "First position.", Get::Count(|s| s.start)),
    (
        "stored_upto",
        "Every position below is stored, dropped or lost.",
        Get::Count(|s| s.stored_upto),
    ),
    (
        "size",
        "Behind the last position that anybody has told of.",
        Get::Count(|s| s.size),
    ),
    ("ended", "Has it ended?", Get::Bool(|s| s.end.is_some())),
    (
        "end_reason",
        "Why it ended.",
        Get::Text(|s| s.end.as_ref().map(|end| end.reason.as_str())),
    ),
    ("rows", "Rows stored.", Get::Count(|s| s.rows)),
    (
        "stored",
        "Positions that are stored.",
        Get::Count(|s| s.positions.stored),
    ),
    (
        "durable",
        "Positions in the commit log, not stored yet.",
        Get::Count(|s| s.positions.durable),
    ),
    (
        "pending",
        "Positions that its connected agent has.",
        Get::Count(|s| s.positions.pending),
    ),
    (
        "unknown",
        "Positions that its silent agent had.",
        Get::Count(|s| s.positions.unknown),
    ),
    (
        "dropped",
        "Positions that are never rows, by policy.",
        Get::Count(|s| s.positions.dropped),
    ),
    (
        "dead_lettered",
        "Positions that can't be rows, kept aside.",
        Get::Count(|s| s.positions.dead_lettered),
    ),
    (
        "lost",
        "Positions that are lost.",
        Get::Count(|s| s.positions.lost),
    ),
    (
        "lag_s",
        "While something is missing: seconds since it was first seen.",
        Get::Count(|s| s.lag_s),
    ),
];

static MACHINES_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(&MACHINES));
static STREAMS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(&STREAMS));

impl LiveTable for MachinesTable {
    fn name(&self) -> &'static str {
        "machines"
    }

    fn description(&self) -> &'static str {
        "Machines as they are now, one row each."
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&MACHINES_SCHEMA)
    }

    fn rows(&self) -> LiveRows {
        let machines = self.0.upgrade().map(|machines| machines.report(|_| true));
        batches(
            machines.unwrap_or_default().into_iter(),
            &MACHINES_SCHEMA,
            &MACHINES,
        )
    }
}

impl LiveTable for StreamsTable {
    fn name(&self) -> &'static str {
        "streams"
    }

    fn description(&self) -> &'static str {
        "Streams as they are now, one row each: what has become of their positions."
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&STREAMS_SCHEMA)
    }

    fn rows(&self) -> LiveRows {
        let streams = self.0.upgrade().map(|ledger| ledger.all_stream_reports());
        batches(streams.into_iter().flatten(), &STREAMS_SCHEMA, &STREAMS)
    }
}

fn batches<T: Send + 'static, const N: usize>(
    mut rows: impl Iterator<Item = T> + Send + 'static,
    schema: &'static SchemaRef,
    columns: &'static [Column<T>; N],
) -> LiveRows {
    Box::new(std::iter::from_fn(move || {
        let rows: Vec<T> = rows.by_ref().take(BATCH_ROWS).collect();
        (!rows.is_empty()).then(|| batch(&rows, schema, columns))
    }))
}

fn batch<T>(rows: &[T], schema: &SchemaRef, columns: &[Column<T>]) -> Result<RecordBatch, ArrowError> {
    let arrays = columns.iter().map(|(_, _, get)| get.array(rows));
    RecordBatch::try_new(Arc::clone(schema), arrays.collect::<Result<_, _>>()?)
}

fn schema<T>(columns: &[Column<T>]) -> SchemaRef {
    let field = |(name, description, get): &Column<T>| {
        let metadata = HashMap::from([(DESCRIPTION.to_owned(), (*description).to_owned())]);
        Field::new(*name, get.data_type(), get.is_nullable()).with_metadata(metadata)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl<T> Get<T> {
    fn data_type(&self) -> DataType {
        match self {
            Self::Text(_) => DataType::Utf8,
            Self::Time(_) => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            Self::Bool(_) => DataType::Boolean,
            Self::Int(_) => DataType::Int64,
            Self::Count(_) => DataType::UInt64,
            Self::Map(_) => {
                let fields = [
                    Field::new("key", DataType::Utf8, false),
                    Field::new("value", DataType::Utf8, true),
                ];
                let entries = Field::new("entries", DataType::Struct(fields.into_iter().collect()), false);
                DataType::Map(Arc::new(entries), false)
            }
        }
    }

    const fn is_nullable(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Time(_) | Self::Int(_))
    }

    fn array(&self, rows: &[T]) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Text(get) => Arc::new(rows.iter().map(get).collect::<StringArray>()),
            Self::Time(get) => {
                let time = |row| get(row).and_then(nanoseconds);
                let times: TimestampNanosecondArray = rows.iter().map(time).collect();
                Arc::new(times.with_timezone("UTC"))
            }
            Self::Bool(get) => {
                let values: Vec<bool> = rows.iter().map(get).collect();
                Arc::new(BooleanArray::from(values))
            }
            Self::Int(get) => Arc::new(rows.iter().map(get).collect::<Int64Array>()),
            Self::Count(get) => Arc::new(UInt64Array::from_iter_values(rows.iter().map(get))),
            Self::Map(get) => {
                let names = MapFieldNames {
                    entry: "entries".to_owned(),
                    key: "key".to_owned(),
                    value: "value".to_owned(),
                };
                let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
                for row in rows {
                    for (key, value) in get(row) {
                        maps.keys().append_value(key);
                        maps.values().append_value(value);
                    }
                    maps.append(true)?;
                }
                Arc::new(maps.finish())
            }
        })
    }
}

fn nanoseconds(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_their_columns() {
        let machine = MachineReport {
            machine: "m1".to_owned(),
            connected: true,
            connected_since: Some("2026-11-21T12:00:00Z".to_owned()),
            peer: None,
            first_seen: None,
            last_seen: None,
            agent_version: None,
            hostname: None,
            labels: [("site".to_owned(), "berlin".to_owned())].into(),
            clock_ahead_ms: Some(-5),
            streams: 1,
            open_streams: 1,
            rows: 2,
            bytes: Default::default(),
            records: Default::default(),
            lag_s: 0,
        };
        let batch = batch(&[machine.clone(), machine], &MACHINES_SCHEMA, &MACHINES).unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(nanoseconds("1970-01-01T00:00:05Z"), Some(5_000_000_000));
        let no_streams: [StreamReport; 0] = [];
        let streams = super::batch(&no_streams, &STREAMS_SCHEMA, &STREAMS).unwrap();
        assert_eq!(streams.num_columns(), 23);
    }
}

//! What lies in the spool, for a person and for a script: counted, checked, written out.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use edgelogger_common::block::batch::{BatchLimits, validate};
use edgelogger_common::block::{Block, BlockView, LogRow, MetricRow, Receipt, Value};
use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::codec::{DecodeLimits, Decompressor};
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::segment::{Frame, SegmentOptions};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Batch, SpoolStream};
use serde::Serialize;
use serde_json::{Map, json};

use super::disk;
use super::entry::{self, Content, Entry};

/// How to read any spool.
#[must_use]
pub fn log_options() -> SegmentOptions {
    disk::options(4 << 20)
}

/// Whatever an encoder could make.
pub(super) fn limits() -> BatchLimits {
    BatchLimits {
        decode: DecodeLimits {
            compressed_bytes_max: disk::ENTRY_BYTES_MAX as usize,
            decompressed_bytes_max: 1 << 30,
            ratio_max: usize::MAX,
            ..DecodeLimits::default()
        },
        blocks_max: u32::MAX,
        records_max: u32::MAX,
        record_bytes_max: u32::MAX,
        expanded_bytes_max: u64::MAX,
    }
}

/// Is what a frame holds what the encoder made? Checks the batch's SHA-256 and every block.
///
/// # Errors
/// What is wrong.
pub fn check_entry(frame: &Frame) -> Result<(), String> {
    match entry::read(frame.payload.clone())
        .map_err(|error| error.to_string())?
        .content
    {
        Content::Batch(batch, notes) => {
            let blocks =
                validate(&batch, &limits(), &mut Decompressor::new()).map_err(|error| error.to_string())?;
            let is_told = |(block, note): (&Block, &entry::BlockNote)| {
                *note == entry::BlockNote::of(block).resuming(&note.resume)
            };
            if blocks.len() != notes.len() || !blocks.iter().zip(&notes).all(is_told) {
                return Err("what the entry says of its blocks is not what they are".to_owned());
            }
            Ok(())
        }
        Content::End(_) => Ok(()),
    }
}

/// What a spool holds.
#[derive(Debug, Default, Serialize)]
pub struct Holdings {
    /// Batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// By stream, in the order in which they come.
    pub streams: Vec<StreamHoldings>,
    #[serde(skip)]
    by_id: HashMap<StreamId, (usize, RangeSet)>,
}

/// Of one stream.
#[derive(Debug, Default, Serialize)]
pub struct StreamHoldings {
    /// As hexadecimal digits.
    pub stream_id: String,
    /// What a person calls the source.
    pub name: String,
    /// Batches that speak of it.
    pub batches: u64,
    /// Records.
    pub records: u64,
    /// Positions.
    pub ranges: Vec<PositionRange>,
    /// Where it ends, if its process stopped in order.
    pub end: Option<u64>,
    /// How long the oldest waits, by the wall clock.
    pub oldest_age_ns: u64,
}

/// Half open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PositionRange {
    /// First position.
    pub start: u64,
    /// Position after the last.
    pub end: u64,
}

impl Holdings {
    /// Counts a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, frame: &Frame) -> Result<(), String> {
        let entry = entry::read(frame.payload.clone()).map_err(|error| error.to_string())?;
        let age_ns = SystemClock::new()
            .wall_ns()
            .saturating_sub(entry.written_ns)
            .max(0)
            .unsigned_abs();
        match entry.content {
            Content::Batch(batch, notes) => {
                self.batches += 1;
                self.records += u64::from(batch.record_count);
                let mut counted = HashSet::new();
                for note in notes {
                    let is_first = counted.insert(note.stream_id);
                    let (stream, ranges) = self.stream(note.stream_id, &entry.streams, age_ns);
                    stream.batches += u64::from(is_first);
                    stream.records += u64::from(note.record_count);
                    // A thousand ranges are enough to see what is missing.
                    let _ = ranges.insert(note.start..note.end);
                    let told = ranges.iter().map(|range| PositionRange {
                        start: range.start,
                        end: range.end,
                    });
                    stream.ranges = told.collect();
                }
            }
            Content::End(close) => {
                self.stream(close.stream_id, &entry.streams, age_ns).0.end = Some(close.size);
            }
        }
        Ok(())
    }

    fn stream(
        &mut self,
        id: StreamId,
        told: &[SpoolStream],
        oldest_age_ns: u64,
    ) -> (&mut StreamHoldings, &mut RangeSet) {
        let streams = &mut self.streams;
        let (index, ranges) = self.by_id.entry(id).or_insert_with(|| {
            streams.push(StreamHoldings {
                stream_id: id.to_string(),
                name: name_of(&id, told),
                oldest_age_ns,
                ..StreamHoldings::default()
            });
            (streams.len() - 1, RangeSet::new())
        });
        (&mut streams[*index], ranges)
    }
}

fn name_of(id: &StreamId, told: &[SpoolStream]) -> String {
    let descriptors = told.iter().filter_map(|stream| stream.descriptor.as_ref());
    let of_stream = descriptors.filter(|descriptor| descriptor.stream_id == id.as_bytes()[..]);
    of_stream
        .map(|descriptor| descriptor.name.clone())
        .next()
        .unwrap_or_default()
}

/// Writes records out.
#[derive(Debug)]
pub struct Exporter {
    is_raw: bool,
    decompressor: Decompressor,
}

impl Exporter {
    /// `is_raw`: the bodies of log records, each with a line feed; otherwise everything as NDJSON.
    #[must_use]
    pub fn new(is_raw: bool) -> Self {
        Self {
            is_raw,
            decompressor: Decompressor::new(),
        }
    }

    /// Writes what a frame holds; what can't be read is left out.
    ///
    /// # Errors
    /// Of the output.
    pub fn write(&mut self, frame: &Frame, out: &mut impl Write) -> io::Result<()> {
        let Ok(Entry {
            content: Content::Batch(batch, _),
            streams,
            ..
        }) = entry::read(frame.payload.clone())
        else {
            return Ok(());
        };
        self.write_batch(&batch, &streams, out)
    }

    fn write_batch(
        &mut self,
        batch: &Batch,
        streams: &[SpoolStream],
        out: &mut impl Write,
    ) -> io::Result<()> {
        let blocks = validate(batch, &limits(), &mut self.decompressor).unwrap_or_default();
        for block in blocks {
            let id = block.header.stream_id;
            let mut place = Place {
                stream_id: id.to_string(),
                source: name_of(&id, streams),
                position: block.header.start,
            };
            match block.view() {
                Ok(BlockView::Log(view)) if self.is_raw => {
                    for row in view.rows() {
                        out.write_all(&row.body)?;
                        out.write_all(b"\n")?;
                    }
                }
                Ok(_) | Err(_) if self.is_raw => {}
                Ok(BlockView::Log(view)) => {
                    let rows = view.rows().map(|row| (row.source_len, log_json(&row)));
                    place.write_all(rows, view.receipts(), out)?;
                }
                Ok(BlockView::Metric(view)) => {
                    let rows = view.rows().map(|row| (row.source_len, metric_json(&row)));
                    place.write_all(rows, view.receipts(), out)?;
                }
                Ok(BlockView::Receipt(_, receipts)) => place.write_all(std::iter::empty(), &receipts, out)?,
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Where in which stream.
struct Place {
    stream_id: String,
    source: String,
    position: u64,
}

type Fields = Map<String, serde_json::Value>;

impl Place {
    fn write_all(
        &mut self,
        rows: impl Iterator<Item = (u64, Fields)>,
        receipts: &[Receipt],
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut receipts = receipts.iter().peekable();
        for (index, (len, fields)) in (0u32..).zip(rows) {
            while let Some(receipt) = receipts.next_if(|receipt| receipt.before_record <= index) {
                self.write(receipt.len, receipt_json(receipt), out)?;
            }
            self.write(len, fields, out)?;
        }
        receipts.try_for_each(|receipt| self.write(receipt.len, receipt_json(receipt), out))
    }

    fn write(&mut self, len: u64, mut fields: Fields, out: &mut impl Write) -> io::Result<()> {
        fields.insert("stream".to_owned(), json!(self.stream_id));
        fields.insert("source".to_owned(), json!(self.source));
        fields.insert("position".to_owned(), json!(self.position));
        self.position += len;
        serde_json::to_writer(&mut *out, &fields)?;
        out.write_all(b"\n")
    }
}

fn object(fields: serde_json::Value) -> Fields {
    match fields {
        serde_json::Value::Object(mut fields) => {
            fields.retain(|_, value| !value.is_null());
            fields
        }
        _ => Fields::new(),
    }
}

fn receipt_json(receipt: &Receipt) -> Fields {
    object(json!({
        "kind": "receipt",
        "positions": receipt.len,
        "reason": receipt.reason.word(),
        "records": receipt.count,
        "exact": receipt.exact,
    }))
}

fn log_json(row: &LogRow) -> Fields {
    object(json!({
        "kind": "log",
        "observed_time": rfc3339(row.observed_time),
        "event_time": row.event_time.map(rfc3339),
        "severity": row.severity,
        "body": String::from_utf8_lossy(&row.body),
        "attributes": values(&row.attributes),
    }))
}

fn metric_json(row: &MetricRow) -> Fields {
    object(json!({
        "kind": "metric",
        "observed_time": rfc3339(row.observed_time),
        "event_time": row.event_time.map(rfc3339),
        "name": row.name,
        "unit": row.unit,
        "type": row.kind.word(),
        "value": row.value,
        "count": row.count,
        "sum": row.sum,
        "labels": values(&row.labels),
    }))
}

fn values(pairs: &[(String, Value)]) -> serde_json::Value {
    let pair = |(name, value): &(String, Value)| {
        let value = match value {
            Value::String(text) => json!(text),
            Value::I64(number) => json!(number),
            Value::F64(number) => json!(number),
            Value::Bool(is) => json!(is),
            Value::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
        };
        (name.clone(), value)
    };
    serde_json::Value::Object(pairs.iter().map(pair).collect())
}

/// The bare number where no calendar reaches.
fn rfc3339(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |time| time.to_string())
}

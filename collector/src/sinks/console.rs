//! What comes in, as lines on stdout: for a first look and for pipes. Never holds the log; control characters in
//! lines are shown as their numbers.

use std::io::Write;

use edgelogger_common::block::batch::{self, BatchLimits};
use edgelogger_common::block::{BlockView, LogView, MetricView};
use edgelogger_common::codec::Decompressor;
use edgelogger_common::error_code;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{LogEntry, log_entry};

use super::{Outcome, Remedy, Sink, SinkError};
use crate::health::rfc3339;
use crate::text::harmless;

/// The sink.
pub struct ConsoleSink<W> {
    out: W,
    cursor: u64,
    limits: BatchLimits,
    decompressor: Decompressor,
}

impl<W: Write + Send> ConsoleSink<W> {
    /// Writes to `out` what comes from this entry on.
    pub fn new(out: W, cursor: u64, limits: BatchLimits) -> Self {
        Self {
            out,
            cursor,
            limits,
            decompressor: Decompressor::new(),
        }
    }

    fn print(&mut self, entry: &LogEntry) -> Result<u64, SinkError> {
        let Some(log_entry::Body::Batch(batch)) = &entry.body else {
            return Ok(0);
        };
        let bad = |message: String| SinkError {
            remedy: Remedy::DeadLetter,
            code: error_code::MALFORMED_BLOCK,
            message,
        };
        let blocks = batch::open_unhashed(batch, &self.limits, &mut self.decompressor)
            .map_err(|error| bad(error.to_string()))?;
        let mut text = String::new();
        for block in &blocks {
            let source = source_of(entry, &block.header.stream_id);
            match block.view().map_err(|error| bad(error.to_string()))? {
                BlockView::Log(view) => print_logs(&mut text, entry, source, &view),
                BlockView::Metric(view) => print_metrics(&mut text, entry, source, &view),
                BlockView::Receipt(..) => {}
            }
        }
        // Whoever closed the pipe wants no more of it.
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
        Ok(u64::from(batch.record_count))
    }
}

fn source_of<'a>(entry: &'a LogEntry, stream_id: &StreamId) -> &'a str {
    let stream = entry
        .streams
        .iter()
        .find(|stream| stream.stream_id.as_ref() == stream_id.as_bytes());
    stream.map_or("?", |stream| &stream.name)
}

fn print_logs(text: &mut String, entry: &LogEntry, source: &str, view: &LogView) {
    for row in view.rows() {
        let time = rfc3339(row.event_time.unwrap_or(row.observed_time));
        let (machine, source) = (harmless(&entry.machine_id), harmless(source));
        let body = String::from_utf8_lossy(&row.body);
        text.push_str(&format!("{time} {machine} {source}: {}\n", harmless(&body)));
    }
}

fn print_metrics(text: &mut String, entry: &LogEntry, source: &str, view: &MetricView) {
    for row in view.rows() {
        let time = rfc3339(row.event_time.unwrap_or(row.observed_time));
        let (machine, source, name) = (harmless(&entry.machine_id), harmless(source), harmless(&row.name));
        let value = row
            .value
            .map_or_else(|| "-".to_owned(), |value| value.to_string());
        text.push_str(&format!(
            "{time} {machine} {source}: {name} {value} {}\n",
            harmless(&row.unit)
        ));
    }
}

impl<W: Write + Send> Sink for ConsoleSink<W> {
    fn name(&self) -> &'static str {
        "console"
    }

    fn cursor(&self) -> u64 {
        self.cursor
    }

    fn durable_cursor(&self) -> u64 {
        self.cursor
    }

    fn apply(&mut self, sequence: u64, entry: &LogEntry) -> Result<Outcome, SinkError> {
        let applied = self.print(entry)?;
        self.cursor = sequence + 1;
        Ok(Outcome {
            applied,
            duplicate: 0,
        })
    }

    fn skip(&mut self, sequence: u64) {
        self.cursor = self.cursor.max(sequence + 1);
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

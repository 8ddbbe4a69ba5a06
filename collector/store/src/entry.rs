//! One log entry to rows and changed streams. Nothing here changes the store: an entry counts as a whole or not at all.

use std::collections::HashMap;

use arrow::error::ArrowError;
use edgelogger_common::block::batch::{self, BatchLimits};
use edgelogger_common::block::{Block, BlockView, Receipt, RowSelection, select_unapplied};
use edgelogger_common::codec::Decompressor;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;

use crate::error::StoreError;
use crate::rows::{Kept, Origin, RowTools, Rows, kept, log_rows, metric_rows};
use crate::schema::Table;
use crate::streams::{Changes, StreamEndState, StreamState, Streams};
use crate::write_off::{WHY_BYTES_MAX, WriteOff, WriteOffReason};

/// What is used for one entry after another.
#[derive(Default)]
pub struct EntryTools {
    pub rows: RowTools,
    pub decompressor: Decompressor,
    pub limits: BatchLimits,
}

/// What an entry comes to.
#[derive(Default)]
pub struct Outcome {
    pub changes: Changes,
    pub rows: Vec<(Table, Rows)>,
    pub row_count: u64,
    pub duplicate_count: u64,
    pub overlap_count: u64,
}

/// Reads one entry.
pub fn read(
    sequence: u64,
    entry: &v1::LogEntry,
    streams: &Streams,
    tools: &mut EntryTools,
) -> Result<Outcome, StoreError> {
    let mut reading = Reading {
        sequence,
        entry,
        streams,
        outcome: Outcome::default(),
    };
    let described = reading.describe()?;
    match &entry.body {
        Some(v1::log_entry::Body::Batch(batch)) => reading.batch(batch, &described, tools)?,
        Some(v1::log_entry::Body::StreamOpen(open)) => {
            if let Some(descriptor) = &open.stream {
                reading.stream(descriptor)?;
            }
        }
        Some(v1::log_entry::Body::StreamEnd(end)) => reading.end(end, &described)?,
        Some(v1::log_entry::Body::WriteOff(write_off)) => reading.write_off(write_off, &described)?,
        None => {
            return Err(StoreError::unknown(
                sequence,
                "it holds nothing that this version knows",
            ));
        }
    }
    Ok(reading.outcome)
}

type Described<'a> = HashMap<StreamId, &'a v1::StreamDescriptor>;

struct Reading<'a> {
    sequence: u64,
    entry: &'a v1::LogEntry,
    streams: &'a Streams,
    outcome: Outcome,
}

impl<'a> Reading<'a> {
    fn describe(&self) -> Result<Described<'a>, StoreError> {
        self.entry
            .streams
            .iter()
            .map(|descriptor| Ok((self.stream_id(&descriptor.stream_id)?, descriptor)))
            .collect()
    }

    fn stream_id(&self, bytes: &[u8]) -> Result<StreamId, StoreError> {
        StreamId::try_from(bytes).map_err(|error| StoreError::bad(self.sequence, error.to_string()))
    }

    /// The stream of a descriptor, to change it.
    fn state(&mut self, descriptor: &v1::StreamDescriptor) -> Result<&mut StreamState, StoreError> {
        let id = self.stream_id(&descriptor.stream_id)?;
        let machine_id = &self.entry.machine_id;
        let new = || StreamState::new(machine_id, descriptor);
        Ok(self.outcome.changes.stream(self.streams, machine_id, id, new)?)
    }

    /// The same, because its agent said something of it.
    fn stream(&mut self, descriptor: &v1::StreamDescriptor) -> Result<&mut StreamState, StoreError> {
        let received_ms = self.entry.received_time_ns.div_euclid(1_000_000);
        let state = self.state(descriptor)?;
        state.last_received_ms = state.last_received_ms.max(received_ms);
        // Whoever speaks is not dead.
        let by_operator = i32::from(v1::StreamEndReason::Operator);
        state.end = state.end.filter(|end| end.reason != by_operator);
        Ok(state)
    }

    fn described<'b>(
        &self,
        id: StreamId,
        described: &Described<'b>,
    ) -> Result<&'b v1::StreamDescriptor, StoreError> {
        let descriptor = described.get(&id).copied();
        descriptor.ok_or_else(|| {
            StoreError::bad(
                self.sequence,
                format!("stream {id} is not described in its entry"),
            )
        })
    }

    fn end(&mut self, end: &v1::StreamEnd, described: &Described<'_>) -> Result<(), StoreError> {
        let descriptor = self.described(self.stream_id(&end.stream_id)?, described)?;
        let state = self.stream(descriptor)?;
        // Replayed, or declared again by an operator: the exact one stands.
        if state.end.is_none_or(|known| !known.exact) {
            state.end = Some(StreamEndState {
                size: end.size,
                exact: end.exact,
                reason: end.reason,
            });
        }
        Ok(())
    }

    fn write_off(&mut self, write_off: &v1::WriteOff, described: &Described<'_>) -> Result<(), StoreError> {
        let reason = u8::try_from(write_off.reason).ok().and_then(WriteOffReason::of);
        let reason = reason.ok_or_else(|| {
            let what = format!("it writes off for a reason ({})", write_off.reason);
            StoreError::unknown(self.sequence, what)
        })?;
        for stream in &write_off.streams {
            let descriptor = self.described(self.stream_id(&stream.stream_id)?, described)?;
            let state = self.state(descriptor)?;
            for range in stream.ranges.iter().filter(|range| range.start < range.end) {
                state.write_off(&WriteOff {
                    range: range.start..range.end,
                    reason: reason as u8,
                    declared_ms: write_off.declared_time_ns.div_euclid(1_000_000),
                    why: shortened(&write_off.why),
                });
            }
            if stream.closes && state.end.is_none() {
                state.end = Some(StreamEndState {
                    size: stream.size,
                    exact: false,
                    reason: v1::StreamEndReason::Operator.into(),
                });
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        batch: &v1::Batch,
        described: &Described<'_>,
        tools: &mut EntryTools,
    ) -> Result<(), StoreError> {
        let blocks = batch::open(batch, &tools.limits, &mut tools.decompressor)
            .map_err(|error| StoreError::from_batch(self.sequence, &error))?;
        blocks
            .iter()
            .try_for_each(|block| self.block(block, described, &mut tools.rows))
    }

    fn block(
        &mut self,
        block: &Block,
        described: &Described<'_>,
        tools: &mut RowTools,
    ) -> Result<(), StoreError> {
        let view = block
            .view()
            .map_err(|error| StoreError::from_block(self.sequence, &error))?;
        let entry = self.entry;
        let descriptor = self.described(block.header.stream_id, described)?;
        let state = self.stream(descriptor)?;
        let range = block.header.range();
        let selection = |ranges: &mut dyn Iterator<Item = (u64, u64)>| {
            select_unapplied(ranges, block.header.range(), state.applied.as_slice())
        };
        let kept = match &view {
            BlockView::Log(view) => kept_of(view.ranges(), &selection(&mut view.ranges())),
            BlockView::Metric(view) => kept_of(view.ranges(), &selection(&mut view.ranges())),
            BlockView::Receipt(..) => Vec::new(),
        };
        for (range, receipt) in receipts(&view) {
            state.add_receipt(&range, &receipt);
        }
        state.rows += kept.len() as u64;
        if let Some(crc32c) = block.header.source_crc32c {
            state.add_check(&range, crc32c);
        }
        state.apply(range);
        let origin = Origin {
            machine_id: &entry.machine_id,
            agent_version: &entry.agent_version,
            labels: &entry.labels,
            received_ns: entry.received_time_ns,
            source: &descriptor.name,
            stream_id: block.header.stream_id,
        };
        self.rows(block, &view, &kept, &origin, tools)
            .map_err(|error| StoreError::bad(self.sequence, error.to_string()))
    }

    fn rows(
        &mut self,
        block: &Block,
        view: &BlockView,
        kept: &[Kept],
        origin: &Origin<'_>,
        tools: &mut RowTools,
    ) -> Result<(), ArrowError> {
        let (table, rows) = match view {
            BlockView::Log(view) => (Table::Logs, log_rows(block, view, kept, origin, tools)?),
            BlockView::Metric(view) => (Table::Metrics, metric_rows(view, kept, origin, tools)?),
            BlockView::Receipt(..) => return Ok(()),
        };
        self.outcome.row_count += kept.len() as u64;
        self.outcome.duplicate_count += u64::from(block.header.record_count) - kept.len() as u64;
        self.outcome.overlap_count += kept.iter().filter(|row| row.overlaps).count() as u64;
        self.outcome
            .rows
            .extend(rows.into_iter().map(|rows| (table, rows)));
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(WHY_BYTES_MAX)].to_owned()
}

/// An entry that can never be applied was put aside: what its blocks held, as far as they can be read, is written off.
/// An entry that can't even be opened changes nothing.
pub fn put_aside(
    sequence: u64,
    entry: &v1::LogEntry,
    code: &str,
    noted_ms: i64,
    streams: &Streams,
    tools: &mut EntryTools,
) -> Changes {
    let mut reading = Reading {
        sequence,
        entry,
        streams,
        outcome: Outcome::default(),
    };
    let Some(v1::log_entry::Body::Batch(batch)) = &entry.body else {
        return Changes::default();
    };
    let opened = batch::open_unhashed(batch, &tools.limits, &mut tools.decompressor);
    for block in opened.unwrap_or_default() {
        let id = block.header.stream_id;
        let descriptor = entry
            .streams
            .iter()
            .find(|known| known.stream_id.as_ref() == id.as_bytes());
        let unnamed = v1::StreamDescriptor {
            stream_id: id.to_proto(),
            ..v1::StreamDescriptor::default()
        };
        let off = WriteOff {
            range: block.header.range(),
            reason: WriteOffReason::DeadLettered as u8,
            declared_ms: noted_ms,
            why: code.to_owned(),
        };
        if let Ok(state) = reading.state(descriptor.unwrap_or(&unnamed)) {
            state.write_off(&off);
        }
    }
    reading.outcome.changes
}

fn kept_of(ranges: impl Iterator<Item = (u64, u64)>, selection: &RowSelection) -> Vec<Kept> {
    kept(ranges, selection)
}

/// Where each receipt of a block lies.
fn receipts(view: &BlockView) -> Vec<(std::ops::Range<u64>, Receipt)> {
    let (start, records): (u64, Vec<(u64, u64)>) = match view {
        _ if view.receipts().is_empty() => return Vec::new(),
        BlockView::Log(view) => (view.header.start, view.ranges().collect()),
        BlockView::Metric(view) => (view.header.start, view.ranges().collect()),
        BlockView::Receipt(header, _) => (header.start, Vec::new()),
    };
    let mut at = start;
    let mut before = 0;
    let placed = view.receipts().iter().map(|receipt| {
        let record = receipt.before_record as usize;
        // Receipts before the same record follow each other; the first begins where the record before it ended.
        if record > before {
            at = records[record - 1].1;
            before = record;
        }
        let range = at..at + receipt.len;
        at = range.end;
        (range, *receipt)
    });
    placed.collect()
}

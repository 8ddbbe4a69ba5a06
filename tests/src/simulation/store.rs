//! What a transactional sink keeps: rows, applied ranges and cursor change together, and a crash takes back what was not
//! flushed. It decides what is a duplicate as the real sinks do, by the ranges that are applied.

use std::collections::BTreeMap;
use std::ops::Range;

use edgelogger_common::block::batch::{self, BatchLimits};
use edgelogger_common::block::{Block, BlockView, RowSelection, select_unapplied};
use edgelogger_common::codec::Decompressor;
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::segment::ReadItem;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{LogEntry, log_entry};
use prost::Message;

use super::collector::Collector;
use super::{Failure, LogFile};

/// Rows of one stream.
#[derive(Debug, Clone, Default)]
struct Stream {
    file: usize,
    applied: RangeSet,
    /// By position: the end of the row.
    rows: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Default)]
struct State {
    cursor: u64,
    streams: BTreeMap<StreamId, Stream>,
}

/// What is in memory, and what would be left after a crash.
#[derive(Debug, Clone, Default)]
pub struct Store {
    now: State,
    durable: State,
}

impl Store {
    /// The durable cursor: the next entry to read after a crash.
    pub fn cursor(&self) -> u64 {
        self.durable.cursor
    }

    /// The cursor in memory.
    pub fn cursor_now(&self) -> u64 {
        self.now.cursor
    }

    pub fn flush(&mut self) {
        self.durable = self.now.clone();
    }

    pub fn crash(&mut self) {
        self.now = self.durable.clone();
    }

    /// Is this range applied?
    pub fn has(&self, stream_id: StreamId, range: &Range<u64>) -> bool {
        let stream = self.now.streams.get(&stream_id);
        stream.is_some_and(|stream| stream.applied.covers(range.clone()))
    }

    /// Everything that is durable in the log.
    pub fn apply_all(&mut self, collector: &Collector, files: &[LogFile]) -> Result<(), Failure> {
        self.apply(collector, files, usize::MAX)
    }

    /// At most so many entries of the log.
    pub fn apply(&mut self, collector: &Collector, files: &[LogFile], most: usize) -> Result<(), Failure> {
        let mut reader = collector.reader(self.now.cursor)?;
        for _ in 0..most {
            match reader.next() {
                Ok(Some(ReadItem::Frame(frame))) => {
                    self.entry(&frame.payload, files)?;
                    self.now.cursor = frame.sequence + 1;
                }
                // Never durable: a power cut kept a later frame of the same sync. What was promised is checked apart.
                Ok(Some(ReadItem::Damaged { to_sequence, .. })) => self.now.cursor = to_sequence,
                Ok(Some(ReadItem::Dropped { to_sequence, .. })) => {
                    return Err(format!(
                        "entries before {to_sequence} were dropped and not applied"
                    ));
                }
                Ok(None) => return Ok(()),
                // The disk; it is tried again.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn entry(&mut self, payload: &[u8], files: &[LogFile]) -> Result<(), Failure> {
        let entry = LogEntry::decode(payload).map_err(|error| error.to_string())?;
        for descriptor in &entry.streams {
            let id = StreamId::try_from(descriptor.stream_id.as_ref()).map_err(|error| error.to_string())?;
            let file = descriptor
                .name
                .parse()
                .map_err(|_| "a stream of no file".to_owned())?;
            self.now.streams.entry(id).or_default().file = file;
        }
        let Some(log_entry::Body::Batch(batch)) = entry.body else {
            return Ok(());
        };
        let blocks = batch::open(&batch, &BatchLimits::default(), &mut Decompressor::new())
            .map_err(|error| format!("a batch of the log does not open: {error}"))?;
        blocks.iter().try_for_each(|block| self.block(block, files))
    }

    fn block(&mut self, block: &Block, files: &[LogFile]) -> Result<(), Failure> {
        let BlockView::Log(view) = block.view().map_err(|error| error.to_string())? else {
            return Err("a block that nobody sent".to_owned());
        };
        let stream = self
            .now
            .streams
            .get_mut(&block.header.stream_id)
            .ok_or("a block of a stream that the entry does not describe")?;
        let applied: Vec<Range<u64>> = stream.applied.iter().collect();
        let is_kept: Box<dyn Fn(usize) -> bool> =
            match select_unapplied(view.ranges(), block.header.range(), &applied) {
                RowSelection::All => Box::new(|_| true),
                RowSelection::Some { keep, overlaps } if overlaps.is_empty() => {
                    Box::new(move |row| keep.iter().any(|range| range.contains(&row)))
                }
                RowSelection::Some { overlaps, .. } => return Err(format!("rows overlap: {overlaps:?}")),
            };
        let content = &files[stream.file].content;
        for (index, (start, end)) in view.ranges().enumerate() {
            if !is_kept(index) {
                continue;
            }
            let (from, to) = (usize::try_from(start), usize::try_from(end));
            let (Ok(from), Ok(to)) = (from, to) else {
                return Err("a position beyond memory".to_owned());
            };
            let line = content.get(from..to).ok_or("a row behind the end of its file")?;
            if line.strip_suffix(b"\n") != Some(view.body.get(index)) {
                return Err(format!("the row at {start} is not what the file holds there"));
            }
            if stream.rows.insert(start, end).is_some() {
                return Err(format!("the row at {start} is there twice"));
            }
        }
        stream
            .applied
            .insert(block.header.range())
            .map_err(|_| "too many ranges".to_owned())?;
        Ok(())
    }

    /// Bytes of rows.
    pub fn bytes(&self) -> u64 {
        let rows = self.now.streams.values().flat_map(|stream| &stream.rows);
        rows.map(|(start, end)| end - start).sum()
    }

    /// Every file is there, in one stream, from its first byte to its last.
    pub fn equals(&self, files: &[LogFile]) -> Result<(), Failure> {
        for (index, file) in files.iter().enumerate() {
            let len = file.content.len() as u64;
            let streams: Vec<&Stream> = self
                .now
                .streams
                .values()
                .filter(|stream| stream.file == index && !stream.rows.is_empty())
                .collect();
            if len == 0 && streams.is_empty() {
                continue;
            }
            let [stream] = streams[..] else {
                return Err(format!("file {index} is in {} streams", streams.len()));
            };
            let mut at = 0;
            for (start, end) in &stream.rows {
                if *start != at {
                    return Err(format!("file {index}: a row at {start} where {at} was expected"));
                }
                at = *end;
            }
            if at != len {
                return Err(format!("file {index} has {len} bytes, {at} are stored"));
            }
        }
        Ok(())
    }
}

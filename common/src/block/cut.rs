//! Cutting and merging blocks at record boundaries, and what is left of a block that is partly applied.
//!
//! **Straddle rule.** A record is applied already only when its whole range is. One that straddles the edge of what
//! is applied is kept, whole, and flagged `overlaps`: rather a visible overlap than a lost byte.

use std::ops::Range;

use crate::crc;

use super::{
    Block, BlockError, BlockHeader, BlockView, ColumnId, Encoding, Histogram, LogBlockBuilder, LogRow,
    LogView, MetricBlockBuilder, MetricRow, MetricView, Receipt, Summary,
};

/// Which records of a block are still to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowSelection {
    /// Every record, none overlapping: the normal case.
    All,
    /// These records, ascending; `overlaps` are those among them that straddle what is applied.
    Some {
        /// Half-open ranges of record indices.
        keep: Vec<Range<usize>>,
        /// Record indices.
        overlaps: Vec<usize>,
    },
}

/// Compares the ranges of a block's records with what is `applied`: half-open ranges, ascending, disjoint.
#[must_use]
pub fn select_unapplied(
    records: impl Iterator<Item = (u64, u64)>,
    block: Range<u64>,
    applied: &[Range<u64>],
) -> RowSelection {
    let near = applied.partition_point(|range| range.end <= block.start);
    let mut applied = &applied[near..];
    if applied.first().is_none_or(|range| range.start >= block.end) {
        return RowSelection::All;
    }
    let mut keep: Vec<Range<usize>> = Vec::new();
    let mut overlaps = Vec::new();
    for (index, (start, end)) in records.enumerate() {
        while applied.first().is_some_and(|range| range.end <= start) {
            applied = &applied[1..];
        }
        let first = applied.first();
        if first.is_some_and(|range| range.start <= start && end <= range.end) {
            continue;
        }
        if first.is_some_and(|range| range.start < end) {
            overlaps.push(index);
        }
        match keep.last_mut() {
            Some(last) if last.end == index => last.end = index + 1,
            _ => keep.push(index..index + 1),
        }
    }
    RowSelection::Some { keep, overlaps }
}

impl LogView {
    /// A record as a row.
    ///
    /// # Panics
    /// When `index` is not below the record count.
    #[must_use]
    pub fn row(&self, index: usize, (start, end): (u64, u64)) -> LogRow {
        let row = u32::try_from(index).unwrap_or(u32::MAX);
        LogRow {
            event_time: self.event_time.as_ref().and_then(|times| times.get(index)),
            observed_time: self.observed_time.value(index),
            severity: self.severity.as_ref().and_then(|numbers| numbers.get(index)),
            body: self.body.get(index).to_vec(),
            attributes: self
                .attributes
                .of_row(row)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            trace_id: self.trace_id.as_ref().and_then(|ids| ids.get(index).copied()),
            span_id: self.span_id.as_ref().and_then(|ids| ids.get(index).copied()),
            source_len: end - start,
            flags: self.flags(index),
        }
    }

    /// All records as rows.
    pub fn rows(&self) -> impl Iterator<Item = LogRow> {
        self.ranges()
            .enumerate()
            .map(|(index, range)| self.row(index, range))
    }
}

impl MetricView {
    /// A sample as a row.
    ///
    /// # Panics
    /// When `index` is not below the record count.
    #[must_use]
    pub fn row(&self, index: usize, (start, end): (u64, u64)) -> MetricRow {
        let row = u32::try_from(index).unwrap_or(u32::MAX);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let list = |lists: Option<&super::ListColumn<f64>>| {
            lists.map_or(Vec::new(), |lists| lists.get(index).to_vec())
        };
        MetricRow {
            event_time: self.event_time.as_ref().and_then(|times| times.get(index)),
            observed_time: self.observed_time.value(index),
            name: text(self.name.get(index)),
            unit: self
                .unit
                .as_ref()
                .map_or_else(String::new, |units| text(units.get(index))),
            kind: self.kind(index),
            temporality: self.temporality(index),
            start_time: self.start_time.as_ref().and_then(|times| times.get(index)),
            labels: self
                .labels
                .of_row(row)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            value: self.value.as_ref().and_then(|values| values.get(index)),
            quality: self.quality(index),
            count: self.count.as_ref().and_then(|counts| counts.get(index)),
            sum: self.sum.as_ref().and_then(|sums| sums.get(index)),
            histogram: Histogram {
                bounds: list(self.bucket_bounds.as_ref()),
                counts: self
                    .bucket_counts
                    .as_ref()
                    .map_or(Vec::new(), |lists| lists.get(index).to_vec()),
            },
            summary: Summary {
                quantiles: list(self.quantiles.as_ref()),
                values: list(self.quantile_values.as_ref()),
            },
            source_len: end - start,
        }
    }

    /// All samples as rows.
    pub fn rows(&self) -> impl Iterator<Item = MetricRow> {
        self.ranges()
            .enumerate()
            .map(|(index, range)| self.row(index, range))
    }
}

/// Records and receipts in order of position.
enum Item<R> {
    Record(R),
    Receipt(Receipt),
}

fn in_order<R>(rows: impl Iterator<Item = R>, receipts: &[Receipt]) -> Vec<Item<R>> {
    let mut receipts = receipts.iter().copied().peekable();
    let mut items = Vec::new();
    for (index, row) in rows.enumerate() {
        while let Some(receipt) = receipts.next_if(|receipt| receipt.before_record as usize <= index) {
            items.push(Item::Receipt(receipt));
        }
        items.push(Item::Record(row));
    }
    items.extend(receipts.map(Item::Receipt));
    items
}

impl Block {
    /// Cuts in two before record `at_record`. Receipts just before it stay with the first part. The parts of plain
    /// lines get their own source CRC; other parts have none, because what the CRC was taken of is gone.
    ///
    /// # Errors
    /// The block does not decode, is a receipt, or has no boundary there.
    pub fn cut(&self, at_record: u32) -> Result<(Self, Self), BlockError> {
        if at_record == 0 || at_record >= self.header.record_count {
            return Err(BlockError::CannotCombine("there is no record boundary to cut at"));
        }
        match self.view()? {
            BlockView::Log(view) if self.is_plain_lines() => Ok(self.cut_lines(&view, at_record)),
            BlockView::Log(view) => {
                let items = in_order(view.rows(), view.receipts());
                cut_items(items, at_record, self.header.start, |start| {
                    self.log_builder(start)
                })
            }
            BlockView::Metric(view) => {
                let items = in_order(view.rows(), view.receipts());
                cut_items(items, at_record, self.header.start, |start| {
                    MetricBlockBuilder::new(self.header.stream_id, start)
                })
            }
            BlockView::Receipt(..) => Err(BlockError::CannotCombine("a receipt has no record to cut at")),
        }
    }

    /// One block of two neighbours of the same stream and kind.
    ///
    /// # Errors
    /// They are not neighbours, do not decode, or together have too many records.
    pub fn merge(&self, next: &Self) -> Result<Self, BlockError> {
        let (left, right) = (&self.header, &next.header);
        let neighbours = left.stream_id == right.stream_id
            && left.kind == right.kind
            && left.counts_records == right.counts_records
            && left.end == right.start;
        if !neighbours {
            return Err(BlockError::CannotCombine(
                "the blocks are not neighbours of one stream and kind",
            ));
        }
        match (self.view()?, next.view()?) {
            (BlockView::Log(first), BlockView::Log(second)) => {
                let mut builder = self.log_builder(left.start);
                builder.push_all(in_order(first.rows(), first.receipts()));
                builder.push_all(in_order(second.rows(), second.receipts()));
                builder.set_source_crc32c(combined_crc(left, right));
                builder.finish()
            }
            (BlockView::Metric(first), BlockView::Metric(second)) => {
                let mut builder = MetricBlockBuilder::new(left.stream_id, left.start);
                builder.push_all(in_order(first.rows(), first.receipts()));
                builder.push_all(in_order(second.rows(), second.receipts()));
                builder.finish()
            }
            _ => Err(BlockError::CannotCombine("receipts stay apart")),
        }
    }

    const fn log_builder(&self, start: u64) -> LogBlockBuilder {
        LogBlockBuilder::new(self.header.stream_id, self.header.counts_records, start)
    }

    /// Nothing but an observed time and the lines as they were read?
    pub(super) fn is_plain_lines(&self) -> bool {
        !self.header.counts_records
            && self.columns.len() == 2
            && self
                .column(ColumnId::OBSERVED_TIME)
                .is_some_and(|column| column.encoding == Encoding::Constant)
            && self
                .column(ColumnId::BODY)
                .is_some_and(|column| column.encoding == Encoding::Lines)
    }

    fn cut_lines(&self, view: &LogView, at_record: u32) -> (Self, Self) {
        let at = view
            .ranges()
            .nth(at_record as usize)
            .map_or(self.header.end, |(start, _)| start);
        let split = usize::try_from(at - self.header.start).unwrap_or(usize::MAX);
        let lines = &self.column(ColumnId::BODY).expect("plain lines have a body").data;
        let observed = view.observed_time.value(0);
        let part = |start, lines: bytes::Bytes, count| {
            let crc = crc32c::crc32c(&lines);
            Self::from_lines(self.header.stream_id, start, lines, count, crc, observed)
        };
        let second_count = self.header.record_count - at_record;
        (
            part(self.header.start, lines.slice(..split), at_record),
            part(at, lines.slice(split..), second_count),
        )
    }
}

fn combined_crc(left: &BlockHeader, right: &BlockHeader) -> Option<u32> {
    let len = right.end - right.start;
    Some(crc::combine(left.source_crc32c?, right.source_crc32c?, len))
}

/// What both builders do, for the code here that serves both.
trait Builder<R>: Sized {
    fn push_record(&mut self, row: R);
    fn receipt(&mut self, receipt: &Receipt);
    fn position(&self) -> u64;
    fn build(self) -> Result<Block, BlockError>;

    fn push_all(&mut self, items: Vec<Item<R>>) {
        for item in items {
            match item {
                Item::Record(row) => self.push_record(row),
                Item::Receipt(receipt) => self.receipt(&receipt),
            }
        }
    }
}

macro_rules! builder {
    ($builder:ty, $row:ty) => {
        impl Builder<$row> for $builder {
            fn push_record(&mut self, row: $row) {
                self.push(row);
            }

            fn receipt(&mut self, receipt: &Receipt) {
                self.push_receipt(receipt.len, receipt.reason, receipt.count, receipt.exact);
            }

            fn position(&self) -> u64 {
                self.end()
            }

            fn build(self) -> Result<Block, BlockError> {
                self.finish()
            }
        }
    };
}

builder!(LogBlockBuilder, LogRow);
builder!(MetricBlockBuilder, MetricRow);

fn cut_items<R, B: Builder<R>>(
    items: Vec<Item<R>>,
    at_record: u32,
    start: u64,
    new: impl Fn(u64) -> B,
) -> Result<(Block, Block), BlockError> {
    let mut first = items;
    let mut records = 0;
    let at = first
        .iter()
        .position(|item| {
            let here = matches!(item, Item::Record(_)) && records == at_record;
            records += u32::from(matches!(item, Item::Record(_)));
            here
        })
        .unwrap_or(first.len());
    let second = first.split_off(at);
    let mut left = new(start);
    left.push_all(first);
    let mut right = new(left.position());
    right.push_all(second);
    Ok((left.build()?, right.build()?))
}

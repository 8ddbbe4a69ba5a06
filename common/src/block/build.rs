//! Rows to columns: for sources whose records do not come as lines of a file, and for cutting and merging.

use super::{
    Block, BlockError, BlockHeader, BlockKind, BytesColumn, Column, ColumnId, F64Column, FixedColumn,
    I64Column, ListColumn, LogRow, MetricKind, MetricRow, POSITION_MAX, Quality, RECORDS_MAX, Receipt,
    ReceiptReason, Temporality, U8Column, Value, receipt,
};
use crate::stream::StreamId;

/// The range, the receipts and the source lengths, which all kinds share.
#[derive(Debug)]
struct Span {
    stream_id: StreamId,
    counts_records: bool,
    start: u64,
    end: u64,
    source_crc32c: Option<u32>,
    extras: Vec<i64>,
    receipts: Vec<Receipt>,
}

impl Span {
    const fn new(stream_id: StreamId, counts_records: bool, start: u64) -> Self {
        Self {
            stream_id,
            counts_records,
            start,
            end: start,
            source_crc32c: None,
            extras: Vec::new(),
            receipts: Vec::new(),
        }
    }

    fn push_record(&mut self, body_len: usize, source_len: u64) {
        assert!(source_len > 0, "a record uses at least one position");
        let body_len = if self.counts_records { 0 } else { body_len as u64 };
        self.extras.push(source_len.wrapping_sub(body_len).cast_signed());
        self.end = self.end.saturating_add(source_len);
    }

    fn push_receipt(&mut self, len: u64, reason: ReceiptReason, count: u64, exact: bool) {
        assert!(len > 0, "a receipt covers at least one position");
        self.end = self.end.saturating_add(len);
        let before_record = u32::try_from(self.extras.len()).unwrap_or(u32::MAX);
        match self.receipts.last_mut() {
            Some(last) if last.before_record == before_record && last.reason == reason => {
                last.len += len;
                last.count += count;
                last.exact &= exact;
            }
            _ => self.receipts.push(Receipt {
                before_record,
                len,
                reason,
                count,
                exact,
            }),
        }
    }

    fn finish(self, kind: BlockKind, mut columns: Vec<Column>) -> Result<Block, BlockError> {
        let record_count = u32::try_from(self.extras.len())
            .ok()
            .filter(|count| *count <= RECORDS_MAX)
            .ok_or(BlockError::Limit {
                what: "the number of records",
                found: self.extras.len() as u64,
                limit: u64::from(RECORDS_MAX),
            })?;
        if self.start >= self.end || self.end > POSITION_MAX {
            return Err(BlockError::Range {
                start: self.start,
                end: self.end,
            });
        }
        if self.extras.iter().any(|extra| *extra != 1) {
            let extras: Vec<_> = self.extras.into_iter().map(Some).collect();
            columns.extend(I64Column::encode(ColumnId::SOURCE_LEN, &extras));
        }
        if !self.receipts.is_empty() {
            columns.push(receipt::encode(&self.receipts));
        }
        columns.sort_by_key(|column| column.id);
        let header = BlockHeader {
            kind,
            counts_records: self.counts_records,
            stream_id: self.stream_id,
            start: self.start,
            end: self.end,
            record_count,
            source_crc32c: self.source_crc32c,
        };
        Ok(Block { header, columns })
    }
}

macro_rules! builder_common {
    () => {
        /// Records so far.
        #[must_use]
        pub const fn len(&self) -> usize {
            self.rows.len()
        }

        /// Neither a record nor a receipt so far?
        #[must_use]
        pub const fn is_empty(&self) -> bool {
            self.span.start == self.span.end
        }

        /// Position after the last record or receipt.
        #[must_use]
        pub const fn end(&self) -> u64 {
            self.span.end
        }

        /// Adds a range without a record. Neighbours with the same reason become one.
        ///
        /// # Panics
        /// When `len` is 0.
        pub fn push_receipt(&mut self, len: u64, reason: ReceiptReason, count: u64, exact: bool) {
            self.span.push_receipt(len, reason, count, exact);
        }
    };
}

/// Builds a log block row by row.
#[derive(Debug)]
pub struct LogBlockBuilder {
    span: Span,
    rows: Vec<LogRow>,
}

impl LogBlockBuilder {
    /// A block of `stream_id` from position `start`. `counts_records`: positions count records, not bytes.
    #[must_use]
    pub const fn new(stream_id: StreamId, counts_records: bool, start: u64) -> Self {
        Self {
            span: Span::new(stream_id, counts_records, start),
            rows: Vec::new(),
        }
    }

    builder_common!();

    /// Adds a record behind the last.
    ///
    /// # Panics
    /// When its `source_len` is 0.
    pub fn push(&mut self, row: LogRow) {
        self.span.push_record(row.body.len(), row.source_len);
        self.rows.push(row);
    }

    /// Sets the CRC32C of the source bytes of the whole range.
    pub const fn set_source_crc32c(&mut self, crc: Option<u32>) {
        self.span.source_crc32c = crc;
    }

    /// The block.
    ///
    /// # Errors
    /// Nothing was pushed, or more than [`RECORDS_MAX`] records.
    pub fn finish(self) -> Result<Block, BlockError> {
        let rows = &self.rows;
        let each = |value: fn(&LogRow) -> Option<i64>| rows.iter().map(value).collect::<Vec<_>>();
        let mut columns = Vec::new();
        columns.extend(I64Column::encode(
            ColumnId::EVENT_TIME,
            &each(|row| row.event_time),
        ));
        columns.push(observed_times(&each(|row| Some(row.observed_time))));
        columns.extend(U8Column::encode(
            ColumnId::SEVERITY,
            &rows.iter().map(|row| row.severity).collect::<Vec<_>>(),
        ));
        let bodies: Vec<&[u8]> = rows.iter().map(|row| row.body.as_slice()).collect();
        columns.push(BytesColumn::encode_bodies(ColumnId::BODY, &bodies));
        columns.extend(attributes(rows.iter().map(|row| &row.attributes)));
        columns.extend(FixedColumn::encode(
            ColumnId::TRACE_ID,
            &rows.iter().map(|row| row.trace_id).collect::<Vec<_>>(),
        ));
        columns.extend(FixedColumn::encode(
            ColumnId::SPAN_ID,
            &rows.iter().map(|row| row.span_id).collect::<Vec<_>>(),
        ));
        columns.extend(bytes_unless_zero(
            ColumnId::RECORD_FLAGS,
            rows.iter().map(|row| row.flags.0),
        ));
        self.span.finish(BlockKind::Log, columns)
    }
}

/// Builds a metric block sample by sample.
#[derive(Debug)]
pub struct MetricBlockBuilder {
    span: Span,
    rows: Vec<MetricRow>,
}

impl MetricBlockBuilder {
    /// A block of `stream_id` from position `start`; positions count samples.
    #[must_use]
    pub const fn new(stream_id: StreamId, start: u64) -> Self {
        Self {
            span: Span::new(stream_id, true, start),
            rows: Vec::new(),
        }
    }

    builder_common!();

    /// Adds a sample behind the last.
    ///
    /// # Panics
    /// When its `source_len` is 0.
    pub fn push(&mut self, row: MetricRow) {
        self.span.push_record(0, row.source_len);
        self.rows.push(row);
    }

    /// The block.
    ///
    /// # Errors
    /// Nothing was pushed, or more than [`RECORDS_MAX`] samples.
    pub fn finish(self) -> Result<Block, BlockError> {
        let rows = &self.rows;
        let times = |value: fn(&MetricRow) -> Option<i64>| rows.iter().map(value).collect::<Vec<_>>();
        let numbers = |value: fn(&MetricRow) -> Option<f64>| rows.iter().map(value).collect::<Vec<_>>();
        let lists = |value: fn(&MetricRow) -> &[f64]| rows.iter().map(value).collect::<Vec<_>>();
        let mut columns = Vec::new();
        columns.extend(I64Column::encode(
            ColumnId::EVENT_TIME,
            &times(|row| row.event_time),
        ));
        columns.push(observed_times(&times(|row| Some(row.observed_time))));
        columns.extend(attributes(rows.iter().map(|row| &row.labels)));
        columns.push(strings(
            ColumnId::METRIC_NAME,
            rows.iter().map(|row| row.name.as_bytes()),
        ));
        if rows.iter().any(|row| !row.unit.is_empty()) {
            columns.push(strings(
                ColumnId::UNIT,
                rows.iter().map(|row| row.unit.as_bytes()),
            ));
        }
        let kinds: Vec<_> = rows.iter().map(|row| Some(row.kind as u8)).collect();
        columns.push(
            U8Column::encode(ColumnId::METRIC_KIND, &kinds).unwrap_or_else(|| {
                Column::new(
                    ColumnId::METRIC_KIND,
                    super::ColumnType::U8,
                    super::Encoding::Constant,
                    vec![MetricKind::Gauge as u8],
                )
            }),
        );
        columns.extend(bytes_unless_zero(
            ColumnId::TEMPORALITY,
            rows.iter().map(|row| row.temporality as u8),
        ));
        columns.extend(I64Column::encode(
            ColumnId::START_TIME,
            &times(|row| row.start_time),
        ));
        columns.extend(F64Column::encode(ColumnId::VALUE, &numbers(|row| row.value)));
        columns.extend(bytes_unless_zero(
            ColumnId::QUALITY,
            rows.iter().map(|row| row.quality as u8),
        ));
        columns.extend(I64Column::encode(ColumnId::COUNT, &times(|row| row.count)));
        columns.extend(F64Column::encode(ColumnId::SUM, &numbers(|row| row.sum)));
        columns.extend(ListColumn::<f64>::encode(
            ColumnId::BUCKET_BOUNDS,
            &lists(|row| &row.histogram.bounds),
        ));
        let counts: Vec<&[i64]> = rows.iter().map(|row| row.histogram.counts.as_slice()).collect();
        columns.extend(ListColumn::<i64>::encode(ColumnId::BUCKET_COUNTS, &counts));
        columns.extend(ListColumn::<f64>::encode(
            ColumnId::QUANTILES,
            &lists(|row| &row.summary.quantiles),
        ));
        columns.extend(ListColumn::<f64>::encode(
            ColumnId::QUANTILE_VALUES,
            &lists(|row| &row.summary.values),
        ));
        self.span.finish(BlockKind::Metric, columns)
    }
}

/// Every block has this column, also one that holds receipts only.
fn observed_times(values: &[Option<i64>]) -> Column {
    I64Column::encode(ColumnId::OBSERVED_TIME, values)
        .unwrap_or_else(|| Column::constant_i64(ColumnId::OBSERVED_TIME, 0))
}

fn attributes<'a>(rows: impl Iterator<Item = &'a Vec<(String, Value)>>) -> Option<Column> {
    super::Attributes::encode(&rows.map(Vec::as_slice).collect::<Vec<_>>())
}

fn strings<'a>(id: ColumnId, values: impl Iterator<Item = &'a [u8]>) -> Column {
    BytesColumn::encode_repeating(id, &values.collect::<Vec<_>>())
}

fn bytes_unless_zero(id: ColumnId, values: impl Iterator<Item = u8>) -> Option<Column> {
    let values: Vec<_> = values.map(Some).collect();
    if values.iter().all(|value| *value == Some(0)) {
        return None;
    }
    U8Column::encode(id, &values)
}

const _: () = {
    assert!(
        Temporality::Unspecified as u8 == 0 && Quality::Good as u8 == 0,
        "absent columns read as 0"
    );
};

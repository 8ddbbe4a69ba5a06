//! A block decoded and checked. What holds a view may trust it.

use super::attributes::utf8;
use super::{
    Attributes, Block, BlockError, BlockHeader, BlockKind, BytesColumn, Column, ColumnId, F64Column,
    FixedColumn, I64Column, ListColumn, MetricKind, POSITION_MAX, Quality, Receipt, RecordFlags, Temporality,
    U8Column, receipt,
};

/// Severity numbers of OpenTelemetry.
const SEVERITIES: std::ops::RangeInclusive<u8> = 1..=24;

/// A decoded block.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one lives on the stack at a time")]
pub enum BlockView {
    /// Log records.
    Log(LogView),
    /// Metric samples.
    Metric(MetricView),
    /// A range without a record.
    Receipt(BlockHeader, Vec<Receipt>),
}

impl BlockView {
    pub(super) fn decode(block: &Block) -> Result<Self, BlockError> {
        let header = &block.header;
        match header.kind {
            BlockKind::Log => Ok(Self::Log(LogView::decode(block)?)),
            BlockKind::Metric => Ok(Self::Metric(MetricView::decode(block)?)),
            BlockKind::Receipt => {
                if header.record_count > 0 {
                    return Err(BlockError::Limit {
                        what: "the number of records of a receipt",
                        found: u64::from(header.record_count),
                        limit: 0,
                    });
                }
                let receipts = receipts(block)?;
                check_partition(header, receipts_len(&receipts)?)?;
                Ok(Self::Receipt(header.clone(), receipts))
            }
        }
    }

    /// The receipts within the block's range.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        match self {
            Self::Log(view) => &view.span.receipts,
            Self::Metric(view) => &view.span.receipts,
            Self::Receipt(_, receipts) => receipts,
        }
    }
}

/// Where each record of a block lies in its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    start: u64,
    /// What a record used beyond its body's length (or beyond 0 where positions count records).
    extra: Extra,
    /// In order of position.
    receipts: Vec<Receipt>,
}

#[derive(Debug, Clone, PartialEq)]
enum Extra {
    /// The same for each record.
    Each(i64),
    Column(I64Column),
}

impl Span {
    fn decode(block: &Block) -> Result<Self, BlockError> {
        let header = &block.header;
        let extra = match block.column(ColumnId::SOURCE_LEN) {
            None => Extra::Each(1),
            Some(column) => Extra::Column(complete_i64(column, header.record_count as usize)?),
        };
        Ok(Self {
            start: header.start,
            extra,
            receipts: receipts(block)?,
        })
    }

    /// Half-open ranges of positions of all records in order, given the lengths of their bodies (zeroes where
    /// positions count records).
    fn ranges<'a>(
        &'a self,
        body_lens: impl Iterator<Item = u64> + 'a,
    ) -> impl Iterator<Item = (u64, u64)> + 'a {
        let mut at = self.start;
        let mut receipts = self.receipts.iter().peekable();
        body_lens.enumerate().map(move |(row, body_len)| {
            while let Some(receipt) = receipts.next_if(|receipt| receipt.before_record as usize <= row) {
                at = at.saturating_add(receipt.len);
            }
            let extra = match &self.extra {
                Extra::Each(extra) => *extra,
                Extra::Column(column) => column.value(row),
            };
            let start = at;
            at = at.saturating_add(body_len.saturating_add_signed(extra));
            (start, at)
        })
    }

    /// Do records and receipts cover the range exactly, each at least one position?
    fn check(&self, header: &BlockHeader, body_lens: impl Iterator<Item = u64>) -> Result<(), BlockError> {
        let mut covered = receipts_len(&self.receipts)?;
        for (start, end) in self.ranges(body_lens) {
            if end <= start {
                return Err(BlockError::Column {
                    column: ColumnId::SOURCE_LEN,
                    problem: "a record that used no position",
                });
            }
            covered = covered.saturating_add(end - start);
        }
        check_partition(header, covered)
    }

    fn is_plain(&self) -> bool {
        self.receipts.is_empty() && self.extra == Extra::Each(1)
    }
}

fn receipts_len(receipts: &[Receipt]) -> Result<u64, BlockError> {
    let sum = receipts
        .iter()
        .try_fold(0u64, |sum, receipt| sum.checked_add(receipt.len));
    sum.filter(|sum| *sum <= POSITION_MAX)
        .ok_or(BlockError::Partition {
            covered: u64::MAX,
            expected: 0,
        })
}

const fn check_partition(header: &BlockHeader, covered: u64) -> Result<(), BlockError> {
    let expected = header.end - header.start;
    if covered == expected {
        Ok(())
    } else {
        Err(BlockError::Partition { covered, expected })
    }
}

pub(super) fn receipts(block: &Block) -> Result<Vec<Receipt>, BlockError> {
    match block.column(ColumnId::RECEIPTS) {
        Some(column) => receipt::decode(column, block.header.record_count),
        None => Ok(Vec::new()),
    }
}

fn complete_i64(column: &Column, records: usize) -> Result<I64Column, BlockError> {
    let values = I64Column::decode(column, records)?;
    if values.is_complete() {
        Ok(values)
    } else {
        Err(column.error("can't be null"))
    }
}

/// Decodes an optional column.
fn optional<T>(
    block: &Block,
    id: ColumnId,
    decode: impl FnOnce(&Column, usize) -> Result<T, BlockError>,
) -> Result<Option<T>, BlockError> {
    block
        .column(id)
        .map(|column| decode(column, block.header.record_count as usize))
        .transpose()
}

fn required<T>(
    block: &Block,
    id: ColumnId,
    decode: impl FnOnce(&Column, usize) -> Result<T, BlockError>,
) -> Result<T, BlockError> {
    optional(block, id, decode)?.ok_or(BlockError::Missing(id))
}

/// A byte column whose values must each satisfy `allowed`.
fn enumerated(
    block: &Block,
    id: ColumnId,
    allowed: impl Fn(u8) -> bool,
) -> Result<Option<U8Column>, BlockError> {
    optional(block, id, |column, records| {
        let values = U8Column::decode(column, records)?;
        values.check(column, allowed)?;
        Ok(values)
    })
}

fn text(column: &Column, records: usize) -> Result<BytesColumn, BlockError> {
    utf8(column, BytesColumn::decode(column, records)?)
}

fn attributes(block: &Block) -> Result<Attributes, BlockError> {
    let records = block.header.record_count;
    Ok(optional(block, ColumnId::ATTRIBUTES, |column, _| {
        Attributes::decode(column, records)
    })?
    .unwrap_or_default())
}

/// A decoded block of log records.
#[derive(Debug, Clone, PartialEq)]
pub struct LogView {
    /// The block's fixed fields.
    pub header: BlockHeader,
    /// ns UTC.
    pub event_time: Option<I64Column>,
    /// ns UTC; every record has one.
    pub observed_time: I64Column,
    /// 1-24.
    pub severity: Option<U8Column>,
    /// Text, as bytes; may hold anything.
    pub body: BytesColumn,
    /// Attributes.
    pub attributes: Attributes,
    /// Trace ids.
    pub trace_id: Option<FixedColumn<16>>,
    /// Span ids.
    pub span_id: Option<FixedColumn<8>>,
    flags: Option<U8Column>,
    span: Span,
}

impl LogView {
    fn decode(block: &Block) -> Result<Self, BlockError> {
        let view = Self {
            header: block.header.clone(),
            event_time: optional(block, ColumnId::EVENT_TIME, I64Column::decode)?,
            observed_time: required(block, ColumnId::OBSERVED_TIME, complete_i64)?,
            severity: enumerated(block, ColumnId::SEVERITY, |value| SEVERITIES.contains(&value))?,
            body: required(block, ColumnId::BODY, BytesColumn::decode)?,
            attributes: attributes(block)?,
            trace_id: optional(block, ColumnId::TRACE_ID, FixedColumn::decode)?,
            span_id: optional(block, ColumnId::SPAN_ID, FixedColumn::decode)?,
            flags: enumerated(block, ColumnId::RECORD_FLAGS, |flags| {
                flags & !RecordFlags::KNOWN == 0
            })?,
            span: Span::decode(block)?,
        };
        view.span.check(&view.header, view.body_lens())?;
        view.check_source_crc()?;
        Ok(view)
    }

    /// Number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.header.record_count as usize
    }

    /// Is there no record?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// What is special about a record.
    ///
    /// # Panics
    /// When `index` is not below the record count.
    #[must_use]
    pub fn flags(&self, index: usize) -> RecordFlags {
        RecordFlags(self.flags.as_ref().map_or(0, |flags| flags.value(index)))
    }

    /// Half-open range of positions of each record, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.span.ranges(self.body_lens())
    }

    /// Ranges without a record, in order.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        &self.span.receipts
    }

    fn body_lens(&self) -> impl Iterator<Item = u64> {
        let factor = u64::from(!self.header.counts_records);
        self.body.iter().map(move |body| body.len() as u64 * factor)
    }

    /// Where the bodies are the very bytes that were read, they must give the CRC that was taken then.
    fn check_source_crc(&self) -> Result<(), BlockError> {
        let (Some(expected), Some(lines)) = (self.header.source_crc32c, self.body.source_lines()) else {
            return Ok(());
        };
        // A record with flags was cut or had no line feed, so its line here is not what stood in the source, though it
        // may be as long (a line one byte over the limit, without a line feed).
        if self.header.counts_records || !self.span.is_plain() || self.flags.is_some() {
            return Ok(());
        }
        let found = crc32c::crc32c(lines);
        if found == expected {
            Ok(())
        } else {
            Err(BlockError::SourceCrc { expected, found })
        }
    }
}

/// A decoded block of metric samples.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricView {
    /// The block's fixed fields.
    pub header: BlockHeader,
    /// ns UTC.
    pub event_time: Option<I64Column>,
    /// ns UTC; every sample has one.
    pub observed_time: I64Column,
    /// UTF-8.
    pub name: BytesColumn,
    /// UTF-8.
    pub unit: Option<BytesColumn>,
    /// Labels.
    pub labels: Attributes,
    /// ns UTC.
    pub start_time: Option<I64Column>,
    /// Values of gauges and counters.
    pub value: Option<F64Column>,
    /// Observations of histograms and summaries.
    pub count: Option<I64Column>,
    /// Their sums.
    pub sum: Option<F64Column>,
    /// Histogram bounds, ascending.
    pub bucket_bounds: Option<ListColumn<f64>>,
    /// Histogram counts, one more than bounds.
    pub bucket_counts: Option<ListColumn<i64>>,
    /// Summary quantiles.
    pub quantiles: Option<ListColumn<f64>>,
    /// Their values.
    pub quantile_values: Option<ListColumn<f64>>,
    kind: U8Column,
    temporality: Option<U8Column>,
    quality: Option<U8Column>,
    span: Span,
}

impl MetricView {
    fn decode(block: &Block) -> Result<Self, BlockError> {
        let kind = enumerated(block, ColumnId::METRIC_KIND, |byte| {
            MetricKind::from_byte(byte).is_some()
        })?;
        let view = Self {
            header: block.header.clone(),
            event_time: optional(block, ColumnId::EVENT_TIME, I64Column::decode)?,
            observed_time: required(block, ColumnId::OBSERVED_TIME, complete_i64)?,
            name: required(block, ColumnId::METRIC_NAME, text)?,
            unit: optional(block, ColumnId::UNIT, text)?,
            labels: attributes(block)?,
            start_time: optional(block, ColumnId::START_TIME, I64Column::decode)?,
            value: optional(block, ColumnId::VALUE, F64Column::decode)?,
            count: optional(block, ColumnId::COUNT, I64Column::decode)?,
            sum: optional(block, ColumnId::SUM, F64Column::decode)?,
            bucket_bounds: optional(block, ColumnId::BUCKET_BOUNDS, ListColumn::<f64>::decode)?,
            bucket_counts: optional(block, ColumnId::BUCKET_COUNTS, ListColumn::<i64>::decode)?,
            quantiles: optional(block, ColumnId::QUANTILES, ListColumn::<f64>::decode)?,
            quantile_values: optional(block, ColumnId::QUANTILE_VALUES, ListColumn::<f64>::decode)?,
            kind: kind
                .filter(U8Column::is_complete)
                .ok_or(BlockError::Missing(ColumnId::METRIC_KIND))?,
            temporality: enumerated(block, ColumnId::TEMPORALITY, |byte| {
                Temporality::from_byte(byte).is_some()
            })?,
            quality: enumerated(block, ColumnId::QUALITY, |byte| {
                Quality::from_byte(byte).is_some()
            })?,
            span: Span::decode(block)?,
        };
        view.span.check(&view.header, view.body_lens())?;
        view.check_lists()?;
        Ok(view)
    }

    /// Number of samples.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.header.record_count as usize
    }

    /// Is there no sample?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// What the value means.
    ///
    /// # Panics
    /// When `index` is not below the record count; likewise the next two.
    #[must_use]
    pub fn kind(&self, index: usize) -> MetricKind {
        MetricKind::from_byte(self.kind.value(index)).unwrap_or_default()
    }

    /// Since when it counts.
    #[must_use]
    pub fn temporality(&self, index: usize) -> Temporality {
        let byte = self.temporality.as_ref().map_or(0, |values| values.value(index));
        Temporality::from_byte(byte).unwrap_or_default()
    }

    /// May it be trusted?
    #[must_use]
    pub fn quality(&self, index: usize) -> Quality {
        let byte = self.quality.as_ref().map_or(0, |values| values.value(index));
        Quality::from_byte(byte).unwrap_or_default()
    }

    /// Half-open range of positions of each sample, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.span.ranges(self.body_lens())
    }

    /// Ranges without a sample, in order.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        &self.span.receipts
    }

    fn body_lens(&self) -> impl Iterator<Item = u64> {
        std::iter::repeat_n(0, self.len())
    }

    fn check_lists(&self) -> Result<(), BlockError> {
        for index in 0..self.len() {
            let bounds = self
                .bucket_bounds
                .as_ref()
                .map_or(&[][..], |lists| lists.get(index));
            let counts = self
                .bucket_counts
                .as_ref()
                .map_or(&[][..], |lists| lists.get(index));
            let fits = if counts.is_empty() {
                bounds.is_empty()
            } else {
                counts.len() == bounds.len() + 1
            };
            if !fits {
                return Err(BlockError::Column {
                    column: ColumnId::BUCKET_COUNTS,
                    problem: "not one more count than bounds",
                });
            }
            let quantiles = self.quantiles.as_ref().map_or(0, |lists| lists.get(index).len());
            if quantiles
                != self
                    .quantile_values
                    .as_ref()
                    .map_or(0, |lists| lists.get(index).len())
            {
                return Err(BlockError::Column {
                    column: ColumnId::QUANTILE_VALUES,
                    problem: "not one value for each quantile",
                });
            }
        }
        Ok(())
    }
}

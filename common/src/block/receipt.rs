//! Receipts: the parts of a block's range that hold no record, and why.

use super::cursor::{Cursor, put_varint};
use super::{BlockError, Column, ColumnId, ColumnType, Encoding};

/// Why a range holds no record. Numbers are never used again for another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReceiptReason {
    /// Dropped by policy: a filter of the configuration.
    Filtered = 1,
    /// Dropped by policy: older than `ignore_older`, or before `start = "end"`.
    TooOld = 2,
    /// Dropped by policy: sampled away or over a rate limit.
    Sampled = 3,
    /// Lost: truncated before it was read.
    Truncated = 16,
    /// Lost: rotated or deleted before it was read.
    Rotated = 17,
    /// Lost: the source could not be read.
    Unreadable = 18,
    /// Lost: the queue was full.
    QueueFull = 19,
    /// Lost: the collector rejected it.
    Rejected = 20,
    /// Lost: in the crash of a process, from a source that can't be read again.
    Crashed = 21,
    /// Lost: damaged on the agent's disk.
    Damaged = 22,
    /// Closed by an operator for a dead machine.
    Operator = 23,
    /// Holds nothing to keep: padding, NUL bytes of a sparse file.
    Empty = 32,
}

impl ReceiptReason {
    const ALL: [Self; 12] = [
        Self::Filtered,
        Self::TooOld,
        Self::Sampled,
        Self::Truncated,
        Self::Rotated,
        Self::Unreadable,
        Self::QueueFull,
        Self::Rejected,
        Self::Crashed,
        Self::Damaged,
        Self::Operator,
        Self::Empty,
    ];

    /// Is it a loss, rather than a policy that somebody chose?
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self as u8, 16..=31)
    }

    /// The word shown to people and used in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::TooOld => "too_old",
            Self::Sampled => "sampled",
            Self::Truncated => "truncated",
            Self::Rotated => "rotated",
            Self::Unreadable => "unreadable",
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::Crashed => "crashed",
            Self::Damaged => "damaged",
            Self::Operator => "operator",
            Self::Empty => "empty",
        }
    }
}

impl TryFrom<u8> for ReceiptReason {
    type Error = BlockError;

    fn try_from(byte: u8) -> Result<Self, BlockError> {
        Self::ALL
            .into_iter()
            .find(|reason| *reason as u8 == byte)
            .ok_or(BlockError::Column {
                column: ColumnId::RECEIPTS,
                problem: "unknown reason",
            })
    }
}

/// One range without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// It comes before this record; the record count of the block where it is the last thing.
    pub before_record: u32,
    /// Positions it covers, at least 1.
    pub len: u64,
    /// Why.
    pub reason: ReceiptReason,
    /// Records it stood for, 0 where nobody knows.
    pub count: u64,
    /// `count` is exact; otherwise it is at least that.
    pub exact: bool,
}

/// varint before_record (difference to the entry before), varint len, u8 reason, varint count, u8 exact.
pub(super) fn encode(receipts: &[Receipt]) -> Column {
    let mut data = Vec::new();
    let mut before = 0;
    for receipt in receipts {
        put_varint(&mut data, u64::from(receipt.before_record - before));
        put_varint(&mut data, receipt.len);
        data.push(receipt.reason as u8);
        put_varint(&mut data, receipt.count);
        data.push(u8::from(receipt.exact));
        before = receipt.before_record;
    }
    Column::new(ColumnId::RECEIPTS, ColumnType::Receipts, Encoding::Plain, data)
}

pub(super) fn decode(column: &Column, records: u32) -> Result<Vec<Receipt>, BlockError> {
    column.expect_type(ColumnType::Receipts)?;
    if column.nullable || column.encoding != Encoding::Plain {
        return Err(column.error("encoding does not go with the type"));
    }
    let mut cursor = Cursor::new(&column.data, "a receipt");
    let mut receipts = Vec::new();
    let mut before = 0u64;
    while cursor.left() > 0 {
        before = before.saturating_add(cursor.varint()?);
        let before_record = u32::try_from(before)
            .ok()
            .filter(|at| *at <= records)
            .ok_or_else(|| column.error("receipt behind the last record"))?;
        let len = cursor.varint()?;
        let reason = ReceiptReason::try_from(cursor.u8()?)?;
        let count = cursor.varint()?;
        let exact = match cursor.u8()? {
            0 => false,
            1 => true,
            _ => return Err(column.error("exactness is neither 0 nor 1")),
        };
        if len == 0 {
            return Err(column.error("receipt for nothing"));
        }
        receipts.push(Receipt {
            before_record,
            len,
            reason,
            count,
            exact,
        });
    }
    if receipts.is_empty() {
        Err(column.error("no receipt"))
    } else {
        Ok(receipts)
    }
}

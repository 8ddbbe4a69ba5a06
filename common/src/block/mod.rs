//! Blocks: columns of records of one stream over one range of positions.
//!
//! A batch's payload is blocks one after another. A block is a fixed header and self-describing columns, so that
//! a reader skips a column it does not know. Little-endian throughout; `varint` is LEB128.
//!
//! ```text
//! offset size field
//!      0    4 block_len        bytes behind this field
//!      4    1 version          1
//!      5    1 kind             1 log, 2 metric, 3 receipt (BlockKind of the wire)
//!      6    2 flags            bit 0 source CRC present, bit 1 positions count records
//!      8   16 stream_id
//!     24    8 start            first position
//!     32    8 end              position after the last
//!     40    4 record_count
//!     44    4 source_crc32c    of the source bytes of [start, end), 0 where bit 0 is not set
//!     48    2 column_count
//!     50    2 reserved         0
//!     52      columns, ascending by id: id u16, type u8, encoding u8, len u32, len bytes
//! ```
//!
//! **The range is fully partitioned.** Records and receipts, in order, cover `[start, end)` without a gap: each
//! record its source length, each receipt its length. `source_len` says the lengths; it is absent where every
//! record used its body and one line feed (or, where positions count records, one).
//!
//! | file | idea |
//! | --- | --- |
//! | `header` | the 52 bytes |
//! | `column` | ids, types, encodings; numbers |
//! | `bytes_column` | bodies and names: lines, lengths, dictionary |
//! | `attributes` | typed sparse key/value columns |
//! | `receipt` | ranges without a record, and why |
//! | `view` | a whole block decoded and checked |
//! | `build` | rows to columns |
//! | `cut` | cut, merge, and what is left of a block that is partly applied |
//! | `lines` | many small blocks of plain lines to one |
//! | `batch` | a batch of the wire: build, check, open |
//!
//! Decoding allocates in proportion to the block's own length, never to what a field claims; what a constant
//! or a dictionary would expand to is limited by [`EXPANDED_BYTES_MAX`].

mod attributes;
pub mod batch;
mod build;
mod bytes_column;
mod column;
mod cursor;
mod cut;
mod error;
mod header;
mod lines;
mod receipt;
mod row;
#[cfg(test)]
mod tests;
mod view;

pub use attributes::{AttributeColumn, Attributes};
pub use build::{LogBlockBuilder, MetricBlockBuilder};
pub use bytes_column::BytesColumn;
pub use column::{
    Column, ColumnId, ColumnType, Encoding, F64Column, FixedColumn, I64Column, ListColumn, U8Column,
};
pub use cut::{RowSelection, select_unapplied};
pub use error::BlockError;
pub use header::{BlockHeader, BlockKind, HEADER_LEN};
pub use receipt::{Receipt, ReceiptReason};
pub use row::{Histogram, LogRow, MetricKind, MetricRow, Quality, RecordFlags, Summary, Temporality, Value};
pub use view::{BlockView, LogView, MetricView};

use bytes::{BufMut, Bytes};

/// The block version this build writes and reads.
pub const BLOCK_VERSION: u8 = 1;
/// Records in a block: one million and a bit, so that row numbers fit u32 with room and a block of one-byte lines
/// stays a few MiB when decoded. A builder cuts there; a reader refuses more.
pub const RECORDS_MAX: u32 = 1 << 20;
/// Columns in a block; v1 defines 23.
pub const COLUMNS_MAX: u16 = 64;
/// What all values of one byte column may come to when written out: a constant or dictionary repeats its values,
/// and this is what stops a small block from asking for a terabyte.
pub const EXPANDED_BYTES_MAX: u64 = 256 << 20;
/// Attribute keys in a block.
pub const ATTRIBUTE_KEYS_MAX: usize = 1024;
/// Attribute values in a block. A constant takes no room per row, so the number of rows alone bounds nothing; this
/// keeps what a block decodes to under 64 MiB of spans.
pub const ATTRIBUTE_VALUES_MAX: usize = 8 << 20;
/// Length of an attribute key or metric name in bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// The largest position: positions are kept as signed 64-bit integers in the stores.
pub const POSITION_MAX: u64 = i64::MAX as u64;

/// One block: header and encoded columns. Cheap to clone: column bytes are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The fixed fields.
    pub header: BlockHeader,
    /// Ascending by id.
    pub columns: Vec<Column>,
}

impl Block {
    /// A log block straight from a read buffer: `lines` are the source bytes of `[start, start + lines.len())`,
    /// `record_count` lines that each end with a line feed. Nothing is copied.
    ///
    /// `source_crc32c` is the CRC32C of `lines`; `observed_time_ns` is when they were read (UTC).
    #[must_use]
    pub fn from_lines(
        stream_id: crate::stream::StreamId,
        start: u64,
        lines: Bytes,
        record_count: u32,
        source_crc32c: u32,
        observed_time_ns: i64,
    ) -> Self {
        let header = BlockHeader {
            kind: BlockKind::Log,
            counts_records: false,
            stream_id,
            start,
            end: start + lines.len() as u64,
            record_count,
            source_crc32c: Some(source_crc32c),
        };
        let observed = Column::constant_i64(ColumnId::OBSERVED_TIME, observed_time_ns);
        let body = Column {
            id: ColumnId::BODY,
            column_type: ColumnType::Bytes,
            encoding: Encoding::Lines,
            nullable: false,
            data: lines,
        };
        Self {
            header,
            columns: vec![observed, body],
        }
    }

    /// A block that holds no record: `[start, end)` for one reason.
    #[must_use]
    pub fn receipt(
        stream_id: crate::stream::StreamId,
        counts_records: bool,
        start: u64,
        end: u64,
        reason: ReceiptReason,
        count: u64,
        exact: bool,
    ) -> Self {
        let receipt = Receipt {
            before_record: 0,
            len: end - start,
            reason,
            count,
            exact,
        };
        let header = BlockHeader {
            kind: BlockKind::Receipt,
            counts_records,
            stream_id,
            start,
            end,
            record_count: 0,
            source_crc32c: None,
        };
        Self {
            header,
            columns: vec![receipt::encode(&[receipt])],
        }
    }

    /// Length in bytes when written, the length field included.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.columns.iter().map(Column::encoded_len).sum::<usize>()
    }

    /// Appends the block's bytes.
    ///
    /// # Errors
    /// [`BlockError::Limit`] for a block of 4 GiB or with too many columns.
    pub fn write_to(&self, out: &mut Vec<u8>) -> Result<(), BlockError> {
        let len = self.encoded_len();
        let block_len = u32::try_from(len - 4).map_err(|_| BlockError::Limit {
            what: "the length of a block",
            found: len as u64,
            limit: u64::from(u32::MAX),
        })?;
        let columns = u16::try_from(self.columns.len())
            .ok()
            .filter(|count| *count <= COLUMNS_MAX)
            .ok_or(BlockError::Limit {
                what: "the number of columns",
                found: self.columns.len() as u64,
                limit: u64::from(COLUMNS_MAX),
            })?;
        out.reserve(len);
        out.put_u32_le(block_len);
        self.header.write_to(columns, out);
        self.columns.iter().try_for_each(|column| column.write_to(out))
    }

    /// Takes one block off the front of `payload`. Column bytes share `payload`'s memory.
    ///
    /// Header, column bounds and order are checked here; contents when the block is viewed.
    ///
    /// # Errors
    /// Any bytes that are not a block of this version.
    pub fn split_from(payload: &mut Bytes) -> Result<Self, BlockError> {
        let mut cursor = cursor::Cursor::new(payload, "a block");
        let block_len = cursor.u32()? as usize;
        cursor.take(block_len)?;
        let mut rest = payload.split_to(4 + block_len);
        let (header, column_count) = BlockHeader::read(&rest[4..])?;
        bytes::Buf::advance(&mut rest, HEADER_LEN);
        let mut columns = Vec::with_capacity(usize::from(column_count));
        let mut last_id = 0;
        for _ in 0..column_count {
            let column = Column::split_from(&mut rest)?;
            if column.id.0 <= last_id {
                return Err(BlockError::Order(column.id.0));
            }
            last_id = column.id.0;
            columns.push(column);
        }
        if !rest.is_empty() {
            return Err(BlockError::LeftOver(rest.len()));
        }
        Ok(Self { header, columns })
    }

    /// The column with this id, where the block has it.
    #[must_use]
    pub fn column(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// The receipts within the block's range, in order.
    ///
    /// # Errors
    /// The column of receipts does not decode.
    pub fn receipts(&self) -> Result<Vec<Receipt>, BlockError> {
        view::receipts(self)
    }

    /// Decodes and checks everything: every length, index, range, count and CRC.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn view(&self) -> Result<BlockView, BlockError> {
        BlockView::decode(self)
    }
}

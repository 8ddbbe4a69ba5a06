use bytes::BufMut;

use super::cursor::Cursor;
use super::{BLOCK_VERSION, BlockError, COLUMNS_MAX, POSITION_MAX, RECORDS_MAX};
use crate::stream::StreamId;

/// Length of the header in bytes, the block's length field included.
pub const HEADER_LEN: usize = 52;

const FLAG_SOURCE_CRC: u16 = 1;
const FLAG_COUNTS_RECORDS: u16 = 2;
const FLAGS_KNOWN: u16 = FLAG_SOURCE_CRC | FLAG_COUNTS_RECORDS;

/// What a block's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockKind {
    /// Log records.
    Log = 1,
    /// Metric samples.
    Metric = 2,
    /// No record: a range and why it holds none.
    Receipt = 3,
}

impl TryFrom<u8> for BlockKind {
    type Error = BlockError;

    fn try_from(byte: u8) -> Result<Self, BlockError> {
        match byte {
            1 => Ok(Self::Log),
            2 => Ok(Self::Metric),
            3 => Ok(Self::Receipt),
            other => Err(BlockError::UnknownKind(other)),
        }
    }
}

/// The fixed fields of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHeader {
    /// What the records are.
    pub kind: BlockKind,
    /// Positions count records; otherwise they are byte offsets.
    pub counts_records: bool,
    /// The stream whose range this is.
    pub stream_id: StreamId,
    /// First position.
    pub start: u64,
    /// Position after the last; greater than `start`, at most 2^63 - 1.
    pub end: u64,
    /// Number of records, at most [`RECORDS_MAX`].
    pub record_count: u32,
    /// CRC32C of the source bytes of `[start, end)`, where they were all read.
    pub source_crc32c: Option<u32>,
}

impl BlockHeader {
    /// The block's range of positions.
    #[must_use]
    pub const fn range(&self) -> std::ops::Range<u64> {
        self.start..self.end
    }

    pub(super) fn write_to(&self, column_count: u16, out: &mut Vec<u8>) {
        let crc_flag = if self.source_crc32c.is_some() {
            FLAG_SOURCE_CRC
        } else {
            0
        };
        let unit_flag = if self.counts_records {
            FLAG_COUNTS_RECORDS
        } else {
            0
        };
        out.put_u8(BLOCK_VERSION);
        out.put_u8(self.kind as u8);
        out.put_u16_le(crc_flag | unit_flag);
        out.put_slice(self.stream_id.as_bytes());
        out.put_u64_le(self.start);
        out.put_u64_le(self.end);
        out.put_u32_le(self.record_count);
        out.put_u32_le(self.source_crc32c.unwrap_or(0));
        out.put_u16_le(column_count);
        out.put_u16_le(0);
    }

    /// Reads the 48 bytes behind the length field; also gives the column count.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, u16), BlockError> {
        let mut cursor = Cursor::new(bytes, "a block's header");
        let version = cursor.u8()?;
        if version != BLOCK_VERSION {
            return Err(BlockError::UnknownVersion(version));
        }
        let kind = BlockKind::try_from(cursor.u8()?)?;
        let flags = cursor.u16()?;
        limit("the flags", u64::from(flags & !FLAGS_KNOWN), 0)?;
        let stream_id = StreamId::from_bytes(cursor.array()?);
        let (start, end) = (cursor.u64()?, cursor.u64()?);
        let (record_count, crc) = (cursor.u32()?, cursor.u32()?);
        let (column_count, reserved) = (cursor.u16()?, cursor.u16()?);
        limit(
            "the number of records",
            u64::from(record_count),
            u64::from(RECORDS_MAX),
        )?;
        limit(
            "the number of columns",
            u64::from(column_count),
            u64::from(COLUMNS_MAX),
        )?;
        limit("a reserved field", u64::from(reserved), 0)?;
        let has_crc = flags & FLAG_SOURCE_CRC != 0;
        limit(
            "the source CRC of a block without one",
            if has_crc { 0 } else { u64::from(crc) },
            0,
        )?;
        if start >= end || end > POSITION_MAX {
            return Err(BlockError::Range { start, end });
        }
        let header = Self {
            kind,
            counts_records: flags & FLAG_COUNTS_RECORDS != 0,
            stream_id,
            start,
            end,
            record_count,
            source_crc32c: has_crc.then_some(crc),
        };
        Ok((header, column_count))
    }
}

fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), BlockError> {
    if found <= limit {
        Ok(())
    } else {
        Err(BlockError::Limit { what, found, limit })
    }
}

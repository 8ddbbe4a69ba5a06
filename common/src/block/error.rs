use super::ColumnId;
use crate::error_code::{self, ErrorCode};

/// Why bytes are not a block. No variant is ever worth a retry: the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Fewer bytes than the format needs at this place.
    #[error("block is cut short: {what} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The part being read.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A version this build does not read.
    #[error("block version {0} is not known here; this build reads version {version}", version = super::BLOCK_VERSION)]
    UnknownVersion(u8),
    /// A kind this build does not read. A sink stops here; it never skips.
    #[error("block kind {0} is not known here")]
    UnknownKind(u8),
    /// A field outside its limits.
    #[error("{what} is {found}, allowed is at most {limit}")]
    Limit {
        /// The field.
        what: &'static str,
        /// What the block says.
        found: u64,
        /// The largest value allowed.
        limit: u64,
    },
    /// `[start, end)` is empty, reversed or beyond 2^63 - 1.
    #[error("the range [{start}, {end}) is empty or beyond the largest position")]
    Range {
        /// First position.
        start: u64,
        /// Position after the last.
        end: u64,
    },
    /// A column whose bytes do not fit its type, encoding and record count.
    #[error("column {column:?}: {problem}")]
    Column {
        /// The column.
        column: ColumnId,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A column that the block's kind needs is not there.
    #[error("column {0:?} is missing")]
    Missing(ColumnId),
    /// Columns out of order, or one twice.
    #[error("column {0} comes twice or out of order")]
    Order(u16),
    /// Records and receipts do not add up to the block's range.
    #[error("records and receipts cover {covered} positions, the range has {expected}")]
    Partition {
        /// Positions of records and receipts together.
        covered: u64,
        /// `end - start`.
        expected: u64,
    },
    /// The bodies are not the bytes that were read from the source.
    #[error("source CRC32C is {found:08x}, the block says {expected:08x}")]
    SourceCrc {
        /// What the block's header says.
        expected: u32,
        /// What its bodies give.
        found: u32,
    },
    /// Bytes behind the last column.
    #[error("{0} bytes are left over behind the last column")]
    LeftOver(usize),
    /// Two blocks that can't become one, or a cut where there is no record boundary.
    #[error("{0}")]
    CannotCombine(&'static str),
}

impl BlockError {
    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> &'static ErrorCode {
        match self {
            Self::UnknownKind(_) => &error_code::UNKNOWN_KIND,
            Self::Limit { .. } => &error_code::BLOCK_LIMIT,
            _ => &error_code::MALFORMED_BLOCK,
        }
    }
}

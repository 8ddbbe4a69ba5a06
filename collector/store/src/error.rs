//! What can go wrong in the store, in two halves: taking entries in, and answering.

use std::path::PathBuf;

use arrow::error::ArrowError;
use edgelogger_common::block::BlockError;
use edgelogger_common::block::batch::BatchError;
use edgelogger_common::codec::CodecError;
use edgelogger_common::disk::DiskError;
use edgelogger_common::error_code::{self, ErrorCode};
use parquet::errors::ParquetError;

/// What a caller does about a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Try the same again after a pause; nothing has changed.
    Retry,
    /// Stop this sink and say so; going on would skip something.
    Stop,
    /// Put this entry aside and go on behind it with `EmbeddedStore::skip`: the same bytes fail again.
    DeadLetter,
}

/// Why the store could not open, apply or flush.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A Parquet file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// What the writer says.
        source: ParquetError,
    },
    /// A Parquet file can't be read, or is not what was written.
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Writing files anew would leave too little of the disk.
    #[error(
        "files are not written anew: {available} bytes are free on the store's file system, {needed} are needed; free space, \
         or keep less with [store.retention]"
    )]
    NoRoom {
        /// Bytes that are free.
        available: u64,
        /// Bytes that have to be.
        needed: u64,
    },
    /// An entry holds something that this build does not know.
    #[error("log entry {sequence}: {what}; upgrade this collector, the entry waits in the log")]
    UnknownKind {
        /// The entry.
        sequence: u64,
        /// What it holds.
        what: String,
    },
    /// An entry that makes no sense.
    #[error("log entry {sequence} cannot be read: {reason}")]
    BadEntry {
        /// The entry.
        sequence: u64,
        /// What is wrong with it.
        reason: String,
        /// The stable code of the reason.
        code: &'static ErrorCode,
    },
    /// The manifest is there and can't be used.
    #[error(
        "the manifest {} cannot be used: {problem}; restore it or manifest.previous from a backup, or move the \
         store's directory away to begin anew from what the log still holds",
        path.display()
    )]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The manifest is of a newer version.
    #[error("the manifest {} has version {found}, this build reads up to {known}; use the newer collector again", path.display())]
    ManifestVersion {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version that is known here.
        known: u64,
    },
    /// The journal of deletions is there and can't be used.
    #[error("the journal of deletions {} cannot be used: {problem}", path.display())]
    Deletions {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The store stands still since it was opened.
    #[error(
        "the store stands still, agents are served and the log keeps what comes while it has room: {0}; then restart"
    )]
    Stopped(std::sync::Arc<StoreError>),
    /// Columns that do not fit their schema: an error in this program.
    #[error("rows could not be put into columns: {0}; this is an error in EdgeLogger, please report it")]
    Columns(#[from] ArrowError),
    /// The query engine could not be set up.
    #[error("the query engine could not start: {0}")]
    Engine(String),
}

impl StoreError {
    /// What the caller does about it.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Disk(_)
            | Self::Parquet { .. }
            | Self::Unreadable { .. }
            | Self::NoRoom { .. }
            | Self::Deletions { .. } => Remedy::Retry,
            Self::BadEntry { .. } => Remedy::DeadLetter,
            Self::UnknownKind { .. }
            | Self::Manifest { .. }
            | Self::ManifestVersion { .. }
            | Self::Stopped(_)
            | Self::Columns(_)
            | Self::Engine(_) => Remedy::Stop,
        }
    }

    /// Its stable code, where it has one.
    #[must_use]
    pub const fn code(&self) -> Option<&'static ErrorCode> {
        match self {
            Self::UnknownKind { .. } => Some(&error_code::UNKNOWN_KIND),
            Self::BadEntry { code, .. } => Some(code),
            _ => None,
        }
    }

    pub(crate) fn unknown(sequence: u64, what: impl Into<String>) -> Self {
        Self::UnknownKind {
            sequence,
            what: what.into(),
        }
    }

    pub(crate) fn bad(sequence: u64, reason: impl Into<String>) -> Self {
        Self::BadEntry {
            sequence,
            reason: reason.into(),
            code: &error_code::MALFORMED_BLOCK,
        }
    }

    pub(crate) fn from_block(sequence: u64, error: &BlockError) -> Self {
        match error {
            BlockError::UnknownKind(_) | BlockError::UnknownVersion(_) => {
                Self::unknown(sequence, error.to_string())
            }
            _ => Self::bad(sequence, error.to_string()),
        }
    }

    pub(crate) fn from_batch(sequence: u64, error: &BatchError) -> Self {
        match error {
            BatchError::Framing {
                error: BlockError::UnknownKind(_) | BlockError::UnknownVersion(_),
                ..
            } => Self::unknown(sequence, error.to_string()),
            BatchError::Codec(codec) if codec_is_unknown(codec) => Self::unknown(sequence, error.to_string()),
            _ => Self::BadEntry {
                sequence,
                reason: error.to_string(),
                code: error.code(),
            },
        }
    }
}

fn codec_is_unknown(error: &CodecError) -> bool {
    error.code() == &error_code::UNKNOWN_CODEC
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Not one SELECT or EXPLAIN.
    #[error("{0}; only SELECT and EXPLAIN are accepted, one statement at a time")]
    NotReadOnly(String),
    /// More memory than there is for queries.
    #[error("the query needs more memory than the limit of {limit_bytes} bytes: {detail}")]
    Memory {
        /// The limit.
        limit_bytes: u64,
        /// What the engine says.
        detail: String,
    },
    /// More time than allowed.
    #[error("the query was stopped after {limit_seconds} s; narrow its time range or select less")]
    Time {
        /// The limit.
        limit_seconds: u64,
    },
    /// Text, columns or types that make no query.
    #[error("{0}")]
    Invalid(String),
    /// A regular expression that makes no sense, or would take too much.
    #[error("the regular expression cannot be used: {0}")]
    BadPattern(String),
    /// A page cursor that this store did not give.
    #[error(
        "the page cursor is not one that this store gave, or belongs to the other order; begin again without it"
    )]
    BadCursor,
    /// Something of the store could not be read.
    #[error("the query failed: {0}")]
    Failed(String),
}

impl QueryError {
    /// Its stable code, where it has one.
    #[must_use]
    pub const fn code(&self) -> Option<&'static ErrorCode> {
        match self {
            Self::NotReadOnly(_) => Some(&error_code::SQL_NOT_READ_ONLY),
            Self::Memory { .. } | Self::Time { .. } => Some(&error_code::SQL_RESOURCE_LIMIT),
            Self::BadPattern(_) => Some(&error_code::BAD_PATTERN),
            _ => None,
        }
    }
}

//! What can go wrong with a segment log.

use crate::disk::DiskError;
use crate::error_code::{self, ErrorCode};
use std::io;
use std::path::PathBuf;

/// An operation of the segment log failed.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file system refused. The log is poisoned if this happened in `append`, `sync` or `roll`.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Refused because an earlier write or sync failed: `reopen` verifies what is there and goes on.
    #[error("the log in {} accepts nothing after a failed write or sync; it must be reopened", dir.display())]
    Poisoned {
        /// Of which log.
        dir: PathBuf,
    },
    /// Another process has the directory.
    #[error("the log in {} is in use by another process; stop that one, or use another directory", dir.display())]
    Locked {
        /// Which.
        dir: PathBuf,
    },
    /// A frame larger than the log takes. Nothing was written.
    #[error("an entry of {bytes} bytes is too large for the log, which takes {bytes_max}")]
    FrameTooLarge {
        /// Of the payload.
        bytes: u64,
        /// `frame_bytes_max`
        bytes_max: u32,
    },
    /// A reader wants to begin behind the end: its cursor belongs to another log, or this one lost its tail.
    #[error("asked to read from sequence {asked}, but the log in {} ends at {next}", dir.display())]
    SequenceAhead {
        /// Of which log.
        dir: PathBuf,
        /// The sequence asked for.
        asked: u64,
        /// The sequence that comes next.
        next: u64,
    },
    /// Written by a later version of this program.
    #[error("{} has format version {version}; this build reads {}", path.display(), super::format::VERSION)]
    TooNew {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The directory was exchanged under a running program.
    #[error("{} holds another log than before; restart the program to use that one", dir.display())]
    AnotherLog {
        /// Which directory.
        dir: PathBuf,
    },
    /// No randomness for a new log_id.
    #[error("cannot make a log_id: {0}")]
    Random(String),
}

impl SegmentError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static ErrorCode {
        match self {
            Self::Disk(error) if is_full(error.kind()) => &error_code::LOG_DISK_FULL,
            Self::Disk(_) | Self::Random(_) | Self::AnotherLog { .. } => &error_code::LOG_IO,
            Self::Poisoned { .. } => &error_code::LOG_POISONED,
            Self::Locked { .. } => &error_code::LOG_LOCKED,
            Self::FrameTooLarge { .. } => &error_code::LOG_FRAME_TOO_LARGE,
            Self::SequenceAhead { .. } => &error_code::LOG_SEQUENCE_AHEAD,
            Self::TooNew { .. } => &error_code::LOG_TOO_NEW,
        }
    }

    /// Is there no room left, so that waiting or dropping old segments helps?
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Disk(error) if is_full(error.kind()))
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

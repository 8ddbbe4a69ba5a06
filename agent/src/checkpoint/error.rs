use std::io;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::DiskError;

/// The checkpoint file can't be opened, or something can't be kept in it.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk failed. Where the agent runs already, it goes on and tries again.
    #[error("checkpoints: {0}")]
    Disk(#[from] DiskError),
    /// Another agent runs from this directory.
    #[error("another agent runs from the state directory {}: stop it first, or give this one a directory of its own", dir.display())]
    InUse {
        /// The state directory.
        dir: PathBuf,
    },
    /// A newer agent wrote the file.
    #[error(
        "{} has format {found}, this version reads up to {known}: install the newer version again, or move the file \
         away to start anew (every file is then read from its beginning)", path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest this build reads.
        known: u16,
    },
    /// Too many streams at once.
    #[error(
        "{wanted} streams at once, at most {limit} can be kept track of: exclude files, or delete old ones"
    )]
    TooManyStreams {
        /// How many there would be.
        wanted: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A descriptor that can't be kept.
    #[error("the stream of {name:?} can't be kept track of: {problem}")]
    Descriptor {
        /// What the source calls it.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl CheckpointError {
    pub(super) fn locking(error: DiskError) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self::InUse {
                dir: error.path.parent().unwrap_or(Path::new(".")).to_path_buf(),
            };
        }
        Self::Disk(error)
    }
}

use std::io;
use std::path::PathBuf;

use edgelogger_common::error_code::{self, ErrorCode};

use crate::checkpoint::CheckpointError;
use crate::ring::Stopped;

/// What keeps a file source from running, or from running well.
#[derive(Debug, thiserror::Error)]
pub enum FileSourceError {
    /// A glob that is none.
    #[error("the glob {glob:?} can't be used: {problem}")]
    Glob {
        /// As configured.
        glob: String,
        /// What is wrong with it and what to write instead.
        problem: String,
    },
    /// Nothing to read.
    #[error("a file source needs at least one glob in `include`")]
    NothingIncluded,
    /// A setting outside its limits.
    #[error("`{setting}` is {found}, allowed is {allowed}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was configured.
        found: String,
        /// What may be configured.
        allowed: String,
    },
    /// The system has no descriptor left for waiting.
    #[error("the file source can't set up how it waits: {0}")]
    Wait(#[source] io::Error),
    /// New streams could not be made durable; they are not read until they are.
    #[error("new files can't be entered in the agent's state, so they are not read yet: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The agent is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A file that can't be read now; it is tried again.
#[derive(Debug, thiserror::Error)]
#[error("{code} {path}: {what} failed: {source}. {help}", code = error_code::FILE_UNREADABLE, path = path.display(), help = error_code::FILE_UNREADABLE.help)]
pub struct Unreadable {
    /// Which.
    pub path: PathBuf,
    /// The operation.
    pub what: &'static str,
    /// What the system said.
    pub source: io::Error,
}

impl FileSourceError {
    /// The code to look up.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Glob { .. } | Self::NothingIncluded | Self::Setting { .. } => {
                Some(error_code::CONFIG_INVALID)
            }
            _ => None,
        }
    }
}

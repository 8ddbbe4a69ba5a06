//! Files that the newest manifest does not name any more, and when they go.
//!
//! The manifest before it may come back in force while it lies on disk, so what it names stays until the next one is
//! written; then a file goes with its last reader. What a manifest names whose writing failed, and which may be in
//! place all the same, becomes the one before with the next that succeeds: so it stays one manifest longer.

use std::path::PathBuf;
use std::sync::Arc;

use edgelogger_common::disk::Disk;

use crate::live_file::{LiveFile, remove};

/// A file on its way out.
#[derive(Debug)]
pub enum Leaving {
    /// Queries may read it.
    Live(Arc<LiveFile>),
    /// Nobody does.
    Path(PathBuf),
}

/// All of them.
#[derive(Debug, Default)]
pub struct LeavingFiles {
    /// Only the manifest before names them.
    superseded: Vec<Leaving>,
    /// A manifest names them of which nobody knows whether it is in place.
    doubtful: Vec<Leaving>,
}

impl LeavingFiles {
    /// Those that only the manifest before names, of a store that opens.
    pub fn of_previous(superseded: Vec<Leaving>) -> Self {
        Self {
            superseded,
            doubtful: Vec::new(),
        }
    }

    /// A manifest was written that does not name these: what was superseded before goes.
    pub fn manifest_written(&mut self, disk: &dyn Disk, no_longer_named: Vec<Leaving>) {
        for file in std::mem::replace(&mut self.superseded, no_longer_named) {
            match file {
                Leaving::Live(file) => file.leave(),
                Leaving::Path(path) => remove(disk, &path),
            }
        }
        self.superseded.append(&mut self.doubtful);
    }

    /// A manifest that names this file may be in place, and the next one will not name it.
    pub fn doubt(&mut self, file: Leaving) {
        self.doubtful.push(file);
    }

    /// Would files go with one more manifest?
    pub fn wait(&self) -> bool {
        !self.superseded.is_empty()
    }
}

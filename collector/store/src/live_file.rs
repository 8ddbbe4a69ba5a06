//! A Parquet file that the manifest names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgelogger_common::disk::Disk;

use crate::manifest::FileEntry;

/// A file that queries may read. Merging (issue 4) will remove one only when its last reader has dropped it.
pub struct LiveFile {
    pub entry: FileEntry,
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl LiveFile {
    pub fn new(entry: FileEntry, dir: &Path, disk: Arc<dyn Disk>) -> Self {
        let path = dir.join(&entry.name);
        Self { entry, path, disk }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub const fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }
}

impl fmt::Debug for LiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveFile").field(&self.entry.name).finish()
    }
}

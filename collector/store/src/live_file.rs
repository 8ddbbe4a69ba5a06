//! A Parquet file that the manifest names.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgelogger_common::disk::Disk;

use crate::manifest::FileEntry;

/// A file that queries may read. Once no manifest names it, it goes with its last reader.
pub struct LiveFile {
    pub entry: FileEntry,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    is_leaving: AtomicBool,
}

impl LiveFile {
    pub fn new(entry: FileEntry, dir: &Path, disk: Arc<dyn Disk>) -> Self {
        let path = dir.join(&entry.name);
        Self {
            entry,
            path,
            disk,
            is_leaving: AtomicBool::new(false),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub const fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// No manifest names it: it is removed when nobody reads it any more.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }
}

impl Drop for LiveFile {
    fn drop(&mut self) {
        if self.is_leaving.load(Ordering::Acquire) {
            remove(&*self.disk, &self.path);
        }
    }
}

/// Removes a file that no manifest names. Where that fails it is removed when the store opens.
pub fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), "a file stays until the next start: {error}");
    }
}

impl fmt::Debug for LiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveFile").field(&self.entry.name).finish()
    }
}

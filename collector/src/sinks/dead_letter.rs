//! Entries that can never be applied: the same bytes fail again. They are kept as files, bounded in number.

use std::path::PathBuf;
use std::sync::Arc;

use edgelogger_common::disk::{Disk, atomic_replace, create_dir_all_durable};

/// Files kept, of at most 16 MiB each. Beyond, entries are counted and not kept: by then there is no news in them.
const FILES_MAX: usize = 1_000;

/// The folder.
#[derive(Debug)]
pub struct DeadLetters {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl DeadLetters {
    /// In this folder, which is made when it is needed.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Arc<Self> {
        Arc::new(Self { disk, dir })
    }

    /// Keeps an entry; gives its path. The same entry again replaces its file.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn put(&self, sink: &str, sequence: u64, payload: &[u8]) -> Result<String, String> {
        create_dir_all_durable(self.disk.as_ref(), &self.dir).map_err(|error| error.to_string())?;
        let kept = self
            .disk
            .list_files(&self.dir)
            .map_err(|error| error.to_string())?
            .len();
        if kept >= FILES_MAX {
            return Err(format!("{} holds {kept} already", self.dir.display()));
        }
        let path = self.dir.join(format!("{sink}-{sequence:020}.entry"));
        atomic_replace(self.disk.as_ref(), &path, payload).map_err(|error| error.to_string())?;
        Ok(path.display().to_string())
    }
}

//! Files that turn out damaged or missing while queries run: put aside, and said.
//!
//! A query that fails over a file is asked which files it opened; a merge or retention that fails knows. Each is compared with what was written; one that is
//! damaged goes to the directory `quarantine` (a person may have use for it), one that is gone or can't be read is left. From
//! then on queries answer without it, and their answers name it. It stays in the manifest: its rows were stored, and a
//! backup may bring them back.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use edgelogger_common::disk::{At, create_dir_all_durable};

use super::{EmbeddedStore, FILES_DIR};
use crate::error::{QueryError, StoreError};
use crate::live_file::LiveFile;
use crate::parquet_read::{FileReader, check_bytes};
use crate::snapshot::Snapshot;

/// Where damaged files are put, in the store's directory.
pub const QUARANTINE_DIR: &str = "quarantine";
/// Files that one query may find damaged before it fails.
pub const ATTEMPTS_MAX: usize = 3;

/// What is wrong with a file that can't be used.
pub struct Unusable {
    file: Arc<LiveFile>,
    what: String,
}

impl EmbeddedStore {
    /// After a query failed: puts aside those of the files it opened that are not whole. Says whether there were any.
    pub(super) async fn put_aside_damaged(&self, snapshot: &Snapshot, error: &QueryError) -> bool {
        if !matches!(error, QueryError::Failed(_)) {
            return false;
        }
        let (opened, dir) = (snapshot.opened(), self.options.dir.clone());
        let check = move || {
            opened
                .iter()
                .filter_map(|file| check(file, &dir))
                .collect::<Vec<_>>()
        };
        let unusable = self.engine.blocking(check).await.unwrap_or_default();
        let found = !unusable.is_empty();
        self.set_aside(unusable);
        found
    }

    /// After work over these files failed: puts aside those that are not whole. Blocks.
    pub(super) fn put_aside_damaged_of(&self, files: &[Arc<LiveFile>]) {
        let dir = &self.options.dir;
        let unusable = files.iter().filter_map(|file| check(file, dir)).collect();
        self.set_aside(unusable);
    }

    /// Queries answer without these files from now on.
    fn set_aside(&self, unusable: Vec<Unusable>) {
        for Unusable { file, what } in unusable {
            let mut visible = self.visible.lock();
            let before = visible.files.len();
            let is_other = |other: &&Arc<LiveFile>| !Arc::ptr_eq(other, &file);
            let files: Vec<_> = visible.files.iter().filter(is_other).cloned().collect();
            // Another query was faster, or a merge has put another in its place.
            if files.len() == before {
                continue;
            }
            visible.files = Arc::new(files);
            Arc::make_mut(&mut visible.missing).push(file.entry.clone());
            drop(visible);
            let problem = format!(
                "{} with {} rows is put aside ({what}): restore it from a backup and restart; queries answer without it \
                 and say so",
                file.path().display(),
                file.entry.rows
            );
            tracing::error!("{problem}");
            self.problems.lock().aside.push(problem);
        }
    }
}

/// What is wrong with a file, if anything is. A damaged one is moved away.
fn check(file: &Arc<LiveFile>, store_dir: &Path) -> Option<Unusable> {
    let disk = &**file.disk();
    let whole = check_bytes(disk, file.path(), &file.entry).and_then(|()| {
        // Files of earlier versions have no checksum: every page has to open.
        match file.entry.crc32c {
            Some(_) => Ok(()),
            None => FileReader::open(disk, file.path(), None)?.try_for_each(|batch| batch.map(drop)),
        }
    });
    let what = match whole {
        Ok(()) => return None,
        Err(StoreError::Disk(error)) if error.kind() == ErrorKind::NotFound => "it is gone".to_owned(),
        Err(StoreError::Disk(error)) => error.to_string(),
        Err(error) => match quarantine(file, store_dir) {
            Ok(()) => format!("{error}; it lies in {QUARANTINE_DIR}"),
            Err(moving) => format!("{error}; it stays where it is: {moving}"),
        },
    };
    Some(Unusable {
        file: Arc::clone(file),
        what,
    })
}

fn quarantine(file: &LiveFile, store_dir: &Path) -> Result<(), StoreError> {
    let (disk, dir) = (&**file.disk(), store_dir.join(QUARANTINE_DIR));
    create_dir_all_durable(disk, &dir)?;
    disk.rename(file.path(), &dir.join(&file.entry.name))
        .at("rename", file.path())?;
    disk.sync_dir(&dir).at("sync directory", &dir)?;
    let files_dir = store_dir.join(FILES_DIR);
    Ok(disk.sync_dir(&files_dir).at("sync directory", &files_dir)?)
}

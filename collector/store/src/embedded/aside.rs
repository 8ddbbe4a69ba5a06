//! Files that turn out damaged or missing while queries run: put aside, and said.
//!
//! A query that fails over a file is asked which files it opened; a merge or retention that fails knows. Each is compared
//! with what was written; one that is damaged goes to the directory `quarantine` (a person may have use for it), one that is
//! gone or can't be read is left. From then on queries answer without it, and their answers name it; so do the ledger, the
//! status and the manifest, in which it is no file of the store any more. It becomes one again when it lies in its place,
//! whole, as the store opens: a backup may bring it back.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use edgelogger_common::disk::{At, create_dir_all_durable};

use super::{EmbeddedStore, FILES_DIR};
use crate::aside::AsideFile;
use crate::error::{QueryError, StoreError};
use crate::live_file::LiveFile;
use crate::parquet_read::{FileReader, check_bytes};
use crate::query::Question;
use crate::snapshot::Snapshot;
use crate::store::Answered;

/// Where damaged files are put, in the store's directory.
pub(super) const QUARANTINE_DIR: &str = "quarantine";
/// Times that one question may find files damaged before it fails.
const ATTEMPTS_MAX: usize = 3;

/// What is wrong with a file that can't be used.
struct Unusable {
    file: Arc<LiveFile>,
    reason: String,
}

impl EmbeddedStore {
    /// The answer over all rows of now. A question that fails over a damaged file is asked again without it.
    pub(super) async fn answer<Q: Question>(&self, question: Q) -> Result<Answered<Q::Answer>, QueryError> {
        let mut attempts_left = ATTEMPTS_MAX;
        loop {
            let snapshot = self.snapshot();
            match self.engine.ask(snapshot.clone(), question.clone()).await {
                Err(error) if attempts_left > 0 && self.put_aside_damaged(&snapshot, &error).await => {
                    attempts_left -= 1;
                }
                done => {
                    return done.map(|answer| Answered {
                        answer,
                        incomplete: snapshot.missing(),
                    });
                }
            }
        }
    }

    /// After a query failed: puts aside those of the files it opened that are not whole. Says whether there were any.
    async fn put_aside_damaged(&self, snapshot: &Snapshot, error: &QueryError) -> bool {
        if !matches!(error, QueryError::Failed(_)) {
            return false;
        }
        let (opened, dir) = (snapshot.opened(), self.options.dir.clone());
        let check = move || unusable(&opened, &dir);
        let unusable = self.engine.blocking(check).await.unwrap_or_default();
        let found = !unusable.is_empty();
        self.set_aside(unusable);
        found
    }

    /// After work over these files failed: puts aside those that are not whole. Blocks.
    pub(super) fn put_aside_damaged_of(&self, files: &[Arc<LiveFile>]) {
        self.set_aside(unusable(files, &self.options.dir));
    }

    /// Queries answer without these files from now on; the next manifest does not name them any more.
    fn set_aside(&self, unusable: Vec<Unusable>) {
        for Unusable { file, reason } in unusable {
            let mut visible = self.visible.lock();
            let before = visible.files.len();
            let is_other = |other: &&Arc<LiveFile>| !Arc::ptr_eq(other, &file);
            let files: Vec<_> = visible.files.iter().filter(is_other).cloned().collect();
            // Another query was faster, or a merge has put another in its place.
            if files.len() == before {
                continue;
            }
            visible.files = Arc::new(files);
            let aside = self.aside_file(&file, reason);
            tracing::error!("{}", problem(&aside));
            Arc::make_mut(&mut visible.aside).add(aside);
        }
    }

    fn aside_file(&self, file: &LiveFile, reason: String) -> AsideFile {
        AsideFile {
            entry: file.entry.clone(),
            reason,
            noted_ms: self.options.clock.wall_ns().div_euclid(1_000_000),
        }
    }
}

/// What a person is told of a file that is aside.
pub(super) fn problem(aside: &AsideFile) -> String {
    format!(
        "{FILES_DIR}/{} with {} rows is put aside ({}): restore it from a backup and restart; queries answer without it \
         and say so",
        aside.entry.name, aside.entry.rows, aside.reason
    )
}

fn unusable(files: &[Arc<LiveFile>], store_dir: &Path) -> Vec<Unusable> {
    let check = |file: &Arc<LiveFile>| {
        let reason = check(file, store_dir)?;
        Some(Unusable {
            file: Arc::clone(file),
            reason,
        })
    };
    files.iter().filter_map(check).collect()
}

/// What is wrong with a file, if anything is. A damaged one is moved away.
pub(super) fn check(file: &LiveFile, store_dir: &Path) -> Option<String> {
    let disk = &**file.disk();
    let whole = check_bytes(disk, file.path(), &file.entry).and_then(|()| {
        // Files of earlier versions have no checksum: every page has to open.
        match file.entry.crc32c {
            Some(_) => Ok(()),
            None => FileReader::open(disk, file.path(), None)?.try_for_each(|batch| batch.map(drop)),
        }
    });
    let quarantined = store_dir.join(QUARANTINE_DIR).join(&file.entry.name);
    match whole {
        Ok(()) => None,
        Err(StoreError::Disk(error)) if error.kind() == ErrorKind::NotFound => {
            let is_there = disk.exists(&quarantined).unwrap_or(false);
            Some(match is_there {
                true => format!("it was damaged; it lies in {QUARANTINE_DIR}"),
                false => "it is gone".to_owned(),
            })
        }
        Err(StoreError::Disk(error)) => Some(error.to_string()),
        Err(error) => Some(match quarantine(file, store_dir) {
            Ok(()) => format!("{error}; it lies in {QUARANTINE_DIR}"),
            Err(moving) => format!("{error}; it stays where it is: {moving}"),
        }),
    }
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

//! Deletion: a file after the other loses the rows that somebody wants to be gone. `deletion/` says what that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgelogger_common::disk::At;

use super::leave::Departure;
use super::{EmbeddedStore, Flushing};
use crate::deletion::{
    self, DeleteError, DeletePlan, DeleteRequest, DeleteScope, Deletion, Found, Progress, RUNNING_MAX, Record,
};
use crate::error::{QueryError, StoreError};
use crate::flush::file_name;
use crate::gone::GoneWhy;
use crate::live_file::{LiveFile, remove};
use crate::manifest::FileEntry;
use crate::query::{Question, RunError, Template};
use crate::schema::Table;
use crate::snapshot::Snapshot;

/// What one file is compared with.
struct Turn {
    /// Of the new file. Whatever deletion is accepted from now on covers it.
    number: u64,
    /// All deletions that cover the old one.
    records: Vec<Record>,
}

impl Turn {
    fn scopes(&self) -> Vec<&DeleteScope> {
        self.records.iter().map(|record| &record.deletion.scope).collect()
    }
}

impl EmbeddedStore {
    /// Accepts a deletion: when this returns it is durable, and [`Self::carry_out_deletion`] carries it out, also after a
    /// crash. Blocks for a flush.
    ///
    /// # Errors
    /// The request makes no sense, too many are not finished, or the disk refuses; then nothing has changed.
    pub fn accept_deletion(&self, request: DeleteRequest) -> Result<Deletion, DeleteError> {
        request.check()?;
        self.check_running()?;
        let mut flushing = self.flushing.lock();
        self.check_deletions()?;
        self.flush_all(&mut flushing)?;
        self.write_second_copy(&mut flushing)?;
        let mut journal = self.deletions.lock();
        let deletion = Deletion {
            id: journal.next_id(),
            scope: request.scope,
            who: request.who,
            reason: request.reason.trim().to_owned(),
            accepted_ns: self.options.clock.wall_ns(),
            finished_ns: None,
            rows: 0,
            files: 0,
            bytes: 0,
            unreadable: Vec::new(),
        };
        let record = Record {
            deletion: deletion.clone(),
            files_below: flushing.next_file,
        };
        journal.accept(&*self.options.disk, record)?;
        Ok(deletion)
    }

    fn check_deletions(&self) -> Result<(), DeleteError> {
        let journal = self.deletions.lock();
        let problem = journal.unusable().cloned().or_else(|| {
            let full =
                "it is full; keep a copy of it and of deletions.previous, then remove both and restart";
            journal.is_full().then(|| full.to_owned())
        });
        if let Some(problem) = problem {
            let path = journal.path();
            return Err(StoreError::Deletions { path, problem }.into());
        }
        match journal.running().count() < RUNNING_MAX {
            true => Ok(()),
            false => Err(DeleteError::Busy),
        }
    }

    /// Should the manifest be damaged, the one before it is in force and the log is replayed from there: that must not
    /// bring rows back under a number that a deletion does not look at, nor give a number twice.
    fn write_second_copy(&self, flushing: &mut Flushing) -> Result<(), StoreError> {
        let named = self.visible.lock().named();
        self.write_manifest(flushing, named)?;
        flushing.leaving.manifest_written(&*self.options.disk, Vec::new());
        self.held_cursor_is_durable();
        Ok(())
    }

    /// All deletions there ever were, oldest first.
    pub fn all_deletions(&self) -> Vec<Deletion> {
        self.deletions.lock().all().cloned().collect()
    }

    /// Does a deletion wait to be carried out?
    pub fn deletion_due(&self) -> bool {
        let journal = self.deletions.lock();
        journal.unusable().is_none() && journal.running().next().is_some()
    }

    /// Carries out the oldest deletion that is not finished, and gives it back when it is. None when there is none, when a
    /// flush has to come first, or when `go_on`, asked for every few thousand rows, says no; what is done stays done.
    /// Entries are applied and queries answered meanwhile; a query sees each file before or after. Blocks for as long as it
    /// takes to read every file that may hold such rows, and to write anew those that do.
    ///
    /// # Errors
    /// The disk fails: what was deleted so far stays deleted, and the status says it until it goes on.
    pub fn carry_out_deletion(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Deletion>, StoreError> {
        self.check_running()?;
        let _maintaining = self.maintaining.lock();
        if !self.deletion_due() {
            return Ok(None);
        }
        let Some(record) = self.deletions.lock().running().next().cloned() else {
            return Ok(None);
        };
        let done = self.carry_out(&record, go_on);
        self.problems.lock().deletion = done
            .as_ref()
            .err()
            .map(|error| format!("{error}; deletion {} waits for that", record.deletion.id));
        done
    }

    fn carry_out(&self, record: &Record, go_on: &dyn Fn() -> bool) -> Result<Option<Deletion>, StoreError> {
        let files = Arc::clone(&self.visible.lock().files);
        for file in files.iter().filter(|file| record.covers(&file.entry)) {
            if !go_on() {
                return Ok(None);
            }
            match self.delete_from(file, go_on) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    self.on_read_error(&error, std::slice::from_ref(file));
                    // What was put aside is said in the journal; the others go on.
                    if self
                        .visible
                        .lock()
                        .files
                        .iter()
                        .any(|other| Arc::ptr_eq(other, file))
                    {
                        return Err(error);
                    }
                }
            }
        }
        drop(files);
        // Neither of the two manifests names what is gone, so that it can't come back: then it is done.
        self.let_go()?;
        let aside = self.aside();
        let unreadable = aside.files.iter().filter(|file| record.covers(&file.entry));
        let unreadable = unreadable.map(|file| file.entry.name.clone()).collect();
        let now = self.options.clock.wall_ns();
        let id = record.deletion.id;
        let mut journal = self.deletions.lock();
        let finished = journal.finish(&*self.options.disk, id, now, unreadable)?;
        drop(journal);
        self.flushing
            .lock()
            .in_force
            .deletions
            .retain(|progress| progress.id != id);
        self.forget_latest(&record.deletion);
        Ok(finished)
    }

    /// Deletes from one file what every deletion that covers it wants to be gone. False when it can't be now.
    fn delete_from(&self, file: &Arc<LiveFile>, go_on: &dyn Fn() -> bool) -> Result<bool, StoreError> {
        let turn = self.turn(file);
        let Some(found) = deletion::scan(file, &turn.scopes(), go_on)? else {
            return Ok(false);
        };
        let rows: u64 = found.rows.iter().sum();
        if rows == 0 {
            return Ok(true);
        }
        let new = if rows < file.entry.rows {
            match self.without(file, &turn, rows, go_on)? {
                None => return Ok(false),
                new => new,
            }
        } else {
            None
        };
        let steps = steps(file, &turn, &found, new.as_ref());
        let done = self.let_rows_go(Departure {
            old: std::slice::from_ref(file),
            new,
            gone: &found.gone,
            why: GoneWhy::Deletion,
            steps: &steps,
        })?;
        if done {
            let mut journal = self.deletions.lock();
            steps.iter().for_each(|step| journal.note(step));
        }
        Ok(done)
    }

    fn turn(&self, file: &LiveFile) -> Turn {
        // Under this lock none is accepted: those that are not here give the new file a number that they cover.
        let mut flushing = self.flushing.lock();
        let number = flushing.next_file;
        flushing.next_file += 1;
        let journal = self.deletions.lock();
        let records = journal.running().filter(|record| record.covers(&file.entry));
        Turn {
            number,
            records: records.cloned().collect(),
        }
    }

    /// A new file with what stays.
    fn without(
        &self,
        file: &LiveFile,
        turn: &Turn,
        rows: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<FileEntry>, StoreError> {
        self.check_room(file.entry.bytes)?;
        let entry = &file.entry;
        let path = self
            .files_dir
            .join(file_name(entry.table, entry.day, turn.number));
        let written = deletion::rewrite(&self.options, file, &turn.scopes(), &path, go_on).and_then(|new| {
            if new.as_ref().is_some_and(|new| new.rows + rows != entry.rows) {
                let problem = format!("it does not hold the {} rows that the manifest says", entry.rows);
                return Err(StoreError::Unreadable {
                    path: file.path().to_path_buf(),
                    problem,
                });
            }
            let dir = &self.files_dir;
            self.options.disk.sync_dir(dir).at("sync directory", dir)?;
            Ok(new)
        });
        if !matches!(written, Ok(Some(_))) {
            remove(&*self.options.disk, &path);
        }
        written
    }

    /// The newest samples that are known may be among those that are gone; what is left of them is read again.
    fn forget_latest(&self, deletion: &Deletion) {
        let is_gone = |machine: &str, source: &str, time_ns: i64, received_ns: i64| {
            received_ns <= deletion.accepted_ns && deletion.scope.matches(machine, source, time_ns)
        };
        if !self.latest.forget(is_gone) {
            return;
        }
        let snapshot = self.snapshot();
        for recent in snapshot.recent(Table::Metrics) {
            self.latest.note(&recent.batch);
        }
        if let Err(error) = self.engine.wait_for(self.fill_latest()) {
            tracing::warn!(
                "the newest samples of what is stored can't be read, they come with the next ones: {error}"
            );
        }
    }

    /// What a deletion would take now. Dropping the answer stops it.
    pub(super) async fn plan_of_deletion(
        &self,
        scope: DeleteScope,
        time_max: Duration,
    ) -> Result<DeletePlan, QueryError> {
        scope
            .check()
            .map_err(|error| QueryError::Invalid(error.to_string()))?;
        let planned = self.answer(PlanDeletion { scope, time_max }).await?;
        Ok(planned.answer)
    }
}

/// Asks what a deletion would take.
#[derive(Debug, Clone)]
struct PlanDeletion {
    scope: DeleteScope,
    time_max: Duration,
}

impl Question for PlanDeletion {
    type Answer = DeletePlan;

    fn time_max(&self) -> Duration {
        self.time_max
    }

    /// On a thread of its own, which notices by itself that nobody waits for it.
    async fn run(self, _template: &Template, snapshot: &Snapshot) -> Result<DeletePlan, RunError> {
        let stop = StopOnDrop::default();
        let (stopped, snapshot) = (Arc::clone(&stop.0), snapshot.clone());
        let work = move || count(&snapshot, &self.scope, &stopped);
        let counted = tokio::task::spawn_blocking(work).await;
        let failed = |error| format!("an error in EdgeLogger, please report it: {error}");
        Ok(counted.map_err(|error| QueryError::Failed(failed(error)))??)
    }
}

/// Tells work on another thread that nobody waits for it.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn count(snapshot: &Snapshot, scope: &DeleteScope, stopped: &AtomicBool) -> Result<DeletePlan, QueryError> {
    match deletion::plan(snapshot, scope, &|| !stopped.load(Ordering::Relaxed)) {
        Ok(Some(plan)) => Ok(plan),
        Ok(None) => Err(QueryError::Failed("nobody waits for it".to_owned())),
        Err(error) => Err(QueryError::Failed(error.to_string())),
    }
}

/// What each of the deletions took of this file.
fn steps(file: &LiveFile, turn: &Turn, found: &Found, new: Option<&FileEntry>) -> Vec<Progress> {
    let freed = file.entry.bytes.saturating_sub(new.map_or(0, |new| new.bytes));
    let all: u64 = found.rows.iter().sum();
    let taken = turn
        .records
        .iter()
        .zip(&found.rows)
        .filter(|(_, rows)| **rows > 0);
    taken
        .map(|(record, rows)| Progress {
            id: record.deletion.id,
            rows: *rows,
            files: 1,
            bytes: deletion::share(freed, *rows, all),
        })
        .collect()
}

//! The journal of deletions: who deleted what and why, for ever.
//!
//! ```text
//! edgelogger-store-deletions 1 crc32c=89abcdef bytes=12345\n
//! {"deletion":{"id":1,"scope":{"machine":"machine-17"},"who":"ada",…},"files_below":42}\n
//! {"deletion":{"id":2,…},"files_below":57}\n
//! ```
//!
//! One line for each, in the order in which they were accepted. The file is replaced as a whole when one is accepted and
//! when one is finished, and the one before it stays as `deletions.previous`: when the newest can't be read the store goes
//! back to that one, and says so.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::{At, Disk, atomic_rotate, read_file};
use edgelogger_common::stamped::{StampError, stamp, unstamp};
use serde::{Deserialize, Serialize};

use super::{Deletion, Progress};
use crate::error::StoreError;
use crate::flush::file_number;
use crate::manifest::FileEntry;

const NAME: &str = "deletions";
const PREVIOUS_NAME: &str = "deletions.previous";
const DAMAGED_NAME: &str = "deletions.damaged";
const MAGIC: &str = "edgelogger-store-deletions";
const VERSION: u64 = 1;
/// Deletions that are kept: a dozen a day for twenty years. Then no more are accepted.
pub const DELETIONS_MAX: usize = 100_000;
/// Deletions that are not finished, at most: a file is compared with all of them.
pub const RUNNING_MAX: usize = 64;
/// Unreadable files of a deletion that are named.
const UNREADABLE_MAX: usize = 1_000;
const BYTES_MAX: u64 = 512 << 20;

/// A deletion in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What people see of it.
    pub deletion: Deletion,
    /// All that it covers was in files of a number below this when it was accepted, and what came later never is.
    pub files_below: u64,
}

impl Record {
    /// May this file hold rows that are to go?
    pub fn covers(&self, entry: &FileEntry) -> bool {
        let is_older = file_number(&entry.name).is_some_and(|number| number < self.files_below);
        is_older && self.deletion.scope.may_match(entry)
    }

    const fn is_running(&self) -> bool {
        self.deletion.finished_ns.is_none()
    }
}

/// All deletions there ever were.
#[derive(Debug, Default)]
pub struct Journal {
    dir: PathBuf,
    records: Vec<Record>,
    /// Why none can be accepted, nor carried out.
    unusable: Option<String>,
}

impl Journal {
    /// That of a store. What is wrong with it is said in `problems`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn open(disk: &dyn Disk, dir: &Path, problems: &mut Vec<String>) -> Result<Self, StoreError> {
        let mut journal = Self {
            dir: dir.to_path_buf(),
            ..Self::default()
        };
        let (path, previous) = (dir.join(NAME), dir.join(PREVIOUS_NAME));
        match read(disk, &path)? {
            Read::Records(records) => journal.records = records,
            // A crash may have come between the two renames.
            Read::Absent => match read(disk, &previous)? {
                Read::Records(records) => journal.records = records,
                Read::Absent => {}
                Read::TooNew(why) | Read::Damaged(why) => journal.unusable = Some(why),
            },
            Read::TooNew(why) => journal.unusable = Some(why),
            Read::Damaged(why) => match read(disk, &previous)? {
                Read::Records(records) => {
                    problems.push(fallen_back(&why));
                    let damaged = dir.join(DAMAGED_NAME);
                    disk.rename(&path, &damaged).at("rename", &path)?;
                    disk.sync_dir(dir).at("sync directory", dir)?;
                    journal.records = records;
                }
                _ => journal.unusable = Some(why),
            },
        }
        if let Some(why) = &journal.unusable {
            problems.push(format!(
                "{why}: deletions are neither accepted nor carried out, and small files are not merged; restore it from a \
                 backup and restart, or remove it and {PREVIOUS_NAME} to give up what was to be deleted"
            ));
        }
        Ok(journal)
    }

    /// What the manifest says of those that are not finished. Gives what of it is still of use.
    pub fn take_progress(&mut self, progress: Vec<Progress>) -> Vec<Progress> {
        let mut running: Vec<&mut Deletion> = self
            .records
            .iter_mut()
            .filter(|record| record.is_running())
            .map(|record| &mut record.deletion)
            .collect();
        // What the journal says of them may be of a manifest that is not in force.
        for deletion in &mut running {
            (deletion.rows, deletion.files, deletion.bytes) = (0, 0, 0);
        }
        let mut of_use = progress;
        of_use.retain(|step| {
            let Some(deletion) = running.iter_mut().find(|deletion| deletion.id == step.id) else {
                return false;
            };
            (deletion.rows, deletion.files, deletion.bytes) = (step.rows, step.files, step.bytes);
            true
        });
        of_use
    }

    /// Deletions whose unreadable files have come back go on. Gives what they took so far.
    pub fn go_on_with(&mut self, files: &[&str]) -> Vec<Progress> {
        let mut again = Vec::new();
        for record in self.records.iter_mut().filter(|record| !record.is_running()) {
            let deletion = &mut record.deletion;
            if deletion
                .unreadable
                .iter()
                .any(|name| files.contains(&name.as_str()))
            {
                deletion.finished_ns = None;
                deletion.unreadable.clear();
                again.push(Progress {
                    id: deletion.id,
                    rows: deletion.rows,
                    files: deletion.files,
                    bytes: deletion.bytes,
                });
            }
        }
        again
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Why none can be accepted.
    pub const fn unusable(&self) -> Option<&String> {
        self.unusable.as_ref()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Deletion> {
        self.records.iter().map(|record| &record.deletion)
    }

    /// Those that are not finished, oldest first.
    pub fn running(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.is_running())
    }

    /// Is there anything that forbids that rows get new file numbers?
    pub fn holds_files(&self) -> bool {
        self.unusable.is_some() || self.running().next().is_some()
    }

    /// The next one.
    pub fn next_id(&self) -> u64 {
        self.records.last().map_or(0, |last| last.deletion.id) + 1
    }

    /// Is there room for no more?
    pub fn is_full(&self) -> bool {
        self.records.len() >= DELETIONS_MAX
    }

    /// Takes one in: when this returns it is durable.
    ///
    /// # Errors
    /// The disk refuses; nothing has changed.
    pub fn accept(&mut self, disk: &dyn Disk, record: Record) -> Result<(), StoreError> {
        self.records.push(record);
        self.write(disk).inspect_err(|_| drop(self.records.pop()))
    }

    /// One is finished; these files of it can't be read.
    ///
    /// # Errors
    /// The disk refuses; it is as before.
    pub fn finish(
        &mut self,
        disk: &dyn Disk,
        id: u64,
        finished_ns: i64,
        mut unreadable: Vec<String>,
    ) -> Result<Option<Deletion>, StoreError> {
        unreadable.truncate(UNREADABLE_MAX);
        let Some(at) = self.records.iter().position(|record| record.deletion.id == id) else {
            return Ok(None);
        };
        let before = self.records[at].clone();
        let deletion = &mut self.records[at].deletion;
        (deletion.finished_ns, deletion.unreadable) = (Some(finished_ns), unreadable);
        let finished = deletion.clone();
        self.write(disk).inspect_err(|_| self.records[at] = before)?;
        Ok(Some(finished))
    }

    /// One took something more. It becomes durable with the manifest, not here.
    pub fn note(&mut self, step: &Progress) {
        if let Some(record) = self
            .records
            .iter_mut()
            .find(|record| record.deletion.id == step.id)
        {
            let deletion = &mut record.deletion;
            deletion.rows += step.rows;
            deletion.files += step.files;
            deletion.bytes += step.bytes;
        }
    }

    fn write(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let path = self.path();
        let mut body = Vec::new();
        for record in &self.records {
            serde_json::to_writer(&mut body, record).map_err(|error| StoreError::Deletions {
                path: path.clone(),
                problem: error.to_string(),
            })?;
            body.push(b'\n');
        }
        let bytes = stamp(MAGIC, VERSION, &body);
        Ok(atomic_rotate(disk, &path, &self.dir.join(PREVIOUS_NAME), &bytes)?)
    }
}

fn fallen_back(why: &str) -> String {
    format!(
        "{why}. The journal of deletions before it is in force, which may lack the last change: compare \
         `edgelogger-collector deletions` with what was deleted last. The damaged one is kept as {DAMAGED_NAME}"
    )
}

enum Read {
    Records(Vec<Record>),
    Absent,
    TooNew(String),
    Damaged(String),
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Read, StoreError> {
    let said = |problem: &dyn std::fmt::Display| {
        format!(
            "the journal of deletions {} can't be read: {problem}",
            path.display()
        )
    };
    let bytes = match read_file(disk, path, BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Read::Absent),
        Err(error) if error.is_of_the_medium() => return Ok(Read::Damaged(said(&error))),
        Err(error) => return Err(error.into()),
    };
    let body = match unstamp(MAGIC, VERSION, &bytes) {
        Ok((_, body)) => body,
        Err(error @ StampError::TooNew { .. }) => return Ok(Read::TooNew(said(&error))),
        Err(error) => return Ok(Read::Damaged(said(&error))),
    };
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records: Result<Vec<Record>, _> = lines.map(serde_json::from_slice).collect();
    Ok(records.map_or_else(|error| Read::Damaged(said(&error)), Read::Records))
}

#[cfg(test)]
mod tests {
    use edgelogger_common::disk::{FaultDisk, atomic_replace};

    use super::*;
    use crate::deletion::DeleteScope;

    const DIR: &str = "/store";

    fn disk() -> FaultDisk {
        let disk = FaultDisk::new(1);
        disk.create_dir_all(DIR.as_ref()).unwrap();
        disk
    }

    fn record(id: u64) -> Record {
        let deletion = Deletion {
            id,
            scope: DeleteScope {
                machine: Some("machine-17".to_owned()),
                from: Some(-5),
                ..DeleteScope::default()
            },
            who: "ada".to_owned(),
            reason: "sold, \"ticket\" 4711".to_owned(),
            accepted_ns: 7,
            finished_ns: None,
            rows: 0,
            files: 0,
            bytes: 0,
            unreadable: Vec::new(),
        };
        Record {
            deletion,
            files_below: 42,
        }
    }

    fn open(disk: &FaultDisk) -> (Journal, Vec<String>) {
        let mut problems = Vec::new();
        (
            Journal::open(disk, DIR.as_ref(), &mut problems).unwrap(),
            problems,
        )
    }

    /// One is finished, another accepted.
    fn written() -> FaultDisk {
        let disk = disk();
        let (mut journal, _) = open(&disk);
        journal.accept(&disk, record(1)).unwrap();
        journal.finish(&disk, 1, 9, vec!["a".to_owned()]).unwrap();
        journal.accept(&disk, record(2)).unwrap();
        disk
    }

    #[test]
    fn a_journal_reads_back() {
        let (journal, problems) = open(&written());
        assert!(problems.is_empty(), "{problems:?}");
        let finished = Deletion {
            finished_ns: Some(9),
            unreadable: vec!["a".to_owned()],
            ..record(1).deletion
        };
        let all: Vec<&Deletion> = journal.all().collect();
        assert_eq!(all, [&finished, &record(2).deletion]);
        assert_eq!(journal.running().collect::<Vec<_>>(), [&record(2)]);
        assert_eq!((journal.next_id(), journal.holds_files()), (3, true));
    }

    /// As the first version wrote it.
    #[test]
    fn a_journal_of_the_first_version_is_read() {
        let disk = disk();
        let golden = include_bytes!("../../tests/golden/deletions_v1");
        atomic_replace(&disk, &Path::new(DIR).join(NAME), golden).unwrap();
        let (journal, problems) = open(&disk);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(journal.running().collect::<Vec<_>>(), [&record(2)]);
        assert_eq!(journal.all().count(), 2);
    }

    #[test]
    fn with_every_damaged_byte_the_one_before_is_in_force() {
        let path = Path::new(DIR).join(NAME);
        let good = read_file(&written(), &path, 10_000).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let disk = written();
            atomic_replace(&disk, &path, &bad).unwrap();
            let (journal, problems) = open(&disk);
            assert_eq!(problems.len(), 1, "byte {at}");
            assert_eq!(journal.all().count(), 1, "byte {at}");
            assert!(journal.unusable().is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_journal_and_two_damaged_ones_stop_deletions_and_merges() {
        let newer = stamp(MAGIC, VERSION + 1, b"something else");
        for (bytes, both) in [(&newer[..], false), (b"garbage", true)] {
            let disk = written();
            atomic_replace(&disk, &Path::new(DIR).join(NAME), bytes).unwrap();
            if both {
                atomic_replace(&disk, &Path::new(DIR).join(PREVIOUS_NAME), bytes).unwrap();
            }
            let (journal, problems) = open(&disk);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(journal.unusable().is_some() && journal.holds_files());
        }
    }

    #[test]
    fn a_deletion_goes_on_when_a_file_that_it_could_not_read_is_back() {
        let (mut journal, _) = open(&written());
        assert!(journal.go_on_with(&["b"]).is_empty());
        assert_eq!(journal.go_on_with(&["a", "b"]).len(), 1);
        assert_eq!(journal.running().count(), 2);
    }
}

//! The manifest: the one file that makes a flush happen.
//!
//! ```text
//! edgelogger-store-manifest 1 crc32c=89abcdef bytes=12345\n
//! {"cursor":17,"log_id":"…","next_file":9,"files":[…],"streams":[…]}
//! ```
//!
//! The first line tells version, CRC32C and length of what follows, so that a newer one is recognised before it is
//! read. It is replaced by write-new, fsync, rename, fsync of the directory, and never changed in place; the one before
//! it stays as `manifest.previous`. When the newest can't be read the store goes back to that one, and the log, which
//! keeps what it does not have, is replayed from its cursor. Ranges are
//! pairs of numbers, each the difference to the one before, so a stream without holes costs two short numbers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::{At, Disk, atomic_rotate, read_file};
use edgelogger_common::stamped::{StampError, stamp, unstamp};
use serde::{Deserialize, Serialize};

use crate::aside::Aside;
use crate::deletion::Progress;
use crate::error::StoreError;
use crate::fold::Folded;
use crate::log_gap::LogGap;
use crate::order::ORDER;
use crate::schema::Table;
use crate::streams::{StreamRecord, StreamState, Streams};

/// The file's name in the store's directory.
pub const MANIFEST_NAME: &str = "manifest";
/// The one before it.
pub const PREVIOUS_NAME: &str = "manifest.previous";
/// One that could not be read, for a person to look at.
const DAMAGED_NAME: &str = "manifest.damaged";
/// The newest version that this build reads. It writes 1 until something is folded, 2 until something is expired, 3 until
/// something is deleted, and 4 also while a file is aside: whatever else those don't know they can ignore, but streams would
/// be stored twice, what is gone or aside would be said to be stored, and a file that is restored would be removed.
pub const MANIFEST_VERSION: u64 = 4;
/// A manifest of a million streams comes to some 200 MB.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;
const MAGIC: &str = "edgelogger-store-manifest";
/// Machines of a file that are named one by one; of files with more only the first and the last.
pub const FILE_MACHINES_MAX: usize = 64;

/// What is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Manifest {
    /// The next entry of the commit log to apply.
    pub cursor: u64,
    /// The log that the cursor counts in, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<String>,
    /// Number of the next file; names are never used again.
    pub next_file: u64,
    /// The files, in the order they were written.
    pub files: Vec<FileEntry>,
    /// What is applied of each stream.
    pub streams: Vec<StreamRecord>,
    /// Entries of the log that never came here, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_gaps: Vec<LogGap>,
    /// Streams that are folded. Since version 2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub folded: Folded,
    /// Deletions that are not finished, and what they took so far. Since version 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Progress>,
    /// Files that can't be used. Since version 4.
    #[serde(default, skip_serializing_if = "is_default")]
    pub aside: Aside,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name in the directory `files`.
    pub name: String,
    /// Whose rows.
    pub table: Table,
    /// The day all its rows belong to (days since 1970-01-01 UTC): what retention goes by.
    pub day: i64,
    /// Rows.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// CRC32C of all of it. Files of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<u32>,
    /// First and last `time`, ns.
    pub time: (i64, i64),
    /// First and last `received_time`, ns.
    pub received: (i64, i64),
    /// First and last machine.
    pub machine: (String, String),
    /// All machines, sorted, where there are not more than [`FILE_MACHINES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
    /// The order of its rows, as `order.rs` numbers them. Files of earlier versions have none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: u8,
}

impl FileEntry {
    /// Has it rows of this machine, as far as it says?
    #[must_use]
    pub fn may_hold(&self, machine: &str) -> bool {
        let named = self.machines.is_empty() || self.machines.iter().any(|named| named == machine);
        named && self.machine.0.as_str() <= machine && machine <= self.machine.1.as_str()
    }

    /// Its machines; where there are very many, the first and the last.
    #[must_use]
    pub fn machine_names(&self) -> Vec<String> {
        if self.machines.is_empty() {
            return vec![self.machine.0.clone(), self.machine.1.clone()];
        }
        self.machines.clone()
    }

    /// Are its rows in the order of now?
    pub(crate) fn is_sorted(&self) -> bool {
        self.table == Table::Logs || self.order >= ORDER
    }

    /// May both have rows of one machine?
    pub(crate) fn shares_machines(&self, other: &Self) -> bool {
        if self.machines.is_empty() {
            return self.machine.0 <= other.machine.1 && other.machine.0 <= self.machine.1;
        }
        self.machines.iter().any(|machine| other.may_hold(machine))
    }
}

/// Where the manifest of a store lies.
pub fn manifest_path(dir: &Path) -> PathBuf {
    dir.join(MANIFEST_NAME)
}

/// What a store is opened with.
#[derive(Debug, Default)]
pub struct Found {
    /// The manifest in force; empty where there was none.
    pub manifest: Manifest,
    /// Its streams.
    pub streams: Streams,
    /// Files that only the one before it names. They stay until it goes.
    pub previous_files: Vec<String>,
    /// The cursor of the one before it: from there the log is replayed should this one be damaged.
    pub previous_cursor: Option<u64>,
    /// Why the newest could not be used, where the one before it is in force.
    pub fallen_back: Option<String>,
}

/// The manifest of a store. What is returned is durable: a rename that a crash kept from the medium is synced first.
///
/// # Errors
/// The disk fails, or there is no manifest that can be used and there was one.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Found, StoreError> {
    disk.sync_dir(dir).at("sync directory", dir)?;
    let previous_path = dir.join(PREVIOUS_NAME);
    let newest = read_one(disk, &manifest_path(dir));
    let previous = read_one(disk, &previous_path);
    match (newest, previous) {
        (Ok(Some((manifest, streams))), previous) => {
            // What is wrong with the second copy matters only to whoever needs it.
            let previous = previous.ok().flatten();
            Ok(Found {
                previous_cursor: previous.as_ref().map(|(previous, _)| previous.cursor),
                previous_files: previous.map_or_else(Vec::new, |(previous, _)| names(&previous)),
                manifest,
                streams,
                fallen_back: None,
            })
        }
        (Ok(None), Ok(None)) => Ok(Found::default()),
        // A crash came between the two renames.
        (Ok(None), previous) => previous.map(|previous| found(previous, None)),
        (Err(error), Ok(previous @ Some(_))) if is_damage(&error) => {
            let damaged = dir.join(DAMAGED_NAME);
            // It must not become the second copy.
            disk.rename(&manifest_path(dir), &damaged)
                .at("rename", &damaged)?;
            disk.sync_dir(dir).at("sync directory", dir)?;
            Ok(found(previous, Some(error.to_string())))
        }
        (Err(error), _) => Err(error),
    }
}

/// The newest manifest of a store, without any change on disk; empty where nothing was flushed yet.
///
/// # Errors
/// It can't be read.
pub fn look(disk: &dyn Disk, dir: &Path) -> Result<(Manifest, Streams), StoreError> {
    let path = manifest_path(dir);
    // A crash may have come between the two renames, and nothing was written since.
    let found = match read_one(disk, &path)? {
        None => read_one(disk, &dir.join(PREVIOUS_NAME))?,
        newest => newest,
    };
    Ok(found.unwrap_or_default())
}

fn found(previous: Option<(Manifest, Streams)>, fallen_back: Option<String>) -> Found {
    let (manifest, streams) = previous.unwrap_or_default();
    Found {
        manifest,
        streams,
        fallen_back,
        ..Found::default()
    }
}

fn names(manifest: &Manifest) -> Vec<String> {
    let files = manifest.files.iter().map(|file| &file.name);
    let aside = manifest.aside.files.iter().map(|file| &file.entry.name);
    files
        .chain(aside)
        .chain(manifest.folded.names())
        .cloned()
        .collect()
}

/// Not one of a newer version: that has to be read by a newer collector, or its work would be undone. Not a disk that
/// fails for the moment.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Manifest { .. } => true,
        StoreError::Disk(error) => error.is_of_the_medium(),
        _ => false,
    }
}

fn read_one(disk: &dyn Disk, path: &Path) -> Result<Option<(Manifest, Streams)>, StoreError> {
    let bytes = match read_file(disk, path, MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut manifest = parse(path, &bytes)?;
    let records = std::mem::take(&mut manifest.streams);
    let streams = Streams::from_records(records).map_err(|problem| unusable(path, problem))?;
    Ok(Some((manifest, streams)))
}

/// Replaces the manifest, durably; the one before it stays beside it.
pub fn write(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let path = manifest_path(dir);
    let body = serde_json::to_vec(manifest).map_err(|error| unusable(&path, error.to_string()))?;
    // What could not be read again must not replace what can.
    if body.len() as u64 >= MANIFEST_BYTES_MAX / 2 {
        let problem = format!(
            "it would come to {} bytes, more than can be read again: too many streams were ever seen",
            body.len()
        );
        return Err(unusable(&path, problem));
    }
    let bytes = stamp(MAGIC, version(manifest), &body);
    Ok(atomic_rotate(disk, &path, &dir.join(PREVIOUS_NAME), &bytes)?)
}

/// The oldest version whose readers do nothing wrong with it.
fn version(manifest: &Manifest) -> u64 {
    let any = |has: fn(&StreamState) -> bool| manifest.streams.iter().any(|record| has(&record.state));
    let is_aside = !is_default(&manifest.aside);
    if is_aside || !manifest.deletions.is_empty() || any(StreamState::has_deleted) {
        MANIFEST_VERSION
    } else if any(StreamState::has_expired) {
        3
    } else if is_default(&manifest.folded) {
        1
    } else {
        2
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, StoreError> {
    let (_, body) = unstamp(MAGIC, MANIFEST_VERSION, bytes).map_err(|error| match error {
        StampError::TooNew { found, known } => StoreError::ManifestVersion {
            path: path.to_path_buf(),
            found,
            known,
        },
        StampError::Damaged(problem) => unusable(path, problem.to_owned()),
    })?;
    serde_json::from_slice(body).map_err(|error| unusable(path, error.to_string()))
}

fn unusable(path: &Path, problem: String) -> StoreError {
    StoreError::Manifest {
        path: path.to_path_buf(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgelogger_common::disk::{FaultDisk, atomic_replace};

    const DIR: &str = "/store";

    fn disk() -> FaultDisk {
        let disk = FaultDisk::new(1);
        disk.create_dir_all(DIR.as_ref()).unwrap();
        disk
    }

    fn put(disk: &FaultDisk, bytes: &[u8]) {
        atomic_replace(disk, &manifest_path(DIR.as_ref()), bytes).unwrap();
    }

    fn of(cursor: u64) -> Manifest {
        Manifest {
            cursor,
            next_file: 3,
            ..Manifest::default()
        }
    }

    fn written(cursors: &[u64]) -> FaultDisk {
        let disk = disk();
        for cursor in cursors {
            write(&disk, DIR.as_ref(), &of(*cursor)).unwrap();
        }
        disk
    }

    #[test]
    fn a_manifest_reads_back_and_an_absent_one_is_empty() {
        let disk = disk();
        let found = read(&disk, DIR.as_ref()).unwrap();
        assert_eq!(
            (found.manifest, found.previous_cursor),
            (Manifest::default(), None)
        );
        write(&disk, DIR.as_ref(), &of(7)).unwrap();
        assert_eq!(read(&disk, DIR.as_ref()).unwrap().manifest, of(7));
    }

    /// As the first version wrote it.
    #[test]
    fn a_manifest_of_the_first_version_is_read() {
        let disk = disk();
        put(&disk, include_bytes!("../tests/golden/manifest_v1"));
        let Found {
            manifest, streams, ..
        } = read(&disk, DIR.as_ref()).unwrap();
        assert_eq!(
            (manifest.cursor, manifest.next_file, manifest.files.len()),
            (17, 9, 1)
        );
        let (_, state) = streams.iter().next().unwrap();
        assert_eq!(
            (state.applied(), state.gaps.len(), state.rows),
            (&[0..100, 120..130][..], 1, 7)
        );
        assert!(state.write_offs().is_empty() && manifest.log_gaps.is_empty());
    }

    #[test]
    fn a_newer_manifest_is_refused_by_its_version_alone_and_never_fallen_back_from() {
        let disk = written(&[5, 7]);
        put(&disk, b"edgelogger-store-manifest 5 something else\nnot json");
        let error = read(&disk, DIR.as_ref()).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::ManifestVersion {
                    found: 5,
                    known: 4,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn with_every_damaged_byte_the_one_before_is_in_force() {
        let good = read_file(&written(&[5, 99]), &manifest_path(DIR.as_ref()), 10_000).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            // The version is a digit: it may have become a newer one.
            let is_version = good[at] == b'1' && at == MAGIC.len() + 1;
            for bytes in [&bad[..], &good[..at]] {
                let disk = written(&[5, 99]);
                put(&disk, bytes);
                match read(&disk, DIR.as_ref()) {
                    Ok(found) => assert_eq!((found.manifest, found.fallen_back.is_some()), (of(5), true)),
                    Err(error) => assert!(is_version, "byte {at}: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_damaged_one_is_kept_and_never_becomes_the_second_copy() {
        let disk = written(&[5, 7]);
        put(&disk, b"garbage");
        read(&disk, DIR.as_ref()).unwrap();
        assert_eq!(
            disk.contents(&Path::new(DIR).join(DAMAGED_NAME)).as_deref(),
            Some(&b"garbage"[..])
        );
        write(&disk, DIR.as_ref(), &of(8)).unwrap();
        let found = read(&disk, DIR.as_ref()).unwrap();
        assert_eq!((found.manifest, found.previous_cursor), (of(8), Some(5)));
    }

    #[test]
    fn without_any_that_can_be_read_it_is_an_error_and_both_stay() {
        let disk = written(&[5, 7]);
        for name in [MANIFEST_NAME, PREVIOUS_NAME] {
            atomic_replace(&disk, &Path::new(DIR).join(name), b"garbage").unwrap();
        }
        for _ in 0..2 {
            let error = read(&disk, DIR.as_ref()).unwrap_err();
            assert!(matches!(error, StoreError::Manifest { .. }), "{error}");
        }
        let names = disk.list_files(DIR.as_ref()).unwrap();
        assert_eq!(names, [MANIFEST_NAME, PREVIOUS_NAME]);
    }
}

//! The manifest: the one file that makes a flush happen.
//!
//! ```text
//! edgelogger-store-manifest 1 crc32c=89abcdef bytes=12345\n
//! {"cursor":17,"log_id":"…","next_file":9,"files":[…],"streams":[…]}
//! ```
//!
//! The first line tells version, CRC32C and length of what follows, so that a newer one is recognised before it is
//! read. It is replaced by write-new, fsync, rename, fsync of the directory, and never changed in place. Ranges are
//! pairs of numbers, each the difference to the one before, so a stream without holes costs two short numbers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use edgelogger_common::disk::{At, Disk, atomic_replace, read_file};
use edgelogger_common::stamped::{StampError, stamp, unstamp};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::log_gap::LogGap;
use crate::schema::Table;
use crate::streams::StreamRecord;

/// The file's name in the store's directory.
pub const MANIFEST_NAME: &str = "manifest";
/// The version this build writes, and the newest it reads.
pub const MANIFEST_VERSION: u64 = 1;
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
    /// First and last `time`, ns.
    pub time: (i64, i64),
    /// First and last `received_time`, ns.
    pub received: (i64, i64),
    /// First and last machine.
    pub machine: (String, String),
    /// All machines, sorted, where there are not more than [`FILE_MACHINES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
}

/// Where the manifest of a store lies.
pub fn manifest_path(dir: &Path) -> PathBuf {
    dir.join(MANIFEST_NAME)
}

/// The manifest of a store, or `None` where there is none yet. What is returned is durable: a rename that a crash kept
/// from the medium is synced first.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, StoreError> {
    let path = manifest_path(dir);
    disk.sync_dir(dir).at("sync directory", dir)?;
    match read_file(disk, &path, MANIFEST_BYTES_MAX) {
        Ok(bytes) => parse(&path, &bytes).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Replaces the manifest, durably.
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
    let bytes = stamp(MAGIC, MANIFEST_VERSION, &body);
    Ok(atomic_replace(disk, &path, &bytes)?)
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
    use edgelogger_common::disk::FaultDisk;

    const DIR: &str = "/store";

    fn disk() -> FaultDisk {
        let disk = FaultDisk::new(1);
        disk.create_dir_all(DIR.as_ref()).unwrap();
        disk
    }

    fn put(disk: &FaultDisk, bytes: &[u8]) {
        atomic_replace(disk, &manifest_path(DIR.as_ref()), bytes).unwrap();
    }

    #[test]
    fn a_manifest_reads_back_and_an_absent_one_is_none() {
        let disk = disk();
        assert_eq!(read(&disk, DIR.as_ref()).unwrap(), None);
        let manifest = Manifest {
            cursor: 7,
            next_file: 3,
            ..Manifest::default()
        };
        write(&disk, DIR.as_ref(), &manifest).unwrap();
        assert_eq!(read(&disk, DIR.as_ref()).unwrap(), Some(manifest));
    }

    /// As the first version wrote it.
    #[test]
    fn a_manifest_of_the_first_version_is_read() {
        let disk = disk();
        let golden = include_bytes!("../tests/golden/manifest_v1");
        put(&disk, golden);
        let manifest = read(&disk, DIR.as_ref()).unwrap().unwrap();
        assert_eq!(
            (manifest.cursor, manifest.next_file, manifest.files.len()),
            (17, 9, 1)
        );
        let state = &manifest.streams[0].state;
        assert_eq!(
            (state.applied(), state.gaps.len(), state.rows),
            (&[0..100, 120..130][..], 1, 7)
        );
        assert!(state.write_offs().is_empty() && manifest.log_gaps.is_empty());
    }

    #[test]
    fn a_newer_manifest_is_refused_by_its_version_alone() {
        let disk = disk();
        put(&disk, b"edgelogger-store-manifest 2 something else\nnot json");
        let error = read(&disk, DIR.as_ref()).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::ManifestVersion {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn every_damaged_byte_of_a_manifest_is_noticed() {
        let disk = disk();
        write(
            &disk,
            DIR.as_ref(),
            &Manifest {
                cursor: 99,
                ..Manifest::default()
            },
        )
        .unwrap();
        let good = read_file(&disk, &manifest_path(DIR.as_ref()), 10_000).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            put(&disk, &bad);
            assert!(read(&disk, DIR.as_ref()).is_err(), "byte {at}");
            put(&disk, &good[..at]);
            assert!(read(&disk, DIR.as_ref()).is_err(), "cut at {at}");
        }
    }
}

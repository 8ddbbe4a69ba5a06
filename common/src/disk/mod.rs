//! The seam through which everything durable touches the file system.
//!
//! Checkpoints, spool, commit log and manifests speak to a [`Disk`]; production gives them [`OsDisk`], tests
//! give them a [`FaultDisk`], which forgets what was not synced, tears writes and fails when told to.
//!
//! | file | idea |
//! | --- | --- |
//! | `mod.rs` | the two traits, and what is built on them: [`atomic_replace`], [`create_dir_all_durable`] |
//! | `error.rs` | an I/O error with the place where it happened and what to do about it |
//! | `poison.rs` | a file that failed once is not written again |
//! | `os.rs` | the real file system |
//! | `fault.rs`, `fault_disk.rs`, `fault_world.rs` | the failing one: its faults; its handles; its medium and page cache |
//!
//! # Rules
//!
//! - **A file is poisoned by its first failed write, truncation or sync.** Linux marks the pages of a failed
//!   `fsync` clean: the next one succeeds and means nothing. So every later write and sync of that handle fails;
//!   the owner reopens the file, calls [`DiskFile::drop_cache`], and verifies what the medium really holds.
//! - **A name is durable after [`Disk::sync_dir`] of its directory**, whatever happened to the file itself.
//! - Files are written at their end only. Nothing here needs more, and appending keeps torn writes at the tail.

mod error;
mod fault;
mod fault_disk;
mod fault_world;
mod os;
mod poison;
#[cfg(test)]
mod tests;

pub use error::{At, DiskError};
pub use fault::{Effect, Fault, FaultDisk, Operation};
pub use fault_world::Survivors;
pub use os::OsDisk;
pub use poison::Poison;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and appending.
    ReadAppend,
}

/// Held while a directory belongs to this process; dropping it gives it back.
#[derive(Debug)]
pub struct DiskLock(#[expect(dead_code, reason = "held for its Drop")] Box<dyn LockGuard>);

impl DiskLock {
    /// Wraps what an implementation holds.
    pub fn new(guard: impl LockGuard + 'static) -> Self {
        Self(Box::new(guard))
    }
}

/// What a [`DiskLock`] may hold: anything that gives the lock back when it is dropped.
pub trait LockGuard: Send + Sync + Debug {}

/// A file system.
pub trait Disk: Send + Sync + Debug {
    /// Creates a file for reading and appending; `AlreadyExists` if there is one.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, replacing the target. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Names of the regular files in a directory, sorted. Names that are not UTF-8 are left out: none of
    /// ours is.
    fn list_files(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and those above it. [`create_dir_all_durable`] makes that durable too.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in this directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Length of a file in bytes.
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// Does a file or directory of this name exist?
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes that this process could still write below `path`.
    fn available_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Size of the file system that holds `path`, in bytes.
    fn total_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Takes the lock file `path` (created when missing); `WouldBlock` when another holds it.
    fn lock(&self, path: &Path) -> io::Result<DiskLock>;
}

/// An open file that grows at its end.
pub trait DiskFile: Send + Sync + Debug {
    /// Where the next append goes: the length of the file, in bytes.
    fn end(&self) -> u64;
    /// Reads at an offset; 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all slices one after another at the end. Not durable before [`DiskFile::sync_data`].
    fn append(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()>;
    /// Cuts (or extends with zeroes) to this length.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Makes content and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Forgets clean pages, so that the next read asks the medium. Recovery calls it after a sync and before
    /// it believes what it reads.
    fn drop_cache(&self) -> io::Result<()>;
    /// Has a write or sync of this handle failed?
    fn is_poisoned(&self) -> bool;
}

/// Reads a whole file of at most `bytes_max` bytes; `FileTooLarge` beyond.
///
/// # Errors
/// As the disk gives them, with the path.
pub fn read_file(disk: &dyn Disk, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(path, Access::Read).at("open", path)?;
    let too_large = || {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {bytes_max} bytes"),
        )
    };
    let len = file.end();
    if len > bytes_max {
        return Err(DiskError::new("read", path, too_large()));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| DiskError::new("read", path, too_large()))?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file
            .read_at(&mut bytes[filled..], filled as u64)
            .at("read", path)?
        {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Replaces the content of `path`: after a crash at any moment the file holds the old bytes or the new ones,
/// and when this returns it holds the new ones durably.
///
/// Writes `<name>.new`, syncs it, renames it over `path`, syncs the directory. A `.new` left by a crash is
/// removed first.
///
/// # Errors
/// Whatever fails, with its path; the old content is then still in place (or, if only the last step failed,
/// the new content without certainty).
pub fn atomic_replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let new_path = write_new(disk, path, bytes)?;
    disk.rename(&new_path, path).at("rename", &new_path)?;
    let dir = parent(path);
    disk.sync_dir(dir).at("sync directory", dir)
}

/// As [`atomic_replace`], and what was there stays under another name. After a crash at any moment there are the old bytes
/// under one of both names, or the new ones under the first and the old ones under the second.
///
/// # Errors
/// As [`atomic_replace`].
pub fn atomic_rotate(disk: &dyn Disk, path: &Path, previous: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let new_path = write_new(disk, path, bytes)?;
    match disk.rename(path, previous) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(DiskError::new("rename", path, e)),
        _ => {}
    }
    disk.rename(&new_path, path).at("rename", &new_path)?;
    let dir = parent(path);
    disk.sync_dir(dir).at("sync directory", dir)
}

/// The bytes in a file beside `path`, durable but for its name.
fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<PathBuf, DiskError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(NEW_SUFFIX);
    let new_path = path.with_file_name(name);
    match disk.remove_file(&new_path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(DiskError::new("remove", &new_path, e)),
        _ => {}
    }
    let mut file = disk.create_new(&new_path).at("create", &new_path)?;
    file.append(&[IoSlice::new(bytes)]).at("write", &new_path)?;
    file.sync_data().at("sync", &new_path)?;
    Ok(new_path)
}

/// What [`atomic_replace`] appends to a name while it writes.
pub const NEW_SUFFIX: &str = ".new";

/// Creates a directory and those above it, durably: one level after another, each synced in its parent before
/// the next. The parent of what already exists is synced too, because an earlier process may have been killed
/// between the two steps.
///
/// # Errors
/// Whatever fails, with its path.
pub fn create_dir_all_durable(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    let mut missing: Vec<&Path> = Vec::new();
    let mut at = dir;
    while !disk.exists(at).at("look at", at)? && parent(at) != at {
        missing.push(at);
        at = parent(at);
    }
    let above = parent(at);
    match disk.sync_dir(above) {
        // A directory that we may not even read holds what an administrator made for us long ago.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        other => other.at("sync directory", above)?,
    }
    for level in missing.into_iter().rev() {
        disk.create_dir_all(level).at("create directory", level)?;
        disk.sync_dir(parent(level)).at("sync directory", parent(level))?;
    }
    Ok(())
}

/// The directory that holds `path`; `.` for a bare name.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => path,
    }
}

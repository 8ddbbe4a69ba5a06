//! Small files that must be whole or absent, and private from their first byte: keys and certificates.
//!
//! A file is written under a temporary name with its final mode, synced, and renamed; then the directory is
//! synced. A crash leaves the old file, the new one, or none, plus at worst a `.NAME.RANDOM.tmp` beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Largest key or certificate file that is read; real ones have a few KiB.
pub(crate) const SECRET_FILE_BYTES_MAX: u64 = 256 << 10;

/// Mode of private keys.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of certificates and public keys.
pub(crate) const PUBLIC: u32 = 0o644;

/// What could not be done to which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// "read" or "write".
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The content as text, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    let error = |source| FileError {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(other) => return Err(error(other)),
    };
    let mut text = String::new();
    file.take(SECRET_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(error)?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(error(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "too large for a key or certificate",
        )));
    }
    Ok(Some(text))
}

/// The content, made by `make` and stored first if the file is absent. Of several processes that do this at
/// once one wins, and all return what it stored.
pub(crate) fn read_or_create<E: From<FileError>>(
    path: &Path,
    mode: u32,
    make: impl FnOnce() -> Result<String, E>,
) -> Result<String, E> {
    if let Some(text) = read(path)? {
        // Whoever put it there may have ended before it was kept for good. Where this is not allowed, it was given by
        // somebody else.
        let _ = sync_directory(path);
        return Ok(text);
    }
    let made = make()?;
    if write(path, &made, mode, RenameFlags::NOREPLACE)? {
        return Ok(made);
    }
    let lost = || io::Error::other("it was created and removed by another process; start again");
    Ok(read(path)?.ok_or_else(|| FileError {
        action: "read",
        path: path.to_owned(),
        source: lost(),
    })?)
}

/// Stores the content, whatever was there.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    write(path, text, mode, RenameFlags::empty()).map(|_| ())
}

/// Whether the file was put in place; `false` if `NOREPLACE` found another one there.
fn write(path: &Path, text: &str, mode: u32, flags: RenameFlags) -> Result<bool, FileError> {
    let error = |source| FileError {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let directory = directory_of(path);
    fs::create_dir_all(directory).map_err(error)?;
    let temporary = temporary_name(directory, path);
    let stored = write_synced(&temporary, text, mode).and_then(|()| rename(&temporary, path, flags));
    if !matches!(stored, Ok(true)) {
        // The reason for failing is what matters; a leftover is harmless, its name is never used again.
        let _ = fs::remove_file(&temporary);
    }
    let stored = stored.map_err(error)?;
    sync_directory(path).map_err(error)?;
    Ok(stored)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write_synced(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, flags) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // File systems without RENAME_NOREPLACE (NFS, some FUSE): a small window is better than no key.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(from, to).map(|()| true),
        Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

fn temporary_name(directory: &Path, path: &Path) -> PathBuf {
    let mut random = [0; 8];
    // Without randomness the name is fixed, and a leftover of that name is reported by create_new.
    let _ = getrandom::fill(&mut random);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    directory.join(format!(".{name}.{:016x}.tmp", u64::from_le_bytes(random)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_private_file_is_made_once_with_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/key");
        let make =
            |text: &str| read_or_create(&path, PRIVATE, || Ok::<_, FileError>(text.to_owned())).unwrap();
        assert_eq!(make("first"), "first");
        assert_eq!(make("second"), "first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace(&path, "third", PRIVATE).unwrap();
        assert_eq!(make("fourth"), "third");
        assert_eq!(names(path.parent().unwrap()), ["key"]);
    }

    #[test]
    fn the_loser_of_a_race_gets_what_the_winner_stored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let text = read_or_create(&path, PRIVATE, || {
            replace(&path, "winner", PRIVATE)?;
            Ok::<_, FileError>("loser".to_owned())
        });
        assert_eq!(text.unwrap(), "winner");
        assert_eq!(names(dir.path()), ["key"]);
    }

    #[test]
    fn an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot read {}: ", dir.path().display())),
            "{error}"
        );
    }
}

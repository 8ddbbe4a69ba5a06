//! An I/O error that says what was attempted, where, and what a person can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on the file system failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
pub struct DiskError {
    /// What was attempted, as a verb: "open", "sync".
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system answered.
    pub source: io::Error,
}

impl DiskError {
    /// An error with its place.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    /// The kind of the cause.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Did the medium itself fail (EIO)?
    #[must_use]
    pub fn is_of_the_medium(&self) -> bool {
        self.source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
    }
}

/// Gives an `io::Result` its place.
pub trait At<T> {
    /// Adds what was attempted and where.
    ///
    /// # Errors
    /// The same one, with its place.
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::new(action, path, source))
    }
}

/// What to do about it, where the kind of error tells.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free space on this file system, or lower the configured limit",
        io::ErrorKind::QuotaExceeded => "; raise the quota of this user, or lower the configured limit",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is read-only: see the kernel log (dmesg), repair it, mount it writable"
        }
        io::ErrorKind::PermissionDenied => "; give the directory to the user that runs this program",
        io::ErrorKind::WouldBlock => "; another process holds it: stop that one first",
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            "; the device reports errors: see the kernel log (dmesg), replace it"
        }
        _ => "",
    }
}

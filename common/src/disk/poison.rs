//! The rule that a file which failed once is never written or synced again through the same handle.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Remembers a failure. Every implementation of `DiskFile` holds one.
#[derive(Debug, Default)]
pub struct Poison(AtomicBool);

/// Why a poisoned file refuses.
#[derive(Debug, thiserror::Error)]
#[error("an earlier write or sync of this file failed; it must be reopened and verified")]
pub struct Poisoned;

impl Poison {
    /// Runs a write or sync, unless an earlier one failed; remembers a failure.
    ///
    /// # Errors
    /// An error of kind `Other` when it is poisoned, else the operation's own.
    pub fn guard<T>(&self, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.is_set() {
            return Err(io::Error::other(Poisoned));
        }
        operation().inspect_err(|_| self.0.store(true, Ordering::SeqCst))
    }

    /// Has an operation failed?
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

//! Deletion: rows of a machine, a source and a time go, for a reason that somebody gave.
//!
//! | file | idea |
//! | --- | --- |
//! | `scope.rs` | which rows |
//! | `journal.rs` | who deleted what and why, for ever; what is not finished goes on from there |
//! | `rewrite.rs` | a file without some of its rows |
//! | `plan.rs` | what would go |
//!
//! `embedded/delete.rs` carries deletions out.
//!
//! # What a deletion covers
//! Every row that was stored when it was accepted, in files and in memory. What comes in afterwards is stored, whatever
//! its time. What is deleted stays applied: sent again, or read again from the log, it is a repeat.
//!
//! # How far a deletion is
//! When a deletion is accepted all rows in memory are written, so that what it covers lies in files of a number below
//! that of the next one ([`Record::files_below`]). It takes one such file after the other: a file of which nothing stays
//! is dropped, another gets a new number. So the manifest itself says what is left to do, and a crash at any moment costs
//! one file's work. Counts stand in the manifest too ([`Progress`]). Files are not merged meanwhile, as a merge would give
//! rows that are to go a new number; a file that is written anew loses the rows of every deletion that covers it.

mod journal;
mod plan;
mod rewrite;
mod scope;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::write_off::WHY_BYTES_MAX;

pub use journal::{DELETIONS_MAX, Journal, RUNNING_MAX, Record};
pub use plan::{plan, share};
pub use rewrite::{Found, rewrite, scan};
pub use scope::DeleteScope;

/// Bytes of the name of whoever deletes.
const WHO_BYTES_MAX: usize = 1024;

/// What somebody wants to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Which rows.
    pub scope: DeleteScope,
    /// Who says so.
    pub who: String,
    /// Why, for whoever reads the journal.
    pub reason: String,
}

/// A deletion that was accepted. It is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// Counts from 1.
    pub id: u64,
    /// Which rows.
    pub scope: DeleteScope,
    /// Who said so.
    pub who: String,
    /// Why.
    pub reason: String,
    /// When, ns UTC.
    pub accepted_ns: i64,
    /// When it was finished, ns UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ns: Option<i64>,
    /// Rows that are gone.
    pub rows: u64,
    /// Files that were dropped, or written again without these rows.
    pub files: u64,
    /// Bytes by which files became smaller.
    pub bytes: u64,
    /// Files that can't be read, and may hold such rows. When they come back the deletion goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// What a deletion took so far, in the manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of which deletion.
    pub id: u64,
    /// Rows that are gone.
    pub rows: u64,
    /// Files that were dropped, or written again.
    pub files: u64,
    /// Bytes by which files became smaller.
    pub bytes: u64,
}

impl Progress {
    /// Takes in a further step of the same deletion.
    pub const fn add(&mut self, step: &Self) {
        self.rows += step.rows;
        self.files += step.files;
        self.bytes += step.bytes;
    }
}

/// What a deletion would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletePlan {
    /// Rows.
    pub rows: u64,
    /// Bytes by which files would become smaller, about.
    pub bytes: u64,
    /// Files that would be dropped, or written again.
    pub files: u64,
    /// Whose, the largest first; at most [`PLAN_PARTS_MAX`].
    pub parts: Vec<DeletePart>,
    /// Machines and sources beyond these.
    pub parts_untold: u64,
    /// Files that can't be read, and may hold such rows.
    pub unreadable: Vec<String>,
}

/// Machines and sources of a plan that are named one by one.
pub const PLAN_PARTS_MAX: usize = 1_000;

/// What would go of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletePart {
    /// Of this machine.
    pub machine: String,
    /// The source.
    pub source: String,
    /// Rows.
    pub rows: u64,
}

/// Why nothing is deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// A request that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Others have to be finished first.
    #[error("{RUNNING_MAX} deletions are not finished yet, more are not accepted; ask again when some are")]
    Busy,
    /// The store can't make it durable now.
    #[error("nothing was deleted: {0}")]
    Store(#[from] StoreError),
}

impl DeleteRequest {
    /// Does it say which rows, who and why?
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), DeleteError> {
        self.scope.check()?;
        let is_text = |text: &str, bytes_max: usize| {
            !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
        };
        if !is_text(&self.reason, WHY_BYTES_MAX) {
            return Err(DeleteError::Invalid(format!(
                "a reason of 1 to {WHY_BYTES_MAX} bytes without control characters is needed: it is kept for ever"
            )));
        }
        if !is_text(&self.who, WHO_BYTES_MAX) {
            return Err(DeleteError::Invalid(format!(
                "whoever deletes has to have a name of 1 to {WHO_BYTES_MAX} bytes"
            )));
        }
        Ok(())
    }
}

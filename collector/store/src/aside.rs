//! Files that can't be used: what is known of them, and of their rows.

use edgelogger_common::stream::StreamId;
use serde::{Deserialize, Serialize};

use crate::gone::Gone;
use crate::manifest::FileEntry;

/// A file that was put aside: it was found damaged, cut short or gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideFile {
    /// As the manifest named it.
    pub entry: FileEntry,
    /// What is wrong with it.
    pub reason: String,
    /// When that was found, ms UTC.
    pub noted_ms: i64,
}

/// What of one stream was in files that are aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideStream {
    /// Whose stream.
    pub machine: String,
    /// Which.
    pub id: String,
    /// Its positions and rows.
    #[serde(flatten)]
    pub gone: Gone,
}

/// All that is aside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// In the order in which they were found.
    pub files: Vec<AsideFile>,
    /// What was in them, by machine and id; empty until it is accounted for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<AsideStream>,
    /// Is `streams` what was in `files`?
    #[serde(default)]
    pub is_accounted: bool,
}

impl Aside {
    /// One more file.
    pub fn add(&mut self, file: AsideFile) {
        self.files.push(file);
        self.is_accounted = false;
    }

    /// Files that are not aside any more. What is left is accounted for anew.
    pub fn remove(&mut self, is_back: impl Fn(&FileEntry) -> bool) {
        let before = self.files.len();
        self.files.retain(|file| !is_back(&file.entry));
        if self.files.is_empty() {
            *self = Self::default();
        } else if self.files.len() < before {
            self.is_accounted = false;
        }
    }

    /// Does one of them name this machine, or might it?
    pub fn may_hold(&self, machine: &str) -> bool {
        self.files.iter().any(|file| file.entry.may_hold(machine))
    }

    /// What of this stream was in them.
    #[must_use]
    pub fn of(&self, machine: &str, id: StreamId) -> Option<&Gone> {
        if self.streams.is_empty() {
            return None;
        }
        let id = id.to_string();
        let wanted = (machine, id.as_str());
        let key = |stream: &AsideStream| (stream.machine.as_str(), stream.id.as_str()).cmp(&wanted);
        let at = self.streams.binary_search_by(key).ok()?;
        Some(&self.streams[at].gone)
    }
}

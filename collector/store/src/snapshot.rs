//! What one query sees: rows in memory and files, taken in one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::aside::{Aside, AsideFile};
use crate::live_file::LiveFile;
use crate::manifest::FileEntry;
use crate::recent::Generation;
use crate::rows::Rows;
use crate::schema::Table;
use crate::store::MissingFile;

/// What queries may see now. Every change of it is one step under its lock.
#[derive(Debug)]
pub struct Visible {
    /// Takes rows in.
    pub active: Generation,
    /// Is being written to files, or waits for the disk to come back.
    pub frozen: Option<Arc<Generation>>,
    /// Files of the durable manifest.
    pub files: Arc<Vec<Arc<LiveFile>>>,
    /// Files that can't be used.
    pub aside: Arc<Aside>,
}

/// The files of a manifest.
#[derive(Debug)]
pub struct Named {
    pub files: Vec<FileEntry>,
    pub aside: Arc<Aside>,
}

impl Named {
    /// Takes these out, also from those that were put aside meanwhile. Gives how many of them were there.
    pub fn remove(&mut self, old: &[Arc<LiveFile>]) -> usize {
        let is_old = |entry: &FileEntry| old.iter().any(|file| file.entry.name == entry.name);
        let before = self.files.len() + self.aside.files.len();
        self.files.retain(|entry| !is_old(entry));
        Arc::make_mut(&mut self.aside).remove(is_old);
        before - self.files.len() - self.aside.files.len()
    }
}

/// All rows at one moment, each exactly once.
#[derive(Debug, Clone)]
pub struct Snapshot {
    logs: Arc<Vec<Arc<Rows>>>,
    metrics: Arc<Vec<Arc<Rows>>>,
    files: Arc<Vec<Arc<LiveFile>>>,
    aside: Arc<Aside>,
    met: Met,
}

/// What queries over a snapshot met: files that they opened, and those that they would have opened. By name.
#[derive(Debug, Clone, Default)]
pub struct Met(Arc<Mutex<MetFiles>>);

#[derive(Debug, Default)]
struct MetFiles {
    opened: BTreeMap<String, Arc<LiveFile>>,
    missing: BTreeMap<String, String>,
}

impl Met {
    /// A file is opened.
    pub fn opens(&self, file: &Arc<LiveFile>) {
        let mut met = self.0.lock();
        met.opened.insert(file.entry.name.clone(), Arc::clone(file));
    }

    /// A file would be opened if it was not aside.
    pub fn misses(&self, file: &AsideFile) {
        let mut met = self.0.lock();
        met.missing.insert(file.entry.name.clone(), file.reason.clone());
    }
}

impl Visible {
    /// What the manifest names.
    pub fn named(&self) -> Named {
        Named {
            files: self.files.iter().map(|file| file.entry.clone()).collect(),
            aside: Arc::clone(&self.aside),
        }
    }

    /// Files in the place of others.
    pub fn exchange(&mut self, old: &[Arc<LiveFile>], new: &[Arc<LiveFile>]) {
        let is_old = |entry: &FileEntry| old.iter().any(|file| file.entry.name == entry.name);
        let files = self.files.iter().filter(|file| !is_old(&file.entry));
        self.files = Arc::new(files.chain(new).cloned().collect());
        // One of them may have been put aside meanwhile.
        if self.aside.files.iter().any(|file| is_old(&file.entry)) {
            Arc::make_mut(&mut self.aside).remove(is_old);
        }
    }

    /// A snapshot of this moment. Copies references only.
    pub fn snapshot(&self) -> Snapshot {
        let recent = |table| {
            let generations = self.frozen.as_deref().into_iter().chain([&self.active]);
            Arc::new(
                generations
                    .flat_map(|generation| generation.batches(table))
                    .cloned()
                    .collect(),
            )
        };
        Snapshot {
            logs: recent(Table::Logs),
            metrics: recent(Table::Metrics),
            files: Arc::clone(&self.files),
            aside: Arc::clone(&self.aside),
            met: Met::default(),
        }
    }
}

impl Snapshot {
    /// Rows of a table that are in memory.
    pub fn recent(&self, table: Table) -> &[Arc<Rows>] {
        match table {
            Table::Logs => &self.logs,
            Table::Metrics => &self.metrics,
        }
    }

    /// Where it is noted what queries meet.
    pub const fn met(&self) -> &Met {
        &self.met
    }

    /// Files that queries over it opened so far.
    pub fn opened(&self) -> Vec<Arc<LiveFile>> {
        self.met.0.lock().opened.values().cloned().collect()
    }

    /// Files that queries over it would have opened so far, and which can't be used.
    pub fn missing(&self) -> Vec<MissingFile> {
        let met = self.met.0.lock();
        let missing = met.missing.iter().map(|(file, reason)| MissingFile {
            file: file.clone(),
            reason: reason.clone(),
        });
        missing.collect()
    }

    /// Files of a table that are missing from it.
    pub fn aside(&self, table: Table) -> impl Iterator<Item = &AsideFile> {
        self.aside
            .files
            .iter()
            .filter(move |file| file.entry.table == table)
    }

    /// The newest files of a table, by when their rows came in, until they have so many rows, and nothing else.
    pub fn newest_files(&self, table: Table, rows: u64) -> Self {
        let mut files: Vec<Arc<LiveFile>> = self.files(table).cloned().collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.entry.received.1));
        let mut before = 0;
        files.retain(|file| {
            let is_wanted = before < rows;
            before += file.entry.rows;
            is_wanted
        });
        Self {
            logs: Arc::default(),
            metrics: Arc::default(),
            files: Arc::new(files),
            aside: Arc::clone(&self.aside),
            met: self.met.clone(),
        }
    }

    /// Files of a table.
    pub fn files(&self, table: Table) -> impl Iterator<Item = &Arc<LiveFile>> {
        self.files.iter().filter(move |file| file.entry.table == table)
    }
}

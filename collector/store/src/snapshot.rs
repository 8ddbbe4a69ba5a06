//! What one query sees: rows in memory and files, taken in one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::live_file::LiveFile;
use crate::manifest::FileEntry;
use crate::recent::Generation;
use crate::rows::Rows;
use crate::schema::Table;

/// What queries may see now. Every change of it is one step under its lock.
#[derive(Debug)]
pub struct Visible {
    /// Takes rows in.
    pub active: Generation,
    /// Is being written to files, or waits for the disk to come back.
    pub frozen: Option<Arc<Generation>>,
    /// Files of the durable manifest.
    pub files: Arc<Vec<Arc<LiveFile>>>,
    /// Files of it that can't be used. They stay named: a disk or a backup may bring them back.
    pub missing: Arc<Vec<FileEntry>>,
}

/// All rows at one moment, each exactly once.
#[derive(Debug, Clone)]
pub struct Snapshot {
    logs: Arc<Vec<Arc<Rows>>>,
    metrics: Arc<Vec<Arc<Rows>>>,
    files: Arc<Vec<Arc<LiveFile>>>,
    missing: Arc<Vec<FileEntry>>,
    /// Files that queries over it opened.
    opened: Opened,
}

/// Files that were opened, told apart by name.
#[derive(Debug, Clone, Default)]
pub struct Opened(Arc<Mutex<BTreeMap<String, Arc<LiveFile>>>>);

impl Opened {
    /// One more.
    pub fn note(&self, file: &Arc<LiveFile>) {
        self.0.lock().insert(file.entry.name.clone(), Arc::clone(file));
    }
}

impl Visible {
    /// What the manifest names.
    pub fn named(&self) -> Vec<FileEntry> {
        let files = self.files.iter().map(|file| &file.entry);
        files.chain(&*self.missing).cloned().collect()
    }

    /// Files in the place of others.
    pub fn exchange(&mut self, old: &[Arc<LiveFile>], new: Option<Arc<LiveFile>>) {
        let is_old = |entry: &FileEntry| old.iter().any(|file| file.entry.name == entry.name);
        let files = self.files.iter().filter(|file| !is_old(&file.entry));
        self.files = Arc::new(files.cloned().chain(new).collect());
        // One of them may have been put aside meanwhile.
        Arc::make_mut(&mut self.missing).retain(|entry| !is_old(entry));
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
            missing: Arc::clone(&self.missing),
            opened: Opened::default(),
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
            missing: Arc::clone(&self.missing),
            opened: Opened::default(),
        }
    }

    /// Where it is noted what queries open.
    pub const fn note(&self) -> &Opened {
        &self.opened
    }

    /// Files that queries over it opened so far.
    pub fn opened(&self) -> Vec<Arc<LiveFile>> {
        self.opened.0.lock().values().cloned().collect()
    }

    /// Files that are missing from it.
    pub fn missing(&self) -> &[FileEntry] {
        &self.missing
    }

    /// Files of a table.
    pub fn files(&self, table: Table) -> impl Iterator<Item = &Arc<LiveFile>> {
        self.files.iter().filter(move |file| file.entry.table == table)
    }
}

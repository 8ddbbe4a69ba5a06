//! What one query sees: rows in memory and files, taken in one moment.

use std::sync::Arc;

use crate::live_file::LiveFile;
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
}

/// All rows at one moment, each exactly once.
#[derive(Debug, Clone)]
pub struct Snapshot {
    logs: Arc<Vec<Arc<Rows>>>,
    metrics: Arc<Vec<Arc<Rows>>>,
    files: Arc<Vec<Arc<LiveFile>>>,
}

impl Visible {
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
        }
    }

    /// Files of a table.
    pub fn files(&self, table: Table) -> impl Iterator<Item = &Arc<LiveFile>> {
        self.files.iter().filter(move |file| file.entry.table == table)
    }
}

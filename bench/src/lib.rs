//! Measures what EdgeLogger reaches, beside what the machine can do at all, in the same run.
//!
//! | module | idea |
//! | --- | --- |
//! | [`corpus`] | 2,000,000 lines that are the same everywhere |
//! | [`limits`] | line scan, codecs, SHA-256, fdatasync, TLS: what figures are compared with |
//! | [`scenarios`] | what is measured, by name |
//! | [`report`] | rows, a table, `report.json` |
//! | [`batches`] | the corpus as batches |
//! | [`commit_log`] | what a day of a fleet left in the collector's log, in seconds |
//! | [`programs`], [`process`] | the real programs, their memory and processor time |
//! | [`http`] | asking the collector |
//! | [`peer`] | asking DuckDB |
//!
//! `scripts/bench` builds the release and runs it; `docs/benchmarks.md` says how to read the table.
// A benchmark talks to the terminal; and its counters are far from where floats or casts lose anything.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_possible_truncation)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batches;
pub mod commit_log;
pub mod corpus;
pub mod http;
pub mod limits;
pub mod peer;
pub mod process;
pub mod programs;
pub mod random;
pub mod report;
pub mod scenarios;
pub mod timing;

use std::path::{Path, PathBuf};

/// What can go wrong is told to the person who runs it; nobody else acts on it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A run: its input, what it measured, and where it may write.
#[derive(Debug)]
pub struct Bench {
    /// The lines.
    pub corpus: corpus::Corpus,
    /// What the machine can do.
    pub limits: limits::Limits,
    /// What was measured.
    pub report: report::Report,
    dir: PathBuf,
    keep: bool,
}

impl Bench {
    /// A run that has its files in `dir`. `keep`: what is large stays there too.
    ///
    /// # Errors
    /// When the corpus can't be made.
    pub fn new(dir: &Path, keep: bool) -> Outcome<Self> {
        Ok(Self {
            corpus: corpus::Corpus::open(dir)?,
            limits: limits::Limits::default(),
            report: report::Report::default(),
            dir: dir.to_owned(),
            keep,
        })
    }

    /// Removes a folder that was large, unless it is to be kept.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn discard(&self, dir: &Path) -> Outcome<()> {
        if self.keep {
            println!("  kept: {}", dir.display());
            return Ok(());
        }
        Ok(std::fs::remove_dir_all(dir)?)
    }

    /// An empty folder of this name.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn scratch(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.dir.join(name);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => std::fs::create_dir_all(&dir)?,
        }
        Ok(dir)
    }
}

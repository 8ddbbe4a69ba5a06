//! Folding: closed, whole streams leave the manifest after some days, so that years of rotated files stay small.
//!
//! | what | where | bytes |
//! | --- | --- | --- |
//! | how much of which source there was on a day, and what was missing | `folded/days-….fold` (`days.rs`) | per machine, source and day |
//! | what each file stream held: its id, end and CRC32C, for audits | the same | some 30, compressed |
//! | id and end of each stream | `folded/ids-….fold` (`ids.rs`) | 28 |
//!
//! Whole: every position below its end is a row or has a receipt. A stream with anything missing, or of which something
//! came in lately, is kept in detail.
//!
//! # Nothing twice
//! An agent may send something of a folded stream again, even after years (its state was restored from an old backup).
//! The ids say up to where the stream is stored: it comes back into the manifest with that range applied.
//!
//! # When something fails
//! Files are written before the manifest that names them, and those they replace are removed one manifest later, so that
//! the manifest before always finds its own. A file of ids that can't be read is said in the status.

mod days;
mod ids;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::disk::{At, Disk, DiskError};
use edgelogger_common::stream::StreamId;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::streams::StreamState;

pub use days::{FoldedContent, Summary, read as read_day};
pub use ids::IdsRun;
use ids::Record;

/// Where the files lie in the store's directory.
pub const FOLDED_DIR: &str = "folded";
/// How often it is looked for streams to fold.
pub const INTERVAL: Duration = Duration::from_secs(3600);
/// Streams folded at once: what is left follows an hour later.
pub const STREAMS_MAX: usize = 200_000;
const DAY_MS: i64 = 86_400_000;

/// What the manifest says of folded streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Files of ids.
    pub ids: Vec<IdsEntry>,
    /// Files of summaries, by day.
    pub days: Vec<DayEntry>,
}

/// A file of ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdsEntry {
    /// Its name in the directory `folded`.
    pub name: String,
    /// Streams in it.
    pub count: u64,
}

/// The summaries of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayEntry {
    /// Days since 1970-01-01 UTC: when the last of a stream came in.
    pub day: i64,
    /// Its name in the directory `folded`.
    pub name: String,
    /// Streams in it.
    pub streams: u64,
}

impl Folded {
    /// Names of all files.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        let days = self.days.iter().map(|day| &day.name);
        self.ids.iter().map(|ids| &ids.name).chain(days)
    }

    /// Streams that are folded.
    pub fn streams(&self) -> u64 {
        self.days.iter().map(|day| day.streams).sum()
    }
}

/// Streams that are folded, to be looked up by id.
#[derive(Debug, Default)]
pub struct FoldIndex {
    runs: Vec<Arc<IdsRun>>,
}

impl FoldIndex {
    /// Opens the files that the manifest names. Those that can't be read are said in `problems`.
    pub fn open(disk: &dyn Disk, dir: &Path, folded: &Folded, problems: &mut Vec<String>) -> Self {
        let mut runs = Vec::new();
        for entry in &folded.ids {
            match IdsRun::open(disk, &dir.join(&entry.name)) {
                Ok(run) => runs.push(Arc::new(run)),
                Err(error) => problems.push(format!(
                    "{error}: {} streams were folded into it; what an agent sends of them again would be stored twice; \
                     restore it from a backup and restart",
                    entry.count
                )),
            }
        }
        Self { runs }
    }

    /// Every position of the stream below this is stored, if it was folded.
    ///
    /// # Errors
    /// The disk can't be asked now.
    pub fn end_of(&self, machine_id: &str, id: StreamId) -> Result<Option<u64>, DiskError> {
        let mut found = None;
        for run in &self.runs {
            found = found.max(run.end_of(machine_id, id)?);
        }
        Ok(found)
    }
}

/// A stream on its way out of the manifest.
pub type Folding = (StreamId, Arc<StreamState>);

/// Is every position below its end accounted for, and has nothing come in since `before_ms`?
pub fn is_foldable(state: &StreamState, before_ms: i64) -> bool {
    let Some(end) = state.end else { return false };
    let is_whole = state.unaccounted(&(state.start..end.size)).is_empty() && state.applied().len() <= 1;
    is_whole && state.write_offs().is_empty() && state.last_received_ms < before_ms
}

/// Up to where a stream that is folded is stored.
pub fn end_of(state: &StreamState) -> u64 {
    let applied = state.applied().last().map_or(state.start, |range| range.end);
    applied.max(state.end.map_or(0, |end| end.size))
}

/// Files that were written, and what there is with them.
#[derive(Debug)]
pub struct Written {
    pub folded: Folded,
    pub index: Arc<FoldIndex>,
    /// Files that the new ones replace.
    pub superseded: Vec<String>,
}

/// Rows of a folded stream that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedGone {
    pub machine: String,
    pub source: String,
    pub counts_records: bool,
    pub positions: u64,
    pub rows: u64,
}

/// Writes the summaries of a day (days since 1970) anew, with what is gone. Gives what there is with them, and the names
/// of files that they replace. On failure the new ones are removed.
pub fn expire(
    disk: &dyn Disk,
    dir: &Path,
    now: &Folded,
    (day, gone): (i64, &[FoldedGone]),
    next_file: &mut u64,
) -> Result<(Folded, Vec<String>), StoreError> {
    let mut new = Vec::new();
    let mut folder = Folder {
        disk,
        dir,
        next_file,
        new: &mut new,
        superseded: Vec::new(),
    };
    let mut folded = now.clone();
    let written = folder
        .day(&mut folded, day, |summaries| days::expire(summaries, gone))
        .and_then(|()| Ok(disk.sync_dir(dir).at("sync directory", dir)?));
    let superseded = folder.superseded;
    if let Err(error) = written {
        for path in new {
            let _ = disk.remove_file(&path);
        }
        return Err(error);
    }
    folded.days.sort_unstable_by_key(|entry| entry.day);
    Ok((folded, superseded))
}

/// Writes files for streams that are folded now. On failure the new ones are removed.
pub fn write(
    disk: &dyn Disk,
    dir: &Path,
    now: (&Folded, &FoldIndex),
    folding: &[Folding],
    next_file: &mut u64,
) -> Result<Written, StoreError> {
    let mut new = Vec::new();
    let written = Folder {
        disk,
        dir,
        next_file,
        new: &mut new,
        superseded: Vec::new(),
    }
    .write(now, folding);
    if written.is_err() {
        for path in new {
            let _ = disk.remove_file(&path);
        }
    }
    written
}

struct Folder<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    next_file: &'a mut u64,
    new: &'a mut Vec<PathBuf>,
    superseded: Vec<String>,
}

impl Folder<'_> {
    fn write(
        mut self,
        (now, index): (&Folded, &FoldIndex),
        folding: &[Folding],
    ) -> Result<Written, StoreError> {
        let mut folded = now.clone();
        let index = self.ids(&mut folded, index, folding)?;
        let mut by_day: HashMap<i64, Vec<&Folding>> = HashMap::new();
        for stream in folding {
            let day = stream.1.last_received_ms.div_euclid(DAY_MS);
            by_day.entry(day).or_default().push(stream);
        }
        for (day, streams) in by_day {
            self.day(&mut folded, day, |summaries| days::add(summaries, &streams))?;
        }
        folded.days.sort_unstable_by_key(|entry| entry.day);
        self.disk.sync_dir(self.dir).at("sync directory", self.dir)?;
        Ok(Written {
            folded,
            index: Arc::new(index),
            superseded: self.superseded,
        })
    }

    /// One new file of ids, into which those are merged that are not much larger: so there are few of them, and each id
    /// is written again as often as there are powers of two.
    fn ids(
        &mut self,
        folded: &mut Folded,
        index: &FoldIndex,
        folding: &[Folding],
    ) -> Result<FoldIndex, StoreError> {
        let mut records: Vec<Record> = folding
            .iter()
            .map(|(id, state)| Record::new(*id, &state.machine_id, end_of(state)))
            .collect();
        records.sort_unstable();
        let mut runs = index.runs.clone();
        let mut merged = Vec::new();
        let mut count = records.len() as u64;
        while let Some(last) = runs.pop_if(|run| run.count() <= 2 * count) {
            count += last.count();
            self.superseded.push(last.name().to_owned());
            folded.ids.retain(|entry| entry.name != last.name());
            merged.push(last);
        }
        let name = self.name("ids");
        let run = IdsRun::write(self.disk, &self.dir.join(&name), records, &merged)?;
        folded.ids.push(IdsEntry {
            name,
            count: run.count(),
        });
        runs.push(Arc::new(run));
        Ok(FoldIndex { runs })
    }

    fn day(
        &mut self,
        folded: &mut Folded,
        day: i64,
        change: impl FnOnce(&mut Vec<Summary>),
    ) -> Result<(), StoreError> {
        let mut summaries = Vec::new();
        // Beside a file that can't be read there is another one for the day.
        if let Some(at) = folded.days.iter().position(|entry| entry.day == day)
            && let Ok(known) = read_day(self.disk, &self.dir.join(&folded.days[at].name))
        {
            summaries = known;
            self.superseded.push(folded.days.remove(at).name);
        }
        change(&mut summaries);
        let name = self.name(&format!("days-{}", crate::partition::day_name(day)));
        days::write(self.disk, &self.dir.join(&name), &summaries)?;
        folded.days.push(DayEntry {
            day,
            name,
            streams: summaries.iter().map(|summary| summary.streams).sum(),
        });
        Ok(())
    }

    fn name(&mut self, what: &str) -> String {
        let name = format!("{what}-{:010}.fold", self.next_file);
        *self.next_file += 1;
        self.new.push(self.dir.join(&name));
        name
    }
}

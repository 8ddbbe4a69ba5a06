//! `audit`: is what the collector says it has what lies in the file? Compared range by range, by the CRCs that the
//! blocks carried from the first reading on.
//!
//! | file | idea |
//! | --- | --- |
//! | `ledger.rs` | what the collector says, from its API or a file |
//! | `content.rs` | the CRCs of a file's content, plain or compressed |
//!
//! A file is compared with the stream that was read from it, wherever the file is now and whatever it is called, also
//! compressed: the stream whose first range it begins with. Where there is none, with the old streams that ended at the
//! file's size, of which the collector keeps a checksum. What differs, or is in no stream, is not explained; all else
//! has a reason.

mod content;
mod ledger;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::sources::file::{Format, is_archive_name, is_rotated_name};
pub use content::DamagedAt;
use content::{Content, Source};
pub use ledger::{Ledger, LedgerError, Stream};

/// A file can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// A folder, pipe or device.
    #[error("{path} is not a regular file", path = .0.display())]
    NoFile(PathBuf),
    /// Of old streams the collector is asked file by file.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What a range of a file has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Stored, and these are the bytes.
    Same,
    /// Stored, and these are other bytes.
    Differs,
    /// Stored, but no block said what its bytes were (a part of one that was sent twice, cut otherwise).
    Unchecked,
    /// Behind what the agent has told of: not read yet.
    Unread,
    /// Stored, and the file ends before.
    Missing,
    /// Stored, and the file ends before the end of the range that has the checksum: these bytes can't be compared.
    Cut,
    /// As the ledger says: durable, pending, unknown, dropped, lost.
    #[serde(untagged)]
    Told(String),
}

/// Bytes of one verdict, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What they have come to.
    pub verdict: Verdict,
    /// Why, where they are dropped or lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileAudit {
    /// Which.
    pub path: PathBuf,
    /// Bytes of its content.
    pub size: u64,
    /// `gzip` or `zstd`: positions are of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressed: Option<&'static str>,
    /// Its stream.
    pub stream: Option<StreamName>,
    /// All of it, ascending.
    pub parts: Vec<Part>,
    /// Why there is no more content, where it does not end in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<DamagedAt>,
    /// Nothing differs, and nothing is missing without a reason.
    pub explained: bool,
}

/// Which stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamName {
    /// Its id.
    pub stream_id: String,
    /// Which of its source; absent where it is known by day only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The path by which it was collected.
    pub source: String,
    /// Whose.
    pub machine: String,
    /// It is known by this day only: when the last of it came in, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
}

impl From<&Stream> for StreamName {
    fn from(stream: &Stream) -> Self {
        Self {
            stream_id: stream.stream_id.clone(),
            generation: stream.generation,
            source: stream.source.clone(),
            machine: stream.machine.clone(),
            day: stream.folded.as_ref().map(|folded| folded.day.clone()),
        }
    }
}

/// Compares one file with what the ledger says.
///
/// # Errors
/// The file can't be read, or the collector does not answer any more.
pub fn audit(path: &Path, ledger: &Ledger) -> Result<FileAudit, AuditError> {
    let unreadable = |source| AuditError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let source = Source::open(path)?;
    let compressed = source.format.map(|format| match format {
        Format::Gzip => "gzip",
        Format::Zstd => "zstd",
    });
    let content = source.read(&edges(&ledger.streams)).map_err(unreadable)?;
    let streams = || ledger.streams.iter().filter(|stream| stream.is_file());
    let begun = best(streams().filter(|stream| content.begins(stream)), &content);
    if begun.is_some() || content.size == 0 {
        return Ok(report(path, compressed, &content, begun));
    }
    let is_its_source = |source: &str| is_name_of(Path::new(source), path);
    let folded = ledger.folded(content.size, is_its_source)?;
    let old = source.read(&edges(&folded)).map_err(unreadable)?;
    let named = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_current = |stream: &&Stream| stream.end.is_none() && Path::new(&stream.source) == named;
    let is_as_long = |stream: &&Stream| stream.size == content.size && is_its_source(&stream.source);
    let found = best(folded.iter(), &old)
        .filter(|found| found.same > 0)
        // Nothing holds what it holds: then the stream that has its name, if any, is what it differs from.
        .or_else(|| best(streams().rev().filter(is_current).take(1), &content))
        .or_else(|| best(folded.iter().filter(is_as_long), &old));
    Ok(report(path, compressed, &old, found))
}
fn whole(size: u64, verdict: Verdict) -> Vec<Part> {
    let part = Part {
        start: 0,
        end: size,
        verdict,
        reason: None,
    };
    if size > 0 { vec![part] } else { Vec::new() }
}

/// What a file has come to by a stream.
struct Compared<'a> {
    stream: &'a Stream,
    parts: Vec<Part>,
    /// Bytes that are the same.
    same: u64,
}

/// The stream of which the most is the same.
fn best<'a>(streams: impl Iterator<Item = &'a Stream>, content: &Content) -> Option<Compared<'a>> {
    let mut best: Option<Compared<'_>> = None;
    for stream in streams {
        let parts = content.compare(stream);
        let same = parts.iter().filter(|part| part.verdict == Verdict::Same);
        let same = same.map(|part| part.end - part.start).sum();
        if best.as_ref().is_none_or(|best| same > best.same) {
            best = Some(Compared { stream, parts, same });
        }
    }
    best
}

fn report(
    path: &Path,
    compressed: Option<&'static str>,
    content: &Content,
    found: Option<Compared<'_>>,
) -> FileAudit {
    let size = content.size;
    let ended = found
        .as_ref()
        .is_some_and(|found| found.stream.end.as_ref().is_some_and(|end| end.exact));
    let stream = found.as_ref().map(|found| StreamName::from(found.stream));
    let parts = found.map_or_else(
        || whole(size, Verdict::Told("in no stream".to_owned())),
        |found| found.parts,
    );
    let is_explained = |part: &Part| match part.verdict {
        Verdict::Differs | Verdict::Missing | Verdict::Cut => false,
        Verdict::Unread => !ended,
        Verdict::Same | Verdict::Unchecked | Verdict::Told(_) => true,
    };
    FileAudit {
        path: path.to_owned(),
        size,
        compressed,
        explained: content.damage.is_none()
            && (stream.is_some() || size == 0)
            && parts.iter().all(is_explained),
        stream,
        parts,
        damage: content.damage.clone(),
    }
}

/// Wherever a checksum may be asked for.
fn edges(streams: &[Stream]) -> BTreeSet<u64> {
    let files = streams.iter().filter(|stream| stream.is_file());
    let checks = files.flat_map(|stream| &stream.checks);
    checks.flat_map(|check| [check.start, check.end]).collect()
}

/// May a log that was collected under this name be here, as rotations name it?
fn is_name_of(source: &Path, path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (Some(original), Some(name)) = (source.file_name(), path.file_name()) else {
        return false;
    };
    let (original, name) = (original.as_bytes(), name.as_bytes());
    source.parent() == path.parent()
        && (original == name || is_rotated_name(original, name) || is_archive_name(original, name))
}

impl Content {
    fn begins(&self, stream: &Stream) -> bool {
        let first = stream.checks.first();
        first.is_some_and(|first| self.crc(first.start, first.end) == Some(first.crc32c))
    }

    fn compare(&self, stream: &Stream) -> Vec<Part> {
        let mut edges = vec![0, self.size, stream.start, stream.size];
        edges.extend(stream.checks.iter().flat_map(|check| [check.start, check.end]));
        edges.extend(stream.gaps.iter().flat_map(|gap| [gap.start, gap.end]));
        edges.sort_unstable();
        edges.dedup();
        let mut parts: Vec<Part> = Vec::new();
        for pair in edges.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            let (verdict, reason) = self.verdict(stream, start, end);
            match parts.last_mut() {
                Some(last) if last.verdict == verdict && last.reason == reason => last.end = end,
                _ => parts.push(Part {
                    start,
                    end,
                    verdict,
                    reason,
                }),
            }
        }
        parts
    }

    /// Of a range in which nothing begins or ends.
    fn verdict(&self, stream: &Stream, start: u64, end: u64) -> (Verdict, Option<String>) {
        let gap = stream
            .gaps
            .iter()
            .find(|gap| gap.start <= start && end <= gap.end);
        let check = stream
            .checks
            .iter()
            .find(|check| check.start <= start && end <= check.end);
        let verdict = match (gap, check) {
            _ if start < stream.start || start >= stream.size => Verdict::Unread,
            // Its bytes are gone, as the ledger says.
            (Some(gap), _) => return (Verdict::Told(gap.state.clone()), gap.reason.clone()),
            (None, None) if stream.folded.as_ref().is_some_and(|folded| folded.has_gaps) => {
                Verdict::Told("stored, dropped or lost: not known any more".to_owned())
            }
            _ if start >= self.size => Verdict::Missing,
            (None, Some(check)) => match self.crc(check.start, check.end) {
                Some(crc) if crc == check.crc32c => Verdict::Same,
                Some(_) => Verdict::Differs,
                None => Verdict::Cut,
            },
            (None, None) => Verdict::Unchecked,
        };
        let is_behind_damage = verdict == Verdict::Missing && self.damage.is_some();
        (
            verdict,
            is_behind_damage.then(|| "the file is damaged before it".to_owned()),
        )
    }
}

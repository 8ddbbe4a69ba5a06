//! What there was of each source on a day, compressed.

use std::io::IoSlice;
use std::path::Path;

use edgelogger_common::codec::{Codec, CodecSetting, DecodeLimits, Decompressor, compress};
use edgelogger_common::crc;
use edgelogger_common::disk::{At, Disk, read_file};
use edgelogger_common::stamped::{stamp, unstamp};
use serde::{Deserialize, Serialize};

use super::{FoldedGone, Folding};
use crate::error::StoreError;
use crate::streams::{ContentCheck, ReceiptTotal, StreamState};

const MAGIC: &str = "edgelogger-store-days";
const VERSION: u64 = 1;
/// A day of a million sources.
const BYTES_MAX: usize = 256 << 20;
/// Streams of a day whose content is kept in mind; each takes some 80 bytes before compression.
const CONTENTS_MAX: usize = 500_000;
/// Ranges of one stream with a checksum each. A stream without anything dropped or lost has one.
const RUNS_MAX: usize = 16;

/// The folded streams of one source on one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Whose.
    pub machine: String,
    /// What a person calls the source.
    pub source: String,
    /// `SourceKind` of the wire.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: i32,
    /// Positions count records; otherwise they are bytes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub counts_records: bool,
    /// Streams.
    pub streams: u64,
    /// Positions of all of them, those of gaps included.
    pub positions: u64,
    /// Rows.
    pub rows: u64,
    /// What was dropped or lost, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<ReceiptTotal>,
    /// Positions whose rows retention or a deletion took, of this day's rows and of the streams when they were folded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expired: u64,
    /// Rows that they took.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expired_rows: u64,
    /// What the streams held, for audits; not of those that were folded by a version that kept nothing of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<FoldedContent>,
}

/// What a folded stream held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedContent {
    /// Its id, as hexadecimal digits.
    pub id: String,
    /// Where it ended.
    pub end: u64,
    /// It ended there, or behind that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub at_least: bool,
    /// The source bytes of ranges, ascending: all that had a checksum, at most 16.
    #[serde(rename = "crc")]
    pub checks: Vec<ContentCheck>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Adds streams.
pub fn add(summaries: &mut Vec<Summary>, folding: &[&Folding]) {
    let known: usize = summaries.iter().map(|summary| summary.contents.len()).sum();
    let mut room = CONTENTS_MAX.saturating_sub(known);
    for (id, state) in folding.iter().copied() {
        let key = (&state.machine_id, &state.source, state.counts_records);
        let at = summaries
            .binary_search_by(|known| (&known.machine, &known.source, known.counts_records).cmp(&key));
        let at = at.unwrap_or_else(|at| {
            let new = Summary {
                machine: state.machine_id.clone(),
                source: state.source.clone(),
                kind: state.kind,
                counts_records: state.counts_records,
                ..Summary::default()
            };
            summaries.insert(at, new);
            at
        });
        summaries[at].add(state);
        if !state.checks.is_empty() && room > 0 {
            room -= 1;
            summaries[at].contents.push(FoldedContent {
                id: id.to_string(),
                end: super::end_of(state),
                at_least: state.end.is_some_and(|end| !end.exact),
                checks: runs(&state.checks),
            });
        }
    }
}

/// Adds what is gone of streams that are folded. Where what positions count is not known of a source, the rows' table
/// tells.
pub fn expire(summaries: &mut Vec<Summary>, gone: &[FoldedGone]) {
    for gone in gone {
        let name = (&gone.machine, &gone.source);
        let known = summaries
            .iter()
            .position(|known| (&known.machine, &known.source) == name);
        let at = known.unwrap_or_else(|| {
            let new = Summary {
                machine: gone.machine.clone(),
                source: gone.source.clone(),
                counts_records: gone.counts_records,
                ..Summary::default()
            };
            let at = summaries.partition_point(|known| (&known.machine, &known.source) < name);
            summaries.insert(at, new);
            at
        });
        summaries[at].expired += gone.positions;
        summaries[at].expired_rows += gone.rows;
    }
}

/// Neighbours as one, however long.
fn runs(checks: &[ContentCheck]) -> Vec<ContentCheck> {
    let mut runs: Vec<ContentCheck> = Vec::new();
    for check in checks {
        let is_full = runs.len() == RUNS_MAX;
        match runs.last_mut() {
            Some(last) if last.range.end == check.range.start => {
                let len = check.range.end - check.range.start;
                last.crc32c = crc::combine(last.crc32c, check.crc32c, len);
                last.range.end = check.range.end;
            }
            _ if is_full => break,
            _ => runs.push(check.clone()),
        }
    }
    runs
}

impl Summary {
    /// A stream that was folded before counts with what is new of it.
    fn add(&mut self, state: &StreamState) {
        self.streams += u64::from(state.folded_upto.is_none());
        let from = state.folded_upto.unwrap_or(state.start);
        self.positions += super::end_of(state).saturating_sub(from);
        self.rows += state.rows;
        self.expired += state.expired.positions() + state.deleted.positions();
        self.expired_rows += state.gone_rows();
        for total in &state.receipts {
            match self.gaps.iter_mut().find(|known| known.reason == total.reason) {
                Some(known) => {
                    known.positions += total.positions;
                    known.records = known.records.saturating_add(total.records);
                    known.exact &= total.exact;
                }
                None => self.gaps.push(*total),
            }
        }
    }
}

/// Writes a new file, durable but for its name.
pub fn write(disk: &dyn Disk, path: &Path, summaries: &[Summary]) -> Result<(), StoreError> {
    let unusable = |problem: String| StoreError::Manifest {
        path: path.to_path_buf(),
        problem,
    };
    let plain = serde_json::to_vec(summaries).map_err(|error| unusable(error.to_string()))?;
    let setting: CodecSetting = "zstd:3".parse().map_err(|error| unusable(format!("{error}")))?;
    let mut body = format!("{}\n", plain.len()).into_bytes();
    body.extend(compress(setting, &plain).map_err(|error| unusable(error.to_string()))?);
    let mut file = disk.create_new(path).at("create", path)?;
    file.append(&[IoSlice::new(&stamp(MAGIC, VERSION, &body))])
        .at("write", path)?;
    Ok(file.sync_data().at("sync", path)?)
}

/// Reads a file.
///
/// # Errors
/// It can't be read or is damaged.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<Summary>, String> {
    let bytes = read_file(disk, path, BYTES_MAX as u64).map_err(|error| error.to_string())?;
    let bad = |problem: String| format!("{}: {problem}", path.display());
    let (_, body) = unstamp(MAGIC, VERSION, &bytes).map_err(|error| bad(error.to_string()))?;
    let end = memchr::memchr(b'\n', body).ok_or_else(|| bad("it has no length".to_owned()))?;
    let len = std::str::from_utf8(&body[..end])
        .ok()
        .and_then(|len| len.parse().ok());
    let len: usize = len.ok_or_else(|| bad("its length is no number".to_owned()))?;
    let limits = DecodeLimits {
        compressed_bytes_max: BYTES_MAX,
        decompressed_bytes_max: BYTES_MAX,
        ratio_max: usize::MAX,
        zstd_window_log_max: 27,
    };
    let mut plain = Vec::new();
    Decompressor::new()
        .decompress(Codec::Zstd, &body[end + 1..], len, &limits, &mut plain)
        .map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&plain).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use edgelogger_common::disk::FaultDisk;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_have_the_checksums_of_their_bytes(parts in prop::collection::vec((0usize..4, 1usize..50), 1..40)) {
            let content: Vec<u8> = (0..3_000u32).map(|at| (at * at % 251) as u8).collect();
            let mut at = 0;
            let checks: Vec<ContentCheck> = parts
                .iter()
                .map(|(gap, len)| {
                    let range = at + gap / 3 * 7..at + gap / 3 * 7 + len;
                    at = range.end;
                    ContentCheck {
                        crc32c: crc32c::crc32c(&content[range.clone()]),
                        range: range.start as u64..range.end as u64,
                    }
                })
                .collect();
            let runs = runs(&checks);
            prop_assert!(runs.len() <= RUNS_MAX);
            for run in &runs {
                let bytes = &content[usize::try_from(run.range.start).unwrap()..usize::try_from(run.range.end).unwrap()];
                prop_assert_eq!(crc32c::crc32c(bytes), run.crc32c);
            }
            for pair in runs.windows(2) {
                prop_assert!(pair[0].range.end < pair[1].range.start);
            }
            if runs.len() < RUNS_MAX {
                let len = |checks: &[ContentCheck]| checks.iter().map(|check| check.range.end - check.range.start).sum::<u64>();
                prop_assert_eq!(len(&runs), len(&checks));
            }
        }
    }

    #[test]
    fn a_summary_of_before_contents_were_kept_is_read() {
        let old = r#"{"machine":"m","source":"/a","kind":1,"streams":2,"positions":15,"rows":1}"#;
        let summary: Summary = serde_json::from_str(old).unwrap();
        assert_eq!((summary.streams, summary.contents.len()), (2, 0));
        assert_eq!(
            serde_json::to_string(&summary).unwrap(),
            old,
            "and written as it was"
        );
    }

    #[test]
    fn contents_are_read_back() {
        let disk = FaultDisk::new(1);
        let path = Path::new("/days");
        let content = FoldedContent {
            id: "0".repeat(32),
            end: 15,
            at_least: true,
            checks: vec![ContentCheck {
                range: 3..15,
                crc32c: 7,
            }],
        };
        let summary = Summary {
            contents: vec![content],
            ..Summary::default()
        };
        write(&disk, path, std::slice::from_ref(&summary)).unwrap();
        assert_eq!(read(&disk, path).unwrap(), [summary]);
    }
}

//! What there was of each source on a day, compressed.

use std::io::IoSlice;
use std::path::Path;

use edgelogger_common::codec::{Codec, CodecSetting, DecodeLimits, Decompressor, compress};
use edgelogger_common::disk::{At, Disk, read_file};
use edgelogger_common::stamped::{stamp, unstamp};
use serde::{Deserialize, Serialize};

use super::FoldedGone;
use crate::error::StoreError;
use crate::streams::{ReceiptTotal, StreamState};

const MAGIC: &str = "edgelogger-store-days";
const VERSION: u64 = 1;
/// A day of a million sources.
const BYTES_MAX: usize = 256 << 20;

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
    /// Positions whose rows retention dropped, of this day's rows and of the streams when they were folded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expired: u64,
    /// Rows that it dropped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expired_rows: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Adds streams.
pub fn add(summaries: &mut Vec<Summary>, states: &[&StreamState]) {
    for state in states {
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

impl Summary {
    /// A stream that was folded before counts with what is new of it.
    fn add(&mut self, state: &StreamState) {
        self.streams += u64::from(state.folded_upto.is_none());
        let from = state.folded_upto.unwrap_or(state.start);
        self.positions += super::end_of(state).saturating_sub(from);
        self.rows += state.rows;
        self.expired += state.expired.positions();
        self.expired_rows += state.expired.rows;
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

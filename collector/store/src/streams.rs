//! What is applied of every stream, and what its agent declared about the rest.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use edgelogger_common::block::{Receipt, ReceiptReason};
use edgelogger_common::crc;
use edgelogger_common::disk::DiskError;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;
use serde::{Deserialize, Serialize};

use crate::applied::AppliedRanges;
use crate::fold::{self, FoldIndex, FoldedGone, Folding};
use crate::gone::{Gone, GoneRows, GoneWhy};
use crate::schema::Table;
use crate::write_off::{WriteOff, WriteOffs};

/// Ranges without a record that a stream's state names one by one; what comes beyond is only summed.
pub const GAPS_MAX: usize = 1024;

/// Neighbouring checks become one up to this many positions: so finely a difference is placed.
pub const CHECK_SPAN: u64 = 64 << 20;

/// Above this number checks become one whatever their length.
pub const CHECKS_MAX: usize = 1024;

/// One stream as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamState {
    /// Whose stream.
    #[serde(rename = "machine")]
    pub machine_id: String,
    /// What a person calls it.
    pub source: String,
    /// `SourceKind` of the wire.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: i32,
    /// When its agent opened it, ns UTC.
    #[serde(default, skip_serializing_if = "is_default")]
    pub opened_ns: i64,
    /// When the collector last received something of it, ms UTC.
    #[serde(default, rename = "seen_ms")]
    pub last_received_ms: i64,
    /// Positions count records; otherwise they are byte offsets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub counts_records: bool,
    /// The machine that it is of, as hexadecimal digits; empty where its agent did not say.
    #[serde(default, rename = "mark", skip_serializing_if = "String::is_empty")]
    pub machine_mark: String,
    /// First position.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: u64,
    pub(crate) applied: AppliedRanges,
    /// Rows stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rows: u64,
    /// What was declared dropped or lost, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<ReceiptTotal>,
    /// The same, range by range, ascending; at most [`GAPS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Positions of further ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gaps_untold: u64,
    /// What its source held, as its blocks said: ascending, disjoint, each within what is applied.
    #[serde(default, rename = "crc", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<ContentCheck>,
    /// Its end, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StreamEndState>,
    /// What is missing and not waited for.
    #[serde(default, rename = "off", skip_serializing_if = "is_default")]
    pub(crate) write_offs: WriteOffs,
    /// What retention dropped of its rows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) expired: Gone,
    /// What deletions took of its rows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) deleted: Gone,
    /// The stream was folded once, and every position below this counts there.
    #[serde(default, rename = "folded", skip_serializing_if = "Option::is_none")]
    pub folded_upto: Option<u64>,
}

/// The source bytes of a range. In the manifest: `[start, length, crc32c]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u32)", into = "(u64, u64, u32)")]
pub struct ContentCheck {
    /// Which.
    pub range: Range<u64>,
    /// Of all of them.
    pub crc32c: u32,
}

impl From<(u64, u64, u32)> for ContentCheck {
    fn from((start, len, crc32c): (u64, u64, u32)) -> Self {
        Self {
            range: start..start.saturating_add(len),
            crc32c,
        }
    }
}

impl From<ContentCheck> for (u64, u64, u32) {
    fn from(check: ContentCheck) -> Self {
        (
            check.range.start,
            check.range.end - check.range.start,
            check.crc32c,
        )
    }
}

/// Positions that hold no record, and why. In the manifest: `[start, length, reason, records, exact]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u8, u64, bool)", into = "(u64, u64, u8, u64, bool)")]
pub struct Gap {
    /// Which.
    pub range: Range<u64>,
    /// Number of the reason ([`ReceiptReason`]).
    pub reason: u8,
    /// Records that they stood for, 0 where nobody knows.
    pub records: u64,
    /// `records` is exact; otherwise it is at least that.
    pub exact: bool,
}

impl From<(u64, u64, u8, u64, bool)> for Gap {
    fn from((start, len, reason, records, exact): (u64, u64, u8, u64, bool)) -> Self {
        Self {
            range: start..start.saturating_add(len),
            reason,
            records,
            exact,
        }
    }
}

impl From<Gap> for (u64, u64, u8, u64, bool) {
    fn from(gap: Gap) -> Self {
        let len = gap.range.end - gap.range.start;
        (gap.range.start, len, gap.reason, gap.records, gap.exact)
    }
}

/// The receipts of one stream for one reason, summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptTotal {
    /// Number of the reason ([`ReceiptReason`]).
    pub reason: u8,
    /// Positions covered.
    pub positions: u64,
    /// Records they stood for, 0 where nobody knows.
    pub records: u64,
    /// `records` is exact; otherwise it is at least that.
    pub exact: bool,
}

/// The end of a stream as its agent declared it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEndState {
    /// No position at or above it exists.
    pub size: u64,
    /// `size` is exact; otherwise it is at least that.
    pub exact: bool,
    /// `StreamEndReason` of the wire.
    pub reason: i32,
}

/// A stream in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its id, as hexadecimal digits.
    pub id: String,
    /// Shared with the store that it was taken from.
    #[serde(with = "shared")]
    pub state: Arc<StreamState>,
}

/// An `Arc` as what it holds.
mod shared {
    use super::{Arc, Deserialize, Serialize, StreamState};

    pub fn serialize<S: serde::Serializer>(
        state: &Arc<StreamState>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        StreamState::serialize(state, serializer)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<StreamState>, D::Error> {
        StreamState::deserialize(deserializer).map(Arc::new)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl StreamState {
    /// Is it of the machine with this mark?
    #[must_use]
    pub fn is_of_machine(&self, mark: &[u8]) -> bool {
        !mark.is_empty() && self.machine_mark == hex(mark)
    }

    /// What a descriptor says.
    pub fn new(machine_id: &str, descriptor: &v1::StreamDescriptor) -> Self {
        Self {
            machine_id: machine_id.to_owned(),
            source: descriptor.name.clone(),
            kind: descriptor.kind,
            opened_ns: descriptor.opened_time_ns,
            counts_records: descriptor.unit == i32::from(v1::PositionUnit::Record),
            machine_mark: hex(&descriptor.machine_mark),
            start: descriptor.start,
            ..Self::default()
        }
    }

    /// Applied ranges of positions, ascending.
    #[must_use]
    pub fn applied(&self) -> &[Range<u64>] {
        self.applied.as_slice()
    }

    /// What is missing and not waited for, ascending. What of it has arrived meanwhile is among [`Self::applied`].
    #[must_use]
    pub fn write_offs(&self) -> &[WriteOff] {
        self.write_offs.as_slice()
    }

    /// Positions whose rows retention dropped, ascending; they stay applied.
    #[must_use]
    pub fn expired(&self) -> &[Range<u64>] {
        self.expired.ranges.as_slice()
    }

    /// Positions whose rows were deleted, ascending; they stay applied.
    #[must_use]
    pub fn deleted(&self) -> &[Range<u64>] {
        self.deleted.ranges.as_slice()
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.expired != Gone::default()
    }

    pub(crate) fn has_deleted(&self) -> bool {
        self.deleted != Gone::default()
    }

    /// Rows that retention dropped or that were deleted; they are among `rows`.
    #[must_use]
    pub const fn gone_rows(&self) -> u64 {
        self.expired.rows + self.deleted.rows
    }

    /// Positions of such rows in further ranges.
    #[must_use]
    pub const fn gone_untold(&self) -> u64 {
        self.expired.untold + self.deleted.untold
    }

    /// Positions of `range` that are neither applied nor written off, ascending.
    #[must_use]
    pub fn unaccounted(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let missing = self.applied.missing(range);
        missing
            .iter()
            .flat_map(|part| self.write_offs.unsaid(part))
            .collect()
    }

    /// Positions of a range that are not applied.
    pub(crate) fn not_applied(&self, range: &Range<u64>) -> u64 {
        let missing = self.applied.missing(range);
        missing.iter().map(|part| part.end - part.start).sum()
    }

    /// Takes in that a range is not waited for.
    pub(crate) fn write_off(&mut self, off: &WriteOff) {
        self.write_offs.add(off, &self.applied);
    }

    /// A range was applied.
    pub(crate) fn apply(&mut self, range: Range<u64>) {
        self.applied.insert(range);
        self.write_offs.take_back(&self.applied);
    }

    /// Every position below it is applied.
    #[must_use]
    pub fn applied_upto(&self) -> u64 {
        self.applied.upto(self.start)
    }

    /// Takes in a receipt for a range, but for what of it is applied already.
    pub fn add_receipt(&mut self, range: &Range<u64>, receipt: &Receipt) {
        let missing = self.applied.missing(range);
        // Of a receipt that is partly applied nobody knows how many of its records were counted before.
        let whole = missing == std::slice::from_ref(range);
        let (records, exact) = if whole {
            (receipt.count, receipt.exact)
        } else {
            (0, false)
        };
        for part in missing {
            let total = self.total(receipt.reason);
            total.positions += part.end - part.start;
            total.records = total.records.saturating_add(records);
            total.exact &= exact;
            self.add_gap(Gap {
                range: part,
                reason: receipt.reason as u8,
                records,
                exact,
            });
        }
    }

    /// Takes in what a block says of its source bytes, before its range is applied. A block of which some is applied
    /// already says nothing of the rest alone.
    pub fn add_check(&mut self, range: &Range<u64>, crc32c: u32) {
        if self.counts_records || self.applied.missing(range) != std::slice::from_ref(range) {
            return;
        }
        let check = ContentCheck {
            range: range.clone(),
            crc32c,
        };
        let at = self
            .checks
            .partition_point(|other| other.range.start < range.start);
        self.checks.insert(at, check);
        // Only the new one can have become a neighbour: of the one behind it, then of the one before it.
        for left in [at, at.wrapping_sub(1)] {
            self.join_checks(left);
        }
    }

    /// Makes one of the checks at `left` and behind it, where they are neighbours and not too long.
    fn join_checks(&mut self, left: usize) {
        let (Some(first), Some(second)) = (self.checks.get(left), self.checks.get(left.wrapping_add(1)))
        else {
            return;
        };
        let len = second.range.end - second.range.start;
        let short = second.range.end - first.range.start <= CHECK_SPAN;
        if first.range.end != second.range.start || !(short || self.checks.len() > CHECKS_MAX) {
            return;
        }
        let joined = ContentCheck {
            range: first.range.start..second.range.end,
            crc32c: crc::combine(first.crc32c, second.crc32c, len),
        };
        self.checks[left] = joined;
        self.checks.remove(left + 1);
    }

    /// Gaps never overlap: only what is not applied becomes one, and then it is applied.
    fn add_gap(&mut self, gap: Gap) {
        let at = self
            .gaps
            .partition_point(|other| other.range.start < gap.range.start);
        let before = at.checked_sub(1).map(|before| &mut self.gaps[before]);
        if let Some(before) = before.filter(|before| {
            before.range.end == gap.range.start && before.reason == gap.reason && before.exact == gap.exact
        }) {
            before.range.end = gap.range.end;
            before.records = before.records.saturating_add(gap.records);
        } else if self.gaps.len() < GAPS_MAX {
            self.gaps.insert(at, gap);
        } else {
            self.gaps_untold += gap.range.end - gap.range.start;
        }
    }

    fn total(&mut self, reason: ReceiptReason) -> &mut ReceiptTotal {
        let reason = reason as u8;
        let at = self.receipts.partition_point(|total| total.reason < reason);
        if self.receipts.get(at).is_none_or(|total| total.reason != reason) {
            self.receipts.insert(
                at,
                ReceiptTotal {
                    reason,
                    positions: 0,
                    records: 0,
                    exact: true,
                },
            );
        }
        &mut self.receipts[at]
    }
}

/// A stream is one of a machine: an agent that gets another name goes on with the ids it had.
type Key = (String, StreamId);

/// All streams. Cheap to copy: a copy shares every stream that does not change.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    live: HashMap<Key, Arc<StreamState>>,
    /// Those that are on their way out, and up to where each is stored.
    folding: HashMap<Key, u64>,
    folded: Arc<FoldIndex>,
}

impl Streams {
    /// The streams of a manifest.
    pub fn from_records(records: Vec<StreamRecord>) -> Result<Self, String> {
        let parsed = records.into_iter().map(|record| {
            let id: StreamId = record.id.parse().map_err(|error| format!("{error}"))?;
            Ok(((record.state.machine_id.clone(), id), record.state))
        });
        let live = parsed.collect::<Result<_, String>>()?;
        Ok(Self {
            live,
            ..Self::default()
        })
    }

    /// What a manifest says of them, sorted by id.
    pub fn to_records(&self) -> Vec<StreamRecord> {
        let mut records: Vec<_> = self
            .live
            .iter()
            .map(|((_, id), state)| StreamRecord {
                id: id.to_string(),
                state: Arc::clone(state),
            })
            .collect();
        records.sort_unstable_by(|left, right| {
            (&left.id, &left.state.machine_id).cmp(&(&right.id, &right.state.machine_id))
        });
        records
    }

    /// Takes out those that can be folded; they are looked up as folded from now on.
    pub fn take_foldable(&mut self, before_ms: i64, streams_max: usize) -> Vec<Folding> {
        let foldable = self
            .live
            .iter()
            .filter(|(_, state)| fold::is_foldable(state, before_ms));
        let keys: Vec<Key> = foldable.take(streams_max).map(|(key, _)| key.clone()).collect();
        let mut folding = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(state) = self.live.remove(&key) {
                self.folding.insert(key.clone(), fold::end_of(&state));
                folding.push((key.1, state));
            }
        }
        folding
    }

    /// Takes in that these rows are gone, and gives back those of streams that are folded.
    pub fn expire(&mut self, gone: &GoneRows, why: GoneWhy) -> Vec<FoldedGone> {
        let mut folded = Vec::new();
        for (key, of_stream) in &gone.streams {
            if let Some(state) = self.live.get_mut(key) {
                let state = Arc::make_mut(state);
                match why {
                    GoneWhy::Retention => state.expired.absorb(of_stream),
                    GoneWhy::Deletion => state.deleted.absorb(of_stream),
                }
            } else if let Some((table, source)) = gone.sources.get(key) {
                folded.push(FoldedGone {
                    machine: key.0.clone(),
                    source: source.clone(),
                    counts_records: *table == Table::Metrics,
                    positions: of_stream.positions(),
                    rows: of_stream.rows,
                });
            }
        }
        folded
    }

    /// Those on their way out are in files now.
    pub fn folded(&mut self, index: Arc<FoldIndex>) {
        self.folded = index;
        self.folding = HashMap::new();
    }

    /// Files of streams that are folded.
    pub fn index(&self) -> &Arc<FoldIndex> {
        &self.folded
    }

    /// The state of a stream that is met, if it was ever met before.
    fn known(&self, key: &Key, new: impl FnOnce() -> StreamState) -> Result<StreamState, DiskError> {
        if let Some(state) = self.live.get(key) {
            return Ok(StreamState::clone(state));
        }
        let folded = match self.folding.get(key) {
            Some(end) => Some(*end),
            None => self.folded.end_of(&key.0, key.1)?,
        };
        let mut state = new();
        if let Some(end) = folded {
            state.applied.insert(state.start..end.max(state.start));
            state.folded_upto = Some(end);
        }
        Ok(state)
    }

    /// One of them.
    pub fn get(&self, machine_id: &str, id: StreamId) -> Option<&Arc<StreamState>> {
        self.live.get(&(machine_id.to_owned(), id))
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &Arc<StreamState>)> {
        self.live.iter().map(|((_, id), state)| (*id, state))
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Makes the changes of an entry happen.
    pub fn commit(&mut self, changes: Changes) {
        self.live
            .extend(changes.0.into_iter().map(|(key, state)| (key, Arc::new(state))));
    }
}

/// Streams as one entry changes them. They count when the whole entry was understood.
#[derive(Debug, Default)]
pub struct Changes(HashMap<Key, StreamState>);

impl Changes {
    /// A stream as it is after the changes so far, to change it.
    pub fn stream(
        &mut self,
        streams: &Streams,
        machine_id: &str,
        id: StreamId,
        new: impl FnOnce() -> StreamState,
    ) -> Result<&mut StreamState, DiskError> {
        let key = (machine_id.to_owned(), id);
        Ok(match self.0.entry(key) {
            Entry::Occupied(changed) => changed.into_mut(),
            Entry::Vacant(unchanged) => {
                let state = streams.known(unchanged.key(), new)?;
                unchanged.insert(state)
            }
        })
    }
}

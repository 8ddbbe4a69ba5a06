//! What is applied of every stream, and what its agent declared about the rest.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use edgelogger_common::block::{Receipt, ReceiptReason};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;
use serde::{Deserialize, Serialize};

use crate::applied::AppliedRanges;

/// One stream as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamState {
    /// Whose stream.
    pub machine_id: String,
    /// What a person calls it.
    pub source: String,
    /// Positions count records; otherwise they are byte offsets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts_records: bool,
    /// First position.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start: u64,
    pub(crate) applied: AppliedRanges,
    /// Rows stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// What was declared dropped or lost, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<ReceiptTotal>,
    /// Its end, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StreamEndState>,
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

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StreamState {
    /// What a descriptor says.
    pub fn new(machine_id: &str, descriptor: &v1::StreamDescriptor) -> Self {
        Self {
            machine_id: machine_id.to_owned(),
            source: descriptor.name.clone(),
            counts_records: descriptor.unit == i32::from(v1::PositionUnit::Record),
            start: descriptor.start,
            ..Self::default()
        }
    }

    /// Applied ranges of positions, ascending.
    #[must_use]
    pub fn applied(&self) -> &[Range<u64>] {
        self.applied.as_slice()
    }

    /// Every position below it is applied.
    #[must_use]
    pub fn applied_upto(&self) -> u64 {
        self.applied.upto(self.start)
    }

    /// Takes in a receipt for a range, unless all of it is applied already.
    pub fn add_receipt(&mut self, range: &Range<u64>, receipt: &Receipt) {
        let positions = self.applied.missing_len(range);
        if positions == 0 {
            return;
        }
        // Of a receipt that is partly applied nobody knows how many of its records were counted before.
        let whole = positions == range.end - range.start;
        let total = self.total(receipt.reason);
        total.positions += positions;
        total.records = total
            .records
            .saturating_add(if whole { receipt.count } else { 0 });
        total.exact &= receipt.exact && whole;
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

/// All streams. Cheap to copy: a copy shares every stream that does not change.
#[derive(Debug, Clone, Default)]
pub struct Streams(HashMap<StreamId, Arc<StreamState>>);

impl Streams {
    /// The streams of a manifest.
    pub fn from_records(records: Vec<StreamRecord>) -> Result<Self, String> {
        let parsed = records.into_iter().map(|record| {
            let id: StreamId = record.id.parse().map_err(|error| format!("{error}"))?;
            Ok((id, record.state))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// What a manifest says of them, sorted by id.
    pub fn to_records(&self) -> Vec<StreamRecord> {
        let mut records: Vec<_> = self
            .0
            .iter()
            .map(|(id, state)| StreamRecord {
                id: id.to_string(),
                state: Arc::clone(state),
            })
            .collect();
        records.sort_unstable_by(|left, right| left.id.cmp(&right.id));
        records
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &Arc<StreamState>)> {
        self.0.iter().map(|(id, state)| (*id, state))
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes the changes of an entry happen.
    pub fn commit(&mut self, changes: Changes) {
        self.0
            .extend(changes.0.into_iter().map(|(id, state)| (id, Arc::new(state))));
    }
}

/// Streams as one entry changes them. They count when the whole entry was understood.
#[derive(Debug, Default)]
pub struct Changes(HashMap<StreamId, StreamState>);

impl Changes {
    /// A stream as it is after the changes so far, to change it.
    pub fn stream(
        &mut self,
        streams: &Streams,
        id: StreamId,
        new: impl FnOnce() -> StreamState,
    ) -> &mut StreamState {
        let before = || streams.0.get(&id).map(|state| StreamState::clone(state));
        self.0.entry(id).or_insert_with(|| before().unwrap_or_else(new))
    }
}

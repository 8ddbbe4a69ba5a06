//! What an operator can say about the spool, and what follows from it on a given disk.

use std::time::Duration;

use edgelogger_common::duration::HumanDuration;
use edgelogger_common::size::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Months of a usual machine's metrics, and nothing that a small disk would notice.
const BYTES_MAX: u64 = 256 << 20;
/// Left free for everybody else.
const KEEP_FREE_BYTES: u64 = 256 << 20;
/// One part in this many of the file system: 5 %.
const FRACTION: u64 = 20;
/// Below it there is no room for segments and receipts.
pub const BYTES_MAX_MIN: ByteSize = ByteSize::mib(1);
/// What waits for so long is of no use to an alert, and may still be to somebody who asks what happened.
const AGE_MAX: HumanDuration = HumanDuration::from_secs(30 * 24 * 3600);
/// A crash of the machine costs at most this much more than a crash of the agent.
const FSYNC_INTERVAL: HumanDuration = HumanDuration::from_secs(1);
/// Space comes back in whole segments, so a small spool has small ones; large ones would only be fewer files.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 20;
/// Receipts have room when data has none: some four hundred of them.
const RECEIPT_ROOM_BYTES: u64 = 64 << 10;

/// `[spool]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// All files of the spool together. Default: 256 MiB or 5 % of the file system, whichever is less.
    pub bytes_max: Option<ByteSize>,
    /// What waits longer is dropped.
    pub age_max: HumanDuration,
    /// Free disk space that the spool leaves to others. Default: 256 MiB or 5 % of the file system, whichever is less.
    pub keep_free: Option<ByteSize>,
    /// Between two syncs.
    pub fsync_interval: HumanDuration,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            bytes_max: None,
            age_max: AGE_MAX,
            keep_free: None,
            fsync_interval: FSYNC_INTERVAL,
        }
    }
}

/// What holds on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// All files together.
    pub bytes_max: u64,
    /// Of which data may have this much.
    pub data_bytes_max: u64,
    /// One file.
    pub segment_bytes: u64,
    /// Left free on the file system.
    pub keep_free_bytes: u64,
    /// What waits longer is dropped.
    pub age_max: Duration,
    /// Between two syncs.
    pub fsync_interval: Duration,
}

impl SpoolConfig {
    /// The limits on a file system of this size.
    #[must_use]
    pub fn limits(&self, file_system_bytes: u64) -> SpoolLimits {
        let share = file_system_bytes / FRACTION;
        let bytes_max = self
            .bytes_max
            .map_or(BYTES_MAX.min(share), ByteSize::as_u64)
            .max(BYTES_MAX_MIN.as_u64());
        SpoolLimits {
            bytes_max,
            data_bytes_max: bytes_max - RECEIPT_ROOM_BYTES,
            segment_bytes: segment_bytes(bytes_max),
            keep_free_bytes: self
                .keep_free
                .map_or(KEEP_FREE_BYTES.min(share), ByteSize::as_u64),
            age_max: self.age_max.get(),
            fsync_interval: self.fsync_interval.get(),
        }
    }
}

/// Of a log that may have so many bytes.
pub(super) fn segment_bytes(bytes_max: u64) -> u64 {
    (bytes_max / 16).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_gives_a_twentieth() {
        let limits = SpoolConfig::default().limits(1 << 30);
        assert_eq!(limits.bytes_max, (1 << 30) / 20);
        assert_eq!(limits.keep_free_bytes, (1 << 30) / 20);
        let limits = SpoolConfig::default().limits(1 << 40);
        assert_eq!((limits.bytes_max, limits.segment_bytes), (256 << 20, 4 << 20));
        assert_eq!(SpoolConfig::default().limits(0).bytes_max, 1 << 20);
    }
}

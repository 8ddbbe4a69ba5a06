//! What a person is shown of the transport.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// What the connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// It was not tried yet.
    #[default]
    Starting,
    /// A connection is being made.
    Connecting,
    /// The session is live.
    Connected,
    /// It waits before the next attempt.
    Waiting,
    /// Everything is delivered, or the time to do so is over.
    Stopped,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransportTrouble {
    /// Stable code.
    pub code: String,
    /// What happened, and what to do.
    pub message: String,
    /// Wall clock, ns UTC.
    pub at_ns: i64,
    /// Times in a row.
    pub count: u64,
}

/// The state of the transport; every change is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct TransportStatus {
    /// Host and port.
    pub peer: String,
    /// What it does.
    pub state: ConnectionState,
    /// Since when, ns UTC.
    pub since_ns: i64,
    /// Since when there is no session, through all attempts, ns UTC.
    pub down_since_ns: Option<i64>,
    /// Why it does not work; `None` while it does.
    pub trouble: Option<TransportTrouble>,
    /// The collector is there and takes nothing now: its disk is full, it is stopping. `at_ns`: since when.
    pub not_taken: Option<TransportTrouble>,
    /// The collector's log is another one than the agent knew: what was acknowledged before may be missing there.
    pub log_replaced: Option<String>,
    /// The last Ack, ns UTC.
    pub last_ack_ns: Option<i64>,
    /// Compressed bytes sent and not acked.
    pub in_flight_bytes: u64,
    /// Batches sent and not acked.
    pub in_flight_batches: u64,
    /// Bytes of messages since the start of the process, before TLS.
    pub bytes_sent: u64,
    /// Round trip of the last ping.
    pub round_trip_ms: Option<u64>,
    /// Sessions since the start of the process.
    pub sessions: u64,
    /// Blocks that the collector rejected for good, since the start of the process.
    pub blocks_rejected: u64,
    /// Version of the collector.
    pub collector_version: String,
    /// What its acks promise: "fsync", "replicated", "unreplicated".
    pub durability: String,
}

/// The same trouble is told again after this long.
const REPEAT_INTERVAL: Duration = Duration::from_secs(600);
/// Kinds of trouble that are told apart.
const KINDS_MAX: usize = 64;

/// Decides what is logged: each kind of trouble at once, then once in ten minutes.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    told: BTreeMap<String, (Duration, u64)>,
}

impl Complaints {
    /// If it is to be logged now: how often it happened since the last time.
    pub fn admit(&mut self, kind: &str, now: Duration) -> Option<u64> {
        if let Some((at, since)) = self.told.get_mut(kind) {
            *since += 1;
            if now < *at + REPEAT_INTERVAL {
                return None;
            }
            *at = now;
            return Some(std::mem::take(since));
        }
        if self.told.len() >= KINDS_MAX {
            self.told.clear();
        }
        self.told.insert(kind.to_owned(), (now, 0));
        Some(1)
    }

    /// It works again: the next trouble is news.
    pub fn clear(&mut self) {
        self.told.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_at_once_and_then_rarely() {
        let mut complaints = Complaints::default();
        let at = Duration::from_secs;
        assert_eq!(complaints.admit("E0214", at(0)), Some(1));
        assert_eq!(complaints.admit("E0214", at(1)), None);
        assert_eq!(complaints.admit("E0215", at(2)), Some(1));
        assert_eq!(complaints.admit("E0214", at(601)), Some(2));
        complaints.clear();
        assert_eq!(complaints.admit("E0214", at(602)), Some(1));
    }
}

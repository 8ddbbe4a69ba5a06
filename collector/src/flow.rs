//! What flows between the stages of the collector. A stage takes and gives these types and imports no sibling.
//!
//! ```text
//! ingest ──Submission──> log ──DurableEnd──> sinks ──SinkProgress──> log (retention), health
//!        <───Verdict────
//!        ──Claim──> ledger ──Submission──> log
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgelogger_common::error_code::ErrorCode;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{LogEntry, log_entry};
use parking_lot::{Condvar, Mutex};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::sync::{mpsc, oneshot};

/// Submissions that wait for the writer of the log. A group commit takes all of them at once; each session has at
/// most its batches in flight here, so a full queue means hundreds of busy agents, who then wait.
pub const SUBMISSIONS_MAX: usize = 4096;

/// One entry of the commit log, encoded around its payload: the payload is a reference to the bytes that came off
/// the wire and is never copied on its way to the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEntry {
    head: Vec<u8>,
    payload: Bytes,
    tail: Vec<u8>,
}

/// Numbers of the fields that are written by hand below.
const ENTRY_BATCH_FIELD: u32 = 10;
const BATCH_PAYLOAD_FIELD: u32 = 7;
const BATCH_LANE_FIELD: u32 = 8;

impl EncodedEntry {
    /// Encodes an entry. Equal to `entry.encode_to_vec()` in meaning and in bytes.
    #[must_use]
    pub fn new(mut entry: LogEntry) -> Self {
        let mut batch = match entry.body.take() {
            Some(log_entry::Body::Batch(batch)) => batch,
            other => {
                entry.body = other;
                return Self {
                    head: entry.encode_to_vec(),
                    payload: Bytes::new(),
                    tail: Vec::new(),
                };
            }
        };
        let payload = std::mem::take(&mut batch.payload);
        let lane = std::mem::take(&mut batch.lane);
        let before = batch.encode_to_vec();
        let (mut key, mut tail) = (Vec::new(), Vec::new());
        if !payload.is_empty() {
            encode_key(BATCH_PAYLOAD_FIELD, WireType::LengthDelimited, &mut key);
            encode_varint(payload.len() as u64, &mut key);
        }
        if lane != 0 {
            encode_key(BATCH_LANE_FIELD, WireType::Varint, &mut tail);
            // Protobuf writes an enum as a sign-extended 64-bit varint.
            encode_varint(i64::from(lane).cast_unsigned(), &mut tail);
        }
        let batch_len = before.len() + key.len() + payload.len() + tail.len();
        let mut head = entry.encode_to_vec();
        encode_key(ENTRY_BATCH_FIELD, WireType::LengthDelimited, &mut head);
        encode_varint(batch_len as u64, &mut head);
        head.extend_from_slice(&before);
        head.extend_from_slice(&key);
        Self { head, payload, tail }
    }

    /// The bytes, in order.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.head, &self.payload, &self.tail]
    }

    /// Their length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.head.len() + self.payload.len() + self.tail.len()) as u64
    }
}

/// An entry on its way into the log.
#[derive(Debug)]
pub struct Submission {
    /// What to append.
    pub entry: EncodedEntry,
    /// Told once the entry is durable, or can't become so now.
    pub verdict: oneshot::Sender<Verdict>,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It survives any crash from now on.
    Durable,
    /// Not now: the agent keeps it and sends it again.
    Later {
        /// Pause before the next attempt.
        after: Duration,
        /// Stable code.
        code: ErrorCode,
        /// What happened.
        message: String,
    },
    /// Never: the log can't hold this entry.
    Never {
        /// Stable code.
        code: ErrorCode,
        /// What happened.
        message: String,
    },
}

/// The way into the log, for every session.
#[derive(Debug, Clone)]
pub struct LogSender {
    /// The writer's queue.
    pub queue: mpsc::Sender<Submission>,
    /// Who the log is.
    pub log_id: [u8; 16],
}

impl LogSender {
    /// Hands an entry to the writer; the receiver tells what became of it. Waits while the queue is full. Dropping
    /// the future before it is done submits nothing.
    pub async fn submit(&self, entry: EncodedEntry) -> oneshot::Receiver<Verdict> {
        let (verdict, answer) = oneshot::channel();
        // When the writer is gone the answer's sender is dropped, which is all that a session needs to know.
        let _ = self.queue.send(Submission { entry, verdict }).await;
        answer
    }
}

/// How far the log is durable; sinks wait here for more.
#[derive(Debug, Default)]
pub struct DurableEnd {
    end: Mutex<u64>,
    moved: Condvar,
}

impl DurableEnd {
    /// Tells everyone who waits. A smaller end than before is ignored.
    pub fn advance(&self, end: u64) {
        let mut current = self.end.lock();
        if end > *current {
            *current = end;
            self.moved.notify_all();
        }
    }

    /// Wakes everyone who waits, without news.
    pub fn wake(&self) {
        let _guard = self.end.lock();
        self.moved.notify_all();
    }

    /// Waits until something beyond `seen` is durable, somebody calls [`DurableEnd::wake`], or time is up.
    pub fn wait_beyond(&self, seen: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout;
        let mut end = self.end.lock();
        if *end <= seen {
            self.moved.wait_until(&mut end, deadline);
        }
        *end
    }
}

/// Positions that somebody knows to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub agent: Arc<str>,
    /// Of which stream.
    pub stream_id: StreamId,
    /// Which.
    pub ranges: Vec<Range<u64>>,
    /// Those below it were acknowledged by another log.
    pub other_log_upto: u64,
}

/// Does the log wait for a sink?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Always: when the log is full because of it, agents wait.
    Always,
    /// Until the log is full; then the sink skips what it did not read in time.
    UntilFull,
    /// Never.
    Never,
}

/// How far a sink has come, and what it did; written by its runner, read by the log's retention and by health.
#[derive(Debug)]
pub struct SinkProgress {
    /// The sink's name.
    pub name: &'static str,
    /// Does the log keep what the sink has not made durable?
    pub hold: Hold,
    /// Everything below this sequence is durable in the sink.
    pub durable_cursor: AtomicU64,
    /// Everything below this sequence is durable in it twice. The log keeps the rest while it has room.
    pub held_cursor: AtomicU64,
    /// The next sequence it reads.
    pub cursor: AtomicU64,
    /// What it did since the start of the process, from one moment.
    pub counts: Mutex<SinkCounts>,
    /// Is it stopped by an error now?
    pub failing: AtomicBool,
    /// The log has no room before the sink is durable further on.
    pub awaited: AtomicBool,
}

/// What a sink did, in records: `read = applied + duplicate + dead_lettered`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinkCounts {
    /// Read from the log.
    pub read: u64,
    /// Rows that went in.
    pub applied: u64,
    /// Records that had been applied before.
    pub duplicate: u64,
    /// Records that can never be applied.
    pub dead_lettered: u64,
}

impl SinkProgress {
    /// Of a sink that begins at this sequence.
    #[must_use]
    pub fn new(name: &'static str, hold: Hold, cursor: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            hold,
            durable_cursor: AtomicU64::new(cursor),
            held_cursor: AtomicU64::new(cursor),
            cursor: AtomicU64::new(cursor),
            counts: Mutex::default(),
            failing: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
        })
    }

    /// Counts what became of records that were read.
    pub fn count(&self, counted: SinkCounts) {
        let mut counts = self.counts.lock();
        counts.read += counted.read;
        counts.applied += counted.applied;
        counts.duplicate += counted.duplicate;
        counts.dead_lettered += counted.dead_lettered;
    }

    /// All cursors.
    pub fn set(&self, cursor: u64, durable_cursor: u64, held_cursor: u64) {
        self.held_cursor.store(held_cursor, Ordering::Relaxed);
        self.cursor.store(cursor, Ordering::Relaxed);
        self.durable_cursor.store(durable_cursor, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use edgelogger_proto::v1::{Batch, StreamDescriptor, StreamEnd};

    use super::*;

    fn entry(body: log_entry::Body) -> LogEntry {
        LogEntry {
            tenant: "default".into(),
            agent_id: "machine-17".into(),
            machine_id: "machine-17".into(),
            instance_id: Bytes::from_static(&[7; 16]),
            session_epoch: 3,
            agent_version: "0.1.0".into(),
            labels: BTreeMap::from([("site".into(), "berlin".into())]),
            received_time_ns: -5,
            streams: vec![StreamDescriptor {
                name: "/var/log/a".into(),
                ..Default::default()
            }],
            body: Some(body),
        }
    }

    #[track_caller]
    fn check(entry: &LogEntry) {
        let encoded = EncodedEntry::new(entry.clone());
        assert_eq!(encoded.parts().concat(), entry.encode_to_vec());
        assert_eq!(encoded.bytes(), entry.encoded_len() as u64);
    }

    #[test]
    fn an_entry_around_its_payload_is_the_entry_that_protobuf_writes() {
        for lane in [0, 1, -1] {
            for payload in [&b""[..], b"payload"] {
                let batch = Batch {
                    sequence: 4711,
                    codec: 5,
                    decompressed_len: 100,
                    block_count: 2,
                    record_count: 9,
                    sha256: Bytes::from_static(&[9; 32]),
                    payload: Bytes::copy_from_slice(payload),
                    lane,
                };
                check(&entry(log_entry::Body::Batch(batch)));
            }
        }
        check(&entry(log_entry::Body::Batch(Batch::default())));
    }

    #[test]
    fn an_entry_without_a_batch_is_encoded_as_it_is() {
        let end = StreamEnd {
            size: 5,
            ..Default::default()
        };
        let encoded = EncodedEntry::new(entry(log_entry::Body::StreamEnd(end.clone())));
        assert_eq!(
            encoded.parts().concat(),
            entry(log_entry::Body::StreamEnd(end)).encode_to_vec()
        );
    }
}

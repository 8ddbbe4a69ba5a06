//! What the transport asks of the rest of the agent, and tells it.

use bytes::Bytes;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{AgentMetrics, StoredStream, StreamDescriptor, StreamHead};

use crate::checkpoint::{Checkpoints, LogReplaced};
use crate::flow::SentBlock;

/// How the range of a block ended up at the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// As it was sent.
    Stored,
    /// Rejected, and the collector has the receipt that says so (or rejects even that).
    Rejected,
}

/// Where progress is kept. Called on the transport's thread: none of these may wait for a disk, but for
/// [`Journal::next_epoch`], once for each connection.
pub trait Journal: Send + Sync {
    /// The collector has this range; exactly once for each block that was handed in.
    fn acked(&self, block: &SentBlock, how: Delivered);
    /// The collector has this stream to its end.
    fn ended(&self, stream_id: &StreamId);
    /// A stream that was opened by an earlier process.
    fn descriptor(&self, stream_id: &StreamId) -> Option<StreamDescriptor>;
    /// Who this agent is.
    fn instance_id(&self) -> [u8; 16];
    /// Greater than every one before.
    fn next_epoch(&self) -> u64;
    /// `log_id` of the last Welcome.
    fn log_id(&self) -> Option<[u8; 16]>;
    /// Remember it.
    fn set_log_id(&self, log_id: [u8; 16]);
    /// The collector's log is another one than the one that acknowledged things before, and that is not settled.
    fn log_replaced(&self) -> Option<LogReplaced> {
        None
    }
    /// Remember it.
    fn set_log_replaced(&self, _replaced: Option<LogReplaced>) {}
    /// The mark of this machine, where the state is new and the collector is to be asked what it has of it.
    fn adoption_question(&self) -> Option<Bytes> {
        None
    }
    /// Its answer; with every Welcome.
    fn adoption_answer(&self, _stored: &[StoredStream]) {}
}

/// What heartbeats tell.
pub trait Vitals: Send + Sync {
    /// All open streams. Also asked for at every attempt to connect, so that it is known since when something waits.
    fn heads(&self) -> Vec<StreamHead>;
    /// Since the start of the process; the transport fills in what it alone knows (`bytes_sent`).
    fn metrics(&self) -> AgentMetrics;
}

impl Journal for Checkpoints {
    fn acked(&self, block: &SentBlock, _: Delivered) {
        Self::acked(self, block);
    }

    fn ended(&self, stream_id: &StreamId) {
        Self::ended(self, stream_id);
    }

    fn descriptor(&self, stream_id: &StreamId) -> Option<StreamDescriptor> {
        self.stream(stream_id).map(|state| state.descriptor)
    }

    fn instance_id(&self) -> [u8; 16] {
        Self::instance_id(self)
    }

    fn next_epoch(&self) -> u64 {
        Self::next_epoch(self)
    }

    fn log_id(&self) -> Option<[u8; 16]> {
        Self::log_id(self)
    }

    fn set_log_id(&self, log_id: [u8; 16]) {
        Self::set_log_id(self, log_id);
    }
}

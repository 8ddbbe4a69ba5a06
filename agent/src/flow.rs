//! What flows between the stages of the agent. A stage takes and gives these types and imports no sibling.
//!
//! ```text
//! source ──SourceEvent──> ring ──> batcher ──> encoder ──EncodedBatch──> (spool) ──> transport ──Acked──> checkpoint
//! ```
//!
//! Order is kept within a stream: its `Open` before its blocks, its blocks by position, its `End` last.

use std::sync::Arc;

use bytes::Bytes;
use edgelogger_common::block::Block;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Codec, Lane, StreamDescriptor, StreamEndReason};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ring::CreditPermit;
use crate::tally::InFlight;

/// What a source says to the rest of the agent.
#[derive(Debug)]
pub enum SourceEvent {
    /// A stream that is durable in the checkpoint file already.
    Open(Box<StreamDescriptor>),
    /// Records of a stream, or a receipt.
    Block(SourceBlock),
    /// A stream that will never have another block.
    End(StreamClose),
}

/// A block on its way, with what must be remembered once it is acknowledged.
#[derive(Debug)]
pub struct SourceBlock {
    /// The records.
    pub block: Block,
    /// Live data, or the catching up of a backlog. Lanes never share a batch.
    pub lane: Lane,
    /// Can the source be read again from a position? Replayable and volatile blocks never share a batch.
    pub replayable: bool,
    /// How the source resumes behind this block.
    pub resume: Resume,
    /// The bytes of the ring that this block occupies; given back when the block is encoded.
    pub credit: CreditPermit,
}

/// How a source finds its place again behind an acknowledged block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Resume {
    /// A source that can't be read again.
    #[default]
    Nowhere,
    /// A file: the content just before the block's end must still be this.
    Content(ContentCheck),
    /// A source with a cursor of its own (journald).
    Cursor(String),
}

/// CRC32C of the `len` bytes of content before a position; what tells a file that merely has the right length from
/// the file that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentCheck {
    /// Bytes covered, at most [`CONTENT_CHECK_BYTES_MAX`].
    pub len: u32,
    /// Their CRC32C.
    pub crc32c: u32,
}

/// Content compared before a file is resumed: enough that two logs that are alike differ in it (timestamps), little
/// enough to read at every resume.
pub const CONTENT_CHECK_BYTES_MAX: u32 = 1024;

/// The end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamClose {
    /// Which.
    pub stream_id: StreamId,
    /// No position at or above this exists.
    pub size: u64,
    /// `false`: it had at least `size`.
    pub exact: bool,
    /// Why.
    pub reason: StreamEndReason,
}

/// What leaves the encoder: things that need a sequence number of the session, in order.
#[derive(Debug)]
pub enum Outgoing {
    /// Announce a stream.
    Open(Box<StreamDescriptor>),
    /// Send records.
    Batch(EncodedBatch),
    /// Announce the end of a stream.
    End(StreamClose),
}

/// A batch, compressed once. It is sent again as it is until it is acknowledged.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    /// How `payload` is compressed.
    pub codec: Codec,
    /// Length of the blocks before compression, in bytes.
    pub decompressed_len: u32,
    /// Records in all blocks.
    pub record_count: u32,
    /// SHA-256 of `payload`.
    pub sha256: [u8; 32],
    /// Compressed blocks.
    pub payload: Bytes,
    /// Live or backfill.
    pub lane: Lane,
    /// What is in it, in order.
    pub blocks: Vec<SentBlock>,
    /// Keeps its positions in flight until the last copy is gone.
    pub in_flight: Arc<InFlight>,
}

/// What happens to a source that can't be read again when its data has no room on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpoolPolicy {
    /// The oldest gives way: the newest say most about what is going on.
    #[default]
    DropOldest,
    /// The newest is not kept: the beginning of the trouble stays.
    DropNewest,
    /// The source pauses. Nothing is lost that it has measured, but it measures nothing meanwhile.
    Block,
}

/// One block of a batch that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentBlock {
    /// Its stream.
    pub stream_id: StreamId,
    /// First position.
    pub start: u64,
    /// Position after the last.
    pub end: u64,
    /// Records in it.
    pub record_count: u32,
    /// What to remember when it is acknowledged.
    pub resume: Resume,
}

//! Batches are validated wholly before they are appended: hash, bounded decompression, every block decoded.
//!
//! That is work for the processor, so it runs outside of the reactor's threads, on as many threads at once as there
//! are cores; a small batch is done on the spot, because handing it over would take longer.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use edgelogger_common::block::batch::{self, BatchError, BatchLimits};
use edgelogger_common::codec::Decompressor;
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{Batch, BlockReject};
use tokio::sync::Semaphore;

/// Batches that open to no more than this are validated on the spot: some 20 µs, where a hand-over costs 10 to 50.
const INLINE_BYTES_MAX: u32 = 16 << 10;
const INLINE_RECORDS_MAX: u32 = 4096;

/// Blocks that a Nack names, at most; the rest are refused when they come again.
const NAMED_BLOCKS_MAX: usize = 1_000;

/// What a good batch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBatch {
    /// As it came.
    pub batch: Batch,
    /// Stream and range of each block, in order.
    pub blocks: Vec<CheckedBlock>,
}

/// The address of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBlock {
    /// Its stream.
    pub stream_id: StreamId,
    /// Its positions.
    pub range: Range<u64>,
    /// Do positions count records?
    pub counts_records: bool,
}

/// Why a batch is not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchFault {
    /// The payload is not what its sender hashed: it may come whole the next time.
    Checksum(String),
    /// The same bytes would fail again.
    Reject(Rejection),
}

/// What the agent is told about a batch that can never be accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// Those that are wrong; empty: all of it.
    pub blocks: Vec<BlockReject>,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Rejection {
    /// Of the whole batch, or of what is no batch.
    pub fn whole(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            blocks: Vec::new(),
            code: code.code,
            message: message.into(),
        }
    }

    /// Of these blocks for one reason.
    pub fn of_blocks(
        code: ErrorCode,
        message: impl Into<String>,
        blocks: impl Iterator<Item = usize>,
    ) -> Self {
        let message = message.into();
        let reject = |index| BlockReject {
            block_index: u32::try_from(index).unwrap_or(u32::MAX),
            code: code.code.to_owned(),
            message: message.clone(),
        };
        let blocks = blocks.take(NAMED_BLOCKS_MAX).map(reject).collect();
        Self {
            blocks,
            code: code.code,
            message,
        }
    }
}

/// Validates for all sessions.
#[derive(Debug)]
pub struct Validator {
    limits: BatchLimits,
    threads: Semaphore,
}

thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

impl Validator {
    /// With so many batches in work at once.
    #[must_use]
    pub fn new(limits: BatchLimits, threads: usize) -> Arc<Self> {
        Arc::new(Self {
            limits,
            threads: Semaphore::new(threads.max(1)),
        })
    }

    /// Validates one batch of an agent whose labels have so many bytes: they stand in every row. Dropping the future leaves the work to finish for nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn validate(&self, batch: Batch, labels_len: usize) -> Result<CheckedBatch, BatchFault> {
        let is_small =
            batch.decompressed_len <= INLINE_BYTES_MAX && batch.payload.len() <= INLINE_BYTES_MAX as usize;
        // Few bytes can stand for many records.
        if is_small && batch.record_count <= INLINE_RECORDS_MAX {
            return check(batch, &self.limits, labels_len);
        }
        // Never closed, so acquiring can't fail; without a permit there would merely be one more thread at work.
        let _permit = self.threads.acquire().await.ok();
        let limits = self.limits;
        let work = tokio::task::spawn_blocking(move || check(batch, &limits, labels_len));
        work.await.unwrap_or_else(|_| {
            let message = "validating the batch failed inside the collector";
            Err(BatchFault::Reject(Rejection::whole(
                error_code::MALFORMED_BLOCK,
                message,
            )))
        })
    }
}

/// Validates on this thread.
///
/// # Errors
/// See [`BatchFault`].
pub fn check(batch: Batch, limits: &BatchLimits, labels_len: usize) -> Result<CheckedBatch, BatchFault> {
    let labels_in_rows = u64::from(batch.record_count).saturating_mul(labels_len as u64);
    if labels_in_rows > limits.expanded_bytes_max {
        return Err(fault(&BatchError::Limit {
            what: "bytes of labels in its rows",
            found: labels_in_rows,
            limit: limits.expanded_bytes_max,
        }));
    }
    let opened = DECOMPRESSOR.with_borrow_mut(|decompressor| batch::validate(&batch, limits, decompressor));
    let blocks = opened.map_err(|error| fault(&error))?;
    let address = |block: &edgelogger_common::block::Block| CheckedBlock {
        stream_id: block.header.stream_id,
        range: block.header.range(),
        counts_records: block.header.counts_records,
    };
    let blocks = blocks.iter().map(address).collect();
    Ok(CheckedBatch { batch, blocks })
}

fn fault(error: &BatchError) -> BatchFault {
    let message = error.to_string();
    let blocks = match error {
        BatchError::Checksum => return BatchFault::Checksum(message),
        BatchError::Blocks(bad) => {
            let named = bad.iter().take(NAMED_BLOCKS_MAX);
            named
                .map(|bad| block_reject(bad.index, bad.error.code().code, &bad.error))
                .collect()
        }
        _ => Vec::new(),
    };
    BatchFault::Reject(Rejection {
        blocks,
        code: error.code().code,
        message,
    })
}

fn block_reject(block_index: u32, code: &str, error: &dyn std::fmt::Display) -> BlockReject {
    BlockReject {
        block_index,
        code: code.to_owned(),
        message: error.to_string(),
    }
}

//! Batches of the corpus, made as the agent makes them: lines straight from a read buffer, compressed once.

use bytes::Bytes;
use edgelogger_common::block::Block;
use edgelogger_common::codec::{CodecSetting, Compressor, sha256};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1;

use crate::Outcome;

/// The stream that all of it belongs to.
pub const STREAM: [u8; 16] = [7; 16];
/// Bytes of lines in a block, as a file source reads them at once.
pub const BLOCK_BYTES: usize = 256 << 10;
/// Blocks in a batch.
const BLOCKS: usize = 4;
/// 2026-03-02T00:00:00Z.
const OBSERVED_NS: i64 = 1_772_409_600_000_000_000;

/// Batches of 1 MiB that hold all of `text`, one stream: [`STREAM`].
///
/// # Errors
/// When a block can't be written or compressed.
pub fn batches_of(text: &[u8], setting: CodecSetting) -> Outcome<Vec<v1::Batch>> {
    batches_of_stream(StreamId::from_bytes(STREAM), text, setting)
}

/// The same of another stream.
///
/// # Errors
/// As [`batches_of`].
pub fn batches_of_stream(stream: StreamId, text: &[u8], setting: CodecSetting) -> Outcome<Vec<v1::Batch>> {
    let mut blocks = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let piece = &text[start..text.len().min(start + BLOCK_BYTES)];
        let len = memchr::memrchr(b'\n', piece).map_or(piece.len(), |last| last + 1);
        let lines = Bytes::copy_from_slice(&piece[..len]);
        let records = u32::try_from(memchr::memchr_iter(b'\n', &lines).count())?;
        let crc = crc32c::crc32c(&lines);
        blocks.push(Block::from_lines(
            stream,
            start as u64,
            lines,
            records,
            crc,
            OBSERVED_NS,
        ));
        start += len;
    }
    let mut compressor = Compressor::new();
    let mut sequence = 0;
    blocks
        .chunks(BLOCKS)
        .map(|blocks| {
            sequence += 1;
            batch_of(blocks, setting, &mut compressor, sequence)
        })
        .collect()
}

/// A batch of these blocks.
///
/// # Errors
/// When they can't be written or compressed.
pub fn batch_of(
    blocks: &[Block],
    setting: CodecSetting,
    compressor: &mut Compressor,
    sequence: u64,
) -> Outcome<v1::Batch> {
    let mut written = Vec::new();
    edgelogger_common::block::batch::write_payload(blocks, &mut written)?;
    let mut payload = Vec::new();
    compressor.compress(setting, &written, &mut payload)?;
    Ok(v1::Batch {
        sequence,
        codec: v1::Codec::from(setting.codec()).into(),
        decompressed_len: u32::try_from(written.len())?,
        block_count: u32::try_from(blocks.len())?,
        record_count: blocks.iter().map(|block| block.header.record_count).sum(),
        sha256: sha256(&payload).to_vec().into(),
        payload: payload.into(),
        lane: v1::Lane::Backfill.into(),
    })
}

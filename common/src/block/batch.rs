//! A batch: blocks one after another, compressed once, with the SHA-256 of the compressed bytes.
//!
//! The hash is made where the batch is made and stays with it: the collector checks it before it appends, and
//! `verify` checks it again at the other end. [`open`] is the only way from a batch's bytes to blocks.

use bytes::Bytes;
use edgelogger_proto::v1;

use super::{Block, BlockError, BlockView};
use crate::codec::{Codec, CodecError, DecodeLimits, Decompressor, sha256};
use crate::error_code::{self, ErrorCode};

/// What a batch may be, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Sizes before and after decompression, and their ratio.
    pub decode: DecodeLimits,
    /// Blocks in a batch.
    pub blocks_max: u32,
    /// Records in all blocks together: what bounds the memory of their decoded columns.
    pub records_max: u32,
    /// Length of a record's body in bytes.
    pub record_bytes_max: u32,
    /// All records written out as rows, in bytes: a constant stands for a million values in a few bytes.
    pub expanded_bytes_max: u64,
}

/// What a row takes beside its body: times, addresses, severity.
const ROW_BYTES: u64 = 128;

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            decode: DecodeLimits::default(),
            // One block for each of some thousand files that wrote a line within the same second.
            blocks_max: 16_384,
            // 1 MiB of empty lines, twice.
            records_max: 2 << 20,
            record_bytes_max: 4 << 20,
            expanded_bytes_max: 512 << 20,
        }
    }
}

/// Why a batch is refused. The same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The payload is not what its sender hashed.
    #[error("SHA-256 of the payload is not the one the batch carries; it was changed on the way or on disk")]
    Checksum,
    /// The payload does not decompress within its limits.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The batch says one number, its blocks come to another.
    #[error("the batch says {claimed} {what}, it holds {found}")]
    Count {
        /// Blocks or records.
        what: &'static str,
        /// What the batch says.
        claimed: u64,
        /// What is in it.
        found: u64,
    },
    /// More of something than allowed.
    #[error("the batch has {found} {what}, allowed are {limit}")]
    Limit {
        /// Blocks or records.
        what: &'static str,
        /// What the batch says.
        found: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The blocks can't be told apart: everything from this block on is unreadable.
    #[error("block {index}: {error}")]
    Framing {
        /// Which block, from 0.
        index: u32,
        /// What is wrong.
        error: BlockError,
    },
    /// Some blocks are wrong, the others are good.
    #[error("{count} of the blocks are wrong, the first is block {index}: {error}", count = .0.len(), index = .0[0].index, error = .0[0].error)]
    Blocks(Vec<BadBlock>),
}

/// One block that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBlock {
    /// Which, from 0.
    pub index: u32,
    /// What is wrong.
    pub error: BlockError,
}

impl BatchError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static ErrorCode {
        match self {
            Self::Checksum => &error_code::CHECKSUM_MISMATCH,
            Self::Codec(error) => error.code(),
            Self::Limit { .. } => &error_code::DECOMPRESSION_LIMIT,
            Self::Count { .. } => &error_code::MALFORMED_BLOCK,
            Self::Framing { error, .. } => error.code(),
            Self::Blocks(blocks) => blocks
                .first()
                .map_or(&error_code::MALFORMED_BLOCK, |bad| bad.error.code()),
        }
    }
}

/// Appends the bytes of all blocks.
///
/// # Errors
/// A block that can't be written ([`Block::write_to`]).
pub fn write_payload(blocks: &[Block], out: &mut Vec<u8>) -> Result<(), BlockError> {
    blocks.iter().try_for_each(|block| block.write_to(out))
}

/// Checks the hash, decompresses within the limits and takes the blocks apart. Their contents are checked when they
/// are viewed; [`validate`] does both.
///
/// # Errors
/// Anything wrong with the batch as a whole.
pub fn open(
    batch: &v1::Batch,
    limits: &BatchLimits,
    decompressor: &mut Decompressor,
) -> Result<Vec<Block>, BatchError> {
    if sha256(&batch.payload).as_slice() != batch.sha256 {
        return Err(BatchError::Checksum);
    }
    open_unhashed(batch, limits, decompressor)
}

/// As [`open`], for bytes whose hash was checked when they came in and whose frame CRC was checked just now.
///
/// # Errors
/// As [`open`], but for the hash.
pub fn open_unhashed(
    batch: &v1::Batch,
    limits: &BatchLimits,
    decompressor: &mut Decompressor,
) -> Result<Vec<Block>, BatchError> {
    at_most("blocks", batch.block_count, limits.blocks_max)?;
    at_most("records", batch.record_count, limits.records_max)?;
    let codec = Codec::from_wire(batch.codec)?;
    let declared_len = batch.decompressed_len as usize;
    let payload = decompressor.decompress_bytes(codec, &batch.payload, declared_len, &limits.decode)?;
    let blocks = split(payload, batch.block_count)?;
    let records = blocks
        .iter()
        .map(|block| u64::from(block.header.record_count))
        .sum();
    if records != u64::from(batch.record_count) {
        return Err(BatchError::Count {
            what: "records",
            claimed: batch.record_count.into(),
            found: records,
        });
    }
    Ok(blocks)
}

/// [`open`], and every block viewed.
///
/// # Errors
/// Anything wrong with the batch or with any of its blocks, each of which is named.
pub fn validate(
    batch: &v1::Batch,
    limits: &BatchLimits,
    decompressor: &mut Decompressor,
) -> Result<Vec<Block>, BatchError> {
    let blocks = open(batch, limits, decompressor)?;
    let mut expanded = u64::from(batch.record_count) * ROW_BYTES;
    let bad: Vec<BadBlock> = (0u32..)
        .zip(&blocks)
        .filter_map(|(index, block)| match check(block, limits) {
            Ok(len) => {
                expanded = expanded.saturating_add(len);
                None
            }
            Err(error) => Some(BadBlock { index, error }),
        })
        .collect();
    if !bad.is_empty() {
        return Err(BatchError::Blocks(bad));
    }
    if expanded > limits.expanded_bytes_max {
        return Err(BatchError::Limit {
            what: "bytes when its records are written out",
            found: expanded,
            limit: limits.expanded_bytes_max,
        });
    }
    Ok(blocks)
}

/// The length of all bodies written out.
fn check(block: &Block, limits: &BatchLimits) -> Result<u64, BlockError> {
    let BlockView::Log(view) = block.view()? else {
        return Ok(0);
    };
    let longest = view.body.iter().map(<[u8]>::len).max().unwrap_or(0);
    if longest > limits.record_bytes_max as usize {
        return Err(BlockError::Limit {
            what: "the length of a record",
            found: longest as u64,
            limit: limits.record_bytes_max.into(),
        });
    }
    Ok(view.body.total_len())
}

fn split(mut payload: Bytes, claimed: u32) -> Result<Vec<Block>, BatchError> {
    // A block is longer than its header, so the count is checked before it is allocated.
    let possible = payload.len() / super::HEADER_LEN;
    if claimed as usize > possible || claimed == 0 {
        return Err(BatchError::Count {
            what: "blocks",
            claimed: claimed.into(),
            found: possible as u64,
        });
    }
    let mut blocks = Vec::with_capacity(claimed as usize);
    for index in 0..claimed {
        let block = Block::split_from(&mut payload).map_err(|error| BatchError::Framing { index, error })?;
        blocks.push(block);
    }
    if payload.is_empty() {
        Ok(blocks)
    } else {
        Err(BatchError::Count {
            what: "bytes of blocks",
            claimed: 0,
            found: payload.len() as u64,
        })
    }
}

fn at_most(what: &'static str, found: u32, limit: u32) -> Result<(), BatchError> {
    if found <= limit {
        return Ok(());
    }
    Err(BatchError::Limit {
        what,
        found: found.into(),
        limit: limit.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{CodecSetting, Compressor};
    use crate::stream::StreamId;

    fn batch(setting: &str, blocks: &[Block]) -> v1::Batch {
        let setting: CodecSetting = setting.parse().unwrap();
        let (mut plain, mut payload) = (Vec::new(), Vec::new());
        write_payload(blocks, &mut plain).unwrap();
        Compressor::new().compress(setting, &plain, &mut payload).unwrap();
        v1::Batch {
            sequence: 1,
            codec: v1::Codec::from(setting.codec()).into(),
            decompressed_len: u32::try_from(plain.len()).unwrap(),
            block_count: u32::try_from(blocks.len()).unwrap(),
            record_count: blocks.iter().map(|block| block.header.record_count).sum(),
            sha256: Bytes::copy_from_slice(&sha256(&payload)),
            payload: payload.into(),
            lane: 0,
        }
    }

    fn lines(start: u64, text: &'static str) -> Block {
        let count = u32::try_from(text.matches('\n').count()).unwrap();
        let crc = crc32c::crc32c(text.as_bytes());
        Block::from_lines(StreamId::from_bytes([1; 16]), start, text.into(), count, crc, 5)
    }

    fn two_blocks() -> Vec<Block> {
        vec![lines(0, "one\ntwo\n"), lines(8, "three\n")]
    }

    fn validated(batch: &v1::Batch) -> Result<Vec<Block>, BatchError> {
        validate(batch, &BatchLimits::default(), &mut Decompressor::new())
    }

    const CODECS: [&str; 5] = ["none", "lz4", "snappy", "gzip:6", "zstd:3"];

    #[test]
    fn a_batch_opens_to_its_blocks_with_every_codec() {
        for codec in CODECS {
            assert_eq!(
                validated(&batch(codec, &two_blocks())),
                Ok(two_blocks()),
                "{codec}"
            );
        }
    }

    #[test]
    fn every_truncation_and_bit_flip_of_a_batch_is_an_error() {
        for codec in CODECS {
            let good = batch(codec, &two_blocks());
            for bit in 0..good.payload.len() * 8 {
                let mut payload = good.payload.to_vec();
                payload[bit / 8] ^= 1 << (bit % 8);
                let flipped = v1::Batch {
                    payload: payload.into(),
                    ..good.clone()
                };
                assert_eq!(validated(&flipped), Err(BatchError::Checksum));
                rehashed_is_no_panic(&flipped);
                let cut = v1::Batch {
                    payload: good.payload.slice(..bit / 8),
                    ..good.clone()
                };
                assert_eq!(validated(&cut), Err(BatchError::Checksum));
                rehashed_is_no_panic(&cut);
            }
        }
    }

    /// An attacker's hash is right.
    fn rehashed_is_no_panic(batch: &v1::Batch) {
        let sha256 = Bytes::copy_from_slice(&sha256(&batch.payload));
        let _ = validated(&v1::Batch {
            sha256,
            ..batch.clone()
        });
    }

    #[test]
    fn a_batch_that_lies_about_itself_is_refused() {
        let good = batch("zstd:1", &two_blocks());
        let lies = [
            v1::Batch {
                block_count: 1,
                ..good.clone()
            },
            v1::Batch {
                block_count: 3,
                ..good.clone()
            },
            v1::Batch {
                block_count: 0,
                ..good.clone()
            },
            v1::Batch {
                block_count: u32::MAX,
                ..good.clone()
            },
            v1::Batch {
                record_count: 4,
                ..good.clone()
            },
            v1::Batch {
                record_count: u32::MAX,
                ..good.clone()
            },
            v1::Batch {
                decompressed_len: good.decompressed_len + 1,
                ..good.clone()
            },
            v1::Batch {
                codec: 77,
                ..good.clone()
            },
            v1::Batch {
                codec: v1::Codec::Lz4.into(),
                ..good.clone()
            },
        ];
        for lie in lies {
            assert!(validated(&lie).is_err(), "{lie:?}");
        }
    }

    #[test]
    fn a_wrong_block_is_named_and_the_others_are_not() {
        let mut wrong = lines(8, "three\n");
        wrong.header.source_crc32c = Some(1);
        let error = validated(&batch("none", &[lines(0, "one\ntwo\n"), wrong])).unwrap_err();
        match error {
            BatchError::Blocks(bad) => assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1]),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn few_bytes_that_stand_for_many_are_refused() {
        let mut block = lines(0, "x\n");
        (block.header.record_count, block.header.end) = (1_000_000, 2_000_000);
        block.header.source_crc32c = None;
        let body = vec![b'x'; 200];
        block.columns = vec![
            super::super::Column::constant_i64(super::super::ColumnId::OBSERVED_TIME, 1),
            super::super::Column {
                id: super::super::ColumnId::BODY,
                column_type: super::super::ColumnType::Bytes,
                encoding: super::super::Encoding::Constant,
                nullable: false,
                data: body.into(),
            },
            super::super::Column::constant_i64(super::super::ColumnId::SOURCE_LEN, -198),
        ];
        let error = validated(&batch("none", &[block.clone(), block])).unwrap_err();
        assert!(
            matches!(&error, BatchError::Limit { what, .. } if what.contains("written out")),
            "{error}"
        );
    }

    #[test]
    fn a_record_beyond_the_limit_is_refused_with_its_block() {
        let limits = BatchLimits {
            record_bytes_max: 4,
            ..BatchLimits::default()
        };
        let batch = batch("lz4", &two_blocks());
        let error = validate(&batch, &limits, &mut Decompressor::new()).unwrap_err();
        assert!(
            matches!(&error, BatchError::Blocks(bad) if bad[0].index == 1),
            "{error}"
        );
    }
}

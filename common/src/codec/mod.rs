//! Compression and content hashes of batches.
//!
//! | file | idea |
//! | --- | --- |
//! | `setting.rs` | what an operator writes: `zstd:3`, `lz4`, `none` |
//! | `compress.rs` | [`Compressor`]: one per thread, keeps its contexts between batches |
//! | `decompress.rs` | [`Decompressor`]: the only place that opens compressed bytes from outside |
//! | `gzip.rs`, `zstd_header.rs` | what the libraries do not check for us |
//! | `error.rs` | what can be wrong with a payload |
//!
//! # What each codec is, exactly
//!
//! | codec | payload |
//! | --- | --- |
//! | none | the bytes themselves; decoding shares them, without a copy |
//! | lz4 | one raw LZ4 block, no length in front (the batch declares it) |
//! | snappy | one raw snappy block |
//! | gzip | one member, no optional header fields |
//! | zstd | one frame with its content size, without dictionary and checksum (SHA-256 covers the payload) |
//!
//! # Bounded, whatever arrives
//!
//! A batch declares its decompressed length. [`DecodeLimits`] are checked against payload and declaration before
//! a byte is allocated; then exactly the declared length is allocated, the decoder gets that slice and no more,
//! and anything but exactly that many bytes from exactly that payload is an error. So 33 kB of zstd that open to
//! 1 GiB cost what they declared, at most `decompressed_bytes_max`. zstd decodes straight into the slice, so its
//! window costs no memory of its own; a frame that asks for a larger one than allowed is refused unread.

mod compress;
mod decompress;
mod error;
mod gzip;
mod setting;
#[cfg(test)]
mod tests;
mod zstd_header;

pub use compress::{Compressor, compress};
pub use decompress::{DecodeLimits, Decompressor, RATIO_EXEMPT_BYTES};
pub use error::CodecError;
pub use setting::{CodecSetting, CodecSettingError, GZIP_LEVELS, ZSTD_LEVELS};

use edgelogger_proto::v1;
use sha2::{Digest, Sha256};

/// How the payload of a batch is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// Not at all.
    None,
    /// Raw LZ4 block.
    Lz4,
    /// Raw snappy block.
    Snappy,
    /// One gzip member.
    Gzip,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    /// All of them, best ratio first: the order a collector prefers.
    pub const ALL: [Self; 5] = [Self::Zstd, Self::Gzip, Self::Lz4, Self::Snappy, Self::None];

    /// The name in configuration, metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of the number that a wire message carries.
    ///
    /// # Errors
    /// [`CodecError::UnknownCodec`] for a number that this build does not know, and for "unspecified".
    pub fn from_wire(number: i32) -> Result<Self, CodecError> {
        let unknown = CodecError::UnknownCodec { number };
        Self::try_from(v1::Codec::try_from(number).map_err(|_| unknown)?)
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Codec> for v1::Codec {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Snappy => Self::Snappy,
            Codec::Gzip => Self::Gzip,
            Codec::Zstd => Self::Zstd,
        }
    }
}

impl TryFrom<v1::Codec> for Codec {
    type Error = CodecError;

    fn try_from(codec: v1::Codec) -> Result<Self, CodecError> {
        match codec {
            v1::Codec::None => Ok(Self::None),
            v1::Codec::Lz4 => Ok(Self::Lz4),
            v1::Codec::Snappy => Ok(Self::Snappy),
            v1::Codec::Gzip => Ok(Self::Gzip),
            v1::Codec::Zstd => Ok(Self::Zstd),
            v1::Codec::Unspecified => Err(CodecError::UnknownCodec { number: codec as i32 }),
        }
    }
}

/// SHA-256 of a compressed payload: made by the encoder, kept with the batch for ever.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

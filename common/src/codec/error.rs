//! What can be wrong with a compressed payload.

use super::Codec;
use crate::error_code::{self, ErrorCode};

/// A payload was not compressed or not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A newer peer, or garbage.
    #[error("codec number {number} is unknown to this build")]
    UnknownCodec {
        /// As it came.
        number: i32,
    },
    /// The payload is larger than allowed.
    #[error("compressed payload of {bytes} bytes exceeds the limit of {bytes_max}")]
    CompressedTooLarge {
        /// Found.
        bytes: usize,
        /// Allowed.
        bytes_max: usize,
    },
    /// The batch declares more decompressed bytes than allowed.
    #[error("declared decompressed length of {bytes} bytes exceeds the limit of {bytes_max}")]
    DecompressedTooLarge {
        /// Declared.
        bytes: usize,
        /// Allowed.
        bytes_max: usize,
    },
    /// It claims to have been compressed better than allowed.
    #[error("{compressed_bytes} bytes declared to open to {decompressed_bytes}: more than {ratio_max} to 1")]
    RatioTooLarge {
        /// Size of the payload.
        compressed_bytes: usize,
        /// Declared.
        decompressed_bytes: usize,
        /// Allowed.
        ratio_max: usize,
    },
    /// A zstd frame wants more memory for its window than allowed.
    #[error("zstd frame asks for a window of {window_bytes} bytes; the limit is {window_bytes_max}")]
    WindowTooLarge {
        /// Asked for.
        window_bytes: u64,
        /// Allowed.
        window_bytes_max: u64,
    },
    /// It opens to more or fewer bytes than declared.
    #[error("{codec} payload does not open to the declared {declared} bytes ({found})")]
    LengthMismatch {
        /// Of which codec.
        codec: Codec,
        /// By the batch.
        declared: usize,
        /// What was found instead, in words: the exact number isn't always known.
        found: Found,
    },
    /// Bytes after the end of the compressed data.
    #[error("{bytes} bytes follow the end of the {codec} payload")]
    TrailingBytes {
        /// Of which codec.
        codec: Codec,
        /// How many.
        bytes: usize,
    },
    /// It is not what it says it is.
    #[error("malformed {codec} payload: {detail}")]
    Malformed {
        /// Of which codec.
        codec: Codec,
        /// What the decoder met.
        detail: String,
    },
    /// The encoder failed: out of memory, or our own bug.
    #[error("cannot compress {bytes} bytes with {codec}: {detail}")]
    Compress {
        /// With which codec.
        codec: Codec,
        /// Input size.
        bytes: usize,
        /// What the encoder said.
        detail: String,
    },
}

/// How many bytes a payload opened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Exactly so many.
    Exactly(u64),
    /// More than declared; decoding stopped there.
    More,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(f, "found {bytes}"),
            Self::More => f.write_str("found more"),
        }
    }
}

impl CodecError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static ErrorCode {
        match self {
            Self::UnknownCodec { .. } => &error_code::UNKNOWN_CODEC,
            Self::CompressedTooLarge { .. }
            | Self::DecompressedTooLarge { .. }
            | Self::RatioTooLarge { .. }
            | Self::WindowTooLarge { .. } => &error_code::DECOMPRESSION_LIMIT,
            Self::LengthMismatch { .. } | Self::TrailingBytes { .. } | Self::Malformed { .. } => {
                &error_code::MALFORMED_PAYLOAD
            }
            Self::Compress { .. } => &error_code::COMPRESSION_FAILED,
        }
    }

    pub(super) fn malformed(codec: Codec, detail: impl std::fmt::Display) -> Self {
        Self::Malformed {
            codec,
            detail: detail.to_string(),
        }
    }
}

//! The one place where compressed bytes from outside are opened.

use super::error::Found;
use super::gzip::{self, GzipError};
use super::{Codec, CodecError, zstd_header};
use bytes::Bytes;
use zstd_safe::DCtx;

/// Below this decompressed size a ratio does no harm, and a short run of equal lines reaches any ratio.
pub const RATIO_EXEMPT_BYTES: usize = 64 * 1024;

/// What a payload may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest payload, in bytes.
    pub compressed_bytes_max: usize,
    /// Largest declared length, in bytes: the most that is ever allocated.
    pub decompressed_bytes_max: usize,
    /// Most decompressed bytes for one compressed byte, above [`RATIO_EXEMPT_BYTES`].
    pub ratio_max: usize,
    /// Largest zstd window that a frame may ask for: 2 to this power, in bytes.
    pub zstd_window_log_max: u32,
}

impl Default for DecodeLimits {
    /// 8 MiB compressed, 32 MiB opened, 1,000 to 1 (real logs reach 30 to 1, metrics 200 to 1), windows of 8 MiB
    /// (what zstd's own decoder allows).
    fn default() -> Self {
        Self {
            compressed_bytes_max: 8 << 20,
            decompressed_bytes_max: 32 << 20,
            ratio_max: 1_000,
            zstd_window_log_max: 23,
        }
    }
}

impl DecodeLimits {
    /// Checks what is known before anything is decoded.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check(&self, compressed_bytes: usize, decompressed_bytes: usize) -> Result<(), CodecError> {
        if compressed_bytes > self.compressed_bytes_max {
            return Err(CodecError::CompressedTooLarge {
                bytes: compressed_bytes,
                bytes_max: self.compressed_bytes_max,
            });
        }
        if decompressed_bytes > self.decompressed_bytes_max {
            return Err(CodecError::DecompressedTooLarge {
                bytes: decompressed_bytes,
                bytes_max: self.decompressed_bytes_max,
            });
        }
        if decompressed_bytes > RATIO_EXEMPT_BYTES
            && decompressed_bytes > compressed_bytes.saturating_mul(self.ratio_max)
        {
            return Err(CodecError::RatioTooLarge {
                compressed_bytes,
                decompressed_bytes,
                ratio_max: self.ratio_max,
            });
        }
        Ok(())
    }
}

/// Opens payloads of all codecs. One per thread: it keeps the decoders' contexts.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<DCtx<'static>>,
    gzip: Option<flate2::Decompress>,
    snappy: snap::raw::Decoder,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// Without contexts yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the content of `out` by the opened payload: exactly `declared_len` bytes.
    ///
    /// `out` grows to `declared_len` at most, and not before the limits were checked; a buffer that is handed in
    /// again and again is not cleared in between.
    ///
    /// # Errors
    /// A limit that is exceeded, or what is wrong with the payload; `out` is then empty.
    pub fn decompress(
        &mut self,
        codec: Codec,
        payload: &[u8],
        declared_len: usize,
        limits: &DecodeLimits,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let done = self.open(codec, payload, declared_len, limits, out);
        if done.is_err() {
            out.clear();
        }
        done
    }

    /// The same for shared bytes; [`Codec::None`] shares them on, without a copy.
    ///
    /// # Errors
    /// As [`Decompressor::decompress`].
    pub fn decompress_bytes(
        &mut self,
        codec: Codec,
        payload: &Bytes,
        declared_len: usize,
        limits: &DecodeLimits,
    ) -> Result<Bytes, CodecError> {
        if codec == Codec::None {
            limits.check(payload.len(), declared_len)?;
            check_length(codec, declared_len, payload.len())?;
            return Ok(payload.clone());
        }
        let mut out = Vec::new();
        self.decompress(codec, payload, declared_len, limits, &mut out)?;
        Ok(Bytes::from(out))
    }

    fn open(
        &mut self,
        codec: Codec,
        payload: &[u8],
        declared_len: usize,
        limits: &DecodeLimits,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        limits.check(payload.len(), declared_len)?;
        match codec {
            Codec::None => check_length(codec, declared_len, payload.len())?,
            Codec::Snappy => check_snappy(payload, declared_len)?,
            Codec::Zstd => check_zstd(payload, declared_len, limits)?,
            // An LZ4 block and a gzip member declare nothing in front; their decoders stop at the slice's end.
            Codec::Lz4 | Codec::Gzip => {}
        }
        out.reserve_exact(declared_len.saturating_sub(out.len()));
        out.resize(declared_len, 0);
        match codec {
            Codec::None => out.copy_from_slice(payload),
            Codec::Lz4 => open_lz4(payload, out)?,
            Codec::Snappy => self.open_snappy(payload, out)?,
            Codec::Gzip => self.open_gzip(payload, out)?,
            Codec::Zstd => self.open_zstd(payload, out)?,
        }
        Ok(())
    }

    fn open_snappy(&mut self, payload: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let opened = self.snappy.decompress(payload, out);
        check_length(
            Codec::Snappy,
            out.len(),
            opened.map_err(|e| CodecError::malformed(Codec::Snappy, e))?,
        )
    }

    fn open_gzip(&mut self, payload: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let codec = Codec::Gzip;
        let inflate = self.gzip.get_or_insert_with(|| flate2::Decompress::new(false));
        let declared = out.len();
        gzip::open(inflate, payload, out).map_err(|error| match error {
            GzipError::Malformed(detail) => CodecError::Malformed { codec, detail },
            GzipError::Shorter(n) => CodecError::LengthMismatch {
                codec,
                declared,
                found: Found::Exactly(n),
            },
            GzipError::Longer => CodecError::LengthMismatch {
                codec,
                declared,
                found: Found::More,
            },
            GzipError::Trailing(bytes) => CodecError::TrailingBytes { codec, bytes },
        })
    }

    fn open_zstd(&mut self, payload: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let malformed = |code| CodecError::malformed(Codec::Zstd, zstd_safe::get_error_name(code));
        let context = match &mut self.zstd {
            Some(context) => context,
            none => {
                let made = DCtx::try_create();
                none.insert(made.ok_or_else(|| CodecError::malformed(Codec::Zstd, "out of memory"))?)
            }
        };
        let opened = context.decompress(out, payload).map_err(malformed)?;
        check_length(Codec::Zstd, out.len(), opened)
    }
}

fn check_length(codec: Codec, declared: usize, found: usize) -> Result<(), CodecError> {
    if found == declared {
        return Ok(());
    }
    Err(CodecError::LengthMismatch {
        codec,
        declared,
        found: Found::Exactly(found as u64),
    })
}

fn check_snappy(payload: &[u8], declared: usize) -> Result<(), CodecError> {
    let found = snap::raw::decompress_len(payload).map_err(|e| CodecError::malformed(Codec::Snappy, e))?;
    check_length(Codec::Snappy, declared, found)
}

/// One whole frame, no more, that asks for no more than it may.
fn check_zstd(payload: &[u8], declared: usize, limits: &DecodeLimits) -> Result<(), CodecError> {
    let codec = Codec::Zstd;
    let header = zstd_header::parse(payload).map_err(|detail| CodecError::malformed(codec, detail))?;
    let window_bytes_max = 1_u64.checked_shl(limits.zstd_window_log_max).unwrap_or(u64::MAX);
    if let Some(window_bytes) = header.window_bytes.filter(|window| *window > window_bytes_max) {
        return Err(CodecError::WindowTooLarge {
            window_bytes,
            window_bytes_max,
        });
    }
    if let Some(content) = header.content_bytes.filter(|content| *content != declared as u64) {
        return Err(CodecError::LengthMismatch {
            codec,
            declared,
            found: Found::Exactly(content),
        });
    }
    let frame = zstd_safe::find_frame_compressed_size(payload);
    match frame.map_err(|code| CodecError::malformed(codec, zstd_safe::get_error_name(code)))? {
        all if all == payload.len() => Ok(()),
        frame => Err(CodecError::TrailingBytes {
            codec,
            bytes: payload.len().saturating_sub(frame),
        }),
    }
}

fn open_lz4(payload: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
    let declared = out.len();
    match lz4_flex::block::decompress_into(payload, out) {
        Ok(found) => check_length(Codec::Lz4, declared, found),
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) => Err(CodecError::LengthMismatch {
            codec: Codec::Lz4,
            declared,
            found: Found::More,
        }),
        Err(error) => Err(CodecError::malformed(Codec::Lz4, error)),
    }
}

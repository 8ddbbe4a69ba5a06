//! Compression with contexts that are kept.

use super::{Codec, CodecError, CodecSetting};
use flate2::{Compression, FlushCompress, Status};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use zstd_safe::{CCtx, CParameter, ResetDirective};

/// Window of gzip: 2 to this power, the format's largest.
const GZIP_WINDOW_BITS: u8 = 15;

/// Compresses batch after batch with the contexts of the first one: nothing is allocated but the output, and
/// that only when the caller's buffer is too small. One per thread; contexts appear when a codec is first used
/// (zstd at level 3: about 1.3 MB).
#[derive(Default)]
pub struct Compressor {
    zstd: Option<ZstdContext>,
    gzip: Option<GzipContext>,
    snappy: Option<snap::raw::Encoder>,
    lz4: Option<CompressTable>,
}

struct ZstdContext {
    context: CCtx<'static>,
    level: i32,
}

struct GzipContext {
    stream: flate2::Compress,
    level: i32,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// Without contexts yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the content of `out` by the compressed `input`. Same input, same setting, same bytes.
    ///
    /// # Errors
    /// [`CodecError::Compress`] when memory for a context is missing; the content of `out` is then undefined.
    pub fn compress(
        &mut self,
        setting: CodecSetting,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        out.clear();
        let done = match setting.codec() {
            Codec::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            Codec::Lz4 => lz4(self.lz4.get_or_insert_with(CompressTable::large), input, out),
            Codec::Snappy => snappy(
                self.snappy.get_or_insert_with(snap::raw::Encoder::new),
                input,
                out,
            ),
            Codec::Gzip => gzip(&mut self.gzip, setting.level(), input, out),
            Codec::Zstd => zstd(&mut self.zstd, setting.level(), input, out),
        };
        done.map_err(|detail| CodecError::Compress {
            codec: setting.codec(),
            bytes: input.len(),
            detail,
        })
    }
}

/// Compresses once, with contexts of its own. For tests and tools.
///
/// # Errors
/// As [`Compressor::compress`].
pub fn compress(setting: CodecSetting, input: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    Compressor::new().compress(setting, input, &mut out)?;
    Ok(out)
}

fn lz4(table: &mut CompressTable, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    out.resize(get_maximum_output_size(input.len()), 0);
    let written = compress_into_with_table(input, out, table).map_err(|e| e.to_string())?;
    out.truncate(written);
    Ok(())
}

fn snappy(encoder: &mut snap::raw::Encoder, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    out.resize(snap::raw::max_compress_len(input.len()), 0);
    let written = encoder.compress(input, out).map_err(|e| e.to_string())?;
    out.truncate(written);
    Ok(())
}

fn gzip(kept: &mut Option<GzipContext>, level: i32, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let context = match kept {
        Some(context) if context.level == level => {
            context.stream.reset();
            context
        }
        _ => {
            let compression = Compression::new(level.unsigned_abs());
            kept.insert(GzipContext {
                stream: flate2::Compress::new_gzip(compression, GZIP_WINDOW_BITS),
                level,
            })
        }
    };
    // Incompressible input grows by 5 bytes for each 16 KiB and 18 bytes of wrapper.
    out.reserve(input.len() + input.len() / 1024 + 64);
    loop {
        let consumed = usize::try_from(context.stream.total_in()).map_err(|e| e.to_string())?;
        let rest = input.get(consumed..).unwrap_or_default();
        match context.stream.compress_vec(rest, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => return Ok(()),
            Ok(_) => out.reserve(out.capacity() / 4 + 64),
            Err(e) => return Err(e.to_string()),
        }
    }
}

fn zstd(kept: &mut Option<ZstdContext>, level: i32, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let name = |code| zstd_safe::get_error_name(code).to_owned();
    let ZstdContext {
        context,
        level: level_now,
    } = match kept {
        Some(kept) => kept,
        None => {
            let context = CCtx::try_create().ok_or("out of memory")?;
            kept.insert(ZstdContext {
                context,
                level: zstd_safe::CLEVEL_DEFAULT,
            })
        }
    };
    if *level_now != level {
        context
            .reset(ResetDirective::SessionAndParameters)
            .map_err(name)?;
        context
            .set_parameter(CParameter::CompressionLevel(level))
            .map_err(name)?;
        *level_now = level;
    }
    out.reserve(zstd_safe::compress_bound(input.len()));
    // One call with all input: the content size is written, the checksum is off by default.
    context.compress2(out, input).map_err(name)?;
    Ok(())
}

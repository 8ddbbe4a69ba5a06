//! One gzip member (RFC 1952) opened into a slice of known length.
//!
//! The wrapper is read here because the raw decoder can be reset and kept, a gzip one cannot.

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// Magic, method 8 (deflate), no flags: no optional fields follow.
const HEADER_START: [u8; 4] = [0x1f, 0x8b, 8, 0];
/// Header without optional fields: the start, modification time, extra flags, system.
const HEADER_BYTES: usize = 10;
/// CRC-32 of the content, and its length modulo 2^32.
const TRAILER_BYTES: usize = 8;

/// How it went wrong.
#[derive(Debug)]
pub(super) enum GzipError {
    Malformed(String),
    Shorter(u64),
    Longer,
    Trailing(usize),
}

/// Fills `out` exactly, or says why not. Writes nothing outside of it.
pub(super) fn open(inflate: &mut Decompress, payload: &[u8], out: &mut [u8]) -> Result<(), GzipError> {
    let malformed = |detail: &str| GzipError::Malformed(detail.to_owned());
    if !payload.starts_with(&HEADER_START) {
        return Err(malformed(
            "it does not begin with a gzip header without optional fields",
        ));
    }
    let body = payload
        .get(HEADER_BYTES..)
        .ok_or_else(|| malformed("the header is cut short"))?;
    inflate.reset(false);
    let rest = body
        .get(inflate_exactly(inflate, body, out)?..)
        .unwrap_or_default();
    let (trailer, trailing) = rest
        .split_at_checked(TRAILER_BYTES)
        .ok_or_else(|| malformed("the trailer is cut short"))?;
    let mut crc = Crc::new();
    crc.update(out);
    let expected = u64::from(crc.sum()) | (out.len() as u64 & 0xffff_ffff) << 32;
    if trailer != expected.to_le_bytes() {
        return Err(malformed(
            "checksum or length in the trailer do not match the content",
        ));
    }
    if trailing.is_empty() {
        Ok(())
    } else {
        Err(GzipError::Trailing(trailing.len()))
    }
}

/// Gives how many bytes of `body` the deflate stream takes.
fn inflate_exactly(inflate: &mut Decompress, body: &[u8], out: &mut [u8]) -> Result<usize, GzipError> {
    let mut beyond = [0; 1];
    loop {
        let (read, written) = (inflate.total_in(), inflate.total_out());
        let consumed = usize::try_from(read).unwrap_or(usize::MAX);
        let filled = usize::try_from(written).unwrap_or(usize::MAX);
        let input = body.get(consumed..).unwrap_or_default();
        let full = filled >= out.len();
        // When the slice is full one spare byte tells an end from an overflow.
        let room = if full { &mut beyond[..] } else { &mut out[filled..] };
        let status = inflate.decompress(input, room, FlushDecompress::None);
        let status = status.map_err(|e| GzipError::Malformed(e.to_string()))?;
        if full && inflate.total_out() > written {
            return Err(GzipError::Longer);
        }
        if status == Status::StreamEnd {
            return match inflate.total_out() {
                all if all == out.len() as u64 => {
                    Ok(usize::try_from(inflate.total_in()).unwrap_or(usize::MAX))
                }
                fewer => Err(GzipError::Shorter(fewer)),
            };
        }
        if (inflate.total_in(), inflate.total_out()) == (read, written) {
            return Err(GzipError::Malformed("it is cut short".to_owned()));
        }
    }
}

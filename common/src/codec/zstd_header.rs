//! The header of a zstd frame (RFC 8878, section 3.1.1.1), read before any of the frame is decoded.
//!
//! The library's own reader of it is not in its stable interface.

/// Little-endian, first bytes of every frame.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Smallest window: 2 to this power.
const WINDOW_LOG_MIN: u32 = 10;

/// What a frame asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ZstdHeader {
    /// Memory that a streaming decoder would need; `None` for a single segment (the content itself).
    pub(super) window_bytes: Option<u64>,
    /// Length of the decompressed content, when declared.
    pub(super) content_bytes: Option<u64>,
}

/// Reads it; a reason in words when it is not the header of a frame that we accept.
pub(super) fn parse(payload: &[u8]) -> Result<ZstdHeader, &'static str> {
    const SHORT: &str = "the frame header is cut short";
    let rest = payload
        .strip_prefix(&MAGIC)
        .ok_or("it does not begin with a zstd frame")?;
    let (&descriptor, rest) = rest.split_first().ok_or(SHORT)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 {
        return Err("a reserved bit of the frame header is set");
    }
    if descriptor & 0x03 != 0 {
        return Err("it needs a dictionary");
    }
    let (window_bytes, rest) = if single_segment {
        (None, rest)
    } else {
        let (&window, rest) = rest.split_first().ok_or(SHORT)?;
        let base = 1_u64 << (WINDOW_LOG_MIN + u32::from(window >> 3));
        (Some(base + base / 8 * u64::from(window & 7)), rest)
    };
    let content_len = match (descriptor >> 6, single_segment) {
        (0, false) => 0,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let field = rest.get(..content_len).ok_or(SHORT)?;
    let mut wide = [0; 8];
    wide[..content_len].copy_from_slice(field);
    // Two bytes count from 256: one byte covers the smaller sizes.
    let offset = if content_len == 2 { 256 } else { 0 };
    let content_bytes = (content_len > 0).then(|| u64::from_le_bytes(wide).saturating_add(offset));
    Ok(ZstdHeader {
        window_bytes,
        content_bytes,
    })
}

//! The bytes of a segment, as the cover page of the module lays them out. Pure.

use super::LogId;
use std::path::{Path, PathBuf};

/// Of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// In front of each payload.
pub const FRAME_HEADER_BYTES: usize = 20;
/// What closes a segment.
pub const END_MARK_BYTES: usize = FRAME_HEADER_BYTES;

/// The version written, and the newest that is read.
pub(super) const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"EDGESEG\n";
/// What frame and end mark begin with. No byte repeats, and the first is invalid at the start of UTF-8 text that
/// goes on with the second: text does not contain it.
pub(super) const SYNC_PREFIX: [u8; 3] = [0xe5, 0x1f, 0xa7];
pub(super) const FRAME_MARK: [u8; 4] = [0xe5, 0x1f, 0xa7, 0x46];
pub(super) const END_MARK: [u8; 4] = [0xe5, 0x1f, 0xa7, 0x45];

const NAME_DIGITS: usize = 20;
const NAME_SUFFIX: &str = ".seg";

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log_id: LogId,
    pub(super) first_sequence: u64,
    pub(super) created_ns: i64,
}

/// Why 64 bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// The file is shorter than a header.
    Short,
    /// Magic, length or CRC do not fit.
    Damaged,
    /// Written by a later version: intact, but not for us.
    Version(u16),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&64_u16.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id);
        bytes[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_ns.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderFault::Short)?;
        // A later version keeps these 64 bytes and what they mean, so that it can be told from damage.
        if bytes[0..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != read_u32(bytes, 60) {
            return Err(HeaderFault::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&bytes[16..32]);
        let created_ns = i64::from_le_bytes(read_u64(bytes, 40).to_le_bytes());
        Ok(Self {
            log_id,
            first_sequence: read_u64(bytes, 32),
            created_ns,
        })
    }
}

/// A frame's header or an end mark; whether its CRC fits is another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) is_end: bool,
    pub(super) len: u32,
    pub(super) sequence: u64,
    pub(super) crc: u32,
}

impl FrameHeader {
    /// `None` when the bytes do not begin with a mark or are too few.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        let is_end = match &bytes[0..4] {
            mark if *mark == FRAME_MARK => false,
            mark if *mark == END_MARK => true,
            _ => return None,
        };
        Some(Self {
            is_end,
            len: read_u32(bytes, 4),
            sequence: read_u64(bytes, 8),
            crc: read_u32(bytes, 16),
        })
    }
}

/// Computes the CRC of frames of one log.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameCrc {
    of_log_id: u32,
}

impl FrameCrc {
    pub(super) fn new(log_id: &LogId) -> Self {
        Self {
            of_log_id: crc32c::crc32c(log_id),
        }
    }

    pub(super) fn of<'a>(self, len: u32, sequence: u64, payload: impl IntoIterator<Item = &'a [u8]>) -> u32 {
        let crc = crc32c::crc32c_append(self.of_log_id, &len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &sequence.to_le_bytes());
        payload.into_iter().fold(crc, crc32c::crc32c_append)
    }

    /// The 20 bytes in front of a payload.
    pub(super) fn frame_header(self, len: u32, sequence: u64, payload: &[&[u8]]) -> [u8; FRAME_HEADER_BYTES] {
        let crc = self.of(len, sequence, payload.iter().copied());
        encode(FRAME_MARK, len, sequence, crc)
    }

    /// The mark that closes a segment; `next_sequence` begins the next one.
    pub(super) fn end_mark(self, next_sequence: u64) -> [u8; END_MARK_BYTES] {
        encode(END_MARK, 0, next_sequence, self.of(0, next_sequence, []))
    }
}

fn encode(mark: [u8; 4], len: u32, sequence: u64, crc: u32) -> [u8; FRAME_HEADER_BYTES] {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    bytes[0..4].copy_from_slice(&mark);
    bytes[4..8].copy_from_slice(&len.to_le_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

/// `00000000000000004711.seg`
pub(super) fn file_name(first_sequence: u64) -> String {
    format!("{first_sequence:0NAME_DIGITS$}{NAME_SUFFIX}")
}

/// The segment that begins with this sequence.
pub(super) fn segment_path(dir: &Path, first_sequence: u64) -> PathBuf {
    dir.join(file_name(first_sequence))
}

/// The first sequence that a name promises; `None` for a name that we would not give.
pub(super) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(NAME_SUFFIX)?;
    let ours = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if ours { digits.parse().ok() } else { None }
}

/// Does the name claim to be a segment, rightly or not?
pub(super) fn looks_like_segment(name: &str) -> bool {
    name.ends_with(NAME_SUFFIX)
}

/// The content of the `log_id` file: for people one line, for us with a check.
pub(super) fn encode_log_id(log_id: &LogId) -> String {
    let hex = hex(log_id);
    format!(
        "edgelogger segment log {hex} {:08x}\n",
        crc32c::crc32c(hex.as_bytes())
    )
}

/// `None` unless it is exactly what [`encode_log_id`] writes.
pub(super) fn decode_log_id(text: &[u8]) -> Option<LogId> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix("edgelogger segment log ")?.get(..32)?;
    let mut log_id = [0; 16];
    for (index, byte) in log_id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    (encode_log_id(&log_id) == text).then_some(log_id)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

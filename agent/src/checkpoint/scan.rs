//! Finds the good frames of a file in any condition. Pure: bytes in, records and damage out.

use super::format::{self, BODY_BYTES_MAX, FRAME_HEADER_LEN, HEADER_LEN, MARKER, Record};

/// A range of the file that held nothing readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scan {
    pub exists: bool,
    pub records: Vec<Record>,
    pub damage: Vec<Damage>,
    /// Good frames of an unknown kind.
    pub unknown: u64,
    /// Everything from here on is damaged: what a torn write leaves.
    pub good_len: u64,
}

impl Scan {
    /// Is the tail the only thing that is wrong?
    pub fn only_tail_damaged(&self) -> bool {
        self.good_len >= HEADER_LEN as u64 && self.damage.iter().all(|damage| damage.offset == self.good_len)
    }
}

/// The file is of a version that this build does not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewerVersion(pub u16);

pub(super) fn scan(bytes: &[u8]) -> Result<Scan, NewerVersion> {
    let mut found = Scan {
        exists: true,
        ..Scan::default()
    };
    let mut at = HEADER_LEN.min(bytes.len());
    if let Some(damage) = check_header(bytes)? {
        found.damage.push(damage);
        // A torn header may be shorter than it should be, so frames are looked for from the start.
        at = 0;
    }
    let mut bad_since = if at == 0 { Some(0) } else { None };
    found.good_len = at as u64;
    while at < bytes.len() {
        let Some((kind, body)) = frame_at(bytes, at) else {
            bad_since = bad_since.or(Some(at));
            at = next_marker(bytes, at + 1);
            continue;
        };
        if let Some(since) = bad_since.take().filter(|since| *since < at) {
            found.note_damage(since, at);
        }
        match Record::read(kind, body) {
            Some(record) => found.records.push(record),
            None => found.unknown += 1,
        }
        at += FRAME_HEADER_LEN + body.len();
        found.good_len = at as u64;
    }
    if let Some(since) = bad_since.filter(|since| *since < bytes.len()) {
        found.note_damage(since, bytes.len());
    }
    Ok(found)
}

impl Scan {
    /// One entry for a header that is damaged together with what follows it.
    fn note_damage(&mut self, from: usize, to: usize) {
        let damage = Damage {
            offset: from as u64,
            len: (to - from) as u64,
        };
        match self.damage.last_mut() {
            Some(last) if last.offset + last.len >= damage.offset => {
                last.len = last.len.max(damage.offset + damage.len - last.offset);
            }
            _ => self.damage.push(damage),
        }
    }
}

fn check_header(bytes: &[u8]) -> Result<Option<Damage>, NewerVersion> {
    let damage = Damage {
        offset: 0,
        len: bytes.len().min(HEADER_LEN) as u64,
    };
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Ok(Some(damage));
    };
    if *header == format::header() {
        return Ok(None);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    let crc = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    // Only a header that is whole may say that the rest is beyond this build.
    if header.starts_with(format::MAGIC) && crc == crc32c::crc32c(&header[..12]) && version > format::VERSION
    {
        return Err(NewerVersion(version));
    }
    Ok(Some(damage))
}

/// Kind and body of the frame that begins at `at`, if a good one does.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let header = bytes.get(at..at + FRAME_HEADER_LEN)?;
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if !header.starts_with(&MARKER) || len > BODY_BYTES_MAX {
        return None;
    }
    let body = bytes.get(at + FRAME_HEADER_LEN..at + FRAME_HEADER_LEN + len)?;
    let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    (format::frame_crc(&header[3..8], body) == crc).then_some((header[3], body))
}

fn next_marker(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    memchr::memmem::find(rest, &MARKER).map_or(bytes.len(), |offset| from + offset)
}

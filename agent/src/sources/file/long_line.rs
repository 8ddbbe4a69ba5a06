//! A line that is measured as it goes by: a gigabyte without a line feed takes 16 bytes of state.

use memchr::memchr;

use super::lines::check_at_end_of;
use crate::flow::ContentCheck;

/// The part of an unfinished line that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LongLine {
    /// Everything from the line's beginning to here holds no line feed.
    pub scanned: u64,
    /// CRC32C of it.
    pub crc32c: u32,
    /// Of the bytes before `scanned`, which the next read begins with.
    pub check: ContentCheck,
}

/// Where a long line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// Behind its line feed.
    pub end: u64,
    /// CRC32C of the whole line, its end included.
    pub crc32c: u32,
    /// Of the bytes before `end`.
    pub check: ContentCheck,
    /// Did a carriage return come before the line feed?
    carriage_return: bool,
}

impl LineEnd {
    /// Length of the line without its end.
    pub fn content_len(&self, start: u64) -> u64 {
        self.end - start - 1 - u64::from(self.carriage_return)
    }
}

impl LongLine {
    /// A line that begins at `offset`; `check` is of the bytes before it.
    pub const fn new(offset: u64, check: ContentCheck) -> Self {
        Self {
            scanned: offset,
            crc32c: 0,
            check,
        }
    }

    /// Takes what was read: `buffer` holds the `window` bytes before `scanned`, then what follows.
    pub fn pass(&mut self, buffer: &[u8], window: usize) -> Option<LineEnd> {
        let data = &buffer[window..];
        if let Some(line_feed) = memchr(b'\n', data) {
            let len = line_feed + 1;
            let up_to = &buffer[..window + len];
            return Some(LineEnd {
                end: self.scanned + len as u64,
                crc32c: crc32c::crc32c_append(self.crc32c, &data[..len]),
                check: check_at_end_of(up_to),
                carriage_return: up_to.ends_with(b"\r\n"),
            });
        }
        if !data.is_empty() {
            self.crc32c = crc32c::crc32c_append(self.crc32c, data);
            self.scanned += data.len() as u64;
            self.check = check_at_end_of(buffer);
        }
        None
    }
}

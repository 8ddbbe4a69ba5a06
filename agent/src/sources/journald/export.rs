//! The journal export format, parsed as its bytes come.
//!
//! ```text
//! NAME=text LF                     a value without line feeds
//! NAME LF u64-length bytes LF      any value; the length is little-endian
//! LF                               the end of an entry
//! ```
//!
//! Source: systemd's "Journal Export Formats". Pure: bytes in, entries out, whatever the pieces in which they come.
//! Memory is bounded: only wanted fields are kept, each up to [`VALUE_BYTES_MAX`], an entry up to [`ENTRY_BYTES_MAX`] and
//! [`FIELDS_MAX`] fields; what is longer is read over and the entry says so.

use std::collections::HashSet;
use std::ops::Range;

/// Bytes of one value that are kept. journald itself cuts a message at 48 KiB unless told otherwise
/// (`LineMax=`); a core dump's field may have hundreds of megabytes.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// Bytes of all kept fields of an entry.
pub const ENTRY_BYTES_MAX: usize = 512 << 10;
/// Kept fields of an entry; journald takes 1,024.
pub const FIELDS_MAX: usize = 1024;
/// journald refuses longer names.
const NAME_BYTES_MAX: usize = 64;

/// The bytes are not the export format: the child is not `journalctl`, or something was lost in between.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Something else where a field's name was expected.
    #[error("expected a field name at byte {offset} of the output of journalctl, found {found:?}")]
    Name {
        /// Bytes since the start of the output.
        offset: u64,
        /// How it begins.
        found: String,
    },
    /// A binary value without the line feed behind it.
    #[error("a binary field does not end where it says, at byte {offset} of the output of journalctl")]
    BinaryEnd {
        /// Bytes since the start of the output.
        offset: u64,
    },
}

/// One entry, valid until the next is parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entry {
    data: Vec<u8>,
    fields: Vec<(Range<usize>, Range<usize>)>,
    cut: bool,
}

impl Entry {
    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// The first value of a field, as text; `None` also where it is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Kept fields in their order: name, value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|(name, value)| (&self.data[name.clone()], &self.data[value.clone()]))
    }

    /// Was something of the wanted fields too long to be kept?
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    fn clear(&mut self) {
        self.data.clear();
        self.fields.clear();
        self.cut = false;
        // One giant entry must not cost its memory for ever.
        self.data.shrink_to(64 << 10);
    }
}

/// Where the next byte belongs.
#[derive(Debug)]
enum State {
    Name,
    Text,
    Length { got: usize, bytes: [u8; 8] },
    Binary { left: u64 },
    BinaryEnd,
}

/// See the module page.
#[derive(Debug)]
pub struct ExportParser {
    /// `None`: all.
    wanted: Option<HashSet<Vec<u8>>>,
    state: State,
    entry: Entry,
    /// The field that is being read: where its name and value begin in `entry.data`.
    name_start: usize,
    value_start: usize,
    keep: bool,
    /// The entry has at least one field, kept or not.
    has_fields: bool,
    offset: u64,
}

impl ExportParser {
    /// A parser that keeps these fields; `None`: all.
    #[must_use]
    pub fn new(wanted: Option<HashSet<Vec<u8>>>) -> Self {
        Self {
            wanted,
            state: State::Name,
            entry: Entry::default(),
            name_start: 0,
            value_start: 0,
            keep: false,
            has_fields: false,
            offset: 0,
        }
    }

    /// Takes the next bytes and hands out each entry that they complete.
    ///
    /// # Errors
    /// The bytes are no export format; the parser must not be used again.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&Entry)) -> Result<(), ExportError> {
        while !bytes.is_empty() {
            let used = match &mut self.state {
                State::Name => self.name(bytes, &mut each)?,
                State::Text => self.text(bytes),
                State::Length { got, bytes: length } => {
                    length[*got] = bytes[0];
                    *got += 1;
                    if *got == length.len() {
                        let left = u64::from_le_bytes(*length);
                        self.state = if left == 0 {
                            State::BinaryEnd
                        } else {
                            State::Binary { left }
                        };
                    }
                    1
                }
                State::Binary { .. } => self.binary(bytes),
                State::BinaryEnd => {
                    if bytes[0] != b'\n' {
                        return Err(ExportError::BinaryEnd { offset: self.offset });
                    }
                    self.finish_field();
                    1
                }
            };
            self.offset += used as u64;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    fn name(&mut self, bytes: &[u8], each: &mut impl FnMut(&Entry)) -> Result<usize, ExportError> {
        let end = bytes
            .iter()
            .position(|byte| !is_name_byte(*byte))
            .unwrap_or(bytes.len());
        self.entry
            .data
            .extend_from_slice(&bytes[..end.min(NAME_BYTES_MAX + 1)]);
        let name_len = self.entry.data.len() - self.name_start;
        let next = bytes.get(end).copied();
        match next {
            None if name_len <= NAME_BYTES_MAX => return Ok(end),
            Some(b'\n') if name_len == 0 => {
                if self.has_fields {
                    each(&self.entry);
                }
                self.entry.clear();
                self.name_start = 0;
                self.has_fields = false;
            }
            Some(b'=') if (1..=NAME_BYTES_MAX).contains(&name_len) => self.begin_value(State::Text),
            Some(b'\n') if name_len <= NAME_BYTES_MAX => {
                self.begin_value(State::Length {
                    got: 0,
                    bytes: [0; 8],
                });
            }
            _ => {
                let mut found = self.entry.data[self.name_start..].to_vec();
                found.extend(next);
                return Err(ExportError::Name {
                    offset: self.offset,
                    found: String::from_utf8_lossy(&found).into_owned(),
                });
            }
        }
        Ok(end + 1)
    }

    fn begin_value(&mut self, state: State) {
        let name = &self.entry.data[self.name_start..];
        self.keep = self.wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
        if self.keep && self.entry.fields.len() == FIELDS_MAX {
            self.keep = false;
            self.entry.cut = true;
        }
        self.has_fields = true;
        self.value_start = self.entry.data.len();
        self.state = state;
    }

    fn text(&mut self, bytes: &[u8]) -> usize {
        let end = memchr::memchr(b'\n', bytes);
        self.append(&bytes[..end.unwrap_or(bytes.len())]);
        match end {
            None => bytes.len(),
            Some(end) => {
                self.finish_field();
                end + 1
            }
        }
    }

    fn binary(&mut self, bytes: &[u8]) -> usize {
        let State::Binary { left } = &mut self.state else {
            return 0;
        };
        let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        *left -= take as u64;
        if *left == 0 {
            self.state = State::BinaryEnd;
        }
        self.append(&bytes[..take]);
        take
    }

    fn append(&mut self, part: &[u8]) {
        if !self.keep {
            return;
        }
        let room = VALUE_BYTES_MAX
            .saturating_sub(self.entry.data.len() - self.value_start)
            .min(ENTRY_BYTES_MAX.saturating_sub(self.entry.data.len()));
        let taken = part.len().min(room);
        self.entry.data.extend_from_slice(&part[..taken]);
        self.entry.cut |= taken < part.len();
    }

    fn finish_field(&mut self) {
        if self.keep {
            let end = self.entry.data.len();
            self.entry
                .fields
                .push((self.name_start..self.value_start, self.value_start..end));
        } else {
            self.entry.data.truncate(self.name_start);
        }
        self.name_start = self.entry.data.len();
        self.state = State::Name;
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}

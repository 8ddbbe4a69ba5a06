//! The CRCs of ranges of a file's content, as it is or compressed: one pass, in little memory, however many ranges.
//!
//! Where a range may begin or end, the CRC of everything before is kept. That of a range follows from those of its two
//! ends: [`crc::combine`] of a beginning and what follows gives the whole, and being a sum modulo 2 it is its own inverse.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use edgelogger_common::crc;
use serde::Serialize;

use super::AuditError;
use crate::sources::file::{Archive, Format};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Why the content of a compressed file ends where it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedAt {
    /// Bytes of the file that could be used.
    pub file_offset: u64,
    /// Bytes of content that came of them.
    pub content_offset: u64,
    /// What is wrong.
    pub problem: String,
}

/// A file that is open, and how it is compressed.
pub(super) struct Source {
    file: File,
    bytes: u64,
    pub format: Option<Format>,
}

/// What was read of it.
#[derive(Debug)]
pub(super) struct Content {
    /// Bytes of content.
    pub size: u64,
    pub damage: Option<DamagedAt>,
    /// CRC32C of everything before a position.
    before: HashMap<u64, u32>,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let unreadable = |source| AuditError::Unreadable {
            path: path.to_owned(),
            source,
        };
        // Before it is opened: that would wait for who writes to a pipe.
        let found = path.metadata().map_err(unreadable)?;
        if !found.is_file() {
            return Err(AuditError::NoFile(path.to_owned()));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let mut head = Vec::new();
        (&mut file).take(4).read_to_end(&mut head).map_err(unreadable)?;
        Ok(Self {
            bytes: found.len(),
            format: Format::of(&head),
            file,
        })
    }

    /// Reads as far as `edges` go; what is compressed to its end.
    pub fn read(&self, edges: &BTreeSet<u64>) -> io::Result<Content> {
        let mut reader = Reader::new(edges);
        let Some(format) = self.format else {
            let last = edges.last().copied().unwrap_or(0).min(self.bytes);
            let is_whole = self.read_plain(last, &mut reader)?;
            return Ok(reader.content(is_whole.then_some(self.bytes), None));
        };
        let mut archive = Archive::open(self.file.try_clone()?.into(), format, self.bytes, 0)?;
        loop {
            let piece = archive.next_piece()?;
            if piece.is_empty() {
                break;
            }
            reader.take(piece);
        }
        let damage = archive.damage().map(|damage| DamagedAt {
            file_offset: archive.used(),
            content_offset: archive.position(),
            problem: damage.to_string(),
        });
        Ok(reader.content(None, damage))
    }

    /// `false`: the file has become shorter.
    fn read_plain(&self, upto: u64, reader: &mut Reader<'_>) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;
        let mut buffer = vec![0; CHUNK_BYTES];
        while reader.at < upto {
            let wanted = usize::try_from(upto - reader.at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            match self.file.read_at(&mut buffer[..wanted], reader.at) {
                Ok(0) => return Ok(false),
                Ok(read) => reader.take(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Content {
    /// `None` where the content ends before the range.
    pub fn crc(&self, start: u64, end: u64) -> Option<u32> {
        let (first, whole) = (self.before.get(&start)?, self.before.get(&end)?);
        Some(crc::combine(*first, *whole, end.checked_sub(start)?))
    }
}

/// Reads on, and keeps in mind what is wanted.
struct Reader<'a> {
    edges: std::iter::Peekable<std::collections::btree_set::Iter<'a, u64>>,
    at: u64,
    crc32c: u32,
    before: HashMap<u64, u32>,
}

impl<'a> Reader<'a> {
    fn new(edges: &'a BTreeSet<u64>) -> Self {
        let mut reader = Self {
            edges: edges.iter().peekable(),
            at: 0,
            crc32c: 0,
            before: HashMap::new(),
        };
        reader.note();
        reader
    }

    fn note(&mut self) {
        if self.edges.next_if(|edge| **edge == self.at).is_some() {
            self.before.insert(self.at, self.crc32c);
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let upto_edge = self.edges.peek().map_or(u64::MAX, |edge| **edge - self.at);
            let len = usize::try_from(upto_edge).map_or(bytes.len(), |len| len.min(bytes.len()));
            let (now, rest) = bytes.split_at(len);
            self.crc32c = crc32c::crc32c_append(self.crc32c, now);
            self.at += len as u64;
            bytes = rest;
            self.note();
        }
    }

    fn content(self, size: Option<u64>, damage: Option<DamagedAt>) -> Content {
        Content {
            size: size.unwrap_or(self.at),
            damage,
            before: self.before,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn source(bytes: &[u8]) -> (tempfile::NamedTempFile, Source) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let source = Source::open(file.path()).unwrap();
        (file, source)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_crc_of_each_range_is_that_of_its_bytes(
            content in prop::collection::vec(any::<u8>(), 0..3_000),
            split in 0usize..3_000,
            ranges in prop::collection::vec((0u64..4_000, 0u64..4_000), 1..20),
            is_packed: bool,
        ) {
            prop_assume!(Format::of(&content).is_none());
            let split = split.min(content.len());
            let bytes = if is_packed {
                // Two members.
                [gzip(&content[..split]), gzip(&content[split..])].concat()
            } else {
                content.clone()
            };
            let (_file, source) = source(&bytes);
            let edges: BTreeSet<u64> = ranges.iter().flat_map(|(one, other)| [*one, *other]).collect();
            let found = source.read(&edges).unwrap();
            prop_assert_eq!((found.size, &found.damage), (content.len() as u64, &None));
            for (one, other) in ranges {
                let (start, end) = (one.min(other), one.max(other));
                let at = |position| usize::try_from(position).unwrap();
                let naive = content.get(at(start)..at(end)).map(crc32c::crc32c);
                prop_assert_eq!(found.crc(start, end), naive);
            }
        }
    }

    #[test]
    fn damage_is_said_with_both_offsets() {
        let content: Vec<u8> = (0..200_000u32).flat_map(|number| number.to_le_bytes()).collect();
        let first = gzip(b"a first member\n");
        let packed = [first.clone(), gzip(&content)].concat();
        let cut = &packed[..packed.len() / 2];
        let (_file, source) = self::source(cut);
        let damage = source.read(&BTreeSet::new()).unwrap().damage.unwrap();
        assert_eq!(
            (damage.file_offset, damage.problem.as_str()),
            (cut.len() as u64, "it ends in the middle")
        );
        assert!(damage.content_offset > 100_000 && damage.content_offset < content.len() as u64);

        let trailing = [&first[..], b"something else behind it"].concat();
        let (_file, source) = self::source(&trailing);
        let found = source.read(&BTreeSet::new()).unwrap();
        let damage = found.damage.unwrap();
        assert_eq!((found.size, damage.content_offset), (15, 15));
        assert!(damage.file_offset >= first.len() as u64, "{damage:?}");
        assert!(damage.problem.starts_with("it is damaged"), "{damage:?}");
    }
}

//! The content of a compressed file, from its beginning to its end: gzip of any number of members, or zstd frames.
//!
//! What was decoded last is kept, so that reading on may begin a little before where it ended, as it always does. Only
//! who goes back further begins anew.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgelogger_proto::v1::FileCompression;
use flate2::bufread::MultiGzDecoder;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, pread};

use super::content::{Content, read_at};
use super::identity::FINGERPRINT_BYTES_MAX;

/// Largest window that a zstd frame may ask for: 2 to this power, 8 MiB. `zstd` itself asks for no more unless told to
/// with `--long` or `--ultra`.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Content of a compressed byte, beyond [`CONTENT_EXEMPT_BYTES`]. Logs come to 200 at most; deflate can't exceed 1,032.
const RATIO_MAX: u64 = 1000;
/// Up to this length the ratio does no harm.
const CONTENT_EXEMPT_BYTES: u64 = 64 << 20;
/// A zstd frame says everything about itself in so many bytes.
const ZSTD_HEADER_BYTES_MAX: usize = 18;
/// Decoded at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Gzip,
    Zstd,
}

impl Format {
    /// By a file's first bytes.
    pub fn of(head: &[u8]) -> Option<Self> {
        // A zstd file may begin with a frame to be skipped (pzstd writes such): 0x184D2A50 to 0x184D2A5F.
        let skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18];
        if head.starts_with(b"\x1f\x8b\x08") {
            Some(Self::Gzip)
        } else if head.starts_with(b"\x28\xb5\x2f\xfd") || skippable {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    pub const fn compression(self) -> FileCompression {
        match self {
            Self::Gzip => FileCompression::Gzip,
            Self::Zstd => FileCompression::Zstd,
        }
    }
}

impl Format {
    /// Length of the content modulo 2^32, as the file itself says it of its last gzip member or first zstd frame: most
    /// have one. No more than a hint.
    pub fn content_len(self, file: impl AsFd, size: u64) -> Option<u32> {
        match self {
            Self::Gzip => {
                let last = read_at(file, size.checked_sub(4)?, 4).ok()?;
                Some(u32::from_le_bytes(last.try_into().ok()?))
            }
            Self::Zstd => {
                let head = read_at(file, 0, ZSTD_HEADER_BYTES_MAX).ok()?;
                let len = zstd::zstd_safe::get_frame_content_size(&head).ok()??;
                #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is what is said")]
                let low = len as u32;
                Some(low)
            }
        }
    }
}

/// Why a compressed file gives no more content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// It may still be written to.
    #[error("it ends in the middle")]
    Incomplete,
    #[error("it is damaged: {0}")]
    Malformed(String),
    #[error(
        "it holds more than {RATIO_MAX} bytes for each of its own, as no log does: it was made to fill up memory or disk"
    )]
    Bomb,
}

/// Reads from a descriptor that others read from, too.
struct Compressed {
    file: OwnedFd,
    offset: u64,
}

impl Read for Compressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match pread(&self.file, &mut *buffer, self.offset) {
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Counts what the decoder has used of it.
struct Counted {
    compressed: BufReader<Compressed>,
    used: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.compressed.read(buffer)?;
        self.used.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.compressed.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.used.fetch_add(amount as u64, Ordering::Relaxed);
        self.compressed.consume(amount);
    }
}

type Decoder = Box<dyn Read + Send>;

/// A compressed file that is being read.
pub(crate) struct Archive {
    decoder: Decoder,
    /// Bytes of the file that it has used.
    used: Arc<AtomicU64>,
    /// Behind the last content that was decoded.
    position: u64,
    /// The last content that was decoded.
    recent: Vec<u8>,
    /// How much of it is kept at least.
    recent_bytes: usize,
    /// The beginning of a long line.
    kept: Option<(u64, Vec<u8>)>,
    /// Content that is believed at most.
    content_max: u64,
    ended: bool,
    damage: Option<Damage>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive")
            .field("position", &self.position)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

impl Archive {
    /// A file of `size` bytes. Of its content `recent_bytes` can be read again.
    ///
    /// # Errors
    /// Memory for the decoder, or what the system says.
    pub fn open(file: OwnedFd, format: Format, size: u64, recent_bytes: usize) -> io::Result<Self> {
        let used = Arc::new(AtomicU64::new(0));
        let compressed = Counted {
            compressed: BufReader::new(Compressed { file, offset: 0 }),
            used: Arc::clone(&used),
        };
        let decoder: Decoder = match format {
            Format::Gzip => Box::new(MultiGzDecoder::new(compressed)),
            Format::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        Ok(Self {
            decoder,
            used,
            position: 0,
            recent: Vec::new(),
            recent_bytes: recent_bytes.max(FINGERPRINT_BYTES_MAX),
            kept: None,
            content_max: CONTENT_EXEMPT_BYTES.max(size.saturating_mul(RATIO_MAX)),
            ended: false,
            damage: None,
        })
    }

    /// Everything below was decoded.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the compressed file that were used so far: where damage is, once there is any.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The content behind what was decoded, some at a time; empty at the end.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn next_piece(&mut self) -> io::Result<&[u8]> {
        let from = self.position;
        while self.position == from && !self.ended {
            self.decode(CHUNK_BYTES)?;
        }
        Ok(self.decoded(from, self.position))
    }

    /// There is no more content.
    #[cfg(test)]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Why not, where the file does not end in order.
    pub const fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Can it be read from here on without beginning anew?
    pub fn reaches(&self, from: u64) -> bool {
        from >= self.position - self.recent.len() as u64
    }

    /// Decodes up to this position, or the end, but not more than `budget` bytes. `true`: it is there.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn approach(&mut self, to: u64, budget: usize) -> io::Result<bool> {
        let mut left = budget;
        while self.position < to && !self.ended {
            if left == 0 {
                return Ok(false);
            }
            let wanted = usize::try_from(to - self.position).map_or(left, |wanted| wanted.min(left));
            left -= self.decode(wanted)?.min(left);
        }
        Ok(true)
    }

    /// The content `[start, end)` as far as it was decoded and is still there.
    pub fn decoded(&self, start: u64, end: u64) -> &[u8] {
        let first = self.position - self.recent.len() as u64;
        let at = |position: u64| {
            let inside = position.clamp(first, self.position) - first;
            usize::try_from(inside).unwrap_or(self.recent.len())
        };
        if start < first {
            &[]
        } else {
            &self.recent[at(start)..at(end).max(at(start))]
        }
    }

    /// Decodes some of `wanted` bytes.
    fn decode(&mut self, wanted: usize) -> io::Result<usize> {
        if self.recent.len() >= 2 * self.recent_bytes + CHUNK_BYTES {
            let surplus = self.recent.len() - self.recent_bytes;
            self.recent.drain(..surplus);
        }
        let before = self.recent.len();
        self.recent.resize(before + wanted.min(CHUNK_BYTES), 0);
        let decoded = self.decoder.read(&mut self.recent[before..]);
        self.recent
            .truncate(before + decoded.as_ref().map_or(0, |count| *count));
        match decoded {
            Ok(0) => self.ended = true,
            Ok(count) => {
                self.position += count as u64;
                if self.position > self.content_max {
                    self.end(Damage::Bomb);
                }
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end(Damage::Incomplete),
            // What the file system says, rather than the decoder.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(error) => self.end(Damage::Malformed(error.to_string())),
        }
        Ok(0)
    }

    fn end(&mut self, damage: Damage) {
        (self.ended, self.damage) = (true, Some(damage));
    }
}

impl Content for Archive {
    fn read_on(&mut self, buffer: &mut Vec<u8>, offset: u64) -> io::Result<()> {
        let end = offset + (buffer.capacity() - buffer.len()) as u64;
        while !self.approach(end, CHUNK_BYTES)? {}
        buffer.extend_from_slice(self.decoded(offset, end));
        Ok(())
    }

    fn body(&mut self, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        let end = offset + len as u64;
        let kept = self
            .kept
            .as_ref()
            .filter(|(at, bytes)| *at == offset && bytes.len() >= len);
        let body = kept.map_or_else(|| self.decoded(offset, end), |(_, bytes)| &bytes[..len]);
        Ok((body.len() == len).then(|| body.to_vec()))
    }

    fn keep(&mut self, offset: u64, beginning: &[u8]) {
        self.kept = Some((offset, beginning.to_vec()));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// Compressed in as many members or frames as there are parts.
    pub(in super::super) fn compress(format: Format, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            match format {
                Format::Gzip => {
                    let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
                    encoder.write_all(part).unwrap();
                    encoder.finish().unwrap();
                }
                Format::Zstd => zstd::stream::copy_encode(*part, &mut out, 1).unwrap(),
            }
        }
        out
    }

    fn open(format: Format, compressed: &[u8], recent_bytes: usize) -> Archive {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(compressed).unwrap();
        Archive::open(file.into(), format, compressed.len() as u64, recent_bytes).unwrap()
    }

    fn whole(archive: &mut Archive) -> Vec<u8> {
        let mut content = Vec::new();
        while !archive.has_ended() {
            let from = archive.position();
            archive.approach(from + 1000, 1000).unwrap();
            content.extend_from_slice(archive.decoded(from, archive.position()));
        }
        content
    }

    fn text(lines: usize) -> Vec<u8> {
        (0..lines)
            .flat_map(|line| format!("line {line}\n").into_bytes())
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_compressed(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..5),
            reads in proptest::collection::vec((0usize..3000, 1usize..2000), 1..20),
            is_gzip in any::<bool>(),
        ) {
            let format = if is_gzip { Format::Gzip } else { Format::Zstd };
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let content = parts.concat();
            let mut archive = open(format, &compress(format, &parts), 2000);
            let mut offset: usize = 0;
            for (step, len) in reads {
                // On, and at times a little back.
                offset = (offset + step).saturating_sub(1000);
                if !archive.reaches(offset as u64) {
                    continue;
                }
                let mut buffer = Vec::with_capacity(len);
                let capacity = buffer.capacity();
                archive.read_on(&mut buffer, offset as u64).unwrap();
                let naive = &content[offset.min(content.len())..(offset + capacity).min(content.len())];
                prop_assert_eq!(&buffer[..], naive);
            }
            prop_assert!(archive.damage().is_none());
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_its_beginning_and_says_that_it_is_incomplete() {
        for format in [Format::Gzip, Format::Zstd] {
            let content = text(500);
            let compressed = compress(format, &[&content[..2000], &content[2000..]]);
            for len in 1..compressed.len() {
                let mut archive = open(format, &compressed[..len], 100);
                let found = whole(&mut archive);
                assert!(content.starts_with(&found), "{format:?} {len}");
                let between_members = found.len() == 2000 && archive.damage().is_none();
                assert!(
                    between_members || archive.damage() == Some(&Damage::Incomplete),
                    "{format:?} {len}"
                );
            }
        }
    }

    #[test]
    fn a_changed_byte_is_damage_or_changes_nothing() {
        for format in [Format::Gzip, Format::Zstd] {
            let content = text(300);
            let compressed = compress(format, &[&content]);
            for at in 10..compressed.len() {
                let mut changed = compressed.clone();
                changed[at] ^= 0x10;
                let mut archive = open(format, &changed, 100);
                let found = whole(&mut archive);
                // zstd has no checksum unless asked for: there only memory and time are certain.
                if format == Format::Gzip {
                    assert!(archive.damage().is_some() || found == content, "{at}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_given_up() {
        let zeroes = vec![0; 8 << 20];
        let parts: Vec<&[u8]> = (0..40).map(|_| &zeroes[..]).collect();
        let compressed = compress(Format::Zstd, &parts);
        assert!(compressed.len() < 100 << 10);
        let mut archive = open(Format::Zstd, &compressed, 100);
        while !archive.approach(u64::MAX, 1 << 20).unwrap() {}
        assert_eq!(archive.damage(), Some(&Damage::Bomb));
        assert!(archive.position() < 100 << 20);
        assert!(archive.recent.capacity() < 1 << 20);
    }

    #[test]
    fn a_frame_that_asks_for_too_much_memory_is_refused() {
        // Magic, no single segment, window of 2 GiB, then a raw block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x09, 0x00, 0x00, b'x'];
        let mut archive = open(Format::Zstd, &frame, 100);
        assert_eq!(whole(&mut archive), b"");
        assert!(
            matches!(archive.damage(), Some(Damage::Malformed(why)) if why.contains("memory")),
            "{archive:?}"
        );
    }
}

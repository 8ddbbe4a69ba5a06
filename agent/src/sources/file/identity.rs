//! Is this file the one that a stream was read from? Pure: what is known, what is found, a verdict.
//!
//! Content decides, within what an inode allows. A file with another inode or birth time is another file, even when
//! its content is the same so far: two logs that begin with the same banner must not be taken for one, because the
//! second banner would then be lost. The other way round costs nothing but a record stored under two addresses.
//! The device number is not compared: it changes with the order in which disks are found.

use edgelogger_proto::v1::{FileCompression, FileIdentity, StreamEndReason};

use super::backlog::Backlog;
use super::reader::Place;
use super::stat::FileStat;
use crate::checkpoint::FinishedFile;
use crate::flow::{CONTENT_CHECK_BYTES_MAX, ContentCheck};

/// First bytes of a file that tell it from others.
pub(super) const FINGERPRINT_BYTES_MAX: usize = 1024;

/// Content that two files must share at least for one to be taken for a copy of the other.
pub(super) const COPY_BYTES_MIN: u64 = 32;

/// What a stream remembers of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub inode: u64,
    pub birth_ns: Option<i64>,
    pub fingerprint_len: u32,
    pub fingerprint_crc32c: u32,
    /// Everything below was read.
    pub offset: u64,
    /// Of the bytes before `offset`.
    pub check: ContentCheck,
}

impl Known {
    /// Of a file whose stream is over, wherever it is now.
    pub const fn of_finished(finished: &FinishedFile) -> Self {
        Self {
            inode: 0,
            birth_ns: None,
            fingerprint_len: finished.fingerprint.len,
            fingerprint_crc32c: finished.fingerprint.crc32c,
            offset: finished.size,
            check: finished.check,
        }
    }

    /// Up to where it is read next, in order.
    pub fn reading(self, place: &Place, backlog: &Backlog) -> Self {
        let place = backlog.front().map_or(place, |span| &span.place);
        Self {
            offset: place.offset,
            check: place.check,
            ..self
        }
    }

    /// Of its first bytes.
    pub const fn fingerprint(&self) -> ContentCheck {
        ContentCheck {
            len: self.fingerprint_len,
            crc32c: self.fingerprint_crc32c,
        }
    }

    pub const fn of(identity: &FileIdentity, offset: u64, check: ContentCheck) -> Self {
        Self {
            inode: identity.inode,
            birth_ns: if identity.birth_time_ns == 0 {
                None
            } else {
                Some(identity.birth_time_ns)
            },
            fingerprint_len: identity.fingerprint_len,
            fingerprint_crc32c: identity.fingerprint_crc32c,
            offset,
            check,
        }
    }
}

/// How a file differs from the one that a stream was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// Another inode, or the same one used again.
    OtherFile,
    /// Shorter than what was read.
    Shorter,
    /// Long enough, but what was read is not in it.
    OtherContent,
}

impl Difference {
    pub const fn end_reason(self) -> StreamEndReason {
        match self {
            Self::OtherFile => StreamEndReason::Deleted,
            Self::Shorter => StreamEndReason::Truncated,
            Self::OtherContent => StreamEndReason::Replaced,
        }
    }
}

/// Two birth times that are both known tell a used-again inode; otherwise nothing is said.
pub(super) fn births_differ(one: Option<i64>, other: Option<i64>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// Compares. `head` is the file's first bytes, as many as a fingerprint covers; `window` is the bytes before the
/// offset, as many as the check covers; either is shorter where the file is.
pub(super) fn compare(known: &Known, found: &FileStat, head: &[u8], window: &[u8]) -> Result<(), Difference> {
    if known.inode != found.key.inode || births_differ(known.birth_ns, found.birth_ns) {
        return Err(Difference::OtherFile);
    }
    compare_content(known, found.size, head, window)
}

fn compare_content(known: &Known, size: u64, head: &[u8], window: &[u8]) -> Result<(), Difference> {
    let (head_len, window_len) = (known.fingerprint_len as usize, known.check.len as usize);
    // A stream begins with its fingerprint's bytes, so a file without them is shorter than it was.
    if size < known.offset || head.len() < head_len || window.len() < window_len {
        return Err(Difference::Shorter);
    }
    let same_head = crc32c::crc32c(&head[..head_len]) == known.fingerprint_crc32c;
    let same_window = crc32c::crc32c(&window[..window_len]) == known.check.crc32c;
    if same_head && same_window {
        Ok(())
    } else {
        Err(Difference::OtherContent)
    }
}

/// Is this other file a copy of what was read (`copytruncate` makes one)? Less content than [`COPY_BYTES_MIN`] says
/// nothing: many logs begin alike.
pub(super) fn is_copy(known: &Known, found: &FileStat, head: &[u8], window: &[u8]) -> bool {
    // After a kill the checkpoint may still say 0; then the fingerprint tells as much.
    known.offset.max(u64::from(known.fingerprint_len)) >= COPY_BYTES_MIN
        && known.inode != found.key.inode
        && compare_content(known, found.size, head, window).is_ok()
}

/// Is enough known of the content to know it again elsewhere?
pub(super) fn enough_to_tell(known: &Known) -> bool {
    known.offset.max(known.fingerprint_len.into()) >= COPY_BYTES_MIN
}

/// What a new stream will remember: `head` is the file's first bytes.
pub(super) fn identity(path: &[u8], found: &FileStat, head: &[u8]) -> FileIdentity {
    let head = &head[..head.len().min(FINGERPRINT_BYTES_MAX)];
    FileIdentity {
        path: path.to_vec().into(),
        device: found.key.device,
        inode: found.key.inode,
        birth_time_ns: found.birth_ns.unwrap_or(0),
        fingerprint_len: u32::try_from(head.len()).unwrap_or(0),
        fingerprint_crc32c: crc32c::crc32c(head),
        compression: FileCompression::None.into(),
    }
}

/// Is `name` what a rotation makes of `original`: `app.log.1`, `app.log-20240101`, `app.1.log`?
pub(crate) fn is_rotated_name(original: &[u8], name: &[u8]) -> bool {
    let is_counter = |middle: &[u8]| {
        middle.iter().any(u8::is_ascii_digit)
            && middle
                .iter()
                .all(|byte| byte.is_ascii_digit() || b".-_T:Z".contains(byte))
    };
    let behind = name
        .strip_prefix(original)
        .is_some_and(|end| is_counter(end) || end == b".old" || end == b".bak");
    let inside = || {
        let dot = memchr::memrchr(b'.', original).filter(|at| *at > 0)?;
        let (stem, extension) = original.split_at(dot);
        Some(is_counter(name.strip_prefix(stem)?.strip_suffix(extension)?))
    };
    behind || inside() == Some(true)
}

/// Names of which `name` may be a rotated one, set apart from the rest of it by a sign: `host1.log` is none of
/// `host.log`.
pub(super) fn original_names(name: &[u8]) -> Vec<Vec<u8>> {
    let is_apart = |at: usize| matches!(name.get(at), Some(b'.' | b'-' | b'_'));
    let behind = (1..name.len()).map(|at| name[..at].to_vec());
    let dot = memchr::memrchr(b'.', name).unwrap_or(0);
    let inside = (1..dot).map(|at| [&name[..at], &name[dot..]].concat());
    let starts = (1..name.len()).chain(1..dot);
    let originals = starts.zip(behind.chain(inside)).filter(|(at, _)| is_apart(*at));
    originals
        .map(|(_, original)| original)
        .filter(|original| is_rotated_name(original, name))
        .collect()
}

/// Is `name` what a rotation makes of `original` when it compresses: `app.log.1.gz`, `app.log-20240101.zst`,
/// `app.log.gz`?
pub(crate) fn is_archive_name(original: &[u8], name: &[u8]) -> bool {
    let suffixes: [&[u8]; 3] = [b".gz", b".zst", b".zstd"];
    let mut stems = suffixes.iter().filter_map(|suffix| name.strip_suffix(*suffix));
    stems.any(|stem| stem == original || is_rotated_name(original, stem))
}

const _: () = assert!(
    FINGERPRINT_BYTES_MAX == CONTENT_CHECK_BYTES_MAX as usize,
    "both are read into one buffer"
);

#[cfg(test)]
mod tests {
    use super::super::lines::check_at_end_of;
    use super::super::stat::{FileKey, FileKind};
    use super::*;

    const CONTENT: &[u8] = b"first line\nsecond line\n";

    fn found(inode: u64, birth_ns: Option<i64>, size: u64) -> FileStat {
        FileStat {
            key: FileKey { device: 1, inode },
            kind: FileKind::Regular,
            birth_ns,
            modified_ns: 0,
            size,
            disk_bytes: 0,
            links: 1,
        }
    }

    fn check(file: &[u8], stat: (u64, Option<i64>), expected: Result<(), Difference>) {
        let identity = identity(b"/a", &found(5, Some(50), 0), &CONTENT[..8]);
        let known = Known::of(&identity, 11, check_at_end_of(&CONTENT[..11]));
        let stat = found(stat.0, stat.1, file.len() as u64);
        let window = &file[..file.len().min(11)];
        assert_eq!(
            compare(&known, &stat, file, window),
            expected,
            "{file:?} {stat:?}"
        );
    }

    #[test]
    fn a_file_that_still_begins_with_what_was_read_is_the_same() {
        check(CONTENT, (5, Some(50)), Ok(()));
        check(&CONTENT[..11], (5, Some(50)), Ok(()));
        check(CONTENT, (5, None), Ok(()));
    }

    #[test]
    fn another_inode_or_birth_is_another_file_even_with_the_same_content() {
        check(CONTENT, (6, Some(50)), Err(Difference::OtherFile));
        check(CONTENT, (5, Some(51)), Err(Difference::OtherFile));
    }

    #[test]
    fn a_shorter_file_and_a_file_with_other_content_are_told_apart() {
        check(&CONTENT[..10], (5, Some(50)), Err(Difference::Shorter));
        check(b"", (5, Some(50)), Err(Difference::Shorter));
        check(
            b"first line!and more and more\n",
            (5, Some(50)),
            Err(Difference::OtherContent),
        );
        check(
            b"xirst line\nsecond line\n",
            (5, Some(50)),
            Err(Difference::OtherContent),
        );
    }

    #[test]
    fn a_copy_is_known_by_enough_content_and_another_inode() {
        let content = [7u8; 100];
        let identity = identity(b"/a", &found(5, None, 0), &content[..8]);
        let known = |offset: usize| Known::of(&identity, offset as u64, check_at_end_of(&content[..offset]));
        let copied = |offset: usize, inode| {
            is_copy(
                &known(offset),
                &found(inode, None, 100),
                &content,
                &content[..offset],
            )
        };
        assert!(copied(40, 6));
        assert!(!copied(40, 5), "it is the file itself");
        assert!(!copied(20, 6), "too little to tell");
        let new = super::identity(b"/a", &found(5, None, 0), &content[..50]);
        let killed = Known::of(&new, 0, ContentCheck::default());
        assert!(
            is_copy(&killed, &found(6, None, 100), &content, &[]),
            "nothing of it was acked yet, but its beginning is known"
        );
        assert!(!is_copy(
            &known(40),
            &found(6, None, 39),
            &content,
            &content[..39]
        ));
    }

    #[test]
    fn names_that_a_rotation_gives_are_known() {
        for name in [
            "app.log.1",
            "app.log-20240101",
            "app.log.2024-01-01T10:00:00Z",
            "app.log.old",
            "app.1.log",
        ] {
            assert!(is_rotated_name(b"app.log", name.as_bytes()), "{name}");
        }
        for name in [
            "app.log",
            "app.log.1.gz",
            "app.log.lock",
            "app-error.log",
            "app.logger",
            "other.log.1",
            "x",
        ] {
            assert!(!is_rotated_name(b"app.log", name.as_bytes()), "{name}");
        }
        assert!(is_rotated_name(b"messages", b"messages-20240101"));
    }

    #[test]
    fn the_original_of_a_rotated_name_is_found_where_it_is_set_apart() {
        for name in [
            "app.log.1",
            "app.log-20240101",
            "app.log.bak",
            "app.1.log",
            "app-1.log",
        ] {
            let originals = original_names(name.as_bytes());
            assert!(originals.contains(&b"app.log".to_vec()), "{name}: {originals:?}");
            assert!(
                originals
                    .iter()
                    .all(|original| is_rotated_name(original, name.as_bytes()))
            );
        }
        for name in ["app.log", "app1.log", "app.log1", "x", "", ".1"] {
            assert!(original_names(name.as_bytes()).is_empty(), "{name}");
        }
    }

    #[test]
    fn names_of_compressed_rotations_are_known() {
        for name in [
            "app.log.1.gz",
            "app.log-20240101.zst",
            "app.log.gz",
            "app.1.log.zstd",
        ] {
            assert!(is_archive_name(b"app.log", name.as_bytes()), "{name}");
        }
        for name in [
            "app.log.1",
            "app.log",
            "other.log.gz",
            "app.log.1.xz",
            ".gz",
            "app.log.1.gz.gz",
        ] {
            assert!(!is_archive_name(b"app.log", name.as_bytes()), "{name}");
        }
    }
}

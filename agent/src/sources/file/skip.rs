//! What is left alone, and why: decided from what a path names and from a file's first bytes.

use std::fmt;

use edgelogger_common::error_code::{self, ErrorCode};

use super::stat::FileKind;

/// Why a path that a glob matches is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// A directory, pipe, socket or device.
    NotRegular(FileKind),
    /// A NUL byte among its first bytes.
    Binary,
    /// Compressed, by its first bytes; holds the name of the format.
    Compressed(&'static str),
    /// Compressed, and what it holds was read before it was.
    AlreadyRead,
    /// Of a log that is followed, whose name it holds.
    Copy(String),
    /// Compressed, and from before the time that is to be read.
    TooOld,
    /// Compressed, and holds nothing.
    Empty,
    /// Compressed, and can't be read to its end; holds why.
    Damaged(String),
    /// The agent's own log or state.
    Own,
    /// It can't be opened or read now; tried again. Holds the whole message.
    Unreadable(String),
    /// More files than `files_max`.
    TooMany,
    /// A symbolic link that leads nowhere.
    Dangling,
}

impl SkipReason {
    /// The code to look up, where there is one.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::NotRegular(_) => Some(error_code::NOT_A_REGULAR_FILE),
            Self::Binary => Some(error_code::BINARY_FILE),
            Self::Unreadable(_) | Self::Damaged(_) => Some(error_code::FILE_UNREADABLE),
            _ => None,
        }
    }

    /// Could it be read the next time, though nothing about the file changed?
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::TooMany | Self::Dangling)
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegular(kind) => write!(f, "{} it is {}", error_code::NOT_A_REGULAR_FILE, kind.word()),
            Self::Binary => write!(
                f,
                "{} it holds a NUL byte in its first KiB",
                error_code::BINARY_FILE
            ),
            Self::Compressed(format) => write!(f, "it is compressed ({format})"),
            Self::AlreadyRead => f.write_str("what is compressed in it was read already"),
            Self::Copy(original) => write!(f, "it is a copy of {original}, which is read"),
            Self::TooOld => f.write_str("what is compressed in it is older than what is to be read"),
            Self::Empty => f.write_str("what is compressed in it is empty"),
            Self::Damaged(damage) => write!(f, "{} {damage}", error_code::FILE_UNREADABLE),
            Self::Own => f.write_str("it is the agent's own"),
            Self::Unreadable(message) => f.write_str(message),
            Self::TooMany => f.write_str("more files are included than `files_max`"),
            Self::Dangling => f.write_str("it is a symbolic link that leads nowhere"),
        }
    }
}

/// First bytes of compressed formats. A name may lie, and a log may be called anything.
const MAGIC: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
];
/// bzip2 begins with letters; the number behind the block size makes it sure.
const BZIP2_BLOCK: &[u8] = b"\x31\x41\x59\x26\x53\x59";

/// Judges a file by its first bytes (at most a KiB of them).
pub(super) fn judge(head: &[u8], allow_binary: bool) -> Option<SkipReason> {
    let compressed = MAGIC
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map(|(_, format)| *format);
    let bzip2 =
        || (head.len() >= 10 && head.starts_with(b"BZh") && &head[4..10] == BZIP2_BLOCK).then_some("bzip2");
    if let Some(format) = compressed.or_else(bzip2) {
        return Some(SkipReason::Compressed(format));
    }
    (!allow_binary && memchr::memchr(0, head).is_some()).then_some(SkipReason::Binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], expected: Option<&SkipReason>) {
        assert_eq!(judge(head, false).as_ref(), expected, "{head:?}");
    }

    #[test]
    fn compressed_files_are_known_by_their_first_bytes() {
        check(b"\x1f\x8b\x08", Some(&SkipReason::Compressed("gzip")));
        check(b"\x28\xb5\x2f\xfd\0", Some(&SkipReason::Compressed("zstd")));
        check(b"\xfd7zXZ\0\0", Some(&SkipReason::Compressed("xz")));
        check(b"\x04\x22\x4d\x18d", Some(&SkipReason::Compressed("lz4")));
        check(b"PK\x03\x04\n", Some(&SkipReason::Compressed("zip")));
        check(
            b"BZh9\x31\x41\x59\x26\x53\x59",
            Some(&SkipReason::Compressed("bzip2")),
        );
    }

    #[test]
    fn text_is_read_whatever_it_begins_with() {
        for head in [
            b"BZh is not a log".as_slice(),
            b"PK and go",
            b"",
            b"\xff\xfe",
            b"2024-01-01 ok\n",
        ] {
            check(head, None);
        }
    }

    #[test]
    fn a_nul_byte_at_the_start_means_binary_unless_allowed() {
        check(b"\x7fELF\x02\x01\x01\0", Some(&SkipReason::Binary));
        assert_eq!(judge(b"a\0b", true), None);
    }
}

//! What the file system says about a file: one `statx` each.

use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, makedev, statx};

/// Device and inode: which file it is *now*. An inode is used again as soon as its file is gone, so this is never
/// enough to know a file again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FileKind {
    Regular,
    Directory,
    Fifo,
    Socket,
    Device,
    Other,
}

impl FileKind {
    /// The word shown to people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::Other => "no regular file",
        }
    }
}

/// The part of `statx` that is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Device and inode.
    pub key: FileKey,
    /// Regular file, directory, ...
    pub kind: FileKind,
    /// When the inode was made, ns UTC; `None` where the file system does not keep it.
    pub birth_ns: Option<i64>,
    /// When the content changed last, ns UTC.
    pub modified_ns: i64,
    /// Length in bytes.
    pub size: u64,
    /// Bytes that it occupies on the disk.
    pub disk_bytes: u64,
    /// Names that it has; 0 when it was deleted and is only held open.
    pub links: u32,
}

/// Looks at a path; a symbolic link is followed.
///
/// # Errors
/// As the system gives them: `NotFound` also for a link that leads nowhere.
pub fn stat(path: &Path) -> std::io::Result<FileStat> {
    look(CWD, path, AtFlags::empty())
}

/// Is the path itself a symbolic link?
#[must_use]
pub fn is_symlink(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_symlink())
}

/// Looks at an open file.
///
/// # Errors
/// As the system gives them.
pub fn stat_open(file: impl AsFd) -> std::io::Result<FileStat> {
    look(file, Path::new(""), AtFlags::EMPTY_PATH)
}

fn look(at: impl AsFd, path: &Path, flags: AtFlags) -> std::io::Result<FileStat> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(FileStat::from(&statx(
        at,
        path,
        flags | AtFlags::NO_AUTOMOUNT,
        mask,
    )?))
}

impl From<&Statx> for FileStat {
    fn from(found: &Statx) -> Self {
        let has_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Self {
            key: FileKey {
                device: makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
            },
            kind: kind(found.stx_mode),
            birth_ns: has_birth.then(|| ns(found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
            modified_ns: ns(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            size: found.stx_size,
            disk_bytes: found.stx_blocks.saturating_mul(512),
            links: found.stx_nlink,
        }
    }
}

fn ns(seconds: i64, nanoseconds: u32) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(nanoseconds))
}

fn kind(mode: u16) -> FileKind {
    match FileType::from_raw_mode(mode.into()) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
        _ => FileKind::Other,
    }
}

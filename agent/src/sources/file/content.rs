//! What a reader reads from: a file as it is, or what is compressed in it.

use std::io;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::{Errno, pread};

use super::stat::{FileStat, stat_open};

/// Content with positions.
pub(super) trait Content {
    /// Fills the buffer's free room from `offset`, up to the end.
    fn read_on(&mut self, buffer: &mut Vec<u8>, offset: u64) -> io::Result<()>;

    /// Exactly `len` bytes from `offset`; `None` where there are fewer.
    fn body(&mut self, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>>;

    /// Where there is data again, at `offset` or behind it: what lies between is not on the disk and reads as NUL
    /// bytes, however much it is.
    fn data_behind(&self, _offset: u64) -> Option<u64> {
        None
    }

    /// The beginning of a line that is too long to be read at once: its body will be asked for when its end is known.
    fn keep(&mut self, _offset: u64, _beginning: &[u8]) {}
}

impl Content for &OwnedFd {
    fn read_on(&mut self, buffer: &mut Vec<u8>, offset: u64) -> io::Result<()> {
        loop {
            match pread(&**self, spare_capacity(buffer), offset) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn body(&mut self, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        let body = read_at(&**self, offset, len)?;
        Ok((body.len() == len).then_some(body))
    }

    fn data_behind(&self, offset: u64) -> Option<u64> {
        // The descriptor's own position is used by nobody.
        seek(self, SeekFrom::Data(offset))
            .ok()
            .filter(|found| *found > offset)
    }
}

/// Opens a path for reading, and looks at what is there. Not blocking: by now the path may be a pipe that nobody writes
/// to.
pub(super) fn open_unblocked(path: &Path) -> io::Result<(OwnedFd, FileStat)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let found = stat_open(&file)?;
    Ok((file, found))
}

/// `len` bytes from `offset`, or as many as there are.
pub(super) fn read_at(file: impl rustix::fd::AsFd, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match pread(&file, &mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

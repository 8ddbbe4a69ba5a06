//! The real file system, Linux.

use super::{Access, Disk, DiskFile, DiskLock, LockGuard, Poison};
use rustix::fs::{Advice, FlockOperation};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Files hold log lines of other programs: nobody else on the machine may read them.
const FILE_MODE: u32 = 0o640;

/// Linux takes so many slices in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(OsFile {
            file,
            end: 0,
            poison: Poison::default(),
        }))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadAppend)
            .open(path)?;
        let end = file.metadata()?.len();
        Ok(Box::new(OsFile {
            file,
            end,
            poison: Poison::default(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list_files(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        // f_bavail, not f_bfree: the blocks reserved for root are not ours.
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        // flock belongs to the open file, so it goes when the process does, however it ends.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(DiskLock::new(FileLock(file)))
    }
}

/// Gives the lock back itself: closing is not enough while a child process that was just forked, and has yet to
/// execute its program, has a copy of the descriptor.
#[derive(Debug)]
struct FileLock(File);

impl LockGuard for FileLock {}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    end: u64,
    poison: Poison,
}

impl DiskFile for OsFile {
    fn end(&self) -> u64 {
        self.end
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn append(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let Self { file, end, poison } = self;
        poison.guard(|| {
            *end = write_all_at(file, parts, *end)?;
            Ok(())
        })
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.poison.guard(|| self.file.set_len(len))?;
        self.end = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.poison.guard(|| self.file.sync_data())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }
}

/// `pwritev` until everything is written; gives the new end.
fn write_all_at(file: &File, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<u64> {
    let mut own: Vec<IoSlice<'_>> = parts.to_vec();
    let mut rest: &mut [IoSlice<'_>] = &mut own;
    IoSlice::advance_slices(&mut rest, 0); // drops empty leading slices
    while !rest.is_empty() {
        let batch = rest.len().min(SLICES_MAX);
        match rustix::io::pwritev(file, &rest[..batch], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(offset)
}

//! A disk on which something happens elsewhere while it is waited for: a sync takes as long as other programs like.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use edgelogger_common::disk::{Access, Disk, DiskFile, DiskLock, OsDisk};

type Deed = Box<dyn FnOnce() + Send>;

/// What is done during the next syncs, one each.
#[derive(Clone, Default)]
pub(super) struct Meanwhile(Arc<Mutex<VecDeque<Deed>>>);

impl Meanwhile {
    pub fn push(&self, deed: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().push_back(Box::new(deed));
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    fn happens(&self) {
        let deed = self.0.lock().unwrap().pop_front();
        if let Some(deed) = deed {
            deed();
        }
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

/// The real disk, with what happens meanwhile.
#[derive(Debug, Clone, Default)]
pub(super) struct SlowDisk(pub Meanwhile);

#[derive(Debug)]
struct SlowFile(Box<dyn DiskFile>, Meanwhile);

impl Disk for SlowDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile(OsDisk.create_new(path)?, self.0.clone())))
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile(OsDisk.open(path, access)?, self.0.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_file(path)
    }
    fn list_files(&self, dir: &Path) -> io::Result<Vec<String>> {
        OsDisk.list_files(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        OsDisk.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        OsDisk.file_len(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsDisk.exists(path)
    }
    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        OsDisk.available_bytes(path)
    }
    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        OsDisk.total_bytes(path)
    }
    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        OsDisk.lock(path)
    }
}

impl DiskFile for SlowFile {
    fn end(&self) -> u64 {
        self.0.end()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn append(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.append(parts)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.happens();
        self.0.sync_data()
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.0.drop_cache()
    }
    fn is_poisoned(&self) -> bool {
        self.0.is_poisoned()
    }
}

//! The file: append, sync, rewrite. Once anything fails, the only way on is a new file.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::disk::{Access, At, Disk, DiskError, DiskFile, NEW_SUFFIX, parent};
use parking_lot::Mutex;

use super::Durability;
use super::error::CheckpointError;
use super::format::{self, HEADER_LEN, Record};
use super::scan::{NewerVersion, Scan, scan};

/// Below this a file is left as it is, however much of it is garbage.
const REWRITE_BYTES_MIN: u64 = 64 * 1024;
/// A file is rewritten when it is this many times what lives in it.
const GARBAGE_FACTOR: u64 = 4;
/// Bytes of a new file gathered before they are handed to the disk.
const CHUNK_BYTES: usize = 256 * 1024;
/// What is read of a file. 64 Ki streams take some 30 MB, four times that with garbage; what is behind this was
/// not written by us and counts as damage.
const FILE_BYTES_MAX: usize = 512 << 20;
/// Unit in which unreadable parts are stepped over.
const SECTOR_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None`: something failed, and the next write makes a new file.
    file: Option<Box<dyn DiskFile>>,
    /// Compare garbage with what lives when the file is longer than this.
    check_at: u64,
    unsynced: bool,
    unsynced_since: Option<Duration>,
    trouble: Trouble,
}

/// What went wrong last. It can be asked for while a write hangs.
pub(super) type Trouble = Arc<Mutex<Option<String>>>;

impl Writer {
    /// Opens the file if there is one and reads it; cuts off a damaged tail.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<(Self, Scan), CheckpointError> {
        let mut writer = Self {
            disk,
            path,
            file: None,
            check_at: REWRITE_BYTES_MIN,
            unsynced: false,
            unsynced_since: None,
            trouble: Trouble::default(),
        };
        let mut file = match writer.disk.open(&writer.path, Access::ReadAppend) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((writer, Scan::default())),
            Err(error) => return Err(DiskError::new("open", &writer.path, error).into()),
        };
        // What an earlier process wrote may be in memory only, and the medium may have refused it.
        file.sync_data().at("sync", &writer.path)?;
        file.drop_cache().at("reread", &writer.path)?;
        // An earlier process may have ended between a rename and its sync: what is appended now would go with the name.
        let dir = parent(&writer.path);
        writer.disk.sync_dir(dir).at("sync directory", dir)?;
        let bytes = read_what_can_be_read(&*file, &writer.path)?;
        let scan = scan(&bytes).map_err(|NewerVersion(found)| CheckpointError::NewerFormat {
            path: writer.path.clone(),
            found,
            known: format::VERSION,
        })?;
        if scan.only_tail_damaged() {
            let cut = scan.good_len < file.end();
            if !cut
                || file
                    .set_len(scan.good_len)
                    .and_then(|()| file.sync_data())
                    .is_ok()
            {
                writer.file = Some(file);
            }
        }
        Ok((writer, scan))
    }

    /// Must a new file be written?
    pub fn is_poisoned(&self) -> bool {
        self.file.is_none()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn trouble(&self) -> Trouble {
        Arc::clone(&self.trouble)
    }

    pub fn unsynced_since(&self) -> Option<Duration> {
        self.unsynced_since
    }

    /// From when the time to the next sync counts.
    pub fn note_time(&mut self, now: Duration) {
        self.unsynced_since = if self.unsynced {
            self.unsynced_since.or(Some(now))
        } else {
            None
        };
    }

    /// Is the file unusable, or mostly garbage? `live_bytes` is asked only now and then: it walks all streams.
    pub fn wants_rewrite(&mut self, live_bytes: impl FnOnce() -> u64) -> bool {
        let Some(file) = &self.file else { return true };
        if file.end() <= self.check_at {
            return false;
        }
        self.check_at = live_bytes().saturating_mul(GARBAGE_FACTOR).max(REWRITE_BYTES_MIN);
        file.end() > self.check_at
    }

    /// Appends the records, and syncs if asked. With nothing to append and nothing unsynced it does nothing.
    pub fn append(&mut self, records: &[Record], durability: Durability) -> Result<(), CheckpointError> {
        let result = self.try_append(records, durability);
        self.remember(result)
    }

    fn try_append(&mut self, records: &[Record], durability: Durability) -> Result<(), DiskError> {
        let Some(file) = &mut self.file else {
            return Err(DiskError::new(
                "write",
                &self.path,
                io::Error::other("an earlier write failed"),
            ));
        };
        if !records.is_empty() {
            let mut bytes = Vec::new();
            records.iter().for_each(|record| record.write_to(&mut bytes));
            self.unsynced = true;
            file.append(&[IoSlice::new(&bytes)]).at("write", &self.path)?;
        }
        if self.unsynced && durability == Durability::Synced {
            file.sync_data().at("sync", &self.path)?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Writes a new file with these records and puts it in place of the old one, durably.
    pub fn rewrite(&mut self, live: &[Record]) -> Result<(), CheckpointError> {
        self.file = None;
        let result = self.try_rewrite(live);
        self.remember(result)
    }

    fn try_rewrite(&mut self, live: &[Record]) -> Result<(), DiskError> {
        let mut name = self.path.clone().into_os_string();
        name.push(NEW_SUFFIX);
        let new_path = PathBuf::from(name);
        match self.disk.remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DiskError::new("remove", &new_path, error));
            }
            _ => {}
        }
        let mut file = self.disk.create_new(&new_path).at("create", &new_path)?;
        write_all(&mut *file, live).at("write", &new_path)?;
        file.sync_data().at("sync", &new_path)?;
        self.disk.rename(&new_path, &self.path).at("rename", &new_path)?;
        let dir = parent(&self.path);
        self.disk.sync_dir(dir).at("sync directory", dir)?;
        self.check_at = file.end().saturating_mul(GARBAGE_FACTOR).max(REWRITE_BYTES_MIN);
        self.unsynced = false;
        self.unsynced_since = None;
        self.file = Some(file);
        Ok(())
    }

    fn remember(&mut self, result: Result<(), DiskError>) -> Result<(), CheckpointError> {
        match result {
            Ok(()) => {
                *self.trouble.lock() = None;
                Ok(())
            }
            Err(error) => {
                self.file = None;
                self.unsynced_since = None;
                *self.trouble.lock() = Some(error.to_string());
                Err(error.into())
            }
        }
    }
}

fn write_all(file: &mut dyn DiskFile, live: &[Record]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend_from_slice(&format::header());
    for record in live {
        record.write_to(&mut bytes);
        if bytes.len() >= CHUNK_BYTES {
            file.append(&[IoSlice::new(&bytes)])?;
            bytes.clear();
        }
    }
    file.append(&[IoSlice::new(&bytes)])
}

/// The file's bytes; a sector that stays unreadable becomes zeroes, which the scan steps over.
fn read_what_can_be_read(file: &dyn DiskFile, path: &Path) -> Result<Vec<u8>, DiskError> {
    let len = usize::try_from(file.end())
        .unwrap_or(usize::MAX)
        .min(FILE_BYTES_MAX);
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        match file.read_at(&mut bytes[at..], at as u64) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(first) => at = read_sector(file, &mut bytes, at, first).at("read", path)?,
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

/// Reads up to the next sector's start, or leaves zeroes where the medium is bad; any other error may pass, so that
/// giving up what is on the disk would be wrong.
fn read_sector(file: &dyn DiskFile, bytes: &mut [u8], at: usize, first: io::Error) -> io::Result<usize> {
    if first.raw_os_error() != Some(rustix::io::Errno::IO.raw_os_error()) {
        return Err(first);
    }
    let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(bytes.len());
    match file.read_at(&mut bytes[at..end], at as u64) {
        Ok(read) if read > 0 => Ok(at + read),
        _ => {
            bytes[at..end].fill(0);
            Ok(end)
        }
    }
}

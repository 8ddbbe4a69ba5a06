//! Blocks that the collector rejected, kept for a person to look at. Bounded: two files, the older is replaced.
//!
//! ```text
//! rejected.blocks, rejected.1.blocks (the older)
//! each entry, little-endian:
//!   0  4  magic "ELRB"
//!   4  4  len          of everything behind this field
//!   8  4  crc32c       of everything behind this field
//!  12  8  time         ns UTC
//!  20  8  code         "E0303", padded with spaces
//!  28  .. block        as in a batch, not compressed
//! ```
//!
//! Not synced, and a disk that refuses is only reported: the range is declared lost either way, and the source may
//! still have it.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BufMut;
use edgelogger_common::block::Block;
use edgelogger_common::disk::{Access, At, Disk, DiskError, DiskFile, create_dir_all_durable};

/// The newer file.
pub const FILE_NAME: &str = "rejected.blocks";
const OLDER_FILE_NAME: &str = "rejected.1.blocks";
const MAGIC: &[u8; 4] = b"ELRB";
/// Of each of the two files.
pub const FILE_BYTES_MAX: u64 = 8 << 20;

/// The folder of rejected blocks.
#[derive(Debug)]
pub struct Quarantine {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Option<Box<dyn DiskFile>>,
}

impl Quarantine {
    /// Nothing is made before something is kept.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self {
            disk,
            dir: dir.to_path_buf(),
            file: None,
        }
    }

    /// Where the blocks lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps a block.
    ///
    /// # Errors
    /// The disk, or a block larger than the file may be.
    pub fn keep(&mut self, block: &Block, code: &str, time_ns: i64) -> Result<(), DiskError> {
        let entry = entry(block, code, time_ns);
        let path = self.dir.join(FILE_NAME);
        if entry.len() as u64 > FILE_BYTES_MAX {
            let error =
                std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("{} bytes", entry.len()));
            return Err(DiskError::new("keep a block in", &path, error));
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open(&path)?,
        };
        if file.end() + entry.len() as u64 > FILE_BYTES_MAX {
            let older = self.dir.join(OLDER_FILE_NAME);
            drop(file);
            self.disk.rename(&path, &older).at("rename", &path)?;
            file = self.open(&path)?;
        }
        file.append(&[IoSlice::new(&entry)]).at("write", &path)?;
        self.file = Some(file);
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        create_dir_all_durable(&*self.disk, &self.dir)?;
        if self.disk.exists(path).at("look at", path)? {
            return self.disk.open(path, Access::ReadAppend).at("open", path);
        }
        self.disk.create_new(path).at("create", path)
    }
}

fn entry(block: &Block, code: &str, time_ns: i64) -> Vec<u8> {
    let mut body = Vec::with_capacity(block.encoded_len() + 16);
    body.put_i64_le(time_ns);
    let mut padded = [b' '; 8];
    for (to, from) in padded.iter_mut().zip(code.bytes()) {
        *to = from;
    }
    body.put_slice(&padded);
    // A block that can't be written can't have been read from a batch.
    let _ = block.write_to(&mut body);
    let mut entry = Vec::with_capacity(body.len() + 12);
    entry.put_slice(MAGIC);
    entry.put_u32_le(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    entry.put_u32_le(crc32c::crc32c(&body));
    entry.put_slice(&body);
    entry
}

#[cfg(test)]
mod tests {
    use edgelogger_common::disk::{Effect, Fault, FaultDisk, Operation};
    use edgelogger_common::stream::StreamId;

    use super::*;

    fn block(len: usize) -> Block {
        let mut line = vec![b'x'; len];
        line.push(b'\n');
        let crc = crc32c::crc32c(&line);
        Block::from_lines(StreamId::from_bytes([1; 16]), 0, line.into(), 1, crc, 5)
    }

    fn quarantine() -> (FaultDisk, Quarantine) {
        let disk = FaultDisk::new(1);
        let quarantine = Quarantine::new(Arc::new(disk.clone()), Path::new("/state/quarantine"));
        (disk, quarantine)
    }

    #[test]
    fn a_rejected_block_can_be_read_back() {
        let (disk, mut quarantine) = quarantine();
        quarantine.keep(&block(3), "E0303", 7).unwrap();
        let bytes = disk
            .contents(Path::new("/state/quarantine/rejected.blocks"))
            .unwrap();
        assert_eq!(&bytes[..4], MAGIC);
        assert_eq!(&bytes[20..28], b"E0303   ");
        let found = Block::split_from(&mut bytes[28..].to_vec().into()).unwrap();
        assert_eq!(found, block(3));
    }

    #[test]
    fn the_folder_is_bounded_however_much_is_rejected() {
        let (disk, mut quarantine) = quarantine();
        for _ in 0..30 {
            quarantine.keep(&block(1 << 20), "E0303", 7).unwrap();
        }
        let dir = Path::new("/state/quarantine");
        assert_eq!(
            disk.list_files(dir).unwrap(),
            ["rejected.1.blocks", "rejected.blocks"]
        );
        for name in disk.list_files(dir).unwrap() {
            assert!(disk.file_len(&dir.join(name)).unwrap() <= FILE_BYTES_MAX);
        }
        assert!(quarantine.keep(&block(9 << 20), "E0303", 7).is_err());
    }

    #[test]
    fn after_a_failed_write_the_next_block_is_kept() {
        let (disk, mut quarantine) = quarantine();
        disk.install(Fault::once(
            Operation::Write,
            1,
            Effect::Error(rustix::io::Errno::NOSPC),
        ));
        assert!(quarantine.keep(&block(3), "E0303", 7).is_err());
        quarantine.keep(&block(3), "E0303", 7).unwrap();
    }
}

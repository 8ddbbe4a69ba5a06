//! Reading Parquet files batch by batch, outside of queries: for merging, retention, deletion, checks and exports.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use edgelogger_common::disk::{Access, At, Disk, DiskFile};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::StoreError;
use crate::manifest::FileEntry;

/// Rows of a batch, at most ...
const BATCH_ROWS: usize = 2 << 10;
/// ... and bytes, as far as the average row tells.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes read at a time where a whole file is read.
const READ_BYTES: usize = 256 << 10;

/// A file of the disk in the words of the Parquet reader.
struct Chunks(Arc<dyn DiskFile>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.end()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(From {
            file: Arc::clone(&self.0),
            at: start,
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // The length comes from the file: it must not decide how much is allocated.
        if start
            .checked_add(length as u64)
            .is_none_or(|end| end > self.0.end())
        {
            return Err(ParquetError::EOF(
                "it ends before what it says it holds".to_owned(),
            ));
        }
        let mut bytes = Vec::with_capacity(length);
        self.get_read(start)?
            .take(length as u64)
            .read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A file from a position on.
struct From {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

fn unreadable(path: &Path, problem: impl Into<String>) -> StoreError {
    StoreError::Unreadable {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}

/// The rows of a file, in batches of bounded size.
pub struct FileReader {
    path: std::path::PathBuf,
    reader: ParquetRecordBatchReader,
}

impl FileReader {
    /// All columns, or those of these names.
    pub fn open(disk: &dyn Disk, path: &Path, columns: Option<&[&str]>) -> Result<Self, StoreError> {
        let file = disk.open(path, Access::Read).at("open", path)?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(Chunks(file.into()))
            .map_err(|error| unreadable(path, error.to_string()))?;
        let groups = builder.metadata().row_groups().iter();
        let row_bytes = groups
            .map(|group| group.total_byte_size().max(0) / group.num_rows().max(1))
            .max();
        let row_bytes = usize::try_from(row_bytes.unwrap_or(1)).unwrap_or(usize::MAX);
        let mask = columns.map_or_else(ProjectionMask::all, |names| {
            ProjectionMask::columns(builder.parquet_schema(), names.iter().copied())
        });
        let reader = builder
            .with_projection(mask)
            .with_batch_size((BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS))
            .build()
            .map_err(|error| unreadable(path, error.to_string()))?;
        Ok(Self {
            path: path.to_path_buf(),
            reader,
        })
    }

    /// Of the batches.
    pub fn schema(&self) -> SchemaRef {
        use arrow::record_batch::RecordBatchReader;
        self.reader.schema()
    }
}

impl Iterator for FileReader {
    type Item = Result<arrow::record_batch::RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.reader.next()?;
        Some(next.map_err(|error| unreadable(&self.path, error.to_string())))
    }
}

/// Is the file, byte for byte, what was written? Files of earlier versions have no checksum: of them the length is
/// compared.
///
/// # Errors
/// What is wrong with it.
pub fn check_bytes(disk: &dyn Disk, path: &Path, entry: &FileEntry) -> Result<(), StoreError> {
    let file = disk.open(path, Access::Read).at("open", path)?;
    if file.end() != entry.bytes {
        let problem = format!("it has {} bytes, it should have {}", file.end(), entry.bytes);
        return Err(unreadable(path, problem));
    }
    let Some(expected) = entry.crc32c else {
        return Ok(());
    };
    let (mut crc, mut at, mut buffer) = (0, 0, vec![0; READ_BYTES]);
    loop {
        let read = file.read_at(&mut buffer, at).at("read", path)?;
        if read == 0 {
            break;
        }
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        at += read as u64;
    }
    if crc == expected {
        return Ok(());
    }
    Err(unreadable(
        path,
        format!("its CRC32C is {crc:08x}, it should be {expected:08x}: it was changed or is damaged"),
    ))
}

//! Writing one Parquet file.

use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;
use edgelogger_common::disk::{At, DiskFile};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::StoreError;
use crate::gather::{Gather, Pick};
use crate::options::StoreOptions;
use crate::schema::{Table, column};

/// Rows that are picked and encoded at a time.
pub const CHUNK_ROWS: usize = 16 << 10;
/// Rows of a page: what a query skips or reads. 20,000 is the writer's own default.
const PAGE_ROWS: usize = 8 << 10;
/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Encoded rows that wait for their row group to be whole: large rows make smaller groups.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// A file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenFile {
    /// Its length.
    pub bytes: u64,
    /// Of all of it.
    pub crc32c: u32,
}

/// A file that is being written, batch by batch.
pub struct FileWriter {
    path: PathBuf,
    writer: ArrowWriter<Output>,
}

impl FileWriter {
    /// A new file, with pages compressed at this zstd level.
    pub fn create(options: &StoreOptions, path: &Path, table: Table, level: i32) -> Result<Self, StoreError> {
        let file = options.disk.create_new(path).at("create", path)?;
        let properties = properties(options, table, level)?;
        let writer = ArrowWriter::try_new(Output::new(file), table.schema(), Some(properties));
        Ok(Self {
            writer: writer.map_err(|source| failed(path, source))?,
            path: path.to_path_buf(),
        })
    }

    /// Adds rows; they have to come in order.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), StoreError> {
        let written = self.writer.write(rows).and_then(|()| {
            if self.writer.memory_size() < ROW_GROUP_BYTES {
                return Ok(());
            }
            self.writer.flush()
        });
        written.map_err(|source| failed(&self.path, source))
    }

    /// The file is whole, and durable but for its name (the caller syncs the directory).
    pub fn finish(self) -> Result<WrittenFile, StoreError> {
        let Self { path, writer } = self;
        let mut output = writer.into_inner().map_err(|source| failed(&path, source))?;
        output.flush().at("write", &path)?;
        output.file.sync_data().at("sync", &path)?;
        Ok(WrittenFile {
            bytes: output.file.end(),
            crc32c: output.crc32c,
        })
    }
}

fn failed(path: &Path, source: ParquetError) -> StoreError {
    StoreError::Parquet {
        path: path.to_path_buf(),
        source,
    }
}

/// Writes these rows to a new file, durably but for its name.
pub fn write(
    options: &StoreOptions,
    path: &Path,
    table: Table,
    rows: &Gather<'_>,
    picks: &[Pick],
) -> Result<WrittenFile, StoreError> {
    let mut file = FileWriter::create(options, path, table, options.compression_level)?;
    for picks in picks.chunks(CHUNK_ROWS) {
        file.write(&rows.gather(picks)?)?;
    }
    file.finish()
}

fn properties(options: &StoreOptions, table: Table, level: i32) -> Result<WriterProperties, StoreError> {
    let level =
        ZstdLevel::try_new(level).map_err(|error: ParquetError| StoreError::Engine(error.to_string()))?;
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(format!("edgelogger {}", env!("CARGO_PKG_VERSION")))
        .set_max_row_group_row_count(Some(options.row_group_rows.max(1)))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS);
    // Numbers that grow: differences are smaller than any dictionary.
    for name in [
        column::TIME,
        column::EVENT_TIME,
        column::OBSERVED_TIME,
        column::RECEIVED_TIME,
        column::POSITION,
    ] {
        let path = ColumnPath::from(name);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    if table == Table::Logs {
        let body = ColumnPath::from(column::BODY);
        // No two lines are alike, and the least and greatest line prune nothing. Lengths first, then all text: without a
        // length before each line the text compresses better.
        builder = builder
            .set_column_dictionary_enabled(body.clone(), false)
            .set_column_encoding(body.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_statistics_enabled(body, EnabledStatistics::None);
    }
    Ok(builder.build())
}

/// What the Parquet writer writes to: a file of the disk, in pieces of a size that suits it.
struct Output {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Of all that was given.
    crc32c: u32,
}

impl Output {
    fn new(file: Box<dyn DiskFile>) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            crc32c: 0,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.file
                .append(&[IoSlice::new(&self.buffer), IoSlice::new(bytes)])?;
            self.buffer.clear();
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&[IoSlice::new(&self.buffer)])?;
            self.buffer.clear();
        }
        Ok(())
    }
}

//! Writing one Parquet file.

use std::io::{self, IoSlice, Write};
use std::path::Path;

use edgelogger_common::disk::{At, Disk, DiskError, DiskFile};
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
const CHUNK_ROWS: usize = 16 << 10;
/// Rows of a page: what a query skips or reads. 20,000 is the writer's own default.
const PAGE_ROWS: usize = 8 << 10;
/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes these rows to a new file, durably but for its name (the caller syncs the directory), and gives its length.
pub fn write(
    options: &StoreOptions,
    path: &Path,
    table: Table,
    rows: &Gather<'_>,
    picks: &[Pick],
) -> Result<u64, StoreError> {
    let file = options.disk.create_new(path).at("create", path)?;
    let properties = properties(options, table)?;
    let failed = |source| StoreError::Parquet {
        path: path.to_path_buf(),
        source,
    };
    let mut writer =
        ArrowWriter::try_new(Output::new(file), table.schema(), Some(properties)).map_err(failed)?;
    for picks in picks.chunks(CHUNK_ROWS) {
        writer.write(&rows.gather(picks)?).map_err(failed)?;
    }
    let mut output = writer.into_inner().map_err(failed)?;
    output.flush().at("write", path)?;
    output.file.sync_data().at("sync", path)?;
    Ok(output.file.end())
}

/// Removes what a failed write left. It would do no harm, an unnamed file is removed when the store opens.
pub fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(source) = disk.remove_file(path)
        && source.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!("{}", DiskError::new("remove", path, source));
    }
}

fn properties(options: &StoreOptions, table: Table) -> Result<WriterProperties, StoreError> {
    let level = ZstdLevel::try_new(options.compression_level)
        .map_err(|error: ParquetError| StoreError::Engine(error.to_string()))?;
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
        // No two lines are alike, and the least and greatest line prune nothing.
        builder = builder
            .set_column_dictionary_enabled(body.clone(), false)
            .set_column_statistics_enabled(body, EnabledStatistics::None);
    }
    Ok(builder.build())
}

/// What the Parquet writer writes to: a file of the disk, in pieces of a size that suits it.
struct Output {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
}

impl Output {
    fn new(file: Box<dyn DiskFile>) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
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

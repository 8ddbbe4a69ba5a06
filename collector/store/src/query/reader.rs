//! Reading Parquet files through the store's own file system. Queries have threads of their own, so reads simply block.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use edgelogger_common::disk::{Access, At, DiskError, DiskFile};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::collections::HashMap;

use crate::live_file::LiveFile;
use crate::snapshot::Met;

/// Bytes of footers that are kept. A footer with its page index is some 30 KB.
const METADATA_BYTES_MAX: usize = 16 << 20;

/// Footers that were read, by file name. Names are never used again, so they never change.
#[derive(Default)]
pub struct Footers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    footers: HashMap<String, Arc<ParquetMetaData>>,
    bytes: usize,
}

impl Footers {
    fn get(&self, name: &str) -> Option<Arc<ParquetMetaData>> {
        self.0.lock().footers.get(name).cloned()
    }

    fn keep(&self, name: &str, footer: &Arc<ParquetMetaData>) {
        let mut kept = self.0.lock();
        // Simple on purpose: it fills again with what is being read now.
        if kept.bytes + footer.memory_size() > METADATA_BYTES_MAX {
            *kept = Kept::default();
        }
        if kept.footers.insert(name.to_owned(), Arc::clone(footer)).is_none() {
            kept.bytes += footer.memory_size();
        }
    }
}

impl fmt::Debug for Footers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Footers").finish_non_exhaustive()
    }
}

/// Makes readers of live files; the file stands in the scan as an extension, which also keeps it from being removed.
#[derive(Debug)]
pub struct Readers {
    pub footers: Arc<Footers>,
    pub met: Met,
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        _partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::error::Result<Box<dyn AsyncFileReader + Send>> {
        let live = file.extension::<Arc<LiveFile>>().cloned();
        let live =
            live.ok_or_else(|| DataFusionError::Internal("a scan of a file without its file".to_owned()))?;
        self.met.opens(&live);
        Ok(Box::new(Reader {
            live,
            footers: Arc::clone(&self.footers),
            open: None,
        }))
    }
}

/// The footer of a file, with its page index.
///
/// # Errors
/// It can't be read, or is damaged.
pub fn footer(live: &Arc<LiveFile>, footers: &Arc<Footers>) -> Result<Arc<ParquetMetaData>, ParquetError> {
    let mut reader = Reader {
        live: Arc::clone(live),
        footers: Arc::clone(footers),
        open: None,
    };
    reader.footer()
}

struct Reader {
    live: Arc<LiveFile>,
    footers: Arc<Footers>,
    open: Option<Box<dyn DiskFile>>,
}

impl Reader {
    fn read(&mut self, range: &Range<u64>) -> Result<Bytes, DiskError> {
        let path = self.live.path();
        let file = match &mut self.open {
            Some(file) => file,
            slot => slot.insert(self.live.disk().open(path, Access::Read).at("open", path)?),
        };
        let len = range.end.saturating_sub(range.start);
        let short = || DiskError::new("read", path, std::io::ErrorKind::UnexpectedEof.into());
        if range.end > file.end() {
            return Err(short());
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| short())?];
        let mut filled = 0;
        while filled < bytes.len() {
            match file
                .read_at(&mut bytes[filled..], range.start + filled as u64)
                .at("read", path)?
            {
                0 => return Err(short()),
                n => filled += n,
            }
        }
        Ok(bytes.into())
    }

    fn footer(&mut self) -> Result<Arc<ParquetMetaData>, ParquetError> {
        let name = self.live.entry.name.clone();
        if let Some(footer) = self.footers.get(&name) {
            return Ok(footer);
        }
        let size = self.live.entry.bytes;
        // Footer and page index lie at the end, and one read mostly gets both.
        let mut from = size.saturating_sub(FOOTER_READ_BYTES);
        let footer = loop {
            let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
            let tail = self.read(&(from..size)).map_err(external)?;
            match reader.try_parse_sized(&tail, size) {
                Ok(()) => break Arc::new(reader.finish()?),
                Err(ParquetError::NeedMoreData(needed)) if from > 0 => {
                    from = size.saturating_sub((needed as u64).max((size - from) * 2));
                }
                Err(error) => return Err(error),
            }
        };
        self.footers.keep(&name, &footer);
        Ok(footer)
    }
}

/// Read first when a file is opened.
const FOOTER_READ_BYTES: u64 = 64 << 10;

fn external(error: DiskError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.read(&range).map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move { self.footer() }.boxed()
    }
}

//! Tables of what somebody else knows, made anew for each query: `machines` and `streams` of the collector.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;

/// Rows, some thousand at a time.
pub type LiveRows = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// Key of a field's metadata that says what a column is.
pub const DESCRIPTION: &str = "description";

/// A table that is not stored here.
pub trait LiveTable: Send + Sync {
    /// Its name in SQL.
    fn name(&self) -> &'static str;
    /// What it is.
    fn description(&self) -> &'static str;
    /// Its columns, each with its [`DESCRIPTION`].
    fn schema(&self) -> SchemaRef;
    /// Its rows now. Runs on a query thread, and may block it for moments.
    fn rows(&self) -> LiveRows;
}

/// A table for one query.
pub fn provider(table: &Arc<dyn LiveTable>) -> Result<StreamingTable> {
    let partition = Partition {
        schema: table.schema(),
        table: Arc::clone(table),
    };
    StreamingTable::try_new(table.schema(), vec![Arc::new(partition)])
}

struct Partition {
    schema: SchemaRef,
    table: Arc<dyn LiveTable>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Partition").field(&self.table.name()).finish()
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.table.rows().map(|rows| rows.map_err(DataFusionError::from));
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            stream::iter(rows),
        ))
    }
}

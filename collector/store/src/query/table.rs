//! A snapshot's rows as a table.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use super::label_pages::access_plan;
use super::prune::prune;
use super::reader::{Footers, Readers, footer};
use crate::live_file::LiveFile;
use crate::schema::{TIMEZONE, Table, column};
use crate::snapshot::Snapshot;

/// A table over one snapshot.
#[derive(Debug)]
pub struct SnapshotTable {
    table: Table,
    snapshot: Snapshot,
    footers: Arc<Footers>,
    files_url: ObjectStoreUrl,
    /// Values that every row which is asked for has as labels.
    label_values: Vec<String>,
}

impl SnapshotTable {
    pub const fn new(
        table: Table,
        snapshot: Snapshot,
        footers: Arc<Footers>,
        files_url: ObjectStoreUrl,
    ) -> Self {
        Self {
            table,
            snapshot,
            footers,
            files_url,
            label_values: Vec::new(),
        }
    }

    /// Pages that can't hold rows which have each of these values as a label are skipped; other rows may still come.
    pub fn with_label_values(self, label_values: Vec<String>) -> Self {
        Self { label_values, ..self }
    }

    fn recent(&self, partitions: usize, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
        let recent = self.snapshot.recent(self.table);
        let each = recent.len().div_ceil(partitions).max(1);
        let mut parts: Vec<Vec<_>> = recent
            .chunks(each)
            .map(|part| part.iter().map(|rows| rows.batch.clone()).collect())
            .collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        Ok(MemorySourceConfig::try_new_exec(
            &parts,
            self.table.schema(),
            projection.cloned(),
        )?)
    }

    /// The files to scan. Those that it would have been, too, and are aside, are noted.
    fn files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Arc<LiveFile>>> {
        let mut files: Vec<_> = self.snapshot.files(self.table).cloned().collect();
        let mut missing: Vec<_> = self.snapshot.aside(self.table).collect();
        if let Some(filter) = conjunction(filters.to_vec()) {
            let schema = self.table.schema();
            let predicate = state.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&schema))?)?;
            prune(&mut files, |file| &file.entry, &predicate, &schema);
            prune(&mut missing, |file| &file.entry, &predicate, &schema);
        }
        missing
            .into_iter()
            .for_each(|file| self.snapshot.met().misses(file));
        // Newest first: a search for the newest records then finds them early and skips the rest.
        files.sort_by_key(|file| std::cmp::Reverse(file.entry.time.1));
        Ok(files)
    }

    fn file_scan(
        &self,
        files: &[Arc<LiveFile>],
        partitions: usize,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.table.schema();
        let source = ParquetSource::new(Arc::clone(&schema))
            .with_parquet_file_reader_factory(Arc::new(Readers {
                footers: Arc::clone(&self.footers),
                met: self.snapshot.met().clone(),
            }))
            .with_pushdown_filters(true)
            .with_enable_page_index(true);
        let mut groups = vec![Vec::new(); partitions.min(files.len()).max(1)];
        let count = groups.len();
        for (index, file) in files.iter().enumerate() {
            groups[index % count].push(self.partitioned(file, &schema));
        }
        let config = FileScanConfigBuilder::new(self.files_url.clone(), Arc::new(source))
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn partitioned(&self, file: &Arc<LiveFile>, schema: &SchemaRef) -> PartitionedFile {
        let partitioned = PartitionedFile::new(file.entry.name.clone(), file.entry.bytes)
            .with_statistics(Arc::new(statistics(file, schema)))
            .with_extension(Arc::clone(file));
        if self.label_values.is_empty() {
            return partitioned;
        }
        // A footer that can't be read is met again, and told, where the file is.
        let plan = footer(file, &self.footers)
            .ok()
            .and_then(|footer| access_plan(&footer, &self.label_values));
        match plan {
            Some(plan) => partitioned.with_extension(plan),
            None => partitioned,
        }
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters choose files and rows here, and are applied again above: rows in memory are not filtered.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = state.config().target_partitions();
        let recent = self.recent(partitions, projection)?;
        let files = self.files(state, filters)?;
        if files.is_empty() {
            return Ok(recent);
        }
        // A limit counts rows that satisfy the filters; only without any may a scan stop by itself.
        let limit = limit.filter(|_| filters.is_empty());
        let stored = self.file_scan(&files, partitions, projection, limit)?;
        UnionExec::try_new(vec![recent, stored])
    }
}

/// What the manifest says, in the engine's words: with it a search for the newest records skips whole files.
fn statistics(file: &LiveFile, schema: &SchemaRef) -> Statistics {
    let rows = usize::try_from(file.entry.rows).unwrap_or(usize::MAX);
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = Precision::Exact(rows);
    let mut set = |name: &str, (min, max): (i64, i64)| {
        if let Ok(index) = schema.index_of(name) {
            let bound =
                |ns| Precision::Exact(ScalarValue::TimestampNanosecond(Some(ns), Some(TIMEZONE.into())));
            statistics.column_statistics[index] = ColumnStatistics {
                min_value: bound(min),
                max_value: bound(max),
                null_count: Precision::Exact(0),
                ..ColumnStatistics::new_unknown()
            };
        }
    };
    set(column::TIME, file.entry.time);
    set(column::RECEIVED_TIME, file.entry.received);
    statistics
}

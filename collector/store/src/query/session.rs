//! A DataFusion session that knows the store's tables and nothing else: no file system, no catalog, no options to set.

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use object_store::memory::InMemory;
use parking_lot::RwLock;

use super::live_table::{self, LiveTable};
use super::reader::Footers;
use super::table::SnapshotTable;
use super::yielding::Yielding;
use crate::options::StoreOptions;
use crate::schema::Table;
use crate::snapshot::Snapshot;

const CATALOG: &str = "edgelogger";
const SCHEMA: &str = "public";
/// Rows that operators hand on at a time.
const BATCH_ROWS: usize = 8192;
/// Largest consumers that an error about memory names.
const CONSUMERS_NAMED: usize = 3;

/// Functions that make much out of little (`repeat('x', 2000000000)`): their memory is not counted by the engine. What
/// others make is bounded in `weight.rs`. `levenshtein` takes hours for two long lines, and can't be stopped meanwhile.
const FUNCTIONS_REMOVED: [&str; 13] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "space",
    "arrow_cast",
    "arrow_try_cast",
    "levenshtein",
];

/// What every session begins with.
pub struct Template {
    state: SessionState,
    files_url: ObjectStoreUrl,
    footers: Arc<Footers>,
    live: RwLock<Vec<Arc<dyn LiveTable>>>,
}

impl Template {
    pub fn new(options: &StoreOptions) -> Result<Self> {
        let limit = usize::try_from(options.query_memory_bytes).unwrap_or(usize::MAX);
        let named = std::num::NonZeroUsize::new(CONSUMERS_NAMED).unwrap_or(std::num::NonZeroUsize::MIN);
        let pool = TrackConsumersPool::new(GreedyMemoryPool::new(limit), named);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        // The engine wants an object store to name; it holds nothing, files are read by `reader.rs`.
        let files_url = ObjectStoreUrl::parse("edgelogger://store")?;
        runtime.register_object_store(files_url.as_ref(), Arc::new(InMemory::new()));
        runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
        let mut state = SessionStateBuilder::new_with_default_features()
            .with_config(config(options))
            .with_runtime_env(runtime)
            .with_physical_optimizer_rule(Arc::new(Yielding))
            .build();
        restrict(&mut state)?;
        Ok(Self {
            state,
            files_url,
            footers: Arc::default(),
            live: RwLock::default(),
        })
    }

    /// Adds a table that is not stored here.
    pub fn add(&self, table: Arc<dyn LiveTable>) {
        let mut live = self.live.write();
        live.retain(|known| known.name() != table.name());
        live.push(table);
    }

    /// The tables that are not stored here.
    pub fn live(&self) -> Vec<Arc<dyn LiveTable>> {
        self.live.read().clone()
    }

    /// A session in which `logs` and `metrics` are this snapshot.
    pub fn session(&self, snapshot: &Snapshot) -> Result<SessionState> {
        let schema = MemorySchemaProvider::new();
        for table in Table::ALL {
            schema.register_table(table.name().to_owned(), Arc::new(self.table(table, snapshot)))?;
        }
        for table in self.live.read().iter() {
            schema.register_table(table.name().to_owned(), Arc::new(live_table::provider(table)?))?;
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(schema))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = self.state.clone();
        state.register_catalog_list(Arc::new(catalogs));
        // What `now()` says.
        state.mark_start_execution();
        Ok(state)
    }

    pub fn table(&self, table: Table, snapshot: &Snapshot) -> SnapshotTable {
        SnapshotTable::new(
            table,
            snapshot.clone(),
            Arc::clone(&self.footers),
            self.files_url.clone(),
        )
    }
}

fn config(options: &StoreOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(options.query_threads.max(1));
    let execution = &mut config.options_mut().execution;
    execution.parquet.pushdown_filters = true;
    // A recursion has no end that could be known before.
    execution.enable_recursive_ctes = false;
    config
}

fn restrict(state: &mut SessionState) -> Result<()> {
    use datafusion::execution::FunctionRegistry;
    for name in FUNCTIONS_REMOVED {
        state.deregister_udf(name)?;
        state.deregister_udtf(name)?;
    }
    Ok(())
}

//! Which files a query need not open, by what the manifest says of them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::Column;
use datafusion::common::ScalarValue;
use datafusion::common::pruning::PruningStatistics;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::manifest::FileEntry;
use crate::schema::{TIMEZONE, column};

/// Leaves the files in which a row may satisfy the predicate.
pub fn prune<T>(
    files: &mut Vec<T>,
    entry: impl Fn(&T) -> &FileEntry,
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) {
    // A predicate that says nothing about files, or that the engine can't use, keeps them all.
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    let Some(pruning) = builder.build(Arc::clone(predicate)) else {
        return;
    };
    let entries: Vec<&FileEntry> = files.iter().map(entry).collect();
    let keep = pruning.prune(&Statistics(&entries));
    if let Ok(keep) = keep {
        let mut keep = keep.into_iter();
        files.retain(|_| keep.next().unwrap_or(true));
    }
}

struct Statistics<'a>(&'a [&'a FileEntry]);

impl Statistics<'_> {
    fn times(&self, get: impl Fn(&FileEntry) -> i64) -> ArrayRef {
        let values = self.0.iter().map(|entry| get(entry));
        Arc::new(TimestampNanosecondArray::from_iter_values(values).with_timezone(TIMEZONE))
    }

    fn texts<'a>(&'a self, get: impl Fn(&'a FileEntry) -> &'a str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            self.0.iter().map(|entry| get(entry)),
        ))
    }
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            column::TIME => Some(self.times(|entry| entry.time.0)),
            column::RECEIVED_TIME => Some(self.times(|entry| entry.received.0)),
            column::MACHINE_ID => Some(self.texts(|entry| &entry.machine.0)),
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            column::TIME => Some(self.times(|entry| entry.time.1)),
            column::RECEIVED_TIME => Some(self.times(|entry| entry.received.1)),
            column::MACHINE_ID => Some(self.texts(|entry| &entry.machine.1)),
            _ => None,
        }
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(
            self.0.iter().map(|entry| entry.rows),
        )))
    }

    /// Where a file names its machines one by one, none of those asked for may be among them.
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name() != column::MACHINE_ID {
            return None;
        }
        let asked: Option<Vec<&str>> = values.iter().map(|value| value.try_as_str().flatten()).collect();
        let asked = asked?;
        let contained = self.0.iter().map(|entry| {
            let machines = &entry.machines;
            let any = asked
                .iter()
                .any(|asked| machines.iter().any(|machine| machine == asked));
            (!machines.is_empty() && !any).then_some(false)
        });
        Some(contained.collect())
    }
}

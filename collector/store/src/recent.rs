//! Rows that are not in a file yet.
//!
//! A generation takes rows in until it is frozen and written; then the next one is the active one. Blocks of idle
//! machines hold one record each, and a batch costs kilobytes whatever is in it, so batches are merged: [`MERGE`] of
//! a tier become one of the next. A row is copied at most twice.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::gather::Gather;
use crate::rows::{BATCH_FIXED_BYTES, Rows};
use crate::schema::{Table, column};

/// Batches of a tier that become one.
const MERGE: usize = 32;
/// Rows from which on a batch is in the tier of this index plus one: the last tier is never merged.
const TIER_ROWS: [usize; 2] = [32, 1024];
const TIERS: usize = TIER_ROWS.len() + 1;

/// The rows of one table.
#[derive(Debug, Default)]
struct Tiers([Vec<Arc<Rows>>; TIERS]);

/// The rows of one generation.
#[derive(Debug, Default)]
pub struct Generation {
    tables: [Tiers; 2],
    /// Rows of both tables.
    pub rows: u64,
    /// What they take in memory.
    pub bytes: u64,
}

impl Generation {
    /// Takes in one batch.
    pub fn push(&mut self, table: Table, rows: Rows) {
        self.rows += rows.batch.num_rows() as u64;
        self.bytes += rows.bytes;
        let first = TIER_ROWS
            .iter()
            .filter(|least| rows.batch.num_rows() >= **least)
            .count();
        let tiers = &mut self.tables[index(table)].0;
        tiers[first].push(Arc::new(rows));
        for tier in first..TIERS - 1 {
            if tiers[tier].len() < MERGE {
                break;
            }
            // Merging saves memory, nothing more: where it failed the parts would do as well.
            let Ok(merged) = merge(table, &tiers[tier]) else {
                break;
            };
            let before: u64 = tiers[tier].iter().map(|rows| rows.bytes).sum();
            self.bytes = (self.bytes + merged.bytes).saturating_sub(before);
            tiers[tier].clear();
            tiers[tier + 1].push(Arc::new(merged));
        }
    }

    /// All batches of a table.
    pub fn batches(&self, table: Table) -> impl Iterator<Item = &Arc<Rows>> {
        self.tables[index(table)].0.iter().flatten()
    }
}

const fn index(table: Table) -> usize {
    match table {
        Table::Logs => 0,
        Table::Metrics => 1,
    }
}

/// One batch of several small ones. Bodies are copied, so that the blocks they came in can go.
fn merge(table: Table, parts: &[Arc<Rows>]) -> Result<Rows, ArrowError> {
    let gather = Gather::new(table.schema(), parts.iter().map(|rows| &rows.batch).collect());
    let batch = gather.gather(&gather.all())?;
    let text = parts
        .iter()
        .map(|rows| rows.bytes - BATCH_FIXED_BYTES)
        .sum::<u64>();
    Ok(Rows {
        batch: own_bodies(batch)?,
        bytes: BATCH_FIXED_BYTES + text,
    })
}

fn own_bodies(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let Ok(index) = batch.schema().index_of(column::BODY) else {
        return Ok(batch);
    };
    let (schema, mut columns, _) = batch.into_parts();
    columns[index] = Arc::new(columns[index].as_string_view().gc());
    RecordBatch::try_new(schema, columns)
}

//! What a deletion would take, without taking it.

use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;

use super::rewrite::open;
use super::scope::owners;
use super::{DeletePart, DeletePlan, DeleteScope, PLAN_PARTS_MAX};
use crate::error::StoreError;
use crate::schema::{Table, column};
use crate::snapshot::Snapshot;

const COLUMNS: [&str; 3] = [column::MACHINE_ID, column::SOURCE, column::TIME];
/// Machines and sources that are told apart while rows are counted; rows of further ones count together.
const COUNTED_MAX: usize = 100_000;

#[derive(Default)]
struct Count {
    parts: HashMap<(String, String), u64>,
    rows: u64,
    of_untold: u64,
}

/// Counts what would go. None when `go_on`, asked for every batch, says no.
///
/// # Errors
/// A file can't be read.
pub fn plan(
    snapshot: &Snapshot,
    scope: &DeleteScope,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<DeletePlan>, StoreError> {
    let (mut plan, mut count) = (DeletePlan::default(), Count::default());
    for table in Table::ALL {
        for recent in snapshot.recent(table) {
            count.add(scope, &recent.batch);
        }
        for file in snapshot.files(table).filter(|file| scope.may_match(&file.entry)) {
            snapshot.met().opens(file);
            let before = count.rows;
            for batch in open(file, &COLUMNS)? {
                if !go_on() {
                    return Ok(None);
                }
                count.add(scope, &batch?);
            }
            let found = count.rows - before;
            plan.files += u64::from(found > 0);
            plan.bytes += share(file.entry.bytes, found, file.entry.rows);
        }
    }
    let aside = Table::ALL.into_iter().flat_map(|table| snapshot.aside(table));
    let unreadable = aside.filter(|file| scope.may_match(&file.entry));
    plan.unreadable = unreadable.map(|file| file.entry.name.clone()).collect();
    plan.rows = count.rows;
    count.tell(&mut plan);
    Ok(Some(plan))
}

/// So much of `whole` as `part` is of `of`.
pub fn share(whole: u64, part: u64, of: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(of.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

impl Count {
    fn add(&mut self, scope: &DeleteScope, batch: &RecordBatch) {
        let words = |name: &str| batch[name].as_dictionary::<Int32Type>();
        let (machines, sources) = (words(column::MACHINE_ID), words(column::SOURCE));
        // By the numbers of the words first: there are few in a batch.
        let mut found: HashMap<(usize, usize), u64> = HashMap::new();
        for (row, owner) in owners(&[scope], batch).into_iter().enumerate() {
            if let (Some(_), Some(machine), Some(source)) = (owner, machines.key(row), sources.key(row)) {
                *found.entry((machine, source)).or_default() += 1;
            }
        }
        let (machines, sources) = (
            machines.values().as_string::<i32>(),
            sources.values().as_string::<i32>(),
        );
        for ((machine, source), rows) in found {
            self.rows += rows;
            let key = (
                machines.value(machine).to_owned(),
                sources.value(source).to_owned(),
            );
            let has_room = self.parts.len() < COUNTED_MAX;
            match self.parts.get_mut(&key) {
                Some(known) => *known += rows,
                None if has_room => {
                    self.parts.insert(key, rows);
                }
                None => self.of_untold += 1,
            }
        }
    }

    fn tell(self, plan: &mut DeletePlan) {
        let part = |((machine, source), rows)| DeletePart {
            machine,
            source,
            rows,
        };
        plan.parts = self.parts.into_iter().map(part).collect();
        plan.parts.sort_unstable_by(|left, right| {
            let names = (&left.machine, &left.source).cmp(&(&right.machine, &right.source));
            right.rows.cmp(&left.rows).then(names)
        });
        let told = plan.parts.len().min(PLAN_PARTS_MAX);
        plan.parts_untold = self.of_untold + (plan.parts.len() - told) as u64;
        plan.parts.truncate(told);
    }
}

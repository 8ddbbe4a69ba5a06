//! The newest samples of a store that was opened: its newest files are read once.

use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::{SessionContext, col};
use futures_util::StreamExt;

use super::Question;
use super::engine::RunError;
use super::filter::time;
use super::range::Scan;
use super::session::Template;
use crate::latest::{COLUMNS, Latest};
use crate::schema::{Table, column};
use crate::snapshot::Snapshot;

/// Longest reading.
const TIME_MAX: Duration = Duration::from_secs(300);
/// Rows that are read, about: whole files, the newest first, until there are so many.
const ROWS_MAX: u64 = 2_000_000;
/// Of these files only what is not older than this before the newest: a merged file holds a day.
const BACK_NS: i64 = 6 * 3600 * 1_000_000_000;

/// Asks for the newest samples of all series, to be noted.
#[derive(Debug, Clone)]
pub struct Fill(pub Arc<Latest>);

impl Question for Fill {
    type Answer = ();

    fn time_max(&self) -> Duration {
        TIME_MAX
    }

    async fn run(self, template: &Template, snapshot: &Snapshot) -> Result<(), RunError> {
        fill(template, snapshot, &self.0).await
    }
}

/// Notes the newest samples of the files of a snapshot.
async fn fill(template: &Template, snapshot: &Snapshot, latest: &Latest) -> Result<(), RunError> {
    let snapshot = snapshot.newest_files(Table::Metrics, ROWS_MAX);
    let newest = snapshot
        .files(Table::Metrics)
        .map(|file| file.entry.received.1)
        .max();
    if let Some(newest) = newest {
        let state = template.session(&snapshot).map_err(RunError::Planning)?;
        let context = SessionContext::new_with_state(state);
        let since = newest.saturating_sub(BACK_NS);
        let scan = Scan {
            conditions: vec![col(column::RECEIVED_TIME).gt_eq(time(since))],
            columns: &COLUMNS,
            label_values: Vec::new(),
        };
        let mut rows = scan.start(&context, template, &snapshot).await?;
        while let Some(batch) = rows.next().await {
            latest.note(&batch.map_err(RunError::Running)?);
        }
    }
    Ok(())
}

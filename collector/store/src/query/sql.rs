//! SQL text to rows, within limits.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use futures_util::StreamExt;

use super::engine::RunError;
use super::guard;
use super::session::Template;
use super::{Question, SqlLimits, SqlParameters, SqlQuery, SqlResult, SqlValue, weight};
use crate::snapshot::Snapshot;

impl Question for SqlQuery {
    type Answer = SqlResult;

    fn time_max(&self) -> Duration {
        self.limits.time_max
    }

    async fn run(self, template: &Template, snapshot: &Snapshot) -> Result<SqlResult, RunError> {
        statement(template, snapshot, self).await
    }
}

/// Runs one statement over a snapshot.
async fn statement(template: &Template, snapshot: &Snapshot, query: SqlQuery) -> Result<SqlResult, RunError> {
    let limits = query.limits;
    let statement = guard::parse(&query.text)?;
    let state = template.session(snapshot).map_err(RunError::Planning)?;
    let plan = state
        .statement_to_plan(statement)
        .await
        .map_err(RunError::Planning)?;
    // The statement was checked as it was written; this checks what became of it.
    let read_only = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(RunError::Planning)?;
    let plan = bind(plan, query.parameters).map_err(RunError::Planning)?;
    weight::check(&plan).map_err(RunError::Running)?;
    let explains = matches!(
        plan,
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_)
    );
    let mut frame = DataFrame::new(state, plan);
    if !explains {
        // One more than allowed, to know whether there is more.
        frame = frame
            .limit(0, Some(limits.rows_max.saturating_add(1)))
            .map_err(RunError::Planning)?;
    }
    let stream = frame.execute_stream().await.map_err(RunError::Running)?;
    collect(stream, limits).await
}

fn bind(plan: LogicalPlan, parameters: SqlParameters) -> datafusion::error::Result<LogicalPlan> {
    match parameters {
        SqlParameters::List(values) if values.is_empty() => Ok(plan),
        SqlParameters::List(values) => {
            plan.with_param_values(values.into_iter().map(scalar).collect::<Vec<ScalarValue>>())
        }
        SqlParameters::Named(values) => {
            let values = values.into_iter().map(|(name, value)| (name, scalar(value)));
            plan.with_param_values(values.collect::<Vec<(String, ScalarValue)>>())
        }
    }
}

fn scalar(value: SqlValue) -> ScalarValue {
    match value {
        SqlValue::Null => ScalarValue::Null,
        SqlValue::Bool(value) => ScalarValue::Boolean(Some(value)),
        SqlValue::Int(value) => ScalarValue::Int64(Some(value)),
        SqlValue::Float(value) => ScalarValue::Float64(Some(value)),
        SqlValue::Text(value) => ScalarValue::Utf8(Some(value)),
    }
}

async fn collect(mut stream: SendableRecordBatchStream, limits: SqlLimits) -> Result<SqlResult, RunError> {
    let schema = stream.schema();
    let mut batches: Vec<RecordBatch> = Vec::new();
    let (mut rows_left, mut bytes_left) = (limits.rows_max, limits.bytes_max);
    let mut truncated = false;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(RunError::Running)?;
        if batch.num_rows() == 0 {
            continue;
        }
        let fitting = rows_fitting(&batch, bytes_left).min(rows_left);
        truncated = fitting < batch.num_rows();
        if fitting > 0 {
            rows_left -= fitting;
            bytes_left = bytes_left.saturating_sub(bytes_of(&batch, fitting));
            batches.push(batch.slice(0, fitting));
        }
        if truncated {
            break;
        }
    }
    Ok(SqlResult {
        schema,
        batches,
        truncated,
    })
}

/// Bytes of the first rows of a batch, taking rows to be alike.
fn bytes_of(batch: &RecordBatch, rows: usize) -> usize {
    let bytes: usize = batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
        .sum();
    (bytes / batch.num_rows().max(1)).saturating_mul(rows)
}

fn rows_fitting(batch: &RecordBatch, bytes: usize) -> usize {
    let rows = batch.num_rows();
    bytes
        .checked_div(bytes_of(batch, 1))
        .map_or(rows, |fitting| fitting.min(rows))
}

//! Pages of log records. Conditions are built as expressions, so text of a user is never SQL.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::functions::string::expr_fn::contains;
use datafusion::logical_expr::utils::conjunction;
use datafusion::prelude::{Expr, SessionContext, col, lit};

use super::cursor::Cursor;
use super::engine::RunError;
use super::session::Template;
use super::{LogPage, LogQuery, Order, PAGE_ROWS_MAX};
use crate::error::QueryError;
use crate::manifest::FileEntry;
use crate::schema::{TIMEZONE, Table, column};
use crate::snapshot::Snapshot;

/// Length of a text to search for, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// Finds one page.
pub async fn run(template: &Template, snapshot: &Snapshot, query: &LogQuery) -> Result<LogPage, RunError> {
    let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
    let conditions = conditions(query)?;
    let rows = find(template, snapshot, conditions, query.order, limit + 1)
        .await
        .map_err(RunError::Running)?;
    let has_more = rows.num_rows() > limit;
    let rows = if has_more { rows.slice(0, limit) } else { rows };
    let next_cursor = if has_more {
        last_row(&rows, query.order).map(|cursor| cursor.encode())
    } else {
        None
    };
    Ok(LogPage {
        rows,
        next_cursor,
        incomplete: incomplete(snapshot, query),
    })
}

/// Missing files that may hold what is asked for, as far as times tell.
fn incomplete(snapshot: &Snapshot, query: &LogQuery) -> Vec<String> {
    let may_hold = |entry: &&FileEntry| {
        entry.table == Table::Logs
            && query.from.is_none_or(|from| entry.time.1 >= from)
            && query.to.is_none_or(|to| entry.time.0 < to)
    };
    let missing = snapshot.missing().iter().filter(may_hold);
    missing.map(|entry| entry.name.clone()).collect()
}

async fn find(
    template: &Template,
    snapshot: &Snapshot,
    conditions: Vec<Expr>,
    order: Order,
    limit: usize,
) -> Result<RecordBatch, DataFusionError> {
    let context = SessionContext::new_with_state(template.session(snapshot)?);
    let mut frame = context.read_table(Arc::new(template.table(Table::Logs, snapshot)))?;
    if let Some(condition) = conjunction(conditions) {
        frame = frame.filter(condition)?;
    }
    let ascending = order == Order::OldestFirst;
    let keys = [column::TIME, column::STREAM_ID, column::POSITION];
    let frame = frame
        .sort(
            keys.into_iter()
                .map(|name| col(name).sort(ascending, false))
                .collect(),
        )?
        .limit(0, Some(limit))?;
    let batches = frame.collect().await?;
    Ok(concat_batches(&Table::Logs.schema(), &batches)?)
}

fn last_row(rows: &RecordBatch, order: Order) -> Option<Cursor> {
    let last = rows.num_rows().checked_sub(1)?;
    let stream = rows[column::STREAM_ID].as_any_dictionary_opt()?;
    let key = stream.normalized_keys()[last];
    Some(Cursor {
        order,
        time: rows[column::TIME]
            .as_primitive::<TimestampNanosecondType>()
            .value(last),
        stream_id: stream.values().as_string::<i32>().value(key).to_owned(),
        position: rows[column::POSITION].as_primitive::<Int64Type>().value(last),
    })
}

fn conditions(query: &LogQuery) -> Result<Vec<Expr>, QueryError> {
    let mut all = Vec::new();
    all.extend(query.from.map(|from| col(column::TIME).gt_eq(time(from))));
    all.extend(query.to.map(|to| col(column::TIME).lt(time(to))));
    if let Some(machine) = &query.machine {
        all.push(matching(column::MACHINE_ID, machine)?);
    }
    if let Some(source) = &query.source {
        all.push(matching(column::SOURCE, source)?);
    }
    all.extend(
        query
            .severity_min
            .map(|least| col(column::SEVERITY).gt_eq(lit(least))),
    );
    if let Some(text) = query.substring.as_deref().filter(|text| !text.is_empty()) {
        check_len("the text to search for", text)?;
        all.push(if query.case_insensitive {
            col(column::BODY).ilike(lit(format!("%{}%", escaped(text))))
        } else {
            contains(col(column::BODY), lit(text))
        });
    }
    if let Some(cursor) = &query.cursor {
        all.extend(behind(&Cursor::decode(cursor, query.order)?));
    }
    Ok(all)
}

pub(super) fn time(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(ns), Some(TIMEZONE.into())))
}

/// Exactly this, or a pattern of `*` and `?`.
pub(super) fn matching(name: &str, pattern: &str) -> Result<Expr, QueryError> {
    check_len("a pattern", pattern)?;
    if !pattern.contains(['*', '?']) {
        return Ok(col(name).eq(lit(pattern)));
    }
    let like = escaped(pattern).replace('*', "%").replace('?', "_");
    Ok(col(name).like(lit(like)))
}

fn check_len(what: &str, text: &str) -> Result<(), QueryError> {
    if text.len() <= PATTERN_BYTES_MAX {
        return Ok(());
    }
    Err(QueryError::Invalid(format!(
        "{what} has {} bytes, allowed are {PATTERN_BYTES_MAX}",
        text.len()
    )))
}

/// Text in which LIKE finds nothing special.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// What lies behind a cursor. The first condition follows from the second; it is there because files are pruned by it.
fn behind(cursor: &Cursor) -> [Expr; 2] {
    let (at, stream, position) = (
        time(cursor.time),
        lit(cursor.stream_id.clone()),
        lit(cursor.position),
    );
    let beyond = |name: &str, value: &Expr| match cursor.order {
        Order::NewestFirst => col(name).lt(value.clone()),
        Order::OldestFirst => col(name).gt(value.clone()),
    };
    let not_before = match cursor.order {
        Order::NewestFirst => col(column::TIME).lt_eq(at.clone()),
        Order::OldestFirst => col(column::TIME).gt_eq(at.clone()),
    };
    let in_stream = col(column::STREAM_ID)
        .eq(stream.clone())
        .and(beyond(column::POSITION, &position));
    let at_time = col(column::TIME)
        .eq(at.clone())
        .and(beyond(column::STREAM_ID, &stream).or(in_stream));
    [not_before, beyond(column::TIME, &at).or(at_time)]
}

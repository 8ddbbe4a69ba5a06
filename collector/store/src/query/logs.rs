//! Pages of log records, what stood around one of them, and how many there were.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType, UInt8Type};
use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::utils::conjunction;
use datafusion::prelude::{Expr, SessionContext, cast, col, lit};

use super::around;
use super::cursor::Cursor;
use super::engine::RunError;
use super::filter::{conditions, time};
use super::session::Template;
use super::windows::{Window, windows};
use super::{
    ContextQuery, LogContext, LogPage, LogQuery, Order, PAGE_ROWS_MAX, Question, VOLUME_BUCKETS_MAX,
    VolumeCell, VolumeQuery,
};
use crate::columns::Words;
use crate::error::QueryError;
use crate::schema::{Table, column};
use crate::snapshot::Snapshot;

/// The order of records, and what a cursor is made of.
const KEYS: [&str; 3] = [column::TIME, column::STREAM_ID, column::POSITION];

impl Question for LogQuery {
    type Answer = LogPage;

    fn time_max(&self) -> Duration {
        self.time_max
    }

    async fn run(self, template: &Template, snapshot: &Snapshot) -> Result<LogPage, RunError> {
        page(template, snapshot, &self).await
    }
}

impl Question for ContextQuery {
    type Answer = Option<LogContext>;

    fn time_max(&self) -> Duration {
        self.time_max
    }

    async fn run(self, template: &Template, snapshot: &Snapshot) -> Result<Option<LogContext>, RunError> {
        context(template, snapshot, &self).await
    }
}

impl Question for VolumeQuery {
    type Answer = Vec<VolumeCell>;

    fn time_max(&self) -> Duration {
        self.filter.time_max
    }

    async fn run(self, template: &Template, snapshot: &Snapshot) -> Result<Vec<VolumeCell>, RunError> {
        volume(template, snapshot, &self).await
    }
}

/// Finds one page.
async fn page(template: &Template, snapshot: &Snapshot, query: &LogQuery) -> Result<LogPage, RunError> {
    let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
    let mut conditions = conditions(query)?;
    let cursor = query.cursor.as_deref();
    let cursor = cursor
        .map(|cursor| Cursor::decode(cursor, query.order))
        .transpose()?;
    conditions.extend(cursor.iter().flat_map(behind));
    let search = Search {
        template,
        snapshot,
        // A condition looks at columns that nobody wants to see.
        columns: query.columns.as_deref().filter(|_| query.around.is_none()),
    };
    let ascending = query.order == Order::OldestFirst;
    let keys = KEYS.map(|key| (key, ascending));
    let (mut parts, mut wanted) = (Vec::new(), limit + 1);
    for window in windows(snapshot, query, cursor.map(|cursor| cursor.time), wanted) {
        let bounds = conditions.iter().cloned().chain(within(window));
        let part = search.find(bounds.collect(), keys, wanted).await?;
        wanted -= part.num_rows().min(wanted);
        parts.push(part);
        if wanted == 0 {
            break;
        }
    }
    let rows = match &parts[..] {
        [all] => all.clone(),
        [first, ..] => {
            concat_batches(&first.schema(), &parts).map_err(|error| RunError::Running(error.into()))?
        }
        [] => RecordBatch::new_empty(Table::Logs.schema()),
    };
    let has_more = rows.num_rows() > limit;
    let rows = if has_more { rows.slice(0, limit) } else { rows };
    let next_cursor = if has_more {
        last_row(&rows, query.order).map(|cursor| cursor.encode())
    } else {
        None
    };
    let around = match query.around {
        Some(around) => Some(around::find(&search, query, around, &rows).await?),
        None => None,
    };
    Ok(LogPage {
        rows,
        around,
        next_cursor,
    })
}

/// Finds a record and its neighbours.
async fn context(
    template: &Template,
    snapshot: &Snapshot,
    query: &ContextQuery,
) -> Result<Option<LogContext>, RunError> {
    let search = Search {
        template,
        snapshot,
        columns: query.columns.as_deref(),
    };
    let in_stream = || col(column::STREAM_ID).eq(lit(query.stream_id.clone()));
    let at = |ascending| [(column::POSITION, ascending)];
    let here = in_stream().and(col(column::POSITION).eq(lit(query.position)));
    let record = search.find(vec![here], at(true), 1).await?;
    if record.num_rows() == 0 {
        return Ok(None);
    }
    // A stream belongs to one machine, and files say whose records they hold.
    let machine = text_at(&record, column::MACHINE_ID, 0).unwrap_or_default();
    let of_machine = || col(column::MACHINE_ID).eq(lit(machine.clone()));
    let below = vec![
        of_machine(),
        in_stream(),
        col(column::POSITION).lt(lit(query.position)),
    ];
    let above = vec![
        of_machine(),
        in_stream(),
        col(column::POSITION).gt(lit(query.position)),
    ];
    let mut sides = Vec::new();
    for (conditions, ascending, limit) in [(below, false, query.before), (above, true, query.after)] {
        let limit = limit.min(PAGE_ROWS_MAX);
        sides.push(if limit == 0 {
            record.slice(0, 0)
        } else {
            search.find(conditions, at(ascending), limit).await?
        });
    }
    let after = sides.pop().unwrap_or_else(|| record.slice(0, 0));
    let before = reversed(&sides.pop().unwrap_or_else(|| record.slice(0, 0))).map_err(RunError::Running)?;
    Ok(Some(LogContext {
        before,
        record,
        after,
    }))
}

fn reversed(rows: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let count = u32::try_from(rows.num_rows()).unwrap_or(u32::MAX);
    let order = arrow::array::UInt32Array::from_iter_values((0..count).rev());
    Ok(arrow::compute::take_record_batch(rows, &order)?)
}

/// Counts by bucket and severity.
async fn volume(
    template: &Template,
    snapshot: &Snapshot,
    query: &VolumeQuery,
) -> Result<Vec<VolumeCell>, RunError> {
    let filter = &query.filter;
    let (Some(from), Some(to)) = (filter.from, filter.to) else {
        return Err(QueryError::Invalid("a volume needs both ends of its range".to_owned()).into());
    };
    let width = query.bucket_ns.max(1);
    let origin = from.div_euclid(width).saturating_mul(width);
    let buckets = (i128::from(to) - i128::from(origin)) / i128::from(width);
    if buckets > i128::try_from(VOLUME_BUCKETS_MAX).unwrap_or(i128::MAX) {
        let reason = format!("{buckets} buckets, allowed are {VOLUME_BUCKETS_MAX}");
        return Err(QueryError::Invalid(reason).into());
    }
    let search = Search {
        template,
        snapshot,
        columns: None,
    };
    // Division goes towards zero, and there are times before 1970.
    let at = || cast(col(column::TIME), DataType::Int64);
    let offset = (at() % lit(width) + lit(width)) % lit(width);
    let bucket = (at() - offset) / lit(width);
    let frame = search
        .frame(conditions(filter)?)
        .and_then(|frame| {
            frame.aggregate(
                vec![bucket.alias("bucket"), col(column::SEVERITY)],
                vec![count(lit(1)).alias("count")],
            )
        })
        .map_err(RunError::Running)?;
    let batches = frame.collect().await.map_err(RunError::Running)?;
    let mut cells = Vec::new();
    for batch in &batches {
        let bucket = batch.column(0).as_primitive::<Int64Type>();
        let severity = batch.column(1).as_primitive::<UInt8Type>();
        let count = batch.column(2).as_primitive::<Int64Type>();
        cells.extend((0..batch.num_rows()).map(|row| VolumeCell {
            from: bucket.value(row).saturating_mul(width),
            severity: severity.is_valid(row).then(|| severity.value(row)),
            count: count.value(row).cast_unsigned(),
        }));
    }
    cells.sort_unstable();
    Ok(cells)
}

/// Where it is looked, and what is wanted of each record.
pub struct Search<'a> {
    pub template: &'a Template,
    pub snapshot: &'a Snapshot,
    pub columns: Option<&'a [&'static str]>,
}

impl Search<'_> {
    /// The records that satisfy all conditions.
    pub fn frame(&self, conditions: Vec<Expr>) -> Result<DataFrame, DataFusionError> {
        let context = SessionContext::new_with_state(self.template.session(self.snapshot)?);
        let frame = context.read_table(Arc::new(self.template.table(Table::Logs, self.snapshot)))?;
        match conjunction(conditions) {
            Some(condition) => frame.filter(condition),
            None => Ok(frame),
        }
    }

    async fn find<const N: usize>(
        &self,
        conditions: Vec<Expr>,
        order: [(&'static str, bool); N],
        limit: usize,
    ) -> Result<RecordBatch, RunError> {
        let found = async {
            let order = order.map(|(key, ascending)| col(key).sort(ascending, false));
            let frame = self
                .frame(conditions)?
                .sort(order.to_vec())?
                .limit(0, Some(limit))?;
            let schema = Table::Logs.schema();
            let Some(columns) = self.columns else {
                return Ok(concat_batches(&schema, &frame.collect().await?)?);
            };
            // The keys, whatever is wanted: pages and neighbours are found by them.
            let is_wanted =
                |name: &str| KEYS.contains(&name) || name == column::MACHINE_ID || columns.contains(&name);
            let names: Vec<&str> = schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .filter(|name| is_wanted(name))
                .collect();
            let indices = names.iter().map(|name| schema.index_of(name));
            let chosen = schema.project(&indices.collect::<Result<Vec<_>, _>>()?)?;
            let batches = frame.select_columns(&names)?.collect().await?;
            Ok(concat_batches(&Arc::new(chosen), &batches)?)
        };
        found.await.map_err(RunError::Running)
    }
}

fn text_at(rows: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let words = Words::of(rows, name)?;
    (row < rows.num_rows()).then(|| words.get(row).to_owned())
}

fn last_row(rows: &RecordBatch, order: Order) -> Option<Cursor> {
    let last = rows.num_rows().checked_sub(1)?;
    Some(Cursor {
        order,
        time: rows[column::TIME]
            .as_primitive::<TimestampNanosecondType>()
            .value(last),
        stream_id: text_at(rows, column::STREAM_ID, last)?,
        position: rows[column::POSITION].as_primitive::<Int64Type>().value(last),
    })
}

fn within((from, to): Window) -> impl Iterator<Item = Expr> {
    let from = from.map(|from| col(column::TIME).gt_eq(time(from)));
    let to = to.map(|to| col(column::TIME).lt(time(to)));
    from.into_iter().chain(to)
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

//! `GET /api/v1/logs`: a page of records as JSON; as lines or CSV a stream of any length, which is asked of the store page
//! by page as its reader takes it, so that it needs no more memory than one page.

use std::io;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use edgelogger_store::query::{AROUND_COLUMNS, AROUND_ROWS_MAX, PAGE_ROWS_MAX};
use edgelogger_store::{Around, LogPage, LogQuery, Order};
use futures_util::stream;
use serde_json::{Value, json};

use super::cursor::{self, CURSOR};
use super::filter::{
    ATTR, FIELDS, FROM, I, LABEL, LogRow, MACHINE, Q, RE, SEVERITY, SOURCE, TO, column_of, filter,
};
use super::sql_failed;
use crate::api::described::{Components, Described, Member, object};
use crate::api::format::{FORMAT, Format, JSON_TYPE};
use crate::api::operation::{Answer, Operation, ROWS_PROBLEMS};
use crate::api::parameters::{Asked, Kind, Parameter};
use crate::api::problem::Problem;
use crate::api::{ApiContext, incomplete, rows};

/// Records where nothing is said.
const LIMIT_DEFAULT: u64 = 100;
/// Records of a stream of lines or CSV.
const STREAM_ROWS_MAX: u64 = 1_000_000;
/// Records before and behind each.
const NEIGHBOURS_MAX: u64 = 1_000;
/// Records that such a stream holds in memory.
const STREAM_PAGE_ROWS: usize = 5_000;

static LIMIT: Parameter = Parameter::new(
    "limit",
    "Records in the answer; as JSON up to 10,000",
    Kind::integer(1, STREAM_ROWS_MAX, Some(LIMIT_DEFAULT)),
);
static ORDER: Parameter = Parameter::new(
    "order",
    "By time: `desc` newest first, `asc` oldest first",
    Kind::choice(&["desc", "asc"], Some("desc")),
);
static BEFORE: Parameter = Parameter::new(
    "before",
    "With so many records of its stream before each that matches",
    NEIGHBOURS,
);
static AFTER: Parameter = Parameter::new("after", "And so many behind it", NEIGHBOURS);
const NEIGHBOURS: Kind = Kind::integer(0, NEIGHBOURS_MAX, None);
static PARAMETERS: &[&Parameter] = &[
    &FROM, &TO, &MACHINE, &SOURCE, &SEVERITY, &Q, &RE, &I, &ATTR, &LABEL, &FIELDS, &ORDER, &LIMIT, &BEFORE,
    &AFTER, &CURSOR, &FORMAT,
];

/// A page as it is sent.
struct LogAnswer;

impl Described for LogAnswer {
    fn schema(components: &mut Components) -> Value {
        components.named("LogAnswer", |components| {
            let member = |name, about: &str, schema| Member {
                name,
                about: about.to_owned(),
                is_optional: false,
                schema,
            };
            let cursor = Option::<String>::schema(components);
            let rows = json!({ "type": "array", "items": LogRow::schema(components) });
            let members = vec![
                member("rows", "The records.", rows),
                member(
                    "next_cursor",
                    "Where the next page begins; null when this was the last.",
                    cursor,
                ),
                incomplete::member(components),
            ];
            object("A page of records.", members)
        })
    }
}

/// `GET /api/v1/logs`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/logs", logs)
        .about(
            "logs",
            "Log records",
            "In the order of (time, stream, position), page by page. A sequence of pages repeats and skips nothing that \
             was there when it began. With `before` or `after` come the records around those that match, each once on \
             a page: `match` says whether it matches itself, and those with the same `group` follow one another in \
             their stream; `limit` and cursor count matches, and with those around them a page has up to 50,000 \
             records. As lines (NDJSON) or CSV up to 1,000,000 records in one answer; when something \
             goes wrong in the middle of such an answer, the connection is cut.",
        )
        .parameters(PARAMETERS)
        .answers([
            Answer::json::<LogAnswer>("The records."),
            Answer::lines("One record a line."),
            Answer::csv("A table with a line of names; maps are JSON."),
        ])
        .reads_store()
        .problems(ROWS_PROBLEMS)
}

async fn logs(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::choose(&asked, &headers)?;
    let limit = asked.count(&LIMIT);
    let mut query = LogQuery {
        time_max: context.query_timeout(),
        order: match asked.word(&ORDER) {
            Some("asc") => Order::OldestFirst,
            _ => Order::NewestFirst,
        },
        ..filter(&asked)?
    };
    if let Some(text) = asked.text(&CURSOR) {
        cursor::resume(&mut query, text)?;
    }
    query.around = around(&asked);
    let fields = asked.words(&FIELDS).map(<[_]>::to_vec);
    if format == Format::Json {
        return page(&context, query, limit, fields.as_deref()).await;
    }
    let page_rows = STREAM_PAGE_ROWS.min(matches_max(query.around));
    query.limit = limit.min(page_rows);
    // The first page before the head of the answer, so that what is wrong has its status.
    let first = context.store.logs(query.clone()).await?;
    let missing = incomplete::header(&first.incomplete);
    let pages = Pages {
        context,
        query,
        left: limit,
        page_rows,
        format,
        fields,
        is_first: true,
        page: Some(first.answer),
    };
    let body = Body::from_stream(stream::unfold(pages, Pages::next));
    Ok((missing, [(header::CONTENT_TYPE, format.media_type())], body).into_response())
}

/// Is it asked for what stands around records?
fn around(asked: &Asked) -> Option<Around> {
    let count = |parameter| asked.integer(parameter).map(|_| asked.count(parameter));
    let (before, after) = (count(&BEFORE), count(&AFTER));
    (before.is_some() || after.is_some()).then(|| Around {
        before: before.unwrap_or(0),
        after: after.unwrap_or(0),
    })
}

/// Matches on a page, together with what stands around them.
fn matches_max(around: Option<Around>) -> usize {
    around.map_or(PAGE_ROWS_MAX, |around| {
        (AROUND_ROWS_MAX / (around.before + around.after + 1)).clamp(1, PAGE_ROWS_MAX)
    })
}

async fn page(
    context: &ApiContext,
    query: LogQuery,
    limit: usize,
    fields: Option<&[&'static str]>,
) -> Result<Response, Problem> {
    if limit > PAGE_ROWS_MAX {
        return Err(Problem::unprocessable(format!(
            "`limit` is {limit}, as JSON allowed are {PAGE_ROWS_MAX}; follow `next_cursor`, or ask for format=ndjson"
        )));
    }
    let matches_max = matches_max(query.around);
    if limit > matches_max {
        return Err(Problem::unprocessable(format!(
            "`limit` is {limit}, allowed with so many records around each are {matches_max}; ask for those, and follow \
             `next_cursor`"
        )));
    }
    let query = LogQuery { limit, ..query };
    let page = context.store.logs(query.clone()).await?;
    let rows = chosen(page.around.as_ref().unwrap_or(&page.rows), fields).and_then(|rows| rows::array(&rows));
    let mut text = b"{\"rows\":".to_vec();
    text.extend(rows.map_err(sql_failed)?);
    text.extend(b",\"next_cursor\":");
    let next = page.next_cursor.as_ref();
    let next = next.map(|next| cursor::encode(&query, next));
    text.extend(Value::from(next).to_string().into_bytes());
    incomplete::write_member(&mut text, &page.incomplete);
    text.push(b'}');
    Ok((
        incomplete::header(&page.incomplete),
        [(header::CONTENT_TYPE, JSON_TYPE)],
        text,
    )
        .into_response())
}

/// The fields that were chosen, in their order and by their names; behind them what says how records belong together.
pub fn chosen(rows: &RecordBatch, fields: Option<&[&'static str]>) -> Result<RecordBatch, ArrowError> {
    let Some(fields) = fields else {
        return Ok(rows.clone());
    };
    let schema = rows.schema();
    let (mut named, mut columns) = (Vec::new(), Vec::new());
    for field in fields {
        let index = schema.index_of(column_of(field))?;
        named.push(schema.field(index).clone().with_name(*field));
        columns.push(Arc::clone(rows.column(index)));
    }
    for name in AROUND_COLUMNS {
        if let Ok(index) = schema.index_of(name) {
            named.push(schema.field(index).clone());
            columns.push(Arc::clone(rows.column(index)));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(named)), columns)
}

/// A stream of pages.
struct Pages {
    context: Arc<ApiContext>,
    query: LogQuery,
    /// Records that may still come.
    left: usize,
    /// On one page.
    page_rows: usize,
    format: Format,
    fields: Option<Vec<&'static str>>,
    is_first: bool,
    /// The next one, where it is here already.
    page: Option<LogPage>,
}

impl Pages {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        if self.left == 0 {
            return None;
        }
        let page = match self.page.take() {
            Some(page) => Ok(page),
            None => {
                self.query.limit = self.left.min(self.page_rows);
                let page = self.context.store.logs(self.query.clone()).await;
                page.map(|page| page.answer)
            }
        };
        let piece = page
            .map_err(io::Error::other)
            .and_then(|page| self.piece(&page).map_err(io::Error::other));
        if let Err(error) = &piece {
            tracing::warn!("an answer was cut off: {error}");
            self.left = 0;
        }
        Some((piece, self))
    }

    fn piece(&mut self, page: &LogPage) -> Result<Bytes, ArrowError> {
        let rows = chosen(page.around.as_ref().unwrap_or(&page.rows), self.fields.as_deref())?;
        self.left -= page.rows.num_rows().min(self.left);
        self.query.cursor.clone_from(&page.next_cursor);
        if page.next_cursor.is_none() {
            self.left = 0;
        }
        let is_first = std::mem::take(&mut self.is_first);
        let text = match self.format {
            Format::Csv if is_first => rows::csv(&rows.schema(), std::slice::from_ref(&rows)),
            Format::Csv => rows::csv_lines(&rows),
            Format::Json | Format::Lines => rows::object_lines(&rows),
        };
        text.map(Bytes::from)
    }
}

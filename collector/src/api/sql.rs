//! `POST /api/v1/sql`: one read-only statement. The body is JSON: `{"query": "SELECT … WHERE machine_id = $1", "params":
//! ["machine-17"]}`; the answer has `columns`, `rows` and `truncated`, or is in another form when `format` or `Accept`
//! asks for that. A client that goes stops its query.

use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use edgelogger_store::query::{SqlParameters, SqlQuery, SqlValue};
use edgelogger_store::{SqlLimits, SqlResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::described::described;
use super::format::Format;
use super::incomplete::{self, FromStore};
use super::logs::sql_failed;
use super::operation::{Answer, Operation, ROWS_PROBLEMS};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;
use super::{ApiContext, rows};

described! {
    /// The body of the request.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SqlRequest {
        /// One SELECT or EXPLAIN; `$1` or `$name` stand for parameters.
        query: String,
        /// Their values: a list for `$1`, `$2`, an object for `$name`. Null, true, false, numbers and text; a time is text.
        #[serde(default)]
        params: Value,
    }

    /// Columns and rows.
    #[derive(Debug, Serialize)]
    struct SqlAnswer {
        /// In the order of the values in `rows`.
        columns: Vec<SqlColumn>,
        /// One list for each row.
        rows: Vec<Value>,
        /// There was more.
        truncated: bool,
    }

    /// One column.
    #[derive(Debug, Serialize)]
    struct SqlColumn {
        /// Two columns may have the same.
        name: String,
        /// As Arrow writes it.
        #[serde(rename = "type")]
        data_type: String,
    }
}

/// An Arrow IPC stream.
const ARROW_TYPE: &str = "application/vnd.apache.arrow.stream";
/// Says `true` where there was more, for forms that can't say it themselves.
const TRUNCATED: &str = "edgelogger-truncated";
/// Bytes of the answer's columns: as JSON they take some times that.
const ANSWER_BYTES_MAX: usize = 32 << 20;
const PARAMS_MAX: usize = 256;

static SQL_FORMAT: Parameter = Parameter::new(
    "format",
    "Form of the answer; it goes before the header `Accept`",
    Kind::choice(&["json", "ndjson", "csv", "arrow"], None),
);
static PARAMETERS: &[&Parameter] = &[&SQL_FORMAT];

/// `POST /api/v1/sql`.
pub fn operation() -> Operation {
    Operation::post::<SqlRequest, _, _>("/api/v1/sql", sql)
        .about(
            "sql",
            "Rows of one read-only statement",
            "Over the tables `logs`, `metrics`, `machines` and `streams`; `/api/v1/schema` describes them. Forms other than \
             JSON say by the header `edgelogger-truncated: true` that there was more.",
        )
        .parameters(PARAMETERS)
        .answers([
            Answer::json::<FromStore<SqlAnswer>>("Columns and rows."),
            Answer::lines("One object a line."),
            Answer::csv("A table with a line of names."),
            Answer::text(ARROW_TYPE, "An Arrow IPC stream."),
        ])
        .reads_store()
        .problems(ROWS_PROBLEMS)
}

async fn sql(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    request: Result<Json<SqlRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(request) = request?;
    let wants_arrow = wants_arrow(&asked, &headers);
    let format = if wants_arrow {
        Format::Json
    } else {
        Format::choose(&asked, &headers)?
    };
    let limits = SqlLimits {
        rows_max: context.in_force.get().query_rows_max,
        time_max: context.query_timeout(),
        bytes_max: ANSWER_BYTES_MAX,
    };
    let query = SqlQuery {
        text: request.query,
        parameters: parameters(request.params)?,
        limits,
    };
    let result = context.store.query(query).await?;
    let truncated = [(TRUNCATED, if result.truncated { "true" } else { "false" })];
    if wants_arrow {
        let bytes = arrow_stream(&result).map_err(sql_failed)?;
        let answer = ([(header::CONTENT_TYPE, ARROW_TYPE)], bytes);
        return Ok((truncated, incomplete::header(&result.incomplete), answer).into_response());
    }
    let text = match format {
        Format::Json => None,
        Format::Lines => Some(rows::lines(&result.batches)),
        Format::Csv => Some(rows::csv(&result.schema, &result.batches)),
    };
    if let Some(text) = text {
        let text = text.map_err(sql_failed)?;
        let answer = ([(header::CONTENT_TYPE, format.media_type())], text);
        return Ok((truncated, incomplete::header(&result.incomplete), answer).into_response());
    }
    let column = |field: &Arc<arrow::datatypes::Field>| SqlColumn {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
    };
    let columns = result.schema.fields().iter().map(column).collect();
    let rows = rows::lists(&result.schema, &result.batches).map_err(sql_failed)?;
    Ok(FromStore(result.map(|result| SqlAnswer {
        columns,
        rows,
        truncated: result.truncated,
    }))
    .into_response())
}

fn wants_arrow(asked: &Asked, headers: &HeaderMap) -> bool {
    if let Some(word) = asked.word(&SQL_FORMAT) {
        return word == "arrow";
    }
    let accept = headers.get_all(header::ACCEPT).iter();
    accept
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().map(str::trim) == Some(ARROW_TYPE))
}

fn arrow_stream(result: &SqlResult) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &result.schema)?;
    for batch in &result.batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    writer.into_inner()
}

fn parameters(params: Value) -> Result<SqlParameters, Problem> {
    let parameters = match params {
        Value::Null => SqlParameters::default(),
        Value::Array(values) => {
            let values = values.into_iter().enumerate();
            let value = |(index, value): (usize, Value)| parameter(&(index + 1).to_string(), value);
            SqlParameters::List(values.map(value).collect::<Result<_, _>>()?)
        }
        Value::Object(values) => {
            let value = |(name, value): (String, Value)| parameter(&name, value).map(|value| (name, value));
            SqlParameters::Named(values.into_iter().map(value).collect::<Result<_, _>>()?)
        }
        _ => {
            return Err(Problem::bad_request(
                "`params` is a list, for $1, $2 and so on, or an object, for $name",
            ));
        }
    };
    let count = match &parameters {
        SqlParameters::List(values) => values.len(),
        SqlParameters::Named(values) => values.len(),
    };
    if count > PARAMS_MAX {
        return Err(Problem::bad_request(format!(
            "`params` has {count} values, allowed are {PARAMS_MAX}"
        )));
    }
    Ok(parameters)
}

fn parameter(name: &str, value: Value) -> Result<SqlValue, Problem> {
    match value {
        Value::Null => Ok(SqlValue::Null),
        Value::Bool(value) => Ok(SqlValue::Bool(value)),
        Value::Number(number) => {
            let whole = number.as_i64().map(SqlValue::Int);
            let value = whole.or_else(|| number.as_f64().map(SqlValue::Float));
            value.ok_or_else(|| {
                Problem::bad_request(format!("parameter {name:?} is no number that can be used"))
            })
        }
        Value::String(text) => Ok(SqlValue::Text(text)),
        Value::Array(_) | Value::Object(_) => Err(Problem::bad_request(format!(
            "parameter {name:?} is a list or an object; allowed are null, true, false, numbers and text"
        ))),
    }
}

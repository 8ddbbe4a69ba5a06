//! `POST /api/v1/sql`: one read-only statement. The body is JSON: `{"query": "SELECT …"}`; the answer has `columns`,
//! `rows` and `truncated`, or is in another form when `format` or `Accept` asks for that.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use edgelogger_store::SqlLimits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::described::described;
use super::format::{FORMAT, Format};
use super::logs::{incomplete, sql_failed};
use super::operation::{Answer, Operation, ROWS_PROBLEMS};
use super::parameters::{Asked, Parameter};
use super::problem::Problem;
use super::{ApiContext, rows};

described! {
    /// The body of the request.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SqlRequest {
        /// One SELECT or EXPLAIN.
        query: String,
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
        /// Files of the store that can't be used: their rows are not in the answer.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        incomplete: Vec<String>,
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

static PARAMETERS: &[&Parameter] = &[&FORMAT];

/// `POST /api/v1/sql`.
pub fn operation() -> Operation {
    Operation::post::<SqlRequest, _, _>("/api/v1/sql", sql)
        .about(
            "sql",
            "Rows of one read-only statement",
            "Over the tables `logs` and `metrics`.",
        )
        .parameters(PARAMETERS)
        .answers([
            Answer::json::<SqlAnswer>("Columns and rows."),
            Answer::lines("One object a line."),
            Answer::csv("A table with a line of names."),
        ])
        .problems(ROWS_PROBLEMS)
}

async fn sql(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    request: Result<Json<SqlRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(request) = request?;
    let format = Format::choose(&asked, &headers)?;
    let limits = SqlLimits {
        rows_max: context.query_rows_max,
        time_max: context.query_timeout,
        ..SqlLimits::default()
    };
    let result = context.store.sql(&request.query, limits).await?;
    let text = match format {
        Format::Json => None,
        Format::Lines => Some(rows::lines(&result.batches)),
        Format::Csv => Some(rows::csv(&result.schema, &result.batches)),
    };
    if let Some(text) = text {
        let text = text.map_err(sql_failed)?;
        let answer = ([(header::CONTENT_TYPE, format.media_type())], text);
        return Ok((incomplete(&result.incomplete), answer).into_response());
    }
    let column = |field: &Arc<arrow::datatypes::Field>| SqlColumn {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
    };
    let columns = result.schema.fields().iter().map(column).collect();
    let rows = rows::lists(&result.schema, &result.batches).map_err(sql_failed)?;
    let header = incomplete(&result.incomplete);
    let answer = Json(SqlAnswer {
        columns,
        rows,
        truncated: result.truncated,
        incomplete: result.incomplete,
    });
    Ok((header, answer).into_response())
}

//! `POST /api/v1/sql`: one read-only statement. The body is JSON: `{"query": "SELECT …"}`; the answer has `columns`,
//! `rows` and `truncated`, or is one object a line when `Accept: application/x-ndjson` asks for that.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use edgelogger_store::SqlLimits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::logs::sql_failed;
use super::problem::Problem;
use super::{ApiContext, rows};

const LINES: &str = "application/x-ndjson";

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    query: String,
}

#[derive(Debug, Serialize)]
struct SqlAnswer {
    columns: Vec<SqlColumn>,
    rows: Vec<Value>,
    /// There was more.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct SqlColumn {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
}

/// The request.
pub async fn sql(
    State(context): State<Arc<ApiContext>>,
    headers: HeaderMap,
    request: Result<Json<SqlRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(request) = request.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limits = SqlLimits {
        rows_max: context.query_rows_max,
        time_max: context.query_timeout,
        ..SqlLimits::default()
    };
    let result = context.store.sql(&request.query, limits).await?;
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    if accept.contains(LINES) {
        let lines = rows::lines(&result.batches).map_err(sql_failed)?;
        return Ok(([(header::CONTENT_TYPE, LINES)], lines).into_response());
    }
    let column = |field: &Arc<arrow::datatypes::Field>| SqlColumn {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
    };
    let columns = result.schema.fields().iter().map(column).collect();
    let rows = rows::lists(&result.schema, &result.batches).map_err(sql_failed)?;
    Ok(Json(SqlAnswer {
        columns,
        rows,
        truncated: result.truncated,
    })
    .into_response())
}

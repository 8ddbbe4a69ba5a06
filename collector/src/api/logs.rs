//! `GET /api/v1/logs`: a page of log records.
//!
//! Every parameter is optional: `from`, `to` (times; `-15m` is a quarter of an hour ago), `machine`, `source` (with `*`
//! and `?`), `severity` (name or number, and above), `q` (text in the body), `i` (`true`: whatever its case), `limit`,
//! `order` (`desc`, `asc`), `cursor` (from the page before).

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use edgelogger_store::query::PAGE_ROWS_MAX;
use edgelogger_store::{LogQuery, Order};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::Problem;
use super::{ApiContext, rows};
use crate::when::parse_when;

/// Records on a page where nothing is said.
const LIMIT_DEFAULT: usize = 100;

/// As in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogParameters {
    from: Option<String>,
    to: Option<String>,
    machine: Option<String>,
    source: Option<String>,
    severity: Option<String>,
    q: Option<String>,
    i: Option<bool>,
    limit: Option<usize>,
    order: Option<String>,
    cursor: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct LogAnswer {
    rows: Vec<Value>,
    next_cursor: Option<String>,
}

/// The request.
pub async fn logs(
    State(context): State<Arc<ApiContext>>,
    parameters: Result<Query<LogParameters>, QueryRejection>,
) -> Result<Json<LogAnswer>, Problem> {
    let Query(parameters) = parameters.map_err(|error| Problem::bad_request(error.body_text()))?;
    let query = LogQuery {
        time_max: context.query_timeout,
        ..parameters.check(context.time.now_ns())?
    };
    let page = context.store.logs(query).await?;
    let rows = rows::objects(std::slice::from_ref(&page.rows)).map_err(sql_failed)?;
    Ok(Json(LogAnswer {
        rows,
        next_cursor: page.next_cursor,
    }))
}

pub(super) fn sql_failed(error: impl std::fmt::Display) -> Problem {
    Problem::from(edgelogger_store::QueryError::Failed(error.to_string()))
}

impl LogParameters {
    fn check(self, now_ns: i64) -> Result<LogQuery, Problem> {
        let time = |name: &str, text: Option<String>| match text {
            Some(text) => parse_when(&text, now_ns)
                .map(Some)
                .map_err(|error| Problem::bad_request(format!("`{name}`: {error}"))),
            None => Ok(None),
        };
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return Err(Problem::bad_request(format!(
                "`limit` is {limit}, allowed is 1 to {PAGE_ROWS_MAX}"
            )));
        }
        Ok(LogQuery {
            from: time("from", self.from)?,
            to: time("to", self.to)?,
            machine: self.machine,
            source: self.source,
            severity_min: self.severity.as_deref().map(severity).transpose()?,
            substring: self.q,
            case_insensitive: self.i.unwrap_or(false),
            limit,
            cursor: self.cursor,
            order: order(self.order.as_deref())?,
            ..LogQuery::default()
        })
    }
}

fn order(text: Option<&str>) -> Result<Order, Problem> {
    match text {
        None | Some("desc") => Ok(Order::NewestFirst),
        Some("asc") => Ok(Order::OldestFirst),
        Some(_) => Err(Problem::bad_request(
            "`order` is `asc` (oldest first) or `desc` (newest first)",
        )),
    }
}

/// A name, the first number of its range in OpenTelemetry; or a number from 1 to 24.
fn severity(text: &str) -> Result<u8, Problem> {
    const NAMES: [(&[&str], u8); 6] = [
        (&["trace"], 1),
        (&["debug"], 5),
        (&["info", "notice"], 9),
        (&["warn", "warning"], 13),
        (&["error", "err"], 17),
        (&["fatal", "critical", "crit", "alert", "emerg"], 21),
    ];
    let lower = text.to_ascii_lowercase();
    let named = NAMES
        .iter()
        .find(|(names, _)| names.contains(&lower.as_str()))
        .map(|(_, number)| *number);
    let number = || text.parse::<u8>().ok().filter(|number| (1..=24).contains(number));
    named.or_else(number).ok_or_else(|| {
        Problem::bad_request("`severity` is trace, debug, info, warn, error, fatal or a number from 1 to 24")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_one_by_one() {
        let check = |change: fn(&mut LogParameters)| {
            let mut parameters = LogParameters::default();
            change(&mut parameters);
            parameters.check(3_600_000_000_000).is_ok()
        };
        assert!(check(|p| p.from = Some("-15m".into())));
        assert!(check(|p| p.severity = Some("WARN".into())));
        assert!(check(|p| p.severity = Some("24".into())));
        assert!(!check(|p| p.from = Some("soon".into())));
        assert!(!check(|p| p.severity = Some("25".into())));
        assert!(!check(|p| p.limit = Some(0)));
        assert!(!check(|p| p.limit = Some(PAGE_ROWS_MAX + 1)));
        assert!(!check(|p| p.order = Some("up".into())));
    }
}

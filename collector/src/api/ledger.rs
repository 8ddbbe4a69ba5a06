//! `GET /api/v1/ledger`: what has become of every position of every stream.
//!
//! Every parameter is optional: `machine`, `source` (with `*` and `?`), `stream` (its id), `state` (`stored`, `durable`,
//! `pending`, `unknown`, `dropped`, `dead_lettered`, `lost`: streams with such positions), `since` (heard of at or after; `-15m` is a quarter
//! of an hour ago), `checks` (`true`: with the CRC32C of what each range of the source held), `summaries`
//! (`true`: also what is known by day only), `limit`.
//!
//! `POST /api/v1/ledger/close`: an operator closes the streams of a dead machine. The body is JSON: `machine` (its whole
//! name), `reason`, and if wanted `stream`, `source`, `dry_run`, `force`; the answer names the streams. It has to come as
//! `application/json`, which no web page can send to a foreign address without asking first.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;

use edgelogger_common::error_code;
use edgelogger_common::stream::StreamId;

use super::ApiContext;
use super::guard::Caller;
use super::problem::Problem;
use crate::ledger::{self, CloseError, ClosePlan, CloseRequest, LedgerQuery, LedgerReport};
use crate::when::parse_when;

/// Streams in an answer where nothing is said.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

/// As in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerParameters {
    machine: Option<String>,
    source: Option<String>,
    stream: Option<String>,
    state: Option<String>,
    since: Option<String>,
    checks: Option<bool>,
    summaries: Option<bool>,
    limit: Option<usize>,
}

/// The request.
pub async fn ledger(
    State(context): State<Arc<ApiContext>>,
    parameters: Result<Query<LedgerParameters>, QueryRejection>,
) -> Result<Json<LedgerReport>, Problem> {
    let Query(parameters) = parameters.map_err(|error| Problem::bad_request(error.body_text()))?;
    let query = parameters.check(context.time.now_ns())?;
    let ledger = Arc::clone(&context.ledger);
    let report = tokio::task::spawn_blocking(move || ledger.report(&query)).await;
    report.map(Json).map_err(super::logs::sql_failed)
}

/// The body of a request to close.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseBody {
    machine: String,
    reason: String,
    stream: Option<String>,
    source: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

/// The request to close.
pub async fn close(
    State(context): State<Arc<ApiContext>>,
    Extension(Caller(caller)): Extension<Caller>,
    body: Result<Json<CloseBody>, JsonRejection>,
) -> Result<Json<ClosePlan>, Problem> {
    let Json(body) = body.map_err(|error| Problem::bad_request(error.body_text()))?;
    let dry_run = body.dry_run;
    let request = body.check()?;
    let (ledger, asked) = (Arc::clone(&context.ledger), request.clone());
    let planned = tokio::task::spawn_blocking(move || ledger.plan_close(&asked)).await;
    let mut plan = planned.map_err(super::logs::sql_failed)??;
    if !dry_run {
        context.ledger.close(&mut plan, &caller, &request.reason).await?;
    }
    Ok(Json(plan))
}

impl CloseBody {
    fn check(self) -> Result<CloseRequest, Problem> {
        let stream = self.stream.map(|text| parse_stream(&text)).transpose()?;
        if stream.is_some() && self.source.is_some() {
            return Err(Problem::bad_request("`stream` and `source`: give one of them"));
        }
        Ok(CloseRequest {
            machine: self.machine,
            stream,
            source: self.source,
            reason: self.reason,
            force: self.force,
        })
    }
}

impl From<CloseError> for Problem {
    fn from(error: CloseError) -> Self {
        let detail = error.to_string();
        match error {
            CloseError::Connected(_) => Self::conflict(detail),
            CloseError::Unknown(_) | CloseError::Reason => Self::bad_request(detail),
            CloseError::Log(_) => Self::unavailable(error_code::LOG_IO, detail),
        }
    }
}

fn parse_stream(text: &str) -> Result<StreamId, Problem> {
    text.parse()
        .map_err(|error| Problem::bad_request(format!("`stream`: {error}")))
}

impl LedgerParameters {
    fn check(self, now_ns: i64) -> Result<LedgerQuery, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::bad_request(format!(
                "`limit` is {limit}, allowed is 1 to {LIMIT_MAX}"
            )));
        }
        let stream = self.stream.map(|text| parse_stream(&text));
        let state = self.state.map(|name| {
            ledger::State::named(&name).ok_or_else(|| {
                Problem::bad_request(
                    "`state` is stored, durable, pending, unknown, dropped, dead_lettered or lost",
                )
            })
        });
        let since = self.since.map(|text| {
            parse_when(&text, now_ns).map_err(|error| Problem::bad_request(format!("`since`: {error}")))
        });
        Ok(LedgerQuery {
            machine: self.machine,
            source: self.source,
            stream: stream.transpose()?,
            state: state.transpose()?,
            since_ns: since.transpose()?,
            with_checks: self.checks.unwrap_or(false),
            with_summaries: self.summaries.unwrap_or(false),
            limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_one_by_one() {
        let check = |change: fn(&mut LedgerParameters)| {
            let mut parameters = LedgerParameters::default();
            change(&mut parameters);
            parameters.check(3_600_000_000_000).is_ok()
        };
        assert!(check(|_| ()));
        assert!(check(|p| p.state = Some("lost".into())));
        assert!(check(|p| p.stream = Some("0".repeat(32))));
        assert!(check(|p| p.since = Some("-1h".into())));
        assert!(!check(|p| p.state = Some("gone".into())));
        assert!(!check(|p| p.stream = Some("17".into())));
        assert!(!check(|p| p.since = Some("soon".into())));
        assert!(!check(|p| p.limit = Some(0)));
        assert!(!check(|p| p.limit = Some(LIMIT_MAX + 1)));
    }
}

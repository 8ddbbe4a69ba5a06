//! `GET /api/v1/ledger`: what has become of every position of every stream.
//!
//! Every parameter is optional: `machine`, `source` (with `*` and `?`), `stream` (its id), `state` (`stored`, `durable`,
//! `pending`, `unknown`, `dropped`, `lost`: streams with such positions), `since` (heard of at or after; `-15m` is a quarter
//! of an hour ago), `checks` (`true`: with the CRC32C of what each range of the source held), `limit`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::ApiContext;
use super::problem::Problem;
use crate::ledger::{self, LedgerQuery, LedgerReport};
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

impl LedgerParameters {
    fn check(self, now_ns: i64) -> Result<LedgerQuery, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::bad_request(format!(
                "`limit` is {limit}, allowed is 1 to {LIMIT_MAX}"
            )));
        }
        let stream = self.stream.map(|text| {
            text.parse()
                .map_err(|error| Problem::bad_request(format!("`stream`: {error}")))
        });
        let state = self.state.map(|name| {
            ledger::State::named(&name).ok_or_else(|| {
                Problem::bad_request("`state` is stored, durable, pending, unknown, dropped or lost")
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

//! `GET /api/v1/ledger`: what has become of every position of every stream.
//!
//! `POST /api/v1/ledger/close`: an operator closes the streams of a dead machine. The body has to come as
//! `application/json`, which no web page can send to a foreign address without asking first.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use serde::Deserialize;

use edgelogger_common::error_code;
use edgelogger_common::stream::StreamId;

use super::ApiContext;
use super::described::described;
use super::guard::Caller;
use super::logs::{MACHINE, SOURCE};
use super::operation::{Answer, Operation};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;
use crate::ledger::{self, CloseError, ClosePlan, CloseRequest, LedgerQuery, LedgerReport};

/// Streams in an answer where nothing is said.
const LIMIT_DEFAULT: u64 = 1_000;
const LIMIT_MAX: u64 = 10_000;

static STREAM: Parameter = Parameter::new(
    "stream",
    "Only the stream of this id",
    Kind::Hex { min: 32, max: 32 },
);
static STATE: Parameter = Parameter::new(
    "state",
    "Only streams with positions of this state",
    Kind::choice(
        &[
            "stored",
            "expired",
            "durable",
            "pending",
            "unknown",
            "dropped",
            "dead_lettered",
            "lost",
        ],
        None,
    ),
);
static SINCE: Parameter = Parameter::new("since", "Only streams heard of at or after this time", Kind::Time);
static SIZE: Parameter = Parameter::new(
    "size",
    "Only streams of this size: where they end, or as far as anybody has told",
    Kind::integer(0, i64::MAX.unsigned_abs(), None),
);
static CHECKS: Parameter = Parameter::new(
    "checks",
    "With the CRC32C of what each range of the source held",
    Kind::Flag,
);
static SUMMARIES: Parameter = Parameter::new(
    "summaries",
    "Also what is known by day only; with `checks` the CRC32C of each of its streams",
    Kind::Flag,
);
static LIMIT: Parameter = Parameter::new(
    "limit",
    "Streams in the answer; `count` says how many there are",
    Kind::integer(1, LIMIT_MAX, Some(LIMIT_DEFAULT)),
);

static PARAMETERS: &[&Parameter] = &[
    &MACHINE, &SOURCE, &STREAM, &STATE, &SINCE, &SIZE, &CHECKS, &SUMMARIES, &LIMIT,
];

/// `GET /api/v1/ledger`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/ledger", ledger)
        .about(
            "ledger",
            "What has become of every position of every stream",
            "Stored, expired, durable, pending, unknown, dropped, dead-lettered or lost, and why.",
        )
        .parameters(PARAMETERS)
        .answers([Answer::json::<LedgerReport>("The streams.")])
        .problems(&[500])
}

/// `POST /api/v1/ledger/close`.
pub fn close_operation() -> Operation {
    Operation::post::<CloseBody, _, _>("/api/v1/ledger/close", close)
        .about(
            "ledger",
            "Close the streams of a dead machine",
            "What has not arrived is declared lost, with the reason and who gave it.",
        )
        .answers([Answer::json::<ClosePlan>(
            "What was closed, or with `dry_run` would be.",
        )])
        .problems(&[409, 500, 503])
}

async fn ledger(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<Json<LedgerReport>, Problem> {
    let query = check(&asked)?;
    let ledger = Arc::clone(&context.ledger);
    let report = tokio::task::spawn_blocking(move || ledger.report(&query)).await;
    report.map(Json).map_err(super::logs::sql_failed)
}

fn check(asked: &Asked) -> Result<LedgerQuery, Problem> {
    let owned = |parameter| asked.text(parameter).map(str::to_owned);
    Ok(LedgerQuery {
        machine: owned(&MACHINE),
        source: owned(&SOURCE),
        stream: asked.text(&STREAM).map(parse_stream).transpose()?,
        state: asked.word(&STATE).and_then(ledger::State::named),
        since_ns: asked.time(&SINCE),
        size: asked.integer(&SIZE),
        with_checks: asked.flag(&CHECKS),
        with_summaries: asked.flag(&SUMMARIES),
        limit: asked.count(&LIMIT),
    })
}

described! {
    /// The body of a request to close.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct CloseBody {
        /// Its whole name.
        machine: String,
        /// Why, for the ledger.
        reason: String,
        /// Only the stream of this id.
        #[serde(default)]
        stream: Option<String>,
        /// Only the streams of this source; `*` and `?` as everywhere.
        #[serde(default)]
        source: Option<String>,
        /// Only look what would be closed.
        #[serde(default)]
        dry_run: bool,
        /// Also while the machine is connected.
        #[serde(default)]
        force: bool,
    }
}

async fn close(
    State(context): State<Arc<ApiContext>>,
    Extension(Caller(caller)): Extension<Caller>,
    body: Result<Json<CloseBody>, JsonRejection>,
) -> Result<Json<ClosePlan>, Problem> {
    let Json(body) = body?;
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

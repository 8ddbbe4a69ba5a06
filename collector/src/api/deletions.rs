//! `POST /api/v1/delete`: rows of a machine, a source and a time go for good, for a reason. `GET /api/v1/deletions`: what
//! was deleted, by whom and why, for ever. The body has to come as `application/json`, which no web page can send to a
//! foreign address without asking first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use edgelogger_common::error_code;
use edgelogger_store::{DeleteError, DeletePlan, DeleteRequest, DeleteScope, Deletion};
use serde::{Deserialize, Serialize};

use super::ApiContext;
use super::described::described;
use super::guard::Caller;
use super::logs::sql_failed;
use super::operation::{Answer, Operation};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;
use crate::health::rfc3339;
use crate::when::parse_when;

/// How long a request waits for the store to have what was acknowledged before it.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);
const CATCH_UP_LOOK: Duration = Duration::from_millis(50);

static STATE: Parameter = Parameter::new(
    "state",
    "Only those in this state",
    Kind::choice(&["running", "done"], None),
);
static ID: Parameter = Parameter::new(
    "id",
    "Only this one",
    Kind::integer(1, i64::MAX.unsigned_abs(), None),
);
static LIMIT: Parameter = Parameter::new(
    "limit",
    "Deletions in the answer; `count` says how many there are",
    Kind::integer(1, 10_000, Some(100)),
);
static PARAMETERS: &[&Parameter] = &[&STATE, &ID, &LIMIT];

described! {
    /// The body of a request to delete.
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct DeleteBody {
        /// Rows of this machine; `*` stands for any text, `?` for one character. Machine, source or both are needed.
        #[serde(default)]
        machine: Option<String>,
        /// Rows of this source: a path, `journald`, `host`; `*` and `?` as above.
        #[serde(default)]
        source: Option<String>,
        /// Rows of this time on: RFC 3339, a date, `-15m`.
        #[serde(default)]
        from: Option<String>,
        /// Rows before this time.
        #[serde(default)]
        to: Option<String>,
        /// Why: kept for ever.
        reason: String,
        /// Only look what would go.
        #[serde(default)]
        dry_run: bool,
    }

    /// What was accepted, or would go.
    #[derive(Debug, Serialize)]
    pub struct DeleteAnswer {
        /// Nothing was done, only looked at.
        dry_run: bool,
        /// What was accepted.
        #[serde(skip_serializing_if = "Option::is_none")]
        deletion: Option<DeletionReport>,
        /// What would go.
        #[serde(skip_serializing_if = "Option::is_none")]
        plan: Option<DeletePlanReport>,
    }

    /// What would go.
    #[derive(Debug, Serialize)]
    pub struct DeletePlanReport {
        /// From this time on, RFC 3339.
        from: Option<String>,
        /// Before this time, RFC 3339.
        to: Option<String>,
        /// Rows, of logs and metrics.
        rows: u64,
        /// Bytes by which files would become smaller, about.
        bytes: u64,
        /// Files that would be dropped, or written again without these rows.
        files: u64,
        /// Whose, the largest first, at most 1,000.
        sources: Vec<DeletedSource>,
        /// Machines and sources beyond these.
        sources_untold: u64,
        /// Files that can't be read now, and may hold such rows.
        unreadable: Vec<String>,
    }

    /// What would go of one source.
    #[derive(Debug, Serialize)]
    pub struct DeletedSource {
        /// Of this machine.
        machine: String,
        /// The source.
        source: String,
        /// Rows.
        rows: u64,
    }

    /// Deletions.
    #[derive(Debug, Serialize)]
    pub struct DeletionsAnswer {
        /// The newest first.
        deletions: Vec<DeletionReport>,
        /// All that match, also those beyond the limit.
        count: usize,
    }

    /// A deletion that was accepted.
    #[derive(Debug, Serialize)]
    pub struct DeletionReport {
        /// Counts from 1.
        id: u64,
        /// `running` or `done`.
        state: &'static str,
        /// Of which machines.
        machine: Option<String>,
        /// Of which sources.
        source: Option<String>,
        /// From this time on, RFC 3339.
        from: Option<String>,
        /// Before this time, RFC 3339.
        to: Option<String>,
        /// Why.
        reason: String,
        /// Who: the subject of a token, or somebody on this machine.
        who: String,
        /// When it was accepted, RFC 3339.
        accepted: String,
        /// When it was finished, RFC 3339.
        finished: Option<String>,
        /// Rows that are gone.
        rows: u64,
        /// Files that were dropped, or written again without these rows.
        files: u64,
        /// Bytes by which files became smaller.
        bytes: u64,
        /// Files that can't be read, and may hold such rows. When they come back the deletion goes on.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unreadable: Vec<String>,
    }
}

/// `POST /api/v1/delete`.
pub fn operation() -> Operation {
    Operation::post::<DeleteBody, _, _>("/api/v1/delete", delete)
        .about(
            "deletions",
            "Delete rows of a machine, a source and a time",
            "Covers what was acknowledged before the request, and nothing that comes later. It is carried out behind the \
             answer; `/api/v1/deletions` shows how far it is.",
        )
        .answers([Answer::json::<DeleteAnswer>(
            "What was accepted, or with `dry_run` would go.",
        )])
        .problems(&[408, 409, 422, 500, 503])
}

/// `GET /api/v1/deletions`.
pub fn list_operation() -> Operation {
    Operation::get("/api/v1/deletions", deletions)
        .about(
            "deletions",
            "What was deleted, by whom and why",
            "Every deletion there ever was.",
        )
        .parameters(PARAMETERS)
        .answers([Answer::json::<DeletionsAnswer>("The deletions.")])
        .problems(&[500])
}

async fn delete(
    State(context): State<Arc<ApiContext>>,
    Extension(Caller(who)): Extension<Caller>,
    body: Result<Json<DeleteBody>, JsonRejection>,
) -> Result<Json<DeleteAnswer>, Problem> {
    let Json(body) = body?;
    let dry_run = body.dry_run;
    let request = body.check(who, context.time.now_ns())?;
    if dry_run {
        let scope = request.scope;
        let plan = context
            .store
            .plan_deletion(scope.clone(), context.query_timeout())
            .await?;
        return Ok(Json(DeleteAnswer {
            dry_run,
            deletion: None,
            plan: Some(shown_plan(&scope, plan)),
        }));
    }
    catch_up(&context).await?;
    let store = Arc::clone(&context.store);
    let accepted = tokio::task::spawn_blocking(move || store.delete(request)).await;
    let deletion = accepted.map_err(sql_failed)??;
    tracing::warn!(
        id = deletion.id,
        machine = deletion.scope.machine,
        source = deletion.scope.source,
        by = deletion.who,
        reason = deletion.reason,
        "a deletion was accepted"
    );
    Ok(Json(DeleteAnswer {
        dry_run,
        deletion: Some(shown(deletion)),
        plan: None,
    }))
}

/// Whoever deletes knows of what was acknowledged, not of what of that is stored already.
async fn catch_up(context: &ApiContext) -> Result<(), Problem> {
    let (end, since) = (context.log.durable_end(), Instant::now());
    loop {
        let cursor = context.store.status().await?.cursor.max(1);
        if cursor >= end {
            return Ok(());
        }
        if since.elapsed() >= CATCH_UP_TIMEOUT {
            let detail = format!(
                "the store is {} entries behind the commit log, and a deletion covers only what is stored; ask again when \
                 it has caught up (`edgelogger-collector status`)",
                end - cursor
            );
            return Err(Problem::unavailable(error_code::DELETION_REFUSED, detail));
        }
        tokio::time::sleep(CATCH_UP_LOOK).await;
    }
}

async fn deletions(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<Json<DeletionsAnswer>, Problem> {
    let store = Arc::clone(&context.store);
    let listed = tokio::task::spawn_blocking(move || store.deletions()).await;
    let mut all = listed.map_err(sql_failed)??;
    let (state, id) = (asked.word(&STATE), asked.integer(&ID));
    all.retain(|deletion| {
        state.is_none_or(|wanted| state_word(deletion) == wanted)
            && id.is_none_or(|wanted| deletion.id == wanted)
    });
    let count = all.len();
    let newest = all.into_iter().rev().take(asked.count(&LIMIT));
    Ok(Json(DeletionsAnswer {
        deletions: newest.map(shown).collect(),
        count,
    }))
}

impl DeleteBody {
    fn check(self, who: String, now_ns: i64) -> Result<DeleteRequest, Problem> {
        let time = |name: &str, text: Option<String>| {
            text.map(|text| parse_when(&text, now_ns))
                .transpose()
                .map_err(|error| Problem::bad_request(format!("`{name}`: {error}")))
        };
        let request = DeleteRequest {
            scope: DeleteScope {
                machine: self.machine,
                source: self.source,
                from: time("from", self.from)?,
                to: time("to", self.to)?,
            },
            who,
            reason: self.reason,
        };
        request.check()?;
        Ok(request)
    }
}

impl From<DeleteError> for Problem {
    fn from(error: DeleteError) -> Self {
        let detail = error.to_string();
        match error {
            DeleteError::Invalid(_) => Self::unprocessable(detail),
            DeleteError::Busy => Self::conflict(detail),
            DeleteError::Store(_) => Self::unavailable(error_code::DELETION_REFUSED, detail),
        }
    }
}

const fn state_word(deletion: &Deletion) -> &'static str {
    match deletion.finished_ns {
        Some(_) => "done",
        None => "running",
    }
}

fn shown(deletion: Deletion) -> DeletionReport {
    DeletionReport {
        id: deletion.id,
        state: state_word(&deletion),
        machine: deletion.scope.machine,
        source: deletion.scope.source,
        from: deletion.scope.from.map(rfc3339),
        to: deletion.scope.to.map(rfc3339),
        reason: deletion.reason,
        who: deletion.who,
        accepted: rfc3339(deletion.accepted_ns),
        finished: deletion.finished_ns.map(rfc3339),
        rows: deletion.rows,
        files: deletion.files,
        bytes: deletion.bytes,
        unreadable: deletion.unreadable,
    }
}

fn shown_plan(scope: &DeleteScope, plan: DeletePlan) -> DeletePlanReport {
    DeletePlanReport {
        from: scope.from.map(rfc3339),
        to: scope.to.map(rfc3339),
        rows: plan.rows,
        bytes: plan.bytes,
        files: plan.files,
        sources: plan
            .parts
            .into_iter()
            .map(|part| DeletedSource {
                machine: part.machine,
                source: part.source,
                rows: part.rows,
            })
            .collect(),
        sources_untold: plan.parts_untold,
        unreadable: plan.unreadable,
    }
}

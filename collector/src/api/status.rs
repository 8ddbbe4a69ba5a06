//! Health, for people and for supervisors.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};

use super::ApiContext;
use super::operation::{Answer, Operation};
use super::problem::Problem;
use crate::health::{HealthReport, HealthVerdict};

/// `GET /health`: 200 when ok or degraded (data is safe), 503 when down.
pub fn health_operation() -> Operation {
    Operation::get("/health", health)
        .about(
            "collector",
            "How the collector is",
            "Verdict, problems with what to do about them, and counts that balance.",
        )
        .answers([
            Answer::json::<HealthReport>("Ok, or degraded: data is safe, and something wants attention."),
            Answer::json::<HealthReport>("Down: nothing can be taken in.").with_status(503),
        ])
}

async fn health(State(context): State<Arc<ApiContext>>) -> (StatusCode, Json<HealthReport>) {
    let report = context.health.report().await;
    let status = match report.verdict {
        HealthVerdict::Ok | HealthVerdict::Degraded => StatusCode::OK,
        HealthVerdict::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}

/// `GET /livez`: the process answers.
pub fn live_operation() -> Operation {
    Operation::get("/livez", async || "live\n")
        .about(
            "collector",
            "The process answers",
            "For supervisors: restart the collector when this fails.",
        )
        .answers([Answer::text(TEXT_TYPE, "It does.")])
        .open()
}

/// `GET /readyz`: agents can connect and queries are answered.
pub fn ready_operation() -> Operation {
    Operation::get("/readyz", ready)
        .about(
            "collector",
            "Agents can connect and queries are answered",
            "For supervisors and load balancers.",
        )
        .answers([
            Answer::text(TEXT_TYPE, "Ready."),
            Answer::text(TEXT_TYPE, "Not ready; `/health` says why.").with_status(503),
        ])
        .open()
}

const TEXT_TYPE: &str = "text/plain; charset=utf-8";

async fn ready(State(context): State<Arc<ApiContext>>) -> (StatusCode, &'static str) {
    match context.health.report().await.verdict {
        HealthVerdict::Ok | HealthVerdict::Degraded => (StatusCode::OK, "ready\n"),
        HealthVerdict::Down => (StatusCode::SERVICE_UNAVAILABLE, "down: see /health\n"),
    }
}

/// Anything else.
pub async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(uri.path())
}

/// The right address, and the wrong method.
pub async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(method.as_str(), uri.path())
}

//! Health, for people and for supervisors.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};

use super::ApiContext;
use super::problem::Problem;
use crate::health::{HealthReport, HealthVerdict};

/// `GET /health`: 200 when ok or degraded (data is safe), 503 when down.
pub async fn health(State(context): State<Arc<ApiContext>>) -> (StatusCode, Json<HealthReport>) {
    let report = context.health.report().await;
    let status = match report.verdict {
        HealthVerdict::Ok | HealthVerdict::Degraded => StatusCode::OK,
        HealthVerdict::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}

/// `GET /livez`: the process answers.
pub async fn live() -> &'static str {
    "live\n"
}

/// `GET /readyz`: agents can connect and queries are answered.
pub async fn ready(State(context): State<Arc<ApiContext>>) -> (StatusCode, &'static str) {
    match context.health.report().await.verdict {
        HealthVerdict::Ok | HealthVerdict::Degraded => (StatusCode::OK, "ready\n"),
        HealthVerdict::Down => (StatusCode::SERVICE_UNAVAILABLE, "down: see /health\n"),
    }
}

/// Anything else.
pub async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(uri.path())
}

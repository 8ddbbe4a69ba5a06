//! The API: queries and health, over HTTP, on the loopback interface unless it is configured otherwise.
//!
//! `operations` lists what is answered; `GET /api/v1/openapi.json` and docs/api.md describe it, both made of that list.
//!
//! | file | idea |
//! | --- | --- |
//! | `operation.rs` | a request that is answered: handler and description in one declaration |
//! | `parameters.rs` | parameters of a URL, checked and described by one table |
//! | `described.rs` | JSON Schema of what is sent and taken |
//! | `format.rs`, `rows.rs` | JSON, lines of JSON or CSV: which, and how Arrow becomes it |
//! | `problem.rs` | errors as problem documents (RFC 9457) with stable codes |
//! | `incomplete.rs` | what is missing from an answer |
//! | `guard.rs` | who may ask |
//! | `server.rs`, `compress.rs` | connections and their limits; compressed answers |
//! | `logs/`, `metrics.rs`, `latest.rs`, `machines.rs`, `sql.rs`, `schema.rs`, `ledger.rs`, `deletions.rs`, `status.rs` | the requests |
//! | `series.rs` | what questions about metrics share |

mod compress;
mod deletions;
pub(crate) mod described;
mod format;
mod guard;
pub(crate) mod incomplete;
mod latest;
mod ledger;
mod logs;
mod machines;
mod metrics;
mod operation;
mod parameters;
mod problem;
pub(crate) mod rows;
mod schema;
mod series;
mod server;
mod sql;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::{Extension, Router, middleware};
use edgelogger_common::segment::LogView;
use edgelogger_common::tls::FloorTime;
use edgelogger_store::Store;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use logs::Tails;
pub use server::{ApiError, ApiListener, ConnectionLimits};

use crate::health::HealthReport;
use crate::in_force::InForce;
use crate::ledger::Ledger;
use crate::machines::Machines;
use operation::{Document, Operation};

/// The largest request: an SQL text of 64 KiB as JSON, twice.
const REQUEST_BYTES_MAX: usize = 256 << 10;

/// Everything that is answered.
fn operations() -> Vec<Operation> {
    let mut operations = logs::operations();
    operations.extend([
        metrics::operation(),
        metrics::series_operation(),
        metrics::range_operation(),
        latest::operation(),
        latest::one_operation(),
        machines::operation(),
        machines::one_operation(),
        sql::operation(),
        schema::operation(),
        ledger::operation(),
        ledger::close_operation(),
        deletions::operation(),
        deletions::list_operation(),
        status::health_operation(),
        status::live_operation(),
        status::ready_operation(),
        operation::openapi(),
    ]);
    operations
}

/// Who knows how the collector is.
pub trait HealthSource: Send + Sync {
    /// Everything of now.
    fn report(&self) -> BoxFuture<'_, HealthReport>;
}

/// What the API works with.
pub struct ApiContext {
    /// What can be asked.
    pub store: Arc<dyn Store>,
    /// How it is.
    pub health: Arc<dyn HealthSource>,
    /// How far the commit log reaches.
    pub log: LogView,
    /// What has become of every position.
    pub ledger: Arc<Ledger>,
    /// Who there is.
    pub machines: Arc<Machines>,
    /// Must a request have a token?
    pub needs_token: bool,
    /// Keys, and what a query may take.
    pub in_force: Arc<InForce>,
    /// The time.
    pub time: Arc<FloorTime>,
    /// Live tails.
    pub tails: Arc<Tails>,
    /// What connections may take.
    pub connection_limits: ConnectionLimits,
}

impl ApiContext {
    /// Longest query.
    #[must_use]
    pub fn query_timeout(&self) -> Duration {
        self.in_force.get().query_timeout
    }
}

impl ApiListener {
    /// Serves until told to stop; requests that have begun are answered.
    pub async fn serve(self, context: Arc<ApiContext>, stop: CancellationToken) {
        let (limits, tails) = (context.connection_limits, Arc::clone(&context.tails));
        let stopped = stop.clone();
        // A tail has no end of its own.
        let closed = async move {
            stopped.cancelled().await;
            tails.close();
        };
        tokio::join!(self.serve_router(router(&context), limits, stop), closed);
    }
}

fn router(context: &Arc<ApiContext>) -> Router {
    let operations = operations();
    let document = operation::document(&operations, context.needs_token).to_string();
    let (mut open, mut guarded) = (Router::new(), Router::new());
    for operation in operations {
        if operation.is_open() {
            open = operation.route(context, open);
        } else {
            guarded = operation.route(context, guarded);
        }
    }
    let guard = middleware::from_fn_with_state(Arc::clone(context), guard::check);
    open.merge(guarded.route_layer(guard))
        .method_not_allowed_fallback(status::method_not_allowed)
        .fallback(status::not_found)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(Extension(Document(document.into())))
        .layer(middleware::from_fn(compress::compress))
        .with_state(Arc::clone(context))
}

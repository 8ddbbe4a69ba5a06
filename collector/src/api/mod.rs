//! The API: queries and health, over HTTP, on the loopback interface unless it is configured otherwise.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /api/v1/logs` | a page of log records |
//! | `POST /api/v1/sql` | rows of one read-only statement |
//! | `GET /api/v1/ledger` | what has become of every position of every stream |
//! | `POST /api/v1/ledger/close` | an operator closes the streams of a dead machine |
//! | `GET /health` | verdict, problems, counts that balance |
//! | `GET /livez`, `GET /readyz` | for supervisors |
//!
//! | file | idea |
//! | --- | --- |
//! | `logs.rs`, `sql.rs`, `ledger.rs`, `status.rs` | the requests |
//! | `rows.rs` | Arrow to JSON |
//! | `problem.rs` | errors as problem documents (RFC 9457) with stable codes |
//! | `guard.rs` | who may ask |

mod guard;
mod ledger;
mod logs;
mod problem;
mod rows;
mod sql;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use edgelogger_common::auth::VerifyingKeys;
use edgelogger_common::tls::FloorTime;
use edgelogger_store::Store;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::HealthReport;
use crate::ledger::Ledger;

/// The largest request: an SQL text of 64 KiB as JSON, twice.
const REQUEST_BYTES_MAX: usize = 256 << 10;

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
    /// What has become of every position.
    pub ledger: Arc<Ledger>,
    /// Must a request have a token?
    pub needs_token: bool,
    /// What tokens are checked with.
    pub keys: VerifyingKeys,
    /// The time.
    pub time: Arc<FloorTime>,
    /// Longest query.
    pub query_timeout: Duration,
    /// Rows of an answer.
    pub query_rows_max: usize,
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for the API: {source}; stop what uses it, or choose another with --api-listen"
)]
pub struct ApiError {
    address: SocketAddr,
    source: io::Error,
}

/// The open port, before it serves.
#[derive(Debug)]
pub struct ApiListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl ApiListener {
    /// Opens the port.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, ApiError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound.await.map_err(|source| ApiError { address, source })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop; requests that have begun are answered.
    pub async fn serve(self, context: Arc<ApiContext>, stop: CancellationToken) {
        let served = axum::serve(self.listener, router(context))
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!("the API ended: {error}");
        }
    }
}

fn router(context: Arc<ApiContext>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/logs", get(logs::logs))
        .route("/api/v1/sql", post(sql::sql))
        .route("/api/v1/ledger", get(ledger::ledger))
        .route("/api/v1/ledger/close", post(ledger::close))
        .route("/health", get(status::health))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&context), guard::check));
    Router::new()
        .route("/livez", get(status::live))
        .route("/readyz", get(status::ready))
        .merge(guarded)
        .fallback(status::not_found)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(context)
}

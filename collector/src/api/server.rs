//! The API's port: so many connections at once, each with so much time for the head of a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use edgelogger_common::error_code;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::problem::Problem;

/// The head of a request: tokens have 4 KiB at most, URLs of long searches some more.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// Connections that are told that there are too many, at once. Further ones are closed without a word.
const TOLD_MAX: usize = 64;
/// How long such a one may take to read it.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause when the system has no descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// At once.
    pub connections_max: usize,
    /// For the head of a request, and between two requests.
    pub header_timeout: Duration,
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
    pub(super) async fn serve_router(
        self,
        router: Router,
        limits: ConnectionLimits,
        stop: CancellationToken,
    ) {
        let connections = Arc::new(Semaphore::new(limits.connections_max.max(1)));
        let told = Arc::new(Semaphore::new(TOLD_MAX));
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!("the API cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
                let served = connection(socket, router.clone(), limits, stop.clone());
                tasks.spawn(async move {
                    served.await;
                    drop(permit);
                });
            } else if let Ok(permit) = Arc::clone(&told).try_acquire_owned() {
                tasks.spawn(async move {
                    let _ = tokio::time::timeout(TELL_TIMEOUT, tell(socket, limits)).await;
                    drop(permit);
                });
            }
        }
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }
}

async fn connection(socket: TcpStream, router: Router, limits: ConnectionLimits, stop: CancellationToken) {
    // Rows of a live tail are small and wanted at once.
    let _ = socket.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!("a connection to the API ended: {error}");
    }
}

/// Says that there are too many.
async fn tell(mut socket: TcpStream, limits: ConnectionLimits) -> io::Result<()> {
    let detail = format!(
        "{} connections are open, more are not allowed; close some, or raise connections_max in [api]",
        limits.connections_max
    );
    let problem = Problem::unavailable(error_code::API_BUSY, detail);
    let body = problem.document();
    let head = format!(
        "HTTP/1.1 {} Service Unavailable\r\nContent-Type: {}\r\nContent-Length: {}\r\nRetry-After: 1\r\n\
         Connection: close\r\n\r\n",
        StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        super::problem::PROBLEM_TYPE,
        body.len()
    );
    // What is said before it was asked for is taken for an error.
    let mut rest = [0; 1024];
    if socket.read(&mut rest).await? == 0 {
        return Ok(());
    }
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await?;
    // Closing with unread bytes would send a reset, which can overtake the answer.
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

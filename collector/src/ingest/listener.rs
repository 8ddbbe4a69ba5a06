//! The ingest port: TCP, TLS 1.3, HTTP, in that order, each bounded in number and time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::auth::Claims;
use edgelogger_common::error_code;
use edgelogger_common::tls::explain_io_error;
use hyper::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::{IngestContext, connection, http};

/// The first byte of every TLS connection: a record of type handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// HTTP head and body of a request: our agents' have 1 KiB, a token has at most 4. Also hyper's least.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Pause when the system has no descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long health shows that.
const ACCEPT_SHOWN_FOR: Duration = Duration::from_secs(60);
/// How long somebody who speaks no TLS may take to read why.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why ingest does not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The address can't be had.
    #[error(
        "cannot listen on {address} for agents: {source}; stop what uses it, or choose another with --ingest-listen"
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The open port, before it serves.
#[derive(Debug)]
pub struct IngestListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl IngestListener {
    /// Opens the port.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, IngestError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound
            .await
            .map_err(|source| IngestError::Listen { address, source })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `context.stop`; every connection is a task of `tasks`.
    pub async fn serve(
        self,
        context: Arc<IngestContext>,
        tls: watch::Receiver<Arc<ServerConfig>>,
        tasks: TaskTracker,
    ) {
        let handshakes = Arc::new(Semaphore::new(context.settings.handshakes_max.max(1)));
        loop {
            // Without a free place nothing is accepted: the kernel's queue holds who comes, the rest try again.
            let accept = async {
                let permit = Arc::clone(&handshakes).acquire_owned().await.ok();
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = context.stop.cancelled() => return,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let connection = Connection {
                        context: Arc::clone(&context),
                        acceptor: TlsAcceptor::from(Arc::clone(&tls.borrow())),
                        peer,
                    };
                    tasks.spawn(connection.run(socket, permit));
                }
                Err(error) => {
                    drop(permit);
                    let what = format!("cannot accept a connection: {error}");
                    context
                        .health
                        .raise_for(ACCEPT_SHOWN_FOR, "ingest", error_code::COLLECTOR_BUSY, what);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that may begin a session.
struct Accepted {
    claims: Claims,
    socket: TlsStream<TcpStream>,
    read_already: Bytes,
}

struct Connection {
    context: Arc<IngestContext>,
    acceptor: TlsAcceptor,
    peer: SocketAddr,
}

impl Connection {
    async fn run(self, socket: TcpStream, permit: Option<OwnedSemaphorePermit>) {
        let accepted = tokio::select! {
            () = self.context.stop.cancelled() => None,
            accepted = self.handshakes(socket) => accepted,
        };
        drop(permit);
        if let Some(Accepted {
            claims,
            socket,
            read_already,
        }) = accepted
        {
            connection::run(self.context, claims, socket, read_already, self.peer).await;
        }
    }

    /// TLS, then the upgrade. Whoever is refused was told so.
    async fn handshakes(&self, socket: TcpStream) -> Option<Accepted> {
        let time = self.context.settings.handshake_timeout;
        // Acks are small and wanted at once.
        let _ = socket.set_nodelay(true);
        let mut first = [0];
        match timeout(time, socket.peek(&mut first)).await {
            Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {}
            Ok(Ok(1)) => {
                self.refused("it does not speak TLS");
                answer_in_plain(socket).await;
                return None;
            }
            _ => return None,
        }
        match timeout(time, self.acceptor.accept(socket)).await {
            Ok(Ok(tls)) => return self.http(tls).await,
            Ok(Err(error)) => {
                let peer = self.peer.to_string();
                let why =
                    explain_io_error(&error, &peer).map_or_else(|| error.to_string(), |e| e.to_string());
                self.refused(&why);
            }
            Err(_) => self.refused("the TLS handshake took too long"),
        }
        None
    }

    async fn http(&self, tls: TlsStream<TcpStream>) -> Option<Accepted> {
        let slot = http::UpgradeSlot::default();
        let service =
            service_fn(|request| http::answer(request, Arc::clone(&self.context), Arc::clone(&slot)));
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.context.settings.handshake_timeout)
            .max_buf_size(REQUEST_BYTES_MAX)
            .serve_connection(TokioIo::new(tls), service)
            .with_upgrades();
        if let Err(error) = served.await {
            self.refused(&error.to_string());
            return None;
        }
        let Some(upgrade) = slot.lock().take() else {
            self.refused("the request was refused");
            return None;
        };
        // Back to the TLS stream itself: one box and one buffer less for each idle agent.
        let upgraded = upgrade.connection.await.ok()?;
        let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
        Some(Accepted {
            claims: upgrade.claims,
            socket: parts.io.into_inner(),
            read_already: parts.read_buf,
        })
    }

    fn refused(&self, why: &str) {
        self.context
            .counts
            .refused
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::info!(peer = %self.peer, "connection refused: {why}");
    }
}

/// Tells somebody who speaks no TLS so, in HTTP, which is what such a one most likely speaks.
async fn answer_in_plain(mut socket: TcpStream) {
    let detail = "this port speaks TLS only; connect with https:// or wss://";
    let body = http::problem_document(StatusCode::BAD_REQUEST, error_code::NOT_TLS, detail);
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let told = async {
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(&body).await?;
        socket.shutdown().await?;
        // Closing with unread bytes would send a reset, which can overtake the answer.
        let mut rest = [0; 1024];
        while socket.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(PLAIN_TIMEOUT, told).await;
}

//! One connection: TCP, TLS 1.3, WebSocket; and the line of messages that goes out on it.
//!
//! Messages leave in WebSocket fragments of 64 KiB: the library keeps one fragment instead of a whole batch, copies a
//! payload once (to mask it), and a ping passes between the parts of a large batch.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::tls::explain_io_error;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::config::Target;
use super::error::ConnectError;
use super::wire::Outbound;

/// A message is sent in pieces of this size.
pub(super) const FRAGMENT_BYTES: usize = 64 * 1024;
/// Welcome is the largest message that comes in: 64 Ki streams with their ranges.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Messages smaller than this are gathered until the line is flushed.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// The kernel gives a connection up when sent data is not confirmed for this long.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(10);
/// Pieces that wait on a line before nothing more is taken; the window of the session bounds batches, this the rest.
pub(super) const LINE_PIECES_MAX: usize = 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Time for one of them.
const ADDRESS_MAX: Duration = Duration::from_secs(3);

type Stream = WebSocketStream<TlsStream<TcpStream>>;

/// The receiving half.
pub(super) type Incoming = SplitStream<Stream>;

/// Connects. The caller bounds the time.
pub(super) async fn connect(
    target: &Target,
    server_name: Option<&str>,
    token: &str,
    tls: Arc<ClientConfig>,
) -> Result<(Line, Incoming), ConnectError> {
    let tcp = connect_tcp(target).await?;
    let tls_stream = handshake(target, server_name, tls, tcp).await?;
    let socket = upgrade(target, token, tls_stream).await?;
    let (sink, incoming) = socket.split();
    Ok((Line::new(sink), incoming))
}

async fn connect_tcp(target: &Target) -> Result<TcpStream, ConnectError> {
    let name_error = |source| ConnectError::Name {
        host: target.host.clone(),
        source,
    };
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(name_error)?;
    let mut last = None;
    for address in addresses.take(ADDRESSES_MAX) {
        // An address that swallows what is sent must not keep the others from being tried.
        let connected = tokio::time::timeout(ADDRESS_MAX, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tcp) => {
                tune(&tcp).map_err(|source| ConnectError::tcp(target.to_string(), source))?;
                return Ok(tcp);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => ConnectError::tcp(target.to_string(), error),
        None => name_error(io::Error::other("the name has no address")),
    })
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    tcp.set_nodelay(true)?;
    let unconfirmed_ms = u32::try_from(UNCONFIRMED_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(tcp, unconfirmed_ms)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    Ok(())
}

async fn handshake(
    target: &Target,
    server_name: Option<&str>,
    tls: Arc<ClientConfig>,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = server_name.unwrap_or(&target.host);
    let name = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::Name {
        host: name.to_owned(),
        source: io::Error::other("neither a DNS name nor an address"),
    })?;
    let peer = target.to_string();
    TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|error| match explain_io_error(&error, &peer) {
            Some(explanation) => ConnectError::Tls(Box::new(explanation)),
            None => ConnectError::tcp(peer, error),
        })
}

async fn upgrade(target: &Target, token: &str, tls: TlsStream<TcpStream>) -> Result<Stream, ConnectError> {
    let other = |detail: String| ConnectError::NotACollector {
        peer: target.to_string(),
        detail,
    };
    let uri: Uri = format!("wss://{target}{}", target.path)
        .parse()
        .map_err(|error| other(format!("{error}")))?;
    let mut request = uri
        .into_client_request()
        .map_err(|error| other(error.to_string()))?;
    let mut bearer =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ConnectError::TokenUnreadable)?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let agent = HeaderValue::from_static(concat!("edgelogger-agent/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(header::USER_AGENT, agent);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(4 * FRAGMENT_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match client_async_with_config(request, tls, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WebSocketError::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            Err(ConnectError::http(
                target.to_string(),
                answer.status().as_u16(),
                body,
            ))
        }
        // With TLS 1.3 the server's verdict on the handshake comes with the first read.
        Err(WebSocketError::Io(error)) => Err(match explain_io_error(&error, &target.to_string()) {
            Some(explanation) if error.kind() != io::ErrorKind::UnexpectedEof => {
                ConnectError::Tls(Box::new(explanation))
            }
            _ => other(format!("the connection ended: {error}")),
        }),
        Err(error) => Err(other(error.to_string())),
    }
}

/// What is written next: a piece of a message, or a control message.
#[derive(Debug)]
struct Piece {
    message: Message,
    bytes: usize,
}

/// The sending half: messages in, pieces out. Its owner bounds what is in it (the window of the session).
pub(super) struct Line {
    sink: SplitSink<Stream, Message>,
    pieces: VecDeque<Piece>,
    is_unflushed: bool,
    /// The system did not take the next piece at once.
    has_waited: bool,
}

/// What one step of a line did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrote {
    /// Bytes handed to the system's side.
    pub bytes: usize,
    /// Only after a wait: the other side has made room.
    pub waited: bool,
}

impl Line {
    fn new(sink: SplitSink<Stream, Message>) -> Self {
        Self {
            sink,
            pieces: VecDeque::new(),
            is_unflushed: false,
            has_waited: false,
        }
    }

    /// Is there something to write or flush?
    pub fn has_work(&self) -> bool {
        self.is_unflushed || !self.pieces.is_empty()
    }

    /// Pieces that wait.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The library has something to say.
    pub fn flush_soon(&mut self) {
        self.is_unflushed = true;
    }

    /// Puts a message at the end.
    pub fn push(&mut self, message: Outbound) {
        let mut pieces = message.pieces(FRAGMENT_BYTES).peekable();
        let mut opcode = OpCode::Data(Data::Binary);
        while let Some(piece) = pieces.next() {
            let bytes = piece.len();
            let frame = RawFrame::message(piece, opcode, pieces.peek().is_none());
            self.pieces.push_back(Piece {
                message: Message::Frame(frame),
                bytes,
            });
            opcode = OpCode::Data(Data::Continue);
        }
    }

    /// Puts a ping before everything else: RFC 6455 lets it pass between fragments.
    pub fn push_ping(&mut self, content: [u8; 8]) {
        let message = Message::Ping(Bytes::copy_from_slice(&content));
        self.pieces.push_front(Piece {
            message,
            bytes: content.len(),
        });
    }

    /// Puts the end of the connection behind everything else.
    pub fn push_close(&mut self) {
        let message = Message::Close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        }));
        self.pieces.push_back(Piece { message, bytes: 0 });
    }

    /// Writes one piece, or flushes when there is none. Cancel safe: a piece is taken only when it can be handed over.
    pub async fn step(&mut self) -> Result<Wrote, WebSocketError> {
        let is_flush = self.pieces.is_empty();
        let (sink, has_waited) = (&mut self.sink, &mut self.has_waited);
        poll_fn(|context| {
            let sink = Pin::new(&mut *sink);
            let polled = if is_flush {
                sink.poll_flush(context)
            } else {
                sink.poll_ready(context)
            };
            *has_waited |= polled.is_pending();
            match polled {
                Poll::Ready(done) => Poll::Ready(done),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        let waited = std::mem::take(&mut self.has_waited);
        let Some(piece) = self.pieces.pop_front() else {
            self.is_unflushed = false;
            return Ok(Wrote { bytes: 0, waited });
        };
        self.is_unflushed = true;
        Pin::new(&mut self.sink).start_send(piece.message)?;
        Ok(Wrote {
            bytes: piece.bytes,
            waited,
        })
    }

    /// Writes everything.
    pub async fn finish(&mut self) -> Result<(), WebSocketError> {
        while self.has_work() {
            self.step().await?;
        }
        Ok(())
    }
}

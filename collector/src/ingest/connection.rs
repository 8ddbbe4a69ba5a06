//! The shell of a session: it owns the socket and the timers, carries out what the core decides, and brings back
//! what became of it.
//!
//! ```text
//! socket ──frames──> core ──> checking (in order) ──> log queue ──> appending (in order) ──> core ──acks──> socket
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::auth::{Claims, LEEWAY};
use edgelogger_common::codec::Codec;
use edgelogger_common::error_code;
use edgelogger_proto::v1::{self, BlockKind, Durability, Frame, Limits, Welcome, frame::Body};
use futures_util::SinkExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesOrdered, StreamExt};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WebSocketError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::IngestContext;
use super::credit::Window;
use super::hello::{Greeting, Refusal, check_hello};
use super::registry::Lease;
use super::session::{Action, Farewell, Session, Ticket};
use super::validate::{BatchFault, CheckedBatch};
use crate::flow::{EncodedEntry, Verdict};

/// Buffers of a socket: a batch has a buffer of its own size while it comes in.
const SOCKET_BUFFER_BYTES: usize = 4 << 10;
/// What a frame may have beside a batch's payload. A Hello with 65,536 streams has 4 MiB, which
/// [`message_bytes_max`] allows.
const FRAME_OVERHEAD_BYTES: usize = 64 << 10;
/// The largest Hello or Heartbeat.
const GREETING_BYTES_MAX: usize = 4 << 20;
/// Time for the other side to take what is sent to it. Acks are small, so a full socket means nobody reads.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the last words.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// Intervals in silence after which a connection is dead.
const SILENT_INTERVALS_MAX: u32 = 3;
/// What RFC 6455 leaves for the reason of a close frame.
const CLOSE_REASON_BYTES_MAX: usize = 123;
/// Pause for agents when the log's writer is gone: the process is ending.
const LOG_GONE_PAUSE: Duration = Duration::from_secs(2);

type Socket<S> = WebSocketStream<Metered<S>>;

/// Runs one session on an upgraded connection, to its end.
pub(super) async fn run<S>(
    context: Arc<IngestContext>,
    claims: Claims,
    socket: S,
    read_already: Bytes,
    peer: SocketAddr,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let heard = Arc::new(AtomicU64::new(0));
    let socket = Metered {
        inner: socket,
        heard: Arc::clone(&heard),
    };
    let bytes_max = message_bytes_max(&context);
    let config = WebSocketConfig::default()
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(1 << 20)
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    let mut socket =
        WebSocketStream::from_partially_read(socket, read_already.to_vec(), Role::Server, Some(config)).await;
    let peer = peer.to_string();
    let welcomed = tokio::select! {
        () = context.stop.cancelled() => return,
        welcomed = welcome(&context, &claims, &mut socket, &peer) => welcomed,
    };
    match welcomed {
        Ok(established) => {
            Shell::new(&context, claims, socket, heard, established)
                .run(&peer)
                .await;
        }
        Err(Some(refusal)) => {
            context.counts.refused.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                agent = claims.sub,
                peer,
                code = refusal.code.code,
                "session refused: {refusal}"
            );
            refuse(&mut socket, &refusal).await;
        }
        Err(None) => {}
    }
}

fn message_bytes_max(context: &IngestContext) -> usize {
    let batch = context.settings.batch_limits.decode.compressed_bytes_max;
    batch.saturating_add(FRAME_OVERHEAD_BYTES).max(GREETING_BYTES_MAX)
}

/// How long health shows that agents were refused for want of memory.
const REFUSED_SHOWN_FOR: Duration = Duration::from_secs(600);

struct Established {
    lease: Lease,
    core: Session,
    agent: Arc<str>,
}

/// Hello in, Welcome out. `Err(None)`: the agent is gone, there is nobody to tell.
async fn welcome<S>(
    context: &Arc<IngestContext>,
    claims: &Claims,
    socket: &mut Socket<S>,
    peer: &str,
) -> Result<Established, Option<Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = match timeout(context.settings.handshake_timeout, socket.next()).await {
        Ok(Some(Ok(Message::Binary(bytes)))) => Frame::decode(bytes).ok().and_then(|frame| frame.body),
        Ok(Some(Ok(_))) => None,
        Ok(Some(Err(_)) | None) => return Err(None),
        Err(_) => {
            let message = "no Hello came in time";
            return Err(Some(Refusal::lasting(error_code::PROTOCOL_VIOLATION, message)));
        }
    };
    let Some(Body::Hello(hello)) = hello else {
        let message = "the first frame is not a Hello of wire v1";
        return Err(Some(Refusal::lasting(error_code::PROTOCOL_VIOLATION, message)));
    };
    let greeting = check_hello(hello, claims).map_err(Some)?;
    let lease = context.registry.admit(&greeting.identity, peer).map_err(Some)?;
    let window = Window::open(&context.budget, context.settings.window_bytes_max).ok_or_else(|| {
        let message = "the memory for agents is used up; raise memory in [ingest]";
        context.health.raise_for(
            REFUSED_SHOWN_FOR,
            "ingest memory",
            error_code::COLLECTOR_BUSY,
            message,
        );
        Some(Refusal::passing(
            error_code::COLLECTOR_BUSY,
            message,
            Duration::from_secs(10),
        ))
    })?;
    lease.status.told_time(greeting.clock_ns, context.clock.wall_ns());
    let agent: Arc<str> = greeting.identity.agent_id.as_str().into();
    let (known, descriptors) = context.known.answer(&agent, &greeting.streams);
    let of_other_log = is_of_other_log(context, &greeting);
    context
        .heads
        .greeted(&agent, &greeting.streams, of_other_log, context.clock.wall_ns());
    let mut answer = welcome_frame(context, greeting.protocol, known, window.limit());
    if !greeting.adopt_machine_mark.is_empty() {
        answer.stored = (context.stored)(&agent, &greeting.adopt_machine_mark);
    }
    let core = Session::new(greeting.identity, window, descriptors, &greeting.streams);
    send(socket, Body::Welcome(answer)).await.map_err(|_| None)?;
    Ok(Established { lease, core, agent })
}

fn is_of_other_log(context: &IngestContext, greeting: &Greeting) -> bool {
    let is_other = !greeting.last_log_id.is_empty() && greeting.last_log_id != context.log.log_id[..];
    if is_other {
        tracing::warn!(
            agent = greeting.identity.agent_id,
            "this agent sent to another commit log before; what that log acknowledged is not sent again"
        );
    }
    is_other
}

fn welcome_frame(
    context: &IngestContext,
    protocol: u32,
    streams: Vec<v1::StreamKnown>,
    credit_limit: u64,
) -> Welcome {
    let limits = &context.settings.batch_limits;
    let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Welcome {
        log_id: Bytes::copy_from_slice(&context.log.log_id),
        protocol,
        limits: Some(Limits {
            batch_bytes_max: limits.decode.compressed_bytes_max as u64,
            decompressed_bytes_max: limits.decode.decompressed_bytes_max as u64,
            ratio_max: narrow(limits.decode.ratio_max),
            blocks_max: limits.blocks_max,
            record_bytes_max: limits.record_bytes_max,
            batches_in_flight_max: context.settings.in_flight_max,
        }),
        codecs: Codec::ALL
            .iter()
            .map(|codec| v1::Codec::from(*codec).into())
            .collect(),
        kinds: [BlockKind::Log, BlockKind::Metric, BlockKind::Receipt]
            .map(i32::from)
            .to_vec(),
        streams,
        reconnect_spread_ms: narrow(
            usize::try_from(context.reconnect_spread().as_millis()).unwrap_or(usize::MAX),
        ),
        heartbeat_interval_ms: u32::try_from(context.settings.heartbeat_interval.as_millis())
            .unwrap_or(u32::MAX),
        credit_limit,
        collector_version: env!("CARGO_PKG_VERSION").to_owned(),
        clock_ns: context.clock.wall_ns(),
        durability: Durability::Fsync.into(),
        stored: Vec::new(),
    }
}

async fn refuse<S>(socket: &mut Socket<S>, refusal: &Refusal)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let farewell = async {
        let _ = send(socket, Body::Refuse(refusal.to_frame())).await;
        close(socket, 1008, &format!("{}: {}", refusal.code, refusal.message)).await;
    };
    let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
}

async fn send<S>(socket: &mut Socket<S>, body: Body) -> Result<(), WebSocketError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bytes = Frame { body: Some(body) }.encode_to_vec();
    match timeout(SEND_TIMEOUT, socket.send(Message::binary(bytes))).await {
        Ok(sent) => sent,
        Err(_) => Err(WebSocketError::Io(io::ErrorKind::TimedOut.into())),
    }
}

/// Sends a close frame and waits for the other side's, so that what was said before arrives.
async fn close<S>(socket: &mut Socket<S>, code: u16, reason: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: reason[..end].to_owned().into(),
    };
    if socket.close(Some(frame)).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

/// What leaves the checking stage, in the order in which it went in.
enum Checked {
    Batch(Ticket, Result<CheckedBatch, BatchFault>),
    Pass(Ticket, EncodedEntry),
}

/// Why the loop of a session ends.
enum End {
    /// With last words.
    Farewell(Farewell),
    /// The other side said goodbye or is gone.
    Gone(String),
}

struct Shell<'a, S> {
    context: &'a Arc<IngestContext>,
    claims: Claims,
    socket: Socket<S>,
    /// Grows whenever bytes come in.
    heard: Arc<AtomicU64>,
    heard_before: u64,
    silent_intervals: u32,
    lease: Lease,
    core: Session,
    agent: Arc<str>,
    checking: FuturesOrdered<BoxFuture<'static, Checked>>,
    appending: FuturesOrdered<BoxFuture<'static, (Ticket, Verdict)>>,
}

impl<'a, S> Shell<'a, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn new(
        context: &'a Arc<IngestContext>,
        claims: Claims,
        socket: Socket<S>,
        heard: Arc<AtomicU64>,
        established: Established,
    ) -> Self {
        let Established { lease, core, agent } = established;
        Self {
            context,
            claims,
            socket,
            heard,
            heard_before: 0,
            silent_intervals: 0,
            lease,
            core,
            agent,
            checking: FuturesOrdered::new(),
            appending: FuturesOrdered::new(),
        }
    }

    async fn run(mut self, peer: &str) {
        tracing::info!(agent = %self.agent, peer, "session begins");
        let end = self.work().await;
        let why = match end {
            End::Gone(why) => why,
            End::Farewell(farewell) => {
                let Farewell {
                    code,
                    message,
                    close_code,
                    ..
                } = &farewell;
                let last_words = async {
                    let _ = send(&mut self.socket, Body::Goodbye(farewell.to_frame())).await;
                    close(&mut self.socket, *close_code, &format!("{code}: {message}")).await;
                };
                let _ = timeout(FAREWELL_TIMEOUT, last_words).await;
                format!("{code}: {message}")
            }
        };
        tracing::info!(agent = %self.agent, peer, "session ends: {why}");
    }

    async fn work(&mut self) -> End {
        let mut ticks = self.ticks();
        let in_flight_max = self.context.settings.in_flight_max.max(1) as usize;
        let fence = self.lease.fence.clone();
        loop {
            let may_read = self.core.in_flight() < in_flight_max;
            let step = tokio::select! {
                biased;
                () = fence.cancelled() => Err(End::Farewell(fenced())),
                () = self.context.stop.cancelled() => Err(End::Farewell(stopping())),
                Some((ticket, verdict)) = self.appending.next() => self.on_verdicts(ticket, verdict).await,
                Some(checked) = self.checking.next() => self.on_checked(checked).await,
                _ = ticks.tick() => self.on_tick(),
                message = self.socket.next(), if may_read => self.on_message(message).await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn ticks(&self) -> Interval {
        let interval = self
            .context
            .settings
            .heartbeat_interval
            .max(Duration::from_millis(100));
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    fn on_tick(&mut self) -> Result<(), End> {
        let now_ns = self.context.time.now_ns();
        let leeway_s = LEEWAY.as_secs().cast_signed();
        if now_ns / 1_000_000_000 - leeway_s >= self.claims.exp {
            return Err(End::Farewell(expired()));
        }
        let heard = self.heard.load(Ordering::Relaxed);
        // While we ourselves do not read, silence is not the agent's.
        if heard == self.heard_before && self.core.in_flight() == 0 {
            self.silent_intervals += 1;
        } else {
            (self.heard_before, self.silent_intervals) = (heard, 0);
            self.lease.status.heard(self.context.clock.monotonic());
        }
        if self.silent_intervals >= SILENT_INTERVALS_MAX {
            return Err(End::Gone(format!(
                "nothing was heard for {SILENT_INTERVALS_MAX} heartbeat intervals"
            )));
        }
        Ok(())
    }

    async fn on_message(&mut self, message: Option<Result<Message, WebSocketError>>) -> Result<(), End> {
        let frame = match message {
            Some(Ok(Message::Binary(bytes))) => Frame::decode(bytes).map_err(|error| {
                End::Farewell(Farewell::violation(format!(
                    "a message that is not a frame of wire v1: {error}"
                )))
            })?,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone("closed by the agent".to_owned())),
            Some(Ok(_)) => return Err(End::Farewell(Farewell::violation("a message that is not binary"))),
            Some(Err(WebSocketError::Capacity(CapacityError::MessageTooLong { size, max_size }))) => {
                let message = format!("a message of {size} bytes, at most {max_size} are allowed");
                return Err(End::Farewell(Farewell {
                    close_code: 1009,
                    ..Farewell::violation(message)
                }));
            }
            Some(Err(WebSocketError::Protocol(error))) => {
                return Err(End::Farewell(Farewell::violation(error.to_string())));
            }
            Some(Err(error)) => return Err(End::Gone(error.to_string())),
        };
        let mut actions = self.core.on_frame(frame, self.context.clock.wall_ns());
        actions.extend(self.core.answer());
        self.perform(actions).await
    }

    async fn on_checked(&mut self, checked: Checked) -> Result<(), End> {
        let mut actions = match checked {
            Checked::Batch(ticket, result) => self.core.on_checked(ticket, result),
            Checked::Pass(ticket, entry) => vec![Action::Append(ticket, entry)],
        };
        actions.extend(self.core.answer());
        self.perform(actions).await
    }

    /// Takes all verdicts that are there, so that one Ack answers a whole group commit.
    async fn on_verdicts(&mut self, ticket: Ticket, verdict: Verdict) -> Result<(), End> {
        let mut actions = self.core.on_verdict(ticket, verdict);
        while let Some(Some((ticket, verdict))) = self.appending.next().now_or_never() {
            actions.extend(self.core.on_verdict(ticket, verdict));
        }
        actions.extend(self.core.answer());
        self.perform(actions).await
    }

    async fn perform(&mut self, actions: Vec<Action>) -> Result<(), End> {
        for action in actions {
            match action {
                Action::Send(body) => {
                    send(&mut self.socket, body)
                        .await
                        .map_err(|error| End::Gone(error.to_string()))?;
                }
                Action::Check(ticket, batch) => {
                    let validator = Arc::clone(&self.context.validator);
                    let labels_len = self.core.labels_len();
                    let check =
                        async move { Checked::Batch(ticket, validator.validate(batch, labels_len).await) };
                    self.checking.push_back(check.boxed());
                }
                Action::AppendInTurn(ticket, entry) => {
                    self.checking
                        .push_back(std::future::ready(Checked::Pass(ticket, entry)).boxed());
                }
                Action::Append(ticket, entry) => self.append(ticket, entry).await,
                Action::Close(farewell) => return Err(End::Farewell(farewell)),
                other => self.note(other),
            }
        }
        if self.core.is_closed() {
            Err(End::Gone("the agent said goodbye".to_owned()))
        } else {
            Ok(())
        }
    }

    async fn append(&mut self, ticket: Ticket, entry: EncodedEntry) {
        let answer = self.context.log.submit(entry).await;
        let verdict = async move { (ticket, answer.await.unwrap_or_else(|_| log_gone())) };
        self.appending.push_back(verdict.boxed());
    }

    /// What is remembered or counted only.
    fn note(&self, action: Action) {
        let counts = &self.context.counts;
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        match action {
            Action::Durable(blocks) => {
                for block in blocks {
                    self.context
                        .known
                        .durable(&self.agent, block.stream_id, block.range);
                }
            }
            Action::Opened(descriptor) => self.context.known.opened(&self.agent, descriptor),
            Action::CountDurable {
                records,
                payload_bytes,
            } => {
                add(&counts.batches, 1);
                add(&counts.records, records.into());
                add(&counts.payload_bytes, payload_bytes);
            }
            Action::CountRejected => drop(add(&counts.rejected, 1)),
            Action::CountRetried => drop(add(&counts.retried, 1)),
            Action::Backlog {
                streams,
                pending,
                unread,
            } => self.lease.status.backlog(streams, pending, unread),
            Action::Heads(heads) => {
                let now_ns = self.context.clock.wall_ns();
                self.context.heads.told(&self.agent, &heads, now_ns);
            }
            Action::AgentTime(ns) => self.lease.status.told_time(ns, self.context.clock.wall_ns()),
            _ => {}
        }
    }
}

fn fenced() -> Farewell {
    Farewell {
        code: error_code::STALE_EPOCH,
        message: "a newer session of this installation took over".to_owned(),
        reconnect_after: Duration::from_secs(60),
        close_code: 1008,
    }
}

fn stopping() -> Farewell {
    Farewell {
        code: error_code::COLLECTOR_STOPPING,
        message: "the collector is stopping".to_owned(),
        reconnect_after: Duration::from_millis(500),
        close_code: 1001,
    }
}

fn expired() -> Farewell {
    Farewell {
        code: error_code::TOKEN_EXPIRED,
        message: "the token expired during the session".to_owned(),
        reconnect_after: Duration::from_secs(60),
        close_code: 1008,
    }
}

fn log_gone() -> Verdict {
    Verdict::Later {
        after: LOG_GONE_PAUSE,
        code: error_code::COLLECTOR_STOPPING,
        message: "the commit log is closed".to_owned(),
    }
}

/// Tells when bytes come in: a large batch on a slow line is no silence.
#[derive(Debug)]
struct Metered<S> {
    inner: S,
    heard: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.heard
            .fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

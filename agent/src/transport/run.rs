//! The shell: one task that carries out what the session decides, connection after connection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::clock::Clock;
use edgelogger_common::disk::Disk;
use edgelogger_common::error_code;
use edgelogger_common::tls::FloorTime;
use edgelogger_proto::v1::{BlockKind, Codec, Goodbye, Heartbeat, Hello, StreamHead, Welcome, frame::Body};
use edgelogger_proto::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN};
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use super::config::{Target, TargetError};
use super::heads::Heads;
use super::journal::{Journal, Vitals};
use super::liveness::Liveness;
use super::quarantine::Quarantine;
use super::session::{Action, End, Session};
use super::status::{Complaints, ConnectionState, TransportStatus, TransportTrouble};
use super::tls_files::{TlsFiles, read_token};
use super::websocket::{Incoming, Line, connect};
use super::wire::{self, Outbound};
use super::{Backoff, CollectorConfig, CollectorLimits, ConnectError, LineTerms};
use crate::checkpoint::LogReplaced;
use crate::flow::Outgoing;

/// Streams that a Hello asks about: 300 KB. Those beyond are sent as if the collector knew nothing of them, and
/// deduplicated there.
const HELLO_STREAMS_MAX: usize = 8192;
/// A session that lasted this long worked, even if there was nothing to ack.
const WORKED_AFTER: Duration = Duration::from_secs(10);
/// While the agent stops and the collector is away: how often to look whether anything is left to be delivered.
const EXHAUSTED_POLL: Duration = Duration::from_millis(100);
/// How long a Goodbye may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Who this agent is, beside what its token says.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Version of the program.
    pub agent_version: String,
    /// Stand in every row.
    pub labels: BTreeMap<String, String>,
    /// As information.
    pub hostname: String,
    /// As information.
    pub boot_id: String,
}

/// What a transport is made of.
pub struct Parts {
    /// `[collector]`.
    pub config: CollectorConfig,
    /// Who we are.
    pub identity: Identity,
    /// Where progress is kept.
    pub journal: Arc<dyn Journal>,
    /// What heartbeats tell.
    pub vitals: Arc<dyn Vitals>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For the quarantine.
    pub disk: Arc<dyn Disk>,
    /// Folder of rejected blocks.
    pub quarantine_dir: PathBuf,
}

/// See the module page.
pub struct Transport {
    config: CollectorConfig,
    target: Target,
    identity: Identity,
    journal: Arc<dyn Journal>,
    vitals: Arc<dyn Vitals>,
    clock: Arc<dyn Clock>,
    floor: Arc<FloorTime>,
    tls: TlsFiles,
    quarantine: Quarantine,
    session: Session,
    backoff: Backoff,
    heads: Heads,
    complaints: Complaints,
    started: Instant,
    spread: Duration,
    status: watch::Sender<TransportStatus>,
    terms: watch::Sender<LineTerms>,
}

/// How a connection ended.
#[derive(Debug)]
enum Over {
    /// It comes again.
    Again(End),
    /// Everything is delivered, or the time is over.
    Finished,
}

/// Where items come from, and when it is over.
struct Input {
    items: mpsc::Receiver<Outgoing>,
    is_closed: bool,
    stop: Stop,
}

/// The deadline, once there is one.
struct Stop {
    deadline: watch::Receiver<Option<Instant>>,
    is_gone: bool,
}

impl Input {
    fn deadline(&self) -> Option<Instant> {
        *self.stop.deadline.borrow()
    }

    /// Will there never be another item?
    fn is_exhausted(&self) -> bool {
        self.is_closed || (self.items.is_closed() && self.items.is_empty())
    }
}

impl Stop {
    /// Waits for a new deadline.
    async fn changed(&mut self) {
        if self.is_gone || self.deadline.changed().await.is_err() {
            self.is_gone = true;
            std::future::pending::<()>().await;
        }
    }
}

impl Transport {
    /// A transport that was not started, with its status and what the encoder makes batches for.
    ///
    /// # Errors
    /// The URL can't be used. Everything else that may be wrong can be repaired while the agent runs.
    pub fn new(
        parts: Parts,
    ) -> Result<(Self, watch::Receiver<TransportStatus>, watch::Receiver<LineTerms>), TargetError> {
        let target = parts.config.target()?;
        let floor = Arc::new(FloorTime::new(Arc::clone(&parts.clock)));
        let status = TransportStatus {
            peer: target.to_string(),
            since_ns: parts.clock.wall_ns(),
            down_since_ns: Some(parts.clock.wall_ns()),
            log_replaced: parts
                .journal
                .log_replaced()
                .map(|replaced| log_replaced_message(&target, replaced)),
            ..TransportStatus::default()
        };
        let (status, status_receiver) = watch::channel(status);
        let (terms, terms_receiver) = watch::channel(LineTerms::default());
        let transport = Self {
            session: Session::new(parts.config.in_flight_bytes.as_u64(), parts.journal.log_id()),
            tls: TlsFiles::new(&parts.config.ca, Arc::clone(&floor)),
            quarantine: Quarantine::new(parts.disk, &parts.quarantine_dir),
            config: parts.config,
            target,
            identity: parts.identity,
            journal: parts.journal,
            vitals: parts.vitals,
            clock: parts.clock,
            floor,
            backoff: Backoff::default(),
            heads: Heads::default(),
            complaints: Complaints::default(),
            started: Instant::now(),
            spread: Duration::ZERO,
            status,
            terms,
        };
        Ok((transport, status_receiver, terms_receiver))
    }

    /// Runs until `items` is closed and everything is acked, or until the deadline that `stop` gives. `true`: all was
    /// acked.
    pub async fn run(
        mut self,
        items: mpsc::Receiver<Outgoing>,
        stop: watch::Receiver<Option<Instant>>,
    ) -> bool {
        let stop = Stop {
            deadline: stop,
            is_gone: false,
        };
        let mut input = Input {
            items,
            is_closed: false,
            stop,
        };
        loop {
            let end = match self.connection(&mut input).await {
                Over::Finished => break,
                Over::Again(end) => end,
            };
            self.session.disconnected();
            self.note_trouble(&end);
            if self.is_done(&input) || !self.wait(&end, &mut input).await {
                break;
            }
        }
        self.set_state(ConnectionState::Stopped);
        self.session.is_drained() && input.is_exhausted()
    }

    fn is_done(&self, input: &Input) -> bool {
        let is_late = input
            .deadline()
            .is_some_and(|deadline| Instant::now() >= deadline);
        is_late || (input.is_exhausted() && self.session.is_drained())
    }

    /// One attempt: connect, greet, work.
    async fn connection(&mut self, input: &mut Input) -> Over {
        self.set_state(ConnectionState::Connecting);
        let is_drained = self.session.is_drained();
        let connected = tokio::select! {
            connected = self.connect() => connected,
            () = wait_for_end(input, is_drained) => return Over::Finished,
        };
        match connected {
            Ok((line, incoming, hello)) => {
                let mut live = Live::new(line, self.now(), self.config.connect_timeout.get());
                let actions = self.session.connected(hello);
                self.heads.clear();
                match self.carry_out(actions, &mut live.line) {
                    Some(end) => Over::Again(end),
                    None => self.work(live, incoming, input).await,
                }
            }
            Err(error) => Over::Again(End {
                code: error.code().to_owned(),
                message: error.to_string(),
                retry_after: Duration::ZERO,
                is_lasting: error.is_lasting(),
            }),
        }
    }

    async fn connect(&mut self) -> Result<(Line, Incoming, Hello), ConnectError> {
        // An outage is when positions begin to wait.
        drop(self.vitals.heads());
        let (token, agent_id) = read_token(&self.config)?;
        let tls = self.tls.config()?;
        let after = self.config.connect_timeout.get();
        let attempt = connect(
            &self.target,
            self.config.server_name.as_deref(),
            token.reveal(),
            tls,
        );
        let (line, incoming) =
            timeout(after, Box::pin(attempt))
                .await
                .map_err(|_| ConnectError::Timeout {
                    peer: self.target.to_string(),
                    after,
                })??;
        Ok((line, incoming, self.hello(agent_id)))
    }

    fn hello(&self, agent_id: String) -> Hello {
        let streams: Vec<StreamHead> = self.vitals.heads().into_iter().take(HELLO_STREAMS_MAX).collect();
        Hello {
            agent_id,
            instance_id: Bytes::copy_from_slice(&self.journal.instance_id()),
            session_epoch: self.journal.next_epoch(),
            protocol_min: PROTOCOL_VERSION_MIN,
            protocol_max: PROTOCOL_VERSION_MAX,
            agent_version: self.identity.agent_version.clone(),
            kinds: [BlockKind::Log, BlockKind::Metric, BlockKind::Receipt]
                .map(Into::into)
                .into(),
            codecs: [Codec::Zstd, Codec::Lz4, Codec::Snappy, Codec::Gzip, Codec::None]
                .map(Into::into)
                .into(),
            labels: self.identity.labels.clone(),
            streams,
            last_log_id: self
                .journal
                .log_id()
                .map(|id| Bytes::copy_from_slice(&id))
                .unwrap_or_default(),
            clock_ns: self.clock.wall_ns(),
            tenant: String::new(),
            hostname: self.identity.hostname.clone(),
            boot_id: self.identity.boot_id.clone(),
            adopt_machine_mark: self.journal.adoption_question().unwrap_or_default(),
        }
    }

    /// Works until the connection or the input ends.
    async fn work(&mut self, mut live: Live, mut incoming: Incoming, input: &mut Input) -> Over {
        loop {
            if self.is_done(input) {
                return self.say_goodbye(live).await;
            }
            let wake = self.wake_at(&live, input);
            let wants_item = self.session.wants_item() && !input.is_closed && !live.is_full();
            if !wants_item && !input.items.is_empty() {
                self.session.note_pressed();
            }
            let ended = tokio::select! {
                message = incoming.next() => self.on_message(message, &mut live),
                wrote = live.line.step(), if live.line.has_work() => match wrote {
                    Ok(wrote) => {
                        live.liveness.wrote(wrote.bytes, wrote.waited, self.now());
                        self.status.send_if_modified(|status| {
                            status.bytes_sent += wrote.bytes as u64;
                            false
                        });
                        None
                    }
                    Err(error) => Some(lost(&error)),
                },
                item = input.items.recv(), if wants_item => match item {
                    Some(item) => self.on_item(item, &mut live),
                    None => {
                        input.is_closed = true;
                        None
                    }
                },
                () = sleep_until(wake) => self.on_time(&mut live),
                () = input.stop.changed() => None,
            };
            if let Some(end) = ended {
                if end.code == error_code::PROTOCOL_VIOLATION.code {
                    farewell(&mut live.line, &end.code, &end.message).await;
                }
                return Over::Again(end);
            }
        }
    }

    fn wake_at(&self, live: &Live, input: &Input) -> Instant {
        let greeting = (!self.session.is_live()).then_some(live.greeting_until);
        let due = self
            .session
            .wake_at()
            .into_iter()
            .chain([live.liveness.dead_at()])
            .chain(greeting)
            .min();
        let due = self.started + due.unwrap_or(Duration::from_secs(60));
        input.deadline().map_or(due, |deadline| due.min(deadline))
    }

    fn on_item(&mut self, item: Outgoing, live: &mut Live) -> Option<End> {
        let mut actions = self.open_unknown(&item);
        actions.extend(self.session.push(item, self.now()));
        self.carry_out(actions, &mut live.line)
    }

    /// Streams of an earlier process whose source did not open them again in this one.
    fn open_unknown(&mut self, item: &Outgoing) -> Vec<Action> {
        let ids: Vec<_> = match item {
            Outgoing::Open(_) => Vec::new(),
            Outgoing::End(close) => vec![close.stream_id],
            Outgoing::Batch(batch) => batch.blocks.iter().map(|block| block.stream_id).collect(),
        };
        let mut actions = Vec::new();
        for id in ids {
            if !self.session.knows(&id)
                && let Some(descriptor) = self.journal.descriptor(&id)
            {
                actions.extend(
                    self.session
                        .push(Outgoing::Open(Box::new(descriptor)), self.now()),
                );
            }
        }
        actions
    }

    fn on_message(
        &mut self,
        message: Option<Result<Message, WebSocketError>>,
        live: &mut Live,
    ) -> Option<End> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Some(lost(&error)),
            None => return Some(lost(&WebSocketError::ConnectionClosed)),
        };
        let now = self.now();
        live.liveness.heard(now);
        match message {
            Message::Binary(bytes) => match wire::decode(bytes) {
                Ok(frame) => {
                    let actions = self.session.frame(frame, now);
                    let ended = self.carry_out(actions, &mut live.line);
                    live.liveness.set_interval(self.session.heartbeat_interval());
                    self.show_in_flight();
                    self.tell_pace();
                    ended
                }
                Err(error) => Some(broken(format!(
                    "the collector sent something that is no frame: {error}"
                ))),
            },
            Message::Text(_) => Some(broken("the collector sent a text message".to_owned())),
            Message::Close(_) => Some(lost(&WebSocketError::ConnectionClosed)),
            Message::Pong(content) => {
                self.show_round_trip(&content, now);
                None
            }
            // The library answers pings; the answer goes out with the next write or flush.
            Message::Ping(_) => {
                live.line.flush_soon();
                None
            }
            Message::Frame(_) => None,
        }
    }

    fn on_time(&mut self, live: &mut Live) -> Option<End> {
        let now = self.now();
        if now >= live.liveness.dead_at() {
            let seconds = live.liveness.silent_for(now).as_secs();
            return Some(unreachable_end(format!(
                "nothing was heard from {} for {seconds} s",
                self.target
            )));
        }
        if !self.session.is_live() && now >= live.greeting_until {
            return Some(unreachable_end(format!(
                "{} accepted the connection, but did not answer Hello",
                self.target
            )));
        }
        if self.session.is_live() && now >= live.since + WORKED_AFTER {
            self.worked();
        }
        let actions = self.session.tick(now);
        self.carry_out(actions, &mut live.line)
    }

    /// Does what the session decided. The reason, if it ends the connection.
    fn carry_out(&mut self, actions: Vec<Action>, line: &mut Line) -> Option<End> {
        let mut ended = None;
        for action in actions {
            match action {
                Action::Send(message) => line.push(message),
                Action::Heartbeat => self.heartbeat(line),
                Action::Acked(block, how) => {
                    self.journal.acked(&block, how);
                    self.acked_something();
                }
                Action::Ended(stream_id) => self.journal.ended(&stream_id),
                Action::Rejected { block, code, message } => {
                    self.status.send_modify(|status| status.blocks_rejected += 1);
                    let what = format!(
                        "the collector rejected positions {} to {} of stream {}: {message}; they are declared lost",
                        block.start, block.end, block.stream_id
                    );
                    self.complain(&code, &what);
                }
                Action::Quarantine { block, code } => {
                    if let Err(error) = self.quarantine.keep(&block, &code, self.clock.wall_ns()) {
                        self.complain("E0404", &format!("a rejected block could not be kept: {error}"));
                    }
                }
                Action::Complain { code, message } => self.complain(&code, &message),
                Action::NotTaken { code, message } => self.not_taken(&code, message),
                Action::TakenAgain => self.status.send_modify(|status| status.not_taken = None),
                Action::Welcomed(welcome) => self.welcomed(&welcome),
                Action::LogReplaced { known, found } => self.log_replaced(known, found),
                Action::LogId(id) => self.journal.set_log_id(id),
                Action::Close(end) => ended = Some(end),
            }
        }
        ended
    }

    fn heartbeat(&mut self, line: &mut Line) {
        let mut metrics = self.vitals.metrics();
        metrics.bytes_sent = self.status.borrow().bytes_sent;
        let streams = self.heads.changed(self.vitals.heads());
        let heartbeat = Heartbeat {
            clock_ns: self.clock.wall_ns(),
            streams,
            metrics: Some(metrics),
        };
        line.push(Outbound::frame(Body::Heartbeat(heartbeat)));
        let now_ns = u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX);
        line.push_ping(now_ns.to_le_bytes());
    }

    fn tell_pace(&self) {
        // Steps, so that not every ack makes other batches.
        let Some(step) = self.session.bytes_per_second().and_then(u64::checked_ilog2) else {
            return;
        };
        let rate = 1 << step;
        if self.terms.borrow().bytes_per_second != Some(rate) {
            self.terms
                .send_modify(|terms| terms.bytes_per_second = Some(rate));
        }
    }

    fn welcomed(&mut self, welcome: &Welcome) {
        self.floor.observe_ns(welcome.clock_ns);
        self.journal.adoption_answer(&welcome.stored);
        self.spread = Duration::from_millis(welcome.reconnect_spread_ms.into());
        self.terms.send_if_modified(|terms| {
            let said = CollectorLimits::of(welcome);
            let is_new = terms.limits != said;
            terms.limits = said;
            is_new
        });
        let durability = welcome
            .durability()
            .as_str_name()
            .trim_start_matches("DURABILITY_")
            .to_lowercase();
        let version = welcome.collector_version.clone();
        tracing::info!(
            "connected to {}, version {version}, durability {durability}",
            self.target
        );
        self.status.send_modify(|status| {
            (status.collector_version, status.durability) = (version, durability);
            status.not_taken = None;
            status.sessions += 1;
        });
        self.set_state(ConnectionState::Connected);
    }

    fn log_replaced(&mut self, known: [u8; 16], found: [u8; 16]) {
        // What the first one acknowledged is missing in every one since, until somebody settles it.
        let before = self.journal.log_replaced().map_or(known, |before| before.known);
        if before == found {
            tracing::info!("{} has its former log again", self.target);
            self.journal.set_log_replaced(None);
            self.status.send_modify(|status| status.log_replaced = None);
            return;
        }
        let replaced = LogReplaced { known: before, found };
        let message = log_replaced_message(&self.target, replaced);
        tracing::error!("{message}");
        self.journal.set_log_replaced(Some(replaced));
        self.status
            .send_modify(|status| status.log_replaced = Some(message));
    }

    fn acked_something(&mut self) {
        let now_ns = self.clock.wall_ns();
        self.status
            .send_modify(|status| status.last_ack_ns = Some(now_ns));
        self.worked();
    }

    /// The session does what it is for: an outage, if there was one, is over.
    fn worked(&mut self) {
        self.backoff.succeeded(self.spread);
        if self.status.borrow().trouble.is_some() {
            self.status.send_modify(|status| status.trouble = None);
            self.complaints.clear();
        }
    }

    fn note_trouble(&mut self, end: &End) {
        if end.code.is_empty() && end.message.is_empty() {
            return;
        }
        self.complain(&end.code, &end.message);
        let at_ns = self.clock.wall_ns();
        self.status.send_modify(|status| {
            let before = status.trouble.as_ref().filter(|trouble| trouble.code == end.code);
            let count = before.map_or(1, |trouble| trouble.count + 1);
            status.trouble = Some(TransportTrouble {
                code: end.code.clone(),
                message: end.message.clone(),
                at_ns,
                count,
            });
        });
    }

    /// The collector takes nothing now, until it answers what it did not take.
    fn not_taken(&mut self, code: &str, message: String) {
        self.complain(code, &message);
        let at_ns = self.clock.wall_ns();
        self.status.send_modify(|status| {
            let before = status.not_taken.as_ref().filter(|trouble| trouble.code == code);
            status.not_taken = Some(TransportTrouble {
                code: code.to_owned(),
                message,
                at_ns: before.map_or(at_ns, |trouble| trouble.at_ns),
                count: before.map_or(1, |trouble| trouble.count + 1),
            });
        });
    }

    fn complain(&mut self, code: &str, message: &str) {
        if let Some(times) = self.complaints.admit(code, self.now()) {
            tracing::warn!(code, times, "{message}");
        }
    }

    fn set_state(&self, state: ConnectionState) {
        let since_ns = self.clock.wall_ns();
        self.status.send_modify(|status| {
            if status.state != state {
                (status.state, status.since_ns) = (state, since_ns);
            }
            status.down_since_ns = match state {
                ConnectionState::Connected => None,
                _ => status.down_since_ns.or(Some(since_ns)),
            };
            (status.in_flight_bytes, status.in_flight_batches) = self.session.in_flight();
        });
    }

    fn show_in_flight(&self) {
        let in_flight = self.session.in_flight();
        self.status.send_if_modified(|status| {
            let is_new = (status.in_flight_bytes, status.in_flight_batches) != in_flight;
            (status.in_flight_bytes, status.in_flight_batches) = in_flight;
            is_new
        });
    }

    fn show_round_trip(&self, content: &[u8], now: Duration) {
        let Ok(sent_ns) = content.try_into().map(u64::from_le_bytes) else {
            return;
        };
        let round_trip = now.saturating_sub(Duration::from_nanos(sent_ns));
        let ms = u64::try_from(round_trip.as_millis()).ok();
        self.status.send_modify(|status| status.round_trip_ms = ms);
    }

    /// Waits before the next attempt; `false`: the time is over.
    async fn wait(&mut self, end: &End, input: &mut Input) -> bool {
        self.set_state(ConnectionState::Waiting);
        // The next line may be a thin one: what is made for it meanwhile must not hold it up.
        self.terms
            .send_if_modified(|terms| terms.bytes_per_second.take().is_some());
        let delay = self
            .backoff
            .delay(self.now(), end.retry_after, end.is_lasting, random());
        tracing::debug!("next attempt in {} ms", delay.as_millis());
        let is_drained = self.session.is_drained();
        tokio::select! {
            () = sleep(delay) => true,
            () = wait_for_end(input, is_drained) => false,
        }
    }

    async fn say_goodbye(&self, mut live: Live) -> Over {
        farewell(&mut live.line, "", "the agent stops").await;
        Over::Finished
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

fn log_replaced_message(target: &Target, LogReplaced { known, found }: LogReplaced) -> String {
    let hex = |id: [u8; 16]| edgelogger_common::stream::StreamId::from_bytes(id).to_string();
    let code = error_code::LOG_REPLACED;
    format!(
        "{code}: {target} has log {}, before it was {}. {}",
        hex(found),
        hex(known),
        code.help
    )
}

/// One connection.
struct Live {
    line: Line,
    liveness: Liveness,
    since: Duration,
    greeting_until: Duration,
}

impl Live {
    fn new(line: Line, now: Duration, greeting_max: Duration) -> Self {
        let liveness = Liveness::new(greeting_max, now);
        Self {
            line,
            liveness,
            since: now,
            greeting_until: now + greeting_max,
        }
    }

    /// The line has work for a while: opens and ends have no window of their own, so they must not pile up here.
    fn is_full(&self) -> bool {
        self.line.len() > super::websocket::LINE_PIECES_MAX
    }
}

/// Says why it ends, if the other side still listens.
async fn farewell(line: &mut Line, code: &str, message: &str) {
    let goodbye = Goodbye {
        code: code.to_owned(),
        message: message.to_owned(),
        reconnect_after_ms: 0,
    };
    line.push(Outbound::frame(Body::Goodbye(goodbye)));
    line.push_close();
    // Nobody is there to tell if it fails.
    let _ = timeout(FAREWELL_MAX, line.finish()).await;
}

/// Returns when the deadline has come; also, once there is one, when nothing is left to be delivered.
async fn wait_for_end(input: &mut Input, is_drained: bool) {
    loop {
        let Some(deadline) = input.deadline() else {
            input.stop.changed().await;
            continue;
        };
        if Instant::now() >= deadline || (is_drained && input.is_exhausted()) {
            return;
        }
        tokio::select! {
            () = sleep_until(deadline.min(Instant::now() + EXHAUSTED_POLL)) => {}
            () = input.stop.changed() => {}
        }
    }
}

fn lost(error: &WebSocketError) -> End {
    unreachable_end(format!("the connection was lost: {error}"))
}

fn unreachable_end(message: String) -> End {
    End {
        code: error_code::COLLECTOR_UNREACHABLE.code.to_owned(),
        message,
        retry_after: Duration::ZERO,
        is_lasting: false,
    }
}

fn broken(message: String) -> End {
    End {
        code: error_code::PROTOCOL_VIOLATION.code.to_owned(),
        ..unreachable_end(message)
    }
}

/// Uniform in [0, 1).
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the delay is the middle: nothing but the spread over a fleet depends on it.
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

//! The shell against a mock collector over real TLS and WebSocket. (The real collector is tested in `tests/`.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::block::{Block, batch};
use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::codec::Decompressor;
use edgelogger_common::disk::FaultDisk;
use edgelogger_common::stream::StreamId;
use edgelogger_common::tls::{CertificateAuthority, server_config};
use edgelogger_proto::v1::{
    Ack, AgentMetrics, Batch, Durability, Frame, Heartbeat, Hello, Lane, StreamDescriptor, StreamHead,
    Welcome, frame::Body,
};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::recode::{Part, Pending};
use super::*;
use crate::flow::{EncodedBatch, Outgoing, Resume, SentBlock};

/// Long enough for a busy test machine, short enough to notice that nothing happens.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the mock does instead of its best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Helpful,
    /// Cuts the connection at every third batch: after appending, before the ack.
    CutsEveryThird,
    /// Welcomes the first session and then neither reads nor writes; later ones are served.
    FreezesOnce,
    /// Never answers Hello.
    Mute,
    /// Takes batches and never acks.
    NeverAcks,
    /// Answers HTTP with this status and body.
    Denies(u16, &'static str),
}

struct Mock {
    mood: Mood,
    sessions: AtomicU64,
    hellos: Mutex<Vec<Hello>>,
    batches: Mutex<Vec<Batch>>,
    heartbeats: Mutex<Vec<Heartbeat>>,
    farewells: AtomicU64,
    authorization: Mutex<String>,
}

impl Mock {
    async fn wait_for_farewell(&self) {
        while self.farewells.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Bench {
    dir: tempfile::TempDir,
    mock: Arc<Mock>,
    port: u16,
}

fn now_ns() -> i64 {
    SystemClock::new().wall_ns()
}

impl Bench {
    async fn new(mood: Mood) -> Self {
        Self::with_names(mood, &["localhost", "127.0.0.1"]).await
    }

    async fn with_names(mood: Mood, names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::load_or_create(dir.path(), now_ns()).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pair = authority.issue_server(&names, 30, now_ns()).unwrap();
        let acceptor = TlsAcceptor::from(server_config(&pair.chain_pem, &pair.key_pem).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mock = Arc::new(Mock {
            mood,
            sessions: AtomicU64::new(0),
            hellos: Mutex::default(),
            batches: Mutex::default(),
            heartbeats: Mutex::default(),
            farewells: AtomicU64::new(0),
            authorization: Mutex::default(),
        });
        let served = Arc::clone(&mock);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&served), acceptor.clone(), tcp));
            }
        });
        Self { dir, mock, port }
    }

    fn config(&self) -> CollectorConfig {
        let mut config = CollectorConfig::new(
            format!("wss://127.0.0.1:{}", self.port),
            self.dir.path().join("ca.pem"),
        );
        // {"sub":"machine-17"}
        config.token = Some(Token::new("e30.eyJzdWIiOiJtYWNoaW5lLTE3In0.c2ln"));
        config
    }

    fn start(&self) -> Agent {
        Agent::start(self.config())
    }
}

async fn serve(mock: Arc<Mock>, acceptor: TlsAcceptor, tcp: TcpStream) {
    let Ok(tls) = acceptor.accept(tcp).await else {
        return;
    };
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.uri().path(), DEFAULT_PATH);
        *mock.authorization.lock() = request.headers()["authorization"].to_str().unwrap().to_owned();
        match mock.mood {
            Mood::Denies(status, body) => {
                let mut denied = ErrorResponse::new(Some(body.to_owned()));
                *denied.status_mut() = status.try_into().unwrap();
                Err(denied)
            }
            _ => Ok(response),
        }
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(tls, check).await else {
        return;
    };
    let session = mock.sessions.fetch_add(1, Ordering::SeqCst);
    if mock.mood == Mood::Mute {
        return std::future::pending().await;
    }
    let mut taken = 0;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else { continue };
        let sequence = match Frame::decode(bytes).unwrap().body.unwrap() {
            Body::Hello(hello) => {
                mock.hellos.lock().push(hello);
                let welcome = Body::Welcome(Welcome {
                    log_id: Bytes::from_static(&[1; 16]),
                    protocol: 1,
                    credit_limit: 1 << 40,
                    heartbeat_interval_ms: 1000,
                    collector_version: "mock".into(),
                    durability: Durability::Fsync.into(),
                    ..Welcome::default()
                });
                socket
                    .send(Message::Binary(
                        Frame { body: Some(welcome) }.encode_to_vec().into(),
                    ))
                    .await
                    .unwrap();
                if mock.mood == Mood::FreezesOnce && session == 0 {
                    return std::future::pending().await;
                }
                continue;
            }
            Body::StreamOpen(open) => open.sequence,
            Body::StreamEnd(end) => end.sequence,
            Body::Batch(batch) => {
                batch::validate(&batch, &batch::BatchLimits::default(), &mut Decompressor::new()).unwrap();
                taken += 1;
                let sequence = batch.sequence;
                mock.batches.lock().push(batch);
                if mock.mood == Mood::CutsEveryThird && taken == 3 {
                    return;
                }
                sequence
            }
            Body::Heartbeat(heartbeat) => {
                mock.heartbeats.lock().push(heartbeat);
                continue;
            }
            Body::Goodbye(_) => {
                mock.farewells.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            other => panic!("{other:?}"),
        };
        if mock.mood != Mood::NeverAcks {
            let ack = Body::Ack(Ack {
                sequence,
                durability: Durability::Fsync.into(),
                credit_limit: 0,
            });
            if socket
                .send(Message::Binary(Frame { body: Some(ack) }.encode_to_vec().into()))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

#[derive(Default)]
struct Recorder {
    acked: Mutex<Vec<(u64, u64)>>,
    log_id: Mutex<Option<[u8; 16]>>,
    epoch: AtomicU64,
}

impl Journal for Recorder {
    fn acked(&self, block: &SentBlock, _: Delivered) {
        self.acked.lock().push((block.start, block.end));
    }
    fn ended(&self, _: &StreamId) {}
    fn descriptor(&self, stream_id: &StreamId) -> Option<StreamDescriptor> {
        Some(StreamDescriptor {
            stream_id: stream_id.to_proto(),
            ..StreamDescriptor::default()
        })
    }
    fn instance_id(&self) -> [u8; 16] {
        [5; 16]
    }
    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }
    fn log_id(&self) -> Option<[u8; 16]> {
        *self.log_id.lock()
    }
    fn set_log_id(&self, log_id: [u8; 16]) {
        *self.log_id.lock() = Some(log_id);
    }
}

impl Vitals for Recorder {
    fn heads(&self) -> Vec<StreamHead> {
        vec![StreamHead {
            stream_id: StreamId::from_bytes([1; 16]).to_proto(),
            acked: 0,
            read: 5,
            size: 9,
            ..StreamHead::default()
        }]
    }
    fn metrics(&self) -> AgentMetrics {
        AgentMetrics {
            records_read: 3,
            ..AgentMetrics::default()
        }
    }
}

struct Agent {
    items: mpsc::Sender<Outgoing>,
    stop: watch::Sender<Option<Instant>>,
    status: watch::Receiver<TransportStatus>,
    terms: watch::Receiver<LineTerms>,
    recorder: Arc<Recorder>,
    task: tokio::task::JoinHandle<bool>,
}

impl Agent {
    fn start(config: CollectorConfig) -> Self {
        let recorder = Arc::new(Recorder::default());
        let parts = Parts {
            config,
            identity: Identity {
                agent_version: "0.1.0".into(),
                ..Identity::default()
            },
            journal: Arc::<Recorder>::clone(&recorder),
            vitals: Arc::<Recorder>::clone(&recorder),
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(FaultDisk::new(1)),
            quarantine_dir: "/quarantine".into(),
        };
        let (transport, status, terms) = Transport::new(parts).unwrap();
        let (items, receiver) = mpsc::channel(1);
        let (stop, deadline) = watch::channel(None);
        let task = tokio::spawn(transport.run(receiver, deadline));
        Self {
            items,
            stop,
            status,
            terms,
            recorder,
            task,
        }
    }

    async fn wait_for(&mut self, what: &str, is_it: impl FnMut(&TransportStatus) -> bool) -> TransportStatus {
        let waited = tokio::time::timeout(PATIENCE, self.status.wait_for(is_it))
            .await
            .map(|found| found.unwrap().clone());
        waited.unwrap_or_else(|_| panic!("waited for {what} in vain: {:?}", self.status.borrow()))
    }

    async fn trouble(&mut self) -> TransportTrouble {
        self.wait_for("trouble", |status| status.trouble.is_some())
            .await
            .trouble
            .unwrap()
    }

    /// Closes the input and waits for the end.
    async fn finish(self) -> (bool, Arc<Recorder>) {
        drop(self.items);
        (
            tokio::time::timeout(PATIENCE, self.task)
                .await
                .expect("it ends")
                .unwrap(),
            self.recorder,
        )
    }
}

fn batch_of(start: u64, len: usize) -> EncodedBatch {
    // Bytes that don't compress.
    let mut state = start | 1;
    let mut line: Vec<u8> = (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b' ' + u8::try_from(state % 90).unwrap()
        })
        .collect();
    line.push(b'\n');
    let (stream_id, crc) = (StreamId::from_bytes([1; 16]), crc32c::crc32c(&line));
    let end = start + line.len() as u64;
    let block = Block::from_lines(stream_id, start, line.into(), 1, crc, 5);
    let sent = SentBlock {
        stream_id,
        start,
        end,
        record_count: 1,
        resume: Resume::Nowhere,
    };
    let nothing = EncodedBatch {
        codec: edgelogger_proto::v1::Codec::Lz4,
        decompressed_len: 0,
        record_count: 0,
        sha256: [0; 32],
        payload: Bytes::new(),
        lane: Lane::Live,
        blocks: Vec::new(),
        in_flight: Arc::default(),
    };
    Pending::from(nothing)
        .remake(
            &[Part {
                block,
                sent,
                is_rejection: false,
            }],
            edgelogger_common::codec::Codec::Lz4,
        )
        .batch
}

#[tokio::test]
async fn batches_reach_the_collector_and_the_journal_in_order() {
    let bench = Bench::new(Mood::Helpful).await;
    let mut agent = bench.start();
    for index in 0..50 {
        agent
            .items
            .send(Outgoing::Batch(batch_of(index * 101, 100)))
            .await
            .unwrap();
    }
    agent
        .wait_for("a heartbeat's pong", |status| status.round_trip_ms.is_some())
        .await;
    assert_eq!(agent.terms.borrow().limits.batch_bytes_max, 1 << 20);
    let (all, recorder) = agent.finish().await;
    assert!(all);
    let expected: Vec<(u64, u64)> = (0..50).map(|index| (index * 101, index * 101 + 101)).collect();
    assert_eq!(*recorder.acked.lock(), expected);
    assert_eq!(recorder.log_id(), Some([1; 16]));
    let hello = bench.mock.hellos.lock()[0].clone();
    assert_eq!((hello.agent_id.as_str(), hello.session_epoch), ("machine-17", 1));
    assert_eq!(
        *bench.mock.authorization.lock(),
        "Bearer e30.eyJzdWIiOiJtYWNoaW5lLTE3In0.c2ln"
    );
    bench.mock.wait_for_farewell().await;
    let heartbeat = bench.mock.heartbeats.lock()[0].clone();
    assert_eq!(
        (heartbeat.streams.len(), heartbeat.metrics.unwrap().records_read),
        (1, 3)
    );
}

#[tokio::test]
async fn a_connection_that_is_cut_again_and_again_costs_nothing_but_repeats() {
    let bench = Bench::new(Mood::CutsEveryThird).await;
    let agent = bench.start();
    for index in 0..12 {
        agent
            .items
            .send(Outgoing::Batch(batch_of(index * 101, 100)))
            .await
            .unwrap();
    }
    let (all, recorder) = agent.finish().await;
    assert!(all);
    let expected: Vec<(u64, u64)> = (0..12).map(|index| (index * 101, index * 101 + 101)).collect();
    assert_eq!(*recorder.acked.lock(), expected);
    assert!(bench.mock.sessions.load(Ordering::SeqCst) >= 4);
    let epochs: Vec<u64> = bench
        .mock
        .hellos
        .lock()
        .iter()
        .map(|hello| hello.session_epoch)
        .collect();
    assert!(epochs.is_sorted_by(|left, right| left < right), "{epochs:?}");
}

#[tokio::test]
async fn a_large_batch_arrives_whole_in_fragments() {
    let bench = Bench::new(Mood::Helpful).await;
    let agent = bench.start();
    for index in 0..8 {
        agent
            .items
            .send(Outgoing::Batch(batch_of(index << 30, 900_000)))
            .await
            .unwrap();
    }
    let (all, _) = agent.finish().await;
    assert!(all);
    let batches = bench.mock.batches.lock();
    assert_eq!(batches.len(), 8);
    assert!(batches.iter().all(|batch| batch.payload.len() > 700_000));
}

#[tokio::test]
async fn a_frozen_collector_is_noticed_within_three_heartbeats() {
    let bench = Bench::new(Mood::FreezesOnce).await;
    let mut agent = bench.start();
    agent
        .wait_for("the first session", |status| status.sessions == 1)
        .await;
    let before = Instant::now();
    agent.items.send(Outgoing::Batch(batch_of(0, 100))).await.unwrap();
    agent
        .wait_for("an ack", |status| status.last_ack_ns.is_some())
        .await;
    assert!(
        before.elapsed() < Duration::from_secs(10),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(bench.mock.sessions.load(Ordering::SeqCst), 2);
    let status = agent.wait_for("peace", |status| status.trouble.is_none()).await;
    assert_eq!(status.state, ConnectionState::Connected);
    assert!(agent.finish().await.0);
}

#[tokio::test]
async fn a_collector_that_does_not_answer_hello_is_left() {
    let bench = Bench::new(Mood::Mute).await;
    let mut config = bench.config();
    config.connect_timeout = edgelogger_common::duration::HumanDuration::from_millis(300);
    let mut agent = Agent::start(config);
    let trouble = agent.trouble().await;
    assert_eq!(trouble.code, "E0223");
    assert!(
        trouble.message.contains("did not answer Hello"),
        "{}",
        trouble.message
    );
}

#[tokio::test]
async fn at_the_deadline_the_transport_ends_and_says_goodbye() {
    let bench = Bench::new(Mood::NeverAcks).await;
    let mut agent = bench.start();
    agent.items.send(Outgoing::Batch(batch_of(0, 100))).await.unwrap();
    agent
        .wait_for("something under way", |status| {
            status.bytes_sent > 0 && status.sessions == 1
        })
        .await;
    agent
        .stop
        .send(Some(Instant::now() + Duration::from_millis(300)))
        .unwrap();
    let (all, recorder) = agent.finish().await;
    assert!(!all);
    assert!(recorder.acked.lock().is_empty());
    bench.mock.wait_for_farewell().await;
}

#[tokio::test]
async fn a_deadline_ends_the_waiting_for_a_collector_that_is_away() {
    let agent = Agent::start(CollectorConfig::new("wss://127.0.0.1:1", "/nowhere/ca.pem"));
    agent
        .stop
        .send(Some(Instant::now() + Duration::from_millis(50)))
        .unwrap();
    assert!(!tokio::time::timeout(PATIENCE, agent.task).await.unwrap().unwrap());
}

#[tokio::test]
async fn an_agent_with_nothing_to_deliver_stops_at_once_though_the_collector_is_away() {
    let mut agent = Agent::start(CollectorConfig::new("wss://127.0.0.1:1", "/nowhere/ca.pem"));
    agent.trouble().await;
    agent
        .stop
        .send(Some(Instant::now() + Duration::from_secs(3600)))
        .unwrap();
    assert!(agent.finish().await.0);
}

async fn check_trouble(mut agent: Agent, code: &str, part: &str) {
    let trouble = agent.trouble().await;
    assert_eq!(trouble.code, code, "{}", trouble.message);
    assert!(trouble.message.contains(part), "{}", trouble.message);
    assert!(!trouble.message.contains('\n'), "one line: {}", trouble.message);
    agent.task.abort();
}

#[tokio::test]
async fn each_reason_why_there_is_no_connection_has_its_own_line() {
    let bench = Bench::new(Mood::Helpful).await;
    let stranger = Bench::new(Mood::Helpful).await;
    let mut config = bench.config();
    config.ca = stranger.dir.path().join("ca.pem");
    check_trouble(Agent::start(config), "E0214", "not signed by the CA").await;

    let elsewhere = Bench::with_names(Mood::Helpful, &["collector.example"]).await;
    check_trouble(elsewhere.start(), "E0215", "only for collector.example").await;
    let mut config = elsewhere.config();
    config.server_name = Some("collector.example".into());
    let mut named = Agent::start(config);
    named.wait_for("a session", |status| status.sessions == 1).await;

    let mut config = bench.config();
    config.ca = bench.dir.path().join("missing.pem");
    check_trouble(Agent::start(config), "E0213", "missing.pem").await;

    let mut config = bench.config();
    config.token = None;
    check_trouble(Agent::start(config), "E0201", "token_file").await;

    let mut config = bench.config();
    config.url = "wss://127.0.0.1:1".into();
    check_trouble(Agent::start(config), "E0223", "refuses connections").await;

    let mut config = bench.config();
    config.url = format!("wss://127.0.0.1:{}", plain_http().await);
    check_trouble(Agent::start(config), "E0206", "is not TLS").await;

    let denied = Bench::new(Mood::Denies(
        401,
        r#"{"code":"E0208","message":"the token expired at T"}"#,
    ))
    .await;
    check_trouble(
        denied.start(),
        "E0208",
        "the token expired at T. Make a new token",
    )
    .await;
    let other = Bench::new(Mood::Denies(404, "no such page")).await;
    check_trouble(other.start(), "E0224", "HTTP status 404").await;
}

/// A server that answers anything with HTTP, as the port of an API does.
async fn plain_http() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            let _ = tcp.read(&mut bytes).await;
            let _ = tcp
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    port
}

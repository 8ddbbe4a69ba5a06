//! The whole agent in this process, against a collector that accepts everything.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::batch::{BatchLimits, validate};
use edgelogger_common::block::{Block, BlockView};
use edgelogger_common::clock::SystemClock;
use edgelogger_common::codec::Decompressor;
use edgelogger_common::tls::{CertificateAuthority, server_config};
use edgelogger_proto::v1::{self, Frame, frame::Body};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::sources::file::FileSourceConfig;
use crate::sources::host_metrics::HostMetricsConfig;
use crate::status::{Health, StatusError, StatusReport, fetch};
use crate::transport::{CollectorConfig, Token};

/// Only a test that fails waits for so long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Received {
    blocks: Vec<Block>,
    opens: Vec<v1::StreamDescriptor>,
    ends: Vec<v1::StreamEnd>,
}

/// Accepts and acknowledges everything, at once.
struct Collector {
    received: Arc<Mutex<Received>>,
    port: u16,
}

impl Collector {
    async fn start(dir: &Path) -> Self {
        let now = SystemClock::new().wall_ns();
        let authority = CertificateAuthority::load_or_create(dir, now).unwrap();
        let pair = authority
            .issue_server(&["127.0.0.1".to_owned()], 30, now)
            .unwrap();
        let acceptor = TlsAcceptor::from(server_config(&pair.chain_pem, &pair.key_pem).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::<Mutex<Received>>::default();
        let shared = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&shared), acceptor.clone(), tcp));
            }
        });
        Self { received, port }
    }

    fn lines(&self) -> Vec<String> {
        let received = self.received.lock();
        let views = received
            .blocks
            .iter()
            .filter_map(|block| match block.view().unwrap() {
                BlockView::Log(view) => Some(view),
                _ => None,
            });
        views
            .flat_map(|view| {
                view.rows()
                    .map(|row| String::from_utf8(row.body).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn samples(&self) -> usize {
        let received = self.received.lock();
        let count = |block: &Block| match block.view().unwrap() {
            BlockView::Metric(view) => view.rows().count(),
            _ => 0,
        };
        received.blocks.iter().map(count).sum()
    }
}

async fn serve(received: Arc<Mutex<Received>>, acceptor: TlsAcceptor, tcp: TcpStream) {
    let Ok(tls) = acceptor.accept(tcp).await else {
        return;
    };
    let Ok(mut socket) = tokio_tungstenite::accept_async(tls).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else { continue };
        let answer = match Frame::decode(bytes).unwrap().body.unwrap() {
            Body::Hello(hello) => Body::Welcome(v1::Welcome {
                log_id: vec![1; 16].into(),
                protocol: 1,
                streams: hello
                    .streams
                    .into_iter()
                    .map(|head| v1::StreamKnown {
                        stream_id: head.stream_id,
                        ..v1::StreamKnown::default()
                    })
                    .collect(),
                credit_limit: u64::MAX,
                ..v1::Welcome::default()
            }),
            Body::StreamOpen(open) => {
                received.lock().opens.push(open.stream.unwrap());
                ack(open.sequence)
            }
            Body::StreamEnd(end) => {
                let sequence = end.sequence;
                received.lock().ends.push(end);
                ack(sequence)
            }
            Body::Batch(batch) => {
                let blocks = validate(&batch, &BatchLimits::default(), &mut Decompressor::new()).unwrap();
                received.lock().blocks.extend(blocks);
                ack(batch.sequence)
            }
            _ => continue,
        };
        let frame = Frame { body: Some(answer) }.encode_to_vec();
        if socket.send(Message::Binary(frame.into())).await.is_err() {
            return;
        }
    }
}

fn ack(sequence: u64) -> Body {
    Body::Ack(v1::Ack {
        sequence,
        durability: v1::Durability::Fsync.into(),
        ..v1::Ack::default()
    })
}

fn config(dir: &Path, port: u16) -> AgentConfig {
    let mut collector = CollectorConfig::new(format!("wss://127.0.0.1:{port}"), dir.join("ca.pem"));
    // {"sub":"machine-17"}
    collector.token = Some(Token::new("e30.eyJzdWIiOiJtYWNoaW5lLTE3In0.c2ln"));
    let mut config = AgentConfig::new(collector);
    config.state_dir = dir.join("state");
    config
}

struct Running {
    stop: oneshot::Sender<()>,
    agent: JoinHandle<Result<Outcome, AgentError>>,
    state_dir: PathBuf,
}

impl Running {
    fn start(config: AgentConfig) -> Self {
        let (stop, stopped) = oneshot::channel();
        let state_dir = config.state_dir.clone();
        let shutdown = async {
            let _ = stopped.await;
        };
        let agent = tokio::spawn(Box::pin(run(config, Ground::default(), shutdown)));
        Self {
            stop,
            agent,
            state_dir,
        }
    }

    async fn status(&self) -> Result<StatusReport, StatusError> {
        let dir = self.state_dir.clone();
        tokio::task::spawn_blocking(move || fetch(&dir).map(|(_, report)| report))
            .await
            .unwrap()
    }

    async fn stop(self) -> Outcome {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.agent)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn append(path: &Path, lines: std::ops::Range<u32>) -> Vec<String> {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let lines: Vec<String> = lines.map(|at| format!("line {at}")).collect();
    lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
    lines
}

#[tokio::test]
async fn what_files_and_the_machine_say_arrives_and_a_restart_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let log = dir.path().join("a.log");
    let mut config = config(dir.path(), collector.port);
    config
        .source
        .file
        .push(FileSourceConfig::new(vec![log.display().to_string()]));
    config.source.host_metrics = Some(HostMetricsConfig::default());
    let mut expected = append(&log, 0..1000);

    let agent = Running::start(config.clone());
    until("the first lines", || collector.lines().len() >= 1000).await;
    expected.extend(append(&log, 1000..2000));
    until("lines while it runs", || collector.lines().len() >= 2000).await;
    until("samples", || collector.samples() > 10).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = agent.status().await.unwrap();
        assert_eq!(report.residual_positions, 0, "{report:?}");
        if report.accounts.positions.in_flight == 0 {
            assert_eq!(report.health, Health::Healthy, "{report:?}");
            assert_eq!(report.connection.state, "connected");
            assert_eq!(report.accounts.positions.read, report.accounts.positions.acked);
            break;
        }
        assert!(Instant::now() < deadline, "never settled: {report:?}");
    }
    assert_eq!(agent.stop().await, Outcome { drained: true });
    let end = collector.received.lock().ends[0].clone();
    assert!(end.exact, "the metrics' stream ends exactly");

    expected.extend(append(&log, 2000..3000));
    config.source.host_metrics = None;
    let agent = Running::start(config);
    until("lines after a restart", || collector.lines().len() >= 3000).await;
    agent.stop().await;
    assert_eq!(collector.lines(), expected);
    assert_eq!(
        collector.received.lock().opens.len(),
        3,
        "file, metrics, and the file again in its new session"
    );
}

#[tokio::test]
async fn without_a_collector_it_answers_waits_and_stops_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let mut config = config(dir.path(), collector.port);
    config.source.file.push(FileSourceConfig::new(vec![
        dir.path().join("*.log").display().to_string(),
    ]));
    // An agent that no collector ever answered would ask first what is stored.
    let mut expected = append(&dir.path().join("a.log"), 0..10);
    let agent = Running::start(config.clone());
    until("the first lines", || collector.lines().len() >= expected.len()).await;
    agent.stop().await;

    // Nobody listens there.
    config.collector.url = "wss://127.0.0.1:1".to_owned();
    config.shutdown_timeout = Duration::from_millis(200).into();
    expected.extend(append(&dir.path().join("a.log"), 10..10_000));
    let agent = Running::start(config.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = agent.status().await;
        if let Ok(report) = report
            && report.connection.trouble.is_some()
            && report.accounts.positions.read > 0
        {
            assert_eq!((report.health, report.residual_positions), (Health::Degraded, 0));
            break;
        }
        assert!(Instant::now() < deadline, "it never said what is wrong");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(agent.stop().await, Outcome { drained: false });
    assert!(matches!(
        fetch(&config.state_dir),
        Err(StatusError::NotRunning { .. })
    ));

    config.collector.url = format!("wss://127.0.0.1:{}", collector.port);
    let agent = Running::start(config);
    until("everything, once the collector is there", || {
        collector.lines().len() >= expected.len()
    })
    .await;
    agent.stop().await;
    assert_eq!(collector.lines(), expected);
}

/// Ranges of a stream, sorted.
fn ranges(collector: &Collector, stream: &[u8]) -> Vec<std::ops::Range<u64>> {
    let received = collector.received.lock();
    let of_stream = |block: &&Block| block.header.stream_id.as_bytes() == stream;
    let mut ranges: Vec<_> = received
        .blocks
        .iter()
        .filter(of_stream)
        .map(|block| block.header.range())
        .collect();
    ranges.sort_by_key(|range| range.start);
    ranges
}

#[tokio::test]
async fn what_can_not_be_measured_again_outlives_an_outage_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    // Nobody listens there.
    let mut config = config(dir.path(), 1);
    config.shutdown_timeout = Duration::from_millis(100).into();
    config.source.host_metrics = Some(HostMetricsConfig {
        interval: Duration::from_secs(1).into(),
        ..HostMetricsConfig::default()
    });
    // Many small lines: they must not keep the measurements from the spool.
    let log = dir.path().join("a.log");
    config
        .source
        .file
        .push(FileSourceConfig::new(vec![log.display().to_string()]));
    append(&log, 0..100_000);

    let agent = Running::start(config.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(report) = agent.status().await {
            assert_eq!(report.residual_positions, 0, "{report:?}");
            if report.spool.is_some_and(|spool| spool.batches >= 2) {
                break;
            }
        }
        assert!(Instant::now() < deadline, "nothing came into the spool");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(agent.stop().await, Outcome { drained: false });

    config.collector.url = format!("wss://127.0.0.1:{}", collector.port);
    config.source.host_metrics = None;
    let agent = Running::start(config);
    until("the end of the earlier process' stream", || {
        !collector.received.lock().ends.is_empty()
    })
    .await;
    until("all lines", || collector.lines().len() >= 100_000).await;
    let end = collector.received.lock().ends[0].clone();
    assert!(end.exact && end.size > 0, "{end:?}");
    let ranges = ranges(&collector, &end.stream_id);
    assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, end.size));
    assert!(
        ranges.windows(2).all(|pair| pair[0].end == pair[1].start),
        "{ranges:?}"
    );
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = agent.status().await.unwrap();
        assert_eq!(report.residual_positions, 0, "{report:?}");
        if report.accounts.positions.in_flight == 0 {
            assert_eq!(report.spool.unwrap().batches, 0);
            break;
        }
        assert!(Instant::now() < deadline, "never settled: {report:?}");
    }
    assert_eq!(agent.stop().await, Outcome { drained: true });
}

#[tokio::test]
async fn what_is_deleted_in_an_outage_is_kept_over_a_stop_and_sent_once() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(dir.path()).await;
    let (log, other) = (dir.path().join("a.log"), dir.path().join("b.log"));
    let mut config = config(dir.path(), collector.port);
    config.memory.ring_bytes = edgelogger_common::size::ByteSize::mib(1);
    let mut file = FileSourceConfig::new(vec![dir.path().join("*.log").display().to_string()]);
    file.spool_before_loss = true;
    config.source.file.push(file);
    let mut expected = append(&log, 0..10);
    let agent = Running::start(config.clone());
    until("the first lines", || collector.lines().len() >= 10).await;
    agent.stop().await;
    assert!(!config.state_dir.join(SPOOL_DIR).exists());

    // Nobody listens there.
    config.collector.url = "wss://127.0.0.1:1".to_owned();
    config.shutdown_timeout = Duration::from_millis(100).into();
    let agent = Running::start(config.clone());
    expected.extend(append(&other, 10..20));
    // More than the ring takes.
    expected.extend(append(&log, 20..200_000));
    let deadline = Instant::now() + PATIENCE;
    let is_reading = |report: &StatusReport| {
        let files = report.files.as_ref();
        files.is_some_and(|files| files.followed == 2 && files.files.iter().all(|file| file.read > 0))
    };
    while !agent.status().await.is_ok_and(|report| is_reading(&report)) {
        assert!(Instant::now() < deadline, "it never read both files");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::remove_file(&log).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = agent.status().await.unwrap();
        assert_eq!(report.residual_positions, 0, "{report:?}");
        // It may be deleted at last: nothing is left to be read of it.
        let files = report.files.unwrap().files;
        let is_kept = !files
            .iter()
            .any(|file| file.name.ends_with("a.log") && file.read < file.size);
        if is_kept && report.spool.is_some_and(|spool| spool.batches > 0) {
            break;
        }
        assert!(Instant::now() < deadline, "it was never kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // This one goes in the very moment of the stop.
    std::fs::remove_file(&other).unwrap();
    assert_eq!(agent.stop().await, Outcome { drained: false });

    config.collector.url = format!("wss://127.0.0.1:{}", collector.port);
    config.source.file[0].spool_before_loss = false;
    let agent = Running::start(config);
    until("the ends of both streams", || {
        collector.received.lock().ends.len() >= 2
    })
    .await;
    until("all lines", || collector.lines().len() >= expected.len()).await;
    agent.stop().await;
    let mut lines = collector.lines();
    lines.sort_unstable();
    expected.sort_unstable();
    assert!(lines == expected, "{} lines of {}", lines.len(), expected.len());
}

#[tokio::test]
async fn a_second_agent_in_the_same_state_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), 1);
    config.shutdown_timeout = Duration::ZERO.into();
    config.source.host_metrics = Some(HostMetricsConfig::default());
    let first = Running::start(config.clone());
    let deadline = Instant::now() + PATIENCE;
    while first.status().await.is_err() {
        assert!(Instant::now() < deadline, "the first never ran");
    }
    let refused = run(config, Ground::default(), std::future::pending()).await;
    assert!(
        matches!(
            refused,
            Err(AgentError::Checkpoint(CheckpointError::InUse { .. }))
        ),
        "{refused:?}"
    );
    first.stop().await;
}

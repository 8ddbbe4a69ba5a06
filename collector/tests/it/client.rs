//! An agent without an agent: says exactly what a test wants it to say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_collector::{Collector, Config, RunningCollector};
use edgelogger_common::auth::Audience;
use edgelogger_common::block::{Block, batch};
use edgelogger_common::clock::SystemClock;
use edgelogger_common::codec::{CodecSetting, Compressor, sha256};
use edgelogger_common::stream::StreamId;
use edgelogger_common::tls::{FloorTime, client_config};
use edgelogger_proto::v1::{
    Batch, Frame, Hello, PositionUnit, SourceKind, StreamDescriptor, StreamEnd, StreamHead, StreamOpen,
    Welcome, frame::Body, nack,
};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

pub const AGENT: &str = "machine-17";
pub const STREAM: StreamId = StreamId::from_bytes([0x42; 16]);
/// Two busy cores are slow; a broken program takes for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub collector: RunningCollector,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::embedded_in(dir.path().join("data"));
        change(&mut config);
        let collector = Collector::start(config).await.unwrap();
        Self { dir, collector }
    }

    pub fn token(&self, agent: &str) -> String {
        self.collector
            .issue_token(Audience::Agents, agent, Duration::from_secs(3600))
            .unwrap()
    }

    pub async fn tls(&self) -> TlsStream<TcpStream> {
        tls(self.collector.ingest_addr.port(), &self.collector.ca_path)
            .await
            .unwrap()
    }

    /// The head of the answer to an upgrade request, and the connection behind it.
    pub async fn upgrade(&self, token: &str) -> (String, TlsStream<TcpStream>) {
        let mut stream = self.tls().await;
        let request = format!(
            "GET /v1/session HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), stream)
    }

    pub async fn connect(&self) -> Session {
        let (head, stream) = self.upgrade(&self.token(AGENT)).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Session {
            socket: WebSocketStream::from_raw_socket(stream, Role::Client, None).await,
        }
    }

    /// Connected, welcomed, [`STREAM`] opened as sequence 1 and acked.
    pub async fn ready(&self) -> Session {
        self.ready_as(hello(1, 1)).await.0
    }

    pub async fn ready_as(&self, hello: Hello) -> (Session, Welcome) {
        let mut session = self.connect().await;
        let welcome = session.hello(hello).await;
        session.send(open(1)).await;
        session.acked(1).await;
        (session, welcome)
    }

    pub async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        answer(client().get(format!("http://{}{path}", self.collector.api_addr))).await
    }

    pub async fn sql(&self, query: &str) -> (u16, serde_json::Value) {
        let body = serde_json::json!({ "query": query });
        answer(
            client()
                .post(format!("http://{}/api/v1/sql", self.collector.api_addr))
                .json(&body),
        )
        .await
    }

    /// Waits until so many log records are stored.
    pub async fn stored(&self, count: i64) {
        wait_for(async || {
            let (status, answer) = self.sql("SELECT count(*) FROM logs").await;
            (status == 200 && answer["rows"][0][0] == count)
                .then_some(())
                .ok_or(answer.to_string())
        })
        .await;
    }
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub async fn answer(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)),
    )
}

pub async fn wait_for<T>(mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(tokio::time::Instant::now() < deadline, "last seen: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn tls(port: u16, ca: &Path) -> std::io::Result<TlsStream<TcpStream>> {
    let time = Arc::new(FloorTime::new(Arc::new(SystemClock::new())));
    let connector = TlsConnector::from(client_config(ca, time).unwrap());
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    connector
        .connect(ServerName::try_from("localhost").unwrap(), socket)
        .await
}

pub struct Session {
    pub socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Session {
    pub async fn send(&mut self, body: Body) {
        self.send_bytes(Frame { body: Some(body) }.encode_to_vec()).await;
    }

    pub async fn send_bytes(&mut self, bytes: Vec<u8>) {
        // The other side may have closed already; what it said before is what counts.
        let _ = self.socket.send(Message::binary(bytes)).await;
    }

    /// The next frame, or `None` once the connection is closed.
    pub async fn next(&mut self) -> Option<Body> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("an answer in time");
            match message {
                Some(Ok(Message::Binary(bytes))) => return Frame::decode(bytes).unwrap().body,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn hello(&mut self, hello: Hello) -> Welcome {
        self.send(Body::Hello(hello)).await;
        match self.next().await {
            Some(Body::Welcome(welcome)) => welcome,
            other => panic!("{other:?}"),
        }
    }

    /// What comes next, in short: "ack 3", "retry 2 E0401", "reject 2 E0303 [0]", "refuse E0203", "goodbye E0219".
    pub async fn said(&mut self) -> String {
        loop {
            return match self.next().await {
                None => "closed".to_owned(),
                Some(Body::Credit(_)) => continue,
                Some(Body::Ack(ack)) => format!("ack {}", ack.sequence),
                Some(Body::Refuse(refuse)) => format!("refuse {}", refuse.code),
                Some(Body::Goodbye(goodbye)) => format!("goodbye {}", goodbye.code),
                Some(Body::Nack(nack)) => match nack.verdict.unwrap() {
                    nack::Verdict::Retry(retry) => format!("retry {} {}", nack.sequence, retry.code),
                    nack::Verdict::Reject(reject) => {
                        let blocks: Vec<_> = reject.blocks.iter().map(|block| block.block_index).collect();
                        format!("reject {} {} {blocks:?}", nack.sequence, reject.code)
                    }
                },
                Some(other) => format!("{other:?}"),
            };
        }
    }

    pub async fn acked(&mut self, sequence: u64) {
        loop {
            match self.next().await {
                Some(Body::Ack(ack)) if ack.sequence >= sequence => return,
                Some(Body::Ack(_) | Body::Credit(_)) => {}
                other => panic!("waiting for ack {sequence}: {other:?}"),
            }
        }
    }

    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

pub fn hello(instance: u8, session_epoch: u64) -> Hello {
    Hello {
        agent_id: AGENT.into(),
        instance_id: Bytes::copy_from_slice(&[instance; 16]),
        session_epoch,
        protocol_min: 1,
        protocol_max: 1,
        agent_version: "test".into(),
        labels: [("site".to_owned(), "berlin".to_owned())].into(),
        ..Default::default()
    }
}

pub fn head() -> StreamHead {
    StreamHead {
        stream_id: STREAM.to_proto(),
        ..Default::default()
    }
}

pub fn open(sequence: u64) -> Body {
    let stream = StreamDescriptor {
        stream_id: STREAM.to_proto(),
        kind: SourceKind::File.into(),
        unit: PositionUnit::Byte.into(),
        name: "/var/log/app.log".into(),
        replayable: true,
        ..Default::default()
    };
    Body::StreamOpen(StreamOpen {
        sequence,
        stream: Some(stream),
    })
}

pub fn end(sequence: u64, size: u64) -> Body {
    Body::StreamEnd(StreamEnd {
        sequence,
        stream_id: STREAM.to_proto(),
        size,
        exact: true,
        reason: 1,
    })
}

/// Lines that begin at `start` in [`STREAM`].
pub fn lines(start: u64, text: &str) -> Block {
    let count = u32::try_from(text.matches('\n').count()).unwrap();
    let crc = crc32c(text.as_bytes());
    Block::from_lines(
        STREAM,
        start,
        Bytes::copy_from_slice(text.as_bytes()),
        count,
        crc,
        now_ns(),
    )
}

pub fn now_ns() -> i64 {
    i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos(),
    )
    .unwrap()
}

pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

pub fn batch_of(sequence: u64, codec: &str, blocks: &[Block]) -> Batch {
    let setting: CodecSetting = codec.parse().unwrap();
    let (mut plain, mut payload) = (Vec::new(), Vec::new());
    batch::write_payload(blocks, &mut plain).unwrap();
    Compressor::new().compress(setting, &plain, &mut payload).unwrap();
    Batch {
        sequence,
        codec: edgelogger_proto::v1::Codec::from(setting.codec()).into(),
        decompressed_len: u32::try_from(plain.len()).unwrap(),
        block_count: u32::try_from(blocks.len()).unwrap(),
        record_count: blocks.iter().map(|block| block.header.record_count).sum(),
        sha256: Bytes::copy_from_slice(&sha256(&payload)),
        payload: payload.into(),
        lane: 0,
    }
}

/// With a hash that is right for whatever the payload is.
pub fn rehashed(batch: Batch) -> Batch {
    Batch {
        sha256: Bytes::copy_from_slice(&sha256(&batch.payload)),
        ..batch
    }
}

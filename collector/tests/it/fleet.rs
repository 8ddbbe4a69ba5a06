//! Machines with logs and metrics, made by hand and sent through ingest.

use edgelogger_common::block::{Block, MetricBlockBuilder, MetricKind, MetricRow, Temporality, Value};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{
    Heartbeat, Hello, PositionUnit, SourceKind, StreamDescriptor, StreamHead, StreamOpen, frame::Body,
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::{Fixture, Session, batch_of, crc32c, hello, now_ns, wait_for};

pub const SECOND: i64 = 1_000_000_000;

/// The session of one machine, with a file and a stream of metrics open.
pub struct Machine {
    pub session: Session,
    logs: StreamId,
    metrics: StreamId,
    sequence: u64,
    log_end: u64,
    metric_end: u64,
}

pub fn machine_name(number: u8) -> String {
    format!("machine-{number}")
}

impl Machine {
    pub async fn connect(fixture: &Fixture, number: u8, site: &str) -> Self {
        let name = machine_name(number);
        let (head, stream) = fixture.upgrade(&fixture.token(&name)).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let mut session = Session {
            socket: WebSocketStream::from_raw_socket(stream, Role::Client, None).await,
        };
        session
            .hello(Hello {
                agent_id: name,
                hostname: format!("host-{number}"),
                labels: [("site".to_owned(), site.to_owned())].into(),
                ..hello(number, 1)
            })
            .await;
        let mut machine = Self {
            session,
            logs: StreamId::from_bytes([number; 16]),
            metrics: StreamId::from_bytes([number + 100; 16]),
            sequence: 0,
            log_end: 0,
            metric_end: 0,
        };
        machine
            .open(
                machine.logs,
                SourceKind::File,
                PositionUnit::Byte,
                "/var/log/app.log",
                true,
            )
            .await;
        machine
            .open(
                machine.metrics,
                SourceKind::HostMetrics,
                PositionUnit::Record,
                "host",
                false,
            )
            .await;
        machine
    }

    async fn open(
        &mut self,
        id: StreamId,
        kind: SourceKind,
        unit: PositionUnit,
        name: &str,
        replayable: bool,
    ) {
        self.sequence += 1;
        let stream = StreamDescriptor {
            stream_id: id.to_proto(),
            kind: kind.into(),
            unit: unit.into(),
            name: name.to_owned(),
            replayable,
            opened_time_ns: now_ns(),
            ..Default::default()
        };
        let open = StreamOpen {
            sequence: self.sequence,
            stream: Some(stream),
        };
        self.session.send(Body::StreamOpen(open)).await;
        self.session.acked(self.sequence).await;
    }

    async fn send(&mut self, block: Block) {
        self.sequence += 1;
        let batch = batch_of(self.sequence, "zstd:1", &[block]);
        self.session.send(Body::Batch(batch)).await;
        self.session.acked(self.sequence).await;
    }

    pub async fn log(&mut self, text: &str) {
        let count = u32::try_from(text.matches('\n').count()).unwrap();
        let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
        let crc = crc32c(text.as_bytes());
        let block = Block::from_lines(self.logs, self.log_end, bytes, count, crc, now_ns());
        self.log_end += text.len() as u64;
        self.send(block).await;
    }

    /// Says that its file goes on, with a clock that is five seconds ahead, and goes.
    pub async fn leave_behind(mut self, unread: u64) {
        let head = StreamHead {
            stream_id: self.logs.to_proto(),
            acked: self.log_end,
            read: self.log_end + unread,
            size: self.log_end + unread,
            ..Default::default()
        };
        let heartbeat = Heartbeat {
            clock_ns: now_ns() + 5 * SECOND,
            streams: vec![head],
            ..Default::default()
        };
        self.session.send(Body::Heartbeat(heartbeat)).await;
        self.session.close().await;
    }

    pub async fn measure(&mut self, rows: Vec<MetricRow>) {
        let mut builder = MetricBlockBuilder::new(self.metrics, self.metric_end);
        self.metric_end += rows.len() as u64;
        for row in rows {
            builder.push(row);
        }
        self.send(builder.finish().unwrap()).await;
    }
}

pub fn temperature(time: i64, value: f64, sensor: &str) -> MetricRow {
    MetricRow {
        observed_time: time,
        name: "hw.temperature".to_owned(),
        unit: "Cel".to_owned(),
        labels: vec![("sensor".to_owned(), Value::String(sensor.to_owned()))],
        value: Some(value),
        source_len: 1,
        ..MetricRow::default()
    }
}

pub fn network(time: i64, value: f64) -> MetricRow {
    MetricRow {
        observed_time: time,
        name: "system.network.io".to_owned(),
        unit: "By".to_owned(),
        kind: MetricKind::Counter,
        temporality: Temporality::Cumulative,
        labels: vec![(
            "network.io.direction".to_owned(),
            Value::String("receive".to_owned()),
        )],
        value: Some(value),
        source_len: 1,
        ..MetricRow::default()
    }
}

/// Waits until so many rows are stored.
pub async fn stored(fixture: &Fixture, table: &str, count: i64) {
    wait_for(async || {
        let (status, answer) = fixture.sql(&format!("SELECT count(*) FROM {table}")).await;
        (status == 200 && answer["rows"][0][0] == count)
            .then_some(())
            .ok_or(answer.to_string())
    })
    .await;
}

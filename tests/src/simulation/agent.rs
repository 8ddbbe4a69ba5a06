//! The agent: ring, batcher, encoder, session and checkpoints, without its threads and sockets; and a plain source
//! that reads whole lines of files as the real one does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_agent::batcher::{Action as Ready, BatchSize, Batcher, BatcherSettings};
use edgelogger_agent::checkpoint::{CheckpointError, Checkpoints, MachineMark};
use edgelogger_agent::encoder::{BatchesInFlight, Encoder};
use edgelogger_agent::flow::{ContentCheck, Outgoing, Resume, SentBlock, SourceBlock, SourceEvent};
use edgelogger_agent::ring::{Ring, RingLimits, SourceHandle};
use edgelogger_agent::tally::Settled;
use edgelogger_agent::transport::session::{Action, Session};
use edgelogger_agent::transport::{Backoff, Delivered};
use edgelogger_common::block::Block;
use edgelogger_common::clock::Clock;
use edgelogger_common::disk::FaultDisk;
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{
    Frame, Heartbeat, Hello, Lane, PositionUnit, StreamDescriptor, StreamHead, frame::Body,
};
use edgelogger_proto::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN};
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;

use super::collector::AGENT;
use super::{Failure, LogFile};

const DIR: &str = "/state";
/// Small, so that everything runs full.
const RING: RingLimits = RingLimits {
    slots: 16,
    bytes: 32 << 10,
};
const BATCH: BatchSize = BatchSize {
    bytes_max: 4 << 10,
    blocks_max: 8,
    records_max: 200,
};
const IN_FLIGHT_BYTES_MAX: u64 = 16 << 10;
const READ_BYTES_MAX: usize = 3_000;
const WINDOW_BYTES: usize = 64;

/// What the agent does to the world.
pub enum Told {
    Send(Bytes),
    Acked(SentBlock),
    HungUp,
    Wrong(Failure),
}

/// Why there is no agent.
pub enum CannotStart {
    /// Its disk; it is tried again.
    Disk,
    Wrong(Failure),
}

/// A file that is followed.
struct Reader {
    stream_id: StreamId,
    offset: usize,
    announced: bool,
}

/// An agent at work. Dropped when it crashes.
pub struct Agent {
    checkpoints: Arc<Checkpoints>,
    ring: Ring,
    source: SourceHandle,
    batcher: Batcher,
    encoder: Encoder,
    in_flight: BatchesInFlight,
    session: Session,
    backoff: Backoff,
    connect_at: Duration,
    is_connected: bool,
    /// By file.
    readers: BTreeMap<usize, Reader>,
}

impl Agent {
    pub fn start(disk: &FaultDisk, clock: Arc<dyn Clock>, files: &[LogFile]) -> Result<Self, CannotStart> {
        let checkpoints = Checkpoints::open_on(
            Arc::new(disk.clone()),
            Path::new(DIR),
            clock,
            MachineMark::of("a machine"),
        )
        .map_err(cannot_start)?;
        let ring = Ring::new(RING);
        let source = ring.source("files", 0);
        let in_flight = BatchesInFlight::new(ring.clone());
        let setting = "lz4"
            .parse()
            .map_err(|_| CannotStart::Wrong("no lz4".to_owned()))?;
        let mut agent = Self {
            session: Session::new(IN_FLIGHT_BYTES_MAX, checkpoints.log_id()),
            encoder: Encoder::new(setting, in_flight.clone(), ring.tally()),
            batcher: Batcher::new(BatcherSettings {
                size: BATCH,
                ..BatcherSettings::default()
            }),
            backoff: Backoff::default(),
            connect_at: Duration::ZERO,
            is_connected: false,
            readers: BTreeMap::new(),
            checkpoints,
            ring,
            source,
            in_flight,
        };
        agent.resume(files).map_err(CannotStart::Wrong)?;
        Ok(agent)
    }

    /// Goes on where the checkpoint says, if the content before it is what it remembers.
    fn resume(&mut self, files: &[LogFile]) -> Result<(), Failure> {
        for state in self.checkpoints.streams() {
            let file: usize = state
                .descriptor
                .name
                .parse()
                .map_err(|_| "a stream of no file".to_owned())?;
            let stream_id =
                StreamId::try_from(state.descriptor.stream_id.as_ref()).map_err(|e| e.to_string())?;
            let offset = usize::try_from(state.acked_upto).map_err(|error| error.to_string())?;
            let content = files.get(file).map_or(&[][..], |file| &file.content);
            if offset > content.len() || (offset > 0 && state.resume != resume_at(content, offset)) {
                return Err(format!(
                    "file {file} does not hold what the checkpoint remembers before {offset}"
                ));
            }
            let reader = Reader {
                stream_id,
                offset,
                announced: false,
            };
            if self.readers.insert(file, reader).is_some() {
                return Err(format!("file {file} has two streams"));
            }
        }
        Ok(())
    }

    /// What the checkpoint says of each stream.
    pub fn acked(&self) -> Vec<(StreamId, RangeSet)> {
        let streams = self.checkpoints.streams().into_iter();
        streams
            .filter_map(|state| {
                let id = StreamId::try_from(state.descriptor.stream_id.as_ref()).ok()?;
                Some((id, state.acked))
            })
            .collect()
    }

    pub fn wants_to_connect(&self, now: Duration) -> bool {
        !self.is_connected && now >= self.connect_at
    }

    pub fn connect(&mut self, wall_ns: i64) -> Vec<Told> {
        self.is_connected = true;
        let heads = self.readers.values().map(|reader| StreamHead {
            stream_id: reader.stream_id.to_proto(),
            acked: self.checkpoints.acked_upto(&reader.stream_id).unwrap_or(0),
            read: reader.offset as u64,
            size: reader.offset as u64,
            ..StreamHead::default()
        });
        let hello = Hello {
            agent_id: AGENT.to_owned(),
            instance_id: Bytes::copy_from_slice(&self.checkpoints.instance_id()),
            session_epoch: self.checkpoints.next_epoch(),
            protocol_min: PROTOCOL_VERSION_MIN,
            protocol_max: PROTOCOL_VERSION_MAX,
            streams: heads.collect(),
            clock_ns: wall_ns,
            ..Hello::default()
        };
        let actions = self.session.connected(hello);
        self.carry_out(actions, None)
    }

    /// The connection is gone.
    pub fn hung_up(&mut self, now: Duration, random: &mut StdRng) {
        self.session.disconnected();
        if std::mem::take(&mut self.is_connected) {
            let delay = self.backoff.delay(now, Duration::ZERO, false, random.random());
            self.connect_at = now + delay;
        }
    }

    pub fn receive(&mut self, bytes: Bytes, now: Duration, random: &mut StdRng) -> Vec<Told> {
        let Ok(frame) = Frame::decode(bytes) else {
            return vec![Told::Wrong("the collector sent what is no frame".to_owned())];
        };
        let actions = self.session.frame(frame, now);
        self.carry_out(actions, Some((now, random)))
    }

    /// One round of all stages.
    pub fn work(
        &mut self,
        files: &[LogFile],
        now: Duration,
        random: &mut StdRng,
        stream_count: &mut u64,
    ) -> Vec<Told> {
        for _ in 0..random.random_range(1..4) {
            if !files.is_empty() {
                let file = random.random_range(0..files.len());
                self.read(file, &files[file].content, random, stream_count);
            }
        }
        while self.batcher.wants_more()
            && let Some(event) = self.ring.try_pop()
        {
            self.batcher.push(event, now);
        }
        let mut actions = self.session.tick(now);
        while self.session.wants_item() && self.batcher.is_ready(now, self.in_flight.count()) {
            let outgoing = match self.batcher.next(now, self.in_flight.count()) {
                None => break,
                Some(Ready::Open(descriptor)) => Outgoing::Open(descriptor),
                Some(Ready::End(close)) => Outgoing::End(close),
                Some(Ready::Batch(collected)) => match self.encoder.encode(collected) {
                    Ok(batch) => Outgoing::Batch(batch),
                    Err(error) => return vec![Told::Wrong(error.to_string())],
                },
            };
            actions.extend(self.session.push(outgoing, now));
        }
        self.carry_out(actions, Some((now, random)))
    }

    /// Whole lines of one file, as far as the ring has room.
    fn read(&mut self, file: usize, content: &[u8], random: &mut StdRng, stream_count: &mut u64) {
        let Some(reader) = self.reader(file, stream_count) else {
            return;
        };
        let (stream_id, offset) = (reader.stream_id, reader.offset);
        if !reader.announced {
            let descriptor = Box::new(descriptor(file, stream_id));
            if self.source.try_push(SourceEvent::Open(descriptor)).is_err() {
                return;
            }
            if let Some(reader) = self.readers.get_mut(&file) {
                reader.announced = true;
            }
        }
        let most = (offset + random.random_range(200..READ_BYTES_MAX)).min(content.len());
        let Some(len) = content[offset..most].iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let lines = Bytes::copy_from_slice(&content[offset..=offset + len]);
        let end = offset + lines.len();
        let Some(credit) = self.source.try_acquire(lines.len()) else {
            return;
        };
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        let crc = crc32c::crc32c(&lines);
        let block = Block::from_lines(
            stream_id,
            offset as u64,
            lines,
            u32::try_from(count).unwrap_or(u32::MAX),
            crc,
            5,
        );
        let block = SourceBlock {
            block,
            lane: Lane::Live,
            replayable: true,
            resume: resume_at(content, end),
            credit,
        };
        if self.source.try_push(SourceEvent::Block(block)).is_ok()
            && let Some(reader) = self.readers.get_mut(&file)
        {
            reader.offset = end;
        }
    }

    /// The stream of a file; a new one is durable before anything of it is sent. `None`: the disk refuses.
    fn reader(&mut self, file: usize, stream_count: &mut u64) -> Option<&Reader> {
        if !self.readers.contains_key(&file) {
            *stream_count += 1;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&stream_count.to_le_bytes());
            let stream_id = StreamId::from_bytes(id);
            self.checkpoints.create(&[descriptor(file, stream_id)]).ok()?;
            let reader = Reader {
                stream_id,
                offset: 0,
                announced: false,
            };
            self.readers.insert(file, reader);
        }
        self.readers.get(&file)
    }

    fn carry_out(&mut self, actions: Vec<Action>, when: Option<(Duration, &mut StdRng)>) -> Vec<Told> {
        let mut told = Vec::new();
        let mut closed = None;
        for action in actions {
            match action {
                Action::Send(message) => {
                    let pieces: Vec<Bytes> = message.pieces(usize::MAX).collect();
                    told.push(Told::Send(pieces.concat().into()));
                }
                Action::Heartbeat => {
                    let heartbeat = Frame {
                        body: Some(Body::Heartbeat(Heartbeat::default())),
                    };
                    told.push(Told::Send(heartbeat.encode_to_vec().into()));
                }
                Action::Acked(block, Delivered::Stored) => {
                    self.ring.tally().settled(&block, Settled::Acked);
                    self.checkpoints.acked(&block);
                    self.backoff.succeeded(Duration::ZERO);
                    told.push(Told::Acked(block));
                }
                Action::LogId(log_id) => self.checkpoints.set_log_id(log_id),
                Action::Complain { .. }
                | Action::NotTaken { .. }
                | Action::TakenAgain
                | Action::Welcomed(_)
                | Action::Ended(_) => {}
                Action::Close(end) => closed = Some(end),
                Action::Acked(..) | Action::Rejected { .. } | Action::Quarantine { .. } => {
                    told.push(Told::Wrong("something was rejected".to_owned()));
                }
                Action::LogReplaced { .. } => told.push(Told::Wrong("the log is another one".to_owned())),
            }
        }
        if let (Some(end), Some((now, random))) = (closed, when) {
            self.is_connected = false;
            self.connect_at = now
                + self
                    .backoff
                    .delay(now, end.retry_after, end.is_lasting, random.random());
            told.push(Told::Wrong(format!(
                "the agent ends the session: {}",
                end.message
            )));
            told.push(Told::HungUp);
        }
        told
    }

    /// Writes what is due. Did that work?
    pub fn checkpoint(&self) -> bool {
        self.checkpoints.tick().is_ok()
    }

    /// Is every byte of every file acked?
    pub fn is_drained(&self, files: &[LogFile]) -> bool {
        let acked = |file: &usize| {
            let reader = self.readers.get(file)?;
            self.checkpoints.acked_upto(&reader.stream_id)
        };
        self.session.is_drained()
            && files
                .iter()
                .enumerate()
                .all(|(index, file)| acked(&index) == Some(file.content.len() as u64))
    }

    /// What is not accounted for.
    pub fn residual(&self) -> i64 {
        self.ring.tally().accounts().positions.residual()
    }

    /// For a failure.
    pub fn state(&self) -> String {
        let offsets: Vec<usize> = self.readers.values().map(|reader| reader.offset).collect();
        format!(
            "read {offsets:?}, held {} events, live {}, in flight {:?}, ring {}",
            self.batcher.held(),
            self.session.is_live(),
            self.session.in_flight(),
            self.ring.len()
        )
    }
}

fn cannot_start(error: CheckpointError) -> CannotStart {
    match error {
        CheckpointError::Disk(_) => CannotStart::Disk,
        other => CannotStart::Wrong(other.to_string()),
    }
}

fn descriptor(file: usize, stream_id: StreamId) -> StreamDescriptor {
    StreamDescriptor {
        stream_id: stream_id.to_proto(),
        name: file.to_string(),
        unit: PositionUnit::Byte.into(),
        replayable: true,
        ..StreamDescriptor::default()
    }
}

/// What the file holds before a position.
fn resume_at(content: &[u8], offset: usize) -> Resume {
    let window = &content[offset.saturating_sub(WINDOW_BYTES)..offset];
    Resume::Content(ContentCheck {
        len: u32::try_from(window.len()).unwrap_or(u32::MAX),
        crc32c: crc32c::crc32c(window),
    })
}

//! The collector: Hello, session, validation and commit log, without its threads and sockets.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_collector::flow::{EncodedEntry, Verdict};
use edgelogger_collector::ingest::credit::Window;
use edgelogger_collector::ingest::hello::check_hello;
use edgelogger_collector::ingest::session::{Action, Session, Ticket};
use edgelogger_collector::ingest::validate;
use edgelogger_collector::ingest::{Budget, KnownStreams};
use edgelogger_common::auth::Claims;
use edgelogger_common::block::batch::BatchLimits;
use edgelogger_common::clock::Clock;
use edgelogger_common::disk::FaultDisk;
use edgelogger_common::error_code;
use edgelogger_common::segment::{SegmentLog, SegmentOptions, SegmentReader};
use edgelogger_proto::v1::{Batch, Durability, Frame, Limits, Welcome, frame::Body};
use prost::Message;

use super::Failure;

const DIR: &str = "/log";
/// The one agent.
pub const AGENT: &str = "machine-17";
/// Small, so that logs have many segments and credit runs out.
const SEGMENT_BYTES_MAX: u64 = 8 << 10;
const WINDOW_BYTES_MAX: u64 = 64 << 10;
const RETRY_AFTER: Duration = Duration::from_secs(1);
const HEARTBEAT_MS: u32 = 10_000;

/// What a session waits for, in order.
enum Work {
    Check(Ticket, Batch),
    Append(Ticket, EncodedEntry),
}

/// A collector at work. Dropped when it crashes.
pub struct Collector {
    log: SegmentLog,
    known: KnownStreams,
    budget: Arc<Budget>,
    agent: Arc<str>,
    session: Option<Session>,
    work: VecDeque<Work>,
    /// Who waits for the verdict: a session that is gone does not, but its entry is appended.
    submissions: Vec<(u64, Ticket, EncodedEntry)>,
    session_number: u64,
}

impl Collector {
    /// Opens the log as the collector does. `None`: the disk does not let it.
    pub fn start(disk: &FaultDisk, clock: &Arc<dyn Clock>, cursor: u64) -> Option<Self> {
        let open = |sequence_min| {
            let options = SegmentOptions {
                segment_bytes_max: SEGMENT_BYTES_MAX,
                write_buffer_bytes: 4 << 10,
                sequence_min,
                log_id: Some(*b"the simulation's"),
                clock: Arc::clone(clock),
                ..SegmentOptions::default()
            };
            SegmentLog::open(Arc::new(disk.clone()), Path::new(DIR), options).ok()
        };
        let (mut log, _) = open(1)?;
        if cursor > log.durable_end() {
            drop(log);
            log = open(cursor)?.0;
        }
        Some(Self {
            log,
            known: KnownStreams::default(),
            budget: Budget::new(1 << 20),
            agent: AGENT.into(),
            session: None,
            work: VecDeque::new(),
            submissions: Vec::new(),
            session_number: 0,
        })
    }

    pub fn next_sequence(&self) -> u64 {
        self.log.next_sequence()
    }

    pub fn reader(&self, from: u64) -> Result<SegmentReader, Failure> {
        self.log.reader(from.max(1)).map_err(|error| error.to_string())
    }

    /// What no sink needs any more. A disk that refuses is asked again.
    pub fn drop_before(&mut self, sequence: u64) {
        let _ = self.log.drop_before(sequence);
    }

    /// The connection is gone. What was submitted is appended all the same.
    pub fn hang_up(&mut self) {
        self.session = None;
        self.work.clear();
    }

    /// A message came in. Gives what is sent.
    pub fn receive(&mut self, bytes: Bytes, wall_ns: i64) -> Result<Vec<Bytes>, Failure> {
        let frame = Frame::decode(bytes).map_err(|error| error.to_string())?;
        let Some(session) = &mut self.session else {
            return self.greet(frame, wall_ns);
        };
        let actions = session.on_frame(frame, wall_ns);
        self.carry_out(actions)
    }

    fn greet(&mut self, frame: Frame, wall_ns: i64) -> Result<Vec<Bytes>, Failure> {
        let Some(Body::Hello(hello)) = frame.body else {
            return Err("the first frame is no Hello".to_owned());
        };
        let greeting = check_hello(hello, &claims()).map_err(|refusal| refusal.to_string())?;
        let window = Window::open(&self.budget, WINDOW_BYTES_MAX).ok_or("no credit is left")?;
        let (streams, descriptors) = self.known.answer(&self.agent, &greeting.streams);
        let limits = BatchLimits::default();
        let welcome = Welcome {
            log_id: Bytes::copy_from_slice(&self.log.log_id()),
            protocol: greeting.protocol,
            limits: Some(Limits {
                batch_bytes_max: limits.decode.compressed_bytes_max as u64,
                decompressed_bytes_max: limits.decode.decompressed_bytes_max as u64,
                blocks_max: limits.blocks_max,
                batches_in_flight_max: 8,
                ..Limits::default()
            }),
            streams,
            heartbeat_interval_ms: HEARTBEAT_MS,
            credit_limit: window.limit(),
            clock_ns: wall_ns,
            durability: Durability::Fsync.into(),
            ..Welcome::default()
        };
        self.session_number += 1;
        self.session = Some(Session::new(
            greeting.identity,
            window,
            descriptors,
            &greeting.streams,
        ));
        Ok(vec![encoded(Body::Welcome(welcome))])
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Result<Vec<Bytes>, Failure> {
        let mut sent = Vec::new();
        for action in actions {
            match action {
                Action::Send(body) => sent.push(encoded(body)),
                Action::Check(ticket, batch) => self.work.push_back(Work::Check(ticket, batch)),
                Action::AppendInTurn(ticket, entry) => self.work.push_back(Work::Append(ticket, entry)),
                Action::Append(ticket, entry) => self.submit(ticket, entry),
                Action::Durable(blocks) => blocks
                    .into_iter()
                    .for_each(|block| self.known.durable(&self.agent, block.stream_id, block.range)),
                Action::Opened(descriptor) => self.known.opened(&self.agent, descriptor),
                Action::CountRejected => return Err("something was rejected".to_owned()),
                Action::Close(farewell) => {
                    return Err(format!("the collector ends the session: {}", farewell.message));
                }
                Action::CountDurable { .. }
                | Action::CountRetried
                | Action::Backlog { .. }
                | Action::Heads(_)
                | Action::AgentTime(_) => {}
            }
        }
        Ok(sent)
    }

    fn submit(&mut self, ticket: Ticket, entry: EncodedEntry) {
        self.submissions.push((self.session_number, ticket, entry));
    }

    /// One batch is validated, or one entry gets its turn.
    pub fn validate_one(&mut self) -> Result<Vec<Bytes>, Failure> {
        let Some(session) = &mut self.session else {
            return Ok(Vec::new());
        };
        match self.work.pop_front() {
            None => Ok(Vec::new()),
            Some(Work::Append(ticket, entry)) => {
                self.submit(ticket, entry);
                Ok(Vec::new())
            }
            Some(Work::Check(ticket, batch)) => {
                let checked = validate::check(batch, &BatchLimits::default(), session.labels_len());
                let mut actions = session.on_checked(ticket, checked);
                actions.extend(session.answer());
                self.carry_out(actions)
            }
        }
    }

    /// All that waits, with one sync; then the verdicts, as the log's writer gives them.
    pub fn commit(&mut self) -> Result<Vec<Bytes>, Failure> {
        if self.log.is_poisoned() {
            let _ = self.log.reopen();
        }
        let waiting = std::mem::take(&mut self.submissions);
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let written = waiting
            .iter()
            .try_for_each(|(_, _, entry)| self.log.append(&entry.parts()).map(|_| ()))
            .and_then(|()| self.log.sync());
        let verdict = match written {
            Ok(_) => Verdict::Durable,
            Err(error) => Verdict::Later {
                after: RETRY_AFTER,
                code: error_code::LOG_IO,
                message: error.to_string(),
            },
        };
        let Some(session) = &mut self.session else {
            return Ok(Vec::new());
        };
        let mut actions = Vec::new();
        for (_, ticket, _) in waiting
            .iter()
            .filter(|(number, ..)| *number == self.session_number)
        {
            actions.extend(session.on_verdict(*ticket, verdict.clone()));
        }
        actions.extend(session.answer());
        self.carry_out(actions)
    }
}

fn encoded(body: Body) -> Bytes {
    Frame { body: Some(body) }.encode_to_vec().into()
}

fn claims() -> Claims {
    Claims {
        iss: String::new(),
        aud: String::new(),
        sub: AGENT.to_owned(),
        iat: 0,
        nbf: 0,
        exp: i64::MAX,
        jti: String::new(),
        tenant: "default".to_owned(),
    }
}

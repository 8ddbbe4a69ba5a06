//! The core of a session: frames and results in, actions out. No socket, no clock, no thread.
//!
//! ```text
//! frame ──> in order? credit? ──> Check (the batch is validated elsewhere) ──> Append ──> durable ──> Ack
//!                                     └─ bad ──> Nack reject         └─ not now ──> Nack retry
//! ```
//!
//! Rules that this file keeps:
//!
//! - StreamOpen, StreamEnd and Batch share one sequence without gaps. What comes out of order ends the session.
//! - **Answers go out in the order of sequences**: an Ack or a Nack reject of N only after everything below N is
//!   answered. So an Ack never covers what is not durable, and a rejected sequence is never asked for again.
//! - **After a Nack retry of N everything from N on is forgotten** until N comes again; its results (they carry the
//!   `round` in which it was sent) are dropped. What was appended in it after all is a duplicate that sinks recognise.
//! - A wrong batch disturbs nothing else. A frame that can't be understood ends the session: there is no telling
//!   what the next one would mean.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{
    Ack, Batch, Durability, Frame, Goodbye, Heartbeat, LogEntry, Nack, PositionUnit, Reject, Retry,
    StreamDescriptor, StreamEnd, StreamHead, StreamOpen, frame::Body, log_entry, nack,
};
use prost::Message as _;

use super::credit::Window;
use super::hello::{AgentIdentity, STREAMS_MAX};
use super::validate::{BatchFault, CheckedBatch, CheckedBlock, Rejection};
use crate::flow::{EncodedEntry, Verdict};

/// Pause before a batch with a wrong hash is sent again.
const CHECKSUM_PAUSE: Duration = Duration::from_millis(200);
/// A stream's name in bytes: twice the longest path of Linux.
const STREAM_NAME_BYTES_MAX: usize = 8 << 10;

/// All of its descriptor: the name, the path again as bytes, and numbers.
const DESCRIPTOR_BYTES_MAX: usize = 16 << 10;

/// Names one thing in work: its sequence, and the round in which it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Of the wire.
    pub sequence: u64,
    /// Grows with every Nack retry.
    pub round: u32,
}

/// What the shell does for the core, in this order.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "of frames only Welcome is large, which is sent before there is a session; actions live for a moment"
)]
pub enum Action {
    /// Send it.
    Send(Body),
    /// Validate the batch and hand in the result.
    Check(Ticket, Batch),
    /// Append now, and hand in the verdict.
    Append(Ticket, EncodedEntry),
    /// Append behind everything that is being checked, and hand in the verdict.
    AppendInTurn(Ticket, EncodedEntry),
    /// These ranges are durable; a hint for the next session.
    Durable(Vec<CheckedBlock>),
    /// A stream is known from now on.
    Opened(Arc<StreamDescriptor>),
    /// Counted for health: records and payload bytes of a durable batch.
    CountDurable {
        /// Records.
        records: u32,
        /// Compressed bytes.
        payload_bytes: u64,
    },
    /// Counted for health.
    CountRejected,
    /// Counted for health.
    CountRetried,
    /// Shown in health: open streams, positions read and not acknowledged, positions not read.
    Backlog {
        /// Open streams.
        streams: u64,
        /// Read, not acknowledged.
        pending: u64,
        /// Known to exist, not read.
        unread: u64,
    },
    /// What the agent says of the heads of its streams; for the ledger.
    Heads(Vec<StreamHead>),
    /// The agent's wall clock.
    AgentTime(i64),
    /// Say goodbye and close.
    Close(Farewell),
}

/// How a session ends from this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// Stable code.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// When to come back.
    pub reconnect_after: Duration,
    /// Of the WebSocket close frame (RFC 6455, 7.4).
    pub close_code: u16,
}

impl Farewell {
    /// The other side broke the protocol.
    pub fn violation(message: impl Into<String>) -> Self {
        let reconnect_after = Duration::from_secs(5);
        Self {
            code: error_code::PROTOCOL_VIOLATION,
            message: message.into(),
            reconnect_after,
            close_code: 1002,
        }
    }

    /// The frame that says so.
    #[must_use]
    pub fn to_frame(&self) -> Goodbye {
        Goodbye {
            code: self.code.code.to_owned(),
            message: self.message.clone(),
            reconnect_after_ms: millis(self.reconnect_after),
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Something that was received and not yet answered.
#[derive(Debug)]
struct Pending {
    round: u32,
    payload_bytes: u64,
    received_ns: i64,
    records: u32,
    blocks: Vec<CheckedBlock>,
    result: Option<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    Durable,
    Rejected(Rejection),
}

/// One session after its Welcome.
#[derive(Debug)]
pub struct Session {
    identity: AgentIdentity,
    window: Window,
    streams: HashMap<StreamId, Arc<StreamDescriptor>>,
    /// Streams that ended, oldest first; they make room for new ones.
    ended: VecDeque<StreamId>,
    heads: HashMap<StreamId, StreamHead>,
    /// Everything up to this was answered.
    answered: u64,
    /// What follows, without gaps.
    pending: VecDeque<Pending>,
    round: u32,
    /// Until this sequence comes again nothing is taken.
    resend_from: Option<u64>,
    /// The sequence whose hash was wrong the last time: a second time it is refused.
    wrong_hash: Option<u64>,
    is_closed: bool,
}

impl Session {
    /// A session that was welcomed. `known`: streams of the Hello whose descriptor is known here.
    #[must_use]
    pub fn new(
        identity: AgentIdentity,
        window: Window,
        known: Vec<Arc<StreamDescriptor>>,
        heads: &[StreamHead],
    ) -> Self {
        let id = |descriptor: &StreamDescriptor| StreamId::try_from(descriptor.stream_id.as_ref()).ok();
        let streams = known
            .into_iter()
            .filter_map(|descriptor| Some((id(&descriptor)?, descriptor)))
            .collect();
        let mut session = Self {
            identity,
            window,
            streams,
            ended: VecDeque::new(),
            heads: HashMap::new(),
            answered: 0,
            pending: VecDeque::new(),
            round: 0,
            resend_from: None,
            wrong_hash: None,
            is_closed: false,
        };
        session.merge_heads(heads);
        session
    }

    /// Bytes of the agent's labels.
    #[must_use]
    pub fn labels_len(&self) -> usize {
        let labels = self.identity.labels.iter();
        labels.map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Things received and not yet answered. The shell stops reading at the limit that Welcome told.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Is it over? Nothing is taken any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    #[cfg(test)]
    fn credit_limit(&self) -> u64 {
        self.window.limit()
    }

    /// A frame came in. `now_ns`: wall clock.
    pub fn on_frame(&mut self, frame: Frame, now_ns: i64) -> Vec<Action> {
        if self.is_closed {
            return Vec::new();
        }
        let actions = match frame.body {
            Some(Body::Batch(batch)) => self.on_batch(batch, now_ns),
            Some(Body::StreamOpen(open)) => self.on_open(open, now_ns),
            Some(Body::StreamEnd(end)) => self.on_end(end, now_ns),
            Some(Body::Heartbeat(heartbeat)) => Ok(self.on_heartbeat(heartbeat)),
            Some(Body::Goodbye(_)) => Ok(self.close_quietly()),
            Some(Body::Hello(_)) => Err(Farewell::violation("a second Hello in one session")),
            Some(_) => Err(Farewell::violation("a frame that only a collector sends")),
            None => Err(Farewell::violation("a frame of a kind that is not known here")),
        };
        actions.unwrap_or_else(|farewell| self.close(farewell))
    }

    /// A batch was validated.
    pub fn on_checked(&mut self, ticket: Ticket, result: Result<CheckedBatch, BatchFault>) -> Vec<Action> {
        if !self.is_current(ticket) {
            return Vec::new();
        }
        match result.and_then(|checked| self.check_streams(checked)) {
            Ok(checked) => vec![self.append_batch(ticket, checked)],
            Err(BatchFault::Checksum(message)) if self.wrong_hash != Some(ticket.sequence) => {
                self.wrong_hash = Some(ticket.sequence);
                self.retry(
                    ticket.sequence,
                    CHECKSUM_PAUSE,
                    error_code::CHECKSUM_MISMATCH,
                    message,
                )
            }
            Err(BatchFault::Checksum(message)) => {
                let rejection = Rejection::whole(error_code::CHECKSUM_MISMATCH, message);
                self.finish(ticket, Outcome::Rejected(rejection))
            }
            Err(BatchFault::Reject(rejection)) => self.finish(ticket, Outcome::Rejected(rejection)),
        }
    }

    /// The log has answered.
    pub fn on_verdict(&mut self, ticket: Ticket, verdict: Verdict) -> Vec<Action> {
        if !self.is_current(ticket) {
            return Vec::new();
        }
        match verdict {
            Verdict::Durable => self.finish(ticket, Outcome::Durable),
            Verdict::Never { code, message } => {
                self.finish(ticket, Outcome::Rejected(Rejection::whole(code, message)))
            }
            Verdict::Later { after, code, message } => self.retry(ticket.sequence, after, code, message),
        }
    }

    /// Answers everything that can be answered: one Ack for all that became durable since the last one.
    pub fn answer(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut unacked = false;
        while let Some(outcome) = self.pending.front_mut().and_then(|front| front.result.take()) {
            let Some(done) = self.pending.pop_front() else {
                break;
            };
            self.window.release(done.payload_bytes);
            if let Outcome::Rejected(rejection) = outcome {
                if std::mem::take(&mut unacked) {
                    actions.push(self.ack(0));
                }
                self.answered += 1;
                actions.push(Action::Send(Body::Nack(nack_reject(self.answered, rejection))));
                actions.push(Action::CountRejected);
                continue;
            }
            self.answered += 1;
            unacked = true;
            if !done.blocks.is_empty() {
                actions.push(Action::CountDurable {
                    records: done.records,
                    payload_bytes: done.payload_bytes,
                });
                actions.push(Action::Durable(done.blocks));
            }
        }
        match (unacked, self.window.raise()) {
            (true, limit) => actions.push(self.ack(limit.unwrap_or(0))),
            (false, Some(credit_limit)) => {
                actions.push(Action::Send(Body::Credit(edgelogger_proto::v1::Credit {
                    credit_limit,
                })));
            }
            (false, None) => {}
        }
        actions
    }

    fn ack(&self, credit_limit: u64) -> Action {
        Action::Send(Body::Ack(Ack {
            sequence: self.answered,
            durability: Durability::Fsync.into(),
            credit_limit,
        }))
    }

    /// Ends the session from this side.
    pub fn close(&mut self, farewell: Farewell) -> Vec<Action> {
        self.is_closed = true;
        vec![Action::Close(farewell)]
    }

    fn close_quietly(&mut self) -> Vec<Action> {
        self.is_closed = true;
        Vec::new()
    }

    /// Takes a sequence: `Ok(None)` when it is to be dropped until an earlier one comes again.
    fn take(
        &mut self,
        sequence: u64,
        payload_bytes: u64,
        received_ns: i64,
    ) -> Result<Option<Ticket>, Farewell> {
        let expected = self.answered + self.pending.len() as u64 + 1;
        if let Some(from) = self.resend_from {
            if sequence > from {
                return Ok(None);
            }
            self.resend_from = None;
        }
        if sequence != expected {
            let message = format!("sequence {sequence} came where {expected} was expected");
            return Err(Farewell::violation(message));
        }
        self.pending.push_back(Pending {
            round: self.round,
            payload_bytes,
            received_ns,
            records: 0,
            blocks: Vec::new(),
            result: None,
        });
        Ok(Some(Ticket {
            sequence,
            round: self.round,
        }))
    }

    fn on_batch(&mut self, batch: Batch, now_ns: i64) -> Result<Vec<Action>, Farewell> {
        let bytes = batch.payload.len() as u64;
        if !self.window.receive(bytes) {
            return Err(Farewell::violation(format!(
                "a batch of {bytes} bytes came without credit for it"
            )));
        }
        match self.take(batch.sequence, bytes, now_ns)? {
            Some(ticket) => Ok(vec![Action::Check(ticket, batch)]),
            None => {
                self.window.release(bytes);
                Ok(Vec::new())
            }
        }
    }

    fn on_open(&mut self, open: StreamOpen, now_ns: i64) -> Result<Vec<Action>, Farewell> {
        let Some(ticket) = self.take(open.sequence, 0, now_ns)? else {
            return Ok(Vec::new());
        };
        let descriptor = open
            .stream
            .clone()
            .ok_or_else(|| Farewell::violation("a StreamOpen without a stream"))?;
        let stream_id = check_descriptor(&descriptor).map_err(Farewell::violation)?;
        while self.streams.len() >= STREAMS_MAX
            && let Some(ended) = self.ended.pop_front()
        {
            self.streams.remove(&ended);
        }
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&stream_id) {
            return Err(Farewell::violation(format!(
                "more than {STREAMS_MAX} streams are open"
            )));
        }
        let descriptor = Arc::new(descriptor);
        self.streams.insert(stream_id, Arc::clone(&descriptor));
        let entry = self.entry(
            now_ns,
            vec![(*descriptor).clone()],
            log_entry::Body::StreamOpen(open),
        );
        Ok(vec![
            Action::Opened(descriptor),
            Action::AppendInTurn(ticket, entry),
        ])
    }

    fn on_end(&mut self, end: StreamEnd, now_ns: i64) -> Result<Vec<Action>, Farewell> {
        let Some(ticket) = self.take(end.sequence, 0, now_ns)? else {
            return Ok(Vec::new());
        };
        let stream_id = StreamId::try_from(end.stream_id.as_ref())
            .map_err(|error| Farewell::violation(format!("a StreamEnd without a stream: {error}")))?;
        self.heads.remove(&stream_id);
        let Some(descriptor) = self
            .streams
            .get(&stream_id)
            .map(|descriptor| (**descriptor).clone())
        else {
            let rejection = Rejection::whole(
                error_code::UNKNOWN_STREAM,
                format!("stream {stream_id} was not opened"),
            );
            return Ok(self.finish(ticket, Outcome::Rejected(rejection)));
        };
        // It stays in the table while there is room: blocks below its end may still follow.
        self.ended.push_back(stream_id);
        let entry = self.entry(now_ns, vec![descriptor], log_entry::Body::StreamEnd(end));
        Ok(vec![Action::AppendInTurn(ticket, entry)])
    }

    fn on_heartbeat(&mut self, heartbeat: Heartbeat) -> Vec<Action> {
        self.merge_heads(&heartbeat.streams);
        self.window.grow_when_idle();
        let sum = |part: fn(&StreamHead) -> u64| self.heads.values().map(part).fold(0, u64::saturating_add);
        vec![
            Action::AgentTime(heartbeat.clock_ns),
            Action::Heads(heartbeat.streams),
            Action::Backlog {
                streams: self.heads.len() as u64,
                pending: sum(|head| head.read.saturating_sub(head.acked)),
                unread: sum(|head| head.size.saturating_sub(head.read)),
            },
        ]
    }

    fn merge_heads(&mut self, heads: &[StreamHead]) {
        for head in heads {
            let Ok(stream_id) = StreamId::try_from(head.stream_id.as_ref()) else {
                continue;
            };
            if self.heads.len() < STREAMS_MAX || self.heads.contains_key(&stream_id) {
                self.heads.insert(stream_id, head.clone());
            }
        }
    }

    /// Is every block's stream open, and does it count what the stream counts?
    fn check_streams(&self, checked: CheckedBatch) -> Result<CheckedBatch, BatchFault> {
        let is_wrong = |block: &CheckedBlock| match self.streams.get(&block.stream_id) {
            None => true,
            Some(descriptor) => block.counts_records != (descriptor.unit() == PositionUnit::Record),
        };
        let wrong = |(index, block): (usize, &CheckedBlock)| is_wrong(block).then_some(index);
        let mut wrong = checked.blocks.iter().enumerate().filter_map(wrong).peekable();
        if wrong.peek().is_none() {
            drop(wrong);
            return Ok(checked);
        }
        let message =
            "the block's stream was not opened in this session, or counts positions in another unit";
        Err(BatchFault::Reject(Rejection::of_blocks(
            error_code::UNKNOWN_STREAM,
            message,
            wrong,
        )))
    }

    fn append_batch(&mut self, ticket: Ticket, checked: CheckedBatch) -> Action {
        let mut ids: Vec<StreamId> = checked.blocks.iter().map(|block| block.stream_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let descriptors = ids
            .iter()
            .filter_map(|id| Some((**self.streams.get(id)?).clone()))
            .collect();
        let records = checked.batch.record_count;
        let mut received_ns = 0;
        if let Some(pending) = self.pending_mut(ticket.sequence) {
            received_ns = pending.received_ns;
            pending.records = records;
            pending.blocks = checked.blocks;
        }
        let entry = self.entry(received_ns, descriptors, log_entry::Body::Batch(checked.batch));
        Action::Append(ticket, entry)
    }

    fn entry(
        &self,
        received_time_ns: i64,
        streams: Vec<StreamDescriptor>,
        body: log_entry::Body,
    ) -> EncodedEntry {
        let identity = &self.identity;
        EncodedEntry::new(LogEntry {
            tenant: identity.tenant.clone(),
            agent_id: identity.agent_id.clone(),
            machine_id: identity.agent_id.clone(),
            instance_id: bytes::Bytes::copy_from_slice(&identity.instance_id),
            session_epoch: identity.session_epoch,
            agent_version: identity.agent_version.clone(),
            labels: identity.labels.clone(),
            received_time_ns,
            streams,
            body: Some(body),
        })
    }

    fn pending_mut(&mut self, sequence: u64) -> Option<&mut Pending> {
        let index = sequence.checked_sub(self.answered + 1)?;
        self.pending.get_mut(usize::try_from(index).ok()?)
    }

    fn is_current(&mut self, ticket: Ticket) -> bool {
        let round = self.pending_mut(ticket.sequence).map(|pending| pending.round);
        !self.is_closed && round == Some(ticket.round)
    }

    fn finish(&mut self, ticket: Ticket, outcome: Outcome) -> Vec<Action> {
        if let Some(pending) = self.pending_mut(ticket.sequence) {
            pending.result = Some(outcome);
        }
        Vec::new()
    }

    /// Forgets everything from `sequence` on and asks for it again. What is before it stays in work.
    fn retry(&mut self, sequence: u64, after: Duration, code: ErrorCode, message: String) -> Vec<Action> {
        let keep = usize::try_from(sequence.saturating_sub(self.answered + 1)).unwrap_or(usize::MAX);
        for forgotten in self.pending.drain(keep.min(self.pending.len())..) {
            self.window.release(forgotten.payload_bytes);
        }
        self.round += 1;
        self.resend_from = Some(sequence);
        let retry = Retry {
            after_ms: millis(after),
            code: code.code.to_owned(),
            message,
        };
        let verdict = Some(nack::Verdict::Retry(retry));
        let nack = Action::Send(Body::Nack(Nack { sequence, verdict }));
        let mut actions = vec![nack, Action::CountRetried];
        // The credit of what was forgotten has to reach the agent, or it could not send again.
        actions.extend(self.answer());
        actions
    }
}

fn nack_reject(sequence: u64, rejection: Rejection) -> Nack {
    let Rejection {
        blocks,
        code,
        message,
    } = rejection;
    Nack {
        sequence,
        verdict: Some(nack::Verdict::Reject(Reject {
            blocks,
            code: code.to_owned(),
            message,
        })),
    }
}

fn check_descriptor(descriptor: &StreamDescriptor) -> Result<StreamId, String> {
    let stream_id = StreamId::try_from(descriptor.stream_id.as_ref()).map_err(|error| error.to_string())?;
    if descriptor.name.len() > STREAM_NAME_BYTES_MAX {
        return Err(format!(
            "stream {stream_id} has a name beyond {STREAM_NAME_BYTES_MAX} bytes"
        ));
    }
    if descriptor.encoded_len() > DESCRIPTOR_BYTES_MAX {
        return Err(format!(
            "stream {stream_id} has a descriptor beyond {DESCRIPTOR_BYTES_MAX} bytes"
        ));
    }
    if descriptor.unit() == PositionUnit::Unspecified {
        return Err(format!(
            "stream {stream_id} does not say what its positions count"
        ));
    }
    Ok(stream_id)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

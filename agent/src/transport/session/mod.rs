//! The core of the transport: (state, event, now) to actions. No socket, no file, no clock, no randomness.
//!
//! ```text
//!             connected                 Welcome
//! Offline ───────────────> Greeting ───────────────> Live ──> frames out, acks in
//!    ^                         │ Refuse                │ Goodbye, Nack without sense, connection lost
//!    └─────────────────────────┴───────────────────────┘
//! ```
//!
//! What always holds:
//! - everything that was pushed is in the queue until it is acked, and is acked exactly once;
//! - the entries under way have the sequences that follow each other without a gap;
//! - in flight is never more than the smallest of our own bound, what the line carries in about a second (`window.rs`),
//!   the collector's limit, and its credit (plus one batch);
//! - a stream is opened in each session before it is spoken of.

mod queue;
mod streams;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use edgelogger_common::block::Block;
use edgelogger_common::error_code;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{
    Ack, Frame, Goodbye, Hello, Nack, Refuse, Reject, Retry, StreamDescriptor, StreamEnd, StreamKnown,
    StreamOpen, Welcome, frame::Body, nack::Verdict,
};
use edgelogger_proto::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN};

use super::CollectorLimits;
use super::journal::Delivered;
use super::recode::{self, Pending};
use super::wire::Outbound;
use crate::flow::{Outgoing, SentBlock};
use queue::{Entry, Queue};
use streams::Streams;
use window::Window;

/// The longest pause that a Nack may ask for; beyond, a new session would have been the better answer.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A collector that goes on taking nothing is asked this much less often than it says: with its 1 s, fresh lines are through
/// within 5 s of its healing.
const PAUSE_FACTOR_MAX: u32 = 4;
/// Heartbeats are sent this often where the collector does not say.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// And within these bounds where it does.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// How long a fenced session stays away: long enough that two agents on one state directory are noticed.
const FENCED_PAUSE: Duration = Duration::from_secs(60);

/// What the shell does, in this order.
#[derive(Debug)]
pub enum Action {
    /// Send a message.
    Send(Outbound),
    /// Send a heartbeat and a ping.
    Heartbeat,
    /// A range reached the collector.
    Acked(SentBlock, Delivered),
    /// A stream reached the collector to its end.
    Ended(StreamId),
    /// The collector will never take this; its receipt follows by itself.
    Rejected {
        /// What.
        block: SentBlock,
        /// Stable code.
        code: String,
        /// Why.
        message: String,
    },
    /// Keep this block for a person to look at.
    Quarantine {
        /// It.
        block: Block,
        /// Stable code.
        code: String,
    },
    /// Something to say that changes nothing.
    Complain {
        /// Stable code.
        code: String,
        /// What happened.
        message: String,
    },
    /// The collector takes nothing now.
    NotTaken {
        /// Stable code.
        code: String,
        /// Why.
        message: String,
    },
    /// It took what it had not taken.
    TakenAgain,
    /// The session is live.
    Welcomed(Box<Welcome>),
    /// The collector's log is another one than last time.
    LogReplaced {
        /// The last time's.
        known: [u8; 16],
        /// The one of now.
        found: [u8; 16],
    },
    /// Remember the log.
    LogId([u8; 16]),
    /// Close the connection.
    Close(End),
}

/// Why a session is over, and when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Stable code.
    pub code: String,
    /// What happened, for a person.
    pub message: String,
    /// Not before this long.
    pub retry_after: Duration,
    /// Nothing changes by itself: somebody must do something, and attempts may be rare.
    pub is_lasting: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Offline,
    Greeting,
    Live,
}

/// See the module page.
#[derive(Debug)]
pub struct Session {
    window: Window,
    phase: Phase,
    queue: Queue,
    streams: Streams,
    limits: CollectorLimits,
    log_id: Option<[u8; 16]>,
    credit_limit: u64,
    /// Payload bytes sent in this session, each time they were.
    credit_used: u64,
    paused_until: Option<Duration>,
    /// The sequence that the collector did not take, until it does.
    not_taken: Option<u64>,
    /// By how much the last pause was longer than the collector asked for.
    pause_factor: u32,
    heartbeat_interval: Duration,
    heartbeat_at: Duration,
}

impl Session {
    /// `log_id`: of the last Welcome, in an earlier process.
    #[must_use]
    pub fn new(in_flight_bytes_max: u64, log_id: Option<[u8; 16]>) -> Self {
        Self {
            window: Window::new(in_flight_bytes_max),
            phase: Phase::Offline,
            queue: Queue::new(),
            streams: Streams::default(),
            limits: CollectorLimits::default(),
            log_id,
            credit_limit: 0,
            credit_used: 0,
            paused_until: None,
            not_taken: None,
            pause_factor: 1,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            heartbeat_at: Duration::MAX,
        }
    }

    /// Is the session live, with room for another item?
    #[must_use]
    pub fn wants_item(&self) -> bool {
        self.phase == Phase::Live
            && !self.queue.has_unsent()
            && self.paused_until.is_none()
            && self.has_room()
    }

    /// An item is there, and [`Session::wants_item`] is false: what the line carries is less than there is.
    pub fn note_pressed(&mut self) {
        self.window.note_full();
    }

    /// Is everything that was pushed acked?
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Is the session between Welcome and its end?
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Payload bytes and batches that are sent and not acked.
    #[must_use]
    pub fn in_flight(&self) -> (u64, u64) {
        (self.queue.bytes_in_flight(), self.queue.batches_in_flight())
    }

    /// Payload bytes that are held until they are acked.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// The interval of this session's heartbeats.
    #[must_use]
    pub const fn heartbeat_interval(&self) -> Duration {
        self.heartbeat_interval
    }

    /// What the line carries, as measured in this session: bytes of payload.
    #[must_use]
    pub const fn bytes_per_second(&self) -> Option<u64> {
        self.window.bytes_per_second()
    }

    /// Is this stream's descriptor known? If not, push its `Outgoing::Open` first.
    #[must_use]
    pub fn knows(&self, stream_id: &StreamId) -> bool {
        self.streams.knows(stream_id)
    }

    /// When [`Session::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        if self.phase != Phase::Live {
            return None;
        }
        self.paused_until.into_iter().chain([self.heartbeat_at]).min()
    }

    /// A connection stands.
    pub fn connected(&mut self, hello: Hello) -> Vec<Action> {
        self.disconnected();
        self.phase = Phase::Greeting;
        vec![Action::Send(Outbound::frame(Body::Hello(hello)))]
    }

    /// The connection is gone. What is not acked waits for the next.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.queue.restart();
        self.streams.restart(false);
        self.window.restart();
        (self.credit_limit, self.credit_used) = (0, 0);
        (self.paused_until, self.not_taken) = (None, None);
        self.heartbeat_at = Duration::MAX;
    }

    /// Takes an item. Order is kept.
    pub fn push(&mut self, item: Outgoing, now: Duration) -> Vec<Action> {
        match item {
            Outgoing::Open(descriptor) => self.push_open(*descriptor),
            Outgoing::Batch(batch) => {
                batch
                    .blocks
                    .iter()
                    .for_each(|block| self.streams.block_queued(&block.stream_id));
                self.queue.push(Entry::Batch(batch.into()));
            }
            Outgoing::End(close) => self.queue.push(Entry::End(close)),
        }
        self.pump(now)
    }

    fn push_open(&mut self, descriptor: StreamDescriptor) {
        let Ok(id) = StreamId::try_from(&descriptor.stream_id[..]) else {
            return;
        };
        self.streams.insert(id, descriptor);
        if self.phase == Phase::Live && self.streams.open_now(&id) {
            self.queue.push(Entry::Open(id));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        if self.phase != Phase::Live {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
            actions = self.pump(now);
        }
        if now >= self.heartbeat_at {
            self.heartbeat_at = now + self.heartbeat_interval;
            actions.push(Action::Heartbeat);
        }
        actions
    }

    /// A frame came in.
    pub fn frame(&mut self, frame: Frame, now: Duration) -> Vec<Action> {
        let actions = match (&self.phase, frame.body) {
            (Phase::Offline, _) => Ok(Vec::new()),
            (Phase::Greeting, Some(Body::Welcome(welcome))) => self.on_welcome(welcome, now),
            (Phase::Greeting, Some(Body::Refuse(refuse))) => Err(refused(refuse)),
            (Phase::Live, Some(Body::Ack(ack))) => self.on_ack(ack, now),
            (Phase::Live, Some(Body::Nack(nack))) => self.on_nack(nack, now),
            (Phase::Live, Some(Body::Credit(credit))) => {
                self.raise_credit(credit.credit_limit);
                Ok(self.pump(now))
            }
            (_, Some(Body::Goodbye(goodbye))) => Err(said_goodbye(goodbye)),
            (_, Some(_)) => Err(violation("a frame that does not belong there")),
            (_, None) => Err(violation("a frame of a kind that this version does not know")),
        };
        actions.unwrap_or_else(|end| {
            self.disconnected();
            vec![Action::Close(end)]
        })
    }

    fn on_welcome(&mut self, welcome: Welcome, now: Duration) -> Result<Vec<Action>, End> {
        if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION_MAX).contains(&welcome.protocol) {
            return Err(violation(
                "a Welcome with a protocol version that was not offered",
            ));
        }
        let log_id: [u8; 16] = welcome
            .log_id
            .as_ref()
            .try_into()
            .map_err(|_| violation("a Welcome without a log_id"))?;
        let mut actions = self.on_log_id(log_id);
        self.limits = CollectorLimits::of(&welcome);
        self.credit_limit = welcome.credit_limit;
        self.heartbeat_interval = match welcome.heartbeat_interval_ms {
            0 => HEARTBEAT_INTERVAL,
            ms => Duration::from_millis(ms.into()).clamp(HEARTBEAT_INTERVAL_MIN, HEARTBEAT_INTERVAL_MAX),
        };
        // The first one at once: it tells the heads of all streams.
        self.heartbeat_at = now;
        self.phase = Phase::Live;
        self.skip_known(&welcome.streams, &mut actions);
        actions.push(Action::Welcomed(Box::new(welcome)));
        for id in self.streams.unannounced() {
            if self.streams.open_now(&id) {
                self.queue.insert_next(Entry::Open(id));
            }
        }
        actions.extend(self.pump(now));
        Ok(actions)
    }

    fn on_log_id(&mut self, found: [u8; 16]) -> Vec<Action> {
        match self.log_id.replace(found) {
            Some(known) if known == found => Vec::new(),
            None => vec![Action::LogId(found)],
            Some(known) => {
                self.streams.restart(true);
                vec![Action::LogReplaced { known, found }, Action::LogId(found)]
            }
        }
    }

    /// What the collector has already was acked by a session that ended before its ack came.
    fn skip_known(&mut self, known: &[StreamKnown], actions: &mut Vec<Action>) {
        let known: HashMap<&[u8], &StreamKnown> = known
            .iter()
            .filter(|stream| stream.known)
            .map(|stream| (stream.stream_id.as_ref(), stream))
            .collect();
        if known.is_empty() {
            return;
        }
        let has = |block: &SentBlock| {
            known
                .get(&block.stream_id.as_bytes()[..])
                .is_some_and(|known| covers(known, block))
        };
        let done = self.queue.extract(|entry| match entry {
            Entry::Batch(pending) => pending.batch.blocks.iter().all(has),
            _ => false,
        });
        done.into_iter().for_each(|entry| self.done(entry, actions));
    }

    fn on_ack(&mut self, ack: Ack, now: Duration) -> Result<Vec<Action>, End> {
        if !self.queue.was_sent(ack.sequence) {
            return Err(violation(format!(
                "an Ack of sequence {}, which was not sent",
                ack.sequence
            )));
        }
        let mut actions = Vec::new();
        let before = self.queue.bytes_in_flight();
        while let Some(entry) = self.queue.pop_acked(ack.sequence) {
            self.done(entry, &mut actions);
        }
        self.answered(ack.sequence, &mut actions);
        let in_flight = self.queue.bytes_in_flight();
        self.window
            .acked(ack.sequence, before - in_flight, in_flight, now);
        self.raise_credit(ack.credit_limit);
        actions.extend(self.pump(now));
        Ok(actions)
    }

    /// The collector has decided about everything up to a sequence.
    fn answered(&mut self, sequence: u64, actions: &mut Vec<Action>) {
        if self.not_taken.take_if(|refused| *refused <= sequence).is_some() {
            actions.push(Action::TakenAgain);
        }
    }

    /// An entry is acked.
    fn done(&mut self, entry: Entry, actions: &mut Vec<Action>) {
        match entry {
            Entry::Open(id) => self.streams.announced(&id),
            Entry::Batch(pending) => {
                for (index, block) in pending.batch.blocks.iter().enumerate() {
                    let how = if pending.is_rejection(index) {
                        Delivered::Rejected
                    } else {
                        Delivered::Stored
                    };
                    self.block_done(block.clone(), how, actions);
                }
            }
            Entry::End(close) => self.end_done(close.stream_id, actions),
            Entry::Gone => {}
        }
    }

    fn block_done(&mut self, block: SentBlock, how: Delivered, actions: &mut Vec<Action>) {
        let id = block.stream_id;
        actions.push(Action::Acked(block, how));
        if self.streams.block_done(&id) {
            actions.push(Action::Ended(id));
        }
    }

    fn end_done(&mut self, id: StreamId, actions: &mut Vec<Action>) {
        if self.streams.end_done(&id) {
            actions.push(Action::Ended(id));
        }
    }

    fn on_nack(&mut self, nack: Nack, now: Duration) -> Result<Vec<Action>, End> {
        let sequence = nack.sequence;
        if !self.queue.was_sent(sequence) || sequence == 0 {
            return Err(violation(format!(
                "a Nack of sequence {sequence}, which was not sent"
            )));
        }
        match nack.verdict {
            Some(Verdict::Retry(retry)) => Ok(self.on_retry(sequence, retry, now)),
            Some(Verdict::Reject(reject)) => Ok(self.on_reject(sequence, reject, now)),
            None => Err(violation("a Nack without a verdict")),
        }
    }

    fn on_retry(&mut self, sequence: u64, retry: Retry, now: Duration) -> Vec<Action> {
        if !self.queue.rewind(sequence) {
            // It crossed an earlier one on its way: everything from there on is sent again anyhow.
            return Vec::new();
        }
        self.window.rewound();
        // Asked again and again, less and less often.
        let factor = match self.not_taken {
            Some(_) => (self.pause_factor * 2).min(PAUSE_FACTOR_MAX),
            None => 1,
        };
        let pause = Duration::from_millis(retry.after_ms.into()) * factor;
        (self.paused_until, self.pause_factor) = (Some(now + pause.min(PAUSE_MAX)), factor);
        self.not_taken = Some(sequence);
        vec![Action::NotTaken {
            code: retry.code,
            message: retry.message,
        }]
    }

    fn on_reject(&mut self, sequence: u64, reject: Reject, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.queue.take(sequence) {
            Some(Entry::Batch(pending)) => self.replace_rejected(&pending, &reject, &mut actions),
            Some(Entry::End(close)) => self.end_done(close.stream_id, &mut actions),
            Some(Entry::Open(id)) => self.streams.announced(&id),
            Some(Entry::Gone) | None => return actions,
        }
        self.answered(sequence, &mut actions);
        actions.push(Action::Complain {
            code: reject.code,
            message: reject.message,
        });
        actions.extend(self.pump(now));
        actions
    }

    fn replace_rejected(&mut self, pending: &Pending, reject: &Reject, actions: &mut Vec<Action>) {
        let named: HashSet<usize> = reject
            .blocks
            .iter()
            .filter_map(|block| usize::try_from(block.block_index).ok())
            .collect();
        let first = reject.blocks.first().filter(|block| !block.code.is_empty());
        let (code, message) = first.map_or((&reject.code, &reject.message), |block| {
            (&block.code, &block.message)
        });
        let is_limit =
            [error_code::BLOCK_LIMIT.code, error_code::DECOMPRESSION_LIMIT.code].contains(&code.as_str());
        let verdict = recode::after_reject(pending, &named, is_limit, |block| {
            self.streams.counts_records(&block.stream_id)
        });
        for block in verdict.rejected {
            actions.push(Action::Rejected {
                block,
                code: code.clone(),
                message: message.clone(),
            });
        }
        for block in verdict.bad {
            actions.push(Action::Quarantine {
                block,
                code: code.clone(),
            });
        }
        verdict
            .given_up
            .into_iter()
            .for_each(|block| self.block_done(block, Delivered::Rejected, actions));
        verdict
            .again
            .into_iter()
            .for_each(|pending| self.queue.push(Entry::Batch(pending)));
    }

    fn raise_credit(&mut self, limit: u64) {
        self.credit_limit = self.credit_limit.max(limit);
    }

    /// May another batch begin?
    fn has_room(&self) -> bool {
        // The collector takes nothing: one batch is enough to find out when it does again.
        let batches_max = match self.not_taken {
            Some(_) => 1,
            None => self.limits.batches_in_flight_max,
        };
        self.credit_used < self.credit_limit
            && self.queue.bytes_in_flight() < self.window.bytes()
            && (batches_max == 0 || self.queue.batches_in_flight() < batches_max)
    }

    /// Sends what may be sent.
    fn pump(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.phase == Phase::Live && self.paused_until.is_none() && self.prepare_next() {
            let Some((sequence, entry)) = self.queue.next() else {
                break;
            };
            let message = match entry {
                Entry::Open(id) => Outbound::frame(Body::StreamOpen(StreamOpen {
                    sequence,
                    stream: self
                        .streams
                        .descriptor(id)
                        .map(|descriptor| (*descriptor).clone()),
                })),
                Entry::End(close) => Outbound::frame(Body::StreamEnd(StreamEnd {
                    sequence,
                    stream_id: close.stream_id.to_proto(),
                    size: close.size,
                    exact: close.exact,
                    reason: close.reason.into(),
                })),
                Entry::Batch(pending) => {
                    self.credit_used += pending.payload_bytes();
                    Outbound::batch(sequence, &pending.batch)
                }
                Entry::Gone => {
                    unreachable!("what is gone was sent, or is taken out when it is to be sent again")
                }
            };
            let is_batch = matches!(entry, Entry::Batch(_));
            self.queue.advance();
            if is_batch {
                self.window.sent(sequence, now);
            }
            actions.push(Action::Send(message));
        }
        actions
    }

    /// Puts what must come first before the next entry, and makes it fit; may it be sent?
    fn prepare_next(&mut self) -> bool {
        loop {
            let ids: Vec<StreamId> = match self.queue.next() {
                None => return false,
                Some((_, Entry::Open(id))) if !self.streams.knows(id) => {
                    // The stream ended meanwhile.
                    self.queue.replace_next(Vec::new());
                    continue;
                }
                Some((_, Entry::Open(_) | Entry::Gone)) => return true,
                Some((_, Entry::End(close))) => vec![close.stream_id],
                Some((_, Entry::Batch(pending))) => {
                    if !self.has_room() {
                        return false;
                    }
                    if let Some(made) = recode::fit(pending, &self.limits) {
                        self.queue
                            .replace_next(made.into_iter().map(Entry::Batch).collect());
                    }
                    let Some((_, Entry::Batch(pending))) = self.queue.next() else {
                        continue;
                    };
                    pending.batch.blocks.iter().map(|block| block.stream_id).collect()
                }
            };
            let missing: Vec<StreamId> = ids.into_iter().filter(|id| self.streams.open_now(id)).collect();
            missing
                .into_iter()
                .rev()
                .for_each(|id| self.queue.insert_next(Entry::Open(id)));
            return true;
        }
    }
}

fn covers(known: &StreamKnown, block: &SentBlock) -> bool {
    block.end <= known.durable
        || known
            .above
            .iter()
            .any(|range| range.start <= block.start && block.end <= range.end)
}

fn violation(what: impl std::fmt::Display) -> End {
    End {
        code: error_code::PROTOCOL_VIOLATION.code.to_owned(),
        message: format!("the collector sent {what}"),
        retry_after: Duration::ZERO,
        is_lasting: false,
    }
}

fn refused(refuse: Refuse) -> End {
    let is_fence = refuse.code == error_code::STALE_EPOCH.code;
    let retry_after = Duration::from_millis(refuse.retry_after_ms.into());
    End {
        message: format!("the collector refused this agent: {}", refuse.message),
        retry_after: if is_fence {
            retry_after.max(FENCED_PAUSE)
        } else {
            retry_after
        },
        is_lasting: refuse.retry_after_ms == 0,
        code: refuse.code,
    }
}

fn said_goodbye(goodbye: Goodbye) -> End {
    let is_fence = goodbye.code == error_code::STALE_EPOCH.code;
    let retry_after = Duration::from_millis(goodbye.reconnect_after_ms.into());
    End {
        message: format!("the collector ended the session: {}", goodbye.message),
        retry_after: if is_fence {
            retry_after.max(FENCED_PAUSE)
        } else {
            retry_after
        },
        is_lasting: false,
        code: goodbye.code,
    }
}

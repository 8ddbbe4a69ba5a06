//! The session against a collector in memory that keeps docs/protocol.md to the letter and is as unhelpful as it may be.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use edgelogger_common::block::{Block, BlockKind, BlockView, ReceiptReason, batch};
use edgelogger_common::codec::{Codec, Decompressor};
use edgelogger_proto::v1::{
    Batch, BlockReject, Credit, Durability, Lane, Limits, PositionUnit, Range, SourceKind, StreamEndReason,
};
use proptest::prelude::*;

use super::super::recode::Part;
use super::super::wire;
use super::*;
use crate::flow::{EncodedBatch, Resume, StreamClose};

const LOG_ID: [u8; 16] = [9; 16];

fn id(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

fn descriptor(number: u8) -> StreamDescriptor {
    StreamDescriptor {
        stream_id: id(number).to_proto(),
        kind: SourceKind::File.into(),
        unit: PositionUnit::Byte.into(),
        name: format!("/var/log/{number}"),
        replayable: true,
        ..StreamDescriptor::default()
    }
}

/// `(stream, start, end)` each, made of lines of that length. A line that begins with `!` is bad.
fn batch_of(blocks: &[(u8, u64, u64)], bad: &[usize]) -> EncodedBatch {
    let parts: Vec<Part> = blocks
        .iter()
        .enumerate()
        .map(|(index, (stream, start, end))| {
            let mut line = vec![b'x'; usize::try_from(end - start).unwrap()];
            line[0] = if bad.contains(&index) { b'!' } else { b'.' };
            *line.last_mut().unwrap() = b'\n';
            let crc = crc32c::crc32c(&line);
            let block = Block::from_lines(id(*stream), *start, line.into(), 1, crc, 5);
            let sent = SentBlock {
                stream_id: id(*stream),
                start: *start,
                end: *end,
                record_count: 1,
                resume: Resume::Cursor(end.to_string()),
            };
            Part {
                block,
                sent,
                is_rejection: false,
            }
        })
        .collect();
    let nothing = EncodedBatch {
        codec: edgelogger_proto::v1::Codec::None,
        decompressed_len: 0,
        record_count: 0,
        sha256: [0; 32],
        payload: Bytes::new(),
        lane: Lane::Live,
        blocks: Vec::new(),
        in_flight: std::sync::Arc::default(),
    };
    Pending::from(nothing).remake(&parts, Codec::Lz4).batch
}

fn welcome(credit_limit: u64) -> Welcome {
    Welcome {
        log_id: Bytes::copy_from_slice(&LOG_ID),
        protocol: 1,
        credit_limit,
        heartbeat_interval_ms: 10_000,
        limits: Some(Limits {
            batches_in_flight_max: 8,
            ..Limits::default()
        }),
        ..Welcome::default()
    }
}

fn frame(body: Body) -> Frame {
    Frame { body: Some(body) }
}

fn ack(sequence: u64) -> Frame {
    frame(Body::Ack(Ack {
        sequence,
        durability: Durability::Fsync.into(),
        credit_limit: 0,
    }))
}

fn retry(sequence: u64, after_ms: u32) -> Frame {
    let verdict = Verdict::Retry(Retry {
        after_ms,
        code: "E0401".into(),
        message: "disk full".into(),
    });
    frame(Body::Nack(Nack {
        sequence,
        verdict: Some(verdict),
    }))
}

fn reject(sequence: u64, blocks: &[u32]) -> Frame {
    let blocks = blocks
        .iter()
        .map(|index| BlockReject {
            block_index: *index,
            ..BlockReject::default()
        })
        .collect();
    let verdict = Verdict::Reject(Reject {
        blocks,
        code: "E0303".into(),
        message: "bad".into(),
    });
    frame(Body::Nack(Nack {
        sequence,
        verdict: Some(verdict),
    }))
}

/// What was sent, as the collector reads it.
fn sent(actions: &[Action]) -> Vec<Body> {
    let message = |message: &Outbound| {
        let bytes: Vec<u8> = message.clone().pieces(1 << 30).flatten().collect();
        wire::decode(bytes.into()).unwrap().body.unwrap()
    };
    actions
        .iter()
        .filter_map(|action| {
            if let Action::Send(out) = action {
                Some(message(out))
            } else {
                None
            }
        })
        .collect()
}

/// Short: `o1` StreamOpen with sequence 1, `b2`, `e3`.
fn short(actions: &[Action]) -> String {
    let word = |body: Body| match body {
        Body::Hello(_) => "hello".to_owned(),
        Body::StreamOpen(open) => format!("o{}", open.sequence),
        Body::Batch(batch) => format!("b{}", batch.sequence),
        Body::StreamEnd(end) => format!("e{}", end.sequence),
        other => panic!("{other:?}"),
    };
    sent(actions).into_iter().map(word).collect::<Vec<_>>().join(" ")
}

fn acked(actions: &[Action]) -> Vec<(u64, u64, Delivered)> {
    let range = |action: &Action| match action {
        Action::Acked(block, how) => Some((block.start, block.end, *how)),
        _ => None,
    };
    actions.iter().filter_map(range).collect()
}

fn ended(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::Ended(_)))
        .count()
}

fn close(number: u8, size: u64) -> Outgoing {
    Outgoing::End(StreamClose {
        stream_id: id(number),
        size,
        exact: true,
        reason: StreamEndReason::Deleted,
    })
}

fn push(session: &mut Session, item: Outgoing) -> Vec<Action> {
    session.push(item, Duration::ZERO)
}

fn live() -> Session {
    let mut session = Session::new(4 << 20, None);
    assert_eq!(short(&session.connected(Hello::default())), "hello");
    session.frame(frame(Body::Welcome(welcome(1 << 30))), Duration::ZERO);
    push(&mut session, Outgoing::Open(Box::new(descriptor(1))));
    session
}

#[test]
fn a_stream_is_opened_before_its_first_batch_and_sequences_have_no_gaps() {
    let mut session = Session::new(4 << 20, None);
    session.connected(Hello::default());
    session.frame(frame(Body::Welcome(welcome(1 << 30))), Duration::ZERO);
    assert_eq!(
        short(&push(&mut session, Outgoing::Open(Box::new(descriptor(1))))),
        "o1"
    );
    assert_eq!(
        short(&push(&mut session, Outgoing::Batch(batch_of(&[(1, 0, 5)], &[])))),
        "b2"
    );
    assert_eq!(short(&push(&mut session, close(1, 5))), "e3");
    let actions = session.frame(ack(3), Duration::ZERO);
    assert_eq!((acked(&actions).len(), ended(&actions)), (1, 1));
    assert!(session.is_drained());
}

#[test]
fn nothing_is_sent_before_the_welcome() {
    let mut session = Session::new(4 << 20, None);
    assert!(!session.wants_item());
    session.connected(Hello::default());
    assert!(!session.wants_item());
    session.frame(frame(Body::Welcome(welcome(1 << 30))), Duration::ZERO);
    assert!(session.wants_item());
}

#[test]
fn after_a_retry_the_same_sequences_are_sent_again_when_the_pause_is_over() {
    let mut session = live();
    for start in [0, 5, 10] {
        push(
            &mut session,
            Outgoing::Batch(batch_of(&[(1, start, start + 5)], &[])),
        );
    }
    let now = Duration::from_secs(1);
    let refused = session.frame(retry(3, 500), now);
    assert!(matches!(&refused[..], [Action::NotTaken { .. }]), "{refused:?}");
    assert!(!session.wants_item());
    assert_eq!(
        session.wake_at(),
        Some(Duration::ZERO),
        "the first heartbeat is due"
    );
    session.tick(now);
    assert_eq!(session.wake_at(), Some(Duration::from_millis(1500)));
    let takes_again = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::TakenAgain));
    let earlier = session.frame(ack(2), now);
    assert_eq!(acked(&earlier), [(0, 5, Delivered::Stored)]);
    assert!(!takes_again(&earlier), "what was refused is still to be taken");
    assert_eq!(short(&session.tick(Duration::from_millis(1499))), "");
    let at = Duration::from_millis;
    assert_eq!(short(&session.tick(at(1500))), "b3", "one is enough to find out");
    // Not yet: it is asked less and less often, up to a limit.
    let mut now = at(1600);
    for pause in [1000, 2000, 2000] {
        session.frame(retry(3, 500), now);
        assert_eq!(short(&session.tick(now + at(pause - 1))), "");
        now += at(pause);
        assert_eq!(short(&session.tick(now)), "b3");
    }
    let later = session.frame(ack(3), now);
    assert_eq!((acked(&later).len(), takes_again(&later)), (1, true));
    assert_eq!(short(&later), "b4");
    assert_eq!(acked(&session.frame(ack(4), now)).len(), 1);
    assert!(session.is_drained());
}

#[test]
fn a_reject_sends_the_good_blocks_and_a_receipt_for_the_bad_one() {
    let mut session = live();
    push(
        &mut session,
        Outgoing::Batch(batch_of(&[(1, 0, 5), (1, 5, 10), (1, 10, 15)], &[1])),
    );
    push(&mut session, Outgoing::Batch(batch_of(&[(1, 15, 20)], &[])));
    let actions = session.frame(reject(2, &[1]), Duration::ZERO);
    assert_eq!(short(&actions), "b4");
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Quarantine { block, .. } if block.header.start == 5))
    );
    let Some(Body::Batch(again)) = sent(&actions).pop() else {
        panic!()
    };
    let blocks = opened(&again);
    let kinds: Vec<_> = blocks
        .iter()
        .map(|block| (block.header.kind, block.header.start))
        .collect();
    assert_eq!(
        kinds,
        [(BlockKind::Log, 0), (BlockKind::Receipt, 5), (BlockKind::Log, 10)]
    );
    let BlockView::Receipt(header, receipts) = blocks[1].view().unwrap() else {
        panic!()
    };
    assert_eq!(
        (header.start, header.end, receipts[0].reason),
        (5, 10, ReceiptReason::Rejected)
    );
    assert_eq!(
        acked(&session.frame(ack(3), Duration::ZERO)),
        [(15, 20, Delivered::Stored)]
    );
    let stored = Delivered::Stored;
    let found = acked(&session.frame(ack(4), Duration::ZERO));
    assert_eq!(
        found,
        [(0, 5, stored), (5, 10, Delivered::Rejected), (10, 15, stored)]
    );
}

#[test]
fn a_batch_rejected_as_a_whole_is_halved_until_the_bad_block_is_alone() {
    let mut session = live();
    let blocks: Vec<(u8, u64, u64)> = (0..8).map(|index| (1, index * 5, index * 5 + 5)).collect();
    push(&mut session, Outgoing::Batch(batch_of(&blocks, &[6])));
    assert_eq!(short(&session.frame(reject(2, &[]), Duration::ZERO)), "b3 b4");
    session.frame(ack(3), Duration::ZERO);
    assert_eq!(short(&session.frame(reject(4, &[]), Duration::ZERO)), "b5 b6");
    session.frame(ack(5), Duration::ZERO);
    assert_eq!(short(&session.frame(reject(6, &[]), Duration::ZERO)), "b7 b8");
    let actions = session.frame(reject(7, &[]), Duration::ZERO);
    assert_eq!(short(&actions), "b9", "the receipt");
    let found = acked(&session.frame(ack(9), Duration::ZERO));
    assert_eq!(
        found,
        [(35, 40, Delivered::Stored), (30, 35, Delivered::Rejected)]
    );
    assert!(session.is_drained());
}

#[test]
fn a_receipt_that_is_rejected_is_given_up_so_that_nothing_blocks_for_ever() {
    let mut session = live();
    push(&mut session, Outgoing::Batch(batch_of(&[(1, 0, 5)], &[0])));
    push(&mut session, close(1, 5));
    assert_eq!(short(&session.frame(reject(2, &[0]), Duration::ZERO)), "b4");
    assert_eq!(
        ended(&session.frame(ack(3), Duration::ZERO)),
        0,
        "a block of it is still under way"
    );
    let actions = session.frame(reject(4, &[0]), Duration::ZERO);
    assert_eq!(acked(&actions), [(0, 5, Delivered::Rejected)]);
    assert_eq!(ended(&actions), 1);
    session.frame(ack(4), Duration::ZERO);
    assert!(session.is_drained());
}

#[test]
fn a_retry_behind_a_reject_leaves_no_gap() {
    let mut session = live();
    for start in [0, 5, 10] {
        push(
            &mut session,
            Outgoing::Batch(batch_of(&[(1, start, start + 5)], &[])),
        );
    }
    session.frame(reject(3, &[0]), Duration::ZERO);
    session.frame(retry(2, 0), Duration::ZERO);
    assert_eq!(short(&session.tick(Duration::ZERO)), "b2");
    let first = session.frame(ack(2), Duration::ZERO);
    assert_eq!(
        (acked(&first), short(&first)),
        (vec![(0, 5, Delivered::Stored)], "b3 b4".to_owned())
    );
    let found = acked(&session.frame(ack(4), Duration::ZERO));
    assert_eq!(found, [(10, 15, Delivered::Stored), (5, 10, Delivered::Rejected)]);
}

#[test]
fn credit_and_the_collectors_limit_bound_what_is_under_way() {
    let mut session = Session::new(4 << 20, None);
    session.connected(Hello::default());
    session.frame(frame(Body::Welcome(welcome(1))), Duration::ZERO);
    push(&mut session, Outgoing::Open(Box::new(descriptor(1))));
    assert_eq!(
        short(&push(&mut session, Outgoing::Batch(batch_of(&[(1, 0, 5)], &[])))),
        "b2",
        "a batch may begin below the limit"
    );
    assert!(!session.wants_item());
    assert_eq!(
        short(&push(&mut session, Outgoing::Batch(batch_of(&[(1, 5, 10)], &[])))),
        ""
    );
    assert_eq!(
        short(&session.frame(
            frame(Body::Credit(Credit {
                credit_limit: 1 << 20
            })),
            Duration::ZERO
        )),
        "b3"
    );
    for start in 2..8 {
        push(
            &mut session,
            Outgoing::Batch(batch_of(&[(1, start * 5, start * 5 + 5)], &[])),
        );
    }
    assert_eq!(session.in_flight().1, 8);
    assert!(!session.wants_item());
    session.frame(ack(2), Duration::ZERO);
    assert!(session.wants_item());
}

#[test]
fn our_own_bound_holds_whatever_the_collector_allows() {
    let mut session = Session::new(1, None);
    session.connected(Hello::default());
    session.frame(frame(Body::Welcome(welcome(u64::MAX))), Duration::ZERO);
    push(&mut session, Outgoing::Open(Box::new(descriptor(1))));
    push(&mut session, Outgoing::Batch(batch_of(&[(1, 0, 5)], &[])));
    assert!(!session.wants_item());
}

#[test]
fn what_the_collector_has_is_not_sent_again() {
    let mut session = live();
    push(&mut session, Outgoing::Batch(batch_of(&[(1, 0, 5)], &[])));
    push(&mut session, Outgoing::Batch(batch_of(&[(1, 5, 10)], &[])));
    push(&mut session, Outgoing::Batch(batch_of(&[(1, 20, 25)], &[])));
    session.disconnected();
    session.connected(Hello::default());
    let known = StreamKnown {
        stream_id: id(1).to_proto(),
        known: true,
        durable: 5,
        above: vec![Range { start: 18, end: 25 }],
    };
    let welcome = Welcome {
        streams: vec![known],
        ..welcome(1 << 30)
    };
    let actions = session.frame(frame(Body::Welcome(welcome)), Duration::ZERO);
    assert_eq!(
        acked(&actions),
        [(0, 5, Delivered::Stored), (20, 25, Delivered::Stored)]
    );
    assert_eq!(short(&actions), "o1 b2");
}

#[test]
fn another_log_is_told_and_every_open_stream_is_announced_to_it() {
    let mut session = live();
    session.frame(ack(1), Duration::ZERO);
    session.disconnected();
    session.connected(Hello::default());
    let same = session.frame(frame(Body::Welcome(welcome(1))), Duration::ZERO);
    assert_eq!(
        short(&same),
        "",
        "a stream that is announced is opened when it is needed"
    );
    session.connected(Hello::default());
    let other = Welcome {
        log_id: Bytes::from_static(&[8; 16]),
        ..welcome(1)
    };
    let actions = session.frame(frame(Body::Welcome(other)), Duration::ZERO);
    assert!(matches!(actions[0], Action::LogReplaced { known: LOG_ID, found } if found == [8; 16]));
    assert_eq!(short(&actions), "o1");
}

#[test]
fn a_batch_beyond_the_collectors_limits_is_made_again() {
    let mut session = Session::new(4 << 20, None);
    session.connected(Hello::default());
    let limits = Limits {
        blocks_max: 2,
        ..Limits::default()
    };
    let codecs = vec![edgelogger_proto::v1::Codec::Zstd.into()];
    let welcome = Welcome {
        limits: Some(limits),
        codecs,
        ..welcome(1 << 30)
    };
    session.frame(frame(Body::Welcome(welcome)), Duration::ZERO);
    push(&mut session, Outgoing::Open(Box::new(descriptor(1))));
    let blocks: Vec<(u8, u64, u64)> = (0..5).map(|index| (1, index * 5, index * 5 + 5)).collect();
    let actions = push(&mut session, Outgoing::Batch(batch_of(&blocks, &[])));
    let mut starts = Vec::new();
    for body in sent(&actions) {
        let Body::Batch(batch) = body else { panic!() };
        assert_eq!(batch.codec(), edgelogger_proto::v1::Codec::Zstd);
        assert!(batch.block_count <= 2);
        starts.extend(opened(&batch).iter().map(|block| block.header.start));
    }
    assert_eq!(starts, [0, 5, 10, 15, 20]);
}

#[test]
fn what_the_collector_may_not_send_ends_the_session_and_loses_nothing() {
    let frames = [
        ack(99),
        retry(99, 0),
        reject(0, &[]),
        frame(Body::Welcome(welcome(1))),
        frame(Body::Hello(Hello::default())),
        Frame { body: None },
        frame(Body::Nack(Nack {
            sequence: 2,
            verdict: None,
        })),
    ];
    for bad in frames {
        let mut session = live();
        push(&mut session, Outgoing::Batch(batch_of(&[(1, 0, 5)], &[])));
        let actions = session.frame(bad, Duration::ZERO);
        assert!(
            matches!(&actions[..], [Action::Close(end)] if end.code == "E0219"),
            "{actions:?}"
        );
        assert!(!session.is_drained());
        session.connected(Hello::default());
        let again = session.frame(frame(Body::Welcome(welcome(1 << 30))), Duration::ZERO);
        assert_eq!(short(&again), "o1 b2");
    }
}

#[test]
fn a_fenced_session_stays_away_for_a_while() {
    let mut session = live();
    let goodbye = Goodbye {
        code: "E0204".into(),
        ..Goodbye::default()
    };
    let actions = session.frame(frame(Body::Goodbye(goodbye)), Duration::ZERO);
    assert!(matches!(&actions[..], [Action::Close(end)] if end.retry_after == FENCED_PAUSE));
    session.connected(Hello::default());
    let refuse = Refuse {
        code: "E0203".into(),
        message: "m".into(),
        retry_after_ms: 0,
    };
    let actions = session.frame(frame(Body::Refuse(refuse)), Duration::ZERO);
    assert!(matches!(&actions[..], [Action::Close(end)] if end.is_lasting));
}

#[test]
fn heartbeats_come_at_their_interval() {
    let mut session = live();
    let at = Duration::from_secs;
    let beats = |actions: Vec<Action>| {
        actions
            .iter()
            .filter(|action| matches!(action, Action::Heartbeat))
            .count()
    };
    assert_eq!(beats(session.tick(at(0))), 1);
    assert_eq!(beats(session.tick(at(9))), 0);
    assert_eq!(beats(session.tick(at(10))), 1);
    assert_eq!(session.wake_at(), Some(at(20)));
}

fn opened(batch: &Batch) -> Vec<Block> {
    batch::validate(batch, &batch::BatchLimits::default(), &mut Decompressor::new()).unwrap()
}

/// Stream, start, end, and: is it a receipt?
type Row = (StreamId, u64, u64, bool);

/// A collector that appends, acks, nacks and forgets as `choices` say.
struct Collector {
    /// In this session: the next sequence that is taken.
    expected: u64,
    resend_from: Option<u64>,
    open: HashSet<StreamId>,
    credit_used: u64,
    credit_limit: u64,
    received: VecDeque<(u64, Body)>,
    log: Vec<Row>,
    ends: Vec<StreamId>,
}

impl Collector {
    fn new() -> Self {
        Self {
            expected: 1,
            resend_from: None,
            open: HashSet::new(),
            credit_used: 0,
            credit_limit: 0,
            received: VecDeque::new(),
            log: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn new_session(&mut self, credit_limit: u64) {
        (self.expected, self.resend_from) = (1, None);
        (self.credit_used, self.credit_limit) = (0, credit_limit);
        self.open.clear();
        self.received.clear();
    }

    /// A frame arrives. Everything that the protocol promises is checked here.
    fn receive(&mut self, body: Body) {
        let sequence = match &body {
            Body::Hello(_) => return,
            Body::StreamOpen(open) => open.sequence,
            Body::StreamEnd(end) => end.sequence,
            Body::Batch(batch) => {
                assert!(
                    self.credit_used < self.credit_limit,
                    "a batch began without credit"
                );
                self.credit_used += batch.payload.len() as u64;
                batch.sequence
            }
            other => panic!("an agent does not send {other:?}"),
        };
        if let Some(from) = self.resend_from {
            if sequence > from {
                return;
            }
            self.resend_from = None;
        }
        assert_eq!(sequence, self.expected, "a gap");
        self.expected += 1;
        match &body {
            Body::StreamOpen(open) => {
                self.open
                    .insert(StreamId::try_from(&open.stream.as_ref().unwrap().stream_id[..]).unwrap());
            }
            Body::StreamEnd(end) => {
                assert!(
                    self.open
                        .contains(&StreamId::try_from(&end.stream_id[..]).unwrap()),
                    "an end of what is not open"
                );
            }
            _ => {}
        }
        self.received.push_back((sequence, body));
    }

    /// Takes a position on the oldest frame.
    fn decide(&mut self, choice: u8) -> Option<Frame> {
        let (sequence, body) = self.received.front()?.clone();
        if choice < 40 {
            self.resend_from = Some(sequence);
            self.expected = sequence;
            self.received.clear();
            return Some(retry(sequence, u32::from(choice)));
        }
        self.received.pop_front();
        let Body::Batch(batch) = &body else {
            if let Body::StreamEnd(end) = &body {
                self.ends.push(StreamId::try_from(&end.stream_id[..]).unwrap());
            }
            return Some(ack(sequence));
        };
        let blocks = opened(batch);
        let is_bad = |block: &Block| {
            let header = &block.header;
            assert!(
                self.open.contains(&header.stream_id),
                "a block of a stream that is not open"
            );
            match block.view().unwrap() {
                BlockView::Log(view) => view.body.get(0)[0] == b'!',
                _ => false,
            }
        };
        let bad: Vec<u32> = (0u32..)
            .zip(&blocks)
            .filter(|(_, block)| is_bad(block))
            .map(|(index, _)| index)
            .collect();
        if !bad.is_empty() {
            return Some(if choice.is_multiple_of(2) {
                reject(sequence, &bad)
            } else {
                reject(sequence, &[])
            });
        }
        for block in &blocks {
            let header = &block.header;
            self.log.push((
                header.stream_id,
                header.start,
                header.end,
                header.kind == BlockKind::Receipt,
            ));
        }
        Some(ack(sequence))
    }
}

#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    choice: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0u8..16, any::<u8>()).prop_map(|(kind, choice)| Step { kind, choice });
    proptest::collection::vec(step, 10..300)
}

struct World {
    session: Session,
    collector: Collector,
    to_collector: VecDeque<Body>,
    to_agent: VecDeque<Frame>,
    items: VecDeque<Outgoing>,
    acked: Vec<(StreamId, u64, u64, Delivered)>,
    ended: HashMap<StreamId, usize>,
    now: Duration,
    connected: bool,
}

impl World {
    fn carry(&mut self, actions: Vec<Action>) {
        self.to_collector.extend(sent(&actions));
        for action in actions {
            match action {
                Action::Acked(block, how) => {
                    let key = (block.stream_id, block.start, block.end);
                    let is_durable = self.collector.log.iter().any(|row| (row.0, row.1, row.2) == key);
                    assert!(is_durable, "acked before it was durable: {key:?}");
                    self.acked.push((key.0, key.1, key.2, how));
                }
                Action::Ended(id) => *self.ended.entry(id).or_default() += 1,
                Action::Close(end) => panic!("{end:?}"),
                _ => {}
            }
        }
        let (bytes, batches) = self.session.in_flight();
        assert!(
            batches <= 8 && bytes <= 400 + 4096,
            "{bytes} bytes in {batches} batches"
        );
    }

    fn connect(&mut self, choice: u8) {
        let credit_limit = 1 + u64::from(choice) * 4;
        self.to_collector.clear();
        self.to_agent.clear();
        self.collector.new_session(credit_limit);
        let actions = self.session.connected(Hello::default());
        self.carry(actions);
        let known = if choice.is_multiple_of(2) {
            self.known()
        } else {
            Vec::new()
        };
        let welcome = Welcome {
            streams: known,
            ..welcome(credit_limit)
        };
        let actions = self.session.frame(frame(Body::Welcome(welcome)), self.now);
        self.carry(actions);
        self.connected = true;
    }

    fn known(&self) -> Vec<StreamKnown> {
        let mut known: BTreeMap<StreamId, StreamKnown> = BTreeMap::new();
        for (stream, start, end, _) in &self.collector.log {
            let entry = known.entry(*stream).or_insert_with(|| StreamKnown {
                stream_id: stream.to_proto(),
                known: true,
                ..StreamKnown::default()
            });
            entry.above.push(Range {
                start: *start,
                end: *end,
            });
        }
        known.into_values().collect()
    }

    fn step(&mut self, step: &Step) {
        let choice = step.choice;
        match step.kind {
            0 => {
                self.session.disconnected();
                self.connected = false;
            }
            _ if !self.connected => self.connect(choice),
            1..=4 => {
                if self.session.wants_item()
                    && let Some(item) = self.items.pop_front()
                {
                    let actions = self.session.push(item, self.now);
                    self.carry(actions);
                }
            }
            5..=7 => {
                for _ in 0..=choice % 4 {
                    if let Some(body) = self.to_collector.pop_front() {
                        self.collector.receive(body);
                    }
                }
            }
            8..=10 => self.to_agent.extend(self.collector.decide(choice)),
            11..=13 => {
                if let Some(frame) = self.to_agent.pop_front() {
                    let actions = self.session.frame(frame, self.now);
                    self.carry(actions);
                }
            }
            14 => {
                self.collector.credit_limit += u64::from(choice);
                let credit_limit = self.collector.credit_limit;
                self.to_agent
                    .push_back(frame(Body::Credit(Credit { credit_limit })));
            }
            _ => {
                self.now += Duration::from_millis(choice.into());
                let actions = self.session.tick(self.now);
                self.carry(actions);
            }
        }
    }

    /// A collector in a good mood, until everything is done.
    fn drain(&mut self) {
        if !self.connected {
            self.connect(255);
        }
        for round in 0..10_000 {
            if self.items.is_empty() && self.session.is_drained() {
                return;
            }
            for kind in [14, 1, 5, 8, 11, 15] {
                self.step(&Step {
                    kind,
                    choice: 254 - u8::try_from(round % 2).unwrap(),
                });
            }
        }
        panic!("it does not come to an end: {:?}", self.session);
    }
}

/// A block's stream, range, and whether it is bad.
type Expected = (StreamId, u64, u64, bool);

/// Three streams, blocks of changing sizes, every seventh bad; each stream ends.
fn items(seed: u8) -> (Vec<Outgoing>, Vec<Expected>) {
    let mut items: Vec<Outgoing> = (1..=3)
        .map(|number| Outgoing::Open(Box::new(descriptor(number))))
        .collect();
    let (mut at, mut expected, mut counter) = ([0u64; 3], Vec::new(), u64::from(seed));
    for _ in 0..12 {
        let mut blocks = Vec::new();
        let mut bad = Vec::new();
        for _ in 0..=counter % 4 {
            counter += 1;
            let stream = usize::try_from(counter * 7 % 3).unwrap();
            let (start, end) = (at[stream], at[stream] + 2 + counter * 13 % 30);
            at[stream] = end;
            let is_bad = counter.is_multiple_of(7);
            if is_bad {
                bad.push(blocks.len());
            }
            let number = u8::try_from(stream + 1).unwrap();
            blocks.push((number, start, end));
            expected.push((id(number), start, end, is_bad));
        }
        items.push(Outgoing::Batch(batch_of(&blocks, &bad)));
    }
    items.extend((1..=3u8).map(|number| close(number, at[usize::from(number) - 1])));
    (items, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_each_block_is_acked_once_and_nothing_is_lost(steps in steps(), seed in any::<u8>()) {
        let (items, mut expected) = items(seed);
        let mut world = World {
            session: Session::new(400, None),
            collector: Collector::new(),
            to_collector: VecDeque::new(),
            to_agent: VecDeque::new(),
            items: items.into(),
            acked: Vec::new(),
            ended: HashMap::new(),
            now: Duration::ZERO,
            connected: false,
        };
        for step in &steps {
            world.step(step);
        }
        world.drain();
        let mut acked: Vec<_> =
            world.acked.iter().map(|(id, start, end, how)| (*id, *start, *end, *how == Delivered::Rejected)).collect();
        acked.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(acked, expected);
        prop_assert_eq!(world.ended.len(), 3);
        prop_assert!(world.ended.values().all(|times| *times == 1));
    }

    #[test]
    fn without_rejects_a_stream_reaches_the_log_in_order(steps in steps()) {
        let mut at = 0;
        let batches = (0..20u64).map(|index| {
            let (start, end) = (at, at + 3 + index);
            at = end;
            Outgoing::Batch(batch_of(&[(1, start, end)], &[]))
        });
        let open = Outgoing::Open(Box::new(descriptor(1)));
        let mut world = World {
            session: Session::new(400, None),
            collector: Collector::new(),
            to_collector: VecDeque::new(),
            to_agent: VecDeque::new(),
            items: std::iter::once(open).chain(batches).collect(),
            acked: Vec::new(),
            ended: HashMap::new(),
            now: Duration::ZERO,
            connected: false,
        };
        for step in &steps {
            world.step(step);
        }
        world.drain();
        let mut covered = 0;
        for (_, start, end, _) in &world.collector.log {
            prop_assert!(*start <= covered, "{} after {}", start, covered);
            covered = covered.max(*end);
        }
        prop_assert_eq!(covered, at);
    }
}

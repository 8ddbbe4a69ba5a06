use bytes::Bytes;
use edgelogger_common::block::{Block, batch as wire};
use edgelogger_common::codec::sha256;
use edgelogger_proto::v1::{self, Codec};

use super::super::credit::Budget;
use super::super::hello::{check_hello, tests as hello_tests};
use super::super::validate::Validator;
use super::*;

const STREAM: StreamId = StreamId::from_bytes([9; 16]);

fn session() -> Session {
    let greeting = check_hello(hello_tests::hello(), &hello_tests::claims("machine-17")).unwrap();
    let window = Window::open(&Budget::new(64 << 20), 1 << 20).unwrap();
    Session::new(greeting.identity, window, Vec::new(), &[])
}

fn descriptor() -> StreamDescriptor {
    StreamDescriptor {
        stream_id: STREAM.to_proto(),
        unit: PositionUnit::Byte.into(),
        name: "/var/log/app.log".into(),
        ..Default::default()
    }
}

fn open(sequence: u64) -> Frame {
    Frame {
        body: Some(Body::StreamOpen(StreamOpen {
            sequence,
            stream: Some(descriptor()),
        })),
    }
}

fn end(sequence: u64) -> Frame {
    Frame {
        body: Some(Body::StreamEnd(StreamEnd {
            sequence,
            stream_id: STREAM.to_proto(),
            ..Default::default()
        })),
    }
}

fn batch_of(sequence: u64, stream: StreamId) -> Batch {
    let mut payload = Vec::new();
    let block = Block::from_lines(stream, sequence * 4, "abc\n".into(), 1, crc32c(b"abc\n"), 5);
    wire::write_payload(&[block], &mut payload).unwrap();
    Batch {
        sequence,
        codec: Codec::None.into(),
        decompressed_len: u32::try_from(payload.len()).unwrap(),
        block_count: 1,
        record_count: 1,
        sha256: Bytes::copy_from_slice(&sha256(&payload)),
        payload: payload.into(),
        lane: 0,
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    // Bitwise, so that no crate is needed for one test.
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

fn frame(batch: Batch) -> Frame {
    Frame {
        body: Some(Body::Batch(batch)),
    }
}

/// Hands in a frame and validates what it asks for; gives all actions.
fn take(session: &mut Session, frame: Frame) -> Vec<Action> {
    let validator = Validator::new(Default::default(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut done = Vec::new();
    for action in session.on_frame(frame, 77) {
        match action {
            Action::Check(ticket, batch) => {
                let checked = runtime.block_on(validator.validate(batch, 0));
                done.extend(session.on_checked(ticket, checked));
            }
            other => done.push(other),
        }
    }
    done.extend(session.answer());
    done
}

fn ticket(actions: &[Action]) -> Ticket {
    actions
        .iter()
        .find_map(|action| match action {
            Action::Append(ticket, _) | Action::AppendInTurn(ticket, _) => Some(*ticket),
            _ => None,
        })
        .expect("something is appended")
}

fn later() -> Verdict {
    Verdict::Later {
        after: Duration::from_secs(1),
        code: error_code::LOG_DISK_FULL,
        message: "full".into(),
    }
}

fn verdict(session: &mut Session, ticket: Ticket, verdict: Verdict) -> Vec<String> {
    let mut actions = session.on_verdict(ticket, verdict);
    actions.extend(session.answer());
    said(&actions)
}

/// What goes to the agent, in short.
fn said(actions: &[Action]) -> Vec<String> {
    let body = |action: &Action| match action {
        Action::Send(Body::Ack(ack)) => Some(format!("ack {}", ack.sequence)),
        Action::Send(Body::Nack(Nack {
            sequence,
            verdict: Some(nack::Verdict::Retry(retry)),
        })) => Some(format!("retry {sequence} {}", retry.code)),
        Action::Send(Body::Nack(Nack {
            sequence,
            verdict: Some(nack::Verdict::Reject(reject)),
        })) => {
            let blocks: Vec<_> = reject.blocks.iter().map(|block| block.block_index).collect();
            Some(format!("reject {sequence} {} {blocks:?}", reject.code))
        }
        Action::Send(Body::Credit(_)) => None,
        Action::Close(farewell) => Some(format!("close {}", farewell.code)),
        _ => None,
    };
    actions.iter().filter_map(body).collect()
}

#[test]
fn everything_up_to_the_last_durable_sequence_is_acked_at_once() {
    let mut session = session();
    let first = ticket(&take(&mut session, open(1)));
    let second = ticket(&take(&mut session, frame(batch_of(2, STREAM))));
    let third = ticket(&take(&mut session, end(3)));
    assert!(session.on_verdict(first, Verdict::Durable).is_empty());
    assert!(session.on_verdict(second, Verdict::Durable).is_empty());
    assert_eq!(verdict(&mut session, third, Verdict::Durable), ["ack 3"]);
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn an_ack_never_covers_what_is_not_durable() {
    let mut session = session();
    let first = ticket(&take(&mut session, open(1)));
    let second = ticket(&take(&mut session, frame(batch_of(2, STREAM))));
    assert!(verdict(&mut session, second, Verdict::Durable).is_empty());
    assert_eq!(verdict(&mut session, first, Verdict::Durable), ["ack 2"]);
}

#[test]
fn a_bad_batch_is_rejected_in_its_turn_and_disturbs_no_other() {
    let mut session = session();
    let first = ticket(&take(&mut session, open(1)));
    let bad = Batch {
        record_count: 2,
        ..batch_of(2, STREAM)
    };
    assert!(
        said(&take(&mut session, frame(bad))).is_empty(),
        "its turn has not come"
    );
    let third = ticket(&take(&mut session, frame(batch_of(3, STREAM))));
    assert!(verdict(&mut session, third, Verdict::Durable).is_empty());
    assert_eq!(
        verdict(&mut session, first, Verdict::Durable),
        ["ack 1", "reject 2 E0303 []", "ack 3"]
    );
}

#[test]
fn a_block_of_a_stream_that_was_not_opened_is_named() {
    let mut session = session();
    let actions = take(&mut session, frame(batch_of(1, STREAM)));
    assert_eq!(said(&actions), ["reject 1 E0308 [0]"]);
}

#[test]
fn a_wrong_hash_is_asked_for_again_once_and_then_rejected() {
    let mut session = session();
    let wrong = Batch {
        sha256: Bytes::from_static(&[0; 32]),
        ..batch_of(1, STREAM)
    };
    assert_eq!(said(&take(&mut session, frame(wrong.clone()))), ["retry 1 E0301"]);
    assert_eq!(said(&take(&mut session, frame(wrong))), ["reject 1 E0301 []"]);
}

#[test]
fn after_a_retry_everything_from_there_on_comes_again() {
    let mut session = session();
    let first = ticket(&take(&mut session, open(1)));
    let second = ticket(&take(&mut session, frame(batch_of(2, STREAM))));
    let third = ticket(&take(&mut session, frame(batch_of(3, STREAM))));
    assert_eq!(verdict(&mut session, second, later()), ["retry 2 E0401"]);
    assert!(
        verdict(&mut session, third, Verdict::Durable).is_empty(),
        "a result of the earlier round"
    );
    assert!(
        said(&take(&mut session, frame(batch_of(4, STREAM)))).is_empty(),
        "was on its way already"
    );
    assert_eq!(verdict(&mut session, first, Verdict::Durable), ["ack 1"]);
    let second = ticket(&take(&mut session, frame(batch_of(2, STREAM))));
    assert_eq!(verdict(&mut session, second, Verdict::Durable), ["ack 2"]);
    let third = ticket(&take(&mut session, frame(batch_of(3, STREAM))));
    assert_eq!(verdict(&mut session, third, Verdict::Durable), ["ack 3"]);
}

#[test]
fn what_is_before_a_retry_may_be_retried_too() {
    let mut session = session();
    let first = ticket(&take(&mut session, open(1)));
    let second = ticket(&take(&mut session, frame(batch_of(2, STREAM))));
    assert_eq!(verdict(&mut session, second, later()), ["retry 2 E0401"]);
    assert_eq!(verdict(&mut session, first, later()), ["retry 1 E0401"]);
    let first = ticket(&take(&mut session, open(1)));
    assert_eq!(verdict(&mut session, first, Verdict::Durable), ["ack 1"]);
}

#[test]
fn a_stream_may_be_opened_again() {
    let mut session = session();
    for sequence in 1..=2 {
        let ticket = ticket(&take(&mut session, open(sequence)));
        assert_eq!(
            verdict(&mut session, ticket, Verdict::Durable),
            [format!("ack {sequence}")]
        );
    }
}

#[test]
fn frames_out_of_order_or_not_understood_end_the_session() {
    let ends = |frame: Frame| assert_eq!(said(&take(&mut session(), frame)), ["close E0219"]);
    ends(open(2));
    ends(open(0));
    ends(frame(batch_of(7, STREAM)));
    ends(Frame { body: None });
    ends(Frame {
        body: Some(Body::Hello(hello_tests::hello())),
    });
    ends(Frame {
        body: Some(Body::Ack(v1::Ack::default())),
    });
    ends(Frame {
        body: Some(Body::StreamOpen(StreamOpen {
            sequence: 1,
            stream: None,
        })),
    });
    ends(Frame {
        body: Some(Body::StreamEnd(StreamEnd {
            sequence: 1,
            ..Default::default()
        })),
    });
    let nameless = StreamDescriptor {
        unit: 0,
        ..descriptor()
    };
    ends(Frame {
        body: Some(Body::StreamOpen(StreamOpen {
            sequence: 1,
            stream: Some(nameless),
        })),
    });
}

#[test]
fn credit_comes_back_however_a_batch_ends() {
    let mut session = session();
    let first = ticket(&take(&mut session, open(1)));
    verdict(&mut session, first, Verdict::Durable);
    let before = session.credit_limit();
    let mut sent = 0;
    for round in 0..20_000 {
        let sequence = session.answered + 1;
        let batch = batch_of(sequence, STREAM);
        sent += batch.payload.len() as u64;
        assert!(sent <= session.credit_limit(), "round {round}");
        let ticket = ticket(&take(&mut session, frame(batch)));
        let answer = if round % 3 == 0 { later() } else { Verdict::Durable };
        verdict(&mut session, ticket, answer);
    }
    assert!(session.credit_limit() > before);
}

#[test]
fn an_entry_says_whose_it_is_and_which_streams_it_speaks_of() {
    use prost::Message;
    let mut session = session();
    take(&mut session, open(1));
    let batch = batch_of(2, STREAM);
    let actions = take(&mut session, frame(batch.clone()));
    let entry = actions
        .iter()
        .find_map(|action| match action {
            Action::Append(_, entry) => Some(LogEntry::decode(entry.parts().concat().as_slice()).unwrap()),
            _ => None,
        })
        .unwrap();
    assert_eq!(
        (entry.agent_id.as_str(), entry.machine_id.as_str()),
        ("machine-17", "machine-17")
    );
    assert_eq!(entry.received_time_ns, 77);
    assert_eq!(entry.streams, [descriptor()]);
    assert_eq!(entry.body, Some(log_entry::Body::Batch(batch)));
}

mod model {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// An agent that keeps the rules of docs/protocol.md, and a log that answers as it likes.
    #[derive(Default)]
    struct World {
        /// Next sequence that the agent sends.
        next: u64,
        acked: u64,
        rejected: BTreeSet<u64>,
        /// What the log has made durable, in whatever round.
        durable: BTreeSet<u64>,
        /// What waits for the log's verdict.
        waiting: Vec<Ticket>,
    }

    impl World {
        fn carry_out(&mut self, actions: Vec<Action>) {
            for action in actions {
                match action {
                    Action::AppendInTurn(ticket, _) | Action::Append(ticket, _) => self.waiting.push(ticket),
                    Action::Send(Body::Ack(ack)) => self.on_ack(ack.sequence),
                    Action::Send(Body::Nack(Nack {
                        sequence,
                        verdict: Some(nack::Verdict::Retry(_)),
                    })) => {
                        assert!(sequence > self.acked, "what is acked is not asked for again");
                        self.next = sequence;
                    }
                    Action::Send(Body::Nack(Nack { sequence, .. })) => {
                        assert!(
                            sequence > self.acked,
                            "a reject comes before the ack that covers it"
                        );
                        self.rejected.insert(sequence);
                    }
                    Action::Close(farewell) => panic!("{farewell:?}"),
                    _ => {}
                }
            }
        }

        fn on_ack(&mut self, sequence: u64) {
            assert!(sequence > self.acked, "acks grow");
            for covered in self.acked + 1..=sequence {
                assert!(
                    self.durable.contains(&covered) || self.rejected.contains(&covered),
                    "{covered} is not safe"
                );
            }
            self.acked = sequence;
        }
    }

    /// Every fifth thing is one that can never be accepted.
    fn thing(sequence: u64) -> Frame {
        if sequence.is_multiple_of(5) {
            let unknown = StreamEnd {
                sequence,
                stream_id: StreamId::random().to_proto(),
                ..Default::default()
            };
            return Frame {
                body: Some(Body::StreamEnd(unknown)),
            };
        }
        open(sequence)
    }

    proptest! {
        #[test]
        fn an_ack_is_true_and_everything_is_answered_in_the_end(
            steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0u8..4), 1..300),
        ) {
            let mut session = session();
            let mut world = World { next: 1, ..World::default() };
            let mut last = 0;
            for (is_send, which, luck) in steps {
                if is_send || world.waiting.is_empty() {
                    let actions = session.on_frame(thing(world.next), 0);
                    last = last.max(world.next);
                    world.next += 1;
                    world.carry_out(actions);
                } else {
                    let ticket = world.waiting.swap_remove(which.index(world.waiting.len()));
                    let verdict = if luck == 0 { later() } else { Verdict::Durable };
                    if luck != 0 {
                        world.durable.insert(ticket.sequence);
                    }
                    let actions = session.on_verdict(ticket, verdict);
                    world.carry_out(actions);
                }
                let actions = session.answer();
                world.carry_out(actions);
            }
            while world.acked < last {
                while world.next <= last {
                    let actions = session.on_frame(thing(world.next), 0);
                    world.next += 1;
                    world.carry_out(actions);
                }
                for ticket in std::mem::take(&mut world.waiting) {
                    world.durable.insert(ticket.sequence);
                    let actions = session.on_verdict(ticket, Verdict::Durable);
                    world.carry_out(actions);
                }
                let before = world.acked;
                let actions = session.answer();
                world.carry_out(actions);
                // A rejected one at the end is answered by its Nack alone.
                let answered = (world.acked + 1..=last).all(|sequence| world.rejected.contains(&sequence));
                prop_assert!(world.acked > before || answered, "{} of {last}", world.acked);
                if answered {
                    break;
                }
            }
            prop_assert_eq!(session.in_flight(), 0);
        }
    }
}

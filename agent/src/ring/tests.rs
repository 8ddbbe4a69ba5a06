use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgelogger_common::block::Block;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::Lane;
use proptest::prelude::*;

use super::*;
use crate::flow::{Resume, SourceBlock};

/// Long enough for a thread on a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn event(stream: u8, start: u64, len: usize, credit: CreditPermit) -> SourceEvent {
    let lines = Bytes::from([vec![b'x'; len - 1], vec![b'\n']].concat());
    let block = Block::from_lines(StreamId::from_bytes([stream; 16]), start, lines, 1, 0, 0);
    SourceEvent::Block(SourceBlock {
        block,
        lane: Lane::Live,
        replayable: true,
        resume: Resume::Nowhere,
        credit,
    })
}

fn start_of(popped: Popped) -> u64 {
    match popped {
        Popped::Event(SourceEvent::Block(block)) => block.block.header.start,
        other => panic!("expected a block, got {other:?}"),
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// Waits until the other thread has come to a state that it announces.
fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the other thread never got there");
        thread::yield_now();
    }
}

#[test]
fn events_come_out_in_the_order_of_their_source() {
    let ring = Ring::new(RingLimits {
        slots: 4,
        bytes: 1000,
    });
    let source = ring.source("a", 0);
    for start in 0..4 {
        source
            .push(event(1, start, 10, source.acquire(10).unwrap()))
            .unwrap();
    }
    assert_eq!(ring.bytes_used(), 40);
    assert_eq!(
        (0..4).map(|_| start_of(ring.pop(soon()))).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!(ring.bytes_used(), 0);
}

#[test]
fn a_busy_source_leaves_the_reserve_of_another_alone() {
    let ring = Ring::new(RingLimits {
        slots: 4,
        bytes: 1000,
    });
    let (busy, quiet) = (ring.source("busy", 100), ring.source("quiet", 100));
    let all = busy.try_acquire(900).unwrap();
    assert!(busy.try_acquire(1).is_none());
    let own = quiet.try_acquire(100).unwrap();
    assert!(quiet.try_acquire(1).is_none());
    drop(all);
    assert_eq!(quiet.try_acquire(50).unwrap().bytes(), 50);
    drop(own);
    assert_eq!(ring.bytes_used(), 0);
}

#[test]
fn more_than_the_ring_holds_is_charged_at_what_it_holds() {
    let ring = Ring::new(RingLimits {
        slots: 4,
        bytes: 1000,
    });
    let (one, _other) = (ring.source("one", 100), ring.source("other", 100));
    assert_eq!(one.acquire(1_000_000).unwrap().bytes(), 900);
}

#[test]
fn a_permit_shrinks_and_grows_by_another() {
    let ring = Ring::new(RingLimits {
        slots: 4,
        bytes: 1000,
    });
    let source = ring.source("a", 100);
    let mut permit = source.acquire(500).unwrap();
    permit.shrink_to(20);
    assert_eq!(ring.bytes_used(), 20);
    permit.absorb(source.acquire(30).unwrap());
    assert_eq!((permit.bytes(), ring.bytes_used()), (50, 50));
    permit.absorb(CreditPermit::uncounted());
    drop(permit);
    assert_eq!(ring.bytes_used(), 0);
}

#[test]
fn a_large_request_is_not_overtaken_for_ever() {
    let ring = Ring::new(RingLimits {
        slots: 4,
        bytes: 1000,
    });
    let (large, small) = (ring.source("large", 0), ring.source("small", 0));
    let held = small.acquire(500).unwrap();
    let waiting = thread::spawn(move || large.acquire(1000).map(|permit| permit.bytes()));
    until(|| small.try_acquire(1).is_none());
    drop(held);
    assert_eq!(waiting.join().unwrap(), Ok(1000));
}

#[test]
fn stop_wakes_those_that_wait_for_credit_and_for_a_slot() {
    let ring = Ring::new(RingLimits { slots: 1, bytes: 10 });
    let source = ring.source("a", 0);
    let held = source.acquire(10).unwrap();
    source.push(event(1, 0, 10, held)).unwrap();
    let for_credit = source.clone();
    let for_slot = source.clone();
    let one = thread::spawn(move || for_credit.acquire(1).map(drop));
    let two = thread::spawn(move || for_slot.push(event(1, 10, 10, CreditPermit::uncounted())));
    ring.stop();
    assert_eq!(one.join().unwrap(), Err(Stopped));
    assert_eq!(two.join().unwrap(), Err(Stopped));
    assert_eq!(start_of(ring.pop(None)), 0);
    drop(source);
    assert!(matches!(ring.pop(None), Popped::Finished));
}

#[test]
fn what_could_not_be_pushed_counts_as_unread() {
    let ring = Ring::new(RingLimits { slots: 1, bytes: 100 });
    let source = ring.source("a", 0);
    source.push(event(1, 0, 10, CreditPermit::uncounted())).unwrap();
    ring.stop();
    source
        .push(event(1, 10, 10, CreditPermit::uncounted()))
        .unwrap_err();
    let positions = ring.tally().accounts().positions;
    assert_eq!((positions.read, positions.in_flight), (10, 10));
}

#[test]
fn the_consumer_waits_for_the_last_source_after_a_stop() {
    let ring = Ring::new(RingLimits::default());
    let source = ring.source("a", 0);
    ring.stop();
    let consumer = {
        let ring = ring.clone();
        thread::spawn(move || {
            (
                start_of(ring.pop(soon())),
                matches!(ring.pop(soon()), Popped::Finished),
            )
        })
    };
    source.push(event(1, 7, 10, CreditPermit::uncounted())).unwrap();
    drop(source);
    assert_eq!(consumer.join().unwrap(), (7, true));
}

#[test]
fn a_nudge_wakes_the_consumer_once() {
    let ring = Ring::new(RingLimits::default());
    let consumer = {
        let ring = ring.clone();
        thread::spawn(move || matches!(ring.pop(soon()), Popped::Nudged))
    };
    ring.nudge();
    assert!(consumer.join().unwrap());
    assert!(matches!(ring.pop(Some(Instant::now())), Popped::TimedOut));
}

#[test]
fn many_sources_through_a_tiny_ring_lose_and_mix_up_nothing() {
    const SOURCES: u8 = 4;
    const EVENTS: u64 = 5_000;
    let ring = Ring::new(RingLimits { slots: 2, bytes: 300 });
    let producers: Vec<_> = (0..SOURCES)
        .map(|stream| {
            let source = ring.source("stress", 20);
            thread::spawn(move || {
                for start in 0..EVENTS {
                    let len = 10 + usize::try_from(start % 90).unwrap();
                    let permit = source.acquire(len).unwrap();
                    source.push(event(stream, start, len, permit)).unwrap();
                }
            })
        })
        .collect();
    let mut next: HashMap<StreamId, u64> = HashMap::new();
    for _ in 0..u64::from(SOURCES) * EVENTS {
        let Popped::Event(SourceEvent::Block(block)) = ring.pop(soon()) else {
            panic!("a wake-up was lost")
        };
        let header = &block.block.header;
        let expected = next.entry(header.stream_id).or_default();
        assert_eq!(header.start, *expected);
        *expected += 1;
        assert!(ring.bytes_used() <= 300);
    }
    producers
        .into_iter()
        .for_each(|producer| producer.join().unwrap());
    assert_eq!(ring.bytes_used(), 0);
    ring.stop();
    assert!(matches!(ring.pop(None), Popped::Finished));
}

#[test]
fn a_gate_passes_every_change_on() {
    const ROUNDS: usize = 20_000;
    let gate = Arc::new((Gate::default(), AtomicUsize::new(0), Gate::default()));
    let ping = |mine: usize| {
        let gate = Arc::clone(&gate);
        thread::spawn(move || {
            let (even, turn, odd) = &*gate;
            let (wait, wake) = if mine == 0 { (even, odd) } else { (odd, even) };
            for round in 0..ROUNDS {
                let now = 2 * round + mine;
                assert!(
                    wait.wait_while(|| turn.load(Ordering::SeqCst) != now, soon()),
                    "lost at {now}"
                );
                turn.store(now + 1, Ordering::SeqCst);
                wake.open_one();
            }
        })
    };
    let (one, two) = (ping(0), ping(1));
    one.join().unwrap();
    two.join().unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Acquire { source: usize, bytes: usize },
    Release(usize),
    Shrink { permit: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3usize, 0..400usize).prop_map(|(source, bytes)| Step::Acquire { source, bytes }),
        (0..8usize).prop_map(Step::Release),
        (0..8usize, 0..400usize).prop_map(|(permit, to)| Step::Shrink { permit, to }),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn credit_never_exceeds_the_ring_and_all_comes_back(steps in steps()) {
        let ring = Ring::new(RingLimits { slots: 1, bytes: 500 });
        let sources = [ring.source("a", 0), ring.source("b", 50), ring.source("c", 400)];
        let mut permits: Vec<(usize, CreditPermit)> = Vec::new();
        for step in steps {
            match step {
                Step::Acquire { source, bytes } => {
                    if let Some(permit) = sources[source].try_acquire(bytes) {
                        permits.push((source, permit));
                    }
                }
                Step::Release(at) if at < permits.len() => drop(permits.swap_remove(at)),
                Step::Shrink { permit, to } if permit < permits.len() => permits[permit].1.shrink_to(to),
                Step::Release(_) | Step::Shrink { .. } => {}
            }
            let held: usize = permits.iter().map(|(_, permit)| permit.bytes()).sum();
            prop_assert_eq!(ring.bytes_used(), held);
            prop_assert!(held <= 500);
            let of_b: usize = permits.iter().filter(|(of, _)| *of == 1).map(|(_, permit)| permit.bytes()).sum();
            // Whatever the others hold, b's reserve is there for b.
            prop_assert!(of_b >= 50 || sources[1].try_acquire(50 - of_b).is_some());
        }
        permits.clear();
        prop_assert_eq!(ring.bytes_used(), 0);
    }
}

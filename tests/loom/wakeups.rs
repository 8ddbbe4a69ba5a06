//! Every interleaving of the ring's sleepers and wakers, by loom: nobody sleeps for ever.
//!
//! The file under test is the agent's own, included here over loom's atomics, mutex and condition variable. Around it
//! stands a queue of one slot, used in the way of `Ring::pop` and `SourceHandle::push`: try, then sleep while the
//! condition holds, and open the other side's gate after every change.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../agent/src/ring/gate.rs"]
#[allow(dead_code)]
mod gate;

/// What `gate.rs` takes from the standard library and parking_lot, with the shape of parking_lot.
mod sync {
    use std::time::Instant;

    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering, fence};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) struct Guard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> Guard<'_, T> {
            Guard(Some(self.0.lock().unwrap()))
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    /// Time does not pass in a model.
    pub(crate) struct InTime;

    impl InTime {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }

    impl Condvar {
        pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).unwrap());
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _: Instant) -> InTime {
            self.wait(guard);
            InTime
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

/// Preemptions of a thread that are tried: bugs of this kind need one or two, and more take minutes.
const PREEMPTIONS: usize = 2;

/// How a thread sleeps; the real gate, or one that is wrong.
trait Sleeping: Default + Send + Sync + 'static {
    fn wait_while(&self, closed: impl Fn() -> bool);
    fn open_one(&self);
    fn open_all(&self);
}

impl Sleeping for gate::Gate {
    fn wait_while(&self, closed: impl Fn() -> bool) {
        self.wait_while(closed, None);
    }

    fn open_one(&self) {
        self.open_one();
    }

    fn open_all(&self) {
        self.open_all();
    }
}

/// The bug that the gate's order avoids: it looks at the condition, and only then says that it sleeps.
#[derive(Default)]
struct LooksTooEarly {
    sleepers: AtomicUsize,
    lock: sync::Mutex<()>,
    condvar: sync::Condvar,
}

impl Sleeping for LooksTooEarly {
    fn wait_while(&self, closed: impl Fn() -> bool) {
        while closed() {
            let mut guard = self.lock.lock();
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            self.condvar.wait(&mut guard);
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn open_one(&self) {
        self.open_all();
    }

    fn open_all(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = self.lock.lock();
            self.condvar.notify_all();
        }
    }
}

/// A queue of one slot, as the ring uses its own.
#[derive(Default)]
struct Slot<G> {
    filled: AtomicBool,
    stopped: AtomicBool,
    not_empty: G,
    not_full: G,
}

impl<G: Sleeping> Slot<G> {
    /// `false`: stopped, and no slot is free.
    fn push(&self) -> bool {
        loop {
            if !self.filled.swap(true, Ordering::AcqRel) {
                self.not_empty.open_one();
                return true;
            }
            if self.stopped.load(Ordering::SeqCst) {
                return false;
            }
            let full = || self.filled.load(Ordering::Acquire) && !self.stopped.load(Ordering::SeqCst);
            self.not_full.wait_while(full);
        }
    }

    /// `false`: stopped, and nothing is there.
    fn pop(&self) -> bool {
        loop {
            if self.filled.swap(false, Ordering::AcqRel) {
                self.not_full.open_one();
                return true;
            }
            if self.stopped.load(Ordering::SeqCst) {
                return self.filled.swap(false, Ordering::AcqRel);
            }
            let empty = || !self.filled.load(Ordering::Acquire) && !self.stopped.load(Ordering::SeqCst);
            self.not_empty.wait_while(empty);
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.not_full.open_all();
        self.not_empty.open_all();
    }
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(check);
}

fn two_events_go_through<G: Sleeping>() {
    model(|| {
        let slot = Arc::new(Slot::<G>::default());
        let producer = Arc::clone(&slot);
        let producer = thread::spawn(move || producer.push() && producer.push());
        assert!(slot.pop() && slot.pop());
        assert!(producer.join().unwrap());
    });
}

#[test]
fn a_producer_and_a_consumer_wake_each_other() {
    two_events_go_through::<gate::Gate>();
}

#[test]
#[ignore = "ends in a deadlock, which ends its process; the next test runs it"]
fn looks_too_early() {
    two_events_go_through::<LooksTooEarly>();
}

#[test]
fn a_gate_that_looks_too_early_is_found_out() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "looks_too_early"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("deadlock"), "{said}");
}

#[test]
fn of_two_producers_none_is_forgotten() {
    model(|| {
        let slot = Arc::new(Slot::<gate::Gate>::default());
        let producers = [(); 2].map(|()| {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.push())
        });
        assert!(slot.pop() && slot.pop());
        producers
            .into_iter()
            .for_each(|producer| assert!(producer.join().unwrap()));
    });
}

#[test]
fn a_stop_wakes_both_sides() {
    model(|| {
        let slot = Arc::new(Slot::<gate::Gate>::default());
        let consumer = Arc::clone(&slot);
        let consumer = thread::spawn(move || while consumer.pop() {});
        let stopper = Arc::clone(&slot);
        let stopper = thread::spawn(move || stopper.stop());
        let _ = slot.push();
        stopper.join().unwrap();
        consumer.join().unwrap();
    });
}

//! Sleeping until a condition that lives in lock-free state changes, without losing a wake-up.
//!
//! # The protocol
//!
//! The sleeper, in this order: takes the lock, raises `sleepers`, *then* looks at the condition, and sleeps in the
//! same motion as it lets go of the lock. The waker, in this order: changes the state, *then* looks at `sleepers`,
//! and where it is raised takes the lock and notifies.
//!
//! Both "write mine, then read yours" pairs have a sequentially consistent fence between them, so at least one of
//! the two sees the other (Dekker's argument): either the sleeper sees the changed state and does not sleep, or the
//! waker sees a sleeper; and since the sleeper holds the lock until it really sleeps, that waker's notification
//! comes after and wakes it. Where nobody sleeps a waker pays one fence and one load, and takes no lock.
//!
//! `tests/loom/wakeups.rs` includes this file over loom's types and tries every interleaving.

use std::time::Instant;

use super::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence};

#[derive(Debug, Default)]
pub(super) struct Gate {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    condvar: Condvar,
}

impl Gate {
    /// Sleeps while `closed()`. `false` when the deadline passed and it still is.
    pub(super) fn wait_while(&self, closed: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
        let mut guard = self.lock.lock();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let opened = loop {
            if !closed() {
                break true;
            }
            match deadline {
                None => self.condvar.wait(&mut guard),
                Some(deadline) => {
                    if self.condvar.wait_until(&mut guard, deadline).timed_out() {
                        break !closed();
                    }
                }
            }
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        opened
    }

    /// To be called after the state changed for one: wakes one sleeper. When the woken one finds the condition
    /// taken by somebody who never slept, it sleeps again; nothing is owed to the others, because then that
    /// somebody used up the change.
    pub(super) fn open_one(&self) {
        if self.somebody_sleeps() {
            let _guard = self.lock.lock();
            self.condvar.notify_one();
        }
    }

    /// To be called after the state changed for all.
    pub(super) fn open_all(&self) {
        if self.somebody_sleeps() {
            let _guard = self.lock.lock();
            self.condvar.notify_all();
        }
    }

    fn somebody_sleeps(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleepers.load(Ordering::SeqCst) > 0
    }
}

//! Credit: how many payload bytes an agent may have on its way, cut from one memory budget for all agents.
//!
//! ```text
//! 0 ........ received - held ......... received .......... limit
//!            |<---- held (in work) ---->|<-- unused credit -->|
//!            |<-------------------- size -------------------->|   reserved in the budget
//! ```
//!
//! An agent that keeps running dry gets a window twice as large while the budget has room; one that uses little of it
//! gets less. A limit that was announced is never taken back: a window shrinks by not raising it for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest window: one small batch of an idle agent. 256 MiB are then enough for 4,096 idle agents.
pub const WINDOW_BYTES_MIN: u64 = 64 << 10;

/// Above this share of the budget (in percent) new windows begin at the minimum.
const COMFORT_PERCENT: u64 = 50;

/// Windows shrink after so many batches in a row that used less than an eighth.
const CALM_BATCHES: u32 = 8;

/// The memory of the collector for payloads, in bytes.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    reserved: AtomicU64,
}

impl Budget {
    /// A budget of this size.
    #[must_use]
    pub fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            reserved: AtomicU64::new(0),
        })
    }

    /// Its size.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What is promised now.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    fn try_reserve(&self, bytes: u64) -> bool {
        let fits = |reserved: u64| reserved.checked_add(bytes).filter(|sum| *sum <= self.total);
        self.reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_comfortable(&self) -> bool {
        self.reserved() <= self.total / 100 * COMFORT_PERCENT
    }
}

/// The credit of one session.
#[derive(Debug)]
pub struct Window {
    budget: Arc<Budget>,
    size_max: u64,
    size: u64,
    limit: u64,
    received: u64,
    held: u64,
    calm: u32,
}

impl Window {
    /// A window for a new session, `None` when not even the smallest is left. `size_max`: what a busy agent may have.
    #[must_use]
    pub fn open(budget: &Arc<Budget>, size_max: u64) -> Option<Self> {
        let size_max = size_max.max(WINDOW_BYTES_MIN);
        let generous = size_max / 4;
        let size = if generous > WINDOW_BYTES_MIN && budget.is_comfortable() && budget.try_reserve(generous) {
            generous
        } else if budget.try_reserve(WINDOW_BYTES_MIN) {
            WINDOW_BYTES_MIN
        } else {
            return None;
        };
        let budget = Arc::clone(budget);
        Some(Self {
            budget,
            size_max,
            size,
            limit: size,
            received: 0,
            held: 0,
            calm: 0,
        })
    }

    /// What is announced: the agent may begin a batch while the sum of its payload bytes is below this.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// A payload came in. `false` when the agent had no credit left to begin it.
    #[must_use]
    pub fn receive(&mut self, bytes: u64) -> bool {
        let had_credit = self.received < self.limit || bytes == 0;
        self.received = self.received.saturating_add(bytes);
        self.held = self.held.saturating_add(bytes);
        let unused = self.limit.saturating_sub(self.received);
        if unused < self.size / 2 {
            self.calm = 0;
            self.grow();
        } else if unused > self.size / 8 * 7 {
            self.calm += 1;
        }
        had_credit
    }

    /// A payload is out of memory.
    pub fn release(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// An agent that waits for credit with nothing in work needs a larger window: its next batch may not fit.
    pub fn grow_when_idle(&mut self) {
        if self.held == 0 && self.limit.saturating_sub(self.received) < self.size_max / 4 {
            self.grow();
        }
    }

    /// The new limit, if it is worth telling: when half of the window can be given again.
    pub fn raise(&mut self) -> Option<u64> {
        if self.calm >= CALM_BATCHES {
            self.shrink();
        }
        let done = self.received - self.held.min(self.received);
        let limit = done.saturating_add(self.size);
        if limit < self.limit.saturating_add(self.size / 2) {
            return None;
        }
        self.limit = limit;
        Some(limit)
    }

    fn grow(&mut self) {
        let size = (self.size * 2).min(self.size_max);
        if size > self.size && self.budget.try_reserve(size - self.size) {
            self.size = size;
        }
    }

    fn shrink(&mut self) {
        self.calm = 0;
        // What is announced stays reserved: only what lies behind the announced limit can be given up.
        let announced = self.limit.saturating_sub(self.received) + self.held;
        let size = (self.size / 2)
            .max(WINDOW_BYTES_MIN)
            .max(announced.min(self.size));
        self.budget.give_back(self.size - size);
        self.size = size;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.budget.give_back(self.size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_busy_agent_gets_more_and_its_end_gives_everything_back() {
        let budget = Budget::new(256 * MIB);
        let mut window = Window::open(&budget, 16 * MIB).unwrap();
        assert_eq!(window.limit(), 4 * MIB);
        for _ in 0..20 {
            let sent = window.limit() - window.received;
            assert!(window.receive(sent));
            window.release(sent);
            window.raise();
        }
        assert_eq!(window.size, 16 * MIB);
        assert_eq!(budget.reserved(), 16 * MIB);
        drop(window);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn the_budget_is_never_exceeded_and_later_agents_get_small_windows() {
        let budget = Budget::new(MIB);
        let windows: Vec<_> = std::iter::from_fn(|| Window::open(&budget, MIB)).collect();
        assert!(budget.reserved() <= MIB);
        assert_eq!(windows.last().unwrap().limit(), WINDOW_BYTES_MIN);
        assert!(windows.len() >= 8, "{}", windows.len());
    }

    #[test]
    fn a_payload_without_credit_is_told() {
        let budget = Budget::new(WINDOW_BYTES_MIN);
        let mut window = Window::open(&budget, WINDOW_BYTES_MIN).unwrap();
        assert!(window.receive(WINDOW_BYTES_MIN));
        assert!(!window.receive(1));
    }

    proptest! {
        #[test]
        fn limits_only_grow_and_reserved_covers_what_is_announced(
            steps in proptest::collection::vec((0u64..4 * MIB, 0u64..4 * MIB), 1..200),
        ) {
            let budget = Budget::new(8 * MIB);
            let mut window = Window::open(&budget, 4 * MIB).unwrap();
            for (send, release) in steps {
                let before = window.limit();
                let send = send.min(window.limit() - window.received);
                prop_assert!(window.receive(send));
                window.release(release.min(window.held));
                window.raise();
                prop_assert!(window.limit() >= before);
                prop_assert!(budget.reserved() <= budget.total());
                prop_assert_eq!(budget.reserved(), window.size);
                let announced = window.limit() - window.received + window.held;
                prop_assert!(announced <= window.size, "{} > {}", announced, window.size);
            }
        }
    }
}

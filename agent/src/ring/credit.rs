//! Credit in bytes: a part reserved for each source, the rest shared.
//!
//! A request is paid from the source's reserve first, then from what is shared. Requests that need the shared part
//! wait in line, so that a large one is not overtaken for ever by small ones; a request that the reserve alone
//! can pay never waits. All of it is behind one mutex: credit moves once a block, not once a record.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Stopped;
use crate::tally::InFlight;

#[derive(Debug)]
pub(super) struct Credit {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What the shared part holds when nothing is handed out.
    shared_bytes: usize,
    /// Of it, what is handed out. More than `shared_bytes` for a while when a source with a reserve joins.
    shared_used: usize,
    /// Handed out from all reserves.
    reserves_used: usize,
    /// Tickets that wait for the shared part, oldest first.
    line: VecDeque<u64>,
    next_ticket: u64,
    next_source: u32,
    stopped: bool,
}

/// One source's credit.
#[derive(Debug)]
pub(super) struct SourceCredit {
    credit: Arc<Credit>,
    /// From 1, never used again.
    number: u32,
    name: Box<str>,
    reserve_bytes: usize,
    /// Changed only under the credit's lock.
    reserve_used: Mutex<usize>,
}

/// What a request is paid from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Paid {
    reserve: usize,
    shared: usize,
}

impl Credit {
    pub(super) const fn new(bytes: usize) -> Self {
        let state = State {
            shared_bytes: bytes,
            shared_used: 0,
            reserves_used: 0,
            line: VecDeque::new(),
            next_ticket: 0,
            next_source: 1,
            stopped: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(super) fn source(self: &Arc<Self>, name: &str, reserve_bytes: usize) -> Arc<SourceCredit> {
        let mut state = self.state.lock();
        let reserve_bytes = reserve_bytes.min(state.shared_bytes / 2);
        state.shared_bytes -= reserve_bytes;
        let number = state.next_source;
        state.next_source = number.wrapping_add(1);
        Arc::new(SourceCredit {
            credit: Arc::clone(self),
            number,
            name: name.into(),
            reserve_bytes,
            reserve_used: Mutex::new(0),
        })
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn used(&self) -> usize {
        let state = self.state.lock();
        state.shared_used + state.reserves_used
    }
}

impl SourceCredit {
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn acquire(this: &Arc<Self>, bytes: usize) -> Result<CreditPermit, Stopped> {
        let mut state = this.credit.state.lock();
        let mut ticket = None;
        let paid = loop {
            if state.stopped {
                break Err(Stopped);
            }
            let first = state.line.front().copied() == ticket;
            if let Some(paid) = this.pay(&mut state, bytes, first) {
                break Ok(paid);
            }
            if ticket.is_none() {
                ticket = Some(state.next_ticket);
                let mine = state.next_ticket;
                state.line.push_back(mine);
                state.next_ticket += 1;
            }
            this.credit.changed.wait(&mut state);
        };
        if let Some(ticket) = ticket {
            state.line.retain(|waiting| *waiting != ticket);
            // The next in line looks again: there may be enough for it too.
            this.credit.changed.notify_all();
        }
        drop(state);
        paid.map(|paid| this.permit(paid))
    }

    pub(super) fn try_acquire(this: &Arc<Self>, bytes: usize) -> Option<CreditPermit> {
        let mut state = this.credit.state.lock();
        if state.stopped {
            return None;
        }
        let first = state.line.is_empty();
        let paid = this.pay(&mut state, bytes, first)?;
        drop(state);
        Some(this.permit(paid))
    }

    /// Pays from what is shared, and only where half of that stays free, or nothing of it is used at all.
    pub(super) fn try_acquire_spare(this: &Arc<Self>, bytes: usize) -> Option<CreditPermit> {
        let mut state = this.credit.state.lock();
        let shared = bytes.min(state.shared_bytes);
        let is_spare = state.shared_used == 0 || state.shared_used + shared <= state.shared_bytes / 2;
        if state.stopped || !state.line.is_empty() || !is_spare {
            return None;
        }
        state.shared_used += shared;
        drop(state);
        Some(this.permit(Paid { reserve: 0, shared }))
    }

    fn permit(self: &Arc<Self>, paid: Paid) -> CreditPermit {
        CreditPermit {
            source: Some(Arc::clone(self)),
            paid,
            in_flight: InFlight::default(),
        }
    }

    /// Pays if it can. `first`: nobody else is before this request.
    fn pay(&self, state: &mut State, bytes: usize, first: bool) -> Option<Paid> {
        let mut reserve_used = self.reserve_used.lock();
        // What could never be paid is charged at what there is at all.
        let bytes = bytes.min(self.reserve_bytes + state.shared_bytes);
        let reserve = bytes.min(self.reserve_bytes - *reserve_used);
        let shared = bytes - reserve;
        if shared > 0 && (!first || state.shared_used + shared > state.shared_bytes) {
            return None;
        }
        *reserve_used += reserve;
        state.reserves_used += reserve;
        state.shared_used += shared;
        Some(Paid { reserve, shared })
    }

    fn give_back(&self, paid: Paid) {
        let mut state = self.credit.state.lock();
        *self.reserve_used.lock() -= paid.reserve;
        state.reserves_used -= paid.reserve;
        state.shared_used -= paid.shared;
        let somebody_waits = !state.line.is_empty();
        drop(state);
        if somebody_waits {
            self.credit.changed.notify_all();
        }
    }
}

impl Drop for SourceCredit {
    fn drop(&mut self) {
        self.credit.state.lock().shared_bytes += self.reserve_bytes;
        self.credit.changed.notify_all();
    }
}

/// Bytes of the ring that its holder may use; they go back when it is dropped.
#[derive(Debug, Default)]
pub struct CreditPermit {
    /// `None`: counted nowhere.
    source: Option<Arc<SourceCredit>>,
    paid: Paid,
    /// Set when the block that it belongs to is pushed.
    in_flight: InFlight,
}

impl CreditPermit {
    /// A permit that no ring counts: for tests, and for blocks that were counted elsewhere.
    #[must_use]
    pub fn uncounted() -> Self {
        Self::default()
    }

    /// Bytes it stands for.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.paid.reserve + self.paid.shared
    }

    /// Which source's it is; 0 where no ring counts it. What the batcher is fair between.
    #[must_use]
    pub fn source_number(&self) -> u32 {
        self.source.as_ref().map_or(0, |source| source.number)
    }

    /// Gives back all but `bytes`: less was read than could have been.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes().saturating_sub(bytes);
        // The shared part first: others can use it.
        let shared = surplus.min(self.paid.shared);
        let back = Paid {
            reserve: surplus - shared,
            shared,
        };
        self.paid.reserve -= back.reserve;
        self.paid.shared -= back.shared;
        if let Some(source) = &self.source
            && back != Paid::default()
        {
            source.give_back(back);
        }
    }

    /// The block was read, and is in flight from now on.
    pub(crate) fn pushed(&mut self, in_flight: InFlight) {
        self.in_flight = in_flight;
    }

    /// The part that must live on when the bytes are given back: what is in flight.
    #[must_use]
    pub fn take_in_flight(&mut self) -> InFlight {
        std::mem::take(&mut self.in_flight)
    }

    /// Takes over what `other` stands for. Bytes of another source's permit are given back instead.
    pub fn absorb(&mut self, mut other: Self) {
        self.in_flight.absorb(other.take_in_flight());
        let same = match (&self.source, &other.source) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        };
        if same {
            let paid = std::mem::take(&mut other.paid);
            self.paid.reserve += paid.reserve;
            self.paid.shared += paid.shared;
        }
    }
}

impl Drop for CreditPermit {
    fn drop(&mut self) {
        if let Some(source) = &self.source
            && self.paid != Paid::default()
        {
            source.give_back(self.paid);
        }
    }
}

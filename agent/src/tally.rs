//! The agent's account of every position and record since its process started.
//!
//! ```text
//! read = acked + in flight + dropped + lost + rejected + residual        and the residual is 0
//! ```
//!
//! `read` is counted when a source pushes a block, the four outcomes when the collector's answer is in. What is in
//! flight is *not* computed from the others but counted by [`InFlight`] guards that travel with the data (in the
//! ring's permit, then in the payload of the batch). So data that vanishes on the way without an outcome shows as
//! a residual instead of hiding in "in flight".
//!
//! A block's receipts are part of its range: positions dropped by policy or declared lost count as read when the
//! block is pushed, and as `dropped` or `lost` when the collector has the receipt.

use std::collections::HashMap;
use std::sync::Arc;

use edgelogger_common::block::Block;
use edgelogger_common::stream::StreamId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::flow::SentBlock;

/// How a block that was sent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The collector has it.
    Acked,
    /// The collector will never take it. The receipt that says so is not settled again.
    Rejected,
}

/// What became of what was read. One for positions, one for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Read from sources, with what a receipt stands for.
    pub read: u64,
    /// Held by the collector as records.
    pub acked: u64,
    /// In the ring, in a batch, or under way.
    pub in_flight: u64,
    /// Dropped by policy; the collector has the receipt.
    pub dropped: u64,
    /// Lost for a reason; the collector has the receipt.
    pub lost: u64,
    /// Refused by the collector for good.
    pub rejected: u64,
}

impl Account {
    /// What is unaccounted for: 0, or there is a bug.
    #[must_use]
    pub fn residual(&self) -> i64 {
        let known = self.acked + self.in_flight + self.dropped + self.lost + self.rejected;
        self.read.wrapping_sub(known).cast_signed()
    }
}

/// Both accounts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accounts {
    /// In positions: bytes of files, counts elsewhere.
    pub positions: Account,
    /// In records. What nobody could count (a lost range of a file) is in positions only.
    pub records: Account,
}

/// What a block amounts to, of which how much is receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Everything.
    pub all: u64,
    /// Dropped by policy, as receipts say.
    pub dropped: u64,
    /// Lost, as receipts say.
    pub lost: u64,
}

/// The same in positions and in records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// In positions.
    pub positions: Amount,
    /// In records.
    pub records: Amount,
}

/// See the module page.
#[derive(Debug, Default)]
pub struct Tally(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    accounts: Accounts,
    /// Amounts (positions, records) of sent blocks that have receipts. Bounded by what is in flight.
    with_receipts: HashMap<(StreamId, u64, u64), Amounts>,
}

impl Tally {
    /// Both accounts, consistent with each other.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        self.0.lock().accounts
    }

    /// A source read this block. It counts as in flight while the guard lives.
    #[must_use]
    pub fn read(self: &Arc<Self>, block: &Block) -> InFlight {
        self.read_amounts(&amounts(block))
    }

    /// As [`Tally::read`], for blocks that an earlier process left.
    #[must_use]
    pub fn read_amounts(self: &Arc<Self>, amounts: &Amounts) -> InFlight {
        let (positions, records) = (amounts.positions.all, amounts.records.all);
        let mut state = self.0.lock();
        let accounts = &mut state.accounts;
        for (account, amount) in [
            (&mut accounts.positions, positions),
            (&mut accounts.records, records),
        ] {
            account.read += amount;
            account.in_flight += amount;
        }
        InFlight {
            tally: Some(Arc::clone(self)),
            positions,
            records,
        }
    }

    /// The block will come back in [`Tally::settled`]; its receipts are remembered until then.
    pub fn sending(&self, block: &Block) {
        let header = &block.header;
        self.note((header.stream_id, header.start, header.end), amounts(block));
    }

    /// As [`Tally::sending`], for a block that comes from the spool.
    pub fn sending_again(&self, block: &SentBlock, amounts: Amounts) {
        self.note((block.stream_id, block.start, block.end), amounts);
    }

    fn note(&self, key: (StreamId, u64, u64), amounts: Amounts) {
        if amounts.positions.dropped + amounts.positions.lost > 0 {
            self.0.lock().with_receipts.insert(key, amounts);
        }
    }

    /// The block goes to disk, and will be told of again in [`Tally::sending_again`].
    pub fn set_aside(&self, block: &SentBlock) {
        let key = (block.stream_id, block.start, block.end);
        self.0.lock().with_receipts.remove(&key);
    }

    /// The collector's verdict on a block. Once for each block.
    pub fn settled(&self, block: &SentBlock, how: Settled) {
        let mut state = self.0.lock();
        let key = (block.stream_id, block.start, block.end);
        let amounts = state.with_receipts.remove(&key);
        let Amounts { positions, records } = amounts.unwrap_or_else(|| Amounts::plain(block));
        let accounts = &mut state.accounts;
        for (account, amount) in [
            (&mut accounts.positions, positions),
            (&mut accounts.records, records),
        ] {
            match how {
                Settled::Rejected => account.rejected += amount.all,
                Settled::Acked => {
                    account.acked += amount.all - amount.dropped - amount.lost;
                    account.dropped += amount.dropped;
                    account.lost += amount.lost;
                }
            }
        }
    }
}

impl Amounts {
    /// Of a block without receipts.
    fn plain(block: &SentBlock) -> Self {
        let all = |all| Amount {
            all,
            ..Amount::default()
        };
        Self {
            positions: all(block.end - block.start),
            records: all(u64::from(block.record_count)),
        }
    }
}

/// Positions and records of a block, with its receipts.
#[must_use]
pub fn amounts(block: &Block) -> Amounts {
    let header = &block.header;
    let mut positions = Amount {
        all: header.end - header.start,
        ..Amount::default()
    };
    let mut records = Amount {
        all: u64::from(header.record_count),
        ..Amount::default()
    };
    // A block made here decodes; one that would not is refused by the collector, and counts as a whole then.
    for receipt in block.receipts().unwrap_or_default() {
        records.all += receipt.count;
        if receipt.reason.is_loss() {
            positions.lost += receipt.len;
            records.lost += receipt.count;
        } else {
            positions.dropped += receipt.len;
            records.dropped += receipt.count;
        }
    }
    Amounts { positions, records }
}

/// Travels with data that is under way; what it stands for is in flight until it is dropped.
#[derive(Debug, Default)]
pub struct InFlight {
    tally: Option<Arc<Tally>>,
    positions: u64,
    records: u64,
}

impl InFlight {
    /// Takes over what `other` stands for.
    pub fn absorb(&mut self, mut other: Self) {
        if self.tally.is_none() {
            self.tally = other.tally.take();
        } else if other.tally.take().is_none() {
            return;
        }
        self.positions += std::mem::take(&mut other.positions);
        self.records += std::mem::take(&mut other.records);
    }

    /// It was never read after all: the source will read it again.
    pub fn unread(self) {
        if let Some(tally) = &self.tally {
            let mut state = tally.0.lock();
            state.accounts.positions.read -= self.positions;
            state.accounts.records.read -= self.records;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(tally) = &self.tally {
            let mut state = tally.0.lock();
            state.accounts.positions.in_flight -= self.positions;
            state.accounts.records.in_flight -= self.records;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Resume;
    use edgelogger_common::block::{LogBlockBuilder, LogRow, ReceiptReason};

    fn block() -> Block {
        let mut builder = LogBlockBuilder::new(StreamId::from_bytes([1; 16]), true, 10);
        builder.push(LogRow {
            body: b"a".to_vec(),
            source_len: 1,
            ..LogRow::default()
        });
        builder.push_receipt(3, ReceiptReason::Filtered, 3, true);
        builder.push_receipt(2, ReceiptReason::QueueFull, 2, true);
        builder.finish().unwrap()
    }

    fn sent(block: &Block) -> SentBlock {
        let header = &block.header;
        SentBlock {
            stream_id: header.stream_id,
            start: header.start,
            end: header.end,
            record_count: header.record_count,
            resume: Resume::Nowhere,
        }
    }

    #[test]
    fn an_acked_block_is_split_into_records_and_receipts() {
        let tally = Arc::new(Tally::default());
        let guard = tally.read(&block());
        assert_eq!(tally.accounts().positions.in_flight, 6);
        tally.sending(&block());
        tally.settled(&sent(&block()), Settled::Acked);
        drop(guard);
        let expected = Account {
            read: 6,
            acked: 1,
            in_flight: 0,
            dropped: 3,
            lost: 2,
            rejected: 0,
        };
        assert_eq!(
            tally.accounts(),
            Accounts {
                positions: expected,
                records: expected
            }
        );
        assert_eq!(expected.residual(), 0);
        assert!(tally.0.lock().with_receipts.is_empty());
    }

    #[test]
    fn data_that_vanishes_without_a_verdict_is_a_residual() {
        let tally = Arc::new(Tally::default());
        drop(tally.read(&block()));
        assert_eq!(tally.accounts().positions.residual(), 6);
    }

    #[test]
    fn what_a_source_reads_again_counts_once() {
        let tally = Arc::new(Tally::default());
        tally.read(&block()).unread();
        assert_eq!(tally.accounts(), Accounts::default());
    }
}

//! What is applied just now, for live tails: the very batches that went into the store, in the order in which they did.
//!
//! While nobody watches it costs one load of an atomic per entry. A watcher that does not keep up loses the oldest
//! batches and is told how many records were in them: the store never waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::record_batch::RecordBatch;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Records that may wait, and what they may hold of memory that the store would have freed.
const ROWS_MAX: usize = 200_000;
const BYTES_MAX: u64 = 32 << 20;

/// The queue between the store and its one watcher.
#[derive(Debug, Default)]
pub struct Arrivals {
    is_watched: AtomicBool,
    queue: Mutex<Queue>,
    fresh: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<(RecordBatch, u64)>,
    rows: usize,
    bytes: u64,
    missed: u64,
}

/// What came since the last time.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Batches with the columns of `logs`, in the order in which they were applied.
    pub batches: Vec<RecordBatch>,
    /// Records before them that came and went.
    pub missed: u64,
}

impl Arrivals {
    /// Begins or ends watching. What waits is forgotten.
    pub fn watch(&self, on: bool) {
        *self.queue.lock() = Queue::default();
        self.is_watched.store(on, Ordering::Release);
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Acquire)
    }

    pub(crate) fn push(&self, batches: Vec<(RecordBatch, u64)>) {
        if batches.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        for (batch, bytes) in batches {
            queue.rows += batch.num_rows();
            queue.bytes += bytes;
            queue.batches.push_back((batch, bytes));
        }
        while queue.rows > ROWS_MAX || queue.bytes > BYTES_MAX {
            let Some((batch, bytes)) = queue.batches.pop_front() else {
                break;
            };
            queue.rows -= batch.num_rows();
            queue.bytes -= bytes;
            queue.missed += batch.num_rows() as u64;
        }
        drop(queue);
        self.fresh.notify_one();
    }

    /// Waits until something is there. For one watcher; safe to cancel.
    pub async fn next(self: &Arc<Self>) -> Arrived {
        loop {
            let arrived = self.take();
            if !arrived.batches.is_empty() || arrived.missed > 0 {
                return arrived;
            }
            self.fresh.notified().await;
        }
    }

    fn take(&self) -> Arrived {
        let queue = std::mem::take(&mut *self.queue.lock());
        Arrived {
            batches: queue.batches.into_iter().map(|(batch, _)| batch).collect(),
            missed: queue.missed,
        }
    }
}

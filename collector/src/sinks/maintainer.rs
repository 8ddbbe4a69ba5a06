//! The thread that keeps the store's files in order. What somebody deletes goes at once; while there is little else to do
//! what is kept no longer goes, and small files become large ones.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgelogger_store::EmbeddedStore;
use parking_lot::{Condvar, Mutex};

/// How often it is looked whether something is to be deleted ...
const DELETION_INTERVAL: Duration = Duration::from_secs(1);
/// ... and whether there is something else to do.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after something failed.
const RETRY_PAUSE: Duration = Duration::from_secs(60);
/// From this on the store is busy ...
const BUSY_ROWS_PER_SECOND: u64 = 20_000;
/// ... and after so many busy looks in a row something is done all the same: small files make queries slow.
const BUSY_LOOKS_MAX: u32 = 60;
/// The least claim on a processor that there is.
const NICE: i32 = 19;

/// The thread. Dropping it ends it: what it is at is given up, and nothing has changed.
#[derive(Debug)]
pub(super) struct Maintainer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_stopping: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// False when it is over.
    fn wait(&self, time: Duration) -> bool {
        let mut is_stopping = self.is_stopping.lock();
        if !*is_stopping {
            self.changed.wait_for(&mut is_stopping, time);
        }
        !*is_stopping
    }

    fn goes_on(&self) -> bool {
        !*self.is_stopping.lock()
    }
}

impl Maintainer {
    /// Begins.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: Arc<EmbeddedStore>) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let mut work = Work {
            rows: store.rows_applied(),
            looked: Instant::now(),
            busy_looks: 0,
            delete_at: Instant::now(),
            tidy_at: Instant::now() + LOOK_INTERVAL,
            store,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("store-maintain".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it, and waits for that.
    pub fn stop(&mut self) {
        *self.stop.is_stopping.lock() = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that keeps the store's files in order ended with a panic");
        }
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Work {
    store: Arc<EmbeddedStore>,
    stop: Arc<Stop>,
    rows: u64,
    looked: Instant,
    busy_looks: u32,
    /// When it is looked at next.
    delete_at: Instant,
    tidy_at: Instant,
}

impl Work {
    fn run(&mut self) {
        // Of this thread, on Linux. Where it is refused the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        while self.stop.wait(DELETION_INTERVAL) {
            if self.store.is_stopped() {
                continue;
            }
            if Instant::now() >= self.delete_at {
                self.delete();
            }
            if Instant::now() < self.tidy_at {
                continue;
            }
            self.tidy_at = Instant::now() + LOOK_INTERVAL;
            if self.is_busy() {
                continue;
            }
            // The store's status says it, and so does health.
            if let Err(error) = self.tidy() {
                tracing::warn!("the store's files are not tidied up: {error}");
                self.tidy_at = Instant::now() + RETRY_PAUSE;
            }
        }
    }

    /// Somebody waits for it, so it does not wait for idle times.
    fn delete(&mut self) {
        while self.store.deletion_due() {
            match self.store.carry_out_deletion(&|| self.stop.goes_on()) {
                Ok(Some(done)) => tracing::warn!(
                    id = done.id,
                    machine = done.scope.machine,
                    source = done.scope.source,
                    by = done.who,
                    reason = done.reason,
                    rows = done.rows,
                    files = done.files,
                    bytes = done.bytes,
                    unreadable = done.unreadable.len(),
                    "a deletion is done"
                ),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!("a deletion does not go on: {error}");
                    self.delete_at = Instant::now() + RETRY_PAUSE;
                    return;
                }
            }
        }
    }

    /// Are rows coming in fast, or is a flush due?
    fn is_busy(&mut self) -> bool {
        let rows = self.store.rows_applied();
        let seconds = self.looked.elapsed().as_secs().max(1);
        let rate = rows.saturating_sub(self.rows) / seconds;
        (self.rows, self.looked) = (rows, Instant::now());
        let is_busy = rate >= BUSY_ROWS_PER_SECOND || self.store.flush_due();
        self.busy_looks = if is_busy { self.busy_looks + 1 } else { 0 };
        if self.busy_looks > BUSY_LOOKS_MAX {
            self.busy_looks = 0;
            return false;
        }
        is_busy
    }

    fn tidy(&mut self) -> Result<(), edgelogger_store::StoreError> {
        let stop = Arc::clone(&self.stop);
        let expired = self.store.expire(&|| stop.goes_on())?;
        if expired.files > 0 {
            tracing::info!(
                files = expired.files,
                rows = expired.rows,
                bytes = expired.bytes,
                "dropped what is kept no longer ([store.retention])"
            );
        }
        while let Some(merged) = self.store.merge_idle(&|| stop.goes_on())? {
            tracing::debug!(
                files = merged.files,
                rows = merged.rows,
                bytes = merged.bytes,
                "merged small files"
            );
            if !stop.goes_on() || self.is_busy() {
                break;
            }
        }
        Ok(())
    }
}

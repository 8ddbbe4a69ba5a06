//! The embedded store as a sink. Rows are applied on the sink's thread; files are written on another, so that
//! entries go in meanwhile; a third keeps them in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use edgelogger_common::error_code;
use edgelogger_proto::v1::LogEntry;
use edgelogger_store::{EmbeddedStore, Missed, Remedy as StoreRemedy, StoreError};
use parking_lot::{Condvar, Mutex};

use super::maintainer::Maintainer;
use super::{Outcome, Remedy, Sink, SinkError};
use crate::flow::SinkProgress;
use crate::health::Health;

/// How often the age of what is in memory is looked at.
const FLUSH_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a flush that failed.
const FLUSH_RETRY_PAUSE: Duration = Duration::from_secs(2);
const SUBJECT: &str = "sink store flush";

/// The sink.
#[derive(Debug)]
pub struct StoreSink {
    store: Arc<EmbeddedStore>,
    flusher: Flusher,
    maintainer: Maintainer,
}

impl StoreSink {
    /// Over an open store; `progress` says when the log waits for it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(
        store: Arc<EmbeddedStore>,
        health: Arc<Health>,
        progress: Arc<SinkProgress>,
    ) -> std::io::Result<Self> {
        let flusher = Flusher::start(Arc::clone(&store), health, progress)?;
        let maintainer = Maintainer::start(Arc::clone(&store))?;
        Ok(Self {
            store,
            flusher,
            maintainer,
        })
    }
}

impl Sink for StoreSink {
    fn name(&self) -> &'static str {
        "store"
    }

    fn cursor(&self) -> u64 {
        self.store.cursor()
    }

    fn durable_cursor(&self) -> u64 {
        self.store.durable_cursor()
    }

    fn held_cursor(&self) -> u64 {
        self.store.held_cursor()
    }

    fn apply(&mut self, sequence: u64, entry: &LogEntry) -> Result<Outcome, SinkError> {
        let applied = self
            .store
            .apply(sequence, entry)
            .map_err(|error| sink_error(&error))?;
        if applied.flush_due {
            self.flusher.hurry();
        }
        Ok(Outcome {
            applied: applied.rows,
            duplicate: applied.duplicates,
        })
    }

    fn skip(&mut self, sequence: u64) {
        self.store.skip(sequence);
    }

    fn step_over(&mut self, missed: &Missed<'_>) {
        self.store.step_over(missed);
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.maintainer.stop();
        self.flusher.stop();
        if self.store.is_stopped() {
            return Ok(());
        }
        self.store.flush().map(|_| ()).map_err(|error| sink_error(&error))
    }
}

fn sink_error(error: &StoreError) -> SinkError {
    let remedy = match error.remedy() {
        StoreRemedy::Retry => Remedy::Retry,
        StoreRemedy::Stop => Remedy::Stop,
        StoreRemedy::DeadLetter => Remedy::DeadLetter,
    };
    let code = error.code().copied().unwrap_or(error_code::SINK_STOPPED);
    SinkError {
        remedy,
        code,
        message: error.to_string(),
    }
}

/// The thread that writes files.
#[derive(Debug)]
struct Flusher {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct SignalState {
    is_due: bool,
    is_stopping: bool,
}

impl Signal {
    /// Waits until a flush is due, the store is to be asked, or it is over (`false`).
    fn wait(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.is_due && !state.is_stopping {
            self.changed.wait_for(&mut state, time);
        }
        state.is_due = false;
        !state.is_stopping
    }

    fn set(&self, change: impl FnOnce(&mut SignalState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

impl Flusher {
    fn start(
        store: Arc<EmbeddedStore>,
        health: Arc<Health>,
        progress: Arc<SinkProgress>,
    ) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let waiting = Arc::clone(&signal);
        let thread = std::thread::Builder::new()
            .name("store-flush".to_owned())
            .spawn(move || flush_when_due(&store, &health, &progress, &waiting))?;
        Ok(Self {
            signal,
            thread: Some(thread),
        })
    }

    fn hurry(&self) {
        self.signal.set(|state| state.is_due = true);
    }

    fn stop(&mut self) {
        self.signal.set(|state| state.is_stopping = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes files ended with a panic");
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn flush_when_due(store: &EmbeddedStore, health: &Health, progress: &SinkProgress, signal: &Signal) {
    let mut pause = FLUSH_CHECK_INTERVAL;
    let mut failed = false;
    while signal.wait(pause) {
        // A log without room waits for what is in memory only.
        let is_awaited = progress.awaited.load(Ordering::Relaxed) && store.durable_cursor() < store.cursor();
        if !failed && !is_awaited && !store.flush_due() {
            continue;
        }
        match store.flush() {
            Ok(flushed) => {
                if flushed.rows > 0 {
                    tracing::debug!(
                        rows = flushed.rows,
                        files = flushed.files,
                        bytes = flushed.bytes,
                        "stored"
                    );
                }
                if std::mem::take(&mut failed) {
                    health.clear(SUBJECT);
                    tracing::info!("the store writes files again");
                }
                pause = FLUSH_CHECK_INTERVAL;
            }
            Err(error) => {
                let code = error.code().copied().unwrap_or(error_code::SINK_STOPPED);
                health.raise(SUBJECT, code, error.to_string());
                (failed, pause) = (true, FLUSH_RETRY_PAUSE);
            }
        }
    }
}

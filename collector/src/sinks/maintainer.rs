//! The thread that keeps the store's files in order. What somebody deletes goes at once; while there is little else to do
//! what is kept no longer goes, small files become large ones, and it is found out what was in those that can't be used.

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
        Self::looking_every(LOOK_INTERVAL, store)
    }

    fn looking_every(interval: Duration, store: Arc<EmbeddedStore>) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let mut work = Work {
            rows: store.rows_applied(),
            looked: Instant::now(),
            busy_looks: 0,
            delete_at: Instant::now(),
            tidy_at: Instant::now() + interval,
            interval,
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
    interval: Duration,
}

impl Work {
    fn run(&mut self) {
        // Of this thread, on Linux. Where it is refused the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        while self.stop.wait(DELETION_INTERVAL.min(self.interval)) {
            if self.store.is_stopped() {
                continue;
            }
            if Instant::now() >= self.delete_at {
                self.delete();
            }
            if Instant::now() < self.tidy_at {
                continue;
            }
            self.tidy_at = Instant::now() + self.interval;
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
        let accounted = self.store.account_aside(&|| stop.goes_on());
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
        accounted
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use edgelogger_common::block::{Block, batch};
    use edgelogger_common::clock::Clock;
    use edgelogger_common::codec::sha256;
    use edgelogger_common::disk::{Access, Disk, DiskFile, DiskLock, FaultDisk};
    use edgelogger_common::stream::StreamId;
    use edgelogger_proto::v1::{self, LogEntry, log_entry};
    use edgelogger_store::{Retention, Store, StoreOptions, StoreStatus, TableRetention};

    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const PATIENCE: Duration = Duration::from_secs(30);
    const STREAM: StreamId = StreamId::from_bytes([7; 16]);
    const DAY_NS: i64 = 86_400 * 1_000_000_000;
    /// CRC32C of `line` and its end.
    const LINE_CRC: u32 = 0x62bc_d955;
    /// Enough that they are merged.
    const FILES: u64 = 9;

    /// One line of a stream, received at some time.
    fn entry(position: u64, received_ns: i64) -> LogEntry {
        let line = Bytes::from_static(b"line\n");
        let block = Block::from_lines(STREAM, position, line, 1, LINE_CRC, received_ns);
        let mut payload = Vec::new();
        batch::write_payload(std::slice::from_ref(&block), &mut payload).unwrap();
        let batch = v1::Batch {
            codec: v1::Codec::None.into(),
            decompressed_len: u32::try_from(payload.len()).unwrap(),
            block_count: 1,
            record_count: 1,
            sha256: Bytes::copy_from_slice(&sha256(&payload)),
            payload: payload.into(),
            ..v1::Batch::default()
        };
        LogEntry {
            agent_id: "m1".to_owned(),
            machine_id: "m1".to_owned(),
            received_time_ns: received_ns,
            streams: vec![v1::StreamDescriptor {
                stream_id: STREAM.to_proto(),
                name: "/var/log/a.log".to_owned(),
                ..v1::StreamDescriptor::default()
            }],
            body: Some(log_entry::Body::Batch(batch)),
            ..LogEntry::default()
        }
    }

    /// A file of ten days ago, and small ones of today; so many days are kept.
    fn store_on(disk: Arc<dyn Disk>, days: u64) -> Arc<EmbeddedStore> {
        let logs = TableRetention {
            age_max: Some(Duration::from_secs(days * 86_400)),
            bytes_max: None,
        };
        let options = StoreOptions {
            disk,
            retention: Retention {
                logs,
                ..Retention::default()
            },
            ..StoreOptions::new("/store")
        };
        let now_ns = options.clock.wall_ns();
        let store = EmbeddedStore::open(options).unwrap();
        for number in 0..=FILES {
            let received_ns = if number == 0 { now_ns - 10 * DAY_NS } else { now_ns };
            store.apply(number, &entry(number * 5, received_ns)).unwrap();
            store.flush().unwrap();
        }
        store
    }

    fn status(store: &EmbeddedStore) -> StoreStatus {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.status()).unwrap()
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(SOON);
        }
    }

    #[test]
    fn in_idle_time_what_is_kept_no_longer_goes_and_small_files_become_one() {
        let store = store_on(Arc::new(FaultDisk::new(1)), 1);
        assert_eq!(status(&store).files, FILES + 1);
        let _maintainer = Maintainer::looking_every(SOON, Arc::clone(&store)).unwrap();
        wait_until("one file is left", || status(&store).files == 1);
        let status = status(&store);
        assert_eq!((status.log_rows, &status.problems[..]), (FILES, &[][..]));
        let (_, state) = store.streams().remove(0);
        assert_eq!((state.gone_rows(), state.expired().len()), (1, 1));
        assert_eq!(state.expired()[0], 0..5);
    }

    #[test]
    fn while_it_waits_it_stops_at_once() {
        let store = store_on(Arc::new(FaultDisk::new(1)), 1);
        let mut maintainer = Maintainer::start(store).unwrap();
        let begun = Instant::now();
        maintainer.stop();
        assert!(begun.elapsed() < LOOK_INTERVAL / 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn while_it_reads_entries_are_applied_and_written_and_a_stop_leaves_everything_as_it_was() {
        let disk = Arc::new(Gate::default());
        let store = store_on(Arc::<Gate>::clone(&disk), 100);
        disk.close();
        let mut maintainer = Maintainer::looking_every(SOON, Arc::clone(&store)).unwrap();
        disk.wait_for_reader();
        let now_ns = edgelogger_common::clock::SystemClock::new().wall_ns();
        let number = FILES + 1;
        store.apply(number, &entry(number * 5, now_ns)).unwrap();
        store.flush().unwrap();
        assert_eq!(store.durable_cursor(), number + 1, "nobody waits for the reader");
        let before = status(&store);
        let opener = {
            let (stop, disk) = (Arc::clone(&maintainer.stop), Arc::clone(&disk));
            std::thread::spawn(move || {
                while stop.goes_on() {
                    std::thread::sleep(SOON);
                }
                disk.open_gate();
            })
        };
        maintainer.stop();
        opener.join().unwrap();
        let after = status(&store);
        assert_eq!((after.files, after.log_rows), (before.files, before.log_rows));
        assert_eq!(before.files, FILES + 2);
    }

    /// A disk on which files open for reading once the gate is open.
    #[derive(Debug)]
    struct Gate {
        disk: FaultDisk,
        state: Mutex<GateState>,
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct GateState {
        is_closed: bool,
        has_reader: bool,
    }

    impl Default for Gate {
        fn default() -> Self {
            Self {
                disk: FaultDisk::new(1),
                state: Mutex::default(),
                changed: Condvar::new(),
            }
        }
    }

    impl Gate {
        fn close(&self) {
            self.state.lock().is_closed = true;
        }

        fn open_gate(&self) {
            self.state.lock().is_closed = false;
            self.changed.notify_all();
        }

        fn wait_for_reader(&self) {
            let mut state = self.state.lock();
            while !state.has_reader {
                let late = self.changed.wait_for(&mut state, PATIENCE).timed_out();
                assert!(!late, "nobody reads");
            }
        }
    }

    impl Disk for Gate {
        fn open(&self, path: &Path, access: Access) -> std::io::Result<Box<dyn DiskFile>> {
            let mut state = self.state.lock();
            while state.is_closed {
                state.has_reader = true;
                self.changed.notify_all();
                self.changed.wait(&mut state);
            }
            drop(state);
            self.disk.open(path, access)
        }

        fn create_new(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
            self.disk.create_new(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
            self.disk.rename(from, to)
        }

        fn remove_file(&self, path: &Path) -> std::io::Result<()> {
            self.disk.remove_file(path)
        }

        fn list_files(&self, dir: &Path) -> std::io::Result<Vec<String>> {
            self.disk.list_files(dir)
        }

        fn create_dir_all(&self, dir: &Path) -> std::io::Result<()> {
            self.disk.create_dir_all(dir)
        }

        fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
            self.disk.sync_dir(dir)
        }

        fn file_len(&self, path: &Path) -> std::io::Result<u64> {
            self.disk.file_len(path)
        }

        fn exists(&self, path: &Path) -> std::io::Result<bool> {
            self.disk.exists(path)
        }

        fn available_bytes(&self, path: &Path) -> std::io::Result<u64> {
            self.disk.available_bytes(path)
        }

        fn total_bytes(&self, path: &Path) -> std::io::Result<u64> {
            self.disk.total_bytes(path)
        }

        fn lock(&self, path: &Path) -> std::io::Result<DiskLock> {
            self.disk.lock(path)
        }
    }
}

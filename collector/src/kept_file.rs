//! A small file of what agents said, through a restart: written from time to time if something changed, and when the
//! collector stops. It is a hint: one that can't be read is left behind, and agents say it again.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::disk::{Disk, DiskError, atomic_replace, create_dir_all_durable, parent, read_file};
use edgelogger_common::error_code;
use edgelogger_common::stamped::{stamp, unstamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// What is kept in such a file.
pub trait Kept: Send + Sync + 'static {
    /// The first word of the file.
    const MAGIC: &'static str;
    /// Of the body.
    const VERSION: u64;
    /// A larger file is not read.
    const BYTES_MAX: u64;
    /// How often it is written at most.
    const INTERVAL: Duration;
    /// What health calls it.
    const SUBJECT: &'static str;

    /// Grows with every change.
    fn version(&self) -> u64;
    /// What is written behind the first line.
    fn body(&self) -> Vec<u8>;
    /// Takes in what was written.
    ///
    /// # Errors
    /// What is wrong with it; then nothing was taken in.
    fn restore(&self, body: &[u8]) -> Result<(), String>;
}

/// The file.
pub struct KeptFile<K> {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    kept: K,
    health: Arc<Health>,
    /// The version that was written last.
    written: Mutex<u64>,
}

impl<K> std::fmt::Debug for KeptFile<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<K: Kept> KeptFile<K> {
    /// Takes in what the file says. Blocks.
    #[must_use]
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, kept: K, health: Arc<Health>) -> Arc<Self> {
        let subject = K::SUBJECT;
        match read_file(&*disk, &path, K::BYTES_MAX) {
            Ok(bytes) => {
                let body = unstamp(K::MAGIC, K::VERSION, &bytes).map_err(|error| error.to_string());
                if let Err(problem) = body.and_then(|(_, body)| kept.restore(body)) {
                    let path = path.display();
                    tracing::warn!(%path, "the {subject} can't be used ({problem}); agents will say it again");
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("the {subject}: {error}; agents will say it again"),
        }
        let written = Mutex::new(kept.version());
        Arc::new(Self {
            disk,
            path,
            kept,
            health,
            written,
        })
    }

    /// Writes from time to time, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(K::INTERVAL) => {}
            }
            let file = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || file.save()).await.is_err() {
                tracing::error!("keeping the {} ended with a panic", K::SUBJECT);
            }
        }
    }

    /// Writes, if something changed since it was written last. Blocks.
    pub fn save(&self) {
        let mut written = self.written.lock();
        let version = self.kept.version();
        if *written == version {
            return;
        }
        match self.write() {
            Ok(()) => {
                *written = version;
                self.health.clear(K::SUBJECT);
            }
            Err(error) => {
                self.health
                    .raise(K::SUBJECT, error_code::LOG_IO, error.to_string());
            }
        }
    }

    fn write(&self) -> Result<(), DiskError> {
        let bytes = stamp(K::MAGIC, K::VERSION, &self.kept.body());
        create_dir_all_durable(&*self.disk, parent(&self.path))?;
        atomic_replace(&*self.disk, &self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use edgelogger_common::clock::ManualClock;
    use edgelogger_common::disk::{Effect, Fault, FaultDisk, Operation};
    use rustix::io::Errno;

    use super::*;

    /// A number, which is its own version.
    struct Number(Arc<AtomicU64>);

    impl Kept for Number {
        const MAGIC: &'static str = "edgelogger-test";
        const VERSION: u64 = 1;
        const BYTES_MAX: u64 = 100;
        const INTERVAL: Duration = Duration::from_secs(60);
        const SUBJECT: &'static str = "number";

        fn version(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn body(&self) -> Vec<u8> {
            self.version().to_string().into_bytes()
        }

        fn restore(&self, body: &[u8]) -> Result<(), String> {
            let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
            let number = text.parse().map_err(|error| format!("{error}"))?;
            self.0.store(number, Ordering::Relaxed);
            Ok(())
        }
    }

    struct Fixture {
        disk: FaultDisk,
        health: Arc<Health>,
        number: Arc<AtomicU64>,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                disk: FaultDisk::new(1),
                health: Health::new(Arc::new(ManualClock::at(0))),
                number: Arc::default(),
            }
        }

        fn open(&self) -> Arc<KeptFile<Number>> {
            self.number.store(0, Ordering::Relaxed);
            let kept = Number(Arc::clone(&self.number));
            let health = Arc::clone(&self.health);
            KeptFile::open(Arc::new(self.disk.clone()), "/data/number".into(), kept, health)
        }
    }

    #[test]
    fn what_changed_is_written_once_and_read_back() {
        let fixture = Fixture::new();
        let file = fixture.open();
        fixture.number.store(7, Ordering::Relaxed);
        file.save();
        let changes = fixture.disk.changes();
        file.save();
        assert_eq!(fixture.disk.changes(), changes, "nothing changed");
        let _again = fixture.open();
        assert_eq!(fixture.number.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn every_damaged_byte_leaves_the_file_behind() {
        let fixture = Fixture::new();
        let file = fixture.open();
        fixture.number.store(7, Ordering::Relaxed);
        file.save();
        let path = std::path::Path::new("/data/number");
        for at in 0..fixture.disk.contents(path).unwrap().len() {
            fixture.disk.corrupt(path, |bytes| bytes[at] ^= 1);
            let _file = fixture.open();
            assert_eq!(fixture.number.load(Ordering::Relaxed), 0, "byte {at}");
            fixture.disk.corrupt(path, |bytes| bytes[at] ^= 1);
        }
    }

    #[test]
    fn a_disk_that_refuses_is_told_until_it_takes_it() {
        let fixture = Fixture::new();
        let file = fixture.open();
        fixture.number.store(7, Ordering::Relaxed);
        fixture
            .disk
            .install(Fault::once(Operation::Write, 1, Effect::Error(Errno::NOSPC)));
        file.save();
        assert_eq!(fixture.health.problems()[0].subject, "number");
        file.save();
        assert!(fixture.health.problems().is_empty());
    }
}

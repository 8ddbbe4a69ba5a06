//! The book of machines through a restart. Written at most once a minute, and when the collector stops. One that can't be
//! read is left behind: agents greet again.
//!
//! ```text
//! edgelogger-machines 1 crc32c=89abcdef bytes=123\n
//! {"machine-17":{"first_seen_ns":…,"last_seen_ns":…,"agent_version":"…",…},…}
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::disk::{Disk, DiskError, atomic_replace, create_dir_all_durable, parent, read_file};
use edgelogger_common::error_code;
use edgelogger_common::stamped::{stamp, unstamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::book::{Book, Entry};
use crate::health::Health;

const MAGIC: &str = "edgelogger-machines";
const VERSION: u64 = 1;
/// 100,000 machines of 5 KB.
const BYTES_MAX: u64 = 512 << 20;
/// How often it is written at most.
const INTERVAL: Duration = Duration::from_secs(60);
const SUBJECT: &str = "book of machines";

/// Keeps the file.
pub struct BookFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    book: Arc<Book>,
    health: Arc<Health>,
    /// The version of the book that was written last.
    written: Mutex<u64>,
}

impl std::fmt::Debug for BookFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BookFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl BookFile {
    /// Takes in what the file says. Blocks.
    #[must_use]
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, book: Arc<Book>, health: Arc<Health>) -> Arc<Self> {
        match read_file(&*disk, &path, BYTES_MAX) {
            Ok(bytes) => match parse(&bytes) {
                Ok(kept) => book.restore(kept),
                Err(problem) => tracing::warn!(
                    path = %path.display(),
                    "what agents said of their machines can't be used ({problem}); they will say it again"
                ),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{error}; agents will say again who they are"),
        }
        let written = Mutex::new(book.version());
        Arc::new(Self {
            disk,
            path,
            book,
            health,
            written,
        })
    }

    /// Writes from time to time, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let file = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || file.save()).await.is_err() {
                tracing::error!("keeping the book of machines ended with a panic");
            }
        }
    }

    /// Writes, if something was said since it was written last. Blocks.
    pub fn save(&self) {
        let mut written = self.written.lock();
        let version = self.book.version();
        if *written == version {
            return;
        }
        match self.write() {
            Ok(()) => {
                *written = version;
                self.health.clear(SUBJECT);
            }
            Err(error) => self.health.raise(SUBJECT, error_code::LOG_IO, error.to_string()),
        }
    }

    fn write(&self) -> Result<(), DiskError> {
        // Numbers and text always have a form.
        let body = serde_json::to_vec(&self.book.all()).unwrap_or_default();
        create_dir_all_durable(&*self.disk, parent(&self.path))?;
        atomic_replace(&*self.disk, &self.path, &stamp(MAGIC, VERSION, &body))
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let (_, body) = unstamp(MAGIC, VERSION, bytes).map_err(|error| error.to_string())?;
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use edgelogger_common::clock::ManualClock;
    use edgelogger_common::disk::FaultDisk;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_book_reads_back_and_a_damaged_one_is_left_behind() {
        let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new(1));
        let open = |book: &Arc<Book>| {
            let health = Health::new(Arc::new(ManualClock::at(0)));
            BookFile::open(
                Arc::clone(&disk),
                "/data/machines".into(),
                Arc::clone(book),
                health,
            )
        };
        let book = Arc::new(Book::default());
        let file = open(&book);
        let entry = Entry {
            first_seen_ns: 1,
            last_seen_ns: 2,
            labels: [("site".to_owned(), "berlin".to_owned())].into(),
            ..Entry::default()
        };
        book.greeted("m1", entry.clone());
        file.save();
        let again = Arc::new(Book::default());
        let _ = open(&again);
        assert_eq!(again.of("m1"), Some(entry));
        atomic_replace(
            &*disk,
            "/data/machines".as_ref(),
            b"edgelogger-machines 1 nonsense",
        )
        .unwrap();
        let damaged = Arc::new(Book::default());
        let _ = open(&damaged);
        assert!(damaged.all().is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}

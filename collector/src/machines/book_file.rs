//! The book of machines through a restart. Written at most once a minute, and when the collector stops.
//!
//! ```text
//! edgelogger-machines 1 crc32c=89abcdef bytes=123\n
//! {"machine-17":{"first_seen_ns":…,"last_seen_ns":…,"agent_version":"…",…},…}
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::book::Book;
use crate::kept_file::{Kept, KeptFile};

/// Keeps the file.
pub type BookFile = KeptFile<Arc<Book>>;

impl Kept for Arc<Book> {
    const MAGIC: &'static str = "edgelogger-machines";
    const VERSION: u64 = 1;
    /// 100,000 machines of 5 KB.
    const BYTES_MAX: u64 = 512 << 20;
    const INTERVAL: Duration = Duration::from_secs(60);
    const SUBJECT: &'static str = "book of machines";

    fn version(&self) -> u64 {
        Book::version(self)
    }

    fn body(&self) -> Vec<u8> {
        // Numbers and text always have a form.
        serde_json::to_vec(&self.all()).unwrap_or_default()
    }

    fn restore(&self, body: &[u8]) -> Result<(), String> {
        let kept = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        Book::restore(self, kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::machines::Entry;

    #[test]
    fn a_book_reads_back() {
        let book = Arc::new(Book::default());
        let entry = Entry {
            first_seen_ns: 1,
            last_seen_ns: 2,
            labels: [("site".to_owned(), "berlin".to_owned())].into(),
            ..Entry::default()
        };
        book.greeted("m1", entry.clone());
        let again = Arc::new(Book::default());
        Kept::restore(&again, &book.body()).unwrap();
        assert_eq!(again.of("m1"), Some(entry));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Kept::restore(&Arc::new(Book::default()), &bytes);
        }
    }
}

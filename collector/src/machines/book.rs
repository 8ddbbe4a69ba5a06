//! What agents said in their greetings, kept after they went. Those that were seen least recently are forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Machines, at most; some 500 bytes each.
pub const MACHINES_MAX: usize = 100_000;

/// What is known of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// When its agent connected first, ns UTC.
    pub first_seen_ns: i64,
    /// When it was connected last, ns UTC.
    pub last_seen_ns: i64,
    /// Version of its agent.
    pub agent_version: String,
    /// Its host name.
    pub hostname: String,
    /// Labels of its agent.
    pub labels: BTreeMap<String, String>,
    /// What its clock was ahead of ours, ns.
    pub clock_ahead_ns: i64,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub struct Book {
    entries: Mutex<HashMap<String, Entry>>,
    version: AtomicU64,
}

impl Book {
    /// An agent connected and said who it is.
    pub fn greeted(&self, machine: &str, greeting: Entry) {
        let mut entries = self.entries.lock();
        let known = entries.entry(machine.to_owned()).or_default();
        let first_seen_ns = match known.first_seen_ns {
            0 => greeting.first_seen_ns,
            known => known.min(greeting.first_seen_ns),
        };
        *known = Entry {
            first_seen_ns,
            clock_ahead_ns: known.clock_ahead_ns,
            ..greeting
        };
        self.version.fetch_add(1, Ordering::Relaxed);
        if entries.len() > MACHINES_MAX {
            forget_oldest(&mut entries);
        }
    }

    /// Its connection ended.
    pub fn left(&self, machine: &str, now_ns: i64, clock_ahead_ns: i64) {
        if let Some(known) = self.entries.lock().get_mut(machine) {
            known.last_seen_ns = known.last_seen_ns.max(now_ns);
            known.clock_ahead_ns = clock_ahead_ns;
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is known of a machine.
    #[must_use]
    pub fn of(&self, machine: &str) -> Option<Entry> {
        self.entries.lock().get(machine).cloned()
    }

    /// All machines.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Entry> {
        let entries = self.entries.lock();
        entries
            .iter()
            .map(|(machine, entry)| (machine.clone(), entry.clone()))
            .collect()
    }

    /// What was kept of an earlier process. What agents have said since stands.
    pub fn restore(&self, kept: BTreeMap<String, Entry>) {
        let mut entries = self.entries.lock();
        for (machine, entry) in kept.into_iter().take(MACHINES_MAX) {
            let known = entries.entry(machine).or_insert_with(|| entry.clone());
            known.first_seen_ns = known.first_seen_ns.min(entry.first_seen_ns);
        }
    }

    /// Grows with every word.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }
}

fn forget_oldest(entries: &mut HashMap<String, Entry>) {
    let mut times: Vec<i64> = entries.values().map(|entry| entry.last_seen_ns).collect();
    let quarter = times.len() / 4;
    let oldest = *times.select_nth_unstable(quarter).1;
    entries.retain(|_, entry| entry.last_seen_ns > oldest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(now: i64, version: &str) -> Entry {
        Entry {
            first_seen_ns: now,
            last_seen_ns: now,
            agent_version: version.to_owned(),
            ..Entry::default()
        }
    }

    #[test]
    fn the_first_time_stays_and_the_last_word_counts() {
        let book = Book::default();
        book.greeted("m1", greeting(5, "1"));
        book.left("m1", 7, 3);
        book.greeted("m1", greeting(9, "2"));
        let entry = book.of("m1").unwrap();
        assert_eq!(
            (entry.first_seen_ns, entry.last_seen_ns, entry.clock_ahead_ns),
            (5, 9, 3)
        );
        assert_eq!(entry.agent_version, "2");
        book.left("m2", 7, 3);
        assert_eq!(book.of("m2"), None);
    }

    #[test]
    fn what_was_said_since_stands_against_what_was_kept() {
        let book = Book::default();
        book.greeted("m1", greeting(9, "2"));
        book.restore(
            [
                ("m1".to_owned(), greeting(1, "1")),
                ("m2".to_owned(), greeting(2, "1")),
            ]
            .into(),
        );
        let entry = book.of("m1").unwrap();
        assert_eq!((entry.first_seen_ns, entry.agent_version.as_str()), (1, "2"));
        assert_eq!(book.all().len(), 2);
    }

    #[test]
    fn those_seen_least_recently_are_forgotten() {
        let book = Book::default();
        for number in 0..=MACHINES_MAX {
            book.greeted(
                &format!("m{number}"),
                greeting(i64::try_from(number).unwrap() + 1, "1"),
            );
        }
        assert!(book.of("m0").is_none() && book.of(&format!("m{MACHINES_MAX}")).is_some());
    }
}

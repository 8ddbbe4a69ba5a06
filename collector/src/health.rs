//! Health: what is wrong now, since when, and what to do; and the counts that must balance.
//!
//! A stage raises a problem under a subject ("log", "sink store", "agent machine-17") and clears it when it is over;
//! what only occurs (a refused connection) is raised for a while and goes by itself. One subject has one problem.
//!
//! | verdict | meaning |
//! | --- | --- |
//! | ok | nothing is wrong |
//! | degraded | something is wrong; data is safe, but late or not taken at the moment |
//! | down | the collector does not work and will not by itself |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::api::described::{Components, Described, described};
use edgelogger_common::clock::Clock;
use edgelogger_common::error_code::ErrorCode;
use parking_lot::Mutex;
use serde::Serialize;

/// Subjects with a problem at once: more than one for each of a thousand agents is noise that nobody reads. Further
/// ones are counted.
pub const PROBLEMS_MAX: usize = 1_000;

/// The one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthVerdict {
    /// Nothing is wrong.
    Ok,
    /// Something is wrong, data is safe.
    Degraded,
    /// It does not work.
    Down,
}

impl Described for HealthVerdict {
    fn schema(_: &mut Components) -> serde_json::Value {
        serde_json::json!({ "type": "string", "enum": ["ok", "degraded", "down"] })
    }
}

described! {
    /// One thing that is wrong.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct Problem {
        /// Stable code.
        pub code: &'static str,
        /// Who has it: "log", "sink store", "agent machine-17".
        pub subject: String,
        /// What happened.
        pub what: String,
        /// Since when, RFC 3339.
        pub since: String,
        /// What to do.
        pub what_to_do: &'static str,
        /// How bad it is.
        pub verdict: HealthVerdict,
    }
}

#[derive(Debug)]
struct Raised {
    code: ErrorCode,
    what: String,
    since_ns: i64,
    verdict: HealthVerdict,
    /// Monotonic time at which it goes by itself.
    until: Option<Duration>,
}

/// The problems of this process.
pub struct Health {
    clock: Arc<dyn Clock>,
    raised: Mutex<BTreeMap<String, Raised>>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Health").field(&self.raised.lock().len()).finish()
    }
}

impl Health {
    /// Without problems.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            raised: Mutex::new(BTreeMap::new()),
        })
    }

    /// Something is wrong until [`Health::clear`].
    pub fn raise(&self, subject: &str, code: ErrorCode, what: impl Into<String>) {
        self.put(subject, code, what.into(), HealthVerdict::Degraded, None);
    }

    /// Something is wrong for good.
    pub fn raise_down(&self, subject: &str, code: ErrorCode, what: impl Into<String>) {
        self.put(subject, code, what.into(), HealthVerdict::Down, None);
    }

    /// Something occurred, and is shown for this long after it occurred last.
    pub fn raise_for(&self, lasting: Duration, subject: &str, code: ErrorCode, what: impl Into<String>) {
        let until = self.clock.monotonic().saturating_add(lasting);
        self.put(subject, code, what.into(), HealthVerdict::Degraded, Some(until));
    }

    /// It is over. Gives whether there was a problem.
    pub fn clear(&self, subject: &str) -> bool {
        self.raised.lock().remove(subject).is_some()
    }

    fn put(
        &self,
        subject: &str,
        code: ErrorCode,
        what: String,
        verdict: HealthVerdict,
        until: Option<Duration>,
    ) {
        let now_ns = self.clock.wall_ns();
        let mut raised = self.raised.lock();
        let since_ns = match raised.get(subject) {
            Some(before) if before.code == code => before.since_ns,
            None if raised.len() >= PROBLEMS_MAX => return,
            _ => {
                tracing::warn!(code = code.code, subject, "{what}. {}", code.help);
                now_ns
            }
        };
        raised.insert(
            subject.to_owned(),
            Raised {
                code,
                what,
                since_ns,
                verdict,
                until,
            },
        );
    }

    /// What is wrong now, worst first.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let now = self.clock.monotonic();
        let mut raised = self.raised.lock();
        raised.retain(|_, problem| problem.until.is_none_or(|until| now < until));
        let mut problems: Vec<Problem> = raised
            .iter()
            .map(|(subject, raised)| raised.shown(subject))
            .collect();
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.verdict));
        problems
    }

    /// The worst of it.
    #[must_use]
    pub fn verdict(&self) -> HealthVerdict {
        self.problems()
            .iter()
            .map(|problem| problem.verdict)
            .max()
            .unwrap_or(HealthVerdict::Ok)
    }
}

impl Raised {
    fn shown(&self, subject: &str) -> Problem {
        Problem {
            code: self.code.code,
            subject: subject.to_owned(),
            what: self.what.clone(),
            since: rfc3339(self.since_ns),
            what_to_do: self.code.help,
            verdict: self.verdict,
        }
    }
}

/// Held by a thread that must not end in a panic: when it does, health says so until the program is restarted.
#[derive(Debug)]
pub struct PanicWatch {
    health: Arc<Health>,
    subject: String,
    code: ErrorCode,
}

impl PanicWatch {
    /// Watches the current thread for as long as it is held.
    #[must_use]
    pub fn new(health: &Arc<Health>, subject: &str, code: ErrorCode) -> Self {
        Self {
            health: Arc::clone(health),
            subject: subject.to_owned(),
            code,
        }
    }
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what =
                "it ended by an error in this program; restart the collector and report what its log says";
            self.health.raise_down(&self.subject, self.code, what);
        }
    }
}

/// A time in nanoseconds since 1970 as RFC 3339 in UTC; the bare number where no calendar reaches.
#[must_use]
pub fn rfc3339(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |time| time.to_string())
}

described! {
    /// Everything `/health` says.
    #[derive(Debug, Clone, Serialize)]
    pub struct HealthReport {
        /// The one word.
        pub verdict: HealthVerdict,
        /// What is wrong.
        pub problems: Vec<Problem>,
        /// Version of this program.
        pub version: &'static str,
        /// Now, RFC 3339.
        pub time: String,
        /// Seconds since the start of this process.
        pub uptime_s: u64,
        /// What runs it.
        pub configuration: ConfigurationReport,
        /// What came in.
        pub ingest: IngestReport,
        /// The commit log.
        pub log: LogReport,
        /// Each sink.
        pub sinks: Vec<SinkReport>,
        /// Agents that are connected now, at most [`SESSIONS_SHOWN_MAX`].
        pub sessions: Vec<SessionReport>,
    }
}

described! {
    /// The configuration in force.
    #[derive(Debug, Clone, Default, Serialize)]
    pub struct ConfigurationReport {
        /// Since when, RFC 3339: the start, or the last reload.
        pub loaded: String,
        /// Settings that were changed and wait for the next start.
        pub needs_restart: Vec<String>,
    }
}

/// Sessions listed in a report; the count of all stands beside them.
pub const SESSIONS_SHOWN_MAX: usize = 1_000;

described! {
    /// What came in since the start of the process.
    #[derive(Debug, Clone, Default, Serialize)]
    pub struct IngestReport {
        /// Where agents connect.
        pub address: String,
        /// Agents connected now.
        pub sessions: u64,
        /// Batches that were made durable.
        pub batches: u64,
        /// Records in them.
        pub records: u64,
        /// Their compressed bytes.
        pub payload_bytes: u64,
        /// Batches or blocks refused for good.
        pub rejected: u64,
        /// Batches that were asked for again.
        pub retried: u64,
        /// Connections refused: token, identity, version, limits.
        pub refused: u64,
        /// Bytes of the memory budget that are promised to agents.
        pub memory_reserved_bytes: u64,
        /// The memory budget.
        pub memory_budget_bytes: u64,
    }
}

described! {
    /// The commit log now.
    #[derive(Debug, Clone, Default, Serialize)]
    pub struct LogReport {
        /// Who it is, in hexadecimal.
        pub log_id: String,
        /// The oldest sequence kept.
        pub first_sequence: u64,
        /// Every sequence below is durable.
        pub durable_end: u64,
        /// Bytes of all segments.
        pub bytes: u64,
        /// The limit of that.
        pub bytes_max: u64,
        /// Group commits since the start.
        pub commits: u64,
        /// Entries since the start.
        pub entries: u64,
        /// What an acknowledgement means.
        pub durability: &'static str,
    }
}

described! {
    /// One sink now. In records: `read = applied + duplicate + dead_lettered + residual`.
    #[derive(Debug, Clone, Default, Serialize)]
    pub struct SinkReport {
        /// Its name.
        pub name: String,
        /// Does the log wait for it?
        pub holds_log: bool,
        /// The next sequence it reads.
        pub cursor: u64,
        /// Everything below is durable in it.
        pub durable_cursor: u64,
        /// Entries in the log that it has not applied.
        pub lag_entries: u64,
        /// Records read from the log since the start.
        pub read: u64,
        /// Rows that went in.
        pub applied: u64,
        /// Records that had been applied before.
        pub duplicate: u64,
        /// Records that can never be applied.
        pub dead_lettered: u64,
        /// What is not accounted for; anything but 0 is a defect.
        pub residual: i64,
        /// Is an error stopping it now?
        pub failing: bool,
        /// What the sink says of itself.
        pub details: serde_json::Value,
    }
}

described! {
    /// One connected agent.
    #[derive(Debug, Clone, Default, Serialize)]
    pub struct SessionReport {
        /// Its name.
        pub agent: String,
        /// Its version.
        pub version: String,
        /// Its host name.
        pub hostname: String,
        /// Where it connects from.
        pub peer: String,
        /// Since when, RFC 3339.
        pub since: String,
        /// Milliseconds since it was heard last.
        pub silent_ms: u64,
        /// What the machine's wall clock is ahead of ours, in milliseconds, as of its last message with a time.
        pub clock_ahead_ms: i64,
        /// Open streams.
        pub streams: u64,
        /// Positions that were read but not acknowledged, as of its last report.
        pub pending: u64,
        /// Positions known to exist but not read yet, as of its last report.
        pub unread: u64,
    }
}

#[cfg(test)]
mod tests {
    use edgelogger_common::clock::ManualClock;
    use edgelogger_common::error_code;

    use super::*;

    #[test]
    fn a_problem_keeps_its_beginning_until_it_is_cleared() {
        let clock = Arc::new(ManualClock::at(0));
        let health = Health::new(Arc::<ManualClock>::clone(&clock));
        assert_eq!(health.verdict(), HealthVerdict::Ok);
        health.raise("log", error_code::LOG_DISK_FULL, "full");
        clock.advance(Duration::from_secs(5));
        health.raise("log", error_code::LOG_DISK_FULL, "still full");
        let problems = health.problems();
        assert_eq!(
            (problems[0].what.as_str(), problems[0].since.as_str()),
            ("still full", "1970-01-01T00:00:00Z")
        );
        assert_eq!(health.verdict(), HealthVerdict::Degraded);
        assert!(health.clear("log"));
        assert_eq!(health.verdict(), HealthVerdict::Ok);
    }

    #[test]
    fn what_only_occurs_goes_by_itself() {
        let clock = Arc::new(ManualClock::at(0));
        let health = Health::new(Arc::<ManualClock>::clone(&clock));
        health.raise_for(
            Duration::from_secs(60),
            "agent a",
            error_code::WRONG_INSTANCE,
            "two of them",
        );
        clock.advance(Duration::from_secs(59));
        assert_eq!(health.problems().len(), 1);
        clock.advance(Duration::from_secs(1));
        assert!(health.problems().is_empty());
    }

    #[test]
    fn a_thread_that_panics_brings_the_verdict_down() {
        let health = Health::new(Arc::new(ManualClock::at(0)));
        let watched = Arc::clone(&health);
        let thread = std::thread::spawn(move || {
            let _watch = PanicWatch::new(&watched, "log", error_code::LOG_IO);
            panic!("as a test");
        });
        assert!(thread.join().is_err());
        assert_eq!(health.verdict(), HealthVerdict::Down);
    }

    #[test]
    fn the_number_of_problems_is_bounded() {
        let health = Health::new(Arc::new(ManualClock::at(0)));
        for agent in 0..2 * PROBLEMS_MAX {
            health.raise(
                &format!("agent {agent}"),
                error_code::WRONG_INSTANCE,
                "two of them",
            );
        }
        assert_eq!(health.problems().len(), PROBLEMS_MAX);
    }
}

//! What the ledger says, as it is sent.

use crate::api::described::{Components, Described, described};
use clap::ValueEnum;
use edgelogger_store::{AsideFile, ContentCheck};
use serde::Serialize;

use crate::health::rfc3339;

/// What has become of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A row of the store.
    Stored,
    /// Was a row of the store; retention or a deletion took it.
    Expired,
    /// In the commit log.
    Durable,
    /// Its connected agent has it.
    Pending,
    /// Its silent agent had it.
    Unknown,
    /// Never a row, by policy.
    Dropped,
    /// Never a row: it can't be applied, and is kept aside.
    #[serde(rename = "dead_lettered")]
    #[value(name = "dead_lettered", alias = "dead-lettered")]
    DeadLettered,
    /// Never a row, for a reason.
    Lost,
}

impl State {
    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }
}

impl Described for State {
    fn schema(_: &mut Components) -> serde_json::Value {
        serde_json::json!({ "type": "string", "enum": Self::value_variants() })
    }
}

described! {
    /// Positions of one state, one behind the other.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct Span {
        /// First position.
        pub start: u64,
        /// Behind the last position.
        pub end: u64,
        /// What has become of them.
        pub state: State,
        /// Why, where they are expired, dropped, dead-lettered or lost: a word, or the code of an error.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        /// In the words of whoever declared it here: an operator, the collector.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub note: Option<String>,
        /// When that was, RFC 3339.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub declared: Option<String>,
        /// Records that they stood for; absent where nobody knows.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub records: Option<u64>,
    }
}

described! {
    /// Positions by state.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
    pub struct Totals {
        /// See [`State`].
        pub stored: u64,
        /// See [`State`].
        pub expired: u64,
        /// See [`State`].
        pub durable: u64,
        /// See [`State`].
        pub pending: u64,
        /// See [`State`].
        pub unknown: u64,
        /// See [`State`].
        pub dropped: u64,
        /// See [`State`].
        pub dead_lettered: u64,
        /// See [`State`].
        pub lost: u64,
    }
}

impl Totals {
    /// How many are in this state.
    #[must_use]
    pub const fn of(&self, state: State) -> u64 {
        match state {
            State::Stored => self.stored,
            State::Expired => self.expired,
            State::Durable => self.durable,
            State::Pending => self.pending,
            State::Unknown => self.unknown,
            State::Dropped => self.dropped,
            State::DeadLettered => self.dead_lettered,
            State::Lost => self.lost,
        }
    }

    pub(super) fn add(&mut self, state: State, positions: u64) {
        let counter = match state {
            State::Stored => &mut self.stored,
            State::Expired => &mut self.expired,
            State::Durable => &mut self.durable,
            State::Pending => &mut self.pending,
            State::Unknown => &mut self.unknown,
            State::Dropped => &mut self.dropped,
            State::DeadLettered => &mut self.dead_lettered,
            State::Lost => &mut self.lost,
        };
        *counter = counter.saturating_add(positions);
    }

    pub(crate) fn absorb(&mut self, other: &Self) {
        for state in State::value_variants() {
            self.add(*state, other.of(*state));
        }
    }

    /// What is not stored yet and may still come.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.durable + self.pending + self.unknown
    }
}

described! {
    /// The end of a stream as its agent declared it.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct EndReport {
        /// No position at or above it exists.
        pub size: u64,
        /// `size` is exact; otherwise it is at least that.
        pub exact: bool,
        /// Why it ended.
        pub reason: String,
    }
}

described! {
    /// One stream.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct StreamReport {
        /// Whose.
        pub machine: String,
        /// A path, `journald`, `host`.
        pub source: String,
        /// 32 hexadecimal digits.
        pub stream_id: String,
        /// Which stream of this source, by the time it was opened; the first is 1.
        pub generation: u32,
        /// `file`, `journald`, …
        pub kind: String,
        /// What positions count: `bytes` or `records`.
        pub unit: &'static str,
        /// When its agent opened it, RFC 3339.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub opened: Option<String>,
        /// When something of it last came in, RFC 3339.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub last_received: Option<String>,
        /// First position.
        pub start: u64,
        /// Every position below is stored, dropped or lost.
        pub stored_upto: u64,
        /// Behind the last position that anybody has told of.
        pub size: u64,
        /// Its end, once it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub end: Option<EndReport>,
        /// Is its agent connected?
        pub connected: bool,
        /// Since when what is `unknown` is so, RFC 3339.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub unknown_since: Option<String>,
        /// Positions by state: together they are everything from `start` to `size`.
        pub positions: Totals,
        /// While something is missing: seconds since its agent first saw the oldest of it, or since something last came in
        /// where no agent said so.
        pub lag_s: u64,
        /// Rows stored.
        pub rows: u64,
        /// Every range that is not stored, ascending.
        pub gaps: Vec<Span>,
        /// Positions of further such ranges. Those that the store only summed are among `stored` in `positions`.
        #[serde(skip_serializing_if = "is_zero")]
        pub gaps_untold: u64,
        /// What the source held, where that was asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub checks: Vec<CheckReport>,
    }
}

described! {
    /// The source bytes of a range, as its agent read them.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct CheckReport {
        /// First position.
        pub start: u64,
        /// Behind the last position.
        pub end: u64,
        /// Of all its bytes.
        pub crc32c: u32,
    }
}

impl From<&ContentCheck> for CheckReport {
    fn from(check: &ContentCheck) -> Self {
        Self {
            start: check.range.start,
            end: check.range.end,
            crc32c: check.crc32c,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

described! {
    /// The answer.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
    pub struct LedgerReport {
        /// By machine, source and age.
        pub streams: Vec<StreamReport>,
        /// Streams that were asked for, also those beyond the limit.
        pub count: u64,
        /// Positions of all of them. Bytes and records are added as they are.
        pub positions: Totals,
        /// Streams that are closed, whole and old, and known by day only; they are not among `count`.
        pub folded_streams: u64,
        /// What there was of those, by day, machine and source, where that was asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub summaries: Vec<SummaryReport>,
        /// Summaries that were asked for, also those beyond the limit.
        #[serde(skip_serializing_if = "is_zero")]
        pub summaries_count: u64,
        /// Days of which the summaries can't be read, and why.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub unreadable: Vec<String>,
        /// Entries of the commit log that never came to the store, oldest first. What is known to have been in them is also
        /// said of its streams.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub log_gaps: Vec<LogGapReport>,
        /// Files of the store that can't be used. What was in them is also said of its streams, as lost (`store_damaged`), once
        /// that is found out: within a minute or so when the collector has time. Restored from a backup, they count again
        /// after a restart.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub aside: Vec<AsideReport>,
    }
}

described! {
    /// A file of the store that can't be used.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct AsideReport {
        /// Its name.
        pub file: String,
        /// What it had rows of: logs or metrics.
        pub table: &'static str,
        /// Rows that it had.
        pub rows: u64,
        /// Time of the first of them, RFC 3339.
        pub first: String,
        /// Time of the last of them, RFC 3339.
        pub last: String,
        /// Machines that they were of; where there were very many, the first and the last.
        pub machines: Vec<String>,
        /// What is wrong with it.
        pub reason: String,
        /// When that was found, RFC 3339.
        pub noted: String,
    }
}

impl From<&AsideFile> for AsideReport {
    fn from(aside: &AsideFile) -> Self {
        let entry = &aside.entry;
        Self {
            file: entry.name.clone(),
            table: entry.table.name(),
            rows: entry.rows,
            first: rfc3339(entry.time.0),
            last: rfc3339(entry.time.1),
            machines: entry.machine_names(),
            reason: aside.reason.clone(),
            noted: rfc3339(aside.noted_ms.saturating_mul(1_000_000)),
        }
    }
}

described! {
    /// The folded streams of one source on one day.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct SummaryReport {
        /// When the last of them came in: the day, UTC.
        pub day: String,
        /// Whose.
        pub machine: String,
        /// A path, `journald`, `host`.
        pub source: String,
        /// Their number.
        pub streams: u64,
        /// What positions count: `bytes` or `records`.
        pub unit: &'static str,
        /// Positions stored; those of this day's rows that expired are not among them.
        pub stored: u64,
        /// Rows stored, likewise.
        pub rows: u64,
        /// Positions that expired.
        #[serde(skip_serializing_if = "is_zero")]
        pub expired: u64,
        /// What was dropped or lost, by reason.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub gaps: Vec<GapTotal>,
        /// What the streams held, where checks were asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub contents: Vec<ContentReport>,
    }
}

described! {
    /// What a folded stream held.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct ContentReport {
        /// 32 hexadecimal digits.
        pub stream_id: String,
        /// Where it ended.
        pub size: u64,
        /// `size` is exact; otherwise it is at least that.
        pub exact: bool,
        /// Of ranges, ascending.
        pub checks: Vec<CheckReport>,
    }
}

described! {
    /// Positions that are no rows, for one reason.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct GapTotal {
        /// Dropped or lost.
        pub state: State,
        /// Why.
        pub reason: String,
        /// How many.
        pub positions: u64,
    }
}

described! {
    /// Entries of the commit log that never came to the store.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct LogGapReport {
        /// First sequence.
        pub start: u64,
        /// Behind the last sequence.
        pub end: u64,
        /// What became of them: lost, dropped, or dead-lettered.
        pub state: State,
        /// When the store met this, RFC 3339.
        pub noted: String,
        /// What happened.
        pub what: String,
        /// Records in them; absent where nobody knows.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub records: Option<u64>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_found_by_their_names() {
        assert_eq!(State::named("lost"), Some(State::Lost));
        assert_eq!(State::named("gone"), None);
        for state in State::value_variants() {
            let name = serde_json::to_value(state).unwrap();
            assert_eq!(State::named(name.as_str().unwrap()), Some(*state));
        }
    }
}

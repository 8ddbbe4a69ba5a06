//! What a row is, and how a turn of it ends.

use std::fmt::Display;

/// One row of the scorecard.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its number in the scorecard.
    pub number: u32,
    /// What happens.
    pub fault: &'static str,
    /// How often, in `scripts/soak --quick`.
    pub quick: u32,
    /// How often, in `cargo test`; 0 where something else there does the same.
    pub test: u32,
    /// How often in one world, before everything is compared and a new one begins.
    pub turn: u32,
    /// Worlds at once: faults that mostly wait are done side by side.
    pub worlds: u32,
    /// Does the faults.
    pub run: fn(&mut Turn) -> Outcome,
}

/// Why a turn did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It can't be done here, and why. This is no pass.
    Skipped(String),
    /// What is wrong.
    Failed(String),
}

/// How a turn ended.
pub type Outcome = Result<(), Stop>;

impl<E: Display> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// One turn: so many runs in a world of its own.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Everything random in it comes from here.
    pub seed: u64,
    /// Faults to do.
    pub runs: u32,
    /// Faults done.
    pub done: u32,
    /// Lines that are nowhere.
    pub lost: u64,
    /// Rows too many.
    pub duplicated: u64,
    /// Rows that nobody wrote, positions that the ledger can't explain, accounts that don't balance.
    pub unexplained: u64,
    /// The most memory that an agent took.
    pub agent_peak_bytes: u64,
    /// What is worth knowing, such as a time that was measured.
    pub notes: Vec<String>,
}

impl Turn {
    /// Of this seed.
    #[must_use]
    pub fn new(seed: u64, runs: u32) -> Self {
        Self {
            seed,
            runs,
            ..Self::default()
        }
    }

    /// The result of a part that ran beside others.
    pub fn add(&mut self, other: Self) {
        self.done += other.done;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.unexplained += other.unexplained;
        self.agent_peak_bytes = self.agent_peak_bytes.max(other.agent_peak_bytes);
        for note in other.notes {
            self.note(note);
        }
    }

    /// Something worth knowing.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

/// Skips a turn.
///
/// # Errors
/// Always.
pub fn skip<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skipped(why.into()))
}

/// Fails a turn unless something holds.
///
/// # Errors
/// It does not.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Stop::Failed(what())) }
}

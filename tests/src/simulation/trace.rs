//! What happened, as a number.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Steps that are kept in words.
const LAST_STEPS: usize = 400;

/// Every step so far. Two runs of one seed have equal ones.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    steps: u64,
    hash: u32,
    last: VecDeque<(&'static str, u64, u64)>,
}

impl PartialEq for Trace {
    fn eq(&self, other: &Self) -> bool {
        (self.steps, self.hash) == (other.steps, other.hash)
    }
}

impl Trace {
    /// Something happened.
    pub(super) fn step(&mut self, what: &'static str, first: u64, second: u64) {
        self.steps += 1;
        self.hash = crc32c::crc32c_append(self.hash, what.as_bytes());
        self.hash = crc32c::crc32c_append(self.hash, &first.to_le_bytes());
        self.hash = crc32c::crc32c_append(self.hash, &second.to_le_bytes());
        if self.last.len() == LAST_STEPS {
            self.last.pop_front();
        }
        self.last.push_back((what, first, second));
    }

    /// For a failure.
    pub(super) fn last_steps(&self) -> String {
        let mut text = format!("after {} steps, of which the last:\n", self.steps);
        for (what, first, second) in &self.last {
            let _ = writeln!(text, "  {what} {first} {second}");
        }
        text
    }
}

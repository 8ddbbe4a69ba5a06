//! Something that is wrong, for a person: what, and what to do about it.

use edgelogger_common::error_code;
use serde::{Deserialize, Serialize};

/// See the module page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// To be looked up with `edgelogger-agent explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened, and to what.
    pub what: String,
    /// What to do; empty where nothing can be done but wait.
    #[serde(default)]
    pub fix: String,
}

impl Problem {
    /// A problem with a code, and what to do about this one.
    pub fn new(code: Option<&str>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code: code.map(str::to_owned),
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// Of a message that may begin with its code and end with the advice that belongs to it.
    #[must_use]
    pub fn of_message(message: &str) -> Self {
        let message = message.trim();
        let (first, rest) = message.split_once(' ').unwrap_or((message, ""));
        let Some(known) = error_code::explain(first.trim_end_matches(':')) else {
            return Self::new(None, message, "");
        };
        let what = rest.trim().trim_end_matches(known.help).trim_end();
        let what = if what.is_empty() { known.title } else { what };
        Self::new(Some(known.code), what.trim_end_matches('.'), known.help)
    }

    /// The same, said of something.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.what = format!("{subject}: {}", self.what);
        self
    }

    /// What to do where nothing was said.
    #[must_use]
    pub fn or_fix(mut self, fix: &str) -> Self {
        if self.fix.is_empty() {
            fix.clone_into(&mut self.fix);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart() {
        let help = error_code::FILE_UNREADABLE.help;
        let problem = Problem::of_message(&format!("E0601 /a: open failed: denied. {help}"));
        assert_eq!(
            problem,
            Problem::new(Some("E0601"), "/a: open failed: denied", help)
        );
        let problem = Problem::of_message("E0225: c has log 1, before it was 2.");
        assert_eq!(problem.code.as_deref(), Some("E0225"));
        assert_eq!(problem.what, "c has log 1, before it was 2");
        assert_eq!(Problem::of_message("E0401").what, error_code::LOG_DISK_FULL.title);
    }

    #[test]
    fn a_message_without_a_code_stays_whole() {
        let problem = Problem::of_message("E9999 no such file")
            .or_fix("Wait.")
            .about("journald");
        assert_eq!(
            problem,
            Problem::new(None, "journald: E9999 no such file", "Wait.")
        );
    }
}

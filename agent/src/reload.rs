//! What is told of the configuration in force: what of the file waits for a restart, and what is wrong with a file that
//! was to be reloaded. Cheap to clone.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::problem::Problem;

/// See the module page.
#[derive(Debug, Clone, Default)]
pub struct ConfigurationNote(Arc<Mutex<Noted>>);

#[derive(Debug, Clone, Default)]
struct Noted {
    problem: Option<Problem>,
    needs_restart: Vec<String>,
}

impl ConfigurationNote {
    /// A file was read and is in force, but for what needs a restart.
    pub fn accept(&self, needs_restart: Vec<String>) {
        *self.0.lock() = Noted {
            problem: None,
            needs_restart,
        };
    }

    /// A file can't be used; what was in force stays.
    pub fn refuse(&self, code: Option<&str>, why: &str) {
        let what = format!("the configuration in force stays, the new one can't be used: {why}");
        tracing::error!(code, "{what}");
        self.0.lock().problem = Some(Problem::new(code, what, CORRECT));
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        self.0.lock().problem.clone()
    }

    /// Settings that wait for the next start.
    #[must_use]
    pub fn needs_restart(&self) -> Vec<String> {
        self.0.lock().needs_restart.clone()
    }
}

const CORRECT: &str = "Correct the file (`edgelogger-agent check` shows the place), and reload again (SIGHUP, `systemctl reload`).";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_be_used_ends_the_problem_of_one_that_could_not() {
        let note = ConfigurationNote::default();
        note.accept(vec!["state_dir".to_owned()]);
        note.refuse(Some("E0104"), "unknown key");
        let problem = note.problem().unwrap();
        assert!(
            problem.what.ends_with("unknown key") && problem.fix.contains("check"),
            "{problem:?}"
        );
        assert_eq!(note.needs_restart(), ["state_dir"]);
        note.accept(Vec::new());
        assert_eq!((note.problem(), note.needs_restart()), (None, Vec::new()));
    }
}

//! The harness of the end-to-end tests: the real programs as processes, real files, real TLS.
//!
//! | file | idea |
//! | --- | --- |
//! | `process` | a program that is started, waited for, killed, and whose words are kept |
//! | `stack` | a collector and an agent that know each other |
//! | `oracle` | lines that are known before they are written, and the questions that compare them with the store |
//! | `written` | the same for many files at once, with every byte checked: what the suite of faults asks |
//! | `proxy` | a link between the two that delays, limits, stalls and resets |
//! | `soak` | the suite of faults |
//!
//! Nothing here sleeps until something is probably true: [`wait_for`] asks until it is, or fails with what was
//! seen last and what the programs said.

pub mod oracle;
pub mod process;
pub mod proxy;
pub mod simulation;
pub mod soak;
pub mod stack;
pub mod written;

use std::time::{Duration, Instant};

/// How long a condition may take before a test fails. Two busy cores are slow; a broken program takes for ever.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Asks until the answer is `Ok`.
///
/// # Panics
/// When the answer is still `Err` after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "{what}: not within {PATIENCE:?}; last seen: {seen}"
            ),
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

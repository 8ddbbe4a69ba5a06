//! Nothing but tests: see `wakeups.rs`.

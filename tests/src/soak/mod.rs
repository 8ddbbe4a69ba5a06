//! The suite of faults: every row of the scorecard as code that does the damage to the real programs (or to their real
//! parts, many thousand times a minute) and then compares the store with what was written.
//!
//! | file | idea |
//! | --- | --- |
//! | `row` | what a row is, and how a turn of it ends |
//! | `world` | a stack, what was written to it, and the questions at the end |
//! | `tools` | file systems of our own, and a library that is preloaded |
//! | `namespace` | a network of its own for one program, with a cable that can be pulled |
//! | `rows/` | the faults, one family a file |
//! | `runner` | how often, with which seeds, in which order |
//! | `report` | the table |
//!
//! The oracle stands outside the faulted processes: what was written is remembered here, line by line. A turn ends
//! with everything healed and drained; then each line is stored exactly once, in order and byte for byte; the ledger
//! knows the state of every position and nothing is pending; both ends' accounts balance; and no agent took more
//! memory than it may.

mod namespace;
pub mod report;
pub mod row;
mod rows;
pub mod runner;
mod tools;
pub mod world;

pub use rows::ROWS;

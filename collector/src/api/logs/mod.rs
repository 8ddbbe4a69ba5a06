//! Requests for log records.
//!
//! | file | idea |
//! | --- | --- |
//! | `filter.rs` | which records: the parameters that all of them share |
//! | `cursor.rs` | pages that follow one another |
//! | `page.rs` | `GET /api/v1/logs`: a page, or a stream of lines |
//! | `count.rs` | `volume`, `patterns`: numbers instead of records |
//! | `context.rs` | what stood around a record |
//! | `tail.rs`, `tails.rs` | live records as events; what feeds all tails |

mod context;
mod count;
mod cursor;
mod filter;
mod page;
mod tail;
mod tails;

pub use filter::{FROM, MACHINE, SOURCE, TO};
pub use tails::Tails;

use super::operation::Operation;
use super::problem::Problem;

/// All of them.
pub fn operations() -> Vec<Operation> {
    vec![
        page::operation(),
        tail::operation(),
        count::volume_operation(),
        count::patterns_operation(),
        context::operation(),
    ]
}

pub(super) fn sql_failed(error: impl std::fmt::Display) -> Problem {
    Problem::from(edgelogger_store::QueryError::Failed(error.to_string()))
}

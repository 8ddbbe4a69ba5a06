//! The machines: what their agents say of themselves, and what the ledger says of their streams, put together.
//!
//! | file | idea |
//! | --- | --- |
//! | `book.rs` | what agents said in their greetings, kept after they went |
//! | `book_file.rs` | the same, through a restart |
//! | `report.rs` | one machine, put together |
//! | `tables.rs` | machines and streams as tables of the query engine |
//!
//! A machine is known when its agent has connected once, or when the store has a stream of it.

mod book;
mod book_file;
mod report;
mod tables;

pub use book::{Book, Entry};
pub use book_file::BookFile;
pub use report::{MachineReport, Machines};
pub use tables::{MachinesTable, StreamsTable};

//! Merging small files of a day into few large ones, so that queries open few.
//!
//! | file | idea |
//! | --- | --- |
//! | `pick.rs` | which files |
//! | `merge.rs` | several sorted files into one, a batch of each in memory |
//! | `sort.rs` | a file that is in an earlier order into sorted ones |
//!
//! A merge is durable exactly as a flush is: the new file is written and synced, then the rename of one manifest puts it
//! in the place of the old ones. They stay on disk while the manifest before names them or a query reads them.

mod merge;
mod pick;
mod sort;

pub use merge::merge;
pub use pick::pick;
pub use sort::{sort, unsorted};

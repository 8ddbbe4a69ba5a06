//! journald, read through `journalctl --output=export --follow`.
//!
//! ```text
//! journalctl ──bytes──> export (entries) ──> filter ──> entry (rows) ──> block ──> ring
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `config` | what an operator can say |
//! | `export` | the export format: bytes to entries, pure and bounded |
//! | `entry` | an entry to a record, with OpenTelemetry names |
//! | `cursor` | is this the entry where we stopped? |
//! | `child` | the `journalctl` process |
//! | `source` | the loop: stream, child, blocks, backoff |
//!
//! Why a child process and not libsystemd: the journal's files are systemd's own format with readers for every
//! version of it; the child brings the right one, its crashes are not ours, and it runs with the same rights.
//!
//! **Position** counts every entry that `journalctl` gives, *before* filtering; an entry that a filter drops becomes
//! part of a receipt (`filtered`), so another filter after a restart changes no address.
//!
//! **Resume.** The checkpoint keeps the cursor of the last entry whose block is acknowledged. On restart that entry is
//! asked for *including* itself: when it comes first, it is skipped and the stream goes on; when another comes, the
//! journal was vacuumed in between, and how much is gone nobody knows. Then the stream ends (`exact` = false) and a
//! new one follows it. So does a stream that was opened and of which nothing was ever acknowledged: what the
//! collector may have of it must not be mixed with other entries under the same positions.
//!
//! **Failure.** No `journalctl`: said in the status, looked for again every minute. The child dies: started again behind
//! the last entry that was read, after 1 s to 60 s. The ring is full: the pipe fills and `journalctl` waits.

mod child;
mod config;
mod cursor;
mod entry;
mod export;
mod source;
#[cfg(test)]
mod tests;

pub use config::{JournaldConfig, JournaldStart, Priority};
pub use export::{Entry, ExportError, ExportParser, VALUE_BYTES_MAX};
pub use source::{JournaldSource, JournaldStatus, JournaldStatusView};

//! The file source: follows log files through everything that happens to them, and hands on their lines as blocks.
//!
//! ```text
//! inotify, rescan ──> where files are ──> streams, durable ──> one pread a turn ──> block ──> ring
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `config` | what an operator can say |
//! | `glob`, `discover` | which paths are meant, and a walk that finds them |
//! | `watch` | waiting: inotify, a caller, a time |
//! | `stat`, `files` | one file, and all that are followed |
//! | `follow`, `displaced` | files that appear and move; those that are not at their path any more |
//! | `identity`, `skip` | pure: is it the same file? is it a log at all? |
//! | `intake`, `claim` | from a file to a stream: new, or one of an earlier process |
//! | `backlog` | fresh lines first: what of a file is read later |
//! | `adopt` | streams of an agent whose state is lost |
//! | `copy` | `copytruncate` |
//! | `archive` | the content of a compressed file |
//! | `archives`, `lost`, `inspect` | logs that were compressed before they were read to their end |
//! | `serve` | who is read next, and what a turn means |
//! | `reader`, `content`, `lines`, `long_line`, `buffer` | from bytes to blocks |
//! | `finish` | how streams end |
//! | `hold` | pure: how long deleted files are held open |
//! | `rescue` | what of deleted files goes to the spool |
//! | `outbox` | what must leave in order before anything is read on |
//! | `source` | the loop |
//! | `rewind` | from where a stream can be read again |
//! | `status` | what it says about itself |
//!
//! # What holds
//!
//! - **A stream is durable before its first block is sent**, and all that one scan finds are made durable at once.
//! - **A position never names two contents.** Every read begins with the bytes before the position and compares their
//!   CRC; at the first position it compares the beginning with the stream's fingerprint. A file that shrank, or shrank and
//!   grew again with other content, gets a new stream from 0.
//! - **A renamed file is read to its end**, on its descriptor or found again by its inode; so are files that were at a
//!   path for too short a time to be seen there. A log that is copied and truncated goes on in the copy, where what
//!   was not read of it still is; copies that were made between two looks are read as logs of that path.
//! - **A log that was compressed before it was read to its end goes on in the compressed file**, at the same positions:
//!   those of the content. What was read already is known by its content, also when its stream is long over, and not
//!   read again. Compressed files that are included, and are no log that was read, are read like others.
//! - **A deleted file is held open** until it is read to its end and quiet, at most `hold_bytes_max` and
//!   `hold_age_max`; what is lost then has a receipt. With `spool_before_loss` it goes to the spool, as far as there is
//!   room: only of files that are gone, and only what is not acknowledged in time.
//! - **Memory** is the read buffers, some 500 bytes a file, and at most two decoders of up to 9 MiB each. A line of any length takes 16 bytes until its end is
//!   found. Nothing is kept of a line that is not finished; it is read again.
//!
//! # What can't be known
//!
//! A file that comes and goes between two looks at its directory without ever being renamed; what a truncation took
//! before it was read, where there is no copy (and what was written while the copy was made: `copytruncate` has this
//! gap by design); whether a file that was deleted while the agent was
//! stopped had more than was acknowledged: its stream ends as "at least".
//!
//! # When something fails
//!
//! A file that can't be read is reported with its code, and tried again at each rescan and change; no other file is
//! held up. A compressed file that is damaged is read up to there; what follows is lost, with a reason. When the state
//! can't be written, new files wait. When the ring is full, reading stops, and renames and deletions are still noticed. When inotify is exhausted or overflows, rescans find what it did not tell.

mod adopt;
mod archive;
mod archives;
mod backlog;
mod buffer;
mod claim;
mod config;
mod content;
mod copy;
mod discover;
mod displaced;
mod error;
mod files;
mod finish;
mod follow;
mod glob;
mod hold;
mod identity;
mod inspect;
mod intake;
mod lines;
mod long_line;
mod lost;
mod outbox;
mod reader;
mod rescue;
mod rewind;
mod serve;
mod skip;
mod source;
mod stat;
mod status;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use archive::{Archive, Format};
pub use config::{FileSourceConfig, LINE_BYTES_MAX_DEFAULT, LINE_BYTES_MAX_LIMIT, Start};
pub use error::{FileSourceError, Unreadable};
pub(crate) use identity::{is_archive_name, is_rotated_name};
pub use rescue::RESCUE_PATIENCE;
pub use rewind::{RewindError, RewindPoint, rewind_point};
pub use skip::SkipReason;
pub use source::{FileSource, check_config};
pub use stat::FileKind;
pub use status::{AdoptionWait, FileSourceStatus, FileSourceTotals, FileState, FileStatus};
pub use watch::Waker;

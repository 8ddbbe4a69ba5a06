//! What the agent says about itself, over a socket in its state directory.
//!
//! | file | idea |
//! | --- | --- |
//! | `report` | the report: plain numbers and words, the same for people and scripts |
//! | `collect` | from the running agent to a report |
//! | `problems` | what is wrong, with what to do about it |
//! | `sources` | how far the collector is behind each source |
//! | `socket` | handing it out: connect, read JSON to the end |
//! | `render` | a screen for people, pure |
//! | `text` | words that fit a terminal and don't steer it |
//!
//! The socket (`agent.sock`) is for the agent's own user and root. There is nothing to ask: who connects gets one
//! report and the connection is closed. Where it can't be made, the agent runs without.

mod collect;
mod problems;
mod render;
mod report;
mod socket;
mod sources;
mod text;

pub use collect::Reporter;
pub use render::{render, render_files};
pub use report::{
    AdoptionReport, ConnectionReport, FileReport, FilesReport, Health, SkippedReport, SourceReport,
    StatusReport,
};
pub use socket::{SOCKET_NAME, StatusError, StatusSocket, fetch};
pub(crate) use text::{harmless, size, span_ns};

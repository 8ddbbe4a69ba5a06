//! What the agent says about itself, over a socket in its state directory.
//!
//! | file | idea |
//! | --- | --- |
//! | `report` | the report: plain numbers and words, the same for people and scripts |
//! | `collect` | from the running agent to a report |
//! | `socket` | handing it out: connect, read JSON to the end |
//! | `render` | a screen for people, pure |
//!
//! The socket (`agent.sock`) is for the agent's own user and root. There is nothing to ask: who connects gets one
//! report and the connection is closed. Where it can't be made, the agent runs without.

mod collect;
mod render;
mod report;
mod socket;

pub use collect::Reporter;
pub(crate) use render::{harmless, size, span_ns};
pub use render::{render, render_files};
pub use report::{ConnectionReport, FileReport, FilesReport, Health, SkippedReport, StatusReport};
pub use socket::{SOCKET_NAME, StatusError, StatusSocket, fetch};

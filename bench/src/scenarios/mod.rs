//! What can be measured, by name.

mod agent_core;
mod codecs;
mod decode;
mod idle;
mod latency;
mod limits;
mod live;
mod many_files;
mod metrics;
mod outage;
mod queries;
mod recognition;
mod rows;
mod ship;
mod start;
mod trickle;

use crate::{Bench, Outcome};

/// One scenario: a name to ask for, what it is, and how it is done.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// As typed.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Measures and adds rows.
    pub run: fn(&mut Bench) -> Outcome<()>,
}

/// In the order in which they are run and stand in the table.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "limits",
        about: "line scan, SHA-256, fdatasync, loopback TLS",
        run: limits::run,
    },
    Scenario {
        name: "codecs",
        about: "lz4 and zstd on blocks of the corpus",
        run: codecs::run,
    },
    Scenario {
        name: "recognition",
        about: "time and severity of every line, one core",
        run: recognition::run,
    },
    Scenario {
        name: "decode",
        about: "decode and validate batches, one core",
        run: decode::run,
    },
    Scenario {
        name: "rows",
        about: "log to rows in memory and to Parquet, one core",
        run: rows::run,
    },
    Scenario {
        name: "agent-core",
        about: "tail, block, batch, lz4, SHA-256, one core, no network",
        run: agent_core::run,
    },
    Scenario {
        name: "ship",
        about: "file to ack, lz4, store paused",
        run: ship::run,
    },
    Scenario {
        name: "ship-store",
        about: "file to queryable row, defaults",
        run: ship::run_with_store,
    },
    Scenario {
        name: "latency",
        about: "line written to ack, one line each 10 ms",
        run: latency::run,
    },
    Scenario {
        name: "many-files",
        about: "2,000 files against one",
        run: many_files::run,
    },
    Scenario {
        name: "outage",
        about: "new lines and a backlog on a line of 1 Mbit/s (a minute)",
        run: outage::run,
    },
    Scenario {
        name: "queries",
        about: "ten million lines of 50 machines, against DuckDB (some minutes; 3 GB of disk)",
        run: queries::run,
    },
    Scenario {
        name: "metrics",
        about: "a day of 5,000 series (some minutes; 1 GB of disk)",
        run: metrics::run,
    },
    Scenario {
        name: "start",
        about: "start with 1 GiB of log that the store does not have (two minutes; 4 GB of disk)",
        run: start::run,
    },
    Scenario {
        name: "busy",
        about: "questions while lines come at half of full speed",
        run: live::run_busy,
    },
    Scenario {
        name: "tails",
        about: "200 live tails at 20,000 lines/s",
        run: live::run_tails,
    },
    Scenario {
        name: "wire",
        about: "bytes on the wire of a busy line",
        run: ship::run_wire,
    },
    Scenario {
        name: "trickle",
        about: "bytes on the wire at 10 lines/s (a minute)",
        run: trickle::run,
    },
    Scenario {
        name: "idle",
        about: "memory and CPU of an idle agent (three minutes)",
        run: idle::run,
    },
];

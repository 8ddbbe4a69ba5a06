//! The faults, one family a file.

mod bulk;
mod bytes;
mod clock;
mod damage;
mod disks;
mod kills;
mod limits;
mod link;
mod power;
mod rotation;
mod simulated;
mod syscalls;

use super::row::Row;

/// Every row that there is, by number.
pub const ROWS: &[Row] = &[
    simulated::SIMULATION,
    kills::AGENT,
    kills::COLLECTOR,
    syscalls::KILLED_AT,
    power::BOTH,
    power::CUT,
    damage::TORN,
    damage::FLIPPED,
    disks::FULL,
    disks::READ_ONLY,
    disks::SYNC_FAILS,
    disks::SLOW,
    clock::JUMPS,
    rotation::RENAMED,
    rotation::COPIED,
    rotation::RECREATED,
    rotation::LINKED,
    rotation::COMPRESSED,
    rotation::ALIKE,
    link::PARTITION,
    link::HALF_OPEN,
    link::SLOW,
    link::RESET,
    bulk::AT_ONCE,
    bytes::LONG,
    bytes::ODD,
    limits::OUT_OF,
];

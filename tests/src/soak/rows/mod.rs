//! The faults, one family a file.

mod bulk;
mod bytes;
mod clock;
mod disks;
mod kills;
mod limits;
mod link;
mod power;
mod rotation;
mod syscalls;

use super::row::Row;

/// Every row that there is, by number.
pub const ROWS: &[Row] = &[
    kills::AGENT,
    kills::COLLECTOR,
    syscalls::KILLED_AT,
    kills::BOTH,
    power::CUT,
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

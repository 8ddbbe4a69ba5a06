//! What is said of the spool.

use std::sync::atomic::Ordering;
use std::time::Duration;

use edgelogger_common::error_code;
use edgelogger_common::size::ByteSize;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::problem::Problem;

/// How long it is shown that records were dropped; after that only their number is.
const DROPS_SHOWN_FOR: Duration = Duration::from_secs(3600);
/// How long damage is shown; the log line stays.
const DAMAGE_SHOWN_NS: i64 = 24 * 3600 * 1_000_000_000;

/// What went wrong last.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Code and what the disk said, until it works again.
    pub disk: Option<(&'static str, String)>,
    frames_damaged: u64,
    damaged_at_ns: i64,
}

impl Trouble {
    /// Is this news?
    pub fn failed(&mut self, code: &'static str, message: &str) -> bool {
        let now = (code, message.to_owned());
        self.disk.replace(now.clone()) != Some(now)
    }

    pub fn damaged(&mut self, frames: u64, now_ns: i64) {
        self.frames_damaged += frames;
        self.damaged_at_ns = now_ns;
    }
}

/// The spool at one moment. Counts are since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpoolStatusView {
    /// Its files together.
    pub bytes: u64,
    /// At most so many.
    pub bytes_max: u64,
    /// Batches on disk that are not acknowledged.
    pub batches: usize,
    /// How long the oldest of them waits.
    pub oldest_age_ns: Option<u64>,
    /// Batches that should be on disk and are in memory.
    pub batches_in_memory: usize,
    /// Written to disk.
    pub bytes_written: u64,
    /// Batches that went to disk.
    pub batches_written: u64,
    /// Batches that came from the spool to the line.
    pub batches_sent: u64,
    /// Records that were given up for want of room, or too old. Receipts say which.
    pub records_dropped: u64,
    /// Records in frames that could not be read any more. Receipts say which.
    pub records_damaged: u64,
    /// What is wrong, and what to do about it.
    pub problems: Vec<Problem>,
}

pub(super) fn view(shared: &Shared) -> SpoolStatusView {
    let state = shared.state.lock();
    let counters = state.counters();
    let (batches, oldest) = state.stored();
    let age = oldest.map(|oldest| shared.now().saturating_sub(oldest));
    let mut view = SpoolStatusView {
        bytes: state.bytes(),
        bytes_max: state.limits().bytes_max,
        batches,
        oldest_age_ns: age.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
        batches_in_memory: state.batches_in_memory(),
        bytes_written: shared.bytes_written.load(Ordering::Relaxed),
        batches_written: counters.batches_written,
        batches_sent: counters.batches_sent,
        records_dropped: counters.records_dropped,
        records_damaged: counters.records_damaged,
        problems: Vec::new(),
    };
    let dropped_lately = counters
        .dropped_at
        .is_some_and(|at| shared.now() < at + DROPS_SHOWN_FOR);
    let (is_full, is_capped) = (state.is_full() || dropped_lately, state.is_capped());
    drop(state);
    let trouble = shared.trouble.lock();
    if let Some((code, message)) = &trouble.disk {
        let what = format!(
            "spool: {message}; what it should keep stays in memory, at most 1 MiB, and is lost in a crash"
        );
        let fix = "Free space, or check the disk (dmesg) and its mount; it is tried again by itself.";
        view.problems.push(Problem::new(Some(code), what, fix));
    }
    let dropped = view.records_dropped;
    if is_full && is_capped {
        let what = format!(
            "spool: the disk is almost full: it leaves the rest of it to others and grows no more; {dropped} records were \
             dropped since the start"
        );
        let fix = "Free space, or lower keep_free in [spool].";
        let code = error_code::LOG_DISK_FULL.code;
        view.problems.push(Problem::new(Some(code), what, fix));
    } else if is_full {
        let what = format!(
            "spool: it is full ({}); {dropped} records were dropped since the start",
            ByteSize::bytes(view.bytes_max)
        );
        let fix = "Bring the collector back, or raise bytes_max in [spool].";
        view.problems.push(Problem::new(None, what, fix));
    }
    let since_damage = shared.clock.wall_ns().saturating_sub(trouble.damaged_at_ns);
    if trouble.frames_damaged > 0 && since_damage < DAMAGE_SHOWN_NS {
        let frames = trouble.frames_damaged;
        let what = format!("spool: {frames} frames were damaged, and what they held is declared lost");
        let fix = "Test the disk; damaged bytes are in spool/quarantine.";
        let code = error_code::LOG_DAMAGED.code;
        view.problems.push(Problem::new(Some(code), what, fix));
    }
    view
}

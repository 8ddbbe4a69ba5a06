//! What `/proc` says about a process.

use std::fs;

/// `USER_HZ`: ticks of `/proc/PID/stat` in a second. It is 100 on every Linux that the kernel's ABI allows.
const TICKS_PER_SECOND: f64 = 100.0;

/// A field of `/proc/PID/status` in bytes: `VmRSS`, `VmHWM` (its peak).
#[must_use]
pub fn memory_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find(|line| line.split(':').next() == Some(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Seconds of processor time that the process used, in user and kernel mode.
#[must_use]
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// Seconds of processor time by the scheduler's own count, exact where ticks of 10 ms are too coarse.
#[must_use]
pub fn cpu_seconds_exact(pid: u32) -> Option<f64> {
    let mut ns = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        ns += schedstat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(ns as f64 / 1e9)
}

/// Bytes that the process had written to disks, or to pages that will be: `write_bytes` of `/proc/PID/io`, less what it
/// took back by deleting files before they were written.
#[must_use]
pub fn disk_bytes_written(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let field = |name: &str| {
        let line = io.lines().find(|line| line.split(':').next() == Some(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some(field("write_bytes")?.saturating_sub(field("cancelled_write_bytes")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_has_used_time() {
        let pid = std::process::id();
        for field in ["VmHWM", "VmRSS"] {
            assert!(memory_bytes(pid, field).unwrap() > 100_000, "{field}");
        }
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert_eq!(memory_bytes(pid, "VmNothing"), None);
    }
}

//! What was measured at one moment, as plain numbers.

use super::cpu::CpuTimes;

#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    /// When: ns UTC.
    pub time_ns: i64,
    /// When the machine started: since then its counters count.
    pub boot_time_ns: Option<i64>,
    pub cpus: Option<CpuTimes>,
    /// Of 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    pub memory: Option<Memory>,
    pub file_systems: Vec<FileSystem>,
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    pub temperatures: Vec<Temperature>,
}

/// In bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub total: u64,
    pub available: u64,
    pub swap_total: u64,
    pub swap_free: u64,
}

/// In bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct FileSystem {
    pub device: String,
    pub mount_point: String,
    pub kind: String,
    pub total: u64,
    pub available: u64,
}

/// In bytes since the machine started.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub device: String,
    pub read: u64,
    pub written: u64,
}

/// Since the interface came up; received, sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub name: String,
    pub bytes: [u64; 2],
    pub packets: [u64; 2],
    pub errors: [u64; 2],
}

#[derive(Debug, Clone, Default)]
pub(super) struct Temperature {
    pub id: String,
    pub label: String,
    pub celsius: f64,
}

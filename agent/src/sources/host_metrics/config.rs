//! What an operator can say about the machine's metrics.

use std::time::Duration;

use edgelogger_common::clock::SystemClock;
use edgelogger_common::duration::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reader::Reader;
use super::samples::samples;
use crate::flow::SpoolPolicy;

/// Between two measurements, unless configured: a minute's peak is seen, and an idle machine stays idle.
pub const INTERVAL_DEFAULT: HumanDuration = HumanDuration::from_secs(15);
/// The shortest interval; below it the measuring shows in what is measured.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The host metrics source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostMetricsConfig {
    /// Between two measurements.
    pub interval: HumanDuration,
    /// Processor time and utilization.
    pub cpu: bool,
    /// Utilization of each processor beside the total.
    pub per_cpu: bool,
    /// Load averages.
    pub load: bool,
    /// Memory and swap.
    pub memory: bool,
    /// Space of file systems.
    pub file_systems: bool,
    /// Bytes read from and written to block devices.
    pub disks: bool,
    /// Bytes, packets and errors of network interfaces.
    pub network: bool,
    /// Temperatures.
    pub temperatures: bool,
    /// Interfaces that are left out: globs of names.
    pub exclude_interfaces: Vec<String>,
    /// File systems that are left out: globs of mount points.
    pub exclude_mount_points: Vec<String>,
    /// What happens when the collector is away for so long that the spool is full.
    pub spool: SpoolPolicy,
}

impl HostMetricsConfig {
    /// Are the globs globs?
    ///
    /// # Errors
    /// The first that is none.
    pub fn check_globs(&self) -> Result<(), globset::Error> {
        Reader::new(self.clone()).map(drop)
    }

    /// How many samples a measurement of this machine gives now.
    ///
    /// # Errors
    /// A glob that is none.
    pub fn samples_now(&self) -> Result<usize, globset::Error> {
        let snapshot = Reader::new(self.clone())?.measure(&SystemClock::new());
        Ok(samples(&snapshot, None, self).len())
    }
}

impl Default for HostMetricsConfig {
    fn default() -> Self {
        let globs = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        Self {
            interval: INTERVAL_DEFAULT,
            cpu: true,
            per_cpu: true,
            load: true,
            memory: true,
            file_systems: true,
            disks: true,
            network: true,
            temperatures: true,
            exclude_interfaces: globs(&["lo", "veth*"]),
            // What container engines mount for each container: the same file system many times.
            exclude_mount_points: globs(&[
                "/var/lib/docker/**",
                "/var/lib/containers/**",
                "/var/lib/kubelet/**",
                "/snap/**",
            ]),
            spool: SpoolPolicy::default(),
        }
    }
}

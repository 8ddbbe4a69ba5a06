//! Measuring. Only what is reported is refreshed.

use std::fs::File;
use std::io::Read;

use edgelogger_common::clock::Clock;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use sysinfo::{Components, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, System};

use super::config::HostMetricsConfig;
use super::cpu;
use super::snapshot::{Disk, FileSystem, Interface, Memory, Snapshot, Temperature};

/// `/proc/stat` has some 100 bytes for each processor, and a line of all interrupts that is not needed.
const STAT_BYTES_MAX: u64 = 256 << 10;

/// Keeps the lists of devices between measurements.
pub(super) struct Reader {
    config: HostMetricsConfig,
    exclude_interfaces: GlobSet,
    exclude_mount_points: GlobSet,
    /// What the kernel or the permissions do not let us measure is left out.
    system: Option<System>,
    disks: Option<Disks>,
    networks: Option<Networks>,
    components: Option<Components>,
    text: String,
}

impl Reader {
    pub fn new(config: HostMetricsConfig) -> Result<Self, globset::Error> {
        Ok(Self {
            exclude_interfaces: globs(&config.exclude_interfaces)?,
            exclude_mount_points: globs(&config.exclude_mount_points)?,
            system: config.memory.then(System::new).and_then(Result::ok),
            disks: (config.disks || config.file_systems)
                .then(Disks::new)
                .and_then(Result::ok),
            networks: config.network.then(Networks::new).and_then(Result::ok),
            components: config
                .temperatures
                .then(Components::new_with_refreshed_list)
                .and_then(Result::ok),
            text: String::new(),
            config,
        })
    }

    pub fn measure(&mut self, clock: &dyn Clock) -> Snapshot {
        let mut snapshot = Snapshot {
            time_ns: clock.wall_ns(),
            boot_time_ns: System::boot_time()
                .ok()
                .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000_000_000)),
            ..Snapshot::default()
        };
        if self.config.cpu {
            snapshot.cpus = self.cpus();
        }
        if self.config.load {
            snapshot.load = System::load_average()
                .ok()
                .map(|load| [load.one, load.five, load.fifteen]);
        }
        snapshot.memory = self.memory();
        self.read_disks(&mut snapshot);
        self.read_networks(&mut snapshot);
        self.read_temperatures(&mut snapshot);
        snapshot
    }

    fn cpus(&mut self) -> Option<cpu::CpuTimes> {
        self.text.clear();
        File::open("/proc/stat")
            .ok()?
            .take(STAT_BYTES_MAX)
            .read_to_string(&mut self.text)
            .ok()?;
        cpu::parse(&self.text)
    }

    fn memory(&mut self) -> Option<Memory> {
        let system = self.system.as_mut()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
        Some(Memory {
            total: system.total_memory(),
            available: system.available_memory(),
            swap_total: system.total_swap(),
            swap_free: system.free_swap(),
        })
    }

    fn read_disks(&mut self, snapshot: &mut Snapshot) {
        let Some(disks) = &mut self.disks else { return };
        let mut wanted = DiskRefreshKind::nothing();
        if self.config.file_systems {
            wanted = wanted.with_storage();
        }
        if self.config.disks {
            wanted = wanted.with_io_usage();
        }
        disks.refresh_specifics(true, wanted);
        for disk in &*disks {
            if self.exclude_mount_points.is_match(disk.mount_point()) {
                continue;
            }
            let device = disk.name().to_string_lossy().into_owned();
            if self.config.file_systems && disk.total_space() > 0 {
                snapshot.file_systems.push(FileSystem {
                    device: device.clone(),
                    mount_point: disk.mount_point().to_string_lossy().into_owned(),
                    kind: disk.file_system().to_string_lossy().into_owned(),
                    total: disk.total_space(),
                    available: disk.available_space(),
                });
            }
            // A device that is mounted twice counts once.
            let is_new = snapshot.disks.iter().all(|known| known.device != device);
            if self.config.disks && is_new && device.starts_with("/dev/") {
                let usage = disk.usage();
                snapshot.disks.push(Disk {
                    device,
                    read: usage.total_read_bytes,
                    written: usage.total_written_bytes,
                });
            }
        }
    }

    fn read_networks(&mut self, snapshot: &mut Snapshot) {
        let Some(networks) = &mut self.networks else {
            return;
        };
        networks.refresh(true);
        for (name, data) in &*networks {
            if self.exclude_interfaces.is_match(name) {
                continue;
            }
            snapshot.interfaces.push(Interface {
                name: name.to_string_lossy().into_owned(),
                bytes: [data.total_received(), data.total_transmitted()],
                packets: [data.total_packets_received(), data.total_packets_transmitted()],
                errors: [
                    data.total_errors_on_received(),
                    data.total_errors_on_transmitted(),
                ],
            });
        }
        // The list is a hash map; the same order each time compresses better.
        snapshot
            .interfaces
            .sort_by(|left, right| left.name.cmp(&right.name));
    }

    fn read_temperatures(&mut self, snapshot: &mut Snapshot) {
        let Some(components) = &mut self.components else {
            return;
        };
        for component in components.iter_mut() {
            component.refresh();
            let Some(celsius) = component.temperature().filter(|celsius| celsius.is_finite()) else {
                continue;
            };
            snapshot.temperatures.push(Temperature {
                id: component.id().unwrap_or_else(|| component.label()).to_owned(),
                label: component.label().to_owned(),
                celsius: f64::from(celsius),
            });
        }
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    set.build()
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgelogger_common::clock::SystemClock;

    #[test]
    fn this_machine_can_be_measured() {
        let mut reader = Reader::new(HostMetricsConfig::default()).unwrap();
        let snapshot = reader.measure(&SystemClock::new());
        assert!(snapshot.cpus.is_some_and(|cpus| !cpus.each.is_empty()));
        let memory = snapshot.memory.unwrap();
        assert!(memory.total > 0 && memory.available <= memory.total);
        assert!(snapshot.boot_time_ns.is_some_and(|boot| boot < snapshot.time_ns));
        assert!(snapshot.interfaces.iter().all(|interface| interface.name != "lo"));
    }

    #[test]
    fn what_is_switched_off_is_not_measured() {
        let off = HostMetricsConfig {
            cpu: false,
            load: false,
            memory: false,
            file_systems: false,
            disks: false,
            network: false,
            temperatures: false,
            ..HostMetricsConfig::default()
        };
        let snapshot = Reader::new(off).unwrap().measure(&SystemClock::new());
        assert!(snapshot.cpus.is_none() && snapshot.memory.is_none() && snapshot.load.is_none());
        assert!(snapshot.file_systems.is_empty() && snapshot.interfaces.is_empty());
    }
}

//! A snapshot to samples. Names, units and attributes follow the OpenTelemetry semantic conventions for systems and
//! hardware; where those are silent (load averages), the OpenTelemetry collector's.

use edgelogger_common::block::{MetricKind, MetricRow, Temporality, Value};

use super::config::HostMetricsConfig;
use super::cpu::{CpuTimes, MODES};
use super::snapshot::Snapshot;

/// Ticks of a second in `/proc/stat`: the kernel shows 100 on every architecture that Rust serves.
const TICKS_PER_SECOND: f64 = 100.0;
const DIRECTIONS: [&str; 2] = ["receive", "transmit"];

/// Collects samples of one moment.
struct Samples {
    rows: Vec<MetricRow>,
    time_ns: i64,
    boot_time_ns: Option<i64>,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Samples {
    fn gauge(&mut self, name: &str, unit: &str, labels: Labels<'_>, value: f64) {
        self.push(name, unit, labels, value, MetricKind::Gauge);
    }

    /// A count since the machine started.
    fn counter(&mut self, name: &str, unit: &str, labels: Labels<'_>, value: f64) {
        self.push(name, unit, labels, value, MetricKind::Counter);
    }

    fn push(&mut self, name: &str, unit: &str, labels: Labels<'_>, value: f64, kind: MetricKind) {
        let is_counter = kind == MetricKind::Counter;
        self.rows.push(MetricRow {
            event_time: Some(self.time_ns),
            observed_time: self.time_ns,
            name: name.to_owned(),
            unit: unit.to_owned(),
            kind,
            temporality: if is_counter {
                Temporality::Cumulative
            } else {
                Temporality::Unspecified
            },
            start_time: if is_counter { self.boot_time_ns } else { None },
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::String((*value).to_owned())))
                .collect(),
            value: Some(value),
            source_len: 1,
            ..MetricRow::default()
        });
    }

    /// `used` and `free` of a whole, and how much of it is used.
    fn usage(&mut self, what: &str, state: &'static str, labels: Labels<'_>, total: u64, free: u64) {
        let used = total.saturating_sub(free);
        let name = format!("{what}.usage");
        for (word, bytes) in [("used", used), ("free", free)] {
            let labels = [labels, &[(state, word)]].concat();
            self.gauge(&name, "By", &labels, number(bytes));
        }
        if total > 0 {
            let labels = [labels, &[(state, "used")]].concat();
            self.gauge(
                &format!("{what}.utilization"),
                "1",
                &labels,
                number(used) / number(total),
            );
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a float has 52 bits: exact up to 4 PiB, and close beyond"
)]
fn number(value: u64) -> f64 {
    value as f64
}

/// The samples of `now`; utilization is the difference from `before`.
pub(super) fn samples(
    now: &Snapshot,
    before: Option<&Snapshot>,
    config: &HostMetricsConfig,
) -> Vec<MetricRow> {
    let mut samples = Samples {
        rows: Vec::new(),
        time_ns: now.time_ns,
        boot_time_ns: now.boot_time_ns,
    };
    if let Some(cpus) = &now.cpus {
        cpu(
            &mut samples,
            cpus,
            before.and_then(|before| before.cpus.as_ref()),
            config,
        );
    }
    for (minutes, load) in ["1m", "5m", "15m"].iter().zip(now.load.unwrap_or_default()) {
        if now.load.is_some() {
            samples.gauge(
                &format!("system.cpu.load_average.{minutes}"),
                "{thread}",
                &[],
                load,
            );
        }
    }
    memory(&mut samples, now);
    for system in &now.file_systems {
        let labels = [
            ("system.device", system.device.as_str()),
            ("system.filesystem.mountpoint", system.mount_point.as_str()),
            ("system.filesystem.type", system.kind.as_str()),
        ];
        samples.usage(
            "system.filesystem",
            "system.filesystem.state",
            &labels,
            system.total,
            system.available,
        );
    }
    for disk in &now.disks {
        for (direction, bytes) in [("read", disk.read), ("write", disk.written)] {
            let labels = [
                ("system.device", disk.device.as_str()),
                ("disk.io.direction", direction),
            ];
            samples.counter("system.disk.io", "By", &labels, number(bytes));
        }
    }
    network(&mut samples, now);
    for sensor in &now.temperatures {
        let labels = [("hw.id", sensor.id.as_str()), ("hw.name", sensor.label.as_str())];
        samples.gauge("hw.temperature", "Cel", &labels, sensor.celsius);
    }
    if let Some(boot) = now.boot_time_ns {
        let seconds = number(now.time_ns.saturating_sub(boot).max(0).unsigned_abs() / 1_000_000_000);
        samples.gauge("system.uptime", "s", &[], seconds);
    }
    samples.rows
}

fn cpu(samples: &mut Samples, now: &CpuTimes, before: Option<&CpuTimes>, config: &HostMetricsConfig) {
    for (mode, ticks) in MODES.iter().zip(now.total.0) {
        samples.counter(
            "system.cpu.time",
            "s",
            &[("cpu.mode", mode)],
            number(ticks) / TICKS_PER_SECOND,
        );
    }
    let Some(before) = before else { return };
    if let Some(busy) = now.total.utilization_since(&before.total) {
        samples.gauge("system.cpu.utilization", "1", &[], busy);
    }
    if !config.per_cpu {
        return;
    }
    for (cpu, ticks) in &now.each {
        let earlier = before.each.iter().find(|(known, _)| known == cpu);
        if let Some(busy) = earlier.and_then(|(_, earlier)| ticks.utilization_since(earlier)) {
            let cpu = cpu.to_string();
            samples.gauge(
                "system.cpu.utilization",
                "1",
                &[("cpu.logical_number", &cpu)],
                busy,
            );
        }
    }
}

fn memory(samples: &mut Samples, now: &Snapshot) {
    let Some(memory) = now.memory else { return };
    samples.gauge("system.memory.limit", "By", &[], number(memory.total));
    samples.gauge(
        "system.linux.memory.available",
        "By",
        &[],
        number(memory.available),
    );
    let state = "system.memory.state";
    // What caches occupy can be had back: used is what can't.
    samples.usage("system.memory", state, &[], memory.total, memory.available);
    if memory.swap_total > 0 {
        samples.usage(
            "system.paging",
            "system.paging.state",
            &[],
            memory.swap_total,
            memory.swap_free,
        );
    }
}

fn network(samples: &mut Samples, now: &Snapshot) {
    for interface in &now.interfaces {
        let all = [
            ("system.network.io", "By", interface.bytes),
            ("system.network.packets", "{packet}", interface.packets),
            ("system.network.errors", "{error}", interface.errors),
        ];
        for (name, unit, counts) in all {
            for (direction, count) in DIRECTIONS.iter().zip(counts) {
                let labels = [
                    ("network.interface.name", interface.name.as_str()),
                    ("network.io.direction", *direction),
                ];
                samples.counter(name, unit, &labels, number(count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu::Ticks;
    use super::super::snapshot::{Disk, FileSystem, Interface, Memory, Temperature};
    use super::*;

    fn snapshot(time_ns: i64, busy: u64, idle: u64) -> Snapshot {
        let ticks = Ticks([busy, 0, 0, idle, 0, 0, 0, 0]);
        Snapshot {
            time_ns,
            boot_time_ns: Some(1_000_000_000),
            cpus: Some(CpuTimes {
                total: ticks,
                each: vec![(0, ticks)],
            }),
            load: Some([0.5, 0.25, 0.125]),
            memory: Some(Memory {
                total: 1000,
                available: 400,
                swap_total: 0,
                swap_free: 0,
            }),
            file_systems: vec![FileSystem {
                device: "/dev/sda1".into(),
                mount_point: "/".into(),
                kind: "ext4".into(),
                total: 100,
                available: 25,
            }],
            disks: vec![Disk {
                device: "/dev/sda1".into(),
                read: 1,
                written: 2,
            }],
            interfaces: vec![Interface {
                name: "eth0".into(),
                bytes: [1, 2],
                ..Interface::default()
            }],
            temperatures: vec![Temperature {
                id: "t".into(),
                label: "core".into(),
                celsius: 40.5,
            }],
        }
    }

    fn shown(rows: &[MetricRow]) -> Vec<String> {
        let label = |(name, value): &(String, Value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => panic!("labels are text, found {other:?}"),
        };
        rows.iter()
            .map(|row| {
                let labels: Vec<_> = row.labels.iter().map(label).collect();
                format!(
                    "{}{{{}}} {} {}",
                    row.name,
                    labels.join(","),
                    row.value.unwrap(),
                    row.unit
                )
            })
            .collect()
    }

    #[test]
    fn a_snapshot_becomes_samples_with_the_names_of_opentelemetry() {
        let (before, now) = (snapshot(0, 100, 900), snapshot(16_000_000_000, 150, 950));
        let rows = samples(&now, Some(&before), &HostMetricsConfig::default());
        let shown = shown(&rows);
        for expected in [
            "system.cpu.time{cpu.mode=user} 1.5 s",
            "system.cpu.utilization{} 0.5 1",
            "system.cpu.utilization{cpu.logical_number=0} 0.5 1",
            "system.cpu.load_average.15m{} 0.125 {thread}",
            "system.memory.usage{system.memory.state=used} 600 By",
            "system.memory.utilization{system.memory.state=used} 0.6 1",
            "system.filesystem.usage{system.device=/dev/sda1,system.filesystem.mountpoint=/,\
             system.filesystem.type=ext4,system.filesystem.state=free} 25 By",
            "system.disk.io{system.device=/dev/sda1,disk.io.direction=write} 2 By",
            "system.network.io{network.interface.name=eth0,network.io.direction=transmit} 2 By",
            "hw.temperature{hw.id=t,hw.name=core} 40.5 Cel",
            "system.uptime{} 15 s",
        ] {
            assert!(
                shown.iter().any(|row| row == expected),
                "{expected} is not among {shown:#?}"
            );
        }
        assert!(
            !shown.iter().any(|row| row.starts_with("system.paging")),
            "a machine without swap"
        );
        let counter = rows.iter().find(|row| row.name == "system.disk.io").unwrap();
        assert_eq!(
            (counter.kind, counter.temporality),
            (MetricKind::Counter, Temporality::Cumulative)
        );
        assert_eq!(counter.start_time, Some(1_000_000_000));
    }

    #[test]
    fn the_first_snapshot_has_no_utilization() {
        let rows = samples(&snapshot(0, 1, 1), None, &HostMetricsConfig::default());
        assert!(rows.iter().all(|row| row.name != "system.cpu.utilization"));
    }

    #[test]
    fn every_sample_uses_one_position_and_has_a_unit() {
        let rows = samples(&snapshot(9, 1, 1), None, &HostMetricsConfig::default());
        assert!(
            rows.iter()
                .all(|row| row.source_len == 1 && !row.unit.is_empty() && row.event_time == Some(9))
        );
    }
}

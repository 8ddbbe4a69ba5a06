//! What an agent costs that has nothing to do: twenty quiet files, with and without host metrics.

use std::fs;
use std::time::{Duration, Instant};

use super::ship::{agent_config, collector_config};
use crate::programs::Collector;
use crate::report::Target;
use crate::{Bench, Outcome};

const FILES: u64 = 20;
/// Start, connect, ship, and give back what that took.
const SETTLE: Duration = Duration::from_secs(15);
/// Four measurements of the host.
const MEASURE: Duration = Duration::from_secs(60);
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let files = bench.scratch("idle/logs")?;
    for index in 0..FILES {
        fs::write(
            files.join(format!("{index}.log")),
            "2026-03-01T00:00:00Z INFO quiet from now on\n".repeat(100),
        )?;
    }
    let glob = format!("{}/*.log", files.canonicalize()?.display());
    let metrics = "[source.host_metrics]\ninterval = \"15s\"\n";
    for (what, more, rss, cpu) in [
        ("20 quiet files", "", 14.0, 0.1),
        ("20 quiet files and host metrics", metrics, 16.0, 0.3),
    ] {
        let (rss_bytes, cpu_percent, disk_bytes) = idle(bench, &agent_config(&glob, None, more))?;
        bench.report.add(
            &format!("agent idle, {what}: RSS"),
            rss_bytes as f64 / MIB,
            "MiB",
            Target::AtMost(rss),
        );
        bench.report.add(
            &format!("agent idle, {what}: CPU"),
            cpu_percent,
            "%",
            Target::AtMost(cpu),
        );
        bench.report.add(
            &format!("agent idle, {what}: written to disk in an hour"),
            disk_bytes as f64 * (3600.0 / MEASURE.as_secs_f64()) / MIB,
            "MiB",
            Target::AtMost(1.0),
        );
    }
    Ok(())
}

/// Resident memory, percent of one core, and bytes written to disk.
fn idle(bench: &Bench, config: &str) -> Outcome<(u64, f64, u64)> {
    let mut collector = Collector::start(&bench.scratch("idle/run")?, collector_config(true))?;
    let mut agent = collector.agent(collector.ingest_port, config)?;
    collector.wait_until("all lines are durable", Duration::from_millis(100), |collector| {
        agent.check_alive()?;
        Ok((collector.durable_records()? >= FILES * 100).then_some(()))
    })?;
    std::thread::sleep(SETTLE);
    let (start, before) = (Instant::now(), agent.cpu_seconds());
    let disk_before = agent.disk_bytes_written();
    std::thread::sleep(MEASURE);
    agent.check_alive()?;
    let cpu_percent = 100.0 * (agent.cpu_seconds() - before) / start.elapsed().as_secs_f64();
    let disk_bytes = agent.disk_bytes_written() - disk_before;
    let rss = agent.rss();
    agent.stop()?;
    collector.program.stop()?;
    Ok((rss, cpu_percent, disk_bytes))
}

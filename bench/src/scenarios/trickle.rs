//! Bytes on the wire when a machine says ten lines a second: defaults, acks and heartbeats counted.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use edgelogger_tests::proxy::Proxy;

use super::ship::{agent_config, collector_config};
use crate::corpus::Generator;
use crate::programs::Collector;
use crate::report::Target;
use crate::{Bench, Outcome};

const LINES_PER_S: u32 = 10;
const MEASURE: Duration = Duration::from_secs(60);

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let dir = bench.scratch("trickle")?;
    let path = dir.canonicalize()?.join("app.log");
    let mut file = File::create(&path)?;
    let mut generator = Generator::new();
    let mut collector = Collector::start(&dir, collector_config(true))?;
    let line = Proxy::start(collector.ingest_port)?;
    let agent = collector.agent(line.port, &agent_config(&path.display().to_string(), None, ""))?;
    // Connected, and what connecting costs is over.
    let written = write(&mut generator, &mut file, Duration::from_secs(3))?;
    let warm = collector.wait_until(
        "the first lines are durable",
        Duration::from_millis(50),
        |collector| {
            let durable = collector.durable_records()?;
            Ok((durable >= written.lines).then_some(durable))
        },
    )?;
    let before = line.counted().total();
    let measured = write(&mut generator, &mut file, MEASURE)?;
    collector.wait_until("all lines are durable", Duration::from_millis(50), |collector| {
        Ok((collector.durable_records()? >= warm + measured.lines).then_some(()))
    })?;
    let wire = line.counted().total() - before;
    agent.stop()?;
    collector.program.stop()?;
    let name = "bytes on the wire, 10 lines/s, defaults, against raw lines";
    bench.report.compare(
        name,
        wire as f64 / 1e3,
        "kB",
        measured.bytes as f64 / 1e3,
        Target::RatioAtMost(0.75),
    );
    Ok(())
}

struct Written {
    lines: u64,
    bytes: u64,
}

/// Writes lines at their pace for so long.
fn write(generator: &mut Generator, file: &mut File, time: Duration) -> Outcome<Written> {
    let start = Instant::now();
    let mut written = Written { lines: 0, bytes: 0 };
    let mut line = Vec::new();
    for index in 0..LINES_PER_S * u32::try_from(time.as_secs())? {
        line.clear();
        generator.next_line(&mut line);
        file.write_all(&line)?;
        written.lines += 1;
        written.bytes += line.len() as u64;
        let due = start + Duration::from_secs(1) * (index + 1) / LINES_PER_S;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(written)
}

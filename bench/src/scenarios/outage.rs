//! What comes first after an outage on a thin line: a log that grew for a day, 1 Mbit/s, and a new line now and then.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use edgelogger_tests::proxy::Proxy;

use super::ship::{agent_config, collector_config};
use crate::programs::{Collector, Program};
use crate::report::Target;
use crate::{Bench, Outcome};

/// 1 Mbit/s.
const LINE_BYTES_PER_SECOND: u64 = 125_000;
/// What a machine writes in a day at 750 bytes/s: minutes of the line, so that the backlog outlasts the measurement.
const BACKLOG_BYTES: usize = 64 << 20;
/// Lines that are written after the outage, one when the one before can be queried.
const FRESH_LINES: u64 = 12;
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long the collector stays away.
const AWAY: Duration = Duration::from_secs(20);

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let dir = bench.scratch("outage")?.canonicalize()?;
    let log = dir.join("app.log");
    fs::write(&log, "before the outage\n")?;
    let mut collector = Collector::start(&dir, collector_config(true))?;
    let line = Proxy::start(collector.ingest_port)?;
    let mut agent = collector.agent(line.port, &agent_config(&log.display().to_string(), None, ""))?;
    collector.wait_until("the first line is durable", ASK_EVERY, |collector| {
        agent.check_alive()?;
        Ok((collector.durable_records()? >= 1).then_some(()))
    })?;
    line.set(|faults| faults.refuses = true);
    line.reset_all();
    let backlog = bench.corpus.head(BACKLOG_BYTES)?;
    let mut file = File::options().append(true).open(&log)?;
    file.write_all(&backlog)?;
    std::thread::sleep(AWAY);
    line.set(|faults| faults.up.bytes_per_second = Some(LINE_BYTES_PER_SECOND));
    let before = line.counted().total();
    let healed = Instant::now();
    line.set(|faults| faults.refuses = false);
    let took = fresh_lines(&mut collector, &mut agent, &mut file)?;
    let seconds = healed.elapsed().as_secs_f64();
    let used = (line.counted().total() - before) as f64 / seconds / LINE_BYTES_PER_SECOND as f64;
    line.heal();
    let lines = 1 + backlog.iter().filter(|byte| **byte == b'\n').count() as u64 + FRESH_LINES;
    collector.wait_until("the backlog is stored", ASK_EVERY, |collector| {
        Ok((collector.sql_number("SELECT count(*) FROM logs")? >= lines).then_some(()))
    })?;
    let positions = collector.sql_number("SELECT count(DISTINCT position) FROM logs")?;
    let found = collector.sql_number("SELECT count(*) FROM logs")?;
    if (found, positions) != (lines, lines) {
        return Err(
            format!("{lines} lines were written, {found} are stored at {positions} positions").into(),
        );
    }
    report(bench, &took, used, agent.peak_rss());
    agent.stop()?;
    collector.program.stop()
}

/// Writes a line when the one before can be queried; how long each took.
fn fresh_lines(collector: &mut Collector, agent: &mut Program, file: &mut File) -> Outcome<Vec<f64>> {
    let mut took = Vec::new();
    for number in 0..FRESH_LINES {
        let start = Instant::now();
        writeln!(file, "fresh line {number}")?;
        let query = format!("SELECT count(*) FROM logs WHERE body = 'fresh line {number}'");
        collector.wait_until("a fresh line can be queried", ASK_EVERY, |collector| {
            agent.check_alive()?;
            Ok((collector.sql_number(&query)? == 1).then_some(()))
        })?;
        took.push(start.elapsed().as_secs_f64());
    }
    Ok(took)
}

fn report(bench: &mut Bench, took: &[f64], used: f64, agent_rss: u64) {
    let longest = |took: &[f64]| took.iter().copied().fold(0.0, f64::max);
    let report = &mut bench.report;
    report.add(
        "1 Mbit/s after an outage: first new line, from the healing to a query's answer",
        longest(&took[..1]),
        "s",
        Target::AtMost(5.0),
    );
    report.add(
        "the same: slowest of the next lines",
        longest(&took[1..]),
        "s",
        Target::AtMost(5.0),
    );
    report.add(
        "the same: part of the line in use",
        used,
        "",
        Target::AtLeast(0.7),
    );
    report.add(
        "the same: agent's peak RSS",
        agent_rss as f64 / f64::from(1 << 20),
        "MiB",
        Target::AtMost(64.0),
    );
}

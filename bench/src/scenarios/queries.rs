//! Questions to a store of ten million lines: 50 machines, a day, everything from disk.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use edgelogger_common::codec::compress;

use super::ship::agent_config;
use crate::corpus::Generator;
use crate::peer::{self, PeerAnswer};
use crate::programs::{Collector, Program};
use crate::report::Target;
use crate::{Bench, Outcome};

const MACHINES: u64 = 50;
const LINES_EACH: u64 = 200_000;
/// Agents at once: more would only share two cores.
const AGENTS_AT_ONCE: u64 = 5;
/// The corpus has 2,000,000 lines a day.
const SLOWER: u64 = 2_000_000 / LINES_EACH;
const ASK_EVERY: Duration = Duration::from_millis(100);
/// After which a collector that nobody asks has settled.
const REST: Duration = Duration::from_secs(10);
const MIB: f64 = (1 << 20) as f64;
/// DuckDB's time, at most this often.
const PEER_RATIO: f64 = 1.5;

const DAY: (&str, &str) = ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z");
const HOUR: (&str, &str) = ("2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z");
const MACHINE: &str = "m-07";
const ABSENT: &str = "a text that no line has";
const REGEX: &str = "retrying after error.*attempt\":[3-9],";

struct Question {
    name: &'static str,
    request: Request,
    /// For DuckDB.
    peer: String,
    seconds_max: f64,
}

enum Request {
    Sql(String),
    Get(String),
}

fn questions() -> Vec<Question> {
    let hour = format!(
        "machine_id = '{MACHINE}' AND time >= TIMESTAMP '{}' AND time < TIMESTAMP '{}'",
        HOUR.0, HOUR.1
    );
    let peer_hour = hour.replace("TIMESTAMP", "TIMESTAMPTZ");
    let count = format!("SELECT count(*) FROM logs WHERE contains(body, '{ABSENT}')");
    vec![
        Question {
            name: "a text that is nowhere, in everything",
            request: Request::Sql(count.clone()),
            peer: count.clone(),
            seconds_max: 3.0,
        },
        Question {
            name: "a text that is nowhere, in one machine's hour",
            request: Request::Sql(format!("{count} AND {hour}")),
            peer: format!("{count} AND {peer_hour}"),
            seconds_max: 0.3,
        },
        Question {
            name: "newest 100 lines of a machine",
            request: Request::Get(format!("/api/v1/logs?machine={MACHINE}&limit=100")),
            peer: format!("SELECT * FROM logs WHERE machine_id = '{MACHINE}' ORDER BY time DESC LIMIT 100"),
            seconds_max: 0.05,
        },
        Question {
            name: "volume of the day by severity",
            request: Request::Get(format!("/api/v1/logs/volume?from={}&to={}", DAY.0, DAY.1)),
            peer: "SELECT time_bucket(INTERVAL 15 MINUTE, time), severity, count(*) FROM logs GROUP BY ALL"
                .to_owned(),
            seconds_max: 1.0,
        },
        Question {
            name: "a regular expression with a literal part",
            request: Request::Sql(format!(
                "SELECT count(*) FROM logs WHERE regexp_like(body, '{REGEX}')"
            )),
            peer: format!("SELECT count(*) FROM logs WHERE regexp_matches(body, '{REGEX}')"),
            seconds_max: 4.0,
        },
    ]
}

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let dir = bench.scratch("queries")?.canonicalize()?;
    let mut collector = Collector::start(&dir, "")?;
    let raw = fill(&dir, &mut collector)?;
    collector.wait_until_settled()?;
    let files = dir.join("collector/store/files");
    let report = &mut bench.report;
    report.compare(
        "store on disk, all columns, against zstd 3 of the lines in 1 MiB blocks",
        folder_bytes(&files)? as f64 / 1e6,
        "MB",
        raw.compressed as f64 / 1e6,
        Target::RatioAtMost(1.1),
    );
    let ready = collector.restart()?;
    report.add(
        "10,000,000 lines: start after a clean stop",
        ready,
        "s",
        Target::AtMost(2.0),
    );
    std::thread::sleep(REST);
    let rss = |collector: &Collector| collector.program.rss() as f64 / MIB;
    report.add(
        "the same: RSS without traffic",
        rss(&collector),
        "MiB",
        Target::AtMost(150.0),
    );
    let questions = questions();
    let mut took = Vec::new();
    for question in &questions {
        drop_page_cache();
        let start = Instant::now();
        let answer = match &question.request {
            Request::Sql(query) => Some(collector.sql_number(query)?.to_string()),
            Request::Get(path) => collector.get(path).map(|_| None)?,
        };
        took.push((start.elapsed().as_secs_f64(), answer));
    }
    std::thread::sleep(REST);
    report.add(
        "the same: RSS after the questions",
        rss(&collector),
        "MiB",
        Target::None,
    );
    collector.program.stop()?;
    let peers = peer::ask(
        &files,
        std::thread::available_parallelism()?.get(),
        &questions
            .iter()
            .map(|question| question.peer.clone())
            .collect::<Vec<_>>(),
    )?;
    for ((question, (seconds, answer)), peer) in questions.iter().zip(took).zip(peers) {
        compare(bench, question, seconds, answer.as_ref(), &peer)?;
    }
    bench.discard(&dir)
}

fn compare(
    bench: &mut Bench,
    question: &Question,
    seconds: f64,
    answer: Option<&String>,
    peer: &PeerAnswer,
) -> Outcome<()> {
    if answer.is_some() && answer != peer.first.as_ref() {
        return Err(format!("{}: {answer:?}, and DuckDB says {:?}", question.name, peer.first).into());
    }
    let name = format!("10,000,000 lines: {}", question.name);
    bench
        .report
        .add(&name, seconds, "s", Target::AtMost(question.seconds_max));
    bench.report.compare(
        &format!("{name}, against DuckDB on the same files"),
        seconds,
        "s",
        peer.seconds,
        Target::RatioAtMost(PEER_RATIO),
    );
    Ok(())
}

/// The lines as they were written.
#[derive(Default)]
struct Raw {
    compressed: u64,
}

/// Every machine's day, through agents, into Parquet files.
fn fill(dir: &Path, collector: &mut Collector) -> Outcome<Raw> {
    let logs = dir.join("logs");
    fs::create_dir_all(&logs)?;
    let mut raw = Raw::default();
    let mut next = 0;
    while next < MACHINES {
        let mut agents: Vec<Program> = Vec::new();
        for machine in next..(next + AGENTS_AT_ONCE).min(MACHINES) {
            let name = format!("m-{machine:02}");
            let log = logs.join(format!("{name}.log"));
            raw.compressed += write_log(&log, machine)?;
            let config = agent_config(&log.display().to_string(), None, "");
            agents.push(collector.agent_of(&name, collector.ingest_port, &config)?);
        }
        next += AGENTS_AT_ONCE;
        let lines = next.min(MACHINES) * LINES_EACH;
        collector.wait_until("every line is durable", ASK_EVERY, |collector| {
            agents.iter_mut().try_for_each(Program::check_alive)?;
            Ok((collector.durable_records()? >= lines).then_some(()))
        })?;
        agents.into_iter().try_for_each(Program::stop)?;
    }
    let lines = MACHINES * LINES_EACH;
    collector.wait_until("every line is stored", ASK_EVERY, |collector| {
        Ok((collector.sql_number("SELECT count(*) FROM logs")? >= lines).then_some(()))
    })?;
    fs::remove_dir_all(&logs)?;
    Ok(raw)
}

/// Writes one machine's day; how long it is in blocks of 1 MiB with zstd 3.
fn write_log(path: &Path, machine: u64) -> Outcome<u64> {
    let mut generator = Generator::slower(machine, SLOWER);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut block, mut compressed) = (Vec::with_capacity(1 << 20), 0);
    for _ in 0..LINES_EACH {
        let before = block.len();
        generator.next_line(&mut block);
        out.write_all(&block[before..])?;
        if block.len() >= 1 << 20 {
            compressed += compress("zstd:3".parse()?, &block)?.len() as u64;
            block.clear();
        }
    }
    out.flush()?;
    Ok(compressed + compress("zstd:3".parse()?, &block)?.len() as u64)
}

pub(super) fn folder_bytes(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// So that everything comes from the disk; needs root, and without it the figures are better than they should be.
pub(super) fn drop_page_cache() {
    rustix::fs::sync();
    if let Err(error) = fs::write("/proc/sys/vm/drop_caches", "1") {
        eprintln!("the page cache stays: {error}");
    }
}

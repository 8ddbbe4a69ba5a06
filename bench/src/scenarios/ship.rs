//! From a file to the ack: the real programs, TLS between them.

use std::path::Path;
use std::time::{Duration, Instant};

use edgelogger_agent::batcher::BATCH_BYTES_DEFAULT;
use edgelogger_common::codec::{CodecSetting, compress};
use edgelogger_tests::proxy::Proxy;

use crate::programs::Collector;
use crate::report::Target;
use crate::timing::mb_per_s;
use crate::{Bench, Outcome};

/// How often the collector is asked how far it is: a hundredth of what shipping the corpus takes.
const ASK_EVERY: Duration = Duration::from_millis(10);
const MIB: f64 = (1 << 20) as f64;
/// How one run is set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setting<'a> {
    /// Of the agent; its default without one.
    pub codec: Option<&'a str>,
    /// Is the store running?
    pub store: bool,
    /// Through a proxy that counts?
    pub counted: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shipped {
    /// From the start of the agent's process to the last durable record.
    pub seconds: f64,
    /// From there until every row could be queried.
    pub queryable_seconds: f64,
    /// The most memory that the agent and the collector had.
    pub agent_peak_rss: u64,
    pub collector_peak_rss: u64,
    /// On the wire, both ways, where it was counted.
    pub wire_bytes: u64,
    /// On the agent's disk.
    pub agent_disk_bytes: u64,
}

/// Tables of an agent's configuration: these files from their beginning.
pub(super) fn agent_config(glob: &str, codec: Option<&str>, more: &str) -> String {
    let codec = codec.map_or_else(String::new, |codec| format!("[batch]\ncodec = \"{codec}\"\n"));
    format!("{codec}{more}\n[[source.file]]\ninclude = [\"{glob}\"]\n")
}

/// A collector's configuration.
pub(super) fn collector_config(store: bool) -> &'static str {
    if store { "" } else { "[store]\npaused = true\n" }
}

/// Ships files with this many lines to a new collector.
pub(super) fn ship(dir: &Path, glob: &str, lines: u64, setting: Setting<'_>) -> Outcome<Shipped> {
    let mut collector = Collector::start(dir, collector_config(setting.store))?;
    let counted = if setting.counted {
        Some(Proxy::start(collector.ingest_port)?)
    } else {
        None
    };
    let port = counted.as_ref().map_or(collector.ingest_port, |proxy| proxy.port);
    let start = Instant::now();
    let mut agent = collector.agent(port, &agent_config(glob, setting.codec, ""))?;
    collector.wait_until("all lines are durable", ASK_EVERY, |collector| {
        agent.check_alive()?;
        Ok((collector.durable_records()? >= lines).then_some(()))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    if setting.store {
        collector.wait_until("all lines can be queried", ASK_EVERY, |collector| {
            Ok((collector.applied()? >= lines).then_some(()))
        })?;
    }
    let queryable_seconds = start.elapsed().as_secs_f64();
    if setting.store {
        let found = collector.sql_number("SELECT count(*) FROM logs")?;
        if found != lines {
            return Err(format!("{lines} lines were shipped, {found} are stored").into());
        }
    }
    let shipped = Shipped {
        seconds,
        queryable_seconds,
        agent_peak_rss: agent.peak_rss(),
        collector_peak_rss: collector.program.peak_rss(),
        wire_bytes: counted.map_or(0, |proxy| proxy.counted().total()),
        agent_disk_bytes: agent.disk_bytes_written(),
    };
    agent.stop()?;
    collector.program.stop()?;
    Ok(shipped)
}

/// lz4, the store paused: what agent, wire and log reach.
pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limit = lz4_limit(bench)?;
    let setting = Setting {
        codec: Some("lz4"),
        ..Setting::default()
    };
    let shipped = whole_corpus(bench, "ship", setting)?;
    let speed = mb_per_s(usize::try_from(bench.corpus.bytes)?, shipped.seconds);
    let report = &mut bench.report;
    report.compare(
        "file to ack, lz4, store paused, against lz4_flex",
        speed,
        "MB/s",
        limit,
        Target::RatioAtLeast(0.4),
    );
    report.add(
        "the same: agent's peak RSS",
        shipped.agent_peak_rss as f64 / MIB,
        "MiB",
        Target::AtMost(40.0),
    );
    report.add(
        "the same: collector's peak RSS",
        shipped.collector_peak_rss as f64 / MIB,
        "MiB",
        Target::None,
    );
    Ok(())
}

/// Defaults, the store running: until every row can be queried.
pub(super) fn run_with_store(bench: &mut Bench) -> Outcome<()> {
    let limit = lz4_limit(bench)?;
    let shipped = whole_corpus(
        bench,
        "ship-store",
        Setting {
            store: true,
            ..Setting::default()
        },
    )?;
    let bytes = usize::try_from(bench.corpus.bytes)?;
    let report = &mut bench.report;
    report.compare(
        "file to queryable row, defaults, against lz4_flex",
        mb_per_s(bytes, shipped.queryable_seconds),
        "MB/s",
        limit,
        Target::RatioAtLeast(0.12),
    );
    report.add(
        "the same: until acked",
        mb_per_s(bytes, shipped.seconds),
        "MB/s",
        Target::None,
    );
    report.add(
        "the same: agent's peak RSS",
        shipped.agent_peak_rss as f64 / MIB,
        "MiB",
        Target::AtMost(40.0),
    );
    report.add(
        "the same: collector's peak RSS",
        shipped.collector_peak_rss as f64 / MIB,
        "MiB",
        Target::None,
    );
    Ok(())
}

/// Bytes on the wire of a busy line, TLS included.
pub(super) fn run_wire(bench: &mut Bench) -> Outcome<()> {
    for codec in ["lz4", "zstd:1"] {
        let raw = compressed_bytes(bench, codec.parse()?)?;
        let setting = Setting {
            codec: Some(codec),
            store: false,
            counted: true,
        };
        let shipped = whole_corpus(bench, "wire", setting)?;
        bench.report.compare(
            &format!("bytes on the wire, busy, {codec}, against the lines alone"),
            shipped.wire_bytes as f64 / 1e6,
            "MB",
            raw as f64 / 1e6,
            Target::RatioAtMost(1.05),
        );
        bench.report.add(
            &format!("the same, {codec}: what the agent writes to its disk, of what it ships"),
            100.0 * shipped.agent_disk_bytes as f64 / shipped.wire_bytes as f64,
            "%",
            Target::AtMost(1.0),
        );
    }
    Ok(())
}

fn whole_corpus(bench: &Bench, name: &str, setting: Setting<'_>) -> Outcome<Shipped> {
    let path = bench.corpus.path.canonicalize()?.display().to_string();
    ship(&bench.scratch(name)?, &path, bench.corpus.lines, setting)
}

fn lz4_limit(bench: &mut Bench) -> Outcome<f64> {
    let limits = std::mem::take(&mut bench.limits);
    let limit = limits.lz4_mb_per_s(bench);
    bench.limits = limits;
    limit
}

/// The raw lines, compressed in pieces of a batch.
fn compressed_bytes(bench: &Bench, setting: CodecSetting) -> Outcome<u64> {
    let text = bench.corpus.head(usize::MAX)?;
    let mut bytes = 0;
    for piece in text.chunks(BATCH_BYTES_DEFAULT) {
        bytes += compress(setting, piece)?.len() as u64;
    }
    Ok(bytes)
}

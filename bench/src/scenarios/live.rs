//! People at work while lines come: questions at half of full speed, and two hundred live tails.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ship::{Setting, agent_config, ship};
use crate::corpus::Generator;
use crate::programs::{Collector, Program};
use crate::report::Target;
use crate::timing::{ms, percentile};
use crate::{Bench, Outcome};

/// Of each of the two halves, without and with questions.
const LASTS: Duration = Duration::from_secs(15);
/// Connections, inotify, caches.
const WARM_UP: Duration = Duration::from_secs(3);
const SLICE: Duration = Duration::from_millis(10);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);
/// Of so many questions for the newest lines one searches everything.
const SEARCH_EVERY: usize = 50;
const TAILS: u64 = 200;
const TAILED_LINES_PER_S: u64 = 20_000;

/// Writes so many lines a second to a file until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(path: PathBuf, lines_per_s: u64) -> Outcome<Self> {
        let mut file = File::create(path)?;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let mut generator = Generator::slower(1, 1);
            let mut text = Vec::new();
            let begun = Instant::now();
            while !told.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * lines_per_s as f64) as u64;
                text.clear();
                let missing = due - count.load(Ordering::Relaxed);
                for _ in 0..missing {
                    generator.next_line(&mut text);
                }
                if file.write_all(&text).is_err() {
                    return;
                }
                count.fetch_add(missing, Ordering::Relaxed);
                std::thread::sleep(SLICE);
            }
        });
        Ok(Self {
            stop,
            written,
            thread: Some(thread),
        })
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// A collector, an agent that tails one log, and a writer to it.
struct Stage {
    collector: Collector,
    agent: Program,
    writer: Writer,
}

impl Stage {
    fn new(dir: &Path, lines_per_s: u64) -> Outcome<Self> {
        let collector = Collector::start(dir, "")?;
        let log = dir.join("live.log");
        let writer = Writer::start(log.clone(), lines_per_s)?;
        let agent = collector.agent(
            collector.ingest_port,
            &agent_config(&log.display().to_string(), None, ""),
        )?;
        let mut stage = Self {
            collector,
            agent,
            writer,
        };
        stage.collector.wait_until("lines come", SLICE, |collector| {
            Ok((collector.applied()? > 0).then_some(()))
        })?;
        std::thread::sleep(WARM_UP);
        Ok(stage)
    }

    fn end(self) -> Outcome<()> {
        drop(self.writer);
        self.agent.stop()?;
        self.collector.program.stop()
    }
}

/// Questions while lines come at half of what is possible.
pub(super) fn run_busy(bench: &mut Bench) -> Outcome<()> {
    let path = bench.corpus.path.canonicalize()?.display().to_string();
    let lines = bench.corpus.lines;
    let setting = Setting {
        store: true,
        ..Setting::default()
    };
    let shipped = ship(&bench.scratch("busy-full")?, &path, lines, setting)?;
    let full = lines as f64 / shipped.queryable_seconds;
    let dir = bench.scratch("busy")?.canonicalize()?;
    let stage = Stage::new(&dir, (full / 2.0) as u64)?;
    let alone = stored_per_s(&stage, || {
        std::thread::sleep(LASTS);
        Ok(())
    })?;
    let mut took = Vec::new();
    let asked = stored_per_s(&stage, || {
        let until = Instant::now() + LASTS;
        while Instant::now() < until {
            let start = Instant::now();
            stage.collector.get("/api/v1/logs?machine=bench&limit=100")?;
            took.push(start.elapsed());
            if took.len().is_multiple_of(SEARCH_EVERY) {
                let search = "SELECT count(*) FROM logs WHERE contains(body, 'a text that no line has')";
                stage.collector.sql_number(search)?;
            }
            std::thread::sleep(BETWEEN_QUESTIONS);
        }
        Ok(())
    })?;
    took.sort_unstable();
    let behind = stage.writer.written() - stage.collector.applied()?;
    let report = &mut bench.report;
    report.compare(
        "lines stored at half of full speed, with questions, against without",
        asked,
        "lines/s",
        alone,
        Target::RatioAtLeast(0.85),
    );
    report.add(
        "the same: newest 100 lines, p50",
        ms(percentile(&took, 50)),
        "ms",
        Target::None,
    );
    report.add(
        "the same: newest 100 lines, p99",
        ms(percentile(&took, 99)),
        "ms",
        Target::AtMost(250.0),
    );
    report.add(
        "the same: lines that are written and not yet stored",
        behind as f64 / (full / 2.0),
        "s",
        Target::None,
    );
    stage.end()?;
    bench.discard(&dir)
}

/// Lines stored a second while something is done.
fn stored_per_s(stage: &Stage, work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let (start, before) = (Instant::now(), stage.collector.applied()?);
    work()?;
    let after = stage.collector.applied()?;
    Ok((after - before) as f64 / start.elapsed().as_secs_f64())
}

/// Two hundred tails, each with words of its own to look for.
pub(super) fn run_tails(bench: &mut Bench) -> Outcome<()> {
    let dir = bench.scratch("tails")?.canonicalize()?;
    let stage = Stage::new(&dir, TAILED_LINES_PER_S)?;
    let cores = |stage: &Stage| {
        let (start, before) = (Instant::now(), stage.collector.program.cpu_seconds());
        std::thread::sleep(LASTS);
        (stage.collector.program.cpu_seconds() - before) / start.elapsed().as_secs_f64()
    };
    let alone = cores(&stage);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bytes = Arc::new(AtomicU64::new(0));
    let port = stage.collector.api_port;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let counted = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        runtime.block_on(async {
            for number in 0..TAILS {
                tokio::spawn(tail(port, number, Arc::clone(&counted)));
            }
            let _ = stopped.await;
        });
    });
    std::thread::sleep(WARM_UP);
    let before = bytes.load(Ordering::Relaxed);
    let tailed = cores(&stage);
    let received = bytes.load(Ordering::Relaxed) - before;
    let _ = stop.send(());
    reader.join().map_err(|_| "the reader of tails panicked")?;
    if received == 0 {
        return Err("no tail received anything".into());
    }
    let report = &mut bench.report;
    report.add("20,000 lines/s: collector's CPU", alone, "cores", Target::None);
    report.add(
        "the same: what 200 tails cost more",
        tailed - alone,
        "cores",
        Target::AtMost(0.5),
    );
    report.add(
        "the same: what each tail receives",
        received as f64 / TAILS as f64 / LASTS.as_secs_f64() / 1e3,
        "kB/s",
        Target::None,
    );
    stage.end()?;
    bench.discard(&dir)
}

/// Reads a tail and counts its bytes.
async fn tail(port: u16, number: u64, bytes: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!(
        "GET /api/v1/logs/tail?q=%2F{number}%20&severity=info HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
}

//! The source on a thread of its own. Most of it is figures rather than checks: `cargo test -p edgelogger-agent --lib file::tests::running -- --ignored --nocapture
//! --test-threads 1`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use edgelogger_common::clock::SystemClock;
use rustix::time::{ClockId, clock_gettime};

use super::*;

/// Lines of a log that is rotated every 50 lines while the source runs freely on its thread.
#[test]
fn a_log_rotated_hundreds_of_times_a_second_is_read_exactly_once() {
    const LINES: usize = 50_000;
    let world = World::new();
    // A log that is known is followed; what was rotated before anybody looked is not.
    world.write("a.log", "begins\n");
    let running = Running::start(&world);
    running.take_records(1);
    let writer = thread::spawn({
        let dir = world.dir.path().to_owned();
        move || {
            let mut file = OpenOptions::new().append(true).open(dir.join("a.log")).unwrap();
            for number in 0..LINES {
                writeln!(file, "{number}").unwrap();
                if number % 50 == 49 {
                    fs::rename(dir.join("a.log"), dir.join(format!("a.log.{number}"))).unwrap();
                    writeln!(file, "last of {number}").unwrap();
                    file = OpenOptions::new()
                        .append(true)
                        .create(true)
                        .open(dir.join("a.log"))
                        .unwrap();
                }
            }
        }
    });
    let wanted = LINES + LINES / 50;
    let mut found = Vec::new();
    while found.len() < wanted {
        match running.ring.pop(Some(Instant::now() + Duration::from_secs(20))) {
            Popped::Event(SourceEvent::Block(block)) => {
                if let BlockView::Log(view) = block.block.view().unwrap() {
                    found.extend(view.rows().map(|row| String::from_utf8(row.body).unwrap()));
                }
            }
            Popped::Event(_) => {}
            other => {
                let found: std::collections::HashSet<String> = found.into_iter().collect();
                let missing: Vec<usize> = (0..LINES)
                    .filter(|line| !found.contains(&line.to_string()))
                    .collect();
                let runs: Vec<usize> = missing.iter().copied().filter(|line| line % 50 == 0).collect();
                panic!(
                    "{other:?}, missing {} lines, generations from {runs:?}, {:?}",
                    missing.len(),
                    running.status.totals()
                );
            }
        }
    }
    writer.join().unwrap();
    running.stop();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), wanted);
}

/// A source on its own thread, and the ring that it fills.
struct Running {
    ring: Ring,
    waker: Waker,
    thread: Option<thread::JoinHandle<Duration>>,
    status: FileSourceStatus,
}

impl Running {
    fn start(world: &World) -> Self {
        let clock = Arc::new(SystemClock::new());
        let checkpoints =
            Checkpoints::open(Arc::new(OsDisk), world.state.path(), clock.clone() as Arc<_>).unwrap();
        let ring = Ring::new(RingLimits::default());
        let handle = ring.source("files", RESERVE_BYTES_DEFAULT);
        let source = FileSource::new(world.config.clone(), handle, checkpoints, clock, &[]).unwrap();
        let (waker, status) = (source.waker(), source.status());
        let thread = thread::spawn(move || {
            source.run();
            let time = clock_gettime(ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
        });
        Self {
            ring,
            waker,
            thread: Some(thread),
            status,
        }
    }

    /// Takes events until so many records came.
    fn take_records(&self, wanted: u64) {
        let mut records = 0;
        while records < wanted {
            match self.ring.pop(Some(Instant::now() + Duration::from_secs(10))) {
                Popped::Event(SourceEvent::Block(block)) => {
                    records += u64::from(block.block.header.record_count);
                }
                Popped::Event(_) => {}
                other => panic!("{other:?} after {records} records of {wanted}"),
            }
        }
    }

    /// Stops, and gives the processor time of the source's thread.
    fn stop(mut self) -> Duration {
        self.ring.stop();
        self.waker.wake();
        self.thread.take().unwrap().join().unwrap()
    }
}

fn line(number: usize) -> String {
    format!("2026-01-01T00:00:00.000Z INFO request {number:08} handled in 12 ms by worker 7, status=200 ok\n")
}

#[test]
#[ignore = "measures"]
fn one_large_file() {
    let world = World::new();
    let content: String = (0..10_000).map(line).collect();
    let mut file = File::create(world.path("a.log")).unwrap();
    for _ in 0..200 {
        file.write_all(content.as_bytes()).unwrap();
    }
    let begun = Instant::now();
    let running = Running::start(&world);
    running.take_records(2_000_000);
    let took = begun.elapsed();
    let cpu = running.stop();
    let bytes = content.len() as f64 * 200.0;
    println!(
        "one file: {:.0} MB/s, {:.1} M lines/s, processor {:.0} ms for {:.0} MB",
        bytes / took.as_secs_f64() / 1e6,
        2.0 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e3,
        bytes / 1e6,
    );
}

#[test]
#[ignore = "measures"]
fn many_files() {
    let world = World::new();
    let content: String = (0..1000).map(line).collect();
    for file in 0..2000 {
        world.write(&format!("{file}.log"), &content);
    }
    let begun = Instant::now();
    let running = Running::start(&world);
    running.take_records(2_000_000);
    let took = begun.elapsed();
    let cpu = running.stop();
    println!(
        "2,000 files of 1,000 lines: {:.3} ms a file, processor {:.3} ms a file",
        took.as_secs_f64() / 2.0,
        cpu.as_secs_f64() / 2.0
    );
}

#[test]
#[ignore = "measures"]
fn latency_of_a_line() {
    let world = World::new();
    world.write("a.log", "first\n");
    let running = Running::start(&world);
    running.take_records(1);
    let mut times = Vec::new();
    let mut file = OpenOptions::new().append(true).open(world.path("a.log")).unwrap();
    for number in 0..500 {
        thread::sleep(Duration::from_millis(3));
        let begun = Instant::now();
        file.write_all(line(number).as_bytes()).unwrap();
        running.take_records(1);
        times.push(begun.elapsed());
    }
    running.stop();
    times.sort();
    println!(
        "latency: median {:?}, 99 % {:?}, most {:?}",
        times[250], times[495], times[499]
    );
}

#[test]
#[ignore = "measures"]
fn idle_and_busy() {
    let mut world = World::new();
    world.config.rescan_interval = edgelogger_common::duration::HumanDuration::from_secs(1);
    for file in 0..20 {
        world.write(&format!("{file}.log"), "first\n");
    }
    let running = Running::start(&world);
    running.take_records(20);
    thread::sleep(Duration::from_secs(10));
    println!("20 quiet files, 10 rescans: processor {:?}", running.stop());

    let running = Running::start(&world);
    let done = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (path, done) = (world.path("0.log"), Arc::clone(&done));
        move || {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            let mut lines = 0;
            while !done.load(Ordering::SeqCst) {
                file.write_all(line(lines).as_bytes()).unwrap();
                lines += 1;
                if lines % 20 == 0 {
                    thread::sleep(Duration::from_micros(100));
                }
            }
            lines
        }
    });
    let ring = running.ring.clone();
    let blocks = thread::spawn(move || {
        let mut blocks = 0;
        while !matches!(ring.pop(None), Popped::Finished) {
            blocks += 1;
        }
        blocks
    });
    let begun = Instant::now();
    thread::sleep(Duration::from_secs(3));
    done.store(true, Ordering::SeqCst);
    let lines = writer.join().unwrap();
    thread::sleep(Duration::from_millis(100));
    let read = running.status.totals().records_read;
    let took = begun.elapsed();
    let cpu = running.stop();
    println!(
        "line by line: {:.0} lines/s in {} blocks, {read} of {lines} read, processor {:.1} %",
        lines as f64 / took.as_secs_f64(),
        blocks.join().unwrap(),
        100.0 * cpu.as_secs_f64() / took.as_secs_f64(),
    );
}

use edgelogger_common::clock::SystemClock;
use edgelogger_common::disk::{Effect, Fault, FaultDisk, Operation, Survivors};
use edgelogger_common::segment::ReadItem;
use edgelogger_proto::v1::{Batch, LogEntry, log_entry};
use rustix::io::Errno;

use super::*;
use crate::flow::EncodedEntry;

const DIR: &str = "/log";

fn settings() -> LogSettings {
    LogSettings {
        dir: DIR.into(),
        bytes_max: 1 << 30,
        segment_bytes_max: 1 << 20,
        keep_free_bytes: 0,
        entry_bytes_max: 16 << 20,
    }
}

struct Fixture {
    disk: FaultDisk,
    health: Arc<Health>,
    log: EmbeddedLog,
}

fn start(disk: &FaultDisk, settings: LogSettings, sinks: Vec<Arc<SinkProgress>>) -> Fixture {
    let health = Health::new(Arc::new(SystemClock::new()));
    let opened = OpenedLog::open(Arc::new(disk.clone()), settings, 1).unwrap();
    let log = opened.start(&health, sinks).unwrap();
    Fixture {
        disk: disk.clone(),
        health,
        log,
    }
}

fn entry(payload: usize) -> EncodedEntry {
    let batch = Batch {
        payload: vec![7; payload].into(),
        ..Default::default()
    };
    EncodedEntry::new(LogEntry {
        body: Some(log_entry::Body::Batch(batch)),
        ..Default::default()
    })
}

impl Fixture {
    fn submit(&self, count: usize, payload: usize) -> Vec<Verdict> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut answers = Vec::new();
            for _ in 0..count {
                answers.push(self.log.sender.submit(entry(payload)).await);
            }
            let mut verdicts = Vec::new();
            for answer in answers {
                verdicts.push(answer.await.unwrap());
            }
            verdicts
        })
    }

    fn until_durable(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.submit(1, 10) != [Verdict::Durable] {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stored(&self) -> usize {
        let mut reader = self.log.view.reader(self.log.view.first_sequence()).unwrap();
        std::iter::from_fn(|| reader.next().unwrap())
            .filter(|item| matches!(item, ReadItem::Frame(_)))
            .count()
    }

    fn code(&self) -> Option<&'static str> {
        self.health.problems().first().map(|problem| problem.code)
    }
}

fn code(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Durable => "durable",
        Verdict::Later { code, .. } | Verdict::Never { code, .. } => code.code,
    }
}

#[test]
fn what_is_durable_survives_a_power_cut() {
    let disk = FaultDisk::new(1);
    let fixture = start(&disk, settings(), Vec::new());
    assert!(
        fixture
            .submit(100, 100)
            .iter()
            .all(|verdict| *verdict == Verdict::Durable)
    );
    disk.cut_power(Survivors::Nothing);
    drop(fixture);
    disk.restart();
    assert_eq!(start(&disk, settings(), Vec::new()).stored(), 100);
}

#[test]
fn many_entries_share_one_sync() {
    let disk = FaultDisk::new(1);
    let fixture = start(&disk, settings(), Vec::new());
    // The first sync takes long; what comes meanwhile goes together.
    disk.install(Fault::once(
        Operation::Sync,
        1,
        Effect::Slow(Duration::from_millis(200)),
    ));
    fixture.submit(500, 100);
    let commits = fixture.log.status.commits.load(Ordering::Relaxed);
    assert!((1..=20).contains(&commits), "{commits}");
    assert_eq!(fixture.stored(), 500);
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_the_log_comes_back() {
    let disk = FaultDisk::new(1);
    let fixture = start(&disk, settings(), Vec::new());
    disk.install(Fault::once(Operation::Sync, 1, Effect::Error(Errno::IO)));
    let verdicts = fixture.submit(1, 100);
    assert_eq!(code(&verdicts[0]), "E0404");
    assert_eq!(fixture.code(), Some("E0404"));
    fixture.until_durable();
    assert_eq!(fixture.code(), None);
}

#[test]
fn at_every_failing_change_nothing_that_was_called_durable_is_lost() {
    for nth in 1..40 {
        let disk = FaultDisk::new(nth);
        let fixture = start(&disk, settings(), Vec::new());
        disk.install(Fault::once(
            Operation::AnyChange,
            nth,
            Effect::PartThenError(Errno::IO),
        ));
        let mut durable = 0;
        for _ in 0..20 {
            durable += fixture
                .submit(1, 200_000)
                .iter()
                .filter(|verdict| **verdict == Verdict::Durable)
                .count();
        }
        disk.cut_power(Survivors::Nothing);
        drop(fixture);
        disk.restart();
        let stored = start(&disk, settings(), Vec::new()).stored();
        assert!(
            stored >= durable,
            "change {nth}: {stored} stored, {durable} called durable"
        );
    }
}

#[test]
fn a_full_disk_makes_agents_wait_and_goes_on_when_there_is_room() {
    let disk = FaultDisk::new(1);
    let fixture = start(
        &disk,
        settings(),
        vec![SinkProgress::new("store", Hold::Always, 1)],
    );
    fixture.submit(1, 100);
    disk.set_capacity(10_000);
    let verdicts = fixture.submit(3, 8_000);
    // What fits goes in, however many came together.
    let codes: Vec<_> = verdicts.iter().map(code).collect();
    assert_eq!(codes, ["durable", "E0401", "E0401"]);
    assert_eq!(fixture.code(), Some("E0401"));
    fixture.disk.set_capacity(1 << 40);
    fixture.until_durable();
    assert_eq!(fixture.code(), None);
}

#[test]
fn room_for_the_sinks_is_kept_free() {
    let disk = FaultDisk::new(1);
    disk.set_capacity(1 << 20);
    let sink = SinkProgress::new("store", Hold::Always, 1);
    let fixture = start(
        &disk,
        LogSettings {
            keep_free_bytes: 1 << 19,
            ..settings()
        },
        vec![Arc::clone(&sink)],
    );
    assert_eq!(code(&fixture.submit(1, 100_000)[0]), "durable");
    assert_eq!(code(&fixture.submit(1, 500_000)[0]), "E0401");
    assert!(
        sink.awaited.load(Ordering::Relaxed),
        "the sink is to make durable what it has"
    );
    assert_eq!(code(&fixture.submit(1, 100_000)[0]), "durable");
    assert_eq!(code(&fixture.submit(1, 500_000)[0]), "E0401");
    // What nobody needs any more goes, though it lies in the segment that is written.
    let end = fixture.log.view.durable_end();
    sink.set(end, end, end);
    assert_eq!(code(&fixture.submit(1, 500_000)[0]), "durable");
    assert!(!sink.awaited.load(Ordering::Relaxed));
}

#[test]
fn at_its_limit_the_log_waits_for_the_sinks_that_hold_it() {
    let sink = SinkProgress::new("store", Hold::Always, 1);
    let fixture = start(
        &FaultDisk::new(1),
        LogSettings {
            bytes_max: 8 << 20,
            ..settings()
        },
        vec![Arc::clone(&sink)],
    );
    let verdicts = fixture.submit(20, 1 << 20);
    assert_eq!(code(&verdicts[0]), "durable");
    assert_eq!(code(&verdicts[19]), "E0401");
    assert!(
        fixture.health.problems()[0].what.contains("store"),
        "{:?}",
        fixture.health.problems()
    );
    sink.durable_cursor
        .store(fixture.log.view.durable_end(), Ordering::Relaxed);
    fixture.until_durable();
}

#[test]
fn a_sink_that_may_be_skipped_does_not_fill_the_log() {
    let sink = SinkProgress::new("store", Hold::UntilFull, 1);
    let fixture = start(
        &FaultDisk::new(1),
        LogSettings {
            bytes_max: 8 << 20,
            ..settings()
        },
        vec![sink],
    );
    let verdicts: Vec<_> = (0..30).flat_map(|_| fixture.submit(1, 1 << 20)).collect();
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Durable));
}

#[test]
fn an_entry_that_is_too_large_is_refused_alone() {
    let fixture = start(
        &FaultDisk::new(1),
        LogSettings {
            entry_bytes_max: 1_000,
            ..settings()
        },
        Vec::new(),
    );
    assert_eq!(code(&fixture.submit(1, 2_000)[0]), "E0405");
    assert_eq!(code(&fixture.submit(1, 500)[0]), "durable");
}

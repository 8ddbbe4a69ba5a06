//! `copytruncate` at any moment, several times between two looks of the source, also while it waits for its disk: every
//! line arrives exactly once.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;

use super::super::backlog::UNREAD_BYTES_MAX;
use super::meanwhile::{Meanwhile, SlowDisk};
use super::property::cases;
use super::*;

/// A program that logs, and one that rotates.
struct Writer {
    dir: PathBuf,
    next: usize,
    generations: usize,
}

impl Writer {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn append(&mut self, lines: usize) {
        let mut text = String::new();
        for line in self.next..self.next + lines {
            let _ = writeln!(text, "line {line:08} {}", "x".repeat(20 + line * 7 % 50));
        }
        self.next += lines;
        let mut log = OpenOptions::new().append(true).open(self.path("a.log")).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// Renames the older copies, and waits for a tick of the file system's clock: what happens within one has no order
    /// that could be seen later.
    fn shift(&mut self) {
        let birth = |path: &Path| stat::stat(path).unwrap().birth_ns;
        let tick = self.path("tick");
        fs::write(&tick, "").unwrap();
        let before = birth(&tick);
        while before.is_some() && birth(&tick) <= before {
            fs::remove_file(&tick).unwrap();
            fs::write(&tick, "").unwrap();
        }
        fs::remove_file(&tick).unwrap();
        for generation in (1..=self.generations).rev() {
            let from = self.path(&format!("a.log.{generation}"));
            fs::rename(from, self.path(&format!("a.log.{}", generation + 1))).unwrap();
        }
        self.generations += 1;
    }

    fn copy(&self) {
        fs::copy(self.path("a.log"), self.path("a.log.1")).unwrap();
    }

    fn truncate(&self) {
        File::create(self.path("a.log")).unwrap();
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Append(lines) => self.append(lines),
            Change::CopyTruncate => {
                self.shift();
                self.copy();
                self.truncate();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Append(usize),
    CopyTruncate,
}

#[derive(Debug, Clone)]
enum Step {
    Now(Change),
    /// While the source next waits for its disk.
    Meanwhile(Vec<Change>),
    /// So many steps of the source between the renames and the copy, and between that and the truncation.
    Slowly(usize, usize),
    /// So many steps of the source.
    Look(usize),
    /// The same while nothing is taken from it.
    Starve(usize),
    Run,
    Restart,
    Close,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![(1usize..40).prop_map(Change::Append), Just(Change::CopyTruncate)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => change().prop_map(Step::Now),
        3 => proptest::collection::vec(change(), 1..6).prop_map(Step::Meanwhile),
        2 => (0usize..4, 0usize..4).prop_map(|(shifted, copied)| Step::Slowly(shifted, copied)),
        3 => (1usize..4).prop_map(Step::Look),
        2 => (1usize..8).prop_map(Step::Starve),
        2 => Just(Step::Run),
        1 => Just(Step::Restart),
        1 => Just(Step::Close),
    ]
}

struct Log {
    world: World,
    writer: Arc<Mutex<Writer>>,
    meanwhile: Meanwhile,
}

impl Log {
    fn change(&self, change: Change) {
        self.writer.lock().unwrap().change(change);
    }

    fn look(&mut self, steps: usize) {
        for _ in 0..steps {
            self.world.step();
            self.world.take();
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Now(change) => self.change(*change),
            Step::Meanwhile(changes) => {
                let (writer, changes) = (Arc::clone(&self.writer), changes.clone());
                self.meanwhile.push(move || {
                    let mut writer = writer.lock().unwrap();
                    changes.into_iter().for_each(|change| writer.change(change));
                });
            }
            Step::Slowly(shifted, copied) => {
                // What is written between the copy and the truncation is lost by design, so nothing is.
                let steps = |steps| if self.meanwhile.is_empty() { steps } else { 0 };
                let (shifted, copied) = (steps(*shifted), steps(*copied));
                self.writer.lock().unwrap().shift();
                self.look(shifted);
                self.writer.lock().unwrap().copy();
                self.look(copied);
                self.writer.lock().unwrap().truncate();
            }
            Step::Look(steps) => self.look(*steps),
            Step::Starve(steps) => {
                for _ in 0..*steps {
                    self.world.step();
                }
            }
            Step::Run => self.world.settle(),
            Step::Restart => {
                self.world.stop();
                self.world.start();
            }
            Step::Close => self.world.source.as_mut().unwrap().close_all(),
        }
    }
}

/// A log of which something was read before; what is copied before that leaves a copy that nothing connects with it.
fn exactly_once(steps: &[Step], unread_bytes_max: u64) {
    let meanwhile = Meanwhile::default();
    let mut world = World::new();
    world.disk = Arc::new(SlowDisk(meanwhile.clone()));
    world.limits = RingLimits {
        slots: 4,
        bytes: 512 << 10,
    };
    world.unread_bytes_max = unread_bytes_max;
    world.write("a.log", "");
    let mut writer = Writer {
        dir: world.dir.path().to_owned(),
        next: 0,
        generations: 0,
    };
    writer.append(2);
    let mut log = Log {
        world,
        writer: Arc::new(Mutex::new(writer)),
        meanwhile,
    };
    log.world.start();
    for step in steps {
        log.apply(step);
    }
    log.world.settle();
    for _ in 0..3 {
        log.world.pass(Duration::from_secs(10));
    }
    let mut found = log.world.lines().concat();
    found.sort();
    let numbers: Vec<usize> = found.iter().map(|line| line[5..13].parse().unwrap()).collect();
    let expected: Vec<usize> = (0..log.writer.lock().unwrap().next).collect();
    assert_eq!(numbers, expected, "{steps:?}\n{:#?}", log.world.status().files());
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn copies_made_at_any_moment_lose_nothing_and_repeat_nothing(
        steps in proptest::collection::vec(step(), 1..40),
        unread_bytes_max in prop_oneof![Just(100), Just(UNREAD_BYTES_MAX)],
    ) {
        exactly_once(&steps, unread_bytes_max);
    }
}

#[test]
fn a_copy_is_seen_before_the_log_that_was_empty_when_it_was_seen_last() {
    let steps = [
        Step::Now(Change::CopyTruncate),
        Step::Look(2),
        Step::Now(Change::Append(1)),
        Step::Slowly(0, 2),
    ];
    exactly_once(&steps, UNREAD_BYTES_MAX);
}

/// Between the look at its beginning and its first read.
#[test]
fn a_log_is_truncated_while_its_stream_is_made_durable() {
    use Change::{Append, CopyTruncate};
    // The first sync is for the stream that goes on in the copy, the second for the new one.
    let steps = [
        Step::Now(CopyTruncate),
        Step::Now(Append(3)),
        Step::Meanwhile(vec![]),
        Step::Meanwhile(vec![Append(4), CopyTruncate, Append(5)]),
        Step::Run,
        Step::Restart,
        Step::Now(Append(1)),
    ];
    for unread_bytes_max in [100, UNREAD_BYTES_MAX] {
        exactly_once(&steps, unread_bytes_max);
    }
}

#[test]
fn a_log_is_truncated_and_stays_empty_while_its_stream_is_made_durable() {
    use Change::{Append, CopyTruncate};
    let steps = [
        Step::Now(CopyTruncate),
        Step::Now(Append(3)),
        Step::Meanwhile(vec![]),
        Step::Meanwhile(vec![Append(4), CopyTruncate]),
        Step::Run,
        Step::Now(Append(5)),
        Step::Run,
        Step::Restart,
    ];
    exactly_once(&steps, UNREAD_BYTES_MAX);
}

/// Its stream went on in the copy; what came and went since lies beside it.
#[test]
fn a_log_that_was_seen_empty_is_written_copied_and_truncated_before_the_next_look() {
    use Change::{Append, CopyTruncate};
    let unseen = [Step::Now(Append(3)), Step::Now(CopyTruncate)];
    let found_with_more = [Step::Now(Append(2)), Step::Run];
    for (then, restart) in [
        (&found_with_more[..], false),
        (&[Step::Run], false),
        (&found_with_more, true),
        (&[Step::Run], true),
    ] {
        let mut steps = vec![Step::Now(CopyTruncate), Step::Run];
        steps.extend(restart.then_some(Step::Restart));
        steps.extend(unseen.iter().cloned());
        steps.extend(then.iter().cloned());
        exactly_once(&steps, UNREAD_BYTES_MAX);
    }
}

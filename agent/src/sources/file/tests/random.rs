//! Rotations of all kinds in random order, while the source runs, is stopped, or has no credit: every line arrives
//! exactly once.

use proptest::prelude::*;

use super::super::archive::Format;
use super::super::backlog::UNREAD_BYTES_MAX;
use super::property::cases;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// Rename every generation up by one, and begin a new file.
    Rotate,
    /// Rename the older generations, copy the log, cut it to nothing.
    CopyTruncate,
    /// Compress the youngest generation that is not compressed yet, if it is older than this.
    Compress(usize, bool),
    Run,
    Restart,
    /// As if all descriptors had been given to other files.
    Close,
    /// The collector is away for a while.
    Starve(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..40).prop_map(Step::Append),
        3 => Just(Step::Rotate),
        2 => Just(Step::CopyTruncate),
        2 => (1usize..3, any::<bool>()).prop_map(|(generation, gzip)| Step::Compress(generation, gzip)),
        4 => Just(Step::Run),
        1 => Just(Step::Restart),
        1 => Just(Step::Close),
        1 => (0usize..20).prop_map(Step::Starve),
    ]
}

/// Small enough that nearly everything is put off, or so large that nothing is.
fn behind() -> impl Strategy<Value = u64> {
    prop_oneof![Just(100), Just(UNREAD_BYTES_MAX)]
}

struct Log {
    world: World,
    next: usize,
    generations: usize,
    tick: Option<i64>,
}

impl Log {
    fn shift(&mut self) {
        // What happens within one tick of the file system's clock has no order that could be seen later.
        self.world.write_younger("tick", "", self.tick);
        self.tick = self.world.birth_ns("tick");
        self.world.remove("tick");
        for generation in (1..=self.generations).rev() {
            for suffix in ["", ".gz", ".zst"] {
                let name = format!("a.log.{generation}{suffix}");
                if self.world.path(&name).exists() {
                    self.world
                        .rename(&name, &format!("a.log.{}{suffix}", generation + 1));
                }
            }
        }
        self.generations += 1;
    }

    fn apply(&mut self, step: &Step) {
        self.world.keep_time();
        match step {
            Step::Append(lines) => {
                for _ in 0..*lines {
                    let line = format!("line {:08} {}\n", self.next, "x".repeat(20 + self.next * 7 % 50));
                    self.world.append("a.log", line);
                    self.next += 1;
                }
            }
            Step::Rotate => {
                self.shift();
                self.world.rename("a.log", "a.log.1");
                self.world.write("a.log", "");
            }
            Step::CopyTruncate => {
                self.shift();
                fs::copy(self.world.path("a.log"), self.world.path("a.log.1")).unwrap();
                File::options()
                    .write(true)
                    .open(self.world.path("a.log"))
                    .unwrap()
                    .set_len(0)
                    .unwrap();
            }
            Step::Compress(generation, gzip) => {
                let (format, suffix) = if *gzip {
                    (Format::Gzip, ".gz")
                } else {
                    (Format::Zstd, ".zst")
                };
                let name = format!("a.log.{generation}");
                if self.world.path(&name).exists() {
                    self.world.compress(&name, format, suffix);
                }
            }
            Step::Run => self.world.settle(),
            Step::Restart => {
                // A log of which nothing was ever read leaves no trace by which its rotations could be known.
                if self.world.streams.is_empty() {
                    self.world.settle();
                }
                self.world.stop();
                self.world.start();
            }
            Step::Close => self.world.source.as_mut().unwrap().close_all(),
            Step::Starve(steps) => {
                for _ in 0..*steps {
                    self.world.step();
                }
            }
        }
    }
}

/// Was something read of each content before it was truncated? What is copied before anybody looked leaves a copy that
/// nothing connects with the log.
fn is_followable(steps: &[Step]) -> bool {
    let (mut appended, mut seen) = (false, false);
    for step in steps {
        match step {
            Step::Append(_) => appended = true,
            Step::Run | Step::Restart => seen |= appended,
            Step::CopyTruncate if appended && !seen => return false,
            Step::Rotate | Step::CopyTruncate => (appended, seen) = (false, false),
            Step::Close | Step::Starve(_) | Step::Compress(..) => {}
        }
    }
    true
}

/// `unread_bytes_max`: how far behind a log is read in order.
fn exactly_once(steps: &[Step], unread_bytes_max: u64) {
    exactly_once_in(World::new(), steps, unread_bytes_max);
}

fn exactly_once_in(world: World, steps: &[Step], unread_bytes_max: u64) {
    let mut log = Log {
        world,
        next: 0,
        generations: 0,
        tick: None,
    };
    log.world.limits = RingLimits {
        slots: 4,
        bytes: 512 << 10,
    };
    log.world.unread_bytes_max = unread_bytes_max;
    log.world.write("a.log", "");
    log.world.start();
    for step in steps {
        log.apply(step);
    }
    log.world.settle();
    for _ in 0..10 {
        log.world.pass(Duration::from_secs(10));
    }
    let mut found = log.world.lines().concat();
    found.sort();
    let numbers: Vec<usize> = found.iter().map(|line| line[5..13].parse().unwrap()).collect();
    let expected: Vec<usize> = (0..log.next).collect();
    assert_eq!(numbers, expected, "{steps:?}\n{:#?}", log.world.status().files());
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn renames_lose_nothing_and_repeat_nothing(
        steps in proptest::collection::vec(step(), 1..40),
        unread_bytes_max in behind(),
    ) {
        let steps: Vec<Step> = steps.into_iter().filter(|step| !matches!(step, Step::CopyTruncate)).collect();
        exactly_once(&steps, unread_bytes_max);
    }

    #[test]
    fn all_generations_may_be_included(
        steps in proptest::collection::vec(step(), 1..40),
        unread_bytes_max in behind(),
    ) {
        let steps: Vec<Step> = steps.into_iter().filter(|step| !matches!(step, Step::CopyTruncate)).collect();
        exactly_once_in(World::with(|config| config.include[0].push('*')), &steps, unread_bytes_max);
    }

    #[test]
    fn copies_may_be_included(
        steps in proptest::collection::vec(prop_oneof![3 => step(), 2 => Just(Step::Run)], 1..40),
        unread_bytes_max in behind(),
    ) {
        if is_followable(&steps) {
            exactly_once_in(World::with(|config| config.include[0].push('*')), &steps, unread_bytes_max);
        }
    }

    #[test]
    fn copies_and_renames_that_are_seen_lose_nothing_and_repeat_nothing(
        steps in proptest::collection::vec(prop_oneof![3 => step(), 2 => Just(Step::Run)], 1..40),
        unread_bytes_max in behind(),
    ) {
        if is_followable(&steps) {
            exactly_once(&steps, unread_bytes_max);
        }
    }
}

#[test]
fn a_copy_is_found_after_a_restart() {
    exactly_once(
        &[
            Step::Append(1),
            Step::Restart,
            Step::Append(1),
            Step::CopyTruncate,
        ],
        UNREAD_BYTES_MAX,
    );
}

#[test]
fn an_empty_log_and_its_successor_are_compressed_before_anybody_looked() {
    exactly_once(
        &[
            Step::Rotate,
            Step::Run,
            Step::Append(1),
            Step::Rotate,
            Step::Compress(2, false),
            Step::Close,
            Step::Compress(1, false),
            Step::Rotate,
        ],
        100,
    );
}

#[test]
fn a_log_that_is_compressed_before_anybody_read_it_is_read_from_there() {
    let steps = [
        Step::Append(1),
        Step::Rotate,
        Step::Starve(1),
        Step::Compress(1, false),
    ];
    exactly_once(&steps, 100);
}

#[test]
fn a_log_that_is_read_on_its_descriptor_is_not_read_from_its_compressed_copy_too() {
    let steps = [
        Step::CopyTruncate,
        Step::Run,
        Step::Append(18),
        Step::Rotate,
        Step::Compress(1, false),
        Step::Append(25),
        Step::Run,
    ];
    exactly_once(&steps, 100);
}

#[test]
fn a_log_is_truncated_and_gone_before_its_included_copy_is_seen() {
    exactly_once_in(
        World::with(|config| config.include[0].push('*')),
        &[
            Step::Append(1),
            Step::Run,
            Step::CopyTruncate,
            Step::Rotate,
            Step::Compress(1, false),
        ],
        100,
    );
}

#[test]
fn what_was_truncated_and_renamed_unseen_is_found_after_a_restart() {
    let steps = [
        Step::Append(1),
        Step::Run,
        Step::CopyTruncate,
        Step::Run,
        Step::Append(1),
        Step::Rotate,
        Step::Restart,
        Step::Append(1),
    ];
    exactly_once(&steps, 100);
}

/// Its inode is the new log's when the agent comes back, and its archive is named after the log, not after the generation
/// that was included.
#[test]
fn a_generation_compressed_between_two_restarts_is_read_once() {
    let steps = [
        Step::Append(10),
        Step::Append(33),
        Step::Rotate,
        Step::Append(5),
        Step::Run,
        Step::Rotate,
        Step::Append(20),
        Step::Rotate,
        Step::Append(17),
        Step::Append(32),
        Step::Append(38),
        Step::Rotate,
        Step::Compress(1, true),
        Step::Append(13),
        Step::Restart,
        Step::Close,
        Step::Close,
        Step::Append(3),
        Step::Restart,
        Step::Compress(2, true),
        Step::Close,
        Step::Rotate,
        Step::Restart,
        Step::Append(29),
        Step::Rotate,
        Step::Append(28),
        Step::Run,
        Step::Rotate,
        Step::Rotate,
        Step::Append(4),
        Step::Rotate,
    ];
    exactly_once_in(
        World::with(|config| config.include[0].push('*')),
        &steps,
        UNREAD_BYTES_MAX,
    );
}

#[test]
fn a_copy_of_a_log_that_was_truncated_and_compressed_unseen_is_read_to_its_end() {
    let steps = [
        Step::Append(1),
        Step::Run,
        Step::Append(1),
        Step::Close,
        Step::CopyTruncate,
        Step::Rotate,
        Step::Rotate,
        Step::Compress(2, false),
        Step::Append(1),
        Step::Compress(1, false),
    ];
    exactly_once(&steps, 100);
}

#[test]
fn a_log_that_was_written_rotated_and_compressed_behind_a_truncation_is_read_once() {
    let steps = [
        Step::Append(39),
        Step::Run,
        Step::Close,
        Step::Append(23),
        Step::Run,
        Step::CopyTruncate,
        Step::Run,
        Step::CopyTruncate,
        Step::CopyTruncate,
        Step::Run,
        Step::Append(37),
        Step::Append(39),
        Step::Append(38),
        Step::Rotate,
        Step::Compress(1, false),
        Step::Run,
        Step::Run,
        Step::Append(2),
    ];
    exactly_once_in(
        World::with(|config| config.include[0].push('*')),
        &steps,
        UNREAD_BYTES_MAX,
    );
}

#[test]
fn what_is_written_behind_an_unseen_truncation_and_compressed_is_read_once() {
    let steps = [
        Step::Append(1),
        Step::Run,
        Step::CopyTruncate,
        Step::Append(1),
        Step::Rotate,
        Step::Compress(1, false),
    ];
    exactly_once(&steps, 100);
}

/// Seldom, and only where other directories are busy: the truncated log is missed by one listing, and its copy is a new
/// file meanwhile.
#[test]
fn a_copy_waits_for_the_log_that_a_listing_missed() {
    let steps = [
        Step::Append(2),
        Step::Run,
        Step::Rotate,
        Step::Run,
        Step::Append(25),
        Step::Run,
        Step::CopyTruncate,
        Step::CopyTruncate,
        Step::Rotate,
        Step::Compress(1, true),
        Step::Close,
        Step::Compress(2, false),
        Step::Rotate,
        Step::Rotate,
        Step::Run,
    ];
    exactly_once_in(World::with(|config| config.include[0].push('*')), &steps, 100);
}

#[test]
fn a_copy_of_what_an_earlier_process_read_is_not_taken_in_by_the_next_but_one() {
    let steps = [
        Step::Append(1),
        Step::Run,
        Step::CopyTruncate,
        Step::Rotate,
        Step::Rotate,
        Step::Compress(2, false),
        Step::Restart,
        Step::Append(1),
        Step::Run,
        Step::CopyTruncate,
        Step::Run,
        Step::Restart,
    ];
    exactly_once(&steps, 100);
}

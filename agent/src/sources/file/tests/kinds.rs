//! Many logs at once, of every kind: beginning alike, empty, of one byte, linked, deleted and made again, while the
//! source runs or is stopped. What was written and could be known arrives once.

use proptest::prelude::*;

use super::property::cases;
use super::*;

/// Logs of one run.
const LOGS: usize = 6;

#[derive(Debug, Clone)]
enum Step {
    /// So many lines.
    Append(usize, usize),
    /// A line without its end; what is appended next ends it.
    Byte(usize),
    Rotate(usize),
    /// Read to its end, then deleted, and made again at once: on many file systems with the same inode.
    Recreate(usize),
    /// The name is a link that is moved to a new file.
    Switch(usize),
    /// One more name that is included, too.
    Link(usize),
    Run,
    Restart,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let log = 0..LOGS;
    prop_oneof![
        8 => (log.clone(), 1usize..30).prop_map(|(log, lines)| Step::Append(log, lines)),
        1 => log.clone().prop_map(Step::Byte),
        3 => log.clone().prop_map(Step::Rotate),
        3 => log.clone().prop_map(Step::Recreate),
        2 => log.clone().prop_map(Step::Switch),
        1 => log.prop_map(Step::Link),
        4 => Just(Step::Run),
        1 => Just(Step::Restart),
        1 => Just(Step::Close),
    ]
}

struct Logs {
    world: World,
    next: usize,
    generations: usize,
    links: usize,
    /// Longer than a fingerprint, and the same in all.
    banner: String,
    tick: Option<i64>,
}

impl Logs {
    fn new() -> Self {
        let mut logs = Self {
            world: World::new(),
            next: 0,
            generations: 0,
            links: 0,
            banner: format!("{}\n", "=".repeat(1500)),
            tick: None,
        };
        for log in 0..LOGS {
            logs.begin(log);
        }
        logs.world.start();
        logs
    }

    /// Some begin with a banner, some with a byte, some with nothing.
    fn begin(&self, log: usize) {
        let content = match log % 3 {
            0 => self.banner.as_str(),
            1 => "-",
            _ => "",
        };
        self.world.write(&name(log), content);
    }

    /// What happens within one tick of the file system's clock has no order that could be seen later.
    fn wait_a_tick(&mut self) {
        self.world.write_younger("tick", "", self.tick);
        self.tick = self.world.birth_ns("tick");
        self.world.remove("tick");
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(log, lines) => {
                for _ in 0..*lines {
                    let line = format!("line {:08} {}\n", self.next, "x".repeat(self.next * 7 % 50));
                    self.world.append(&name(*log), line);
                    self.next += 1;
                }
            }
            Step::Byte(log) => self.world.append(&name(*log), "-"),
            Step::Rotate(log) => {
                self.wait_a_tick();
                self.generations += 1;
                self.world
                    .rename(&name(*log), &format!("{}.{}", name(*log), self.generations));
                self.begin(*log);
            }
            Step::Recreate(log) => {
                self.world.settle();
                self.wait_a_tick();
                self.world.remove(&name(*log));
                self.begin(*log);
            }
            Step::Switch(log) => {
                self.world.settle();
                self.wait_a_tick();
                self.generations += 1;
                let target = format!("target.{}", self.generations);
                self.world.write(&target, "");
                std::os::unix::fs::symlink(self.world.path(&target), self.world.path("link")).unwrap();
                self.world.rename("link", &name(*log));
            }
            Step::Link(log) => {
                self.links += 1;
                let link = self.world.path(&format!("link{}.log", self.links));
                // Of a symbolic link it is one more symbolic link.
                fs::hard_link(self.world.path(&name(*log)), link).unwrap();
            }
            Step::Run => self.world.settle(),
            Step::Restart => {
                self.world.settle();
                self.world.stop();
                self.world.start();
            }
            Step::Close => self.world.source.as_mut().unwrap().close_all(),
        }
    }
}

fn name(log: usize) -> String {
    format!("{log}.log")
}

fn exactly_once(steps: &[Step]) {
    let mut logs = Logs::new();
    for step in steps {
        logs.apply(step);
    }
    logs.world.settle();
    for _ in 0..3 {
        logs.world.pass(Duration::from_secs(10));
    }
    let rows = logs.world.lines().concat();
    let numbers = rows
        .iter()
        .filter_map(|row| row.split_once("line ")?.1.get(..8)?.parse::<usize>().ok());
    let mut found: Vec<usize> = numbers.collect();
    found.sort_unstable();
    assert_eq!(found.len(), logs.next, "{steps:?}");
    assert!(found.into_iter().eq(0..logs.next), "{steps:?}");
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn logs_of_every_kind_lose_nothing_and_repeat_nothing(steps in proptest::collection::vec(step(), 1..40)) {
        exactly_once(&steps);
    }
}

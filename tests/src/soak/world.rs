//! A stack, what was written to it, and the questions at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::row::{Outcome, Stop, Turn};
use crate::proxy::Proxy;
use crate::stack::Stack;
use crate::written::{Written, append};

/// How long everything may take to be stored once the faults are over. The longest pause of an agent is a minute.
const DRAIN_PATIENCE: Duration = Duration::from_secs(150);
/// When both ends say that nothing is left to do and still something is missing, it will not come; a scan of the
/// agent's directories (10 s) might still find something.
const QUIET_ENOUGH: Duration = Duration::from_secs(25);
const ASK_AGAIN: Duration = Duration::from_millis(40);
/// Of so many questions one is whether everything is quiet.
const QUIET_EVERY: u32 = 50;
/// The most memory that an agent may take, whatever happens.
const AGENT_BYTES_MAX: u64 = 64 << 20;
/// The oracle's question sorts all rows, which may be a million.
const COLLECTOR_CONFIG: &str = "[store]\nquery_memory = \"1 GiB\"\nquery_timeout = \"2m\"\n";
/// Of the programs' words in a failure.
const WORDS_MAX: usize = 4_000;

/// A stack and what was written to it.
pub struct World {
    /// The programs.
    pub stack: Stack,
    /// What was written.
    pub written: Written,
    /// Where the random decisions of this turn come from.
    pub random: StdRng,
    /// Between them, where there is one.
    pub proxy: Option<Proxy>,
    /// Rows that the store holds and no label wrote.
    pub other_rows: u64,
}

impl World {
    /// Neither program runs yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut stack = Stack::new(&[], &[]);
        let config = stack.dir().join("collector.toml");
        std::fs::write(&config, COLLECTOR_CONFIG).expect("a configuration can be written");
        stack.collector_arguments = vec!["--config".to_owned(), config.display().to_string()];
        Self {
            stack,
            written: Written::new(&format!("run{seed}")),
            random: StdRng::seed_from_u64(seed),
            proxy: None,
            other_rows: 0,
        }
    }

    /// Both run.
    #[must_use]
    pub fn started(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.stack.start();
        world
    }

    /// Both run, with a proxy between them.
    ///
    /// # Errors
    /// When no port is free.
    pub fn linked(seed: u64) -> Result<Self, Stop> {
        let mut world = Self::new(seed);
        world.stack.start_collector();
        let proxy = Proxy::start(world.stack.ingest_port())?;
        world.stack.agent_connects_to = Some(format!("localhost:{}", proxy.port));
        world.proxy = Some(proxy);
        world.stack.start_agent();
        Ok(world)
    }

    /// The proxy of a world that was [`World::linked`].
    ///
    /// # Panics
    /// In another world.
    #[must_use]
    pub fn link(&self) -> &Proxy {
        self.proxy.as_ref().expect("this world has a proxy")
    }

    /// Appends lines to the log of this name; the name is their label.
    pub fn append(&mut self, name: &str, count: u64) {
        let path = self.stack.log_file(name);
        self.written.append(&path, name, count);
    }

    /// A random time below this.
    pub fn random_time(&mut self, below: Duration) -> Duration {
        below.mul_f64(self.random.random())
    }

    /// Sleeps for a random time below this: the moment of a fault, not a wait for something.
    pub fn sleep_below(&mut self, below: Duration) {
        std::thread::sleep(self.random_time(below));
    }

    /// Everything that was written is stored (not yet compared).
    ///
    /// # Errors
    /// It is not in time.
    pub fn drained(&mut self) -> Outcome {
        let begun = Instant::now();
        let expected = self.written.rows();
        let mut quiet_since = None;
        for round in 1u32.. {
            let seen = self.written.rows_stored(&self.stack);
            if matches!(seen, Ok(rows) if rows >= expected) {
                return Ok(());
            }
            if !round.is_multiple_of(QUIET_EVERY) {
                // Not asked each time: it costs a process.
            } else if self.is_quiet() {
                quiet_since.get_or_insert_with(Instant::now);
            } else {
                quiet_since = None;
            }
            let given_up = quiet_since.is_some_and(|since| since.elapsed() > QUIET_ENOUGH);
            if given_up || begun.elapsed() > DRAIN_PATIENCE {
                let found = self.written.compare(&self.stack, self.other_rows);
                return Err(Stop::Failed(format!(
                    "{expected} rows are not stored after {:?}; stored: {seen:?}; {found:?}; {}",
                    begun.elapsed(),
                    self.words()
                )));
            }
            std::thread::sleep(ASK_AGAIN);
        }
        unreachable!("it is given up long before the rounds run out")
    }

    fn is_quiet(&self) -> bool {
        let agent = self.stack.agent_status();
        let idle = agent.is_ok_and(|status| {
            status["files"]["behind_bytes"] == 0
                && status["accounts"]["positions"]["in_flight"] == 0
                && status["connection"]["state"] == "connected"
        });
        idle && self
            .stack
            .get("/api/v1/ledger?limit=1")
            .is_ok_and(|ledger| behind(&ledger) == 0)
    }

    /// Heals nothing: waits until everything is stored, and asks all questions.
    ///
    /// # Errors
    /// Whatever is not as it must be.
    pub fn settle(&mut self, turn: &mut Turn) -> Outcome {
        let drained = self.drained();
        let difference = self.written.compare(&self.stack, self.other_rows)?;
        turn.lost += difference.lost;
        turn.duplicated += difference.duplicated;
        turn.unexplained += difference.unexplained;
        drained?;
        if !difference.is_none() {
            return Err(Stop::Failed(format!("{difference:?}; {}", self.words())));
        }
        let explained = self.explained();
        turn.unexplained += u64::from(explained.is_err());
        explained?;
        self.memory(turn)
    }

    /// The ledger knows everything, and both ends' accounts balance.
    fn explained(&self) -> Outcome {
        let begun = Instant::now();
        loop {
            match self.unexplained() {
                None => return Ok(()),
                Some(why) if begun.elapsed() > QUIET_ENOUGH => {
                    return Err(Stop::Failed(format!("{why}; {}", self.words())));
                }
                Some(_) => std::thread::sleep(ASK_AGAIN),
            }
        }
    }

    /// What both ends still owe an explanation for.
    fn unexplained(&self) -> Option<String> {
        let ledger = match self.stack.get("/api/v1/ledger?limit=10") {
            Ok(ledger) => ledger,
            Err(error) => return Some(error),
        };
        if behind(&ledger) > 0 || ledger["positions"]["lost"] != 0 {
            return Some(format!("the ledger says {}", ledger["positions"]));
        }
        let health = match self.stack.get("/health") {
            Ok(health) => health,
            Err(error) => return Some(error),
        };
        let sinks = health["sinks"].as_array().cloned().unwrap_or_default();
        if sinks.is_empty() || sinks.iter().any(|sink| sink["residual"] != 0) {
            return Some(format!("the sinks' accounts: {}", health["sinks"]));
        }
        match self.stack.agent_status() {
            Ok(status) if status["residual_positions"] == 0 => None,
            Ok(status) => Some(format!(
                "the agent's accounts: {}, residual {}",
                status["accounts"], status["residual_positions"]
            )),
            Err(error) => Some(error),
        }
    }

    fn memory(&self, turn: &mut Turn) -> Outcome {
        let peak = self.stack.agent_peak_bytes();
        turn.agent_peak_bytes = turn.agent_peak_bytes.max(peak);
        if peak > AGENT_BYTES_MAX {
            return Err(Stop::Failed(format!("the agent took {peak} bytes of memory")));
        }
        Ok(())
    }

    /// What the programs said last, and a copy of it all, where everything else of this world goes away with it.
    fn words(&self) -> String {
        let said = self.stack.said();
        let start = said.ceil_char_boundary(said.len().saturating_sub(WORDS_MAX));
        said[start..].to_owned()
    }

    /// Begins to write to these logs until it is stopped.
    pub fn write_in_background(&mut self, names: &[&str], pace: Pace) -> Writer {
        let paths: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), self.stack.log_file(name)))
            .collect();
        let lines = self.written.another();
        let random = StdRng::seed_from_u64(self.random.random());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || write_until(&told, lines, &paths, random, pace));
        Writer { stop, thread }
    }

    /// Ends it; its lines count as written.
    ///
    /// # Panics
    /// When it could not write.
    pub fn stop_writing(&mut self, writer: Writer) {
        writer.stop.store(true, Ordering::Release);
        self.written
            .absorb(writer.thread.join().expect("the writer does not fail"));
    }
}

fn behind(ledger: &Value) -> u64 {
    ["durable", "pending", "unknown"]
        .iter()
        .map(|state| ledger["positions"][state].as_u64().unwrap_or(u64::MAX / 8))
        .sum()
}

/// How a writer writes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Lines in one write, at most.
    pub lines_max: u64,
    /// Between two writes, at most.
    pub pause_max: Duration,
}

/// Writes in the background.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

fn write_until(
    stop: &AtomicBool,
    mut lines: Written,
    paths: &[(String, PathBuf)],
    mut random: StdRng,
    pace: Pace,
) -> Written {
    while !stop.load(Ordering::Acquire) {
        let (label, path) = &paths[random.random_range(0..paths.len())];
        let text = lines.next_lines(label, random.random_range(1..=pace.lines_max));
        // Now and then in two writes, so that a line is there only in part for a while.
        let cut = random.random_range(0..text.len());
        if random.random_ratio(1, 4) {
            append(path, &text.as_bytes()[..cut]);
            append(path, &text.as_bytes()[cut..]);
        } else {
            append(path, text.as_bytes());
        }
        std::thread::sleep(pace.pause_max.mul_f64(random.random()));
    }
    lines
}

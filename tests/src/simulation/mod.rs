//! The real agent and the real collector in one process, with everything around them simulated from one seed.
//!
//! ```text
//! files ─> ring ─> batcher ─> encoder ─> session ~~~link~~~> session ─> commit log ─> sink
//!                  checkpoint <── acks <──┘                              (fsync)
//! ```
//!
//! | file | idea |
//! | --- | --- |
//! | `agent` | ring, batcher, encoder, session and checkpoints of the agent, on a disk that fails; files to read |
//! | `collector` | Hello, session, validation and commit log of the collector, on another such disk |
//! | `store` | what a sink keeps: rows, applied ranges and cursor, changed together |
//! | `faults`, `healing` | what goes wrong; and that it all comes right |
//! | `trace` | what happened, as a number that two runs of one seed must share |
//!
//! Simulated: time, both disks (what was not synced is lost in a power cut, in part), the link (it delays and it
//! breaks, and takes what is on it), the moment of every step. Not in it: the file source and the real store, which
//! have simulations of their own, and the threads and sockets of both shells.
//!
//! # What is checked
//!
//! - Whatever the agent was told is durable is in the log or in the store after every crash of the collector.
//! - The checkpoint never says more than that, and finds the content that it remembers.
//! - No session breaks a rule of the protocol; nothing is rejected.
//! - In the end every byte of every file is in the store exactly once, acked, and both accounts balance.

mod agent;
mod collector;
mod faults;
mod healing;
mod store;
mod trace;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::clock::{Clock, ManualClock};
use edgelogger_common::disk::FaultDisk;
use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use agent::{Agent, Told};
use collector::Collector;
use store::Store;
pub use trace::Trace;

/// Steps of disorder.
const STEPS: u32 = 600;
const FILES_MAX: usize = 4;

/// What went wrong, and what led to it.
pub type Failure = String;

/// A file on the agent's machine. It lives through every crash.
#[derive(Debug, Default)]
pub(crate) struct LogFile {
    content: Vec<u8>,
}

/// Messages in one direction, each with the time at which it arrives.
#[derive(Debug, Default)]
pub(crate) struct Pipe(VecDeque<(Duration, Bytes)>);

struct Simulation {
    random: StdRng,
    clock: Arc<ManualClock>,
    files: Vec<LogFile>,
    agent_disk: FaultDisk,
    collector_disk: FaultDisk,
    agent: Option<Agent>,
    collector: Option<Collector>,
    store: Store,
    /// What the agent was told is durable.
    promised: BTreeMap<StreamId, RangeSet>,
    connected: bool,
    up: Pipe,
    down: Pipe,
    stream_count: u64,
    disk_lies: bool,
    trace: Trace,
}

/// Runs one seed.
///
/// # Errors
/// What is wrong, with the last steps before it.
pub fn simulate(seed: u64) -> Result<Trace, Failure> {
    simulate_with(seed, false)
}

/// The control: the collector's disk says that it synced, and did not. Some seeds must fail.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_on_a_disk_that_lies(seed: u64) -> Result<Trace, Failure> {
    simulate_with(seed, true)
}

fn simulate_with(seed: u64, disk_lies: bool) -> Result<Trace, Failure> {
    let mut simulation = Simulation::new(seed);
    simulation.disk_lies = disk_lies;
    simulation.repair_disks()?;
    let ended = simulation.run();
    match ended {
        Ok(()) => Ok(simulation.trace),
        Err(why) => Err(format!("seed {seed}: {why}\n{}", simulation.trace.last_steps())),
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            clock: Arc::new(ManualClock::at(1_700_000_000_000_000_000)),
            files: Vec::new(),
            agent_disk: FaultDisk::new(seed ^ 1),
            collector_disk: FaultDisk::new(seed ^ 2),
            agent: None,
            collector: None,
            store: Store::default(),
            promised: BTreeMap::new(),
            connected: false,
            up: Pipe::default(),
            down: Pipe::default(),
            stream_count: 0,
            disk_lies: false,
            trace: Trace::default(),
        }
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn run(&mut self) -> Result<(), Failure> {
        for _ in 0..STEPS {
            self.random_step()?;
            self.bury_the_dead()?;
        }
        self.trace.step("heal", 0, 0);
        self.heal()?;
        self.everything_is_as_it_was_written()
    }

    fn random_step(&mut self) -> Result<(), Failure> {
        let most = if self.random.random_ratio(1, 50) {
            20_000
        } else {
            60
        };
        let time = Duration::from_millis(self.random.random_range(0..most));
        self.pass(time);
        match self.random.random_range(0..1_000) {
            0..150 => self.write_lines(),
            150..350 => self.agent_works(),
            350..500 => self.deliver_up(),
            500..620 => self.deliver_down(),
            620..760 => self.collector_works(),
            760..880 => self.commit(),
            880..910 => self.checkpoint(),
            910..960 => self.sink_applies(),
            960..966 => self.store_flushes(),
            966..976 => self.cut_link(),
            976..982 => self.crash_agent(),
            982..988 => self.crash_collector(),
            988..994 => self.break_a_disk(),
            _ => self.repair_disks(),
        }
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn write_lines(&mut self) -> Result<(), Failure> {
        if self.files.is_empty() || (self.files.len() < FILES_MAX && self.random.random_ratio(1, 10)) {
            self.files.push(LogFile::default());
        }
        let index = self.random.random_range(0..self.files.len());
        for _ in 0..self.random.random_range(1..30) {
            let len = self.random.random_range(0..120usize);
            let content = &mut self.files[index].content;
            let line = format!("{index} {} {}\n", content.len(), "x".repeat(len));
            content.extend_from_slice(line.as_bytes());
        }
        self.trace
            .step("write", index as u64, self.files[index].content.len() as u64);
        Ok(())
    }

    fn agent_works(&mut self) -> Result<(), Failure> {
        let now = self.now();
        if self.agent.is_none() {
            return self.start_agent();
        }
        let Some(agent) = &mut self.agent else {
            return Ok(());
        };
        if !self.connected && agent.wants_to_connect(now) && self.collector.is_some() {
            self.connected = true;
            (self.up, self.down) = (Pipe::default(), Pipe::default());
            if let Some(collector) = &mut self.collector {
                collector.hang_up();
            }
            let told = agent.connect(self.clock.wall_ns());
            self.agent_told(told)?;
        }
        let Some(agent) = &mut self.agent else {
            return Ok(());
        };
        let told = agent.work(&self.files, now, &mut self.random, &mut self.stream_count);
        self.agent_told(told)
    }

    fn start_agent(&mut self) -> Result<(), Failure> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        match Agent::start(&self.agent_disk, clock, &self.files) {
            Ok(agent) => {
                for (stream_id, acked) in agent.acked() {
                    let promised = self.promised.get(&stream_id);
                    if !acked
                        .iter()
                        .all(|range| promised.is_some_and(|known| known.covers(range)))
                    {
                        return Err(format!(
                            "the checkpoint of {stream_id} says more than was promised: {acked:?}"
                        ));
                    }
                }
                self.agent = Some(agent);
                self.trace.step("agent starts", 0, 0);
                Ok(())
            }
            Err(agent::CannotStart::Disk) => {
                self.trace.step("agent can't start", 0, 0);
                Ok(())
            }
            Err(agent::CannotStart::Wrong(why)) => Err(why),
        }
    }

    /// Carries out what the agent's session says.
    fn agent_told(&mut self, told: Vec<Told>) -> Result<(), Failure> {
        for told in told {
            match told {
                Told::Send(bytes) => {
                    self.trace.step("up", bytes.len() as u64, 0);
                    let due = self.now() + self.latency();
                    self.up.0.push_back((due, bytes));
                }
                Told::Acked(block) => {
                    self.trace.step("acked", block.start, block.end);
                    let _ = self
                        .promised
                        .entry(block.stream_id)
                        .or_default()
                        .insert(block.start..block.end);
                }
                Told::HungUp => {
                    self.trace.step("agent hangs up", 0, 0);
                    self.hang_up();
                }
                Told::Wrong(why) => return Err(why),
            }
        }
        Ok(())
    }

    fn latency(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(0..200))
    }

    fn deliver_up(&mut self) -> Result<(), Failure> {
        let Some(bytes) = self.arrived(true) else {
            return Ok(());
        };
        let (wall_ns, Some(collector)) = (self.clock.wall_ns(), &mut self.collector) else {
            return Ok(());
        };
        let answers = collector.receive(bytes, wall_ns)?;
        self.collector_sends(answers);
        Ok(())
    }

    fn deliver_down(&mut self) -> Result<(), Failure> {
        let Some(bytes) = self.arrived(false) else {
            return Ok(());
        };
        let (now, Some(agent)) = (self.now(), &mut self.agent) else {
            return Ok(());
        };
        let told = agent.receive(bytes, now, &mut self.random);
        self.agent_told(told)
    }

    /// Order is kept: nothing overtakes.
    fn arrived(&mut self, is_up: bool) -> Option<Bytes> {
        let now = self.now();
        let pipe = if is_up { &mut self.up } else { &mut self.down };
        let is_due = pipe.0.front().is_some_and(|(due, _)| *due <= now);
        is_due
            .then(|| pipe.0.pop_front().map(|(_, bytes)| bytes))
            .flatten()
    }

    fn collector_sends(&mut self, answers: Vec<Bytes>) {
        for bytes in answers {
            self.trace.step("down", bytes.len() as u64, 0);
            let due = self.now() + self.latency();
            self.down.0.push_back((due, bytes));
        }
    }

    fn collector_works(&mut self) -> Result<(), Failure> {
        if self.collector.is_none() {
            return self.start_collector();
        }
        let Some(collector) = &mut self.collector else {
            return Ok(());
        };
        let answers = collector.validate_one()?;
        self.collector_sends(answers);
        Ok(())
    }

    fn start_collector(&mut self) -> Result<(), Failure> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let Some(collector) = Collector::start(&self.collector_disk, &clock, self.store.cursor()) else {
            self.trace.step("collector can't start", 0, 0);
            return Ok(());
        };
        self.trace.step("collector starts", collector.next_sequence(), 0);
        let mut all = self.store.clone();
        all.apply_all(&collector, &self.files)?;
        for (stream_id, promised) in &self.promised {
            if let Some(range) = promised.iter().find(|range| !all.has(*stream_id, range)) {
                return Err(format!("{range:?} of {stream_id} was acknowledged, and is gone"));
            }
        }
        self.collector = Some(collector);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let Some(collector) = &mut self.collector else {
            return Ok(());
        };
        let before = collector.next_sequence();
        let answers = collector.commit()?;
        if collector.next_sequence() != before {
            self.trace.step("commit", collector.next_sequence(), 0);
        }
        self.collector_sends(answers);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Failure> {
        let Some(agent) = &self.agent else { return Ok(()) };
        let written = agent.checkpoint();
        self.trace.step("checkpoint", u64::from(written), 0);
        Ok(())
    }

    fn sink_applies(&mut self) -> Result<(), Failure> {
        let Some(collector) = &self.collector else {
            return Ok(());
        };
        let most = self.random.random_range(1..20);
        let before = self.store.cursor_now();
        self.store.apply(collector, &self.files, most)?;
        if self.store.cursor_now() != before {
            self.trace
                .step("apply", self.store.cursor_now(), self.store.bytes());
        }
        Ok(())
    }

    /// Rows, ranges and cursor become durable together, and the log may drop what is below.
    fn store_flushes(&mut self) -> Result<(), Failure> {
        let Some(collector) = &mut self.collector else {
            return Ok(());
        };
        self.store.flush();
        collector.drop_before(self.store.cursor());
        self.trace.step("flush", self.store.cursor(), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_seeds_lose_nothing_and_repeat_nothing() {
        let first: u64 = std::env::var("EDGELOGGER_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        for seed in first..first + 1_000 {
            simulate(seed).unwrap();
        }
    }

    #[test]
    fn a_checkpoint_file_whose_renaming_was_not_synced_keeps_its_streams_in_a_power_cut() {
        simulate(761_449_677_684).unwrap();
    }

    #[test]
    fn a_disk_that_lies_about_syncs_is_found_out() {
        let found = (0..100)
            .filter_map(|seed| simulate_on_a_disk_that_lies(seed).err())
            .filter(|why| why.contains("was acknowledged, and is gone"));
        assert!(found.count() > 10, "or the simulation proves nothing");
    }

    #[test]
    fn one_seed_twice_is_one_trace() {
        for seed in 0..30 {
            assert_eq!(simulate(seed).unwrap(), simulate(seed).unwrap(), "seed {seed}");
        }
    }
}

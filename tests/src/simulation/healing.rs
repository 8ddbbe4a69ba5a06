//! Everything works again, and in the end everything is as it was written.

use std::time::Duration;

use super::agent::Agent;
use super::{Failure, Simulation};

/// Rounds of order until everything must have arrived; each is 200 ms, so that the longest pause (a minute) passes.
const ROUNDS_MAX: u32 = 3_000;
const ROUND: Duration = Duration::from_millis(200);

impl Simulation {
    /// Everything works again, in turn, until everything has arrived.
    pub(super) fn heal(&mut self) -> Result<(), Failure> {
        self.repair_disks()?;
        for _ in 0..ROUNDS_MAX {
            self.pass(ROUND);
            self.agent_works()?;
            while self.up.0.front().is_some_and(|(due, _)| *due <= self.now()) {
                self.deliver_up()?;
            }
            for _ in 0..8 {
                self.collector_works()?;
            }
            self.commit()?;
            while self.down.0.front().is_some_and(|(due, _)| *due <= self.now()) {
                self.deliver_down()?;
            }
            self.sink_applies()?;
            self.bury_the_dead()?;
            if self.is_through() {
                return Ok(());
            }
        }
        Err(format!("not everything arrived: {}", self.state()))
    }

    /// Nothing is missing. What is there twice is found afterwards, and named.
    fn is_through(&self) -> bool {
        let acked = self
            .agent
            .as_ref()
            .is_some_and(|agent| agent.is_drained(&self.files));
        acked
            && self.store.bytes()
                >= self
                    .files
                    .iter()
                    .map(|file| file.content.len() as u64)
                    .sum::<u64>()
    }

    fn state(&self) -> String {
        let files: Vec<usize> = self.files.iter().map(|file| file.content.len()).collect();
        let agent = self.agent.as_ref().map(Agent::state);
        format!(
            "files {files:?}, stored {} bytes, agent {agent:?}",
            self.store.bytes()
        )
    }

    pub(super) fn everything_is_as_it_was_written(&self) -> Result<(), Failure> {
        self.store.equals(&self.files)?;
        let residual = self.agent.as_ref().map_or(0, Agent::residual);
        if residual != 0 {
            return Err(format!("the agent's account has a residual of {residual}"));
        }
        Ok(())
    }
}

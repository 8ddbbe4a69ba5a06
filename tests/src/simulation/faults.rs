//! What goes wrong: crashes, power cuts, disks that fail, a link that breaks.

use edgelogger_common::disk::{Effect, Fault, FaultDisk, Operation, Survivors};
use rand::Rng;
use rand::rngs::StdRng;
use rustix::io::Errno;

use super::{Failure, Pipe, Simulation};

impl Simulation {
    pub(super) fn cut_link(&mut self) -> Result<(), Failure> {
        self.trace.step("link breaks", 0, 0);
        self.hang_up();
        Ok(())
    }

    /// Both sides learn it; what is on the way is gone.
    pub(super) fn hang_up(&mut self) {
        self.connected = false;
        (self.up, self.down) = (Pipe::default(), Pipe::default());
        let now = self.now();
        if let Some(agent) = &mut self.agent {
            agent.hung_up(now, &mut self.random);
        }
        if let Some(collector) = &mut self.collector {
            collector.hang_up();
        }
    }

    pub(super) fn crash_agent(&mut self) -> Result<(), Failure> {
        take_down(&self.agent_disk, &mut self.random);
        Ok(())
    }

    pub(super) fn crash_collector(&mut self) -> Result<(), Failure> {
        take_down(&self.collector_disk, &mut self.random);
        Ok(())
    }

    pub(super) fn break_a_disk(&mut self) -> Result<(), Failure> {
        let operation = [
            Operation::AnyChange,
            Operation::Write,
            Operation::Sync,
            Operation::Rename,
            Operation::SyncDir,
            Operation::Create,
        ][self.random.random_range(0..6)];
        let effect = match self.random.random_range(0..6) {
            0 => Effect::Error(Errno::IO),
            1 => Effect::Error(Errno::NOSPC),
            2 => Effect::PartThenError(Errno::NOSPC),
            3 => Effect::Kill,
            4 => Effect::PowerCut(Survivors::Some),
            _ => Effect::PowerCut(Survivors::Nothing),
        };
        let nth = self.random.random_range(1..12);
        let fault = if self.random.random_ratio(1, 4) {
            Fault::from(operation, nth, effect)
        } else {
            Fault::once(operation, nth, effect)
        };
        let is_agent = self.random.random_ratio(1, 3);
        self.trace.step("fault", u64::from(is_agent), nth);
        let disk = if is_agent {
            &self.agent_disk
        } else {
            &self.collector_disk
        };
        disk.install(fault);
        Ok(())
    }

    pub(super) fn repair_disks(&mut self) -> Result<(), Failure> {
        self.agent_disk.clear_faults();
        self.collector_disk.clear_faults();
        if self.disk_lies {
            self.collector_disk
                .install(Fault::from(Operation::Sync, 1, Effect::Lie));
        }
        Ok(())
    }

    /// A program whose disk is down has died with it, or was killed in the middle of an operation.
    pub(super) fn bury_the_dead(&mut self) -> Result<(), Failure> {
        if self.agent_disk.is_down() {
            self.trace.step("agent dies", 0, 0);
            self.agent = None;
            self.agent_disk.restart();
            self.hang_up();
        }
        if self.collector_disk.is_down() {
            self.trace.step("collector dies", 0, 0);
            self.collector = None;
            self.collector_disk.restart();
            self.store.crash();
            self.hang_up();
        }
        Ok(())
    }
}

fn take_down(disk: &FaultDisk, random: &mut StdRng) {
    match random.random_range(0..3) {
        0 => disk.kill(),
        1 => disk.cut_power(Survivors::Some),
        _ => disk.cut_power(Survivors::Nothing),
    }
}

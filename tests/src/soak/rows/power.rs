//! Rows 4 and 5: the power goes. The disk under a program is an image; the program is stopped, the image is copied, and the
//! program goes on with the copy, which holds what was synced and whatever else happened to be written.

use std::time::Duration;

use rand::Rng;

use crate::soak::row::{Outcome, Row, Turn, ensure};
use crate::soak::tools::{Mounted, Shim, Sync};
use crate::soak::world::{Pace, World};

/// Row 5.
pub const CUT: Row = Row {
    number: 5,
    fault: "power loss: image copied under the stopped program; with a control",
    quick: 50,
    test: 4,
    turn: 25,
    worlds: 1,
    run,
};

/// Row 4.
pub const BOTH: Row = Row {
    number: 4,
    fault: "both killed; power loss of both disks at once",
    quick: 30,
    test: 3,
    turn: 15,
    worlds: 1,
    run: both,
};

const PACE: Pace = Pace {
    lines_max: 800,
    pause_max: Duration::from_millis(40),
};

/// Power cuts of one program after the other in one world, after the control has shown that they would find a loss.
fn run(turn: &mut Turn) -> Outcome {
    control(turn)?;
    let mut world = World::new(turn.seed);
    let disks = Disks::new(&world)?;
    world.stack.start();
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    while turn.done < turn.runs {
        let below = if world.random.random() { 150 } else { 1_200 };
        world.sleep_below(Duration::from_millis(below));
        // The agent's checkpoint is seldom written: the collector's disk is the one that promises something.
        if world.random.random_ratio(3, 4) {
            disks.cut_collector(&mut world)?;
        } else {
            disks.cut_agent(&mut world)?;
        }
        turn.done += 1;
    }
    world.stop_writing(writer);
    let settled = world.settle(turn);
    world.stack.kill_agent();
    world.stack.kill_collector();
    settled
}

/// Both programs end at once, killed or with the power of their disks.
fn both(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    let disks = Disks::new(&world)?;
    world.stack.start();
    let writer = world.write_in_background(&["a.log", "b.log", "c.log"], PACE);
    while turn.done < turn.runs {
        let below = if world.random.random_ratio(1, 3) {
            100
        } else {
            1_500
        };
        world.sleep_below(Duration::from_millis(below));
        if world.random.random() {
            disks.cut_both(&mut world)?;
        } else {
            world.stack.kill_agent();
            world.stack.kill_collector();
            world.stack.start();
        }
        turn.done += 1;
    }
    world.stop_writing(writer);
    let settled = world.settle(turn);
    world.stack.kill_agent();
    world.stack.kill_collector();
    settled
}

/// The folders of both programs, each on a disk of its own.
struct Disks {
    collector: Mounted,
    agent: Mounted,
}

impl Disks {
    fn new(world: &World) -> Result<Self, crate::soak::row::Stop> {
        Ok(Self {
            collector: Mounted::ext4(&world.stack.data_dir())?,
            agent: Mounted::ext4(&world.stack.state_dir())?,
        })
    }

    fn cut_collector(&self, world: &mut World) -> Outcome {
        if let Some(collector) = &world.stack.collector {
            collector.signal("STOP");
        }
        self.collector.snapshot()?;
        world.stack.kill_collector();
        self.collector.restore()?;
        world.stack.start_collector();
        Ok(())
    }

    /// The collector first: whatever the agent knows to be acked by then stands on the collector's disk.
    fn cut_both(&self, world: &mut World) -> Outcome {
        for program in [&world.stack.collector, &world.stack.agent].into_iter().flatten() {
            program.signal("STOP");
        }
        self.collector.snapshot()?;
        self.agent.snapshot()?;
        world.stack.kill_agent();
        world.stack.kill_collector();
        self.collector.restore()?;
        self.agent.restore()?;
        world.stack.start();
        Ok(())
    }

    fn cut_agent(&self, world: &mut World) -> Outcome {
        if let Some(agent) = &world.stack.agent {
            agent.signal("STOP");
        }
        self.agent.snapshot()?;
        world.stack.kill_agent();
        self.agent.restore()?;
        world.stack.start_agent();
        Ok(())
    }
}

/// A collector whose syncs do nothing acknowledges what a power cut takes away. If that loses nothing, a power cut
/// here is none, and the row proves nothing.
fn control(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed ^ 0xC0_47_20_1D);
    let disks = Disks::new(&world)?;
    let shim = Shim::new(world.stack.dir(), "shim")?;
    world.stack.collector_launch = shim.launch();
    // First in order, so that what it needs to start is there.
    world.stack.start();
    world.append("a.log", 100);
    world.drained()?;
    shim.sync(Sync::DoesNothing);
    world.append("a.log", 1_000);
    world.drained()?;
    ensure(shim.syncs() > 0, || {
        "the shim was not asked to sync: it is not in force".to_owned()
    })?;
    shim.sync(Sync::Works);
    disks.cut_collector(&mut world)?;
    // Only the collector forgot: the agent has its acks and does not send again.
    let kept = world.written.rows_stored(&world.stack)?;
    world.stack.kill_agent();
    world.stack.kill_collector();
    ensure(kept < world.written.rows(), || {
        "the control, which acknowledges before it syncs, lost nothing: these power cuts prove nothing"
            .to_owned()
    })?;
    turn.note("the control lost data, as it must");
    Ok(())
}

//! Rows 8 to 11: disks that are full, read-only, broken or slow.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rand::Rng;

use crate::soak::row::{Outcome, Row, Stop, Turn, ensure};
use crate::soak::tools::{Mounted, Shim, Sync};
use crate::soak::world::{Pace, World};
use crate::wait_for;

/// Row 8.
pub const FULL: Row = Row {
    number: 8,
    fault: "disk full under the collector or the agent",
    quick: 20,
    test: 2,
    turn: 10,
    worlds: 1,
    run: full,
};

/// Row 9.
pub const READ_ONLY: Row = Row {
    number: 9,
    fault: "the file system turns read-only",
    quick: 5,
    test: 1,
    turn: 5,
    worlds: 1,
    run: read_only,
};

/// Row 10.
pub const SYNC_FAILS: Row = Row {
    number: 10,
    fault: "fsync fails with EIO, once and for ever",
    quick: 20,
    test: 2,
    turn: 10,
    worlds: 1,
    run: sync_fails,
};

/// Row 11.
pub const SLOW: Row = Row {
    number: 11,
    fault: "slow fsync, slow read",
    quick: 5,
    test: 1,
    turn: 5,
    worlds: 1,
    run: slow,
};

const PACE: Pace = Pace {
    lines_max: 400,
    pause_max: Duration::from_millis(60),
};

/// Which program's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Collector,
    Agent,
}

impl Whose {
    fn random(world: &mut World) -> Self {
        if world.random.random_ratio(2, 3) {
            Self::Collector
        } else {
            Self::Agent
        }
    }
}

fn full(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    // The collector keeps half of its store's memory free, and refuses before the last byte is gone.
    let collector = Mounted::tmpfs(&world.stack.data_dir(), "72m")?;
    let agent = Mounted::tmpfs(&world.stack.state_dir(), "1m")?;
    world.stack.start();
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    while turn.done < turn.runs {
        let disk = match Whose::random(&mut world) {
            Whose::Collector => &collector.path,
            Whose::Agent => &agent.path,
        };
        world.sleep_below(Duration::from_secs(1));
        let ballast = disk.join("ballast");
        fill(&ballast)?;
        // Streams that begin now need room, too.
        world.append(&format!("new{}.log", turn.done), 50);
        world.sleep_below(Duration::from_secs(3));
        if world.random.random_ratio(1, 3) {
            world.stack.kill_agent();
            world.stack.start_agent();
        }
        world.sleep_below(Duration::from_secs(1));
        fs::remove_file(&ballast)?;
        turn.done += 1;
    }
    world.stop_writing(writer);
    let settled = world.settle(turn);
    world.stack.kill_agent();
    world.stack.kill_collector();
    settled
}

fn fill(path: &Path) -> Outcome {
    let mut file = fs::File::create(path)?;
    let block = vec![0u8; 64 << 10];
    let mut size = block.len();
    // To the last byte: smaller and smaller pieces.
    while size > 0 {
        match file.write(&block[..size]) {
            Ok(len) if len > 0 => {}
            _ => size /= 2,
        }
    }
    Ok(())
}

fn read_only(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    let collector = Mounted::ext4(&world.stack.data_dir())?;
    let agent = Mounted::ext4(&world.stack.state_dir())?;
    world.stack.start();
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    while turn.done < turn.runs {
        world.sleep_below(Duration::from_secs(2));
        let whose = Whose::random(&mut world);
        let disk = match whose {
            Whose::Collector => &collector,
            Whose::Agent => &agent,
        };
        disk.break_it()?;
        world.append(&format!("new{}.log", turn.done), 50);
        if whose == Whose::Collector {
            wait_for("health says that the disk is broken", || degraded(&world));
        }
        world.sleep_below(Duration::from_secs(2));
        match whose {
            Whose::Collector => world.stack.kill_collector(),
            Whose::Agent => world.stack.kill_agent(),
        }
        disk.repair()?;
        match whose {
            Whose::Collector => world.stack.start_collector(),
            Whose::Agent => world.stack.start_agent(),
        }
        turn.done += 1;
    }
    world.stop_writing(writer);
    let settled = world.settle(turn);
    world.stack.kill_agent();
    world.stack.kill_collector();
    settled
}

/// The collector says that something is wrong.
fn degraded(world: &World) -> Result<(), String> {
    match world.stack.get("/health") {
        Ok(health) if health["verdict"] == "ok" => Err(health.to_string()),
        // Down is answered with an error of HTTP.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn shimmed(world: &mut World) -> Result<[Shim; 2], Stop> {
    let collector = Shim::new(world.stack.dir(), "collector")?;
    let agent = Shim::new(world.stack.dir(), "agent")?;
    world.stack.collector_launch = collector.launch();
    world.stack.agent_launch = agent.launch();
    Ok([collector, agent])
}

fn sync_fails(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    let [collector, agent] = shimmed(&mut world)?;
    world.stack.start();
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    while turn.done < turn.runs {
        world.sleep_below(Duration::from_millis(500));
        let whose = Whose::random(&mut world);
        let shim = match whose {
            Whose::Collector => &collector,
            Whose::Agent => &agent,
        };
        let (before, failed) = (world.random.random_range(0..20), shim.failed());
        let once = world.random.random();
        shim.sync(if once {
            Sync::FailsOnce(before)
        } else {
            Sync::Fails(before)
        });
        // The agent syncs seldom, but always for a new stream.
        let mut new = 0;
        wait_for("a sync fails", || {
            new += 1;
            world.append(&format!("new{}x{new}.log", turn.done), 5);
            if shim.failed() > failed {
                Ok(())
            } else {
                Err(format!("{} syncs", shim.syncs()))
            }
        });
        world.sleep_below(Duration::from_secs(2));
        if world.random.random_ratio(1, 3) {
            match whose {
                Whose::Collector => world.stack.kill_collector(),
                Whose::Agent => world.stack.kill_agent(),
            }
        }
        shim.sync(Sync::Works);
        if world.stack.collector.is_none() {
            world.stack.start_collector();
        }
        if world.stack.agent.is_none() {
            world.stack.start_agent();
        }
        turn.done += 1;
    }
    world.stop_writing(writer);
    world.settle(turn)
}

fn slow(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    let [collector, agent] = shimmed(&mut world)?;
    world.stack.start();
    while turn.done < turn.runs {
        let (sync_ms, read_ms) = (
            world.random.random_range(50..2_000),
            world.random.random_range(1..100),
        );
        collector.slow(sync_ms, 0);
        agent.slow(sync_ms, read_ms);
        for _ in 0..10 {
            world.append("a.log", 500);
            world.sleep_below(Duration::from_millis(600));
        }
        if world.random.random_ratio(1, 2) {
            world.stack.kill_agent();
            world.stack.start_agent();
        }
        // While it is as it is.
        world.drained()?;
        collector.slow(0, 0);
        agent.slow(0, 0);
        turn.done += 1;
    }
    ensure(collector.syncs() > 0, || "the shim is not in force".to_owned())?;
    world.settle(turn)
}

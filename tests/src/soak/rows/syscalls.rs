//! Row 3: killed at every write, sync, rename and unlink of a small run, one after the other. `strace` delivers the
//! SIGKILL as the program enters the call.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::soak::row::{Outcome, Row, Stop, Turn, skip};
use crate::soak::world::World;
use crate::stack::Launch;

/// Row 3.
pub const KILLED_AT: Row = Row {
    number: 3,
    fault: "killed at every write, sync, rename, unlink",
    // As many as a small run has; the row ends by itself when it is through.
    quick: 120,
    test: 0,
    turn: 40,
    worlds: 1,
    run,
};

/// Files are written with the first; the second is what makes them durable; the rest makes names.
const CALLS: [&str; 4] = [
    "write,pwrite64,writev,ftruncate,fallocate",
    "fsync,fdatasync",
    "rename,renameat,renameat2",
    "unlink,unlinkat",
];
/// Everything that happens in a small run happens within this.
const SMALL_RUN: Duration = Duration::from_secs(6);
/// Small files, so that a small run fills and drops some.
const COLLECTOR_CONFIG: &str = "[store]\nflush_age = \"1s\"\n";

/// Where the walk through all calls is: by program and kind of call, the next one to die at. Turns go on where the
/// last one ended.
static NEXT: Mutex<BTreeMap<(bool, usize), u32>> = Mutex::new(BTreeMap::new());

fn run(turn: &mut Turn) -> Outcome {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("strace is not there");
    }
    let mut world = World::new(turn.seed);
    std::fs::write(world.stack.dir().join("collector.toml"), COLLECTOR_CONFIG)?;
    world.stack.start();
    world.append("a.log", 10);
    world.drained()?;
    let mut died = 0;
    while turn.done < turn.runs {
        let agent = world.random.random_ratio(1, 3);
        let kind = world.random.random_range(0..CALLS.len());
        let number = {
            let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
            let number = next.entry((agent, kind)).or_insert(1);
            *number += 1;
            *number - 1
        };
        if killed_at(&mut world, agent, kind, number, turn.done)? {
            died += 1;
        } else {
            // Through: there are no more of them. Begin again, in a world that has other files by now.
            NEXT.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((agent, kind), 1);
        }
        turn.done += 1;
    }
    turn.note(format!("{died} of {} died at their call", turn.done));
    world.settle(turn)
}

/// A small run of a program that dies at its `number`th call of a kind (in any thread). `false`: it came through.
fn killed_at(world: &mut World, agent: bool, kind: usize, number: u32, run: u32) -> Result<bool, Stop> {
    let launch = Launch {
        prefix: [
            // The tracer as a grandchild: the process that was started is the program.
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={}", CALLS[kind]),
            "-e",
            "signal=none",
            "-e",
            &format!("inject={}:signal=KILL:when={number}", CALLS[kind]),
        ]
        .map(str::to_owned)
        .to_vec(),
        environment: Vec::new(),
    };
    if agent {
        world.stack.stop_agent();
        world.stack.agent_launch = launch;
        world.stack.start_agent();
    } else {
        world.stack.stop_collector();
        world.stack.collector_launch = launch;
        world.stack.launch_collector();
    }
    let died = small_run(world, agent, run)?;
    if agent {
        world.stack.kill_agent();
        world.stack.agent_launch = Launch::default();
        world.stack.start_agent();
    } else {
        world.stack.kill_collector();
        world.stack.collector_launch = Launch::default();
        world.stack.start_collector();
    }
    Ok(died)
}

/// Lines in an old file and in a new one, and time for a flush. Did it die?
fn small_run(world: &mut World, agent: bool, run: u32) -> Result<bool, Stop> {
    let begun = Instant::now();
    let mut written = 0;
    while begun.elapsed() < SMALL_RUN {
        if written < 20 {
            world.append("a.log", 30);
            world.append(&format!("new{run}.log"), 5);
            written += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
        let process = if agent {
            &mut world.stack.agent
        } else {
            &mut world.stack.collector
        };
        if process
            .as_mut()
            .is_none_or(|process| process.check_alive().is_err())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

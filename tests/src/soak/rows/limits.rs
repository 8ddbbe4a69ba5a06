//! Row 37: out of descriptors, of memory, of threads. While it lasts a program may wait, refuse or be killed; when it
//! is over, everything is stored.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::soak::row::{Outcome, Row, Stop, Turn, ensure, skip};
use crate::soak::tools::need_root;
use crate::soak::world::{Pace, World};
use crate::stack::Launch;

/// Row 37.
pub const OUT_OF: Row = Row {
    number: 37,
    fault: "out of descriptors, of memory, of threads",
    quick: 5,
    test: 1,
    turn: 5,
    worlds: 1,
    run,
};

const PACE: Pace = Pace {
    lines_max: 400,
    pause_max: Duration::from_millis(60),
};
/// More files than the agent may open at once.
const FILES: u32 = 150;
const DESCRIPTORS: u32 = 48;

fn run(turn: &mut Turn) -> Outcome {
    need_root()?;
    let mut world = World::started(turn.seed);
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    let faults: [fn(&mut World, u32) -> Outcome; 5] = [
        agent_descriptors,
        collector_descriptors,
        agent_memory,
        collector_memory,
        collector_threads,
    ];
    let first = world.random.random_range(0..faults.len());
    while turn.done < turn.runs {
        faults[(first + turn.done as usize) % faults.len()](&mut world, turn.done)?;
        turn.done += 1;
    }
    world.stop_writing(writer);
    world.settle(turn)
}

fn prlimit() -> Launch {
    Launch {
        prefix: vec!["prlimit".to_owned(), format!("--nofile={DESCRIPTORS}")],
        environment: Vec::new(),
    }
}

/// Many more files than descriptors: all of them are read, with those that there are or at the latest with more.
fn agent_descriptors(world: &mut World, run: u32) -> Outcome {
    world.stack.kill_agent();
    world.stack.agent_launch = prlimit();
    world.stack.start_agent();
    for file in 0..FILES {
        world.append(&format!("many{run}x{file}.log"), 5);
    }
    world.sleep_below(Duration::from_secs(8));
    still_runs(world)?;
    world.stack.kill_agent();
    world.stack.agent_launch = Launch::default();
    world.stack.start_agent();
    Ok(())
}

fn still_runs(world: &mut World) -> Outcome {
    let processes = [&mut world.stack.agent, &mut world.stack.collector];
    for process in processes.into_iter().flatten() {
        process.check_alive()?;
    }
    Ok(())
}

/// Strangers take all connections that there may be, and the agent must come in again when they are gone.
fn collector_descriptors(world: &mut World, _: u32) -> Outcome {
    world.stack.kill_collector();
    world.stack.collector_launch = prlimit();
    world.stack.start_collector();
    let port = world.stack.ingest_port();
    let strangers: Vec<TcpStream> = (0..DESCRIPTORS * 2)
        .filter_map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        .collect();
    world.stack.kill_agent();
    world.stack.start_agent();
    world.sleep_below(Duration::from_secs(5));
    still_runs(world)?;
    drop(strangers);
    // With the few that it has it works.
    let begun = Instant::now();
    world.append("probe.log", 10);
    while world.written.rows_stored(&world.stack).is_err() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    world.stack.kill_collector();
    world.stack.collector_launch = Launch::default();
    world.stack.start_collector();
    Ok(())
}

/// A control group of one limit; removed at the end.
struct Group {
    dir: PathBuf,
}

impl Group {
    fn new(world: &mut World, controller: &str, file: &str, value: u64) -> Result<Self, Stop> {
        let name = format!("edgelogger-soak-{:x}", world.random.random::<u64>());
        let dir = PathBuf::from("/sys/fs/cgroup").join(controller).join(name);
        if !dir.parent().is_some_and(|dir| dir.join("cgroup.procs").exists()) {
            return skip(format!("no control groups of {controller}"));
        }
        fs::create_dir(&dir)?;
        let group = Self { dir };
        fs::write(group.dir.join(file), value.to_string())?;
        Ok(group)
    }

    fn launch(&self) -> Launch {
        let script = format!(
            "echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"",
            self.dir.display()
        );
        Launch {
            prefix: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            environment: Vec::new(),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes are gone, but the kernel needs a moment to see that.
        for _ in 0..50 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// So little that the kernel may kill it while it starts or works.
fn agent_memory(world: &mut World, run: u32) -> Outcome {
    let limit = world.random.random_range(3 << 20..14 << 20);
    let group = Group::new(world, "memory", "memory.limit_in_bytes", limit)?;
    world.stack.kill_agent();
    world.stack.agent_launch = group.launch();
    world.stack.start_agent();
    for file in 0..FILES {
        world.append(&format!("mem{run}x{file}.log"), 20);
    }
    world.sleep_below(Duration::from_secs(5));
    world.stack.kill_agent();
    world.stack.agent_launch = Launch::default();
    world.stack.start_agent();
    Ok(())
}

fn collector_memory(world: &mut World, _: u32) -> Outcome {
    let limit = world.random.random_range(20 << 20..60 << 20);
    let group = Group::new(world, "memory", "memory.limit_in_bytes", limit)?;
    world.stack.kill_collector();
    world.stack.collector_launch = group.launch();
    world.stack.launch_collector();
    world.sleep_below(Duration::from_secs(6));
    world.stack.kill_collector();
    world.stack.collector_launch = Launch::default();
    world.stack.start_collector();
    Ok(())
}

/// No threads to start with: it says so and ends, or it works.
fn collector_threads(world: &mut World, _: u32) -> Outcome {
    let threads = world.random.random_range(1..12);
    let group = Group::new(world, "pids", "pids.max", threads)?;
    world.stack.kill_collector();
    world.stack.collector_launch = group.launch();
    world.stack.launch_collector();
    world.sleep_below(Duration::from_secs(3));
    world.stack.kill_collector();
    world.stack.collector_launch = Launch::default();
    world.stack.start_collector();
    ensure(Command::new("true").status().is_ok(), || {
        "this process has no threads either".to_owned()
    })
}

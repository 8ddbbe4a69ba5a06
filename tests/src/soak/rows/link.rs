//! Rows 19 to 22: what links do, with a proxy between the programs.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::proxy::{Faults, Way};
use crate::soak::namespace::{End, Namespace};
use crate::soak::row::{Outcome, Row, Stop, Turn, ensure};
use crate::soak::world::{Pace, World};
use crate::wait_for;

/// Row 19.
pub const PARTITION: Row = Row {
    number: 19,
    fault: "partition: one way, both ways, flapping",
    quick: 10,
    test: 2,
    turn: 3,
    worlds: 2,
    run: partition,
};

/// Row 20.
pub const HALF_OPEN: Row = Row {
    number: 20,
    fault: "half-open TCP: the peer is stopped (SIGSTOP), the cable is pulled (veth down)",
    quick: 5,
    test: 3,
    turn: 2,
    worlds: 3,
    run: half_open,
};

/// Row 21.
pub const SLOW: Row = Row {
    number: 21,
    fault: "64 kbit/s, 300 ms round trip, slices, stalls",
    quick: 5,
    test: 1,
    turn: 2,
    worlds: 3,
    run: slow,
};

/// Row 22.
pub const RESET: Row = Row {
    number: 22,
    fault: "reset at every byte of a session; after append before ack",
    quick: 500,
    test: 48,
    turn: 125,
    worlds: 4,
    run: reset,
};

/// After an outage of up to 20 s the first new line must be through within this.
const HEALED_WITHIN: Duration = Duration::from_secs(5);
/// A quiet writer: what matters here is the link.
const PACE: Pace = Pace {
    lines_max: 60,
    pause_max: Duration::from_millis(100),
};

fn partition(turn: &mut Turn) -> Outcome {
    let mut world = World::linked(turn.seed)?;
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    let mut slowest = Duration::ZERO;
    while turn.done < turn.runs {
        world.sleep_below(Duration::from_secs(2));
        cut(&mut world);
        slowest = slowest.max(first_line_after_healing(&mut world, turn.done)?);
        turn.done += 1;
    }
    world.stop_writing(writer);
    turn.note(format!("first line {:.1} s after healing", slowest.as_secs_f64()));
    world.settle(turn)
}

/// Cuts the link for a while, and heals it.
fn cut(world: &mut World) {
    let lasts = Duration::from_millis(world.random.random_range(200..12_000));
    let faults: &[fn(&mut Faults)] = &[
        |faults| faults.up.stalled = true,
        |faults| faults.down.stalled = true,
        |faults| (faults.up.stalled, faults.down.stalled) = (true, true),
    ];
    let kind = world.random.random_range(0..=faults.len());
    if let Some(fault) = faults.get(kind) {
        world.link().set(fault);
        std::thread::sleep(lasts);
    } else {
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            world.link().set(|faults| faults.refuses = true);
            world.link().reset_all();
            world.sleep_below(Duration::from_millis(700));
            world.link().set(|faults| faults.refuses = false);
            world.sleep_below(Duration::from_millis(700));
        }
    }
    // What was held comes at last, or the path is another one now and knows nothing of the connection.
    if world.random.random() {
        world.link().reset_all();
    }
    world.link().heal();
}

/// A line that is written when the link is healed, and how long it takes to the store.
fn first_line_after_healing(world: &mut World, run: u32) -> Result<Duration, Stop> {
    let healed = Instant::now();
    let label = format!("probe{run}");
    world.append(&format!("{label}.log"), 1);
    wait_for("the first line after healing is stored", || {
        let rows = world.stack.sql(&format!(
            "SELECT count(*) FROM logs WHERE body LIKE '% {label}.log %'"
        ))?;
        if rows[0][0] == 1 {
            Ok(())
        } else {
            Err(format!("{rows:?}; {}", world.stack.said()))
        }
    });
    let took = healed.elapsed();
    ensure(took <= HEALED_WITHIN, || {
        format!(
            "the first line was stored {took:?} after healing; {}",
            world.stack.said()
        )
    })?;
    Ok(took)
}

/// Worlds in turn: in one the programs are stopped, in the next the cable between them is pulled.
fn half_open(turn: &mut Turn) -> Outcome {
    if turn.seed.is_multiple_of(2) {
        stopped_peers(turn)
    } else {
        pulled_cable(turn)
    }
}

/// How long one end hears nothing from the other. Three missed heartbeats, 30 s, end a session; one fault in three lasts
/// longer than that.
fn silence(world: &mut World, run: u32) -> Duration {
    let lasts = if run.is_multiple_of(3) {
        33_000..42_000
    } else {
        500..20_000
    };
    Duration::from_millis(world.random.random_range(lasts))
}

fn stopped_peers(turn: &mut Turn) -> Outcome {
    let mut world = World::linked(turn.seed)?;
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    while turn.done < turn.runs {
        world.sleep_below(Duration::from_secs(2));
        let lasts = silence(&mut world, turn.done);
        let whom = world.random.random_range(0..3);
        let stopped: Vec<_> = [&world.stack.collector, &world.stack.agent]
            .into_iter()
            .enumerate()
            .filter(|(index, _)| whom == 2 || *index == whom)
            .filter_map(|(_, process)| process.as_ref())
            .collect();
        stopped.iter().for_each(|process| process.signal("STOP"));
        std::thread::sleep(lasts);
        stopped.iter().for_each(|process| process.signal("CONT"));
        turn.done += 1;
    }
    world.stop_writing(writer);
    world.settle(turn)
}

fn pulled_cable(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    let cable = Namespace::new()?;
    world.stack.ingest_address = Some(cable.address);
    world
        .stack
        .collector_arguments
        .extend(["--advertise".to_owned(), cable.address.to_string()]);
    world.stack.agent_connects_to = Some(format!("{}:{}", cable.address, world.stack.ingest_port()));
    world.stack.agent_launch = cable.launch();
    world.stack.start();
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    while turn.done < turn.runs {
        world.sleep_below(Duration::from_secs(2));
        let lasts = silence(&mut world, turn.done);
        let end = if world.random.random() {
            End::Outside
        } else {
            End::Inside
        };
        cable.pull(end)?;
        std::thread::sleep(lasts);
        cable.plug(end)?;
        turn.done += 1;
    }
    world.stop_writing(writer);
    let settled = world.settle(turn);
    world.stack.kill_agent();
    settled
}

fn slow(turn: &mut Turn) -> Outcome {
    let mut world = World::linked(turn.seed)?;
    while turn.done < turn.runs {
        let slice = world.random.random_range(1..1_500);
        world.link().set(|faults| {
            for way in [&mut faults.up, &mut faults.down] {
                way.delay = Duration::from_millis(150);
                way.bytes_per_second = Some(8_000);
                way.slice_bytes = Some(slice);
            }
        });
        world.link().reset_all();
        for _ in 0..5 {
            world.append("a.log", 600);
            world.sleep_below(Duration::from_secs(2));
            // The line is gone for a moment, as a radio link is.
            world.link().set(|faults| faults.up.stalled = true);
            world.sleep_below(Duration::from_secs(3));
            world.link().set(|faults| faults.up.stalled = false);
        }
        // Everything gets through while the link is as it is.
        world.drained()?;
        turn.done += 1;
    }
    world.link().heal();
    world.settle(turn)
}

fn reset(turn: &mut Turn) -> Outcome {
    let mut world = World::linked(turn.seed)?;
    world.append("a.log", 20);
    world.drained()?;
    let session = session_bytes(&mut world)?;
    while turn.done < turn.runs {
        match world.random.random_range(0..8) {
            0 => reset_between_append_and_ack(&mut world)?,
            1 | 2 => reset_in_living_session(&mut world)?,
            _ => reset_in_new_session(&mut world, turn, session)?,
        }
        turn.done += 1;
    }
    world.link().heal();
    world.settle(turn)
}

/// Bytes up and down of a session that brings a few lines.
fn session_bytes(world: &mut World) -> Result<[u64; 2], Stop> {
    let now = |world: &World| {
        let counted = world.link().counted();
        [&counted.up, &counted.down].map(|count| count.load(Ordering::Relaxed))
    };
    world.link().reset_all();
    let before = now(world);
    world.append("a.log", 20);
    world.drained()?;
    let after = now(world);
    Ok([after[0] - before[0], after[1] - before[1]])
}

/// The session after the next dies at one byte of it; over all runs at bytes all over it.
fn reset_in_new_session(world: &mut World, turn: &Turn, session: [u64; 2]) -> Outcome {
    let (way, bytes) = if world.random.random() {
        (Way::Up, session[0])
    } else {
        (Way::Down, session[1])
    };
    let stratum = bytes * u64::from(turn.done) / u64::from(turn.runs);
    let wide = (bytes / u64::from(turn.runs)).max(1);
    let at = (stratum + world.random.random_range(0..wide)).max(1);
    world.link().reset_all();
    reset_after(world, way, at);
    world.append("a.log", 20);
    world.drained()?;
    world.link().heal();
    Ok(())
}

fn reset_in_living_session(world: &mut World) -> Outcome {
    let way = if world.random.random() { Way::Up } else { Way::Down };
    let at = world.random.random_range(1..1_000);
    reset_after(world, way, at);
    world.append("a.log", 20);
    world.drained()?;
    world.link().heal();
    Ok(())
}

fn reset_after(world: &World, way: Way, bytes: u64) {
    world.link().set(|faults| match way {
        Way::Up => faults.up.reset_after = Some(bytes),
        Way::Down => faults.down.reset_after = Some(bytes),
    });
}

/// The batch is in the log, and its ack never arrives.
fn reset_between_append_and_ack(world: &mut World) -> Outcome {
    let end = |world: &World| {
        let health = world.stack.get("/health")?;
        health["log"]["durable_end"]
            .as_u64()
            .ok_or_else(|| health.to_string())
    };
    // The last reset may have come behind the last ack: first a session that works.
    world.append("a.log", 1);
    world.drained()?;
    let connected = |world: &World| {
        world
            .stack
            .agent_status()
            .map(|status| status["connection"]["state"] == "connected")
    };
    wait_for("the agent is connected", || match connected(world)? {
        true => Ok(()),
        false => Err(world.stack.said()),
    });
    world.link().set(|faults| faults.down.stalled = true);
    let before = end(world)?;
    world.append("a.log", 20);
    wait_for("the batch is in the log", || match end(world)? {
        now if now > before => Ok(()),
        now => Err(format!("{now}; {}", world.stack.said())),
    });
    world.link().reset_all();
    world.link().heal();
    world.drained()
}

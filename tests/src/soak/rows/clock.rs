//! Row 12: the wall clock jumps, of one program or both, forwards and backwards; never the machine's own.

use std::time::Duration;

use rand::Rng;

use crate::soak::row::{Outcome, Row, Stop, Turn, ensure};
use crate::soak::tools::Shim;
use crate::soak::world::{Pace, World};

/// Row 12.
pub const JUMPS: Row = Row {
    number: 12,
    fault: "the wall clock jumps, days and years, both ways",
    quick: 10,
    test: 2,
    turn: 5,
    worlds: 2,
    run,
};

const PACE: Pace = Pace {
    lines_max: 200,
    pause_max: Duration::from_millis(60),
};
const DAY_NS: i64 = 86_400_000_000_000;

/// What the collector takes for the year.
fn year(world: &World) -> Result<String, Stop> {
    let health = world.stack.get("/health")?;
    let time = health["time"].as_str().unwrap_or_default();
    Ok(time.chars().take(4).collect())
}

fn run(turn: &mut Turn) -> Outcome {
    let mut world = World::new(turn.seed);
    let shims = [
        Shim::new(world.stack.dir(), "collector")?,
        Shim::new(world.stack.dir(), "agent")?,
    ];
    world.stack.collector_launch = shims[0].launch();
    world.stack.agent_launch = shims[1].launch();
    world.stack.start();
    let before = year(&world)?;
    shims[0].clock_ahead(1_000 * DAY_NS);
    let after = year(&world)?;
    ensure(before != after, || {
        format!("the shim is not in force: it is still {after}")
    })?;
    let writer = world.write_in_background(&["a.log", "b.log"], PACE);
    while turn.done < turn.runs {
        for shim in &shims {
            if world.random.random_ratio(2, 3) {
                // Certificates and tokens of a test are valid for years; what expires is row 25 and 26.
                let days = [-20_000, -400, -1, 0, 1, 20, 80];
                let days: i64 = days[world.random.random_range(0..days.len())];
                let part = world.random.random_range(0..DAY_NS);
                shim.clock_ahead(days.saturating_mul(DAY_NS) + part);
            }
        }
        world.sleep_below(Duration::from_secs(2));
        if world.random.random_ratio(1, 2) {
            world.stack.kill_agent();
            world.stack.start_agent();
        }
        if world.random.random_ratio(1, 3) {
            world.stack.kill_collector();
            world.stack.start_collector();
        }
        world.sleep_below(Duration::from_secs(1));
        turn.done += 1;
    }
    world.stop_writing(writer);
    // Clocks are right again, as after NTP has spoken.
    shims.iter().for_each(|shim| shim.clock_ahead(0));
    world.settle(turn)
}

//! Rows 1 and 2: SIGKILL at random moments of the work.

use std::time::Duration;

use rand::Rng;

use crate::soak::row::{Outcome, Row, Turn};
use crate::soak::world::{Pace, World};

/// Row 1.
pub const AGENT: Row = Row {
    number: 1,
    fault: "kill -9 of the agent at random times",
    quick: 50,
    test: 5,
    turn: 25,
    worlds: 1,
    run: |turn| killed(turn, Victim::Agent),
};

/// Row 2.
pub const COLLECTOR: Row = Row {
    number: 2,
    fault: "kill -9 of the collector at random times",
    quick: 50,
    test: 5,
    turn: 25,
    worlds: 1,
    run: |turn| killed(turn, Victim::Collector),
};

/// A writer that keeps both programs busy, now and then with a burst.
const PACE: Pace = Pace {
    lines_max: 1_500,
    pause_max: Duration::from_millis(60),
};

#[derive(Clone, Copy)]
enum Victim {
    Agent,
    Collector,
}

/// Kills the victim again and again while lines are written, at moments between "it has hardly begun" and "it has
/// worked for a while".
fn killed(turn: &mut Turn, victim: Victim) -> Outcome {
    let mut world = World::started(turn.seed);
    let writer = world.write_in_background(&["a.log", "b.log", "c.log"], PACE);
    while turn.done < turn.runs {
        let below = if world.random.random_ratio(1, 3) {
            100
        } else {
            1_500
        };
        world.sleep_below(Duration::from_millis(below));
        match victim {
            Victim::Agent => {
                world.stack.kill_agent();
                world.stack.start_agent();
            }
            Victim::Collector => {
                world.stack.kill_collector();
                world.stack.start_collector();
            }
        }
        turn.done += 1;
    }
    world.stop_writing(writer);
    world.settle(turn)
}

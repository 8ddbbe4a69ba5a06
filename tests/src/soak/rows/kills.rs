//! Rows 1, 2, 4: SIGKILL at random moments of the work.

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
    run: |turn| {
        killed(
            turn,
            Victims {
                agent: true,
                collector: false,
            },
        )
    },
};

/// Row 2.
pub const COLLECTOR: Row = Row {
    number: 2,
    fault: "kill -9 of the collector at random times",
    quick: 50,
    test: 5,
    turn: 25,
    worlds: 1,
    run: |turn| {
        killed(
            turn,
            Victims {
                agent: false,
                collector: true,
            },
        )
    },
};

/// Row 4.
pub const BOTH: Row = Row {
    number: 4,
    fault: "kill -9 of both",
    quick: 30,
    test: 3,
    turn: 15,
    worlds: 1,
    run: |turn| {
        killed(
            turn,
            Victims {
                agent: true,
                collector: true,
            },
        )
    },
};

/// A writer that keeps both programs busy, now and then with a burst.
const PACE: Pace = Pace {
    lines_max: 1_500,
    pause_max: Duration::from_millis(60),
};

#[derive(Clone, Copy)]
struct Victims {
    agent: bool,
    collector: bool,
}

/// Kills the victims again and again while lines are written, at moments between "it has hardly begun" and "it has
/// worked for a while".
fn killed(turn: &mut Turn, victims: Victims) -> Outcome {
    let mut world = World::started(turn.seed);
    let writer = world.write_in_background(&["a.log", "b.log", "c.log"], PACE);
    while turn.done < turn.runs {
        let below = if world.random.random_ratio(1, 3) {
            100
        } else {
            1_500
        };
        world.sleep_below(Duration::from_millis(below));
        if victims.agent {
            world.stack.kill_agent();
        }
        if victims.collector {
            world.stack.kill_collector();
            world.stack.start_collector();
        }
        if victims.agent {
            world.stack.start_agent();
        }
        turn.done += 1;
    }
    world.stop_writing(writer);
    world.settle(turn)
}

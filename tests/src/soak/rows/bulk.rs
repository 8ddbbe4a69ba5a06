//! Row 31: much at once.

use std::fs;
use std::time::{Duration, Instant};

use crate::soak::row::{Outcome, Row, Turn, ensure};
use crate::soak::world::World;

/// Row 31.
pub const AT_ONCE: Row = Row {
    number: 31,
    fault: "a million lines at once; 10,000 files of 100 lines",
    quick: 1,
    test: 0,
    turn: 1,
    worlds: 1,
    run: at_once,
};

const LINES: u64 = 1_000_000;
const FILES: u64 = 10_000;
/// All must be stored within this.
const STORED_WITHIN: Duration = Duration::from_secs(30);

fn at_once(turn: &mut Turn) -> Outcome {
    while turn.done < turn.runs {
        one_file(turn)?;
        many_files(turn)?;
        turn.done += 1;
    }
    Ok(())
}

fn one_file(turn: &mut Turn) -> Outcome {
    let mut world = World::started(turn.seed);
    let aside = world.stack.dir().join("aside");
    fs::write(&aside, world.written.next_lines("a.log", LINES))?;
    let begun = Instant::now();
    fs::rename(&aside, world.stack.log_file("a.log"))?;
    in_time(turn, &mut world, begun, "a million lines")
}

fn many_files(turn: &mut Turn) -> Outcome {
    let mut world = World::started(turn.seed);
    let aside = world.stack.dir().join("aside");
    fs::create_dir(&aside)?;
    let names: Vec<String> = (0..FILES).map(|file| format!("f{file:05}.log")).collect();
    for name in &names {
        fs::write(aside.join(name), world.written.next_lines(name, LINES / FILES))?;
    }
    let begun = Instant::now();
    for name in &names {
        fs::rename(aside.join(name), world.stack.log_file(name))?;
    }
    in_time(turn, &mut world, begun, "10,000 files")
}

fn in_time(turn: &mut Turn, world: &mut World, begun: Instant, what: &str) -> Outcome {
    world.drained()?;
    let took = begun.elapsed();
    turn.note(format!("{what}: {:.1} s", took.as_secs_f64()));
    world.settle(turn)?;
    ensure(took <= STORED_WITHIN, || {
        format!("{what} were stored after {took:?}")
    })
}

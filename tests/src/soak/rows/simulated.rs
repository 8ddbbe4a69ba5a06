//! The deterministic simulation: random faults of everything in one process, thousands of seeds.

use crate::simulation::simulate;
use crate::soak::row::{Outcome, Row, Turn, ensure};

/// No row of the scorecard: it stands before them.
pub const SIMULATION: Row = Row {
    number: 0,
    fault: "simulation: crashes, power cuts, bad disks, broken links, one seed each",
    quick: 10_000,
    test: 0,
    turn: 1_000,
    worlds: 2,
    run,
};

/// Of so many seeds one is run twice.
const TWICE_EVERY: u32 = 50;

fn run(turn: &mut Turn) -> Outcome {
    while turn.done < turn.runs {
        let seed = turn.seed.wrapping_mul(1 << 20).wrapping_add(u64::from(turn.done));
        let trace = simulate(seed).inspect_err(|_| turn.unexplained += 1)?;
        if turn.done.is_multiple_of(TWICE_EVERY) {
            let again = simulate(seed)?;
            ensure(trace == again, || format!("seed {seed} twice gave two traces"))?;
        }
        turn.done += 1;
    }
    Ok(())
}

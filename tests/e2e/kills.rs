//! kill -9 at random points of the work: everything is stored, nothing twice (scorecard rows 1, 2, 4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use edgelogger_tests::oracle::{expect_exactly, write_lines};
use edgelogger_tests::stack::Stack;
use edgelogger_tests::wait_for;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const LINES: u64 = 500_000;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Collector,
    Both,
}

/// The seed, printed, so that a failing run can be had again with `EDGELOGGER_SEED`.
fn seed() -> u64 {
    let seed = std::env::var("EDGELOGGER_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("EDGELOGGER_SEED={seed}");
    seed
}

/// Kills `victim` whenever the writer passes one of `kills` random line numbers, and starts it again.
fn killed_while_lines_are_written(victim: Victim, kills: usize) {
    let mut random = StdRng::seed_from_u64(seed());
    let mut points: Vec<u64> = (0..kills).map(|_| random.random_range(0..LINES)).collect();
    points.sort_unstable();
    println!("{victim:?} is killed at lines {points:?}");
    let mut stack = Stack::new(&[], &[]);
    stack.start();
    let written = Arc::new(AtomicU64::new(0));
    let writer = {
        let (path, written) = (stack.log_file("app.log"), Arc::clone(&written));
        std::thread::spawn(move || {
            write_lines(&path, "run", 0, LINES, |next| {
                written.store(next, Ordering::SeqCst);
            });
        })
    };
    for point in points {
        wait_for("the writer comes to the next point", || {
            match written.load(Ordering::SeqCst) {
                next if next >= point => Ok(()),
                next => Err(next.to_string()),
            }
        });
        // The work goes on behind the writer: somewhere in what is under way now.
        std::thread::sleep(std::time::Duration::from_millis(random.random_range(0..400)));
        if victim != Victim::Collector {
            stack.kill_agent();
        }
        if victim != Victim::Agent {
            stack.kill_collector();
            stack.start_collector();
        }
        if victim != Victim::Collector {
            stack.start_agent();
        }
    }
    writer.join().unwrap();
    expect_exactly(&stack, "run", i64::try_from(LINES).unwrap());
}

#[test]
fn an_agent_that_is_killed_loses_and_repeats_nothing() {
    killed_while_lines_are_written(Victim::Agent, 5);
}

#[test]
fn a_collector_that_is_killed_loses_and_repeats_nothing() {
    killed_while_lines_are_written(Victim::Collector, 5);
}

#[test]
fn both_killed_lose_and_repeat_nothing() {
    killed_while_lines_are_written(Victim::Both, 3);
}

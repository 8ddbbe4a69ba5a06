//! How often, with which seeds, in which order.
//!
//! Turn *k* of a row has the seed *S + k*: a failing turn is had again, alone, by giving its own seed as *S*.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::row::{Outcome, Row, Stop, Turn};

/// A row that failed so often is not tried again: the next failures tell nothing new and take long.
const FAILURES_MAX: u32 = 2;

/// How often.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// The quick column.
    Quick,
    /// What `cargo test` does.
    Test,
    /// So many runs of each row.
    Runs(u32),
    /// All rows in turn, for so long.
    Lasting(Duration),
}

/// Everything about one row.
#[derive(Debug, Clone)]
pub struct RowResult {
    /// Which.
    pub row: Row,
    /// All turns together.
    pub sum: Turn,
    /// Turns that failed.
    pub failures: u32,
    /// Seed, runs and reason of the first of them.
    pub first_failure: Option<(u64, u32, String)>,
    /// Why it could not be done here.
    pub skipped: Option<String>,
    /// How long it took.
    pub took: Duration,
    turns: u64,
}

impl RowResult {
    fn new(row: Row) -> Self {
        Self {
            row,
            sum: Turn::default(),
            failures: 0,
            first_failure: None,
            skipped: None,
            took: Duration::ZERO,
            turns: 0,
        }
    }

    /// It ran, and nothing was wrong.
    #[must_use]
    pub const fn has_passed(&self) -> bool {
        self.failures == 0 && self.skipped.is_none() && self.sum.done > 0
    }

    const fn is_given_up(&self) -> bool {
        self.failures >= FAILURES_MAX || self.skipped.is_some()
    }
}

/// Does rows.
pub struct Runner<'a> {
    /// Where everything random comes from.
    pub seed: u64,
    /// How often.
    pub amount: Amount,
    /// Is told how it goes.
    pub say: &'a mut dyn FnMut(&str),
}

impl Runner<'_> {
    /// Does them.
    pub fn run(&mut self, rows: &[Row]) -> Vec<RowResult> {
        let mut results: Vec<RowResult> = rows.iter().map(|row| RowResult::new(*row)).collect();
        match self.amount {
            Amount::Quick => self.each(&mut results, |row| row.quick),
            Amount::Test => self.each(&mut results, |row| row.test),
            Amount::Runs(runs) => self.each(&mut results, |_| runs),
            Amount::Lasting(time) => self.in_turn(&mut results, Instant::now() + time),
        }
        results
    }

    fn each(&mut self, results: &mut [RowResult], wanted: impl Fn(&Row) -> u32) {
        for result in results {
            let wanted = wanted(&result.row);
            let mut left = wanted;
            while left > 0 && !result.is_given_up() {
                left -= self.turn(result, left);
                self.progress(result, Some(wanted));
            }
        }
    }

    fn in_turn(&mut self, results: &mut [RowResult], until: Instant) {
        while Instant::now() < until && results.iter().any(|result| !result.is_given_up()) {
            for result in results.iter_mut().filter(|result| !result.is_given_up()) {
                if Instant::now() >= until {
                    break;
                }
                self.turn(result, u32::MAX);
                self.progress(result, None);
            }
        }
    }

    /// One turn in each of the row's worlds; at most `left` runs together. Gives how many were asked for.
    fn turn(&mut self, result: &mut RowResult, left: u32) -> u32 {
        let begun = Instant::now();
        let row = result.row;
        let mut turns = Vec::new();
        let mut asked = 0;
        while turns.len() < row.worlds as usize && asked < left {
            let runs = row.turn.min(left - asked);
            turns.push(Turn::new(self.seed.wrapping_add(result.turns), runs));
            result.turns += 1;
            asked += runs;
        }
        let ended: Vec<(Turn, Outcome)> = std::thread::scope(|scope| {
            let threads: Vec<_> = turns
                .into_iter()
                .map(|turn| scope.spawn(move || one(&row, turn)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a turn's panic is caught in its thread"))
                .collect()
        });
        for (turn, outcome) in ended {
            self.note(result, &turn, outcome);
            result.sum.add(turn);
        }
        result.took += begun.elapsed();
        asked
    }

    fn note(&mut self, result: &mut RowResult, turn: &Turn, outcome: Outcome) {
        match outcome {
            Ok(()) => {}
            Err(Stop::Skipped(why)) => result.skipped = Some(why),
            Err(Stop::Failed(why)) => {
                result.failures += 1;
                let number = result.row.number;
                (self.say)(&format!(
                    "row {number} FAILED after {} runs; repeat it with --row {number} --seed {} --runs {}\n{why}",
                    turn.done, turn.seed, turn.runs
                ));
                let first = (turn.seed, turn.runs, why);
                result.first_failure.get_or_insert(first);
            }
        }
    }

    fn progress(&mut self, result: &RowResult, wanted: Option<u32>) {
        let of = wanted.map_or_else(String::new, |wanted| format!(" of {wanted}"));
        let state = match &result.skipped {
            Some(why) => format!("skipped: {why}"),
            None if result.failures > 0 => "FAILED".to_owned(),
            None => "ok so far".to_owned(),
        };
        let seconds = result.took.as_secs();
        (self.say)(&format!(
            "row {}: {}{of} runs, {seconds} s, {state}",
            result.row.number, result.sum.done
        ));
    }
}

/// One turn; a panic of the harness (a wait that took too long) is a failure like any other.
fn one(row: &Row, mut turn: Turn) -> (Turn, Outcome) {
    let caught = catch_unwind(AssertUnwindSafe(|| (row.run)(&mut turn)));
    let outcome = caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Stop::Failed(text.unwrap_or_else(|| "a panic".to_owned())))
    });
    (turn, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: fn(&mut Turn) -> Outcome) -> Row {
        Row {
            number: 99,
            fault: "a test",
            quick: 10,
            test: 1,
            turn: 4,
            worlds: 2,
            run,
        }
    }

    fn check(run: fn(&mut Turn) -> Outcome) -> RowResult {
        let mut runner = Runner {
            seed: 100,
            amount: Amount::Quick,
            say: &mut |_| (),
        };
        runner.run(&[row(run)]).remove(0)
    }

    #[test]
    fn the_quick_count_is_reached_in_turns() {
        let result = check(|turn| {
            turn.done = turn.runs;
            Ok(())
        });
        assert!(result.has_passed());
        assert_eq!((result.sum.done, result.turns), (10, 3));
    }

    #[test]
    fn a_failing_turn_is_had_again_by_its_seed() {
        let fails_at_101 = |turn: &mut Turn| {
            turn.done = 1;
            if turn.seed == 101 {
                Err("bad".into())
            } else {
                Ok(())
            }
        };
        let result = check(fails_at_101);
        assert!(!result.has_passed());
        assert_eq!(result.first_failure, Some((101, 4, "bad".to_owned())));
    }

    #[test]
    fn a_panic_is_a_failure_and_a_skipped_row_is_no_pass() {
        assert_eq!(check(|_| panic!("late")).failures, 2);
        let skipped = check(|_| super::super::row::skip("no root"));
        assert!(!skipped.has_passed() && skipped.skipped.is_some());
        assert!(!check(|_| Ok(())).has_passed(), "nothing was done");
    }
}

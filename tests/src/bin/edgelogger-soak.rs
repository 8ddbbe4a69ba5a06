//! `edgelogger-soak`: see `scripts/soak --help`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use edgelogger_tests::soak::ROWS;
use edgelogger_tests::soak::report;
use edgelogger_tests::soak::row::Row;
use edgelogger_tests::soak::runner::{Amount, RowResult, Runner};

const EXAMPLES: &str = "Examples:
  scripts/soak --quick                     every row, the quick counts
  scripts/soak --minutes 60                every row in turn for an hour
  scripts/soak --row 1 --row 13-18         only these rows
  scripts/soak --row 5 --seed 7 --runs 10  one turn again
  scripts/soak --list                      what there is

Exit codes: 0 all passed; 1 a row failed; 2 bad arguments; 3 none failed, but rows were skipped.";

/// Does to the real programs what the world does to them, and compares the store with what was written.
#[derive(Debug, Parser)]
#[command(name = "soak", after_help = EXAMPLES)]
struct Arguments {
    /// The quick counts (the default)
    #[arg(long, conflicts_with_all = ["minutes", "runs"])]
    quick: bool,
    /// All rows in turn for so long
    #[arg(long, value_name = "N", conflicts_with = "runs")]
    minutes: Option<u64>,
    /// So many runs of each row
    #[arg(long, value_name = "N")]
    runs: Option<u32>,
    /// Where everything random comes from [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these rows: a number, or a range such as 13-18; may be given several times
    #[arg(long = "row", value_name = "ROW", value_parser = row_range)]
    rows: Vec<(u32, u32)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also write the table as a page of Markdown
    #[arg(long, value_name = "FILE")]
    scorecard: Option<PathBuf>,
    /// Say what there is
    #[arg(long)]
    list: bool,
}

fn row_range(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| format!("`{text}` is no row; write 5 or 13-18"))
    };
    match text.split_once('-') {
        Some((first, last)) => Ok((number(first)?, number(last)?)),
        None => number(text).map(|row| (row, row)),
    }
}

impl Arguments {
    fn rows(&self) -> Result<Vec<Row>, String> {
        let wanted = |row: &Row| {
            let within = |range: &(u32, u32)| (range.0..=range.1).contains(&row.number);
            self.rows.is_empty() || self.rows.iter().any(within)
        };
        let missing =
            |(first, last): &&(u32, u32)| !ROWS.iter().any(|row| (*first..=*last).contains(&row.number));
        if let Some((first, _)) = self.rows.iter().find(missing) {
            return Err(format!(
                "there is no row {first} here; --list says which there are"
            ));
        }
        Ok(ROWS.iter().copied().filter(wanted).collect())
    }

    const fn amount(&self) -> Amount {
        match (self.minutes, self.runs) {
            (Some(minutes), _) => Amount::Lasting(Duration::from_secs(minutes * 60)),
            (None, Some(runs)) => Amount::Runs(runs),
            (None, None) => Amount::Quick,
        }
    }

    /// As it would be typed.
    fn command(&self) -> String {
        match self.amount() {
            Amount::Lasting(time) => format!("scripts/soak --minutes {}", time.as_secs() / 60),
            Amount::Runs(runs) => format!("scripts/soak --runs {runs}"),
            Amount::Quick | Amount::Test => "scripts/soak --quick".to_owned(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let rows = match arguments.rows() {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        for row in &rows {
            println!("{:>2}  {:<60} {:>6} quick", row.number, row.fault, row.quick);
        }
        return ExitCode::SUCCESS;
    }
    // A panic of the harness is a failure that the table tells of.
    std::panic::set_hook(Box::new(|_| ()));
    // Seeds that a person can type.
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    eprintln!("seed {seed}");
    let mut runner = Runner {
        seed,
        amount: arguments.amount(),
        say: &mut |text| eprintln!("{text}"),
    };
    let results = runner.run(&rows);
    show(&arguments, seed, &results)
}

fn show(arguments: &Arguments, seed: u64, results: &[RowResult]) -> ExitCode {
    if arguments.json {
        println!("{:#}", report::as_json(seed, results));
    } else {
        println!("{}", report::table(results));
    }
    if let Some(path) = &arguments.scorecard {
        let page = report::page(&arguments.command(), seed, results);
        if let Err(error) = std::fs::write(path, page) {
            eprintln!("error: {} can't be written: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    let failed = results.iter().any(|result| result.failures > 0);
    let passed = results.iter().all(RowResult::has_passed);
    ExitCode::from(if failed {
        1
    } else if passed {
        0
    } else {
        3
    })
}

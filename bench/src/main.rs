//! `edgelogger-bench [NAME…]`: see `scripts/bench --help`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use edgelogger_bench::scenarios::{SCENARIOS, Scenario};
use edgelogger_bench::{Bench, Outcome};

/// Measures what EdgeLogger reaches beside what this machine can do at all.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Scenarios to run; all of them without a name. `corpus` only makes the corpus.
    names: Vec<String>,
    /// Where the corpus, the report and everything else is written.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Keep what is large too, to look at it.
    #[arg(long)]
    keep: bool,
    /// Say what can be measured.
    #[arg(long)]
    list: bool,
    /// Exit with 1 when a target is missed.
    #[arg(long)]
    strict: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in SCENARIOS {
            println!("{:<16} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(u8::from(arguments.strict)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Are all targets met?
fn run(arguments: &Arguments) -> Outcome<bool> {
    let chosen = chosen(&arguments.names)?;
    let mut bench = Bench::new(&arguments.dir, arguments.keep)?;
    let mut failed = Vec::new();
    for scenario in chosen {
        println!("\n{}: {}", scenario.name, scenario.about);
        // One that fails must not take the figures of the others with it.
        if let Err(error) = (scenario.run)(&mut bench) {
            eprintln!("  failed: {error}");
            failed.push(scenario.name);
        }
    }
    let path = arguments.dir.join("report.json");
    bench.report.write(&path)?;
    println!("\n{}\nwritten to {}", bench.report.table(), path.display());
    if !failed.is_empty() {
        return Err(format!("could not be measured: {}", failed.join(", ")).into());
    }
    Ok(bench.report.all_met())
}

fn chosen(names: &[String]) -> Outcome<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    names
        .iter()
        .filter(|name| *name != "corpus")
        .map(|name| {
            let known = SCENARIOS.iter().find(|scenario| scenario.name == name);
            known.ok_or_else(|| format!("there is no scenario `{name}`; --list names them all").into())
        })
        .collect()
}

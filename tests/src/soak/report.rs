//! The table, for people, for scripts, and as docs/scorecard.md.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::runner::RowResult;

/// The word for a row.
fn verdict(result: &RowResult) -> String {
    if let Some((seed, runs, _)) = &result.first_failure {
        return format!("FAILED (--seed {seed} --runs {runs})");
    }
    match &result.skipped {
        Some(why) => format!("skipped: {why}"),
        None if result.has_passed() => "passed".to_owned(),
        None => "not run".to_owned(),
    }
}

/// A table in Markdown, which is also good to read in a terminal.
#[must_use]
pub fn table(results: &[RowResult]) -> String {
    let mut rows = vec![
        [
            "#",
            "fault",
            "runs",
            "lost",
            "twice",
            "unexplained",
            "agent",
            "result",
        ]
        .map(str::to_owned),
    ];
    for result in results {
        let sum = &result.sum;
        let mebibytes = sum.agent_peak_bytes.div_ceil(1 << 20);
        let peak = if mebibytes == 0 {
            "–".to_owned()
        } else {
            format!("{mebibytes} MiB")
        };
        let mut verdict = verdict(result);
        for note in &sum.notes {
            let _ = write!(verdict, "; {note}");
        }
        rows.push([
            result.row.number.to_string(),
            result.row.fault.to_owned(),
            sum.done.to_string(),
            sum.lost.to_string(),
            sum.duplicated.to_string(),
            sum.unexplained.to_string(),
            peak,
            verdict,
        ]);
    }
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    };
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in &widths {
                let _ = write!(text, "| {} ", "-".repeat(*width));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// One object a row.
#[must_use]
pub fn as_json(seed: u64, results: &[RowResult]) -> Value {
    let rows = results.iter().map(|result| {
        json!({
            "row": result.row.number,
            "fault": result.row.fault,
            "runs": result.sum.done,
            "lost": result.sum.lost,
            "duplicated": result.sum.duplicated,
            "unexplained": result.sum.unexplained,
            "agent_peak_bytes": result.sum.agent_peak_bytes,
            "passed": result.has_passed(),
            "skipped": result.skipped,
            "first_failure_seed": result.first_failure.as_ref().map(|(seed, ..)| seed),
            "first_failure": result.first_failure.as_ref().map(|(.., why)| why),
            "notes": result.sum.notes,
            "seconds": result.took.as_secs(),
        })
    });
    json!({ "seed": seed, "rows": rows.collect::<Vec<_>>() })
}

/// The page.
#[must_use]
pub fn page(command: &str, seed: u64, results: &[RowResult]) -> String {
    let passed = results.iter().filter(|result| result.has_passed()).count();
    let minutes = results
        .iter()
        .map(|result| result.took.as_secs())
        .sum::<u64>()
        .div_ceil(60);
    format!(
        "# Scorecard\n\n\
         Written by `{command}` (seed {seed}): {passed} of {} rows passed, in {minutes} min. Do not edit.\n\n\
         A row does its fault *runs* times to the real programs (or to their real parts) while lines are written, heals\n\
         it, waits until everything is drained, and compares the store with what was written outside of them: lines\n\
         that are nowhere (*lost*), rows too many (*twice*), and rows, positions or accounts that nobody can explain.\n\
         *agent* is the most memory that an agent took; 64 MiB is the limit. What is skipped has not passed.\n\n{}",
        results.len(),
        table(results)
    )
}

//! What was measured, as rows: a table for people, JSON for everything else.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::Outcome;

/// What a row must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// It is there to be known, or is itself a limit.
    None,
    /// The value, at least.
    AtLeast(f64),
    /// The value, at most.
    AtMost(f64),
    /// Value ÷ limit, at least.
    RatioAtLeast(f64),
    /// Value ÷ limit, at most.
    RatioAtMost(f64),
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What, in words that stay: later runs are compared by it.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// What it is compared with, measured in the same run, in the same unit.
    pub limit: Option<f64>,
    /// Value ÷ limit.
    pub ratio: Option<f64>,
    /// What it must reach, such as `ratio >= 0.6`.
    pub target: Option<String>,
    /// Does it?
    pub met: Option<bool>,
}

/// All rows of a run.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A measurement without a limit.
    pub fn add(&mut self, name: &str, value: f64, unit: &str, target: Target) {
        self.push(name, value, unit, None, target);
    }

    /// A measurement beside its limit.
    pub fn compare(&mut self, name: &str, value: f64, unit: &str, limit: f64, target: Target) {
        self.push(name, value, unit, Some(limit), target);
    }

    fn push(&mut self, name: &str, value: f64, unit: &str, limit: Option<f64>, target: Target) {
        let ratio = limit.filter(|limit| *limit > 0.0).map(|limit| value / limit);
        let (words, met) = match target {
            Target::None => (None, None),
            Target::AtLeast(bound) => (Some(format!("value >= {bound}")), Some(value >= bound)),
            Target::AtMost(bound) => (Some(format!("value <= {bound}")), Some(value <= bound)),
            Target::RatioAtLeast(bound) => (
                Some(format!("ratio >= {bound}")),
                ratio.map(|ratio| ratio >= bound),
            ),
            Target::RatioAtMost(bound) => (
                Some(format!("ratio <= {bound}")),
                ratio.map(|ratio| ratio <= bound),
            ),
        };
        let row = Row {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            limit,
            ratio,
            target: words,
            met,
        };
        println!("  {}", one_line(&row));
        self.rows.push(row);
    }

    /// Are all targets met?
    #[must_use]
    pub fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// The table, in Markdown, as `docs/benchmarks.md` shows it.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = String::from(
            "| what | value | unit | limit | ratio | target | met |\n| --- | ---: | --- | ---: | ---: | --- | --- |\n",
        );
        for row in &self.rows {
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.name,
                short(row.value),
                row.unit,
                row.limit.map_or_else(String::new, short),
                row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
                row.target.as_deref().unwrap_or(""),
                row.met.map_or("", |met| if met { "yes" } else { "NO" }),
            );
        }
        table
    }

    /// Writes the rows as a JSON array.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Outcome<()> {
        std::fs::write(path, serde_json::to_vec_pretty(&self.rows)?)?;
        Ok(())
    }
}

fn one_line(row: &Row) -> String {
    let mut line = format!("{:<58} {:>11} {}", row.name, short(row.value), row.unit);
    if let Some(ratio) = row.ratio {
        let _ = write!(line, ", {ratio:.3} of the limit");
    }
    if let (Some(target), Some(met)) = (&row.target, row.met) {
        let _ = write!(line, " ({target}: {})", if met { "met" } else { "MISSED" });
    }
    line
}

/// Four digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        medium if medium >= 100.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_whether_they_reach_their_target() {
        let mut report = Report::default();
        report.compare("fast enough", 70.0, "MB/s", 100.0, Target::RatioAtLeast(0.6));
        assert!(report.all_met());
        report.add("too large", 15.0, "MiB", Target::AtMost(14.0));
        report.add("only known", 1.0, "s", Target::None);
        assert!(!report.all_met());
        let rows: Vec<_> = report.rows.iter().map(|row| (row.ratio, row.met)).collect();
        assert_eq!(rows, [(Some(0.7), Some(true)), (None, Some(false)), (None, None)]);
        assert!(
            report
                .table()
                .contains("| too large | 15.00 | MiB |  |  | value <= 14 | NO |")
        );
    }

    #[test]
    fn the_file_is_an_array_with_exactly_the_agreed_fields() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        report.compare("a", 1.0, "s", 2.0, Target::RatioAtMost(1.0));
        report.write(&dir.path().join("report.json")).unwrap();
        let text = std::fs::read_to_string(dir.path().join("report.json")).unwrap();
        let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!([{
            "name": "a", "value": 1.0, "unit": "s", "limit": 2.0, "ratio": 0.5, "target": "ratio <= 1", "met": true,
        }]);
        assert_eq!(rows, expected);
    }
}

//! `metrics`: which there are, and how one went, as a table, a line of little bars or a plot.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{ApiClient, ClientArguments};
use super::{CliError, runtime, table};
use crate::text::harmless;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Characters of a line of bars.
const SPARK_POINTS: usize = 60;
/// Characters of a plot, across and down.
const PLOT_SIZE: (usize, usize) = (100, 12);

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  Which metrics there are:
    edgelogger-collector metrics
  How busy processors were in the last hour, a line for each series:
    edgelogger-collector metrics system.cpu.utilization --machine machine-17
  The same as a plot, and as numbers:
    edgelogger-collector metrics system.cpu.utilization --machine machine-17 --since 6h --plot
    edgelogger-collector metrics system.cpu.utilization --machine machine-17 --step 5m --aggregate max --table
  Traffic of all machines together:
    edgelogger-collector metrics system.network.io --aggregate rate --group-by label.network.io.direction")]
pub(super) struct MetricsArguments {
    /// A metric; without one, all of them are listed
    name: Option<String>,
    /// Only of these machines (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "NAME")]
    machine: Option<String>,
    /// Only series with this label; may be given several times
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// From then on: 10m (ago), 2026-11-21, RFC 3339 [default: 1h ago]
    #[arg(short = 'S', long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Until then
    #[arg(short = 'U', long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Length of what becomes one point, such as 5m
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
    /// How samples become a point: avg, min, max, sum, count, last, rate
    #[arg(short, long, value_name = "HOW")]
    aggregate: Option<String>,
    /// One line for each machine, source or label.NAME, or `none` for one of all
    #[arg(long, value_name = "WHAT")]
    group_by: Option<String>,
    /// Draw a plot
    #[arg(long, conflicts_with_all = ["table", "json"])]
    plot: bool,
    /// Print every point
    #[arg(long, conflicts_with = "json")]
    table: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArguments,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn run(arguments: &MetricsArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let path = match arguments.name {
        Some(_) => "/api/v1/metrics/range",
        None => "/api/v1/metrics",
    };
    let query = arguments.query();
    let query: Vec<(&str, String)> = query
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let answer = runtime()?.block_on(client.get(path, &query))?;
    let text = if arguments.json {
        format!("{answer}\n")
    } else if arguments.name.is_none() {
        names(&answer)
    } else if arguments.plot {
        plots(&answer)
    } else if arguments.table {
        points(&answer)
    } else {
        sparks(&answer)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

impl MetricsArguments {
    fn query(&self) -> Vec<(String, String)> {
        let mut query = Vec::new();
        let mut add = |name: &str, value: &Option<String>| {
            query.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
        };
        add("name", &self.name);
        add("machine", &self.machine);
        if self.name.is_some() {
            add("from", &self.since);
            add("to", &self.until);
            add("step", &self.step);
            add("aggregate", &self.aggregate);
            add("group_by", &self.group_by);
        }
        let labels = self.labels.iter();
        query.extend(labels.map(|(name, value)| (format!("label.{name}"), value.clone())));
        query
    }
}

fn names(answer: &Value) -> String {
    const COLUMNS: [&str; 6] = ["name", "unit", "kind", "series", "machines", "last"];
    let rows: Vec<Vec<Value>> = list(&answer["metrics"])
        .iter()
        .map(|metric| COLUMNS.map(|column| metric[column].clone()).to_vec())
        .collect();
    table::draw(&COLUMNS.map(ToOwned::to_owned), &rows)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What tells a line from the others.
fn title(line: &Value) -> String {
    let mut parts: Vec<String> = ["machine", "source"]
        .iter()
        .filter_map(|key| line[*key].as_str().map(ToOwned::to_owned))
        .collect();
    let labels = line["labels"].as_object().into_iter().flatten();
    parts.extend(labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())));
    harmless(&parts.join(" ")).into_owned()
}

fn values(line: &Value) -> Vec<Option<f64>> {
    list(&line["values"]).iter().map(Value::as_f64).collect()
}

/// Least, greatest and last of what is there.
fn extent(values: &[Option<f64>]) -> Option<(f64, f64, f64)> {
    let known = || values.iter().flatten().copied();
    let last = known().next_back()?;
    Some((known().fold(last, f64::min), known().fold(last, f64::max), last))
}

/// At most `width` values: the means of neighbours.
fn means(values: &[Option<f64>], width: usize) -> Vec<Option<f64>> {
    let width = width.min(values.len()).max(1);
    let mean = |at: usize| {
        let part = &values[at * values.len() / width..(at + 1) * values.len() / width];
        let known: Vec<f64> = part.iter().flatten().copied().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    (0..width).map(mean).collect()
}

/// Bars between the least and the greatest value; a gap is a blank.
fn spark(values: &[Option<f64>], width: usize) -> String {
    let Some((least, greatest, _)) = extent(values) else {
        return String::new();
    };
    let bar = |value: Option<f64>| {
        let Some(value) = value else { return ' ' };
        let height = (value - least) / (greatest - least).max(f64::MIN_POSITIVE) * 7.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        BARS[(height.round() as usize).min(7)]
    };
    means(values, width).into_iter().map(bar).collect()
}

fn sparks(answer: &Value) -> String {
    let row = |line: &Value| {
        let values = values(line);
        let number = |value: f64| json!(number(value));
        let (least, greatest, last) = extent(&values).map_or_else(
            || (Value::Null, Value::Null, Value::Null),
            |(least, greatest, last)| (number(least), number(greatest), number(last)),
        );
        vec![
            json!(title(line)),
            json!(spark(&values, SPARK_POINTS)),
            least,
            greatest,
            last,
        ]
    };
    let rows: Vec<Vec<Value>> = list(&answer["series"]).iter().map(row).collect();
    let unit = answer["unit"].as_str().unwrap_or_default();
    let columns = ["series", unit, "min", "max", "last"].map(ToOwned::to_owned);
    table::draw(&columns, &rows)
}

/// Four digits that count.
fn number(value: f64) -> String {
    if value != 0.0 && (value.abs() < 0.001 || value.abs() >= 1e7) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn points(answer: &Value) -> String {
    let lines = list(&answer["series"]);
    let mut columns = vec!["time".to_owned()];
    columns.extend(lines.iter().map(title));
    let all: Vec<Vec<Option<f64>>> = lines.iter().map(values).collect();
    let rows: Vec<Vec<Value>> = list(&answer["times_ms"])
        .iter()
        .enumerate()
        .map(|(at, time)| {
            let time = time
                .as_i64()
                .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            let mut row = vec![json!(time.map(|time| time.to_string()))];
            row.extend(all.iter().map(|values| json!(values.get(at).copied().flatten())));
            row
        })
        .collect();
    table::draw(&columns, &rows)
}

fn plots(answer: &Value) -> String {
    let times = list(&answer["times_ms"]);
    let time = |ms: Option<&Value>| {
        let time = jiff::Timestamp::from_millisecond(ms?.as_i64()?).ok()?;
        Some(time.to_string())
    };
    let (Some(first), Some(last)) = (time(times.first()), time(times.last())) else {
        return "no samples\n".to_owned();
    };
    let unit = answer["unit"].as_str().unwrap_or_default();
    let mut text = String::new();
    for line in list(&answer["series"]) {
        text.push_str(&format!("{} [{}]\n", title(line), harmless(unit)));
        text.push_str(&plot(&values(line)));
        text.push_str(&format!("{:>12}   {first} to {last}\n\n", ""));
    }
    text
}

/// Columns of bars over a scale that begins at the least value; a gap is a blank column.
fn plot(values: &[Option<f64>]) -> String {
    let Some((least, greatest, _)) = extent(values) else {
        return String::new();
    };
    let (width, height) = PLOT_SIZE;
    let columns = means(values, width);
    let mut text = String::new();
    for row in (0..height).rev() {
        let scale = match row {
            0 => number(least),
            _ if row == height - 1 => number(greatest),
            _ => String::new(),
        };
        let bar = |value: &Option<f64>| {
            let Some(value) = value else { return ' ' };
            // In eighths of a row; the least value still shows.
            let part = (value - least) / (greatest - least).max(f64::MIN_POSITIVE);
            let eighths = (part * (height * 8) as f64).max(1.0) - (row * 8) as f64;
            match eighths {
                none if none <= 0.0 => ' ',
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
                some => BARS[(some.ceil() as usize).clamp(1, 8) - 1],
            }
        };
        let bars: String = columns.iter().map(bar).collect();
        text.push_str(&format!("{scale:>12} \u{2502} {}\n", bars.trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        json!({
            "unit": "1",
            "times_ms": [0, 1000, 2000, 3000],
            "series": [{"machine": "m", "labels": {"cpu": "0\u{1b}"}, "values": [0.0, null, 0.5, 1.0]}],
        })
    }

    #[test]
    fn gaps_are_blank_and_the_greatest_is_a_full_bar() {
        assert_eq!(spark(&[Some(0.0), None, Some(1.0)], 60), "▁ █");
        assert_eq!(spark(&[None], 60), "");
        assert_eq!(spark(&[Some(5.0), Some(5.0)], 60), "▁▁");
        assert_eq!(spark(&vec![Some(1.0); 1000], 60).chars().count(), 60);
    }

    #[test]
    fn every_form_shows_the_series_and_no_control_characters() {
        for text in [sparks(&answer()), points(&answer()), plots(&answer())] {
            assert!(text.contains("m cpu=0\\x1b"), "{text}");
            assert!(!text.contains('\u{1b}'));
        }
        assert!(points(&answer()).contains("1970-01-01T00:00:03Z"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(12.0), "12");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(123_456_789.0), "1.235e8");
    }
}

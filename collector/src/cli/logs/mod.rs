//! `logs`: records, oldest first, page by page; `--follow` goes on with what comes.
//!
//! | file | idea |
//! | --- | --- |
//! | `pages.rs` | what is there |
//! | `follow.rs` | what comes |
//! | `tail.rs`, `events.rs` | a connection for that, and what is said on it |
//! | `groups.rs` | matches with the lines around them |
//! | `shown.rs` | nothing is shown twice |
//! | `render.rs` | how a record looks |

mod events;
mod follow;
mod groups;
mod pages;
mod render;
mod shown;
mod tail;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::client::{ApiClient, ClientArguments};
use super::pager::{Color, Out};
use super::{CliError, runtime};
use groups::{Around, Joiner, Step, groups};
use pages::Pages;
use render::{Output, Renderer};

/// What the collector gives around a record, at most.
const NEIGHBOURS_MAX: u64 = 1_000;
/// Records shown where no number is given and nothing says from when on.
const LINES_DEFAULT: usize = 100;

#[derive(Debug, Args)]
#[command(before_help = "\
Examples:
  The last hundred records of all machines:
    edgelogger-collector logs
  What a machine said about timeouts in the last ten minutes:
    edgelogger-collector logs --machine machine-17 --since 10m timeout
  With the three lines of the same file before and behind each:
    edgelogger-collector logs --machine machine-17 --since 10m -C 3 timeout
  Errors of nginx as they come, as JSON:
    edgelogger-collector logs --source '/var/log/nginx/*' --severity error --follow -o json
  By a regular expression, into a spreadsheet:
    edgelogger-collector logs --since 1d -e 'took [0-9]{4,} ms' -o csv > slow.csv")]
pub(super) struct LogsArguments {
    /// Only records with this text
    text: Option<String>,
    /// The text is a regular expression
    #[arg(short = 'e', long, requires = "text")]
    regex: bool,
    /// Not minding upper and lower case
    #[arg(short, long)]
    ignore_case: bool,
    /// Only this machine (* and ? stand for any text and any character)
    #[arg(short, long, value_name = "NAME")]
    machine: Option<String>,
    /// Only this source: a path, "journald" (* and ? as above)
    #[arg(short, long)]
    source: Option<String>,
    /// This severity and above: trace, debug, info, warn, error, fatal, or 1 to 24
    #[arg(short = 'p', long)]
    severity: Option<String>,
    /// From then on: 10m (ago), 2026-11-21, "2026-11-21 10:02" (UTC), RFC 3339
    #[arg(short = 'S', long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Until then
    #[arg(
        short = 'U',
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        conflicts_with = "follow"
    )]
    until: Option<String>,
    /// The newest so many records [default: 100, or all when --since is given]
    #[arg(short = 'n', long, visible_alias = "limit", value_name = "NUMBER")]
    lines: Option<usize>,
    /// Go on with what comes; a collector that goes away is awaited
    #[arg(short, long)]
    follow: bool,
    /// With so many lines of the same source before and behind each, as grep shows them
    #[arg(short = 'C', long, value_name = "NUMBER", value_parser = neighbours(), conflicts_with = "follow")]
    context: Option<u64>,
    /// With so many lines before each
    #[arg(short = 'B', long, value_name = "NUMBER", value_parser = neighbours(), conflicts_with = "follow")]
    before_context: Option<u64>,
    /// With so many lines behind each
    #[arg(short = 'A', long, value_name = "NUMBER", value_parser = neighbours(), conflicts_with = "follow")]
    after_context: Option<u64>,
    /// How a record looks
    #[arg(short, long, default_value = "text")]
    output: Output,
    /// Colours: by severity, and what was searched for
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Not through a pager
    #[arg(long)]
    no_pager: bool,
    #[command(flatten)]
    client: ClientArguments,
}

fn neighbours() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=NEIGHBOURS_MAX)
}

pub(super) fn run(arguments: &LogsArguments) -> Result<ExitCode, CliError> {
    let client = ApiClient::new(&arguments.client)?;
    let mut printer = Printer::new(arguments);
    runtime()?.block_on(async {
        if arguments.follow {
            follow::run(&client, arguments, &mut printer).await?;
        } else {
            show(&client, arguments, &mut printer).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn show(client: &ApiClient, arguments: &LogsArguments, printer: &mut Printer) -> Result<(), CliError> {
    let mut pages = Pages::new(client, arguments);
    match (arguments.count(), arguments.around().is_some()) {
        (Some(count), false) => printer.print(&pages.newest(count).await?)?,
        (Some(count), true) => printer.print_groups(pages.newest_groups(count).await?)?,
        (None, false) => {
            while let Some(rows) = pages.next().await? {
                printer.print(&rows)?;
            }
        }
        (None, true) => {
            while let Some(rows) = pages.next().await? {
                printer.print_groups(groups(rows))?;
            }
        }
    }
    Ok(())
}

impl LogsArguments {
    /// Which records, whatever their time.
    fn filter(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        let mut add = |name, value: &Option<String>| {
            if let Some(value) = value {
                query.push((name, value.clone()));
            }
        };
        add(if self.regex { "re" } else { "q" }, &self.text);
        add("machine", &self.machine);
        add("source", &self.source);
        add(
            "severity",
            &self.severity.as_ref().map(|word| word.to_ascii_lowercase()),
        );
        if self.ignore_case {
            query.push(("i", "true".to_owned()));
        }
        query
    }

    /// From when until when.
    fn range(&self) -> impl Iterator<Item = (&'static str, String)> {
        let ends = [("from", &self.since), ("to", &self.until)].into_iter();
        ends.filter_map(|(name, time)| Some((name, time.clone()?)))
    }

    /// Lines around each match.
    fn around(&self) -> Option<Around> {
        let given = [self.context, self.before_context, self.after_context];
        given.iter().any(Option::is_some).then(|| Around {
            before: self.before_context.or(self.context).unwrap_or(0),
            after: self.after_context.or(self.context).unwrap_or(0),
        })
    }

    /// The newest so many; none: all.
    fn count(&self) -> Option<usize> {
        self.lines
            .or_else(|| self.since.is_none().then_some(LINES_DEFAULT))
    }
}

/// Records, to the pager or to stdout.
struct Printer {
    renderer: Renderer,
    joiner: Joiner,
    out: Out,
}

impl Printer {
    fn new(arguments: &LogsArguments) -> Self {
        let needle = arguments.text.clone().filter(|_| !arguments.regex);
        Self {
            renderer: Renderer::new(
                arguments.output,
                arguments.color.is_on(),
                needle.map(|text| (text, !arguments.ignore_case)),
                arguments.around().is_some(),
            )
            .on_terminal(io::stdout().is_terminal()),
            joiner: Joiner::default(),
            out: Out::open(!arguments.no_pager && !arguments.follow && arguments.output == Output::Text),
        }
    }

    /// Matches with what stands around them.
    fn print_groups(&mut self, groups: Vec<Vec<Value>>) -> Result<(), CliError> {
        for group in groups {
            self.joiner.begin();
            for mut row in group {
                match self.joiner.step(&row) {
                    Step::Skip => continue,
                    Step::Print => {}
                    Step::PrintApart => self.renderer.gap(&mut self.out)?,
                }
                row["group"] = self.joiner.number().into();
                let is_match = row["match"].as_bool().unwrap_or(true);
                self.renderer.record(&mut self.out, &row, is_match)?;
            }
        }
        Ok(self.out.flush()?)
    }

    fn print(&mut self, rows: &[Value]) -> Result<(), CliError> {
        for row in rows {
            self.renderer.record(&mut self.out, row, true)?;
        }
        Ok(self.out.flush()?)
    }
}

//! `store`: looks at the store's files, of a collector that does not run.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::disk::{DiskLock, OsDisk};
use edgelogger_store::{FileListing, RowsQuery, StoreError, StoreFiles, Table};
use serde_json::{Value, json};

use super::{CliError, RunArguments, table};
use crate::api::rows;
use crate::health::rfc3339;
use crate::setup::{DataDir, SetupError};
use crate::text::harmless;
use crate::when::parse_when;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// List the files of the store
    #[command(before_help = "\
Examples:
  edgelogger-collector store ls
  edgelogger-collector store ls --data-dir /var/lib/edgelogger-collector --json | jq '.files | length'

Changes nothing. Refused while a collector runs.")]
    Ls(StoreArguments),
    /// Read every page of every file, and compare it with what was written
    #[command(before_help = "\
Examples:
  edgelogger-collector store verify
  edgelogger-collector store verify --json | jq .damaged

Compares checksums, and rows, times, machines, order and positions with the manifest. Changes nothing. Exits with 1 when
something is damaged or missing. Refused while a collector runs.")]
    Verify(StoreArguments),
    /// Write rows to a file
    #[command(before_help = "\
Examples:
  edgelogger-collector store export --format parquet --table logs -o logs.parquet
  edgelogger-collector store export --format ndjson --table logs --machine machine-17 --from 2026-11-01T00:00:00Z | jq .body
  edgelogger-collector store export --format csv --table metrics --from -7d -o metrics.csv

Oldest day first; within a file of the store by machine and time. Changes nothing. Refused while a collector runs.")]
    Export(ExportArguments),
}

#[derive(Debug, Args)]
pub(super) struct StoreArguments {
    /// Configuration file of the collector
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_COLLECTOR_CONFIG")]
    config: Option<PathBuf>,
    /// The collector's data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Parquet,
    Ndjson,
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableName {
    Logs,
    Metrics,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Configuration file of the collector
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_COLLECTOR_CONFIG")]
    config: Option<PathBuf>,
    /// The collector's data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// As what
    #[arg(long)]
    format: Format,
    /// Rows of which table
    #[arg(long)]
    table: TableName,
    /// First time: -7d (ago), RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Only this machine, by its whole name
    #[arg(short, long, value_name = "NAME")]
    machine: Option<String>,
    /// Where to [default: stdout]; a file that is there is not replaced
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(command: &StoreCommand) -> Result<ExitCode, CliError> {
    match command {
        StoreCommand::Ls(arguments) => list(arguments),
        StoreCommand::Verify(arguments) => verify(arguments),
        StoreCommand::Export(arguments) => export(arguments),
    }
}

/// The store of a data folder; nobody else opens either meanwhile.
fn open(config: Option<&PathBuf>, data_dir: Option<&PathBuf>) -> Result<(DiskLock, StoreFiles), CliError> {
    let run = RunArguments {
        config: config.cloned(),
        data_dir: data_dir.cloned(),
        ingest_listen: None,
        api_listen: None,
        advertise: Vec::new(),
        console: false,
    };
    let data = DataDir::new(run.load()?.data_dir);
    let dir = data.store();
    if !dir.is_dir() {
        return Err(CliError::Plain(format!(
            "there is no store in {}; give the collector's folder with --data-dir",
            data.path().display()
        )));
    }
    let lock = data.lock().map_err(|error| match error {
        SetupError::Locked(_) => CliError::Plain(format!(
            "a running collector has {} in use; stop it first, or ask it: `logs`, `sql`, `status`",
            data.path().display()
        )),
        error => CliError::Plain(error.to_string()),
    })?;
    Ok((lock, StoreFiles::open(Arc::new(OsDisk), &dir)?))
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Plain(error.to_string())
    }
}

fn list(arguments: &StoreArguments) -> Result<ExitCode, CliError> {
    let (_lock, store) = open(arguments.config.as_ref(), arguments.data_dir.as_ref())?;
    let (files, aside, unnamed) = (store.list(), store.aside(), store.unnamed()?);
    let mut out = io::stdout().lock();
    if arguments.json {
        let answer = json!({"files": files, "aside": aside, "unnamed": unnamed, "cursor": store.cursor()});
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["file", "rows", "bytes", "first", "last", "machines"].map(str::to_owned);
    let rows: Vec<Vec<Value>> = files.iter().map(row).collect();
    out.write_all(table::draw(&columns, &rows).as_bytes())?;
    let sum = |get: fn(&FileListing) -> u64| files.iter().map(get).sum::<u64>();
    writeln!(
        out,
        "\n{} files, {} rows, {} bytes; entries of the commit log below {} are in them",
        files.len(),
        sum(|file| file.rows),
        sum(|file| file.bytes),
        store.cursor()
    )?;
    for aside in aside {
        writeln!(
            out,
            "put aside, with {} rows: {} ({})",
            aside.file.rows,
            aside.file.name,
            harmless(&aside.reason)
        )?;
    }
    for name in unnamed {
        writeln!(out, "not part of the store: files/{}", harmless(&name))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(file: &FileListing) -> Vec<Value> {
    let machines = match &file.machines[..] {
        [first, .., last] => format!("{first} … {last}"),
        machines => machines.concat(),
    };
    vec![
        json!(file.name),
        json!(file.rows),
        json!(file.bytes),
        json!(rfc3339(file.first_ns)),
        json!(rfc3339(file.last_ns)),
        json!(machines),
    ]
}

fn verify(arguments: &StoreArguments) -> Result<ExitCode, CliError> {
    let (_lock, store) = open(arguments.config.as_ref(), arguments.data_dir.as_ref())?;
    let mut out = io::stdout().lock();
    let (mut whole, mut damaged) = (0u64, Vec::new());
    let listed = store.list().into_iter().map(|file| {
        let problems = store.verify(&file.name);
        (file, problems)
    });
    let aside = store.aside().into_iter();
    let aside = aside.map(|aside| (aside.file, vec![format!("it is put aside: {}", aside.reason)]));
    for (file, problems) in listed.chain(aside) {
        if problems.is_empty() {
            whole += 1;
            continue;
        }
        if !arguments.json {
            for problem in &problems {
                writeln!(out, "{}: {}", file.name, harmless(problem))?;
            }
        }
        damaged.push(json!({"file": file.name, "rows": file.rows, "problems": problems}));
    }
    let is_whole = damaged.is_empty();
    if arguments.json {
        writeln!(out, "{}", json!({"whole": whole, "damaged": damaged}))?;
    } else if is_whole {
        writeln!(out, "{whole} files are whole")?;
    } else {
        writeln!(
            out,
            "{} files are damaged or missing, {whole} are whole; restore them from a backup: queries answer without them",
            damaged.len()
        )?;
    }
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl ExportArguments {
    fn query(&self) -> Result<RowsQuery, CliError> {
        let now_ns = SystemClock::new().wall_ns();
        let when = |name: &str, text: &Option<String>| {
            let parsed = text.as_ref().map(|text| parse_when(text, now_ns));
            parsed
                .transpose()
                .map_err(|error| CliError::Plain(format!("--{name}: {error}")))
        };
        Ok(RowsQuery {
            table: match self.table {
                TableName::Logs => Table::Logs,
                TableName::Metrics => Table::Metrics,
            },
            from: when("from", &self.from)?,
            to: when("to", &self.to)?,
            machine: self.machine.clone(),
        })
    }
}

fn export(arguments: &ExportArguments) -> Result<ExitCode, CliError> {
    let query = arguments.query()?;
    let (_lock, store) = open(arguments.config.as_ref(), arguments.data_dir.as_ref())?;
    let rows = match &arguments.output {
        None => write(&store, &query, arguments.format, io::stdout())?,
        Some(path) => {
            let failed =
                |error: io::Error| CliError::Plain(format!("cannot write {}: {error}", path.display()));
            let file = File::create_new(path).map_err(failed)?;
            // What is not whole must not look as if it were.
            let written = write(&store, &query, arguments.format, &file)
                .and_then(|rows| file.sync_all().map(|()| rows).map_err(failed));
            written.inspect_err(|_| drop(std::fs::remove_file(path)))?
        }
    };
    writeln!(io::stderr(), "{rows} rows")?;
    Ok(ExitCode::SUCCESS)
}

fn write(
    store: &StoreFiles,
    query: &RowsQuery,
    format: Format,
    output: impl Write + Send,
) -> Result<u64, CliError> {
    let mut output = BufWriter::new(output);
    let rows = match format {
        Format::Parquet => store.write_parquet(query, &mut output)?,
        Format::Ndjson => store.rows(query, |batch| {
            output.write_all(&rows::lines(std::slice::from_ref(batch)).map_err(StoreError::from)?)?;
            Ok::<_, CliError>(())
        })?,
        Format::Csv => {
            output.write_all(&rows::csv(&query.table.schema(), &[]).map_err(StoreError::from)?)?;
            store.rows(query, |batch| {
                output.write_all(&rows::csv_lines(batch).map_err(StoreError::from)?)?;
                Ok::<_, CliError>(())
            })?
        }
    };
    output.flush()?;
    Ok(rows)
}

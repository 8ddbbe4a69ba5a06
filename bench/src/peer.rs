//! DuckDB as a peer: the same questions to the same Parquet files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use crate::Outcome;

const PROGRAM: &str = include_str!("../peer/duckdb_peer.py");
/// pytz: without it DuckDB gives no times with a zone to Python.
const PACKAGES: [&str; 2] = ["duckdb==1.*", "pytz"];

/// What came of one query.
#[derive(Debug, Clone, Deserialize)]
pub struct PeerAnswer {
    /// From the question to the last row.
    pub seconds: f64,
    /// The first value of the first row, as text.
    pub first: Option<String>,
}

/// Asks DuckDB. It is installed from PyPI into a cache folder at the first time.
///
/// # Errors
/// It can't be installed, or refuses a query.
pub fn ask(files: &Path, threads: usize, queries: &[String]) -> Outcome<Vec<PeerAnswer>> {
    let python = python()?;
    let asked = json!({
        "logs": files.join("logs-*.parquet").display().to_string(),
        "threads": threads,
        "queries": queries,
    });
    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(asked.to_string().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("DuckDB refused a query".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The Python of an environment that has DuckDB.
fn python() -> Outcome<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let environment = cache.join("edgelogger/duckdb");
    let python = environment.join("bin/python");
    let has_it = || {
        let found = Command::new(&python).args(["-c", "import duckdb, pytz"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    if !has_it() {
        let run = |command: &mut Command| -> Outcome<()> {
            let status = command.stdout(Stdio::null()).status()?;
            status.success().then_some(()).ok_or_else(|| "it failed".into())
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))
            .and_then(|()| {
                run(Command::new(&python)
                    .args(["-m", "pip", "install", "--quiet"])
                    .args(PACKAGES))
            })
            .map_err(|error| format!("DuckDB can't be installed (python3 -m venv, pip): {error}"))?;
    }
    Ok(python)
}

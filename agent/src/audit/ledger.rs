//! The collector's ledger, as far as an audit needs it: from its API, or from a file.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

/// Streams that are asked for at once: what the API gives at most.
const STREAMS_MAX: usize = 10_000;
/// An answer of so many streams with all their ranges.
const ANSWER_BYTES_MAX: u64 = 512 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nobody answers, or not with a ledger.
    #[error("cannot ask the collector at {url}: {problem}")]
    Ask {
        /// Whom.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// The file.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not what `edgelogger-collector ledger --json --checks` prints.
    #[error(
        "this is not the ledger of a collector ({0}); make one with `edgelogger-collector ledger --json --checks`"
    )]
    Malformed(serde_json::Error),
    /// Not all of it.
    #[error("the ledger has {count} streams, {got} of them came; ask for fewer with --machine or --source")]
    Incomplete {
        /// Streams there are.
        count: u64,
        /// Streams that came.
        got: usize,
    },
    /// Without checks nothing can be compared.
    #[error("the ledger has no checks; make it with `edgelogger-collector ledger --json --checks`")]
    NoChecks,
}

/// What the collector says it has.
#[derive(Debug, Clone, Deserialize)]
pub struct Ledger {
    /// All streams that were asked for, oldest first for each source.
    pub streams: Vec<Stream>,
    count: u64,
}

/// One stream.
#[derive(Debug, Clone, Deserialize)]
pub struct Stream {
    /// Whose.
    pub machine: String,
    /// The path by which it was collected.
    pub source: String,
    /// Its id.
    pub stream_id: String,
    /// Which of its source.
    pub generation: u32,
    /// `file`, `journald`, …
    pub kind: String,
    /// What positions count.
    pub unit: String,
    /// First position.
    pub start: u64,
    /// Behind the last that was told of.
    pub size: u64,
    /// Its end, once it is known.
    pub end: Option<End>,
    /// What is not stored.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// What the source held.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// The end of a stream.
#[derive(Debug, Clone, Deserialize)]
pub struct End {
    /// The stream has exactly this size; otherwise at least.
    pub exact: bool,
}

/// A range that is not stored.
#[derive(Debug, Clone, Deserialize)]
pub struct Gap {
    /// First position.
    pub start: u64,
    /// Behind the last position.
    pub end: u64,
    /// durable, pending, unknown, dropped, lost.
    pub state: String,
    /// Why, where it is dropped or lost.
    pub reason: Option<String>,
}

/// What a range held.
#[derive(Debug, Clone, Deserialize)]
pub struct Check {
    /// First position.
    pub start: u64,
    /// Behind the last position.
    pub end: u64,
    /// Of all its bytes.
    pub crc32c: u32,
}

impl Stream {
    /// Was it read from a file?
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == "file" && self.unit == "bytes"
    }
}

impl Ledger {
    /// Of a text.
    ///
    /// # Errors
    /// It is no ledger, or not all of one.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let ledger: Self = serde_json::from_str(text).map_err(LedgerError::Malformed)?;
        let got = ledger.streams.len();
        if (got as u64) < ledger.count {
            return Err(LedgerError::Incomplete {
                count: ledger.count,
                got,
            });
        }
        let is_stored = |stream: &Stream| stream.is_file() && stream.gaps.is_empty() && stream.size > 0;
        if ledger.streams.iter().any(is_stored)
            && ledger.streams.iter().all(|stream| stream.checks.is_empty())
        {
            return Err(LedgerError::NoChecks);
        }
        Ok(ledger)
    }

    /// Of a file; `-` is stdin.
    ///
    /// # Errors
    /// It can't be read, or is no ledger.
    pub fn from_file(path: &Path) -> Result<Self, LedgerError> {
        let read = || {
            let mut text = String::new();
            if path == Path::new("-") {
                std::io::stdin()
                    .take(ANSWER_BYTES_MAX)
                    .read_to_string(&mut text)?;
            } else {
                let file = std::fs::File::open(path)?;
                file.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
            }
            Ok(text)
        };
        let text = read().map_err(|source| LedgerError::File {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text)
    }

    /// From the API of a collector.
    ///
    /// # Errors
    /// Nobody answers, or not with a ledger.
    pub fn ask(
        url: &str,
        token: Option<&str>,
        machine: Option<&str>,
        source: Option<&str>,
    ) -> Result<Self, LedgerError> {
        let failed = |problem: String| LedgerError::Ask {
            url: url.to_owned(),
            problem,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let text = runtime.block_on(async {
            // The client wants to know how it would speak TLS, even when it speaks plain HTTP.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
            let mut query = vec![("checks", "true".to_owned()), ("limit", STREAMS_MAX.to_string())];
            query.extend(machine.map(|name| ("machine", name.to_owned())));
            query.extend(source.map(|name| ("source", name.to_owned())));
            let address = format!("{}/api/v1/ledger", url.trim_end_matches('/'));
            let mut request = client.get(address).query(&query);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await?;
            let status = answer.status();
            answer.text().await.map(|text| (status, text))
        });
        match text {
            Ok((status, text)) if status.is_success() => Self::parse(&text),
            Ok((status, text)) => {
                let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let detail = problem["detail"].as_str().unwrap_or("it is not a collector");
                Err(failed(format!("{status}: {detail}")))
            }
            Err(error) => {
                let mut cause: &dyn std::error::Error = &error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                Err(failed(cause.to_string()))
            }
        }
    }
}

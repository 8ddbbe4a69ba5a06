//! The collector's ledger, as far as an audit needs it: from its API, or from a file.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

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
    #[error(
        "the ledger has {count} streams or days, {got} of them came; ask for fewer with --machine or --source"
    )]
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
    /// Streams that are known by day only; none where they are asked for file by file.
    #[serde(default)]
    summaries: Vec<Summary>,
    #[serde(default)]
    summaries_count: u64,
    #[serde(skip)]
    api: Option<Api>,
}

/// Where a ledger came from, and of what.
#[derive(Debug, Clone)]
struct Api {
    url: String,
    token: Option<String>,
    machine: Option<String>,
    source: Option<String>,
}

/// The streams of one source that were folded on a day.
#[derive(Debug, Clone, Deserialize)]
struct Summary {
    day: String,
    machine: String,
    source: String,
    #[serde(default)]
    gaps: Vec<IgnoredAny>,
    #[serde(default)]
    contents: Vec<FoldedContent>,
}

#[derive(Debug, Clone, Deserialize)]
struct FoldedContent {
    stream_id: String,
    size: u64,
    exact: bool,
    checks: Vec<Check>,
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
    #[serde(default)]
    pub generation: Option<u32>,
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
    /// It is known by this day only. Then its gaps are not known, but whether there are any.
    #[serde(skip)]
    pub folded: Option<Folded>,
}

/// Of a stream that is known by day only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// When the last of it came in, UTC.
    pub day: String,
    /// Something of this source was dropped or lost on that day.
    pub has_gaps: bool,
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
        let ledger = Self::parse_any(text)?;
        let is_stored = |stream: &Stream| stream.is_file() && stream.gaps.is_empty() && stream.size > 0;
        if ledger.streams.iter().any(is_stored)
            && ledger.streams.iter().all(|stream| stream.checks.is_empty())
        {
            return Err(LedgerError::NoChecks);
        }
        Ok(ledger)
    }

    fn parse_any(text: &str) -> Result<Self, LedgerError> {
        let ledger: Self = serde_json::from_str(text).map_err(LedgerError::Malformed)?;
        let parts = [
            (ledger.streams.len(), ledger.count),
            (ledger.summaries.len(), ledger.summaries_count),
        ];
        match parts.into_iter().find(|(got, count)| (*got as u64) < *count) {
            Some((got, count)) => Err(LedgerError::Incomplete { count, got }),
            None => Ok(ledger),
        }
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
        let api = Api {
            url: url.to_owned(),
            token: token.map(str::to_owned),
            machine: machine.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        let mut ledger = Self::parse(&api.get(&[("checks", "true".to_owned())])?)?;
        ledger.api = Some(api);
        Ok(ledger)
    }

    /// Streams of files that are known by day only and may have been a file of this size: those that ended there, and
    /// all of the source where one was named, or (in a ledger from a file) where `is_its_source` says so.
    ///
    /// # Errors
    /// Nobody answers any more, or not with a ledger.
    pub fn folded(
        &self,
        size: u64,
        is_its_source: impl Fn(&str) -> bool,
    ) -> Result<Vec<Stream>, LedgerError> {
        let Some(api) = &self.api else {
            let all = self.summaries.iter().flat_map(Summary::streams);
            let wanted = all.filter(|stream| stream.size == size || is_its_source(&stream.source));
            return Ok(wanted.collect());
        };
        let on = || "true".to_owned();
        let mut query = vec![("checks", on()), ("summaries", on())];
        query.extend(api.source.is_none().then(|| ("size", size.to_string())));
        let found = Self::parse_any(&api.get(&query)?)?;
        Ok(found.summaries.iter().flat_map(Summary::streams).collect())
    }
}

impl Summary {
    fn streams(&self) -> impl Iterator<Item = Stream> {
        let folded = Folded {
            day: self.day.clone(),
            has_gaps: !self.gaps.is_empty(),
        };
        self.contents.iter().map(move |content| Stream {
            machine: self.machine.clone(),
            source: self.source.clone(),
            stream_id: content.stream_id.clone(),
            generation: None,
            kind: "file".to_owned(),
            unit: "bytes".to_owned(),
            start: 0,
            size: content.size,
            end: Some(End { exact: content.exact }),
            gaps: Vec::new(),
            checks: content.checks.clone(),
            folded: Some(folded.clone()),
        })
    }
}

impl Api {
    /// The ledger, of what this is of.
    fn get(&self, query: &[(&str, String)]) -> Result<String, LedgerError> {
        let url = &self.url;
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
            let mut query = [query, &[("limit", STREAMS_MAX.to_string())]].concat();
            query.extend(self.machine.iter().map(|name| ("machine", name.clone())));
            query.extend(self.source.iter().map(|name| ("source", name.clone())));
            let address = format!("{}/api/v1/ledger", url.trim_end_matches('/'));
            let mut request = client.get(address).query(&query);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await?;
            let status = answer.status();
            answer.text().await.map(|text| (status, text))
        });
        match text {
            Ok((status, text)) if status.is_success() => Ok(text),
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

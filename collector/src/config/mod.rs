//! Configuration in two honest stages: what was typed ([`file::FileConfig`]), and what runs ([`Config`]).
//!
//! Without a file everything has a default. `config/collector.toml` shows each key with its unit and default; a test
//! compares the two.

mod file;
mod schema;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::batch::BatchLimits;
use edgelogger_common::clock::{Clock, SystemClock};
use edgelogger_common::config::{ConfigError, Source};
use edgelogger_common::disk::{Disk, OsDisk};
use edgelogger_common::telemetry::LogFormat;
use edgelogger_store::Retention;

pub use schema::schema;

/// What comes into force while the collector runs: settings and tables. `docs/configuration-collector.md` marks them.
pub const RELOADS: &[&str] = &[
    "store.retention",
    "store.query_timeout",
    "store.query_rows_max",
    "ledger.detail_days",
    "api.tails_max",
    "tls",
    "tokens.verifying_keys",
    "telemetry.filter",
];

pub use file::{FileConfig, OnLogFull, Overrides, Start};

use crate::ingest::IngestSettings;

/// What runs.
#[derive(Clone)]
pub struct Config {
    /// Everything that the collector keeps lies below this folder.
    pub data_dir: PathBuf,
    /// Agents.
    pub ingest: IngestConfig,
    /// The commit log.
    pub log: LogConfig,
    /// The embedded store.
    pub store: StoreConfig,
    /// The ledger.
    pub ledger: LedgerConfig,
    /// Lines on stdout.
    pub console: ConsoleConfig,
    /// API.
    pub api: ApiConfig,
    /// Certificates.
    pub tls: TlsConfig,
    /// Public keys whose tokens are accepted beside the own ones.
    pub verifying_keys: Vec<PathBuf>,
    /// The program's own log.
    pub telemetry: TelemetryConfig,
    /// The file system of the commit log. Tests give one that fails.
    pub log_disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Agents.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Where they connect.
    pub listen: SocketAddr,
    /// Memory for their payloads, in bytes.
    pub memory_bytes: u64,
    /// The rest.
    pub settings: IngestSettings,
}

/// The commit log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// All of it.
    pub bytes_max: u64,
    /// A segment.
    pub segment_bytes_max: u64,
    /// Left free on its file system.
    pub keep_free_bytes: u64,
}

/// The embedded store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Does it apply nothing?
    pub paused: bool,
    /// Where a new store begins.
    pub start: Start,
    /// What happens when the log is full because of it.
    pub on_log_full: OnLogFull,
    /// Rows that are not in a file, in bytes.
    pub memory_bytes: u64,
    /// What is kept how long.
    pub retention: Retention,
    /// Rows after which files are written.
    pub flush_rows: u64,
    /// Age after which files are written.
    pub flush_age: Duration,
    /// zstd level of Parquet pages.
    pub compression_level: i32,
    /// Memory of all queries.
    pub query_memory_bytes: u64,
    /// Queries at once.
    pub queries_max: usize,
    /// Threads of all queries.
    pub query_threads: usize,
    /// Longest query.
    pub query_timeout: Duration,
    /// Rows of an answer.
    pub query_rows_max: usize,
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// Closed, whole streams are kept in detail for this long.
    pub detail: Duration,
}

/// Lines on stdout.
#[derive(Debug, Clone)]
pub struct ConsoleConfig {
    /// Are there any?
    pub enabled: bool,
    /// From where on.
    pub start: Start,
}

/// API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Does every request need a token for people?
    pub needs_token: bool,
    /// Connections at once.
    pub connections_max: usize,
    /// For the head of a request, and between two requests of a connection.
    pub header_timeout: Duration,
    /// Live tails at once.
    pub tails_max: usize,
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Names and addresses of the server certificate beside those of this machine.
    pub names: Vec<String>,
    /// Certificate chain and key from elsewhere.
    pub files: Option<(PathBuf, PathBuf)>,
    /// How often it is looked whether the certificate has changed or must be made anew.
    pub check_every: Duration,
}

/// The program's own log.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// What is logged.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("ingest", &self.ingest)
            .field("log", &self.log)
            .field("store", &self.store)
            .field("console", &self.console)
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// What runs without a file: everything embedded in `data_dir`, ports as the system gives them when
    /// `Overrides` say so.
    ///
    /// # Errors
    /// What is wrong with the overrides.
    pub fn without_file(overrides: &Overrides) -> Result<Self, ConfigError> {
        FileConfig::default().check(&Source::new("the defaults", ""), overrides)
    }

    /// Reads a file and checks it.
    ///
    /// # Errors
    /// With the place of what is wrong.
    pub fn load(path: &std::path::Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let (source, file) = FileConfig::read(path)?;
        file.check(&source, overrides)
    }

    /// For tests, simulators and benchmarks: everything in this folder, on free ports of the loopback interface.
    ///
    /// # Panics
    /// Never: the defaults are valid.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test shows that the defaults are valid")]
    pub fn embedded_in(data_dir: impl Into<PathBuf>) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let overrides = Overrides {
            data_dir: Some(data_dir.into()),
            ingest_listen: Some(loopback),
            api_listen: Some(loopback),
            ..Overrides::default()
        };
        Self::without_file(&overrides).expect("the defaults are valid")
    }

    pub(crate) fn environment() -> (Arc<dyn Disk>, Arc<dyn Clock>) {
        (Arc::new(OsDisk), Arc::new(SystemClock::new()))
    }

    pub(crate) fn batch_limits(&self) -> BatchLimits {
        self.ingest.settings.batch_limits
    }
}

//! What was typed: the tables of `collector.toml`, with defaults, and the checks that make a [`Config`] of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgelogger_common::block::batch::BatchLimits;
use edgelogger_common::codec::DecodeLimits;
use edgelogger_common::config::show::Flagged;
use edgelogger_common::config::{ConfigError, Located, Source, process_environment};
use edgelogger_common::duration::HumanDuration;
use edgelogger_common::size::ByteSize;
use edgelogger_common::telemetry::{self, LogFormat};
use edgelogger_store::{Retention, TableRetention};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiConfig, Config, ConsoleConfig, IngestConfig, LedgerConfig, LogConfig, StoreConfig, TelemetryConfig,
    TlsConfig,
};
use crate::ingest::{IngestSettings, WINDOW_BYTES_MIN};

/// The largest batch that may be configured: an entry of the log with it fits into a frame.
const BATCH_BYTES_MAX: u64 = 12 << 20;
/// The smallest log: some batches of the largest size, in segments that can be dropped one by one.
const LOG_BYTES_MIN: u64 = 32 << 20;

/// A certificate that was replaced is in use after this long.
const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// From where a sink reads the log when it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// From what comes next.
    Now,
    /// From the oldest that is left.
    Earliest,
}

/// What happens when a sink's lag has filled the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLogFull {
    /// Agents wait.
    Hold,
    /// The sink misses what it did not read in time.
    Skip,
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--ingest-listen`
    pub ingest_listen: Option<SocketAddr>,
    /// `--api-listen`
    pub api_listen: Option<SocketAddr>,
    /// `--advertise`, added to the names of the file.
    pub advertise: Vec<String>,
    /// `--console`
    pub console: bool,
}

/// The whole file.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    data_dir: Option<PathBuf>,
    ingest: IngestTable,
    log: LogTable,
    store: StoreTable,
    ledger: LedgerTable,
    console: ConsoleTable,
    api: ApiTable,
    tls: TlsTable,
    tokens: TokensTable,
    telemetry: TelemetryTable,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct IngestTable {
    listen: SocketAddr,
    memory: Located<ByteSize>,
    sessions_max: Located<usize>,
    handshakes_max: Located<usize>,
    handshake_timeout: Located<HumanDuration>,
    heartbeat_interval: Located<HumanDuration>,
    admissions_per_second: Located<u32>,
    batch_bytes_max: Located<ByteSize>,
    decompressed_bytes_max: Located<ByteSize>,
    ratio_max: Located<usize>,
    blocks_max: Located<u32>,
    record_bytes_max: Located<ByteSize>,
    batches_in_flight_max: Located<u32>,
    window_bytes_max: Located<ByteSize>,
}

impl Default for IngestTable {
    fn default() -> Self {
        let limits = BatchLimits::default();
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            memory: ByteSize::mib(256).into(),
            sessions_max: 20_000.into(),
            handshakes_max: 256.into(),
            handshake_timeout: HumanDuration::from_secs(10).into(),
            heartbeat_interval: HumanDuration::from_secs(10).into(),
            admissions_per_second: 500.into(),
            batch_bytes_max: ByteSize::bytes(limits.decode.compressed_bytes_max as u64).into(),
            decompressed_bytes_max: ByteSize::bytes(limits.decode.decompressed_bytes_max as u64).into(),
            ratio_max: limits.decode.ratio_max.into(),
            blocks_max: limits.blocks_max.into(),
            record_bytes_max: ByteSize::bytes(limits.record_bytes_max.into()).into(),
            batches_in_flight_max: 64.into(),
            window_bytes_max: ByteSize::mib(16).into(),
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LogTable {
    bytes_max: Located<ByteSize>,
    segment_bytes_max: Located<ByteSize>,
    keep_free: Located<ByteSize>,
}

impl Default for LogTable {
    fn default() -> Self {
        Self {
            bytes_max: ByteSize::gib(10).into(),
            segment_bytes_max: ByteSize::mib(64).into(),
            keep_free: ByteSize::mib(32).into(),
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct StoreTable {
    paused: bool,
    start: Start,
    on_log_full: OnLogFull,
    memory: Located<ByteSize>,
    flush_rows: Located<u64>,
    flush_age: Located<HumanDuration>,
    compression_level: Located<i32>,
    query_memory: Located<ByteSize>,
    queries_max: Located<usize>,
    query_threads: Located<usize>,
    query_timeout: Located<HumanDuration>,
    query_rows_max: Located<usize>,
    retention: RetentionTable,
}

/// 0 is no bound.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RetentionTable {
    logs_days: Located<u32>,
    metrics_days: Located<u32>,
    logs_bytes_max: Located<ByteSize>,
    metrics_bytes_max: Located<ByteSize>,
    disk_percent_max: Located<u64>,
}

impl Default for RetentionTable {
    fn default() -> Self {
        Self {
            logs_days: 0.into(),
            metrics_days: 0.into(),
            logs_bytes_max: ByteSize::bytes(0).into(),
            metrics_bytes_max: ByteSize::bytes(0).into(),
            disk_percent_max: 80.into(),
        }
    }
}

impl RetentionTable {
    fn check(&self, check: &Check<'_>) -> Result<Retention, ConfigError> {
        let table = |days: &Located<u32>, bytes: &Located<ByteSize>| {
            let days = check.between(days, 0, 36_500)?;
            let bytes = check.bytes(bytes, 0, 1 << 60)?;
            Ok(TableRetention {
                age_max: (days > 0).then(|| Duration::from_secs(u64::from(days) * 86_400)),
                bytes_max: (bytes > 0).then_some(bytes),
            })
        };
        Ok(Retention {
            logs: table(&self.logs_days, &self.logs_bytes_max)?,
            metrics: table(&self.metrics_days, &self.metrics_bytes_max)?,
            disk_percent_max: check.between(&self.disk_percent_max, 1, 100)?,
        })
    }
}

impl Default for StoreTable {
    fn default() -> Self {
        Self {
            paused: false,
            start: Start::Earliest,
            on_log_full: OnLogFull::Hold,
            memory: ByteSize::mib(64).into(),
            flush_rows: 500_000.into(),
            flush_age: HumanDuration::from_secs(60).into(),
            compression_level: 1.into(),
            query_memory: ByteSize::mib(256).into(),
            queries_max: 4.into(),
            query_threads: 2.into(),
            query_timeout: HumanDuration::from_secs(30).into(),
            query_rows_max: 10_000.into(),
            retention: RetentionTable::default(),
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LedgerTable {
    detail_days: Located<u32>,
}

impl Default for LedgerTable {
    fn default() -> Self {
        Self {
            detail_days: 7.into(),
        }
    }
}

impl LedgerTable {
    fn check(&self, check: &Check<'_>) -> Result<LedgerConfig, ConfigError> {
        let days = check.between(&self.detail_days, 1, 36_500)?;
        Ok(LedgerConfig {
            detail: Duration::from_secs(u64::from(days) * 86_400),
        })
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ConsoleTable {
    enabled: bool,
    start: Start,
}

impl Default for ConsoleTable {
    fn default() -> Self {
        Self {
            enabled: false,
            start: Start::Now,
        }
    }
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ApiTable {
    listen: SocketAddr,
    token: Located<bool>,
    connections_max: Located<usize>,
    header_timeout: Located<HumanDuration>,
    tails_max: Located<usize>,
}

impl Default for ApiTable {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7480)),
            token: false.into(),
            connections_max: 1_024.into(),
            header_timeout: HumanDuration::from_secs(30).into(),
            tails_max: 256.into(),
        }
    }
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TlsTable {
    names: Vec<String>,
    certificate: Option<Located<PathBuf>>,
    key: Option<Located<PathBuf>>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TokensTable {
    verifying_keys: Vec<PathBuf>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TelemetryTable {
    filter: Located<String>,
    format: LogFormat,
}

impl Default for TelemetryTable {
    fn default() -> Self {
        Self {
            filter: telemetry::DEFAULT_FILTER.to_owned().into(),
            format: LogFormat::default(),
        }
    }
}

/// Refuses values with the place where they were written.
struct Check<'a>(&'a Source);

impl Check<'_> {
    fn between<T: Copy + PartialOrd + std::fmt::Display>(
        &self,
        value: &Located<T>,
        least: T,
        most: T,
    ) -> Result<T, ConfigError> {
        if (least..=most).contains(&**value) {
            return Ok(**value);
        }
        let help = format!("write a value from {least} to {most}");
        Err(ConfigError::at(
            self.0,
            value.span(),
            format!("{} is outside of what can be used", **value),
            help,
        ))
    }

    fn bytes(&self, value: &Located<ByteSize>, least: u64, most: u64) -> Result<u64, ConfigError> {
        self.between(value, ByteSize::bytes(least), ByteSize::bytes(most))
            .map(ByteSize::as_u64)
    }
}

impl FileConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// With the place of what is wrong.
    pub fn read(path: &Path) -> Result<(Source, Self), ConfigError> {
        let source = Source::read(path)?;
        let file = source.parse(&process_environment)?;
        Ok((source, file))
    }

    /// Puts the command line and the place of the data over what was typed, to be shown; says which flag set what.
    pub fn apply(&mut self, overrides: &Overrides) -> Vec<Flagged> {
        let mut flags = Vec::new();
        let mut set = |path: &str, flag| flags.push((path.to_owned(), flag));
        if let Some(data_dir) = &overrides.data_dir {
            self.data_dir = Some(data_dir.clone());
            set("data_dir", "--data-dir");
        }
        self.data_dir.get_or_insert_with(default_data_dir);
        if let Some(listen) = overrides.ingest_listen {
            self.ingest.listen = listen;
            set("ingest.listen", "--ingest-listen");
        }
        if let Some(listen) = overrides.api_listen {
            self.api.listen = listen;
            set("api.listen", "--api-listen");
        }
        if !overrides.advertise.is_empty() {
            self.tls.names.extend(overrides.advertise.iter().cloned());
            set("tls.names", "--advertise");
        }
        if overrides.console {
            self.console.enabled = true;
            set("console.enabled", "--console");
        }
        flags
    }

    /// Checks everything and puts the command line over it.
    ///
    /// # Errors
    /// With the place of what is wrong.
    pub fn check(self, source: &Source, overrides: &Overrides) -> Result<Config, ConfigError> {
        let check = Check(source);
        let (log_disk, clock) = Config::environment();
        let from_file = |path: &PathBuf| from_file(source, path);
        let data_dir = overrides
            .data_dir
            .clone()
            .or(self.data_dir.as_ref().map(from_file));
        let mut names = self.tls.names.clone();
        names.extend(overrides.advertise.iter().cloned());
        telemetry::check_filter(&self.telemetry.filter).map_err(|error| {
            ConfigError::at(
                source,
                self.telemetry.filter.span(),
                error.to_string(),
                String::new(),
            )
        })?;
        let console = ConsoleConfig {
            enabled: self.console.enabled || overrides.console,
            start: self.console.start,
        };
        Ok(Config {
            data_dir: data_dir.unwrap_or_else(default_data_dir),
            ingest: self.ingest.check(&check, overrides)?,
            log: self.log.check(&check)?,
            store: self.store.check(&check)?,
            ledger: self.ledger.check(&check)?,
            console,
            api: self.api.check(&check, overrides)?,
            tls: self.tls.check(source, names)?,
            verifying_keys: self.tokens.verifying_keys.iter().map(from_file).collect(),
            telemetry: TelemetryConfig {
                filter: self.telemetry.filter.into_inner(),
                format: self.telemetry.format,
            },
            log_disk,
            clock,
        })
    }
}

impl IngestTable {
    fn check(&self, check: &Check<'_>, overrides: &Overrides) -> Result<IngestConfig, ConfigError> {
        let batch_bytes = check.bytes(&self.batch_bytes_max, WINDOW_BYTES_MIN, BATCH_BYTES_MAX)?;
        let decompressed = check.bytes(&self.decompressed_bytes_max, batch_bytes, 256 << 20)?;
        let record_bytes = check.bytes(&self.record_bytes_max, 1 << 10, decompressed)?;
        let memory_bytes = check.bytes(&self.memory, 2 * batch_bytes, 1 << 40)?;
        let seconds = HumanDuration::from_secs;
        let settings = IngestSettings {
            handshakes_max: check.between(&self.handshakes_max, 1, 65_536)?,
            handshake_timeout: check
                .between(&self.handshake_timeout, seconds(1), seconds(300))?
                .get(),
            sessions_max: check.between(&self.sessions_max, 1, 1_000_000)?,
            batch_limits: BatchLimits {
                decode: DecodeLimits {
                    compressed_bytes_max: usize::try_from(batch_bytes).unwrap_or(usize::MAX),
                    decompressed_bytes_max: usize::try_from(decompressed).unwrap_or(usize::MAX),
                    ratio_max: check.between(&self.ratio_max, 10, 1_000_000)?,
                    ..DecodeLimits::default()
                },
                blocks_max: check.between(&self.blocks_max, 1, 1 << 20)?,
                record_bytes_max: u32::try_from(record_bytes).unwrap_or(u32::MAX),
                ..BatchLimits::default()
            },
            in_flight_max: check.between(&self.batches_in_flight_max, 1, 4_096)?,
            window_bytes_max: check.bytes(&self.window_bytes_max, batch_bytes, memory_bytes)?,
            heartbeat_interval: check
                .between(&self.heartbeat_interval, seconds(1), seconds(300))?
                .get(),
            admissions_per_second: check.between(&self.admissions_per_second, 1, 100_000)?,
        };
        let listen = overrides.ingest_listen.unwrap_or(self.listen);
        Ok(IngestConfig {
            listen,
            memory_bytes,
            settings,
        })
    }
}

impl LogTable {
    fn check(&self, check: &Check<'_>) -> Result<LogConfig, ConfigError> {
        let bytes_max = check.bytes(&self.bytes_max, LOG_BYTES_MIN, 1 << 50)?;
        Ok(LogConfig {
            bytes_max,
            segment_bytes_max: check.bytes(&self.segment_bytes_max, 1 << 20, 1 << 34)?,
            keep_free_bytes: check.bytes(&self.keep_free, 0, 1 << 50)?,
        })
    }
}

impl StoreTable {
    fn check(&self, check: &Check<'_>) -> Result<StoreConfig, ConfigError> {
        let seconds = HumanDuration::from_secs;
        Ok(StoreConfig {
            paused: self.paused,
            start: self.start,
            on_log_full: self.on_log_full,
            memory_bytes: check.bytes(&self.memory, 8 << 20, 1 << 40)?,
            flush_rows: check.between(&self.flush_rows, 1, 100_000_000)?,
            flush_age: check.between(&self.flush_age, seconds(1), seconds(86_400))?.get(),
            compression_level: check.between(&self.compression_level, 1, 22)?,
            query_memory_bytes: check.bytes(&self.query_memory, 16 << 20, 1 << 40)?,
            queries_max: check.between(&self.queries_max, 1, 1_024)?,
            query_threads: check.between(&self.query_threads, 1, 1_024)?,
            query_timeout: check
                .between(&self.query_timeout, seconds(1), seconds(3_600))?
                .get(),
            query_rows_max: check.between(&self.query_rows_max, 1, 10_000_000)?,
            retention: self.retention.check(check)?,
        })
    }
}

impl ApiTable {
    /// Off the loopback interface there is no way without a token.
    fn check(&self, check: &Check<'_>, overrides: &Overrides) -> Result<ApiConfig, ConfigError> {
        let listen = overrides.api_listen.unwrap_or(self.listen);
        let seconds = HumanDuration::from_secs;
        Ok(ApiConfig {
            listen,
            needs_token: *self.token || !listen.ip().is_loopback(),
            connections_max: check.between(&self.connections_max, 1, 1_000_000)?,
            header_timeout: check
                .between(&self.header_timeout, seconds(1), seconds(3_600))?
                .get(),
            tails_max: check.between(&self.tails_max, 1, 100_000)?,
        })
    }
}

impl TlsTable {
    fn check(&self, source: &Source, names: Vec<String>) -> Result<TlsConfig, ConfigError> {
        let files = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((from_file(source, certificate), from_file(source, key))),
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                let message = "a certificate and its key are needed together";
                return Err(ConfigError::at(
                    source,
                    one.span(),
                    message,
                    "set both `certificate` and `key`, or none",
                ));
            }
        };
        Ok(TlsConfig {
            names,
            files,
            check_every: CERTIFICATE_CHECK_INTERVAL,
        })
    }
}

/// A relative path counts from the folder of the file that names it.
fn from_file(source: &Source, path: &Path) -> PathBuf {
    Path::new(source.name())
        .parent()
        .map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

/// `/var/lib/edgelogger-collector` for root, else below the user's data folder.
fn default_data_dir() -> PathBuf {
    const NAME: &str = "edgelogger-collector";
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib").join(NAME);
    }
    let home = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    home("XDG_DATA_HOME")
        .or_else(|| Some(home("HOME")?.join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, ConfigError> {
        let source = Source::new("collector.toml", text);
        let file: FileConfig = source.parse(&|_| None)?;
        file.check(&source, &Overrides::default())
    }

    /// Every line of the example that is a commented setting, uncommented.
    fn example() -> String {
        let text = include_str!("../../../config/collector.toml");
        let uncomment = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => {
                rest.to_owned()
            }
            _ => line.to_owned(),
        };
        text.lines().map(|line| uncomment(line) + "\n").collect()
    }

    #[test]
    fn the_example_says_every_key_with_its_default() {
        let (shown, defaults) = (check(&example()).unwrap(), check("").unwrap());
        let plain = |config: &Config| {
            format!("{config:?} {:?} {:?}", config.tls, config.telemetry)
                .replace(&format!("{:?}", config.data_dir), "")
        };
        assert_eq!(plain(&shown), plain(&defaults));
        for key in [
            "data_dir",
            "memory",
            "keep_free",
            "logs_days",
            "metrics_bytes_max",
            "disk_percent_max",
            "query_timeout",
            "certificate",
            "verifying_keys",
            "filter",
        ] {
            let is_key = |line: &str| {
                line.trim_start_matches(['#', ' '])
                    .starts_with(&format!("{key} = "))
            };
            assert!(example().lines().any(is_key), "{key}");
        }
    }

    #[test]
    fn the_example_as_it_is_changes_nothing() {
        check(include_str!("../../../config/collector.toml")).unwrap();
    }

    #[test]
    fn a_value_outside_of_its_range_is_pointed_at() {
        let error = check("[ingest]\nmemory = \"1 MiB\"\n").unwrap_err();
        assert_eq!(error.line_column(), Some((2, 10)));
        assert_eq!(
            check("[store]\ncompression_level = 23\n")
                .unwrap_err()
                .error_code()
                .code,
            "E0108"
        );
        assert_eq!(
            check("[tls]\ncertificate = \"a.pem\"\n")
                .unwrap_err()
                .error_code()
                .code,
            "E0108"
        );
        assert_eq!(check("[ingst]\n").unwrap_err().error_code().code, "E0104");
    }

    #[test]
    fn relative_paths_count_from_the_file() {
        let source = Source::new("/etc/edgelogger/collector.toml", "data_dir = \"data\"");
        let file: FileConfig = source.parse(&|_| None).unwrap();
        let config = file.check(&source, &Overrides::default()).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/edgelogger/data"));
    }

    #[test]
    fn off_the_loopback_interface_the_api_needs_a_token() {
        assert!(!check("").unwrap().api.needs_token);
        assert!(
            check("[api]\nlisten = \"0.0.0.0:7480\"\n")
                .unwrap()
                .api
                .needs_token
        );
        assert!(check("[api]\ntoken = true\n").unwrap().api.needs_token);
    }
}

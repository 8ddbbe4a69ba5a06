//! The agent's configuration: what was written (a file, flags), and what runs.
//!
//! ```text
//! agent.toml ─ common::config ─▶ AgentConfig ─ flags ─▶ AgentConfig ─ check ─▶ what runs
//! ```
//!
//! Every key has a default but the collector's address and CA; `config/agent.toml` lists them all with unit and
//! default, and a test compares the two. Unknown keys are refused. Relative paths in a file are relative to the
//! directory of that file.

mod check;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgelogger_common::codec::{Codec, CodecSetting};
use edgelogger_common::config::{ConfigError, Lookup, Source};
use edgelogger_common::duration::HumanDuration;
use edgelogger_common::size::ByteSize;
use edgelogger_common::telemetry::LogFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batcher::{
    BACKFILL_PERCENT_DEFAULT, BATCH_BYTES_DEFAULT, BatchSize, BatcherSettings, MAX_AGE_DEFAULT,
};
use crate::ring::{RING_BYTES_DEFAULT, RING_SLOTS_DEFAULT, RingLimits};
use crate::sources::file::FileSourceConfig;
use crate::sources::host_metrics::HostMetricsConfig;
use crate::sources::journald::JournaldConfig;
use crate::spool::SpoolConfig;
use crate::transport::CollectorConfig;

pub use schema::schema;

/// What comes into force by a reload: settings and tables. `docs/configuration-agent.md` marks them.
pub const RELOADS: &[&str] = &[
    "shutdown_timeout",
    "collector",
    "labels",
    "batch",
    "memory",
    "spool",
    "log.filter",
    "source",
];

pub use check::{Invalid, LABEL_BYTES_MAX, LABELS_MAX};

/// Where a configuration is looked for when none is named.
pub const CONFIG_PATH_DEFAULT: &str = "/etc/edgelogger/agent.toml";
/// Where a service keeps its state.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/edgelogger-agent";
/// Level 1 of zstd: on web server lines, with SHA-256, 420 MB/s at 5.3 to 1; lz4 reaches 290 MB/s at 3.2 (what it saves in
/// compressing it pays in hashing), level 3 200 MB/s at 5.2, level 6 90 MB/s at 5.8 (`encoder::measure`).
const ZSTD_LEVEL_DEFAULT: i32 = 1;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Where state is kept: streams and what of them is acknowledged, the status socket, rejected blocks.
    #[serde(default = "state_dir_default")]
    pub state_dir: PathBuf,
    /// How long a stop may wait for what is in flight.
    #[serde(default = "shutdown_timeout_default")]
    pub shutdown_timeout: HumanDuration,
    /// The collector.
    pub collector: CollectorConfig,
    /// Stand in every row of this agent.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How records are put together.
    #[serde(default)]
    pub batch: BatchConfig,
    /// What waits in memory.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// What waits on disk.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// The agent's own log.
    #[serde(default)]
    pub log: LogConfig,
    /// What is collected.
    #[serde(default)]
    pub source: SourcesConfig,
}

/// `[batch]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// How long data waits for company on a line that is busy; 0: not at all.
    pub max_age: HumanDuration,
    /// Size of a batch before compression.
    pub bytes: ByteSize,
    /// Compression.
    pub codec: CodecSetting,
    /// Share of a line that live data would fill, that a backlog has; the rest of a line it has anyhow.
    pub backfill_percent: u8,
}

/// `[memory]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Bytes that were read and not yet compressed.
    pub ring_bytes: ByteSize,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// What is logged: `info`, or `warn,edgelogger_agent=debug`. Empty: `info`.
    pub filter: String,
}

/// `[source]`: a source runs if its table is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourcesConfig {
    /// `[[source.file]]`.
    pub file: Vec<FileSourceConfig>,
    /// `[source.journald]`.
    pub journald: Option<JournaldConfig>,
    /// `[source.host_metrics]`.
    pub host_metrics: Option<HostMetricsConfig>,
}

/// What flags and environment say; they win over a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--collector`.
    pub collector: Option<String>,
    /// `--ca`.
    pub ca: Option<PathBuf>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--file`, one source of all of them.
    pub files: Vec<String>,
    /// `--journald`.
    pub journald: bool,
    /// `--host-metrics`.
    pub host_metrics: bool,
    /// `--label`.
    pub labels: Vec<(String, String)>,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            max_age: MAX_AGE_DEFAULT.into(),
            bytes: ByteSize::bytes(BATCH_BYTES_DEFAULT as u64),
            codec: CodecSetting::new(Codec::Zstd, ZSTD_LEVEL_DEFAULT)
                .unwrap_or_else(|_| CodecSetting::default_of(Codec::Zstd)),
            backfill_percent: BACKFILL_PERCENT_DEFAULT,
        }
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            ring_bytes: ByteSize::bytes(RING_BYTES_DEFAULT as u64),
        }
    }
}

fn shutdown_timeout_default() -> HumanDuration {
    Duration::from_secs(10).into()
}

/// The service's directory for root, otherwise one in the user's home.
pub(crate) fn state_dir_default() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return STATE_DIR_DEFAULT.into();
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state =
        state.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    state.map_or_else(
        || STATE_DIR_DEFAULT.into(),
        |state| state.join("edgelogger-agent"),
    )
}

impl AgentConfig {
    /// A configuration of defaults.
    #[must_use]
    pub fn new(collector: CollectorConfig) -> Self {
        Self {
            state_dir: state_dir_default(),
            shutdown_timeout: shutdown_timeout_default(),
            collector,
            labels: BTreeMap::new(),
            batch: BatchConfig::default(),
            memory: MemoryConfig::default(),
            spool: SpoolConfig::default(),
            log: LogConfig::default(),
            source: SourcesConfig::default(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or something in it is not understood.
    pub fn read(path: &Path, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let mut config: Self = Source::read(path)?.parse(lookup)?;
        if let Some(dir) = path.parent() {
            let resolve = |path: &mut PathBuf| *path = dir.join(&*path);
            resolve(&mut config.state_dir);
            resolve(&mut config.collector.ca);
            config.collector.token_file.as_mut().map(resolve);
            config.source.file.iter_mut().for_each(|files| files.resolve(dir));
        }
        Ok(config)
    }

    /// What flags alone say.
    ///
    /// # Errors
    /// Neither file nor flags name the collector or its CA.
    pub fn from_flags(flags: &Overrides) -> Result<Self, Invalid> {
        let url = flags.collector.clone().ok_or(Invalid::Missing {
            flag: "--collector",
            key: "url",
        })?;
        let ca = flags.ca.clone().ok_or(Invalid::Missing {
            flag: "--ca",
            key: "ca",
        })?;
        let mut config = Self::new(CollectorConfig::new(url, ca));
        config.apply(flags);
        Ok(config)
    }

    /// Flags win.
    pub fn apply(&mut self, flags: &Overrides) {
        let collector = &mut self.collector;
        flags
            .collector
            .iter()
            .for_each(|url| collector.url.clone_from(url));
        flags.ca.iter().for_each(|ca| collector.ca.clone_from(ca));
        if let Some(token_file) = &flags.token_file {
            collector.token_file = Some(token_file.clone());
            collector.token = None;
        }
        flags
            .state_dir
            .iter()
            .for_each(|dir| self.state_dir.clone_from(dir));
        self.labels.extend(flags.labels.iter().cloned());
        if !flags.files.is_empty() {
            self.source.file.push(FileSourceConfig::new(flags.files.clone()));
        }
        if flags.journald {
            self.source.journald.get_or_insert_default();
        }
        if flags.host_metrics {
            self.source.host_metrics.get_or_insert_default();
        }
    }

    /// Do file sources use the spool?
    #[must_use]
    pub fn keeps_files(&self) -> bool {
        self.source.file.iter().any(|file| file.spool_before_loss)
    }

    /// How the ring is bounded.
    #[must_use]
    pub fn ring_limits(&self) -> RingLimits {
        RingLimits {
            slots: RING_SLOTS_DEFAULT,
            bytes: self.memory.ring_bytes.as_usize(),
        }
    }

    /// How the batcher is set.
    #[must_use]
    pub fn batcher_settings(&self) -> BatcherSettings {
        BatcherSettings {
            max_age: self.batch.max_age.get(),
            size: BatchSize {
                bytes_max: self.batch.bytes.as_usize(),
                ..BatchSize::default()
            },
            backfill_percent: self.batch.backfill_percent,
        }
    }
}

//! What is well formed and still can't be used.

use std::ops::RangeInclusive;
use std::time::Duration;

use edgelogger_common::duration::HumanDuration;
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_common::size::ByteSize;
use edgelogger_common::telemetry::{self, TelemetryError};

use super::AgentConfig;
use crate::batcher::BACKFILL_PERCENT_MAX;
use crate::sources::host_metrics::INTERVAL_MIN;
use crate::spool::BYTES_MAX_MIN;

/// Labels of an agent; they stand in every row.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's name, and of its value.
pub const LABEL_BYTES_MAX: usize = 256;
/// Below 4 KiB a batch is mostly overhead; above 8 MiB no collector takes it by default.
const BATCH_BYTES: RangeInclusive<ByteSize> = ByteSize::kib(4)..=ByteSize::mib(8);
/// Two reads of a file fit; more than 1 GiB is a typing error.
const RING_BYTES: RangeInclusive<ByteSize> = ByteSize::mib(1)..=ByteSize::gib(1);
/// A terabyte is more than any outage of one machine; the spool's notes of its frames are bounded anyhow.
const SPOOL_BYTES: RangeInclusive<ByteSize> = BYTES_MAX_MIN..=ByteSize::gib(1024);
/// With less there is no room for a turn of the longest lines beside what is left to measurements.
const SPOOL_BYTES_OF_FILES: RangeInclusive<ByteSize> = ByteSize::mib(4)..=ByteSize::gib(1024);
/// Below a second the flash wears out, above a minute a crash of the machine costs too much.
const FSYNC_INTERVAL: RangeInclusive<HumanDuration> =
    HumanDuration::from_secs(1)..=HumanDuration::from_secs(60);
/// An hour old data is no live data.
const MAX_AGE_MAX: HumanDuration = HumanDuration::from_secs(3600);

/// A configuration that can't be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Neither file nor flags say it.
    #[error(
        "the collector's {key} is missing: give {flag}, or `{key}` in [collector] of a configuration file (--config)"
    )]
    Missing {
        /// The flag that says it.
        flag: &'static str,
        /// The key that says it.
        key: &'static str,
    },
    /// Nothing to do.
    #[error(
        "nothing is collected: add --file GLOB, --journald or --host-metrics, or [[source.file]], [source.journald] or \
         [source.host_metrics] to the configuration file"
    )]
    NoSource,
    /// No token, or two.
    #[error(
        "the agent needs one token: give --token-file FILE, or `token_file` (or `token`) in [collector], and not both"
    )]
    Token,
    /// A setting outside its limits.
    #[error("`{setting}` is {found}, allowed is {allowed}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was configured.
        found: String,
        /// What may be configured.
        allowed: String,
    },
    /// The filter of the program's own log.
    #[error(transparent)]
    Filter(#[from] TelemetryError),
    /// A label that can't be kept.
    #[error("label {name:?}: {problem}")]
    Label {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A glob of the host metrics.
    #[error("[source.host_metrics]: {0}")]
    Glob(#[from] globset::Error),
    /// A field that no journal has.
    #[error(
        "`fields` in [source.journald]: {0:?} is no name of a journal field; these have A-Z, 0-9 and _ only"
    )]
    JournalField(String),
    /// The collector's address.
    #[error(transparent)]
    Target(#[from] crate::transport::TargetError),
}

impl Invalid {
    /// The code to look up.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Missing { .. } => error_code::CONFIG_MISSING_KEY,
            _ => error_code::CONFIG_INVALID,
        }
    }
}

impl AgentConfig {
    /// Checks what can be checked without touching the machine.
    ///
    /// # Errors
    /// The first thing that can't be used.
    pub fn check(&self) -> Result<(), Invalid> {
        self.collector.target()?;
        if self.collector.token.is_some() == self.collector.token_file.is_some() {
            return Err(Invalid::Token);
        }
        if self.source.file.is_empty() && self.source.journald.is_none() && self.source.host_metrics.is_none()
        {
            return Err(Invalid::NoSource);
        }
        within("bytes in [batch]", &self.batch.bytes, &BATCH_BYTES)?;
        within(
            "max_age in [batch]",
            &self.batch.max_age,
            &(HumanDuration::default()..=MAX_AGE_MAX),
        )?;
        within(
            "backfill_percent in [batch]",
            &self.batch.backfill_percent,
            &(0..=BACKFILL_PERCENT_MAX),
        )?;
        within("ring_bytes in [memory]", &self.memory.ring_bytes, &RING_BYTES)?;
        if let Some(bytes_max) = &self.spool.bytes_max {
            within("bytes_max in [spool]", bytes_max, &SPOOL_BYTES)?;
            if self.keeps_files() {
                let setting = "bytes_max in [spool], which spool_before_loss needs,";
                within(setting, bytes_max, &SPOOL_BYTES_OF_FILES)?;
            }
        }
        within(
            "fsync_interval in [spool]",
            &self.spool.fsync_interval,
            &FSYNC_INTERVAL,
        )?;
        let age = HumanDuration::from_secs(60)..=HumanDuration::from_secs(3650 * 86_400);
        within("age_max in [spool]", &self.spool.age_max, &age)?;
        if let Some(metrics) = &self.source.host_metrics {
            let allowed = INTERVAL_MIN.into()..=Duration::from_secs(86_400).into();
            within("interval in [source.host_metrics]", &metrics.interval, &allowed)?;
        }
        if let Some(metrics) = &self.source.host_metrics {
            metrics.check_globs()?;
        }
        let is_name = |field: &String| {
            !field.is_empty()
                && field
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let mut fields = self.source.journald.iter().flat_map(|journald| &journald.fields);
        if let Some(field) = fields.find(|field| !is_name(field)) {
            return Err(Invalid::JournalField(field.clone()));
        }
        telemetry::check_filter(&self.log.filter)?;
        self.check_labels()
    }

    fn check_labels(&self) -> Result<(), Invalid> {
        if self.labels.len() > LABELS_MAX {
            return Err(Invalid::Setting {
                setting: "the number of labels",
                found: self.labels.len().to_string(),
                allowed: format!("at most {LABELS_MAX}"),
            });
        }
        for (name, value) in &self.labels {
            let problem = if name.is_empty() {
                "a name must not be empty".to_owned()
            } else if name.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX {
                format!("name and value may have {LABEL_BYTES_MAX} bytes each")
            } else if name.chars().chain(value.chars()).any(char::is_control) {
                "control characters are not allowed".to_owned()
            } else {
                continue;
            };
            return Err(Invalid::Label {
                name: name.clone(),
                problem,
            });
        }
        Ok(())
    }
}

fn within<T: PartialOrd + ToString>(
    setting: &'static str,
    found: &T,
    allowed: &RangeInclusive<T>,
) -> Result<(), Invalid> {
    if allowed.contains(found) {
        return Ok(());
    }
    Err(Invalid::Setting {
        setting,
        found: found.to_string(),
        allowed: format!("{} to {}", allowed.start().to_string(), allowed.end().to_string()),
    })
}

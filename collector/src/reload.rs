//! Reload: another configuration comes into force as far as it can while the collector runs. Either all of it does or, where
//! something in it can't be used, nothing.

use std::path::PathBuf;
use std::sync::Arc;

use edgelogger_common::auth::SigningKey;
use edgelogger_common::clock::Clock;
use edgelogger_common::config::Changes;
use edgelogger_common::error_code::ErrorCode;
use edgelogger_common::telemetry::{self, TelemetryError};
use edgelogger_store::{EmbeddedStore, Keeping};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::api::Tails;
use crate::config::{Config, TlsConfig};
use crate::health::{ConfigurationReport, Health, rfc3339};
use crate::in_force::{InForce, Settings};
use crate::setup::{Keys, SetupError};

/// The subject of health.
const SUBJECT: &str = "configuration";

/// Why a configuration does not come into force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A key that tokens are checked with.
    #[error(transparent)]
    Keys(#[from] SetupError),
    /// The log filter.
    #[error(transparent)]
    Filter(#[from] TelemetryError),
}

impl ReloadError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Keys(error) => error.code(),
            Self::Filter(error) => error.error_code(),
        }
    }
}

/// Whoever has settings that change.
pub struct Reload {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) signing_key: SigningKey,
    pub(crate) in_force: Arc<InForce>,
    pub(crate) certificate: watch::Sender<TlsConfig>,
    pub(crate) tails: Arc<Tails>,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) noted: Mutex<Noted>,
}

/// What is told of it.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    loaded_ns: i64,
    needs_restart: Vec<String>,
}

impl Noted {
    pub(crate) fn at_start(clock: &dyn Clock) -> Mutex<Self> {
        Mutex::new(Self {
            loaded_ns: clock.wall_ns(),
            needs_restart: Vec::new(),
        })
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reload").field(&self.noted).finish()
    }
}

/// What tokens are checked with and what queries may take.
pub(crate) fn settings(config: &Config, keys: edgelogger_common::auth::VerifyingKeys) -> Settings {
    Settings {
        keys,
        query_timeout: config.store.query_timeout,
        query_rows_max: config.store.query_rows_max,
    }
}

impl Reload {
    /// Puts a configuration in force. `needs_restart`: what of it does not before the next start.
    ///
    /// # Errors
    /// Something in it can't be used. Nothing has changed, and health says so.
    pub fn apply(&self, config: &Config, needs_restart: Vec<String>) -> Result<(), ReloadError> {
        let keys = self.keys(&config.verifying_keys);
        let checked = keys.and_then(|keys| {
            telemetry::check_filter(&config.telemetry.filter)?;
            Ok(keys)
        });
        let keys = checked.inspect_err(|error| self.refuse(error.code(), &error.to_string()))?;
        telemetry::set_filter(&config.telemetry.filter)?;
        self.in_force.set(settings(config, keys));
        self.tails.set_tails_max(config.api.tails_max);
        self.store.keep(Keeping {
            retention: config.store.retention,
            detail: config.ledger.detail,
        });
        // Also where it says what it said before: its files may have changed.
        self.certificate.send_replace(config.tls.clone());
        *self.noted.lock() = Noted {
            loaded_ns: self.clock.wall_ns(),
            needs_restart,
        };
        self.health.clear(SUBJECT);
        Ok(())
    }

    fn keys(&self, files: &[PathBuf]) -> Result<edgelogger_common::auth::VerifyingKeys, ReloadError> {
        Ok(Keys::verifying(&self.signing_key, files)?)
    }

    /// A configuration can't be used; the one in force stays.
    pub fn refuse(&self, code: ErrorCode, why: &str) {
        tracing::error!(
            code = code.code,
            "the configuration in force stays, the new one can't be used: {why}"
        );
        let what = format!("the configuration in force stays, the new one can't be used: {why}");
        self.health.raise(SUBJECT, code, what);
    }

    /// What health says of it.
    #[must_use]
    pub fn report(&self) -> ConfigurationReport {
        let noted = self.noted.lock();
        ConfigurationReport {
            loaded: rfc3339(noted.loaded_ns),
            needs_restart: noted.needs_restart.clone(),
        }
    }
}

/// Says what a reload did.
pub fn log(changes: &Changes) {
    let list = |keys: &[String]| keys.join(", ");
    if changes.needs_restart.is_empty() && changes.reloaded.is_empty() {
        tracing::info!("reloaded: the configuration is what it was; keys and certificates were read again");
    }
    if !changes.reloaded.is_empty() {
        tracing::info!("reloaded: {}", list(&changes.reloaded));
    }
    if !changes.needs_restart.is_empty() {
        tracing::warn!(
            "needs a restart to come into force: {}",
            list(&changes.needs_restart)
        );
    }
}

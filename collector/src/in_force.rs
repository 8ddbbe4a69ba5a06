//! Settings that change while the collector runs. Whoever uses them asks anew each time.

use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::auth::VerifyingKeys;
use parking_lot::RwLock;

/// What is in force now.
#[derive(Debug)]
pub struct InForce(RwLock<Arc<Settings>>);

/// Settings of one moment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What tokens are checked with.
    pub keys: VerifyingKeys,
    /// Longest query.
    pub query_timeout: Duration,
    /// Rows of an answer.
    pub query_rows_max: usize,
}

impl InForce {
    /// These, until others are set.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(settings))))
    }

    /// Those of now.
    #[must_use]
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read())
    }

    /// Others from now on.
    pub fn set(&self, settings: Settings) {
        *self.0.write() = Arc::new(settings);
    }
}

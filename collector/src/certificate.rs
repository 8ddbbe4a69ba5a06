//! The certificate of the ingest port: loaded or made at the start, and again whenever it changes or runs out, without a
//! restart. Connections that are open keep the certificate that they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::tls::{self, CertificateAndKey, CertificateAuthority, FloorTime};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, TlsConfig};
use crate::health::Health;
use crate::setup::{DataDir, SetupError};

/// The subject of health.
const SUBJECT: &str = "certificate";

/// Where the certificate comes from.
#[derive(Debug)]
enum Origin {
    /// Files that somebody else renews.
    Files { chain: PathBuf, key: PathBuf },
    /// This collector's own authority.
    Own { dir: PathBuf, names: Vec<String> },
}

/// The certificate, and how to get the next one.
#[derive(Debug)]
pub struct Certificate {
    data_dir: PathBuf,
    origin: Origin,
    check_every: Duration,
    time: Arc<FloorTime>,
    chain_pem: String,
    in_force: watch::Sender<Arc<ServerConfig>>,
}

impl Certificate {
    /// Loads or makes it.
    ///
    /// # Errors
    /// Files that can't be used.
    pub fn prepare(config: &Config, time: Arc<FloorTime>) -> Result<Self, SetupError> {
        let origin = Origin::of(&config.tls, &config.data_dir);
        let pair = origin.load(&time)?;
        let (in_force, _) = watch::channel(tls::server_config(&pair.chain_pem, &pair.key_pem)?);
        Ok(Self {
            data_dir: config.data_dir.clone(),
            origin,
            check_every: config.tls.check_every,
            time,
            chain_pem: pair.chain_pem,
            in_force,
        })
    }

    /// Names and addresses that the certificate was made for; none when it came from elsewhere.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match &self.origin {
            Origin::Files { .. } => Vec::new(),
            Origin::Own { names, .. } => names.clone(),
        }
    }

    /// What new connections are served with.
    #[must_use]
    pub fn in_force(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.in_force.subscribe()
    }

    /// Looks for a new one until `stop`, now and then and when somebody says where it comes from. One that can't be used
    /// leaves the old one in force, and health says so.
    pub async fn keep_current(
        mut self,
        health: Arc<Health>,
        mut configured: watch::Receiver<TlsConfig>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.check_every) => {}
                Ok(()) = configured.changed() => {
                    self.origin = Origin::of(&configured.borrow_and_update(), &self.data_dir);
                }
            }
            let looked = tokio::task::spawn_blocking(move || {
                let changed = self.look();
                (self, changed)
            });
            let Ok((certificate, looked)) = looked.await else {
                return;
            };
            self = certificate;
            match looked {
                Ok(()) => {
                    health.clear(SUBJECT);
                }
                Err(error) => health.raise(
                    SUBJECT,
                    error.code(),
                    format!("the certificate in force stays, the new one can't be used: {error}"),
                ),
            }
        }
    }

    fn look(&mut self) -> Result<(), SetupError> {
        let pair = self.origin.load(&self.time)?;
        if pair.chain_pem == self.chain_pem {
            return Ok(());
        }
        self.in_force
            .send_replace(tls::server_config(&pair.chain_pem, &pair.key_pem)?);
        self.chain_pem = pair.chain_pem;
        tracing::info!("new connections are served with a new certificate");
        Ok(())
    }
}

impl Origin {
    fn of(config: &TlsConfig, data_dir: &Path) -> Self {
        match &config.files {
            Some((chain, key)) => Self::Files {
                chain: chain.clone(),
                key: key.clone(),
            },
            None => Self::Own {
                dir: DataDir::new(data_dir).tls(),
                names: with_own_names(&config.names),
            },
        }
    }

    fn load(&self, time: &FloorTime) -> Result<CertificateAndKey, SetupError> {
        match self {
            Self::Files { chain, key } => Ok(CertificateAndKey {
                chain_pem: read(chain)?,
                key_pem: read(key)?,
            }),
            Self::Own { dir, names } => {
                let authority = CertificateAuthority::load_or_create(dir, time.now_ns())?;
                let (pair, is_new) = authority.load_or_issue(dir, names, time.now_ns())?;
                if is_new {
                    tracing::info!(names = names.join(", "), "made a server certificate");
                }
                Ok(pair)
            }
        }
    }
}

fn with_own_names(advertised: &[String]) -> Vec<String> {
    let mut names = tls::host_names();
    for name in advertised {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn read(path: &Path) -> Result<String, SetupError> {
    let path = path.to_owned();
    std::fs::read_to_string(&path).map_err(|source| SetupError::Folder {
        action: "read",
        path,
        source,
    })
}

//! TLS 1.3, and a certificate authority of one's own.
//!
//! The collector makes its CA and server certificate at its first start; an agent trusts that CA and nothing
//! else. Certificates from elsewhere work the same way: [`server_config`] and [`client_config`] take any PEM.
//!
//! Invariants:
//! - TLS 1.3 only, aws-lc-rs only, named explicitly: no process-wide default is read or set.
//! - No early data (it can be replayed). Sessions resume by stateless tickets, so that 50,000 agents cost
//!   the collector no memory.
//! - The CA's key is never replaced by itself: agents trust it. A certificate is made again freely.
//! - Dates are checked against the later of clock, build time and last confirmed time ([`FloorTime`]).
//!
//! | file | what |
//! | --- | --- |
//! | `authority.rs` | the CA and its files |
//! | `server.rs` | the server certificate: issue, keep, renew |
//! | `names.rs` | the names and addresses of this machine |
//! | `time.rs` | a clock with a floor |
//! | `explain.rs` | what a failed handshake means, and what to do |

mod authority;
mod explain;
mod names;
mod server;
#[cfg(test)]
mod tests;
mod time;

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use authority::{CA_CERTIFICATE_FILE, CA_KEY_FILE, CertificateAuthority};
pub use explain::{TlsExplanation, explain_io_error, explain_tls_error};
pub use names::host_names;
pub use server::{CertificateAndKey, SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE};
pub use time::{BUILD_UNIX_S, FloorTime};

use crate::error_code::{self, ErrorCode};
use crate::secret_file::{self, FileError};

/// Sessions that a client keeps for resumption: it talks to one collector, or to a few in turn.
const CLIENT_SESSIONS_MAX: usize = 16;

/// Tickets per handshake. An agent has one connection and each resumption brings a new ticket, so the usual
/// second one would only cost bytes.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// Keys or certificates that cannot be used, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that is needed is not there.
    #[error("{path} is missing; {advice}")]
    Absent {
        /// The file.
        path: String,
        /// What to do.
        advice: &'static str,
    },
    /// A file or text holds something else.
    #[error("{what} does not hold {expected} in PEM form; restore the right file")]
    NotPem {
        /// The file, or which text.
        what: String,
        /// "a certificate" or "a private key".
        expected: &'static str,
    },
    /// Certificate and key are not of one pair.
    #[error("the certificate {certificate} does not belong to the key {key}; restore the pair from a backup")]
    Mismatch {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
    },
    /// A name that no certificate can carry.
    #[error("{name:?} is neither a DNS name nor an IP address; correct the TLS names in the configuration")]
    BadName {
        /// As given.
        name: String,
    },
    /// None or too many names.
    #[error(
        "a certificate needs 1 to {} names, here are {count}; correct the TLS names in the configuration",
        server::NAMES_MAX
    )]
    NameCount {
        /// How many there are.
        count: usize,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// Certificate and key are readable but cannot serve.
    #[error("certificate or key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsError {
    /// The stable code.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::BadName { .. } | Self::NameCount { .. } => error_code::CONFIG_INVALID,
            _ => error_code::KEY_UNUSABLE,
        }
    }
}

/// The cryptography that every connection uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// What a server needs: its certificate chain, leaf first, and the key of the leaf, both in PEM. Callers that
/// negotiate a protocol set `alpn_protocols` on a clone.
pub fn server_config(chain_pem: &str, key_pem: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(chain_pem, "the server's certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::NotPem {
        what: "the server's key".to_owned(),
        expected: "a private key",
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    Ok(Arc::new(config))
}

/// What a client needs to trust the servers of this CA (or these: a file may hold several), and no others.
/// Dates are checked against `time`.
pub fn client_config(ca_pem_path: &Path, time: Arc<FloorTime>) -> Result<Arc<ClientConfig>, TlsError> {
    let what = ca_pem_path.display().to_string();
    let pem = secret_file::read(ca_pem_path)?.ok_or_else(|| TlsError::Absent {
        path: what.clone(),
        advice: "copy ca.pem from the TLS directory of the collector",
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem, &what)? {
        roots.add(certificate).map_err(|_| TlsError::NotPem {
            what: what.clone(),
            expected: "the certificate of a CA",
        })?;
    }
    let time: Arc<dyn TimeProvider> = time;
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// All certificates of a PEM text, at least one.
fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::NotPem {
            what: what.to_owned(),
            expected: "a certificate",
        }),
    }
}

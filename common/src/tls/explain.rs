//! What a failed handshake means for a person: what happened, with whom, and what to do.

use std::fmt;
use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use crate::error_code::{self, ErrorCode};

/// A failed TLS connection in words. Display is the message with the advice, without the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsExplanation {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened and with whom.
    pub message: String,
}

impl TlsExplanation {
    fn new(code: ErrorCode, message: String) -> Self {
        Self { code, message }
    }
}

impl fmt::Display for TlsExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.message, self.code.help)
    }
}

/// Explains the error of a connection to `host`; `None` if TLS has no part in it (refused, timed out).
#[must_use]
pub fn explain_io_error(error: &io::Error, host: &str) -> Option<TlsExplanation> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (inner, error.kind()) {
        (Some(inner), _) => Some(explain_tls_error(inner, host)),
        (None, io::ErrorKind::UnexpectedEof) => Some(TlsExplanation::new(
            error_code::NOT_TLS,
            format!("{host} closed the connection during the TLS handshake"),
        )),
        _ => None,
    }
}

/// Explains an error of TLS with `host`.
#[must_use]
pub fn explain_tls_error(error: &Error, host: &str) -> TlsExplanation {
    match error {
        Error::InvalidCertificate(problem) => explain_certificate(problem, host),
        Error::AlertReceived(alert) => explain_alert(*alert, host),
        Error::InvalidMessage(_) => {
            TlsExplanation::new(error_code::NOT_TLS, format!("what {host} answered is not TLS"))
        }
        Error::PeerIncompatible(problem) => TlsExplanation::new(
            error_code::TLS_VERSION,
            format!("{host} does not speak TLS 1.3 as we do ({problem:?})"),
        ),
        other => TlsExplanation::new(
            error_code::TLS_HANDSHAKE,
            format!("TLS with {host} failed: {other}"),
        ),
    }
}

fn explain_certificate(problem: &CertificateError, host: &str) -> TlsExplanation {
    use CertificateError as P;
    match problem {
        P::UnknownIssuer | P::BadSignature => TlsExplanation::new(
            error_code::TLS_UNKNOWN_CA,
            format!("the certificate of {host} is not signed by the CA that this agent trusts"),
        ),
        P::NotValidForName => TlsExplanation::new(
            error_code::TLS_WRONG_NAME,
            format!("the certificate of {host} is not for that name"),
        ),
        P::NotValidForNameContext { presented, .. } => TlsExplanation::new(
            error_code::TLS_WRONG_NAME,
            format!(
                "the certificate of {host} is not for that name, only for {}",
                plain_names(presented)
            ),
        ),
        P::ExpiredContext { time, not_after } => TlsExplanation::new(
            error_code::TLS_EXPIRED,
            format!(
                "the certificate of {host} expired at {}, now it is {}",
                shown(*not_after),
                shown(*time)
            ),
        ),
        P::NotValidYetContext { time, not_before } => TlsExplanation::new(
            error_code::TLS_EXPIRED,
            format!(
                "the certificate of {host} is valid from {}, now it is {}",
                shown(*not_before),
                shown(*time)
            ),
        ),
        P::Expired => TlsExplanation::new(
            error_code::TLS_EXPIRED,
            format!("the certificate of {host} has expired"),
        ),
        P::NotValidYet => TlsExplanation::new(
            error_code::TLS_EXPIRED,
            format!("the certificate of {host} is not valid yet"),
        ),
        other => TlsExplanation::new(
            error_code::TLS_HANDSHAKE,
            format!("the certificate of {host} is not accepted: {other}"),
        ),
    }
}

fn explain_alert(alert: AlertDescription, host: &str) -> TlsExplanation {
    use AlertDescription as A;
    let code = match alert {
        A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => error_code::TLS_VERSION,
        A::UnknownCA | A::BadCertificate => error_code::TLS_UNKNOWN_CA,
        A::CertificateExpired => error_code::TLS_EXPIRED,
        _ => error_code::TLS_HANDSHAKE,
    };
    TlsExplanation::new(
        code,
        format!("{host} ended the TLS handshake with the alert {alert:?}"),
    )
}

/// The names of the certificate, as the verifier lists them (`DnsName("a")`), without their wrapping.
fn plain_names(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"').to_owned()
    };
    let names: Vec<_> = presented.iter().map(plain).collect();
    if names.is_empty() {
        "no name at all".to_owned()
    } else {
        names.join(", ")
    }
}

/// RFC 3339.
fn shown(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

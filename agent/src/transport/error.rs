//! Why there is no connection, in one line for a person: what, where, and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use edgelogger_common::error_code::{self, ErrorCode, explain};
use edgelogger_common::tls::{TlsError, TlsExplanation};
use serde::Deserialize;

/// Characters of a foreign text that a message shows.
const SHOWN_CHARS_MAX: usize = 300;

/// A connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No token to show.
    #[error("the token can't be read from {}: {problem}; {}", path.display(), error_code::TOKEN_MISSING.help)]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Neither token nor file is configured.
    #[error("no token is configured: set token_file in [collector] to the file with this agent's token")]
    NoToken,
    /// The token has no name in it.
    #[error("the agent's token is not a token: {}", error_code::TOKEN_MALFORMED.help)]
    TokenUnreadable,
    /// The CA's certificate.
    #[error("{0}")]
    Ca(#[from] TlsError),
    /// The name is unknown.
    #[error(
        "the name {host:?} can't be resolved ({source}): check the url in [collector], and the DNS of this machine"
    )]
    Name {
        /// The host of the URL.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Nobody listens.
    #[error("{peer} refuses connections: start the collector, or check the port of the url in [collector]")]
    Refused {
        /// Host and port.
        peer: String,
    },
    /// Neither yes nor no.
    #[error("{peer} did not answer within {} s: check the network and the firewalls between", after.as_secs())]
    Timeout {
        /// Host and port.
        peer: String,
        /// How long was waited.
        after: Duration,
    },
    /// Anything else of TCP.
    #[error("{peer} can't be reached: {source}")]
    Unreachable {
        /// Host and port.
        peer: String,
        /// What the system says.
        source: io::Error,
    },
    /// The other side is not who it should be, or does not speak TLS.
    #[error("{0}")]
    Tls(Box<TlsExplanation>),
    /// The collector answered, and said no.
    #[error("{peer} refuses the agent (HTTP {status}): {message}")]
    Denied {
        /// Host and port.
        peer: String,
        /// HTTP status.
        status: u16,
        /// Stable code, if the answer had one.
        code: Option<&'static ErrorCode>,
        /// What it said, and what to do.
        message: String,
    },
    /// Something else than a collector.
    #[error(
        "{peer} speaks TLS, but it is not the ingest port of a collector ({detail}): check host, port and path of the \
         url in [collector]"
    )]
    NotACollector {
        /// Host and port.
        peer: String,
        /// What it did.
        detail: String,
    },
}

impl ConnectError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenFile { .. } | Self::NoToken => error_code::TOKEN_MISSING.code,
            Self::TokenUnreadable => error_code::TOKEN_MALFORMED.code,
            Self::Ca(error) => error.error_code().code,
            Self::Tls(explanation) => explanation.code.code,
            Self::Denied { code, .. } => code.map_or(error_code::PROTOCOL_VIOLATION.code, |code| code.code),
            Self::Name { .. } | Self::Refused { .. } | Self::Timeout { .. } | Self::Unreachable { .. } => {
                error_code::COLLECTOR_UNREACHABLE.code
            }
            Self::NotACollector { .. } => error_code::NOT_A_COLLECTOR.code,
        }
    }

    /// Must somebody do something before it can work?
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Denied { status, .. } => *status < 500 && *status != 429,
            Self::TokenFile { .. } | Self::NoToken | Self::TokenUnreadable | Self::Ca(_) => true,
            // A proxy whose collector is away accepts connections and closes them.
            Self::Tls(explanation) => explanation.code != error_code::NOT_TLS,
            _ => false,
        }
    }

    pub(super) fn tcp(peer: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { peer },
            _ => Self::Unreachable { peer, source },
        }
    }

    /// From an HTTP answer that is not an upgrade.
    pub(super) fn http(peer: String, status: u16, body: &[u8]) -> Self {
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        let code = problem.code.as_deref().and_then(explain);
        let said = problem
            .message
            .or(problem.detail)
            .or(problem.title)
            .map(|text| shown(&text));
        let is_answer_of_ours = status != 404 && (code.is_some() || matches!(status, 401 | 403 | 429 | 503));
        if !is_answer_of_ours {
            return Self::NotACollector {
                peer,
                detail: format!("HTTP status {status}"),
            };
        }
        let help = problem
            .help
            .map(|text| shown(&text))
            .or_else(|| code.map(|code| code.help.to_owned()));
        let said = said.or_else(|| code.map(|code| code.title.to_owned()));
        let what = said.unwrap_or_else(|| "without saying why; check the agent's token".to_owned());
        let message = match help {
            Some(help) if !what.contains(&help) => format!("{}. {help}", what.trim_end_matches('.')),
            _ => what,
        };
        Self::Denied {
            peer,
            status,
            code,
            message,
        }
    }
}

/// What a collector says beside an HTTP status; also the fields of RFC 9457.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: Option<String>,
    message: Option<String>,
    help: Option<String>,
    detail: Option<String>,
    title: Option<String>,
}

/// Foreign text, short and without anything that could drive a terminal.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|char| !char.is_control())
        .take(SHOWN_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, code: &str, part: &str) {
        let error = ConnectError::http("c:7443".into(), status, body.as_bytes());
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn an_answer_with_a_code_says_what_to_do() {
        let body = r#"{"code":"E0208","message":"the token expired at 2026-01-01T00:00:00Z"}"#;
        check(
            401,
            body,
            "E0208",
            "expired at 2026-01-01T00:00:00Z. Make a new token",
        );
        check(
            401,
            r#"{"code":"E0207"}"#,
            "E0207",
            "not signed by this collector",
        );
        check(503, r#"{"code":"E0221","detail":"full"}"#, "E0221", "full");
    }

    #[test]
    fn an_answer_without_one_is_told_apart_by_its_status() {
        check(401, "", "E0219", "check the agent's token");
        check(404, "<html>", "E0224", "not the ingest port");
        check(200, "ok", "E0224", "not the ingest port");
    }

    #[test]
    fn control_sequences_of_a_foreign_answer_are_not_shown() {
        let error = ConnectError::http(
            "c".into(),
            401,
            b"{\"code\":\"E0202\",\"message\":\"a\\u001b[31mb\\n\"}",
        );
        assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
    }
}

//! `[collector]` of the agent's configuration.

use std::fmt;
use std::path::PathBuf;

use edgelogger_common::duration::HumanDuration;
use edgelogger_common::size::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::http::Uri;

/// Port where the URL names none.
pub const DEFAULT_PORT: u16 = 7443;
/// Path where the URL names none.
pub const DEFAULT_PATH: &str = "/v1/session";

/// Where the collector is and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectorConfig {
    /// `wss://host:7443`. The path may be left out.
    pub url: String,
    /// The certificate of the CA that signed the collector's, in PEM. Read again when the file changes.
    pub ca: PathBuf,
    /// The agent's token. A file is better: it can be replaced while the agent runs, and is not shown by `config`.
    #[serde(default)]
    pub token: Option<Token>,
    /// A file that holds the token. Read again at each connection.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The name that the collector's certificate must have, where it isn't the host of the URL.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Compressed bytes that are sent and not yet acknowledged, at most; they are held in memory.
    #[serde(default = "default_in_flight_bytes")]
    pub in_flight_bytes: ByteSize,
    /// How long a connection may take, from the name's lookup to the collector's Welcome.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: HumanDuration,
}

/// Four batches of 1 MiB: enough for 4 MiB per round trip, little enough for a small machine.
fn default_in_flight_bytes() -> ByteSize {
    ByteSize::mib(4)
}

/// A lost SYN is repeated after 1, 3 and 7 s; the handshakes of TLS and WebSocket take three round trips.
fn default_connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

impl CollectorConfig {
    /// A configuration with defaults.
    #[must_use]
    pub fn new(url: impl Into<String>, ca: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            ca: ca.into(),
            token: None,
            token_file: None,
            server_name: None,
            in_flight_bytes: default_in_flight_bytes(),
            connect_timeout: default_connect_timeout(),
        }
    }

    /// What is meant by the URL.
    ///
    /// # Errors
    /// A text that is no URL, or one of something that is not TLS.
    pub fn target(&self) -> Result<Target, TargetError> {
        let error = |problem: &'static str| TargetError {
            url: self.url.clone(),
            problem,
        };
        let text = if self.url.contains("://") {
            self.url.clone()
        } else {
            format!("wss://{}", self.url)
        };
        let uri: Uri = text.parse().map_err(|_| error("it is not a URL"))?;
        match uri.scheme_str() {
            Some("wss" | "https") => {}
            Some("ws" | "http") => return Err(error("agents speak TLS only: use wss://")),
            _ => return Err(error("it must begin with wss://")),
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| error("it names no host"))?;
        let path = match uri.path_and_query().map(|path| path.as_str()) {
            None | Some("" | "/") => DEFAULT_PATH,
            Some(path) => path,
        };
        Ok(Target {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(DEFAULT_PORT),
            path: path.to_owned(),
        })
    }
}

/// A secret: shown by nothing.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// This text, without the white space around it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.trim()
    }
}

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

impl JsonSchema for Token {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Token".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// A parsed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// HTTP path.
    pub path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The URL can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the collector's url {url:?} can't be used: {problem}; an example is wss://collector.example:7443")]
pub struct TargetError {
    /// What is configured.
    pub url: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Option<(&str, u16, &str)>) {
        let found = CollectorConfig::new(url, "ca.pem").target();
        let found = found
            .as_ref()
            .ok()
            .map(|target| (target.host.as_str(), target.port, target.path.as_str()));
        assert_eq!(found, expected, "{url}");
    }

    #[test]
    fn a_url_says_host_port_and_path() {
        check(
            "wss://collector.example:1234",
            Some(("collector.example", 1234, DEFAULT_PATH)),
        );
        check(
            "wss://collector.example/",
            Some(("collector.example", DEFAULT_PORT, DEFAULT_PATH)),
        );
        check(
            "https://c/logs/v1/session",
            Some(("c", DEFAULT_PORT, "/logs/v1/session")),
        );
        check("c:99", Some(("c", 99, DEFAULT_PATH)));
        check("wss://[::1]:8000", Some(("::1", 8000, DEFAULT_PATH)));
    }

    #[test]
    fn a_url_without_tls_or_host_is_refused() {
        for url in ["ws://c", "http://c:80", "ftp://c", "wss://", "", "wss://a b"] {
            check(url, None);
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let mut config = CollectorConfig::new("wss://c", "ca.pem");
        config.token = Some(Token::new(" secret\n"));
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(config.token.unwrap().reveal(), "secret");
    }
}

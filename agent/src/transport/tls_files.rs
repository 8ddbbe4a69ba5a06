//! The token and the CA, read again so that both can be replaced while the agent runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgelogger_common::auth::TOKEN_BYTES_MAX;
use edgelogger_common::tls::{FloorTime, TlsError, client_config};
use rustls::ClientConfig;
use serde::Deserialize;

use super::config::{CollectorConfig, Token};
use super::error::ConnectError;

/// The TLS configuration, made anew when the CA's file changes. It is kept otherwise, because sessions resume by what
/// is in it.
#[derive(Debug)]
pub(super) struct TlsFiles {
    ca: PathBuf,
    time: Arc<FloorTime>,
    made: Option<(Version, Arc<ClientConfig>)>,
}

type Version = (Option<SystemTime>, u64);

impl TlsFiles {
    pub fn new(ca: &Path, time: Arc<FloorTime>) -> Self {
        Self {
            ca: ca.to_path_buf(),
            time,
            made: None,
        }
    }

    pub fn config(&mut self) -> Result<Arc<ClientConfig>, TlsError> {
        let version = std::fs::metadata(&self.ca)
            .map(|data| (data.modified().ok(), data.len()))
            .unwrap_or_default();
        if let Some((made_of, config)) = self.made.as_ref()
            && *made_of == version
        {
            return Ok(Arc::clone(config));
        }
        let config = client_config(&self.ca, Arc::clone(&self.time))?;
        self.made = Some((version, Arc::clone(&config)));
        Ok(config)
    }
}

/// The token, and the agent's name in it.
pub(super) fn read_token(config: &CollectorConfig) -> Result<(Token, String), ConnectError> {
    let token = match (&config.token_file, &config.token) {
        (Some(path), _) => read_token_file(path)?,
        (None, Some(token)) => token.clone(),
        (None, None) => return Err(ConnectError::NoToken),
    };
    let name = subject(token.reveal()).ok_or(ConnectError::TokenUnreadable)?;
    Ok((token, name))
}

fn read_token_file(path: &Path) -> Result<Token, ConnectError> {
    let error = |problem: String| ConnectError::TokenFile {
        path: path.to_path_buf(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|source| error(source.to_string()))?;
    match text.trim().len() {
        0 => Err(error("the file is empty".to_owned())),
        len if len > TOKEN_BYTES_MAX => Err(error(format!(
            "it holds {len} bytes, no token has more than {TOKEN_BYTES_MAX}"
        ))),
        _ => Ok(Token::new(&text)),
    }
}

/// `sub` of a token that nobody has verified: the collector does, and compares.
fn subject(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let payload = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice::<Claims>(&json)
        .ok()
        .map(|claims| claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(json: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn the_agents_name_is_in_its_token() {
        assert_eq!(
            subject(&token(r#"{"sub":"machine-17","aud":"x"}"#)).as_deref(),
            Some("machine-17")
        );
        for bad in ["", "a.b", "a.b.c", &token("{}")] {
            assert_eq!(subject(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_token_file_is_read_each_time_and_says_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let mut config = CollectorConfig::new("wss://c", "ca.pem");
        assert!(matches!(read_token(&config), Err(ConnectError::NoToken)));
        config.token_file = Some(path.clone());
        assert!(read_token(&config).unwrap_err().to_string().contains("token"));
        for name in ["one", "two"] {
            std::fs::write(&path, token(&format!(r#"{{"sub":"{name}"}}"#)) + "\n").unwrap();
            assert_eq!(read_token(&config).unwrap().1, name);
        }
        std::fs::write(&path, " \n").unwrap();
        assert!(read_token(&config).unwrap_err().to_string().contains("empty"));
    }
}

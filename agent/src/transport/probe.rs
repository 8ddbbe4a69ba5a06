//! Does the collector answer, and does it accept the token? For `check --connect`.

use std::sync::Arc;

use edgelogger_common::clock::SystemClock;
use edgelogger_common::tls::FloorTime;
use tokio::time::timeout;

use super::tls_files::{TlsFiles, read_token};
use super::websocket::connect;
use super::{CollectorConfig, ConnectError, Target};

/// Connects as far as the WebSocket upgrade, which shows name, port, TLS, CA and token, and goes away again without
/// a Hello: no session begins, and a running agent of this machine is not disturbed. Gives the token's subject.
///
/// # Errors
/// What a running agent would be told.
pub async fn probe(config: &CollectorConfig, target: &Target) -> Result<String, ConnectError> {
    let floor = Arc::new(FloorTime::new(Arc::new(SystemClock::new())));
    let (token, agent_id) = read_token(config)?;
    let tls = TlsFiles::new(&config.ca, floor).config()?;
    let after = config.connect_timeout.get();
    let attempt = connect(target, config.server_name.as_deref(), token.reveal(), tls);
    let connected = timeout(after, Box::pin(attempt)).await;
    let _closed_at_once = connected.map_err(|_| ConnectError::Timeout {
        peer: target.to_string(),
        after,
    })??;
    Ok(agent_id)
}

//! HTTP to a running collector.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use edgelogger_common::error_code;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::CliError;
use crate::text::harmless_lines;

/// The collector gives up on a query after its own limit; this is only for one that is stuck.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3_700);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A token has some 400 bytes.
const TOKEN_FILE_BYTES_MAX: usize = 8 << 10;

#[derive(Debug, Clone, Args)]
pub(super) struct ClientArguments {
    /// The collector's API
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7480",
        env = "EDGELOGGER_COLLECTOR_URL"
    )]
    url: String,
    /// A token for people, where the API asks for one
    #[arg(long, value_name = "FILE", env = "EDGELOGGER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

pub(super) struct ApiClient {
    client: Client,
    url: String,
    token: Option<String>,
}

impl ApiClient {
    pub(super) fn new(arguments: &ClientArguments) -> Result<Self, CliError> {
        // The client wants to know how it would speak TLS, even when it speaks plain HTTP.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Asking one's own machine must not go through a proxy of the environment.
            .no_proxy()
            .build()
            .map_err(|error| CliError::Plain(format!("cannot make requests: {error}")))?;
        let token = arguments
            .token_file
            .as_ref()
            .map(|path| read_token(path))
            .transpose()?;
        Ok(Self {
            client,
            url: arguments.url.trim_end_matches('/').to_owned(),
            token,
        })
    }

    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, CliError> {
        let answer = self
            .ask(self.client.get(format!("{}{path}", self.url)).query(query))
            .await?;
        self.json(answer).await
    }

    /// As [`ApiClient::get`], for an answer that is worth reading whatever its status.
    pub(super) async fn get_any(&self, path: &str) -> Result<Value, CliError> {
        let request = self.authorized(self.client.get(format!("{}{path}", self.url)));
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() || answer.status().is_server_error() {
            return self.json(answer).await;
        }
        Err(self.refused(answer).await)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        let answer = self
            .ask(self.client.post(format!("{}{path}", self.url)).json(body))
            .await?;
        self.json(answer).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let answer = self
            .authorized(request)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(self.refused(answer).await)
        }
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn json(&self, answer: Response) -> Result<Value, CliError> {
        answer.json().await.map_err(|_| {
            let message = format!("what answers at {} is not the API of a collector", self.url);
            CliError::coded(error_code::NO_COLLECTOR, message)
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        CliError::coded(
            error_code::NO_COLLECTOR,
            format!("no collector answers at {}: {cause}", self.url),
        )
    }

    async fn refused(&self, answer: Response) -> CliError {
        let status = answer.status();
        let problem: Value = answer.json().await.unwrap_or_default();
        let detail = problem["detail"]
            .as_str()
            .map_or_else(|| status.to_string(), str::to_owned);
        match problem["code"].as_str().and_then(error_code::explain) {
            Some(code) => CliError::coded(*code, harmless_lines(&detail)),
            None => CliError::Plain(format!(
                "{} answered {status}: {}",
                self.url,
                harmless_lines(&detail)
            )),
        }
    }
}

fn read_token(path: &std::path::Path) -> Result<String, CliError> {
    let cannot =
        |why: String| CliError::coded(error_code::TOKEN_MISSING, format!("{}: {why}", path.display()));
    let token = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    if token.len() > TOKEN_FILE_BYTES_MAX {
        return Err(cannot("too large for a token".to_owned()));
    }
    Ok(token.trim().to_owned())
}

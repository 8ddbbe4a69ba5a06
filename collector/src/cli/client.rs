//! HTTP to a running collector.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use clap::Args;
use edgelogger_common::error_code;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::CliError;
use crate::api::incomplete::INCOMPLETE;
use crate::text::harmless_lines;

/// The collector gives up on a query after its own limit; this is only for one that is stuck.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3_700);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the head of an answer that has no end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// And for all of it: none, but the client wants a number.
const OPEN_TIMEOUT: Duration = Duration::from_secs(365 * 86_400);
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

/// A request that was not answered as it should.
pub(super) struct Refused {
    pub error: CliError,
    /// May the same request succeed later?
    pub may_pass: bool,
}

impl Refused {
    pub(super) const fn for_good(error: CliError) -> Self {
        Self {
            error,
            may_pass: false,
        }
    }

    const fn for_now(error: CliError) -> Self {
        Self {
            error,
            may_pass: true,
        }
    }
}

pub(super) struct ApiClient {
    client: Client,
    url: String,
    token: Option<String>,
    /// Said that an answer is incomplete.
    said_incomplete: Once,
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
            said_incomplete: Once::new(),
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

    /// An answer without end, to be read piece by piece.
    pub(super) async fn open(&self, path: &str, query: &[(&str, String)]) -> Result<Response, Refused> {
        let request = self.client.get(format!("{}{path}", self.url)).query(query);
        let request = self.authorized(request.timeout(OPEN_TIMEOUT));
        let silent = |_| {
            let message = format!("the collector at {} does not answer", self.url);
            Refused::for_now(CliError::coded(error_code::NO_COLLECTOR, message))
        };
        let answer = tokio::time::timeout(HEAD_TIMEOUT, request.send())
            .await
            .map_err(silent)?;
        let answer = answer.map_err(|error| Refused::for_now(self.unreachable(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        Err(Refused {
            error: self.refused(answer).await,
            may_pass,
        })
    }

    /// Where it asks.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let answer = self
            .authorized(request)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            self.say_incomplete(&answer);
            Ok(answer)
        } else {
            Err(self.refused(answer).await)
        }
    }

    /// On stderr, so that what reads the rows is not disturbed.
    fn say_incomplete(&self, answer: &Response) {
        let files = answer.headers().get(INCOMPLETE);
        if let Some(files) = files.and_then(|files| files.to_str().ok()) {
            let say = || {
                let _ = writeln!(
                    io::stderr(),
                    "warning: the answer is incomplete, files of the store can't be used: {}; \
                     `edgelogger-collector status` names them",
                    harmless_lines(files)
                );
            };
            self.said_incomplete.call_once(say);
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
        let message = format!("no collector answers at {}: {}", self.url, root_cause(error));
        CliError::coded(error_code::NO_COLLECTOR, message)
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

/// What is behind an error of the client: its own words only say that there was one.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
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

//! The HTTP side of a session: one path, a token, an upgrade. What is refused gets a problem document (RFC 9457) with
//! a stable code, in words that an agent can log as they are.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use edgelogger_common::auth::{self, Audience, AuthError, Claims};
use edgelogger_common::error_code::{self, ErrorCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::IngestContext;

/// Where agents connect.
pub const SESSION_PATH: &str = "/v1/session";

/// A request that becomes a session.
pub struct Upgrade {
    /// Of its token.
    pub claims: Claims,
    /// The connection, once the answer is out.
    pub connection: OnUpgrade,
}

/// Where the HTTP service leaves an accepted upgrade for the task of its connection.
pub type UpgradeSlot = Arc<Mutex<Option<Upgrade>>>;

/// Answers one request.
pub async fn answer(
    mut request: Request<Incoming>,
    context: Arc<IngestContext>,
    slot: UpgradeSlot,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match check(&request, &context) {
        Ok((claims, accept)) => {
            let connection = hyper::upgrade::on(&mut request);
            *slot.lock() = Some(Upgrade { claims, connection });
            switching(accept)
        }
        Err(problem) => problem.to_response(),
    })
}

/// Why a request does not become a session.
#[derive(Debug, thiserror::Error)]
enum RequestProblem {
    #[error("agents connect to {SESSION_PATH}, there is nothing at {path}")]
    NotFound { path: String },
    #[error(
        "agents connect with GET and a WebSocket upgrade (version 13); {missing} is missing or different"
    )]
    NoUpgrade { missing: HeaderName },
    #[error("only GET with a WebSocket upgrade is answered here")]
    Method,
    #[error(transparent)]
    Token(#[from] AuthError),
}

fn check(
    request: &Request<Incoming>,
    context: &IngestContext,
) -> Result<(Claims, HeaderValue), RequestProblem> {
    if request.uri().path() != SESSION_PATH {
        let path = request.uri().path().chars().take(100).collect();
        return Err(RequestProblem::NotFound { path });
    }
    if request.method() != Method::GET {
        return Err(RequestProblem::Method);
    }
    let headers = request.headers();
    let claims = check_token(headers, context)?;
    let accept = check_upgrade(headers)?;
    Ok((claims, accept))
}

fn check_token(headers: &HeaderMap, context: &IngestContext) -> Result<Claims, AuthError> {
    let header = headers
        .get(AUTHORIZATION)
        .map(|value| value.to_str().unwrap_or("not ASCII"));
    auth::verify(
        auth::bearer(header)?,
        &context.in_force.get().keys,
        Audience::Agents,
        context.time.now_ns(),
    )
}

fn check_upgrade(headers: &HeaderMap) -> Result<HeaderValue, RequestProblem> {
    let has = |name: &HeaderName, wanted: &str| {
        let text = headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        text.split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    for (name, wanted) in [
        (UPGRADE, "websocket"),
        (CONNECTION, "upgrade"),
        (SEC_WEBSOCKET_VERSION, "13"),
    ] {
        if !has(&name, wanted) {
            return Err(RequestProblem::NoUpgrade { missing: name });
        }
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let accept = key.and_then(|key| HeaderValue::from_str(&derive_accept_key(key)).ok());
    accept.ok_or(RequestProblem::NoUpgrade {
        missing: SEC_WEBSOCKET_KEY,
    })
}

fn switching(accept: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

impl RequestProblem {
    fn to_response(&self) -> Response<Full<Bytes>> {
        let (status, code) = match self {
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, error_code::NOT_FOUND),
            Self::NoUpgrade { .. } => (StatusCode::UPGRADE_REQUIRED, error_code::PROTOCOL_VIOLATION),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, error_code::PROTOCOL_VIOLATION),
            Self::Token(error) => (StatusCode::UNAUTHORIZED, error.error_code()),
        };
        let mut response = Response::new(Full::from(problem_document(status, code, &self.to_string())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    }
}

/// A problem document (RFC 9457), with `code` and `help`.
pub fn problem_document(status: StatusCode, code: ErrorCode, detail: &str) -> Vec<u8> {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": code.title,
        "status": status.as_u16(),
        "detail": detail,
        "code": code.code,
        "message": detail,
        "help": code.help,
    });
    document.to_string().into_bytes()
}

//! Errors as problem documents.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use edgelogger_common::auth::AuthError;
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_store::QueryError;

/// An error for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: ErrorCode,
    detail: String,
}

impl Problem {
    /// A request that can't be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: error_code::BAD_REQUEST,
            detail: detail.into(),
        }
    }

    /// An address with nothing at it.
    pub fn not_found(path: &str) -> Self {
        let path: String = path.chars().take(100).collect();
        let detail = format!("there is nothing at {path}");
        Self {
            status: StatusCode::NOT_FOUND,
            code: error_code::NOT_FOUND,
            detail,
        }
    }

    /// A request that is understood, and is not carried out as things are.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            code: error_code::CONFLICT,
            detail: detail.into(),
        }
    }

    /// Not now.
    pub fn unavailable(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code,
            detail: detail.into(),
        }
    }

    /// A request that came under a foreign name.
    pub fn misdirected(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::MISDIRECTED_REQUEST,
            code: error_code::BAD_REQUEST,
            detail: detail.into(),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: error.error_code(),
            detail: error.to_string(),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let (status, code) = match &error {
            QueryError::NotReadOnly(_) => (StatusCode::BAD_REQUEST, error_code::SQL_NOT_READ_ONLY),
            QueryError::Memory { .. } => (StatusCode::UNPROCESSABLE_ENTITY, error_code::SQL_RESOURCE_LIMIT),
            QueryError::Time { .. } => (StatusCode::REQUEST_TIMEOUT, error_code::SQL_RESOURCE_LIMIT),
            QueryError::Invalid(_) => (StatusCode::BAD_REQUEST, error_code::QUERY_FAILED),
            QueryError::BadCursor => (StatusCode::BAD_REQUEST, error_code::BAD_REQUEST),
            QueryError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, error_code::QUERY_FAILED),
        };
        let code = error.code().copied().unwrap_or(code);
        Self {
            status,
            code,
            detail: error.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.code.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code.code,
            "help": self.code.help,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

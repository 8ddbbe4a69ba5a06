//! Errors as problem documents.

use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use edgelogger_common::auth::AuthError;
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_store::QueryError;
use serde::Serialize;

use super::described::described;

/// The media type of problems.
pub const PROBLEM_TYPE: &str = "application/problem+json";

described! {
    /// A problem document (RFC 9457).
    #[derive(Debug, Serialize)]
    pub struct ProblemDocument {
        /// Always `about:blank`: `code` says more.
        #[serde(rename = "type")]
        kind: &'static str,
        /// What happened, in a few words: the same for each code.
        title: &'static str,
        /// The status of the answer.
        status: u16,
        /// What happened here.
        detail: String,
        /// Stable, `E` and four digits: `edgelogger-collector explain CODE`.
        code: &'static str,
        /// What to do about it.
        help: &'static str,
    }
}

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

    /// Something that is asked for and is not there.
    pub fn not_found_because(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: error_code::NOT_FOUND,
            detail: detail.into(),
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

    /// A request that is understood and contradicts itself, or goes beyond a limit.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            ..Self::bad_request(detail)
        }
    }

    /// A form that is not there.
    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_ACCEPTABLE,
            ..Self::bad_request(detail)
        }
    }

    /// A method that is not answered at this address.
    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let shown = |text: &str| text.chars().take(100).collect::<String>();
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..Self::bad_request(format!(
                "{} is not answered at {}; the header Allow says what is",
                shown(method),
                shown(path)
            ))
        }
    }

    /// With another code.
    #[must_use]
    pub const fn with_code(mut self, code: ErrorCode) -> Self {
        self.code = code;
        self
    }

    /// In other words.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The document, as JSON.
    #[must_use]
    pub fn document(&self) -> String {
        let document = ProblemDocument {
            kind: "about:blank",
            title: self.code.title,
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.code,
            help: self.code.help,
        };
        serde_json::to_string(&document).unwrap_or_default()
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

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self {
            status,
            ..Self::bad_request(rejection.body_text())
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
            QueryError::BadPattern(_) => (StatusCode::UNPROCESSABLE_ENTITY, error_code::BAD_PATTERN),
            QueryError::BadCursor => (StatusCode::UNPROCESSABLE_ENTITY, error_code::OTHER_CURSOR),
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
        let mut response = (self.status, self.document()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

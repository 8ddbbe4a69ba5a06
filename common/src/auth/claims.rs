//! What a token says.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{AuthError, DEFAULT_TENANT, ISSUER, SUBJECT_CHARS_MAX};

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Agents that send data.
    Agents,
    /// People and tools that query.
    People,
}

impl Audience {
    /// The `aud` claim.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agents => "edgelogger-ingest",
            Self::People => "edgelogger-api",
        }
    }

    /// What it allows, in words.
    pub(super) const fn purpose(self) -> &'static str {
        match self {
            Self::Agents => "agents that send data",
            Self::People => "people and tools that query",
        }
    }
}

/// The content of a token. Times are seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// One of [`Audience`].
    pub aud: String,
    /// The agent's id or the person's name; valid by [`check_subject`].
    pub sub: String,
    /// When it was issued.
    pub iat: i64,
    /// First second at which it is valid.
    pub nbf: i64,
    /// First second at which it is no longer valid.
    pub exp: i64,
    /// 128 random bits in hexadecimal, to name this very token.
    pub jti: String,
    /// Reserved; [`DEFAULT_TENANT`].
    pub tenant: String,
}

impl Claims {
    /// Takes the claims of a verified token one by one, so that the error names the one that is wrong.
    pub(super) fn from_json(map: &Map<String, Value>) -> Result<Self, AuthError> {
        let claims = Self {
            iss: text(map, "iss")?,
            aud: text(map, "aud")?,
            sub: text(map, "sub")?,
            iat: seconds(map, "iat")?,
            nbf: seconds(map, "nbf")?,
            exp: seconds(map, "exp")?,
            jti: text(map, "jti")?,
            tenant: if map.contains_key("tenant") {
                text(map, "tenant")?
            } else {
                DEFAULT_TENANT.to_owned()
            },
        };
        if claims.iss != ISSUER {
            return Err(AuthError::BadClaim {
                claim: "iss",
                problem: "names another issuer",
            });
        }
        check_subject(&claims.sub).map_err(|_| AuthError::BadClaim {
            claim: "sub",
            problem: "is not a valid name",
        })?;
        check_subject(&claims.tenant).map_err(|_| AuthError::BadClaim {
            claim: "tenant",
            problem: "is not a valid name",
        })?;
        Ok(claims)
    }
}

/// 1 to [`SUBJECT_CHARS_MAX`] of the characters A-Z a-z 0-9 . _ - and not only dots: subjects become part of
/// paths.
pub(super) fn check_subject(subject: &str) -> Result<(), AuthError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=SUBJECT_CHARS_MAX).contains(&subject.len());
    if fits && subject.bytes().all(allowed) && !subject.bytes().all(|byte| byte == b'.') {
        return Ok(());
    }
    Err(AuthError::BadSubject {
        subject: super::error::shown(subject),
    })
}

fn text(map: &Map<String, Value>, claim: &'static str) -> Result<String, AuthError> {
    match map.get(claim) {
        None | Some(Value::Null) => Err(AuthError::MissingClaim { claim }),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(AuthError::BadClaim {
            claim,
            problem: "is not a string",
        }),
    }
}

fn seconds(map: &Map<String, Value>, claim: &'static str) -> Result<i64, AuthError> {
    match map.get(claim) {
        None | Some(Value::Null) => Err(AuthError::MissingClaim { claim }),
        Some(value) => value.as_i64().ok_or(AuthError::BadClaim {
            claim,
            problem: "is not a whole number of seconds",
        }),
    }
}

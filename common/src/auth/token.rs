//! Issue and verify.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::check_subject;
use super::error::shown;
use super::{
    Audience, AuthError, Claims, DEFAULT_TENANT, ISSUER, LEEWAY, SigningKey, TOKEN_BYTES_MAX, VerifyingKeys,
};

const NS_PER_SECOND: i64 = 1_000_000_000;

/// The only accepted `alg`.
const ALGORITHM: &str = "EdDSA";

/// Makes a token that is valid from `now_ns` (nanoseconds since 1970) for `ttl`, in whole seconds.
pub fn issue(
    key: &SigningKey,
    audience: Audience,
    subject: &str,
    ttl: Duration,
    now_ns: i64,
) -> Result<String, AuthError> {
    check_subject(subject)?;
    let now_s = now_ns.div_euclid(NS_PER_SECOND);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: audience.as_str().to_owned(),
        sub: subject.to_owned(),
        iat: now_s,
        nbf: now_s,
        exp: now_s.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        jti: crate::stream::StreamId::random().to_string(),
        tenant: DEFAULT_TENANT.to_owned(),
    };
    let header = Header {
        kid: Some(key.verifying_key().kid()),
        ..Header::new(Algorithm::EdDSA)
    };
    // Only a key of another kind or claims that are no JSON could fail here; both types forbid it.
    jsonwebtoken::encode(&header, &claims, &key.encoding).map_err(|_| AuthError::Malformed {
        problem: "it could not be signed",
    })
}

/// The token of an `Authorization` header.
pub fn bearer(header: Option<&str>) -> Result<&str, AuthError> {
    let header = header
        .map(str::trim)
        .filter(|header| !header.is_empty())
        .ok_or(AuthError::Missing)?;
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    match token.trim() {
        "" if scheme.eq_ignore_ascii_case("bearer") => Err(AuthError::Missing),
        token if scheme.eq_ignore_ascii_case("bearer") => Ok(token),
        _ => Err(AuthError::Malformed {
            problem: "the header is not of the form `Bearer TOKEN`",
        }),
    }
}

/// The claims of a token, if one of the keys signed it for this audience and it is valid at `now_ns`
/// (nanoseconds since 1970), give or take [`LEEWAY`].
pub fn verify(
    token: &str,
    keys: &VerifyingKeys,
    audience: Audience,
    now_ns: i64,
) -> Result<Claims, AuthError> {
    let token = token.trim();
    let header = read_header(token)?;
    if header.alg != ALGORITHM {
        return Err(AuthError::WrongAlgorithm {
            found: shown(&header.alg),
        });
    }
    let kid = header.kid.unwrap_or_default();
    let key = keys
        .get(&kid)
        .ok_or_else(|| AuthError::UnknownKey { kid: shown(&kid) })?;

    let claims = Claims::from_json(&verified_content(token, key)?)?;
    if claims.aud != audience.as_str() {
        return Err(AuthError::WrongAudience {
            found: shown(&claims.aud),
            expected: audience,
        });
    }
    check_time(&claims, now_ns.div_euclid(NS_PER_SECOND))?;
    Ok(claims)
}

/// What the header says, before anything is verified.
#[derive(Deserialize)]
struct UnverifiedHeader {
    alg: String,
    kid: Option<String>,
    /// Extensions that a reader must understand (RFC 7515, 4.1.11). We have none.
    crit: Option<Value>,
}

fn read_header(token: &str) -> Result<UnverifiedHeader, AuthError> {
    let malformed = |problem| AuthError::Malformed { problem };
    if token.is_empty() {
        return Err(AuthError::Missing);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(AuthError::TOO_LONG);
    }
    if token.split('.').count() != 3 {
        return Err(malformed("it has not three parts"));
    }
    let header = token.split('.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD
        .decode(header)
        .map_err(|_| malformed("its header is not base64url"))?;
    let header: UnverifiedHeader =
        serde_json::from_slice(&json).map_err(|_| malformed("its header is not that of a JWT"))?;
    match header.crit {
        Some(_) => Err(malformed("it demands extensions that are not known here")),
        None => Ok(header),
    }
}

/// The content of a token, once its signature is found right. Of the library only the signature check is
/// used: its check of claims reads the machine's clock, underflows in 1970, and calls a claim of the wrong type
/// a broken token.
fn verified_content(token: &str, key: &DecodingKey) -> Result<Map<String, Value>, AuthError> {
    let malformed = |problem| AuthError::Malformed { problem };
    let (message, signature) = token
        .rsplit_once('.')
        .ok_or(malformed("it has not three parts"))?;
    let (_, content) = message
        .split_once('.')
        .ok_or(malformed("it has not three parts"))?;
    match jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, Algorithm::EdDSA) {
        Ok(true) => {}
        Ok(false) => return Err(AuthError::BadSignature),
        Err(_) => return Err(malformed("its signature is not base64url")),
    }
    let json = URL_SAFE_NO_PAD
        .decode(content)
        .map_err(|_| malformed("its content is not base64url"))?;
    serde_json::from_slice(&json).map_err(|_| malformed("its content is not a JSON object"))
}

fn check_time(claims: &Claims, now_s: i64) -> Result<(), AuthError> {
    let leeway_s = LEEWAY.as_secs().cast_signed();
    let subject = || claims.sub.clone();
    if now_s.saturating_sub(leeway_s) >= claims.exp {
        return Err(AuthError::Expired {
            subject: subject(),
            at: time(claims.exp),
            now: time(now_s),
        });
    }
    if now_s.saturating_add(leeway_s) < claims.nbf {
        return Err(AuthError::NotYetValid {
            subject: subject(),
            from: time(claims.nbf),
            now: time(now_s),
        });
    }
    Ok(())
}

/// RFC 3339, or the bare number where no calendar reaches.
fn time(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s).map_or_else(|_| format!("second {unix_s}"), |time| time.to_string())
}

//! Why a token is refused. Each message says what to do.

use super::{Audience, SUBJECT_CHARS_MAX, TOKEN_BYTES_MAX};
use crate::error_code::{self, ErrorCode};

/// A token that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token, or an empty one.
    #[error(
        "no token was sent; send `Authorization: Bearer TOKEN`, or name the agent's token file in its configuration"
    )]
    Missing,
    /// Not a JWT at all.
    #[error(
        "this is not a token ({problem}); copy all three parts, joined by dots, or make one with `edgelogger-collector token create`"
    )]
    Malformed {
        /// What is wrong with its form.
        problem: &'static str,
    },
    /// The header asks for another algorithm than EdDSA.
    #[error(
        "the token is signed with {found:?}, only EdDSA is accepted; make one with `edgelogger-collector token create`"
    )]
    WrongAlgorithm {
        /// The algorithm of the header, shortened.
        found: String,
    },
    /// Signed with a key that is not among ours.
    #[error(
        "the token was signed by another collector (key {kid:?} is not known here); \
         use a token of this collector, or add the issuer's public key to its verifying keys"
    )]
    UnknownKey {
        /// The key id of the header, shortened.
        kid: String,
    },
    /// Names one of our keys, but was not signed with it, or was changed.
    #[error(
        "the token's signature is wrong: it was changed or forged; copy it again, or make one with `edgelogger-collector token create`"
    )]
    BadSignature,
    /// Past its `exp`.
    #[error(
        "the token of {subject:?} expired at {at}, now it is {now}; make a new one with `edgelogger-collector token create`, or correct the clock"
    )]
    Expired {
        /// Whose token.
        subject: String,
        /// When it expired, RFC 3339.
        at: String,
        /// The time it was checked at, RFC 3339.
        now: String,
    },
    /// Before its `nbf`.
    #[error(
        "the token of {subject:?} is valid from {from}, now it is {now}; correct the clock of this machine or of the issuer's"
    )]
    NotYetValid {
        /// Whose token.
        subject: String,
        /// When it becomes valid, RFC 3339.
        from: String,
        /// The time it was checked at, RFC 3339.
        now: String,
    },
    /// An agent's token at the API, or the reverse.
    #[error("the token is for {found:?}, here one for {} ({}) is needed; make one with `edgelogger-collector token create`", expected.as_str(), expected.purpose())]
    WrongAudience {
        /// The `aud` of the token, shortened.
        found: String,
        /// What is accepted here.
        expected: Audience,
    },
    /// A claim is not there.
    #[error("the token has no `{claim}` claim; make one with `edgelogger-collector token create`")]
    MissingClaim {
        /// Its name.
        claim: &'static str,
    },
    /// A claim cannot be used.
    #[error("the token's `{claim}` claim {problem}; make one with `edgelogger-collector token create`")]
    BadClaim {
        /// Its name.
        claim: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name that no token may be issued for.
    #[error(
        "{subject:?} cannot be the subject of a token; use 1 to {SUBJECT_CHARS_MAX} of the characters A-Z a-z 0-9 . _ -"
    )]
    BadSubject {
        /// The name, shortened.
        subject: String,
    },
}

impl AuthError {
    pub(super) const TOO_LONG: Self = Self::Malformed {
        problem: "it is too long",
    };

    /// The stable code.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Missing => error_code::TOKEN_MISSING,
            Self::Malformed { .. } => error_code::TOKEN_MALFORMED,
            Self::WrongAlgorithm { .. } => error_code::TOKEN_WRONG_ALGORITHM,
            Self::UnknownKey { .. } | Self::BadSignature => error_code::TOKEN_BAD_SIGNATURE,
            Self::Expired { .. } => error_code::TOKEN_EXPIRED,
            Self::NotYetValid { .. } => error_code::TOKEN_NOT_YET_VALID,
            Self::WrongAudience { .. } => error_code::TOKEN_WRONG_AUDIENCE,
            Self::MissingClaim { .. } | Self::BadClaim { .. } | Self::BadSubject { .. } => {
                error_code::TOKEN_BAD_CLAIM
            }
        }
    }
}

// The longest message holds a header field; without this relation it could be as long as a token may be.
const _: () = assert!(SHOWN_CHARS_MAX * 4 < TOKEN_BYTES_MAX);

/// Characters of an unverified field that a message shows.
const SHOWN_CHARS_MAX: usize = 64;

/// A field from outside, short enough for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

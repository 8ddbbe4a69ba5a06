//! Tokens: who may send data, who may query.
//!
//! A token is a JWT signed with Ed25519 (EdDSA). The collector holds the [`SigningKey`]; whoever checks tokens
//! needs only [`VerifyingKeys`].
//!
//! Invariants:
//! - The algorithm is pinned. What the header of a token asks for is compared, never obeyed, so neither
//!   `alg: none` nor HMAC with the public key as its secret can pass.
//! - A token names its key by `kid`; several keys may verify at once, so that they can rotate. A `kid` that
//!   is not known is refused before anything is computed.
//! - iss, aud, sub, iat, nbf, exp and jti are all required. Time is handed in; [`LEEWAY`] forgives clocks that
//!   differ a little.
//! - Nothing of a token is believed, or shown as the token's, before its signature is verified.
//!
//! | file | what |
//! | --- | --- |
//! | `key.rs` | keys and their files |
//! | `claims.rs` | what a token says, taken out of JSON one claim at a time |
//! | `token.rs` | issue and verify |
//! | `error.rs` | why a token is refused, and what to do |

mod claims;
mod error;
mod key;
#[cfg(test)]
mod tests;
mod token;

use std::time::Duration;

pub use claims::{Audience, Claims};
pub use error::AuthError;
pub use key::{KeyError, SigningKey, VerifyingKey, VerifyingKeys};
pub use token::{bearer, issue, verify};

/// How far the clocks of the issuing and the checking machine may differ.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The `iss` of every token.
pub const ISSUER: &str = "edgelogger";

/// The tenant of a token that names none.
pub const DEFAULT_TENANT: &str = "default";

/// Longest token that is looked at; ours have about 400 bytes.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Longest subject, in characters. It becomes part of file names and labels.
pub const SUBJECT_CHARS_MAX: usize = 128;

/// Most keys that verify at once. Two suffice for rotation; the rest is for sites that share tokens.
pub const VERIFYING_KEYS_MAX: usize = 64;

//! Ed25519 keys and their files: the private key as PKCS#8 PEM (mode 0600), public ones as SPKI PEM. Both are
//! what `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest, Sha256};

use super::VERIFYING_KEYS_MAX;
use crate::error_code::{self, ErrorCode};
use crate::secret_file::{self, FileError};

/// Length of an Ed25519 public key in bytes.
const PUBLIC_KEY_LEN: usize = 32;

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content is no such key.
    #[error(
        "{what} is not an Ed25519 {kind} key in PEM form; restore the right file, or remove it to have a new key made"
    )]
    NotAKey {
        /// The file, or "the text".
        what: String,
        /// "private" or "public".
        kind: &'static str,
    },
    /// No key in a place where one is needed.
    #[error("{} holds no key", .0.display())]
    Absent(PathBuf),
    /// More than [`VERIFYING_KEYS_MAX`].
    #[error("more than {VERIFYING_KEYS_MAX} verifying keys; remove those whose tokens have all expired")]
    TooMany,
    /// The cryptographic library failed, for want of randomness or memory.
    #[error("a key could not be generated: the system has no randomness or memory to give")]
    Generate,
}

impl KeyError {
    /// The stable code.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        error_code::KEY_UNUSABLE
    }
}

/// The private key that tokens are signed with.
pub struct SigningKey {
    pub(super) encoding: EncodingKey,
    public: VerifyingKey,
    pkcs8: Vec<u8>,
}

impl SigningKey {
    /// A new random key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
        let der: Pkcs8V1Der<'static> = pair.as_der().map_err(|_| KeyError::Generate)?;
        Self::from_pkcs8(der.as_ref(), "the new key")
    }

    /// The key of a file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let pem = secret_file::read(path)?.ok_or_else(|| KeyError::Absent(path.to_owned()))?;
        Self::from_pem(&pem, &path.display().to_string())
    }

    /// The key of a file; a new one is made and stored (mode 0600, atomically) if the file is absent.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let make = || Self::generate().map(|key| key.to_pem());
        let pem = secret_file::read_or_create(path, secret_file::PRIVATE, make)?;
        Self::from_pem(&pem, &path.display().to_string())
    }

    fn from_pem(pem: &str, what: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotAKey {
            what: what.to_owned(),
            kind: "private",
        })?;
        Self::from_pkcs8(der.secret_pkcs8_der(), what)
    }

    fn from_pkcs8(der: &[u8], what: &str) -> Result<Self, KeyError> {
        let not_a_key = || KeyError::NotAKey {
            what: what.to_owned(),
            kind: "private",
        };
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| not_a_key())?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| not_a_key())?;
        Ok(Self {
            encoding: EncodingKey::from_ed_der(der),
            public: VerifyingKey { bytes: public },
            pkcs8: der.to_vec(),
        })
    }

    /// The public key that verifies what this one signs.
    #[must_use]
    pub const fn verifying_key(&self) -> VerifyingKey {
        self.public
    }

    /// PKCS#8 in PEM. A secret.
    fn to_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.kid())
    }
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey {
    bytes: [u8; PUBLIC_KEY_LEN],
}

impl VerifyingKey {
    /// The name of the key in the header of tokens: the first 8 bytes of its SHA-256, in hexadecimal. Derived,
    /// so that it needs no place of its own; a collision only makes signatures fail.
    #[must_use]
    pub fn kid(&self) -> String {
        Sha256::digest(self.bytes)
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// SubjectPublicKeyInfo in PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[SPKI_PREFIX.as_slice(), &self.bytes].concat())
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        let bytes = der.strip_prefix(SPKI_PREFIX.as_slice())?.try_into().ok()?;
        Some(Self { bytes })
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.kid())
    }
}

/// The public keys that tokens are accepted from, by key id.
#[derive(Clone, Default)]
pub struct VerifyingKeys {
    keys: BTreeMap<String, DecodingKey>,
}

impl VerifyingKeys {
    /// No keys: every token is refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts tokens of this key too.
    pub fn add(&mut self, key: VerifyingKey) -> Result<(), KeyError> {
        self.keys.insert(key.kid(), DecodingKey::from_ed_der(&key.bytes));
        if self.keys.len() > VERIFYING_KEYS_MAX {
            Err(KeyError::TooMany)
        } else {
            Ok(())
        }
    }

    /// Accepts tokens of all public keys in a PEM text, at least one; `what` names it in errors.
    pub fn add_pem(&mut self, pem: &str, what: &str) -> Result<(), KeyError> {
        let not_a_key = || KeyError::NotAKey {
            what: what.to_owned(),
            kind: "public",
        };
        let mut sections = SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()).peekable();
        sections.peek().ok_or_else(not_a_key)?;
        sections.try_for_each(|section| {
            let der = section.map_err(|_| not_a_key())?;
            self.add(VerifyingKey::from_spki(&der).ok_or_else(not_a_key)?)
        })
    }

    /// Accepts tokens of all public keys in a file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        let pem = secret_file::read(path)?.ok_or_else(|| KeyError::Absent(path.to_owned()))?;
        self.add_pem(&pem, &path.display().to_string())
    }

    pub(super) fn get(&self, kid: &str) -> Option<&DecodingKey> {
        self.keys.get(kid)
    }
}

impl From<&SigningKey> for VerifyingKeys {
    fn from(key: &SigningKey) -> Self {
        let public = key.verifying_key();
        Self {
            keys: BTreeMap::from([(public.kid(), DecodingKey::from_ed_der(&public.bytes))]),
        }
    }
}

impl fmt::Debug for VerifyingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

/// One PEM section (RFC 7468: lines of 64 characters).
fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

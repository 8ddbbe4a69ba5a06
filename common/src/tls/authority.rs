//! The collector's own certificate authority: one EC P-256 key and one certificate, made once.
//!
//! The key is stored before the certificate. A crash between the two leaves a key without a certificate,
//! which is then signed anew: nobody can have trusted it yet. A certificate without its key is an error: agents
//! trust it, so making another silently would lock them out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, certificates};
use crate::secret_file;

/// The CA's certificate in its directory; this is the file that agents need.
pub const CA_CERTIFICATE_FILE: &str = "ca.pem";
/// The CA's private key in its directory.
pub const CA_KEY_FILE: &str = "ca.key";

/// Ten years: replacing a CA means visiting every agent.
const CA_DAYS: u64 = 3_652;

/// Certificates begin this long before they are made, for machines whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate authority, able to sign.
pub struct CertificateAuthority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    certificate_path: PathBuf,
}

impl CertificateAuthority {
    /// The authority of a directory, made at `now_ns` (nanoseconds since 1970) if there is none. Hand in
    /// [`FloorTime::now_ns`](super::FloorTime::now_ns): a CA made in 1970 would have expired in 1980.
    pub fn load_or_create(directory: &Path, now_ns: i64) -> Result<Self, TlsError> {
        let key_path = directory.join(CA_KEY_FILE);
        let certificate_path = directory.join(CA_CERTIFICATE_FILE);
        if certificate_path.exists() && !key_path.exists() {
            return Err(TlsError::Absent {
                path: key_path.display().to_string(),
                advice: "restore it from a backup; or remove ca.pem too, have a new CA made, and copy its ca.pem to every agent",
            });
        }
        let key_pem = secret_file::read_or_create(&key_path, secret_file::PRIVATE, || {
            Ok::<_, TlsError>(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem())
        })?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| TlsError::NotPem {
            what: key_path.display().to_string(),
            expected: "a private key",
        })?;
        let certificate_pem = secret_file::read_or_create(&certificate_path, secret_file::PUBLIC, || {
            Ok::<_, TlsError>(params(now_ns)?.self_signed(&key)?.pem())
        })?;
        Self::from_parts(certificate_pem, certificate_path, key, &key_path)
    }

    fn from_parts(
        certificate_pem: String,
        certificate_path: PathBuf,
        key: KeyPair,
        key_path: &Path,
    ) -> Result<Self, TlsError> {
        let what = certificate_path.display().to_string();
        let not_pem = || TlsError::NotPem {
            what: what.clone(),
            expected: "a certificate",
        };
        let certificate = certificates(&certificate_pem, &what)?.swap_remove(0);
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| not_pem())?;
        if !is_of_key(&parsed, &key) {
            return Err(TlsError::Mismatch {
                certificate: what,
                key: key_path.display().to_string(),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| not_pem())?;
        Ok(Self {
            issuer,
            certificate,
            certificate_pem,
            certificate_path,
        })
    }

    /// The certificate that agents trust, in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Where that certificate lies.
    #[must_use]
    pub fn certificate_path(&self) -> &Path {
        &self.certificate_path
    }

    /// Whether this authority signed the certificate.
    pub(super) fn signed(&self, certificate: &X509Certificate<'_>) -> bool {
        X509Certificate::from_der(&self.certificate)
            .is_ok_and(|(_, own)| certificate.verify_signature(Some(own.public_key())).is_ok())
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateAuthority({})", self.certificate_path.display())
    }
}

fn params(now_ns: i64) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    // A random part tells the CAs of two collectors apart, for people and for clients that trust both.
    let tag = crate::stream::StreamId::random().to_string();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("EdgeLogger CA {}", &tag[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now_ns, CA_DAYS);
    Ok(params)
}

/// Valid from a day before `now_ns` for so many days. A clock before 1970 counts as 1970.
pub(super) fn set_validity(params: &mut CertificateParams, now_ns: i64, days: u64) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_nanos(u64::try_from(now_ns).unwrap_or(0));
    params.not_before = now - BACKDATED;
    params.not_after = now + DAY * u32::try_from(days).unwrap_or(u32::MAX);
}

/// Whether a certificate is for this key.
pub(super) fn is_of_key(certificate: &X509Certificate<'_>, key: &KeyPair) -> bool {
    use rcgen::PublicKeyData;
    certificate.public_key().raw == key.subject_public_key_info()
}

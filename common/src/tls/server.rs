//! The server certificate: made when it is missing, foreign, for other names, or about to expire.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::ServerName;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{DAY, is_of_key, set_validity};
use super::{CertificateAuthority, TlsError, certificates};
use crate::secret_file;

/// The server's certificate in the TLS directory.
pub const SERVER_CERTIFICATE_FILE: &str = "server.pem";
/// The server's private key in the TLS directory.
pub const SERVER_KEY_FILE: &str = "server.key";

/// Most names in one certificate: each handshake carries them all.
pub(super) const NAMES_MAX: usize = 100;

/// Life of a server certificate: the most that browsers accept.
pub(super) const SERVER_DAYS: u64 = 397;

/// A certificate with less left than this is replaced.
const RENEW_BEFORE_DAYS: u64 = 30;

/// A certificate (chain, leaf first) and its key, both in PEM. The key is a secret.
#[derive(Clone)]
pub struct CertificateAndKey {
    /// The certificate alone: clients have the CA, sending it too would only cost bytes.
    pub chain_pem: String,
    /// PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for CertificateAndKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateAndKey")
    }
}

impl CertificateAuthority {
    /// Makes a certificate for these DNS names and IP addresses, valid from a day before `now_ns`
    /// (nanoseconds since 1970) for `days`.
    pub fn issue_server(
        &self,
        names: &[String],
        days: u64,
        now_ns: i64,
    ) -> Result<CertificateAndKey, TlsError> {
        check_names(names)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "EdgeLogger collector");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now_ns, days);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(CertificateAndKey {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// The certificate and key kept in a directory, made anew if they are missing, do not belong together, are
    /// not of this authority, are for other names, or end within 30 days of `now_ns`. The flag says whether
    /// they are new.
    pub fn load_or_issue(
        &self,
        directory: &Path,
        names: &[String],
        now_ns: i64,
    ) -> Result<(CertificateAndKey, bool), TlsError> {
        let (certificate_path, key_path) = (
            directory.join(SERVER_CERTIFICATE_FILE),
            directory.join(SERVER_KEY_FILE),
        );
        let kept = secret_file::read(&certificate_path)?.zip(secret_file::read(&key_path)?);
        if let Some((chain_pem, key_pem)) = kept
            && self.serves(&chain_pem, &key_pem, names, now_ns)
        {
            return Ok((CertificateAndKey { chain_pem, key_pem }, false));
        }
        let made = self.issue_server(names, SERVER_DAYS, now_ns)?;
        // A crash between the two leaves a pair that does not match, which the next start replaces.
        secret_file::replace(&key_path, &made.key_pem, secret_file::PRIVATE)?;
        secret_file::replace(&certificate_path, &made.chain_pem, secret_file::PUBLIC)?;
        Ok((made, true))
    }

    fn serves(&self, chain_pem: &str, key_pem: &str, names: &[String], now_ns: i64) -> bool {
        let Ok(chain) = certificates(chain_pem, "") else {
            return false;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&chain[0]) else {
            return false;
        };
        let own_key = KeyPair::from_pem(key_pem).is_ok_and(|key| is_of_key(&certificate, &key));
        own_key
            && self.signed(&certificate)
            && names_of(&certificate) == names.iter().map(|name| canonical(name)).collect()
            && lasts(&certificate, now_ns)
    }
}

fn check_names(names: &[String]) -> Result<(), TlsError> {
    if names.is_empty() || names.len() > NAMES_MAX {
        return Err(TlsError::NameCount { count: names.len() });
    }
    match names
        .iter()
        .find(|name| ServerName::try_from(name.as_str()).is_err())
    {
        Some(name) => Err(TlsError::BadName { name: name.clone() }),
        None => Ok(()),
    }
}

/// Whether the certificate is valid now and stays so until it is renewed.
fn lasts(certificate: &X509Certificate<'_>, now_ns: i64) -> bool {
    let now_s = now_ns.div_euclid(1_000_000_000);
    let renew_before_s = (DAY.as_secs() * RENEW_BEFORE_DAYS).cast_signed();
    let validity = certificate.validity();
    validity.not_before.timestamp() <= now_s
        && now_s.saturating_add(renew_before_s) < validity.not_after.timestamp()
}

/// DNS names are compared without case, addresses by value.
fn canonical(name: &str) -> String {
    name.parse::<IpAddr>()
        .map_or_else(|_| name.to_ascii_lowercase(), |address| address.to_string())
}

fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    names.value.general_names.iter().filter_map(name_of).collect()
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

//! Real handshakes, in memory, and the life of the files.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tempfile::TempDir;

use super::*;
use crate::clock::{Clock, ManualClock};

const DAY_NS: i64 = 86_400_000_000_000;

/// Later than the build, so that the floor does not decide.
fn now_ns() -> i64 {
    (BUILD_UNIX_S + 86_400) * 1_000_000_000
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn authority(dir: &TempDir) -> CertificateAuthority {
    CertificateAuthority::load_or_create(dir.path(), now_ns()).unwrap()
}

fn server(ca: &CertificateAuthority, dns: &[&str], days: u64) -> Arc<ServerConfig> {
    let pair = ca.issue_server(&names(dns), days, now_ns()).unwrap();
    server_config(&pair.chain_pem, &pair.key_pem).unwrap()
}

fn client_at(ca: &CertificateAuthority, wall_ns: i64) -> Arc<ClientConfig> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(wall_ns));
    client_config(ca.certificate_path(), Arc::new(FloorTime::new(clock))).unwrap()
}

fn client(ca: &CertificateAuthority) -> Arc<ClientConfig> {
    client_at(ca, now_ns())
}

/// Carries bytes between the two until neither has any left; the first error of either side.
fn connect(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok((client, server))
}

fn refusal(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &str) -> TlsExplanation {
    let error = connect(client, server, name).map(|_| ()).unwrap_err();
    explain_tls_error(&error, name)
}

#[test]
fn agents_that_trust_the_ca_reach_the_server_by_each_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(&dir);
    let server = server(&ca, &["collector.example", "127.0.0.1", "::1"], 30);
    for name in ["collector.example", "127.0.0.1", "::1"] {
        let (mut from, mut to) = connect(&client(&ca), &server, name).unwrap();
        assert_eq!(from.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        from.writer().write_all(b"hello").unwrap();
        let mut wire = Vec::new();
        from.write_tls(&mut wire).unwrap();
        to.read_tls(&mut wire.as_slice()).unwrap();
        to.process_new_packets().unwrap();
        let mut heard = [0; 5];
        to.reader().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }
}

#[test]
fn a_second_connection_resumes_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(&dir);
    let (client, server) = (client(&ca), server(&ca, &["localhost"], 30));
    let kind = || connect(&client, &server, "localhost").unwrap().0.handshake_kind();
    assert_eq!(kind(), Some(HandshakeKind::Full));
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn another_ca_is_refused_and_explained() {
    let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = server(&authority(&other), &["collector.example"], 30);
    let explained = refusal(&client(&authority(&ours)), &server, "collector.example");
    assert_eq!(explained.code, error_code::TLS_UNKNOWN_CA);
    assert_eq!(
        explained.to_string(),
        "the certificate of collector.example is not signed by the CA that this agent trusts. Copy ca.pem \
         from the collector's TLS directory to the agent. If it used to work, the CA was replaced, or \
         something intercepts the connection."
    );
}

#[test]
fn another_name_is_refused_and_the_right_ones_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(&dir);
    let server = server(&ca, &["collector.example", "192.0.2.1"], 30);
    for name in ["other.example", "192.0.2.2"] {
        let explained = refusal(&client(&ca), &server, name);
        assert_eq!(explained.code, error_code::TLS_WRONG_NAME);
        let expected =
            format!("the certificate of {name} is not for that name, only for collector.example, 192.0.2.1");
        assert_eq!(explained.message, expected);
    }
}

#[test]
fn an_expired_and_a_future_certificate_are_refused_with_both_times() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(&dir);
    let server = server(&ca, &["localhost"], 30);
    let late = refusal(&client_at(&ca, now_ns() + 31 * DAY_NS), &server, "localhost");
    assert_eq!(late.code, error_code::TLS_EXPIRED);
    assert!(
        late.message
            .starts_with("the certificate of localhost expired at 20"),
        "{late}"
    );

    let future = ca
        .issue_server(&names(&["localhost"]), 30, now_ns() + 3 * DAY_NS)
        .unwrap();
    let future = server_config(&future.chain_pem, &future.key_pem).unwrap();
    let early = refusal(&client(&ca), &future, "localhost");
    assert_eq!(early.code, error_code::TLS_EXPIRED);
    assert!(
        early
            .message
            .starts_with("the certificate of localhost is valid from 20"),
        "{early}"
    );
}

#[test]
fn a_machine_that_booted_in_1970_accepts_a_certificate_made_before_the_build() {
    let dir = tempfile::tempdir().unwrap();
    let built_ns = BUILD_UNIX_S * 1_000_000_000;
    let ca = CertificateAuthority::load_or_create(dir.path(), built_ns).unwrap();
    let pair = ca.issue_server(&names(&["localhost"]), 30, built_ns).unwrap();
    let server = server_config(&pair.chain_pem, &pair.key_pem).unwrap();
    assert!(connect(&client_at(&ca, 0), &server, "localhost").is_ok());
}

/// A ClientHello of TLS 1.2: no `supported_versions` extension, two cipher suites of that time.
const TLS12_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x3b, // handshake record
    0x01, 0x00, 0x00, 0x37, // ClientHello
    0x03, 0x03, // TLS 1.2
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 32,   // random
    0x00, // no session
    0x00, 0x04, 0xc0, 0x2b, 0xc0, 0x2f, // ECDHE with AES-128-GCM
    0x01, 0x00, // no compression
    0x00, 0x0a, // extensions
    0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x17, 0x00, 0x18, // groups P-256, P-384
];

#[test]
fn tls_1_2_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = ServerConnection::new(server(&authority(&dir), &["localhost"], 30)).unwrap();
    server.read_tls(&mut &*TLS12_HELLO).unwrap();
    let error = server.process_new_packets().map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error:?}");
    assert_eq!(
        explain_tls_error(&error, "192.0.2.9").code,
        error_code::TLS_VERSION
    );
}

#[test]
fn an_answer_that_is_not_tls_is_explained_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client(&authority(&dir)), name).unwrap();
    client
        .read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..])
        .unwrap();
    let error = client.process_new_packets().map(|_| ()).unwrap_err();
    assert_eq!(explain_tls_error(&error, "localhost").code, error_code::NOT_TLS);

    let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
    assert_eq!(
        explain_io_error(&wrapped, "localhost").unwrap().code,
        error_code::NOT_TLS
    );
    assert_eq!(
        explain_io_error(&io::ErrorKind::ConnectionRefused.into(), "localhost"),
        None
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_authority_is_made_once_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let made = authority(&dir);
    assert_eq!(made.certificate_pem(), authority(&dir).certificate_pem());
    assert_eq!(mode(&dir.path().join(CA_KEY_FILE)), 0o600);
    assert_eq!(mode(&dir.path().join(CA_CERTIFICATE_FILE)), 0o644);
}

#[test]
fn a_key_whose_certificate_was_never_written_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    authority(&dir);
    fs::remove_file(dir.path().join(CA_CERTIFICATE_FILE)).unwrap();
    let ca = authority(&dir);
    assert!(connect(&client(&ca), &server(&ca, &["localhost"], 30), "localhost").is_ok());
}

#[test]
fn a_ca_certificate_without_its_key_or_with_another_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let pem = authority(&dir).certificate_pem().to_owned();
    let key_path = dir.path().join(CA_KEY_FILE);
    fs::remove_file(&key_path).unwrap();
    let load = || CertificateAuthority::load_or_create(dir.path(), now_ns()).unwrap_err();
    assert!(matches!(load(), TlsError::Absent { .. }));
    fs::write(&key_path, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(load(), TlsError::Mismatch { .. }));
    fs::write(&key_path, "garbage").unwrap();
    assert!(matches!(load(), TlsError::NotPem { .. }));
    assert_eq!(
        fs::read_to_string(dir.path().join(CA_CERTIFICATE_FILE)).unwrap(),
        pem
    );
}

#[test]
fn the_server_certificate_is_kept_until_something_changes() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(&dir);
    let load = |dns: &[&str], at_ns: i64| ca.load_or_issue(dir.path(), &names(dns), at_ns).unwrap();
    let is_new = |dns: &[&str], at_ns: i64| load(dns, at_ns).1;

    let start = now_ns();
    assert!(is_new(&["localhost", "::1"], start), "none yet");
    assert!(!is_new(&["localhost", "::1"], start), "kept");
    assert!(
        !is_new(&["0:0::1", "LOCALHOST", "::1"], start),
        "the same names, written otherwise"
    );
    assert!(is_new(&["localhost", "::1", "10.0.0.1"], start), "a name more");
    assert!(is_new(&["localhost", "::1"], start), "a name less");
    assert!(
        !is_new(&["localhost", "::1"], start + 360 * DAY_NS),
        "31 days and more are left"
    );
    assert!(
        is_new(&["localhost", "::1"], start + 368 * DAY_NS),
        "less than 30 days are left"
    );
    assert!(is_new(&["localhost", "::1"], start), "begins in the future");
    assert_eq!(mode(&dir.path().join(SERVER_KEY_FILE)), 0o600);

    let key = dir.path().join(SERVER_KEY_FILE);
    fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(is_new(&["localhost", "::1"], start), "the key is another");
    fs::write(&key, "garbage").unwrap();
    let (pair, new) = load(&["localhost", "::1"], start);
    assert!(new, "the key is damaged");
    let server = server_config(&pair.chain_pem, &pair.key_pem).unwrap();
    assert!(connect(&client(&ca), &server, "localhost").is_ok());
}

#[test]
fn a_certificate_of_another_authority_is_replaced() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dns = names(&["localhost"]);
    authority(&other)
        .load_or_issue(dir.path(), &dns, now_ns())
        .unwrap();
    let (_, new) = authority(&dir).load_or_issue(dir.path(), &dns, now_ns()).unwrap();
    assert!(new);
}

#[test]
fn names_that_no_certificate_can_carry_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(&dir);
    let issue = |dns: &[&str]| ca.issue_server(&names(dns), 30, now_ns());
    assert!(matches!(issue(&["local host"]), Err(TlsError::BadName { name }) if name == "local host"));
    assert!(matches!(issue(&["https://x"]), Err(TlsError::BadName { .. })));
    assert!(matches!(issue(&[]), Err(TlsError::NameCount { count: 0 })));
    assert!(issue(&host_names().iter().map(String::as_str).collect::<Vec<_>>()).is_ok());
}

#[test]
fn files_that_are_missing_or_of_another_kind_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let time = || Arc::new(FloorTime::new(Arc::new(ManualClock::at(now_ns()))));
    let missing = client_config(&dir.path().join("ca.pem"), time()).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("ca.pem is missing; copy ca.pem from"),
        "{missing}"
    );

    fs::write(dir.path().join("ca.pem"), "garbage").unwrap();
    let garbage = client_config(&dir.path().join("ca.pem"), time()).unwrap_err();
    assert!(matches!(garbage, TlsError::NotPem { .. }), "{garbage}");

    let ca = authority(&tempfile::tempdir().unwrap());
    let (one, two) = (
        ca.issue_server(&names(&["a"]), 30, now_ns()).unwrap(),
        ca.issue_server(&names(&["a"]), 30, now_ns()).unwrap(),
    );
    assert!(matches!(
        server_config(&one.chain_pem, &two.key_pem),
        Err(TlsError::Unusable(_))
    ));
    assert!(matches!(
        server_config("", &two.key_pem),
        Err(TlsError::NotPem { .. })
    ));
    assert!(matches!(
        server_config(&one.chain_pem, ""),
        Err(TlsError::NotPem { .. })
    ));
}

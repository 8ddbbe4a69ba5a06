//! What is accepted and, at more length, what is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

/// 2026-01-02T03:04:05Z.
const NOW_S: i64 = 1_767_323_045;
const HOUR: Duration = Duration::from_secs(3600);

const fn ns(seconds: i64) -> i64 {
    seconds * 1_000_000_000
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn agent_token(key: &SigningKey) -> String {
    issue(key, Audience::Agents, "machine-17", HOUR, ns(NOW_S)).unwrap()
}

fn check_at(token: &str, key: &SigningKey, now_s: i64) -> Result<Claims, AuthError> {
    verify(token, &VerifyingKeys::from(key), Audience::Agents, ns(now_s))
}

/// A token with any header and claims, signed with our key as far as the algorithm allows.
fn signed(key: &SigningKey, claims: &Value) -> String {
    let header = Header {
        kid: Some(key.verifying_key().kid()),
        ..Header::new(Algorithm::EdDSA)
    };
    jsonwebtoken::encode(&header, claims, &key.encoding).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "edgelogger-ingest", "sub": "machine-17", "jti": "1",
        "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 3600,
    })
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn an_issued_token_is_accepted_and_says_what_was_asked() {
    let key = key();
    let claims = check_at(&agent_token(&key), &key, NOW_S).unwrap();
    assert_eq!(
        (claims.sub.as_str(), claims.aud.as_str()),
        ("machine-17", "edgelogger-ingest")
    );
    assert_eq!((claims.iat, claims.nbf, claims.exp), (NOW_S, NOW_S, NOW_S + 3600));
    assert_eq!((claims.tenant.as_str(), claims.jti.len()), ("default", 32));
}

#[test]
fn a_token_without_a_tenant_is_of_the_default_one() {
    let key = key();
    assert_eq!(
        check_at(&signed(&key, &claims()), &key, NOW_S).unwrap().tenant,
        "default"
    );
}

#[test]
fn no_token_and_no_jwt_are_told_apart() {
    let key = key();
    assert_eq!(check_at(" ", &key, NOW_S), Err(AuthError::Missing));
    for text in ["x", "a.b", "a.b.c", "....", "!!.e30.AA", &"a".repeat(5000)] {
        let error = check_at(text, &key, NOW_S).unwrap_err();
        assert!(matches!(error, AuthError::Malformed { .. }), "{text}: {error}");
    }
}

#[test]
fn the_algorithm_none_is_refused() {
    let key = key();
    for alg in ["none", "None", "", "ES256", "RS256"] {
        let header = json!({ "alg": alg, "kid": key.verifying_key().kid() });
        let token = format!("{}.{}.", part(&header), part(&claims()));
        assert_eq!(
            check_at(&token, &key, NOW_S),
            Err(AuthError::WrongAlgorithm {
                found: alg.to_owned()
            })
        );
    }
}

#[test]
fn hmac_with_the_public_key_as_its_secret_is_refused() {
    let key = key();
    let pem = key.verifying_key().to_pem();
    for secret in [pem.as_bytes(), pem.trim().as_bytes()] {
        let header = Header {
            kid: Some(key.verifying_key().kid()),
            ..Header::new(Algorithm::HS256)
        };
        let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap();
        assert_eq!(
            check_at(&token, &key, NOW_S),
            Err(AuthError::WrongAlgorithm {
                found: "HS256".to_owned()
            })
        );
    }
}

#[test]
fn a_foreign_key_is_refused_whatever_it_calls_itself() {
    let (ours, foreign) = (key(), key());
    let kid = foreign.verifying_key().kid();
    assert_eq!(
        check_at(&agent_token(&foreign), &ours, NOW_S),
        Err(AuthError::UnknownKey { kid })
    );

    let header = Header {
        kid: Some(ours.verifying_key().kid()),
        ..Header::new(Algorithm::EdDSA)
    };
    let forged = jsonwebtoken::encode(&header, &claims(), &foreign.encoding).unwrap();
    assert_eq!(check_at(&forged, &ours, NOW_S), Err(AuthError::BadSignature));
}

#[test]
fn a_token_without_a_key_id_is_refused() {
    let key = key();
    let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(), &key.encoding).unwrap();
    assert_eq!(
        check_at(&token, &key, NOW_S),
        Err(AuthError::UnknownKey { kid: String::new() })
    );
}

#[test]
fn a_changed_token_is_refused_at_every_character() {
    let key = key();
    let token = agent_token(&key);
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        // Another letter whose bits differ in more than the padding of the last character.
        changed[at] = if changed[at] == b'A' { b'Q' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(check_at(&changed, &key, NOW_S).is_err(), "character {at}");
    }
}

#[test]
fn header_extensions_that_must_be_understood_are_refused() {
    let key = key();
    let header = json!({ "alg": "EdDSA", "kid": key.verifying_key().kid(), "crit": ["b64"], "b64": false });
    let token = format!("{}.{}.AAAA", part(&header), part(&claims()));
    assert!(matches!(
        check_at(&token, &key, NOW_S),
        Err(AuthError::Malformed { .. })
    ));
}

#[test]
fn a_token_expires_after_its_time_and_the_leeway() {
    let key = key();
    let token = agent_token(&key);
    assert!(check_at(&token, &key, NOW_S + 3600 + 59).is_ok());
    let error = check_at(&token, &key, NOW_S + 3600 + 60).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token of \"machine-17\" expired at 2026-01-02T04:04:05Z, now it is 2026-01-02T04:05:05Z; \
         make a new one with `edgelogger-collector token create`, or correct the clock"
    );
    assert_eq!(error.error_code().code, "E0208");
}

#[test]
fn a_token_is_not_valid_before_its_time_less_the_leeway() {
    let key = key();
    let token = agent_token(&key);
    assert!(check_at(&token, &key, NOW_S - 60).is_ok());
    let error = check_at(&token, &key, NOW_S - 61).unwrap_err();
    assert!(matches!(error, AuthError::NotYetValid { .. }), "{error}");
    // The year 1970 and both ends of time are times like any other.
    for now_ns in [0, i64::MIN, i64::MAX] {
        assert!(verify(&token, &VerifyingKeys::from(&key), Audience::Agents, now_ns).is_err());
    }
}

#[test]
fn a_token_for_another_audience_is_refused() {
    let key = key();
    let people = issue(&key, Audience::People, "ada", HOUR, ns(NOW_S)).unwrap();
    assert_eq!(
        check_at(&people, &key, NOW_S).unwrap_err().to_string(),
        "the token is for \"edgelogger-api\", here one for edgelogger-ingest (agents that send data) is \
         needed; make one with `edgelogger-collector token create`"
    );
    let keys = VerifyingKeys::from(&key);
    assert!(verify(&agent_token(&key), &keys, Audience::People, ns(NOW_S)).is_err());
    assert!(verify(&people, &keys, Audience::People, ns(NOW_S)).is_ok());
}

#[test]
fn every_claim_is_required_and_of_its_type() {
    let key = key();
    for claim in ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"] {
        let mut without = claims();
        without.as_object_mut().unwrap().remove(claim);
        let error = check_at(&signed(&key, &without), &key, NOW_S).unwrap_err();
        assert_eq!(error, AuthError::MissingClaim { claim });

        let mut wrong = claims();
        wrong[claim] = json!(["edgelogger-ingest"]);
        let error = check_at(&signed(&key, &wrong), &key, NOW_S).unwrap_err();
        assert!(
            matches!(error, AuthError::BadClaim { claim: named, .. } if named == claim),
            "{error}"
        );
    }
    assert!(check_at(&signed(&key, &json!([1])), &key, NOW_S).is_err());
}

#[test]
fn a_foreign_issuer_and_a_bad_subject_are_refused() {
    let key = key();
    for (claim, value) in [
        ("iss", "other"),
        ("sub", ""),
        ("sub", "../etc"),
        ("sub", ".."),
        ("tenant", "a/b"),
    ] {
        let mut wrong = claims();
        wrong[claim] = json!(value);
        let error = check_at(&signed(&key, &wrong), &key, NOW_S).unwrap_err();
        assert!(
            matches!(error, AuthError::BadClaim { .. }),
            "{claim} {value}: {error}"
        );
    }
}

#[test]
fn subjects_are_limited_in_length_and_characters() {
    let key = key();
    let try_issue = |subject: &str| issue(&key, Audience::Agents, subject, HOUR, ns(NOW_S));
    for subject in ["a", "machine-17.example_1", &"x".repeat(128)] {
        assert!(try_issue(subject).is_ok(), "{subject}");
    }
    for subject in ["", "a b", "ä", "a/b", ".", "..", "a\n", &"x".repeat(129)] {
        assert!(
            matches!(try_issue(subject), Err(AuthError::BadSubject { .. })),
            "{subject}"
        );
    }
}

#[test]
fn several_keys_verify_at_once_so_that_they_can_rotate() {
    let (old, new) = (key(), key());
    let mut keys = VerifyingKeys::from(&old);
    keys.add_pem(
        &format!("{}{}", old.verifying_key().to_pem(), new.verifying_key().to_pem()),
        "keys",
    )
    .unwrap();
    for key in [&old, &new] {
        assert!(verify(&agent_token(key), &keys, Audience::Agents, ns(NOW_S)).is_ok());
    }
    for pem in [
        "",
        "garbage",
        &rcgen::KeyPair::generate().unwrap().public_key_pem(),
    ] {
        assert!(
            matches!(keys.add_pem(pem, "keys.pem"), Err(KeyError::NotAKey { .. })),
            "{pem}"
        );
    }
    let too_many = (0..VERIFYING_KEYS_MAX).try_for_each(|_| keys.add(key_of_this_test()));
    assert!(matches!(too_many, Err(KeyError::TooMany)));
}

fn key_of_this_test() -> VerifyingKey {
    key().verifying_key()
}

#[test]
fn a_key_file_is_made_once_private_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth/signing.key");
    assert!(matches!(SigningKey::load(&path), Err(KeyError::Absent(_))));
    let made = SigningKey::load_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = SigningKey::load_or_create(&path).unwrap();
    assert!(check_at(&agent_token(&made), &read, NOW_S).is_ok());
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn a_damaged_key_file_is_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signing.key");
    for content in [
        "",
        "garbage",
        &rcgen::KeyPair::generate().unwrap().serialize_pem(),
    ] {
        fs::write(&path, content).unwrap();
        let error = SigningKey::load_or_create(&path).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("{} is not an Ed25519", path.display())),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn openssl_reads_our_key_where_it_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signing.key");
    let key = SigningKey::load_or_create(&path).unwrap();
    let Ok(output) = Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(&path)
        .output()
    else {
        eprintln!("skipped: openssl is not installed");
        return;
    };
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        key.verifying_key().to_pem()
    );
}

#[test]
fn a_bearer_header_gives_its_token() {
    assert_eq!(bearer(Some("Bearer abc")), Ok("abc"));
    assert_eq!(bearer(Some("bearer  abc ")), Ok("abc"));
    assert_eq!(bearer(None), Err(AuthError::Missing));
    assert_eq!(bearer(Some("")), Err(AuthError::Missing));
    assert_eq!(bearer(Some("Bearer ")), Err(AuthError::Missing));
    assert!(matches!(
        bearer(Some("Basic abc")),
        Err(AuthError::Malformed { .. })
    ));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(token in "[A-Za-z0-9_.=-]{0,80}|.{0,40}") {
        let _ = verify(&token, &VerifyingKeys::new(), Audience::Agents, 0);
    }
}

//! The first frame of a session: is this agent who its token says, and do we understand each other?

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::auth::Claims;
use edgelogger_common::error_code::{self, ErrorCode};
use edgelogger_proto::v1::{Hello, Refuse, StreamHead};
use edgelogger_proto::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN};

/// Labels of an agent: they stand in every entry of the log and every row of the store.
pub const LABELS_MAX: usize = 64;
/// Length of a label's key or value in bytes.
pub const LABEL_BYTES_MAX: usize = 1024;
/// Length of a version, host name or boot id in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Streams that one session may have open. A machine with more log files than this has another problem.
pub const STREAMS_MAX: usize = 65_536;

/// Why a session does not begin, as the agent is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable code.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// When to try again; `None`: not before something changes (agents still try, rarely).
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// One that lasts until something changes.
    pub fn lasting(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// One that passes by itself.
    pub fn passing(code: ErrorCode, message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: Some(retry_after),
        }
    }

    /// The frame that says so.
    #[must_use]
    pub fn to_frame(&self) -> Refuse {
        let after = self.retry_after.unwrap_or_default();
        Refuse {
            code: self.code.code.to_owned(),
            message: format!("{}. {}", self.message, self.code.help),
            retry_after_ms: u32::try_from(after.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

/// Who an agent is, for the whole session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIdentity {
    /// "default".
    pub tenant: String,
    /// The token's subject; also the `machine_id` of every row.
    pub agent_id: String,
    /// The installation.
    pub instance_id: [u8; 16],
    /// Grows with every session of the installation.
    pub session_epoch: u64,
    /// Version of the agent's program.
    pub agent_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// As information.
    pub hostname: String,
}

/// A Hello that is accepted as far as it alone can tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Greeting {
    /// Who it is.
    pub identity: AgentIdentity,
    /// Its open streams.
    pub streams: Vec<StreamHead>,
    /// The version both speak.
    pub protocol: u32,
    /// The log it spoke to last, or empty.
    pub last_log_id: Bytes,
    /// Its wall clock.
    pub clock_ns: i64,
    /// It asks what is stored of this machine, or empty.
    pub adopt_machine_mark: Bytes,
}

/// Checks a Hello against the token of its connection.
///
/// # Errors
/// What the agent is told.
pub fn check_hello(hello: Hello, claims: &Claims) -> Result<Greeting, Refusal> {
    let protocol = negotiate(hello.protocol_min, hello.protocol_max)?;
    if hello.agent_id != claims.sub {
        let found = shown(&hello.agent_id);
        let message = format!(
            "the agent calls itself {found:?}, its token is for {:?}",
            claims.sub
        );
        return Err(Refusal::lasting(error_code::WRONG_AGENT, message));
    }
    let broken = |what: String| Refusal::lasting(error_code::PROTOCOL_VIOLATION, format!("the Hello {what}"));
    let instance_id: [u8; 16] = hello.instance_id.as_ref().try_into().map_err(|_| {
        broken(format!(
            "has an instance id of {} bytes instead of 16",
            hello.instance_id.len()
        ))
    })?;
    if !hello.tenant.is_empty() && hello.tenant != claims.tenant {
        return Err(broken("names another tenant than the token".to_owned()));
    }
    check_labels(&hello.labels).map_err(broken)?;
    if hello.streams.len() > STREAMS_MAX {
        return Err(broken(format!(
            "has {} open streams, at most {STREAMS_MAX} are allowed",
            hello.streams.len()
        )));
    }
    if [&hello.agent_version, &hello.hostname, &hello.boot_id]
        .iter()
        .any(|text| text.len() > TEXT_BYTES_MAX)
    {
        return Err(broken(format!(
            "has a version, host name or boot id beyond {TEXT_BYTES_MAX} bytes"
        )));
    }
    let identity = AgentIdentity {
        tenant: claims.tenant.clone(),
        agent_id: claims.sub.clone(),
        instance_id,
        session_epoch: hello.session_epoch,
        agent_version: hello.agent_version,
        labels: hello.labels,
        hostname: hello.hostname,
    };
    Ok(Greeting {
        identity,
        streams: hello.streams,
        protocol,
        last_log_id: hello.last_log_id,
        clock_ns: hello.clock_ns,
        adopt_machine_mark: hello.adopt_machine_mark,
    })
}

fn negotiate(min: u32, max: u32) -> Result<u32, Refusal> {
    let newest = max.min(PROTOCOL_VERSION_MAX);
    if newest >= min.max(PROTOCOL_VERSION_MIN) {
        return Ok(newest);
    }
    let message = format!(
        "the agent speaks protocol versions {min} to {max}, this collector speaks \
         {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}"
    );
    Err(Refusal::lasting(error_code::UNKNOWN_PROTOCOL, message))
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > LABELS_MAX {
        return Err(format!(
            "has {} labels, at most {LABELS_MAX} are allowed",
            labels.len()
        ));
    }
    match labels
        .iter()
        .find(|(key, value)| key.len().max(value.len()) > LABEL_BYTES_MAX)
    {
        Some((key, _)) => Err(format!(
            "has a label {:?} beyond {LABEL_BYTES_MAX} bytes",
            shown(key)
        )),
        None => Ok(()),
    }
}

/// Text from outside, short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn claims(agent: &str) -> Claims {
        Claims {
            iss: "edgelogger".into(),
            aud: "edgelogger-ingest".into(),
            sub: agent.into(),
            iat: 0,
            nbf: 0,
            exp: i64::MAX,
            jti: "0".into(),
            tenant: "default".into(),
        }
    }

    pub(crate) fn hello() -> Hello {
        Hello {
            agent_id: "machine-17".into(),
            instance_id: Bytes::from_static(&[1; 16]),
            session_epoch: 1,
            protocol_min: 1,
            protocol_max: 1,
            agent_version: "0.1.0".into(),
            ..Default::default()
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Hello), expected: Result<u32, &str>) {
        let mut hello = hello();
        change(&mut hello);
        let found = check_hello(hello, &claims("machine-17"));
        let found = found
            .map(|greeting| greeting.protocol)
            .map_err(|refusal| refusal.code.code);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_hello_that_fits_its_token_is_accepted() {
        check(|_| (), Ok(1));
        check(|hello| hello.protocol_max = 9, Ok(1));
        check(|hello| hello.protocol_min = 0, Ok(1));
        check(|hello| hello.tenant = "default".into(), Ok(1));
    }

    #[test]
    fn a_hello_that_does_not_is_refused_with_its_code() {
        check(|hello| hello.protocol_min = 2, Err("E0205"));
        check(
            |hello| (hello.protocol_min, hello.protocol_max) = (0, 0),
            Err("E0205"),
        );
        check(|hello| hello.agent_id = "machine-18".into(), Err("E0220"));
        check(
            |hello| hello.instance_id = Bytes::from_static(b"short"),
            Err("E0219"),
        );
        check(|hello| hello.tenant = "other".into(), Err("E0219"));
        check(|hello| hello.hostname = "x".repeat(300), Err("E0219"));
        let many = (0..=LABELS_MAX)
            .map(|label| (label.to_string(), String::new()))
            .collect();
        check(|hello| hello.labels = many, Err("E0219"));
    }
}

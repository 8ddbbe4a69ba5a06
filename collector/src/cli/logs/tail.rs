//! A connection to `GET /api/v1/logs/tail`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use edgelogger_common::error_code;
use reqwest::Response;

use super::events::{Event, EventReader};
use crate::cli::CliError;
use crate::cli::client::{ApiClient, Refused};

const PATH: &str = "/api/v1/logs/tail";
/// The collector says something every 15 s; when three of that are missing, nobody is there any more.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// Pauses between attempts to come back: double each time.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An open tail.
pub(super) struct Tail {
    answer: Response,
    reader: EventReader,
}

impl Tail {
    /// Opens one, behind an event where one is given.
    pub(super) async fn open(
        client: &ApiClient,
        query: &[(&'static str, String)],
        last_id: Option<&str>,
    ) -> Result<Self, Refused> {
        let mut query = query.to_vec();
        query.extend(last_id.map(|id| ("last_event_id", id.to_owned())));
        let answer = client.open(PATH, &query).await?;
        let kind = answer
            .headers()
            .get("content-type")
            .map(|kind| kind.as_bytes().to_owned());
        if kind.is_none_or(|kind| !kind.starts_with(b"text/event-stream")) {
            let what = "what answers there is not the API of a collector";
            return Err(Refused::for_good(CliError::coded(error_code::NO_COLLECTOR, what)));
        }
        Ok(Self {
            answer,
            reader: EventReader::default(),
        })
    }

    /// Waits for events; an error says why there will be none any more. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Vec<Event>, String> {
        loop {
            let piece = match tokio::time::timeout(SILENCE_MAX, self.answer.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return Err("it ended the connection".to_owned()),
                // What broke of HTTP says nothing to a person.
                Ok(Err(_)) => return Err("the connection was cut".to_owned()),
                Err(_) => return Err(format!("it was silent for {} s", SILENCE_MAX.as_secs())),
            };
            let events = self.reader.read(&piece);
            let events = events.map_err(|_| "it sent an event without end".to_owned())?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}

/// How long to wait before an attempt, the first being 0. `random`: uniform in [0, 1).
pub(super) fn pause(attempt: u32, random: f64) -> Duration {
    let ceiling = PAUSE_MIN.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
    ceiling.mul_f64(random.clamp(0.0, 1.0).mul_add(0.5, 0.5))
}

/// In [0, 1), so that many that lost the same collector do not come back together.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_are_never_none() {
        assert_eq!(pause(0, 1.0), PAUSE_MIN);
        assert_eq!(pause(0, 0.0), PAUSE_MIN / 2);
        assert_eq!(pause(2, 1.0), PAUSE_MIN * 4);
        assert_eq!(pause(u32::MAX, 1.0), PAUSE_MAX);
        assert!((0.0..1.0).contains(&random()));
    }
}

//! How far the collector is behind each source.

use std::collections::HashMap;
use std::time::Duration;

use edgelogger_common::stream::StreamId;

use super::report::{AdoptionReport, SourceReport};
use crate::pipeline::{AgentVitals, StreamLag};
use crate::sources::file::{AdoptionWait, FileSourceStatus, FileStatus};

/// By stream.
pub(super) type Lags = HashMap<StreamId, StreamLag>;

pub(super) fn all(vitals: &AgentVitals, lags: &Lags) -> Vec<SourceReport> {
    let statuses = vitals.sources();
    let mut sources = Vec::new();
    let now = vitals.monotonic();
    for (status, globs) in statuses.files.iter().zip(&statuses.file_globs) {
        sources.push(of_files(status, globs, lags, now));
    }
    if let Some(view) = statuses.journald.as_ref().map(|status| status.view()) {
        let state = if view.following {
            "following"
        } else {
            "not running"
        };
        sources.push(counted("journald", state, view.stream.as_deref(), lags));
    }
    if let Some(view) = statuses.host_metrics.as_ref().map(|status| status.view()) {
        sources.push(counted("host_metrics", "following", view.stream.as_deref(), lags));
    }
    for (source, rate) in sources.iter_mut().zip(vitals.rates().into_iter().flatten()) {
        source.records_per_second = Some(rate);
    }
    sources
}

/// Of a file without a stream nothing was sent.
pub(super) fn lag_of(file: &FileStatus, lags: &Lags) -> StreamLag {
    match file.stream_id {
        // Its stream has ended, and the collector knows it.
        Some(id) => lags.get(&id).copied().unwrap_or_default(),
        None => StreamLag {
            not_acked: file.size,
            oldest_age: None,
        },
    }
}

pub(super) fn ns(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn of_files(status: &FileSourceStatus, globs: &str, lags: &Lags, now: Duration) -> SourceReport {
    let totals = status.totals();
    let (mut files, mut not_acked, mut oldest_age) = (0, 0, None);
    status.each_file(|file| {
        let lag = lag_of(file, lags);
        files += 1;
        not_acked += lag.not_acked;
        oldest_age = oldest_age.max(lag.oldest_age);
    });
    let adoption = totals.adoption.map(|wait| match wait {
        AdoptionWait::Answer(until) => AdoptionReport::Asking {
            wait_max_ns: ns(until.saturating_sub(now)),
        },
        AdoptionWait::Comparison(files_left) => AdoptionReport::Comparing { files_left },
    });
    let state = match (&adoption, totals.waits_for_credit) {
        (Some(_), _) => "adopting",
        (None, true) => "waiting for room",
        (None, false) => "following",
    };
    SourceReport {
        name: globs.to_owned(),
        unit: "bytes".to_owned(),
        state: state.to_owned(),
        files: Some(files),
        not_acked,
        oldest_age_ns: oldest_age.map(ns),
        records_per_second: None,
        adoption,
    }
}

/// Of a source with one stream whose positions count records.
fn counted(name: &str, state: &str, stream: Option<&str>, lags: &Lags) -> SourceReport {
    let id = stream.and_then(|stream| stream.parse().ok());
    let lag = id
        .and_then(|id: StreamId| lags.get(&id))
        .copied()
        .unwrap_or_default();
    SourceReport {
        name: name.to_owned(),
        unit: "records".to_owned(),
        state: state.to_owned(),
        not_acked: lag.not_acked,
        oldest_age_ns: lag.oldest_age.map(ns),
        ..SourceReport::default()
    }
}

//! From the running agent to a report.

use std::sync::Arc;

use edgelogger_common::clock::{Clock, SystemClock};
use tokio::sync::watch;

use super::problems;
use super::report::{
    ConnectionReport, FILES_MAX, FileReport, FilesReport, Health, SkippedReport, StatusReport,
};
use super::sources::{self, Lags};
use crate::pipeline::{AgentVitals, process_cost};
use crate::reload::ConfigurationNote;
use crate::sources::file::{FileSourceStatus, FileState, FileStatus};
use crate::sources::host_metrics::HostMetricsStatus;
use crate::sources::journald::JournaldStatus;
use crate::transport::{ConnectionState, TransportStatus};

/// Makes reports. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    vitals: Arc<AgentVitals>,
    connection: watch::Receiver<TransportStatus>,
    ring_bytes_max: u64,
    configuration: ConfigurationNote,
}

impl Reporter {
    /// A reporter of this agent.
    #[must_use]
    pub const fn new(
        vitals: Arc<AgentVitals>,
        connection: watch::Receiver<TransportStatus>,
        ring_bytes_max: u64,
        configuration: ConfigurationNote,
    ) -> Self {
        Self {
            vitals,
            connection,
            ring_bytes_max,
            configuration,
        }
    }

    /// Notes how far everything has come.
    pub fn look(&self) {
        self.vitals.note();
    }

    /// The state of now.
    #[must_use]
    pub fn report(&self) -> StatusReport {
        let transport = self.connection.borrow().clone();
        let accounts = self.vitals.accounts();
        let (started_ns, uptime) = self.vitals.started();
        let cost = process_cost();
        let sources = self.vitals.sources();
        let lags = self.vitals.lags();
        let files = (!sources.files.is_empty()).then(|| self.files(&sources.files, &lags));
        let journald = sources.journald.as_ref().map(JournaldStatus::view);
        let host_metrics = sources.host_metrics.as_ref().map(HostMetricsStatus::view);
        let spool = self.vitals.spool();

        let mut problems = problems::all(&self.vitals, &transport, spool.as_ref());
        problems.extend(self.configuration.problem());

        StatusReport {
            version: crate::VERSION.to_owned(),
            pid: std::process::id(),
            now_ns: SystemClock::new().wall_ns(),
            started_ns,
            uptime_ns: u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX),
            health: if problems.is_empty() {
                Health::Healthy
            } else {
                Health::Degraded
            },
            problems,
            needs_restart: self.configuration.needs_restart(),
            rss_bytes: cost.rss_bytes,
            cpu_time_ns: cost.cpu_time_ns,
            ring_bytes: self.vitals.ring().0,
            ring_bytes_max: self.ring_bytes_max,
            accounts,
            residual_positions: accounts.positions.residual(),
            sources: sources::all(&self.vitals, &lags),
            connection: connection(transport),
            spool,
            files,
            journald,
            host_metrics,
        }
    }

    fn files(&self, sources: &[FileSourceStatus], lags: &Lags) -> FilesReport {
        let not_acked = |file: &FileStatus| sources::lag_of(file, lags).not_acked;
        let (mut followed, mut behind_bytes, mut behind_count) = (0, 0, 0);
        for source in sources {
            source.each_file(|file| {
                followed += 1;
                behind_bytes += file.size.saturating_sub(file.read) + file.backlog;
                behind_count += usize::from(not_acked(file) > 0);
            });
        }
        let order = |one: &FileStatus, other: &FileStatus| {
            let by_lag = not_acked(other).cmp(&not_acked(one));
            by_lag.then_with(|| (&one.name, &one.path).cmp(&(&other.name, &other.path)))
        };
        let first = |source: &FileSourceStatus| source.first_files(FILES_MAX, order);
        let mut all: Vec<FileStatus> = sources.iter().flat_map(first).collect();
        all.sort_by(order);
        all.truncate(FILES_MAX);
        let mut skipped: Vec<_> = sources
            .iter()
            .flat_map(|source| source.skipped(FILES_MAX))
            .collect();
        skipped.truncate(FILES_MAX);
        FilesReport {
            followed,
            skipped_count: sources.iter().map(FileSourceStatus::skipped_count).sum(),
            behind_bytes,
            behind_count,
            waits_for_credit: sources.iter().any(|source| source.totals().waits_for_credit),
            files: all.into_iter().map(|file| self.file(file, lags)).collect(),
            skipped: skipped
                .into_iter()
                .map(|(path, reason)| SkippedReport {
                    path: path.display().to_string(),
                    reason: reason.to_string(),
                })
                .collect(),
        }
    }

    fn file(&self, file: FileStatus, lags: &Lags) -> FileReport {
        let lag = sources::lag_of(&file, lags);
        FileReport {
            not_acked: lag.not_acked,
            oldest_age_ns: lag.oldest_age.map(sources::ns),
            path: (file.path != file.name).then(|| file.path.display().to_string()),
            name: file.name.display().to_string(),
            acked: file
                .stream_id
                .and_then(|stream| self.vitals.acked_upto(&stream))
                .unwrap_or(0),
            stream: file.stream_id.map(|stream| stream.to_string()),
            state: match file.state {
                FileState::Waiting => "waiting",
                FileState::Following => "following",
                FileState::Rotated => "rotated",
                FileState::Deleted => "deleted",
            }
            .to_owned(),
            read: file.read.saturating_sub(file.backlog),
            size: file.size,
            error: file.error,
        }
    }
}

fn connection(status: TransportStatus) -> ConnectionReport {
    ConnectionReport {
        peer: status.peer,
        state: match status.state {
            ConnectionState::Starting => "starting",
            ConnectionState::Connecting => "connecting",
            ConnectionState::Connected => "connected",
            ConnectionState::Waiting => "waiting",
            ConnectionState::Stopped => "stopped",
        }
        .to_owned(),
        since_ns: status.since_ns,
        down_since_ns: status.down_since_ns,
        attempts_failed: status.trouble.as_ref().map_or(0, |trouble| trouble.count),
        trouble: status
            .trouble
            .map(|trouble| format!("{} {}", trouble.code, trouble.message)),
        last_ack_ns: status.last_ack_ns,
        in_flight_bytes: status.in_flight_bytes,
        in_flight_batches: status.in_flight_batches,
        bytes_sent: status.bytes_sent,
        round_trip_ms: status.round_trip_ms,
        blocks_rejected: status.blocks_rejected,
        collector_version: status.collector_version,
        durability: status.durability,
    }
}

//! From the running agent to a report.

use std::sync::Arc;

use edgelogger_common::clock::{Clock, SystemClock};
use tokio::sync::watch;

use super::report::{
    ConnectionReport, FILES_MAX, FileReport, FilesReport, Health, SkippedReport, StatusReport,
};
use crate::pipeline::{AgentVitals, process_cost};
use crate::sources::file::{FileSourceStatus, FileState, FileStatus};
use crate::sources::host_metrics::HostMetricsStatus;
use crate::sources::journald::JournaldStatus;
use crate::tally::Account;
use crate::transport::{ConnectionState, TransportStatus};

/// Makes reports. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    vitals: Arc<AgentVitals>,
    connection: watch::Receiver<TransportStatus>,
    ring_bytes_max: u64,
}

impl Reporter {
    /// A reporter of this agent.
    #[must_use]
    pub const fn new(
        vitals: Arc<AgentVitals>,
        connection: watch::Receiver<TransportStatus>,
        ring_bytes_max: u64,
    ) -> Self {
        Self {
            vitals,
            connection,
            ring_bytes_max,
        }
    }

    /// The state of now.
    #[must_use]
    pub fn report(&self) -> StatusReport {
        let transport = self.connection.borrow().clone();
        let accounts = self.vitals.accounts();
        let (started_ns, uptime) = self.vitals.started();
        let cost = process_cost();
        let sources = self.vitals.sources();
        let files = (!sources.files.is_empty()).then(|| self.files(&sources.files));
        let journald = sources.journald.as_ref().map(JournaldStatus::view);
        let host_metrics = sources.host_metrics.as_ref().map(HostMetricsStatus::view);
        let spool = self.vitals.spool();

        let mut troubles = Vec::new();
        troubles.extend(unaccounted(&accounts.positions));
        troubles.extend(transport.log_replaced.clone());
        troubles.extend(
            transport
                .trouble
                .as_ref()
                .map(|trouble| format!("{} {}", trouble.code, trouble.message)),
        );
        troubles.extend(transport.not_taken.as_ref().map(|trouble| {
            format!(
                "{} the collector takes nothing now ({}); it is sent again until it does",
                trouble.code, trouble.message
            )
        }));
        troubles.extend(
            self.vitals
                .checkpoint_trouble()
                .map(|trouble| format!("checkpoints: {trouble}")),
        );
        let of_spool = spool.iter().flat_map(|spool| &spool.troubles);
        troubles.extend(of_spool.map(|trouble| format!("spool: {trouble}")));
        troubles.extend(sources.files.iter().filter_map(|source| source.totals().trouble));
        troubles.extend(file_errors(files.as_ref()));
        let troubled =
            |what: &str, trouble: Option<&String>| trouble.map(|trouble| format!("{what}: {trouble}"));
        troubles.extend(troubled(
            "journald",
            journald.as_ref().and_then(|view| view.trouble.as_ref()),
        ));
        troubles.extend(troubled(
            "host metrics",
            host_metrics.as_ref().and_then(|view| view.trouble.as_ref()),
        ));

        StatusReport {
            version: crate::VERSION.to_owned(),
            pid: std::process::id(),
            now_ns: SystemClock::new().wall_ns(),
            started_ns,
            uptime_ns: u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX),
            health: if troubles.is_empty() {
                Health::Healthy
            } else {
                Health::Degraded
            },
            troubles,
            rss_bytes: cost.rss_bytes,
            cpu_time_ns: cost.cpu_time_ns,
            ring_bytes: self.vitals.ring().0,
            ring_bytes_max: self.ring_bytes_max,
            accounts,
            residual_positions: accounts.positions.residual(),
            connection: connection(transport),
            spool,
            files,
            journald,
            host_metrics,
        }
    }

    fn files(&self, sources: &[FileSourceStatus]) -> FilesReport {
        let mut all: Vec<FileStatus> = sources.iter().flat_map(FileSourceStatus::files).collect();
        let behind = |file: &FileStatus| file.size.saturating_sub(file.read) + file.backlog;
        let mut skipped: Vec<_> = sources.iter().flat_map(FileSourceStatus::skipped).collect();
        let (followed, skipped_count) = (all.len(), skipped.len());
        let behind_bytes = all.iter().map(behind).sum();
        all.sort_by(|one, other| {
            behind(other)
                .cmp(&behind(one))
                .then_with(|| one.name.cmp(&other.name))
        });
        all.truncate(FILES_MAX);
        skipped.truncate(FILES_MAX);
        FilesReport {
            followed,
            skipped_count,
            behind_bytes,
            waits_for_credit: sources.iter().any(|source| source.totals().waits_for_credit),
            files: all.into_iter().map(|file| self.file(file)).collect(),
            skipped: skipped
                .into_iter()
                .map(|(path, reason)| SkippedReport {
                    path: path.display().to_string(),
                    reason: reason.to_string(),
                })
                .collect(),
        }
    }

    fn file(&self, file: FileStatus) -> FileReport {
        FileReport {
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

/// Positions that are nowhere. While something is in flight the two sides of an ack are counted one after the other.
fn unaccounted(positions: &Account) -> Option<String> {
    let residual = positions.residual();
    (residual != 0 && positions.in_flight == 0).then(|| {
        format!("{residual} positions are unaccounted for; this is a bug in the agent, please report it with this output")
    })
}

/// The first of the errors, and how many there are.
fn file_errors(files: Option<&FilesReport>) -> Option<String> {
    let mut failing = files?.files.iter().filter_map(|file| file.error.as_ref());
    let first = failing.next()?;
    let more = failing.count();
    Some(if more == 0 {
        first.clone()
    } else {
        format!("{first} (and {more} more files)")
    })
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

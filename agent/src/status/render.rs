//! A report as a screen for people.

use std::fmt::Write;
use std::time::Duration;

use super::report::{ConnectionReport, FilesReport, Health, StatusReport};
use crate::spool::SpoolStatusView;
use crate::tally::Account;

/// Files that are shown; `--json` has more.
const FILES_SHOWN: usize = 20;
const SKIPPED_SHOWN: usize = 10;

/// The screen, ending in a line feed.
#[must_use]
pub fn render(report: &StatusReport) -> String {
    let mut out = String::new();
    let health = match report.health {
        Health::Healthy => "healthy",
        Health::Degraded => "DEGRADED",
    };
    line(
        &mut out,
        &format!(
            "edgelogger-agent {}, process {}, up {}: {health}",
            report.version,
            report.pid,
            span_ns(report.uptime_ns)
        ),
    );
    for trouble in &report.troubles {
        line(&mut out, &format!("  ! {}", harmless(trouble)));
    }
    line(&mut out, "");
    connection(&mut out, &report.connection, report.now_ns);
    line(
        &mut out,
        &format!(
            "memory      {} resident, {} of {} in the ring; processor {}",
            size(report.rss_bytes),
            size(report.ring_bytes),
            size(report.ring_bytes_max),
            share(report.cpu_time_ns, report.uptime_ns)
        ),
    );
    account(&mut out, "positions", &report.accounts.positions);
    account(&mut out, "records", &report.accounts.records);
    if let Some(spool) = &report.spool {
        show_spool(&mut out, spool);
    }
    if let Some(files) = &report.files {
        show_files(&mut out, files);
    }
    if let Some(journald) = &report.journald {
        let state = if journald.following {
            "following"
        } else {
            "not running"
        };
        line(
            &mut out,
            &format!(
                "journald    {state}: {} entries read, {} filtered, position {}, {} restarts",
                journald.entries_read, journald.entries_filtered, journald.position, journald.restarts
            ),
        );
    }
    if let Some(metrics) = &report.host_metrics {
        line(
            &mut out,
            &format!(
                "metrics     {} measurements, {} samples, {} blocks wait",
                metrics.measurements, metrics.samples, metrics.waiting
            ),
        );
    }
    out
}

fn connection(out: &mut String, connection: &ConnectionReport, now_ns: i64) {
    let ago = |at_ns: i64| span_ns(now_ns.saturating_sub(at_ns).max(0).unsigned_abs());
    let mut text = format!(
        "collector   {}: {} for {}",
        connection.peer,
        connection.state,
        ago(connection.since_ns)
    );
    if !connection.collector_version.is_empty() {
        let _ = write!(text, ", version {}", harmless(&connection.collector_version));
    }
    if let Some(ms) = connection.round_trip_ms {
        let _ = write!(text, ", round trip {ms} ms");
    }
    line(out, &text);
    let acked = connection
        .last_ack_ns
        .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at)));
    let durability = if connection.durability.is_empty() {
        ""
    } else {
        ", durability "
    };
    line(
        out,
        &format!(
            "            last ack {acked}{durability}{}; {} batches ({}) in flight, {} sent",
            connection.durability,
            connection.in_flight_batches,
            size(connection.in_flight_bytes),
            size(connection.bytes_sent)
        ),
    );
}

fn show_spool(out: &mut String, spool: &SpoolStatusView) {
    let oldest = spool
        .oldest_age_ns
        .map_or_else(String::new, |age| format!(", the oldest {} old", span_ns(age)));
    line(
        out,
        &format!(
            "spool       {} of {}: {} batches{oldest}, {} more in memory; {} written, {} records dropped",
            size(spool.bytes),
            size(spool.bytes_max),
            spool.batches,
            spool.batches_in_memory,
            size(spool.bytes_written),
            spool.records_dropped
        ),
    );
}

fn account(out: &mut String, what: &str, account: &Account) {
    line(
        out,
        &format!(
            "{what:<11} read {} = acked {} + in flight {} + dropped {} + lost {} + rejected {}; residual {}",
            account.read,
            account.acked,
            account.in_flight,
            account.dropped,
            account.lost,
            account.rejected,
            account.residual()
        ),
    );
}

/// Every file of a report, each with its stream.
#[must_use]
pub fn render_files(files: &FilesReport) -> String {
    let mut out = String::new();
    for file in &files.files {
        line(
            &mut out,
            &format!(
                "{}\n  {}, stream {}, {} bytes, {} read, {} acked",
                harmless(&file.name),
                file.state,
                file.stream.as_deref().unwrap_or("not begun"),
                file.size,
                file.read,
                file.acked,
            ),
        );
        if let Some(path) = &file.path {
            line(&mut out, &format!("  now at {}", harmless(path)));
        }
        if let Some(error) = &file.error {
            line(&mut out, &format!("  ! {}", harmless(error)));
        }
    }
    for skipped in &files.skipped {
        let (path, reason) = (harmless(&skipped.path), harmless(&skipped.reason));
        line(&mut out, &format!("{path}\n  skipped: {reason}"));
    }
    let untold = (files.followed - files.files.len().min(files.followed))
        + (files.skipped_count - files.skipped.len().min(files.skipped_count));
    if untold > 0 {
        line(&mut out, &format!("and {untold} more"));
    }
    if files.followed + files.skipped_count == 0 {
        line(&mut out, "no file sources, or no file that they include");
    }
    out
}

fn show_files(out: &mut String, files: &FilesReport) {
    let waits = if files.waits_for_credit {
        ", waiting for room"
    } else {
        ""
    };
    line(
        out,
        &format!(
            "files       {} followed, {} skipped, {} behind{waits}",
            files.followed,
            files.skipped_count,
            size(files.behind_bytes)
        ),
    );
    for file in files.files.iter().take(FILES_SHOWN) {
        let at = file
            .path
            .as_ref()
            .map(|path| format!(" (now {})", harmless(path)))
            .unwrap_or_default();
        line(
            out,
            &format!(
                "  {:<10} {:>9} of {:>9} read, {:>9} acked  {}{at}",
                file.state,
                size(file.read),
                size(file.size),
                size(file.acked),
                harmless(&file.name)
            ),
        );
    }
    if files.followed > FILES_SHOWN {
        line(
            out,
            &format!("  and {} more (--json shows them)", files.followed - FILES_SHOWN),
        );
    }
    for skipped in files.skipped.iter().take(SKIPPED_SHOWN) {
        line(
            out,
            &format!(
                "  skipped    {}: {}",
                harmless(&skipped.path),
                harmless(&skipped.reason)
            ),
        );
    }
    if files.skipped_count > SKIPPED_SHOWN {
        line(
            out,
            &format!("  and {} more skipped", files.skipped_count - SKIPPED_SHOWN),
        );
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// A file's name may hold anything, also what steers a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// `12.3 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Two units at most: `2 h 5 min`.
pub(crate) fn span_ns(ns: u64) -> String {
    let span = Duration::from_nanos(ns);
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with two digits")]
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        "0 %".to_owned()
    } else {
        format!("{:.2} %", 100.0 * part as f64 / whole as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{FileReport, SkippedReport};
    use super::*;
    use crate::tally::Accounts;

    fn report() -> StatusReport {
        let account = Account {
            read: 100,
            acked: 60,
            in_flight: 30,
            dropped: 5,
            lost: 4,
            rejected: 1,
        };
        StatusReport {
            version: "0.1.0".into(),
            pid: 17,
            now_ns: 100_000_000_000,
            started_ns: 0,
            uptime_ns: 7_500_000_000_000,
            health: Health::Degraded,
            troubles: vec!["E0601 \u{1b}[31mbad".into()],
            rss_bytes: 13 << 20,
            cpu_time_ns: 7_500_000_000,
            ring_bytes: 0,
            ring_bytes_max: 8 << 20,
            accounts: Accounts {
                positions: account,
                records: account,
            },
            residual_positions: 0,
            connection: ConnectionReport {
                peer: "c:7443".into(),
                state: "connected".into(),
                since_ns: 40_000_000_000,
                last_ack_ns: Some(99_500_000_000),
                durability: "fsync".into(),
                round_trip_ms: Some(3),
                ..ConnectionReport::default()
            },
            spool: None,
            files: Some(FilesReport {
                followed: 1,
                skipped_count: 1,
                files: vec![FileReport {
                    name: "/var/log/a\n.log".into(),
                    path: None,
                    stream: None,
                    state: "following".into(),
                    read: 1536,
                    acked: 1024,
                    size: 2048,
                    error: None,
                }],
                skipped: vec![SkippedReport {
                    path: "/b".into(),
                    reason: "binary".into(),
                }],
                ..FilesReport::default()
            }),
            journald: None,
            host_metrics: None,
        }
    }

    #[test]
    fn every_file_is_shown_with_its_stream_or_the_reason_why_it_is_not_read() {
        let mut files = report().files.unwrap();
        files.files[0].stream = Some("ab12".into());
        files.files[0].path = Some("/var/log/a.1".into());
        files.followed = 3;
        assert_eq!(
            render_files(&files),
            "/var/log/a\u{fffd}.log\n  following, stream ab12, 2048 bytes, 1536 read, 1024 acked\n  \
             now at /var/log/a.1\n/b\n  skipped: binary\nand 2 more\n"
        );
    }

    #[test]
    fn the_screen_says_what_matters_and_steers_no_terminal() {
        let screen = render(&report());
        for expected in [
            "up 2 h 5 min: DEGRADED",
            "c:7443: connected for 1 min 0 s",
            "last ack 0.5 s ago, durability fsync",
            "13.0 MiB resident",
            "processor 0.10 %",
            "read 100 = acked 60 + in flight 30 + dropped 5 + lost 4 + rejected 1; residual 0",
            "1.5 KiB of   2.0 KiB read",
            "skipped    /b: binary",
        ] {
            assert!(screen.contains(expected), "{expected:?} is not in\n{screen}");
        }
        assert!(!screen.contains('\u{1b}') && !screen.contains("a\n.log"));
    }

    #[test]
    fn a_report_reads_back_from_its_json() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<StatusReport>(&json).unwrap(), report());
    }
}

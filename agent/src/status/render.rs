//! A report as a screen for people: the verdict, each problem with what to do, then what is where.

use std::fmt::Write;

use super::report::{
    AdoptionReport, ConnectionReport, FileReport, FilesReport, Health, SourceReport, StatusReport,
};
use super::text::{COLUMNS, counted, end_of, harmless, rate, share, size, span_ns, wrap};
use crate::problem::Problem;
use crate::spool::SpoolStatusView;

/// Problems that are shown; `--json` has all.
const PROBLEMS_SHOWN: usize = 6;
/// Files that are shown, those that are furthest behind first; `edgelogger-agent files` has more.
const FILES_SHOWN: usize = 5;
/// Sources that are shown.
const SOURCES_SHOWN: usize = 12;
/// Where words begin behind the name of a line.
const INDENT: usize = 12;

/// The screen, ending in a line feed; no line is wider than 80 columns.
#[must_use]
pub fn render(report: &StatusReport) -> String {
    let mut out = verdict(report);
    for (index, problem) in report.problems.iter().take(PROBLEMS_SHOWN).enumerate() {
        // The same remedy once, below the last that it is for.
        let next = report
            .problems
            .get(index + 1)
            .filter(|_| index + 1 < PROBLEMS_SHOWN);
        let is_repeated = next.is_some_and(|next| next.fix == problem.fix);
        out.push_str(&shown(problem, !is_repeated));
    }
    if report.problems.len() > PROBLEMS_SHOWN {
        let more = report.problems.len() - PROBLEMS_SHOWN;
        let _ = writeln!(out, "  and {more} more problems (--json shows them)");
    }
    out.push('\n');
    connection(&mut out, &report.connection, report.now_ns);
    let ring = format!(
        "{} of {} used, {} credit left",
        size(report.ring_bytes),
        size(report.ring_bytes_max),
        size(report.ring_bytes_max.saturating_sub(report.ring_bytes))
    );
    line(&mut out, "ring", &ring);
    if let Some(spool) = &report.spool {
        line(&mut out, "spool", &of_spool(spool));
    }
    let records = &report.accounts.records;
    let parts = [
        ("read", records.read),
        ("= acked", records.acked),
        ("+ in flight", records.in_flight),
        ("+ dropped", records.dropped),
        ("+ lost", records.lost),
        ("+ rejected", records.rejected),
    ];
    let mut account: Vec<String> = parts.iter().map(|(name, count)| joined(name, *count)).collect();
    if report.residual_positions != 0 {
        account.push(format!(
            "; {} positions unaccounted for",
            report.residual_positions
        ));
    }
    let account = account.join(" ");
    line(&mut out, "records", &account);
    let process = format!(
        "{} resident, processor {}",
        size(report.rss_bytes),
        share(report.cpu_time_ns, report.uptime_ns)
    );
    line(&mut out, "process", &process);
    if !report.needs_restart.is_empty() {
        let keys = harmless(&report.needs_restart.join(", "));
        line(
            &mut out,
            "restart",
            &format!("needed for {keys} to come into force"),
        );
    }
    sources(&mut out, &report.sources);
    if let Some(files) = &report.files {
        behind(&mut out, files);
    }
    out
}

fn verdict(report: &StatusReport) -> String {
    let verdict = match (report.health, report.problems.len()) {
        (Health::Healthy, _) => "HEALTHY".to_owned(),
        (Health::Degraded, count) => format!("DEGRADED: {}", counted(count as u64, "problem")),
    };
    let who = format!(
        "(edgelogger-agent {}, process {}, up {})",
        harmless(&report.version),
        report.pid,
        span_ns(report.uptime_ns)
    );
    wrap(&format!("{verdict}   "), 2, &who)
}

fn shown(problem: &Problem, with_fix: bool) -> String {
    let code = problem.code.as_deref().unwrap_or("");
    let mut out = wrap(&format!("  {code:<5} "), 8, &harmless(&problem.what));
    if with_fix && !problem.fix.is_empty() {
        out.push_str(&wrap("     -> ", 8, &harmless(&problem.fix)));
    }
    out
}

fn connection(out: &mut String, connection: &ConnectionReport, now_ns: i64) {
    let ago = |at_ns: i64| span_ns(now_ns.saturating_sub(at_ns).max(0).unsigned_abs());
    let mut text = harmless(&connection.peer);
    let _ = match connection.down_since_ns {
        Some(since) => write!(text, ": NOT CONNECTED for {} ({}", ago(since), connection.state),
        None => write!(text, ": {} for {}", connection.state, ago(connection.since_ns)),
    };
    if connection.down_since_ns.is_some() {
        let _ = match connection.attempts_failed {
            0 => write!(text, ")"),
            failed => write!(text, ", {} failed)", counted(failed, "attempt")),
        };
    }
    if !connection.collector_version.is_empty() {
        let _ = write!(text, ", version {}", harmless(&connection.collector_version));
    }
    if let (Some(ms), None) = (connection.round_trip_ms, connection.down_since_ns) {
        let _ = write!(text, ", round trip {ms} ms");
    }
    line(out, "collector", &text);
    let acked = connection.last_ack_ns.map_or_else(
        || "none since the start".to_owned(),
        |at| format!("{} ago", ago(at)),
    );
    let durability = match connection.durability.as_str() {
        "" => String::new(),
        durability => format!(", durability {}", harmless(durability)),
    };
    line(out, "last ack", &format!("{acked}{durability}"));
    let in_flight = format!(
        "{}, {}; {} sent since the start",
        counted(connection.in_flight_batches, "batch"),
        size(connection.in_flight_bytes),
        size(connection.bytes_sent)
    );
    line(out, "in flight", &in_flight);
}

fn of_spool(spool: &SpoolStatusView) -> String {
    let oldest = spool
        .oldest_age_ns
        .map_or_else(String::new, |age| format!(", the oldest {} old", span_ns(age)));
    format!(
        "{} of {}: {}{oldest}; {} more in memory; {} dropped",
        size(spool.bytes),
        size(spool.bytes_max),
        counted(spool.batches as u64, "batch"),
        spool.batches_in_memory,
        counted(spool.records_dropped, "record")
    )
}

/// Stays on one line.
fn joined(name: &str, count: u64) -> String {
    format!("{name} {count}").replace(' ', "\u{a0}")
}

/// `name        words`.
fn line(out: &mut String, name: &str, words: &str) {
    out.push_str(&wrap(&format!("{name:<INDENT$}"), INDENT, words));
}

fn sources(out: &mut String, sources: &[SourceReport]) {
    const NAME: usize = 32;
    out.push('\n');
    if sources.is_empty() {
        out.push_str("no sources\n");
        return;
    }
    let _ = writeln!(
        out,
        "{:<NAME$} {:>5} {:>12} {:>14} {:>10}",
        "source", "files", "not acked", "oldest", "records"
    );
    for source in sources.iter().take(SOURCES_SHOWN) {
        let files = source
            .files
            .map_or_else(|| "-".to_owned(), |files| files.to_string());
        let lag = if source.unit == "bytes" {
            size(source.not_acked)
        } else {
            source.not_acked.to_string()
        };
        let _ = writeln!(
            out,
            "{:<NAME$} {files:>5} {lag:>12} {:>14} {:>10}",
            end_of(&harmless(&source.name), NAME),
            age(source.oldest_age_ns),
            rate(source.records_per_second),
        );
        if let Some(note) = note(source) {
            out.push_str(&wrap("  ", 2, &note));
        }
    }
    if sources.len() > SOURCES_SHOWN {
        let _ = writeln!(
            out,
            "and {} more (--json shows them)",
            sources.len() - SOURCES_SHOWN
        );
    }
}

/// What keeps a source from reading.
fn note(source: &SourceReport) -> Option<String> {
    match &source.adoption {
        Some(AdoptionReport::Asking { wait_max_ns }) => Some(format!(
            "The state of this agent is new: files wait until the collector says what it has of them, {} at most.",
            span_ns(*wait_max_ns)
        )),
        Some(AdoptionReport::Comparing { files_left }) => Some(format!(
            "The state of this agent is new: {files_left} streams that the collector has are compared with the files."
        )),
        None if source.state == "waiting for room" => {
            Some("It waits for room in the ring; its data stays where it is.".to_owned())
        }
        None if source.state != "following" => Some(format!("It is {}.", harmless(&source.state))),
        None => None,
    }
}

/// Files of which the collector has not everything.
fn behind(out: &mut String, files: &FilesReport) {
    let late = |file: &&FileReport| file.not_acked > 0 || file.error.is_some();
    let count = files.behind_count;
    let _ = writeln!(
        out,
        "\n{} followed, {count} behind, {} skipped (`edgelogger-agent files` shows them)",
        counted(files.followed as u64, "file"),
        files.skipped_count
    );
    for file in files.files.iter().filter(late).take(FILES_SHOWN) {
        let start = format!("  {:>10} {:>12}  ", size(file.not_acked), age(file.oldest_age_ns));
        let name = file.path.as_ref().unwrap_or(&file.name);
        let state = match file.state.as_str() {
            "following" => String::new(),
            state => format!(" ({})", harmless(state)),
        };
        let room = COLUMNS - start.chars().count() - state.chars().count();
        let _ = writeln!(out, "{start}{}{state}", end_of(&harmless(name), room));
    }
}

fn age(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), span_ns)
}

/// Every file of a report, each with its stream.
#[must_use]
pub fn render_files(files: &FilesReport) -> String {
    let mut out = String::new();
    for file in &files.files {
        let _ = writeln!(
            out,
            "{}\n  {}, stream {}, {} bytes, {} read, {} acked",
            harmless(&file.name),
            file.state,
            file.stream.as_deref().unwrap_or("not begun"),
            file.size,
            file.read,
            file.acked,
        );
        if let Some(path) = &file.path {
            let _ = writeln!(out, "  now at {}", harmless(path));
        }
        if let Some(error) = &file.error {
            let _ = writeln!(out, "  ! {}", harmless(error));
        }
    }
    for skipped in &files.skipped {
        let (path, reason) = (harmless(&skipped.path), harmless(&skipped.reason));
        let _ = writeln!(out, "{path}\n  skipped: {reason}");
    }
    let untold = (files.followed - files.files.len().min(files.followed))
        + (files.skipped_count - files.skipped.len().min(files.skipped_count));
    if untold > 0 {
        let _ = writeln!(out, "and {untold} more");
    }
    if files.followed + files.skipped_count == 0 {
        out.push_str("no file sources, or no file that they include\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::report::SkippedReport;
    use super::*;
    use crate::tally::{Account, Accounts};

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
            needs_restart: Vec::new(),
            version: "0.1.0".into(),
            pid: 17,
            now_ns: 100_000_000_000,
            started_ns: 0,
            uptime_ns: 7_500_000_000_000,
            health: Health::Degraded,
            problems: vec![Problem::new(
                Some("E0601"),
                "/var/log/\u{1b}[31mbad: open failed: Permission denied (os error 13)",
                "Give the agent's user read access (group adm for most of /var/log), or exclude the file.",
            )],
            rss_bytes: 13 << 20,
            cpu_time_ns: 7_500_000_000,
            ring_bytes: 3 << 20,
            ring_bytes_max: 8 << 20,
            accounts: Accounts {
                positions: account,
                records: account,
            },
            residual_positions: 0,
            sources: vec![SourceReport {
                name: "/var/log/**/*.log, /srv/\u{202e}apps/*/logs/*".into(),
                unit: "bytes".into(),
                state: "following".into(),
                files: Some(12),
                not_acked: 1536,
                oldest_age_ns: Some(65_000_000_000),
                records_per_second: Some(12.4),
                adoption: None,
            }],
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
                behind_count: 1,
                files: vec![FileReport {
                    name: format!("/var/log/{}/a\n.log", "deep/".repeat(30)),
                    state: "following".into(),
                    read: 1536,
                    acked: 1024,
                    size: 2048,
                    not_acked: 1024,
                    ..FileReport::default()
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
        files.files[0].name = "/var/log/a\n.log".into();
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
            "c:7443: connected for 1 min 0 s, round trip 3 ms\n",
            "last ack    0.5 s ago, durability fsync\n",
            "ring        3.0 MiB of 8.0 MiB used, 5.0 MiB credit left\n",
            "records     read 100 = acked 60 + in flight 30 + dropped 5 + lost 4 + rejected 1\n",
            "process     13.0 MiB resident, processor 0.10 %\n",
            "1 file followed, 1 behind, 1 skipped",
            "   12      1.5 KiB      1 min 5 s       12/s\n",
            "/a\u{fffd}.log\n",
        ] {
            assert!(screen.contains(expected), "{expected:?} is not in\n{screen}");
        }
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!screen.contains(steers) && !screen.contains("a\n.log"));
        assert!(
            screen.lines().all(|line| line.chars().count() <= COLUMNS),
            "{screen}"
        );
    }

    #[test]
    fn the_verdict_stands_first_and_each_problem_with_what_to_do() {
        let screen = render(&report());
        let expected = "DEGRADED: 1 problem   (edgelogger-agent 0.1.0, process 17, up 2 h 5 min)\n  \
                        E0601 /var/log/\u{fffd}[31mbad: open failed: Permission denied (os error 13)\n     \
                        -> Give the agent's user read access (group adm for most of /var/log), or\n        \
                        exclude the file.\n\ncollector ";
        assert!(screen.starts_with(expected), "{screen}");
        let mut healthy = report();
        (healthy.health, healthy.problems) = (Health::Healthy, Vec::new());
        assert!(render(&healthy).starts_with("HEALTHY   (edgelogger-agent"));
    }

    #[test]
    fn what_helps_against_several_problems_is_said_once() {
        let mut report = report();
        let again = Problem {
            what: "/b: open failed".into(),
            ..report.problems[0].clone()
        };
        report.problems.push(again);
        let screen = render(&report);
        assert!(screen.starts_with("DEGRADED: 2 problems "), "{screen}");
        assert_eq!(screen.matches("-> Give").count(), 1, "{screen}");
        assert!(
            screen.contains("  E0601 /b: open failed\n     -> Give"),
            "{screen}"
        );
    }

    #[test]
    fn an_outage_is_counted_through_all_its_attempts() {
        let mut report = report();
        report.connection.state = "waiting".into();
        report.connection.since_ns = 99_000_000_000;
        report.connection.down_since_ns = Some(10_000_000_000);
        report.connection.attempts_failed = 21;
        let screen = render(&report);
        let expected = "c:7443: NOT CONNECTED for 1 min 30 s (waiting, 21 attempts failed)";
        assert!(screen.contains(expected), "{screen}");
    }

    #[test]
    fn what_a_new_state_waits_for_is_said_with_its_limit() {
        let mut report = report();
        report.sources[0].state = "adopting".into();
        let adoption = AdoptionReport::Asking {
            wait_max_ns: 570_000_000_000,
        };
        report.sources[0].adoption = Some(adoption);
        let screen = render(&report).replace("\n  ", " ");
        assert!(
            screen.contains("what it has of them, 9 min 30 s at most."),
            "{screen}"
        );
    }

    #[test]
    fn a_report_reads_back_from_its_json() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<StatusReport>(&json).unwrap(), report());
    }
}

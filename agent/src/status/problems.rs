//! What is wrong, with what to do about it: gathered from every stage.

use edgelogger_common::error_code;

use crate::pipeline::AgentVitals;
use crate::problem::Problem;
use crate::sources::file::{FileSourceStatus, SkipReason};
use crate::spool::SpoolStatusView;
use crate::tally::Account;
use crate::transport::{TransportStatus, TransportTrouble};

/// Files that are told one by one; more are counted.
const FILES_TOLD: usize = 3;
/// Names of files in one sentence.
const NAMES_TOLD: usize = 3;

const STATE_DISK: &str = "Free space on the disk of the agent's state directory, or check it (dmesg), its mount and owner; \
                          it is tried again by itself.";
const JOURNAL: &str = "Let the agent's user read the journal (group systemd-journal), and check `journalctl`; it is tried \
                       again by itself.";
const MEASUREMENTS: &str = "Check that the agent may read /proc and /sys; it is tried again by itself.";
const FILES_MAX: &str = "Raise files_max of the source, or include fewer files.";

pub(super) fn all(
    vitals: &AgentVitals,
    transport: &TransportStatus,
    spool: Option<&SpoolStatusView>,
) -> Vec<Problem> {
    let mut all: Vec<Problem> = unaccounted(&vitals.accounts().positions).into_iter().collect();
    all.extend(of_transport(transport, || vitals.unsettled()));
    let checkpoints = vitals.checkpoint_trouble();
    all.extend(checkpoints.map(|trouble| {
        let problem = Problem::of_message(&trouble).about("the agent's state is not written");
        problem.or_fix(STATE_DISK)
    }));
    all.extend(spool.into_iter().flat_map(|spool| spool.problems.iter().cloned()));
    let sources = vitals.sources();
    let not_begun = sources.files.iter().filter_map(|source| source.totals().trouble);
    all.extend(not_begun.map(|trouble| Problem::of_message(&trouble).or_fix(STATE_DISK)));
    all.extend(of_files(&sources.files));
    let journald = sources.journald.as_ref().and_then(|status| status.view().trouble);
    all.extend(journald.map(|trouble| Problem::of_message(&trouble).about("journald").or_fix(JOURNAL)));
    let metrics = sources
        .host_metrics
        .as_ref()
        .and_then(|status| status.view().trouble);
    all.extend(metrics.map(|trouble| {
        let problem = Problem::of_message(&trouble).about("host metrics");
        problem.or_fix(MEASUREMENTS)
    }));
    all
}

/// Positions that are nowhere. While something is in flight the two sides of an ack are counted one after the other.
fn unaccounted(positions: &Account) -> Option<Problem> {
    let residual = positions.residual();
    (residual != 0 && positions.in_flight == 0).then(|| {
        Problem::new(
            None,
            format!("{residual} positions are unaccounted for; this is a bug in the agent"),
            "Please report it with the output of `edgelogger-agent status --json`.",
        )
    })
}

fn of_transport(transport: &TransportStatus, unsettled: impl FnOnce() -> Vec<String>) -> Vec<Problem> {
    let message =
        |trouble: &TransportTrouble| Problem::of_message(&format!("{} {}", trouble.code, trouble.message));
    let not_taken = transport.not_taken.as_ref().map(|trouble| {
        let mut problem = message(trouble).about("the collector takes nothing now");
        problem.what.push_str("; it is sent again until it does");
        problem
    });
    let replaced = transport.log_replaced.as_ref().map(|said| {
        let mut problem = Problem::of_message(said);
        problem.what.push_str(&left(&unsettled()));
        problem
    });
    let line = transport.trouble.as_ref().map(message);
    [line, not_taken, replaced].into_iter().flatten().collect()
}

fn left(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(NAMES_TOLD)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = match names.len().saturating_sub(NAMES_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match names.len() {
        0 => "; no file is left that could be rewound".to_owned(),
        1 => format!("; not rewound yet: 1 file ({shown})"),
        count => format!("; not rewound yet: {count} files ({shown}{more})"),
    }
}

/// Files that can't be read, those that are followed and those that never could be, and more than may be followed.
fn of_files(sources: &[FileSourceStatus]) -> Vec<Problem> {
    let (mut all, mut too_many) = (Vec::new(), 0);
    for source in sources {
        source.each_file(|file| all.extend(file.error.as_deref().map(Problem::of_message)));
        source.each_skipped(|path, reason| match reason {
            SkipReason::Unreadable(message) => {
                let problem = Problem::of_message(message).or_fix(error_code::FILE_UNREADABLE.help);
                let named = problem.what.contains(&path.display().to_string());
                all.push(if named {
                    problem
                } else {
                    problem.about(&path.display().to_string())
                });
            }
            SkipReason::TooMany => too_many += 1,
            _ => {}
        });
    }
    all = first_told(all);
    if too_many > 0 {
        let what = format!("{too_many} files are not read, because more are included than files_max");
        all.push(Problem::new(None, what, FILES_MAX));
    }
    all
}

/// The first of many alike, and the number of the others.
fn first_told(mut all: Vec<Problem>) -> Vec<Problem> {
    all.sort_by(|one, other| one.what.cmp(&other.what));
    let untold = all.len().saturating_sub(FILES_TOLD);
    all.truncate(FILES_TOLD);
    if let (Some(last), 1..) = (all.last_mut(), untold) {
        last.what.push_str(&format!(" (and {untold} more files)"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(code: &str, message: &str) -> Option<TransportTrouble> {
        Some(TransportTrouble {
            code: code.to_owned(),
            message: message.to_owned(),
            at_ns: 0,
            count: 1,
        })
    }

    #[test]
    fn what_is_wrong_with_the_connection_stands_first_with_its_remedy() {
        let transport = TransportStatus {
            trouble: trouble("E0223", "connection refused"),
            not_taken: trouble("E0401", "the disk is full"),
            log_replaced: Some(
                "E0225: c has log 1, before it was 2. ".to_owned() + error_code::LOG_REPLACED.help,
            ),
            ..TransportStatus::default()
        };
        let names = ["/a", "/b", "/c", "/d", "/e"].map(str::to_owned);
        let found = of_transport(&transport, || names.to_vec());
        let codes: Vec<_> = found
            .iter()
            .filter_map(|problem| problem.code.as_deref())
            .collect();
        assert_eq!(codes, ["E0223", "E0401", "E0225"]);
        assert_eq!(found[0].fix, error_code::COLLECTOR_UNREACHABLE.help);
        assert_eq!(
            found[1].what,
            "the collector takes nothing now: the disk is full; it is sent again until it does"
        );
        assert_eq!(
            found[2].what,
            "c has log 1, before it was 2; not rewound yet: 5 files (/a, /b, /c and 2 more)"
        );
    }

    #[test]
    fn many_files_that_can_not_be_read_are_one_line_each_at_first_and_then_a_number() {
        let problem = |number: u32| {
            let help = error_code::FILE_UNREADABLE.help;
            Problem::of_message(&format!("E0601 /{number}: open failed: denied. {help}"))
        };
        let found = first_told((0..10).map(problem).collect());
        assert_eq!(found.len(), FILES_TOLD);
        assert_eq!(found[0].what, "/0: open failed: denied");
        assert!(found[2].what.ends_with("(and 7 more files)"), "{found:?}");
    }

    #[test]
    fn nothing_wrong_is_no_problem() {
        assert_eq!(of_transport(&TransportStatus::default(), Vec::new), []);
        assert_eq!(unaccounted(&Account::default()), None);
    }
}

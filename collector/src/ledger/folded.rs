//! What is said of streams that are folded.

use edgelogger_store::Summary;

use super::LedgerQuery;
use super::report::{GapTotal, LedgerReport, State, SummaryReport};
use super::spans::{is_loss, reason_word};
use crate::text::matches_wildcard;

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// The day at which summaries begin.
pub(super) fn since_day(query: &LedgerQuery) -> i64 {
    query.since_ns.map_or(i64::MIN, |since| since.div_euclid(DAY_NS))
}

/// Adds the summaries that are asked for, newest day first, at most as many as streams are asked for.
pub(super) fn add(
    report: &mut LedgerReport,
    days: Vec<Result<(i64, Vec<Summary>), String>>,
    query: &LedgerQuery,
) {
    for day in days.into_iter().rev() {
        match day {
            Ok((day, summaries)) => {
                let wanted = summaries.into_iter().filter(|summary| wants(query, summary));
                let room = query.limit.saturating_sub(report.summaries.len());
                let shown = wanted.map(|summary| shown(day, summary));
                report.summaries.extend(shown.take(room));
            }
            Err(problem) => report.unreadable.push(problem),
        }
    }
}

fn wants(query: &LedgerQuery, summary: &Summary) -> bool {
    let fits = |pattern: &Option<String>, text: &str| {
        pattern
            .as_ref()
            .is_none_or(|pattern| matches_wildcard(pattern, text))
    };
    let has = |state: State| match state {
        State::Stored => summary.rows > summary.expired_rows,
        State::Expired => summary.expired > 0,
        State::Lost => summary.gaps.iter().any(|gap| is_loss(gap.reason)),
        State::Dropped => summary.gaps.iter().any(|gap| !is_loss(gap.reason)),
        _ => false,
    };
    fits(&query.machine, &summary.machine)
        && fits(&query.source, &summary.source)
        && query.state.is_none_or(has)
}

fn shown(day: i64, summary: Summary) -> SummaryReport {
    let gaps: u64 = summary.gaps.iter().map(|gap| gap.positions).sum();
    SummaryReport {
        day: crate::health::rfc3339(day.saturating_mul(DAY_NS))
            .chars()
            .take_while(|char| *char != 'T')
            .collect(),
        machine: summary.machine,
        source: summary.source,
        streams: summary.streams,
        unit: if summary.counts_records {
            "records"
        } else {
            "bytes"
        },
        stored: summary
            .positions
            .saturating_sub(gaps)
            .saturating_sub(summary.expired),
        rows: summary.rows.saturating_sub(summary.expired_rows),
        expired: summary.expired,
        gaps: summary
            .gaps
            .iter()
            .map(|gap| GapTotal {
                state: if is_loss(gap.reason) {
                    State::Lost
                } else {
                    State::Dropped
                },
                reason: reason_word(gap.reason).to_owned(),
                positions: gap.positions,
            })
            .collect(),
    }
}

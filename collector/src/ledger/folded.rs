//! What is said of streams that are folded.

use edgelogger_store::{FoldedContent, Summary};

use super::LedgerQuery;
use super::report::{CheckReport, ContentReport, GapTotal, LedgerReport, State, SummaryReport};
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
    days: impl DoubleEndedIterator<Item = Result<(i64, Vec<Summary>), String>>,
    query: &LedgerQuery,
) {
    for day in days.rev() {
        match day {
            Ok((day, summaries)) => {
                let wanted = summaries.into_iter().filter(|summary| wants(query, summary));
                for summary in wanted {
                    report.summaries_count += 1;
                    if report.summaries.len() < query.limit {
                        report.summaries.push(shown(day, summary, query));
                    }
                }
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
        && (query.size.is_none() || summary.contents.iter().any(|content| has_size(query, content)))
}

fn has_size(query: &LedgerQuery, content: &FoldedContent) -> bool {
    query.size.is_none_or(|size| size == content.end)
}

fn shown(day: i64, summary: Summary, query: &LedgerQuery) -> SummaryReport {
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
        contents: summary
            .contents
            .into_iter()
            .filter(|content| query.with_checks && has_size(query, content))
            .map(|content| ContentReport {
                stream_id: content.id,
                size: content.end,
                exact: !content.at_least,
                checks: content.checks.iter().map(CheckReport::from).collect(),
            })
            .collect(),
    }
}

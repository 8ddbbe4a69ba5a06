//! Numbers instead of records: `GET /api/v1/logs/volume` by time and severity, `GET /api/v1/logs/patterns` by shape.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use edgelogger_common::duration::HumanDuration;
use edgelogger_store::query::VOLUME_BUCKETS_MAX;
use edgelogger_store::{LogQuery, VolumeCell, VolumeQuery};
use serde::Serialize;

use super::filter::{ATTR, FROM, I, LABEL, MACHINE, Q, RE, SEVERITY, SOURCE, TO, filter};
use crate::api::ApiContext;
use crate::api::described::described;
use crate::api::incomplete::FromStore;
use crate::api::operation::{Answer, Operation, QUERY_PROBLEMS};
use crate::api::parameters::{Asked, Kind, Parameter};
use crate::api::problem::Problem;
use crate::health::rfc3339;

/// The range where nothing is said.
const RANGE_NS: i64 = 3_600 * 1_000_000_000;
/// Buckets that a range is divided into where nothing is said, at most.
const BUCKETS: i64 = 120;
/// Widths to choose from, in seconds.
const WIDTHS_S: [i64; 17] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400,
];
const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;
/// Patterns in an answer.
const PATTERNS_DEFAULT: u64 = 20;
const PATTERNS_MAX: u64 = 200;

static BUCKET: Parameter = Parameter::new(
    "bucket",
    "Width of a bucket in seconds; chosen from the range where it is left out",
    Kind::integer(1, 366 * DAY_S.unsigned_abs(), None),
);
static LIMIT: Parameter = Parameter::new(
    "limit",
    "Patterns in the answer",
    Kind::integer(1, PATTERNS_MAX, Some(PATTERNS_DEFAULT)),
);
static VOLUME_PARAMETERS: &[&Parameter] = &[
    &FROM, &TO, &MACHINE, &SOURCE, &SEVERITY, &Q, &RE, &I, &ATTR, &LABEL, &BUCKET,
];
static PATTERNS_PARAMETERS: &[&Parameter] = &[
    &FROM, &TO, &MACHINE, &SOURCE, &SEVERITY, &Q, &RE, &I, &ATTR, &LABEL, &LIMIT,
];

described! {
    /// Counts by time and severity.
    #[derive(Debug, Serialize)]
    struct VolumeAnswer {
        /// First time of the range.
        from: String,
        /// Behind its last time.
        to: String,
        /// Width of a bucket, in seconds.
        bucket_s: u64,
        /// Records in the range.
        total: u64,
        /// In the order of time, without a gap. The first and the last may lie in the range in part only.
        buckets: Vec<Bucket>,
    }

    /// Records of one span of time.
    #[derive(Debug, Default, Serialize)]
    struct Bucket {
        /// Where it begins.
        time: String,
        /// All records.
        total: u64,
        /// Severity 1 to 4.
        trace: u64,
        /// 5 to 8.
        debug: u64,
        /// 9 to 12.
        info: u64,
        /// 13 to 16.
        warn: u64,
        /// 17 to 20.
        error: u64,
        /// 21 to 24.
        fatal: u64,
        /// Without a severity.
        unset: u64,
    }

    /// The most frequent shapes of records.
    #[derive(Debug, Serialize)]
    struct PatternsAnswer {
        /// Records that were looked at.
        records: u64,
        /// Shapes that were found.
        shapes: u64,
        /// Records of rare shapes that were given up to bound the memory; counts may be too low by as much.
        given_up: u64,
        /// Most frequent first.
        patterns: Vec<PatternAnswer>,
    }

    /// One shape.
    #[derive(Debug, Serialize)]
    struct PatternAnswer {
        /// A body with `<num>`, `<hex>`, `<id>` and `<str>` for what varies.
        pattern: String,
        /// Records of this shape.
        count: u64,
        /// The body of one of them, cut to its first 512 bytes.
        example: String,
    }
}

/// `GET /api/v1/logs/volume`.
pub fn volume_operation() -> Operation {
    Operation::get("/api/v1/logs/volume", volume)
        .about(
            "logs",
            "How many records, by time and severity",
            "Of the last hour where no range is given. Buckets begin at multiples of their width since 1970 (UTC).",
        )
        .parameters(VOLUME_PARAMETERS)
        .answers([Answer::json::<FromStore<VolumeAnswer>>("The counts.")])
        .reads_store()
        .problems(QUERY_PROBLEMS)
}

/// `GET /api/v1/logs/patterns`.
pub fn patterns_operation() -> Operation {
    Operation::get("/api/v1/logs/patterns", patterns)
        .about(
            "logs",
            "The most frequent shapes of records",
            "Numbers, hexadecimal numbers, ids and quoted strings are replaced by placeholders. Every record that the \
             filters let through is read: narrow the range where that takes too long. Of the last hour where no range \
             is given.",
        )
        .parameters(PATTERNS_PARAMETERS)
        .answers([Answer::json::<FromStore<PatternsAnswer>>("The shapes.")])
        .reads_store()
        .problems(QUERY_PROBLEMS)
}

/// A range with both ends: the hour before `to`, and until now, where they are left out.
fn with_range(asked: &Asked, now_ns: i64) -> Result<(LogQuery, i64, i64), Problem> {
    let query = filter(asked)?;
    let to = query.to.unwrap_or(now_ns);
    let from = query.from.unwrap_or_else(|| to.saturating_sub(RANGE_NS));
    if from > to {
        return Err(Problem::unprocessable(
            "`from` lies in the future; give `to`, too",
        ));
    }
    let query = LogQuery {
        from: Some(from),
        to: Some(to),
        ..query
    };
    Ok((query, from, to))
}

async fn volume(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<FromStore<VolumeAnswer>, Problem> {
    let (query, from, to) = with_range(&asked, context.time.now_ns())?;
    let asked_s = asked
        .integer(&BUCKET)
        .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let bucket_s = width_s(from, to, asked_s)?;
    let bucket_ns = bucket_s.saturating_mul(SECOND_NS);
    let query = VolumeQuery {
        filter: LogQuery {
            time_max: context.query_timeout(),
            ..query
        },
        bucket_ns,
    };
    let counted = context.store.volume(query).await?;
    Ok(FromStore(counted.map(|cells| {
        let buckets = buckets(&cells, from, to, bucket_ns);
        VolumeAnswer {
            from: rfc3339(from),
            to: rfc3339(to),
            bucket_s: bucket_s.unsigned_abs(),
            total: buckets.iter().map(|bucket| bucket.total).sum(),
            buckets,
        }
    })))
}

/// The width of a bucket, in seconds.
fn width_s(from: i64, to: i64, asked_s: Option<i64>) -> Result<i64, Problem> {
    let range_s = to.saturating_sub(from) / SECOND_NS + 1;
    let most = i64::try_from(VOLUME_BUCKETS_MAX).unwrap_or(i64::MAX) - 2;
    let least_s = range_s / most + 1;
    match asked_s {
        Some(width_s) if width_s < least_s => {
            let seconds = |seconds: i64| HumanDuration::from_secs(seconds.unsigned_abs());
            Err(Problem::unprocessable(format!(
                "buckets of {} are too many for a range of {}; take at least bucket={least_s} or a shorter range",
                seconds(width_s),
                seconds(range_s)
            )))
        }
        Some(width_s) => Ok(width_s),
        None => {
            let wanted_s = range_s / BUCKETS + 1;
            let listed = WIDTHS_S.into_iter().find(|width_s| *width_s >= wanted_s);
            // Whole days, for ranges of years.
            Ok(listed.unwrap_or_else(|| (wanted_s / DAY_S + 1).saturating_mul(DAY_S)))
        }
    }
}

/// Every bucket of the range, also those in which there was nothing.
fn buckets(cells: &[VolumeCell], from: i64, to: i64, width: i64) -> Vec<Bucket> {
    let mut buckets = Vec::new();
    let mut cells = cells.iter().peekable();
    let mut start = from.div_euclid(width).saturating_mul(width);
    while start < to && buckets.len() < VOLUME_BUCKETS_MAX {
        let mut bucket = Bucket {
            time: rfc3339(start),
            ..Bucket::default()
        };
        while let Some(cell) = cells.next_if(|cell| cell.from <= start) {
            bucket.total += cell.count;
            *bucket.of(cell.severity) += cell.count;
        }
        buckets.push(bucket);
        start = start.saturating_add(width);
    }
    buckets
}

impl Bucket {
    const fn of(&mut self, severity: Option<u8>) -> &mut u64 {
        match severity {
            Some(1..=4) => &mut self.trace,
            Some(5..=8) => &mut self.debug,
            Some(9..=12) => &mut self.info,
            Some(13..=16) => &mut self.warn,
            Some(17..=20) => &mut self.error,
            Some(21..=24) => &mut self.fatal,
            _ => &mut self.unset,
        }
    }
}

async fn patterns(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<FromStore<PatternsAnswer>, Problem> {
    let (query, ..) = with_range(&asked, context.time.now_ns())?;
    let query = LogQuery {
        time_max: context.query_timeout(),
        limit: asked.count(&LIMIT),
        ..query
    };
    let found = context.store.patterns(query).await?;
    let pattern = |pattern: edgelogger_store::Pattern| PatternAnswer {
        pattern: pattern.shape,
        count: pattern.count,
        example: pattern.example,
    };
    Ok(FromStore(found.map(|found| PatternsAnswer {
        records: found.records,
        shapes: found.shapes,
        given_up: found.given_up,
        patterns: found.patterns.into_iter().map(pattern).collect(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_chosen_from_the_range_and_too_narrow_ones_are_refused() {
        let width = |seconds: i64, asked| width_s(0, seconds * SECOND_NS, asked);
        assert_eq!(width(60, None).unwrap(), 1);
        assert_eq!(width(3_600, None).unwrap(), 60);
        assert_eq!(width(86_400, None).unwrap(), 900);
        assert_eq!(width(3 * 366 * DAY_S, None).unwrap() % DAY_S, 0);
        assert_eq!(width(3_600, Some(2)).unwrap(), 2);
        assert!(width(3_600, Some(1)).is_err());
        assert!(width_s(i64::MIN, i64::MAX, None).unwrap() > DAY_S);
    }

    #[test]
    fn every_bucket_of_the_range_is_there() {
        let second = |at: i64| at * SECOND_NS;
        let cell = |at, severity, count| VolumeCell {
            from: second(at),
            severity,
            count,
        };
        let cells = [
            cell(-10, None, 1),
            cell(0, Some(9), 2),
            cell(0, Some(17), 3),
            cell(20, Some(24), 4),
        ];
        let found = buckets(&cells, second(-5), second(25), second(10));
        let totals: Vec<u64> = found.iter().map(|bucket| bucket.total).collect();
        assert_eq!(totals, [1, 5, 0, 4]);
        assert_eq!(
            (found[1].info, found[1].error, found[3].fatal, found[0].unset),
            (2, 3, 4, 1)
        );
        assert_eq!(found[0].time, rfc3339(second(-10)));
    }
}

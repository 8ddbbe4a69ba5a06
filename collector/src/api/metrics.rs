//! `GET /api/v1/metrics`, `/metrics/series`, `/metrics/range`: what there is, and how it went.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use edgelogger_common::duration::HumanDuration;
use edgelogger_store::query::{
    Aggregate, GroupKey, POINTS_MAX, RangeQuery, RangeResult, RangeSeries, SERIES_MAX, SampleField,
};
use edgelogger_store::{LatestSample, QueryError, SeriesFilter};
use serde::Serialize;

use super::ApiContext;
use super::described::described;
use super::incomplete::FromStore;
use super::logs::{FROM, MACHINE, SOURCE, TO, sql_failed};
use super::operation::{Answer, Operation, QUERY_PROBLEMS};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;
use super::series::{LABEL, LIMIT, NAME, SINCE, filter, look};
use crate::health::rfc3339;

const HOUR_NS: i64 = 3600 * 1_000_000_000;

static METRIC: Parameter = Parameter::new("name", "The metric; needed", Kind::Text { chars_max: 1024 });
static STEP: Parameter = Parameter::new(
    "step",
    "Length of what becomes one point: `30s`, `5m`, `1h`; without it some 300 points come out",
    Kind::Text { chars_max: 32 },
);
static AGGREGATE: Parameter = Parameter::new(
    "aggregate",
    "How samples become a point: of a step and, where series are grouped, of all series of the group; `rate` is how \
            fast counters grow, per second, summed over the group",
    Kind::choice(
        &["avg", "min", "max", "sum", "count", "last", "rate", "quantile"],
        Some("avg"),
    ),
);
static Q: Parameter = Parameter::new(
    "q",
    "Which quantile, 0 to 1; with `aggregate=quantile`",
    Kind::Text { chars_max: 32 },
);
static FIELD: Parameter = Parameter::new(
    "field",
    "Which number of a sample: histograms and summaries have no value, but `count` and `sum`",
    Kind::choice(&["value", "count", "sum"], Some("value")),
);
static GROUP_BY: Parameter = Parameter::new(
    "group_by",
    "One line for each `machine`, `source` or `label.KEY`, with commas between, or `none` for one line of all; \
            without it each series is a line",
    Kind::Text { chars_max: 1024 },
);
static LINES: Parameter = Parameter::new(
    "limit",
    "Lines of the answer; more are a problem, not a shorter answer",
    Kind::integer(1, SERIES_MAX as u64, Some(100)),
);

described! {
    /// Metrics by name.
    #[derive(Debug, Serialize)]
    pub struct MetricsAnswer {
        /// By name; one line for each unit and kind that it comes in.
        metrics: Vec<MetricReport>,
        /// Every series of late is among them; if not, the collector has just started or knows too many.
        complete: bool,
    }

    /// One metric.
    #[derive(Debug, Serialize)]
    pub struct MetricReport {
        /// Its name.
        name: String,
        /// Its unit (UCUM), as its sources say.
        unit: String,
        /// gauge, counter, histogram or summary.
        kind: &'static str,
        /// Series of it.
        series: usize,
        /// Machines that have it.
        machines: usize,
        /// Time of the newest sample.
        last: String,
    }

    /// Series.
    #[derive(Debug, Serialize)]
    pub struct SeriesAnswer {
        /// By machine, source, name and labels.
        series: Vec<SeriesReport>,
        /// All that match, also those beyond the limit.
        count: usize,
        /// Every series of late is among them; if not, the collector has just started or knows too many.
        complete: bool,
    }

    /// One series.
    #[derive(Debug, Serialize)]
    pub struct SeriesReport {
        /// Whose.
        machine: String,
        /// Where it comes from.
        source: String,
        /// Its metric.
        name: String,
        /// Labels of its samples.
        labels: BTreeMap<String, String>,
        /// Labels of its agent.
        agent_labels: BTreeMap<String, String>,
        /// Its unit.
        unit: String,
        /// gauge, counter, histogram or summary.
        kind: &'static str,
        /// Time of the newest sample.
        last: String,
    }

    /// A metric over time.
    #[derive(Debug, Serialize)]
    pub struct RangeAnswer {
        /// The metric.
        name: String,
        /// Its unit; a rate is this per second.
        unit: String,
        /// gauge, counter, histogram or summary; empty without samples.
        kind: String,
        /// How samples became points.
        aggregate: &'static str,
        /// Length of what became one point, ms.
        step_ms: i64,
        /// Where each point begins, ms since 1970.
        times_ms: Vec<i64>,
        /// The lines.
        series: Vec<RangeLine>,
        /// Samples that went into them.
        samples: u64,
    }

    /// One line.
    #[derive(Debug, Serialize)]
    pub struct RangeLine {
        /// Where it is of one machine.
        #[serde(skip_serializing_if = "Option::is_none")]
        machine: Option<String>,
        /// Where it is of one source.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Labels of the series, or those grouped by.
        labels: BTreeMap<String, String>,
        /// One for each time; null where there was no sample.
        values: Vec<Option<f64>>,
    }
}

static NAME_PARAMETERS: &[&Parameter] = &[&NAME, &MACHINE, &SOURCE, &LABEL, &SINCE];
static SERIES_PARAMETERS: &[&Parameter] = &[&NAME, &MACHINE, &SOURCE, &LABEL, &SINCE, &LIMIT];
static RANGE_PARAMETERS: &[&Parameter] = &[
    &METRIC, &MACHINE, &SOURCE, &LABEL, &FROM, &TO, &STEP, &AGGREGATE, &Q, &FIELD, &GROUP_BY, &LINES,
];

/// `GET /api/v1/metrics`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/metrics", names)
        .about(
            "metrics",
            "Metrics by name",
            "With unit, kind and number of series, of what was stored lately.",
        )
        .parameters(NAME_PARAMETERS)
        .answers([Answer::json::<FromStore<MetricsAnswer>>("The metrics.")])
        .reads_store()
        .problems(&[500])
}

/// `GET /api/v1/metrics/series`.
pub fn series_operation() -> Operation {
    Operation::get("/api/v1/metrics/series", series)
        .about(
            "metrics",
            "Series of metrics",
            "A series is one machine, source, name and set of labels.",
        )
        .parameters(SERIES_PARAMETERS)
        .answers([Answer::json::<FromStore<SeriesAnswer>>("The series.")])
        .reads_store()
        .problems(&[500])
}

/// `GET /api/v1/metrics/range`.
pub fn range_operation() -> Operation {
    Operation::get("/api/v1/metrics/range", range)
        .about(
            "metrics",
            "A metric over time",
            "One point for each step, null where there was no sample. Without `from` the last hour.",
        )
        .parameters(RANGE_PARAMETERS)
        .required(&["name"])
        .answers([Answer::json::<FromStore<RangeAnswer>>("The lines.")])
        .reads_store()
        .problems(QUERY_PROBLEMS)
}

async fn names(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<FromStore<MetricsAnswer>, Problem> {
    let (filter, since) = (filter(&asked)?, asked.time(&SINCE).unwrap_or(i64::MIN));
    let looked = tokio::task::spawn_blocking(move || context.store.metric_names(&filter, since)).await;
    let found = looked.map_err(sql_failed)??;
    let report = |metric: edgelogger_store::MetricName| MetricReport {
        name: metric.name,
        unit: metric.unit,
        kind: metric.kind,
        series: metric.series,
        machines: metric.machines,
        last: rfc3339(metric.last_ns),
    };
    Ok(FromStore(found.map(|(names, complete)| MetricsAnswer {
        metrics: names.into_iter().map(report).collect(),
        complete,
    })))
}

async fn series(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<FromStore<SeriesAnswer>, Problem> {
    let (filter, since) = (filter(&asked)?, asked.time(&SINCE).unwrap_or(i64::MIN));
    let page = look(context, filter, since, asked.count(&LIMIT)).await?;
    let report = |sample: LatestSample| SeriesReport {
        machine: sample.series.machine,
        source: sample.series.source,
        name: sample.series.name,
        labels: sample.series.labels,
        agent_labels: sample.agent_labels,
        unit: sample.unit,
        kind: sample.kind,
        last: rfc3339(sample.time_ns),
    };
    Ok(FromStore(page.map(|page| SeriesAnswer {
        series: page.samples.into_iter().map(report).collect(),
        count: page.count,
        complete: page.is_complete,
    })))
}

async fn range(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<FromStore<RangeAnswer>, Problem> {
    let query = RangeQuery {
        time_max: context.query_timeout(),
        ..check(&asked, context.time.now_ns())?
    };
    let name = query.name.clone();
    let result = context.store.range(query).await.map_err(|error| match error {
        // Each parameter is as it may be; together they are not.
        QueryError::Invalid(what) => Problem::unprocessable(what),
        other => other.into(),
    })?;
    let aggregate = asked.word(&AGGREGATE).unwrap_or_default();
    Ok(FromStore(result.map(|result| answer(name, aggregate, result))))
}

fn answer(name: String, aggregate: &'static str, result: RangeResult) -> RangeAnswer {
    let line = |series: RangeSeries| RangeLine {
        machine: series.machine,
        source: series.source,
        labels: series.labels,
        values: series.points,
    };
    let times = (0..).map(|index: i64| result.from.saturating_add(result.step.saturating_mul(index)));
    RangeAnswer {
        name,
        unit: result.unit,
        kind: result.kind,
        aggregate,
        step_ms: result.step / 1_000_000,
        times_ms: times
            .take(result.count)
            .map(|ns| ns.div_euclid(1_000_000))
            .collect(),
        series: result.series.into_iter().map(line).collect(),
        samples: result.samples,
    }
}

fn check(asked: &Asked, now_ns: i64) -> Result<RangeQuery, Problem> {
    let name = asked.text(&METRIC).ok_or_else(|| {
        Problem::bad_request("`name` is needed: which metric? /api/v1/metrics says which there are")
    })?;
    if name.contains(['*', '?']) {
        return Err(Problem::unprocessable(
            "`name` is one metric here, and no pattern; /api/v1/metrics?name=… finds those that match",
        ));
    }
    let (from, to) = asked.range(&FROM, &TO)?;
    let to = to.unwrap_or(now_ns);
    let from = from.unwrap_or_else(|| to.saturating_sub(HOUR_NS));
    if from >= to {
        return Err(Problem::unprocessable(
            "`from` must lie before `to`, which is now where it is left out",
        ));
    }
    Ok(RangeQuery {
        name: name.to_owned(),
        filter: SeriesFilter {
            name: None,
            ..filter(asked)?
        },
        from,
        to,
        step: asked.text(&STEP).map(step).transpose()?,
        aggregate: aggregate(asked)?,
        field: match asked.word(&FIELD) {
            Some("count") => SampleField::Count,
            Some("sum") => SampleField::Sum,
            _ => SampleField::Value,
        },
        group_by: asked.text(&GROUP_BY).map(group_by).transpose()?,
        series_max: asked.count(&LINES),
        time_max: std::time::Duration::ZERO,
    })
}

fn step(text: &str) -> Result<i64, Problem> {
    let wrong = || {
        Problem::unprocessable(format!(
            "`step` is {text:?}; write `30s`, `5m` or `1h`, at least `1ms`, and not more than {POINTS_MAX} steps in the range"
        ))
    };
    let step: HumanDuration = text.parse().map_err(|_| wrong())?;
    let step = i64::try_from(step.as_nanos()).map_err(|_| wrong())?;
    if step < 1_000_000 {
        return Err(wrong());
    }
    Ok(step)
}

fn aggregate(asked: &Asked) -> Result<Aggregate, Problem> {
    let aggregate = match asked.word(&AGGREGATE) {
        Some("min") => Aggregate::Min,
        Some("max") => Aggregate::Max,
        Some("sum") => Aggregate::Sum,
        Some("count") => Aggregate::Count,
        Some("last") => Aggregate::Last,
        Some("rate") => Aggregate::Rate,
        Some("quantile") => {
            let share = asked.text(&Q).and_then(|text| text.parse::<f64>().ok());
            let share = share.filter(|share| (0.0..=1.0).contains(share));
            return share.map(Aggregate::Quantile).ok_or_else(|| {
                Problem::unprocessable("`aggregate=quantile` needs `q`, a number from 0 to 1: `q=0.95`")
            });
        }
        _ => Aggregate::Avg,
    };
    match asked.text(&Q) {
        Some(_) => Err(Problem::unprocessable("`q` goes with `aggregate=quantile` only")),
        None => Ok(aggregate),
    }
}

fn group_by(text: &str) -> Result<Vec<GroupKey>, Problem> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let key = |part: &str| match (part, part.strip_prefix("label.")) {
        ("machine", _) => Ok(GroupKey::Machine),
        ("source", _) => Ok(GroupKey::Source),
        (_, Some(label)) if !label.is_empty() => Ok(GroupKey::Label(label.to_owned())),
        _ => Err(Problem::unprocessable(
            "`group_by` is `none`, or of `machine`, `source` and `label.KEY`, with commas between",
        )),
    };
    let keys = text.split(',').map(key).collect::<Result<Vec<_>, _>>()?;
    if keys.len() > edgelogger_store::LABEL_FILTERS_MAX {
        return Err(Problem::unprocessable("`group_by` names too many"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn asked(query: &str) -> Result<RangeQuery, Problem> {
        check(
            &Asked::read(query, RANGE_PARAMETERS, 7 * HOUR_NS).unwrap(),
            7 * HOUR_NS,
        )
    }

    #[test]
    fn a_question_is_read_whole() {
        let query = asked(
            "name=a.b&label.site=b*&step=5m&aggregate=quantile&q=0.9&group_by=machine,label.x&from=-2h&field=sum",
        )
        .unwrap();
        assert_eq!((query.from, query.to), (5 * HOUR_NS, 7 * HOUR_NS));
        assert_eq!(query.step, Some(300 * 1_000_000_000));
        assert_eq!(query.aggregate, Aggregate::Quantile(0.9));
        assert_eq!(
            query.group_by,
            Some(vec![GroupKey::Machine, GroupKey::Label("x".to_owned())])
        );
        assert_eq!(query.filter.labels, [("site".to_owned(), "b*".to_owned())]);
        assert_eq!(asked("name=a").unwrap().from, 6 * HOUR_NS);
        assert_eq!(asked("name=a&group_by=none").unwrap().group_by, Some(Vec::new()));
    }

    #[test]
    fn what_makes_no_question_is_refused() {
        for query in [
            "",
            "name=a*",
            "name=a&step=0s",
            "name=a&step=soon",
            "name=a&aggregate=quantile",
            "name=a&aggregate=quantile&q=2",
            "name=a&q=0.5",
            "name=a&group_by=site",
            "name=a&group_by=label.",
            "name=a&from=now",
        ] {
            assert!(asked(query).is_err(), "{query}");
        }
    }
}

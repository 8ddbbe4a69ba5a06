//! `GET /api/v1/latest`: the newest sample of each series, from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use edgelogger_store::{LatestPage, LatestSample, SeriesFilter};
use serde::Serialize;

use super::ApiContext;
use super::described::described;
use super::incomplete::FromStore;
use super::logs::{MACHINE, SOURCE};
use super::operation::{Answer, Operation};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;
use super::series::{LABEL, LIMIT, NAME, OF_MACHINE, SINCE, filter, in_path, look, quality};
use crate::health::rfc3339;

static OF_METRIC: Parameter = Parameter::new("metric", "Its whole name", Kind::Text { chars_max: 1024 });

described! {
    /// Newest samples.
    #[derive(Debug, Serialize)]
    pub struct LatestAnswer {
        /// By machine, source, name and labels.
        samples: Vec<LatestReport>,
        /// All series that match, also those beyond the limit.
        count: usize,
        /// Every series of late is among them; if not, the collector has just started or knows too many.
        complete: bool,
    }

    /// The newest sample of one series.
    #[derive(Debug, Serialize)]
    pub struct LatestReport {
        /// Whose.
        machine: String,
        /// Where it comes from.
        source: String,
        /// Its metric.
        name: String,
        /// Labels of the sample.
        labels: BTreeMap<String, String>,
        /// Labels of its agent.
        agent_labels: BTreeMap<String, String>,
        /// Its unit.
        unit: String,
        /// gauge, counter, histogram or summary.
        kind: &'static str,
        /// Its value; histograms and summaries have none.
        value: Option<f64>,
        /// Of histograms and summaries: observations.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<i64>,
        /// Of histograms and summaries: their sum.
        #[serde(skip_serializing_if = "Option::is_none")]
        sum: Option<f64>,
        /// good, uncertain or bad.
        quality: &'static str,
        /// When it was taken.
        time: String,
        /// How long ago that is, by the collector's clock, ms; below 0 where the machine's clock is ahead.
        age_ms: i64,
        /// When the collector received it.
        received: String,
    }
}

static PARAMETERS: &[&Parameter] = &[&NAME, &MACHINE, &SOURCE, &LABEL, &SINCE, &LIMIT];
static IN_PATH: &[&Parameter] = &[&OF_MACHINE, &OF_METRIC];
static ONE_PARAMETERS: &[&Parameter] = &[&SOURCE, &LABEL];

/// `GET /api/v1/latest`.
pub fn operation() -> Operation {
    Operation::get("/api/v1/latest", latest)
        .about(
            "metrics",
            "The newest sample of each series",
            "From memory, as soon as it is stored.",
        )
        .parameters(PARAMETERS)
        .answers([Answer::json::<FromStore<LatestAnswer>>("The samples.")])
        .reads_store()
        .problems(&[500])
}

/// `GET /api/v1/latest/{machine}/{metric}`.
pub fn one_operation() -> Operation {
    Operation::get("/api/v1/latest/{machine}/{metric}", one)
        .about(
            "metrics",
            "The newest samples of a metric of a machine",
            "One for each set of labels.",
        )
        .in_path(IN_PATH)
        .parameters(ONE_PARAMETERS)
        .answers([Answer::json::<FromStore<LatestAnswer>>("The samples.")])
        .reads_store()
        .problems(&[404, 500])
}

async fn latest(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
) -> Result<FromStore<LatestAnswer>, Problem> {
    let since = asked.time(&SINCE).unwrap_or(i64::MIN);
    let (now_ns, limit) = (context.time.now_ns(), asked.count(&LIMIT));
    let page = look(context, filter(&asked)?, since, limit).await?;
    Ok(FromStore(page.map(|page| answer(page, now_ns))))
}

async fn one(
    State(context): State<Arc<ApiContext>>,
    Extension(asked): Extension<Asked>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<FromStore<LatestAnswer>, Problem> {
    let (machine, metric) = in_path(path)?;
    let wanted = SeriesFilter {
        name: Some(metric.clone()),
        machine: Some(machine.clone()),
        ..filter(&asked)?
    };
    let now_ns = context.time.now_ns();
    let page = look(context, wanted, i64::MIN, usize::MAX).await?;
    let page = page.map(|mut page| {
        // A star in the path is a star.
        page.samples
            .retain(|sample| sample.series.machine == machine && sample.series.name == metric);
        page.count = page.samples.len();
        page
    });
    if page.samples.is_empty() {
        let why = if page.is_complete {
            "/api/v1/metrics/series says what there is"
        } else {
            "the collector does not know all series by heart; ask /api/v1/metrics/range"
        };
        return Err(Problem::not_found("this address").with_detail(format!(
            "no sample of {metric:?} of machine {machine:?} is in memory; {why}"
        )));
    }
    Ok(FromStore(page.map(|page| answer(page, now_ns))))
}

fn answer(page: LatestPage, now_ns: i64) -> LatestAnswer {
    let report = |sample: LatestSample| LatestReport {
        machine: sample.series.machine,
        source: sample.series.source,
        name: sample.series.name,
        labels: sample.series.labels,
        agent_labels: sample.agent_labels,
        unit: sample.unit,
        kind: sample.kind,
        value: sample.value,
        count: sample.count,
        sum: sample.sum,
        quality: quality(sample.quality),
        time: rfc3339(sample.time_ns),
        age_ms: now_ns.saturating_sub(sample.time_ns) / 1_000_000,
        received: rfc3339(sample.received_ns),
    };
    LatestAnswer {
        samples: page.samples.into_iter().map(report).collect(),
        count: page.count,
        complete: page.is_complete,
    }
}

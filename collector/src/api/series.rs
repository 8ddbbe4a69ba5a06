//! Parameters, words and looks that questions about metrics share.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use edgelogger_store::{Answered, LABEL_FILTERS_MAX, LatestPage, SeriesFilter};

use super::ApiContext;
use super::logs::{MACHINE, SOURCE, sql_failed};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;

/// Metrics, by a pattern.
pub static NAME: Parameter = Parameter::new(
    "name",
    "Only this metric; `*` stands for any text, `?` for one character",
    Kind::Text { chars_max: 1024 },
);
/// Labels.
pub static LABEL: Parameter = Parameter::new(
    "label",
    "Only series with this label, of the samples or else of the agent: `label.site=berlin`; `*` and `?` as above, \
            nothing for series without it",
    Kind::Family,
);
/// Series that are alive.
pub static SINCE: Parameter = Parameter::new(
    "since",
    "Only series with a sample at or after this time",
    Kind::Time,
);
/// Lines of a list.
pub static LIMIT: Parameter = Parameter::new(
    "limit",
    "Series of the answer",
    Kind::integer(1, 10_000, Some(1000)),
);

/// A machine in the path.
pub static OF_MACHINE: Parameter =
    Parameter::new("machine", "Its whole name", Kind::Text { chars_max: 1024 });

/// Which series are asked for.
pub fn filter(asked: &Asked) -> Result<SeriesFilter, Problem> {
    let labels = asked.pairs(&LABEL);
    if labels.len() > LABEL_FILTERS_MAX {
        return Err(Problem::bad_request(format!(
            "{} labels are asked for, allowed are {LABEL_FILTERS_MAX}",
            labels.len()
        )));
    }
    let owned = |parameter| asked.text(parameter).map(str::to_owned);
    Ok(SeriesFilter {
        name: owned(&NAME),
        machine: owned(&MACHINE),
        source: owned(&SOURCE),
        labels,
    })
}

/// What a path holds in braces.
pub fn in_path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    path.map(|Path(parts)| parts)
        .map_err(|error| Problem::bad_request(error.body_text()))
}

/// The newest samples of the series that are asked for.
pub async fn look(
    context: Arc<ApiContext>,
    filter: SeriesFilter,
    since_ns: i64,
    limit: usize,
) -> Result<Answered<LatestPage>, Problem> {
    let looked = tokio::task::spawn_blocking(move || context.store.latest(&filter, since_ns, limit)).await;
    Ok(looked.map_err(sql_failed)??)
}

/// The word for a quality.
pub const fn quality(number: u8) -> &'static str {
    match number {
        0 => "good",
        1 => "uncertain",
        _ => "bad",
    }
}

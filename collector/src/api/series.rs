//! Parameters and words that questions about metrics share.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use edgelogger_store::{LABEL_FILTERS_MAX, SeriesFilter};

use super::logs::{MACHINE, SOURCE};
use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;

/// Metrics, by a pattern.
pub static NAME: Parameter = Parameter {
    name: "name",
    about: "Only this metric; `*` stands for any text, `?` for one character",
    kind: Kind::Text { chars_max: 1024 },
};
/// Labels.
pub static LABEL: Parameter = Parameter {
    name: "label",
    about: "Only series with this label, of the samples or else of the agent: `label.site=berlin`; `*` and `?` as above, \
            nothing for series without it",
    kind: Kind::Family,
};
/// Series that are alive.
pub static SINCE: Parameter = Parameter {
    name: "since",
    about: "Only series with a sample at or after this time",
    kind: Kind::Time,
};
/// Lines of a list.
pub static LIMIT: Parameter = Parameter {
    name: "limit",
    about: "Series of the answer",
    kind: Kind::Integer {
        min: 1,
        max: 10_000,
        default: Some(1000),
    },
};

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

/// The word for a quality.
pub const fn quality(number: u8) -> &'static str {
    match number {
        0 => "good",
        1 => "uncertain",
        _ => "bad",
    }
}

//! In which form rows are answered: what `?format=` says, else what `Accept` likes best, else JSON.

use axum::http::{HeaderMap, header};

use super::parameters::{Asked, Kind, Parameter};
use super::problem::Problem;

/// One document.
pub const JSON_TYPE: &str = "application/json";
/// One JSON object a line.
pub const LINES_TYPE: &str = "application/x-ndjson";
/// RFC 4180, with a line of names.
pub const CSV_TYPE: &str = "text/csv";
/// Server-sent events.
pub const EVENTS_TYPE: &str = "text/event-stream";

/// A form of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One document.
    Json,
    /// One object a line, as they are found.
    Lines,
    /// A table.
    Csv,
}

/// The parameter.
pub static FORMAT: Parameter = Parameter::new(
    "format",
    "Form of the answer; it goes before the header `Accept`",
    Kind::choice(&["json", "ndjson", "csv"], None),
);

impl Format {
    const ALL: [Self; 3] = [Self::Json, Self::Lines, Self::Csv];

    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON_TYPE,
            Self::Lines => LINES_TYPE,
            Self::Csv => CSV_TYPE,
        }
    }

    /// What a request wants.
    ///
    /// # Errors
    /// When `Accept` allows none of them.
    pub fn choose(asked: &Asked, headers: &HeaderMap) -> Result<Self, Problem> {
        match asked.word(&FORMAT) {
            Some("json") => return Ok(Self::Json),
            Some("ndjson") => return Ok(Self::Lines),
            Some(_) => return Ok(Self::Csv),
            None => {}
        }
        let accept = headers.get_all(header::ACCEPT);
        let ranges: Vec<(&str, f32)> = accept
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(range)
            .collect();
        Self::best(&ranges).ok_or_else(|| {
            let types: Vec<_> = Self::ALL.iter().map(|format| format.media_type()).collect();
            Problem::not_acceptable(format!(
                "none of the types in `Accept` is there; ask for {}",
                types.join(", ")
            ))
        })
    }

    fn best(ranges: &[(&str, f32)]) -> Option<Self> {
        if ranges.is_empty() {
            return Some(Self::Json);
        }
        let mut best: Option<(Self, f32)> = None;
        for format in Self::ALL {
            let weight = format.weight(ranges);
            if weight > best.map_or(0.0, |(_, weight)| weight) {
                best = Some((format, weight));
            }
        }
        best.map(|(format, _)| format)
    }

    /// The weight of the most exact range that this type is in.
    fn weight(self, ranges: &[(&str, f32)]) -> f32 {
        let of = |wanted: &str| {
            let found = ranges.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, weight)| *weight)
        };
        let family = self.media_type().split_once('/').map_or("", |(family, _)| family);
        let alias = match self {
            Self::Lines => of("application/ndjson").or_else(|| of("application/jsonl")),
            Self::Json | Self::Csv => None,
        };
        of(self.media_type())
            .or(alias)
            .or_else(|| of(&format!("{family}/*")))
            .or_else(|| of("*/*"))
            .unwrap_or(0.0)
    }
}

/// One range of `Accept` and its weight.
fn range(text: &str) -> Option<(&str, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts
        .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
        .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
    Some((name, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    static ALL: [&Parameter; 1] = [&FORMAT];

    #[track_caller]
    fn check(query: &str, accept: &[&'static str], expected: Option<Format>) {
        let asked = Asked::read(query, &ALL, 0).unwrap();
        let mut headers = HeaderMap::new();
        for accept in accept {
            headers.append(header::ACCEPT, axum::http::HeaderValue::from_static(accept));
        }
        assert_eq!(
            Format::choose(&asked, &headers).ok(),
            expected,
            "{query} {accept:?}"
        );
    }

    #[test]
    fn the_parameter_goes_before_the_header_and_the_exact_type_before_the_range() {
        check("", &[], Some(Format::Json));
        check("", &["*/*"], Some(Format::Json));
        check(
            "",
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            Some(Format::Json),
        );
        check("", &["application/x-ndjson"], Some(Format::Lines));
        check("", &["application/jsonl"], Some(Format::Lines));
        check("", &["text/csv;q=0.5, application/json;q=0.2"], Some(Format::Csv));
        check("", &["text/*", "application/json;q=0.9"], Some(Format::Csv));
        check("", &["application/json;q=0, */*"], Some(Format::Lines));
        check("format=csv", &["application/json"], Some(Format::Csv));
        check("", &["text/html"], None);
        check("", &["application/json;q=0"], None);
        check("", &["application/json;q=nonsense"], None);
    }
}

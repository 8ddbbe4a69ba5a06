//! Series: which rows of `metrics` belong together, by machine, source, name and labels.

use std::collections::BTreeMap;

use edgelogger_common::wildcard::matches_wildcard;

use crate::error::QueryError;

/// Length of a pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;
/// Labels that one question may name.
pub const LABEL_FILTERS_MAX: usize = 32;

/// What a series is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Series {
    /// Whose.
    pub machine: String,
    /// Where it comes from: `host`, a file, an endpoint.
    pub source: String,
    /// Of the metric.
    pub name: String,
    /// Of the samples. Labels of the agent are no part of it: they may change.
    pub labels: BTreeMap<String, String>,
}

/// Which series. All conditions hold together; in patterns `*` stands for any text, `?` for one character.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeriesFilter {
    /// Pattern of the name.
    pub name: Option<String>,
    /// Pattern of the machine.
    pub machine: Option<String>,
    /// Pattern of the source.
    pub source: Option<String>,
    /// Labels and patterns of their values; a label of the samples goes before one of the agent. An empty pattern matches
    /// only series without that label.
    pub labels: Vec<(String, String)>,
}

impl SeriesFilter {
    /// Are the patterns of a length that can be worked with?
    ///
    /// # Errors
    /// The one that is too long.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.labels.len() > LABEL_FILTERS_MAX {
            let count = self.labels.len();
            return Err(QueryError::Invalid(format!(
                "{count} labels are asked for, allowed are {LABEL_FILTERS_MAX}"
            )));
        }
        let texts = [&self.name, &self.machine, &self.source].into_iter().flatten();
        let labels = self.labels.iter().flat_map(|(key, pattern)| [key, pattern]);
        match texts.chain(labels).find(|text| text.len() > PATTERN_BYTES_MAX) {
            Some(long) => Err(QueryError::Invalid(format!(
                "a pattern has {} bytes, allowed are {PATTERN_BYTES_MAX}",
                long.len()
            ))),
            None => Ok(()),
        }
    }

    /// Values that each series of this filter has as labels, whatever else: those that are asked for without a pattern.
    pub(crate) fn label_values(&self) -> Vec<String> {
        let exact = self.labels.iter().map(|(_, pattern)| pattern);
        exact
            .filter(|pattern| !pattern.is_empty() && !pattern.contains(['*', '?']))
            .cloned()
            .collect()
    }

    /// Does this series match? `label` gives its labels, those of its agent included.
    pub(crate) fn matches<'a>(&self, series: [&str; 3], label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let patterns = [&self.machine, &self.source, &self.name];
        let fits = |(pattern, text): (&Option<String>, &str)| {
            pattern
                .as_ref()
                .is_none_or(|pattern| matches_wildcard(pattern, text))
        };
        let has = |(key, pattern): &(String, String)| match label(key) {
            Some(value) => matches_wildcard(pattern, value),
            None => pattern.is_empty(),
        };
        patterns.into_iter().zip(series).all(fits) && self.labels.iter().all(has)
    }
}

/// Texts one behind the other, each after its length: what series are told apart by.
#[derive(Debug, Default)]
pub struct KeyBytes(Vec<u8>);

impl KeyBytes {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn put(&mut self, text: &str) {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// The texts of a key.
pub fn texts(mut key: &[u8]) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (len, rest) = key.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (text, rest) = rest.split_at_checked(len)?;
        key = rest;
        std::str::from_utf8(text).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_texts_of_a_key_read_back(all in proptest::collection::vec(".{0,20}", 0..8)) {
            let mut key = KeyBytes::default();
            all.iter().for_each(|text| key.put(text));
            prop_assert_eq!(texts(key.as_slice()).collect::<Vec<_>>(), all);
        }

        #[test]
        fn no_bytes_make_a_key_panic(bytes: Vec<u8>) {
            let _ = texts(&bytes).count();
        }
    }

    #[test]
    fn a_filter_holds_in_all_its_parts() {
        let labels = |key: &str| (key == "cpu").then_some("0");
        let check = |filter: &SeriesFilter| filter.matches(["m1", "host", "system.cpu.time"], labels);
        let of = |label: (&str, &str)| SeriesFilter {
            labels: vec![(label.0.to_owned(), label.1.to_owned())],
            ..SeriesFilter::default()
        };
        assert!(check(&SeriesFilter::default()));
        assert!(check(&of(("cpu", "0"))) && check(&of(("cpu", "*"))) && check(&of(("disk", ""))));
        assert!(!check(&of(("cpu", "1"))) && !check(&of(("cpu", ""))) && !check(&of(("disk", "*"))));
        let named = |name: &str| SeriesFilter {
            name: Some(name.to_owned()),
            ..SeriesFilter::default()
        };
        assert!(check(&named("system.*")) && !check(&named("system")));
    }
}

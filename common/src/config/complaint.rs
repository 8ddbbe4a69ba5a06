//! From serde's messages to sentences for the person who wrote the file.
//!
//! serde reports through text alone, so the text is taken apart again. Its forms are stable (they are part of
//! its documented `Error` trait); one that is not recognised is passed on as it is, with its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Source};
use crate::error_code;

/// Known keys listed when none resembles the unknown one.
const NAMES_LISTED_MAX: usize = 16;

/// Least likeness (Jaro-Winkler, 0 to 1) for a "did you mean". `lisen`/`listen` has 0.96, words of different
/// meaning rarely exceed 0.75.
const LIKENESS_MIN: f64 = 0.80;

/// What serde found, in parts.
#[derive(Debug, PartialEq, Eq)]
enum Complaint<'a> {
    UnknownKey { name: &'a str, known: Vec<&'a str> },
    UnknownValue { name: &'a str, known: Vec<&'a str> },
    MissingKey { name: &'a str },
    Wrong { found: &'a str, expected: &'a str },
    Other(&'a str),
}

/// Turns an error of the deserializer into one of ours. `tree` is what was deserialized.
pub(super) fn explain(
    source: &Source,
    tree: &DeTable<'_>,
    message: &str,
    span: Option<Range<usize>>,
) -> ConfigError {
    let path = span
        .as_ref()
        .and_then(|span| path_of(tree, span))
        .unwrap_or_default();
    match take_apart(message) {
        Complaint::UnknownKey { name, known } => {
            let message = format!("unknown key `{name}`{}", in_table(parent(&path)));
            ConfigError::new(error_code::CONFIG_UNKNOWN_KEY, message)
                .pointing(source, span, "not a key that EdgeLogger knows here")
                .with_help(suggestion(name, &known, "known keys here"))
        }
        Complaint::UnknownValue { name, known } => ConfigError::new(
            error_code::CONFIG_WRONG_VALUE,
            format!("{}cannot be `{name}`", subject(&path)),
        )
        .pointing(source, span, "unknown value")
        .with_help(suggestion(name, &known, "possible values")),
        Complaint::MissingKey { name } => missing(source, name, &path, span),
        Complaint::Wrong { found, expected } => {
            let (expected, found) = (expectation(expected), finding(found));
            let message = format!("{}must be {expected}, not {found}", subject(&path));
            ConfigError::new(error_code::CONFIG_WRONG_VALUE, message)
                .pointing(source, span, format!("expected {expected}"))
                .with_help(format!("write {expected}"))
        }
        Complaint::Other(message) => {
            let at = if path.is_empty() {
                String::new()
            } else {
                format!("`{path}`: ")
            };
            ConfigError::new(error_code::CONFIG_WRONG_VALUE, format!("{at}{message}")).pointing(
                source,
                span,
                "this value",
            )
        }
    }
}

fn missing(source: &Source, name: &str, path: &str, span: Option<Range<usize>>) -> ConfigError {
    let message = format!("the required key `{name}` is missing{}", in_table(path));
    // At the top level there is no line to mark: the whole file lacks it.
    let span = span.filter(|_| !path.is_empty());
    let help = match path {
        "" => format!("add a line `{name} = …` before the first [table]"),
        table => format!("add a line `{name} = …` to {}", table_name(table)),
    };
    ConfigError::new(error_code::CONFIG_MISSING_KEY, message)
        .pointing(source, span, format!("`{name}` is missing here"))
        .with_help(help)
}

fn take_apart(message: &str) -> Complaint<'_> {
    if let Some((name, known)) = message.strip_prefix("unknown field `").and_then(name_and_known) {
        return Complaint::UnknownKey { name, known };
    }
    if let Some((name, known)) = message.strip_prefix("unknown variant `").and_then(name_and_known) {
        return Complaint::UnknownValue { name, known };
    }
    if let Some(name) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        return Complaint::MissingKey { name };
    }
    let wrong = ["invalid type: ", "invalid value: ", "invalid "];
    let wrong = wrong
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix)?.rsplit_once(", expected "));
    match wrong {
        Some((found, expected)) => Complaint::Wrong { found, expected },
        None => Complaint::Other(message),
    }
}

/// The rest of "unknown field `NAME`, expected one of `a`, `b`" behind its first backtick. The name comes from
/// the file and may hold backticks itself, hence the search from the end.
fn name_and_known(rest: &str) -> Option<(&str, Vec<&str>)> {
    let (name, known) = rest
        .rsplit_once("`, expected ")
        .or_else(|| rest.rsplit_once("`, there are no "))?;
    Some((name, known.split('`').skip(1).step_by(2).collect()))
}

fn suggestion(name: &str, known: &[&str], heading: &str) -> String {
    // One slip of the finger (a letter more, less, wrong, or two swapped) is always meant so; Jaro-Winkler is hard on
    // short words.
    let likeness = |candidate: &str| {
        let (name, candidate) = (name.to_lowercase(), candidate.to_lowercase());
        let slip = name.len() > 1 && strsim::damerau_levenshtein(&name, &candidate) == 1;
        let likeness = strsim::jaro_winkler(&name, &candidate);
        if slip {
            likeness.max(LIKENESS_MIN)
        } else {
            likeness
        }
    };
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best {
        None => "remove it: nothing can be set here".to_owned(),
        Some(best) if likeness(best) >= LIKENESS_MIN => format!("did you mean `{best}`?"),
        Some(_) => {
            let more = if known.len() > NAMES_LISTED_MAX {
                ", …"
            } else {
                ""
            };
            let listed: Vec<_> = known
                .iter()
                .take(NAMES_LISTED_MAX)
                .map(|name| format!("`{name}`"))
                .collect();
            format!("{heading}: {}{more}", listed.join(", "))
        }
    }
}

fn in_table(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!(" in {}", table_name(path))
    }
}

/// `[ingest]` as its header is written; `sources[0]`, of which no header has the number.
fn table_name(path: &str) -> String {
    if path.contains('[') {
        format!("`{path}`")
    } else {
        format!("[{path}]")
    }
}

fn subject(path: &str) -> String {
    if path.is_empty() {
        "this ".to_owned()
    } else {
        format!("`{path}` ")
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// What a type of serde is called in TOML.
fn expectation(expected: &str) -> String {
    let range = |max: u64| format!("a whole number from 0 to {max}");
    match expected {
        "u8" => range(u64::from(u8::MAX)),
        "u16" => range(u64::from(u16::MAX)),
        "u32" => range(u64::from(u32::MAX)),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number from 1".to_owned()
        }
        "a sequence" => "a list in [ ]".to_owned(),
        "a map" => "a table".to_owned(),
        "path string" => "a path in quotes".to_owned(),
        "a string" => "a string in quotes".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// What was found. The contents of strings are left out: one may come from a variable and be a secret.
fn finding(found: &str) -> String {
    let number = |prefix: &str| found.strip_prefix(prefix)?.strip_suffix('`');
    if found.starts_with("string ") || found.starts_with("character ") {
        return "a string".to_owned();
    }
    if let Some(number) = number("integer `").or_else(|| number("floating point `")) {
        return number.to_owned();
    }
    match found
        .strip_prefix("boolean `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        Some(boolean) => boolean.to_owned(),
        None if found == "map" => "a table".to_owned(),
        None if found == "sequence" => "a list".to_owned(),
        None => found.to_owned(),
    }
}

/// Dotted path of the key or value whose span this is.
fn path_of(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref();
        match path_in(value, span) {
            Some(rest) => Some(format!("{name}{rest}")),
            None => (key.span() == *span).then(|| name.to_string()),
        }
    })
}

/// The path from a value down to the one with this span, with its leading `.` or `[`; empty for itself.
fn path_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    let below = match value.get_ref() {
        DeValue::Table(table) => path_of(table, span).map(|rest| format!(".{rest}")),
        DeValue::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| path_in(value, span).map(|rest| format!("[{index}]{rest}"))),
        _ => None,
    };
    below.or_else(|| (value.span() == *span).then(String::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_serde_are_taken_apart() {
        assert_eq!(
            take_apart("unknown field `lisen`, expected `listen` or `tls`"),
            Complaint::UnknownKey {
                name: "lisen",
                known: vec!["listen", "tls"]
            }
        );
        assert_eq!(
            take_apart("unknown variant `lz5`, expected one of `none`, `lz4`, `zstd`"),
            Complaint::UnknownValue {
                name: "lz5",
                known: vec!["none", "lz4", "zstd"]
            }
        );
        assert_eq!(
            take_apart("unknown field `x`, there are no fields"),
            Complaint::UnknownKey {
                name: "x",
                known: vec![]
            }
        );
        assert_eq!(
            take_apart("missing field `name`"),
            Complaint::MissingKey { name: "name" }
        );
        assert_eq!(
            take_apart("invalid type: string \"a, expected b\", expected u16"),
            Complaint::Wrong {
                found: "string \"a, expected b\"",
                expected: "u16"
            }
        );
        assert_eq!(take_apart("anything else"), Complaint::Other("anything else"));
    }

    #[test]
    fn a_resembling_name_is_suggested_and_others_are_listed() {
        let known = ["listen", "tls", "names"];
        assert_eq!(suggestion("lisen", &known, "known"), "did you mean `listen`?");
        assert_eq!(suggestion("TLS", &known, "known"), "did you mean `tls`?");
        assert_eq!(suggestion("tsl", &known, "known"), "did you mean `tls`?");
        assert_eq!(
            suggestion("colour", &known, "known"),
            "known: `listen`, `tls`, `names`"
        );
        assert_eq!(
            suggestion("x", &[], "known"),
            "remove it: nothing can be set here"
        );
    }
}

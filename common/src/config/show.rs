//! What is in force, and where each setting came from.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::Source;

/// Settings are aligned up to this width; longer ones push their origin to the right.
const ALIGNED_WIDTH: usize = 56;

/// One setting that is in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its path, such as `source.file[0].include`.
    pub key: String,
    /// Its value. Secrets serialize as something else.
    pub value: Value,
    /// Who said so.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// It is written in the file.
    File {
        /// The file.
        file: String,
        /// Its line, from 1.
        line: usize,
        /// Its text names environment variables.
        variables: bool,
    },
    /// The command line, or the variable that stands for the flag.
    Flag {
        /// Such as `--data-dir`.
        flag: &'static str,
    },
}

/// A part of the configuration that a flag sets: its path, and the flag.
pub type Flagged = (String, &'static str);

/// Every setting of a configuration, in its order. `source` is the file that it was read from, `flags` what the
/// command line set.
///
/// # Errors
/// The configuration can't be written as JSON.
pub fn settings<T: Serialize>(
    config: &T,
    source: Option<&Source>,
    flags: &[Flagged],
) -> Result<Vec<Setting>, serde_json::Error> {
    let written = source.map(Written::of).unwrap_or_default();
    let mut leaves = Vec::new();
    flatten(String::new(), serde_json::to_value(config)?, &mut leaves);
    let origin = |key: &str| {
        let flag = flags.iter().find(|(path, _)| is_within(key, path));
        let place = || source.zip(written.at(key));
        match (flag, place()) {
            (Some((_, flag)), _) => Origin::Flag { flag },
            (None, Some((source, span))) => Origin::File {
                file: source.name().to_owned(),
                line: 1 + source.text()[..span.start].matches('\n').count(),
                variables: source.text()[span].contains("${"),
            },
            (None, None) => Origin::Default,
        }
    };
    let setting = |(key, value): (String, Value)| Setting {
        origin: origin(&key),
        key,
        value,
    };
    Ok(leaves.into_iter().map(setting).collect())
}

/// As TOML that could be read again, each line with its origin.
#[must_use]
pub fn render(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut table = "";
    for setting in settings {
        let (parent, name) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if parent != table {
            table = parent;
            let _ = writeln!(text, "\n{}", header(parent));
        }
        let line = format!("{name} = {}", toml_value(&setting.value));
        let _ = writeln!(text, "{line:ALIGNED_WIDTH$}  # {}", origin_text(&setting.origin));
    }
    text.trim_start().to_owned()
}

fn header(path: &str) -> String {
    match path.rsplit_once('[') {
        Some((array, _)) if path.ends_with(']') => format!("[[{array}]]"),
        _ => format!("[{path}]"),
    }
}

fn origin_text(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::Flag { flag } => (*flag).to_owned(),
        Origin::File {
            file,
            line,
            variables,
        } => {
            let variables = if *variables {
                ", with variables of the environment"
            } else {
                ""
            };
            format!("{file}:{line}{variables}")
        }
    }
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Objects become paths; `null` is a setting that nobody made and that has no default.
pub(super) fn flatten(path: String, value: Value, leaves: &mut Vec<(String, Value)>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            // Settings before tables, as TOML wants it.
            let (tables, plain): (Vec<_>, Vec<_>) =
                fields.into_iter().partition(|(_, value)| is_table(value));
            for (name, value) in plain.into_iter().chain(tables) {
                flatten(below(&name), value, leaves);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.into_iter().enumerate() {
                flatten(format!("{path}[{at}]"), item, leaves);
            }
        }
        plain => leaves.push((path, plain)),
    }
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().any(Value::is_object),
        _ => false,
    }
}

pub(super) fn is_within(key: &str, path: &str) -> bool {
    key.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Where each setting is written.
#[derive(Default)]
struct Written(HashMap<String, Range<usize>>);

impl Written {
    fn of(source: &Source) -> Self {
        let mut written = Self::default();
        if let Ok(table) = DeTable::parse(source.text()) {
            written.table("", table.get_ref());
        }
        written
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let below = if path.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{path}.{}", name.get_ref())
            };
            self.value(below, value.get_ref(), value.span());
        }
    }

    fn value(&mut self, path: String, value: &DeValue<'_>, span: Range<usize>) {
        match value {
            DeValue::Table(table) => self.table(&path, table),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    if let DeValue::Table(table) = item.get_ref() {
                        self.table(&format!("{path}[{at}]"), table);
                    }
                }
                self.0.insert(path, span);
            }
            _ => {
                self.0.insert(path, span);
            }
        }
    }

    fn at(&self, key: &str) -> Option<Range<usize>> {
        self.0.get(key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Serialize, Default)]
    #[serde(default)]
    struct Config {
        name: String,
        part: Part,
        many: Vec<Part>,
        labels: std::collections::BTreeMap<String, String>,
        nothing: Option<u32>,
    }

    #[derive(Deserialize, Serialize, Default)]
    #[serde(default)]
    struct Part {
        size: u32,
        names: Vec<String>,
    }

    const TEXT: &str =
        "name = \"${WHO:-you}\"\n\n[part]\nsize = 5\n\n[[many]]\n[[many]]\nnames = [\"a\", \"b\"]\n";

    fn shown() -> Vec<Setting> {
        let source = Source::new("a.toml", TEXT);
        let mut config: Config = source.parse(&|_| None).unwrap();
        config.labels.insert("site".to_owned(), "hall 1".to_owned());
        settings(&config, Some(&source), &[("labels.site".to_owned(), "--label")]).unwrap()
    }

    #[test]
    fn each_setting_says_who_made_it() {
        let shown = shown();
        let origin = |key: &str| &shown.iter().find(|setting| setting.key == key).unwrap().origin;
        let line = |line, variables| Origin::File {
            file: "a.toml".to_owned(),
            line,
            variables,
        };
        assert_eq!(origin("name"), &line(1, true));
        assert_eq!(origin("part.size"), &line(4, false));
        assert_eq!(origin("part.names"), &Origin::Default);
        assert_eq!(origin("many[0].names"), &Origin::Default);
        assert_eq!(origin("many[1].names"), &line(8, false));
        assert_eq!(origin("labels.site"), &Origin::Flag { flag: "--label" });
        assert!(!shown.iter().any(|setting| setting.key == "nothing"));
    }

    #[test]
    fn what_is_shown_reads_back() {
        let text = render(&shown());
        let read: Config = super::super::parse("shown", &text, &|_| None).unwrap();
        assert_eq!(
            (read.name.as_str(), read.part.size, read.many.len()),
            ("you", 5, 2)
        );
        assert_eq!(read.many[1].names, ["a", "b"]);
        assert_eq!(read.labels["site"], "hall 1");
        assert!(text.contains("# a.toml:4\n"), "{text}");
    }
}

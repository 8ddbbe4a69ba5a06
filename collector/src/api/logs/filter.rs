//! Which records a request is about: the parameters that all requests for logs share.

use edgelogger_store::query::AROUND_COLUMNS;
use edgelogger_store::{LogQuery, Table};
use serde_json::{Value, json};

use crate::api::described::{Components, Described, Member, object};
use crate::api::parameters::{Asked, Kind, Parameter};
use crate::api::problem::Problem;

const PATTERN: Kind = Kind::Text { chars_max: 1_024 };

/// First time.
pub static FROM: Parameter = Parameter::new("from", "At or after this time", Kind::Time);
/// Last time.
pub static TO: Parameter = Parameter::new("to", "Before this time", Kind::Time);
/// Machines.
pub static MACHINE: Parameter = Parameter::new(
    "machine",
    "Only this machine; `*` stands for any text, `?` for one character",
    PATTERN,
);
/// Sources.
pub static SOURCE: Parameter = Parameter::new(
    "source",
    "Only this source: a path, `journald`, `host`; `*` and `?` as for `machine`",
    PATTERN,
);
/// Least severity.
pub static SEVERITY: Parameter = Parameter::new(
    "severity",
    "This severity or a higher one, by name or by OpenTelemetry's number; records without one are left out",
    Kind::choice(&SEVERITIES, None),
);
/// Text.
pub static Q: Parameter = Parameter::new("q", "Only records with this text in their body", PATTERN);
/// Regular expression.
pub static RE: Parameter = Parameter::new(
    "re",
    "Only records in whose body this regular expression matches somewhere (syntax of Rust's crate regex, linear \
            in time: no look-around, no back-references)",
    PATTERN,
);
/// Case.
pub static I: Parameter = Parameter::new("i", "Whatever the case of `q` and `re`", Kind::Flag);
/// Attributes.
pub static ATTR: Parameter = Parameter::new(
    "attr",
    "`attr.KEY=VALUE`, up to 16 times: only records with exactly this attribute",
    Kind::Family,
);
/// Labels.
pub static LABEL: Parameter = Parameter::new(
    "label",
    "`label.KEY=VALUE`: only records of agents with exactly this label",
    Kind::Family,
);
/// Columns.
pub static FIELDS: Parameter = Parameter::new(
    "fields",
    "Only these, in this order; `machine` is another name of `machine_id`",
    Kind::Words(&FIELD_WORDS),
);

/// Columns of `logs`, and a short name.
const FIELD_WORDS: [&str; 19] = [
    "time",
    "machine",
    "machine_id",
    "source",
    "stream_id",
    "position",
    "severity",
    "body",
    "body_bytes",
    "attributes",
    "labels",
    "event_time",
    "observed_time",
    "received_time",
    "source_len",
    "trace_id",
    "span_id",
    "flags",
    "agent_version",
];

/// Names first; each stands for the first number of its range.
const SEVERITIES: [&str; 38] = [
    "trace", "debug", "info", "notice", "warn", "warning", "error", "err", "fatal", "critical", "crit",
    "alert", "emerg", "panic", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14",
    "15", "16", "17", "18", "19", "20", "21", "22", "23", "24",
];

fn severity(word: &str) -> u8 {
    match word {
        "trace" => 1,
        "debug" => 5,
        "info" | "notice" => 9,
        "warn" | "warning" => 13,
        "error" | "err" => 17,
        "fatal" | "critical" | "crit" | "alert" | "emerg" | "panic" => 21,
        number => number.parse().unwrap_or(1),
    }
}

/// The column of a word of `fields`.
pub fn column_of(field: &'static str) -> &'static str {
    if field == "machine" { "machine_id" } else { field }
}

/// The conditions of a request.
///
/// # Errors
/// A range the wrong way round; too many attributes.
pub fn filter(asked: &Asked) -> Result<LogQuery, Problem> {
    const PAIRS_MAX: usize = 16;
    let owned = |parameter| asked.text(parameter).map(str::to_owned);
    let (from, to) = asked.range(&FROM, &TO)?;
    let (attributes, labels) = (asked.pairs(&ATTR), asked.pairs(&LABEL));
    if attributes.len() + labels.len() > PAIRS_MAX {
        return Err(Problem::unprocessable(format!(
            "{} attributes and labels, allowed are {PAIRS_MAX}",
            attributes.len() + labels.len()
        )));
    }
    let fields = asked.words(&FIELDS);
    Ok(LogQuery {
        from,
        to,
        machine: owned(&MACHINE),
        source: owned(&SOURCE),
        severity_min: asked.word(&SEVERITY).map(severity),
        substring: owned(&Q),
        regex: owned(&RE),
        case_insensitive: asked.flag(&I),
        attributes,
        labels,
        columns: fields.map(|fields| fields.iter().map(|field| column_of(field)).collect()),
        ..LogQuery::default()
    })
}

/// A record as it is sent. What is null is left out, and with `fields` what was not chosen.
pub struct LogRow;

impl Described for LogRow {
    fn schema(components: &mut Components) -> Value {
        components.named("LogRow", |_| {
            let logs = Table::Logs.schema();
            let named = logs.fields().iter().filter_map(|field| {
                let word = FIELD_WORDS.iter().find(|word| *word == field.name())?;
                Some((*word, field.data_type()))
            });
            let mut members: Vec<Member> = named.map(|(name, kind)| member(name, json_type(kind))).collect();
            members.push(member("machine", json!({ "type": "string" })));
            let [is_match, group] = AROUND_COLUMNS;
            members.push(member(is_match, json!({ "type": "boolean" })));
            members.push(member(group, json!({ "type": "integer" })));
            object("A record. What is null is left out.", members)
        })
    }
}

fn member(name: &'static str, schema: Value) -> Member {
    Member {
        name,
        about: about(name).to_owned(),
        is_optional: true,
        schema,
    }
}

fn json_type(kind: &arrow::datatypes::DataType) -> Value {
    use arrow::datatypes::DataType;
    match kind {
        DataType::Timestamp(..) => json!({ "type": "string", "format": "date-time" }),
        DataType::Map(..) => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "null"] } })
        }
        kind if kind.is_integer() => json!({ "type": "integer" }),
        _ => json!({ "type": "string" }),
    }
}

fn about(column: &str) -> &'static str {
    match column {
        "time" => "Event time, else observed time.",
        "event_time" => "What the record says of itself.",
        "observed_time" => "When the agent saw it.",
        "received_time" => "When the collector took it.",
        "machine_id" => "The agent's name.",
        "machine" => "The same, where `fields` asks for it by this name.",
        "source" => "A path, `journald`.",
        "stream_id" => "With `position`: the record's address. 32 hexadecimal digits.",
        "position" => "Where it begins in its stream.",
        "source_len" => "Bytes (or entries) of the source that it used.",
        "severity" => "OpenTelemetry's number, 1 to 24.",
        "body" => "The record.",
        "body_bytes" => "Its exact bytes in hexadecimal, where they are not UTF-8.",
        "attributes" => "What came with it.",
        "labels" => "What its agent is labelled with.",
        "trace_id" => "32 hexadecimal digits.",
        "span_id" => "16 hexadecimal digits.",
        "flags" => "1: cut short; 2: a fragment of a longer one; 4: shares positions with an earlier one.",
        "agent_version" => "Of the agent that sent it.",
        "match" => "With `before` or `after`: does it match itself?",
        "group" => "With `before` or `after`: the number of its run of neighbours on this page.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_the_table_can_be_chosen_and_is_explained() {
        for field in Table::Logs.schema().fields() {
            assert!(FIELD_WORDS.contains(&field.name().as_str()), "{}", field.name());
            assert!(!about(field.name()).is_empty(), "{}", field.name());
        }
        assert_eq!(FIELD_WORDS.len(), Table::Logs.schema().fields().len() + 1);
    }

    #[test]
    fn every_severity_has_a_number_of_its_own() {
        let numbers: Vec<u8> = SEVERITIES.iter().map(|word| severity(word)).collect();
        assert!(numbers.iter().all(|number| (1..=24).contains(number)));
        assert_eq!(
            (severity("warn"), severity("24"), severity("panic")),
            (13, 24, 21)
        );
    }
}

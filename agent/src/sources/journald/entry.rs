//! An entry of the journal to a record, with OpenTelemetry names; and whether it is wanted.

use std::collections::HashSet;

use edgelogger_common::block::{LogRow, RecordFlags, Value};

use super::config::{JournaldConfig, full_unit_name};
use super::export::Entry;

/// A journal field, the attribute it becomes, and whether it is a number.
struct Attribute {
    field: &'static str,
    name: &'static str,
    is_number: bool,
}

const fn text(field: &'static str, name: &'static str) -> Attribute {
    Attribute {
        field,
        name,
        is_number: false,
    }
}

const fn number(field: &'static str, name: &'static str) -> Attribute {
    Attribute {
        field,
        name,
        is_number: true,
    }
}

/// OpenTelemetry's names where it has one. What every entry repeats (host, boot, machine) is not among them: the
/// machine is in every row already.
const ATTRIBUTES: [Attribute; 17] = [
    number("_PID", "process.pid"),
    text("_COMM", "process.executable.name"),
    text("_EXE", "process.executable.path"),
    number("_UID", "process.user.id"),
    number("TID", "thread.id"),
    text("_SYSTEMD_UNIT", "systemd.unit"),
    text("_SYSTEMD_USER_UNIT", "systemd.user_unit"),
    text("UNIT", "systemd.object_unit"),
    text("SYSLOG_IDENTIFIER", "syslog.identifier"),
    number("SYSLOG_FACILITY", "syslog.facility.code"),
    text("_TRANSPORT", "journald.transport"),
    text("MESSAGE_ID", "journald.message_id"),
    text("CODE_FILE", "code.file.path"),
    number("CODE_LINE", "code.line.number"),
    text("CODE_FUNC", "code.function.name"),
    text("CONTAINER_NAME", "container.name"),
    text("CONTAINER_ID_FULL", "container.id"),
];

/// What is needed beside the attributes.
const ALWAYS: [&str; 5] = [
    "MESSAGE",
    "PRIORITY",
    "__CURSOR",
    "__REALTIME_TIMESTAMP",
    "_SOURCE_REALTIME_TIMESTAMP",
];

/// Syslog priority to OpenTelemetry severity (the mapping of its logs data model).
const SEVERITIES: [u8; 8] = [21, 19, 18, 17, 13, 10, 9, 5];

/// The fields to ask `journalctl` for.
pub(super) fn wanted_fields(config: &JournaldConfig) -> HashSet<Vec<u8>> {
    ALWAYS
        .iter()
        .copied()
        .chain(ATTRIBUTES.iter().map(|attribute| attribute.field))
        .chain(config.fields.iter().map(String::as_str))
        .map(|name| name.as_bytes().to_vec())
        .collect()
}

/// ns since 1970 at which journald got the entry.
pub(super) fn received_ns(entry: &Entry) -> Option<i64> {
    microseconds(entry, "__REALTIME_TIMESTAMP")
}

fn microseconds(entry: &Entry, field: &str) -> Option<i64> {
    entry.text(field)?.parse::<i64>().ok()?.checked_mul(1000)
}

/// The record of an entry.
pub(super) fn row(entry: &Entry, config: &JournaldConfig, observed_time: i64) -> LogRow {
    let priority = entry
        .text("PRIORITY")
        .and_then(|priority| priority.parse::<usize>().ok());
    LogRow {
        event_time: microseconds(entry, "_SOURCE_REALTIME_TIMESTAMP").or_else(|| received_ns(entry)),
        observed_time,
        severity: priority.and_then(|priority| SEVERITIES.get(priority).copied()),
        body: entry.get("MESSAGE").unwrap_or_default().to_vec(),
        attributes: attributes(entry, config),
        source_len: 1,
        flags: if entry.is_cut() {
            RecordFlags::TRUNCATED
        } else {
            RecordFlags::default()
        },
        ..LogRow::default()
    }
}

fn attributes(entry: &Entry, config: &JournaldConfig) -> Vec<(String, Value)> {
    let known = ATTRIBUTES.iter().filter_map(|attribute| {
        let value = entry.get(attribute.field)?;
        let number = attribute
            .is_number
            .then(|| std::str::from_utf8(value).ok()?.parse().ok())
            .flatten();
        Some((
            attribute.name.to_owned(),
            number.map_or_else(|| text_or_bytes(value), Value::I64),
        ))
    });
    let extra = config.fields.iter().filter_map(|field| {
        let name = format!("journald.{}", field.trim_start_matches('_').to_ascii_lowercase());
        Some((name, text_or_bytes(entry.get(field)?)))
    });
    let mut all: Vec<(String, Value)> = known.collect();
    for (name, value) in extra {
        // A row has a name at most once, whatever somebody configured.
        if all.iter().all(|(known, _)| *known != name) {
            all.push((name, value));
        }
    }
    all
}

fn text_or_bytes(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => Value::Bytes(value.to_vec()),
    }
}

/// Which entries are kept.
#[derive(Debug)]
pub(super) struct Filter {
    units: HashSet<String>,
    exclude_units: HashSet<String>,
    identifiers: HashSet<String>,
    priority_max: Option<u8>,
}

impl Filter {
    pub fn new(config: &JournaldConfig) -> Self {
        let units = |units: &[String]| units.iter().map(|unit| full_unit_name(unit)).collect();
        Self {
            units: units(&config.units),
            exclude_units: units(&config.exclude_units),
            identifiers: config.identifiers.iter().cloned().collect(),
            priority_max: config.priority_max.map(super::Priority::number),
        }
    }

    pub fn keeps(&self, entry: &Entry) -> bool {
        let unit_is_in = |units: &HashSet<String>| {
            ["_SYSTEMD_UNIT", "UNIT", "_SYSTEMD_USER_UNIT"]
                .iter()
                .any(|field| entry.text(field).is_some_and(|unit| units.contains(unit)))
        };
        let priority = entry
            .text("PRIORITY")
            .and_then(|priority| priority.parse::<u8>().ok());
        (self.units.is_empty() || unit_is_in(&self.units))
            && (self.exclude_units.is_empty() || !unit_is_in(&self.exclude_units))
            && (self.identifiers.is_empty()
                || entry
                    .text("SYSLOG_IDENTIFIER")
                    .is_some_and(|name| self.identifiers.contains(name)))
            && self
                .priority_max
                .is_none_or(|max| priority.is_none_or(|priority| priority <= max))
    }
}

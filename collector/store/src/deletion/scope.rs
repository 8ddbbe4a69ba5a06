//! Which rows a deletion is about.

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use edgelogger_common::wildcard::matches_wildcard;
use serde::{Deserialize, Serialize};

use super::DeleteError;
use crate::manifest::FileEntry;
use crate::schema::column;

/// Length of a pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// Rows of both tables. All conditions hold together; in patterns `*` stands for any text, `?` for one character.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteScope {
    /// Pattern of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Pattern of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// First `time`, ns UTC.
    #[serde(default, rename = "from_ns", skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// Before this `time`, ns UTC.
    #[serde(default, rename = "to_ns", skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

impl DeleteScope {
    /// Does it say which rows?
    ///
    /// # Errors
    /// Neither machine nor source, a pattern that is empty or too long, or no time between the times.
    pub fn check(&self) -> Result<(), DeleteError> {
        let patterns = [("machine", &self.machine), ("source", &self.source)];
        if patterns.iter().all(|(_, pattern)| pattern.is_none()) {
            return Err(DeleteError::Invalid(
                "say whose rows: `machine`, `source` or both".to_owned(),
            ));
        }
        for (name, pattern) in patterns {
            let len = pattern.as_ref().map_or(1, String::len);
            if !(1..=PATTERN_BYTES_MAX).contains(&len) {
                return Err(DeleteError::Invalid(format!(
                    "`{name}` has {len} bytes, allowed are 1 to {PATTERN_BYTES_MAX}"
                )));
            }
        }
        match (self.from, self.to) {
            (Some(from), Some(to)) if from >= to => Err(DeleteError::Invalid(
                "`from` is not before `to`; nothing can lie between them".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// May the file hold such rows?
    pub fn may_match(&self, entry: &FileEntry) -> bool {
        let (first, last) = entry.time;
        let in_time = self.from.is_none_or(|from| last >= from) && self.to.is_none_or(|to| first < to);
        in_time
            && self
                .machine
                .as_ref()
                .is_none_or(|pattern| has_machine(entry, pattern))
    }

    /// Is it about this time of this source?
    pub fn matches(&self, machine: &str, source: &str, time_ns: i64) -> bool {
        fits(self.machine.as_ref(), machine) && fits(self.source.as_ref(), source) && self.has_time(time_ns)
    }

    fn has_time(&self, time_ns: i64) -> bool {
        self.from.is_none_or(|from| time_ns >= from) && self.to.is_none_or(|to| time_ns < to)
    }
}

fn fits(pattern: Option<&String>, text: &str) -> bool {
    pattern.is_none_or(|pattern| matches_wildcard(pattern, text))
}

fn has_machine(entry: &FileEntry, pattern: &str) -> bool {
    if !entry.machines.is_empty() {
        return entry
            .machines
            .iter()
            .any(|machine| matches_wildcard(pattern, machine));
    }
    // Of very many machines a file names only the first and the last.
    pattern.contains(['*', '?']) || (&*entry.machine.0..=&*entry.machine.1).contains(&pattern)
}

/// For each row the first of these that it belongs to.
pub fn owners(scopes: &[&DeleteScope], batch: &RecordBatch) -> Vec<Option<u16>> {
    let words = |name: &str| batch[name].as_dictionary::<Int32Type>();
    let (machines, sources) = (words(column::MACHINE_ID), words(column::SOURCE));
    let times = batch[column::TIME]
        .as_primitive::<TimestampNanosecondType>()
        .values();
    let mut owners = vec![None; batch.num_rows()];
    for (scope, number) in scopes.iter().zip(0u16..) {
        // Each word once, not each row.
        let tested = |column: &arrow::array::DictionaryArray<Int32Type>, pattern: Option<&String>| {
            let words = column.values().as_string::<i32>();
            words
                .iter()
                .map(|word| fits(pattern, word.unwrap_or_default()))
                .collect::<Vec<bool>>()
        };
        let of_machine = tested(machines, scope.machine.as_ref());
        let of_source = tested(sources, scope.source.as_ref());
        let is = |tested: &[bool], key: Option<usize>| key.is_some_and(|key| tested[key]);
        for (row, owner) in owners.iter_mut().enumerate().filter(|(_, owner)| owner.is_none()) {
            let hit = is(&of_machine, machines.key(row))
                && is(&of_source, sources.key(row))
                && scope.has_time(times[row]);
            if hit {
                *owner = Some(number);
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Table;

    fn scope(machine: Option<&str>, times: (Option<i64>, Option<i64>)) -> DeleteScope {
        DeleteScope {
            machine: machine.map(str::to_owned),
            source: None,
            from: times.0,
            to: times.1,
        }
    }

    fn entry(machines: &[&str], names_all: bool) -> FileEntry {
        let all: Vec<String> = machines.iter().map(|name| (*name).to_owned()).collect();
        FileEntry {
            name: String::new(),
            table: Table::Logs,
            day: 0,
            rows: 1,
            bytes: 1,
            crc32c: None,
            time: (100, 200),
            received: (100, 200),
            machine: (all[0].clone(), all[all.len() - 1].clone()),
            machines: if names_all { all } else { Vec::new() },
            order: 0,
        }
    }

    #[test]
    fn a_file_is_passed_over_only_where_it_can_hold_nothing() {
        let check = |scope: &DeleteScope, machines: &[&str], expected: [bool; 2]| {
            let found = [true, false].map(|names_all| scope.may_match(&entry(machines, names_all)));
            assert_eq!(found, expected, "{scope:?} {machines:?}");
        };
        let always = (None, None);
        check(&scope(Some("b"), always), &["a", "c"], [false, true]);
        check(&scope(Some("a"), always), &["a", "c"], [true, true]);
        check(&scope(Some("d"), always), &["a", "c"], [false, false]);
        check(&scope(Some("x*"), always), &["a", "c"], [false, true]);
        check(&scope(None, (Some(200), None)), &["a"], [true, true]);
        check(&scope(None, (Some(201), None)), &["a"], [false, false]);
        check(&scope(None, (None, Some(100))), &["a"], [false, false]);
        check(&scope(None, (None, Some(101))), &["a"], [true, true]);
    }

    #[test]
    fn a_scope_says_whose_rows_and_when() {
        scope(Some("m"), (Some(1), Some(2))).check().unwrap();
        for bad in [
            scope(None, (Some(1), Some(2))),
            scope(Some(""), (None, None)),
            scope(Some(&"m".repeat(5000)), (None, None)),
            scope(Some("m"), (Some(2), Some(2))),
        ] {
            bad.check().unwrap_err();
        }
    }
}

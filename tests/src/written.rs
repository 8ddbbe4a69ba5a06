//! What was written, kept outside the faulted processes, and the one question that compares the store with it.
//!
//! A line is `run file seq crc text`. Its `crc` is told by what stands before it and its `text` by both, so that a
//! query can check every byte of every row, and sums tell whether exactly the lines that were written are there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::stack::Stack;

/// Digits of a line's number and of its CRC.
const DIGITS: usize = 10;
/// The text is the number and a hyphen, repeated at least so often ...
const TEXT_REPEATS_MIN: u32 = 2;
/// ... and at most so many times more.
const TEXT_REPEATS_MORE: u32 = 14;
/// Labels named in a difference.
const LABELS_MAX: usize = 8;

/// Lines of one label. A label is a file, or the part of one that an oracle wants to tell apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Label {
    /// Lines `0..next` were written.
    next: u64,
    /// Sum of their CRCs.
    crc_sum: u64,
    /// In how many files each of them stands.
    copies: u64,
}

/// Every line of a run.
#[derive(Debug, Clone, Default)]
pub struct Written {
    run: String,
    labels: BTreeMap<String, Label>,
}

/// What the store holds besides exactly what was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Lines that are nowhere.
    pub lost: u64,
    /// Rows too many of lines that are there.
    pub duplicated: u64,
    /// Rows that nobody wrote, that are not as written, or that are out of order.
    pub unexplained: u64,
    /// The first labels that differ, for people.
    pub labels: Vec<String>,
}

impl Difference {
    /// Nothing.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.lost + self.duplicated + self.unexplained == 0
    }

    fn label(&mut self, name: &str, label: Label, values: &[u64]) {
        let before = (self.lost, self.duplicated, self.unexplained);
        label.compare(values, self);
        if before != (self.lost, self.duplicated, self.unexplained) && self.labels.len() < LABELS_MAX {
            self.labels
                .push(format!("{name}: {} lines were written; {values:?}", label.next));
        }
    }
}

impl Written {
    /// Nothing yet. `run` is a word of letters and digits that no other run has.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            labels: BTreeMap::new(),
        }
    }

    /// The next `count` lines of a label, each with its line feed. From here on they count as written.
    pub fn next_lines(&mut self, label: &str, count: u64) -> String {
        self.next_copied_lines(label, count, 1)
    }

    /// The same, for lines that are to stand in so many files.
    pub fn next_copied_lines(&mut self, label: &str, count: u64, copies: u64) -> String {
        let run = &self.run;
        let known = self.labels.entry(label.to_owned()).or_default();
        known.copies = copies;
        let mut text = String::new();
        for seq in known.next..known.next + count {
            let crc = push_line(&mut text, run, label, seq);
            known.crc_sum += u64::from(crc);
        }
        known.next += count;
        text
    }

    /// Appends the next `count` lines of a label to a file, in one write.
    ///
    /// # Panics
    /// When the file can't be written.
    pub fn append(&mut self, path: &Path, label: &str, count: u64) {
        let text = self.next_lines(label, count);
        append(path, text.as_bytes());
    }

    /// Rows that there must be.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.labels
            .values()
            .map(|label| label.next * label.copies.max(1))
            .sum()
    }

    /// Of the same run, with nothing written: for another thread, with labels of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(&self.run)
    }

    /// Adds what another thread wrote under other labels.
    pub fn absorb(&mut self, other: Self) {
        self.labels.extend(other.labels);
    }

    /// Rows of this run in the store.
    ///
    /// # Errors
    /// What the collector answers.
    pub fn rows_stored(&self, stack: &Stack) -> Result<u64, String> {
        let query = format!("SELECT count(*) FROM logs WHERE body LIKE '{} %'", self.run);
        number(&stack.sql(&query)?[0][0])
    }

    /// Compares every row of the store with what was written. Rows of no run at all count as unexplained, but for
    /// `others` that are expected.
    ///
    /// # Errors
    /// What the collector answers.
    pub fn compare(&self, stack: &Stack, others: u64) -> Result<Difference, String> {
        let rows = stack.sql(&self.query())?;
        let foreign = format!("SELECT count(*) FROM logs WHERE body NOT LIKE '{} %'", self.run);
        let foreign = number(&stack.sql(&foreign)?[0][0])?;
        let mut difference = Difference {
            unexplained: foreign.abs_diff(others),
            ..Difference::default()
        };
        let mut found = BTreeMap::new();
        for row in &rows {
            let name = row[0].as_str().ok_or_else(|| format!("no label: {row:?}"))?;
            let values: Result<Vec<u64>, String> = row[1..].iter().map(number).collect();
            found.insert(name, values?);
        }
        for (name, label) in &self.labels {
            match found.remove(name.as_str()) {
                Some(values) => difference.label(name, *label, &values),
                None => difference.label(name, *label, &[0; 6]),
            }
        }
        difference.unexplained += found.values().map(|values| values[0]).sum::<u64>();
        Ok(difference)
    }

    /// By label: rows, distinct numbers, numbers that were never written, sum of distinct CRCs, rows that are wrong or
    /// out of order.
    fn query(&self) -> String {
        let run = &self.run;
        let head = run.len() + 3 + 2 * DIGITS + 1;
        format!(
            "WITH parts AS (
               SELECT body, stream_id, position, split_part(body, ' ', 2) AS label,
                      split_part(body, ' ', 3) AS digits, split_part(body, ' ', 5) AS text,
                      TRY_CAST(split_part(body, ' ', 3) AS BIGINT) AS seq,
                      TRY_CAST(split_part(body, ' ', 4) AS BIGINT) AS crc
               FROM logs WHERE body LIKE '{run} %'),
             checked AS (
               SELECT stream_id, position, label, seq, crc,
                      CASE WHEN seq IS NOT NULL AND crc IS NOT NULL
                            AND replace(text, concat(digits, '-'), '') = '' AND length(digits) = {DIGITS}
                            AND length(text) = ({DIGITS} + 1) * ({TEXT_REPEATS_MIN} + crc % {TEXT_REPEATS_MORE})
                            AND length(body) = {head} + length(label) + length(text) THEN 0 ELSE 1 END AS wrong
               FROM parts),
             ordered AS (
               SELECT *, lag(seq) OVER (PARTITION BY stream_id, label ORDER BY position) AS before FROM checked)
             SELECT label, count(*), count(DISTINCT seq), coalesce(max(seq), -1) + 1,
                    coalesce(sum(crc), 0), sum(wrong), sum(CASE WHEN before >= seq THEN 1 ELSE 0 END)
             FROM ordered GROUP BY label LIMIT 10000"
        )
    }
}

impl Label {
    fn compare(self, values: &[u64], difference: &mut Difference) {
        let &[rows, distinct, end, crc_sum, wrong, out_of_order] = values else {
            difference.unexplained += self.next;
            return;
        };
        let copies = self.copies.max(1);
        difference.lost += self.next.saturating_sub(distinct);
        difference.duplicated += rows.saturating_sub(distinct * copies);
        // Fewer rows than copies of what is there: one of the files lacks it.
        difference.lost += (distinct * copies).saturating_sub(rows);
        difference.unexplained += end.saturating_sub(self.next) + wrong + out_of_order;
        let exact = rows == self.next * copies && distinct == self.next;
        if exact && crc_sum != self.crc_sum * copies {
            difference.unexplained += 1;
        }
    }
}

fn push_line(text: &mut String, run: &str, label: &str, seq: u64) -> u32 {
    let start = text.len();
    let _ = write!(text, "{run} {label} {seq:0DIGITS$}");
    let crc = crc32c::crc32c(&text.as_bytes()[start..]);
    let _ = write!(text, " {crc:0DIGITS$} ");
    for _ in 0..TEXT_REPEATS_MIN + crc % TEXT_REPEATS_MORE {
        let _ = write!(text, "{seq:0DIGITS$}-");
    }
    text.push('\n');
    crc
}

fn number(value: &Value) -> Result<u64, String> {
    value
        .as_u64()
        .ok_or_else(|| format!("not a number of things: {value}"))
}

/// Appends to a file, which is made when it is not there, in one write.
///
/// # Panics
/// When the file can't be written.
pub fn append(path: &Path, bytes: &[u8]) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("a log file can be opened");
    file.write_all(bytes).expect("a log file can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, distinct numbers, behind the greatest, sum of CRCs, wrong, out of order.
    fn check(values: [u64; 6], lost: u64, duplicated: u64, unexplained: u64) {
        let label = Label {
            next: 10,
            crc_sum: 77,
            copies: 1,
        };
        let mut difference = Difference::default();
        label.compare(&values, &mut difference);
        let expected = Difference {
            lost,
            duplicated,
            unexplained,
            labels: Vec::new(),
        };
        assert_eq!(difference, expected, "{values:?}");
    }

    #[test]
    fn what_is_missing_twice_wrong_or_changed_is_told_apart() {
        check([10, 10, 10, 77, 0, 0], 0, 0, 0);
        check([9, 9, 10, 70, 0, 0], 1, 0, 0);
        check([12, 10, 10, 90, 0, 0], 0, 2, 0);
        check([10, 10, 12, 77, 0, 0], 0, 0, 2);
        check([10, 10, 10, 77, 3, 0], 0, 0, 3);
        check([10, 10, 10, 77, 0, 1], 0, 0, 1);
        check([10, 10, 10, 78, 0, 0], 0, 0, 1);
    }

    #[test]
    fn a_line_is_told_by_run_label_and_number() {
        let mut written = Written::new("run");
        let text = written.next_lines("a.log", 2);
        assert_eq!(written.rows(), 2);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("run a.log 0000000001 "), "{text}");
        let fields: Vec<&str> = lines[1].split(' ').collect();
        let crc: u32 = fields[3].parse().unwrap();
        assert_eq!(crc, crc32c::crc32c(b"run a.log 0000000001"));
        assert_eq!(fields[4].len(), 11 * (2 + crc as usize % 14));
    }
}

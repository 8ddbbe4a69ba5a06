//! Rows as a table for people, and as CSV.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use crate::text::harmless;

/// Widest column of a table, in characters; what is longer is cut and ends in "…".
const CELL_CHARS_MAX: usize = 120;

/// A table; columns as wide as their widest cell.
pub(super) fn draw(columns: &[String], rows: &[Vec<Value>]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let names: Vec<String> = columns.iter().map(|name| cut(&harmless(name))).collect();
    let width = |index: usize| {
        let in_rows = cells
            .iter()
            .filter_map(|row| row.get(index))
            .map(|cell| cell.chars().count());
        in_rows.chain([names[index].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let is_number =
        |index: usize| !rows.is_empty() && rows.iter().all(|row| row.get(index).is_some_and(is_numeric));
    let right: Vec<bool> = (0..names.len()).map(is_number).collect();
    let mut out = String::new();
    line(&mut out, &names, &widths, &right);
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    line(&mut out, &dashes, &widths, &right);
    cells.iter().for_each(|row| line(&mut out, row, &widths, &right));
    out
}

fn is_numeric(value: &Value) -> bool {
    value.is_number() || value.is_null()
}

fn line(out: &mut String, cells: &[String], widths: &[usize], right: &[bool]) {
    let mut text = String::new();
    for ((cell, width), right) in cells.iter().zip(widths).zip(right) {
        let _ = if *right {
            write!(text, "{cell:>width$}  ")
        } else {
            write!(text, "{cell:<width$}  ")
        };
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

fn cell(value: &Value) -> String {
    cut(&harmless(&plain(value)))
}

fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// CSV (RFC 4180, lines end in LF). A text that a spreadsheet would take for a formula gets an apostrophe before it.
pub(super) fn csv(columns: &[String], rows: &[Vec<Value>]) -> String {
    let mut out = String::new();
    let names: Vec<Value> = columns.iter().map(|name| Value::from(name.as_str())).collect();
    for row in std::iter::once(&names).chain(rows) {
        let fields: Vec<String> = row.iter().map(csv_field).collect();
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

fn csv_field(value: &Value) -> String {
    let text = plain(value);
    let is_formula = value.is_string() && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula {
        Cow::Owned(format!("'{text}"))
    } else {
        text
    };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows() -> Vec<Vec<Value>> {
        vec![
            vec![json!("a"), json!(1)],
            vec![json!("long\u{1b}"), json!(null)],
            vec![json!("=1,\"2\""), json!(100)],
        ]
    }

    #[test]
    fn a_table_has_aligned_columns_and_no_control_characters() {
        let table = draw(&["name".into(), "n".into()], &rows());
        assert_eq!(
            table,
            "name        n\n--------  ---\na           1\nlong\\x1b\n=1,\"2\"    100\n"
        );
    }

    #[test]
    fn csv_is_quoted_and_holds_no_formula() {
        assert_eq!(
            csv(&["name".into(), "n".into()], &rows()),
            "name,n\na,1\nlong\u{1b},\n\"'=1,\"\"2\"\"\",100\n"
        );
    }
}

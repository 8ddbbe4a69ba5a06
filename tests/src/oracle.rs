//! Lines that are known before they are written: `run seq crc text`. What is in the store afterwards is compared with
//! what was written, by count, by difference and by order.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::stack::Stack;
use crate::wait_for;

/// Lines written at once.
const LINES_PER_WRITE: u64 = 500;

/// Writes lines `from..to` of a run behind a file's end. `written` is told the next line after each write.
///
/// # Panics
/// When the file can't be written.
pub fn write_lines(path: &Path, run: &str, from: u64, to: u64, mut written: impl FnMut(u64)) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("a log file can be opened");
    let mut next = from;
    while next < to {
        let until = (next + LINES_PER_WRITE).min(to);
        let text: String = (next..until).map(|seq| line(run, seq) + "\n").collect();
        file.write_all(text.as_bytes())
            .expect("a log file can be written");
        next = until;
        written(next);
    }
}

/// One line. Its length varies; its text is told by run and number alone.
#[must_use]
pub fn line(run: &str, seq: u64) -> String {
    let mut text = format!("{run} {seq:010} ");
    let crc = crc32c::crc32c(text.as_bytes());
    let _ = write!(text, "{crc:08x} {}", "x".repeat(20 + (crc % 160) as usize));
    text
}

/// What the store holds of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Rows.
    pub rows: i64,
    /// Different bodies among them.
    pub distinct: i64,
    /// Sum of the line numbers.
    pub sum: i64,
    /// Rows whose line number is not above that of the row before them in (stream, position).
    pub out_of_order: i64,
}

/// Asks the store.
///
/// # Errors
/// What the collector answers.
pub fn stored(stack: &Stack, run: &str) -> Result<Stored, String> {
    let number = format!("CAST(substr(body, {}, 10) AS BIGINT)", run.len() + 2);
    let query = format!(
        "WITH lines AS (
             SELECT body, {number} AS seq,
                    lag({number}) OVER (PARTITION BY stream_id ORDER BY position) AS before
             FROM logs WHERE body LIKE '{run} %')
         SELECT count(*), count(DISTINCT body), coalesce(sum(seq), 0),
                coalesce(sum(CASE WHEN before >= seq THEN 1 ELSE 0 END), 0) FROM lines"
    );
    let rows = stack.sql(&query)?;
    let number = |column: usize| {
        rows[0][column]
            .as_i64()
            .ok_or_else(|| format!("not a number: {rows:?}"))
    };
    Ok(Stored {
        rows: number(0)?,
        distinct: number(1)?,
        sum: number(2)?,
        out_of_order: number(3)?,
    })
}

/// Exactly the lines `0..count` of a run are stored, none missing, none twice, in order.
///
/// # Panics
/// When that is not so in time.
pub fn expect_exactly(stack: &Stack, run: &str, count: i64) {
    let expected = Stored {
        rows: count,
        distinct: count,
        sum: count * (count - 1) / 2,
        out_of_order: 0,
    };
    let found = wait_for(&format!("{count} lines of {run} are stored"), || {
        let rows = stack.sql(&format!("SELECT count(*) FROM logs WHERE body LIKE '{run} %'"))?;
        match rows[0][0].as_i64() {
            Some(rows) if rows >= count => stored(stack, run),
            _ => Err(format!("{rows:?}\n{}", stack.said())),
        }
    });
    assert_eq!(found, expected, "{}", stack.said());
}

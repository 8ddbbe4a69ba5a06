//! A page of a large store lies at one end of it: it is looked for in windows of time from there, the next sixteen times
//! as long as all before it, until it is full. Windows share no rows, so a page that is hard to fill costs a few plans more
//! and reads nothing twice, pages of Parquet at their edges aside.

use edgelogger_common::wildcard::matches_wildcard;

use super::{LogQuery, Order};
use crate::manifest::FileEntry;
use crate::schema::Table;
use crate::snapshot::Snapshot;

/// Fewer rows are read at once. In tests nearly none, so that every test of pages is one of windows.
const ROWS_MIN: u64 = if cfg!(test) { 2 } else { 50_000 };
/// Rows that the first window should have, for each that is wanted.
const ROWS_PER_WANTED: u64 = if cfg!(test) { 1 } else { 4 };
const GROWTH: i128 = 16;

/// From (inclusive) and to (exclusive), ns; none: no bound of its own.
pub type Window = (Option<i64>, Option<i64>);

/// In the order in which they are to be read. The last is open at its far end, and the first at its near one.
pub fn windows(snapshot: &Snapshot, query: &LogQuery, cursor_ns: Option<i64>, wanted: usize) -> Vec<Window> {
    let files: Vec<(&FileEntry, u64)> = snapshot
        .files(Table::Logs)
        .map(|file| (&file.entry, rows_of(&file.entry, query.machine.as_deref())))
        .filter(|(_, rows)| *rows > 0)
        .collect();
    let from = files.iter().map(|(entry, _)| entry.time.0).min().unwrap_or(0);
    let to = files.iter().map(|(entry, _)| entry.time.1).max().unwrap_or(0);
    let (mut from, mut to) = (
        query.from.unwrap_or(from).max(from),
        query.to.unwrap_or(to).min(to),
    );
    match query.order {
        Order::NewestFirst => to = to.min(cursor_ns.unwrap_or(to)),
        Order::OldestFirst => from = from.max(cursor_ns.unwrap_or(from)),
    }
    let rows: u64 = files
        .iter()
        .map(|(entry, rows)| share(*rows, entry.time, (from, to)))
        .sum();
    let edges = if rows < ROWS_MIN {
        Vec::new()
    } else {
        distances(i128::from(to) - i128::from(from), rows, wanted)
    };
    let edge = |distance: i128| {
        let at = match query.order {
            Order::NewestFirst => i128::from(to) - distance,
            Order::OldestFirst => i128::from(from) + distance,
        };
        i64::try_from(at).ok()
    };
    let edges = edges.into_iter().filter_map(edge).map(Some);
    let starts = std::iter::once(None).chain(edges.clone());
    let between = starts.zip(edges.chain([None]));
    match query.order {
        Order::NewestFirst => between.map(|(near, far)| (far, near)).collect(),
        Order::OldestFirst => between.collect(),
    }
}

/// How far the windows reach, all but the last.
fn distances(span: i128, rows: u64, wanted: usize) -> Vec<i128> {
    let wanted = i128::try_from(wanted).unwrap_or(i128::MAX);
    let first = span.saturating_mul(wanted.saturating_mul(ROWS_PER_WANTED.into())) / i128::from(rows.max(1));
    let next = |reach: &i128| Some(reach.saturating_mul(GROWTH));
    std::iter::successors(Some(first.max(1)), next)
        .take_while(|reach| reach.saturating_mul(2) < span)
        .collect()
}

/// Rows of the machines that are meant, as if all machines of a file had as many.
fn rows_of(entry: &FileEntry, machine: Option<&str>) -> u64 {
    let Some(machine) = machine else { return entry.rows };
    if entry.machines.is_empty() {
        return entry.rows;
    }
    let meant = entry
        .machines
        .iter()
        .filter(|named| matches_wildcard(machine, named))
        .count();
    entry.rows * meant as u64 / entry.machines.len() as u64
}

/// As if they were spread evenly over their time.
fn share(rows: u64, time: (i64, i64), within: (i64, i64)) -> u64 {
    let length = |from: i64, to: i64| (i128::from(to) - i128::from(from)).max(0).cast_unsigned();
    let of = length(time.0, time.1).max(1);
    let part = length(time.0.max(within.0), time.1.min(within.1));
    u64::try_from(u128::from(rows).saturating_mul(part) / of).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_until_one_has_half_of_the_time() {
        let day = 86_400_000_000_000;
        assert_eq!(distances(day, 4_000, 2_000), [], "most is wanted");
        let first = day * 100 * i128::from(ROWS_PER_WANTED) / 10_000_000;
        let reaches = distances(day, 10_000_000, 100);
        assert_eq!(reaches[..3], [first, first * 16, first * 256]);
        assert!(
            reaches
                .last()
                .is_some_and(|last| (day / 32..day / 2).contains(last))
        );
        assert_eq!(distances(0, 1, 1), []);
        assert!(distances(i128::MAX, u64::MAX, usize::MAX).len() < 32);
    }

    #[test]
    fn rows_of_a_part_of_the_time() {
        assert_eq!(share(100, (0, 1000), (250, 500)), 25);
        assert_eq!(share(100, (0, 1000), (-500, 2000)), 100);
        assert_eq!(share(100, (0, 1000), (2000, 3000)), 0);
        assert_eq!(
            share(u64::MAX, (i64::MIN, i64::MAX), (i64::MIN, i64::MAX)),
            u64::MAX
        );
    }
}

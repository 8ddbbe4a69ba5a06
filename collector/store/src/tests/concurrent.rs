//! Queries while entries come in and files are written: every snapshot holds each row exactly once.

use std::sync::atomic::{AtomicBool, Ordering};

use super::common::{blocks_entry, lines, sql_texts, store, stream_id};

const ENTRIES: u64 = 400;
const LINES: u64 = 20;

#[test]
fn every_query_sees_a_prefix_of_the_log_and_no_row_twice() {
    let store = store();
    let (done, store) = (AtomicBool::new(false), &*store);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for sequence in 0..ENTRIES {
                let text = "0123456789abcde\n".repeat(usize::try_from(LINES).unwrap());
                let block = lines(stream_id(1), sequence * LINES * 16, text.as_bytes());
                store.apply(sequence, &blocks_entry("m1", &[block])).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                store.flush().unwrap();
            }
        });
        let mut before = 0;
        loop {
            let is_last = done.load(Ordering::Acquire);
            let query = "SELECT count(*), count(DISTINCT position), coalesce(max(position), -16) FROM logs";
            let row = sql_texts(store, query).remove(0);
            let numbers: Vec<i64> = row.split('|').map(|number| number.parse().unwrap()).collect();
            let rows = u64::try_from(numbers[0]).unwrap();
            // A prefix: as many rows as the last position says, whole entries, never fewer than before.
            assert_eq!(numbers, [numbers[0], numbers[0], (numbers[0] - 1) * 16]);
            assert!(
                rows >= before && rows.is_multiple_of(LINES),
                "{rows} rows after {before}"
            );
            before = rows;
            if is_last {
                break;
            }
        }
        assert_eq!(before, ENTRIES * LINES);
    });
}

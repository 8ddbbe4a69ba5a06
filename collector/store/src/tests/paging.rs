//! Pages of log records, also while rows come in and move to files.

use std::collections::BTreeSet;
use std::sync::Arc;

use edgelogger_common::block::{Block, LogBlockBuilder, LogRow};
use proptest::prelude::*;

use super::common::{NOW, SECOND, block_on, blocks_entry, store, stream_id, texts};
use crate::{EmbeddedStore, LogQuery, Order, QueryError, Store};

fn block(stream: u8, start: u64, times: &[i64]) -> Block {
    let mut builder = LogBlockBuilder::new(stream_id(stream), true, start);
    for (time, number) in times.iter().zip(start..) {
        builder.push(LogRow {
            event_time: Some(*time),
            observed_time: NOW,
            severity: Some(u8::try_from(number % 24).unwrap() + 1),
            body: format!("s{stream} n{number} 100% Ünder_score").into_bytes(),
            source_len: 1,
            ..LogRow::default()
        });
    }
    builder.finish().unwrap()
}

fn apply(store: &EmbeddedStore, machine: &str, block: Block) {
    store
        .apply(store.cursor(), &blocks_entry(machine, &[block]))
        .unwrap();
}

/// (time, stream, position) of each row.
fn page(store: &EmbeddedStore, query: LogQuery) -> (Vec<String>, Option<String>) {
    let page = block_on(store.logs(query)).unwrap().answer;
    let keys = page.rows.project(&[0, 6, 7]).unwrap();
    (texts(&[keys]), page.next_cursor)
}

#[test]
fn pages_hold_every_record_once_in_both_orders_while_more_come_in() {
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let store = store();
        // Many records share a time, across streams, in memory and in files.
        let times: Vec<i64> = (0..40).map(|n| NOW + n / 8 * SECOND).collect();
        apply(&store, "m1", block(1, 0, &times));
        store.flush().unwrap();
        apply(&store, "m2", block(2, 0, &times));
        let mut before: BTreeSet<String> = page(
            &store,
            LogQuery {
                limit: 1000,
                ..LogQuery::default()
            },
        )
        .0
        .into_iter()
        .collect();
        assert_eq!(before.len(), 80);
        let (mut seen, mut cursor, mut round) = (Vec::new(), None, 0u64);
        loop {
            let (rows, next) = page(
                &store,
                LogQuery {
                    limit: 7,
                    order,
                    cursor,
                    ..LogQuery::default()
                },
            );
            seen.extend(rows);
            cursor = next;
            if cursor.is_none() {
                break;
            }
            // New records at every time, before and behind the cursor; and a flush now and then.
            apply(
                &store,
                "m3",
                block(
                    3,
                    round * 5,
                    &[
                        NOW,
                        NOW + SECOND,
                        NOW + 2 * SECOND,
                        NOW + 3 * SECOND,
                        NOW + 4 * SECOND,
                    ],
                ),
            );
            if round.is_multiple_of(3) {
                store.flush().unwrap();
            }
            round += 1;
        }
        let mut sorted = seen.clone();
        sorted.sort_by_key(|row| {
            let cells: Vec<_> = row.split('|').collect();
            (
                cells[0].to_owned(),
                cells[1].to_owned(),
                cells[2].parse::<i64>().unwrap(),
            )
        });
        if order == Order::NewestFirst {
            sorted.reverse();
        }
        assert_eq!(seen, sorted, "{order:?}");
        let distinct: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "no record twice, {order:?}");
        before.retain(|row| !distinct.contains(row));
        assert!(before.is_empty(), "{order:?}: {before:?}");
    }
}

fn count(store: &EmbeddedStore, query: LogQuery) -> usize {
    page(store, LogQuery { limit: 1000, ..query }).0.len()
}

#[test]
fn every_condition_selects_in_memory_and_in_files() {
    let store = store();
    let times: Vec<i64> = (0..24).map(|n| NOW + n * SECOND).collect();
    apply(&store, "web-1", block(1, 0, &times));
    apply(&store, "db-1", block(2, 0, &times));
    for _ in 0..2 {
        let all = LogQuery::default;
        let check =
            |query: LogQuery, expected| assert_eq!(count(&store, query.clone()), expected, "{query:?}");
        let text = |text: &str| Some(text.to_owned());
        check(all(), 48);
        check(
            LogQuery {
                from: Some(NOW + 2 * SECOND),
                to: Some(NOW + 4 * SECOND),
                ..all()
            },
            4,
        );
        check(
            LogQuery {
                machine: text("web-1"),
                ..all()
            },
            24,
        );
        check(
            LogQuery {
                machine: text("w?b-*"),
                ..all()
            },
            24,
        );
        check(
            LogQuery {
                machine: text("web_1"),
                ..all()
            },
            0,
        );
        check(
            LogQuery {
                machine: text("%"),
                ..all()
            },
            0,
        );
        check(
            LogQuery {
                machine: text("%*"),
                ..all()
            },
            0,
        );
        check(
            LogQuery {
                source: text("/var/log/2*"),
                ..all()
            },
            24,
        );
        check(
            LogQuery {
                severity_min: Some(20),
                ..all()
            },
            10,
        );
        check(
            LogQuery {
                substring: text("s1 n7 "),
                ..all()
            },
            1,
        );
        check(
            LogQuery {
                substring: text("100%"),
                ..all()
            },
            48,
        );
        check(
            LogQuery {
                substring: text("100_"),
                ..all()
            },
            0,
        );
        check(
            LogQuery {
                substring: text("100% ü"),
                ..all()
            },
            0,
        );
        check(
            LogQuery {
                substring: text("100% ü"),
                case_insensitive: true,
                ..all()
            },
            48,
        );
        check(
            LogQuery {
                substring: text("R_SC"),
                case_insensitive: true,
                ..all()
            },
            48,
        );
        check(
            LogQuery {
                substring: text("0%%Ü"),
                case_insensitive: true,
                ..all()
            },
            0,
        );
        check(
            LogQuery {
                substring: text("'; DROP TABLE logs --"),
                ..all()
            },
            0,
        );
        check(
            LogQuery {
                from: Some(i64::MIN),
                to: Some(i64::MAX),
                ..all()
            },
            48,
        );
        store.flush().unwrap();
    }
}

#[test]
fn a_cursor_that_is_none_is_an_error() {
    let store = store();
    for cursor in ["", "0", "zz", &"1".repeat(66), "10'; DROP", &"9".repeat(100)] {
        let query = LogQuery {
            cursor: Some(cursor.to_owned()),
            ..LogQuery::default()
        };
        assert!(
            matches!(block_on(store.logs(query)), Err(QueryError::BadCursor)),
            "{cursor}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn pages_of_any_size_are_the_sorted_rows(
        blocks in proptest::collection::vec((1u8..4, proptest::collection::vec(0i64..6, 1..20), any::<bool>()), 1..6),
        limit in 1usize..9,
        newest: bool,
    ) {
        let store = store();
        let mut starts = [0u64; 4];
        let mut expected = Vec::new();
        for (stream, times, flush) in blocks {
            let start = starts[usize::from(stream)];
            starts[usize::from(stream)] += times.len() as u64;
            expected.extend(times.iter().zip(start..).map(|(time, position)| (*time, stream, position)));
            let times: Vec<i64> = times.iter().map(|time| NOW + time * SECOND).collect();
            apply(&store, "m", block(stream, start, &times));
            if flush {
                store.flush().unwrap();
            }
        }
        expected.sort_unstable();
        let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
        if newest {
            expected.reverse();
        }
        let expected: Vec<String> = expected
            .into_iter()
            .map(|(time, stream, position)| format!("2026-11-21T12:00:0{time}Z|{}|{position}", stream_id(stream)))
            .collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let (rows, next) = page(&store, LogQuery { limit, order, cursor, ..LogQuery::default() });
            prop_assert!(rows.len() == limit || next.is_none());
            seen.extend(rows);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        prop_assert_eq!(seen, expected);
        drop(Arc::clone(&store));
    }
}

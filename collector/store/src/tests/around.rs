//! The records around those of a page, in memory and in files, against what a list of all records says.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type};
use arrow::record_batch::RecordBatch;
use edgelogger_common::block::{Block, LogBlockBuilder, LogRow};
use proptest::prelude::*;

use super::common::{NOW, SECOND, block_on, blocks_entry, store, stream_id};
use crate::query::AROUND_ROWS_MAX;
use crate::{Around, EmbeddedStore, LogQuery, Order, QueryError, Store};

/// Records of one stream: where they begin, how long they are, and whether they match.
type Records = Vec<(u64, u32, bool)>;

fn block(stream: u8, records: &[(u64, u32, bool)]) -> Block {
    let mut builder = LogBlockBuilder::new(stream_id(stream), true, records[0].0);
    for (position, length, is_match) in records {
        let word = if *is_match { "hit" } else { "miss" };
        builder.push(LogRow {
            // Streams lie between one another in time, and within one time goes on.
            event_time: Some(NOW + i64::try_from(*position).unwrap() * SECOND),
            observed_time: NOW,
            body: format!("{word} {position}").into_bytes(),
            source_len: u64::from(*length),
            ..LogRow::default()
        });
    }
    builder.finish().unwrap()
}

/// (stream, position, match, group) of each row.
type Shown = Vec<(u8, i64, bool, u32)>;

fn shown(rows: &RecordBatch) -> Shown {
    if rows.num_rows() == 0 {
        return Shown::new();
    }
    let streams = rows["stream_id"].as_any_dictionary();
    let names = streams.values().as_string::<i32>();
    let keys = streams.normalized_keys();
    let positions = rows["position"].as_primitive::<Int64Type>();
    let (matches, groups) = (
        rows["match"].as_boolean(),
        rows["group"].as_primitive::<UInt32Type>(),
    );
    let row = |row: usize| {
        let stream = u8::from_str_radix(&names.value(keys[row])[..2], 16).unwrap();
        (
            stream,
            positions.value(row),
            matches.value(row),
            groups.value(row),
        )
    };
    (0..rows.num_rows()).map(row).collect()
}

fn query(order: Order, before: usize, after: usize) -> LogQuery {
    LogQuery {
        substring: Some("hit".into()),
        order,
        limit: 1_000,
        around: Some(Around { before, after }),
        ..LogQuery::default()
    }
}

fn ask(store: &EmbeddedStore, query: LogQuery) -> Shown {
    let page = block_on(store.logs(query)).unwrap().answer;
    shown(&page.around.unwrap())
}

/// Number of its first match, stream, records.
type Run<'a> = (u64, u8, Vec<&'a (u64, u32, bool)>);

/// The same from a list: runs of each stream, ordered by their first matches.
fn expected(streams: &[(u8, Records)], order: Order, before: usize, after: usize) -> Shown {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (stream, records) in streams {
        let near = |index: usize| {
            let last = (index + before).min(records.len() - 1);
            records[index.saturating_sub(after)..=last]
                .iter()
                .any(|record| record.2)
        };
        let chosen: Vec<bool> = (0..records.len()).map(near).collect();
        for (index, record) in records.iter().enumerate().filter(|(index, _)| chosen[*index]) {
            if index == 0 || !chosen[index - 1] {
                runs.push((0, *stream, Vec::new()));
            }
            runs.last_mut().unwrap().2.push(record);
        }
    }
    for (first, _, records) in &mut runs {
        let mut matches = records.iter().filter(|record| record.2).map(|record| record.0);
        *first = match order {
            Order::OldestFirst => matches.next().unwrap(),
            Order::NewestFirst => matches.next_back().unwrap(),
        };
    }
    runs.sort_by_key(|(first, stream, _)| (*first, *stream));
    if order == Order::NewestFirst {
        runs.reverse();
    }
    let rows = (0u32..).zip(runs).flat_map(|(group, (_, stream, records))| {
        records
            .into_iter()
            .map(move |(position, _, is_match)| (stream, i64::try_from(*position).unwrap(), *is_match, group))
    });
    rows.collect()
}

fn records() -> impl Strategy<Value = Records> {
    // Mostly short, some long, so that the first reach is sometimes not enough; and positions that nobody has.
    let length = prop_oneof![4 => 1u32..4, 1 => Just(120u32)];
    let gap = prop_oneof![5 => Just(0u64), 1 => 1u64..200];
    prop::collection::vec((length, gap, prop::bool::weighted(0.2)), 1..40).prop_map(|records| {
        let mut position = 0;
        let place = |(length, gap, is_match): (u32, u64, bool)| {
            position += gap;
            let record = (position, length, is_match);
            position += u64::from(length);
            record
        };
        records.into_iter().map(place).collect()
    })
}

fn apply(store: &EmbeddedStore, stream: u8, records: &[(u64, u32, bool)]) {
    if !records.is_empty() {
        let entry = blocks_entry(&format!("m{}", stream % 2), &[block(stream, records)]);
        store.apply(store.cursor(), &entry).unwrap();
    }
}

/// Without gaps, as a block has them: cut where one is.
fn blocks(records: &[(u64, u32, bool)]) -> Vec<&[(u64, u32, bool)]> {
    records
        .chunk_by(|left, right| left.0 + u64::from(left.1) == right.0)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn runs_are_what_a_list_of_all_records_says(
        streams in prop::collection::vec(records(), 1..4),
        (before, after) in (0usize..4, 0usize..4),
        flushed in any::<prop::sample::Index>(),
        is_newest in any::<bool>(),
    ) {
        let order = if is_newest { Order::NewestFirst } else { Order::OldestFirst };
        let streams: Vec<(u8, Records)> = (1u8..).zip(streams).collect();
        let store = store();
        let entries: Vec<_> = streams
            .iter()
            .flat_map(|(stream, records)| blocks(records).into_iter().map(|block| (*stream, block)))
            .collect();
        let flushed = flushed.index(entries.len());
        for (index, (stream, block)) in entries.into_iter().enumerate() {
            apply(&store, stream, block);
            if index == flushed {
                store.flush().unwrap();
            }
        }
        let found = ask(&store, query(order, before, after));
        prop_assert_eq!(found, expected(&streams, order, before, after));
    }
}

#[test]
fn a_page_has_no_more_records_than_it_may_and_chosen_columns_change_nothing() {
    let store = store();
    let records: Records = (0..30).map(|n| (n, 1, n % 10 == 5)).collect();
    apply(&store, 1, &records);
    let positions = |query: LogQuery| {
        ask(&store, query)
            .into_iter()
            .map(|row| row.1)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        positions(query(Order::OldestFirst, 1, 2)),
        [4, 5, 6, 7, 14, 15, 16, 17, 24, 25, 26, 27]
    );
    let chosen = LogQuery {
        columns: Some(vec!["body"]),
        ..query(Order::OldestFirst, 1, 0)
    };
    assert_eq!(positions(chosen), [4, 5, 14, 15, 24, 25]);
    let first = LogQuery {
        limit: 1,
        ..query(Order::OldestFirst, 0, 10)
    };
    let page = block_on(store.logs(first.clone())).unwrap().answer;
    assert_eq!(shown(&page.around.unwrap()).len(), 11);
    assert_eq!(page.rows.num_rows(), 1, "pages are of matches");
    let second = LogQuery {
        cursor: page.next_cursor,
        ..first
    };
    assert_eq!(positions(second), (15..26).collect::<Vec<_>>());
    let none = LogQuery {
        substring: Some("nothing".into()),
        ..query(Order::OldestFirst, 3, 3)
    };
    assert_eq!(ask(&store, none), []);
    let refused = block_on(store.logs(query(Order::OldestFirst, AROUND_ROWS_MAX, 0)));
    assert!(matches!(refused, Err(QueryError::Invalid(_))), "{refused:?}");
}

//! Series over time, and the newest of each.

use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::block::{
    Block, Histogram, MetricBlockBuilder, MetricKind, MetricRow, Quality, Temporality, Value,
};
use edgelogger_common::disk::{Disk, FaultDisk};

use super::common::{NOW, SECOND, block_on, blocks_entry, options, sql_texts, store, stream_id};
use crate::query::{Aggregate, GroupKey, RangeQuery, RangeResult, SampleField};
use crate::{EmbeddedStore, QueryError, SeriesFilter, Store, StoreOptions};

fn sample(name: &str, time: i64, value: f64, labels: &[(&str, &str)]) -> MetricRow {
    MetricRow {
        observed_time: time,
        name: name.to_owned(),
        unit: "Cel".to_owned(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::String((*value).to_owned())))
            .collect(),
        value: Some(value),
        source_len: 1,
        ..MetricRow::default()
    }
}

fn block(stream: u8, position: u64, rows: impl IntoIterator<Item = MetricRow>) -> Block {
    let mut builder = MetricBlockBuilder::new(stream_id(stream), position);
    rows.into_iter().for_each(|row| {
        builder.push(row);
    });
    builder.finish().unwrap()
}

fn apply(store: &EmbeddedStore, machine: &str, block: Block) {
    store
        .apply(store.cursor(), &blocks_entry(machine, &[block]))
        .unwrap();
}

/// Temperatures of three machines over ten minutes, each 10 s, of two sensors; the middle two minutes are missing. Half in
/// a file, half in memory.
fn filled() -> Arc<EmbeddedStore> {
    let store = store();
    for half in 0..2i64 {
        for (machine, number) in [("m1", 1u8), ("m2", 2), ("m3", 3)] {
            let times = (0..30).map(|n| half * 300 + n * 10);
            let times = times.filter(|second| !(240..360).contains(second));
            let rows: Vec<MetricRow> = times
                .flat_map(|second| {
                    let time = NOW - 600 * SECOND + second * SECOND;
                    let value = f64::from(number) * 10.0 + if second < 300 { 0.0 } else { 1.0 };
                    ["a", "b"].map(|sensor| sample("temperature", time, value, &[("sensor", sensor)]))
                })
                .collect();
            let position = if half == 0 { 0 } else { 100 };
            apply(&store, machine, block(number, position, rows));
        }
        if half == 0 {
            store.flush().unwrap();
        }
    }
    store
}

fn question(name: &str) -> RangeQuery {
    RangeQuery {
        name: name.to_owned(),
        filter: SeriesFilter::default(),
        from: NOW - 600 * SECOND,
        to: NOW,
        step: Some(60 * SECOND),
        aggregate: Aggregate::Avg,
        field: SampleField::Value,
        group_by: None,
        series_max: 100,
        time_max: Duration::from_secs(30),
    }
}

fn ask(store: &EmbeddedStore, query: RangeQuery) -> RangeResult {
    block_on(store.range(query)).unwrap().answer
}

fn refused(store: &EmbeddedStore, query: RangeQuery) -> String {
    match block_on(store.range(query)) {
        Err(QueryError::Invalid(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_series_is_a_line_and_a_gap_is_a_gap() {
    let store = filled();
    let result = ask(&store, question("temperature"));
    assert_eq!((result.unit.as_str(), result.kind.as_str()), ("Cel", "gauge"));
    assert_eq!((result.series.len(), result.count, result.samples), (6, 10, 288));
    let first = &result.series[0];
    assert_eq!(
        (first.machine.as_deref(), first.source.as_deref()),
        (Some("m1"), Some("/var/log/1.log"))
    );
    assert_eq!(first.labels["sensor"], "a");
    let low = [Some(10.0); 4];
    let expected = [&low[..], &[None, None], &[Some(11.0); 4]].concat();
    assert_eq!(first.points, expected);
    store.flush().unwrap();
    assert_eq!(ask(&store, question("temperature")), result, "in files only");
}

#[test]
fn series_are_chosen_by_machine_source_and_labels_and_grouped_by_them() {
    let store = filled();
    let with = |change: fn(&mut RangeQuery)| {
        let mut query = question("temperature");
        change(&mut query);
        ask(&store, query).series
    };
    assert_eq!(with(|q| q.filter.machine = Some("m2".into())).len(), 2);
    assert_eq!(with(|q| q.filter.machine = Some("m*".into())).len(), 6);
    assert_eq!(with(|q| q.filter.source = Some("*/3.log".into())).len(), 2);
    assert_eq!(
        with(|q| q.filter.labels = vec![("sensor".into(), "a".into())]).len(),
        3
    );
    assert_eq!(
        with(|q| q.filter.labels = vec![("sensor".into(), "c*".into())]).len(),
        0
    );
    assert_eq!(
        with(|q| q.filter.labels = vec![("site".into(), "plant-?".into())]).len(),
        6,
        "of the agent"
    );
    assert_eq!(
        with(|q| q.filter.labels = vec![("other".into(), String::new())]).len(),
        6
    );
    let by_machine = with(|q| q.group_by = Some(vec![GroupKey::Machine]));
    assert_eq!(by_machine.len(), 3);
    assert_eq!(
        (by_machine[2].points[0], by_machine[2].points[4]),
        (Some(30.0), None)
    );
    let all = with(|q| q.group_by = Some(Vec::new()));
    assert_eq!(
        (all.len(), all[0].points[0], all[0].machine.clone()),
        (1, Some(20.0), None)
    );
    let by_label = with(|q| {
        q.group_by = Some(vec![
            GroupKey::Label("sensor".into()),
            GroupKey::Label("site".into()),
        ]);
    });
    assert_eq!(by_label.len(), 2);
    assert_eq!(
        (
            by_label[1].labels["sensor"].as_str(),
            by_label[1].labels["site"].as_str()
        ),
        ("b", "plant-7")
    );
}

#[test]
fn aggregates_agree_with_sql() {
    let store = filled();
    for (aggregate, function) in [
        (Aggregate::Avg, "avg(value)"),
        (Aggregate::Min, "min(value)"),
        (Aggregate::Max, "max(value)"),
        (Aggregate::Sum, "sum(value)"),
        (Aggregate::Count, "CAST(count(value) AS DOUBLE)"),
        (Aggregate::Quantile(0.5), "median(value)"),
    ] {
        let result = ask(
            &store,
            RangeQuery {
                aggregate,
                group_by: Some(Vec::new()),
                step: Some(300 * SECOND),
                ..question("temperature")
            },
        );
        let found: Vec<String> = result.series[0]
            .points
            .iter()
            .map(|point| format!("{:?}", point.unwrap()))
            .collect();
        let text = format!(
            "SELECT {function} FROM metrics WHERE name = 'temperature' GROUP BY date_bin(INTERVAL '5 minutes', time) \
             ORDER BY date_bin(INTERVAL '5 minutes', time)"
        );
        assert_eq!(found, sql_texts(&store, &text), "{aggregate:?}");
    }
}

#[test]
fn rates_of_counters_go_on_over_resets_and_sum_over_groups() {
    let store = store();
    for (machine, number) in [("m1", 1u8), ("m2", 2)] {
        // 2 a second; the counter begins anew after five minutes.
        let rows = (0..=60).map(|n| MetricRow {
            kind: MetricKind::Counter,
            temporality: Temporality::Cumulative,
            value: Some(if n < 30 {
                1000.0 + f64::from(n) * 20.0
            } else {
                f64::from(n - 29) * 20.0
            }),
            ..sample(
                "requests",
                NOW - 600 * SECOND + i64::from(n) * 10 * SECOND,
                0.0,
                &[],
            )
        });
        apply(&store, machine, block(number, 0, rows));
    }
    let query = RangeQuery {
        aggregate: Aggregate::Rate,
        ..question("requests")
    };
    let each = ask(&store, query.clone());
    assert_eq!(each.series.len(), 2);
    for point in &each.series[0].points {
        assert!((point.unwrap() - 2.0).abs() < 1e-9, "{point:?}");
    }
    let sum = ask(
        &store,
        RangeQuery {
            group_by: Some(Vec::new()),
            ..query.clone()
        },
    );
    assert!((sum.series[0].points[3].unwrap() - 4.0).abs() < 1e-9);
    apply(
        &store,
        "m1",
        block(9, 0, [sample("heat", NOW - SECOND, 1.0, &[])]),
    );
    let what = refused(
        &store,
        RangeQuery {
            name: "heat".into(),
            ..query
        },
    );
    assert!(what.contains("gauge"), "{what}");
}

#[test]
fn histograms_have_counts_and_sums_and_bad_values_do_not_count() {
    let store = store();
    let histogram = MetricRow {
        kind: MetricKind::Histogram,
        value: None,
        count: Some(6),
        sum: Some(3.0),
        histogram: Histogram {
            bounds: vec![1.0],
            counts: vec![5, 1],
        },
        ..sample("duration", NOW - SECOND, 0.0, &[])
    };
    let bad = MetricRow {
        quality: Quality::Bad,
        ..sample("heat", NOW - SECOND, 99.0, &[])
    };
    let not_a_number = sample("heat", NOW - 2 * SECOND, f64::NAN, &[]);
    let good = sample("heat", NOW - 3 * SECOND, 1.0, &[]);
    apply(&store, "m1", block(1, 0, [histogram, bad, not_a_number, good]));
    let last = |field| {
        let result = ask(
            &store,
            RangeQuery {
                field,
                ..question("duration")
            },
        );
        *result.series[0].points.last().unwrap()
    };
    assert_eq!(
        (last(SampleField::Count), last(SampleField::Sum)),
        (Some(6.0), Some(3.0))
    );
    assert!(refused(&store, question("duration")).contains("field=count"));
    assert_eq!(ask(&store, question("heat")).samples, 1);
}

#[test]
fn what_goes_beyond_a_limit_says_what_to_do() {
    let store = filled();
    let with = |change: fn(&mut RangeQuery)| {
        let mut query = question("temperature");
        change(&mut query);
        refused(&store, query)
    };
    assert!(with(|q| q.step = Some(SECOND / 100)).contains("longer step"));
    assert!(with(|q| q.series_max = 5).contains("more than 5 series"));
    assert!(with(|q| q.to = q.from).contains("before"));
    assert!(with(|q| q.step = Some(0)).contains("step"));
    assert!(with(|q| q.aggregate = Aggregate::Quantile(1.5)).contains("quantile"));
    assert!(with(|q| q.filter.machine = Some("m".repeat(5000))).contains("4096"));
    let nothing = ask(&store, question("nothing"));
    assert_eq!((nothing.series.len(), nothing.count), (0, 10));
    apply(
        &store,
        "m9",
        block(
            9,
            0,
            [MetricRow {
                unit: "K".into(),
                ..sample("temperature", NOW - SECOND, 1.0, &[])
            }],
        ),
    );
    assert!(with(|_| ()).contains("units"));
}

#[test]
fn a_range_takes_no_more_memory_than_queries_may() {
    let opened = options(Arc::new(FaultDisk::new(1)));
    let store = EmbeddedStore::open(StoreOptions {
        query_memory_bytes: 64 << 10,
        ..opened
    })
    .unwrap();
    let rows = (0..3000).map(|n| sample("heat", NOW - 600 * SECOND + n * SECOND / 10, 1.0, &[]));
    apply(&store, "m1", block(1, 0, rows));
    let query = RangeQuery {
        aggregate: Aggregate::Quantile(0.5),
        ..question("heat")
    };
    let error = block_on(store.range(query)).unwrap_err();
    assert!(matches!(error, QueryError::Memory { .. }), "{error}");
    assert_eq!(ask(&store, question("heat")).samples, 3000);
}

fn values(store: &EmbeddedStore) -> Vec<(String, Option<f64>)> {
    let page = store.latest(&SeriesFilter::default(), i64::MIN, 100).unwrap();
    let value = |sample: crate::LatestSample| {
        (
            format!("{} {}", sample.series.machine, sample.series.name),
            sample.value,
        )
    };
    page.answer.samples.into_iter().map(value).collect()
}

#[test]
fn the_newest_sample_of_each_series_is_known_through_a_restart() {
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new(1));
    let store = EmbeddedStore::open(options(Arc::clone(&disk))).unwrap();
    apply(
        &store,
        "m1",
        block(
            1,
            0,
            [
                sample("heat", NOW - 9 * SECOND, 1.0, &[]),
                sample("heat", NOW - SECOND, 3.0, &[]),
            ],
        ),
    );
    apply(
        &store,
        "m1",
        block(1, 2, [sample("heat", NOW - 5 * SECOND, 2.0, &[])]),
    );
    apply(
        &store,
        "m2",
        block(2, 0, [sample("heat", NOW - 7 * SECOND, 9.0, &[("x", "y")])]),
    );
    let expected = vec![
        ("m1 heat".to_owned(), Some(3.0)),
        ("m2 heat".to_owned(), Some(9.0)),
    ];
    assert_eq!(values(&store), expected, "late samples change nothing");
    store.flush().unwrap();
    drop(store);
    let store = EmbeddedStore::open(options(disk)).unwrap();
    assert_eq!(values(&store), []);
    assert!(
        !store
            .latest(&SeriesFilter::default(), i64::MIN, 1)
            .unwrap()
            .is_complete
    );
    block_on(store.fill_latest()).unwrap();
    assert_eq!(values(&store), expected);
    let page = store.latest(&SeriesFilter::default(), i64::MIN, 1).unwrap();
    assert_eq!((page.count, page.samples.len(), page.is_complete), (2, 1, true));
    assert_eq!(page.samples[0].agent_labels["site"], "plant-7");
    let since = store
        .latest(&SeriesFilter::default(), NOW - 2 * SECOND, 100)
        .unwrap();
    assert_eq!(since.count, 1);
    let found = store.metric_names(&SeriesFilter::default(), i64::MIN).unwrap();
    let (names, complete) = &*found;
    assert_eq!(
        (names.len(), names[0].series, names[0].machines, *complete),
        (1, 2, 2, true)
    );
}

#[test]
fn a_clock_that_runs_ahead_keeps_no_value_for_ever() {
    let store = store();
    apply(
        &store,
        "m1",
        block(1, 0, [sample("heat", NOW + 86_400 * 365 * SECOND, 1.0, &[])]),
    );
    apply(&store, "m1", block(1, 1, [sample("heat", NOW, 2.0, &[])]));
    assert_eq!(values(&store), [("m1 heat".to_owned(), Some(2.0))]);
}

#[test]
fn series_beyond_the_limit_leave_least_recently_written_first() {
    let opened = options(Arc::new(FaultDisk::new(1)));
    let store = EmbeddedStore::open(StoreOptions {
        latest_series_max: 100,
        ..opened
    })
    .unwrap();
    block_on(store.fill_latest()).unwrap();
    for number in 0..150 {
        let rows = [
            sample(&format!("m{number:03}"), NOW, 1.0, &[]),
            sample("always", NOW, 1.0, &[]),
        ];
        apply(&store, "m1", block(1, number * 2, rows));
    }
    let page = store.latest(&SeriesFilter::default(), i64::MIN, 1000).unwrap();
    assert!(page.count <= 100 && page.count >= 75, "{}", page.count);
    assert!(!page.is_complete);
    let names: Vec<&str> = page
        .samples
        .iter()
        .map(|sample| sample.series.name.as_str())
        .collect();
    assert!(
        names.contains(&"always") && names.contains(&"m149") && !names.contains(&"m000"),
        "{names:?}"
    );
}

#[test]
fn pages_of_other_metrics_are_not_read() {
    let store = store();
    let rows = (0..20_000i64).flat_map(|n| {
        let time = NOW - 20_000 * SECOND + n * SECOND;
        ["a", "b", "c", "d"].map(|name| sample(name, time, 1.0, &[]))
    });
    let rows: Vec<MetricRow> = rows.collect();
    for (index, rows) in rows.chunks(20_000).enumerate() {
        apply(&store, "m1", block(1, index as u64 * 20_000, rows.to_vec()));
    }
    store.flush().unwrap();
    let text = "EXPLAIN ANALYZE SELECT avg(value) FROM metrics WHERE name = 'c' AND machine_id = 'm1'";
    let plan = sql_texts(&store, text).join("\n");
    let pruned = plan
        .split("page_index_rows_pruned=")
        .nth(1)
        .unwrap_or_else(|| panic!("{plan}"));
    // 80,000 rows, of which 20,000 are asked for: what lies in pages with both is read, too.
    assert!(!pruned.starts_with("0 "), "{plan}");
}

/// Eight sensors of two machines, 10,000 samples each, in two files that are merged where the store does that.
fn sensors() -> Arc<EmbeddedStore> {
    let store = store();
    for half in 0..2i64 {
        for (machine, number) in [("m1", 1u8), ("m2", 2)] {
            let rows = (0..5_000).flat_map(|n| {
                let time = NOW - 10_000 * SECOND + (half * 5_000 + n) * SECOND;
                (0..8).map(move |sensor| {
                    let name = format!("s{sensor}");
                    sample("temperature", time, f64::from(sensor), &[("sensor", &name)])
                })
            });
            let position = u64::try_from(half).unwrap() * 40_000;
            apply(&store, machine, block(number, position, rows));
        }
        store.flush().unwrap();
    }
    store
}

#[test]
fn pages_of_other_series_are_not_read() {
    use datafusion::datasource::physical_plan::parquet::RowGroupAccess;

    use crate::query::{access_plan, footer};

    let store = sensors();
    let read = |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let snapshot = store.snapshot();
        let files = snapshot.files(crate::Table::Metrics);
        let rows = files.map(|file| {
            let footer = footer(file, &Arc::default()).unwrap();
            let plan = access_plan(&footer, &values).unwrap();
            let rows = plan
                .inner()
                .iter()
                .enumerate()
                .map(|(group, access)| match access {
                    RowGroupAccess::Skip => 0,
                    RowGroupAccess::Scan => usize::try_from(footer.row_group(group).num_rows()).unwrap(),
                    RowGroupAccess::Selection(rows) => rows.row_count(),
                });
            rows.sum::<usize>()
        });
        rows.sum::<usize>()
    };
    // 160,000 rows, of which 20,000 are asked for: what lies in pages with both is read, too.
    assert!((20_000..100_000).contains(&read(&["s3"])), "{}", read(&["s3"]));
    assert_eq!(read(&["s3", "plant-7"]), read(&["s3"]), "of the agent");
    assert_eq!((read(&["nothing"]), read(&["s3", "nothing"])), (0, 0));
    assert_eq!(read(&["plant-7"]), 160_000);
}

#[test]
fn every_sample_with_a_label_is_found_whatever_pages_are_skipped() {
    let store = sensors();
    let samples = |labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let query = RangeQuery {
            filter: SeriesFilter {
                labels: labels.collect(),
                ..SeriesFilter::default()
            },
            from: NOW - 11_000 * SECOND,
            ..question("temperature")
        };
        ask(&store, query).samples
    };
    for sensor in 0..8 {
        assert_eq!(samples(&[("sensor", &format!("s{sensor}"))]), 20_000);
    }
    assert_eq!(
        samples(&[("sensor", "s1"), ("site", "plant-7")]),
        samples(&[("site", "plant-7")]) / 8
    );
    assert_eq!(samples(&[("sensor", "s9")]), 0);
    assert_eq!(samples(&[("sensor", "s?")]), 160_000);
}

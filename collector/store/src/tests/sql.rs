//! SQL reads the two tables and does nothing else.

use std::sync::Arc;
use std::time::Duration;

use edgelogger_common::disk::FaultDisk;

use super::common::{block_on, blocks_entry, lines, options, sql, sql_texts, store, stream_id, texts};
use crate::query::{SqlParameters, SqlQuery, SqlValue};
use crate::{EmbeddedStore, QueryError, SqlLimits, Store, StoreOptions};

fn filled() -> Arc<EmbeddedStore> {
    let store = store();
    fill(&store, 2000);
    store
}

fn fill(store: &EmbeddedStore, rows: usize) {
    for (machine, number) in [("m1", 1u8), ("m2", 2), ("m3", 3)] {
        let text: String = (0..rows)
            .map(|line| format!("line {line} of {machine}\n"))
            .collect();
        store
            .apply(
                store.cursor(),
                &blocks_entry(machine, &[lines(stream_id(number), 0, text.as_bytes())]),
            )
            .unwrap();
        if number != 3 {
            store.flush().unwrap();
        }
    }
}

fn error(store: &EmbeddedStore, text: &str) -> QueryError {
    match block_on(store.sql(text, SqlLimits::default())) {
        Err(error) => error,
        Ok(result) => panic!("{text}: {} rows", result.row_count()),
    }
}

#[test]
fn what_is_not_one_query_is_refused() {
    let store = filled();
    for text in [
        "INSERT INTO logs SELECT * FROM logs",
        "UPDATE logs SET body = ''",
        "DELETE FROM logs",
        "DROP TABLE logs",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE DATABASE d",
        "CREATE SCHEMA s",
        "COPY logs TO '/tmp/out.parquet'",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE logs",
        "EXPLAIN INSERT INTO logs SELECT * FROM logs",
        "EXPLAIN ANALYZE INSERT INTO logs SELECT * FROM logs",
        "EXPLAIN COPY logs TO '/tmp/x'",
        "SELECT * INTO t FROM logs",
        "WITH x AS (DELETE FROM logs RETURNING *) SELECT * FROM x",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "BEGIN",
        "TRUNCATE logs",
        "SHOW ALL",
        "USE other",
    ] {
        let error = error(&store, text);
        let refused =
            error.code().is_some_and(|code| code.code == "E0501") || matches!(error, QueryError::Invalid(_));
        assert!(refused, "{text}: {error:?}");
    }
    for text in [
        "INSERT INTO logs SELECT * FROM logs",
        "COPY logs TO '/tmp/x'",
        "SET a = 1",
        "SELECT 1; SELECT 2",
    ] {
        assert!(
            matches!(error(&store, text), QueryError::NotReadOnly(_)),
            "{text}"
        );
    }
    assert_eq!(sql_texts(&store, "SELECT count(*) FROM logs"), ["6000"]);
}

#[test]
fn no_file_and_no_url_is_a_table() {
    let store = filled();
    for text in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'file.parquet'",
        "SELECT * FROM \"file.parquet\"",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM 'https://example.com/x.csv'",
        "SELECT * FROM read_parquet('/tmp/x.parquet')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
        "SELECT * FROM generate_series(1, 1000000000000)",
        "SELECT range(1, 1000000000000)",
        "SELECT repeat('x', 2000000000)",
        "SELECT * FROM edgelogger.other.logs",
        "SELECT * FROM other.public.logs",
    ] {
        assert!(matches!(error(&store, text), QueryError::Invalid(_)), "{text}");
    }
}

#[test]
fn text_that_is_no_sql_is_an_error_and_no_panic() {
    let store = store();
    let deep = format!("SELECT {}1{}", "(".repeat(2000), ")".repeat(2000));
    let long = format!("SELECT 1 {}", "+ 1 ".repeat(2000));
    let ors = format!("SELECT * FROM logs WHERE {} true", "position = 7 OR ".repeat(900));
    let not = format!("SELECT {} true", "NOT ".repeat(4000));
    for text in [
        "",
        ";",
        "SELEC",
        "SELECT",
        "SELECT nope FROM logs",
        "SELECT * FROM nope",
        "SELECT 'a",
        "\0",
        "🦀",
        &deep,
        &not,
    ] {
        assert!(matches!(error(&store, text), QueryError::Invalid(_)), "{text}");
    }
    for text in [long, ors] {
        let _ = block_on(store.sql(&text, SqlLimits::default()));
    }
    let too_long = format!("SELECT 1 {}", "+ 1 ".repeat(3000));
    assert!(matches!(error(&store, &too_long), QueryError::Invalid(_)));
    for text in [
        "SELECT * FROM logs WHERE time > '99999999999999999999999'",
        "SELECT * FROM logs WHERE time > to_timestamp_nanos(99999999999999999999999)",
        "SELECT * FROM logs WHERE time > CAST('300000-01-01' AS TIMESTAMP)",
    ] {
        let _ = block_on(store.sql(text, SqlLimits::default()));
    }
}

#[test]
fn questions_that_engineers_ask_are_answered() {
    let store = filled();
    for (text, expected) in [
        (
            "SELECT machine_id, count(*) FROM logs GROUP BY 1 ORDER BY 1",
            vec!["m1|2000", "m2|2000", "m3|2000"],
        ),
        (
            "SELECT body FROM logs WHERE machine_id = 'm2' AND body LIKE '%line 7 %'",
            vec!["line 7 of m2"],
        ),
        (
            "SELECT count(*) FROM logs WHERE machine_id LIKE 'm%' AND source = '/var/log/3.log'",
            vec!["2000"],
        ),
        (
            "SELECT count(*) FROM logs WHERE machine_id IN ('m1', 'm3', 'm9')",
            vec!["4000"],
        ),
        (
            "SELECT count(*) FROM logs WHERE time >= '2026-11-21T11:59:59Z' AND time < '2026-11-21T12:00:00Z'",
            vec!["6000"],
        ),
        (
            "SELECT count(*) FROM logs WHERE time >= TIMESTAMP '2026-11-21 12:00:00'",
            vec!["0"],
        ),
        (
            "SELECT date_trunc('hour', time), count(*) FROM logs GROUP BY 1",
            vec!["2026-11-21T11:00:00Z|6000"],
        ),
        (
            "WITH x AS (SELECT * FROM logs) SELECT count(*) FROM x a JOIN x b USING (stream_id, position)",
            vec!["6000"],
        ),
        ("SELECT count(*) FROM metrics", vec!["0"]),
    ] {
        assert_eq!(sql_texts(&store, text), expected, "{text}");
    }
    assert!(sql(&store, "SHOW TABLES").row_count() >= 2);
    assert!(sql(&store, "DESCRIBE logs").row_count() == 18);
    assert!(sql(&store, "EXPLAIN SELECT * FROM logs").row_count() > 0);
    assert!(sql(&store, "EXPLAIN ANALYZE SELECT count(*) FROM logs").row_count() > 0);
}

#[test]
fn a_file_whose_machines_or_times_do_not_match_is_not_opened() {
    let store = filled();
    let scanned = |condition: &str| {
        let plan = sql_texts(
            &store,
            &format!("EXPLAIN SELECT body FROM logs WHERE {condition}"),
        )
        .join("\n");
        plan.matches(".parquet").count()
    };
    assert_eq!(scanned("true"), 2);
    for (condition, files) in [
        ("machine_id = 'm1'", 1),
        ("machine_id = 'm3'", 0),
        ("machine_id IN ('m0', 'm2')", 1),
        ("machine_id LIKE 'm2%'", 1),
        ("time > '2027-01-01'", 0),
        ("time < '2026-11-21T12:00:00Z'", 2),
        ("received_time < '2026-11-21T12:00:00Z'", 0),
    ] {
        assert_eq!(scanned(condition), files, "{condition}");
    }
}

#[test]
fn answers_are_cut_at_their_limits_and_say_so() {
    let store = filled();
    let ask = |text: &str, limits: SqlLimits| block_on(store.sql(text, limits)).unwrap();
    let rows = SqlLimits {
        rows_max: 10,
        ..SqlLimits::default()
    };
    let result = ask("SELECT * FROM logs", rows);
    assert_eq!((result.row_count(), result.truncated), (10, true));
    let result = ask("SELECT * FROM logs LIMIT 10", rows);
    assert_eq!((result.row_count(), result.truncated), (10, false));
    let bytes = SqlLimits {
        bytes_max: 10_000,
        ..SqlLimits::default()
    };
    let result = ask("SELECT body FROM logs", bytes);
    assert!(
        result.truncated && result.row_count() > 100 && result.row_count() < 1000,
        "{}",
        result.row_count()
    );
}

#[test]
fn a_query_over_its_memory_or_time_is_an_error_with_a_code() {
    let opened = options(Arc::new(FaultDisk::new(1)));
    let store = EmbeddedStore::open(StoreOptions {
        query_memory_bytes: 1 << 20,
        ..opened
    })
    .unwrap();
    fill(&store, 20_000);
    let code = |error: &QueryError| error.code().map(|code| code.code);
    let memory = error(&store, "SELECT count(*) FROM (SELECT DISTINCT body FROM logs)");
    assert!(
        matches!(
            memory,
            QueryError::Memory {
                limit_bytes: 1_048_576,
                ..
            }
        ),
        "{memory}"
    );
    assert_eq!(code(&memory), Some("E0502"));
    let limits = SqlLimits {
        time_max: Duration::from_millis(300),
        ..SqlLimits::default()
    };
    let cross = "SELECT sum(a.position * b.position) FROM logs a CROSS JOIN logs b";
    let started = std::time::Instant::now();
    let time = block_on(store.sql(cross, limits)).unwrap_err();
    assert!(
        matches!(time, QueryError::Time { .. } | QueryError::Memory { .. }),
        "{time}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(
        sql_texts(&store, "SELECT count(*) FROM logs"),
        ["60000"],
        "the store answers on"
    );
}

fn ask_with(store: &EmbeddedStore, text: &str, parameters: SqlParameters) -> Result<Vec<String>, QueryError> {
    let query = SqlQuery {
        text: text.to_owned(),
        parameters,
        limits: SqlLimits::default(),
    };
    block_on(store.query(query)).map(|result| texts(&result.batches))
}

#[test]
fn parameters_stand_for_values_and_never_for_sql() {
    let store = filled();
    let text = |value: &str| SqlValue::Text(value.to_owned());
    let listed = "SELECT count(*) FROM logs WHERE machine_id = $1 AND time >= $2 AND position < $3";
    let values = vec![text("m2"), text("2026-11-21T11:00:00Z"), SqlValue::Int(17)];
    assert_eq!(
        ask_with(&store, listed, SqlParameters::List(values)).unwrap(),
        ["2"]
    );
    let named = "SELECT count(*) FROM logs WHERE machine_id = $machine";
    let of = |machine: &str| SqlParameters::Named(vec![("machine".to_owned(), text(machine))]);
    assert_eq!(ask_with(&store, named, of("m1")).unwrap(), ["2000"]);
    assert_eq!(ask_with(&store, named, of("m1' OR '1' = '1")).unwrap(), ["0"]);
    assert_eq!(
        ask_with(
            &store,
            "SELECT $1, $2, $3",
            SqlParameters::List(vec![SqlValue::Null, SqlValue::Bool(true), SqlValue::Float(0.5)])
        )
        .unwrap(),
        ["|true|0.5"]
    );
    for (query, parameters) in [
        (named, SqlParameters::default()),
        (named, SqlParameters::List(vec![text("m1")])),
        (listed, SqlParameters::List(vec![text("m1")])),
        ("SELECT * FROM $1", SqlParameters::List(vec![text("logs")])),
    ] {
        let error = ask_with(&store, query, parameters).unwrap_err();
        assert!(matches!(error, QueryError::Invalid(_)), "{query}: {error}");
    }
}

#[test]
fn a_query_that_makes_much_of_little_is_refused() {
    let store = filled();
    let doubled = |times: usize| {
        // Each with a name of its own: where names repeat, the engine's optimizer takes one step for another.
        let mut text = "SELECT body AS s0 FROM logs".to_owned();
        for step in 0..times {
            text = format!("SELECT s{step} || s{step} AS s{} FROM ({text})", step + 1);
        }
        format!("SELECT max(length(s{times})) FROM ({text})")
    };
    assert_eq!(sql_texts(&store, &doubled(2)), ["60"]);
    let long = "x".repeat(10_000);
    let many = vec!["s"; 1000].join(", ");
    let columns: Vec<_> = (0..100).map(|number| format!("s AS s{number}")).collect();
    let columns = columns.join(", ");
    for text in [
        doubled(12),
        format!("SELECT length(replace(replace('{long}', 'x', '{long}'), 'x', '{long}'))"),
        format!("SELECT {columns} FROM (SELECT '{long}' AS s FROM logs)"),
        format!("SELECT concat({many}) FROM (SELECT body AS s FROM logs)"),
        format!("SELECT regexp_replace(body, '', '{long}', 'g') FROM logs"),
        format!("SELECT array_to_string(string_to_array(body, ''), '{long}') FROM logs"),
        format!("SELECT unnest(string_to_array(body, '')), '{long}' FROM logs"),
        format!(
            "SELECT coalesce(NULL, concat_ws('{long}', {})) FROM logs",
            vec!["body"; 100].join(", ")
        ),
        format!("SELECT length((SELECT concat('{long}', '{long}')))"),
        format!("SELECT a FROM (VALUES ('{long}')) t(a) WHERE a || a = 'b'"),
        format!("SELECT count(*) FROM logs GROUP BY body || '{long}' || '{long}'"),
    ] {
        let error = error(&store, &text);
        assert!(
            matches!(error, QueryError::Memory { .. }),
            "{}: {error}",
            &text[..60]
        );
    }
    for text in [
        "SELECT repeat('x', 1000000000)",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT * FROM generate_series(1, 1000000000) a CROSS JOIN generate_series(1, 1000000000) b",
        "SELECT arrow_cast(NULL, 'FixedSizeBinary(1000000000)')",
        "SELECT levenshtein(body, body) FROM logs",
    ] {
        assert!(matches!(error(&store, text), QueryError::Invalid(_)), "{text}");
    }
}

#[test]
fn ordinary_queries_are_light() {
    let store = filled();
    for text in [
        "SELECT * FROM logs",
        "SELECT * FROM metrics",
        "SELECT a.*, b.* FROM logs a JOIN logs b USING (stream_id, position)",
        "SELECT replace(body, 'line', 'LINE'), regexp_replace(body, '[0-9]+', 'N'), upper(body) FROM logs",
        "SELECT unnest(string_to_array(body, ' ')) FROM logs",
        "SELECT CASE WHEN body LIKE '%7%' THEN 'seven' ELSE 'other' END AS what, count(*) FROM logs GROUP BY 1",
        "SELECT machine_id, array_agg(DISTINCT source), string_agg(stream_id, ',') FROM logs GROUP BY 1",
        "SELECT date_bin(INTERVAL '1 minute', time), approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY position) FROM logs GROUP BY 1",
        "SELECT to_char(time, '%H:%M'), concat(machine_id, '/', source), body || ' ' || machine_id FROM logs",
        "SELECT body, row_number() OVER (PARTITION BY machine_id ORDER BY position) FROM logs",
        "SELECT count(*) FILTER (WHERE body LIKE '%1%'), min(body), max(time) - min(time) FROM logs",
    ] {
        assert!(
            block_on(store.sql(text, SqlLimits::default())).is_ok(),
            "{text}: {:?}",
            error(&store, text)
        );
    }
}

#[test]
fn a_query_that_was_stopped_soon_gives_its_threads_back() {
    let store = store();
    fill(&store, 20_000);
    for text in [
        "SELECT sum(a.position * b.position) FROM logs a CROSS JOIN logs b",
        "SELECT count(*) FROM logs a JOIN logs b ON a.position < b.position JOIN logs c ON b.position < c.position",
        "SELECT count(*) FROM logs a JOIN logs b ON a.flags = b.flags JOIN logs c ON b.flags = c.flags",
        "SELECT sum(length(a.body) + length(b.body)) FROM logs a LEFT JOIN logs b ON a.position <> b.position + length(b.body)",
    ] {
        block_on(async {
            let query = store.sql(text, SqlLimits::default());
            let gone = tokio::time::timeout(Duration::from_millis(200), query).await;
            assert!(
                gone.is_err(),
                "{text} ended: {:?}",
                gone.map(|done| done.map(|result| result.row_count()))
            );
            // Ends when it does; hangs where it never would.
            while store.status().await.unwrap().queries_running > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
}

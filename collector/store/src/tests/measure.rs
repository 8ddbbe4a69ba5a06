//! How fast rows go in. `cargo test -p edgelogger-store --lib measure -- --ignored --nocapture`

use std::sync::Arc;
use std::time::Instant;

use edgelogger_common::disk::OsDisk;

use super::common::{batch_with, block_on, descriptor, entry, options, sql_texts, stream_id};
use crate::{EmbeddedStore, LogQuery, Store, StoreOptions};
use edgelogger_proto::v1;

const LINES: usize = 4000;
const BATCHES: usize = 250;

fn text(batch: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for line in 0..LINES {
        let number = batch * LINES + line;
        let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        text.extend_from_slice(
            format!(
                "2026-11-21T11:{:02}:{:02}.{:03}Z INFO order-service[{}] request id={mixed:016x} user={} path=/api/v1/orders/{} \
                 status=200 bytes={} duration_ms={} upstream=10.0.{}.{}:8080 message=\"order accepted and queued for picking\"\n",
                number / 60_000 % 60,
                number / 1000 % 60,
                number % 1000,
                mixed % 9000,
                mixed >> 44,
                mixed >> 40 & 0xffff,
                mixed % 65_536,
                mixed >> 20 & 0x3ff,
                mixed >> 8 & 0xff,
                mixed & 0xff,
            )
            .as_bytes(),
        );
    }
    text
}

fn entries() -> Vec<v1::LogEntry> {
    let mut starts = [0u64; 20];
    (0..BATCHES)
        .map(|number| {
            let stream = number % starts.len();
            let text = text(number);
            let id = stream_id(u8::try_from(stream).unwrap());
            let block = super::common::lines(id, starts[stream], &text);
            starts[stream] += text.len() as u64;
            let body = v1::log_entry::Body::Batch(batch_with("zstd:1", &[block]));
            entry(
                &format!("machine-{}", stream / 2),
                body,
                vec![descriptor(id, &format!("/var/log/app-{stream}.log"))],
            )
        })
        .collect()
}

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn measure_log_to_memory_and_to_files() {
    let entries = entries();
    for level in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let base = options(Arc::new(OsDisk));
        let store = EmbeddedStore::open(StoreOptions {
            dir: dir.path().to_owned(),
            memory_bytes: 1 << 30,
            compression_level: level,
            ..base
        })
        .unwrap();
        let (mut apply, mut flush) = (0.0, 0.0);
        for (entry, sequence) in entries.iter().zip(0u64..) {
            let started = Instant::now();
            store.apply(sequence, entry).unwrap();
            apply += started.elapsed().as_secs_f64();
            if sequence % 27 == 26 {
                let started = Instant::now();
                store.flush().unwrap();
                flush += started.elapsed().as_secs_f64();
            }
        }
        store.flush().unwrap();
        let rows = (LINES * BATCHES) as f64;
        let status = block_on(store.status()).unwrap();
        // A figure counts only for work that was done.
        assert_eq!(status.log_rows, (LINES * BATCHES) as u64);
        let checked = "SELECT count(*), count(DISTINCT body), count(event_time), count(severity), sum(length(body)) FROM logs";
        println!(
            "rows, distinct, with time, with severity, bytes: {}",
            sql_texts(&store, checked).join("")
        );
        println!(
            "zstd {level}: memory {:.0} rec/s, files {:.0} rec/s, both {:.0} rec/s, {} files, {:.1} bytes a row",
            rows / apply,
            rows / flush,
            rows / (apply + flush),
            status.files,
            status.file_bytes as f64 / rows
        );
        for query in [
            "SELECT count(*) FROM logs",
            "SELECT machine_id, count(*) FROM logs GROUP BY 1",
            "SELECT count(*) FROM logs WHERE machine_id = 'machine-3' AND time >= '2026-11-21T11:05:00Z' AND time < '2026-11-21T11:06:00Z'",
            "SELECT count(*) FROM logs WHERE body LIKE '%9e37%'",
        ] {
            let started = Instant::now();
            let rows = sql_texts(&store, query);
            println!(
                "  {:>6.1} ms {query}: {} rows",
                started.elapsed().as_secs_f64() * 1e3,
                rows.len()
            );
        }
        for query in [
            LogQuery::default(),
            LogQuery {
                machine: Some("machine-3".to_owned()),
                ..LogQuery::default()
            },
            LogQuery {
                substring: Some("9e37".to_owned()),
                ..LogQuery::default()
            },
        ] {
            let started = Instant::now();
            let page = block_on(store.logs(query.clone())).unwrap();
            println!(
                "  {:>6.1} ms page of {} {:?} {:?}",
                started.elapsed().as_secs_f64() * 1e3,
                page.rows.num_rows(),
                query.machine,
                query.substring
            );
        }
    }
}

//! The pure parts, line by line: `cargo bench -p edgelogger-bench`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use edgelogger_bench::batches::batches_of;
use edgelogger_bench::corpus::Generator;
use edgelogger_common::block::batch::{BatchLimits, open, validate};
use edgelogger_common::codec::{Compressor, Decompressor, sha256};
use edgelogger_common::recognition::Recognizer;

/// 2026-03-02T00:00:00Z.
const OBSERVED_NS: i64 = 1_772_409_600_000_000_000;

fn text(bytes: usize) -> Vec<u8> {
    let mut generator = Generator::new();
    let mut text = Vec::with_capacity(bytes + 4096);
    while text.len() < bytes {
        generator.next_line(&mut text);
    }
    text
}

fn recognition(criterion: &mut Criterion) {
    let recognizer = Recognizer::default();
    let mut group = criterion.benchmark_group("recognition");
    for (name, line) in [
        (
            "access",
            r#"203.0.113.9 - - [10/Oct/2023:13:55:36 +0000] "GET /api/v1/items/12345?page=2&sort=asc HTTP/1.1" 200 2326 "https://example.org/start" "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0""#,
        ),
        (
            "json",
            r#"{"time":"2024-01-02T03:04:05.678Z","level":"info","logger":"api.http","msg":"request done","request_id":"6f1a8e","latency_ms":12.5}"#,
        ),
        (
            "json, time last",
            r#"{"logger":"api.http","msg":"request done with a rather long message","request_id":"6f1a8e","latency_ms":12.5,"level":"info","time":"2024-01-02T03:04:05.678Z"}"#,
        ),
        (
            "syslog",
            "Oct 11 22:14:15 web-01 systemd[1]: Started session 1234 of user root, and then some more text follows here to make it long.",
        ),
        (
            "rfc 3339",
            "2024-01-02T03:04:05.123456Z  INFO my_app::http: request done method=GET path=/x status=200",
        ),
        (
            "rfc 5424",
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 - An application event",
        ),
        (
            "logfmt",
            "ts=2024-01-02T03:04:05.5Z caller=main.go:9 level=info msg=ok",
        ),
        (
            "nothing to find",
            "    at com.example.service.OrderService.process(OrderService.java:123) and something more that is long enough to be scanned for words in vain",
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| recognizer.recognize(black_box(line.as_bytes()), OBSERVED_NS));
        });
    }
}

fn codecs(criterion: &mut Criterion) {
    let text = text(1 << 20);
    let mut group = criterion.benchmark_group("compress 1 MiB");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for setting in ["lz4", "snappy", "zstd:-1", "zstd:1", "zstd:3", "gzip:1"] {
        let (mut compressor, mut out) = (Compressor::new(), Vec::new());
        group.bench_function(setting, |bencher| {
            bencher.iter(|| {
                compressor
                    .compress(setting.parse().unwrap(), black_box(&text), &mut out)
                    .unwrap();
            });
        });
    }
    group.bench_function("sha-256", |bencher| bencher.iter(|| sha256(black_box(&text))));
}

fn batches(criterion: &mut Criterion) {
    let text = text(1 << 20);
    let mut group = criterion.benchmark_group("batch of 1 MiB");
    for setting in ["lz4", "zstd:1"] {
        let batch = batches_of(&text, setting.parse().unwrap())
            .unwrap()
            .swap_remove(0);
        group.throughput(Throughput::Elements(batch.record_count.into()));
        let (limits, mut decompressor) = (BatchLimits::default(), Decompressor::new());
        group.bench_function(format!("open, {setting}"), |bencher| {
            bencher.iter(|| open(black_box(&batch), &limits, &mut decompressor).unwrap());
        });
        group.bench_function(format!("validate, {setting}"), |bencher| {
            bencher.iter(|| validate(black_box(&batch), &limits, &mut decompressor).unwrap());
        });
    }
    group.bench_function("make, lz4", |bencher| {
        bencher.iter_batched(
            || text.clone(),
            |text| batches_of(&text, "lz4".parse().unwrap()).unwrap(),
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(pure, recognition, codecs, batches);
criterion_main!(pure);

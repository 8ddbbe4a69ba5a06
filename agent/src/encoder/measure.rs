//! Which batch size and codec? Run by hand:
//! `cargo test -p edgelogger-agent --lib -- --ignored --nocapture encoder::measure`, with `LINES=FILE` for real logs.

use std::fmt::Write as _;
use std::time::Instant;

use bytes::Bytes;
use edgelogger_common::block::Block;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::Lane;

use super::*;
use crate::flow::Resume;
use crate::ring::{CreditPermit, RingLimits};

const CODECS: [&str; 6] = ["lz4", "zstd:-3", "zstd:1", "zstd:3", "zstd:6", "gzip:1"];
const SIZES: [usize; 6] = [4 << 10, 32 << 10, 128 << 10, 512 << 10, 1 << 20, 4 << 20];
/// As a file source reads.
const BLOCK_BYTES: usize = 64 << 10;
const INPUT_BYTES: usize = 32 << 20;

/// Lines of a web server, with numbers of a small generator.
fn lines() -> Vec<u8> {
    if let Ok(path) = std::env::var("LINES") {
        return std::fs::read(path).unwrap();
    }
    let (mut text, mut state) = (String::new(), 1u64);
    let mut next = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut second = 0;
    while text.len() < INPUT_BYTES {
        second += next(3) / 2;
        let _ = writeln!(
            text,
            "10.{}.{}.{} - - [21/Nov/2026:10:{:02}:{:02} +0000] \"GET /api/v1/{}/{}?page={} HTTP/1.1\" {} {} \"-\" \"Mozilla/5.0 ({}) {:08x}\"",
            next(4),
            next(256),
            next(256),
            second / 60 % 60,
            second % 60,
            ["users", "orders", "items", "health"][usize::try_from(next(4)).unwrap()],
            next(100_000),
            next(50),
            [200, 200, 200, 304, 404, 500][usize::try_from(next(6)).unwrap()],
            next(60_000),
            ["X11; Linux x86_64", "Windows NT 10.0; Win64", "iPhone"][usize::try_from(next(3)).unwrap()],
            next(u64::from(u32::MAX)),
        );
    }
    text.into_bytes()
}

fn blocks(input: &Bytes, size: usize) -> Vec<SourceBlock> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let want = (at + size.min(BLOCK_BYTES)).min(input.len());
        let end = memchr::memrchr(b'\n', &input[at..want]).map_or(want, |found| at + found + 1);
        let part = input.slice(at..end);
        let records = u32::try_from(memchr::memchr_iter(b'\n', &part).count()).unwrap();
        let block = Block::from_lines(StreamId::default(), at as u64, part, records, 0, 5);
        let (lane, resume, credit) = (Lane::Live, Resume::Nowhere, CreditPermit::uncounted());
        blocks.push(SourceBlock {
            block,
            lane,
            replayable: true,
            resume,
            credit,
        });
        at = end;
    }
    blocks
}

#[test]
#[ignore = "a measurement of some seconds"]
fn batch_sizes_and_codecs() {
    let input = Bytes::from(lines());
    println!("{:>9} {:>10} {:>10} {:>8}", "codec", "batch", "MB/s", "ratio");
    for codec in CODECS {
        for size in SIZES {
            let ring = Ring::new(RingLimits::default());
            let mut encoder = Encoder::new(
                codec.parse().unwrap(),
                BatchesInFlight::new(ring.clone()),
                ring.tally(),
            );
            let mut rest = blocks(&input, size).into_iter().peekable();
            let (started, mut sent) = (Instant::now(), 0);
            while rest.peek().is_some() {
                let blocks = rest.by_ref().take(size.div_ceil(BLOCK_BYTES)).collect();
                let batch = encoder
                    .encode(Collected {
                        lane: Lane::Live,
                        replayable: true,
                        blocks,
                    })
                    .unwrap();
                sent += batch.payload.len();
            }
            let seconds = started.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let (speed, ratio) = (
                input.len() as f64 / seconds / 1e6,
                input.len() as f64 / sent as f64,
            );
            println!("{codec:>9} {size:>10} {speed:>10.0} {ratio:>8.2}");
        }
    }
}

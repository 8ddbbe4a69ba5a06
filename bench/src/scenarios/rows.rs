//! From the commit log to rows that can be queried, and to Parquet; one core.

use edgelogger_common::range_set::RangeSet;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{self, log_entry::Body};
use edgelogger_store::{EmbeddedStore, StoreOptions, StreamState};
use prost::Message;

use crate::batches::{BLOCK_BYTES, STREAM, batches_of};
use crate::report::Target;
use crate::timing::best_of;
use crate::{Bench, Outcome};

/// The words: records a second, one core.
const ROWS_PER_S: f64 = 1_000_000.0;
const PARQUET_ROWS_PER_S: f64 = 400_000.0;
/// Enough lines to know how many a block has.
const SAMPLE_BYTES: usize = 16 << 20;
/// 4 GiB of a log.
const LEDGER_BLOCKS: u64 = 16_384;
/// 2026-03-02T00:00:00Z.
const RECEIVED_NS: i64 = 1_772_409_600_000_000_000;

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limits = std::mem::take(&mut bench.limits);
    let frames = frames(limits.sample(bench)?)?;
    bench.limits = limits;
    let memory = best(bench, &frames, false)?;
    let parquet = best(bench, &frames, true)?;
    bench.report.add(
        "log to rows in memory, one core",
        memory,
        "records/s",
        Target::AtLeast(ROWS_PER_S),
    );
    bench.report.add(
        "log to Parquet, one core",
        parquet,
        "records/s",
        Target::AtLeast(PARQUET_ROWS_PER_S),
    );
    let bytes = bench.corpus.head(SAMPLE_BYTES)?;
    let ledger = ledger_seconds_per_block();
    let block_rows = memchr::memchr_iter(b'\n', &bytes).count() as f64 / (bytes.len() / BLOCK_BYTES) as f64;
    bench.report.add(
        "ledger: ranges and source CRCs of a block, of what storing its rows takes",
        100.0 * ledger * memory / block_rows,
        "%",
        Target::AtMost(3.0),
    );
    Ok(())
}

/// What the store does for the ledger with each block: a copy of the stream's state (changes are all or nothing), a range
/// more, and the block's source CRC joined to the one before it.
fn ledger_seconds_per_block() -> f64 {
    let mut state = StreamState::new("bench", &descriptor());
    let mut applied = RangeSet::new();
    let seconds = best_of(3, || {
        for block in 0..LEDGER_BLOCKS {
            let range = block * BLOCK_BYTES as u64..(block + 1) * BLOCK_BYTES as u64;
            let mut changed = state.clone();
            changed.add_check(&range, u32::try_from(block).unwrap_or(0));
            state = changed;
            // One stream's ranges are one range nearly always.
            let _ = std::hint::black_box(&mut applied).insert(range);
        }
    });
    std::hint::black_box(&state);
    seconds / LEDGER_BLOCKS as f64
}

/// Entries as they lie in the frames of the log.
fn frames(text: &[u8]) -> Outcome<Vec<Vec<u8>>> {
    let descriptor = descriptor();
    let entry = |batch| v1::LogEntry {
        tenant: "default".to_owned(),
        agent_id: "bench".to_owned(),
        machine_id: "bench".to_owned(),
        agent_version: "0.1.0".to_owned(),
        labels: [("site".to_owned(), "bench".to_owned())].into(),
        received_time_ns: RECEIVED_NS,
        streams: vec![descriptor.clone()],
        body: Some(Body::Batch(batch)),
        ..v1::LogEntry::default()
    };
    Ok(batches_of(text, "zstd:1".parse()?)?
        .into_iter()
        .map(|batch| entry(batch).encode_to_vec())
        .collect())
}

fn descriptor() -> v1::StreamDescriptor {
    v1::StreamDescriptor {
        stream_id: StreamId::from_bytes(STREAM).to_proto(),
        kind: v1::SourceKind::File.into(),
        unit: v1::PositionUnit::Byte.into(),
        name: "/var/log/corpus.log".to_owned(),
        replayable: true,
        ..v1::StreamDescriptor::default()
    }
}

/// Records a second of the best of three runs.
fn best(bench: &Bench, frames: &[Vec<u8>], to_files: bool) -> Outcome<f64> {
    let mut failed = None;
    let mut rows = 0;
    let mut stores = Vec::new();
    for run in 0..3 {
        let mut options = StoreOptions::new(bench.scratch(&format!("rows-{run}"))?);
        if !to_files {
            (options.memory_bytes, options.flush_rows) = (u64::MAX, u64::MAX);
        }
        stores.push(EmbeddedStore::open(options)?);
    }
    let mut run = 0;
    let seconds = best_of(3, || match store(&stores[run], frames, to_files) {
        Ok(stored) => (rows, run) = (stored, run + 1),
        Err(error) => failed = Some(error),
    });
    failed.map_or(Ok(rows as f64 / seconds), Err)
}

fn store(store: &EmbeddedStore, frames: &[Vec<u8>], to_files: bool) -> Outcome<u64> {
    let mut rows = 0;
    for (sequence, frame) in (0..).zip(frames) {
        let applied = store.apply(sequence, &v1::LogEntry::decode(frame.as_slice())?)?;
        rows += applied.rows;
        if to_files && applied.flush_due {
            store.flush()?;
        }
    }
    if to_files {
        store.flush()?;
    }
    Ok(rows)
}

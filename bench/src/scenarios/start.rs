//! Starting with a log that the store does not have, as after kill -9 of a collector whose store was far behind.

use std::time::{Duration, Instant};

use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{PositionUnit, SourceKind};

use crate::batches::batches_of_stream;
use crate::commit_log::{CommitLog, stream};
use crate::programs::Collector;
use crate::report::Target;
use crate::{Bench, Outcome};

const LOG_BYTES: u64 = 1 << 30;
/// 2026-03-02T00:00:00Z.
const RECEIVED_NS: i64 = 1_772_409_600_000_000_000;
const ASK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let dir = bench.scratch("start")?.canonicalize()?;
    let mut collector = Collector::start(&dir, "")?;
    collector.halt()?;
    let text = bench.corpus.head(usize::MAX)?;
    let lines = memchr::memchr_iter(b'\n', &text).count() as u64;
    let mut log = CommitLog::open(&dir.join("collector"))?;
    let mut total = 0;
    for number in 1u8.. {
        let id = StreamId::from_bytes([number; 16]);
        for batch in batches_of_stream(id, &text, "zstd:1".parse()?)? {
            let descriptor = stream(id, SourceKind::File, PositionUnit::Byte, "/var/log/corpus.log");
            log.append(&format!("m-{number:02}"), descriptor, RECEIVED_NS, batch)?;
        }
        total += lines;
        if log.bytes >= LOG_BYTES {
            break;
        }
    }
    let bytes = log.finish()?;
    drop(text);
    let start = Instant::now();
    let ready = collector.restart()?;
    bench.report.add(
        &format!("start with {} MiB of log not in the store", bytes >> 20),
        ready,
        "s",
        Target::AtMost(20.0),
    );
    collector.wait_until("every line is stored", ASK_EVERY, |collector| {
        Ok((collector.applied()? >= total).then_some(()))
    })?;
    bench.report.add(
        &format!("the same: until all {total} lines can be queried"),
        start.elapsed().as_secs_f64(),
        "s",
        Target::None,
    );
    bench.report.add(
        "the same: collector's peak RSS",
        collector.program.peak_rss() as f64 / f64::from(1 << 20),
        "MiB",
        Target::None,
    );
    collector.program.stop()?;
    bench.discard(&dir)
}

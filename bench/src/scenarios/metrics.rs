//! A day of 5,000 series, one sample each ten seconds: 43 million samples, and questions to them.

use std::path::Path;
use std::time::{Duration, Instant};

use edgelogger_common::block::{MetricBlockBuilder, MetricRow, Value};
use edgelogger_common::codec::Compressor;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{PositionUnit, SourceKind};

use super::queries::{drop_page_cache, folder_bytes};
use crate::batches::batch_of;
use crate::commit_log::{CommitLog, stream};
use crate::programs::Collector;
use crate::random::Random;
use crate::report::Target;
use crate::{Bench, Outcome};

const MACHINES: u8 = 100;
const SENSORS: u64 = 50;
const SECOND: i64 = 1_000_000_000;
const EVERY_NS: i64 = 10 * SECOND;
const SAMPLES: i64 = 8_640;
/// Ten minutes of all sensors of a machine.
const SAMPLES_IN_BATCH: i64 = 60;
/// 2026-03-01T00:00:00Z.
const BEGIN_NS: i64 = 1_772_323_200_000_000_000;
const DAY: &str = "from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z";
const ASK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let dir = bench.scratch("metrics")?.canonicalize()?;
    let mut collector = Collector::start(&dir, "")?;
    collector.halt()?;
    let total = fill(&dir.join("collector"))?;
    let start = Instant::now();
    collector.restart()?;
    collector.wait_until("every sample is stored", ASK_EVERY, |collector| {
        Ok((collector.applied()? >= total).then_some(()))
    })?;
    let stored = start.elapsed().as_secs_f64();
    collector.wait_until_settled()?;
    collector.restart()?;
    let report = &mut bench.report;
    report.add(
        "43,200,000 samples: from the log to the store",
        total as f64 / stored,
        "samples/s",
        Target::None,
    );
    report.add(
        "the same: on disk, all columns",
        folder_bytes(&dir.join("collector/store/files"))? as f64 / total as f64,
        "bytes/sample",
        Target::None,
    );
    let one_series = |machine: &str| {
        format!(
            "/api/v1/metrics/range?name=hw.temperature&machine={machine}&label.sensor=s-07&{DAY}&step=288s"
        )
    };
    let questions = [
        // The program itself comes from the disk, too, as far as nobody needed it so far.
        (
            "the first question after a start: one series' day in 300 points",
            one_series("m-008"),
            Target::None,
        ),
        (
            "one series' day in 300 points",
            one_series("m-007"),
            Target::AtMost(0.1),
        ),
        (
            "one metric of 100 machines, averaged by minute, an hour",
            "/api/v1/metrics/range?name=hw.temperature&label.sensor=s-07&group_by=none&step=1m\
             &from=2026-03-01T10:00:00Z&to=2026-03-01T11:00:00Z"
                .to_owned(),
            Target::AtMost(1.0),
        ),
        (
            "one metric of 100 machines, averaged by minute, the day",
            format!(
                "/api/v1/metrics/range?name=hw.temperature&label.sensor=s-07&group_by=none&{DAY}&step=1m"
            ),
            Target::AtMost(1.0),
        ),
    ];
    for (name, path, target) in questions {
        drop_page_cache();
        let start = Instant::now();
        let answer = collector.get(&path)?;
        let seconds = start.elapsed().as_secs_f64();
        if answer["samples"].as_u64().unwrap_or(0) == 0 {
            return Err(format!("{path} found nothing: {answer}").into());
        }
        bench
            .report
            .add(&format!("43,200,000 samples: {name}"), seconds, "s", target);
    }
    collector.program.stop()?;
    bench.discard(&dir)
}

/// The day as it would have come, ten minutes of each machine at a time. Gives how many samples it has.
fn fill(data_dir: &Path) -> Outcome<u64> {
    let mut log = CommitLog::open(data_dir)?;
    let mut compressor = Compressor::new();
    let mut random = Random::new(7);
    let mut heat = vec![20.0; usize::from(MACHINES) * usize::try_from(SENSORS)?];
    let mut total = 0;
    for (sequence, first) in (0..SAMPLES)
        .step_by(usize::try_from(SAMPLES_IN_BATCH)?)
        .enumerate()
    {
        for machine in 0..MACHINES {
            let id = StreamId::from_bytes([machine + 1; 16]);
            let position = first as u64 * SENSORS;
            let mut block = MetricBlockBuilder::new(id, position);
            for sample in first..first + SAMPLES_IN_BATCH {
                for sensor in 0..SENSORS {
                    let index = u64::from(machine) * SENSORS + sensor;
                    let heat = &mut heat[usize::try_from(index)?];
                    // A sensor with a resolution of a tenth of a degree.
                    *heat += (random.below(3) as f64 - 1.0) / 10.0;
                    block.push(MetricRow {
                        observed_time: BEGIN_NS + sample * EVERY_NS,
                        name: "hw.temperature".to_owned(),
                        unit: "Cel".to_owned(),
                        labels: vec![("sensor".to_owned(), Value::String(format!("s-{sensor:02}")))],
                        value: Some((*heat * 10.0).round() / 10.0),
                        source_len: 1,
                        ..MetricRow::default()
                    });
                    total += 1;
                }
            }
            let batch = batch_of(
                &[block.finish()?],
                "zstd:1".parse()?,
                &mut compressor,
                sequence as u64 + 1,
            )?;
            log.append(
                &format!("m-{machine:03}"),
                stream(id, SourceKind::HostMetrics, PositionUnit::Record, "host"),
                BEGIN_NS + (first + SAMPLES_IN_BATCH) * EVERY_NS,
                batch,
            )?;
        }
    }
    log.finish()?;
    Ok(total)
}

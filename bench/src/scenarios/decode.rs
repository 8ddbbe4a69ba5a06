//! What the collector does with a batch before it appends it: hash, decompress, take apart, check every column.

use edgelogger_common::block::batch::{BatchLimits, validate};
use edgelogger_common::codec::Decompressor;

use crate::batches::batches_of;
use crate::report::Target;
use crate::timing::best_of;
use crate::{Bench, Outcome};

/// The words: records a second, one core.
const RECORDS_PER_S: f64 = 3_000_000.0;

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limits = std::mem::take(&mut bench.limits);
    let sample = limits.sample(bench)?;
    for codec in ["lz4", "zstd:1"] {
        let batches = batches_of(sample, codec.parse()?)?;
        let records: u64 = batches.iter().map(|batch| u64::from(batch.record_count)).sum();
        let (batch_limits, mut decompressor) = (BatchLimits::default(), Decompressor::new());
        let mut refused = None;
        let seconds = best_of(3, || {
            for batch in &batches {
                if let Err(error) = validate(batch, &batch_limits, &mut decompressor) {
                    refused = Some(error);
                }
            }
        });
        if let Some(error) = refused {
            return Err(error.into());
        }
        let name = format!("decode and validate, {codec}, one core");
        bench.report.add(
            &name,
            records as f64 / seconds,
            "records/s",
            Target::AtLeast(RECORDS_PER_S),
        );
    }
    bench.limits = limits;
    Ok(())
}

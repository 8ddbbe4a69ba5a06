//! Codecs on blocks of the corpus: the figures from which the default was chosen.

use crate::limits::{BLOCK_SIZES, CodecSpeed, lz4, zstd};
use crate::report::Target;
use crate::{Bench, Outcome};

const ZSTD_LEVELS: [i32; 3] = [-1, 1, 3];

/// Sizes of batches that zstd level 1 is compared at.
const BATCH_SIZES: [usize; 3] = [64 << 10, 512 << 10, 4 << 20];

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limits = std::mem::take(&mut bench.limits);
    let sample = limits.sample(bench)?;
    for size in BLOCK_SIZES {
        add(bench, "lz4_flex", size, lz4(sample, size));
        for level in ZSTD_LEVELS {
            add(bench, &format!("zstd {level}"), size, zstd(sample, size, level)?);
        }
    }
    for size in BATCH_SIZES {
        add(bench, "zstd 1", size, zstd(sample, size, 1)?);
    }
    bench.limits = limits;
    Ok(())
}

fn add(bench: &mut Bench, codec: &str, block_size: usize, speed: CodecSpeed) {
    let name = format!("limit: {codec}, {} KiB blocks", block_size >> 10);
    bench.report.add(&name, speed.mb_per_s, "MB/s", Target::None);
    bench.report.add(
        &format!("{name}, compressed ÷ raw"),
        speed.ratio,
        "",
        Target::None,
    );
}

//! The machine's limits that are not codecs.

use crate::limits::{line_scan_mb_per_s, loopback_tls_mb_per_s, sha256_mb_per_s};
use crate::report::Target;
use crate::timing::ms;
use crate::{Bench, Outcome};

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limits = std::mem::take(&mut bench.limits);
    let sample = limits.sample(bench)?;
    let (scan, sha256) = (line_scan_mb_per_s(sample), sha256_mb_per_s(sample));
    let sync = limits.fdatasync(bench)?;
    let tls = loopback_tls_mb_per_s(&bench.scratch("tls")?)?;
    bench.limits = limits;
    let report = &mut bench.report;
    report.add("limit: line scan (memchr)", scan, "MB/s", Target::None);
    report.add("limit: SHA-256", sha256, "MB/s", Target::None);
    report.add(
        "limit: 4 KiB write + fdatasync, p50",
        ms(sync.p50),
        "ms",
        Target::None,
    );
    report.add(
        "limit: 4 KiB write + fdatasync, p99",
        ms(sync.p99),
        "ms",
        Target::None,
    );
    report.add("limit: loopback TLS 1.3", tls, "MB/s", Target::None);
    Ok(())
}

//! Time and severity of every line of the corpus.

use edgelogger_common::recognition::Recognizer;

use crate::report::Target;
use crate::timing::best_of;
use crate::{Bench, Outcome};

/// 2026-03-02T00:00:00Z, the end of the corpus's day.
const OBSERVED_NS: i64 = 1_772_409_600_000_000_000;

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let limits = std::mem::take(&mut bench.limits);
    let text = limits.sample(bench)?;
    let recognizer = Recognizer::default();
    let (mut lines, mut timed, mut graded) = (0_u64, 0_u64, 0_u64);
    let seconds = best_of(3, || {
        (lines, timed, graded) = (0, 0, 0);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text) {
            let found = recognizer.recognize(&text[start..end], OBSERVED_NS);
            lines += 1;
            timed += u64::from(found.event_time.is_some());
            graded += u64::from(found.severity.is_some());
            start = end + 1;
        }
    });
    bench.limits = limits;
    let per_line_ns = seconds * 1e9 / lines as f64;
    bench.report.add(
        "recognise time and severity, one core",
        per_line_ns,
        "ns/line",
        Target::AtMost(250.0),
    );
    bench.report.add(
        "lines whose time is recognised",
        100.0 * timed as f64 / lines as f64,
        "%",
        Target::None,
    );
    bench.report.add(
        "lines whose severity is recognised",
        100.0 * graded as f64 / lines as f64,
        "%",
        Target::None,
    );
    Ok(())
}

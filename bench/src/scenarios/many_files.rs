//! Two thousand files of a thousand lines against one file of the same bytes.

use std::fs;
use std::path::Path;

use super::ship::{Setting, ship};
use crate::report::Target;
use crate::{Bench, Outcome};

const FILES: usize = 2_000;
const LINES: usize = 1_000;

pub(super) fn run(bench: &mut Bench) -> Outcome<()> {
    let files = bench.scratch("many-files/logs")?;
    write_files(&bench.corpus.head(usize::MAX)?, &files)?;
    let setting = Setting {
        codec: Some("lz4"),
        ..Setting::default()
    };
    let lines = (FILES * LINES) as u64;
    let glob = format!("{}/*.log", files.canonicalize()?.display());
    let many = ship(&bench.scratch("many-files/run")?, &glob, lines, setting)?;
    fs::remove_dir_all(&files)?;
    let path = bench.corpus.path.canonicalize()?.display().to_string();
    let one = ship(
        &bench.scratch("many-files/run")?,
        &path,
        bench.corpus.lines,
        setting,
    )?;
    let name = "2,000 files of 1,000 lines, against one file";
    bench
        .report
        .compare(name, many.seconds, "s", one.seconds, Target::RatioAtMost(1.5));
    let mib = many.agent_peak_rss as f64 / f64::from(1 << 20);
    bench
        .report
        .add("the same: agent's peak RSS", mib, "MiB", Target::AtMost(48.0));
    Ok(())
}

/// The corpus, cut into files.
fn write_files(text: &[u8], dir: &Path) -> Outcome<()> {
    let mut start = 0;
    for (index, end) in memchr::memchr_iter(b'\n', text)
        .skip(LINES - 1)
        .step_by(LINES)
        .take(FILES)
        .enumerate()
    {
        fs::write(dir.join(format!("{index:04}.log")), &text[start..=end])?;
        start = end + 1;
    }
    Ok(())
}

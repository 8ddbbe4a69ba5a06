//! `/proc/stat`: processor time by mode (source: proc(5)).

/// Modes in the order of the file, with OpenTelemetry's names.
pub(super) const MODES: [&str; 8] = [
    "user",
    "nice",
    "system",
    "idle",
    "iowait",
    "interrupt",
    "soft_interrupt",
    "steal",
];
/// Those in which nothing runs.
const IDLE: [usize; 2] = [3, 4];

/// Ticks by mode since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ticks(pub [u64; MODES.len()]);

/// Of all processors together, and of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct CpuTimes {
    pub total: Ticks,
    /// By logical number; processors that are off are missing.
    pub each: Vec<(u32, Ticks)>,
}

impl Ticks {
    fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, ticks| sum.saturating_add(*ticks))
    }

    fn idle(&self) -> u64 {
        IDLE.iter().map(|mode| self.0[*mode]).fold(0, u64::saturating_add)
    }

    /// The part of the time since `before` in which something ran, 0 to 1. `None` where no time passed, or a
    /// counter ran backwards (iowait does at times).
    pub fn utilization_since(&self, before: &Self) -> Option<f64> {
        let all = self.sum().checked_sub(before.sum()).filter(|all| *all > 0)?;
        let idle = self.idle().checked_sub(before.idle())?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "ticks of one interval are far below 2^52"
        )]
        let busy = 1.0 - idle as f64 / all as f64;
        Some(busy.clamp(0.0, 1.0))
    }
}

/// Lines that are not understood are skipped: later kernels add to this file.
pub(super) fn parse(stat: &str) -> Option<CpuTimes> {
    let mut times = CpuTimes::default();
    let mut has_total = false;
    for line in stat.lines() {
        let Some(rest) = line.strip_prefix("cpu") else {
            continue;
        };
        let mut words = rest.split_ascii_whitespace();
        let number = if rest.starts_with(' ') { None } else { words.next() };
        let mut ticks = Ticks::default();
        for mode in &mut ticks.0 {
            // Old kernels have fewer modes.
            *mode = words.next().map_or(Some(0), |word| word.parse().ok())?;
        }
        match number {
            None => (times.total, has_total) = (ticks, true),
            Some(number) => times.each.push((number.parse().ok()?, ticks)),
        }
    }
    has_total.then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 5 0 2 40 2 0 0 0 0 0\ncpu3 5 1 3 40 2 0 0 0\nintr 17 0\nctxt 5\n";

    #[test]
    fn the_total_and_each_processor_are_read() {
        let times = parse(STAT).unwrap();
        assert_eq!(times.total, Ticks([10, 1, 5, 80, 4, 0, 0, 0]));
        assert_eq!(
            times.each.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [0, 3]
        );
    }

    #[test]
    fn what_is_no_such_file_is_nothing() {
        for text in ["", "intr 1\n", "cpu x\n", "cpuX 1\ncpu 1\n"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn utilization_is_the_part_that_was_not_idle() {
        let (before, after) = (
            Ticks([10, 0, 0, 80, 10, 0, 0, 0]),
            Ticks([40, 0, 5, 140, 15, 0, 0, 0]),
        );
        assert_eq!(after.utilization_since(&before), Some(0.35));
        assert_eq!(before.utilization_since(&before), None);
        assert_eq!(before.utilization_since(&after), None);
    }
}

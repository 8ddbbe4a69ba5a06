//! How much may be under way: enough to keep the line full, and so little that a fresh line behind it arrives soon.
//!
//! A fixed bound can't be both: 4 MiB are nothing on a fast line and half a minute on one of 1 Mbit/s. So the rate at
//! which the collector acknowledges is measured, and what is under way is what the line carries in the time of an ack
//! plus [`AHEAD`]. The idea of measuring both, and of draining the line now and then to see the true time of an ack, is
//! that of BBR (Cardwell and others, "BBR: Congestion-Based Congestion Control", 2016).
//!
//! Pure. All bytes are payload bytes of batches.

use std::time::Duration;

/// What waits in the line beyond what an ack takes: the longest that a fresh line is held up by what was sent before
/// it, and the longest that the line may take no data from us before it runs dry.
const AHEAD: Duration = Duration::from_millis(500);
/// Before anything was measured: 1 s of a line of 1 Mbit/s.
const INITIAL_BYTES: u64 = 128 << 10;
/// Never less: one batch on a slow line.
const WINDOW_BYTES_MIN: u64 = 32 << 10;
/// Acks are counted together for this long, because one batch says little about a rate.
const SAMPLE_TIME: Duration = Duration::from_millis(200);
/// The shortest time of an ack is measured anew after this long. Meanwhile the line was never empty, so every ack
/// waited behind what was sent before it.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// While it is measured, this part of the window is used.
const PROBE_DIVISOR: u64 = 4;

#[derive(Debug)]
pub(super) struct Window {
    bytes_max: u64,
    /// Bytes per second; `None`: nothing was acked yet.
    rate: Option<f64>,
    sample: Option<Sample>,
    /// The batch whose ack is waited for to measure its time.
    timed: Option<Timed>,
    /// The shortest time from sending a batch to its ack, and when it was measured.
    ack_time: Option<(Duration, Duration)>,
    is_probing: bool,
}

/// Acks since `since`, while something was under way all the time.
#[derive(Debug)]
struct Sample {
    since: Duration,
    bytes: u64,
    /// The window kept something from being sent.
    was_full: bool,
}

#[derive(Debug)]
struct Timed {
    sequence: u64,
    sent_at: Duration,
}

impl Window {
    /// Never more than `bytes_max`.
    pub const fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            rate: None,
            sample: None,
            timed: None,
            ack_time: None,
            is_probing: false,
        }
    }

    /// A new connection may be another line.
    pub const fn restart(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// What the line carries, as measured.
    pub const fn bytes_per_second(&self) -> Option<u64> {
        // A rate beyond all lines is one of `u64::MAX`.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        match self.rate {
            Some(rate) => Some(rate as u64),
            None => None,
        }
    }

    /// What may be under way.
    pub fn bytes(&self) -> u64 {
        let whole = self.whole();
        if self.is_probing {
            (whole / PROBE_DIVISOR).max(WINDOW_BYTES_MIN).min(whole)
        } else {
            whole
        }
    }

    fn whole(&self) -> u64 {
        let Some(rate) = self.rate else {
            return INITIAL_BYTES.min(self.bytes_max);
        };
        let ack_time = self.ack_time.map_or(Duration::ZERO, |(time, _)| time);
        let bytes = rate * (ack_time + AHEAD).as_secs_f64();
        // A rate beyond all lines is beyond the bound, too.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes = bytes as u64;
        bytes.max(WINDOW_BYTES_MIN).min(self.bytes_max)
    }

    /// There was something to send, and no room.
    pub const fn note_full(&mut self) {
        if let Some(sample) = &mut self.sample {
            // While it is small on purpose, it says nothing about the line.
            sample.was_full = !self.is_probing;
        }
    }

    /// A batch was sent, because there was room for it.
    pub fn sent(&mut self, sequence: u64, now: Duration) {
        self.sample.get_or_insert(Sample {
            since: now,
            bytes: 0,
            was_full: false,
        });
        self.timed.get_or_insert(Timed {
            sequence,
            sent_at: now,
        });
    }

    /// Everything up to `sequence` is acked, `bytes` more than before; `in_flight` are still under way.
    pub fn acked(&mut self, sequence: u64, bytes: u64, in_flight: u64, now: Duration) {
        self.time_ack(sequence, now);
        let Some(sample) = &mut self.sample else {
            return;
        };
        sample.bytes += bytes;
        let time = now.saturating_sub(sample.since);
        if time < SAMPLE_TIME && in_flight > 0 {
            return;
        }
        let rate = sample.bytes as f64 / time.as_secs_f64().max(1e-4);
        let was_full = sample.was_full;
        self.rate = Some(match self.rate {
            // Less than the line carries, because there was no more to be carried.
            Some(known) if rate < known && !was_full => known,
            Some(known) if rate < known => f64::midpoint(known, rate),
            _ => rate,
        });
        self.sample = (in_flight > 0).then_some(Sample {
            since: now,
            bytes: 0,
            was_full: false,
        });
    }

    /// What was sent is to be sent again: nothing of it says how fast the line is.
    pub fn rewound(&mut self) {
        (self.sample, self.timed) = (None, None);
    }

    fn time_ack(&mut self, sequence: u64, now: Duration) {
        if let Some(timed) = self.timed.take_if(|timed| timed.sequence <= sequence) {
            let time = now.saturating_sub(timed.sent_at);
            let is_shorter = self.ack_time.is_none_or(|(known, _)| time < known);
            if is_shorter || self.is_probing {
                self.ack_time = Some((time, now));
                self.is_probing = false;
            }
        }
        let is_old = |(_, measured_at)| now.saturating_sub(measured_at) >= PROBE_EVERY;
        if !self.is_probing && self.ack_time.is_some_and(is_old) {
            // What was sent before the line is drained waits behind what is in it.
            (self.is_probing, self.timed) = (true, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A line with a rate and a delay that is always given as much as the window allows.
    struct Simulated {
        window: Window,
        bytes_per_second: f64,
        delay: Duration,
        batch_bytes: u64,
        now: Duration,
        /// When the line is free, and what is under way: sequence and when its ack comes.
        free_at: Duration,
        under_way: VecDeque<(u64, Duration)>,
        sequence: u64,
        acked_bytes: u64,
        longest_ack: Duration,
    }

    impl Simulated {
        fn new(bytes_per_second: f64, delay: Duration, batch_bytes: u64) -> Self {
            Self {
                window: Window::new(4 << 20),
                bytes_per_second,
                delay,
                batch_bytes,
                now: Duration::ZERO,
                free_at: Duration::ZERO,
                under_way: VecDeque::new(),
                sequence: 0,
                acked_bytes: 0,
                longest_ack: Duration::ZERO,
            }
        }

        fn in_flight(&self) -> u64 {
            self.under_way.len() as u64 * self.batch_bytes
        }

        fn run_for(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                while self.in_flight() < self.window.bytes() {
                    self.sequence += 1;
                    let takes = Duration::from_secs_f64(self.batch_bytes as f64 / self.bytes_per_second);
                    self.free_at = self.free_at.max(self.now) + takes;
                    self.longest_ack = self.longest_ack.max(self.free_at + self.delay - self.now);
                    self.under_way
                        .push_back((self.sequence, self.free_at + self.delay));
                    self.window.sent(self.sequence, self.now);
                }
                self.window.note_full();
                let Some((sequence, at)) = self.under_way.pop_front() else {
                    break;
                };
                self.now = self.now.max(at);
                self.acked_bytes += self.batch_bytes;
                let in_flight = self.in_flight();
                self.window.acked(sequence, self.batch_bytes, in_flight, self.now);
            }
        }

        /// Part of the line that is used from now on, and the longest time to an ack.
        fn measure(&mut self, time: Duration) -> (f64, Duration) {
            let (from, before) = (self.now, self.acked_bytes);
            self.longest_ack = Duration::ZERO;
            self.run_for(time);
            let rate = (self.acked_bytes - before) as f64 / (self.now - from).as_secs_f64();
            (rate / self.bytes_per_second, self.longest_ack)
        }
    }

    #[test]
    fn a_slow_line_is_full_and_what_comes_next_waits_little_more_than_a_second() {
        let mut line = Simulated::new(125_000.0, Duration::from_millis(50), 50_000);
        line.run_for(Duration::from_secs(5));
        let (used, longest) = line.measure(Duration::from_secs(120));
        assert!(used > 0.9, "{used} of the line");
        assert!(longest < Duration::from_millis(2_500), "{longest:?}");
    }

    #[test]
    fn a_fast_line_with_a_long_way_gets_all_that_may_be_under_way() {
        let mut line = Simulated::new(50e6, Duration::from_millis(300), 100_000);
        line.run_for(Duration::from_secs(5));
        assert_eq!(line.window.bytes(), 4 << 20);
    }

    #[test]
    fn acks_that_take_long_do_not_close_the_window() {
        let mut line = Simulated::new(1e6, Duration::from_millis(10), 50_000);
        line.run_for(Duration::from_secs(10));
        // The collector's disk is slow now.
        line.delay = Duration::from_secs(3);
        line.run_for(Duration::from_secs(120));
        let (used, _) = line.measure(Duration::from_secs(60));
        assert!(used > 0.7, "{used} of the line");
    }

    #[test]
    fn a_line_that_becomes_slow_gets_a_small_window() {
        let mut line = Simulated::new(10e6, Duration::from_millis(10), 50_000);
        line.run_for(Duration::from_secs(5));
        line.bytes_per_second = 100_000.0;
        line.run_for(Duration::from_secs(90));
        let (used, longest) = line.measure(Duration::from_secs(60));
        assert!(
            used > 0.9 && longest < Duration::from_secs(3),
            "{used} {longest:?}"
        );
    }

    #[test]
    fn little_data_says_nothing_against_the_line() {
        let mut window = Window::new(4 << 20);
        window.sent(1, Duration::ZERO);
        window.acked(1, 1_000_000, 0, Duration::from_millis(100));
        let before = window.bytes();
        for second in 1..100 {
            let now = Duration::from_secs(second);
            window.sent(second + 1, now);
            window.acked(second + 1, 100, 0, now + Duration::from_millis(50));
        }
        assert!(
            window.bytes() >= before / PROBE_DIVISOR,
            "{} of {before}",
            window.bytes()
        );
    }

    proptest! {
        #[test]
        fn every_line_is_used_and_every_window_is_bounded(
            rate in 8_000.0..200e6f64,
            delay_ms in 0u64..2_000,
            batch_bytes in 1_000u64..200_000,
        ) {
            let mut line = Simulated::new(rate, Duration::from_millis(delay_ms), batch_bytes);
            line.run_for(Duration::from_secs(40));
            let (used, _) = line.measure(Duration::from_secs(60));
            let (bytes_max, round_trip) = (4 << 20, delay_ms as f64 / 1000.0 + batch_bytes as f64 / rate);
            // What the largest window could reach.
            let most = (f64::from(bytes_max) / round_trip / rate).min(1.0);
            prop_assert!(used > 0.6 * most, "{used} of {most}");
            prop_assert!(line.window.bytes() <= 4 << 20);
        }
    }
}

//! How fast things go: counters, noted whenever somebody looks, over about a minute.

use std::collections::VecDeque;
use std::time::Duration;

/// What a rate is of, at least once there is as much.
const WINDOW: Duration = Duration::from_secs(60);
/// Looks that are closer together are one.
const APART: Duration = Duration::from_secs(2);
/// With a shorter time nothing is said: it would be chance.
const SPAN_MIN: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Note {
    at: Duration,
    counters: Vec<u64>,
}

/// Notes of counters that only grow, always in the same order.
#[derive(Debug, Default)]
pub(super) struct Rates(VecDeque<Note>);

impl Rates {
    /// Takes in what the counters are now.
    pub fn note(&mut self, at: Duration, counters: Vec<u64>) {
        if self.0.back().is_some_and(|last| at < last.at + APART) {
            return;
        }
        // One that is older than the window stays: a rate over less would be of the last moments only.
        while self.0.get(1).is_some_and(|second| second.at + WINDOW <= at) {
            self.0.pop_front();
        }
        self.0.push_back(Note { at, counters });
    }

    /// How much a second each has grown since the oldest note. `None`: it was not looked at for long enough.
    pub fn per_second(&self, at: Duration, counters: &[u64]) -> Option<Vec<f64>> {
        let first = self.0.front()?;
        let span = at.saturating_sub(first.at);
        if span < SPAN_MIN {
            return None;
        }
        let grown = counters.iter().zip(&first.counters);
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown with two digits")]
        let rate = |(now, before): (&u64, &u64)| now.saturating_sub(*before) as f64 / span.as_secs_f64();
        Some(grown.map(rate).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_is_over_the_last_minute_once_there_is_one() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(at(9), &[7]), None);
        rates.note(at(0), vec![0]);
        assert_eq!(rates.per_second(at(3), &[30]), None, "too short");
        assert_eq!(rates.per_second(at(10), &[30]), Some(vec![3.0]));
        for second in 1..=300 {
            let fast = if second > 200 { 10 * (second - 200) } else { 0 };
            rates.note(at(second), vec![fast]);
        }
        assert_eq!(rates.per_second(at(300), &[1000]), Some(vec![10.0]));
        assert!(rates.0.len() <= 32, "{}", rates.0.len());
    }

    #[test]
    fn after_a_long_silence_the_rate_is_over_all_of_it() {
        let mut rates = Rates::default();
        rates.note(at(0), vec![0]);
        rates.note(at(1000), vec![1000]);
        assert_eq!(rates.per_second(at(1000), &[1000]), Some(vec![1.0]));
    }
}

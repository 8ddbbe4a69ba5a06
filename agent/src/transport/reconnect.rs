//! When to connect again. Pure: time and randomness come in.
//!
//! A quarter of the outage so far is the ceiling of the random delay, from 1 s to 2 s: however long the outage was, new
//! data flows within 5 s of its healing, of which a thin line needs two or three. A collector of many agents says how long they should take to come back
//! together (`reconnect_spread`), and four times that is the ceiling, up to 60 s: 50,000 agents spread their attempts
//! over a minute.

use std::time::Duration;

/// The ceiling begins here.
pub const CEILING_MIN: Duration = Duration::from_secs(1);
/// And ends here in a small fleet,
pub const CEILING_SMALL_FLEET: Duration = Duration::from_secs(2);
/// or at so many times the spread,
const SPREADS: u32 = 4;
/// or here.
pub const CEILING_MAX: Duration = Duration::from_secs(60);
/// The ceiling is this part of the outage.
const OUTAGE_PARTS: u32 = 4;
/// Never faster than this, so that a collector that ends every session at once is not hammered.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest that a collector may ask to be left alone.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// Remembers the outage.
#[derive(Debug, Default)]
pub struct Backoff {
    /// Of the last Welcome.
    spread: Duration,
    since: Option<Duration>,
}

impl Backoff {
    /// A session works: an ack came, or it has lasted.
    pub fn succeeded(&mut self, spread: Duration) {
        self.spread = spread.min(ASKED_MAX);
        self.since = None;
    }

    /// How long to wait now. `asked`: by the collector; `random`: uniform in [0, 1).
    pub fn delay(&mut self, now: Duration, asked: Duration, is_lasting: bool, random: f64) -> Duration {
        let asked = asked.min(ASKED_MAX);
        let random = random.clamp(0.0, 1.0);
        let jitter = match self.since {
            _ if is_lasting => CEILING_MAX.mul_f64(random.mul_add(0.5, 0.5)),
            None => self.spread.mul_f64(random),
            Some(since) => {
                let outage = now.saturating_sub(since);
                (outage / OUTAGE_PARTS)
                    .clamp(CEILING_MIN, self.ceiling_max())
                    .mul_f64(random)
            }
        };
        self.since.get_or_insert(now);
        (asked + jitter).max(DELAY_MIN)
    }

    fn ceiling_max(&self) -> Duration {
        (self.spread * SPREADS).clamp(CEILING_SMALL_FLEET, CEILING_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_attempt_is_spread_as_the_collector_asked() {
        let mut backoff = Backoff::default();
        backoff.succeeded(secs(20));
        assert_eq!(backoff.delay(secs(100), ZERO, false, 0.5), secs(10));
        backoff.succeeded(ZERO);
        assert_eq!(backoff.delay(secs(100), ZERO, false, 0.9), DELAY_MIN);
        backoff.succeeded(secs(10));
        assert_eq!(backoff.delay(secs(100), secs(3), false, 0.5), secs(8));
    }

    #[test]
    fn what_somebody_must_repair_is_tried_twice_a_minute_at_most() {
        let mut backoff = Backoff::default();
        for random in [0.0, 0.5, 1.0] {
            let delay = backoff.delay(secs(1), ZERO, true, random);
            assert!(delay >= secs(30) && delay <= secs(60), "{delay:?}");
        }
    }

    proptest! {
        #[test]
        fn delays_stay_within_a_quarter_of_the_outage(
            outage in 0u64..100_000,
            random in 0.0f64..1.0,
            spread in 0u64..4000,
        ) {
            let mut backoff = Backoff::default();
            backoff.succeeded(secs(spread));
            backoff.delay(ZERO, ZERO, false, random);
            let delay = backoff.delay(secs(outage), ZERO, false, random);
            prop_assert!(delay >= DELAY_MIN && delay <= CEILING_MAX);
            prop_assert!(delay <= secs(outage / 4 + 1));
            if outage <= 20 || spread <= 1 { prop_assert!(delay <= secs(5)); }
        }
    }
}

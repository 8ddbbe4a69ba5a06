//! A clock for certificate dates that cannot be earlier than what is known.
//!
//! Small machines without a battery boot in 1970 and would refuse every certificate as not yet valid. The
//! program was not built in the future, and the time that a trusted collector told is not in the future
//! either; so the later of these and the clock is used. Only ever a floor: a clock that runs ahead is believed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::clock::Clock;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// When this program was built, in seconds since 1970.
pub const BUILD_UNIX_S: i64 = parse_decimal(env!("EDGELOGGER_BUILD_UNIX_S"));

/// The later of a clock, the build time and the last time observed.
pub struct FloorTime {
    clock: Arc<dyn Clock>,
    floor_ns: AtomicI64,
}

impl FloorTime {
    /// A clock with the build time as its floor.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            floor_ns: AtomicI64::new(BUILD_UNIX_S.saturating_mul(NS_PER_SECOND)),
        }
    }

    /// Raises the floor to a time (nanoseconds since 1970) that is known to have passed. Only for times that an
    /// authenticated collector told, now or in an earlier run: a floor from this machine's own clock would
    /// keep a wrong year for ever.
    pub fn observe_ns(&self, wall_ns: i64) {
        self.floor_ns.fetch_max(wall_ns, Ordering::Relaxed);
    }

    /// Nanoseconds since 1970, not before the floor.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.clock.wall_ns().max(self.floor_ns.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for FloorTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FloorTime({} ns)", self.now_ns())
    }
}

impl TimeProvider for FloorTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.now_ns() / NS_PER_SECOND).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A decimal number at compile time; what is no digit ends it.
const fn parse_decimal(text: &str) -> i64 {
    let bytes = text.as_bytes();
    let (mut number, mut at) = (0, 0);
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        number = number * 10 + (bytes[at] - b'0') as i64;
        at += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_build_time_is_a_floor_under_a_clock_of_1970() {
        let clock = Arc::new(ManualClock::at(0));
        let time = FloorTime::new(clock.clone());
        const { assert!(BUILD_UNIX_S > 1_700_000_000) };
        assert_eq!(time.now_ns(), BUILD_UNIX_S * NS_PER_SECOND);
        clock.set_wall_ns((BUILD_UNIX_S + 5) * NS_PER_SECOND);
        assert_eq!(time.now_ns(), (BUILD_UNIX_S + 5) * NS_PER_SECOND);
        assert_eq!(
            time.current_time().map(|now| now.as_secs().cast_signed()),
            Some(BUILD_UNIX_S + 5)
        );
    }

    #[test]
    fn a_time_once_observed_is_never_gone_behind() {
        let time = FloorTime::new(Arc::new(ManualClock::at(0)));
        let seen = (BUILD_UNIX_S + 100) * NS_PER_SECOND;
        time.observe_ns(seen);
        time.observe_ns(0);
        assert_eq!(time.now_ns(), seen);
    }
}

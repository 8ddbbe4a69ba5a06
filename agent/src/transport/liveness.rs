//! Is the other side still there? Pure.
//!
//! Three heartbeat intervals without a sign of life, and the connection is dropped. A sign is anything received, and
//! bytes that the system took after it had made us wait (the other side made room for them). What is under way needs
//! time on a thin link, and no answer can come before it has arrived, so 64 kbit/s are allowed for, at most a minute.
//! A cable that is cut while data is under way is noticed sooner, by the kernel (`TCP_USER_TIMEOUT`).

use std::time::Duration;

/// Silent intervals before the connection is dropped.
const INTERVALS: u32 = 3;
/// The thinnest link that is allowed for.
const LINK_BYTES_PER_S: u64 = 8 * 1024;
/// The most that is allowed for it.
const ALLOWANCE_MAX: Duration = Duration::from_secs(60);

/// Signs of life.
#[derive(Debug)]
pub(super) struct Liveness {
    interval: Duration,
    heard_at: Duration,
    bytes_since: u64,
}

impl Liveness {
    pub const fn new(interval: Duration, now: Duration) -> Self {
        Self {
            interval,
            heard_at: now,
            bytes_since: 0,
        }
    }

    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Something was received.
    pub fn heard(&mut self, now: Duration) {
        self.heard_at = now;
        self.bytes_since = 0;
    }

    /// The system took this many bytes; `waited`: after it had been full.
    pub fn wrote(&mut self, bytes: usize, waited: bool, now: Duration) {
        if waited {
            self.heard_at = now;
        }
        self.bytes_since += bytes as u64;
    }

    /// When the connection counts as dead.
    pub fn dead_at(&self) -> Duration {
        let allowance = Duration::from_millis(self.bytes_since.saturating_mul(1000) / LINK_BYTES_PER_S);
        self.heard_at + self.interval * INTERVALS + allowance.min(ALLOWANCE_MAX)
    }

    /// How long nothing was heard.
    pub fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_connection_is_dead_after_three_silent_intervals() {
        let mut live = Liveness::new(secs(10), secs(5));
        assert_eq!(live.dead_at(), secs(35));
        live.heard(secs(20));
        assert_eq!(live.dead_at(), secs(50));
    }

    #[test]
    fn a_thin_link_gets_time_for_what_is_under_way_but_not_for_ever() {
        let mut live = Liveness::new(secs(10), secs(0));
        live.wrote(64 * 1024, false, secs(1));
        assert_eq!(live.dead_at(), secs(38));
        live.wrote(100 << 20, false, secs(2));
        assert_eq!(live.dead_at(), secs(90));
        live.wrote(1, true, secs(80));
        assert_eq!(live.dead_at(), secs(170));
    }
}

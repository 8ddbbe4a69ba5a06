//! Durations as people write them: `1s`, `500ms`, `1.5 h`, `1h 30m`, `2d`.
//!
//! A bare number is refused because its unit would be a guess; only `0` needs none. A day has 24 hours, a
//! week seven days. Display writes whole units, largest first, which reads back to the same duration.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::quantity::Quantity;

/// A span of time, exact to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(Duration);

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HumanDurationError {
    /// Not a number followed by a known unit.
    #[error(
        "`{0}` is not a duration; write numbers with a unit (ns, us, ms, s, m, h, d, w), such as \"500ms\" or \"1h 30m\""
    )]
    NotADuration(String),
    /// A number alone.
    #[error("`{0}` has no unit; write for example \"{0}s\" or \"{0}ms\"")]
    NoUnit(String),
    /// More than 2^64 seconds, or a fraction of a nanosecond.
    #[error("`{0}` is too long, or finer than a nanosecond")]
    OutOfRange(String),
}

const NS_PER_SECOND: u128 = 1_000_000_000;

/// Units as they are shown, largest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400 * NS_PER_SECOND),
    ("h", 3_600 * NS_PER_SECOND),
    ("m", 60 * NS_PER_SECOND),
    ("s", NS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl HumanDuration {
    /// This many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// This many milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl Deref for HumanDuration {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        let mut separator = "";
        for (unit, ns) in UNITS {
            if rest >= ns {
                write!(f, "{separator}{}{unit}", rest / ns)?;
                rest %= ns;
                separator = " ";
            }
        }
        Ok(())
    }
}

impl FromStr for HumanDuration {
    type Err = HumanDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim();
        let written: String = rest.chars().take(40).collect();
        let mut total_ns: u128 = 0;
        loop {
            let Some((quantity, after)) = Quantity::take(rest) else {
                return Err(HumanDurationError::NotADuration(written));
            };
            let factor = match unit_ns(quantity.unit) {
                Some(ns) => ns,
                None if !quantity.unit.is_empty() => return Err(HumanDurationError::NotADuration(written)),
                None if quantity.times(1) == Some(0) => 0,
                None => return Err(HumanDurationError::NoUnit(written)),
            };
            total_ns = quantity
                .times(factor)
                .and_then(|ns| total_ns.checked_add(ns))
                .ok_or_else(|| HumanDurationError::OutOfRange(written.clone()))?;
            rest = after.trim_start();
            if rest.is_empty() {
                return from_ns(total_ns).ok_or(HumanDurationError::OutOfRange(written));
            }
        }
    }
}

fn unit_ns(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" | "sec" | "second" | "seconds" => NS_PER_SECOND,
        "m" | "min" | "minute" | "minutes" => 60 * NS_PER_SECOND,
        "h" | "hour" | "hours" => 3_600 * NS_PER_SECOND,
        "d" | "day" | "days" => 86_400 * NS_PER_SECOND,
        "w" | "week" | "weeks" => 7 * 86_400 * NS_PER_SECOND,
        _ => return None,
    })
}

fn from_ns(ns: u128) -> Option<HumanDuration> {
    let seconds = u64::try_from(ns / NS_PER_SECOND).ok()?;
    let nanos = u32::try_from(ns % NS_PER_SECOND).ok()?;
    Some(HumanDuration(Duration::new(seconds, nanos)))
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;
        impl Visitor<'_> for DurationVisitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"500ms\" or \"5m\"")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<HumanDuration, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<HumanDuration, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(DurationVisitor)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HumanDuration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "title": "duration, such as `\"10 s\"`",
            "type": "string"
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Duration) {
        assert_eq!(text.parse(), Ok(HumanDuration(expected)), "{text}");
    }

    #[test]
    fn durations_are_read_with_their_units() {
        check("1s", Duration::from_secs(1));
        check("500ms", Duration::from_millis(500));
        check("5m", Duration::from_secs(300));
        check("2d", Duration::from_secs(172_800));
        check(" 1h 30m", Duration::from_secs(5_400));
        check("1h30m", Duration::from_secs(5_400));
        check("1.5 s", Duration::from_millis(1_500));
        check("3 weeks", Duration::from_secs(21 * 86_400));
        check("250us", Duration::from_micros(250));
        check("0", Duration::ZERO);
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_way_to_write_it() {
        let error = |text: &str| text.parse::<HumanDuration>().unwrap_err().to_string();
        assert_eq!(
            error("30"),
            "`30` has no unit; write for example \"30s\" or \"30ms\""
        );
        assert_eq!(
            error("soon"),
            "`soon` is not a duration; write numbers with a unit (ns, us, ms, s, m, h, d, w), such as \"500ms\" or \"1h 30m\""
        );
        assert_eq!(error("0.5ns"), "`0.5ns` is too long, or finer than a nanosecond");
        for text in ["", "s", "-1s", "1S", "1M", "1s,", "999999999999999999999w"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_whole_units() {
        let shown = |ns| HumanDuration(Duration::from_nanos(ns)).to_string();
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(500_000_000), "500ms");
        assert_eq!(shown(90_000_000_000), "1m 30s");
        assert_eq!(shown(172_800_000_000_001), "2d 1ns");
    }

    proptest! {
        #[test]
        fn every_duration_reads_back_from_its_text(seconds: u64, nanos in 0_u32..1_000_000_000, shift in 0_u32..64) {
            let duration = HumanDuration(Duration::new(seconds >> shift, nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<HumanDuration>();
        }
    }
}

//! Byte sizes as people write them: `64 MiB`, `1GiB`, `1.5 GB`, `1024`.
//!
//! Binary units (KiB, MiB, GiB, TiB, PiB) are powers of 1,024, decimal ones (kB, MB, GB, TB, PB) powers of
//! 1,000. A bare `M` is refused: readers disagree about which of the two it is. Display writes the shortest
//! exact form, which reads back to the same size.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::quantity::Quantity;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    /// Not a number followed by a known unit.
    #[error(
        "`{0}` is not a size; write a whole number of bytes or one with a unit, such as \"64 MiB\" or \"1.5 GB\""
    )]
    NotASize(String),
    /// A unit that can be read in two ways.
    #[error(
        "the unit of `{text}` can be read in two ways; write {binary} (powers of 1,024) or {decimal} (powers of 1,000)"
    )]
    Ambiguous {
        /// As written.
        text: String,
        /// The binary unit that may be meant.
        binary: &'static str,
        /// The decimal unit that may be meant.
        decimal: &'static str,
    },
    /// More than 2^64 − 1 bytes, or a fraction of a byte.
    #[error("`{0}` is not a whole number of bytes below 16 EiB")]
    OutOfRange(String),
}

/// Units by size; for equal counts the first one is shown, so binary stands before decimal.
const UNITS: [(&str, u64); 10] = [
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

impl ByteSize {
    /// This many bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many KiB (1,024 bytes), at most 2^64 − 1 bytes.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// This many MiB (1,024² bytes), at most 2^64 − 1 bytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// This many GiB (1,024³ bytes), at most 2^64 − 1 bytes.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// The size in bytes.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The size in bytes as a length in memory; on a 32-bit machine at most its address space.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS
            .iter()
            .filter(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match exact.min_by_key(|(_, bytes)| self.0 / bytes) {
            Some((unit, bytes)) => write!(f, "{} {unit}", self.0 / bytes),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let not_a_size = || ByteSizeError::NotASize(excerpt(text));
        let (quantity, rest) = Quantity::take(text).ok_or_else(not_a_size)?;
        if !rest.is_empty() {
            return Err(not_a_size());
        }
        let factor = unit_bytes(quantity.unit, text)?.ok_or_else(not_a_size)?;
        quantity
            .times(u128::from(factor))
            .and_then(|bytes| u64::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| ByteSizeError::OutOfRange(excerpt(text)))
    }
}

/// Bytes in a unit, whatever its case; `None` for a word that is no unit.
fn unit_bytes(unit: &str, text: &str) -> Result<Option<u64>, ByteSizeError> {
    if unit.is_empty() || unit.eq_ignore_ascii_case("b") {
        return Ok(Some(1));
    }
    let named = |(name, _): &&(&str, u64)| name.eq_ignore_ascii_case(unit);
    if let Some((_, bytes)) = UNITS.iter().find(named) {
        return Ok(Some(*bytes));
    }
    let bare = |pair: &&[(&'static str, u64)]| unit.eq_ignore_ascii_case(&pair[0].0[..1]);
    match UNITS.chunks_exact(2).find(bare) {
        Some(pair) => Err(ByteSizeError::Ambiguous {
            text: excerpt(text),
            binary: pair[0].0,
            decimal: pair[1].0,
        }),
        None => Ok(None),
    }
}

/// What was written, short enough for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 MiB\" or a whole number of bytes")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "title": "size, such as `\"64 MiB\"`",
            "type": ["string", "integer"],
            "minimum": 0
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: u64) {
        assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
    }

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        check("1024", 1024);
        check("0", 0);
        check("12 B", 12);
        check("64 MiB", 64 << 20);
        check("1GiB", 1 << 30);
        check(" 1.5 gib ", 3 << 29);
        check("10kB", 10_000);
        check("1_000 MB", 1_000_000_000);
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_way_to_write_it() {
        let error = |text: &str| text.parse::<ByteSize>().unwrap_err().to_string();
        assert_eq!(
            error("lots"),
            "`lots` is not a size; write a whole number of bytes or one with a unit, such as \"64 MiB\" or \"1.5 GB\""
        );
        assert_eq!(
            error("64M"),
            "the unit of `64M` can be read in two ways; write MiB (powers of 1,024) or MB (powers of 1,000)"
        );
        assert_eq!(
            error("0.5 B"),
            "`0.5 B` is not a whole number of bytes below 16 EiB"
        );
        assert_eq!(
            error("99999999 PiB"),
            "`99999999 PiB` is not a whole number of bytes below 16 EiB"
        );
        for text in ["", "MiB", "-1", "1 MiB 2", "1 Mbit", "1 MiBs"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_shown_in_its_shortest_exact_form() {
        let shown = |bytes| ByteSize(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1024), "1 KiB");
        assert_eq!(shown(1000), "1 kB");
        assert_eq!(shown(64 << 20), "64 MiB");
        assert_eq!(shown(1_500_000), "1500 kB");
    }

    proptest! {
        #[test]
        fn every_size_reads_back_from_its_text(bytes: u64, shift in 0_u32..64) {
            let size = ByteSize(bytes >> shift << (shift / 2));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}

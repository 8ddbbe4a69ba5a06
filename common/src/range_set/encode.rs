//! The bytes of a set.
//!
//! LEB128 varints: the number of ranges; then for each the distance of its start from the end of the one before
//! (from 0 for the first; else less 1, for it is never 0), and its length less 1. One range of a large file is 7
//! to 12 bytes. A set has one encoding: what is longer than needed is refused.

use super::{RANGES_MAX, RangeSet};
use serde::de::Error as _;
use std::ops::Range;

/// Seven bits a byte.
const VARINT_BYTES_MAX: usize = 10;

/// Why bytes are not a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeSetDecodeError {
    /// The bytes end too early.
    #[error("a set of ranges is cut short")]
    CutShort,
    /// More ranges than allowed.
    #[error("a set of {count} ranges; at most {RANGES_MAX} are allowed")]
    TooManyRanges {
        /// As declared.
        count: u64,
    },
    /// A position above 2^64 - 1, or a number written longer than needed.
    #[error("a number in a set of ranges is out of range or malformed")]
    BadNumber,
    /// Bytes are left over.
    #[error("{bytes} bytes follow a set of ranges")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
}

impl RangeSet {
    /// Appends the encoding of this set.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.ranges.len() as u64, out);
        let mut behind = None;
        for Range { start, end } in &self.ranges {
            // Ranges do not touch, so the distance is at least 1.
            put_varint(behind.map_or(*start, |behind: u64| start - behind - 1), out);
            put_varint(end - start - 1, out);
            behind = Some(*end);
        }
    }

    /// The set that these bytes, all of them, encode.
    ///
    /// # Errors
    /// For anything that [`RangeSet::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, RangeSetDecodeError> {
        let mut rest = bytes;
        let count = take_varint(&mut rest)?;
        let capacity = usize::try_from(count).unwrap_or(usize::MAX);
        if capacity > RANGES_MAX {
            return Err(RangeSetDecodeError::TooManyRanges { count });
        }
        let mut ranges: Vec<Range<u64>> = Vec::with_capacity(capacity);
        for _ in 0..count {
            let distance = take_varint(&mut rest)?;
            let start = match ranges.last() {
                None => Some(distance),
                Some(last) => last
                    .end
                    .checked_add(1)
                    .and_then(|from| from.checked_add(distance)),
            };
            let length = take_varint(&mut rest)?.checked_add(1);
            let range = start
                .zip(length)
                .and_then(|(start, length)| Some(start..start.checked_add(length)?));
            ranges.push(range.ok_or(RangeSetDecodeError::BadNumber)?);
        }
        match rest.len() {
            0 => Ok(Self { ranges }),
            bytes => Err(RangeSetDecodeError::TrailingBytes { bytes }),
        }
    }
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, RangeSetDecodeError> {
    let mut number = 0_u64;
    for index in 0..VARINT_BYTES_MAX {
        let (&byte, behind) = rest.split_first().ok_or(RangeSetDecodeError::CutShort)?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        number |= bits << (7 * index);
        let overflows = index == VARINT_BYTES_MAX - 1 && byte > 1;
        let overlong = index > 0 && byte == 0;
        if overflows || overlong {
            return Err(RangeSetDecodeError::BadNumber);
        }
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(RangeSetDecodeError::BadNumber)
}

/// As a list of `[start, end]` pairs.
impl serde::Serialize for RangeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges.iter().map(|range| (range.start, range.end)))
    }
}

/// From a list of `[start, end]` pairs in any order; an end before its start is refused.
impl<'de> serde::Deserialize<'de> for RangeSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> serde::de::Visitor<'de> for Pairs {
            type Value = RangeSet;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of [start, end] pairs")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut pairs: A) -> Result<RangeSet, A::Error> {
                let mut set = RangeSet::new();
                while let Some((start, end)) = pairs.next_element::<(u64, u64)>()? {
                    if end < start {
                        return Err(A::Error::custom(format!(
                            "range [{start}, {end}] ends before it begins"
                        )));
                    }
                    set.insert(start..end).map_err(A::Error::custom)?;
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

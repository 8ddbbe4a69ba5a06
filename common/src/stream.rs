//! Stream identity.
//!
//! A stream id is 128 random bits, made durable in the agent's state before the stream's first block is sent.
//! It is the only key: path, device and inode are hints (a file system reuses an inode at once).

use std::fmt;
use std::str::FromStr;

/// Length of a stream id in bytes.
pub const STREAM_ID_LEN: usize = 16;

/// The identity of a stream: 16 random bytes, shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StreamId([u8; STREAM_ID_LEN]);

/// Bytes or text that are no stream id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stream id is 16 bytes, written as 32 hexadecimal digits; found {found}")]
pub struct StreamIdError {
    /// What was found: a length or the text.
    pub found: String,
}

impl StreamId {
    /// A new random id.
    ///
    /// # Panics
    /// When the operating system has no randomness to give; nothing here can be safe without it.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; STREAM_ID_LEN];
        getrandom::fill(&mut bytes).expect("the operating system's random source answers");
        Self(bytes)
    }

    /// The id with exactly these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; STREAM_ID_LEN]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; STREAM_ID_LEN] {
        &self.0
    }

    /// The bytes as a protobuf field carries them.
    #[must_use]
    pub fn to_proto(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0)
    }
}

impl TryFrom<&[u8]> for StreamId {
    type Error = StreamIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| StreamIdError {
            found: format!("{} bytes", bytes.len()),
        })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({self})")
    }
}

impl FromStr for StreamId {
    type Err = StreamIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || StreamIdError {
            found: text.chars().take(64).collect(),
        };
        if text.len() != 2 * STREAM_ID_LEN || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; STREAM_ID_LEN];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = StreamId::random();
        assert_eq!(id.to_string().parse::<StreamId>(), Ok(id));
        assert_eq!(StreamId::try_from(id.as_bytes().as_slice()), Ok(id));
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in [
            "",
            "00",
            "zz000000000000000000000000000000",
            "ä0000000000000000000000000000000",
        ] {
            assert!(text.parse::<StreamId>().is_err(), "{text}");
        }
    }
}

//! A small file with a first line that tells what follows: who wrote it, its version, its CRC32C and length.
//!
//! ```text
//! edgelogger-store-manifest 1 crc32c=89abcdef bytes=12345\n
//! the body
//! ```
//!
//! So a newer version is recognised before it is read, and every damaged or missing byte is noticed.

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// Not such a file, or not whole.
    #[error("{0}")]
    Damaged(&'static str),
    /// Of a newer version.
    #[error("it has version {found}, this build reads up to {known}")]
    TooNew {
        /// Its version.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
}

/// The body with its first line.
#[must_use]
pub fn stamp(magic: &str, version: u64, body: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c(body);
    let mut bytes = format!("{magic} {version} crc32c={crc:08x} bytes={}\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The body of a stamped file, and its version, which is at most `known`.
///
/// # Errors
/// A newer version, or damage.
pub fn unstamp<'a>(magic: &str, known: u64, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), StampError> {
    let bad = StampError::Damaged;
    let end = memchr::memchr(b'\n', bytes).ok_or(bad("its first line has no end"))?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("its first line is not text"))?;
    let mut words = header.split(' ');
    if words.next() != Some(magic) {
        return Err(bad("it does not begin as it should"));
    }
    let found = words.next().and_then(|word| word.parse().ok());
    let found = found
        .filter(|version| *version > 0)
        .ok_or(bad("it has no version"))?;
    if found > known {
        return Err(StampError::TooNew { found, known });
    }
    let body = &bytes[end + 1..];
    let crc = format!("crc32c={:08x}", crc32c::crc32c(body));
    let len = format!("bytes={}", body.len());
    if words.next() != Some(crc.as_str()) || words.next() != Some(len.as_str()) || words.next().is_some() {
        return Err(bad("its checksum or length does not match, the file is damaged"));
    }
    Ok((found, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_is_noticed() {
        let good = stamp("edgelogger-test", 1, b"body");
        assert_eq!(unstamp("edgelogger-test", 1, &good), Ok((1, &b"body"[..])));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(unstamp("edgelogger-test", 1, &bad).is_err(), "byte {at}");
            assert!(unstamp("edgelogger-test", 1, &good[..at]).is_err(), "cut at {at}");
        }
        assert!(unstamp("edgelogger-other", 1, &good).is_err());
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let newer = b"edgelogger-test 2 whatever follows\nnot checked";
        let error = unstamp("edgelogger-test", 1, newer).unwrap_err();
        assert_eq!(error, StampError::TooNew { found: 2, known: 1 });
    }
}

//! `audit`: is what the collector says it has what lies in the file? Compared range by range, by the CRCs that the
//! blocks carried from the first reading on.
//!
//! A file is compared with the stream that was read from it, wherever the file is now and whatever it is called: the
//! stream whose first range it begins with. What differs, or is in no stream, is not explained; all else has a reason.

mod ledger;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use ledger::{Ledger, LedgerError, Stream};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a range of a file has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Stored, and these are the bytes.
    Same,
    /// Stored, and these are other bytes.
    Differs,
    /// Stored, but no block said what its bytes were (a part of one that was sent twice, cut otherwise).
    Unchecked,
    /// Behind what the agent has told of: not read yet.
    Unread,
    /// Stored, and the file ends before.
    Missing,
    /// As the ledger says: durable, pending, unknown, dropped, lost.
    #[serde(untagged)]
    Told(String),
}

/// Bytes of one verdict, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What they have come to.
    pub verdict: Verdict,
    /// Why, where they are dropped or lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileAudit {
    /// Which.
    pub path: PathBuf,
    /// Its length.
    pub size: u64,
    /// Its stream: id, generation, source and machine.
    pub stream: Option<StreamName>,
    /// All of it, ascending.
    pub parts: Vec<Part>,
    /// Nothing differs, and nothing is missing without a reason.
    pub explained: bool,
}

/// Which stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamName {
    /// Its id.
    pub stream_id: String,
    /// Which of its source.
    pub generation: u32,
    /// The path by which it was collected.
    pub source: String,
    /// Whose.
    pub machine: String,
}

/// Compares one file with what the ledger says.
///
/// # Errors
/// The file can't be read.
pub fn audit(path: &Path, ledger: &Ledger) -> io::Result<FileAudit> {
    let file = File::open(path)?;
    let mut content = Content {
        size: file.metadata()?.len(),
        file,
        crcs: HashMap::new(),
    };
    let size = content.size;
    let mut best: Option<(u64, &Stream, Vec<Part>)> = None;
    for stream in ledger.streams.iter().filter(|stream| stream.is_file()) {
        if !content.begins(stream)? {
            continue;
        }
        let parts = content.compare(stream)?;
        let same = parts
            .iter()
            .filter(|part| part.verdict == Verdict::Same)
            .map(|part| part.end - part.start)
            .sum();
        if best.as_ref().is_none_or(|(most, ..)| same > *most) {
            best = Some((same, stream, parts));
        }
    }
    // Nothing begins like it: then the stream that has its name now, if any, is what it differs from.
    if best.is_none() && size > 0 {
        let named = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let current =
            ledger.streams.iter().rev().find(|stream| {
                stream.is_file() && stream.end.is_none() && Path::new(&stream.source) == named
            });
        if let Some(stream) = current {
            best = Some((0, stream, content.compare(stream)?));
        }
    }
    let Some((_, stream, parts)) = best else {
        let parts = whole(size, Verdict::Told("in no stream".to_owned()));
        return Ok(FileAudit {
            path: path.to_owned(),
            size,
            stream: None,
            explained: size == 0,
            parts,
        });
    };
    let ended = stream.end.as_ref().is_some_and(|end| end.exact);
    let explained = parts.iter().all(|part| match part.verdict {
        Verdict::Differs | Verdict::Missing => false,
        Verdict::Unread => !ended,
        Verdict::Same | Verdict::Unchecked | Verdict::Told(_) => true,
    });
    Ok(FileAudit {
        path: path.to_owned(),
        size,
        stream: Some(StreamName {
            stream_id: stream.stream_id.clone(),
            generation: stream.generation,
            source: stream.source.clone(),
            machine: stream.machine.clone(),
        }),
        parts,
        explained,
    })
}

fn whole(size: u64, verdict: Verdict) -> Vec<Part> {
    let part = Part {
        start: 0,
        end: size,
        verdict,
        reason: None,
    };
    if size > 0 { vec![part] } else { Vec::new() }
}

/// A file, and the CRCs of its ranges that were asked for.
struct Content {
    file: File,
    size: u64,
    crcs: HashMap<(u64, u64), u32>,
}

impl Content {
    /// `None` where the file ends before the range.
    fn crc(&mut self, start: u64, end: u64) -> io::Result<Option<u32>> {
        if end > self.size {
            return Ok(None);
        }
        if let Some(crc) = self.crcs.get(&(start, end)) {
            return Ok(Some(*crc));
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        let (mut at, mut crc) = (start, 0);
        while at < end {
            let wanted = usize::try_from(end - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            self.file.read_exact_at(&mut buffer[..wanted], at)?;
            crc = crc32c::crc32c_append(crc, &buffer[..wanted]);
            at += wanted as u64;
        }
        self.crcs.insert((start, end), crc);
        Ok(Some(crc))
    }

    fn begins(&mut self, stream: &Stream) -> io::Result<bool> {
        let Some(first) = stream.checks.first() else {
            return Ok(false);
        };
        Ok(self.crc(first.start, first.end)? == Some(first.crc32c))
    }

    fn compare(&mut self, stream: &Stream) -> io::Result<Vec<Part>> {
        let mut edges = vec![0, self.size, stream.start, stream.size];
        edges.extend(stream.checks.iter().flat_map(|check| [check.start, check.end]));
        edges.extend(stream.gaps.iter().flat_map(|gap| [gap.start, gap.end]));
        edges.sort_unstable();
        edges.dedup();
        let mut parts: Vec<Part> = Vec::new();
        for pair in edges.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            let gap = stream
                .gaps
                .iter()
                .find(|gap| gap.start <= start && end <= gap.end);
            let check = stream
                .checks
                .iter()
                .find(|check| check.start <= start && end <= check.end);
            let (verdict, reason) = match (gap, check) {
                _ if start < stream.start || start >= stream.size => (Verdict::Unread, None),
                // Its bytes are gone, as the ledger says.
                (Some(gap), _) => (Verdict::Told(gap.state.clone()), gap.reason.clone()),
                _ if start >= self.size => (Verdict::Missing, None),
                (None, Some(check)) => {
                    let same = self.crc(check.start, check.end)? == Some(check.crc32c);
                    (if same { Verdict::Same } else { Verdict::Differs }, None)
                }
                (None, None) => (Verdict::Unchecked, None),
            };
            match parts.last_mut() {
                Some(last) if last.verdict == verdict && last.reason == reason => last.end = end,
                _ => parts.push(Part {
                    start,
                    end,
                    verdict,
                    reason,
                }),
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &[u8] = b"one\ntwo\nthree\nfour\nfive\n";

    /// 0..8 and 14..19 checked, 8..14 lost, the rest not told of.
    fn ledger() -> Ledger {
        let crc = |range: std::ops::Range<usize>| crc32c::crc32c(&TEXT[range]);
        Ledger::parse(
            &json!({"count": 2, "streams": [
                {"machine": "m", "source": "host", "stream_id": "00", "generation": 1, "kind": "host_metrics",
                 "unit": "records", "start": 0, "size": 9, "gaps": []},
                {"machine": "m", "source": "/var/log/a.log", "stream_id": "01", "generation": 1, "kind": "file",
                 "unit": "bytes", "start": 0, "size": 19,
                 "gaps": [{"start": 8, "end": 14, "state": "lost", "reason": "rotated"}],
                 "checks": [{"start": 0, "end": 8, "crc32c": crc(0..8)}, {"start": 14, "end": 19, "crc32c": crc(14..19)}]},
            ]})
            .to_string(),
        )
        .unwrap()
    }

    fn audited(content: &[u8]) -> (Vec<(u64, u64, Verdict)>, bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let audit = audit(file.path(), &ledger()).unwrap();
        let parts = audit.parts.into_iter();
        (
            parts.map(|part| (part.start, part.end, part.verdict)).collect(),
            audit.explained,
        )
    }

    #[test]
    fn a_file_that_is_as_it_was_read_is_explained() {
        let lost = || Verdict::Told("lost".into());
        assert_eq!(
            audited(TEXT),
            (
                vec![
                    (0, 8, Verdict::Same),
                    (8, 14, lost()),
                    (14, 19, Verdict::Same),
                    (19, 24, Verdict::Unread)
                ],
                true
            )
        );
        assert_eq!(audited(b""), (vec![], true));
    }

    #[test]
    fn one_other_byte_is_found_and_so_is_a_file_that_is_too_short() {
        let mut other = TEXT.to_vec();
        other[15] ^= 1;
        let (parts, explained) = audited(&other);
        assert_eq!(parts[2], (14, 19, Verdict::Differs));
        assert!(!explained);
        let (parts, explained) = audited(&TEXT[..10]);
        assert_eq!(parts.last(), Some(&(14, 19, Verdict::Missing)));
        assert!(!explained);
    }

    #[test]
    fn what_nobody_collected_is_in_no_stream() {
        let (parts, explained) = audited(b"something else\n");
        assert_eq!(parts, [(0, 15, Verdict::Told("in no stream".into()))]);
        assert!(!explained);
    }
}

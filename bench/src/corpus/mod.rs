//! The lines that everything is measured with: 2,000,000 of them, about 440 MB, the same on every machine.
//!
//! A third each of nginx access lines, JSON application logs and syslog lines, in short runs of one kind, as services
//! log in bursts. Written once to `target/bench/corpus.log`; its checksum stands beside it and is compared before the
//! file is used again.

mod application;
mod nginx;
mod syslog;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::random::Random;

/// Lines of the whole corpus.
pub const LINES: u64 = 2_000_000;

/// Raise it when the generator changes, so that an older file is not used again.
const VERSION: u32 = 2;
const SEED: u64 = 20_260_301;

/// 2026-03-01T00:00:00Z; the corpus covers about a day.
const START_MS: i64 = 1_772_323_200_000;

/// Longest run of lines of one kind.
const RUN_LINES_MAX: u64 = 24;

/// What stands beside the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    version: u32,
    lines: u64,
    bytes: u64,
    crc32c: u32,
}

/// The corpus on disk.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Where.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its lines.
    pub lines: u64,
}

impl Corpus {
    /// The corpus in this folder: the one that is there, or a new one.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn open(dir: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(dir)?;
        let (path, seal_path) = (dir.join("corpus.log"), dir.join("corpus.json"));
        let seal = match whole(&path, &seal_path) {
            Some(seal) => seal,
            None => {
                println!("writing {} lines to {}", LINES, path.display());
                let seal = write(&path, LINES)?;
                std::fs::write(&seal_path, serde_json::to_vec(&seal)?)?;
                seal
            }
        };
        Ok(Self {
            path,
            bytes: seal.bytes,
            lines: seal.lines,
        })
    }

    /// The first `bytes` of it, to the last line feed.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn head(&self, bytes: usize) -> Outcome<Vec<u8>> {
        use std::io::Read;
        let mut text = vec![0; bytes.min(usize::try_from(self.bytes)?)];
        File::open(&self.path)?.read_exact(&mut text)?;
        let end = memchr::memrchr(b'\n', &text).map_or(0, |last| last + 1);
        text.truncate(end);
        Ok(text)
    }
}

/// The seal, where the file is what it says.
fn whole(path: &Path, seal_path: &Path) -> Option<Seal> {
    let seal: Seal = serde_json::from_slice(&std::fs::read(seal_path).ok()?).ok()?;
    if seal.version != VERSION || seal.lines != LINES {
        return None;
    }
    let text = std::fs::read(path).ok()?;
    (text.len() as u64 == seal.bytes && crc32c::crc32c(&text) == seal.crc32c).then_some(seal)
}

fn write(path: &Path, lines: u64) -> Outcome<Seal> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut seal = Seal {
        version: VERSION,
        lines,
        bytes: 0,
        crc32c: 0,
    };
    let mut generator = Generator::new();
    let mut line = Vec::with_capacity(1024);
    for _ in 0..lines {
        line.clear();
        generator.next_line(&mut line);
        seal.bytes += line.len() as u64;
        seal.crc32c = crc32c::crc32c_append(seal.crc32c, &line);
        out.write_all(&line)?;
    }
    out.into_inner()?.sync_all()?;
    Ok(seal)
}

/// Makes lines, one after another.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    now: Now,
    kind: u64,
    run_left: u64,
    /// Pauses between lines are so many times as long.
    slower: i64,
}

/// The time of a line, and its texts for the second it is in.
#[derive(Debug)]
struct Now {
    ms: i64,
    second: i64,
    /// `2026-03-01T10:15:04`
    iso: String,
    /// `01/Mar/2026:10:15:04`
    access: String,
    /// `Mar  1 10:15:04`
    syslog: String,
}

impl Now {
    fn advance(&mut self, ms: i64) {
        self.ms += ms;
        let second = self.ms / 1000;
        if second == self.second {
            return;
        }
        self.second = second;
        let time = jiff::Timestamp::from_second(second).unwrap_or_default();
        self.iso = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        self.access = time.strftime("%d/%b/%Y:%H:%M:%S").to_string();
        self.syslog = time.strftime("%b %e %H:%M:%S").to_string();
    }

    const fn milliseconds(&self) -> i64 {
        self.ms % 1000
    }
}

impl Default for Generator {
    fn default() -> Self {
        Self::new()
    }
}

impl Generator {
    /// From the first line of the corpus on.
    #[must_use]
    pub fn new() -> Self {
        Self::with(SEED, 1)
    }

    /// Other lines for each number, with `times` the time between two.
    #[must_use]
    pub fn slower(number: u64, times: u64) -> Self {
        Self::with(SEED + 1 + number, i64::try_from(times).unwrap_or(i64::MAX))
    }

    fn with(seed: u64, slower: i64) -> Self {
        let empty = String::new;
        let now = Now {
            ms: START_MS,
            second: 0,
            iso: empty(),
            access: empty(),
            syslog: empty(),
        };
        Self {
            random: Random::new(seed),
            now,
            kind: 0,
            run_left: 0,
            slower,
        }
    }

    /// Appends the next line, with its line feed.
    pub fn next_line(&mut self, out: &mut Vec<u8>) {
        if self.run_left == 0 {
            // Round and round, so that the thirds are thirds.
            self.kind = (self.kind + 1) % 3;
            self.run_left = self.random.between(1, RUN_LINES_MAX);
        }
        self.run_left -= 1;
        let pause = self.random.skewed(170);
        self.now.advance(i64::try_from(pause).unwrap_or(0) * self.slower);
        match self.kind {
            0 => nginx::line(&mut self.random, &self.now, out),
            1 => application::line(&mut self.random, &self.now, out),
            _ => syslog::line(&mut self.random, &self.now, out),
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use edgelogger_common::recognition::Recognizer;

    use super::*;

    #[test]
    fn two_generators_make_the_same_lines() {
        let (mut a, mut b) = (Generator::new(), Generator::new());
        let (mut text_a, mut text_b) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            a.next_line(&mut text_a);
            b.next_line(&mut text_b);
        }
        assert_eq!(text_a, text_b);
        assert_eq!(text_a.iter().filter(|byte| **byte == b'\n').count(), 1000);
    }

    #[test]
    fn every_line_says_its_time_and_lines_average_what_they_should() {
        let mut generator = Generator::new();
        let mut bytes = 0;
        for _ in 0..10_000 {
            let mut line = Vec::new();
            generator.next_line(&mut line);
            bytes += line.len();
            let recognized = Recognizer::default().recognize(&line, generator.now.ms * 1_000_000);
            let time = recognized.event_time.map(|ns| ns / 1_000_000_000);
            assert_eq!(
                time,
                Some(generator.now.second),
                "{}",
                String::from_utf8_lossy(&line)
            );
        }
        assert!(
            (205..235).contains(&(bytes / 10_000)),
            "{} bytes a line",
            bytes / 10_000
        );
    }

    #[test]
    fn a_file_that_was_changed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, seal_path) = (dir.path().join("c.log"), dir.path().join("c.json"));
        let mut seal = write(&path, 100).unwrap();
        seal.lines = LINES;
        std::fs::write(&seal_path, serde_json::to_vec(&seal).unwrap()).unwrap();
        assert_eq!(whole(&path, &seal_path), Some(seal));
        let mut text = std::fs::read(&path).unwrap();
        text[50] ^= 1;
        std::fs::write(&path, text).unwrap();
        assert_eq!(whole(&path, &seal_path), None);
    }
}

//! Streams of an agent whose state is lost: what the collector has of them is compared with the files that are there,
//! and where it is the same they go on.
//!
//! A stream is looked for at its path, and beside it under the names that a rotation gives. All that is stored of it is
//! compared, by the CRCs of its ranges, in pieces between the reading of other files; until a file is decided on, no
//! new stream is made of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{PositionUnit, SourceKind, StoredStream, StreamDescriptor};

use super::content::read_at;
use super::displaced::{Leaving, Listings};
use super::identity::{COPY_BYTES_MIN, FINGERPRINT_BYTES_MAX, identity, is_rotated_name};
use super::lines::check_at_end_of;
use super::source::FileSource;
use super::stat::{FileKey, FileKind, FileStat, stat_open};
use super::status::AdoptionWait;
use crate::adoption::{Adoption, WAIT_MAX};
use crate::flow::{Resume, SentBlock};

/// Compared at once: some milliseconds, in which nothing else is read.
const PIECE_BYTES: u64 = 4 << 20;
/// Read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// How often to look whether files came that must be held open; the answer wakes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How far it is decided which streams go on here.
#[derive(Debug, Default)]
pub(super) enum Adopting {
    #[default]
    Done,
    /// The collector is asked.
    Asking { adoption: Adoption, until: Duration },
    /// It answered.
    Comparing(Box<Comparing>),
}

#[derive(Debug, Default)]
pub(super) struct Comparing {
    /// To be compared.
    candidates: VecDeque<Candidate>,
    now: Option<Comparison>,
    /// How many candidates there are of each path.
    names: HashMap<PathBuf, usize>,
    /// Files that a stream goes on in.
    taken: HashSet<FileKey>,
    streams: usize,
    bytes: u64,
}

/// A stream, and where it may be.
#[derive(Debug)]
struct Candidate {
    stored: StoredStream,
    stream_id: StreamId,
    name: PathBuf,
    paths: VecDeque<PathBuf>,
}

/// A stream and a file, compared up to a position.
#[derive(Debug)]
struct Comparison {
    candidate: Candidate,
    path: PathBuf,
    file: File,
    found: FileStat,
    /// Of `stored.checks`.
    check: usize,
    /// Behind what was compared of it.
    at: u64,
    crc32c: u32,
}

impl Adopting {
    /// For how long nothing is to be done, unless something happens.
    pub const fn wait(&self) -> Option<Duration> {
        match self {
            Self::Asking { .. } => Some(LOOK_EVERY),
            Self::Done | Self::Comparing(_) => None,
        }
    }

    /// Is it still open whether a file of this name continues a stream?
    pub fn holds(&self, name: &Path) -> bool {
        match self {
            Self::Done => false,
            Self::Asking { .. } => true,
            Self::Comparing(comparing) => comparing.names.contains_key(name),
        }
    }
}

impl FileSource {
    /// To be called before it runs: the state is new, and the collector is asked what it has.
    pub fn adopt_with(&mut self, adoption: Adoption) {
        let until = self.clock.monotonic() + WAIT_MAX;
        adoption.wake_when_answered(self.waker());
        self.adopting = Adopting::Asking { adoption, until };
        self.show_adopting();
    }

    /// A step towards knowing which streams go on. `true`: there is more to do.
    pub(super) fn adopt_streams(&mut self, now: Duration) -> bool {
        if matches!(self.adopting, Adopting::Done) {
            return false;
        }
        let more = self.adopt_on(now);
        self.show_adopting();
        more
    }

    fn show_adopting(&self) {
        let wait = match &self.adopting {
            Adopting::Done => None,
            Adopting::Asking { until, .. } => Some(AdoptionWait::Answer(*until)),
            Adopting::Comparing(comparing) => Some(AdoptionWait::Comparison(
                comparing.candidates.len() + usize::from(comparing.now.is_some()),
            )),
        };
        self.status.count(|totals| totals.adoption = wait);
    }

    fn adopt_on(&mut self, now: Duration) -> bool {
        match std::mem::take(&mut self.adopting) {
            Adopting::Done => false,
            Adopting::Asking { adoption, until } => {
                if let Some(stored) = adoption.answer() {
                    let comparing = self.candidates(&stored);
                    self.adopting = Adopting::Comparing(Box::new(comparing));
                    return true;
                }
                if now < until {
                    self.open_waiting();
                    self.adopting = Adopting::Asking { adoption, until };
                    return false;
                }
                tracing::warn!(
                    "the state of this agent is new, and the collector could not be asked for {} s whether it has \
                     files of this machine; they are collected from their beginning",
                    WAIT_MAX.as_secs()
                );
                true
            }
            Adopting::Comparing(mut comparing) => {
                self.compare_stored(&mut comparing);
                if comparing.now.is_some() || !comparing.candidates.is_empty() {
                    self.adopting = Adopting::Comparing(comparing);
                } else if comparing.streams > 0 {
                    tracing::info!(
                        streams = comparing.streams,
                        bytes = comparing.bytes,
                        "the state of this agent is new; what the collector has of these files was compared and is not \
                         sent again"
                    );
                }
                true
            }
        }
    }

    fn candidates(&self, stored: &[StoredStream]) -> Comparing {
        let mut comparing = Comparing::default();
        let mut listings = Listings::default();
        for stored in stored {
            let name = PathBuf::from(&stored.name);
            let checked: u64 = stored
                .checks
                .iter()
                .map(|check| check.end.saturating_sub(check.start))
                .sum();
            let Ok(stream_id) = StreamId::try_from(&stored.stream_id[..]) else {
                continue;
            };
            // Two files that are as short as this are soon alike.
            if checked < COPY_BYTES_MIN || !self.globs.includes(&name) {
                continue;
            }
            *comparing.names.entry(name.clone()).or_default() += 1;
            comparing.candidates.push_back(Candidate {
                stored: stored.clone(),
                stream_id,
                paths: paths(&name, &mut listings),
                name,
            });
        }
        comparing
    }

    fn compare_stored(&mut self, comparing: &mut Comparing) {
        let mut budget = PIECE_BYTES;
        while budget > 0 {
            let Some(mut comparison) = comparing.now.take() else {
                if !comparing.next() {
                    return;
                }
                budget = budget.saturating_sub(CHUNK_BYTES as u64);
                continue;
            };
            match comparison.go_on(&mut budget) {
                Ok(None) => {
                    comparing.now = Some(comparison);
                    return;
                }
                Ok(Some(true)) => {
                    if self.adopt_stream(&comparison) {
                        comparing.taken.insert(comparison.found.key);
                        comparing.streams += 1;
                        comparing.bytes += comparison.candidate.stored.stored_upto;
                    }
                    comparing.decided(&comparison.candidate.name);
                }
                Ok(Some(false)) => comparing.candidates.push_front(comparison.candidate),
                Err(error) => {
                    tracing::warn!(path = %comparison.path.display(), %error, "can't be compared with what is stored");
                    comparing.candidates.push_front(comparison.candidate);
                }
            }
        }
    }

    /// The stream goes on in this file. `false`: something happened to it since.
    fn adopt_stream(&mut self, comparison: &Comparison) -> bool {
        match self.take_over(comparison) {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(path = %comparison.path.display(), "a file is collected from its beginning: {error}");
                false
            }
        }
    }

    fn take_over(&mut self, comparison: &Comparison) -> io::Result<bool> {
        let Comparison {
            candidate,
            path,
            file,
            found,
            ..
        } = comparison;
        let upto = candidate.stored.stored_upto;
        let head = read_at(file, 0, FINGERPRINT_BYTES_MAX)?;
        let window = upto.min(FINGERPRINT_BYTES_MAX as u64);
        let before = read_at(file, upto - window, usize::try_from(window).unwrap_or(0))?;
        let is_there = if *path == candidate.name {
            self.files.at_path(path)
        } else {
            self.appeared(path, &candidate.name, found)
        };
        let Some(id) = is_there.filter(|id| self.files.get(*id).is_some_and(|file| file.is(found))) else {
            return Ok(false);
        };
        let descriptor = self.descriptor_of(candidate, found, &head);
        self.checkpoints
            .create(std::slice::from_ref(&descriptor))
            .map_err(io::Error::other)?;
        self.checkpoints.acked(&SentBlock {
            stream_id: candidate.stream_id,
            start: candidate.stored.start,
            end: upto,
            record_count: 0,
            resume: Resume::Content(check_at_end_of(&before)),
        });
        let Some(state) = self.checkpoints.stream(&candidate.stream_id) else {
            return Ok(false);
        };
        // Logs that were at its path after it are not known to the collector.
        if *path != candidate.name {
            self.leaving.push(Leaving {
                name: candidate.name.clone(),
                dir: parent(path).to_owned(),
                birth_ns: found.birth_ns,
                modified_ns: found.modified_ns,
                known: None,
                stream_id: Some(candidate.stream_id),
            });
        }
        self.wait_for_content(id, state);
        Ok(true)
    }

    fn descriptor_of(&self, candidate: &Candidate, found: &FileStat, head: &[u8]) -> StreamDescriptor {
        StreamDescriptor {
            stream_id: candidate.stream_id.to_proto(),
            kind: SourceKind::File.into(),
            unit: PositionUnit::Byte.into(),
            name: candidate.stored.name.clone(),
            replayable: true,
            start: candidate.stored.start,
            skipped_upto: 0,
            predecessor: bytes::Bytes::new(),
            file: Some(identity(candidate.name.as_os_str().as_bytes(), found, head)),
            opened_time_ns: candidate.stored.opened_time_ns,
            machine_mark: self.machine_mark(),
        }
    }
}

impl Comparing {
    /// Begins with the next file of the first candidate. `false`: there is none left.
    fn next(&mut self) -> bool {
        let Some(mut candidate) = self.candidates.pop_front() else {
            return false;
        };
        let Some(path) = candidate.paths.pop_front() else {
            self.decided(&candidate.name);
            return true;
        };
        let opened = File::open(&path).and_then(|file| Ok((stat_open(&file)?, file)));
        match opened {
            Ok((found, file))
                if found.kind == FileKind::Regular
                    && found.size >= candidate.stored.stored_upto
                    && !self.taken.contains(&found.key) =>
            {
                self.now = Some(Comparison {
                    candidate,
                    path,
                    file,
                    found,
                    check: 0,
                    at: 0,
                    crc32c: 0,
                });
            }
            _ => self.candidates.push_front(candidate),
        }
        true
    }

    fn decided(&mut self, name: &Path) {
        if let Some(count) = self.names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.names.remove(name);
            }
        }
    }
}

impl Comparison {
    /// `None`: the budget is used up. Otherwise whether the file holds what is stored.
    fn go_on(&mut self, budget: &mut u64) -> io::Result<Option<bool>> {
        while let Some(check) = self.candidate.stored.checks.get(self.check) {
            self.at = self.at.max(check.start);
            while self.at < check.end {
                if *budget == 0 {
                    return Ok(None);
                }
                let wanted =
                    usize::try_from(check.end - self.at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
                let bytes = read_at(&self.file, self.at, wanted)?;
                if bytes.len() < wanted {
                    return Ok(Some(false));
                }
                self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
                self.at += wanted as u64;
                *budget = budget.saturating_sub(wanted as u64);
            }
            if self.crc32c != check.crc32c {
                return Ok(Some(false));
            }
            (self.check, self.crc32c) = (self.check + 1, 0);
        }
        Ok(Some(true))
    }
}

/// Where a log may be that was collected under this name.
fn paths(name: &Path, listings: &mut Listings) -> VecDeque<PathBuf> {
    let real = name.canonicalize().unwrap_or_else(|_| name.to_owned());
    let mut paths = VecDeque::from([name.to_owned()]);
    if let Some(original) = name.file_name() {
        let beside = listings.of(parent(&real)).iter().map(|(_, path)| path);
        let rotated = beside.filter(|path| {
            path.file_name()
                .is_some_and(|name| is_rotated_name(original.as_bytes(), name.as_bytes()))
        });
        paths.extend(rotated.cloned());
    }
    paths
}

//! From a file to a stream: resumed where it was, or new and durable before its first block.

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use edgelogger_common::block::{Block, ReceiptReason};
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{PositionUnit, SourceKind, StreamDescriptor};
use rustix::fd::AsFd;

use super::archive::{Archive, Format};
use super::backlog::last_line_end;
use super::claim::{Position, backlog, position};
use super::content::read_at;
use super::error::FileSourceError;
use super::files::{FileId, Tailer, Whereabouts};
use super::identity::{Difference, FINGERPRINT_BYTES_MAX, Known, compare, identity};
use super::lines::check_at_end_of;
use super::reader::Place;
use super::skip::{SkipReason, judge};
use super::source::FileSource;
use super::stat::{FileStat, stat_open};
use crate::checkpoint::{MachineMark, StreamState};
use crate::flow::{CONTENT_CHECK_BYTES_MAX, ContentCheck, Resume};

/// Files that are made into streams at once, with one write to the checkpoints.
const INTAKE_MAX: usize = 1024;
/// Pause after the checkpoints could not be written.
const INTAKE_PAUSE: Duration = Duration::from_secs(5);

/// A stream's name; the path itself is in the descriptor, too, byte by byte.
const NAME_BYTES_MAX: usize = 4096;

/// What a new file turned out to be.
enum Examined {
    /// Empty, vanished, or unreadable now.
    Later,
    Skip(SkipReason),
    Compressed(Format, FileStat, Vec<StreamState>),
    Resumed,
    New(Box<New>),
}

struct New {
    descriptor: StreamDescriptor,
    stream_id: StreamId,
    /// Of the bytes before where reading begins.
    check: ContentCheck,
}

/// A stream of an earlier process, and what is read of the file to decide whether it goes on in it.
struct Earlier {
    state: StreamState,
    /// The bytes before where that process had come to.
    before: Vec<u8>,
    /// Where it began to read, if what it skipped is not acknowledged yet, and the check of the bytes before that.
    skipped: Option<Position>,
}

impl Earlier {
    fn read(state: &StreamState, file: impl AsFd, size: u64) -> io::Result<Self> {
        let Position { offset, check } = position(state);
        let window = u64::from(check.len).min(offset);
        let before = read_at(&file, offset - window, check.len as usize)?;
        let from = state.descriptor.skipped_upto;
        let skipped = if state.acked_upto < from && from <= size {
            let window = from.min(CONTENT_CHECK_BYTES_MAX.into());
            let tail = read_at(&file, from - window, CONTENT_CHECK_BYTES_MAX as usize)?;
            let tail = &tail[..tail.len().min(usize::try_from(window).unwrap_or(usize::MAX))];
            Some(Position {
                offset: from,
                check: check_at_end_of(tail),
            })
        } else {
            None
        };
        Ok(Self {
            state: state.clone(),
            before,
            skipped,
        })
    }
}

impl FileSource {
    /// Makes streams of the files that are new.
    pub(super) fn take_in(&mut self, now: Duration) {
        if self.newcomers.is_empty() || now < self.intake_at || !self.outbox.is_empty() {
            return;
        }
        let mut new = Vec::new();
        let mut held = Vec::new();
        for _ in 0..INTAKE_MAX {
            let Some(id) = self.newcomers.pop_front() else {
                break;
            };
            let is_claimed = self.waiting.by_file.contains_key(&id);
            let is_new = |file: &&Tailer| !is_claimed && file.place.is_none();
            if let Some(file) = self.files.get(id).filter(is_new) {
                let original = self.waits_for_original(id);
                if original.is_some() || self.adopting.holds(&file.name) {
                    held.push(id);
                    let is_there = |id: &FileId| self.files.get(*id).is_some_and(|file| !file.missed);
                    if let Some(original) = original.filter(is_there) {
                        self.enqueue(original);
                    }
                    continue;
                }
            }
            self.waiting.undecided.remove(&id);
            if let Some(file) = self.files.get_mut(id) {
                file.queued = false;
            }
            if self.files.get(id).is_none_or(|file| file.place.is_some()) || !self.open(id) {
                continue;
            }
            match self.examine(id) {
                Ok(Examined::New(stream)) => new.push((id, *stream)),
                Ok(Examined::Skip(reason)) => self.skip_file(id, reason),
                Ok(Examined::Resumed) => {
                    self.enqueue(id);
                    if self.files.get(id).is_some_and(Tailer::is_gone) {
                        self.endanger(id);
                    }
                }
                Ok(Examined::Compressed(format, found, earlier)) => self.unpack(id, format, &found, earlier),
                Ok(Examined::Later) => {}
                Err(error) => self.failed(id, "read", error),
            }
        }
        self.newcomers.extend(held);
        // A file that came twice in this round is one stream.
        let mut ids = HashSet::new();
        new.retain(|(id, _)| ids.insert(*id));
        self.create(new, now);
    }

    /// Makes new streams durable, all at once, then announces them.
    fn create(&mut self, new: Vec<(FileId, New)>, now: Duration) {
        if new.is_empty() {
            return;
        }
        let descriptors: Vec<StreamDescriptor> =
            new.iter().map(|(_, stream)| stream.descriptor.clone()).collect();
        if let Err(error) = self.checkpoints.create(&descriptors) {
            let message = FileSourceError::from(error).to_string();
            tracing::warn!("{message}");
            self.status.count(|totals| totals.trouble = Some(message));
            self.newcomers.extend(new.into_iter().map(|(id, _)| id));
            self.intake_at = now + INTAKE_PAUSE;
            return;
        }
        self.status.count(|totals| totals.trouble = None);
        for (id, stream) in new {
            let New {
                descriptor,
                stream_id,
                check,
            } = stream;
            let Some(file) = self.files.get_mut(id) else {
                continue;
            };
            let fingerprint = fingerprint(&descriptor);
            let from = descriptor.skipped_upto.max(descriptor.start);
            let skipped = descriptor.skipped_upto > descriptor.start;
            self.outbox.open(descriptor);
            if skipped {
                let block = Block::receipt(stream_id, false, 0, from, ReceiptReason::TooOld, 0, false);
                self.outbox.receipt(block, Resume::Content(check));
                self.status.count(|totals| totals.bytes_skipped += from);
            }
            file.place = Some(Place::new(stream_id, from, check));
            file.fingerprint = Some(fingerprint);
            file.skip_content = false;
            file.active = now;
            let is_gone = file.is_gone();
            self.status.update(id, file);
            if file.path == file.name {
                self.leaving.extend(self.left.remove(&file.name));
            }
            self.enqueue(id);
            if is_gone {
                self.endanger(id);
            }
        }
    }

    /// Also the earlier streams of the file are decided on; after an error they still wait, for the next try.
    fn examine(&mut self, id: FileId) -> io::Result<Examined> {
        let Some(file) = self.files.get(id) else {
            return Ok(Examined::Later);
        };
        let Some(descriptor) = &file.file else {
            return Ok(Examined::Later);
        };
        let found = stat_open(descriptor)?;
        let head = read_at(descriptor, 0, FINGERPRINT_BYTES_MAX)?;
        if let Some(format) = Format::of(&head) {
            let earlier = self.waiting.by_file.remove(&id).unwrap_or_default();
            return Ok(Examined::Compressed(format, found, earlier));
        }
        let earlier = self.waiting.by_file.get(&id).map_or(&[][..], Vec::as_slice);
        let earlier = earlier
            .iter()
            .map(|state| Earlier::read(state, descriptor, found.size))
            .collect::<io::Result<Vec<_>>>()?;
        self.waiting.by_file.remove(&id);
        if self.resume(id, earlier, &found, &head) {
            return Ok(Examined::Resumed);
        }
        let Some(file) = self.files.get_mut(id) else {
            return Ok(Examined::Later);
        };
        (file.size, file.modified_ns) = (found.size, found.modified_ns);
        if head.is_empty() {
            file.dirty = false;
            if file.path == file.name {
                // It may have been written, copied and truncated since it was seen last.
                let name = file.name.clone();
                self.look_behind(&name);
            }
            return Ok(Examined::Later);
        }
        if self.is_taken_for_copy(id, &found, &head)? {
            return Ok(Examined::Later);
        }
        if let Some(file) = self.files.get_mut(id)
            && file.copied.take().is_some()
        {
            let path = file.path.clone();
            self.unskip(&path);
        }
        let Some(file) = self.files.get(id) else {
            return Ok(Examined::Later);
        };
        if let Some(reason) = judge(&head, self.config.allow_binary || file.followed) {
            return Ok(Examined::Skip(reason));
        }
        let Some(file) = self.files.get(id) else {
            return Ok(Examined::Later);
        };
        let Some(descriptor) = &file.file else {
            return Ok(Examined::Later);
        };
        let (from, check) = if self.is_to_skip(file, &found) {
            skip_to(descriptor, found.size)?
        } else {
            (0, ContentCheck::default())
        };
        let mut new = self.new_stream(file, &found, &head);
        (new.descriptor.skipped_upto, new.check) = (from, check);
        Ok(Examined::New(Box::new(new)))
    }

    /// Is what the file holds now left out, by `start` or `ignore_older`?
    fn is_to_skip(&self, file: &Tailer, found: &FileStat) -> bool {
        let old = self.config.ignore_older.is_some_and(|age| {
            let age = i64::try_from(age.get().as_nanos()).unwrap_or(i64::MAX);
            found.modified_ns < self.clock.wall_ns().saturating_sub(age)
        });
        !file.followed && (file.skip_content || old)
    }

    pub(super) fn machine_mark(&self) -> Bytes {
        self.checkpoints
            .machine_mark()
            .map(MachineMark::to_proto)
            .unwrap_or_default()
    }

    /// A stream from 0.
    fn new_stream(&self, file: &Tailer, found: &FileStat, head: &[u8]) -> New {
        let stream_id = StreamId::random();
        let descriptor = StreamDescriptor {
            stream_id: stream_id.to_proto(),
            kind: SourceKind::File.into(),
            unit: PositionUnit::Byte.into(),
            name: shown_name(&file.name),
            replayable: true,
            start: 0,
            skipped_upto: 0,
            predecessor: file.predecessor.map(StreamId::to_proto).unwrap_or_default(),
            file: Some(identity(file.name.as_os_str().as_bytes(), found, head)),
            opened_time_ns: self.clock.wall_ns(),
            machine_mark: self.machine_mark(),
        };
        New {
            descriptor,
            stream_id,
            check: ContentCheck::default(),
        }
    }

    /// A compressed file that is no stream's yet. `behind`: what was read of its content before, by a stream that
    /// ended there.
    pub(super) fn take_in_archive(
        &mut self,
        id: FileId,
        archive: &Archive,
        head: &[u8],
        behind: Option<(StreamId, u64, ContentCheck)>,
    ) {
        let Some(file) = self.files.get(id) else { return };
        let Some((packed, descriptor)) = file.packed.as_ref().zip(file.file.as_ref()) else {
            return;
        };
        let Ok(found) = stat_open(descriptor) else { return };
        let skipped = match archive.damage() {
            _ if self.is_to_skip(file, &found) => Some(SkipReason::TooOld),
            Some(damage) if head.is_empty() => Some(SkipReason::Damaged(damage.to_string())),
            None if head.is_empty() => Some(SkipReason::Empty),
            _ => judge(head, self.config.allow_binary),
        };
        if let Some(reason) = skipped {
            return self.skip_file(id, reason);
        }
        let mut new = self.new_stream(file, &found, head);
        if let Some(identity) = &mut new.descriptor.file {
            identity.compression = packed.format.compression().into();
        }
        if let Some((predecessor, offset, check)) = behind {
            new.descriptor.predecessor = predecessor.to_proto();
            (new.descriptor.start, new.check) = (offset, check);
        }
        self.create(vec![(id, new)], self.clock.monotonic());
    }

    /// Resumes the youngest earlier stream that was read from this content, and ends the others.
    fn resume(&mut self, id: FileId, mut earlier: Vec<Earlier>, found: &FileStat, head: &[u8]) -> bool {
        earlier.sort_by_key(|earlier| std::cmp::Reverse(earlier.state.descriptor.opened_time_ns));
        let mut resumed = false;
        for Earlier {
            state,
            before,
            skipped,
        } in earlier
        {
            let Some(known) = &state.descriptor.file else {
                continue;
            };
            let Ok(stream_id) = StreamId::try_from(&state.descriptor.stream_id[..]) else {
                continue;
            };
            let Position { offset, check } = position(&state);
            // What was acked without a check (half of a block that was too large) tells nothing of the content there.
            let is_unknown = check.len == 0 && offset > state.descriptor.start;
            let verdict = if resumed || is_unknown {
                Err(Difference::OtherContent)
            } else {
                compare(&Known::of(known, offset, check), found, head, &before)
            };
            match verdict {
                Ok(()) => {
                    resumed = true;
                    let mut place = Place::new(stream_id, offset, check);
                    self.outbox.open(state.descriptor.clone());
                    // What was skipped at first stays skipped, though nobody acknowledged that yet.
                    if let Some(Position { offset: from, check }) = skipped {
                        let (reason, upto) = (ReceiptReason::TooOld, state.acked_upto);
                        let block = Block::receipt(stream_id, false, upto, from, reason, 0, false);
                        self.outbox.receipt(block, Resume::Content(check));
                        self.status.count(|totals| totals.bytes_skipped += from - upto);
                        if from > offset {
                            place = Place::new(stream_id, from, check);
                        }
                    }
                    let backlog = backlog(&state, stream_id, skipped);
                    if let Some(file) = self.files.get_mut(id) {
                        (file.size, file.modified_ns, file.place) =
                            (found.size, found.modified_ns, Some(place));
                        file.fingerprint = Some(fingerprint(&state.descriptor));
                        file.backlog = backlog;
                        self.status.update(id, file);
                    }
                }
                Err(difference) => {
                    let known = Known::of(known, offset, check);
                    let place = Place::new(stream_id, offset, check);
                    if difference != Difference::OtherFile
                        && self.go_on_in_copy(id, &known, &place, &backlog(&state, stream_id, skipped))
                    {
                        let moved = self.checkpoints.stream(&stream_id);
                        self.outbox
                            .open(moved.map_or(state.descriptor, |moved| moved.descriptor));
                    } else {
                        let dir = self.files.get(id).map(|file| {
                            let real = file.others.first().unwrap_or(&file.path);
                            edgelogger_common::disk::parent(real).to_owned()
                        });
                        self.search_for_earlier(&state, difference.end_reason(), &dir.unwrap_or_default());
                    }
                    if let Some(file) = self.files.get_mut(id) {
                        file.followed |= difference != Difference::OtherFile;
                        file.predecessor.get_or_insert(stream_id);
                    }
                }
            }
        }
        resumed
    }

    /// A file that turned out not to be a log.
    pub(super) fn skip_file(&mut self, id: FileId, reason: SkipReason) {
        let Some(file) = self.files.get(id) else { return };
        let (path, included) = (file.path.clone(), file.whereabouts == Whereabouts::Included);
        let found = file
            .file
            .as_ref()
            .and_then(|descriptor| stat_open(descriptor).ok());
        self.drop_file(id);
        if included {
            self.skip(&path, reason, found.as_ref());
        }
    }
}

/// A path as text, and not so long that a collector would refuse it: each byte that is no text becomes three.
fn shown_name(path: &Path) -> String {
    let mut name = path.to_string_lossy().into_owned();
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
    name
}

fn fingerprint(descriptor: &StreamDescriptor) -> ContentCheck {
    let file = descriptor.file.as_ref();
    file.map_or(ContentCheck::default(), |file| ContentCheck {
        len: file.fingerprint_len,
        crc32c: file.fingerprint_crc32c,
    })
}

/// Where reading begins when the content is skipped: behind the last line feed, if there is one near the end.
fn skip_to(file: impl AsFd, size: u64) -> io::Result<(u64, ContentCheck)> {
    if let Some(end) = last_line_end(&file, size)? {
        return Ok(end);
    }
    let window = size.min(CONTENT_CHECK_BYTES_MAX.into());
    let tail = read_at(&file, size - window, CONTENT_CHECK_BYTES_MAX as usize)?;
    Ok((size - window + tail.len() as u64, check_at_end_of(&tail)))
}

//! Streams of an earlier process, and the files that they seem to belong to.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgelogger_common::block::{Block, ReceiptReason};
use edgelogger_common::disk::parent;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::{SourceKind, StreamDescriptor, StreamEndReason};

use super::backlog::Backlog;
use super::config::Start;
use super::displaced::{Leaving, Listings};
use super::files::FileId;
use super::identity::Known;
use super::reader::Place;
use super::source::FileSource;
use super::stat::{FileKey, FileStat, stat};
use crate::checkpoint::StreamState;
use crate::flow::{ContentCheck, Resume, StreamClose};
use crate::spool::Left;

/// Streams of an earlier process.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By the file that they seem to belong to; decided when it is opened.
    pub by_file: HashMap<FileId, Vec<StreamState>>,
    /// Files of `by_file` that were not tried yet.
    pub undecided: HashSet<FileId>,
    /// Their directory is not there, or is another device: perhaps not mounted yet.
    unplaced: Vec<StreamState>,
    /// To be ended, once the spool can be asked what it holds of them.
    unsettled: Vec<(StreamState, StreamEndReason)>,
    /// This source has never run before.
    first_run: bool,
}

impl Waiting {
    /// Is there a file whose earlier stream is still to be looked for in it?
    pub fn is_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }
}

impl FileSource {
    /// Brings the streams of an earlier process together with the files that are there.
    pub(super) fn claim_streams(&mut self) {
        let ours: Vec<StreamState> = self
            .checkpoints
            .streams()
            .into_iter()
            .filter(|state| self.claims(&state.descriptor))
            .map(|state| self.with_what_is_kept(state))
            .collect();
        self.waiting.first_run = ours.is_empty();
        if self.waiting.first_run && self.config.start == Start::End {
            for id in &self.newcomers {
                if let Some(file) = self.files.get_mut(*id) {
                    file.skip_content = true;
                }
            }
        }
        let mut listings = Listings::default();
        for state in ours {
            self.place_stream(state, &mut listings, true);
        }
        self.recall_finished();
    }

    /// Logs whose last stream was over when the agent stopped: there may have been others at their path since.
    fn recall_finished(&mut self) {
        let mut newest = HashMap::new();
        for finished in self.checkpoints.finished() {
            newest.insert(finished.path.clone(), finished);
        }
        for (path, finished) in newest {
            let name = PathBuf::from(OsStr::from_bytes(&path));
            let has_stream = |id| self.waiting.by_file.contains_key(&id);
            if !self.globs.includes(&name) || self.files.at_path(&name).is_some_and(has_stream) {
                continue;
            }
            let real = name.canonicalize().unwrap_or_else(|_| name.clone());
            self.leaving.push(Leaving {
                dir: parent(&real).to_owned(),
                name,
                birth_ns: None,
                modified_ns: finished.opened_time_ns,
                known: Some(Known::of_finished(&finished)),
                stream_id: Some(finished.stream_id),
            });
        }
    }

    /// Streams whose directory was not there: perhaps it is now. After as long as a deleted file would be held they
    /// are given up.
    pub(super) fn retry_waiting(&mut self, now: Duration) {
        for (state, reason) in std::mem::take(&mut self.waiting.unsettled) {
            self.end_lost(&state, reason);
        }
        let give_up = now >= self.config.hold_age_max.get();
        let mut listings = Listings::default();
        for state in std::mem::take(&mut self.waiting.unplaced) {
            self.place_stream(state, &mut listings, !give_up);
        }
    }

    /// Was this stream read by a source with these globs? A stream that none claims is of files that are not
    /// configured any more.
    #[must_use]
    pub fn claims(&self, descriptor: &StreamDescriptor) -> bool {
        let path = descriptor
            .file
            .as_ref()
            .map(|file| PathBuf::from(OsStr::from_bytes(&file.path)));
        descriptor.kind == i32::from(SourceKind::File) && path.is_some_and(|path| self.globs.includes(&path))
    }

    /// Finds the file of one stream: at its path, beside it, or anywhere that is included.
    fn place_stream(&mut self, state: StreamState, listings: &mut Listings, may_wait: bool) {
        let Some(known) = state.descriptor.file.clone() else {
            return;
        };
        let Ok(stream_id) = StreamId::try_from(&state.descriptor.stream_id[..]) else {
            return;
        };
        let name = PathBuf::from(OsStr::from_bytes(&known.path));
        let has_inode = |found: &FileStat| found.key.inode == known.inode;
        let at_path = self.files.at_path(&name);
        if let Some(id) = at_path.filter(|id| {
            self.files
                .get(*id)
                .is_some_and(|file| file.key.inode == known.inode)
        }) {
            return self.wait_for_content(id, state);
        }
        // Another file has the path now, or none.
        if let Some(newer) = at_path.and_then(|id| self.files.get_mut(id)) {
            newer.predecessor = Some(stream_id);
        }
        let real = name.canonicalize().unwrap_or_else(|_| name.clone());
        let dir = parent(&real).to_owned();
        let beside = listings
            .of(&dir)
            .iter()
            .filter(|(inode, _)| *inode == known.inode)
            .find_map(|(_, path)| {
                let found = stat(path).ok().filter(has_inode)?;
                Some((path.clone(), found))
            });
        let leaving = Leaving {
            name: name.clone(),
            dir: dir.clone(),
            birth_ns: (known.birth_time_ns != 0).then_some(known.birth_time_ns),
            modified_ns: state.descriptor.opened_time_ns,
            known: {
                let Position { offset, check } = position(&state);
                Some(Known::of(&known, offset, check))
            },
            stream_id: Some(stream_id),
        };
        let left = self.left.get(&name);
        if left.is_none_or(|left| left.modified_ns <= leaving.modified_ns) {
            self.remember_left(&leaving);
        }
        let found = match beside {
            Some((path, found)) => self.appeared(&path, &name, &found),
            None => self.files.with_key(FileKey {
                device: known.device,
                inode: known.inode,
            }),
        };
        match found {
            Some(id) => {
                self.files.set_name(id, &name);
                self.wait_for_content(id, state);
                self.leaving.push(leaving);
            }
            None if may_wait && !is_on(&dir, known.device) => self.waiting.unplaced.push(state),
            None => {
                self.search_for_earlier(&state, StreamEndReason::Deleted, &dir);
                self.leaving.push(leaving);
            }
        }
    }

    pub(super) fn wait_for_content(&mut self, id: FileId, state: StreamState) {
        self.waiting.undecided.insert(id);
        self.waiting.by_file.entry(id).or_default().push(state);
        self.newcomers.push_back(id);
    }

    /// A stream of an earlier process whose file is not there any more, or holds something else. How much more
    /// there was, nobody can know, unless the spool kept its end too.
    pub(super) fn end_lost(&mut self, state: &StreamState, reason: StreamEndReason) {
        let Ok(stream_id) = StreamId::try_from(&state.descriptor.stream_id[..]) else {
            return;
        };
        let left = match self.spool.as_ref().map(|spool| spool.left(&stream_id)) {
            Some(Left::Unknown) => return self.waiting.unsettled.push((state.clone(), reason)),
            Some(Left::Kept(left)) => Some(left),
            Some(Left::Nothing) | None => None,
        };
        if let Some(spool) = self
            .spool
            .as_ref()
            .filter(|_| left.is_some() || self.rescuer().is_some())
        {
            spool.gone(stream_id);
        }
        let kept = left.as_ref().map(|left| left.added_to(state.clone()));
        let state = kept.as_ref().unwrap_or(state);
        if let Some(identity) = &state.descriptor.file {
            let Position { offset, check } = position(state);
            self.archives
                .ended(stream_id, &Known::of(identity, offset, check));
        }
        self.outbox.open(state.descriptor.clone());
        let read = state.acked.end().unwrap_or(0).max(state.acked_upto);
        let exact_size = left.as_ref().and_then(|left| left.exact_size());
        let size = exact_size.unwrap_or(0).max(read);
        let why = if reason == StreamEndReason::Deleted {
            ReceiptReason::Rotated
        } else {
            ReceiptReason::Truncated
        };
        let lost: Vec<_> = state.acked.missing_in(state.acked_upto..size).collect();
        for range in lost {
            self.status
                .count(|totals| totals.bytes_lost += range.end - range.start);
            let is_damaged = left.as_ref().is_some_and(|left| left.is_damaged(range.clone()));
            let why = if is_damaged { ReceiptReason::Damaged } else { why };
            let block = Block::receipt(stream_id, false, range.start, range.end, why, 0, false);
            self.outbox.receipt(block, Resume::Nowhere);
        }
        self.outbox.end(StreamClose {
            stream_id,
            size,
            exact: exact_size == Some(size),
            reason,
        });
    }
}

/// Is the directory on this device? A device that is not mounted shows the directory below it.
fn is_on(dir: &Path, device: u64) -> bool {
    stat(dir).is_ok_and(|found| found.key.device == device)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub offset: u64,
    pub check: ContentCheck,
}

/// The furthest that an earlier process had come to.
pub(super) fn position(state: &StreamState) -> Position {
    match state.above.last() {
        Some((range, resume)) => Position {
            offset: range.end,
            check: check_of(resume),
        },
        None => Position {
            offset: state.acked_upto.max(state.descriptor.start),
            check: check_of(&state.resume),
        },
    }
}

/// What an earlier process had put off: below [`position`], and not acknowledged. What it had skipped is left out.
pub(super) fn backlog(state: &StreamState, stream_id: StreamId, skipped: Option<Position>) -> Backlog {
    let mut backlog = Backlog::default();
    let mut from = Position {
        offset: state.acked_upto.max(state.descriptor.start),
        check: check_of(&state.resume),
    };
    for (range, resume) in &state.above {
        if let Some(skipped) = skipped.filter(|skipped| skipped.offset > from.offset) {
            from = skipped;
        }
        backlog.push(Place::new(stream_id, from.offset, from.check), range.start);
        from = Position {
            offset: range.end,
            check: check_of(resume),
        };
    }
    backlog
}

fn check_of(resume: &Resume) -> ContentCheck {
    match resume {
        Resume::Content(check) => *check,
        Resume::Nowhere | Resume::Cursor(_) => ContentCheck::default(),
    }
}

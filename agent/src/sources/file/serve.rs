//! Reading in turn: who is next, whether there is credit, what a turn means for the file.

use std::io;
use std::time::Duration;

use edgelogger_common::block::Block;
use edgelogger_proto::v1::Lane;

use super::content::open_unblocked;
use super::error::Unreadable;
use super::files::FileId;
use super::identity::Difference;
use super::outbox::source_block;
use super::reader::{Order, Outcome, Turn};
use super::source::FileSource;
use crate::flow::{ContentCheck, Resume, SourceEvent};
use crate::ring::CreditPermit;
use crate::spool::Spool;

/// Turns between two looks at what happened: 4 MiB of reading, a few milliseconds.
pub(super) const TURNS_MAX: usize = 16;
/// First and longest pause before credit is asked for again. Meanwhile renames and deletions are still noticed.
const CREDIT_PAUSE: Duration = Duration::from_millis(1);
const CREDIT_PAUSE_MAX: Duration = Duration::from_millis(50);
/// What a block occupies beside its bytes.
const BLOCK_OVERHEAD_BYTES: usize = 512;

/// While files have both, one turn in so many is for what was put off.
const BACKLOG_TURN_EVERY: usize = 8;

/// Where what is read goes.
pub(super) enum Way {
    /// To the ring.
    Line(CreditPermit),
    /// The file is gone, and the line does not take what is left of it.
    Spool(Spool),
}

/// What one file's turn means for the loop.
enum Served {
    Done,
    NoCredit,
}

impl FileSource {
    /// Hands on what waits, then reads in turn. `true`: there is more to do at once.
    pub(super) fn serve(&mut self) -> bool {
        if !self.outbox.flush(&self.ring) {
            self.no_credit();
            return false;
        }
        let mut backlog_waits = false;
        for _ in 0..TURNS_MAX {
            // Its turn comes however scarce credit is: it stays due until there is some.
            let is_due = self.turns_since_backlog >= BACKLOG_TURN_EVERY;
            if (self.queue.is_empty() || is_due) && !backlog_waits && !self.backlogs.is_empty() {
                backlog_waits = !self.serve_backlog(is_due);
                if !self.outbox.is_empty() {
                    break;
                }
            }
            let Some(id) = self.queue.pop_front() else {
                if backlog_waits || self.backlogs.is_empty() {
                    break;
                }
                continue;
            };
            match self.serve_one(id) {
                Served::Done => {
                    self.turns_since_backlog += 1;
                    self.credit_granted();
                }
                Served::NoCredit => {
                    self.queue.push_front(id);
                    self.no_credit();
                    return false;
                }
            }
            if !self.outbox.is_empty() {
                break;
            }
        }
        if self.queue.is_empty() && self.outbox.is_empty() {
            self.credit_granted();
        }
        self.backlog_pause = backlog_waits.then(|| next_pause(self.backlog_pause));
        let more = !self.queue.is_empty()
            || !self.backlogs.is_empty() && !backlog_waits
            || !self.outbox.is_empty()
            || !self.displaced.is_empty()
            || self.files.has_evicted()
            || !self.leaving.is_empty() && !self.adopting_waits();
        more || self.rescan || !self.changed.is_empty() || self.newcomers_wait()
    }

    fn newcomers_wait(&self) -> bool {
        self.adopting.wait().is_none()
            && !self.newcomers.is_empty()
            && self.clock.monotonic() >= self.intake_at
    }

    fn no_credit(&mut self) {
        self.open_waiting();
        if self.credit_pause.is_none() {
            self.status.count(|totals| totals.waits_for_credit = true);
        }
        self.credit_pause = Some(next_pause(self.credit_pause));
    }

    /// While nothing can be read, files that have something to be read are opened as far as descriptors reach, so
    /// that what is deleted meanwhile can still be read later.
    pub(super) fn open_waiting(&mut self) {
        let room = self.config.open_files_max.saturating_sub(self.files.open_count());
        let waiting = self.queue.iter().chain(&self.newcomers).copied();
        let waiting: Vec<FileId> = waiting
            .filter(|id| self.files.get(*id).is_some_and(|file| file.file.is_none()))
            .take(room)
            .collect();
        for id in waiting {
            self.open(id);
        }
    }

    fn credit_granted(&mut self) {
        if self.credit_pause.take().is_some() {
            self.status.count(|totals| totals.waits_for_credit = false);
        }
    }

    /// One turn of one file.
    fn serve_one(&mut self, id: FileId) -> Served {
        let Some(file) = self.files.get_mut(id) else {
            return Served::Done;
        };
        if file.place.is_none() {
            // It stays marked as queued, so that it waits for its stream once, however often it changes meanwhile.
            self.newcomers.push_back(id);
            return Served::Done;
        }
        if self.ring.is_full() {
            return Served::NoCredit;
        }
        let Some(credit) = self.ring.try_acquire(self.reader.credit_bytes()) else {
            return Served::NoCredit;
        };
        file.queued = false;
        if !self.open(id) {
            return Served::Done;
        }
        self.put_off(id);
        self.enqueue_backlog(id);
        self.read_at_place(id, Way::Line(credit));
        Served::Done
    }

    /// One turn of a file that is open, at its place.
    pub(super) fn read_at_place(&mut self, id: FileId, way: Way) {
        if !self.is_at_place(id) || !self.approach_place(id) {
            return;
        }
        let (now, wall_ns) = (self.clock.monotonic(), self.clock.wall_ns());
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        let (Some(descriptor), Some(place)) = (&file.file, &mut file.place) else {
            return;
        };
        let order = Order {
            observed_time_ns: wall_ns,
            finish_line_at: file.finish_line_at.take(),
            end: None,
            fingerprint: file.fingerprint.unwrap_or_default(),
        };
        let offset = place.offset;
        let archive = file
            .packed
            .as_mut()
            .and_then(|packed| packed.archive.as_deref_mut());
        let turned = match archive {
            Some(archive) => self.reader.turn(archive, place, order),
            None => self.reader.turn(&mut &*descriptor, place, order),
        };
        let outcome = match turned {
            Ok(outcome) => outcome,
            Err(source) => return self.failed(id, "read", source),
        };
        let (stream_id, check, read_upto) = (place.stream_id, place.check, place.offset);
        file.error = None;
        self.note_progress(id, &outcome, now);
        let mut records = 0;
        match outcome.turn {
            Turn::Block { block, memory_bytes } => {
                records = u64::from(block.header.record_count);
                debug_assert_eq!(block.header.stream_id, stream_id);
                self.hand_on(block, memory_bytes, Lane::Live, check, way);
            }
            Turn::Progress | Turn::Nothing => {}
            Turn::Differs(difference) => return self.restart_stream(id, difference),
        }
        if !outcome.at_end {
            self.enqueue(id);
        }
        if let Some(file) = self.files.get(id) {
            self.status.read_on(id, file, records, read_upto - offset);
        }
        if outcome.at_end {
            self.archive_at_end(id);
        }
    }

    fn hand_on(&mut self, block: Block, memory_bytes: usize, lane: Lane, check: ContentCheck, way: Way) {
        let resume = Resume::Content(check);
        match way {
            Way::Line(mut credit) => {
                credit.shrink_to(memory_bytes + BLOCK_OVERHEAD_BYTES);
                let block = source_block(block, lane, resume, credit);
                self.outbox.push(SourceEvent::Block(block), &self.ring);
            }
            Way::Spool(spool) => spool.keep(source_block(block, lane, resume, CreditPermit::uncounted())),
        }
    }

    /// One turn of the file whose backlog is next. `false`: there is no credit, or if it is not due, none that fresh
    /// lines may not need.
    fn serve_backlog(&mut self, is_due: bool) -> bool {
        let Some(&id) = self.backlogs.front() else {
            return false;
        };
        if self.ring.is_full() {
            return false;
        }
        let bytes = self.reader.credit_bytes();
        let credit = if is_due {
            self.ring.try_acquire(bytes)
        } else {
            self.ring.try_acquire_spare(bytes)
        };
        let Some(credit) = credit else { return false };
        self.turns_since_backlog = 0;
        // The next pause begins small: credit comes back as fast as the line is.
        self.backlog_pause = None;
        self.backlogs.pop_front();
        if let Some(file) = self.files.get_mut(id) {
            file.backlog_queued = false;
        }
        // What can't be read now comes back when the file is next read at its place.
        if self.open(id) && self.read_backlog(id, Way::Line(credit)) {
            self.enqueue_backlog(id);
        }
        true
    }

    /// `true`: it went well.
    pub(super) fn read_backlog(&mut self, id: FileId, way: Way) -> bool {
        if !self.approach_place(id) {
            return false;
        }
        let observed_time_ns = self.clock.wall_ns();
        let now = self.clock.monotonic();
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        let (Some(descriptor), Some(span)) = (&file.file, file.backlog.front_mut()) else {
            return false;
        };
        let order = Order {
            observed_time_ns,
            finish_line_at: None,
            end: Some(span.end),
            fingerprint: file.fingerprint.unwrap_or_default(),
        };
        let from = span.place.offset;
        let archive = file
            .packed
            .as_mut()
            .and_then(|packed| packed.archive.as_deref_mut());
        let turned = match archive {
            Some(archive) => self.reader.turn(archive, &mut span.place, order),
            None => self.reader.turn(&mut &*descriptor, &mut span.place, order),
        };
        let turn = match turned {
            Ok(outcome) => outcome.turn,
            Err(source) => {
                self.failed(id, "read", source);
                return false;
            }
        };
        let (upto, check) = (span.place.offset, span.place.check);
        file.backlog.trim();
        (file.active, self.read_at) = (now, now);
        let mut records = 0;
        match turn {
            Turn::Block { block, memory_bytes } => {
                records = u64::from(block.header.record_count);
                self.hand_on(block, memory_bytes, Lane::Backfill, check, way);
            }
            Turn::Progress => {}
            Turn::Differs(difference) => {
                self.restart_stream(id, difference);
                return false;
            }
            // A span ends behind a line feed, so there is a line in it, or it is not what it was.
            Turn::Nothing => {
                self.restart_stream(id, Difference::OtherContent);
                return false;
            }
        }
        let Some(file) = self.files.get(id) else {
            return false;
        };
        self.status.read_on(id, file, records, upto - from);
        if file.packed.is_some() && file.backlog.is_empty() {
            // It is read in order.
            self.enqueue(id);
        }
        true
    }

    /// What is known of the file after a turn: its length, whether anything is left, and whether its last line has
    /// an end.
    fn note_progress(&mut self, id: FileId, outcome: &Outcome, now: Duration) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        let Some(place) = &file.place else { return };
        self.turn += 1;
        self.read_at = now;
        file.used = self.turn;
        if !matches!(outcome.turn, Turn::Nothing) {
            file.active = now;
        }
        file.size = if outcome.at_end {
            place.seen
        } else {
            file.size.max(place.seen)
        };
        file.dirty = !outcome.at_end;
        let unfinished = outcome.at_end && place.seen > place.offset && !file.is_cut_off();
        match file.timer {
            Some((_, seen)) if unfinished && seen == place.seen => {}
            before => {
                if let Some((at, _)) = before {
                    self.timers.remove(&(at, id));
                }
                file.timer = unfinished.then(|| (now + self.config.partial_line_timeout.get(), place.seen));
                if let Some((at, _)) = file.timer {
                    self.timers.insert((at, id));
                }
            }
        }
    }

    /// Last lines that waited long enough for their line feed.
    pub(super) fn fire_timers(&mut self, now: Duration) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            if let Some(file) = self.files.get_mut(id)
                && let Some((_, seen)) = file.timer.take()
            {
                file.finish_line_at = Some(seen);
                self.enqueue(id);
            }
        }
    }

    /// Puts a file in the queue of those to be read.
    pub(super) fn enqueue(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(id) {
            file.dirty = true;
            if !std::mem::replace(&mut file.queued, true) {
                self.queue.push_back(id);
            }
        }
    }

    /// Makes sure that the file is open. `false`: it can't be now, and what is to be done about it is arranged.
    pub(super) fn open(&mut self, id: FileId) -> bool {
        let Some(file) = self.files.get(id) else {
            return false;
        };
        if file.file.is_some() {
            return true;
        }
        if file.is_gone() {
            return false;
        }
        let path = file.path.clone();
        while self.files.open_count() >= self.config.open_files_max && self.files.close_one() {}
        match open_unblocked(&path) {
            Ok((descriptor, stat)) if self.files.get(id).is_some_and(|file| file.is(&stat)) => {
                self.files.set_open(id, descriptor);
                let open = self.files.open_count();
                self.status.count(|totals| totals.files_open = open);
                true
            }
            // Another file is there now, or none.
            Ok(_) => {
                self.changed.entry(path).or_default();
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.changed.entry(path).or_default();
                false
            }
            Err(error) => {
                self.failed(id, "open", error);
                false
            }
        }
    }

    /// A file that can't be read now. It is tried again at the next rescan or change.
    pub(super) fn failed(&mut self, id: FileId, what: &'static str, source: io::Error) {
        // A file without a path could not be opened again; the limits of holding let go of it in the end.
        if self.files.get(id).is_some_and(|file| !file.is_gone()) {
            self.files.close(id);
        }
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        let message = Unreadable {
            path: file.path.clone(),
            what,
            source,
        }
        .to_string();
        if file.error.as_ref() != Some(&message) {
            tracing::warn!("{message}");
        }
        file.error = Some(message);
        self.status.update(id, file);
    }
}

fn next_pause(pause: Option<Duration>) -> Duration {
    pause.map_or(CREDIT_PAUSE, |pause| CREDIT_PAUSE_MAX.min(pause * 2))
}

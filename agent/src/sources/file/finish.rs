//! How streams end: replaced, handed over to a copy, deleted, held to the limit.

use std::ops::Range;
use std::time::Duration;

use edgelogger_common::block::ReceiptReason;
use edgelogger_common::stream::StreamId;
use edgelogger_proto::v1::StreamEndReason;
use rustix::fs::fstatvfs;

use super::backlog::Backlog;
use super::files::{FileId, Tailer, Whereabouts};
use super::hold::{self, Fate, Held, HoldLimits, SWEEP_EVERY};
use super::identity::Difference;
use super::reader::{Place, Turn, receipt};
use super::source::FileSource;
use super::stat::stat_open;
use crate::flow::{ContentCheck, Resume, StreamClose};

impl FileSource {
    /// The file is not what was read before: its stream ends, and a new one begins at 0.
    pub(super) fn restart_stream(&mut self, id: FileId, difference: Difference) {
        let known = self.files.get(id).and_then(Tailer::known);
        let file = self.files.get(id);
        let place = file.and_then(|file| file.place.clone());
        let backlog = file.map(|file| file.backlog.clone()).unwrap_or_default();
        let copied = match (known, place) {
            (Some(known), Some(place)) => self.go_on_in_copy(id, &known, &place, &backlog),
            _ => false,
        };
        if copied || self.search_for_followed(id, difference.end_reason(), ReceiptReason::Truncated) {
            self.hand_over(id);
        } else {
            self.end_stream(id, difference.end_reason(), false, ReceiptReason::Truncated);
        }
        if let Some(file) = self.files.get_mut(id) {
            file.followed = true;
            self.status.update(id, file);
            self.newcomers.push_back(id);
        }
    }

    /// The file's stream goes on in another file.
    pub(super) fn hand_over(&mut self, id: FileId) {
        self.is_back(id);
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        if let Some((at, _)) = file.timer.take() {
            self.timers.remove(&(at, id));
        }
        file.predecessor = file
            .place
            .take()
            .map(|place| place.stream_id)
            .or(file.predecessor);
        file.backlog = Backlog::default();
    }

    /// Ends a file's stream. What is known to have been there and was not read gets a receipt of `reason`.
    pub(super) fn end_stream(
        &mut self,
        id: FileId,
        why: StreamEndReason,
        exact: bool,
        reason: ReceiptReason,
    ) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        if let Some((at, _)) = file.timer.take() {
            self.timers.remove(&(at, id));
        }
        let known = file.known();
        let Some(place) = file.place.take() else {
            return self.end_without_place(id, why);
        };
        if let Some(known) = known {
            self.archives.ended(place.stream_id, &known);
        }
        let scanned = place.long_line.as_ref().map_or(0, |line| line.scanned);
        let known = match why {
            // What is in the file now is not this stream's.
            StreamEndReason::Truncated | StreamEndReason::Replaced => {
                place.seen.max(scanned).max(place.offset)
            }
            _ => file.size.max(place.seen).max(scanned),
        };
        file.predecessor = Some(place.stream_id);
        let backlog = std::mem::take(&mut file.backlog);
        for unread in backlog.ranges() {
            self.lose(place.stream_id, unread, place.check, reason);
        }
        self.end_at(&place, known, why, exact, reason);
    }

    /// A file that goes before it had a stream in this process (the state directory could not be written, or the
    /// collector was away for as long as it was there).
    fn end_without_place(&mut self, id: FileId, why: StreamEndReason) {
        self.waiting.undecided.remove(&id);
        let earlier = self.waiting.by_file.remove(&id).unwrap_or_default();
        for state in &earlier {
            self.end_lost(state, why);
        }
        let is_loss = |file: &&Tailer| file.size > 0 && file.copied.is_none();
        let Some(file) = self.files.get(id).filter(is_loss) else {
            return;
        };
        let size = file.size;
        if earlier.is_empty() {
            tracing::error!(
                file = %file.name.display(), bytes = size,
                "a file was written and deleted before a stream could be made for it; it is lost, and the ledger can't \
                 show it. Check that the state directory can be written"
            );
            self.status.count(|totals| totals.bytes_lost += size);
        }
    }

    pub(super) fn end_at(
        &mut self,
        place: &Place,
        size: u64,
        why: StreamEndReason,
        exact: bool,
        reason: ReceiptReason,
    ) {
        if size > place.offset {
            self.lose(place.stream_id, place.offset..size, place.check, reason);
        }
        self.outbox.end(StreamClose {
            stream_id: place.stream_id,
            size,
            exact,
            reason: why,
        });
    }

    /// Declares a range lost. The check is not of the bytes before its end, and is not meant to be: nothing is read
    /// behind it.
    pub(super) fn lose(
        &mut self,
        stream_id: StreamId,
        range: Range<u64>,
        check: ContentCheck,
        reason: ReceiptReason,
    ) {
        if let Turn::Block { block, .. } = receipt(stream_id, range.start, range.end, reason) {
            self.outbox.receipt(block, Resume::Content(check));
            self.status
                .count(|totals| totals.bytes_lost += range.end - range.start);
        }
    }

    /// The file is not followed any more.
    pub(super) fn drop_file(&mut self, id: FileId) {
        if let Some(file) = self.files.remove(id)
            && let Some((at, _)) = file.timer
        {
            self.timers.remove(&(at, id));
        }
        self.status.remove(id);
        self.forget_candidate(id);
        let open = self.files.open_count();
        self.status.count(|totals| totals.files_open = open);
    }

    /// Files that are held open though they are deleted: looks for more to read, and lets go of what is due.
    pub(super) fn sweep_held(&mut self, now: Duration) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP_EVERY;
        let gone: Vec<FileId> = self.files.gone().map(|(id, _)| id).collect();
        if gone.is_empty() {
            return;
        }
        let held: Vec<Held> = gone.into_iter().filter_map(|id| self.held(id, now)).collect();
        let limits = HoldLimits {
            bytes_max: self.config.hold_bytes_max.map(|bytes| bytes.as_u64()),
            age_max: self.config.hold_age_max.get(),
            files_max: self.config.open_files_max,
        };
        for fate in hold::sweep(&held, &limits, now) {
            match fate {
                Fate::Done(id) => {
                    self.end_stream(id, StreamEndReason::Deleted, true, ReceiptReason::Rotated);
                    self.drop_file(id);
                }
                Fate::Expired(id) if self.drains(id) => {}
                Fate::Expired(id) => self.expire(id),
            }
        }
    }

    fn expire(&mut self, id: FileId) {
        if self.search_for_followed(id, StreamEndReason::HoldExpired, ReceiptReason::Rotated) {
            self.hand_over(id);
            return self.drop_file(id);
        }
        if let Some(file) = self.files.get(id).filter(|file| file.unread_bytes() > 0) {
            tracing::warn!(
                file = %file.name.display(), unread_bytes = file.unread_bytes(),
                "a deleted file was held open to the limit of bytes or time, and what was not read of it is lost; \
                 raise hold_bytes_max or hold_age_max, or let the collector catch up"
            );
        }
        self.end_stream(id, StreamEndReason::HoldExpired, false, ReceiptReason::Rotated);
        self.drop_file(id);
    }

    /// Looks at one held file again.
    fn held(&mut self, id: FileId, now: Duration) -> Option<Held> {
        let file = self.files.get_mut(id)?;
        let Whereabouts::Gone { since } = file.whereabouts else {
            return None;
        };
        let descriptor = file.file.as_ref()?;
        let device = file.key.device;
        let file_system_bytes = *self.file_system_bytes.entry(device).or_insert_with(|| {
            fstatvfs(descriptor).map_or(u64::MAX, |system| system.f_blocks.saturating_mul(system.f_frsize))
        });
        // Where it can't be asked any more (a network file system forgot it) the limits still count, by what was known.
        let stat = stat_open(descriptor).ok();
        if stat.as_ref().is_some_and(|stat| file.take_note(stat)) {
            file.active = now;
            self.enqueue(id);
        } else if file.error.is_some() {
            // No path leads to it, so nothing else would try again.
            self.enqueue(id);
        }
        let file = self.files.get(id)?;
        let moved = stat.as_ref().is_some_and(|stat| stat.links > 0);
        let disk_bytes = match &stat {
            _ if moved => 0,
            Some(stat) => stat.disk_bytes,
            None => file.size,
        };
        let unread = file.has_unread() || self.waits_for_acks(file);
        Some(Held {
            file: id,
            key: stat.map_or(file.key, |stat| stat.key),
            since,
            active: file.active,
            moved,
            disk_bytes,
            file_system_bytes,
            unread,
        })
    }
}

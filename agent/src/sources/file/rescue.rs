//! What is gone with a file goes to the spool, where the operator allows it (`spool_before_loss`).
//!
//! ```text
//! a file is gone ─┬─ its compressed form lies beside it: read again from there, if need be
//!                 └─ else the spool is told: what was read of it and is not acknowledged in time is written, and so is
//!                    what is still unread [`SPOOL_AFTER`] later, when its descriptor is given up, or when the agent stops
//! ```
//!
//! What the spool has no room for stays where it is, and is lost as without it.

use std::time::{Duration, Instant};

use edgelogger_common::block::{BlockKind, ReceiptReason};
use edgelogger_proto::v1::StreamEndReason;

use super::files::{FileId, Tailer};
use super::reader::{Turn, receipt};
use super::serve::{TURNS_MAX, Way};
use super::source::FileSource;
use super::stat::stat_open;
use crate::checkpoint::StreamState;
use crate::flow::{Resume, SourceEvent};
use crate::spool::{Left, Room, SPOOL_AFTER, Spool};

/// How long the end of the agent may wait for what is left of deleted files to be written.
pub const RESCUE_PATIENCE: Duration = Duration::from_secs(10);
/// While the disk takes what it has: how often to look whether it takes more.
const ROOM_PAUSE: Duration = Duration::from_millis(10);

impl FileSource {
    /// To be called before it runs: where an earlier process may have left something of its files, and this one may.
    pub fn keep_in(&mut self, spool: Spool) {
        self.spool = Some(spool);
    }

    /// The spool, if what is about to be lost may go there.
    pub(super) fn rescuer(&self) -> Option<&Spool> {
        self.spool.as_ref().filter(|_| self.config.spool_before_loss)
    }

    /// A file is gone. Nothing can read it again, unless it was compressed.
    pub(super) fn endanger(&mut self, id: FileId) {
        let stream_id = match self.files.get(id) {
            Some(file) if !file.endangered => file.place.as_ref().map(|place| place.stream_id),
            _ => None,
        };
        let Some((spool, stream_id)) = self.rescuer().zip(stream_id) else {
            return;
        };
        if self.is_compressed_beside(id) {
            return;
        }
        spool.gone(stream_id);
        if let Some(file) = self.files.get_mut(id) {
            file.endangered = true;
        }
    }

    /// With each scan: compressed files that held what a deleted one did may be gone too.
    pub(super) fn endanger_gone(&mut self) {
        if self.rescuer().is_none() {
            return;
        }
        let gone = self.files.gone().filter(|(_, file)| !file.endangered);
        for id in gone.map(|(id, _)| id).collect::<Vec<_>>() {
            self.endanger(id);
        }
    }

    /// The file is at a path again, or its stream goes on in another.
    pub(super) fn is_back(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        (file.behind, file.draining) = (None, false);
        if std::mem::take(&mut file.endangered)
            && let (Some(spool), Some(place)) = (&self.spool, &file.place)
        {
            spool.back(&place.stream_id);
        }
    }

    /// What was read of a deleted file is not acknowledged, and can be read again from its compressed form alone, which
    /// nobody looks after once the stream is over.
    pub(super) fn waits_for_acks(&self, file: &Tailer) -> bool {
        let is_unacked = || {
            let place = file.place.as_ref()?;
            Some(self.checkpoints.acked_upto(&place.stream_id)? < place.offset)
        };
        self.rescuer().is_some() && !file.endangered && is_unacked() == Some(true)
    }

    /// Reads for the spool what was left unread for too long. `true`: there is more to do at once.
    pub(super) fn rescue(&mut self, now: Duration) -> bool {
        self.rescue_pause = None;
        let Some(spool) = self.rescuer().cloned() else {
            return false;
        };
        let endangered = self.files.gone().filter(|(_, file)| file.endangered);
        let endangered: Vec<FileId> = endangered.map(|(id, _)| id).collect();
        let mut turns = TURNS_MAX;
        for id in endangered {
            if !self.is_behind(id, now) {
                continue;
            }
            while turns > 0 && spool.room(self.turn_bytes(id)) == Room::Yes && self.rescue_turn(id, &spool) {
                turns -= 1;
            }
            if spool.room(self.turn_bytes(id)) == Room::Soon {
                self.rescue_pause = Some(ROOM_PAUSE);
            }
            self.leave_queues(id);
        }
        if turns == TURNS_MAX {
            spool.idle();
        }
        turns == 0
    }

    /// Is something unread that was known long enough ago?
    fn is_behind(&mut self, id: FileId, now: Duration) -> bool {
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        let Some(place) = file.place.as_ref().filter(|_| file.packed.is_none()) else {
            return false;
        };
        let is_unread =
            |upto: u64| place.offset < upto || file.backlog.ranges().any(|range| range.start < upto);
        match file.behind {
            Some((since, upto)) if is_unread(upto) => {
                let is_due = file.draining || now >= since + SPOOL_AFTER;
                if is_due && !std::mem::replace(&mut file.rescued, true) {
                    tracing::info!(
                        file = %file.name.display(),
                        "a file is gone before it was read to its end; the rest of it goes to the spool"
                    );
                }
                is_due
            }
            _ => {
                file.behind = is_unread(file.size).then_some((now, file.size));
                file.draining && file.behind.is_some()
            }
        }
    }

    /// Bytes of a turn at most.
    fn turn_bytes(&self, id: FileId) -> usize {
        let unread = self.files.get(id).map_or(0, Tailer::unread_bytes);
        usize::try_from(unread)
            .unwrap_or(usize::MAX)
            .min(self.reader.credit_bytes())
    }

    /// `false`: there is nothing more that could be read now.
    fn rescue_turn(&mut self, id: FileId, spool: &Spool) -> bool {
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        if file.file.is_none() || file.packed.is_some() {
            return false;
        }
        let before = file.progress();
        if !file.backlog.is_empty() {
            return self.read_backlog(id, Way::Spool(spool.clone()));
        }
        if file.draining {
            // Nobody waits any more for the end of its last line.
            file.finish_line_at = file.place.as_ref().map(|place| place.seen);
        }
        self.read_at_place(id, Way::Spool(spool.clone()));
        self.files.get(id).and_then(Tailer::progress) != before
    }

    /// What is read to its end waits for no turn.
    fn leave_queues(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        if !file.dirty && file.backlog.is_empty() && std::mem::take(&mut file.queued) {
            self.queue.retain(|queued| *queued != id);
        }
    }

    /// May what is left of a file go to the spool, though its descriptor would be given up now?
    pub(super) fn drains(&mut self, id: FileId) -> bool {
        let bytes = self.turn_bytes(id);
        let Some(spool) = self.rescuer().cloned() else {
            return false;
        };
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        let has_some = file.endangered && file.packed.is_none() && bytes > 0;
        file.draining = has_some && file.error.is_none() && spool.room(bytes) != Room::No;
        file.draining
    }

    /// The agent stops: what of deleted files only their descriptors hold is written.
    pub(super) fn rescue_at_stop(&mut self) {
        let Some(spool) = self.rescuer().cloned().filter(|_| self.started) else {
            return;
        };
        self.take_changes();
        self.scan();
        self.look_at_changed();
        self.settle_displaced();
        let deadline = Instant::now() + RESCUE_PATIENCE;
        self.rescue_outbox(&spool, deadline);
        // Files that went before they had a stream.
        self.take_in(self.clock.monotonic());
        let gone = self.files.gone().filter(|(_, file)| file.endangered);
        for id in gone.map(|(id, _)| id).collect::<Vec<_>>() {
            if let Some(file) = self.files.get_mut(id) {
                file.draining = true;
            }
            while spool.wait_for_room(self.turn_bytes(id), deadline) && self.rescue_turn(id, &spool) {}
            self.lose_at_stop(id, &spool);
        }
    }

    /// What there is no room for. A file that was only moved may be there again at the next start.
    fn lose_at_stop(&self, id: FileId, spool: &Spool) {
        let Some(file) = self.files.get(id).filter(|file| file.unread_bytes() > 0) else {
            return;
        };
        tracing::warn!(
            file = %file.name.display(), unread_bytes = file.unread_bytes(),
            "a deleted file is not read to its end, and the spool has no room for the rest, which is lost; raise \
             bytes_max in [spool]"
        );
        let is_deleted = |descriptor| stat_open(descriptor).is_ok_and(|found| found.links == 0);
        let Some(place) = file
            .place
            .as_ref()
            .filter(|_| file.file.as_ref().is_some_and(is_deleted))
        else {
            return;
        };
        let unread = file
            .backlog
            .ranges()
            .chain(std::iter::once(place.offset..file.size));
        for range in unread.filter(|range| range.start < range.end) {
            if let Turn::Block { block, .. } =
                receipt(place.stream_id, range.start, range.end, ReceiptReason::Rotated)
            {
                spool.lose(&block, &Resume::Nowhere);
            }
        }
    }

    /// What nobody takes any more.
    fn rescue_outbox(&mut self, spool: &Spool, deadline: Instant) {
        for event in self.outbox.drain() {
            match event {
                SourceEvent::Block(block)
                    if block.block.header.kind == BlockKind::Receipt
                        && spool.is_gone(&block.block.header.stream_id) =>
                {
                    spool.lose(&block.block, &block.resume);
                }
                SourceEvent::Block(block)
                    if spool.is_gone(&block.block.header.stream_id)
                        && spool.wait_for_room(block.block.encoded_len(), deadline) =>
                {
                    spool.keep(block);
                }
                SourceEvent::End(close) if spool.is_gone(&close.stream_id) => drop(spool.end(close)),
                _ => {}
            }
        }
    }

    /// A stream of an earlier process, as if what the spool holds of it were acknowledged.
    pub(super) fn with_what_is_kept(&self, state: StreamState) -> StreamState {
        let stream_id = (&state.descriptor.stream_id[..]).try_into();
        match self
            .spool
            .as_ref()
            .zip(stream_id.ok())
            .map(|(spool, id)| spool.left(&id))
        {
            Some(Left::Kept(left)) => left.added_to(state),
            _ => state,
        }
    }

    /// Is what was read of a file in a compressed one beside it?
    fn is_compressed_beside(&self, id: FileId) -> bool {
        let lost = self.lost_of(id, StreamEndReason::Deleted, ReceiptReason::Rotated);
        lost.is_some_and(|lost| !self.archives_beside(&lost).is_empty())
    }
}

impl Tailer {
    /// Bytes that are known and not read.
    pub fn unread_bytes(&self) -> u64 {
        let read = self.place.as_ref().map_or(0, |place| place.offset);
        self.size.saturating_sub(read) + self.backlog.bytes()
    }

    /// Changes with everything that is read of it.
    fn progress(&self) -> Option<(u64, u64)> {
        self.place.as_ref().map(|place| (place.offset, place.seen))
    }
}

//! What of a file is read later, because fresh lines go first.
//!
//! ```text
//!        acked │ read later, in the backfill lane │ the newest lines, read next, live
//!  ────────────┼──────────────────────────────────┼──────────────────▶
//!              └ first span: its place .. its end └ the file's place, behind a line feed
//! ```
//!
//! A file that has more unread than [`UNREAD_BYTES_MAX`] (after an outage, or because it was long when it was found) is
//! divided before its newest lines: what lies before them is a **span** of the backlog, and reading goes on with them.
//! Each span has a check of the content before it, as every place has, so nothing is taken for granted when it is read
//! at last. What of the spans is acknowledged the checkpoint keeps as ranges; after a restart its holes are the spans.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use memchr::{memchr, memrchr};
use rustix::fd::AsFd;

use super::content::read_at;
use super::files::{FileId, Tailer, Whereabouts};
use super::lines::check_at_end_of;
use super::reader::Place;
use super::source::FileSource;
use super::stat::stat_open;
use crate::flow::{CONTENT_CHECK_BYTES_MAX, ContentCheck};

/// What a log may be behind before its newest lines are read first: 2 s of a line of 1 Mbit/s, when compressed. It
/// doubles with each span, so that a file that is written faster than the line takes it isn't cut to pieces.
pub(super) const UNREAD_BYTES_MAX: u64 = 1 << 20;
/// A file that was rotated away may be behind by this part of it: what is left of it is hardly fresh.
const ROTATED_DIVISOR: u64 = 16;
/// The newest lines are this part of what a log may be behind: what a person who looks at a log wants to see first.
const NEWEST_DIVISOR: u64 = 16;
/// Spans of one file. With this many it is read in order.
const SPANS_MAX: usize = 8;
/// Bytes before the end in which the last line feed is looked for.
const LAST_LINE_BYTES_MAX: usize = 64 << 10;

/// A part of a file that is read later.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// Where reading it goes on.
    pub place: Place,
    /// Behind a line feed.
    pub end: u64,
}

/// The spans of one file, ascending.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog(VecDeque<Span>);

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that are still to be read.
    pub fn bytes(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum()
    }

    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|span| span.place.offset..span.end)
    }

    /// The span that is read now.
    pub fn front_mut(&mut self) -> Option<&mut Span> {
        self.0.front_mut()
    }

    /// The same, for looking at.
    pub fn front(&self) -> Option<&Span> {
        self.0.front()
    }

    /// Forgets spans that are read to their end.
    pub fn trim(&mut self) {
        while self.0.front().is_some_and(|span| span.place.offset >= span.end) {
            self.0.pop_front();
        }
    }

    /// What lies from `place` to `end`, above all others.
    pub fn push(&mut self, place: Place, end: u64) {
        match self.0.back_mut() {
            Some(last) if last.end == place.offset => last.end = end,
            _ if place.offset < end => self.0.push_back(Span { place, end }),
            _ => {}
        }
    }

    /// May what lies from `place` on be put off? It goes to the last span, where nothing was read since.
    fn has_room_for(&self, place: &Place) -> bool {
        self.0.len() < SPANS_MAX || self.0.back().is_some_and(|last| last.end == place.offset)
    }
}

/// The end of the last line in the last bytes before `size`, and the check there.
pub(super) fn last_line_end(file: impl AsFd, size: u64) -> io::Result<Option<(u64, ContentCheck)>> {
    let len = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .min(LAST_LINE_BYTES_MAX + CONTENT_CHECK_BYTES_MAX as usize);
    let start = size - len as u64;
    let tail = read_at(file, start, len)?;
    Ok(memrchr(b'\n', &tail).map(|at| (start + at as u64 + 1, check_at_end_of(&tail[..=at]))))
}

impl Tailer {
    /// More unread than this, and the newest lines go first. `bytes_max`: in a log that has no backlog yet.
    fn unread_bytes_max(&self, bytes_max: u64) -> u64 {
        let bytes_max = match self.whereabouts {
            Whereabouts::Included => bytes_max,
            Whereabouts::Rotated | Whereabouts::Gone { .. } => bytes_max / ROTATED_DIVISOR,
        };
        bytes_max << self.backlog.0.len().min(SPANS_MAX)
    }
}

impl FileSource {
    /// Puts off what lies before the newest lines, where that is much. An error is left to the read that follows.
    pub(super) fn put_off(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id) else {
            return;
        };
        let (Some(descriptor), Some(place)) = (&file.file, &file.place) else {
            return;
        };
        if file.packed.is_some() {
            return;
        }
        let unread = file.size.saturating_sub(place.offset);
        let is_between_lines = place.long_line.is_none() && !place.in_hole;
        if unread <= file.unread_bytes_max(self.unread_bytes_max)
            || !is_between_lines
            || !file.backlog.has_room_for(place)
        {
            return;
        }
        let known = match place.offset {
            0 => file.fingerprint.unwrap_or_default(),
            _ => place.check,
        };
        let newest_bytes = self.unread_bytes_max / NEWEST_DIVISOR;
        let Ok(Some((end, check))) = divide(descriptor, place.offset, known, newest_bytes) else {
            return;
        };
        let newest = Place::new(place.stream_id, end, check);
        if let Some(before) = file.place.replace(newest) {
            file.backlog.push(before, end);
        }
        self.enqueue_backlog(id);
    }

    /// Puts a file in the row of those with a backlog.
    pub(super) fn enqueue_backlog(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(id)
            && !file.backlog.is_empty()
            && !std::mem::replace(&mut file.backlog_queued, true)
        {
            self.backlogs.push_back(id);
        }
    }
}

/// Where the newest lines of a file begin, if it still is what was read: `known` is of the bytes before `offset`, or the
/// first ones where that is 0. The content is compared last: what was truncated and has grown again before that is
/// noticed here, later by the next read.
fn divide(
    file: impl AsFd,
    offset: u64,
    known: ContentCheck,
    newest_bytes: u64,
) -> io::Result<Option<(u64, ContentCheck)>> {
    let size = stat_open(&file)?.size;
    let newest = size.saturating_sub(newest_bytes);
    let from = newest.saturating_sub(CONTENT_CHECK_BYTES_MAX.into());
    let tail = read_at(&file, from, usize::try_from(size - from).unwrap_or(usize::MAX))?;
    let skipped = usize::try_from(newest - from)
        .unwrap_or(usize::MAX)
        .min(tail.len());
    let Some(line_feed) = memchr(b'\n', &tail[skipped..]) else {
        return Ok(None);
    };
    let content = &tail[..=skipped + line_feed];
    let end = from + content.len() as u64;
    let compared = read_at(&file, offset.saturating_sub(known.len.into()), known.len as usize)?;
    let is_same = compared.len() == known.len as usize && crc32c::crc32c(&compared) == known.crc32c;
    Ok((is_same && end > offset).then(|| (end, check_at_end_of(content))))
}

#[cfg(test)]
mod tests {
    use edgelogger_common::stream::StreamId;

    use super::*;

    fn place(offset: u64) -> Place {
        Place::new(StreamId::from_bytes([1; 16]), offset, ContentCheck::default())
    }

    #[test]
    fn neighbouring_spans_are_one_and_what_is_read_is_forgotten() {
        let mut backlog = Backlog::default();
        backlog.push(place(10), 20);
        backlog.push(place(20), 50);
        backlog.push(place(60), 70);
        assert_eq!(backlog.ranges().collect::<Vec<_>>(), [10..50, 60..70]);
        assert_eq!(backlog.bytes(), 50);
        backlog.front_mut().unwrap().place.offset = 50;
        backlog.trim();
        assert!(backlog.ranges().eq(std::iter::once(60..70)));
        backlog.push(place(80), 80);
        assert_eq!(backlog.bytes(), 10);
    }

    #[test]
    fn a_file_has_a_bounded_number_of_spans() {
        let mut backlog = Backlog::default();
        for at in 0..SPANS_MAX as u64 {
            assert!(backlog.has_room_for(&place(at * 10)));
            backlog.push(place(at * 10), at * 10 + 5);
        }
        let last_end = (SPANS_MAX as u64 - 1) * 10 + 5;
        assert!(!backlog.has_room_for(&place(last_end + 1)));
        assert!(backlog.has_room_for(&place(last_end)), "it goes to the last span");
    }
}

//! One turn of reading one file: one `pread`, at most one block.
//!
//! ```text
//!            position − window          position                       last line feed     end of the read
//!                   │                       │                                  │                │
//!   buffer          ├── compared, ≤ 1 KiB ──┼──────────── whole lines ─────────┼─ left for later┤
//!                                           └──────────── the block ───────────┘
//! ```
//!
//! - **Every read begins before the position**, with the bytes whose CRC the last read left, so that a file that was
//!   truncated and has grown again beyond the position is noticed without another system call. Before the first
//!   position is nothing; there the stream's fingerprint is compared: between the look at a new file and its first read
//!   the stream is made durable, and that takes time.
//! - **What is not a whole line is not kept** but read again when there is more: no memory is spent on a file that
//!   waits. A line that is longer than [`REREAD_BYTES_MAX`] before its line feed comes is measured as it goes by
//!   instead (`long_line.rs`), so that a line that grows slowly is not read over and over.
//! - **Pages of NUL bytes where a line would begin** are a hole: a writer that kept its offset after a truncation, or
//!   a file system after a power cut. They become a receipt.

use std::io;

use bytes::Bytes;
use edgelogger_common::block::{Block, BlockError, ReceiptReason, RecordFlags};
use edgelogger_common::stream::StreamId;
use memchr::memrchr;

use super::buffer::Buffers;
use super::content::Content;
use super::identity::Difference;
use super::lines::{Cut, block_of_lines, block_of_one, block_of_plain_lines, check_at_end_of, is_plain};
use super::long_line::LongLine;
use crate::flow::{CONTENT_CHECK_BYTES_MAX, ContentCheck};

/// Bytes of a block at most, but for a single line that is longer.
pub(super) const BLOCK_BYTES_MAX: usize = 256 << 10;
/// An unfinished line is read again from its beginning up to this length.
const REREAD_BYTES_MAX: usize = 16 << 10;
/// Fewer NUL bytes than a page are somebody's data.
const HOLE_BYTES_MIN: usize = 4096;
/// What a hole that was stepped over ends with.
const ZEROES: [u8; CONTENT_CHECK_BYTES_MAX as usize] = [0; CONTENT_CHECK_BYTES_MAX as usize];

/// Where a stream is in its file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub stream_id: StreamId,
    /// Everything below was handed on.
    pub offset: u64,
    /// Of the bytes before `offset`.
    pub check: ContentCheck,
    /// End of what was seen at the last read: behind `offset` there is an unfinished line.
    pub seen: u64,
    /// The last bytes before `offset` were a hole that the last read did not see the end of.
    pub in_hole: bool,
    /// The unfinished line, where it is long.
    pub long_line: Option<LongLine>,
}

impl Place {
    pub const fn new(stream_id: StreamId, offset: u64, check: ContentCheck) -> Self {
        Self {
            stream_id,
            offset,
            check,
            seen: offset,
            in_hole: false,
            long_line: None,
        }
    }

    /// Where the next read begins: some bytes before the position.
    pub fn reads_from(&self) -> u64 {
        match &self.long_line {
            Some(line) => line.scanned - u64::from(line.check.len),
            None => self.offset - u64::from(self.check.len),
        }
    }

    fn advance(&mut self, to: u64, check: ContentCheck) {
        self.offset = to;
        self.check = check;
        self.seen = self.seen.max(to);
        self.long_line = None;
        self.in_hole = false;
    }
}

/// What a turn came to.
#[derive(Debug)]
pub(super) enum Turn {
    /// Records or a receipt, and how many bytes of memory they keep.
    Block { block: Block, memory_bytes: usize },
    /// Part of a long line went by.
    Progress,
    /// Nothing more than an unfinished line.
    Nothing,
    /// It is not the file that was read before.
    Differs(Difference),
}

/// A turn, and whether the file's end was reached.
#[derive(Debug)]
pub(super) struct Outcome {
    pub turn: Turn,
    pub at_end: bool,
}

/// When and how to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// ns UTC.
    pub observed_time_ns: i64,
    /// Hand on an unfinished last line that ends here (as `Place::seen` said); it has waited long enough.
    pub finish_line_at: Option<u64>,
    /// Read no further than this, which is behind a line feed.
    pub end: Option<u64>,
    /// Of the stream's first bytes; compared where nothing lies before the position.
    pub fingerprint: ContentCheck,
}

/// Reads files in turn, with one set of buffers.
#[derive(Debug)]
pub(super) struct Reader {
    buffers: Buffers,
    line_bytes_max: usize,
}

impl Reader {
    /// A line of `line_bytes_max` bytes and its end always fit the buffer, so that a line without a line feed in a
    /// full buffer is over the limit.
    pub fn new(line_bytes_max: usize) -> Self {
        let capacity = CONTENT_CHECK_BYTES_MAX as usize + BLOCK_BYTES_MAX.max(line_bytes_max) + 2;
        Self {
            buffers: Buffers::new(capacity),
            line_bytes_max,
        }
    }

    /// Credit that covers any block of a turn.
    pub fn credit_bytes(&self) -> usize {
        BLOCK_BYTES_MAX.max(self.line_bytes_max)
    }

    /// Bytes of one read at most.
    pub const fn read_bytes(&self) -> usize {
        self.buffers.capacity()
    }

    #[cfg(test)]
    pub fn memory_bytes(&self) -> usize {
        self.buffers.memory_bytes()
    }

    /// There is nothing to read for now.
    pub fn idle(&mut self) {
        self.buffers.idle();
    }

    /// Reads on.
    ///
    /// # Errors
    /// As the system gives them; the place is unchanged.
    pub fn turn(
        &mut self,
        content: &mut impl Content,
        place: &mut Place,
        order: Order,
    ) -> io::Result<Outcome> {
        let (from, check) = match &place.long_line {
            Some(line) => (line.scanned, line.check),
            None => (place.offset, place.check),
        };
        let window = check.len as usize;
        let mut buffer = self.buffers.take();
        let first = from - u64::from(check.len);
        content.read_on(&mut buffer, first)?;
        if let Some(end) = order.end {
            read_up_to(content, &mut buffer, first, end)?;
        }
        let differs = difference(&buffer, if from == 0 { order.fingerprint } else { check });
        if let Some(end) = order.end {
            buffer.truncate(usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX));
        }
        let at_end = buffer.len() < buffer.capacity();
        if let Some(difference) = differs {
            self.buffers.give_back(buffer);
            return Ok(Outcome {
                turn: Turn::Differs(difference),
                at_end,
            });
        }
        let seen_before = place.seen;
        place.seen = from + (buffer.len() - window) as u64;
        let finish = order
            .finish_line_at
            .is_some_and(|at| at_end && at == place.seen && at == seen_before);
        let read = Read {
            buffer,
            window,
            at_end,
            finish,
            end: order.end,
            observed_time_ns: order.observed_time_ns,
        };
        if place.long_line.is_some() {
            self.long_line(content, place, read)
        } else {
            self.lines(content, place, read)
        }
    }

    /// Whole lines, if there are any.
    fn lines(&mut self, content: &mut impl Content, place: &mut Place, read: Read) -> io::Result<Outcome> {
        let data = &read.buffer[read.window..];
        let at_end = read.at_end;
        let hole = hole(data, place.in_hole);
        if hole > 0 {
            let all = hole == data.len();
            let mut check = check_at_end_of(&read.buffer[..read.window + hole]);
            let (start, mut end) = (place.offset, place.offset + hole as u64);
            if let Some(data_from) = content.data_behind(end).filter(|_| all && !at_end) {
                end = read.end.map_or(data_from, |end| end.min(data_from));
                check = check_at_end_of(&ZEROES);
            }
            place.advance(end, check);
            place.in_hole = all;
            let turn = receipt(place.stream_id, start, end, ReceiptReason::Empty);
            self.buffers.give_back(read.buffer);
            return Ok(Outcome {
                turn,
                at_end: at_end && all,
            });
        }
        if let Some(last) = memrchr(b'\n', data) {
            let len = last + 1;
            // What follows the last line feed is seen again in the next turn only where it is not the end.
            return Ok(Outcome {
                turn: self.block(place, read, len),
                at_end,
            });
        }
        let turn = if read.finish && !data.is_empty() {
            unfinished(&read.cut(place, self.line_bytes_max), place, data, &read.buffer)?
        } else if !at_end || data.len() > REREAD_BYTES_MAX {
            let mut line = LongLine::new(place.offset, place.check);
            line.pass(&read.buffer, read.window);
            content.keep(place.offset, data);
            place.long_line = Some(line);
            Turn::Progress
        } else {
            Turn::Nothing
        };
        self.buffers.give_back(read.buffer);
        Ok(Outcome { turn, at_end })
    }

    /// The first `len` bytes behind the window as a block.
    fn block(&mut self, place: &mut Place, read: Read, len: usize) -> Turn {
        let cut = read.cut(place, self.line_bytes_max);
        let (start, end) = (read.window, read.window + len);
        place.advance(cut.start + len as u64, check_at_end_of(&read.buffer[..end]));
        let lines = &read.buffer[start..end];
        if !is_plain(lines, self.line_bytes_max) {
            let block = block_of_lines(&cut, lines);
            self.buffers.give_back(read.buffer);
            return Turn::Block {
                block,
                memory_bytes: len,
            };
        }
        // A block keeps the buffer that it shares. That is fine when it fills it, and a waste when it does not.
        let capacity = read.buffer.capacity();
        let (lines, memory_bytes) = if len >= capacity / 2 {
            (self.buffers.share(read.buffer).slice(start..end), capacity)
        } else {
            let copy = Bytes::copy_from_slice(lines);
            self.buffers.give_back(read.buffer);
            (copy, len)
        };
        Turn::Block {
            block: block_of_plain_lines(&cut, lines),
            memory_bytes,
        }
    }

    fn long_line(
        &mut self,
        content: &mut impl Content,
        place: &mut Place,
        read: Read,
    ) -> io::Result<Outcome> {
        let Some(line) = &mut place.long_line else {
            return Ok(Outcome {
                turn: Turn::Nothing,
                at_end: false,
            });
        };
        let (offset, at_end) = (place.offset, read.at_end);
        let unchanged = read.buffer.len() == read.window;
        let ended = line.pass(&read.buffer, read.window);
        let turn = if let Some(end) = ended {
            if end.content_len(offset) <= self.line_bytes_max as u64 {
                // It fits a block after all: read it as a line among lines.
                place.long_line = None;
                Turn::Progress
            } else {
                let cut = read.cut(place, self.line_bytes_max);
                let body = content.body(offset, self.line_bytes_max)?;
                match body {
                    Some(body) => {
                        let block =
                            block_of_one(&cut, &body, end.end - offset, end.crc32c, RecordFlags::TRUNCATED);
                        place.advance(end.end, end.check);
                        one(block)?
                    }
                    None => Turn::Differs(Difference::Shorter),
                }
            }
        } else if unchanged && read.finish {
            self.finish_long_line(content, place, &read)?
        } else if unchanged {
            Turn::Nothing
        } else {
            Turn::Progress
        };
        self.buffers.give_back(read.buffer);
        // Behind the line feed there may be more, and a line that fits is still to be read.
        let at_end = at_end && ended.is_none();
        Ok(Outcome { turn, at_end })
    }

    /// A long line that ends without a line feed.
    fn finish_long_line(
        &self,
        content: &mut impl Content,
        place: &mut Place,
        read: &Read,
    ) -> io::Result<Turn> {
        let Some(line) = place.long_line.clone() else {
            return Ok(Turn::Nothing);
        };
        let cut = read.cut(place, self.line_bytes_max);
        let len = line.scanned - place.offset;
        let wanted = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(self.line_bytes_max);
        let Some(body) = content.body(place.offset, wanted)? else {
            return Ok(Turn::Differs(Difference::Shorter));
        };
        let cut_off = (wanted as u64) < len;
        if !cut_off && crc32c::crc32c(&body) != line.crc32c {
            return Ok(Turn::Differs(Difference::OtherContent));
        }
        let truncated = if cut_off {
            RecordFlags::TRUNCATED
        } else {
            RecordFlags::default()
        };
        let block = block_of_one(
            &cut,
            &body,
            len,
            line.crc32c,
            RecordFlags::NO_LINE_FEED.with(truncated),
        );
        place.advance(line.scanned, line.check);
        one(block)
    }
}

/// Does a read begin with what is known of the content there?
fn difference(read: &[u8], known: ContentCheck) -> Option<Difference> {
    match read.get(..known.len as usize) {
        None => Some(Difference::Shorter),
        Some(begin) => (crc32c::crc32c(begin) != known.crc32c).then_some(Difference::OtherContent),
    }
}

/// Reads on where a read gave less than there is: to a part of a file that ends somewhere, that is not its end.
fn read_up_to(content: &mut impl Content, buffer: &mut Vec<u8>, first: u64, end: u64) -> io::Result<()> {
    while buffer.len() < buffer.capacity() && first + (buffer.len() as u64) < end {
        let before = buffer.len();
        content.read_on(buffer, first + before as u64)?;
        if buffer.len() == before {
            break;
        }
    }
    Ok(())
}

/// One read and how it is to be taken.
struct Read {
    /// The window, then what is behind the position.
    buffer: Vec<u8>,
    window: usize,
    at_end: bool,
    /// An unfinished last line is handed on.
    finish: bool,
    end: Option<u64>,
    observed_time_ns: i64,
}

impl Read {
    const fn cut(&self, place: &Place, line_bytes_max: usize) -> Cut {
        Cut {
            stream_id: place.stream_id,
            start: place.offset,
            observed_time_ns: self.observed_time_ns,
            line_bytes_max,
        }
    }
}

/// A last line without a line feed: all of `data`.
fn unfinished(cut: &Cut, place: &mut Place, data: &[u8], buffer: &[u8]) -> io::Result<Turn> {
    let crc = crc32c::crc32c(data);
    let block = block_of_one(cut, data, data.len() as u64, crc, RecordFlags::NO_LINE_FEED);
    place.advance(place.offset + data.len() as u64, check_at_end_of(buffer));
    one(block)
}

fn one(block: Result<Block, BlockError>) -> io::Result<Turn> {
    // It fails only for a position beyond 2^63, where no file ends.
    let block = block.map_err(|error| io::Error::new(io::ErrorKind::FileTooLarge, error))?;
    let memory_bytes = block.encoded_len();
    Ok(Turn::Block { block, memory_bytes })
}

/// A block that says why `[start, end)` holds no record. How many records it stood for, nobody knows.
pub(super) fn receipt(stream_id: StreamId, start: u64, end: u64, reason: ReceiptReason) -> Turn {
    let block = Block::receipt(stream_id, false, start, end, reason, 0, false);
    let memory_bytes = block.encoded_len();
    Turn::Block { block, memory_bytes }
}

/// Length of the hole that `data` begins with, or goes on with, or 0.
fn hole(data: &[u8], goes_on: bool) -> usize {
    if data.first() != Some(&0) {
        return 0;
    }
    let len = data.iter().position(|byte| *byte != 0).unwrap_or(data.len());
    if goes_on || len >= HOLE_BYTES_MIN { len } else { 0 }
}

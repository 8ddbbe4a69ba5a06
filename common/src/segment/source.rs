//! Reads one segment in big chunks and puts them through a walker.

use super::LogId;
use super::format::SEGMENT_HEADER_BYTES;
use super::walk::{Region, Step, Walker};
use crate::disk::DiskFile;
use bytes::{Buf, Bytes, BytesMut};
use rustix::io::Errno;
use std::io;
use std::ops::Range;

/// A device reports errors for pages; one that cannot be read is taken as zeroes, which are damage.
const PAGE_BYTES: usize = 4096;

/// What a segment holds next.
#[derive(Debug)]
pub(super) enum Item {
    Frame {
        sequence: u64,
        payload: Bytes,
    },
    Damaged(Region),
    End {
        next_sequence: u64,
    },
    /// Everything up to `bytes_end` was read. With a region: what stands since the last good frame is no frame.
    Exhausted(Option<Region>),
}

/// What a source needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceOptions {
    pub(super) log_id: LogId,
    pub(super) frame_bytes_max: u32,
    pub(super) read_chunk_bytes: usize,
    /// Take what the device cannot read for damage, instead of giving its error.
    pub(super) step_over_unreadable: bool,
}

/// A segment being read.
#[derive(Debug)]
pub(super) struct Source {
    file: Box<dyn DiskFile>,
    walker: Walker,
    window: BytesMut,
    read_offset: u64,
    /// Nothing at or behind this offset is read.
    bytes_end: u64,
    was_cut: bool,
    chunk_bytes: usize,
    pub(super) step_over_unreadable: bool,
    /// Was a page met that the device could not read?
    pub(super) met_unreadable: bool,
    /// Of the bytes that belong to no frame, was each a zero?
    pub(super) skipped_only_zeroes: bool,
}

impl Source {
    /// Begins behind the header; `sequences` are those that the segment may hold.
    pub(super) fn new(
        file: Box<dyn DiskFile>,
        options: &SourceOptions,
        sequences: Range<u64>,
        bytes_end: u64,
    ) -> Self {
        let start = SEGMENT_HEADER_BYTES as u64;
        Self {
            file,
            walker: Walker::new(&options.log_id, options.frame_bytes_max, start, sequences),
            window: BytesMut::new(),
            read_offset: start,
            bytes_end,
            was_cut: false,
            chunk_bytes: options.read_chunk_bytes.max(PAGE_BYTES),
            step_over_unreadable: options.step_over_unreadable,
            met_unreadable: false,
            skipped_only_zeroes: true,
        }
    }

    /// Allows reading up to here, where a frame ends: more became durable. False when there is nothing more, or
    /// when the file turned out to be shorter than it was said to be.
    pub(super) fn extend(&mut self, bytes_end: u64) -> bool {
        let more = bytes_end > self.bytes_end && !self.was_cut;
        if more {
            self.bytes_end = bytes_end;
        }
        more
    }

    /// Gives up what is not read yet up to `offset`, where the frame `next_sequence` will begin.
    pub(super) fn jump(&mut self, offset: u64, next_sequence: u64) {
        self.window.clear();
        self.was_cut = false;
        (self.read_offset, self.bytes_end) = (offset, offset);
        self.walker.resume_at(offset, next_sequence);
    }

    /// Offset behind the last good frame.
    pub(super) fn offset(&self) -> u64 {
        self.walker.offset()
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.walker.next_sequence()
    }

    /// Nothing at or behind this offset is read: where the file ends, once that is reached.
    pub(super) fn bytes_end(&self) -> u64 {
        self.bytes_end
    }

    /// The next thing in the segment.
    pub(super) fn next(&mut self) -> io::Result<Item> {
        loop {
            let last = self.read_offset >= self.bytes_end;
            match self.walker.step(&self.window, last) {
                Step::Need(bytes) => self.fill(bytes)?,
                Step::Skip(bytes) => {
                    self.skipped_only_zeroes &= self.window[..bytes].iter().all(|byte| *byte == 0);
                    self.window.advance(bytes);
                }
                Step::Damaged(region) => return Ok(Item::Damaged(region)),
                Step::End { next_sequence } => return Ok(Item::End { next_sequence }),
                Step::Exhausted(region) => return Ok(Item::Exhausted(region)),
                Step::Frame { sequence, bytes } => {
                    let mut payload = self.window.split_to(bytes).freeze();
                    payload.advance(super::FRAME_HEADER_BYTES);
                    return Ok(Item::Frame { sequence, payload });
                }
            }
        }
    }

    /// Reads until the window holds `wanted` bytes, at least a chunk at a time, or the end is reached.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(self.window.len()).max(self.chunk_bytes);
        let left = usize::try_from(self.bytes_end - self.read_offset).unwrap_or(usize::MAX);
        let target = self.window.len() + missing.min(left);
        while self.window.len() < target {
            let held = self.window.len();
            self.window.resize(target, 0);
            let read = self.read_into(held);
            self.window.truncate(held + read.as_ref().copied().unwrap_or(0));
            match read? {
                // Shorter than it was said to be: somebody cut it.
                0 => {
                    self.was_cut = true;
                    self.bytes_end = self.read_offset;
                    return Ok(());
                }
                read => self.read_offset += read as u64,
            }
        }
        Ok(())
    }

    fn read_into(&mut self, from: usize) -> io::Result<usize> {
        let buffer = &mut self.window[from..];
        match self.file.read_at(buffer, self.read_offset) {
            Err(error) if self.step_over_unreadable && is_media_error(&error) => {}
            other => return other,
        }
        // One bad page must not cost the chunk: read up to the end of the page, or take it for zeroes.
        let in_page = usize::try_from(self.read_offset % PAGE_BYTES as u64).unwrap_or(0);
        let page = buffer.len().min(PAGE_BYTES - in_page);
        match self.file.read_at(&mut buffer[..page], self.read_offset) {
            Err(error) if is_media_error(&error) => {
                self.met_unreadable = true;
                buffer[..page].fill(0);
                Ok(page)
            }
            other => other,
        }
    }
}

fn is_media_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

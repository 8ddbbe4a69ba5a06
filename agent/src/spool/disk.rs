//! The log in the state directory: the one place of the spool that touches a disk.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use edgelogger_common::disk::Disk;
use edgelogger_common::segment::{
    ReadItem, RecoveryReport, SegmentError, SegmentLog, SegmentOptions, SegmentReader,
};

use super::config::{SpoolLimits, segment_bytes};

/// The largest entry: four times the largest batch, because the limits of a collector may be raised.
pub const ENTRY_BYTES_MAX: u32 = 32 << 20;
/// What is read at a time, and what a batch that waits for the line keeps in memory with it.
const READ_CHUNK_BYTES: usize = 64 << 10;
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// How the spool's log is kept.
#[must_use]
pub fn options(segment_bytes_max: u64) -> SegmentOptions {
    SegmentOptions {
        segment_bytes_max,
        frame_bytes_max: ENTRY_BYTES_MAX,
        write_buffer_bytes: WRITE_BUFFER_BYTES,
        read_chunk_bytes: READ_CHUNK_BYTES,
        quarantine_bytes_max: 16 << 20,
        ..SegmentOptions::default()
    }
}

/// What stands in the place of a frame.
#[derive(Debug)]
pub(super) enum InPlace {
    /// What it holds.
    Entry(Bytes),
    /// These frames are gone.
    Nothing(Range<u64>),
}

/// See the module page. Nothing is made before something is kept.
#[derive(Debug)]
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: SpoolLimits,
    log: Option<SegmentLog>,
    reader: Option<SegmentReader>,
    /// Take what the device can't read for damage.
    pub step_over_unreadable: bool,
}

impl Store {
    pub const fn new(disk: Arc<dyn Disk>, dir: PathBuf, limits: SpoolLimits) -> Self {
        Self {
            disk,
            dir,
            limits,
            log: None,
            reader: None,
            step_over_unreadable: false,
        }
    }

    /// Did an earlier process leave a log?
    pub fn exists(&self) -> bool {
        self.disk.exists(&self.dir).unwrap_or(true)
    }

    /// Bytes, durable end, end of the oldest segment where there is another.
    pub fn extent(&self) -> (u64, u64, Option<u64>) {
        self.log.as_ref().map_or((0, 0, None), |log| {
            (log.bytes(), log.durable_end(), log.oldest_segment_end())
        })
    }

    /// Bytes that may still be written without touching the reserve; `None`: more than a segment, or nobody knows.
    pub fn left(&self) -> Option<u64> {
        let above = self.dir.parent().unwrap_or(&self.dir);
        let left = self
            .disk
            .available_bytes(above)
            .ok()?
            .saturating_sub(self.limits.keep_free_bytes);
        (left < self.limits.segment_bytes).then_some(left)
    }

    /// Opens the log, or opens it again. The report, where something was recovered.
    pub fn open(&mut self) -> Result<RecoveryReport, SegmentError> {
        self.reader = None;
        if let Some(log) = &mut self.log {
            return log.reopen();
        }
        // Where less is free than the spool may have, what can be given up at a time is smaller too.
        let left = self.left().map_or(u64::MAX, segment_bytes);
        let options = options(self.limits.segment_bytes.min(left));
        let (log, report) = SegmentLog::open(Arc::clone(&self.disk), &self.dir, options)?;
        self.log = Some(log);
        Ok(report)
    }

    fn log(&mut self) -> Result<&mut SegmentLog, SegmentError> {
        if self.log.is_none() {
            self.open()?;
        }
        self.log.as_mut().ok_or_else(|| SegmentError::Poisoned {
            dir: self.dir.clone(),
        })
    }

    /// Everything there is, from the first frame on.
    pub fn read_all(&mut self, mut each: impl FnMut(ReadItem)) -> Result<(), SegmentError> {
        let step_over = self.step_over_unreadable;
        let log = self.log()?;
        let mut reader = log.reader(log.first_sequence())?;
        reader.step_over_unreadable(step_over);
        while let Some(item) = reader.next()? {
            each(item);
        }
        Ok(())
    }

    /// Appends, and hands over to the system: it outlives this process.
    pub fn append(&mut self, entry: &[u8]) -> Result<u64, SegmentError> {
        let log = self.log()?;
        let sequence = log.append(&[entry])?;
        log.flush()?;
        Ok(sequence)
    }

    pub fn sync(&mut self) -> Result<u64, SegmentError> {
        self.log()?.sync()
    }

    /// Removes the oldest segment; every frame below the sequence that it gives is gone.
    pub fn drop_oldest(&mut self) -> Result<u64, SegmentError> {
        let log = self.log()?;
        if log.oldest_segment_end().is_none() {
            log.roll()?;
        }
        let end = log.oldest_segment_end().unwrap_or_else(|| log.next_sequence());
        log.drop_before(end)?;
        Ok(end)
    }

    pub fn trim(&mut self, sequence: u64) -> Result<(), SegmentError> {
        self.log()?.drop_before(sequence).map(drop)
    }

    /// Throws everything away.
    pub fn clear(&mut self) -> Result<(), SegmentError> {
        self.reader = None;
        let log = self.log()?;
        log.roll()?;
        log.drop_before(log.next_sequence()).map(drop)
    }

    /// The frame of this sequence, or what stands in its place. `None`: it is not durable yet.
    pub fn read(&mut self, sequence: u64) -> Result<Option<InPlace>, SegmentError> {
        let step_over = self.step_over_unreadable;
        let mut reader = match self.reader.take() {
            Some(reader) if reader.next_sequence() <= sequence => reader,
            _ => self.log()?.reader(sequence)?,
        };
        reader.step_over_unreadable(step_over);
        let found = loop {
            match reader.next()? {
                None => break None,
                Some(ReadItem::Frame(frame)) if frame.sequence < sequence => {}
                Some(ReadItem::Frame(frame)) => break Some(InPlace::Entry(frame.payload)),
                Some(
                    ReadItem::Damaged {
                        from_sequence,
                        to_sequence,
                        ..
                    }
                    | ReadItem::Dropped {
                        from_sequence,
                        to_sequence,
                    },
                ) => {
                    if to_sequence > sequence {
                        break Some(InPlace::Nothing(from_sequence..to_sequence));
                    }
                }
            }
        };
        self.reader = Some(reader);
        Ok(found)
    }
}

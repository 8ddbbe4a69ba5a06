//! The one writer of a log.

use super::apply::apply;
use super::format::{FrameCrc, Header, segment_path};
use super::plan::{ActivePlan, decide};
use super::report::RecoveryReport;
use super::scan::{LOCK_FILE, Purpose, scan};
use super::view::{LogView, SegmentSpan, Shared};
use super::{END_MARK_BYTES, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use super::{LogId, SegmentError, SegmentOptions, SegmentReader};
use crate::disk::{Access, At, Disk, DiskFile, DiskLock, create_dir_all_durable};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open log. It has the directory to itself until it is dropped; dropping it gives up what was appended but
/// not synced.
#[derive(Debug)]
pub struct SegmentLog {
    shared: Arc<Shared>,
    options: SegmentOptions,
    crc: FrameCrc,
    /// `None` until a segment can be begun (the disk was full), and after a failure.
    active: Option<Active>,
    next_sequence: u64,
    is_poisoned: bool,
    _lock: DiskLock,
}

/// The segment that grows.
#[derive(Debug)]
struct Active {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    frames: u64,
    /// Appended, not yet given to the system.
    buffer: Vec<u8>,
}

impl Active {
    fn bytes(&self) -> u64 {
        self.file.end() + self.buffer.len() as u64
    }

    fn flush(&mut self) -> Result<(), SegmentError> {
        if !self.buffer.is_empty() {
            self.file
                .append(&[IoSlice::new(&self.buffer)])
                .at("write", &self.path)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SegmentError> {
        self.flush()?;
        Ok(self.file.sync_data().at("sync", &self.path)?)
    }
}

impl SegmentLog {
    /// Opens the log in `dir`, creating it when there is none, and recovers what a crash or a fault left. What
    /// was found and done is in the report; whoever keeps a ledger enters `report.plan.newly_lost()`.
    ///
    /// # Errors
    /// [`SegmentError::Locked`], [`SegmentError::TooNew`], or what the file system refuses; never because of
    /// what the files contain.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SegmentOptions,
    ) -> Result<(Self, RecoveryReport), SegmentError> {
        create_dir_all_durable(disk.as_ref(), dir)?;
        let lock_path = dir.join(LOCK_FILE);
        let lock = match disk.lock(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(SegmentError::Locked {
                    dir: dir.to_path_buf(),
                });
            }
            other => other.at("lock", &lock_path)?,
        };
        let (recovered, report) = recover(disk.as_ref(), dir, &options, None)?;
        let log_id = report.plan.log_id;
        let shared = Shared::new(
            disk,
            dir.to_path_buf(),
            log_id,
            options.frame_bytes_max,
            options.read_chunk_bytes,
        );
        let mut log = Self {
            shared: Arc::new(shared),
            crc: FrameCrc::new(&log_id),
            options,
            active: None,
            next_sequence: 0,
            is_poisoned: false,
            _lock: lock,
        };
        let report = log.take_over(recovered, report)?;
        Ok((log, report))
    }

    /// After a failure: verifies what the medium holds and goes on. Readers and views stay valid. Everything that
    /// [`SegmentLog::sync`] returned is still there, or reported as lost; what was appended after that may be
    /// there or not, as [`SegmentLog::next_sequence`] then tells.
    ///
    /// # Errors
    /// As [`SegmentLog::open`]; the log then stays poisoned and this can be tried again.
    /// [`SegmentError::AnotherLog`] when somebody exchanged the directory.
    pub fn reopen(&mut self) -> Result<RecoveryReport, SegmentError> {
        self.is_poisoned = true;
        self.active = None;
        let options = SegmentOptions {
            sequence_min: self.options.sequence_min.max(self.shared.durable_end()),
            log_id: Some(self.shared.log_id),
            ..self.options.clone()
        };
        let (disk, dir) = (self.shared.disk.as_ref(), self.shared.dir.as_path());
        let (recovered, report) = recover(disk, dir, &options, Some(self.shared.log_id))?;
        self.take_over(recovered, report)
    }

    fn take_over(
        &mut self,
        recovered: Recovered,
        mut report: RecoveryReport,
    ) -> Result<RecoveryReport, SegmentError> {
        let Recovered {
            spans,
            active,
            next_sequence,
        } = recovered;
        self.shared.replace(spans, next_sequence);
        self.next_sequence = next_sequence;
        self.active = active;
        if self.active.is_none() {
            // A full disk must not keep sinks from reading, which is what will free space.
            match self.begin_segment() {
                Err(error) if error.is_disk_full() => report.warnings.push(error.to_string()),
                other => other?,
            }
        }
        self.is_poisoned = false;
        Ok(report)
    }

    /// Appends one frame made of `parts` and gives its sequence. It is in memory or in the page cache: durable
    /// after the next [`SegmentLog::sync`]. Closing a full segment syncs, though.
    ///
    /// # Errors
    /// [`SegmentError::FrameTooLarge`] leaves the log as it was; any other error poisons it.
    pub fn append(&mut self, parts: &[&[u8]]) -> Result<u64, SegmentError> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let bytes_max = self.options.frame_bytes_max;
        let len = match u32::try_from(bytes) {
            Ok(len) if len <= bytes_max => len,
            _ => return Err(SegmentError::FrameTooLarge { bytes, bytes_max }),
        };
        self.unless_poisoned(|log| log.append_frame(len, parts))
    }

    /// Gives everything appended to the system: it then outlives this process, but not a power cut.
    ///
    /// # Errors
    /// Any error poisons the log.
    pub fn flush(&mut self) -> Result<(), SegmentError> {
        self.unless_poisoned(|log| log.active.as_mut().map_or(Ok(()), Active::flush))
    }

    /// Makes everything appended durable, and gives the durable end: each sequence below it is safe.
    ///
    /// # Errors
    /// Any error poisons the log: what was appended since the last success is not safe.
    pub fn sync(&mut self) -> Result<u64, SegmentError> {
        if self.next_sequence == self.shared.durable_end() && !self.is_poisoned {
            return Ok(self.next_sequence);
        }
        self.unless_poisoned(|log| {
            if let Some(active) = &mut log.active {
                active.sync()?;
                log.shared.extend_last(log.next_sequence, active.bytes());
            }
            Ok(log.next_sequence)
        })
    }

    /// Closes the active segment, unless it is empty, and begins another: what it holds can then be dropped.
    ///
    /// # Errors
    /// Any error poisons the log; a full disk, too, where it kept a segment from being begun before.
    pub fn roll(&mut self) -> Result<(), SegmentError> {
        self.unless_poisoned(|log| match &log.active {
            Some(active) if active.frames == 0 => Ok(()),
            Some(_) => log.close_and_begin(),
            None => log.begin_segment(),
        })
    }

    /// Removes the segments that hold nothing at or above `sequence`, oldest first; never the active one. Gives
    /// how many bytes that freed.
    ///
    /// # Errors
    /// When a file cannot be removed; the log is as before, less what was removed already.
    pub fn drop_before(&mut self, sequence: u64) -> Result<u64, SegmentError> {
        let (disk, dir) = (&self.shared.disk, &self.shared.dir);
        let mut freed = 0;
        while let Some(span) = self.shared.pop_before(sequence) {
            let path = segment_path(dir, span.first_sequence);
            match disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.shared.put_back(span);
                    return Err(error).at("remove", &path).map_err(SegmentError::from);
                }
                _ => freed += span.bytes,
            }
        }
        if freed > 0 {
            disk.sync_dir(dir).at("sync directory", dir)?;
        }
        Ok(freed)
    }

    /// The sequence that the next append gets.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The oldest sequence that was not dropped.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.shared.first_sequence()
    }

    /// Behind the last sequence of the oldest segment, where there is another one: what [`SegmentLog::drop_before`] takes
    /// to remove just that one.
    #[must_use]
    pub fn oldest_segment_end(&self) -> Option<u64> {
        self.shared.second_segment()
    }

    /// Each sequence below is durable.
    #[must_use]
    pub fn durable_end(&self) -> u64 {
        self.shared.durable_end()
    }

    /// Bytes of all segments, what is not yet durable included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let waiting = self.active.as_ref().map_or(0, |active| {
            active.bytes().saturating_sub(self.shared.last_span_bytes())
        });
        self.shared.durable_bytes() + waiting
    }

    /// Who the log is.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.shared.log_id
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Does it wait for [`SegmentLog::reopen`]?
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }

    /// For readers in other threads.
    #[must_use]
    pub fn view(&self) -> LogView {
        LogView(Arc::clone(&self.shared))
    }

    /// As [`LogView::reader`].
    ///
    /// # Errors
    /// When `from_sequence` is behind the durable end.
    pub fn reader(&self, from_sequence: u64) -> Result<SegmentReader, SegmentError> {
        self.view().reader(from_sequence)
    }

    fn unless_poisoned<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, SegmentError>,
    ) -> Result<T, SegmentError> {
        if self.is_poisoned {
            return Err(SegmentError::Poisoned {
                dir: self.shared.dir.clone(),
            });
        }
        let done = work(self);
        self.is_poisoned = done.is_err();
        done
    }

    fn append_frame(&mut self, len: u32, parts: &[&[u8]]) -> Result<u64, SegmentError> {
        let frame_bytes = FRAME_HEADER_BYTES as u64 + u64::from(len);
        let is_full = |active: &Active| {
            let bytes = active.bytes() + frame_bytes + END_MARK_BYTES as u64;
            active.frames > 0 && bytes > self.options.segment_bytes_max
        };
        match &self.active {
            None => self.begin_segment()?,
            Some(active) if is_full(active) => self.close_and_begin()?,
            Some(_) => {}
        }
        let sequence = self.next_sequence;
        let header = self.crc.frame_header(len, sequence, parts);
        let buffer_bytes_max = self.options.write_buffer_bytes;
        let Some(active) = &mut self.active else {
            return Ok(sequence);
        };
        if active.buffer.len() as u64 + frame_bytes <= buffer_bytes_max as u64 {
            active.buffer.extend_from_slice(&header);
            parts
                .iter()
                .for_each(|part| active.buffer.extend_from_slice(part));
        } else {
            let mut slices = vec![IoSlice::new(&active.buffer), IoSlice::new(&header)];
            slices.extend(parts.iter().map(|part| IoSlice::new(part)));
            active.file.append(&slices).at("write", &active.path)?;
            active.buffer.clear();
        }
        active.frames += 1;
        self.next_sequence += 1;
        Ok(sequence)
    }

    fn close_and_begin(&mut self) -> Result<(), SegmentError> {
        if let Some(mut active) = self.active.take() {
            active
                .buffer
                .extend_from_slice(&self.crc.end_mark(self.next_sequence));
            active.sync()?;
            self.shared.extend_last(self.next_sequence, active.bytes());
        }
        self.begin_segment()
    }

    /// Creates the segment that begins with the next sequence: its header and its name are durable before the
    /// first frame goes in.
    fn begin_segment(&mut self) -> Result<(), SegmentError> {
        let first_sequence = self.next_sequence;
        let created_ns = self.options.clock.wall_ns();
        let header = Header {
            log_id: self.shared.log_id,
            first_sequence,
            created_ns,
        };
        let (disk, dir) = (&self.shared.disk, &self.shared.dir);
        let path = segment_path(dir, first_sequence);
        let mut file = disk.create_new(&path).at("create", &path)?;
        let written = file
            .append(&[IoSlice::new(&header.encode())])
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Without frames in it this file is nothing; if it can't be removed now, recovery will.
            let _ = disk.remove_file(&path);
            return Err(error).at("write", &path).map_err(SegmentError::from);
        }
        disk.sync_dir(dir).at("sync directory", dir)?;
        self.active = Some(Active {
            path,
            file,
            frames: 0,
            buffer: Vec::new(),
        });
        let bytes = SEGMENT_HEADER_BYTES as u64;
        self.shared.push(SegmentSpan {
            first_sequence,
            end_sequence: first_sequence,
            bytes,
        });
        Ok(())
    }
}

struct Recovered {
    spans: Vec<SegmentSpan>,
    active: Option<Active>,
    next_sequence: u64,
}

fn recover(
    disk: &dyn Disk,
    dir: &Path,
    options: &SegmentOptions,
    expected: Option<LogId>,
) -> Result<(Recovered, RecoveryReport), SegmentError> {
    let scan = scan(disk, dir, options, Purpose::Recover)?;
    let quarantine_bytes_left = options.quarantine_bytes_max.saturating_sub(scan.quarantine_bytes);
    let decision = decide(&scan, options)?;
    if expected.is_some_and(|expected| expected != decision.plan.log_id) {
        return Err(SegmentError::AnotherLog {
            dir: dir.to_path_buf(),
        });
    }
    let warnings = apply(disk, &decision.plan, quarantine_bytes_left)?;
    let active = match decision.active {
        ActivePlan::Start { .. } => None,
        ActivePlan::Continue {
            first_sequence,
            frames,
            ..
        } => {
            let path = segment_path(dir, first_sequence);
            let file = disk.open(&path, Access::ReadAppend).at("open", &path)?;
            file.sync_data().at("sync", &path)?;
            Some(Active {
                path,
                file,
                frames,
                buffer: Vec::new(),
            })
        }
    };
    let next_sequence = decision.plan.next_sequence;
    let report = RecoveryReport {
        plan: decision.plan,
        warnings,
    };
    Ok((
        Recovered {
            spans: decision.spans,
            active,
            next_sequence,
        },
        report,
    ))
}

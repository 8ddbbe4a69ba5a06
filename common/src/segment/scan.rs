//! Recovery, first part: what is in the directory. Reads only, and every byte at most once.

use super::format::{
    END_MARK_BYTES, FrameCrc, FrameHeader, Header, HeaderFault, SEGMENT_HEADER_BYTES, decode_log_id,
    looks_like_segment, parse_file_name, segment_path,
};
use super::plan::decide;
use super::report::RecoveryPlan;
use super::source::{Item, Source, SourceOptions};
use super::walk::Region;
use super::{LogId, SegmentError, SegmentOptions};
use crate::disk::{Access, At, Disk, DiskFile, NEW_SUFFIX, read_file};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// File that keeps the log_id a second time.
pub(super) const LOG_ID_FILE: &str = "log_id";
/// File that belongs to the process that has the log.
pub(super) const LOCK_FILE: &str = "lock";
/// Directory for copies of what was damaged.
pub(super) const QUARANTINE_DIR: &str = "quarantine";
/// More than [`super::format::encode_log_id`] writes.
const LOG_ID_FILE_BYTES_MAX: u64 = 4096;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanDepth {
    /// Header and end mark of sealed segments, all of the last one. What opening does.
    Fast,
    /// Every frame of every segment. What `fsck` does.
    Full,
}

/// What recovery would do, without doing it or changing anything. The log may be in use; then its last segment
/// may look torn.
///
/// # Errors
/// When the directory cannot be read, or was written by a later version.
pub fn inspect(
    disk: &dyn Disk,
    dir: &Path,
    options: &SegmentOptions,
    depth: ScanDepth,
) -> Result<RecoveryPlan, SegmentError> {
    let scan = scan(disk, dir, options, Purpose::Inspect(depth))?;
    Ok(decide(&scan, options)?.plan)
}

/// Why a directory is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To look.
    Inspect(ScanDepth),
    /// To go on writing: the last segment is made durable and believed only as the medium gives it back.
    Recover,
}

impl Purpose {
    fn reads_everything(self) -> bool {
        self == Self::Inspect(ScanDepth::Full)
    }
}

/// Everything that recovery decides on.
#[derive(Debug)]
pub(super) struct DirScan {
    pub(super) dir: std::path::PathBuf,
    /// From the file, else from the first good header; `None` for a new log.
    pub(super) log_id: Option<LogId>,
    /// Does the file say so?
    pub(super) log_id_file_is_good: bool,
    /// By first sequence.
    pub(super) segments: Vec<SegmentScan>,
    /// Segments that are not ours, and why.
    pub(super) strangers: Vec<(String, &'static str)>,
    /// Left by an interrupted replacement.
    pub(super) leftovers: Vec<String>,
    pub(super) quarantined: BTreeSet<String>,
    pub(super) quarantine_bytes: u64,
}

#[derive(Debug)]
pub(super) struct SegmentScan {
    pub(super) first_sequence: u64,
    pub(super) file_bytes: u64,
    pub(super) header: Result<Header, HeaderFault>,
    pub(super) contents: Contents,
}

#[derive(Debug)]
pub(super) enum Contents {
    /// Closed by an end mark; what is before it was not looked at.
    Sealed {
        next_sequence: u64,
    },
    Walked(Walked),
}

/// What stands in a segment that was read from start to end.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) frames: u64,
    /// Behind the last good frame, or the header.
    pub(super) frames_end: u64,
    /// Due there.
    pub(super) next_sequence: u64,
    /// What the end mark says, if there is one.
    pub(super) sealed: Option<u64>,
    /// Damage before a good frame or end mark.
    pub(super) regions: Vec<Region>,
    /// Bytes behind the last good frame.
    pub(super) tail: Option<Region>,
    pub(super) met_unreadable: bool,
    /// Nothing but zeroes, or nothing.
    pub(super) is_blank: bool,
    /// Where reading ended: the medium may hold less than the file was said to be long.
    pub(super) bytes_end: u64,
}

pub(super) fn scan(
    disk: &dyn Disk,
    dir: &Path,
    options: &SegmentOptions,
    purpose: Purpose,
) -> Result<DirScan, SegmentError> {
    let mut scan = DirScan {
        dir: dir.to_path_buf(),
        log_id: read_log_id(disk, dir),
        log_id_file_is_good: false,
        segments: Vec::new(),
        strangers: Vec::new(),
        leftovers: Vec::new(),
        quarantined: BTreeSet::new(),
        quarantine_bytes: 0,
    };
    scan.log_id_file_is_good = scan.log_id.is_some();
    scan_quarantine(disk, dir, &mut scan)?;
    let mut opened = Vec::new();
    let names = disk.list_files(dir).at("list", dir)?;
    let last = names.iter().filter_map(|name| parse_file_name(name)).max();
    for name in names {
        if let Some(first_sequence) = parse_file_name(&name) {
            let is_last = Some(first_sequence) == last;
            opened.push(open_segment(
                disk,
                dir,
                first_sequence,
                is_last && purpose == Purpose::Recover,
            )?);
        } else if looks_like_segment(&name) {
            scan.strangers.push((name, "not a name of a segment"));
        } else if name.ends_with(NEW_SUFFIX) {
            scan.leftovers.push(name);
        }
    }
    scan.log_id = scan
        .log_id
        .or_else(|| opened.iter().find_map(|o| Some(o.header.as_ref().ok()?.log_id)));
    let Some(log_id) = scan.log_id else {
        // Nobody knows what this log was called, so no frame of it can be checked.
        scan.strangers.extend(
            opened
                .iter()
                .map(|o| (o.name(), "no header or log_id file is readable")),
        );
        return Ok(scan);
    };
    opened.retain(|o| match &o.header {
        Ok(header) if header.log_id != log_id => {
            scan.strangers.push((o.name(), "of another log"));
            false
        }
        Ok(header) if header.first_sequence != o.first_sequence => {
            scan.strangers
                .push((o.name(), "its header has another first sequence"));
            false
        }
        _ => true,
    });
    read_segments(opened, log_id, dir, options, purpose, &mut scan)?;
    Ok(scan)
}

fn read_segments(
    opened: Vec<Opened>,
    log_id: LogId,
    dir: &Path,
    options: &SegmentOptions,
    purpose: Purpose,
    scan: &mut DirScan,
) -> Result<(), SegmentError> {
    let ends: Vec<u64> = opened
        .iter()
        .skip(1)
        .map(|o| o.first_sequence)
        .chain([u64::MAX])
        .collect();
    let last = opened.len().saturating_sub(1);
    for (index, (opened, sequence_end)) in opened.into_iter().zip(ends).enumerate() {
        let path = segment_path(dir, opened.first_sequence);
        let sequences = opened.first_sequence..sequence_end;
        let may_believe_end_mark = index < last && !purpose.reads_everything() && opened.header.is_ok();
        let sealed = may_believe_end_mark
            .then(|| read_end_mark(opened.file.as_ref(), &log_id))
            .flatten()
            .filter(|next| *next > sequences.start && *next <= sequences.end);
        let (first_sequence, mut file_bytes) = (opened.first_sequence, opened.file.end());
        let header = opened.header;
        let contents = match sealed {
            Some(next_sequence) => Contents::Sealed { next_sequence },
            None => {
                let source_options = SourceOptions {
                    log_id,
                    frame_bytes_max: options.frame_bytes_max,
                    read_chunk_bytes: options.read_chunk_bytes.max(1 << 20),
                    step_over_unreadable: true,
                };
                let source = Source::new(opened.file, &source_options, sequences, file_bytes);
                let walked = walk(source, opened.head_is_blank).at("read", &path)?;
                file_bytes = walked.bytes_end;
                Contents::Walked(walked)
            }
        };
        scan.segments.push(SegmentScan {
            first_sequence,
            file_bytes,
            header,
            contents,
        });
    }
    Ok(())
}

struct Opened {
    first_sequence: u64,
    file: Box<dyn DiskFile>,
    header: Result<Header, HeaderFault>,
    head_is_blank: bool,
}

impl Opened {
    fn name(&self) -> String {
        super::format::file_name(self.first_sequence)
    }
}

fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    first_sequence: u64,
    make_durable: bool,
) -> Result<Opened, SegmentError> {
    let path = segment_path(dir, first_sequence);
    let access = if make_durable {
        Access::ReadAppend
    } else {
        Access::Read
    };
    let file = disk.open(&path, access).at("open", &path)?;
    if make_durable {
        // After a kill the page cache holds what the medium does not: write it out. After a failed sync it holds
        // clean pages that never arrived: forget them, and believe only what is read back.
        file.sync_data().at("sync", &path)?;
        file.drop_cache().at("drop the cache of", &path)?;
    }
    let head = read_up_to(file.as_ref(), 0, SEGMENT_HEADER_BYTES);
    let header = Header::decode(&head);
    if let Err(HeaderFault::Version(version)) = header {
        return Err(SegmentError::TooNew { path, version });
    }
    Ok(Opened {
        first_sequence,
        file,
        header,
        head_is_blank: head.iter().all(|byte| *byte == 0),
    })
}

/// As many bytes as can be read; an error reads as their end, which then counts as damage.
fn read_up_to(file: &dyn DiskFile, offset: u64, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(read) => filled += read,
        }
    }
    buffer.truncate(filled);
    buffer
}

fn read_end_mark(file: &dyn DiskFile, log_id: &LogId) -> Option<u64> {
    let offset = file.end().checked_sub(END_MARK_BYTES as u64)?;
    let bytes = read_up_to(file, offset, END_MARK_BYTES);
    let mark = FrameHeader::decode(&bytes).filter(|mark| mark.is_end)?;
    (bytes == FrameCrc::new(log_id).end_mark(mark.sequence)).then_some(mark.sequence)
}

fn walk(mut source: Source, head_is_blank: bool) -> io::Result<Walked> {
    let mut walked = Walked {
        is_blank: head_is_blank,
        ..Walked::default()
    };
    loop {
        match source.next()? {
            Item::Frame { .. } => walked.frames += 1,
            Item::Damaged(region) => walked.regions.push(region),
            Item::End { next_sequence } => {
                walked.sealed = Some(next_sequence);
                break;
            }
            Item::Exhausted(tail) => {
                walked.tail = tail;
                break;
            }
        }
    }
    walked.frames_end = source.offset();
    walked.next_sequence = source.next_sequence();
    walked.met_unreadable = source.met_unreadable;
    walked.bytes_end = source.bytes_end();
    let only_zeroes =
        |tail: &Region| tail.reason == super::DamageReason::Zeroes && source.skipped_only_zeroes;
    walked.is_blank &= walked.frames == 0
        && walked.regions.is_empty()
        && walked.sealed.is_none()
        && walked.tail.as_ref().is_none_or(only_zeroes);
    Ok(walked)
}

/// Unreadable is as good as missing: the headers say it too.
fn read_log_id(disk: &dyn Disk, dir: &Path) -> Option<LogId> {
    decode_log_id(&read_file(disk, &dir.join(LOG_ID_FILE), LOG_ID_FILE_BYTES_MAX).ok()?)
}

fn scan_quarantine(disk: &dyn Disk, dir: &Path, scan: &mut DirScan) -> Result<(), SegmentError> {
    let quarantine = dir.join(QUARANTINE_DIR);
    if !disk.exists(&quarantine).at("look at", &quarantine)? {
        return Ok(());
    }
    for name in disk.list_files(&quarantine).at("list", &quarantine)? {
        let path = quarantine.join(&name);
        scan.quarantine_bytes += disk.file_len(&path).at("look at", &path)?;
        scan.quarantined.insert(name);
    }
    Ok(())
}

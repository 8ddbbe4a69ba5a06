use super::*;
use crate::clock::ManualClock;
use crate::disk::{Disk, Effect, Fault, FaultDisk, Operation, OsDisk, Survivors};
use bytes::Bytes;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

const DIR: &str = "/log";
const LOG_ID: LogId = *b"a log id of ours";

fn options() -> SegmentOptions {
    SegmentOptions {
        segment_bytes_max: 400,
        frame_bytes_max: 4096,
        write_buffer_bytes: 100,
        read_chunk_bytes: 4096,
        log_id: Some(LOG_ID),
        clock: Arc::new(ManualClock::at(1_700_000_000_000_000_000)),
        ..SegmentOptions::default()
    }
}

fn open(disk: &FaultDisk, options: SegmentOptions) -> (SegmentLog, RecoveryReport) {
    SegmentLog::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

fn payload(sequence: u64) -> Vec<u8> {
    let len = usize::try_from(sequence * 37 % 90).unwrap();
    format!("{sequence}:")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(len + 3)
        .collect()
}

fn append(log: &mut SegmentLog, count: u64) {
    for _ in 0..count {
        let bytes = payload(log.next_sequence());
        let (head, rest) = bytes.split_at(2);
        log.append(&[head, b"", rest]).unwrap();
    }
}

/// A log on a new disk with `count` durable frames from 1 on.
fn filled(count: u64, options: SegmentOptions) -> FaultDisk {
    let disk = FaultDisk::new(1);
    let (mut log, _) = open(&disk, options);
    append(&mut log, count);
    log.sync().unwrap();
    disk
}

fn read_all(reader: &mut SegmentReader) -> Vec<ReadItem> {
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn read_from(log: &SegmentLog, from: u64) -> Vec<ReadItem> {
    read_all(&mut log.reader(from).unwrap())
}

fn frame(sequence: u64) -> ReadItem {
    ReadItem::Frame(Frame {
        sequence,
        payload: Bytes::from(payload(sequence)),
    })
}

fn frames(range: std::ops::Range<u64>) -> Vec<ReadItem> {
    range.map(frame).collect()
}

fn damaged(from_sequence: u64, to_sequence: u64, reason: DamageReason) -> ReadItem {
    ReadItem::Damaged {
        from_sequence,
        to_sequence,
        reason,
    }
}

fn segment_files(disk: &FaultDisk) -> Vec<PathBuf> {
    let names = disk.list_files(Path::new(DIR)).unwrap();
    names
        .iter()
        .filter(|name| name.ends_with(".seg"))
        .map(|name| Path::new(DIR).join(name))
        .collect()
}

fn last_segment(disk: &FaultDisk) -> PathBuf {
    segment_files(disk).pop().unwrap()
}

/// The sequences that items cover, each once and in order: whatever is damaged, nothing is skipped silently,
/// repeated or invented.
fn check_items(items: &[ReadItem], from: u64, to: u64) -> Vec<u64> {
    let mut next = from;
    let mut seen = Vec::new();
    for item in items {
        match item {
            ReadItem::Frame(found) => {
                assert_eq!(found.sequence, next);
                assert_eq!(found.payload, payload(next), "frame {next} has its own content");
                seen.push(next);
                next += 1;
            }
            ReadItem::Damaged {
                from_sequence,
                to_sequence,
                ..
            }
            | ReadItem::Dropped {
                from_sequence,
                to_sequence,
            } => {
                assert_eq!(*from_sequence, next);
                assert!(*to_sequence > next);
                next = *to_sequence;
            }
        }
    }
    assert_eq!(next, to);
    seen
}

mod damage;
mod faults;
mod format;
mod life;
mod measure;
mod survey;

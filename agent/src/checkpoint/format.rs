//! Frames and records to bytes and back; the layout is drawn in `mod.rs`.

use bytes::{Buf, BufMut};
use edgelogger_common::stream::{STREAM_ID_LEN, StreamId};
use edgelogger_proto::v1::StreamDescriptor;
use prost::Message;

use super::finished::FinishedFile;
use super::progress::Progress;
use crate::flow::{ContentCheck, Resume};

pub(super) const MAGIC: &[u8; 8] = b"ELCHKPT\n";
pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 16;
pub(super) const MARKER: [u8; 3] = [0xEC, 0x4C, 0x52];
pub(super) const FRAME_HEADER_LEN: usize = 12;
/// Body of a frame. The largest is an *acked* with 64 ranges of journald cursors of 1 KiB each, just above 64 KiB
/// only in theory: such a record leaves its highest ranges out.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// A descriptor: a path has at most 4 KiB, and there are two texts of that size in it.
pub(super) const DESCRIPTOR_BYTES_MAX: usize = 16 * 1024;
/// A journald cursor has about 130 bytes. A longer one is not kept: the source then resumes nowhere.
pub(super) const CURSOR_BYTES_MAX: usize = 1024;
/// Length of an epoch frame: the shortest thing whose loss costs more than sending again.
pub(super) const EPOCH_FRAME_LEN: u64 = FRAME_HEADER_LEN as u64 + 8;

/// The collector had another log than the one that acknowledged things before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogReplaced {
    /// The one of before.
    pub known: [u8; 16],
    /// The one of now.
    pub found: [u8; 16],
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Instance { id: [u8; 16], machine: [u8; 16] },
    Epoch(u64),
    LogId([u8; 16]),
    Created(Box<StreamDescriptor>),
    Acked(StreamId, Progress),
    Ended(StreamId),
    Finished(FinishedFile),
    LogReplaced(Option<LogReplaced>),
    Settled(StreamId),
}

pub(super) fn header() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl Record {
    const fn kind(&self) -> u8 {
        match self {
            Self::Instance { .. } => 1,
            Self::Epoch(_) => 2,
            Self::LogId(_) => 3,
            Self::Created(_) => 4,
            Self::Acked(..) => 5,
            Self::Ended(_) => 6,
            Self::Finished(_) => 7,
            Self::LogReplaced(_) => 8,
            Self::Settled(_) => 9,
        }
    }

    /// Appends the record's frame.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.put_slice(&MARKER);
        out.put_u8(self.kind());
        out.put_u64_le(0);
        match self {
            Self::Instance { id, machine } => {
                out.put_slice(id);
                out.put_slice(machine);
            }
            Self::Epoch(upto) => out.put_u64_le(*upto),
            Self::LogId(id) => out.put_slice(id),
            Self::Created(descriptor) => {
                descriptor
                    .encode(out)
                    .expect("a Vec grows, so encoding into it can't run out of room");
            }
            Self::Acked(id, progress) => {
                out.put_slice(id.as_bytes());
                write_progress(progress, out);
            }
            Self::Ended(id) | Self::Settled(id) => out.put_slice(id.as_bytes()),
            Self::Finished(file) => file.write_to(out),
            Self::LogReplaced(None) => {}
            Self::LogReplaced(Some(LogReplaced { known, found })) => {
                out.put_slice(known);
                out.put_slice(found);
            }
        }
        let body_len = out.len() - at - FRAME_HEADER_LEN;
        assert!(
            body_len <= BODY_BYTES_MAX,
            "descriptors, cursors and ranges are limited where they come in"
        );
        let len = u32::try_from(body_len).unwrap_or(u32::MAX);
        out[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
        let crc = frame_crc(&out[at + 3..at + 8], &out[at + FRAME_HEADER_LEN..]);
        out[at + 8..at + FRAME_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    }

    /// A record of a body whose CRC is right. `None`: an unknown kind or content, from a later version.
    pub fn read(kind: u8, mut body: &[u8]) -> Option<Self> {
        let record = match kind {
            1 => Self::Instance {
                id: array(&mut body)?,
                machine: array(&mut body)?,
            },
            2 => Self::Epoch(body.try_get_u64_le().ok()?),
            3 => Self::LogId(array(&mut body)?),
            4 => {
                let descriptor = StreamDescriptor::decode(&mut body).ok()?;
                (descriptor.stream_id.len() == STREAM_ID_LEN).then_some(())?;
                Self::Created(Box::new(descriptor))
            }
            5 => Self::Acked(StreamId::from_bytes(array(&mut body)?), read_progress(&mut body)?),
            6 => Self::Ended(StreamId::from_bytes(array(&mut body)?)),
            7 => Self::Finished(FinishedFile::read(&mut body)?),
            8 if body.is_empty() => Self::LogReplaced(None),
            8 => Self::LogReplaced(Some(LogReplaced {
                known: array(&mut body)?,
                found: array(&mut body)?,
            })),
            9 => Self::Settled(StreamId::from_bytes(array(&mut body)?)),
            _ => return None,
        };
        body.is_empty().then_some(record)
    }
}

/// CRC32C of kind, length and body.
pub(super) fn frame_crc(kind_and_len: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(kind_and_len), body)
}

fn write_progress(progress: &Progress, out: &mut Vec<u8>) {
    out.put_u64_le(progress.upto);
    write_resume(&progress.resume, out);
    let count_at = out.len();
    out.put_u16_le(0);
    let mut count = 0u16;
    for (start, (end, resume)) in &progress.above {
        if out.len() - count_at > BODY_BYTES_MAX - 4 * CURSOR_BYTES_MAX {
            break;
        }
        out.put_u64_le(*start);
        out.put_u64_le(*end);
        write_resume(resume, out);
        count += 1;
    }
    out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
}

fn read_progress(body: &mut &[u8]) -> Option<Progress> {
    let mut progress = Progress::new(body.try_get_u64_le().ok()?);
    progress.resume = read_resume(body)?;
    for _ in 0..body.try_get_u16_le().ok()? {
        let (start, end) = (body.try_get_u64_le().ok()?, body.try_get_u64_le().ok()?);
        let resume = read_resume(body)?;
        progress.ack(start, end, &resume);
    }
    Some(progress)
}

fn write_resume(resume: &Resume, out: &mut Vec<u8>) {
    match resume {
        Resume::Content(check) => {
            out.put_u8(1);
            out.put_u32_le(check.len);
            out.put_u32_le(check.crc32c);
        }
        Resume::Cursor(cursor) if cursor.len() <= CURSOR_BYTES_MAX => {
            out.put_u8(2);
            out.put_u16_le(u16::try_from(cursor.len()).unwrap_or(0));
            out.put_slice(cursor.as_bytes());
        }
        Resume::Nowhere | Resume::Cursor(_) => out.put_u8(0),
    }
}

fn read_resume(body: &mut &[u8]) -> Option<Resume> {
    match body.try_get_u8().ok()? {
        0 => Some(Resume::Nowhere),
        1 => {
            let (len, crc32c) = (body.try_get_u32_le().ok()?, body.try_get_u32_le().ok()?);
            Some(Resume::Content(ContentCheck { len, crc32c }))
        }
        2 => {
            let len = usize::from(body.try_get_u16_le().ok()?);
            let (text, rest) = body.split_at_checked(len)?;
            *body = rest;
            Some(Resume::Cursor(std::str::from_utf8(text).ok()?.to_owned()))
        }
        _ => None,
    }
}

pub(super) fn array<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*bytes)
}
